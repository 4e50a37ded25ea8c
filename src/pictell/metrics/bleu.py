"""BLEU-1 to BLEU-4 of captions, as COCO's caption evaluation computes it.

    metrics = bleu([["a", "dog", "runs"]], [[["a", "dog", "runs", "fast"], ["the", "dog"]]])
    metrics["BLEU-2"].corpus

Source: Papineni, Roukos, Ward, Zhu (2002), "BLEU: a method for automatic evaluation of machine
translation", ACL. The corpus score has no smoothing, and the effective reference length is the
closest one (the shorter of two equally close ones), as in pycocoevalcap. The n-grams are counted
here and not by sacrebleu, which wants the tokens joined into lines and the same number of
references everywhere; the tests hold the two equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from pictell.metrics.base import (
    MAX_ORDER,
    Metric,
    NgramCounts,
    Tokens,
    check_captions,
    count_ngrams,
)

# Columns of the statistics: hypothesis length, reference length, matches of 1..4, totals of 1..4.
_MATCHES = slice(2, 2 + MAX_ORDER)
_TOTALS = slice(2 + MAX_ORDER, 2 + 2 * MAX_ORDER)


def bleu(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> dict[str, Metric]:
    """BLEU-1 to BLEU-4 (0 to 1), each with the same statistics (N, 10).

    The corpus score is not smoothed. `per_image` is, for a single caption seldom shares four words
    in a row with a reference: see `sentence_bleu`.
    """
    check_captions(hypotheses, references)
    rows = [picture_statistics(h, r) for h, r in zip(hypotheses, references, strict=True)]
    return bleu_of(np.array(rows, dtype=np.float64))


def bleu_of(statistics: np.ndarray) -> dict[str, Metric]:
    """BLEU-1 to BLEU-4 from the ten counts of each picture (N, 10), see `picture_statistics`."""
    if statistics.ndim != 2 or statistics.shape[1] != _TOTALS.stop:
        raise ValueError(f"counts of BLEU are (N, {_TOTALS.stop}), not {statistics.shape}")
    return {
        f"BLEU-{order}": Metric(
            f"BLEU-{order}",
            statistics,
            partial(corpus_bleu, order=order),
            sentence_bleu(statistics, order=order),
        )
        for order in range(1, MAX_ORDER + 1)
    }


def picture_statistics(hypothesis: Tokens, references: Sequence[Tokens]) -> list[int]:
    """The ten counts of one picture: two lengths, clipped matches of 1..4, totals of 1..4."""
    length = len(hypothesis)
    closest = min((len(r) for r in references), key=lambda other: (abs(other - length), other))
    counts = count_ngrams(hypothesis)
    limits = _largest_counts(counts, references)
    matches = [0] * MAX_ORDER
    for ngram, count in counts.items():
        matches[len(ngram) - 1] += min(count, limits[ngram])
    totals = [max(0, length - n) for n in range(MAX_ORDER)]
    return [length, closest, *matches, *totals]


def _largest_counts(wanted: NgramCounts, references: Sequence[Tokens]) -> dict[tuple, int]:
    """How often each wanted n-gram stands in the reference that has it most often."""
    limits = dict.fromkeys(wanted, 0)
    for reference in references:
        for ngram, count in count_ngrams(reference).items():
            if count > limits.get(ngram, count):
                limits[ngram] = count
    return limits


def corpus_bleu(summed: np.ndarray, *, order: int) -> np.ndarray:
    """BLEU-`order` (...) of summed statistics (..., 10), without smoothing (Papineni, eq. 3)."""
    matches = summed[..., _MATCHES][..., :order]  # (..., order)
    totals = summed[..., _TOTALS][..., :order]  # (..., order)
    precisions = matches / np.maximum(totals, 1)
    return _brevity_penalty(summed) * precisions.prod(axis=-1) ** (1 / order)


def sentence_bleu(statistics: np.ndarray, *, order: int) -> np.ndarray:
    """Smoothed BLEU-`order` (N,) of each row of statistics (N, 10).

    The k-th order without a match counts as 2^-k matches: the exponential smoothing of NIST's
    mteval-v13a (technique 3 in Chen and Cherry (2014), "A systematic comparison of smoothing
    techniques for sentence-level BLEU", WMT). Orders longer than the caption are left out of the
    mean. This is sacrebleu's sentence BLEU (`smooth_method="exp"`, `effective_order=True`).
    """
    matches = statistics[:, _MATCHES][:, :order]  # (N, order)
    totals = statistics[:, _TOTALS][:, :order]  # (N, order)
    smoothed = np.where(matches > 0, matches, 0.5 ** np.cumsum(matches == 0, axis=1))
    exists = totals > 0
    logarithms = np.where(exists, np.log(smoothed / np.maximum(totals, 1)), 0.0)
    mean = logarithms.sum(axis=1) / np.maximum(exists.sum(axis=1), 1)
    anything_right = matches[:, 0] > 0
    return np.where(anything_right, _brevity_penalty(statistics) * np.exp(mean), 0.0)


def _brevity_penalty(statistics: np.ndarray) -> np.ndarray:
    """exp(1 - reference length / hypothesis length) where the hypotheses are shorter, else 1."""
    hypothesis, reference = statistics[..., 0], statistics[..., 1]
    # Without a hypothesis there are no matches either, so the score is 0 whatever stands here.
    return np.exp(np.minimum(0.0, 1.0 - reference / np.maximum(hypothesis, 1)))
