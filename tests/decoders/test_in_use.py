"""Each decoder through the commands: measured, compared, reported, captioned with, served."""

import numpy as np
import pytest
from PIL import Image
from shapes import tiny_values

from pictell.cli import main
from pictell.config import Config
from pictell.decoders.base import DECODERS, decoder_class
from pictell.files import read_json
from pictell.training.checkpoint import RunFolder
from pictell.training.loop import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory, shapes_dataset, encoder_weights, feature_folder):
    """A run of each decoder; not to be written to but by `evaluate`."""
    folder = tmp_path_factory.mktemp("runs")
    for name in DECODERS:
        values = tiny_values(shapes_dataset, encoder_weights, feature_folder)
        values["decoder"]["name"] = name
        values["train"]["epochs"] = 10
        train(Config.from_dict(values), folder / name)
    return folder


@pytest.fixture
def picture(shapes_dataset):
    return shapes_dataset / "pictures" / "test_green_circle.png"


ATTENDING = sorted(name for name in DECODERS if decoder_class(name).attends)


@pytest.mark.parametrize("name", ATTENDING)
def test_attention_is_measured_and_drawn(runs, picture, tmp_path, name):
    how = ["--beam", "1", "--deletion_pictures", "2"]
    assert main(["evaluate", str(runs / name), "--split", "train", "--attention", *how]) == 0
    scores = read_json(runs / name / "evaluation" / "train-beam1" / "scores.json")
    measured = scores["attention"]
    assert 0 < measured["entropy"] <= 1 and measured["grid"] == [3, 3]
    gates = {entry["gate"] for entry in measured["by_class"].values()}
    if name in ("attention", "adaptive"):
        assert all(0 < gate < 1 for gate in gates)
    else:
        assert gates == {None}
    assert scores["teacher_forced"]["regularisation"] > 0
    copy, there = tmp_path / "photo.png", ["--attention_folder", str(tmp_path)]
    Image.open(picture).save(copy)
    assert main(["caption", str(runs / name), str(copy), "--attention", *there]) == 0
    assert np.asarray(Image.open(tmp_path / "photo.attention.png")).ndim == 3


def test_all_are_compared_and_reported_side_by_side(runs, tmp_path):
    folders = [str(runs / name) for name in DECODERS]
    how = ["--split", "train", "--beam", "1", "2", "--resamples", "100"]
    assert main(["compare", *folders, "--out", str(tmp_path), *how]) == 0
    comparison = read_json(tmp_path / "comparison.json")
    assert [m["decoder"]["name"] for m in comparison["models"]] == list(DECODERS)
    # Options that only one of two decoders reads are no difference; all read the same values.
    assert [d["option"] for d in comparison["config_differences"]] == ["decoder.name"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in DECODERS)


def test_all_are_served(runs, picture):
    from pictell.serve.models import Models

    models = Models.load([runs / name for name in DECODERS])
    assert models.names == list(DECODERS)
    assert {name for name, told in models.descriptions.items() if told["attention"]} == set(
        ATTENDING
    )
    for name in DECODERS:
        captioner = models.captioners[name]
        assert captioner.caption(picture)[0].words
        assert captioner.encoder is models.captioners["rnn"].encoder


def test_weights_of_another_decoder_are_refused(runs, tmp_path):
    from pictell.errors import InputError

    run = RunFolder(tmp_path / "mixed")
    run.path.mkdir()
    for file in ("config.yaml", "vocab.json", "run.json"):
        (run.path / file).write_bytes((runs / "topdown" / file).read_bytes())
    run.model_file.write_bytes((runs / "adaptive" / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match=r"does not fit config\.yaml"):
        run.load_decoder()
