"""Comparisons of runs made by hand: numbers against the metrics, sentences against the numbers."""

import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from made_runs import as_json, captions_of, make_dataset, make_run, stored_results

from pictell.compare import compare, print_comparison
from pictell.comparison import training_process
from pictell.comparison.claims import headline_of
from pictell.comparison.pair import Pair
from pictell.comparison.training_process import run_and_forward_signals
from pictell.data.records import read_dataset, write_dataset
from pictell.data.text import get_tokenizer
from pictell.errors import InputError
from pictell.files import read_json, write_json, write_text
from pictell.metrics import bootstrap_interval, paired_bootstrap, score_captions
from pictell.training.loop import InterruptedTraining


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    """Evaluations are on disk already."""
    monkeypatch.setattr("pictell.compare.evaluate", stored_results)


@pytest.fixture
def poor(tmp_path, dataset):
    return make_run(tmp_path / "runs" / "poor", dataset, captions_of(dataset, wrong=0.5))


@pytest.fixture
def good(tmp_path, dataset):
    captions = captions_of(dataset, wrong=0.1, seed=1)
    return make_run(
        tmp_path / "runs" / "good",
        dataset,
        captions,
        decoder="attention",
        epoch_seconds=(100.0, 104.0),
        cross_entropy=2.9,
        top5=0.66,
        captions_per_second=50.0,
    )


def run_compare(*runs, out, **options):
    options = {"beams": (1, 3), "resamples": 200, **options}
    return compare(list(runs), out, **options)


def claim(comparison, subject, pair=0):
    (found,) = [
        c for c in comparison["differences"][pair]["claims"] if c["subject"].startswith(subject)
    ]
    return found


# -- numbers --------------------------------------------------------------------------------------


def test_scores_and_differences_are_those_of_the_metrics(tmp_path, dataset, poor, good):
    comparison = run_compare(poor, good, out=tmp_path / "out", seed=5)
    tokenize = get_tokenizer("en").tokenize
    references = [[tokenize(c) for c in e.captions] for e in read_dataset(dataset)]
    first = score_captions(captions_of(dataset, wrong=0.5), references)
    second = score_captions(captions_of(dataset, wrong=0.1, seed=1), references)
    for name in ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr-D"):
        shown = comparison["models"][1]["beams"]["3"]["scores"][name]
        assert shown == vars(bootstrap_interval(second[name], resamples=200, seed=5))
        difference = comparison["differences"][0]["beams"]["3"][name]
        assert difference == vars(
            paired_bootstrap(first[name], second[name], resamples=200, seed=5)
        )
        assert difference["difference"] > 0


def test_what_is_returned_is_what_is_written(tmp_path, poor, good):
    comparison = run_compare(poor, good, out=tmp_path / "out")
    assert read_json(tmp_path / "out" / "comparison.json") == as_json(comparison)
    assert comparison["beams"] == [1, 3]
    assert comparison["beam"] == 3
    assert comparison["protocol"]["pictures"] == 40
    assert "model_sha256" not in comparison["protocol"]  # the models have one each
    assert comparison["models"][0]["model_sha256"] == "of the weights"


def test_training_numbers_come_from_the_log(tmp_path, poor, good):
    comparison = run_compare(poor, good, out=tmp_path / "out")
    training = comparison["models"][0]["training"]
    assert training["epoch_seconds"] == {"median": 51.0, "low": 50.0, "high": 52.0, "count": 3}
    assert training["captions_per_second"]["high"] == 2000 / 50
    assert (training["epochs"], training["best_epoch"]) == (3, 2)
    model = comparison["models"][0]
    assert model["curves"]["epoch"] == [1, 2, 3]
    assert model["curves"]["val"]["BLEU-4"] == pytest.approx([0.12, 0.14, 0.16])
    assert model["validation"]["cross_entropy"] == pytest.approx(3.5)  # of the kept, second epoch
    assert model["validation"]["CIDEr-D"] == pytest.approx(0.4)


def test_attention_floor_is_worked_out_from_the_captions(tmp_path, dataset, poor, good):
    models = run_compare(poor, good, out=tmp_path / "out")["models"]
    assert models[0]["attention_floor"] is None  # no attention, no term
    tokenize = get_tokenizer("en").tokenize
    lengths = [len(tokenize(c)) + 1 for e in read_dataset(dataset) for c in e.captions]
    # The best that can be done with T words and 196 regions: each region gets T / 196.
    best = np.mean([np.mean((1 - np.full(196, n / 196)) ** 2) for n in lengths])
    assert models[1]["attention_floor"] == pytest.approx(best)


def test_the_reachable_target_has_no_floor(tmp_path, dataset, poor):
    other = make_run(
        tmp_path / "runs" / "mean",
        dataset,
        captions_of(dataset, wrong=0.2),
        decoder="attention",
        options={"train": {"alpha_target": "mean"}},
    )
    assert run_compare(poor, other, out=tmp_path / "out")["models"][1]["attention_floor"] is None


# -- sentences ------------------------------------------------------------------------------------


def test_the_better_model_wins_in_either_order(tmp_path, poor, good):
    forward = run_compare(poor, good, out=tmp_path / "a")
    backward = run_compare(good, poor, out=tmp_path / "b")
    assert forward["differences"][0]["beams"]["3"]["BLEU-4"]["difference"] > 0
    assert backward["differences"][0]["beams"]["3"]["BLEU-4"]["difference"] < 0
    for comparison, winner in ((forward, 1), (backward, 0)):
        for subject in ("BLEU-4", "CIDEr-D", "ROUGE-L"):
            said = claim(comparison, subject)
            assert (said["state"], said["winner"]) == ("settled", winner)
            assert said["sentence"].startswith(f"good's {subject} is higher than poor's by ")
        assert comparison["differences"][0]["headline"] == (
            "good writes the higher-scoring captions, by BLEU-4, CIDEr-D and ROUGE-L."
        )


def test_a_sentence_holds_the_numbers(tmp_path, poor, good):
    comparison = run_compare(good, poor, out=tmp_path / "out")  # the first one wins
    entry = comparison["differences"][0]["beams"]["3"]["BLEU-4"]
    scores = [m["beams"]["3"]["scores"]["BLEU-4"]["score"] for m in comparison["models"]]
    assert claim(comparison, "BLEU-4")["sentence"] == (
        f"good's BLEU-4 is higher than poor's by {-entry['difference']:.4f} (95 % interval "
        f"{-entry['high']:.4f} to {-entry['low']:.4f}, p ≤ 0.010): {scores[0]:.4f} against "
        f"{scores[1]:.4f}."
    )


def test_an_interval_that_holds_zero_leaves_it_open(tmp_path, dataset, poor):
    captions = captions_of(dataset, wrong=0.5, seed=9)  # as poor as the other
    other = make_run(tmp_path / "runs" / "other", dataset, captions)
    comparison = run_compare(poor, other, out=tmp_path / "out")
    entry = comparison["differences"][0]["beams"]["3"]["CIDEr-D"]
    assert entry["low"] < 0 < entry["high"]
    said = claim(comparison, "CIDEr-D")
    assert (said["state"], said["winner"]) == ("open", None)
    assert "do not settle whose CIDEr-D is higher" in said["sentence"]
    assert "includes 0" in said["sentence"]


def test_identical_runs_show_no_difference(tmp_path, poor):
    twin = shutil.copytree(poor, poor.parent / "twin")
    comparison = run_compare(poor, twin, out=tmp_path / "out")
    difference = comparison["differences"][0]
    assert difference["headline"] == "There is no difference: poor and twin have the same scores."
    states = {c["subject"]: c["state"] for c in difference["claims"]}
    speeds = ("training speed", "decoding speed (beam 3)")
    assert all(states.pop(speed) == "open" for speed in speeds)
    assert set(states.values()) == {"equal"}
    assert difference["second_better"] == difference["first_better"] == []
    assert comparison["warnings"] == comparison["config_differences"] == []


def test_scores_that_disagree_are_said_to():
    models = [{"name": "a"}, {"name": "b"}]
    pair = Pair(models[0], models[1], 0, 1)

    def headline(**winners):
        names = {"bleu": "BLEU-4", "cider": "CIDEr-D", "rouge": "ROUGE-L"}
        claims = [
            {"subject": names[n], "state": "open" if w is None else "settled", "winner": w}
            for n, w in winners.items()
        ]
        return headline_of(models, claims, pair)

    assert headline(bleu=0, cider=1, rouge=0) == (
        "The scores disagree: BLEU-4 and ROUGE-L favour a, CIDEr-D favours b."
    )
    assert headline(bleu=None, cider=1, rouge=1) == (
        "b writes the higher-scoring captions, by CIDEr-D and ROUGE-L; BLEU-4 leaves it open."
    )
    assert headline(bleu=None, cider=None, rouge=None) == (
        "The scores do not settle which writes better captions, a and b."
    )


def test_cross_entropy_without_interval_settles_nothing(tmp_path, poor, good):
    said = claim(run_compare(poor, good, out=tmp_path / "out"), "cross-entropy")
    assert said["state"] == "open"
    assert said["sentence"].startswith(
        "good's cross-entropy is lower than poor's by 0.1000 nats a word (2.9000 against 3.0000)"
    )


def test_cross_entropy_by_picture_has_an_interval(tmp_path, dataset):
    captions = captions_of(dataset, wrong=0.3)
    runs = [
        make_run(tmp_path / name, dataset, captions, cross_entropy=value, by_picture=True)
        for name, value in (("a", 2.5), ("b", 3.0))
    ]
    comparison = run_compare(*runs, out=tmp_path / "out")
    entry = comparison["differences"][0]["teacher_forced"]["cross_entropy"]
    assert entry["difference"] == pytest.approx(0.5)
    said = claim(comparison, "cross-entropy")
    assert (said["state"], said["winner"]) == ("settled", 0)  # the lower one
    assert "a's cross-entropy is lower than b's by 0.5000 nats a word" in said["sentence"]


def test_different_vocabularies_have_no_common_cross_entropy(tmp_path, dataset, poor):
    other = make_run(
        tmp_path / "runs" / "small",
        dataset,
        captions_of(dataset, wrong=0.2),
        info={"data": {"vocab_size": 60}},
        cross_entropy=2.0,
    )
    comparison = run_compare(poor, other, out=tmp_path / "out")
    for subject in ("cross-entropy", "top-5"):
        assert claim(comparison, subject)["state"] == "open"
        assert "vocabularies have 120 and 60 words" in claim(comparison, subject)["sentence"]
    assert any("vocabularies cannot be compared" in w for w in comparison["warnings"])


# -- cost -----------------------------------------------------------------------------------------


def cost_claims(tmp_path, dataset, first, second):
    captions = captions_of(dataset, wrong=0.3)
    runs = [
        make_run(tmp_path / name, dataset, captions, **options)
        for name, options in (("a", first), ("b", second))
    ]
    comparison = run_compare(*runs, out=tmp_path / "out")
    return {
        subject: claim(comparison, subject)
        for subject in ("training", "decoding", "peak", "decoder parameters")
    }


def test_speed_memory_and_size_that_differ_are_settled(tmp_path, dataset):
    said = cost_claims(
        tmp_path,
        dataset,
        {"epoch_seconds": (50.0, 60.0), "captions_per_second": 90.0},
        {
            "epoch_seconds": (100.0, 90.0),
            "captions_per_second": 300.0,
            "info": {"peak_memory_mb": 400.0, "decoder": {"parameters": 1_500_000}},
        },
    )
    assert [said[s]["winner"] for s in said] == [0, 1, 1, 1]
    assert said["training"]["sentence"] == (
        "a trains 1.74 times as fast as b: 37 against 21 captions/s in the median epoch, and its "
        "slowest epoch (33) was faster than the other's fastest (22)."
    )
    assert said["decoding"]["sentence"] == (
        "b writes captions 3.33 times as fast as a: 100.0 against 30.0 captions/s, each measured "
        "once."
    )
    assert said["peak"]["sentence"] == (
        "b needs 50 % less memory than a in training: a peak of 400 against 800 MB."
    )
    assert "75 % fewer parameters" in said["decoder parameters"]["sentence"]


def test_speed_and_memory_that_hardly_differ_are_open(tmp_path, dataset):
    said = cost_claims(
        tmp_path,
        dataset,
        {"epoch_seconds": (50.0, 60.0), "captions_per_second": 100.0},
        {
            "epoch_seconds": (59.0, 90.0),
            "captions_per_second": 109.0,
            "info": {"peak_memory_mb": 830.0},
        },
    )
    assert [said[s]["state"] for s in said] == ["open", "open", "open", "equal"]
    assert "ranges that overlap" in said["training"]["sentence"]
    assert "differ by no more than 10 %" in said["decoding"]["sentence"]


def test_a_rate_measured_beside_other_programs_is_no_rate(tmp_path, dataset):
    said = cost_claims(
        tmp_path,
        dataset,
        {"captions_per_second": 100.0, "other_load": 0.02},
        {"captions_per_second": 20.0, "other_load": 0.48},
    )
    assert said["decoding"]["state"] == "open"
    assert said["decoding"]["sentence"] == (
        "The decoding speed (beam 3) of a and b cannot be compared: other programs took 2 % and "
        "48 % of the processor meanwhile."
    )


def test_one_epoch_is_one_measurement(tmp_path, dataset):
    said = cost_claims(
        tmp_path, dataset, {"epoch_seconds": (50.0,)}, {"epoch_seconds": (53.0, 53.5)}
    )
    assert said["training"]["state"] == "open"  # disjoint, but within a tenth
    assert "measured once" in said["training"]["sentence"]


def test_different_machines_are_not_compared(tmp_path, dataset):
    other = {"info": {"hardware": {"processor": "another"}}, "epoch_seconds": (5.0, 5.0)}
    said = cost_claims(tmp_path, dataset, {}, other)
    for subject in ("training", "peak"):
        assert said[subject]["state"] == "open"
        assert "different hardware" in said[subject]["sentence"]


# -- pictures -------------------------------------------------------------------------------------


def test_pictures_where_the_models_differ_most(tmp_path, dataset, poor, good):
    comparison = run_compare(poor, good, out=tmp_path / "out", pictures=4)
    examples = read_dataset(dataset)
    tokenize = get_tokenizer("en").tokenize
    references = [[tokenize(c) for c in e.captions] for e in examples]
    a, b = (
        score_captions(words, references)["CIDEr-D"].per_image
        for words in (captions_of(dataset, wrong=0.5), captions_of(dataset, wrong=0.1, seed=1))
    )
    difference = comparison["differences"][0]
    largest = np.sort(b - a)[::-1][:4]
    for picture, expected in zip(difference["second_better"], largest, strict=True):
        scores = [caption["scores"]["CIDEr-D"] for caption in picture["captions"]]
        assert scores[1] - scores[0] == pytest.approx(expected)
        example = next(e for e in examples if e.image_id == picture["image_id"])
        assert picture["path"] == str(example.path)
        assert picture["references"] == list(example.captions)
        assert [caption["model"] for caption in picture["captions"]] == [0, 1]
    assert all(
        p["captions"][0]["scores"]["CIDEr-D"] > p["captions"][1]["scores"]["CIDEr-D"]
        for p in difference["first_better"]
    )


def test_random_pictures_depend_on_the_seed_alone(tmp_path, poor, good):
    def drawn(*runs, seed):
        comparison = run_compare(*runs, out=tmp_path / "out", seed=seed)
        return [p["image_id"] for p in comparison["random_pictures"]]

    assert drawn(poor, good, seed=1) == drawn(good, poor, seed=1) != drawn(poor, good, seed=2)


def test_pictures_are_named_though_the_data_set_is_gone(tmp_path, poor, good):
    for run in (poor, good):
        text = (run / "config.yaml").read_text()
        place = next(line for line in text.splitlines() if "dataset:" in line)
        write_text(run / "config.yaml", text.replace(place, "  dataset: /gone"))
    comparison = run_compare(poor, good, out=tmp_path / "out")
    assert {p["path"] for p in comparison["random_pictures"]} == {""}


# -- several, and what differs --------------------------------------------------------------------


def test_three_runs_are_compared_with_the_first(tmp_path, dataset, poor, good):
    third = make_run(tmp_path / "runs" / "third", dataset, captions_of(dataset, wrong=0.3))
    comparison = run_compare(good, poor, third, out=tmp_path / "out")
    pairs = [(d["first"], d["second"]) for d in comparison["differences"]]
    assert pairs == [(0, 1), (0, 2)]
    assert claim(comparison, "BLEU-4", pair=1)["winner"] == 0
    assert "than third's" in claim(comparison, "BLEU-4", pair=1)["sentence"]
    assert len(comparison["random_pictures"][0]["captions"]) == 3


def test_equal_folder_names_are_told_apart(tmp_path, dataset):
    captions = captions_of(dataset, wrong=0.3)
    runs = [make_run(tmp_path / place / "run", dataset, captions) for place in ("x", "y")]
    models = run_compare(*runs, out=tmp_path / "out")["models"]
    assert [model["name"] for model in models] == ["x/run", "y/run"]


def test_decoder_name_is_the_difference_that_is_expected(tmp_path, poor, good):
    comparison = run_compare(poor, good, out=tmp_path / "out")
    assert comparison["config_differences"] == [
        {"option": "decoder.name", "values": ["rnn", "attention"]}
    ]
    assert comparison["warnings"] == []


def test_other_differences_are_warned_of(tmp_path, dataset, poor):
    other = make_run(
        tmp_path / "runs" / "other",
        dataset,
        captions_of(dataset, wrong=0.2),
        decoder="attention",
        options={
            "train": {"epochs": 20, "workers": 1},  # workers change no result
            "encoder": {"resize": "crop"},
            "decoder": {"name": "attention", "gate": False},  # an rnn has no gate to differ in
        },
    )
    comparison = run_compare(poor, other, out=tmp_path / "out")
    options = [d["option"] for d in comparison["config_differences"]]
    assert options == ["encoder.resize", "decoder.name", "train.epochs"]
    (warning,) = comparison["warnings"]
    assert "encoder.resize (squash, crop); train.epochs (10, 20)" in warning


def test_attention_options_differ_between_two_attention_models(tmp_path, dataset, good):
    other = make_run(
        tmp_path / "runs" / "other",
        dataset,
        captions_of(dataset, wrong=0.2),
        decoder="attention",
        options={"decoder": {"name": "attention", "gate": False}},
    )
    comparison = run_compare(good, other, out=tmp_path / "out")
    assert [d["option"] for d in comparison["config_differences"]] == ["decoder.gate"]


def test_machines_and_encoder_weights_are_warned_of(tmp_path, dataset, poor):
    other = make_run(
        tmp_path / "runs" / "other",
        dataset,
        captions_of(dataset, wrong=0.2),
        info={"hardware": {"gpu": "H"}, "precision": "fp16", "encoder": {"key": "def"}},
    )
    warnings = " ".join(run_compare(poor, other, out=tmp_path / "out")["warnings"])
    assert "trained on different hardware" in warnings
    assert "other: H, 2 cores, precision fp16" in warnings
    assert "look through resnet101 with different weights" in warnings


def test_a_length_penalty_for_all_is_no_difference(tmp_path, dataset, poor):
    other = make_run(
        tmp_path / "runs" / "other",
        dataset,
        captions_of(dataset, wrong=0.2),
        options={"search": {"length_penalty": 0.5}},
    )
    plain = run_compare(poor, other, out=tmp_path / "out")
    assert [d["option"] for d in plain["config_differences"]] == ["search.length_penalty"]
    forced = run_compare(poor, other, out=tmp_path / "out", length_penalty=0.7)
    assert forced["config_differences"] == []


def test_few_pictures_are_warned_of(tmp_path):
    small = make_dataset(tmp_path / "small", pictures=12)
    runs = [
        make_run(tmp_path / name, small, captions_of(small, wrong=wrong))
        for name, wrong in (("a", 0.5), ("b", 0.1))
    ]
    (warning,) = run_compare(*runs, out=tmp_path / "out")["warnings"]
    assert warning.startswith("Only 12 pictures")


def test_console_output(tmp_path, poor, good, capsys):
    comparison = run_compare(poor, good, out=tmp_path / "out")
    print_comparison(comparison, Path("somewhere/report.html"))
    shown = " ".join(capsys.readouterr().out.split())
    assert "good writes the higher-scoring captions" in shown
    assert "+ good's BLEU-4 is higher" in shown
    assert "? good's cross-entropy is lower" in shown
    assert f"{comparison['models'][1]['beams']['3']['scores']['BLEU-4']['score']:.4f}" in shown
    assert shown.endswith("report: somewhere/report.html")


# -- what cannot be compared ----------------------------------------------------------------------


def test_fewer_than_two(tmp_path, poor):
    with pytest.raises(InputError, match=r"at least two .* not 1"):
        run_compare(poor, out=tmp_path / "out")


def test_the_same_twice(tmp_path, poor):
    with pytest.raises(InputError, match="given twice"):
        run_compare(poor, poor.parent / "." / "poor", out=tmp_path / "out")


def test_nothing_there(tmp_path, poor):
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such config file or run folder"):
        run_compare(poor, tmp_path / "nowhere.yaml", out=tmp_path / "out")


def test_unfinished_run(tmp_path, poor, good):
    write_json(good / "run.json", {**read_json(good / "run.json"), "finished": False})
    with pytest.raises(InputError, match=r"not finished; .*good/config\.yaml --resume"):
        run_compare(poor, good, out=tmp_path / "out")


def test_other_data(tmp_path, poor, dataset):
    examples = read_dataset(dataset)[:30]
    write_dataset(tmp_path / "less", examples)
    captions = captions_of(tmp_path / "less", wrong=0.1)
    other = make_run(tmp_path / "runs" / "other", tmp_path / "less", captions)
    with pytest.raises(InputError, match="poor and other are runs on different data sets"):
        run_compare(poor, other, out=tmp_path / "out")


def test_other_language(tmp_path, dataset, poor):
    captions = captions_of(dataset, wrong=0.1)
    options = {"data": {"dataset": str(dataset), "language": "zh-char"}}
    other = make_run(tmp_path / "runs" / "other", dataset, captions, options=options)
    with pytest.raises(InputError, match="poor is in 'en' and other in 'zh-char'"):
        run_compare(poor, other, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tset"}, "split is 'tset'; it must be one of train, val, test"),
        ({"beams": ()}, "beams"),
        ({"beams": (0, 3)}, "at least 1"),
        ({"resamples": 10}, "at least 100"),
        ({"pictures": -1}, "pictures is -1"),
    ],
)
def test_options_out_of_range(tmp_path, poor, good, options, message):
    with pytest.raises(InputError, match=message):
        run_compare(poor, good, out=tmp_path / "out", **options)


def test_out_is_a_file(tmp_path, poor, good):
    (tmp_path / "out").write_text("here")
    with pytest.raises(InputError, match="cannot be written"):
        run_compare(poor, good, out=tmp_path / "out")
    assert (tmp_path / "out").read_text() == "here"


# -- training what is missing ---------------------------------------------------------------------


@pytest.fixture
def config_file(tmp_path, dataset):
    """A config whose run folder is tmp_path/trained, which does not exist yet."""
    file = tmp_path / "trained.yaml"
    write_text(
        file,
        f"run: {tmp_path / 'trained'}\ndata: {{dataset: {dataset}}}\ndecoder: {{name: rnn}}\n",
    )
    return file


@pytest.fixture
def fake_training(monkeypatch, tmp_path, dataset):
    """Stands in for the training process: makes the run folder, and keeps the commands."""
    commands = []

    def run(command):
        commands.append([str(part) for part in command])
        make_run(tmp_path / "trained", dataset, captions_of(dataset, wrong=0.4))
        return 0, False

    monkeypatch.setattr(training_process, "run_and_forward_signals", run)
    return commands


def test_a_config_without_run_is_trained(tmp_path, poor, config_file, fake_training):
    comparison = run_compare(poor, config_file, out=tmp_path / "out")
    assert fake_training == [[sys.executable, "-m", "pictell", "train", str(config_file)]]
    assert comparison["models"][1]["name"] == "trained"
    assert comparison["models"][1]["command"] == f"pictell train {config_file}"
    run_compare(poor, config_file, out=tmp_path / "out")
    assert len(fake_training) == 1  # it is finished now


@pytest.mark.parametrize(("saved", "option"), [(True, "--resume"), (False, "--overwrite")])
def test_an_interrupted_training_goes_on(
    tmp_path, dataset, poor, config_file, fake_training, saved, option
):
    run = make_run(tmp_path / "trained", dataset, captions_of(dataset, wrong=0.4))
    write_json(run / "run.json", {**read_json(run / "run.json"), "finished": False})
    if saved:
        write_text(run / "state" / "last.pt", "where it stands\n")
    run_compare(poor, config_file, out=tmp_path / "out")
    assert fake_training[0][-1] == option


def test_a_config_that_was_changed_after_its_training(tmp_path, dataset, poor, config_file):
    make_run(tmp_path / "trained", dataset, captions_of(dataset, wrong=0.4))
    write_text(config_file, config_file.read_text() + "train: {epochs: 12}\n")
    with pytest.raises(InputError, match=r"was trained with train\.epochs = 10, but .* says 12"):
        run_compare(poor, config_file, out=tmp_path / "out")


def test_different_data_are_noticed_before_training(tmp_path, poor, dataset, fake_training):
    write_dataset(tmp_path / "less", read_dataset(dataset)[:30])
    file = tmp_path / "trained.yaml"
    write_text(file, f"run: {tmp_path / 'trained'}\ndata: {{dataset: {tmp_path / 'less'}}}\n")
    with pytest.raises(InputError, match="different data sets"):
        run_compare(poor, file, out=tmp_path / "out")
    assert fake_training == []


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        ((3, False), InputError, "failed \\(exit code 3\\)"),
        ((130, False), InterruptedTraining, "the same command again goes on"),
        ((0, True), InterruptedTraining, "was stopped"),
        ((0, False), InputError, "without a finished run"),
    ],
)
def test_a_training_that_does_not_end_well(
    tmp_path, poor, config_file, monkeypatch, result, error, message
):
    monkeypatch.setattr(training_process, "run_and_forward_signals", lambda command: result)
    with pytest.raises(error, match=message):
        run_compare(poor, config_file, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


WAITING = """
import pathlib, signal, sys, time
count = []
signal.signal(signal.SIGINT, lambda *_: count.append(1))
pathlib.Path(sys.argv[1]).touch()
end = time.monotonic() + 20
while not count and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.2)  # a second signal would come now
sys.exit(40 + len(count))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX does")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_training_once(tmp_path, number):
    ready = tmp_path / "ready"
    before = signal.getsignal(number)

    def send():
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()
    command = [sys.executable, "-c", WAITING, str(ready)]
    assert run_and_forward_signals(command) == (41, True)
    assert signal.getsignal(number) is before


def test_without_a_signal_the_exit_code_is_passed_on():
    assert run_and_forward_signals([sys.executable, "-c", "raise SystemExit(7)"]) == (7, False)
