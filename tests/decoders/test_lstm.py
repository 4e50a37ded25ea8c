"""The LSTM over words: its backward pass against finite differences and torch's own LSTM."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from pictell.decoders.base import counts_of, pack
from pictell.decoders.lstm import lstm_over_words, thin_product

HIDDEN, LENGTHS = 3, torch.tensor([4, 2, 2, 1])


def inputs(requires_grad: bool = True) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [(int(LENGTHS.sum()), 4 * HIDDEN), (4, HIDDEN), (4, HIDDEN), (4 * HIDDEN, HIDDEN)]
    return [
        torch.randn(size, dtype=torch.float64, generator=generator, requires_grad=requires_grad)
        for size in sizes
    ]


def test_gradients_are_the_slopes():
    counts = counts_of(LENGTHS)
    assert counts == [4, 3, 1, 1]
    assert torch.autograd.gradcheck(lambda *x: lstm_over_words(*x, counts), inputs())


def test_equals_torchs_lstm():
    torch.manual_seed(1)
    library = torch.nn.LSTM(5, HIDDEN, dtype=torch.float64)
    words = torch.randn(4, 4, 5, dtype=torch.float64)
    hidden, cell = torch.randn(2, 4, HIDDEN, dtype=torch.float64)
    packed = pack_padded_sequence(words, LENGTHS, batch_first=True)
    theirs, _ = library(packed, (hidden[None], cell[None]))
    from_word, recurrent, *biases = library.all_weights[0]
    gates = pack(words, LENGTHS) @ from_word.T + sum(biases)
    ours = lstm_over_words(gates, hidden, cell, recurrent, counts_of(LENGTHS))
    torch.testing.assert_close(ours, theirs.data, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 7, 32])
def test_a_weight_laid_out_beforehand_gives_the_same_product(dtype, rows):
    torch.manual_seed(2)
    weight, x = torch.randn(48, 20, dtype=dtype), torch.randn(32, 20, dtype=dtype)
    product = thin_product(weight, rows)
    for part in (x[:rows], x[: rows // 2]):  # as many rows as it was made for, and fewer
        torch.testing.assert_close(product(part), part @ weight.T)
