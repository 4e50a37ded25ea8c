"""How sure is a score, and a difference of two scores: the bootstrap over pictures.

    interval = bootstrap_interval(metrics["BLEU-4"])
    comparison = paired_bootstrap(rnn["BLEU-4"], attention["BLEU-4"])
    comparison.difference, comparison.low, comparison.high, comparison.p_value
    several = bootstrap_over_runs(three_seeds_of_rnn, three_seeds_of_attention)

A resample draws N pictures out of N with replacement, sums their sufficient statistics and computes
the corpus score anew; the mean of sentence BLEU is never used. Both systems see the same resamples.

Sources: Koehn (2004), "Statistical significance tests for machine translation evaluation", EMNLP
(the paired bootstrap of corpus scores); Efron and Tibshirani (1993), "An introduction to the
bootstrap", chapter 13 (percentile intervals); Davison and Hinkley (1997), "Bootstrap methods and
their application", section 4.2 (the + 1 in p-values) and section 3.8 (data in two levels); Holm
(1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
Statistics 6.

What one run of each covers: the choice of the pictures. The seed of the training is covered where
runs were repeated, by `bootstrap_over_runs`. Not covered are CIDEr-D's document frequencies, which
stay those of the evaluated split in every resample (as if they were given), so that its intervals
are for this yardstick.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True)
class Spread:
    """Standard deviation of a score over seeds, and the degrees of freedom that it rests on."""

    deviation: float
    freedom: int


@dataclass(frozen=True)
class RunsBootstrap(PairedBootstrap):
    """The difference b - a of the mean scores of several runs of each of two methods.

    Attributes:
        runs_a: How many runs of the first.
        runs_b: How many of the second.
        over_seeds: Whether the interval covers the seed of the training: each method has two runs
            or more.
        run_error: Standard error of the difference that comes from the seeds; 0 where unknown.
        picture_error: Standard error that comes from the choice of the pictures.
    """

    runs_a: int
    runs_b: int
    over_seeds: bool
    run_error: float
    picture_error: float


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
    return PairedBootstrap(
        score_a=metric_a.corpus,
        score_b=metric_b.corpus,
        difference=metric_b.corpus - metric_a.corpus,
        low=low,
        high=high,
        p_value=_p_value(differences),
        resamples=resamples,
    )


def bootstrap_over_runs(
    metrics_a: Sequence[Metric],
    metrics_b: Sequence[Metric],
    *,
    same_runs: bool = False,
    spread: Spread | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> RunsBootstrap:
    """Is method b better than method a, over the choice of the pictures and of the seed?

    A resample draws pictures, the same for all runs, takes the mean score of each method's runs on
    them, and adds an error of the seeds: Student's t times the standard error of the two means. The
    seeds are not themselves resampled, since three runs have but ten different resamples, which
    spread too little by a third; t allows for how badly so few runs tell their own spread. With one
    run of a method nothing is known of its seeds, and the interval is over pictures alone.

    Args:
        metrics_a: The same score of each run of the first method.
        metrics_b: Of the second, on the same pictures.
        same_runs: Whether the two are the same trainings, in the same order, used in two ways (two
            beam widths): then the spread is that of the differences of each training.
        spread: Of a run's score over seeds (of a training's difference with `same_runs`), where
            more is known of it than these runs tell.
        resamples: How many.
        seed: Of the resamples.
        level: Of the interval.
    """
    metrics = [*metrics_a, *metrics_b]
    _check(metrics[0], resamples, level)
    for metric in metrics[1:]:
        _check_pair(metrics[0], metric)
    assert not same_runs or len(metrics_a) == len(metrics_b)
    scores = _resampled_scores(metrics, resamples, seed)  # (runs, resamples)
    first = len(metrics_a)
    over_pictures = scores[first:].mean(axis=0) - scores[:first].mean(axis=0)
    scores_a, scores_b = ([m.corpus for m in part] for part in (metrics_a, metrics_b))
    error, freedom = _error_of_runs(scores_a, scores_b, same_runs, spread)
    differences = over_pictures
    if freedom:
        drawn = np.random.default_rng([seed, first]).standard_t(freedom, size=resamples)
        differences = over_pictures + error * drawn
    low, high = _percentiles(differences, level)
    return RunsBootstrap(
        score_a=float(np.mean(scores_a)),
        score_b=float(np.mean(scores_b)),
        difference=float(np.mean(scores_b) - np.mean(scores_a)),
        low=low,
        high=high,
        p_value=_p_value(differences),
        resamples=resamples,
        runs_a=len(scores_a),
        runs_b=len(scores_b),
        over_seeds=freedom > 0,
        run_error=error,
        picture_error=float(over_pictures.std()),
    )


def _error_of_runs(
    scores_a: Sequence[float], scores_b: Sequence[float], same_runs: bool, spread: Spread | None
) -> tuple[float, int]:
    """Standard error of the difference of two means over runs, and its degrees of freedom."""
    if min(len(scores_a), len(scores_b)) < 2:
        return 0.0, 0
    if same_runs:
        spread = spread or pooled_spread([np.subtract(scores_b, scores_a)])
        return spread.deviation / math.sqrt(len(scores_a)), spread.freedom
    spread = spread or pooled_spread([scores_a, scores_b])
    return spread.deviation * math.sqrt(1 / len(scores_a) + 1 / len(scores_b)), spread.freedom


def pooled_spread(groups: Sequence[Sequence[float] | np.ndarray]) -> Spread:
    """How scores spread over seeds, from the runs of several methods; needs two runs of one.

    Methods that are trained alike spread alike; together they tell their spread better.
    """
    squares = sum(float(np.var(scores)) * len(scores) for scores in groups)
    freedom = sum(len(scores) - 1 for scores in groups)
    return Spread(math.sqrt(squares / freedom), freedom)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, raised so that 5 % is the chance of any false alarm among them."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    raised, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[index]))
        raised[index] = largest
    return raised


def _p_value(differences: np.ndarray) -> float:
    opposing = min(np.sum(differences <= 0), np.sum(differences >= 0))
    return min(1.0, 2.0 * float(1 + opposing) / (1 + len(differences)))


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
