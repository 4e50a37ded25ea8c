"""Runs with several seeds as one statement, of runs made by hand."""

import json
import re

import numpy as np
import pytest
from made_runs import as_json, captions_of, make_dataset, make_run, stored_results

from pictell.compare import compare, describe_runs, print_comparison
from pictell.comparison import training_process
from pictell.comparison.repeats import with_repeat_sentences
from pictell.errors import InputError
from pictell.files import read_json, write_text
from pictell.metrics import runs_needed
from pictell.report.page import write_report


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"), pictures=60)


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    monkeypatch.setattr("pictell.compare.evaluate", stored_results)


@pytest.fixture
def runs(tmp_path, dataset):
    """Make runs of an experiment: a share of wrong words for each seed."""

    def make(name, wrong, **options):
        made = []
        for seed, share in enumerate(wrong):
            folder = tmp_path / "runs" / (name if seed == 0 else f"{name}_seed{seed}")
            values = {**options, "train": {**options.get("train", {}), "seed": seed}}
            words = captions_of(dataset, wrong=share, seed=seed)
            made.append(make_run(folder, dataset, words, options=values))
        return made

    return make


def statement(*runs, **options):
    return describe_runs(list(runs), beams=(1, 3), resamples=400, **options)


def test_runs_are_grouped_by_their_options(runs):
    poor, good = runs("poor", [0.5, 0.5, 0.5]), runs("good", [0.1, 0.2], train={"alpha_c": 0.0})
    # In any order: the group of the first run is the first one.
    repeats = statement(poor[0], good[1], poor[2], good[0], poor[1])["repeats"]
    assert [one["name"] for one in repeats["experiments"]] == ["poor", "good"]
    assert [one["models"] for one in repeats["experiments"]] == [[0, 2, 4], [1, 3]]
    assert [one["seeds"] for one in repeats["experiments"]] == [[0, 2, 1], [1, 0]]


def test_mean_and_spread_are_those_of_the_runs(runs):
    comparison = statement(*runs("a", [0.2, 0.4, 0.3]))
    (one,) = comparison["repeats"]["experiments"]
    scores = [m["beams"]["3"]["scores"]["CIDEr-D"]["score"] for m in comparison["models"]]
    assert one["beams"]["3"]["CIDEr-D"] == {
        "score": pytest.approx(np.mean(scores)),
        "deviation": pytest.approx(np.std(scores, ddof=1)),
        "low": min(scores),
        "high": max(scores),
    }
    assert comparison["repeats"]["differences"] == []


def test_one_run_of_each_is_no_statement_over_seeds(runs):
    comparison = statement(*runs("a", [0.2]), *runs("b", [0.4], train={"alpha_c": 0.0}))
    assert comparison["repeats"] is None


def test_seeds_are_no_difference_of_configs_that_is_warned_of(runs):
    comparison = statement(*runs("a", [0.2, 0.3]))
    assert comparison["warnings"] == []
    other = statement(*runs("b", [0.2]), *runs("c", [0.3, 0.3], train={"clip": 1.0})[1:])
    assert "train.seed" in other["warnings"][0]  # one run each: the seed may be the reason


def test_other_encoder_weights_are_another_experiment(runs, tmp_path):
    first, second = runs("a", [0.2, 0.3])
    info = read_json(second / "run.json")
    info["encoder"]["key"] = "other"
    write_text(second / "run.json", json.dumps(info))
    assert statement(first, second)["repeats"] is None


def test_a_clear_difference_is_settled_over_seeds_and_pictures(runs):
    comparison = statement(
        *runs("poor", [0.5, 0.45, 0.55]), *runs("good", [0.1, 0.15, 0.1], train={"alpha_c": 0.0})
    )
    (difference,) = comparison["repeats"]["differences"]
    entry = difference["beams"]["3"]["CIDEr-D"]
    assert entry["over_seeds"]
    assert 0 < entry["low"] < entry["difference"] < entry["high"]
    assert difference["headline"].startswith("good writes the higher-scoring captions")
    claim = next(c for c in difference["claims"] if c["subject"] == "CIDEr-D")
    assert (claim["state"], claim["winner"]) == ("settled", 1)
    assert "over seeds and pictures" in claim["sentence"]
    good = comparison["repeats"]["experiments"][1]["beams"]["3"]["CIDEr-D"]
    assert f"{good['score']:.4f} ± {good['deviation']:.4f} against" in claim["sentence"]


def test_an_open_difference_says_how_many_seeds_would_settle_it(runs):
    first, second = runs("a", [0.3, 0.5]), runs("b", [0.4, 0.35], train={"alpha_c": 0.0})
    (difference,) = statement(*first, *second)["repeats"]["differences"]
    entry = difference["beams"]["3"]["CIDEr-D"]
    assert entry["low"] < 0 < entry["high"]
    assert entry["needed"] == runs_needed(
        entry["difference"], entry["spread"], fixed_error=entry["picture_error"]
    )
    claim = next(c for c in difference["claims"] if c["subject"] == "CIDEr-D")
    assert claim["state"] == "open"
    assert "2 runs differs from that of a's 2 runs" in claim["sentence"]
    if entry["needed"] is None:
        assert "it takes more of them" in claim["sentence"]
    else:
        assert f"{max(entry['needed'], 3)} of each would settle" in claim["sentence"]


@pytest.mark.parametrize(
    ("needed", "expected"),
    [
        (None, "More seeds alone would not settle a difference of this size: the choice of the "),
        (7, "spread by 0.0200 (standard deviation); 7 of each would settle a difference"),
        (2, "4 of each would settle"),  # three were not enough
    ],
)
def test_what_would_settle_an_open_question(needed, expected):
    entry = {
        "difference": 0.01,
        "low": -0.01,
        "high": 0.03,
        "p_value": 0.3,
        "resamples": 1000,
        "runs_a": 3,
        "runs_b": 3,
        "over_seeds": True,
        "picture_error": 0.005,
        "spread": 0.02,
        "needed": needed,
    }
    spread = {"score": 0.5, "deviation": 0.02, "low": 0.4, "high": 0.6}
    names = ("BLEU-4", "CIDEr-D", "ROUGE-L")
    experiments = [
        {"name": name, "models": [0, 1, 2], "beams": {"3": dict.fromkeys(names, spread)}}
        for name in "ab"
    ]
    difference = {"first": 0, "second": 1, "beams": {"3": dict.fromkeys(names, entry)}}
    repeats = {"experiments": experiments, "differences": [difference]}
    said = with_repeat_sentences(repeats, "3")["differences"][0]["claims"][0]["sentence"]
    assert expected in said
    chinese = with_repeat_sentences(repeats, "3", "zh")["differences"][0]["claims"][0]["sentence"]
    assert "种子" in chinese
    assert not re.search(r"settle|seeds|differs", chinese)


def test_one_run_against_several_is_over_pictures_alone(runs):
    repeats = statement(*runs("a", [0.2, 0.3]), *runs("b", [0.5], train={"alpha_c": 0.0}))[
        "repeats"
    ]
    entry = repeats["differences"][0]["beams"]["3"]["BLEU-4"]
    assert not entry["over_seeds"]
    assert "over pictures alone" in repeats["differences"][0]["claims"][0]["sentence"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_report_begins_with_the_statement(runs, tmp_path, language):
    comparison = statement(
        *runs("poor", [0.5, 0.45]), *runs("good", [0.1, 0.15], train={"alpha_c": 0.0})
    )
    page = write_report(comparison, tmp_path / "page.html", language=language).read_text()
    spoken = with_repeat_sentences(comparison["repeats"], "3", language)["differences"][0]
    plain = page.replace("<wbr>", "").replace("\N{NO-BREAK SPACE}%", " %").replace("&#39;", "'")
    assert spoken["headline"] in plain
    assert plain.index(spoken["headline"]) < plain.index(spoken["claims"][0]["sentence"])
    deviation = comparison["repeats"]["experiments"][0]["beams"]["3"]["BLEU-4"]["deviation"]
    assert f"± {deviation:.4f}" in plain


def test_three_experiments_have_a_statement_each(runs, tmp_path):
    comparison = statement(
        *runs("a", [0.5, 0.45]),
        *runs("b", [0.1, 0.15], train={"alpha_c": 0.0}),
        *runs("c", [0.3, 0.35], train={"clip": 1.0}),
    )
    assert [d["second"] for d in comparison["repeats"]["differences"]] == [1, 2]
    page = write_report(comparison, tmp_path / "page.html").read_text()
    for difference in comparison["repeats"]["differences"]:
        assert difference["headline"] in page.replace("&#39;", "'")


def test_console(runs, capsys):
    comparison = statement(*runs("poor", [0.5, 0.4]), *runs("good", [0.1, 0.2], train={"clip": 1}))
    print_comparison(comparison)
    shown = " ".join(capsys.readouterr().out.split())
    assert "Runs that differ in the seed alone" in shown
    assert comparison["repeats"]["differences"][0]["headline"] in shown


# -- training with several seeds ------------------------------------------------------------------


def test_a_config_file_is_trained_with_each_seed(tmp_path, dataset, monkeypatch):
    file = tmp_path / "a.yaml"
    write_text(
        file,
        f"run: {tmp_path / 'a'}\ndata: {{dataset: {dataset}}}\ndecoder: {{name: rnn}}\n"
        "train: {seed: 4}\n",
    )
    commands = []

    def fake(command):
        commands.append(command[4:])
        options = dict(zip(command[5::2], command[6::2], strict=True))
        seed = int(options.get("--train.seed", 4))
        folder = options.get("--run", str(tmp_path / "a"))
        make_run(
            type(tmp_path)(folder),
            dataset,
            captions_of(dataset, wrong=0.3, seed=seed),
            options={"train": {"seed": seed}},
        )
        return 0, False

    monkeypatch.setattr(training_process, "run_and_forward_signals", fake)
    how = {"beams": (1, 3), "resamples": 100}
    comparison = compare([file], tmp_path / "out", seeds=3, **how)
    first, *others = commands
    assert first == [str(file)]
    for seed, command in zip((5, 6), others, strict=True):
        place = str(tmp_path / f"a_seed{seed}")
        assert command == [str(file), "--train.seed", str(seed), "--run", place]
        assert comparison["models"][seed - 4]["command"].endswith(f"--run {place}")
    (one,) = comparison["repeats"]["experiments"]
    assert (one["name"], one["seeds"]) == ("a", [4, 5, 6])
    assert read_json(tmp_path / "out" / "comparison.json") == as_json(comparison)
    compare([file], tmp_path / "out", seeds=3, **how)
    assert len(commands) == 3  # nothing is trained twice


def test_no_seeds(tmp_path, runs):
    with pytest.raises(InputError, match="seeds is 0"):
        compare(runs("a", [0.1, 0.2]), tmp_path / "out", seeds=0)
