"""Studies through the command line, with trainings of a second."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from shapes import tiny_values

from pictell.ablate.run import ablate
from pictell.cli import main
from pictell.config import Config
from pictell.errors import InputError
from pictell.evaluate import evaluate, evaluate_ensemble
from pictell.files import read_json, read_jsonl
from pictell.metrics import pooled_spread
from pictell.training.checkpoint import RunFolder
from pictell.training.loop import train

pytestmark = pytest.mark.slow


def values(dataset, weights, features, **train_options):
    base = tiny_values(dataset, weights, features)
    base["train"] |= {"epochs": 3, "patience": 0, "compile": False, **train_options}
    return base


def study_file(folder: Path, base, variations, **more) -> Path:
    file = folder / "study.yaml"
    study = {"base": base, "variations": variations, **more}
    file.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def base(shapes_dataset, encoder_weights, feature_folder):
    return values(shapes_dataset, encoder_weights, feature_folder)


VARIATIONS = {
    "alpha_c 0": {"train.alpha_c": 0},
    "alpha_c 1": {"train.alpha_c": 1.0},
    "too fast": {"train.decoder_lr": 1.0e30},
    "half precision": {"train.precision": "fp16"},
    "bfloat16": {"train.precision": "bf16", "needs": "gpu"},
    "beam 1": {"search.beam": 1},
    "rnn": {"decoder.name": "rnn"},
    "both seeds": {"ensemble": "seeds"},
    "with rnn": {"ensemble": ["base", "rnn"], "search.beam": 2},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, base):
    """A finished study of eight trainings, two at once; what it returned and where it is."""
    folder = tmp_path_factory.mktemp("study")
    file = study_file(folder, base, VARIATIONS, seeds=[0, 1])
    code = main(
        ["ablate", str(file), "--out", str(folder / "out"), "--jobs", "2", "--resamples", "500"]
    )
    return code, folder


@pytest.fixture(scope="module")
def record(finished):
    return read_json(finished[1] / "out" / "screening" / "study.json")


def variation(record, name):
    return next(v for v in record["variations"] if v["name"] == name)


def test_what_comes_of_each_variation(finished, record):
    states = {v["name"]: (v["kind"], v["state"]) for v in record["variations"]}
    assert states == {
        "base": ("base", "measured"),
        "alpha_c 0": ("training", "measured"),
        "alpha_c 1": ("unchanged", "unchanged"),
        "too fast": ("training", "failed"),
        "half precision": ("needs a GPU", "needs a GPU"),
        "bfloat16": ("needs a GPU", "needs a GPU"),
        "beam 1": ("decoding", "measured"),
        "rnn": ("training", "measured"),
        "both seeds": ("ensemble", "measured"),
        "with rnn": ("ensemble", "measured"),
    }
    assert record["split"] == "val"
    assert record["pictures"] == 4


def test_a_variation_that_fails_is_recorded_and_the_others_go_on(finished, record):
    assert finished[0] == 1
    failures = variation(record, "too fast")["failures"]
    assert [f["seed"] for f in failures] == [0, 1]
    assert all(re.match("the loss is (nan|inf) in epoch 1", f["reason"]) for f in failures)
    table = (finished[1] / "out" / "screening" / "table.md").read_text()
    assert "## What failed" in table
    assert "- too fast, seed 0: the loss is" in table


def test_a_variation_that_changes_nothing_is_warned_of(record):
    assert record["warnings"] == [
        "'alpha_c 1' changes nothing against the base (it is the base): it is not measured"
    ]


def test_a_training_of_the_study_is_the_training_by_itself(record, base, tmp_path):
    for name, options in (("base", {}), ("alpha_c 0", {"alpha_c": 0})):
        alone = {**base, "train": {**base["train"], "seed": 1, **options}}
        train(Config.from_dict(alone), tmp_path / name)
        run = RunFolder.open(variation(record, name)["runs"][1])
        assert run.model_file.read_bytes() == (tmp_path / name / "model.safetensors").read_bytes()


def test_scores_and_differences_are_those_of_the_runs(record, finished, tmp_path):
    runs = [RunFolder.open(path) for path in variation(record, "alpha_c 0")["runs"]]
    scores = [evaluate(r, split="val", beams=[5], out=tmp_path / r.name)[0]["scores"] for r in runs]
    found = variation(record, "alpha_c 0")["scores"]["CIDEr-D"]
    assert found["by_seed"] == [pytest.approx(s["CIDEr-D"]) for s in scores]
    entry = variation(record, "alpha_c 0")["differences"]["CIDEr-D"]
    mean = variation(record, "base")["scores"]["CIDEr-D"]["score"]
    assert entry["difference"] == pytest.approx(found["score"] - mean)
    assert entry["over_seeds"]
    assert entry["low"] <= entry["difference"] <= entry["high"]
    assert entry["p_holm"] >= entry["p_value"]


def test_all_trainings_together_tell_how_seeds_spread(record):
    by_seed = [
        variation(record, name)["scores"]["CIDEr-D"]["by_seed"]
        for name in ("base", "alpha_c 0", "rnn")
    ]
    spread = pooled_spread(by_seed)
    assert spread.freedom == 3
    entry = variation(record, "rnn")["differences"]["CIDEr-D"]
    assert entry["spread"] == pytest.approx(spread.deviation)
    assert entry["run_error"] == pytest.approx(spread.deviation)  # times the root of 1/2 + 1/2


def test_a_variation_of_the_search_uses_the_runs_of_the_base(record, tmp_path):
    beam, of_base = variation(record, "beam 1"), variation(record, "base")
    assert beam["runs"] == of_base["runs"]
    (alone,) = evaluate(RunFolder.open(beam["runs"][0]), split="val", beams=[1], out=tmp_path)
    assert beam["scores"]["BLEU-4"]["by_seed"][0] == alone["scores"]["BLEU-4"]
    assert beam["cost"]["seconds_to_best"] is None
    assert beam["cost"]["decoding_captions_per_second"] > 0


def test_ensembles_use_the_runs_of_others(record, tmp_path):
    both = variation(record, "both seeds")
    assert both["runs"] == variation(record, "base")["runs"]
    (alone,) = evaluate_ensemble(both["runs"], tmp_path, split="val", beams=[5])
    assert both["scores"]["CIDEr-D"]["by_seed"] == [pytest.approx(alone["scores"]["CIDEr-D"])]
    assert not both["differences"]["CIDEr-D"]["over_seeds"]  # there is only one of it
    mixed = variation(record, "with rnn")
    first = [variation(record, name)["runs"][0] for name in ("base", "rnn")]
    assert mixed["runs"][:2] == first
    assert mixed["seeds"] == [0, 1]


def test_cost_is_that_of_the_logs(record):
    of_base = variation(record, "base")
    infos = [RunFolder(path).info for path in of_base["runs"]]
    cost = of_base["cost"]
    assert cost["peak_memory_mb"] == pytest.approx(sum(i["peak_memory_mb"] for i in infos) / 2)
    assert cost["best_epoch"] == sum(i["best_epoch"] for i in infos) / 2
    lines = [e for path in of_base["runs"] for e in read_jsonl(Path(path) / "log.jsonl")]
    epochs = [e for e in lines if e["kind"] == "epoch"]
    assert 0 < cost["epoch_seconds"] <= max(e["seconds"]["train"] for e in epochs)
    assert cost["epoch_seconds"] < cost["seconds_to_best"] <= cost["seconds"] * 1.01


def test_claims_stand_beside_what_was_measured(record):
    sentences = {c["subject"]: c["sentence"] for c in record["claims"]}
    assert sentences["mixed precision: speed of training"] == (
        "mixed precision: speed of training: claimed +40 %; needs a GPU"
    )
    assert sentences["early stopping"] == (
        "early stopping: claimed epoch 8; cannot be seen in 3 epochs"
    )
    attention = next(c for c in record["claims"] if c["subject"].startswith("attention"))
    rnn, base = (variation(record, n)["scores"]["BLEU-4"]["score"] for n in ("rnn", "base"))
    if rnn:
        assert attention["measured"] == pytest.approx(base / rnn - 1)
    else:
        assert attention["measured"] is None


def test_the_plot_shows_each_difference(finished):
    folder = finished[1] / "out" / "screening"
    svg = (folder / "forest.svg").read_text()
    for name in ("alpha_c 0", "beam 1", "rnn", "both seeds", "with rnn", "CIDEr-D", "BLEU-4"):
        assert f">{name}<" in svg
    assert ">too fast<" not in svg
    assert (folder / "forest.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_done_is_not_done_again_and_what_failed_is(finished, record, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(
        "pictell.ablate.run.run_trainings",
        lambda trainings, **_: started.extend(t.name for t in trainings) or {},
    )
    folder = finished[1]
    again = ablate(folder / "study.yaml", folder / "out", resamples=500)
    assert started == ["too fast, seed 0", "too fast, seed 1"]
    for name in ("base", "alpha_c 0", "with rnn"):
        assert variation(again, name)["scores"] == variation(record, name)["scores"]
        assert variation(again, name)["differences"] == variation(record, name)["differences"]
    (folder / "out" / "screening" / "study.json").write_text(json.dumps(record))


def test_only_what_is_named_is_trained(finished, monkeypatch):
    started = []
    monkeypatch.setattr(
        "pictell.ablate.run.run_trainings",
        lambda trainings, **_: started.extend(t.name for t in trainings) or {},
    )
    folder = finished[1]
    ablate(folder / "study.yaml", folder / "new", names=["with rnn"], resamples=100)
    assert started == ["base, seed 0", "base, seed 1", "rnn, seed 0", "rnn, seed 1"]
    record = ablate(folder / "study.yaml", folder / "new", trained_only=True, resamples=100)
    assert {v["state"] for v in record["variations"]} == {
        "not trained",
        "not measured",
        "unchanged",
        "needs a GPU",
    }


def test_one_job_gives_what_two_give(record, base, tmp_path):
    file = study_file(tmp_path, base, {"alpha_c 0": {"train.alpha_c": 0}}, seeds=[1])
    serial = ablate(file, tmp_path / "out", resamples=100)
    for name in ("base", "alpha_c 0"):
        both = variation(record, name), variation(serial, name)
        first, second = (RunFolder(v["runs"][-1]).model_file.read_bytes() for v in both)
        assert first == second
        assert both[0]["scores"]["CIDEr-D"]["by_seed"][1] == both[1]["scores"]["CIDEr-D"]["score"]


def test_ctrl_c_keeps_what_was_done_and_the_same_command_goes_on(base, tmp_path):
    long = {**base, "train": {**base["train"], "epochs": 60}}
    file = study_file(tmp_path, long, {"gate off": {"decoder.gate": False}})
    command = [sys.executable, "-m", "pictell", "ablate", str(file), "--out", str(tmp_path / "out")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    runs = tmp_path / "out" / "screening" / "runs"
    end = time.monotonic() + 120
    while not list(runs.glob("gate_off*/log.jsonl")) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "1 of 2 trainings are done; the same command again goes on" in " ".join(errors.split())
    stopped = RunFolder(next(runs.glob("gate_off*")))
    assert stopped.state_file.exists()
    assert not stopped.info["finished"]
    assert main(command[3:]) == 0
    epochs = [e["epoch"] for e in read_jsonl(stopped.log_file) if e["kind"] == "epoch"]
    assert epochs == list(range(1, 61))
    record = read_json(tmp_path / "out" / "screening" / "study.json")
    assert variation(record, "gate off")["state"] == "measured"


def test_an_encoder_that_is_not_there_fails_alone(base, tmp_path, monkeypatch):
    monkeypatch.setattr("pictell.ablate.run.run_trainings", lambda trainings, **_: {})
    file = study_file(tmp_path, base, {"lost": {"encoder.weights": "/nowhere.pth"}})
    record = ablate(file, tmp_path / "out", resamples=100)
    (failure,) = variation(record, "lost")["failures"]
    assert "/nowhere.pth" in failure["reason"]


def test_two_at_once_in_one_folder(base, tmp_path):
    import fcntl

    file = study_file(tmp_path, base, {"beam 1": {"search.beam": 1}})
    (tmp_path / "out" / "screening").mkdir(parents=True)
    with open(tmp_path / "out" / "screening" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another pictell ablate is at work"):
            ablate(file, tmp_path / "out")
