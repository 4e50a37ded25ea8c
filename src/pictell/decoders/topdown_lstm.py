"""The top-down decoder's loop over words as one function with a backward pass of its own.

    hidden, sums = topdown_lstm(keys, features, pool, word_gates, weights, counts,
                                AdditiveScoring("relu"))

For the same reasons and by the same means as in lstm.py, whose cell it uses twice: an LSTM that
directs attention (h, with gates i) and one that writes (g, with gates j). At each word

    i = word_gates + R h_ + S g_            h  = cell(i)
    [q ; m ; ..] = [Q ; M ; R] h            z  = what attention sees for q, see looking.py
    j = W z + b + m + U g_                  g  = cell(j)        [.. ; ..] = [S ; U] g

R h, S g and U g are for the next word. Backward, with a dash for the gradient of the loss and a
subscript + for the next word's:

    g' += [S ; U]' [i+' ; j+']              z' = W' j'      q' from z'
    h' += [Q ; M ; R]' [q' ; j' ; i+']

Axes: B captions, C cells, L regions, D feature width, A attention width, H hidden, T words, N real
words; n = n_t captions that are read at word t.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pictell.decoders.additive import AdditiveScoring
from pictell.decoders.looking import Look, LookBack, Pictures
from pictell.decoders.lstm import Cell, in_full_precision, read_word, thin_product, through_cell
from pictell.decoders.products import way_back


class Weights(NamedTuple):
    """What all words share.

    Attributes:
        from_attention: (A + 8H, H) reads the attention LSTM: query, gates of the language LSTM,
            gates of the attention LSTM at the next word.
        from_language: (8H, H) reads the language LSTM: gates of both at the next word, the
            attention LSTM's first.
        from_context: (4H, D).
        bias: (4H,) of the language LSTM's gates.
        vector: (A,) of the scores.
    """

    from_attention: Tensor
    from_language: Tensor
    from_context: Tensor
    bias: Tensor
    vector: Tensor


def topdown_lstm(
    keys: Tensor,
    features: Tensor,
    pool: Tensor,
    word_gates: Tensor,
    weights: Weights,
    counts: Sequence[int],
    scoring: AdditiveScoring,
) -> tuple[Tensor, Tensor]:
    """Read all words of given captions, from states of zero; in full precision throughout.

    Args:
        keys: (B, L, A).
        features: (B, C, D).
        pool: (L, C) the pooling P.
        word_gates: (N, 4H) what words and pictures give to the attention LSTM's gates, n_t rows
            for word t.
        weights: See `Weights`.
        counts: The n_t, falling.
        scoring: The scores and their derivatives.

    Returns:
        The language LSTM's hidden states (N, H), in the order of `word_gates`, and the sum of each
        caption's attention over its words, (B, L).
    """
    given = in_full_precision(keys, features, pool, word_gates, *weights)
    with torch.autocast(keys.device.type, enabled=False):
        return _TopDownLSTM.apply(*given, list(counts), scoring)  # type: ignore[return-value]


class _Word(NamedTuple):
    """What the backward pass needs of one word."""

    look: Look
    attention_cell: Cell
    language_cell: Cell


class _Rows(NamedTuple):
    """Rows of all words, word by word: what the weights' gradients are products of."""

    attention_hidden: Tensor  # (N, H)
    language_hidden: Tensor  # (N, H)
    context: Tensor  # (N, D)


class _TopDownLSTM(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        keys: Tensor,
        features: Tensor,
        pool: Tensor,
        word_gates: Tensor,
        from_attention: Tensor,
        from_language: Tensor,
        from_context: Tensor,
        bias: Tensor,
        vector: Tensor,
        counts: list[int],
        scoring: AdditiveScoring,
    ) -> tuple[Tensor, Tensor]:
        total, gates_width = word_gates.shape
        hidden_size = gates_width // 4
        widths = [keys.shape[2], gates_width, gates_width]
        rows = _Rows(
            word_gates.new_empty(total, hidden_size),
            word_gates.new_empty(total, hidden_size),
            features.new_empty(total, features.shape[2]),
        )
        pictures = Pictures(keys, features, pool, vector, scoring)
        sums = features.new_zeros(len(keys), pool.shape[0])
        through_attention = thin_product(from_attention, counts[0])
        through_language = thin_product(from_language, counts[0])
        through_context = thin_product(from_context, counts[0])
        cells = word_gates.new_zeros(2, counts[0], hidden_size).unbind()
        for_attention = for_language = word_gates.new_zeros(counts[0], gates_width)
        words: list[_Word] = []
        start = 0
        for n in counts:
            here = slice(start, start + n)
            hidden, language = rows.attention_hidden[here], rows.language_hidden[here]
            gates = word_gates[here] + for_attention[:n]
            cell, attention_kept = read_word(gates, cells[0][:n], hidden)
            query, to_language, recurrent = through_attention(hidden).split(widths, dim=1)
            look = pictures.look(query.contiguous())  # it is kept, and would keep the wide rows
            rows.context[here] = look.context
            gates = through_context(look.context).add_(bias).add_(to_language)
            gates += for_language[:n]
            language_cell, language_kept = read_word(gates, cells[1][:n], language)
            feedback, for_language = through_language(language).chunk(2, dim=1)
            for_attention = recurrent + feedback
            cells = cell, language_cell
            sums[:n] += look.attention
            words.append(_Word(look, attention_kept, language_kept))
            start += n
        ctx.save_for_backward(
            keys, features, pool, from_attention, from_language, from_context, vector
        )
        ctx.words, ctx.rows, ctx.counts, ctx.scoring = words, rows, counts, scoring
        return rows.language_hidden.detach(), sums  # an alias: ctx must not hold its own output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_sums: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        keys, features, pool, from_attention, from_language, from_context, vector = (
            ctx.saved_tensors
        )
        pictures, rows = Pictures(keys, features, pool, vector, ctx.scoring), ctx.rows
        total, hidden_size = d_outputs.shape
        width = 4 * hidden_size
        d_from_attention = d_outputs.new_empty(total, keys.shape[2] + 2 * width)  # (N, A + 8H)
        d_from_language = d_outputs.new_empty(total, 2 * width)  # (N, 8H)
        d_gates = torch.empty_like(d_from_language)  # (N, 8H) attention's, then language's
        d_cells = d_outputs.new_zeros(2, ctx.counts[0], hidden_size)
        later = d_outputs.new_zeros(ctx.counts[0], 2 * width)  # the next word's row of d_gates
        backs: list[LookBack] = []  # from the last word to the first
        end = total
        for n, word in zip(reversed(ctx.counts), reversed(ctx.words), strict=True):
            here = slice(end - n, end)
            d_attention_gates, d_language_gates = d_gates[here].split(width, dim=1)
            d_from_language[here] = later[:n]
            d_language = way_back(later[:n], from_language).add_(d_outputs[here])
            through_cell(word.language_cell, d_language, d_cells[1, :n], d_language_gates)
            backs.append(pictures.back(word.look, way_back(d_language_gates, from_context), d_sums))
            parts = [backs[-1].query, d_language_gates, later[:n, :width]]
            torch.cat(parts, dim=1, out=d_from_attention[here])
            d_hidden = way_back(d_from_attention[here], from_attention)
            through_cell(word.attention_cell, d_hidden, d_cells[0, :n], d_attention_gates)
            later[:n] = d_gates[here]
            end -= n
        backs.reverse()
        d_keys, d_features, d_vector = pictures.gradients(
            [word.look for word in ctx.words], backs, with_features=ctx.needs_input_grad[1]
        )
        d_word_gates, d_language_gates = d_gates.split(width, dim=1)
        return (
            d_keys,
            d_features,
            None,
            d_word_gates,
            d_from_attention.t() @ rows.attention_hidden,
            d_from_language.t() @ rows.language_hidden,
            d_language_gates.t() @ rows.context,
            d_language_gates.sum(dim=0),
            d_vector,
            None,
            None,
        )
