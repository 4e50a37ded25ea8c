"""What all metrics share: the form of a result, the checks of the input, n-gram counts.

    metric = mean_metric("ROUGE-L", np.array([0.5, 0.7]))
    metric.corpus  # 0.6

A metric keeps a row of sufficient statistics per picture. The corpus score is a function of their
sum, so that a bootstrap over pictures can weigh rows instead of counting words again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from pictell.errors import InputError

MAX_ORDER = 4  # BLEU and CIDEr-D count n-grams of one to four words

Tokens = Sequence[str] | Sequence[int]  # words, or their numbers, which count faster
NgramCounts = Counter[tuple[str | int, ...]]


@dataclass(frozen=True, eq=False)
class Metric:
    """A score of N captions, in a form that can be resampled.

    Attributes:
        name: as printed in tables, such as `BLEU-4`.
        statistics: (N, S) float64, the sufficient statistics of each picture.
        aggregate: summed statistics (..., S) -> corpus score (...), over any leading axes.
        per_image: (N,) float64, the score of each picture alone. Its mean is the corpus score for
            CIDEr-D and ROUGE-L, but not for BLEU.
    """

    name: str
    statistics: np.ndarray
    aggregate: Callable[[np.ndarray], np.ndarray]
    per_image: np.ndarray

    @property
    def corpus(self) -> float:
        """The score of all pictures together."""
        return float(self.aggregate(self.statistics.sum(axis=0)))


def mean_metric(name: str, per_image: np.ndarray) -> Metric:
    """A metric whose corpus score is the mean of the pictures' scores `per_image` (N,)."""
    statistics = np.stack([per_image, np.ones_like(per_image)], axis=1)  # (N, 2): score, 1
    return Metric(name, statistics, _mean, per_image)


def _mean(summed: np.ndarray) -> np.ndarray:
    return summed[..., 0] / summed[..., 1]


def count_ngrams(tokens: Tokens) -> NgramCounts:
    """How often each run of one to four words stands in a caption."""
    shifted = [tokens[start:] for start in range(MAX_ORDER)]
    return Counter(chain.from_iterable(zip(*shifted[:n]) for n in range(1, MAX_ORDER + 1)))  # noqa: B905


def check_captions(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> None:
    """Raise `InputError` unless there is one hypothesis and at least one reference per picture."""
    if len(hypotheses) != len(references):
        raise InputError(
            f"{len(hypotheses)} hypotheses but references of {len(references)} pictures; "
            "give one hypothesis per picture, in the same order"
        )
    check_references(references)
    _check_tokens(hypotheses, "hypothesis")


def check_references(references: Sequence[Sequence[Tokens]]) -> None:
    """Raise `InputError` unless there is a picture, and every picture has a reference in tokens."""
    if not references:
        raise InputError("no pictures to score: hypotheses and references are empty")
    for picture, captions in enumerate(references):
        if not captions:
            raise InputError(f"picture {picture} has no reference caption; leave it out")
        _check_tokens(captions, "reference", f" of picture {picture}")


def _check_tokens(captions: Sequence[Tokens], what: str, where: str = "") -> None:
    for number, tokens in enumerate(captions):
        if isinstance(tokens, str):  # a string is a sequence of strings too, and scores nonsense
            raise InputError(f"{what} {number}{where} is the text {tokens!r}; give tokens")
