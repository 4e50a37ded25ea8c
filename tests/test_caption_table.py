"""Tables of captions: resumed without repeating, refused where they do not fit, never in half."""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pictell.caption_table import (
    CaptionTable,
    made_by,
    sidecar_of,
    without_sidecar,
    write_sidecar,
)
from pictell.captioner import Caption
from pictell.errors import InputError
from pictell.training.checkpoint import RunFolder

SETTINGS = {"model_sha256": "abc", "search": {"beam": 3}}


def a_caption(text: str) -> Caption:
    words = text.split()
    return Caption(
        text=text,
        words=words,
        log_probability=-1.23456,
        word_log_probabilities=[-0.1] * len(words),
        attention=np.zeros((len(words), 1, 1)),
        ended=True,
        alternatives=[[] for _ in words],
        image_size=(64, 48),
        seen_box=(0.0, 0.0, 64.0, 48.0),
    )


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    paths = [tmp_path / f"{name}.png" for name in ("a", "b", "c")]
    for path in paths:
        path.write_text(path.name)
    return paths


def test_lines_hold_captions_in_the_order_of_the_pictures(tmp_path, paths):
    out = tmp_path / "out" / "captions.jsonl"
    with CaptionTable(out, SETTINGS) as table:
        for path in reversed(paths):
            table.add(path, a_caption(f"picture {path.stem}"))
        table.finish(paths)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["file"] for row in rows] == [str(path) for path in paths]
    assert rows[0] == {
        "file": str(paths[0]),
        "caption": "picture a",
        "log_probability": -1.2346,
        "ended": True,
        "words": ["picture", "a"],
        "word_log_probabilities": [-0.1, -0.1],
        "width": 64,
        "height": 48,
    }
    assert [p.name for p in out.parent.iterdir()] == ["captions.jsonl"]


def test_commas_quotes_and_lines_survive_in_a_csv_file(tmp_path, paths):
    text = 'a "big", red\u2028dog\n一只狗'
    out = tmp_path / "captions.csv"
    with CaptionTable(out, SETTINGS) as table:
        table.add(paths[0], a_caption(text))
    with CaptionTable(out, SETTINGS) as table:
        assert table.missing(paths) == paths[1:]
        table.finish(paths)
    with open(out, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["caption"] for row in rows] == [text]
    assert rows[0]["width"] == "64"


def test_a_stopped_table_goes_on_without_repeating(tmp_path, paths):
    out = tmp_path / "captions.jsonl"
    with pytest.raises(KeyboardInterrupt), CaptionTable(out, SETTINGS) as table:
        table.add(paths[0], a_caption("first"))
        raise KeyboardInterrupt
    assert not out.exists()
    with CaptionTable(out, SETTINGS) as table:
        assert table.missing(paths) == paths[1:]
        for path in table.missing(paths):
            table.add(path, a_caption("later"))
        table.finish(paths)
    captions = [json.loads(line)["caption"] for line in out.read_text().splitlines()]
    assert captions == ["first", "later", "later"]


def test_a_line_that_was_cut_off_is_written_again(tmp_path, paths):
    out = tmp_path / "captions.jsonl"
    with CaptionTable(out, SETTINGS) as table:
        table.add(paths[0], a_caption("first"))
        table.add(paths[1], a_caption("second"))
    os.truncate(table.partial, table.partial.stat().st_size - 7)
    with CaptionTable(out, SETTINGS) as table:
        assert table.missing(paths) == paths[1:]
        table.add(paths[1], a_caption("again"))
        table.finish(paths)
    captions = [json.loads(line)["caption"] for line in out.read_text().splitlines()]
    assert captions == ["first", "again"]


def test_a_changed_picture_is_captioned_again(tmp_path, paths):
    out = tmp_path / "captions.jsonl"
    with CaptionTable(out, SETTINGS) as table:
        for path in paths:
            table.add(path, a_caption("old"))
    paths[1].write_text("another picture")
    with CaptionTable(out, SETTINGS) as table:
        assert table.missing(paths) == [paths[1]]


def test_captions_of_two_models_do_not_mix(tmp_path, paths):
    out = tmp_path / "captions.jsonl"
    with CaptionTable(out, SETTINGS) as table:
        table.add(paths[0], a_caption("first"))
    before = table.partial.read_bytes()
    with pytest.raises(InputError, match=r"captions.jsonl.partial: begun with another model"):
        CaptionTable(out, {**SETTINGS, "model_sha256": "def"})
    assert table.partial.read_bytes() == before
    with CaptionTable(out, {**SETTINGS, "model_sha256": "def"}, overwrite=True) as table:
        assert table.missing(paths) == paths


def test_settings_tell_models_and_searches_apart(trained_runs):
    run = RunFolder.open(trained_runs / "rnn")
    search = run.config.search
    same = made_by([run], search)
    assert same == json.loads(json.dumps(same))
    assert same != made_by([run], replace(search, beam=search.beam + 1))
    assert same != made_by([RunFolder.open(trained_runs / "attention")], search)


def test_a_finished_table_is_kept(tmp_path, paths):
    out = tmp_path / "captions.jsonl"
    out.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        CaptionTable(out, SETTINGS)
    assert out.read_text() == "mine"
    with CaptionTable(out, SETTINGS, overwrite=True) as table:
        table.add(paths[0], a_caption("new"))
        assert out.read_text() == "mine"  # until there is something whole
        table.finish(paths)
    assert "new" in out.read_text()


def test_an_empty_table_leaves_nothing(tmp_path):
    with CaptionTable(tmp_path / "captions.jsonl", SETTINGS):
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_processes_do_not_write_one_table(tmp_path):
    out = tmp_path / "captions.jsonl"
    with CaptionTable(out, SETTINGS), pytest.raises(InputError, match="another process"):
        CaptionTable(out, SETTINGS)


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"captions.xlsx: captions are written as .jsonl or .csv"):
        CaptionTable(tmp_path / "captions.xlsx", SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_a_partial_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "captions.jsonl.partial").write_text("hello\n")
    with pytest.raises(InputError, match="not what pictell writes"):
        CaptionTable(tmp_path / "captions.jsonl", SETTINGS)
    assert (tmp_path / "captions.jsonl.partial").read_text() == "hello\n"


class TestSidecars:
    def test_a_text_beside_the_picture(self, paths):
        write_sidecar(paths[0], a_caption("a dog"))
        assert sidecar_of(paths[0]).read_text() == "a dog\n"
        assert sidecar_of(paths[0]).name == "a.txt"

    def test_a_text_that_is_there_is_kept_unless_told(self, paths):
        sidecar_of(paths[1]).write_text("written by a person")
        assert without_sidecar(paths) == ([paths[0], paths[2]], {})
        assert without_sidecar(paths, overwrite=True) == (paths, {})

    def test_two_pictures_cannot_share_a_text(self, paths):
        twin = paths[0].with_suffix(".jpg")
        wanted, shared = without_sidecar([*paths, twin])
        assert wanted == paths
        assert "that of a.png" in shared[twin]
