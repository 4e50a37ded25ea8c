"""The scores of additive attention, v . f(k + q), and their derivatives, without k + q in memory.

    scoring = AdditiveScoring("relu")
    scores = scoring.scores(keys, queries, vector)                      # (B, K, L)
    scores = scores_over_words(keys, queries, vector, counts, scoring)  # (N, L), to be learnt

Written as one expression, k + q is a tensor (B, K, L, A) that is larger than any cache: each
operation on it would read and write it again, and it would be kept for the backward pass. Here it
is made for so few pictures at a time that it stays in the cache, and anew in the backward pass.
Where a C++ compiler is found, `compile` goes further: sum, function and reduction become one loop
over the keys. On a GPU all pictures are done at once.

Axes: B pictures, K queries of a picture, L regions, A attention width, T words, N real
words; n_t pictures have word t.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pictell.decoders.lstm import in_full_precision

_BLOCK_BYTES = 1 << 20  # of k + q for each thread: half of a present core's second-level cache


class AdditiveScoring:
    """The scores for one function f, and their derivatives.

    Args:
        activation: f, `relu` or `tanh`.
    """

    def __init__(self, activation: str) -> None:
        self.activation = activation
        self._fused: dict[str, Callable[..., Any]] = {}

    def compile(self) -> bool:
        """Fuse the loops with torch.compile; says whether there was a compiler that could."""
        if not self._fused:
            try:
                self._fused = _compiled(self.activation)
            except Exception:  # no compiler, no headers, a broken one: each raises its own
                return False
        return True

    def scores(self, keys: Tensor, queries: Tensor, vector: Tensor) -> Tensor:
        """v . f(k + q) for each query and region (Bahdanau et al. 2015, appendix A.1.2).

        Args:
            keys: (B, L, A).
            queries: (B, K, A).
            vector: (A,) the weights v.

        Returns:
            (B, K, L).
        """
        if torch.is_grad_enabled() and (keys.requires_grad or queries.requires_grad):
            return self._function(keys[:, None] + queries[:, :, None]) @ vector
        if self._fused and queries.shape[1] == 1:
            return self._fused["scores"](keys, queries[:, 0], vector)[:, None]
        if self._fused:
            return self._fused["beam_scores"](keys, queries, vector)
        scores = keys.new_empty(len(keys), queries.shape[1], keys.shape[1])
        room = keys.new_empty(0)  # the same memory for all blocks, which the cache then holds
        for rows in _blocks(keys, queries.shape[1]):
            for part in _regions(keys, queries.shape[1]):
                block, asked = keys[rows, None, part], queries[rows, :, None]
                shape = torch.broadcast_shapes(block.shape, asked.shape)  # (b, K, l, A)
                if room.numel() < shape.numel():
                    room = keys.new_empty(shape.numel())
                summed = torch.add(block, asked, out=room[: shape.numel()].view(shape))
                scores[rows, :, part] = self._function(summed) @ vector
        return scores

    def query_sums(self, keys: Tensor, query: Tensor, d_scores: Tensor) -> Tensor:
        """Sum over l of de_l f'(k_l + q), for one query a picture; dq is v times this.

        Args:
            keys: (B, L, A).
            query: (B, A).
            d_scores: (B, L) the gradients de of the scores.

        Returns:
            (B, A).
        """
        if self._fused:
            return self._fused["query_sums"](keys, query, d_scores)
        return self._over_regions(keys, query, d_scores, self._slope)

    def key_sums(
        self, keys: Tensor, queries: Sequence[Tensor], d_scores: Sequence[Tensor]
    ) -> Tensor:
        """Sum over t of de_tl f'(k_l + q_t); dk is v times this.

        Args:
            keys: (B, L, A).
            queries: For each word t the queries (b, A) of the first b <= B pictures, b falling.
            d_scores: For each word t the gradients (b, L) of the scores.

        Returns:
            (B, L, A).
        """
        if self._fused:
            return self._fused["key_sums"](keys, _by_picture(queries), _by_picture(d_scores))
        sums = torch.zeros_like(keys)
        for rows in _blocks(keys, 1):
            for query, d_score in zip(queries, d_scores, strict=True):
                alive = len(query[rows])  # pictures of this block that have this word
                value = self._function(keys[rows][:alive] + query[rows, None])
                sums[rows][:alive].addcmul_(self._slope(value), d_score[rows, :, None])
        return sums

    def vector_gradient(
        self,
        keys: Tensor,
        queries: Sequence[Tensor],
        d_scores: Sequence[Tensor],
        query_sums: Sequence[Tensor],
        key_sums: Tensor,
    ) -> Tensor:
        """dv = sum over pictures, t and l of de_tl f(k_l + q_t).

        For relu, f(x) = x f'(x), and what was summed up before is all that is needed: the sum of
        k_l times key_sums over pictures and l, and of q_t times query_sums over pictures and t.

        Args:
            keys: (B, L, A).
            queries: As for `key_sums`.
            d_scores: As for `key_sums`.
            query_sums: For each word what `query_sums` gave, (b, A).
            key_sums: What `key_sums` gave, (B, L, A).

        Returns:
            (A,).
        """
        if self.activation == "relu":
            total = (torch.cat(list(queries)) * torch.cat(list(query_sums))).sum(dim=0)
            for rows in _blocks(keys, 1):
                total += (keys[rows] * key_sums[rows]).sum(dim=(0, 1))
            return total
        total = torch.zeros_like(keys[0, 0])
        for query, d_score in zip(queries, d_scores, strict=True):
            of_word = self._over_regions(keys[: len(query)], query, d_score, lambda value: value)
            total += of_word.sum(dim=0)
        return total

    def _over_regions(
        self, keys: Tensor, query: Tensor, d_scores: Tensor, of: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Sum over l of de_l times a function of f(k_l + q): (B, A)."""
        sums = torch.empty_like(query)
        for rows in _blocks(keys, 1):
            value = of(self._function(keys[rows] + query[rows, None]))  # (b, L, A)
            torch.bmm(d_scores[rows, None], value, out=sums[rows, None])
        return sums

    def _function(self, summed: Tensor) -> Tensor:
        """f, in place: k + q itself is not needed."""
        return summed.relu_() if self.activation == "relu" else summed.tanh_()

    def _slope(self, value: Tensor) -> Tensor:
        """f' from f, in place."""
        if self.activation == "relu":
            return torch.gt(value, 0, out=value)
        return value.square_().neg_().add_(1)


def scores_over_words(
    keys: Tensor, queries: Tensor, vector: Tensor, counts: Sequence[int], scoring: AdditiveScoring
) -> Tensor:
    """The scores of all words of given captions, with gradients, where no query needs an earlier
    word's context; in full precision, also where precision is mixed.

    Args:
        keys: (B, L, A).
        queries: (N, A), n_t rows for word t, of the first n_t pictures.
        vector: (A,).
        counts: The n_t, falling.
        scoring: The scores and their derivatives.

    Returns:
        (N, L), in the order of `queries`.
    """
    given = in_full_precision(keys, queries, vector)
    with torch.autocast(keys.device.type, enabled=False):
        return _OverWords.apply(*given, list(counts), scoring)  # type: ignore[return-value]


class _OverWords(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        keys: Tensor,
        queries: Tensor,
        vector: Tensor,
        counts: list[int],
        scoring: AdditiveScoring,
    ) -> Tensor:
        ctx.save_for_backward(keys, queries, vector)
        ctx.counts, ctx.scoring = counts, scoring
        return torch.cat(
            [
                scoring.scores(keys[: len(q)], q[:, None], vector)[:, 0]
                for q in queries.split(counts)
            ]
        )

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_scores: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        keys, all_queries, vector = ctx.saved_tensors
        scoring: AdditiveScoring = ctx.scoring
        queries, of_words = all_queries.split(ctx.counts), d_scores.split(ctx.counts)
        query_sums = [
            scoring.query_sums(keys[: len(query)], query, d_score)
            for query, d_score in zip(queries, of_words, strict=True)
        ]
        key_sums = scoring.key_sums(keys, queries, of_words)
        d_vector = scoring.vector_gradient(keys, queries, of_words, query_sums, key_sums)
        return key_sums.mul_(vector), torch.cat(query_sums).mul_(vector), d_vector, None, None


def _block_bytes() -> int:
    return _BLOCK_BYTES * torch.get_num_threads()


def _blocks(keys: Tensor, queries: int) -> Iterator[slice]:
    size = len(keys)
    if keys.device.type == "cpu" and size:
        size = max(1, _block_bytes() // (queries * keys[0].nbytes))
    for start in range(0, len(keys), max(1, size)):
        yield slice(start, start + size)


def _regions(keys: Tensor, queries: int) -> Iterator[slice]:
    """Parts of the regions, for pictures that are too large for a block by themselves."""
    regions = keys.shape[1]
    size = regions
    if keys.device.type == "cpu" and len(keys):
        size = max(1, min(regions, _block_bytes() // (queries * keys[0, 0].nbytes)))
    for start in range(0, regions, size):
        yield slice(start, start + size)


def _by_picture(rows: Sequence[Tensor]) -> Tensor:
    """Tensors (b, ...) of the words, b falling, as one (B, T, ...) filled up with zeros."""
    return pad_sequence(list(rows))


@cache  # for all decoders: torch keeps only a few variants of a function
def _compiled(activation: str) -> dict[str, Callable[..., Any]]:
    """The functions as fused loops, tried out on a small input."""

    # It would tell users without a GPU that they have none.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)

    def function(summed: Tensor) -> Tensor:
        return summed.relu() if activation == "relu" else summed.tanh()

    def slope(summed: Tensor) -> Tensor:
        return (summed > 0).to(summed.dtype) if activation == "relu" else 1 - summed.tanh() ** 2

    def scores(keys: Tensor, query: Tensor, vector: Tensor) -> Tensor:
        return (function(keys + query[:, None]) * vector).sum(-1)

    def beam_scores(keys: Tensor, queries: Tensor, vector: Tensor) -> Tensor:
        return (function(keys[:, None] + queries[:, :, None]) * vector).sum(-1)  # (B, K, L)

    def query_sums(keys: Tensor, query: Tensor, d_scores: Tensor) -> Tensor:
        return (d_scores[..., None] * slope(keys + query[:, None])).sum(1)

    def key_sums(keys: Tensor, queries: Tensor, d_scores: Tensor) -> Tensor:
        summed = keys[:, None] + queries[:, :, None]  # (B, T, L, A)
        return (d_scores[..., None] * slope(summed)).sum(1)

    functions = (scores, beam_scores, query_sums, key_sums)
    fused = {f.__name__: torch.compile(f, dynamic=True) for f in functions}
    keys, query, words = torch.ones(3, 5, 8), torch.ones(3, 8), torch.ones(3, 4, 8)
    fused["scores"](keys, query, query[0])
    fused["query_sums"](keys, query, keys[..., 0])
    fused["key_sums"](keys, words, words[..., :5])
    return fused
