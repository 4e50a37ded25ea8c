"""The attention decoder's loop over words as one function with a backward pass of its own.

    hidden, sums = attending_lstm(keys, features, pool, word_gates, hidden, cell, weights, counts,
                                  AdditiveScoring("relu"))

For the same reasons and by the same means as in lstm.py, whose cell it uses. Backward through one
word, with a dash for the gradient of the loss (g gate, z context, a attention, s scores):

    gates = .. + W_z (g z)          (g z)' = W_z' gates'     g' = (g z)' z        z' = (g z)' g
    z = (P' a)' F                   a' = P F z' (+ the gradient of the attention's sum)
    a = softmax(s)                  s' = a (a' - a . a')
    s_l = v . f(k_l + q)            q', k', v': see additive.py
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
from pictell.decoders.lstm import Cell, read_word, thin_product, through_cell


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
    """Read all words of given captions.

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
        over its words, (B, L).
    """
    return _AttendingLSTM.apply(  # type: ignore[return-value]
        keys, features, pool, word_gates, hidden, cell, *weights, list(counts), scoring
    )


class _Word(NamedTuple):
    """What the backward pass needs of one word; all (n, ...)."""

    query: Tensor  # (n, A)
    attention: Tensor  # (n, L)
    cells: Tensor  # (n, C) the attention pulled back to the cells
    context: Tensor  # (n, D)
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
        sums = features.new_zeros(len(keys), pool.shape[0])
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
            attention = scoring.scores(keys[:n], query[:, None], vector)[:, 0]
            attention = attention.softmax(dim=1)  # (n, L)
            cells = attention @ pool  # (n, C)
            context = torch.bmm(cells[:, None], features[:n])[:, 0]  # (n, D)
            opened = gate.sigmoid() if widths[1] else None
            gated = rows.gated_context[here]
            torch.mul(context, opened, out=gated) if opened is not None else gated.copy_(context)
            gates = through_context(gated).add_(word_gates[here]).add_(hidden_gates)
            hidden = outputs[here]
            cell, kept = read_word(gates, cell, hidden)
            sums[:n] += attention
            words.append(_Word(query, attention, cells, context, opened, kept))
            start += n
        ctx.save_for_backward(keys, features, pool, from_hidden, from_context, vector)
        ctx.words, ctx.rows, ctx.counts, ctx.scoring = words, rows, counts, scoring
        return outputs, sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_sums: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        keys, features, pool, from_hidden, from_context, vector = ctx.saved_tensors
        words, rows, counts, scoring = ctx.words, ctx.rows, ctx.counts, ctx.scoring
        batch, hidden_size = len(keys), d_outputs.shape[1]
        widths = _widths(keys.shape[2], from_hidden.shape[0], 4 * hidden_size)
        d_from = features.new_empty(len(d_outputs), sum(widths))  # (N, A [+ D] + 4H)
        d_hidden = features.new_zeros(batch, hidden_size)
        d_cell = torch.zeros_like(d_hidden)
        kept: list[tuple[Tensor, Tensor, Tensor]] = []  # from the last word to the first
        end = len(d_outputs)
        for n, word in zip(reversed(counts), reversed(words), strict=True):
            here = slice(end - n, end)
            d_query, d_gate, d_gates = d_from[here].split(widths, dim=1)
            d_hidden[:n] += d_outputs[here]
            through_cell(word.cell, d_hidden[:n], d_cell[:n], d_gates)
            d_context = d_gates @ from_context  # (n, D), of the gated context
            if word.gate is not None:
                slope = (1 - word.gate).mul_(word.gate)
                torch.mul(d_context, word.context, out=d_gate).mul_(slope)
                d_context = d_context.mul_(word.gate)
            d_cells = torch.bmm(features[:n], d_context[:, :, None])[:, :, 0]  # (n, C)
            d_attention = torch.addmm(d_sums[:n], d_cells, pool.t())  # (n, L)
            weighted = word.attention * d_attention
            d_score = weighted - word.attention * weighted.sum(dim=1, keepdim=True)
            slopes = scoring.query_sums(keys[:n], word.query, d_score)
            torch.mul(slopes, vector, out=d_query)
            torch.mm(d_from[here], from_hidden, out=d_hidden[:n])
            kept.append((d_score, slopes, d_context))
            end -= n
        d_scores, slopes, d_contexts = map(list, zip(*reversed(kept), strict=True))
        queries = [word.query for word in words]
        key_sums = scoring.key_sums(keys, queries, d_scores)
        d_vector = scoring.vector_gradient(keys, queries, d_scores, slopes, key_sums)
        d_gates = d_from[:, -4 * hidden_size :]  # (N, 4H)
        d_features = None
        if ctx.needs_input_grad[1]:
            d_features = _feature_gradients(features, words, d_contexts)
        return (
            key_sums.mul_(vector),
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


def _feature_gradients(
    features: Tensor, words: Sequence[_Word], d_contexts: Sequence[Tensor]
) -> Tensor:
    """dF = sum over t of (P' a_t) z_t', one product a caption: (B, C, D)."""
    batch, cells, width = features.shape
    pulled = features.new_zeros(batch, cells, len(words))
    d_context = features.new_zeros(batch, len(words), width)
    for t, (word, gradient) in enumerate(zip(words, d_contexts, strict=True)):
        pulled[: len(gradient), :, t] = word.cells
        d_context[: len(gradient), t] = gradient
    return pulled @ d_context
