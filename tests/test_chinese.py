"""Chinese from captions to report: words and characters as two ways of cutting the same texts."""

import json

import pytest
from PIL import Image
from shapes import COLOURS, SHAPES, shape_examples, tiny_values

from pictell.captioner import Captioner
from pictell.cli import main
from pictell.config import Config
from pictell.data.records import Example, write_dataset
from pictell.data.text import get_tokenizer
from pictell.files import read_json, read_jsonl
from pictell.metrics import score_captions
from pictell.training.checkpoint import RunFolder
from pictell.training.loop import train

pytest.importorskip("rjieba")

COLOUR_WORDS = dict(zip(COLOURS, ("红色", "绿色", "蓝色", "黄色"), strict=True))
SHAPE_WORDS = dict(zip(SHAPES, ("圆形", "正方形"), strict=True))
DECODERS = {"zh": "attention", "zh-char": "rnn"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """The coloured shapes, described in Chinese."""
    folder = tmp_path_factory.mktemp("chinese")
    examples = []
    for example in shape_examples(folder / "pictures"):
        _, colour, shape = example.image_id.split("_")
        colour, shape = COLOUR_WORDS[colour], SHAPE_WORDS[shape]
        captions = (f"白色背景上有一个{colour}的{shape}。", f"一个{colour}的{shape}。")
        examples.append(
            Example(
                image_id=example.image_id,
                path=example.path,
                captions=captions,
                split=example.split,
            )
        )
    write_dataset(folder, examples)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory, dataset, encoder_weights, feature_folder):
    """A model of words and one of characters."""
    folder = tmp_path_factory.mktemp("runs")
    for language, decoder in DECODERS.items():
        values = tiny_values(dataset, encoder_weights, feature_folder)
        values["data"]["language"] = language
        values["decoder"]["name"] = decoder
        values["train"] |= {"epochs": 25, "patience": 0}
        values["search"]["max_length"] = 20
        train(Config.from_dict(values), folder / language)
    return folder


@pytest.fixture
def picture(dataset):
    return dataset / "pictures" / "train_red_circle.png"


@pytest.mark.parametrize("language", DECODERS)
def test_captions_have_no_spaces(runs, picture, language, capsys):
    assert main(["caption", str(runs / language), str(picture)]) == 0
    said = capsys.readouterr().out.strip()
    assert said and " " not in said and not said.isascii()
    caption = Captioner.load(runs / language).caption(picture)[0]
    assert caption.text == said == "".join(caption.words)
    longest = max(map(len, caption.words))
    assert longest == 1 if language == "zh-char" else longest > 1


@pytest.mark.parametrize("language", DECODERS)
def test_scores_hold_both_units(runs, language, capsys):
    assert main(["evaluate", str(runs / language), "--split", "train", "--beam", "1", "2"]) == 0
    printed = capsys.readouterr().out
    assert "per word and per character" in printed
    folder = runs / language / "evaluation" / "train-beam2"
    scores = read_json(folder / "scores.json")
    rows = read_jsonl(folder / "predictions.jsonl", what="predictions")
    own = {"zh": "word", "zh-char": "character"}[language]
    assert scores["scores_by_unit"].keys() == {"word", "character"}
    assert scores["scores_by_unit"][own] == scores["scores"]
    for unit, cut in (("word", get_tokenizer("zh")), ("character", get_tokenizer("zh-char"))):
        expected = score_captions(
            [cut.tokenize(row["caption"]) for row in rows],
            [[cut.tokenize(text) for text in row["references"]] for row in rows],
        )
        found = scores["scores_by_unit"][unit]
        assert found == pytest.approx({name: m.corpus for name, m in expected.items()})
    assert scores["scores_by_unit"]["word"] != scores["scores_by_unit"]["character"]


def test_validation_is_scored_as_the_test_is(runs):
    run = RunFolder.open(runs / "zh")
    lines = [json.loads(line) for line in run.log_file.read_text().splitlines()]
    best = next(line for line in lines if line["kind"] == "epoch" and line["best"] is True)
    assert best["val"]["CIDEr-D"] >= 0
    assert main(["evaluate", str(run.path), "--split", "val", "--beam", "1"]) == 0
    scores = read_json(run.path / "evaluation" / "val-beam1" / "scores.json")
    kept = next(
        line["val"]
        for line in lines
        if line["kind"] == "epoch" and line["epoch"] == run.info["best_epoch"]
    )
    for name in ("BLEU-4", "CIDEr-D", "ROUGE-L"):
        assert scores["scores"][name] == pytest.approx(kept[name])


def test_words_and_characters_are_compared_on_common_scores(runs, tmp_path, capsys):
    items = [str(runs / language) for language in DECODERS]
    how = ["--split", "train", "--beam", "1", "--resamples", "100", "--out", str(tmp_path)]
    assert main(["compare", *items, *how]) == 0
    printed = capsys.readouterr().out
    for row in ("BLEU-4 per word", "CIDEr-D per word", "BLEU-4 per character"):
        assert row in printed
    comparison = read_json(tmp_path / "comparison.json")
    assert comparison["protocol"]["tokenizer"] == "zh"
    for model, language in zip(comparison["models"], DECODERS, strict=True):
        scores = read_json(runs / language / "evaluation" / "train-beam1" / "scores.json")
        beam = model["beams"]["1"]
        for unit, values in scores["scores_by_unit"].items():
            told = {name: entry["score"] for name, entry in beam["scores_by_unit"][unit].items()}
            assert told == pytest.approx(values)
        assert beam["scores"] == beam["scores_by_unit"]["word"]
    (difference,) = comparison["differences"]
    by_unit = difference["by_unit"]
    assert by_unit["word"] == difference["beams"]["1"]
    first, second = (m["beams"]["1"]["scores_by_unit"]["character"] for m in comparison["models"])
    change = second["CIDEr-D"]["score"] - first["CIDEr-D"]["score"]
    assert by_unit["character"]["CIDEr-D"]["difference"] == pytest.approx(change)
    # Nats a word and nats a character are not the same thing.
    assert difference["teacher_forced"] == {}
    claims = {claim["subject"]: claim for claim in difference["claims"]}
    assert "the other in characters" in claims["cross-entropy"]["sentence"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "per character" in page and "圆形" in page


def test_the_report_in_chinese(runs, tmp_path):
    out = tmp_path / "report.html"
    line = ["report", str(runs / "zh"), "--out", str(out), "--language", "zh", "--split", "train"]
    assert main([*line, "--beam", "1", "--resamples", "100", "--deletion_pictures", "0"]) == 0
    page = out.read_text(encoding="utf-8")
    assert "按词" in page and "按字" in page


def test_attention_is_measured_and_drawn_in_chinese(runs, picture, tmp_path):
    from pictell.report.fonts import chinese_font_file

    how = ["--split", "train", "--beam", "1", "--attention", "--deletion_pictures", "2"]
    assert main(["evaluate", str(runs / "zh"), *how]) == 0
    measures = read_json(runs / "zh" / "evaluation" / "train-beam1" / "scores.json")["attention"]
    assert {"description", "thing"} <= measures["by_class"].keys()
    line = ["caption", str(runs / "zh"), str(picture), "--attention"]
    assert main([*line, "--attention_folder", str(tmp_path)]) == 0
    if chinese_font_file() is not None:
        assert Image.open(tmp_path / f"{picture.stem}.attention.png").width > 100


def test_without_a_font_the_command_says_what_to_install(
    runs, picture, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("pictell.report.fonts.chinese_font_file", lambda: None)
    line = ["caption", str(runs / "zh"), str(picture), "--attention"]
    assert main([*line, "--attention_folder", str(tmp_path)]) == 0
    assert "apt-get install fonts-noto-cjk" in capsys.readouterr().err


def test_models_of_words_and_of_characters_are_served_together(runs, picture):
    from pictell.serve.models import Models

    models = Models.load([runs / language for language in DECODERS])
    for language in DECODERS:
        assert models.descriptions[language]["language"] == language
        captioner = models.captioners[language]
        assert " " not in captioner.caption(picture)[0].text


def test_chinese_and_english_cannot_be_compared(runs, trained_runs, capsys):
    items = [str(runs / "zh"), str(trained_runs / "rnn")]
    assert main(["compare", *items, "--out", "nowhere"]) == 2
    assert "captions in different languages cannot be compared" in capsys.readouterr().err
