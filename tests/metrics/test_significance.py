"""The bootstrap on simulated data, where the truth is known. All seeds are fixed."""

import numpy as np
import pytest

from pictell.errors import InputError
from pictell.metrics import (
    Spread,
    bleu,
    bootstrap_interval,
    bootstrap_over_runs,
    holm,
    paired_bootstrap,
    pooled_spread,
    rouge_l,
    significance,
)
from pictell.metrics.base import Metric, mean_metric


def ratio_metric(statistics):
    """A corpus score that is no mean of picture scores: a ratio of sums, as a precision is."""
    return Metric(
        "ratio",
        statistics,
        lambda summed: summed[..., 0] / summed[..., 1],
        statistics[:, 0] / statistics[:, 1],
    )


def simulated_precision(generator, pictures):
    """Rows (matches, words); matches fall with the length. The expected ratio is not its mean."""
    words = generator.integers(4, 20, size=pictures)
    matches = generator.binomial(words, 2.5 / words)
    return np.stack([matches, words], axis=1).astype(float)  # (pictures, 2)


TRUE_PRECISION = 2.5 / 11.5  # expected matches over expected words


def test_the_interval_covers_the_truth():
    generator = np.random.default_rng(1)
    runs, covered = 400, 0
    for run in range(runs):
        metric = ratio_metric(simulated_precision(generator, 120))
        interval = bootstrap_interval(metric, resamples=200, seed=run)
        covered += interval.low <= TRUE_PRECISION <= interval.high
    # 0.95 +- three standard errors of a share of 400, and one point less for 120 pictures.
    assert 0.907 <= covered / runs <= 0.983


def test_a_lower_level_covers_less():
    metric = ratio_metric(simulated_precision(np.random.default_rng(2), 120))
    wide, narrow = (bootstrap_interval(metric, level=level) for level in (0.95, 0.5))
    # Widths of a normal distribution: 1.96 and 0.674 standard errors.
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(2.9, rel=0.15)
    assert wide.low < narrow.low < metric.corpus < narrow.high < wide.high


def test_the_spread_is_the_standard_error():
    values = np.random.default_rng(3).normal(size=500)
    interval = bootstrap_interval(mean_metric("mean", values), resamples=4000)
    expected = 2 * 1.96 * values.std() / np.sqrt(500)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.06)
    assert interval.score == pytest.approx(values.mean())


def test_the_corpus_score_is_resampled_and_not_the_mean_of_sentences():
    hypotheses = [["a"], list("abcdefgh")] * 30
    references = [[["a"]], [list("abcxxxxx")]] * 30
    metric = bleu(hypotheses, references)["BLEU-1"]
    interval = bootstrap_interval(metric)
    assert metric.corpus == pytest.approx(4 / 9)
    assert metric.per_image.mean() == pytest.approx((1 + 3 / 8) / 2)
    assert interval.low < 4 / 9 < interval.high < metric.per_image.mean()


def null_p_values(runs):
    """p-values of two systems that are equally good, with pictures that are hard for both."""
    generator = np.random.default_rng(4)
    for run in range(runs):
        difficulty = generator.normal(size=80)
        a, b = (mean_metric("mean", difficulty + generator.normal(size=80) * 0.3) for _ in range(2))
        yield paired_bootstrap(a, b, resamples=200, seed=run).p_value


def test_p_values_are_uniform_when_nothing_differs():
    p_values = np.array(list(null_p_values(400)))
    for threshold in (0.05, 0.1, 0.25, 0.5, 0.75):
        error = 3 * np.sqrt(threshold * (1 - threshold) / 400)
        assert np.mean(p_values <= threshold) == pytest.approx(threshold, abs=error + 0.01)


def test_identical_systems():
    metric = rouge_l([["a"], ["b", "x"], ["c"]], [[["a"]], [["b"]], [["d"]]])
    result = paired_bootstrap(metric, metric)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_pairing_finds_a_small_constant_gain():
    scores = np.random.default_rng(5).normal(0.5, 0.2, size=50)
    a, b = mean_metric("mean", scores), mean_metric("mean", scores + 0.001)
    result = paired_bootstrap(a, b, resamples=500)
    # Each resample holds the same pictures for both, so that the difference never varies.
    assert result.low == pytest.approx(0.001) == result.high
    assert result.p_value == pytest.approx(2 / 501)
    assert result.difference == result.score_b - result.score_a > 0


def test_swapped_systems():
    generator = np.random.default_rng(6)
    a, b = (mean_metric("mean", generator.normal(size=40)) for _ in range(2))
    there, back = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert there.difference == -back.difference
    assert there.p_value == back.p_value < 1
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_p_value_and_interval_agree():
    generator = np.random.default_rng(7)
    verdicts = set()
    for run in range(40):
        a = mean_metric("mean", generator.normal(size=60))
        b = mean_metric("mean", generator.normal(0.3, size=60))
        result = paired_bootstrap(a, b, seed=run)
        if abs(result.p_value - 0.05) < 0.004:
            continue  # the quantile is interpolated, and the p-value has its + 1
        outside = not result.low <= 0 <= result.high
        assert outside == (result.p_value < 0.05)
        verdicts.add(outside)
    assert verdicts == {True, False}


def test_the_seed_decides():
    metric = mean_metric("mean", np.random.default_rng(8).normal(size=30))
    assert bootstrap_interval(metric, seed=1) == bootstrap_interval(metric, seed=1)
    assert bootstrap_interval(metric, seed=1) != bootstrap_interval(metric, seed=2)


def test_resamples_hold_as_many_pictures_and_chunks_are_complete(monkeypatch):
    monkeypatch.setattr(significance, "_CELLS_AT_ONCE", 64)
    chunks = list(significance._resampled_counts(10, 20, seed=0))
    assert [len(chunk) for chunk in chunks] == [6, 6, 6, 2]
    counts = np.concatenate(chunks)
    assert (counts.sum(axis=1) == 10).all()
    assert len(np.unique(counts, axis=0)) == 20


def test_bad_input():
    metric = mean_metric("mean", np.ones(3))
    with pytest.raises(InputError, match="mean of 3 pictures cannot be paired with 2"):
        paired_bootstrap(metric, mean_metric("mean", np.ones(2)))
    with pytest.raises(InputError, match="cannot compare mean with other"):
        paired_bootstrap(metric, mean_metric("other", np.ones(3)))
    with pytest.raises(InputError, match="no pictures"):
        bootstrap_interval(mean_metric("mean", np.ones(0)))
    with pytest.raises(InputError, match="resamples must be at least 1, not 0"):
        bootstrap_interval(metric, resamples=0)
    with pytest.raises(InputError, match="not 95"):
        bootstrap_interval(metric, level=95)


# -- several runs of each --------------------------------------------------------------------------


def simulated_runs(generator, *, runs, mean, pictures, seed_spread, own=0.3):
    """Scores of runs on pictures that share each picture's difficulty; runs differ by a seed."""
    return [
        mean + generator.normal(scale=seed_spread) + pictures + generator.normal(scale=own, size=80)
        for _ in range(runs)
    ]


def covered(runs, *, seed_spread, trials=300):
    """How often the interval holds the true difference, 0.1."""
    generator = np.random.default_rng(runs)
    hits = 0
    for trial in range(trials):
        pictures = generator.normal(size=80)
        a, b = (
            simulated_runs(
                generator, runs=runs, mean=mean, pictures=pictures, seed_spread=seed_spread
            )
            for mean in (0.5, 0.6)
        )
        metrics = [[mean_metric("mean", values) for values in one] for one in (a, b)]
        found = bootstrap_over_runs(*metrics, resamples=300, seed=trial)
        hits += found.low <= 0.1 <= found.high
    return hits / trials


@pytest.mark.parametrize("runs", [2, 3, 6])
@pytest.mark.parametrize("seed_spread", [0.05, 0.5])
def test_the_interval_covers_seeds_and_pictures(runs, seed_spread):
    # Not below 95 % by more than three standard errors; the pictures' part counts once in the
    # spread of few runs too, which makes the interval somewhat wide where the seeds hardly differ.
    assert covered(runs, seed_spread=seed_spread) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 300)


def test_one_run_of_each_leaves_the_seeds_out():
    assert covered(1, seed_spread=0.5) < 0.5  # which is why runs are to be repeated


def test_one_run_of_each_is_the_paired_bootstrap():
    generator = np.random.default_rng(4)
    a, b = (mean_metric("mean", generator.normal(size=50)) for _ in range(2))
    several, paired = bootstrap_over_runs([a], [b], seed=3), paired_bootstrap(a, b, seed=3)
    assert not several.over_seeds
    for name, value in vars(paired).items():
        assert getattr(several, name) == pytest.approx(value), name


def test_the_same_trainings_used_twice_are_paired():
    generator = np.random.default_rng(5)
    pictures = generator.normal(size=60)
    levels = [0.0, 1.0, 2.0]  # trainings that differ much
    a = [mean_metric("mean", pictures + level) for level in levels]
    b = [mean_metric("mean", pictures + level + 0.1) for level in levels]
    paired = bootstrap_over_runs(a, b, same_runs=True)
    assert paired.low == pytest.approx(0.1) == paired.high
    free = bootstrap_over_runs(a, b)
    assert free.low < -1 < 1 < free.high
    assert free.run_error == pytest.approx(np.sqrt(2 / 3))  # the levels have a variance of one


def test_holm_by_hand():
    # Sorted: .01 x 4, .02 x 3, .03 x 2, .2 x 1; none below the one before.
    assert holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([]) == []


def test_spread_of_runs():
    spread = pooled_spread([[1.0, 3.0], [5.0], [2.0, 3.0, 4.0]])  # squares 2, 0 and 2
    assert spread.deviation == pytest.approx(np.sqrt(4 / 3))
    assert spread.freedom == 3


def test_a_spread_that_is_known_better_narrows_the_interval():
    metrics = [[mean_metric("mean", np.full(9, level + c)) for c in (0, 1)] for level in (5, 8)]
    own = bootstrap_over_runs(*metrics, resamples=20_000)
    known = bootstrap_over_runs(
        *metrics, resamples=20_000, spread=Spread(np.sqrt(0.5), freedom=1000)
    )
    assert own.run_error == pytest.approx(known.run_error) == pytest.approx(np.sqrt(0.5))
    # Quantiles of t with 2 and with many degrees of freedom.
    assert (own.high - own.low) / 2 == pytest.approx(4.30 * np.sqrt(0.5), rel=0.08)
    assert (known.high - known.low) / 2 == pytest.approx(1.96 * np.sqrt(0.5), rel=0.04)
