"""CIDEr-D: how much a caption agrees with the consensus of a picture's references.

    scorer = CiderD(references)  # counts the references once
    scores = scorer.score(hypotheses)  # (N,), one score per picture
    reward = scorer.score(sampled_captions, indices=[7, 7, 9])  # three captions of two pictures

Source: Vedantam, Zitnick, Parikh (2015), "CIDEr: Consensus-based image description evaluation",
CVPR, section 8 (CIDEr-D). N-grams of one to four words weigh by how seldom they are; counts are
clipped; unequal lengths cost a Gaussian penalty of sigma 6; the score is scaled by 10, as in COCO's
caption evaluation. Scores are not bounded by 1: good captioners reach about 1.2 on COCO.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pictell.errors import InputError
from pictell.metrics.base import (
    MAX_ORDER,
    Metric,
    NgramCounts,
    Tokens,
    check_captions,
    check_references,
    count_ngrams,
    mean_metric,
)

_SIGMA = 6.0  # words; the width of the length penalty
_SCALE = 10.0


def cider_d(
    hypotheses: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    *,
    document_frequencies: DocumentFrequencies | None = None,
) -> Metric:
    """CIDEr-D of N captions (0 to 10; the corpus score is the mean over pictures).

    The document frequencies are those of `references` unless others are given. They are part of
    the yardstick: with one picture every weight, and so the score, is 0, and scores from different
    splits do not compare. A bootstrap over the result holds them fixed.
    """
    check_captions(hypotheses, references)
    return mean_metric("CIDEr-D", CiderD(references, document_frequencies).score(hypotheses))


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many pictures an n-gram stands in at least one reference.

    Attributes:
        counts: n-gram of one to four words -> number of pictures.
        pictures: how many pictures were counted.
    """

    counts: Mapping[tuple[str | int, ...], int]
    pictures: int

    def __post_init__(self) -> None:
        most = max(self.counts.values(), default=0)
        if self.pictures < 1 or most > self.pictures:
            raise InputError(f"an n-gram is in {most} pictures of {self.pictures}: impossible")

    @classmethod
    def fit(cls, references: Sequence[Sequence[Tokens]]) -> DocumentFrequencies:
        """Count the references (N pictures, one or more each)."""
        check_references(references)
        return cls._of_counts([[count_ngrams(r) for r in captions] for captions in references])

    @classmethod
    def _of_counts(cls, pictures: Sequence[Sequence[NgramCounts]]) -> DocumentFrequencies:
        frequencies: NgramCounts = Counter()
        for captions in pictures:
            frequencies.update(set().union(*captions))
        return cls(frequencies, len(pictures))

    def square_weight(self, ngram: tuple[str | int, ...]) -> float:
        """Square of the inverse document frequency log(pictures / pictures with the n-gram)."""
        return self._square_weights[self.counts.get(ngram, 0)]

    @cached_property
    def _square_weights(self) -> list[float]:
        """Weights by number of pictures; an n-gram that none has weighs as if one had it."""
        largest = max(self.counts.values(), default=0)
        return [math.log(self.pictures / max(1, count)) ** 2 for count in range(largest + 1)]


class CiderD:
    """CIDEr-D with the references counted beforehand, for many calls: epochs, or rewards."""

    def __init__(
        self,
        references: Sequence[Sequence[Tokens]],
        document_frequencies: DocumentFrequencies | None = None,
    ) -> None:
        check_references(references)
        counts = [[count_ngrams(tokens) for tokens in captions] for captions in references]
        self.document_frequencies = document_frequencies or DocumentFrequencies._of_counts(counts)
        self._references = [
            [_Reference(c, self._norms(c), len(tokens)) for c, tokens in zip(*pair, strict=True)]
            for pair in zip(counts, references, strict=True)
        ]

    def score(
        self, hypotheses: Sequence[Tokens], indices: Sequence[int] | None = None
    ) -> np.ndarray:
        """CIDEr-D (M,) of M captions; caption i belongs to picture `indices[i]` (default: i)."""
        if indices is None:
            indices = range(len(self._references))
        if len(indices) != len(hypotheses):
            raise InputError(f"{len(hypotheses)} hypotheses for {len(indices)} pictures")
        pairs = zip(hypotheses, indices, strict=True)
        return np.array([self._score(tokens, self._references[i]) for tokens, i in pairs])

    def agreement(
        self, hypotheses: Sequence[Tokens], pictures: Sequence[int], weights: np.ndarray
    ) -> np.ndarray:
        """Mean CIDEr-D (M,) of each of M captions with all references of several pictures.

        Args:
            hypotheses: The captions.
            pictures: Positions of the pictures, P.
            weights: (P,) how much each reference of a picture counts, in any scale.
        """
        references = [reference for i in pictures for reference in self._references[i]]
        counted = [count_ngrams(tokens) for tokens in hypotheses]
        # A hundred references share few n-grams with the captions: only these are looked at.
        having: dict[tuple[str | int, ...], list[tuple[int, int]]]
        having = {ngram: [] for counts in counted for ngram in counts}
        for place, reference in enumerate(references):
            for ngram in having.keys() & reference.counts.keys():
                having[ngram].append((place, reference.counts[ngram]))
        shares = np.repeat(weights, [len(self._references[i]) for i in pictures])
        shares /= shares.sum()
        lengths = np.array([reference.length for reference in references])
        norms = np.array([reference.norms for reference in references]).T  # (4, R)
        means = []
        for tokens, counts in zip(hypotheses, counted, strict=True):
            products = [[0.0] * len(references) for _ in range(MAX_ORDER)]
            for ngram, count in counts.items():
                square_weight = self.document_frequencies.square_weight(ngram)
                row = products[len(ngram) - 1]
                for place, other in having[ngram]:
                    row[place] += min(count, other) * other * square_weight
            both = np.array(self._norms(counts))[:, None] * norms
            cosines = np.divide(products, both, out=np.zeros_like(both), where=both > 0)
            penalties = np.exp(-((len(tokens) - lengths) ** 2) / (2 * _SIGMA**2))
            means.append(_SCALE * (penalties * cosines.mean(axis=0)) @ shares)
        return np.array(means)

    def _score(self, tokens: Tokens, references: list[_Reference]) -> float:
        counts = count_ngrams(tokens)
        norms = self._norms(counts)
        # min(h w, r w) r w = min(h, r) r w^2: the weights of the two captions are the same.
        square_weight = self.document_frequencies.square_weight
        total = 0.0
        for reference in references:
            products = [0.0] * MAX_ORDER
            for ngram, count in counts.items():
                other = reference.counts.get(ngram, 0)
                if other:
                    products[len(ngram) - 1] += min(count, other) * other * square_weight(ngram)
            difference = len(tokens) - reference.length
            penalty = math.exp(-(difference**2) / (2 * _SIGMA**2))
            total += penalty * _mean_cosine(products, norms, reference.norms)
        return _SCALE * total / len(references)

    def _norms(self, counts: NgramCounts) -> list[float]:
        """Length of the vector of weighted counts, for each order 1..4."""
        squares = [0.0] * MAX_ORDER
        square_weight = self.document_frequencies.square_weight
        for ngram, count in counts.items():
            squares[len(ngram) - 1] += count * count * square_weight(ngram)
        return [math.sqrt(square) for square in squares]


@dataclass(frozen=True, slots=True)
class _Reference:
    counts: NgramCounts
    norms: list[float]
    length: int


def _mean_cosine(products: list[float], norms: list[float], others: list[float]) -> float:
    """Mean over the four orders; an order that one of the captions lacks counts as 0."""
    lengths = (a * b for a, b in zip(norms, others, strict=True))
    cosines = (p / n if n > 0 else 0.0 for p, n in zip(products, lengths, strict=True))
    return sum(cosines) / MAX_ORDER
