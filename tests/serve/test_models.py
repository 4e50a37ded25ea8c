"""Several runs at once: names, a shared encoder, captions by order."""

import numpy as np
import pytest

from pictell.captioner import Captioner
from pictell.data.images import read_image
from pictell.errors import InputError
from pictell.serve.models import Job, Models


def job(models, path, *orders) -> Job:
    pixels = [transform.read(path) for transform in models.transforms]
    return Job(pixels, read_image(path).size, orders)


def test_runs_with_one_frozen_encoder_share_it(models):
    assert len(models.encoders) == 1
    assert models.captioners["rnn"].encoder is models.captioners["attention"].encoder


def test_pictures_are_encoded_once_for_both_models(models, photos, monkeypatch):
    passes = []
    encoder = models.encoders[0]
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda p: passes.append(len(p)) or forward(p))
    orders = [models.order("rnn"), models.order("attention")]
    models.caption([job(models, path, *orders) for path in photos])
    assert passes == [len(photos)]


def test_different_orders_in_one_batch_get_their_own_captions(models, photos, trained_runs):
    orders = [
        models.order("rnn", beam=1),
        models.order("attention", beam=3),
        models.order("attention", beam=1, max_length=2, block_repeats=1),
    ]
    jobs = [
        job(models, photos[0], orders[0]),
        job(models, photos[1], orders[2], orders[0]),
        job(models, photos[2], orders[1]),
    ]
    for one, captions in zip(jobs, models.caption(jobs), strict=True):
        for order, caption in zip(one.orders, captions, strict=True):
            captioner = Captioner.load(trained_runs / order.model)
            path = photos[jobs.index(one)]
            expected = captioner.caption(
                path,
                beam=order.search.beam,
                max_length=order.search.max_length,
                block_repeats=order.search.block_repeats,
            )[0]
            assert caption.text == expected.text
            assert caption.seen_box == expected.seen_box


def test_occlusion_from_decoded_pixels_is_that_from_the_file(models, photos, trained_runs):
    captioner = Captioner.load(trained_runs / "rnn")
    plain = captioner.caption(photos[0])
    expected = captioner.occlude([photos[0]], plain)[0].occlusion
    [[found]] = models.caption_with_occlusion([job(models, photos[0], models.order("rnn"))])
    assert np.allclose(found.occlusion, expected, atol=1e-4)


def test_runs_of_one_name_are_told_apart(trained_runs, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "rnn").symlink_to(tmp_path / "copy")
    (tmp_path / "copy").mkdir()
    for file in (trained_runs / "rnn").iterdir():
        (tmp_path / "copy" / file.name).symlink_to(file)
    names = Models.load([trained_runs / "rnn", tmp_path / "copy"]).names
    assert names == ["rnn", "copy"]
    (tmp_path / "twin").mkdir()
    (tmp_path / "copy").rename(tmp_path / "twin" / "rnn")
    names = Models.load([trained_runs / "rnn", tmp_path / "twin" / "rnn"]).names
    assert names == [f"{trained_runs.name}/rnn", "twin/rnn"]


def test_one_run_twice_is_an_error(trained_runs):
    with pytest.raises(InputError, match="given twice"):
        Models.load([trained_runs / "rnn", trained_runs / "rnn"])
