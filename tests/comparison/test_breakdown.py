"""Scores by group, rankings and galleries, worked out by hand."""

import numpy as np
import pytest

from pictell.comparison.breakdown import (
    Breakdown,
    breakdown_difference,
    class_metric,
    length_groups,
)
from pictell.comparison.gallery import best_and_worst, most_spread
from pictell.comparison.models import Scored
from pictell.comparison.ranking import ranking_headline, ranking_of
from pictell.data.word_classes import english_class
from pictell.metrics.base import mean_metric


def words(count):
    return ["a"] * count


def test_pictures_are_grouped_by_the_mean_length_of_their_references():
    references = [[words(n), words(n + 2)] for n in range(3, 33)]  # means 4 to 33
    groups = length_groups(references)
    assert [(g.name, g.low, g.high, len(g.positions)) for g in groups] == [
        ("short", 4.0, 13.0, 10),
        ("middling", 14.0, 23.0, 10),
        ("long", 24.0, 33.0, 10),
    ]
    assert sorted(p for g in groups for p in g.positions) == list(range(30))


def test_equal_lengths_stay_together_and_small_groups_are_left_out():
    assert [(g.name, len(g.positions)) for g in length_groups([[words(5)]] * 40)] == [("short", 40)]
    assert length_groups([[words(n)] for n in range(1, 10)]) == []


def test_f1_of_a_class_by_hand():
    captions = [["a", "dog", "and", "a", "cat", "run"], ["a", "red", "horse"]]
    references = [
        [["a", "dog", "runs"], ["the", "dog"], ["a", "dog", "with", "a", "bone"]],
        [["a", "horse"], ["a", "brown", "horse", "on", "grass"]],
    ]
    things = class_metric("thing", captions, references, english_class)
    # Said: dog, cat; horse. Right: dog; horse. Asked for by half of the references: dog; horse and
    # grass (one of two is half).
    assert things.statistics.tolist() == [[1, 2, 1, 1], [1, 1, 1, 2]]
    precision, recall = 2 / 3, 2 / 3
    assert things.corpus == pytest.approx(2 * precision * recall / (precision + recall))
    described = class_metric("description", captions, references, english_class)
    assert described.statistics.tolist() == [[0, 0, 0, 0], [0, 1, 0, 1]]  # red for brown
    assert described.corpus == 0


def test_words_said_twice_count_twice_as_said_and_once_as_found():
    metric = class_metric("thing", [["dog", "dog", "cat"]], [[["dog"]]], english_class)
    assert metric.statistics.tolist() == [[2, 3, 1, 1]]


def test_differences_are_second_minus_first():
    low, high = mean_metric("m", np.full(12, 0.2)), mean_metric("m", np.full(12, 0.5))
    first = Breakdown({"short": low}, {"thing": high})
    second = Breakdown({"short": high}, {"thing": low})
    found = breakdown_difference(first, second, resamples=100, seed=0)
    assert found["length"]["short"]["difference"] == pytest.approx(0.3)
    assert found["word_class"]["thing"]["difference"] == pytest.approx(-0.3)
    assert found["length"]["short"]["low"] == pytest.approx(0.3)


# -- rankings and galleries -----------------------------------------------------------------------


def scored(*values):
    """A model with these CIDEr-D, one a picture."""
    metric = mean_metric("CIDEr-D", np.array(values, float))
    return Scored(
        results={1: {}},
        metrics={1: {"CIDEr-D": metric}},
        by_unit={},
        forced={},
        image_ids=[],
        predictions=[],
        language="en",
    )


NAMES = [{"name": name} for name in "abcd"]


def test_ranking_is_by_score_and_settled_by_the_interval():
    noisy = np.random.default_rng(0).normal(1.0, 0.5, size=50)
    models = [scored(*(noisy - 0.5)), scored(*noisy), scored(*(noisy[::-1] - 0.001))]
    ranking = ranking_of(models, resamples=200, seed=0)
    assert [row["model"] for row in ranking] == [1, 2, 0]
    assert ranking[0]["behind"] is ranking[0]["settled"] is None
    assert (ranking[1]["settled"], ranking[2]["settled"]) == (False, True)
    assert ranking[2]["behind"]["difference"] == pytest.approx(0.5)
    assert ranking[2]["behind"]["low"] == pytest.approx(0.5)


def ranked(*settled):
    rows = [{"model": 0, "score": 0.9, "settled": None}]
    return rows + [{"model": n, "score": 0.5, "settled": s} for n, s in enumerate(settled, start=1)]


@pytest.mark.parametrize(
    ("settled", "tail"),
    [
        ((True, True, True), "All others are behind, and the numbers settle it."),
        ((False, False, False), "The numbers do not settle that any other is behind."),
        ((False, True, True), "do not settle that b is behind; for all others they do."),
        ((False, False, True), "do not settle that b and c are behind; for all others they do."),
    ],
)
def test_headline_of_many(settled, tail):
    headline = ranking_headline(ranked(*settled), NAMES)
    assert headline.startswith("a has the highest CIDEr-D, 0.9000.")
    assert headline.endswith(tail)


def test_best_and_worst_are_by_the_mean_over_the_models():
    models = [scored(1, 0, 3, 2, 0), scored(1, 0, 3, 4, 4)]  # means 1, 0, 3, 3, 2
    assert best_and_worst(models, count=2) == ([2, 3], [1, 0])
    best, worst = best_and_worst(models, count=10)
    assert not set(best) & set(worst) and len(best) == len(worst) == 2


def test_most_spread_leaves_out_pictures_without_any():
    models = [scored(1, 0, 5), scored(1, 2, 4), scored(1, 1, 0)]
    assert most_spread(models, count=3) == [2, 1]
