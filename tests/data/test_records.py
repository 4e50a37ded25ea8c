import json
from dataclasses import replace
from pathlib import Path

import pytest

from pictell.data.records import (
    Example,
    dataset_hash,
    parse_split,
    read_dataset,
    write_dataset,
)
from pictell.errors import InputError


def _example(path: Path, **changes) -> Example:
    example = Example(image_id="a.jpg", path=path, captions=("a dog .", "ein Hund"), split="train")
    return replace(example, **changes)


def test_round_trip(tmp_path):
    examples = [
        _example(tmp_path / "images" / "a.jpg", sha256="ab", extra={"boxes": [[0, 1, 2, 3]]}),
        _example(Path("/elsewhere/b.jpg"), image_id="b.jpg", captions=("一只\u2028狗",), split=""),
    ]
    file = write_dataset(tmp_path, examples)
    assert file == tmp_path / "dataset.jsonl"
    assert read_dataset(tmp_path) == examples
    assert read_dataset(file) == examples


def test_paths_below_the_file_are_relative_so_that_the_folder_can_move(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    write_dataset(old, [_example(old / "images" / "a.jpg"), _example(tmp_path / "b", image_id="b")])
    rows = [json.loads(line) for line in (old / "dataset.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == ["images/a.jpg", str(tmp_path / "b")]
    old.rename(new)
    assert read_dataset(new)[0].path == new / "images" / "a.jpg"


def test_path_through_a_link_is_relative_too(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_dataset(tmp_path / "real", [_example(tmp_path / "link" / "a.jpg")])
    assert json.loads((tmp_path / "real" / "dataset.jsonl").read_text())["path"] == "a.jpg"


def test_relative_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset(Path("out"), [_example(Path("out/a.jpg"))])
    assert json.loads(Path("out/dataset.jsonl").read_text())["path"] == "a.jpg"
    assert read_dataset(Path("out"))[0].path == tmp_path / "out" / "a.jpg"


GOOD = {"image_id": "a", "path": "a.jpg", "captions": ["x"], "split": "train"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: must be a JSON object"),
        (json.dumps(GOOD), "line 2: image_id 'a' stands in line 1 already"),
        (json.dumps({**GOOD, "image_id": 3}), "line 2: 'image_id' must be a text, not 3"),
        (json.dumps({**GOOD, "image_id": "b", "path": ""}), "line 2: 'path' must be a text"),
        (json.dumps({**GOOD, "image_id": "b", "captions": "x"}), "'captions' must be a list"),
        (json.dumps({**GOOD, "image_id": "b", "captions": [1]}), "'captions' must be a list"),
        (json.dumps({**GOOD, "image_id": "b", "split": "tset"}), "line 2: unknown split 'tset'"),
        (json.dumps({**GOOD, "image_id": "b", "extra": 1}), "line 2: 'extra' must be"),
    ],
)
def test_bad_line_is_named(tmp_path, line, message):
    file = tmp_path / "dataset.jsonl"
    file.write_text(json.dumps(GOOD) + "\n" + line + "\n")
    with pytest.raises(InputError, match=r"dataset\.jsonl, line 2") as caught:
        read_dataset(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_empty(tmp_path):
    with pytest.raises(InputError, match=r"dataset\.jsonl: no such data set"):
        read_dataset(tmp_path)
    (tmp_path / "dataset.jsonl").write_text("\n")
    with pytest.raises(InputError, match="data set is empty"):
        read_dataset(tmp_path)


def test_byte_order_mark_and_windows_line_ends(tmp_path):
    text = "\ufeff" + json.dumps(GOOD) + "\r\n" + json.dumps({**GOOD, "image_id": "b"}) + "\r\n"
    (tmp_path / "dataset.jsonl").write_bytes(text.encode())
    assert [e.image_id for e in read_dataset(tmp_path)] == ["a", "b"]


def test_hash_ignores_order_and_place_alone(tmp_path):
    one, two = _example(tmp_path / "a"), _example(tmp_path / "b", image_id="b")
    known = dataset_hash([one, two])
    assert len(known) == 64
    assert known == dataset_hash([two, replace(one, path=tmp_path / "moved", extra={"x": 1})])
    for change in (
        {"image_id": "c"},
        {"captions": ("ein Hund", "a dog .")},
        {"split": "test"},
        {"sha256": "ff"},
    ):
        assert known != dataset_hash([replace(one, **change), two])


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Training", "train"),
        ("restval", "train"),
        ("dev", "val"),
        ("valid", "val"),
        ("validation", "val"),
        (" testing ", "test"),
        ("", ""),
    ],
)
def test_split_names(name, split):
    assert parse_split(name, where="x") == split


def test_unknown_split_names_the_known_ones():
    with pytest.raises(InputError, match=r"f\.csv, line 3: unknown split 'eval'; known: dev, "):
        parse_split("eval", where="f.csv, line 3")
