from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from pictell.data.batches import (
    Captions,
    DecodedPixels,
    StoredFeatures,
    captions_of_epoch,
    epoch_batches,
    epoch_picture_batches,
    load_batches,
    picture_batches,
)
from pictell.data.images import ImageTransform
from pictell.data.records import Example
from pictell.data.text import END, PAD, START, UNKNOWN, Vocabulary, get_tokenizer
from pictell.data.views import PLAIN, View
from pictell.errors import InputError


@pytest.fixture
def captions(tmp_path) -> Captions:
    texts = [["a dog runs", "dog"], ["a cat sleeps on a red mat"], ["a dog and a cat ."]]
    examples = [
        Example(image_id=str(i), path=tmp_path / f"{i}.png", captions=tuple(t))
        for i, t in enumerate(texts)
    ]
    vocabulary = Vocabulary(("<pad>", "<start>", "<end>", "<unk>", "a", "dog", "cat", "red"))
    return Captions.encode(examples, get_tokenizer("en"), vocabulary, max_length=5)


@pytest.fixture
def features() -> StoredFeatures:
    array = np.arange(4 * 2 * 3, dtype=np.float16).reshape(4, 2, 3)
    return StoredFeatures(array, rows=np.array([3, 0, 2]))  # picture -> row


def flickr8k_like_lengths(count: int = 30_000) -> np.ndarray:
    """Words of a caption, `<end>` included: mean 11.8, spread 3.8, some very long."""
    lengths = np.random.default_rng(0).gamma(8.0, 1.35, count).round() + 1
    return lengths.clip(2, 38).astype(np.int64)


def five_captions_a_picture(lengths: np.ndarray) -> Captions:
    return Captions([], np.repeat(np.arange(len(lengths) // 5), 5), lengths)


def test_captions_are_numbered_cut_and_framed(captions):
    a, dog, cat = 4, 5, 6
    assert [list(words) for words in captions.words] == [
        [START, a, dog, UNKNOWN, END],
        [START, dog, END],
        [START, a, cat, UNKNOWN, UNKNOWN, a, END],  # cut to five words
        [START, a, dog, UNKNOWN, a, cat, END],
    ]
    assert captions.images.tolist() == [0, 0, 1, 2]
    assert captions.lengths.tolist() == [4, 2, 6, 6]  # words to predict, <end> included


def test_a_batch_reads_start_and_predicts_end(captions, features):
    (batch,) = load_batches(captions, features, [np.array([2, 0, 1])], workers=0)
    a, dog, cat = 4, 5, 6
    assert batch.inputs.tolist() == [
        [START, a, cat, UNKNOWN, UNKNOWN, a],
        [START, a, dog, UNKNOWN, PAD, PAD],
        [START, dog, PAD, PAD, PAD, PAD],
    ]
    assert batch.targets.tolist() == [
        [a, cat, UNKNOWN, UNKNOWN, a, END],
        [a, dog, UNKNOWN, END, PAD, PAD],
        [dog, END, PAD, PAD, PAD, PAD],
    ]
    assert batch.lengths.tolist() == [6, 4, 2]
    assert batch.images == [1, 0, 0]


def test_a_caption_comes_with_its_own_picture(captions, features):
    (batch,) = load_batches(captions, features, [np.array([3, 2, 0, 1])], workers=0)
    rows = batch.pictures[:, 0, 0] / 6  # which row of the array each is
    assert batch.owners is not None
    assert rows[batch.owners].tolist() == [2, 0, 3, 3]
    assert rows.tolist() == [2, 0, 3]  # each picture once
    assert batch.pictures.dtype == torch.float16
    (batch,) = load_batches(captions, features, [np.array([3, 2, 0])], workers=0)
    assert batch.owners is None  # each caption has a picture of its own
    assert (batch.pictures[:, 0, 0] / 6).tolist() == [2, 0, 3]


def test_every_caption_comes_once_an_epoch():
    lengths = flickr8k_like_lengths(1003)
    for epoch in range(2):
        batches = epoch_batches(lengths, 8, seed=3, epoch=epoch)
        assert sorted(np.concatenate(batches)) == list(range(1003))
        assert max(map(len, batches)) == 8
        assert sum(len(b) < 8 for b in batches) == 1


def test_batches_are_a_function_of_seed_and_epoch_alone():
    lengths = flickr8k_like_lengths(500)

    def order(seed, epoch):
        return np.concatenate(epoch_batches(lengths, 8, seed=seed, epoch=epoch)).tolist()

    np.random.seed(1)
    first = order(0, 0)
    np.random.seed(2)
    assert order(0, 0) == first
    assert order(0, 1) != first
    assert order(1, 0) != first
    assert order(0, 1) != order(1, 0)


def test_captions_of_a_batch_fall_in_length():
    lengths = flickr8k_like_lengths(2000)
    captions = five_captions_a_picture(lengths)
    for batches in (
        epoch_batches(lengths, 32, seed=0, epoch=0),
        epoch_picture_batches(captions, 32, seed=0, epoch=0),
        picture_batches(captions, np.arange(400), 32),
    ):
        assert sorted(np.concatenate(batches)) == list(range(2000))
        assert all((np.diff(lengths[batch]) <= 0).all() for batch in batches)


def test_padding_wastes_less_than_five_per_cent_at_the_lengths_of_flickr8k():
    lengths = flickr8k_like_lengths()
    assert 11 < lengths.mean() < 13
    batches = epoch_batches(lengths, 32, seed=0, epoch=0)
    padded = sum(len(b) * lengths[b].max() for b in batches)
    assert 1 - lengths.sum() / padded < 0.05
    in_any_order = lengths[: 900 * 32].reshape(900, 32)
    naive = 32 * in_any_order.max(axis=1).sum()
    assert 1 - in_any_order.sum() / naive > 0.3  # what bucketing saves


def test_batches_come_in_no_order_of_length():
    lengths = flickr8k_like_lengths(6400)
    longest = [lengths[b].max() for b in epoch_batches(lengths, 32, seed=0, epoch=0)]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


def test_the_captions_of_a_picture_stay_together():
    captions = five_captions_a_picture(flickr8k_like_lengths(2000))
    batches = epoch_picture_batches(captions, 32, seed=0, epoch=0)
    owners = [set(captions.images[batch]) for batch in batches]
    assert sum(map(len, owners)) == 400  # no picture is in two batches
    assert all(len(batch) == 30 for batch in batches[:-1])
    again = epoch_picture_batches(captions, 32, seed=0, epoch=0)
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))
    other = epoch_picture_batches(captions, 32, seed=0, epoch=1)
    assert any((a != b).any() for a, b in zip(batches, other, strict=True))


def test_an_epoch_draws_some_captions_of_each_picture():
    images = np.array([0, 0, 0, 1, 2, 2, 2, 2])
    drawn = [captions_of_epoch(images, 2, seed=0, epoch=epoch) for epoch in range(50)]
    for positions in drawn:
        assert (np.diff(positions) > 0).all()
        assert np.bincount(images[positions]).tolist() == [2, 1, 2]  # all that there are, at most
    assert set(np.concatenate(drawn)) == set(range(8))
    assert (captions_of_epoch(images, 2, seed=0, epoch=7) == drawn[7]).all()
    assert any((a != b).any() for a, b in pairwise(drawn))
    assert captions_of_epoch(images, 9, seed=0, epoch=0).tolist() == list(range(8))


def test_a_picture_with_many_captions_is_divided():
    images = np.array([0, 1, 1, 1, 1, 1, 2])
    captions = Captions([], images, np.array([3, 9, 1, 9, 5, 2, 4]))
    batches = picture_batches(captions, np.arange(3), 2)
    assert [b.tolist() for b in batches] == [[0], [1, 2], [3, 4], [6, 5]]


def test_loading_leaves_the_random_numbers_of_training_alone(captions, features):
    """A resumed epoch opens its batches once more than an uninterrupted one."""
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(load_batches(captions, features, [np.array([0, 1])], workers=0))
    assert torch.rand(1) == expected


def test_no_batches_are_no_error(captions, features):
    assert list(load_batches(captions, features, [], workers=0)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_pixels_are_decoded_in_order(captions, tmp_path, workers):
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (40, 40), (number * 10, 0, 0)).save(paths[-1])
    pictures = DecodedPixels(paths, ImageTransform(size=32))
    batches = [np.array([2, 0]), np.array([3, 1])]
    first, second = load_batches(captions, pictures, batches, workers=workers)
    assert first.owners is None
    assert first.pictures.shape == (2, 3, 32, 32)
    assert first.pictures.dtype == torch.uint8
    assert first.pictures[:, 0, 0, 0].tolist() == [10, 0]
    assert second.pictures[:, 0, 0, 0].tolist() == [20, 0]


def test_pixels_of_each_view_have_positions_of_their_own(tmp_path):
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.png")
        Image.effect_noise((40, 40), 50 + number).convert("RGB").save(paths[-1])
    transform, views = ImageTransform(size=32), (PLAIN, View(1), View(1, mirrored=True))
    pictures = DecodedPixels(paths, transform, views)(np.array([1, 3 + 2, 6 + 0]))
    expected = [view.read(paths[i], transform) for view, i in zip(views, (1, 2, 0), strict=True)]
    assert np.array_equal(pictures, np.stack(expected))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_does_not_decode_is_one_line_from_a_worker_too(captions, tmp_path, workers):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    paths[0].write_text("no picture")
    pictures = DecodedPixels(paths, ImageTransform(size=32))
    with pytest.raises(InputError) as caught:
        list(load_batches(captions, pictures, [np.array([0, 1])], workers=workers))
    assert str(caught.value).startswith(f"{paths[0]}: not a picture in a format that is read (JPEG")
    assert "\n" not in str(caught.value)
