"""The attention decoder's loop: its backward pass against finite differences."""

import pytest
import torch

from pictell.decoders.additive import AdditiveScoring
from pictell.decoders.attending_lstm import Weights, attending_lstm
from pictell.encoders.grid import pooling_matrix

COUNTS = [3, 3, 2, 1]
CAPTIONS, CELLS, GRID, WIDTH, ATTENTION, HIDDEN = 3, (2, 2), (3, 3), 4, 3, 2


@pytest.mark.parametrize("gate", [True, False])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_gradients_are_the_slopes(activation, gate):
    torch.manual_seed(0)
    pool = pooling_matrix(CELLS, GRID)

    def random(*size):
        return torch.randn(size, dtype=torch.float64, requires_grad=True)

    rows = ATTENTION + gate * WIDTH + 4 * HIDDEN
    inputs = (
        random(CAPTIONS, 9, ATTENTION),
        random(CAPTIONS, 4, WIDTH),
        random(sum(COUNTS), 4 * HIDDEN),
        random(CAPTIONS, HIDDEN),
        random(CAPTIONS, HIDDEN),
        random(rows, HIDDEN),
        random(rows),
        random(4 * HIDDEN, WIDTH),
        random(ATTENTION),
    )

    def run(keys, features, gates, hidden, cell, *weights):
        return attending_lstm(
            keys,
            features,
            pool,
            gates,
            hidden,
            cell,
            Weights(*weights),
            COUNTS,
            AdditiveScoring(activation),
        )

    assert torch.autograd.gradcheck(run, inputs)
