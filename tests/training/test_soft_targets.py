"""Soft targets: what teachers say is what they would predict, and a student learns it."""

import json

import numpy as np
import pytest
import torch
from test_loop import assert_same_runs, epochs_of, weights_of

from pictell.config import Config
from pictell.data.batches import load_batches, picture_batches
from pictell.decoders.base import pack
from pictell.ensemble import compose
from pictell.errors import InputError
from pictell.training import soft_targets
from pictell.training.checkpoint import RunFolder
from pictell.training.loop import train
from pictell.training.soft_targets import SoftTargets, soft_cross_entropy_sum
from pictell.training.task import build_task

CPU = torch.device("cpu")


@pytest.fixture
def taught(tiny_config, trained_runs):
    """Make a config of a training with teachers."""

    def make(*teachers: str, **options) -> Config:
        names = ", ".join(str(trained_runs / name) for name in teachers)
        return tiny_config(train={"teachers": names, **options})

    return make


def asked(config: Config, file) -> tuple[SoftTargets, object]:
    task = build_task(config)
    split = task.split("train")
    return SoftTargets.of_teachers(config, task, split, file, CPU), split


@pytest.mark.parametrize("teachers", [("attention",), ("rnn", "attention")])
def test_they_are_the_teachers_mean_probabilities(tmp_path, taught, trained_runs, teachers):
    soft, split = asked(taught(*teachers), tmp_path / "soft.npz")
    _, decoder = compose([RunFolder.open(trained_runs / name) for name in teachers])
    decoder.eval()
    batches = picture_batches(split.captions, np.arange(len(split.examples))[::-1], 7)
    for batch in load_batches(split.captions, split.pictures, batches, workers=0):
        words, probabilities = soft.of(batch.captions, batch.lengths)
        features = batch.pictures.float().flatten(1)[:, None]  # as an ensemble's encoder packs them
        with torch.inference_mode():
            output = decoder.teacher_forced(features, batch.inputs, batch.lengths, batch.owners)
        expected = output.logits.softmax(dim=1)
        torch.testing.assert_close(expected.gather(1, words), probabilities, rtol=2e-3, atol=1e-5)
        assert torch.equal(words[:, 0], expected.argmax(dim=1))
        assert len(words) == len(pack(batch.targets, batch.lengths))


def test_the_sum_is_the_cross_entropy_of_whole_distributions():
    torch.manual_seed(0)
    logits, teacher = torch.randn(6, 50).double(), (3 * torch.randn(6, 50)).double().softmax(dim=1)
    whole = -(teacher * logits.log_softmax(dim=1)).sum()
    all_words = teacher.topk(50, dim=1)
    ours = soft_cross_entropy_sum(logits, all_words.indices, all_words.values)
    assert ours.item() == pytest.approx(whole.item(), rel=1e-5)
    few = teacher.topk(10, dim=1)
    spread = torch.full_like(teacher, 0) + (1 - few.values.sum(dim=1, keepdim=True)) / 50
    spread.scatter_add_(1, few.indices, few.values)
    expected = -(spread * logits.log_softmax(dim=1)).sum()
    ours = soft_cross_entropy_sum(logits, few.indices, few.values)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_teacher_alone_pulls_the_student_to_it(tmp_path, taught, trained_runs):
    """With all weight on the teacher, the student comes to predict as it does."""
    config = taught("rnn", teacher_weight=1.0, epochs=30, patience=0)
    soft, split = asked(config, tmp_path / "soft.npz")
    student = train(config, tmp_path / "student").load_decoder().eval()
    batches = picture_batches(split.captions, np.arange(len(split.examples)), 100)
    (batch,) = load_batches(split.captions, split.pictures, batches, workers=0)
    with torch.inference_mode():
        output = student.teacher_forced(
            batch.pictures.float(), batch.inputs, batch.lengths, batch.owners
        )
    words, _ = soft.of(batch.captions, batch.lengths)
    agree = (output.logits.argmax(dim=1) == words[:, 0]).float().mean()
    assert agree > 0.9


def test_the_loss_is_the_weighted_sum_and_cross_entropy_stays_apart(tmp_path, taught, tiny_config):
    plain = train(tiny_config(train={"epochs": 1, "alpha_c": 0}), tmp_path / "plain")
    config = taught("attention", epochs=1, alpha_c=0, teacher_weight=1e-6)
    slightly = train(config, tmp_path / "slightly")
    (before,), (after,) = epochs_of(plain), epochs_of(slightly)
    assert after["train"]["cross_entropy"] == pytest.approx(before["train"]["cross_entropy"])
    assert after["train"]["loss"] == pytest.approx(before["train"]["loss"], abs=1e-4)
    much = train(taught("attention", epochs=1, alpha_c=0), tmp_path / "much")
    (entry,) = epochs_of(much)
    assert entry["train"]["loss"] != pytest.approx(entry["train"]["cross_entropy"], abs=1e-2)
    assert json.loads(much.info_file.read_text())["teachers"]["model_sha256"]


def test_teachers_are_asked_once_and_a_resumed_run_finds_their_answers(
    tmp_path, taught, monkeypatch
):
    config = taught("rnn", "attention", epochs=2)
    whole = train(config, tmp_path / "whole")
    assert not whole.soft_targets_file.exists()  # it is finished

    file = tmp_path / "soft.npz"
    first, _ = asked(config, file)
    monkeypatch.setattr(SoftTargets, "_asked", lambda *_: pytest.fail("asked again"))
    again, _ = asked(config, file)
    for name, value in vars(first).items():
        np.testing.assert_array_equal(value, getattr(again, name))
    shorter = Config.from_dict(config.to_dict() | {"data": {**vars(config.data), "max_length": 2}})
    with pytest.raises(pytest.fail.Exception, match="asked again"):
        asked(shorter, file)
    other = taught("rnn", epochs=2)
    with pytest.raises(pytest.fail.Exception, match="asked again"):
        asked(other, file)


def test_asking_draws_no_random_numbers(tmp_path, taught):
    config = taught("rnn", epochs=1)
    first = train(config, tmp_path / "first")
    second = RunFolder(tmp_path / "second")
    asked(config, second.soft_targets_file)
    assert_same_runs(first, train(config, second.path, overwrite=True))
    assert weights_of(first)


def test_with_label_smoothing(tmp_path, taught):
    run = train(taught("rnn", epochs=1, label_smoothing=0.1), tmp_path / "run")
    assert epochs_of(run)[0]["train"]["loss"] > 0


def test_a_teacher_with_other_words(tmp_path, taught, tiny_config):
    values = taught("rnn").to_dict()
    values["data"]["min_count"] = 10
    with pytest.raises(InputError, match=r"train\.teachers: .*rnn knows .* data\.min_count"):
        train(Config.from_dict(values), tmp_path / "run")


def test_a_teacher_that_is_not_there(tmp_path, tiny_config):
    with pytest.raises(InputError, match="nowhere: no such run folder"):
        train(tiny_config(train={"teachers": "nowhere"}), tmp_path / "run")


@pytest.mark.parametrize("names", [",", "runs/a,", ",runs/a"])
def test_a_comma_too_many(tiny_config, names):
    with pytest.raises(InputError, match=r"train\.teachers is .* run folders with a comma between"):
        tiny_config(train={"teachers": names})


def test_of_each_distribution_few_words_are_kept(tmp_path, taught, monkeypatch):
    monkeypatch.setattr(soft_targets, "KEPT", 3)
    soft, split = asked(taught("rnn"), tmp_path / "soft.npz")
    assert soft.words.shape == (int(split.captions.lengths.sum()), 3)
    assert bool((np.diff(soft.probabilities.astype(np.float32), axis=1) <= 0).all())
