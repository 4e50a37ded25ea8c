"""Ensembles of runs: captions and scores through the same doors as those of one run."""

import numpy as np
import pytest
import torch

from pictell.captioner import Captioner
from pictell.cli import main
from pictell.config import Config
from pictell.data.records import read_dataset
from pictell.errors import InputError
from pictell.evaluate import evaluate, evaluate_ensemble
from pictell.files import read_jsonl
from pictell.training.checkpoint import RunFolder
from pictell.training.loop import train


@pytest.fixture
def pictures(shapes_dataset):
    return [e.path for e in read_dataset(shapes_dataset)][:5]


@pytest.fixture(scope="module")
def larger_pictures(trained_runs, tmp_path_factory):
    """A run that sees pictures of 96 pixels, where those of `trained_runs` see 64."""
    values = RunFolder(trained_runs / "attention").config.to_dict()
    values["encoder"]["image_size"] = 96
    return train(Config.from_dict(values), tmp_path_factory.mktemp("large") / "large").path


def test_an_ensemble_of_one_is_that_run(trained_runs, pictures):
    alone = Captioner.load(trained_runs / "attention").caption(pictures)
    same = Captioner.load_ensemble([trained_runs / "attention"]).caption(pictures)
    for a, b in zip(alone, same, strict=True):
        assert a.words == b.words
        assert a.log_probability == pytest.approx(b.log_probability, abs=1e-4)
        assert a.attention == pytest.approx(b.attention, abs=1e-5)


def test_probabilities_of_two_runs_are_averaged(trained_runs, larger_pictures, pictures):
    runs = [trained_runs / "rnn", trained_runs / "attention", larger_pictures]
    words = Captioner.load(runs[0]).caption(pictures[0])[0].words[:1]
    first = [
        np.exp(Captioner.load(run).explain_words(pictures[0], words).word_log_probabilities[0])
        for run in runs
    ]
    together = Captioner.load_ensemble(runs).explain_words(pictures[0], words)
    assert np.exp(together.word_log_probabilities[0]) == pytest.approx(np.mean(first), rel=1e-4)


def test_stored_features_give_the_captions_of_pixels(
    trained_runs, larger_pictures, tmp_path, shapes_dataset
):
    runs = [trained_runs / "attention", larger_pictures]
    (result,) = evaluate_ensemble(runs, tmp_path, split="test", beams=[3])
    rows = read_jsonl(tmp_path / "evaluation" / "test-beam3" / "predictions.jsonl")
    paths = {e.image_id: e.path for e in read_dataset(shapes_dataset)}
    captions = Captioner.load_ensemble(runs).caption([paths[r["image_id"]] for r in rows], beam=3)
    for row, caption in zip(rows, captions, strict=True):
        assert row["words"] == caption.words
        assert row["log_probability"] == pytest.approx(caption.log_probability, abs=0.02)
    assert result["members"] == [str(run) for run in runs]
    assert result["run"] == "attention + large"


def test_scores_of_an_ensemble_of_one_are_those_of_the_run(trained_runs, tmp_path):
    run = RunFolder.open(trained_runs / "rnn")
    (alone,) = evaluate(run, split="val", beams=[2], out=tmp_path / "a")
    (same,) = evaluate_ensemble([run], tmp_path / "b", split="val", beams=[2])
    assert same["scores"] == alone["scores"]
    assert same["protocol"] == alone["protocol"]
    for name in ("cross_entropy", "top5", "regularisation"):
        assert same["teacher_forced"][name] == pytest.approx(alone["teacher_forced"][name])
    assert not (run.path / "evaluation" / "val-beam2").exists()


def test_a_fine_tuned_encoder_is_the_runs_own(trained_runs, tiny_config, tmp_path):
    tuned = train(tiny_config(encoder={"fine_tune": True}), tmp_path / "tuned").path
    runs = [trained_runs / "rnn", tuned]
    captioner = Captioner.load_ensemble(runs)
    assert len(captioner.encoder.encoders) == 2
    (result,) = evaluate_ensemble(runs, tmp_path / "out", split="val", beams=[1])
    assert np.isfinite(result["teacher_forced"]["cross_entropy"])


def test_results_are_kept_until_a_member_changes(trained_runs, tmp_path):
    runs = [trained_runs / "rnn", trained_runs / "attention"]
    file = tmp_path / "evaluation" / "test-beam1" / "scores.json"
    evaluate_ensemble(runs, tmp_path, beams=[1])
    first = file.stat().st_mtime_ns
    evaluate_ensemble(runs, tmp_path, beams=[1])
    assert file.stat().st_mtime_ns == first
    evaluate_ensemble(runs[:1], tmp_path, beams=[1])
    assert file.stat().st_mtime_ns != first


def test_different_words_cannot_be_averaged(trained_runs, tiny_config, tmp_path):
    other = train(tiny_config(data={"min_count": 9}), tmp_path / "few").path
    with pytest.raises(InputError, match=r"rnn and .*few have different vocabularies"):
        Captioner.load_ensemble([trained_runs / "rnn", other])
    with pytest.raises(InputError, match="given twice"):
        Captioner.load_ensemble([trained_runs / "rnn", trained_runs / "." / "rnn"])
    with pytest.raises(InputError, match="at least one"):
        Captioner.load_ensemble([])


def test_occlusion_of_different_sizes_is_refused(trained_runs, larger_pictures, pictures):
    captioner = Captioner.load_ensemble([trained_runs / "rnn", larger_pictures])
    captions = captioner.caption(pictures[:1])
    with pytest.raises(InputError, match="different sizes share no occlusion"):
        captioner.occlude(pictures[:1], captions)


def test_the_command_line(trained_runs, pictures, tmp_path, capsys):
    runs = [str(trained_runs / "rnn"), str(trained_runs / "attention")]
    out = str(tmp_path / "both")
    assert main(["evaluate", *runs, "--ensemble", "--out", out, "--beam", "1", "3"]) == 0
    assert "rnn + attention on test" in capsys.readouterr().out
    assert (tmp_path / "both" / "evaluation" / "test-beam3" / "scores.json").exists()
    assert main(["caption", runs[0], str(pictures[0]), "--ensemble", runs[1]]) == 0
    expected = Captioner.load_ensemble(runs).caption(pictures[0])[0].text
    assert capsys.readouterr().out.strip() == expected


def test_a_table_of_one_run_is_not_continued_by_an_ensemble(trained_runs, pictures, tmp_path):
    table = tmp_path / "captions.jsonl"
    runs = [str(trained_runs / "rnn"), str(trained_runs / "attention")]
    assert main(["caption", runs[0], str(pictures[0]), "--out", str(table)]) == 0
    table.rename(tmp_path / "one.jsonl")
    assert (
        main(["caption", runs[0], str(pictures[0]), "--out", str(table), "--ensemble", runs[1]])
        == 0
    )
    both, one = (read_jsonl(f)[0] for f in (table, tmp_path / "one.jsonl"))
    assert both["log_probability"] != one["log_probability"]


def test_several_runs_without_ensemble_are_evaluated_one_by_one(trained_runs, capsys):
    runs = [str(trained_runs / "rnn"), str(trained_runs / "attention")]
    assert main(["evaluate", *runs, "--beam", "1"]) == 0
    shown = capsys.readouterr().out
    assert "rnn on test" in shown
    assert "attention on test" in shown
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RNN", "ATTENTION", "--ensemble"], "--ensemble needs --out"),
        (["RNN", "--out", "x"], "--out is for --ensemble"),
        (["RNN", "ATTENTION", "--ensemble", "--out", "x", "--attention"], "of single runs"),
    ],
)
def test_options_that_do_not_go_together(trained_runs, capsys, arguments, message):
    places = {"RNN": str(trained_runs / "rnn"), "ATTENTION": str(trained_runs / "attention")}
    assert main(["evaluate", *(places.get(a, a) for a in arguments)]) == 2
    assert message in capsys.readouterr().err
