"""What attention maps are like, on maps of four cells."""

import numpy as np
import pytest

from pictell.attention.maps import change, map_summary, map_warnings, relative_entropy

EVEN = np.full((2, 2), 0.25)


def at(cell, share=1.0):
    """A map with a share on one cell and the rest spread over the others."""
    flat = np.full(4, (1 - share) / 3)
    flat[cell] = share
    return flat.reshape(2, 2)


def test_entropy_of_even_half_and_single():
    half = np.array([[0.5, 0.5], [0, 0]])
    values = relative_entropy(np.stack([EVEN, half, at(2)]))
    assert values == pytest.approx([1.0, 0.5, 0.0])


def test_change_is_the_share_that_lies_elsewhere():
    assert change(at(0), at(1)) == pytest.approx(1.0)
    assert change(EVEN, at(1)) == pytest.approx(0.75)
    assert change(EVEN, EVEN) == 0


def test_summary_by_hand():
    moving = np.stack([at(0), at(1)])
    still = np.stack([at(0), at(0), at(0)])
    summary = map_summary([moving, still])
    assert summary["entropy"] == pytest.approx(0.0)
    # Against the mean of its caption each of the two words differs by half, the three by nothing.
    assert summary["change_over_words"] == pytest.approx((0.5 + 0.5 + 0 + 0 + 0) / 5)
    # First words are the same; of the second ones each differs from their mean by half; the third
    # word stands alone.
    assert summary["change_over_pictures"] == pytest.approx((0 + 0 + 0.5 + 0.5) / 4)
    assert map_warnings(summary) == []


def test_what_cannot_be_told_is_null():
    summary = map_summary([at(0)[None]])
    assert (summary["change_over_words"], summary["change_over_pictures"]) == (None, None)
    assert map_warnings(summary) == []


def test_even_maps_are_warned_of_once():
    (warning,) = map_warnings(map_summary([np.stack([EVEN, EVEN])] * 3))
    assert "all but even" in warning and "100.0%" in warning


def test_frozen_maps_are_warned_of():
    frozen = [np.stack([at(cell)] * 3) for cell in (0, 1, 2)]
    (warning,) = map_warnings(map_summary(frozen))
    assert "hardly moves from word to word" in warning


def test_maps_that_are_the_same_for_all_pictures_are_warned_of():
    (warning,) = map_warnings(map_summary([np.stack([at(0), at(1), at(2)])] * 3))
    assert "nearly the same for all pictures" in warning


def test_maps_that_sum_to_even_attention_are_no_reason_to_warn():
    """The regulariser asks for this: every caption's mean map is even, and yet they all differ."""
    captions = [np.stack([at((cell + turn) % 4) for cell in range(4)]) for turn in range(4)]
    assert map_warnings(map_summary(captions)) == []
