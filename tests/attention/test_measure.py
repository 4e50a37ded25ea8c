"""All measures of a tiny run: gates and falls against what the model itself says."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pictell.attention.deletion import Attended, deletion_check, most_attended
from pictell.attention.gates import word_gates
from pictell.attention.measure import AttentionSettings, objects_of
from pictell.captioner import Captioner
from pictell.cli import main
from pictell.data.records import Example, read_dataset, write_dataset
from pictell.data.word_classes import english_class
from pictell.decoders.base import build_decoder
from pictell.errors import InputError
from pictell.evaluate import evaluate
from pictell.files import read_json, read_jsonl
from pictell.training.checkpoint import RunFolder
from pictell.training.loop import train


@pytest.fixture
def boxed_dataset(tmp_path, shapes_dataset):
    """The shapes with their boxes."""
    examples = []
    for example in read_dataset(shapes_dataset):
        shift = {"train": 0, "val": 6, "test": 3}[example.split]
        shape = example.image_id.rsplit("_", 1)[1]
        thing = {
            "box": [8 + shift, 12 + shift, 44 + shift, 48 + shift],
            "words": [shape, shape + "s"],
        }
        examples.append(
            Example(
                image_id=example.image_id,
                path=example.path,
                captions=example.captions,
                split=example.split,
                extra={"objects": [thing]},
            )
        )
    write_dataset(tmp_path / "boxed", examples)
    return tmp_path / "boxed"


@pytest.fixture
def run_of(tiny_config, boxed_dataset, tmp_path):
    def make(decoder: str) -> RunFolder:
        config = tiny_config(
            data={"dataset": str(boxed_dataset)},
            decoder={"name": decoder},
            train={"epochs": 15},
            search={"max_length": 8},
        )
        return train(config, tmp_path / decoder)

    return make


def test_evaluate_adds_attention_to_the_largest_beam(run_of):
    run = run_of("attention")
    settings = AttentionSettings(deletion_pictures=2, resamples=100)
    results = evaluate(run, split="train", beams=(1, 3), attention=settings)
    assert "attention" not in results[0]
    measures = results[1]["attention"]
    folder = run.path / "evaluation" / "train-beam3"
    assert read_json(folder / "scores.json") == results[1]
    words = [word for row in read_jsonl(folder / "predictions.jsonl") for word in row["words"]]
    assert (measures["pictures"], measures["words"], measures["grid"]) == (8, len(words), [3, 3])
    counts = {name: entry["words"] for name, entry in measures["by_class"].items()}
    assert counts == {
        name: [english_class(word) for word in words].count(name)
        for name in {english_class(word) for word in words}
    }
    boxes, deletion = measures["boxes"], measures["deletion"]
    assert boxes["uniform_share"]["score"] == pytest.approx(36 * 36 / 64**2)
    assert 0 < boxes["share"]["score"] < 1
    assert (deletion["pictures"], deletion["cells"], deletion["greyed_cells"]) == (2, 4, 1)


def test_what_was_measured_is_not_measured_again(run_of, monkeypatch):
    run = run_of("attention")
    settings = AttentionSettings(deletion_pictures=0, resamples=100)
    first = evaluate(run, beams=(1,), attention=settings)[0]
    assert first["attention"]["deletion"] is None
    called = []
    monkeypatch.setattr(
        "pictell.evaluate.measure_attention", lambda *a: called.append(a) or {"new": 1}
    )
    assert evaluate(run, beams=(1,), attention=settings)[0] == first
    assert evaluate(run, beams=(1,))[0] == first  # and it stays when it is not asked for
    assert not called
    other = AttentionSettings(deletion_pictures=1, resamples=100)
    assert evaluate(run, beams=(1,), attention=other)[0]["attention"] == {"new": 1}


def test_a_model_without_attention_is_an_error_before_any_work(run_of, capsys):
    run = run_of("rnn")
    assert main(["evaluate", str(run.path), "--attention", "--beam", "1"]) == 2
    assert "(rnn) has no attention to measure; leave --attention out" in capsys.readouterr().err
    assert not (run.path / "evaluation").exists()


def test_negative_deletion_pictures_are_an_error(run_of, capsys):
    assert main(["evaluate", "nowhere", "--attention", "--deletion_pictures", "-1"]) == 2
    assert "deletion_pictures is -1; give 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "objects",
    [
        [{"words": ["dog"]}],
        [{"box": [0, 0, 5], "words": ["dog"]}],
        [{"box": [5, 0, 5, 5], "words": ["dog"]}],
        [{"box": [0, 0, 5, 5], "words": "dog"}],
        ["dog"],
    ],
)
def test_boxes_that_cannot_be_read_name_their_picture(objects):
    example = Example(image_id="p7", path=Path("p"), captions=(), extra={"objects": objects})
    with pytest.raises(InputError, match=r"picture p7: extra\.objects must be"):
        objects_of(example)


# -- gates ----------------------------------------------------------------------------------------


@pytest.fixture
def decoder(tiny_config):
    torch.manual_seed(0)
    config = tiny_config(decoder={"name": "attention"}).decoder
    return build_decoder(config, vocab_size=12, feature_size=10, cells=(2, 2), pooled_grid=3).eval()


def test_the_gate_is_the_one_that_the_decoder_uses(decoder):
    """Recompute a step with the gate by hand; it must give the step's own state."""
    features = torch.randn(2, 4, 10)
    state = decoder.start(features)
    words = torch.tensor([[4], [5]])
    for _ in range(2):
        step = decoder.step(state, words)
        hidden, cell = (tensor[:, 0] for tensor in state.beams)
        context = ((step.attention[:, 0] @ decoder.pool)[:, None] @ features)[:, 0]
        assert ((step.gate > 0) & (step.gate < 1)).all()
        gated = context * step.gate[:, 0]
        recurrent = decoder.from_hidden(hidden)[:, -4 * hidden.shape[1] :]
        gates = decoder.from_word(decoder.embedding(words[:, 0])) + recurrent
        take, forget, new, give = (gates + decoder.from_context(gated)).chunk(4, dim=-1)
        cell = forget.sigmoid() * cell + take.sigmoid() * new.tanh()
        assert torch.allclose(give.sigmoid() * cell.tanh(), step.state.beams[0][:, 0], atol=1e-6)
        state = step.state


def test_a_gate_for_each_word_before_it_is_said(decoder):
    features = torch.randn(2, 4, 10)
    gates = word_gates(decoder, features, [[4, 7], [5]], device=torch.device("cpu"))
    assert [len(row) for row in gates] == [2, 1]
    with torch.no_grad():
        first = decoder.step(decoder.start(features[:1]), torch.tensor([[1]]))  # reads <start>
        second = decoder.step(first.state, torch.tensor([[4]]))
    assert gates[0] == pytest.approx([float(step.gate.mean()) for step in (first, second)])


def test_decoders_without_a_gate(tiny_config):
    shape = {"vocab_size": 12, "feature_size": 10, "cells": (2, 2), "pooled_grid": 3}
    for options in ({"name": "rnn"}, {"name": "attention", "gate": False}):
        plain = build_decoder(tiny_config(decoder=options).decoder, **shape).eval()
        features = torch.randn(1, 4, 10)
        assert word_gates(plain, features, [[4, 7]], device=torch.device("cpu")) is None


# -- deletion -------------------------------------------------------------------------------------


def test_most_attended_cells_come_from_the_regions():
    pool = np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0, 0, 1.0]])  # three regions of three cells
    generator = np.random.default_rng(0)
    attention = np.array([0.1, 0.6, 0.3])  # cells: 0.4, 0.3, 0.3
    assert most_attended(attention, pool, 1, generator).tolist() == [True, False, False]
    second = [most_attended(attention, pool, 2, generator)[1] for _ in range(40)]
    assert 0 < sum(second) < 40  # cells 1 and 2 are level: chance decides


class _CornerCaptioner:
    """Stands in for a model whose words need certain pixels: falls are known exactly."""

    def __init__(self, needs, fall):
        self.needs, self.fall = needs, fall  # pixel (row, column) of each word

        class Decoder:
            pool = torch.eye(4)

        class Transform:
            @staticmethod
            def read(path):
                return np.full((3, 8, 8), 200, np.uint8)

        class Encoder:
            grid = (2, 2)
            mean = torch.full((1, 3, 1, 1), 100.0)
            transform = Transform()

        self.decoder, self.encoder = Decoder(), Encoder()

    def word_log_probabilities(self, pixels, captions):
        return [
            [-1.0 - self.fall * (picture[0, row, column] == 100) for row, column in self.needs]
            for picture in pixels
        ]


def test_falls_by_hand():
    """Word 0 needs the first cell and attends to it; word 1 needs it too, but attends elsewhere."""
    captioner = _CornerCaptioner(needs=[(0, 0), (0, 0)], fall=2.0)
    attention = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7]])
    picture = Attended(Path("p"), ["dog", "runs"], attention, [0, 1])
    away = Attended(Path("q"), ["dog", "runs"], attention[[1, 1]], [0])
    found = deletion_check(captioner, [picture, away], english_class, resamples=100, seed=0)
    assert (found["pictures"], found["words"]) == (2, 3)
    assert (found["greyed_cells"], found["cells"]) == (1, 4)
    assert found["attended"]["score"] == pytest.approx(2.0 / 3)
    by_class = found["by_class"]
    assert by_class["thing"]["words"] == 2 and by_class["action"]["words"] == 1
    assert by_class["thing"]["attended"] == pytest.approx(1.0)
    assert by_class["action"]["attended"] == pytest.approx(0.0)
    # The first picture's controls from elsewhere are the last cell, which no word needs.
    assert by_class["action"]["elsewhere"] == pytest.approx(0.0)
    total = found["attended"]["score"] - found["random"]["score"]
    assert found["attended_over_random"]["score"] == pytest.approx(total)


def test_a_single_picture_has_no_elsewhere():
    captioner = _CornerCaptioner(needs=[(0, 0)], fall=1.0)
    picture = Attended(Path("p"), ["dog"], np.array([[0.7, 0.1, 0.1, 0.1]]), [0])
    found = deletion_check(captioner, [picture], None, resamples=100, seed=0)
    assert found["elsewhere"] is found["attended_over_elsewhere"] is found["by_class"] is None
    assert found["attended"]["score"] == pytest.approx(1.0)
    assert deletion_check(captioner, [], None, resamples=100, seed=0) is None


def test_falls_are_the_captioners_own(run_of):
    """A mask by hand against the falls of a real model."""
    run = run_of("attention")
    captioner = Captioner.load(run)
    path = read_dataset(Path(run.config.data.dataset))[0].path
    caption = captioner.caption(path)[0]
    attention = caption.attention.reshape(len(caption.words), -1)
    picture = Attended(path, caption.words, attention, [0])
    found = deletion_check(captioner, [picture], None, resamples=100, seed=0)
    cell = int((attention[0] @ captioner.decoder.pool.numpy()).argmax())
    occluded = captioner.occlude(path, [caption], grid=(2, 2))[0].occlusion
    assert found["attended"]["score"] == pytest.approx(occluded[0].flat[cell], abs=1e-4)
