import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictell.config import TrainConfig
from pictell.data.images import ImageTransform
from pictell.data.records import Example
from pictell.data.views import (
    PLAIN,
    View,
    crop_box,
    says_a_side,
    training_views,
    view_counts,
    views_of_epoch,
)
from pictell.errors import InputError


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


# Which views there are, and who may see them.


def test_mirrored_views_come_last():
    assert training_views(TrainConfig()) == (PLAIN,)
    assert training_views(TrainConfig(flip=True)) == (PLAIN, View(mirrored=True))
    assert training_views(TrainConfig(crops=2)) == (PLAIN, View(1), View(2))
    assert training_views(TrainConfig(crops=1, flip=True)) == (
        PLAIN,
        View(1),
        View(0, True),
        View(1, True),
    )


def test_names_in_a_store():
    views = training_views(TrainConfig(crops=1, flip=True))
    names = [view.name("ab") for view in views]
    assert names == ["ab", "ab-crop1", "ab-mirrored", "ab-crop1-mirrored"]


def test_captions_that_say_a_side_may_see_what_is_not_mirrored():
    examples = [
        Example(image_id="a", path=Path("a"), captions=("a dog", "a dog to the left")),
        Example(image_id="b", path=Path("b"), captions=("the right hand",)),
    ]
    for options, counts in [
        ({"flip": True}, [2, 1, 1]),
        ({"flip": True, "crops": 3}, [8, 4, 4]),
        ({"crops": 3}, [4, 4, 4]),
    ]:
        assert view_counts(examples, training_views(TrainConfig(**options))).tolist() == counts


# Which of them is drawn.


def test_flips_without_crops_are_drawn_as_before_there_were_crops():
    images = np.arange(4000) // 4
    free = images % 3 > 0
    for seed, epoch in ((0, 0), (3, 1), (3, 2)):
        lots = np.random.default_rng([seed, epoch, 1]).random(4000)
        before = images + (free & (lots < 0.5)) * 1000
        now = views_of_epoch(images, np.where(free, 2, 1), seed=seed, epoch=epoch)
        assert now.dtype == before.dtype
        assert np.array_equal(now, before)


def test_each_view_that_a_caption_may_see_is_drawn_alike():
    images = np.arange(8000) // 4
    counts = np.where(images % 2 == 0, 6, 3)
    positions = views_of_epoch(images, counts, seed=3, epoch=1)
    views = positions // 2000
    assert np.array_equal(positions % 2000, images)
    for count in (3, 6):
        shares = np.bincount(views[counts == count]) / 4000
        assert shares == pytest.approx(np.full(count, 1 / count), abs=0.03)
    assert np.array_equal(positions, views_of_epoch(images, counts, seed=3, epoch=1))
    for seed, epoch in ((3, 2), (4, 1)):
        assert not np.array_equal(positions, views_of_epoch(images, counts, seed=seed, epoch=epoch))


# Crops.


def hashes(count: int) -> list[str]:
    return [hashlib.sha256(bytes([i % 256, i // 256])).hexdigest() for i in range(count)]


def test_crops_lie_in_the_picture_and_keep_most_of_it():
    boxes = np.array([crop_box(content, k) for content in hashes(2000) for k in (1, 2)])
    left, top, right, bottom = boxes.T
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    width, height = right - left, bottom - top
    area, ratio = width * height, np.log(width / height)
    assert area.min() >= 0.6 - 1e-9
    assert np.quantile(area, [0.25, 0.5, 0.75]) == pytest.approx([0.7, 0.8, 0.9], abs=0.01)
    assert np.abs(ratio).max() <= np.log(4 / 3) + 1e-9
    assert ratio.mean() == pytest.approx(0, abs=0.01)
    for start, size in ((left, width), (top, height)):
        free = size < 0.95
        places = start[free] / (1 - size[free])
        assert np.quantile(places, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.03)


def test_a_crop_is_always_the_same_one():
    # A store that was written with other boxes would be served as if it held these.
    expected = (0.030391307990487944, 0.04099960336387593, 0.9394233735168217, 0.9106270687545128)
    assert crop_box("0" * 64, 1) == pytest.approx(expected, rel=1e-12)
    boxes = {crop_box(content, k) for content in hashes(50) for k in (1, 2, 3)}
    assert len(boxes) == 150


@pytest.fixture
def picture(tmp_path) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


def test_views_show_what_they_say(picture):
    transform = ImageTransform(size=32)
    whole = transform.read(picture)
    box = crop_box(hashlib.sha256(picture.read_bytes()).hexdigest(), 2)
    crop = transform.read(picture, part=box)
    assert not np.array_equal(crop, whole)
    assert np.array_equal(PLAIN.read(picture, transform), whole)
    assert np.array_equal(View(2).read(picture, transform), crop)
    assert np.array_equal(View(0, True).read(picture, transform), whole[:, :, ::-1])
    assert np.array_equal(View(2, True).read(picture, transform), crop[:, :, ::-1])


def test_a_copy_elsewhere_has_the_same_crops(picture, tmp_path):
    copy = tmp_path / "copy.png"
    copy.write_bytes(picture.read_bytes())
    transform = ImageTransform(size=32)
    assert np.array_equal(View(1).read(picture, transform), View(1).read(copy, transform))


def test_a_crop_of_no_picture_names_the_file(tmp_path):
    transform = ImageTransform(size=32)
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(InputError, match=r"a\.png: not a picture"):
        View(1).read(tmp_path / "a.png", transform)
    with pytest.raises(InputError, match=r"none\.png: cannot be read \(No such file"):
        View(1).read(tmp_path / "none.png", transform)
