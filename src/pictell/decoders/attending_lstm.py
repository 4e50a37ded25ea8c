"""The attention decoder's loop over words as one function with a backward pass of its own.

    hidden, sums = attending_lstm(keys, features, pool, word_gates, hidden, cell, weights, counts,
                                  AdditiveScoring("relu"))

For the same reasons and by the same means as in lstm.py, whose cell it uses. Backward through one
word, with a dash for the gradient of the loss (g gate, z context, a attention, s scores):

    gates = .. + W_z (g z)          (g z)' = W_z' gates'     g' = (g z)' z        z' = (g z)' g
    z, a of s of q                  q', F', k', v': see looking.py
    [q ; g ; ..] = W_h h_ + b       h_' = W_h' [q' ; g' g (1 - g) ; gates']

Axes: B captions, C cells, L regions, D feature width, A attention width, H hidden, T words, N real
words; n = n_t captions that are read at word t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pictell.decoders.additive import AdditiveScoring
from pictell.decoders.looking import Look, LookBack, Pictures
from pictell.decoders.lstm import Cell, read_word, thin_product, through_cell
from pictell.decoders.products import way_back


class Weights(NamedTuple):
    """What all words share.

    Attributes:
        from_hidden: (A [+ D] + 4H, H) query, gate (if there is one) and the LSTM's gates.
        bias: (A [+ D] + 4H,) of the same.
        from_context: (4H, D).
        vector: (A,) of the scores.
    """

    from_hidden: Tensor
    bias: Tensor
    from_context: Tensor
    vector: Tensor


def attending_lstm(
    keys: Tensor,
    features: Tensor,
    pool: Tensor,
    word_gates: Tensor,
    hidden: Tensor,
    cell: Tensor,
    weights: Weights,
    counts: Sequence[int],
    scoring: AdditiveScoring,
) -> tuple[Tensor, Tensor]:
    """Read all words of given captions, in the precision of what is given.

    Args:
        keys: (B, L, A).
        features: (B, C, D).
        pool: (L, C) the pooling P.
        word_gates: (N, 4H) the words' part of the LSTM's gates, n_t rows for word t.
        hidden: (B, H) before the first word.
        cell: (B, H).
        weights: See `Weights`.
        counts: The n_t, falling.
        scoring: The scores and their derivatives.

    Returns:
        Hidden states (N, H), in the order of `word_gates`, and the sum of each caption's attention
        over its words, (B, L), at least in single precision.
    """
    return _AttendingLSTM.apply(  # type: ignore[return-value]
        keys, features, pool, word_gates, hidden, cell, *weights, list(counts), scoring
    )


class _Word(NamedTuple):
    """What the backward pass needs of one word; all (n, ...)."""

    look: Look
    gate: Tensor | None  # (n, D) after its sigmoid
    cell: Cell


@dataclass
class _Rows:
    """Rows of all words, word by word: what the weights' gradients are products of."""

    hidden_before: Tensor  # (N, H)
    gated_context: Tensor  # (N, D)


class _AttendingLSTM(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        keys: Tensor,
        features: Tensor,
        pool: Tensor,
        word_gates: Tensor,
        hidden: Tensor,
        cell: Tensor,
        from_hidden: Tensor,
        bias: Tensor,
        from_context: Tensor,
        vector: Tensor,
        counts: list[int],
        scoring: AdditiveScoring,
    ) -> tuple[Tensor, Tensor]:
        attention_width, total = keys.shape[2], sum(counts)
        widths = _widths(attention_width, from_hidden.shape[0], 4 * hidden.shape[1])
        outputs = hidden.new_empty(total, hidden.shape[1])
        rows = _Rows(torch.empty_like(outputs), features.new_empty(total, features.shape[2]))
        # Many words add a little each: in half precision the sums would round it away.
        exact = torch.promote_types(features.dtype, torch.float32)
        sums = features.new_zeros(len(keys), pool.shape[0], dtype=exact)
        pictures = Pictures(keys, features, pool, vector, scoring)
        words: list[_Word] = []
        through_hidden = thin_product(from_hidden, counts[0])
        through_context = thin_product(from_context, counts[0])
        start = 0
        for n in counts:
            here = slice(start, start + n)
            before, cell = hidden[:n], cell[:n]
            rows.hidden_before[here] = before
            parts = through_hidden(before).add_(bias).split(widths, dim=1)
            query, gate, hidden_gates = parts[0], parts[1], parts[2]
            look = pictures.look(query.contiguous())  # it is kept, and would keep the wide rows
            opened = gate.sigmoid() if widths[1] else None
            gated = rows.gated_context[here]
            if opened is None:
                gated.copy_(look.context)
            else:
                torch.mul(look.context, opened, out=gated)
            gates = through_context(gated).add_(word_gates[here]).add_(hidden_gates)
            hidden = outputs[here]
            cell, kept = read_word(gates, cell, hidden)
            sums[:n] += look.attention
            words.append(_Word(look, opened, kept))
            start += n
        ctx.save_for_backward(keys, features, pool, from_hidden, from_context, vector)
        ctx.words, ctx.rows, ctx.counts, ctx.scoring = words, rows, counts, scoring
        return outputs, sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_sums: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        keys, features, pool, from_hidden, from_context, vector = ctx.saved_tensors
        words, rows, counts = ctx.words, ctx.rows, ctx.counts
        pictures = Pictures(keys, features, pool, vector, ctx.scoring)
        d_sums = d_sums.to(features.dtype)
        batch, hidden_size = len(keys), d_outputs.shape[1]
        widths = _widths(keys.shape[2], from_hidden.shape[0], 4 * hidden_size)
        d_from = features.new_empty(len(d_outputs), sum(widths))  # (N, A [+ D] + 4H)
        d_hidden = features.new_zeros(batch, hidden_size)
        d_cell = torch.zeros_like(d_hidden)
        backs: list[LookBack] = []  # from the last word to the first
        end = len(d_outputs)
        for n, word in zip(reversed(counts), reversed(words), strict=True):
            here = slice(end - n, end)
            d_query, d_gate, d_gates = d_from[here].split(widths, dim=1)
            d_hidden[:n] += d_outputs[here]
            through_cell(word.cell, d_hidden[:n], d_cell[:n], d_gates)
            d_context = way_back(d_gates, from_context)  # (n, D), of the gated context
            if word.gate is not None:
                slope = (1 - word.gate).mul_(word.gate)
                torch.mul(d_context, word.look.context, out=d_gate).mul_(slope)
                d_context = d_context.mul_(word.gate)
            backs.append(pictures.back(word.look, d_context, d_sums))
            d_query.copy_(backs[-1].query)
            d_hidden[:n] = way_back(d_from[here], from_hidden)
            end -= n
        backs.reverse()
        d_keys, d_features, d_vector = pictures.gradients(
            [word.look for word in words], backs, with_features=ctx.needs_input_grad[1]
        )
        d_gates = d_from[:, -4 * hidden_size :]  # (N, 4H)
        return (
            d_keys,
            d_features,
            None,
            d_gates,
            d_hidden,
            d_cell,
            d_from.t() @ rows.hidden_before,
            d_from.sum(dim=0),
            d_gates.t() @ rows.gated_context,
            d_vector,
            None,
            None,
        )


def _widths(attention: int, rows: int, gates: int) -> list[int]:
    """How the product that reads the hidden state is split: query, context gate, LSTM gates."""
    return [attention, rows - attention - gates, gates]
