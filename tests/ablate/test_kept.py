"""Results of a study that travel without the runs."""

import json
import shutil

import numpy as np
import pytest
import yaml
from shapes import tiny_values

from pictell.ablate.kept import KeptResults, Key
from pictell.ablate.plan import Plan, digest_of, options_set
from pictell.ablate.run import ablate
from pictell.ablate.study import Study
from pictell.ablate.table import markdown_of, rows_of
from pictell.config import Config
from pictell.errors import InputError
from pictell.files import read_json, write_json
from pictell.metrics import score_captions

VARIATIONS = {"gate off": {"decoder.gate": False}, "beam 1": {"search.beam": 1}}


@pytest.fixture(scope="module")
def study(tmp_path_factory, shapes_dataset, encoder_weights, feature_folder):
    base = tiny_values(shapes_dataset, encoder_weights, feature_folder)
    base["train"] |= {"epochs": 1, "patience": 0, "compile": False}
    file = tmp_path_factory.mktemp("kept") / "study.yaml"
    file.write_text(yaml.safe_dump({"base": base, "variations": VARIATIONS}, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def first(study):
    """The study, run on the first machine; its results lie in `shared`."""
    return ablate(study, study.parent / "one", results=study.parent / "shared", resamples=100)


def never(trainings, **_):
    assert not trainings, [t.name for t in trainings]
    return {}


@pytest.mark.slow
def test_another_machine_tells_the_whole_study_without_the_runs(study, first, monkeypatch):
    monkeypatch.setattr("pictell.ablate.run.run_trainings", never)
    second = ablate(study, study.parent / "two", results=study.parent / "shared", resamples=100)
    assert not (study.parent / "two" / "screening" / "runs").exists()
    for before, after in zip(first["variations"], second["variations"], strict=True):
        assert before["state"] == after["state"] == "measured"
        for field in ("scores", "differences", "cost", "machines", "pictures"):
            assert before[field] == after[field], field


@pytest.mark.slow
def test_only_what_is_not_kept_is_trained(study, first, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(
        "pictell.ablate.run.run_trainings",
        lambda trainings, **_: started.extend(t.name for t in trainings) or {},
    )
    some = tmp_path / "some"
    shutil.copytree(study.parent / "shared", some)
    next(some.glob("gate_off*")).unlink()
    ablate(study, tmp_path / "out", results=some, resamples=100)
    assert started == ["gate off, seed 0"]
    started.clear()
    next(some.glob("beam_1*")).unlink()  # written by the base's run, which is not here
    ablate(study, tmp_path / "out", results=some, resamples=100)
    assert sorted(started) == ["base, seed 0", "gate off, seed 0"]


@pytest.mark.slow
def test_captions_are_written_for_the_variations_that_are_named(study, first, tmp_path):
    some, out = tmp_path / "some", study.parent / "one"  # where the base's run is
    shutil.copytree(study.parent / "shared", some)
    next(some.glob("beam_1*")).unlink()
    for names, state in (["gate off"], "not measured"), (["beam 1"], "measured"):
        record = ablate(study, out, results=some, names=names, resamples=100)
        assert {v["name"]: v["state"] for v in record["variations"]}["beam 1"] == state


@pytest.mark.slow
def test_a_changed_variation_is_not_found(study, first, tmp_path):
    changed = yaml.safe_load(study.read_text())
    changed["variations"]["gate off"] = {"decoder.gate": False, "train.clip": 1.0}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(changed, sort_keys=False))
    record = ablate(
        file, tmp_path / "out", results=study.parent / "shared", trained_only=True, resamples=100
    )
    states = {v["name"]: v["state"] for v in record["variations"]}
    assert states == {"base": "measured", "gate off": "not trained", "beam 1": "measured"}


@pytest.mark.slow
def test_a_broken_result_is_named_and_the_rest_goes_on(study, first, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(study.parent / "shared", broken)
    file = next(broken.glob("beam_1*"))
    values = read_json(file)
    values["per_image"]["CIDEr-D"].pop()
    write_json(file, values)
    record = ablate(study, tmp_path / "out", results=broken, trained_only=True, resamples=100)
    by_name = {v["name"]: v for v in record["variations"]}
    assert str(file) in by_name["beam 1"]["failures"][0]["reason"]
    assert by_name["gate off"]["state"] == "measured"


@pytest.mark.slow
def test_a_kept_file_holds_no_caption_and_no_picture(study, first):
    for file in (study.parent / "shared").iterdir():
        values = read_json(file)
        assert set(values["per_image"]) == {"BLEU", "ROUGE-L", "CIDEr-D"}
        assert not any(isinstance(v, str) for rows in values["per_image"].values() for v in rows)
        assert "words" not in file.read_text()


@pytest.mark.slow
def test_times_of_several_machines_are_told_apart(first):
    assert all("(" not in row[0] for row in rows_of(first))
    assert f"Machine: processor {first['hardware']['processor']}" in markdown_of(first)
    other = json.loads(json.dumps(first))
    for each in other["variations"]:
        each["machines"] = [{**first["hardware"], "processor": "Elsewhere"}]
    assert "Machine: processor Elsewhere" in markdown_of(other)
    other = json.loads(json.dumps(first))
    other["variations"][1]["machines"] = [{**first["hardware"], "processor": "Abacus"}]
    assert [row[0] for row in rows_of(other)] == ["base (A)", "gate off (B)", "beam 1 (A)"]
    text = markdown_of(other)
    assert "Times and memory compare within a machine alone" in text
    assert "B: processor Abacus" in text
    assert "Machine: " not in text
    assert "within a machine" not in markdown_of(first)


def test_metrics_come_back_as_they_were(study, tmp_path):
    plan = Plan.make(Study.load(study), Study.load(study).sizes["screening"], tmp_path)
    key = Key(plan.planned["base"], 0, "val")
    rng = np.random.default_rng(0)
    captions = [[[str(w) for w in rng.integers(0, 9, 8)] for _ in range(6)] for _ in range(7)]
    metrics = score_captions([c[0] for c in captions], [c[1:] for c in captions])
    kept = KeptResults(tmp_path / "results")
    assert not kept.has(key)
    kept.write(key, metrics, {"seconds": 1.5})
    found = kept.read(key)
    assert list(found.metrics) == list(metrics)
    for name, metric in metrics.items():
        np.testing.assert_allclose(found.metrics[name].statistics, metric.statistics, atol=1e-8)
        np.testing.assert_allclose(found.metrics[name].per_image, metric.per_image, atol=1e-8)
        assert found.metrics[name].corpus == pytest.approx(metric.corpus, abs=1e-8)
    assert found.cost == {"seconds": 1.5}


def test_results_in_a_file(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(InputError, match="is a file; results need a folder"):
        KeptResults(tmp_path / "results")


def test_a_new_option_at_its_default_changes_no_hash():
    config = Config.from_dict({"train": {"seed": 3}, "decoder": {"gate": False}})
    assert options_set(config) == {"train.seed": 3, "decoder.gate": False}
    assert digest_of([1, "a"]) == digest_of([1, "a"])
    assert digest_of([1, "a"]) != digest_of([1, "b"])


@pytest.mark.slow
def test_what_a_gpu_measured_is_told_without_one(study, first, tmp_path):
    """Half precision is a GPU's default: full precision changes nothing without one."""
    values = yaml.safe_load(study.read_text())
    values["variations"] = {"full precision": {"train.precision": "none", "needs": "gpu"}}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    found = Study.load(file)
    plan = Plan.make(found, found.sizes["screening"], tmp_path, gpu=True)
    kept = KeptResults(shutil.copytree(study.parent / "shared", tmp_path / "results"))
    base = kept.read(Key(plan.planned["base"], 0, "val"))
    cost = {**base.cost, "captions_per_second": base.cost["captions_per_second"] / 2}
    kept.write(Key(plan.planned["full precision"], 0, "val"), base.metrics, cost)

    def states():
        record = ablate(
            file, tmp_path / "out", results=kept.folder, trained_only=True, resamples=100
        )
        sentence = record["claims"][0]["sentence"]
        return record["variations"][1]["state"], sentence.split("; ")[1]

    assert states() == ("needs a GPU", "needs a GPU")
    for result in kept.folder.iterdir():
        content = read_json(result)
        content["hardware"]["gpu"] = "H100"
        write_json(result, content)
    assert states() == ("measured", "measured +100 %")
