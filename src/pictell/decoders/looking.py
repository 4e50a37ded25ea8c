"""What additive attention sees of its pictures at one word, and the way back.

    pictures = Pictures(keys, features, pool, vector, AdditiveScoring("relu"))
    look = pictures.look(query)                             # look.context (n, D)
    back = pictures.back(look, d_context, d_sums)           # back.query (n, A)
    d_keys, d_features, d_vector = pictures.gradients([look], [back], with_features=True)

For loops over words that have a backward pass of their own. With a dash for the gradient of the
loss (z context, a attention, s scores):

    z = (P' a)' F                   a' = P F z' (+ the gradient of the attention's sum)
    a = softmax(s)                  s' = a (a' - a . a')
    s_l = v . f(k_l + q)            q', k', v': see additive.py

Axes: B captions, C cells, L regions, D feature width, A attention width, T words; n captions that
are read at a word, the first n of the B.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pictell.decoders.additive import AdditiveScoring


class Look(NamedTuple):
    """What was seen at one word."""

    query: Tensor  # (n, A)
    attention: Tensor  # (n, L)
    cells: Tensor  # (n, C) the attention pulled back to the cells
    context: Tensor  # (n, D)


class LookBack(NamedTuple):
    """Gradients of one word."""

    query: Tensor  # (n, A)
    scores: Tensor  # (n, L)
    slopes: Tensor  # (n, A) the query's gradient before the weights v
    context: Tensor  # (n, D)


class Pictures(NamedTuple):
    """What all words share."""

    keys: Tensor  # (B, L, A)
    features: Tensor  # (B, C, D)
    pool: Tensor  # (L, C) the pooling P
    vector: Tensor  # (A,) of the scores
    scoring: AdditiveScoring

    def look(self, query: Tensor) -> Look:
        """Attend: query (n, A)."""
        n = len(query)
        scores = self.scoring.scores(self.keys[:n], query[:, None], self.vector)[:, 0]
        attention = scores.softmax(dim=1)  # (n, L)
        cells = attention @ self.pool  # (n, C)
        context = torch.bmm(cells[:, None], self.features[:n])[:, 0]  # (n, D)
        return Look(query, attention, cells, context)

    def back(self, look: Look, d_context: Tensor, d_sums: Tensor) -> LookBack:
        """From the gradients of a look's context, (n, D), and attention, (n, L)."""
        n = len(d_context)
        # A row times a matrix: the library is slow at a matrix times a column.
        d_cells = torch.bmm(d_context[:, None], self.features[:n].transpose(1, 2))[:, 0]  # (n, C)
        d_attention = torch.addmm(d_sums[:n], d_cells, self.pool.t())  # (n, L)
        weighted = look.attention * d_attention
        d_scores = weighted - look.attention * weighted.sum(dim=1, keepdim=True)
        slopes = self.scoring.query_sums(self.keys[:n], look.query, d_scores)
        return LookBack(slopes * self.vector, d_scores, slopes, d_context)

    def gradients(
        self, looks: Sequence[Look], backs: Sequence[LookBack], *, with_features: bool
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Of keys (B, L, A), features (B, C, D) if wanted, and vector (A,), over all words."""
        queries, d_scores = [look.query for look in looks], [back.scores for back in backs]
        slopes = [back.slopes for back in backs]
        key_sums = self.scoring.key_sums(self.keys, queries, d_scores)
        d_vector = self.scoring.vector_gradient(self.keys, queries, d_scores, slopes, key_sums)
        d_features = self._feature_gradients(looks, backs) if with_features else None
        return key_sums.mul_(self.vector), d_features, d_vector

    def _feature_gradients(self, looks: Sequence[Look], backs: Sequence[LookBack]) -> Tensor:
        """dF = sum over t of (P' a_t) z_t', one product a caption: (B, C, D)."""
        batch, cells, width = self.features.shape
        pulled = self.features.new_zeros(batch, cells, len(looks))
        d_context = self.features.new_zeros(batch, len(looks), width)
        for t, (look, back) in enumerate(zip(looks, backs, strict=True)):
            n = len(back.context)
            pulled[:n, :, t] = look.cells
            d_context[:n, t] = back.context
        return pulled @ d_context
