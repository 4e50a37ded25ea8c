"""The LSTM over words: its backward pass against finite differences and torch's own LSTM."""

import gc
import weakref

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from pictell.decoders.base import counts_of, pack
from pictell.decoders.lstm import lstm_cell, lstm_over_words, thin_product

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
    theirs, (_, last_cell) = library(packed, (hidden[None], cell[None]))
    from_word, recurrent, *biases = library.all_weights[0]
    gates = pack(words, LENGTHS) @ from_word.T + sum(biases)
    ours, cells = lstm_over_words(gates, hidden, cell, recurrent, counts_of(LENGTHS))
    torch.testing.assert_close(ours, theirs.data, rtol=1e-12, atol=1e-12)
    # The last cell state of the longest caption stands in the last row.
    torch.testing.assert_close(cells[-1], last_cell[0, 0], rtol=1e-12, atol=1e-12)


def test_the_cell_for_automatic_differentiation_is_the_same():
    gates, hidden, cell, recurrent = inputs(requires_grad=False)
    states, cells = lstm_over_words(gates, hidden, cell, recurrent, counts_of(LENGTHS))
    for n, given in zip(counts_of(LENGTHS), gates.split(counts_of(LENGTHS)), strict=True):
        hidden, cell = lstm_cell(given + hidden[:n] @ recurrent.T, cell[:n])
    torch.testing.assert_close((hidden, cell), (states[-1:], cells[-1:]))


def test_nothing_is_kept_after_its_graph_is_gone():
    """Outputs that hold what they were made from, and are held by it, would never be freed."""
    freed = []
    outputs = lstm_over_words(*inputs(), counts_of(LENGTHS))
    for output in outputs:
        weakref.finalize(output.grad_fn, freed.append, None)
    with_gc = gc.isenabled()
    gc.disable()
    try:
        del outputs, output
        assert freed
    finally:
        if with_gc:
            gc.enable()


def test_half_precision_is_read_in_full():
    gates, *rest = inputs(requires_grad=False)
    gates, *rest = (x.bfloat16() for x in (gates, *rest))
    with torch.autocast("cpu", torch.bfloat16):
        states, _ = lstm_over_words(gates, *rest, counts_of(LENGTHS))
    full, _ = lstm_over_words(gates.float(), *(x.float() for x in rest), counts_of(LENGTHS))
    assert torch.equal(states, full)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 7, 32])
def test_a_weight_laid_out_beforehand_gives_the_same_product(dtype, rows):
    torch.manual_seed(2)
    weight, x = torch.randn(48, 20, dtype=dtype), torch.randn(32, 20, dtype=dtype)
    product = thin_product(weight, rows)
    for part in (x[:rows], x[: rows // 2]):  # as many rows as it was made for, and fewer
        torch.testing.assert_close(product(part), part @ weight.T)
