from pathlib import Path

import numpy as np
import pytest

from pictell.data.mirroring import may_be_mirrored, says_a_side, views_of_epoch
from pictell.data.records import Example


@pytest.mark.parametrize(
    "caption",
    [
        "A dog on the left of a man .",
        "Right-handed boy",
        "the leftmost of three",
        "a clockwise turn",
        "左边有一只狗",
        "他的右手",
        "順時針轉",
    ],
)
def test_captions_that_say_a_side(caption):
    assert says_a_side(caption)


@pytest.mark.parametrize(
    "caption",
    ["A bright dog", "an upright bear in flight", "Two cleft rocks", "一只狗在草地上", ""],
)
def test_captions_that_say_none(caption):
    assert not says_a_side(caption)


def test_captions_in_the_order_of_the_examples():
    examples = [
        Example(image_id="a", path=Path("a"), captions=("a dog", "a dog to the left")),
        Example(image_id="b", path=Path("b"), captions=("the right hand",)),
    ]
    assert may_be_mirrored(examples).tolist() == [True, False, False]


def test_half_of_the_free_captions_see_the_mirrored_picture():
    images = np.arange(4000) // 4
    free = images % 2 == 0
    views = views_of_epoch(images, free, seed=3, epoch=1)
    mirrored = views >= 1000
    assert np.array_equal(views % 1000, images)
    assert not mirrored[~free].any()
    assert mirrored[free].mean() == pytest.approx(0.5, abs=0.04)
    assert np.array_equal(views, views_of_epoch(images, free, seed=3, epoch=1))
    for seed, epoch in ((3, 2), (4, 1)):
        assert not np.array_equal(views, views_of_epoch(images, free, seed=seed, epoch=epoch))
