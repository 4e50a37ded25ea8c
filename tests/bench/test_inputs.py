"""The benchmarks' batches: of Flickr8k where it is prepared, else made up to be like its."""

import json

import numpy as np
import pytest
import torch

from pictell.bench import inputs
from pictell.data.text import END, START, UNKNOWN


@pytest.fixture(autouse=True)
def nothing_remembered():
    inputs.captions_of.cache_clear()
    yield
    inputs.captions_of.cache_clear()


@pytest.fixture
def made_up(monkeypatch, tmp_path):
    monkeypatch.setattr(inputs, "DATASET", tmp_path / "nothing")


def test_made_up_captions_are_like_flickr8ks(made_up):
    lengths = inputs.caption_lengths()
    assert lengths.mean() == pytest.approx(11.8, abs=0.2)  # Flickr8k's: 11.78
    captions = inputs.captions_of(inputs.VOCABULARY)
    assert [len(words) - 1 for words in captions] == lengths.tolist()
    assert all(words[0] == START and words[-1] == END for words in captions)
    inner = np.concatenate([words[1:-1] for words in captions])
    assert inner.min() > UNKNOWN and inner.max() < inputs.VOCABULARY
    read, _, counts = inputs.caption_batch(32, inputs.VOCABULARY)
    assert read.shape == (32, 11) and int(counts.sum()) == 352
    assert len(read.unique()) == pytest.approx(157, abs=15)  # the mean of Flickr8k's batches


def test_a_batch_of_captions(made_up):
    read, predicted, lengths = inputs.caption_batch(8, 40)
    assert (lengths.diff() <= 0).all() and read.max() < 40
    for row, after, n in zip(read, predicted, lengths.tolist(), strict=True):
        assert row[0] == START and after[n - 1] == END
        assert torch.equal(row[1:n], after[: n - 1])
        assert not row[n:].any() and not after[n:].any()


def test_a_batch_of_pictures(made_up):
    read, _, lengths, owners = inputs.picture_batch(6, 5, 40)
    assert read.shape[0] == 30 and (lengths.diff() <= 0).all()
    assert owners.bincount().tolist() == [5] * 6
    first = int(owners[0])
    captions = inputs.captions_of(40)
    own = {
        tuple(row[:n].tolist())
        for row, n, o in zip(read, lengths, owners, strict=True)
        if o == first
    }
    together = [
        {tuple(words[:-1].tolist()) for words in captions[i : i + 5]}
        for i in range(0, len(captions), 5)
    ]
    assert own in together


def test_prepared_captions_come_first(monkeypatch, tmp_path):
    (tmp_path / "images").mkdir()
    lines = [
        {
            "image_id": str(i),
            "path": f"images/{i}.jpg",
            "split": split,
            "captions": [f"a dog sees {word}"] * 2,
        }
        for i, (split, word) in enumerate(
            [("train", "snow"), ("train", "snow"), ("train", "grass"), ("val", "rain")]
        )
    ]
    (tmp_path / "dataset.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(inputs, "DATASET", tmp_path)
    captions = inputs.captions_of(100, 7)
    assert len(captions) == 7  # six, and the first again
    a, dog, sees = captions[0][1:4]
    assert len({a, dog, sees}) == 3 and min(a, dog, sees) > UNKNOWN
    assert captions[0][4] == UNKNOWN  # four times are too few
    assert np.array_equal(captions[0], captions[6])
    inputs.captions_of.cache_clear()
    few = inputs.captions_of(5, 1)[0]  # one real word
    assert sorted(few[1:-1].tolist()) == [UNKNOWN] * 3 + [4]
