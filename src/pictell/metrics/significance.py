"""How sure is a score, and a difference of two scores: the bootstrap over pictures.

    interval = bootstrap_interval(metrics["BLEU-4"])
    comparison = paired_bootstrap(rnn["BLEU-4"], attention["BLEU-4"])
    comparison.difference, comparison.low, comparison.high, comparison.p_value

A resample draws N pictures out of N with replacement, sums their sufficient statistics and computes
the corpus score anew; the mean of sentence BLEU is never used. Both systems see the same resamples.

Sources: Koehn (2004), "Statistical significance tests for machine translation evaluation", EMNLP
(the paired bootstrap of corpus scores); Efron and Tibshirani (1993), "An introduction to the
bootstrap", chapter 13 (percentile intervals); Davison and Hinkley (1997), "Bootstrap methods and
their application", section 4.2 (the + 1 in p-values).

What is covered: the choice of the pictures. What is not: the seed of the training, for which runs
have to be repeated; and CIDEr-D's document frequencies, which stay those of the evaluated split in
every resample (as if they were given), so that its intervals are for this yardstick.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pictell.errors import InputError
from pictell.metrics.base import Metric

_CELLS_AT_ONCE = 1 << 21  # resamples x pictures held in memory together: about 50 MB


@dataclass(frozen=True)
class Interval:
    """A corpus score and the bounds of its confidence interval, in the metric's units."""

    score: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedBootstrap:
    """Two corpus scores and their difference b - a, with its interval and two-sided p-value."""

    score_a: float
    score_b: float
    difference: float
    low: float
    high: float
    p_value: float
    resamples: int


def bootstrap_interval(
    metric: Metric, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Percentile interval of a corpus score over the choice of pictures."""
    _check(metric, resamples, level)
    (scores,) = _resampled_scores([metric], resamples, seed)
    low, high = _percentiles(scores, level)
    return Interval(metric.corpus, low, high)


def paired_bootstrap(
    metric_a: Metric,
    metric_b: Metric,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> PairedBootstrap:
    """Is b better than a on the same pictures, in the same order?

    The p-value is twice the share of resamples in which the difference is zero or has the other
    sign, (1 + count) / (1 + resamples), at most 1. It inverts the percentile interval, so that the
    two do not contradict each other. Its least value is 2 / (1 + resamples).
    """
    _check(metric_a, resamples, level)
    _check_pair(metric_a, metric_b)
    scores_a, scores_b = _resampled_scores([metric_a, metric_b], resamples, seed)
    differences = scores_b - scores_a
    low, high = _percentiles(differences, level)
    opposing = min(np.sum(differences <= 0), np.sum(differences >= 0))
    return PairedBootstrap(
        score_a=metric_a.corpus,
        score_b=metric_b.corpus,
        difference=metric_b.corpus - metric_a.corpus,
        low=low,
        high=high,
        p_value=min(1.0, 2.0 * float(1 + opposing) / (1 + resamples)),
        resamples=resamples,
    )


def _resampled_scores(metrics: list[Metric], resamples: int, seed: int) -> np.ndarray:
    """Corpus scores (metrics, resamples), with the same resamples for all metrics."""
    counts = _resampled_counts(len(metrics[0].statistics), resamples, seed)
    chunks = [[m.aggregate(chunk @ m.statistics) for m in metrics] for chunk in counts]
    return np.concatenate(chunks, axis=1)


def _resampled_counts(pictures: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each picture is drawn: multinomial counts (chunk, pictures), float64."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CELLS_AT_ONCE // pictures)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        # Drawing pictures and counting them is several times faster than numpy's multinomial.
        drawn = generator.integers(pictures, size=(rows, pictures))
        drawn += pictures * np.arange(rows)[:, None]  # a range of its own for each resample
        counts = np.bincount(drawn.ravel(), minlength=rows * pictures)
        yield counts.reshape(rows, pictures).astype(np.float64)


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check(metric: Metric, resamples: int, level: float) -> None:
    if len(metric.statistics) == 0:
        raise InputError(f"{metric.name} has no pictures to resample")
    if resamples < 1:
        raise InputError(f"resamples must be at least 1, not {resamples}")
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, such as 0.95, not {level}")


def _check_pair(metric_a: Metric, metric_b: Metric) -> None:
    if metric_a.name != metric_b.name:
        raise InputError(f"cannot compare {metric_a.name} with {metric_b.name}")
    if len(metric_a.statistics) != len(metric_b.statistics):
        raise InputError(
            f"{metric_a.name} of {len(metric_a.statistics)} pictures cannot be paired with "
            f"{len(metric_b.statistics)} pictures; score both systems on the same pictures"
        )
