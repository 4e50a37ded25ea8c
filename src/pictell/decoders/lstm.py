"""An LSTM over the words of given captions, with a backward pass of its own.

    states, cells = lstm_over_words(word_gates, hidden, cell, recurrent_weight, counts)

Automatic differentiation gives the same gradients, but forms the weights' gradients word by word:
each time a product as thin as the batch, and all weights read and written to add it up. Here the
loop backwards only passes on what the word before needs, and keeps its rows; a weight's gradient is
then one product over all words,

    dW = sum over t of dy_t' x_t = dY' X,       Y = X W'  with the rows of all words in X.

Captions stand in order of falling length. At word t only the first n_t are read, so that nothing is
computed for padding.

The cell (Hochreiter and Schmidhuber 1997, with forget gates), in torch's order of gates:

    i, f, n, o = sigmoid, sigmoid, tanh, sigmoid of (word_gates + W h_)
    c = f c_ + i n                  c' += h' o (1 - tanh(c)^2)      c_' = c' f
    h = o tanh(c)                   o' = h' tanh(c)   f' = c' c_   i' = c' n   n' = c' i

with a dash for the gradient of the loss; the last four are each multiplied by the slope of their
own function, s (1 - s) or 1 - n^2.

Axes: B captions, T words, H hidden, N real words; n = n_t captions that are read at word t.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pictell.decoders.laid_out import lay_out
from pictell.decoders.products import way_back


class Cell(NamedTuple):
    """What the backward pass needs of the cell at one word, (n, H) each."""

    take: Tensor
    forget: Tensor
    new: Tensor
    give: Tensor
    before: Tensor  # the cell state before
    tanh: Tensor  # of the cell state after


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """One word, for automatic differentiation: gates (..., 4H) before their functions, cell
    (..., H) -> new hidden and cell state.
    """
    take, forget, new, give = gates.chunk(4, dim=-1)  # torch's order
    if gates.device.type == "cpu":
        new = new.contiguous()  # tanh of a part of wider rows is slow
    cell = forget.sigmoid() * cell + take.sigmoid() * new.tanh()
    return give.sigmoid() * cell.tanh(), cell


def read_word(
    gates: Tensor, cell: Tensor, out: Tensor, cell_out: Tensor | None = None
) -> tuple[Tensor, Cell]:
    """One word; writes h to `out`.

    Args:
        gates: (n, 4H) before their functions.
        cell: (n, H).
        out: Where the hidden state goes, (n, H).
        cell_out: Where the cell state goes, (n, H), if it has a place.

    Returns:
        The new cell state, and what `through_cell` needs.
    """
    take, forget, new, give = gates.chunk(4, dim=1)
    take, forget, give = take.sigmoid(), forget.sigmoid(), give.sigmoid()
    new = new.contiguous().tanh_()  # tanh of a part of wider rows is slow
    after = torch.addcmul(forget * cell, take, new, out=cell_out)
    tanh = after.tanh()
    torch.mul(give, tanh, out=out)
    return after, Cell(take, forget, new, give, cell, tanh)


def through_cell(cell: Cell, d_hidden: Tensor, d_cell: Tensor, d_gates: Tensor) -> None:
    """Fill the gradients of the gates, (n, 4H), and make `d_cell` that of the cell before."""
    d_take, d_forget, d_new, d_give = d_gates.chunk(4, dim=1)
    torch.mul(d_hidden, cell.tanh, out=d_give).mul_(_sigmoid_slope(cell.give))
    d_cell.addcmul_(d_hidden * cell.give, _tanh_slope(cell.tanh))
    torch.mul(d_cell, cell.new, out=d_take).mul_(_sigmoid_slope(cell.take))
    torch.mul(d_cell, cell.take, out=d_new).mul_(_tanh_slope(cell.new))
    torch.mul(d_cell, cell.before, out=d_forget).mul_(_sigmoid_slope(cell.forget))
    d_cell.mul_(cell.forget)


def _sigmoid_slope(value: Tensor) -> Tensor:
    return (1 - value).mul_(value)


def _tanh_slope(value: Tensor) -> Tensor:
    return (value * value).neg_().add_(1)


@torch.no_grad()
def start_remembering(bias: Tensor, value: float) -> None:
    """Add `value` to the forget gate's part of a bias (4H,), in torch's order of gates.

    With 1 the cell keeps most of what it holds before anything is learnt (Jozefowicz et al. 2015).
    """
    bias.chunk(4)[1].add_(value)


def thin_product(weight: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """x -> x W' for the same W many times and x of `rows` rows.

    Of fewer rows (words that only the longer captions have) it may be the usual product.
    """
    plain, laid_out = weight.t(), lay_out(weight, rows)
    if laid_out is None:
        return lambda x: x @ plain
    return lambda x: laid_out(x, None) if laid_out.takes(len(x)) else x @ plain


def lstm_over_words(
    word_gates: Tensor,
    hidden: Tensor,
    cell: Tensor,
    recurrent_weight: Tensor,
    counts: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Read all words of given captions; in full precision, also where precision is mixed.

    Args:
        word_gates: (N, 4H) the words' part of the gates and all biases, n_t rows for word t.
        hidden: (B, H) before the first word.
        cell: (B, H).
        recurrent_weight: (4H, H).
        counts: The n_t, falling.

    Returns:
        Hidden and cell states, (N, H) each, in the order of `word_gates`.
    """
    given = in_full_precision(word_gates, hidden, cell, recurrent_weight)
    with torch.autocast(word_gates.device.type, enabled=False):
        return _OverWords.apply(*given, list(counts))  # type: ignore[return-value]


def in_full_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Half precision as fp32; the rest as it is."""
    return tuple(t.float() if t.dtype.itemsize == 2 else t for t in tensors)


def as_products_read(tensor: Tensor) -> Tensor:
    """In the precision that autocast gives to products; as it is where there is none."""
    device = tensor.device.type
    if not torch.is_autocast_enabled(device):
        return tensor
    return tensor.to(torch.get_autocast_dtype(device))


class _OverWords(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        word_gates: Tensor,
        hidden: Tensor,
        cell: Tensor,
        weight: Tensor,
        counts: list[int],
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)  # most callers have no use for the cell states
        outputs = hidden.new_empty(sum(counts), hidden.shape[1])
        memories, before = torch.empty_like(outputs), torch.empty_like(outputs)
        product = thin_product(weight, counts[0])
        cells: list[Cell] = []
        start = 0
        for n in counts:
            here = slice(start, start + n)
            before[here] = hidden[:n]
            gates = product(before[here]).add_(word_gates[here])
            hidden = outputs[here]
            cell, kept = read_word(gates, cell[:n], hidden, memories[here])
            cells.append(kept)
            start += n
        ctx.save_for_backward(weight, before)
        ctx.cells, ctx.counts = cells, counts
        # As an alias: `cells` holds parts of `memories`, and the output itself holds ctx.
        return outputs, memories.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, d_outputs: Tensor | None, d_memories: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        weight, before = ctx.saved_tensors
        d_gates = before.new_empty(len(before), len(weight))  # (N, 4H)
        d_hidden = before.new_zeros(ctx.counts[0], before.shape[1])
        d_cell = torch.zeros_like(d_hidden)
        end = len(before)
        for n, cell in zip(reversed(ctx.counts), reversed(ctx.cells), strict=True):
            here = slice(end - n, end)
            if d_outputs is not None:
                d_hidden[:n] += d_outputs[here]
            if d_memories is not None:
                d_cell[:n] += d_memories[here]
            through_cell(cell, d_hidden[:n], d_cell[:n], d_gates[here])
            d_hidden[:n] = way_back(d_gates[here], weight)
            end -= n
        return d_gates, d_hidden, d_cell, d_gates.t() @ before, None
