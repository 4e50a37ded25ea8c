"""Attention against boxes, on maps of a few cells worked out by hand."""

import numpy as np
import pytest

from pictell.attention.boxes import (
    Look,
    box_measures,
    inside_centres,
    inside_shares,
    interval_of_mean,
    looks_at_things,
)

SEEN = (0.0, 0.0, 40.0, 20.0)  # with a grid of (2, 4), cells of 10 x 10 pixels
GRID = (2, 4)


def test_shares_of_cells_inside_a_box():
    shares = inside_shares([(5, 0, 20, 15)], SEEN, GRID)
    assert shares == pytest.approx(np.array([[0.5, 1, 0, 0], [0.25, 0.5, 0, 0]]))


def test_boxes_that_overlap_count_once():
    shares = inside_shares([(0, 0, 10, 10), (5, 0, 15, 10)], SEEN, GRID)
    assert shares == pytest.approx(np.array([[1, 0.5, 0, 0], [0, 0, 0, 0]]))


def test_only_what_the_encoder_saw_counts():
    # The central square of a wide picture: the box begins left of it.
    shares = inside_shares([(0, 0, 15, 20)], (10.0, 0.0, 30.0, 20.0), (2, 2))
    assert shares == pytest.approx(np.array([[0.5, 0], [0.5, 0]]))
    assert inside_shares([(0, 0, 5, 5)], (10.0, 0.0, 30.0, 20.0), (2, 2)).sum() == 0


def test_shares_are_areas_on_random_boxes():
    generator = np.random.default_rng(0)
    for _ in range(20):
        left, top = generator.uniform(0, 20), generator.uniform(0, 10)
        right, bottom = left + generator.uniform(1, 20), top + generator.uniform(1, 10)
        shares = inside_shares([(left, top, right, bottom)], SEEN, (3, 5))
        assert shares.mean() == pytest.approx((right - left) * (bottom - top) / 800)
        assert shares.min() >= 0 and shares.max() <= 1 + 1e-12


def test_centres_decide_the_pointing_game():
    assert inside_centres([(5, 0, 20, 15)], SEEN, GRID).tolist() == [
        [True, True, False, False],  # a centre on the left edge is inside
        [False, False, False, False],  # y = 15 is the bottom edge, which is outside
    ]


def test_a_word_looks_at_everything_that_it_names():
    objects = [
        {"box": [0, 0, 10, 10], "words": ["dog", "dogs"]},
        {"box": [30, 10, 40, 20], "words": ["dog", "dogs"]},
        {"box": [10, 0, 20, 10], "words": ["cat", "cats"]},
    ]
    maps = np.arange(3 * 8, dtype=float).reshape(3, *GRID)
    (look,) = looks_at_things(["two", "dogs", "run"], maps, objects, SEEN)
    assert look.word == "dogs"
    assert look.inside.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    assert np.array_equal(look.attention, maps[1])
    assert np.array_equal(look.neighbours[-1], maps[0])
    assert np.array_equal(look.neighbours[1], maps[2])
    (first,) = looks_at_things(["dog"], maps[:1], objects, SEEN)
    assert first.neighbours == {}


def look(inside, attention, neighbours=None):
    inside, attention = np.array([inside], float), np.array([attention], float)
    return Look("dog", inside, inside > 0.5, attention, neighbours or {})


def test_measures_by_hand():
    """Two pictures, three words, maps of 1 x 4 cells."""
    pictures = [
        [
            look([1, 0, 0, 0], [0.7, 0.1, 0.1, 0.1]),  # inside 0.7, hit
            look([0, 1, 1, 0], [0.4, 0.3, 0.2, 0.1]),  # inside 0.5, miss
        ],
        [],  # names nothing: does not count
        [look([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4])],  # inside 0.4, hit
    ]
    measures = box_measures(pictures, resamples=200, seed=0)
    assert (measures["words"], measures["pictures"]) == (3, 2)
    assert measures["share"]["score"] == pytest.approx((0.7 + 0.5 + 0.4) / 3)
    assert measures["uniform_share"]["score"] == pytest.approx((0.25 + 0.5 + 0.25) / 3)
    # The first picture's words get the other's map: 0.1 and 0.2 + 0.3; the last one gets the mean
    # of the first two: 0.1.
    assert measures["shuffled_share"]["score"] == pytest.approx((0.1 + 0.5 + 0.1) / 3)
    assert measures["hits"]["score"] == pytest.approx(2 / 3)
    assert measures["uniform_hits"]["score"] == pytest.approx((0.25 + 0.5 + 0.25) / 3)
    # The other's peak is the last cell: no hits; both peaks of the first picture: the first cell.
    assert measures["shuffled_hits"]["score"] == 0
    assert measures["share_over_uniform"]["score"] == pytest.approx((1.6 - 1.0) / 3)
    assert measures["hits_over_shuffled"]["score"] == pytest.approx(2 / 3)
    for name in ("share", "hits", "share_over_uniform"):
        assert measures[name]["low"] <= measures[name]["score"] <= measures[name]["high"]


def test_uniform_maps_measure_as_uniform():
    even = [0.25] * 4
    pictures = [[look([1, 0, 0, 0], even)], [look([0, 1, 1, 0], even)]]
    measures = box_measures(pictures, resamples=100, seed=0)
    assert measures["share"] == measures["uniform_share"] == measures["shuffled_share"]
    assert measures["share_over_uniform"] == {"score": 0, "low": 0, "high": 0}


def test_maps_that_ignore_the_picture_are_no_better_than_shuffled():
    same = [0.9, 0.1, 0.0, 0.0]
    pictures = [[look([1, 0, 0, 0], same)] for _ in range(4)]
    measures = box_measures(pictures, resamples=100, seed=0)
    assert measures["share"]["score"] == pytest.approx(0.9)
    assert measures["share_over_uniform"]["score"] == pytest.approx(0.65)
    assert measures["share_over_shuffled"]["score"] == pytest.approx(0.0)
    assert measures["hits_over_shuffled"]["score"] == pytest.approx(0.0)


def test_maps_of_the_words_beside():
    before, after = np.array([[1.0, 0, 0, 0]]), np.array([[0, 0, 0.2, 0.8]])
    one = look([1, 0, 0, 0], [0.5, 0.5, 0, 0], {-1: before, 1: after})
    other = look([0, 0, 1, 1], [0.5, 0.5, 0, 0], {1: after})
    neighbours = box_measures([[one], [other]], resamples=100, seed=0)["neighbours"]
    assert neighbours["-1"] == {"share": 1.0, "hits": 1.0}
    assert neighbours["1"] == {"share": pytest.approx(0.5), "hits": 0.5}


def test_nothing_is_measured_without_boxes_and_shuffling_needs_two_pictures():
    assert box_measures([[], []], resamples=100, seed=0) is None
    alone = box_measures([[look([1, 0, 0, 0], [1, 0, 0, 0])]], resamples=100, seed=0)
    assert alone["share"]["score"] == 1
    assert alone["shuffled_share"] is alone["hits_over_shuffled"] is None


def test_means_weigh_words_not_pictures():
    entry = interval_of_mean("m", np.array([3.0, 0.0]), np.array([3.0, 1.0]), resamples=500, seed=0)
    assert entry["score"] == 0.75
    assert (entry["low"], entry["high"]) == (0.0, 1.0)
