"""What the viewers of a report show, of tiny trained models."""

import numpy as np
import pytest

from pictell.captioner import Captioner
from pictell.cli import main
from pictell.compare import describe_runs
from pictell.report.looks import galleries_of, looks_of
from pictell.training.loop import train


@pytest.fixture
def runs(tiny_config, tmp_path):
    return [
        train(tiny_config(decoder={"name": name}, train={"epochs": 6}), tmp_path / name).path
        for name in ("rnn", "attention")
    ]


@pytest.fixture
def description(runs):
    return describe_runs(runs, split="train", beams=(1,), resamples=100, pictures=3)


def test_every_shown_caption_can_be_looked_into(description):
    looks = looks_of(description, occlusion=2)
    shown = {p["image_id"]: p for gallery in galleries_of(description) for p in gallery}
    assert looks.keys() == shown.keys()
    for image_id, picture in shown.items():
        assert looks[image_id].keys() == {c["model"] for c in picture["captions"]}
        for caption in picture["captions"]:
            entry = looks[image_id][caption["model"]]
            assert [word["text"] for word in entry["words"]] == caption["words"]
    plain = [looks[image_id][0]["kind"] for image_id in looks]
    assert (plain.count("occlusion"), plain.count("none")) == (2, len(shown) - 2)
    assert {looks[image_id][1]["kind"] for image_id in looks} == {"attention"}


def test_what_is_shown_is_what_the_model_thinks(description, runs):
    looks = looks_of(description, occlusion=0)
    picture = description["random_pictures"][0]
    words = picture["captions"][1]["words"]
    expected = Captioner.load(runs[1]).explain_words(picture["path"], words)
    entry = looks[picture["image_id"]][1]
    shown = [word["probability"] for word in entry["words"]]
    assert np.log(shown) == pytest.approx(expected.word_log_probabilities, abs=1e-3)


def test_a_model_that_does_not_load_leaves_the_others(description, runs, capsys):
    (runs[0] / "model.safetensors").unlink()
    looks = looks_of(description)
    assert all(entries.keys() == {1} for entries in looks.values())
    assert "no viewer for rnn" in " ".join(capsys.readouterr().err.split())


def test_pictures_that_are_gone_have_no_viewer(description):
    gone = description["random_pictures"][0]["image_id"]
    for gallery in galleries_of(description):
        for picture in gallery:
            if picture["image_id"] == gone:
                picture["path"] = "/gone/away.jpg"
    assert gone not in looks_of(description, occlusion=0)


# -- the command ----------------------------------------------------------------------------------


def test_the_command_writes_a_page(runs, tmp_path, capsys):
    out = tmp_path / "page.html"
    line = ["report", *map(str, runs), "--out", str(out), "--split", "train", "--beam", "1"]
    options = [
        "--resamples",
        "100",
        "--deletion_pictures",
        "2",
        "--occlusion",
        "1",
        "--pictures",
        "2",
    ]
    assert main([*line, *options, "--language", "zh"]) == 0
    assert capsys.readouterr().out.split() == [str(out)]
    html = out.read_text(encoding="utf-8")
    assert 'lang="zh-CN"' in html
    assert "注意力看对地方了吗" in html  # attention was measured on the way
    assert '"kind":"occlusion"' in html and '"kind":"attention"' in html


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "report.pdf"], "--out is 'report.pdf'; name an HTML file"),
        (["--language", "fr"], "no report in language 'fr'; known: en, zh"),
        (["--occlusion", "-1"], "--occlusion is -1; give 0 or more"),
        (["--pictures", "-2"], "pictures is -2"),
        (["--resamples", "5"], "an interval needs at least 100"),
        (["--beam", "0"], "widths of at least 1"),
        (["--split", "tset"], "split is 'tset'"),
    ],
)
def test_bad_options_end_in_one_line(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", "nowhere", *options]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_run_is_an_error(tmp_path, capsys):
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "no such config file or run folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / "empty")]) == 2
    assert "not a run folder" in capsys.readouterr().err
