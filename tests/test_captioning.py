"""`pictell caption` on folders, as a person uses it."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from pictell import captioning
from pictell.captioner import Captioner
from pictell.cli import main


@pytest.fixture
def photos(shapes_dataset, tmp_path, monkeypatch) -> Path:
    """A folder with a folder in it: 14 pictures, 2 bad ones and a text."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    shutil.copytree(shapes_dataset / "pictures", folder / "deeper")
    (folder / "bad.jpg").write_text("not a picture")
    (folder / "deeper" / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no picture")
    return Path("photos")


@pytest.fixture
def run(trained_runs) -> str:
    return str(trained_runs / "rnn")


def test_folder_into_jsonl(photos, run, trained_runs, capsys):
    assert main(["caption", run, "photos", "--out", "out/captions.jsonl", "--beam", "2"]) == 2
    rows = [json.loads(line) for line in Path("out/captions.jsonl").read_text().splitlines()]
    captioner = Captioner.load(trained_runs / "rnn")
    assert len(rows) == 14
    for row in rows:
        assert row["caption"] == captioner.caption(row["file"], beam=2)[0].text
    captured = capsys.readouterr()
    assert captured.out == "out/captions.jsonl: 14 captions\n"
    listed = captured.err.splitlines()[-3:]
    assert listed[0] == "pictell caption: 2 of 16 pictures were left out:"
    assert listed[1].startswith("  photos/bad.jpg: not a picture in a format that is read (JPEG, ")
    assert listed[2].startswith("  photos/deeper/empty.png: not a picture")


def test_folder_into_csv(photos, run):
    (photos / "bad.jpg").unlink()
    (photos / "deeper" / "empty.png").unlink()
    assert main(["caption", run, "photos", "--out", "captions.csv"]) == 0
    with open("captions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 14
    assert list(rows[0]) == ["file", "caption", "log_probability", "ended", "width", "height"]


def test_a_stopped_table_goes_on_without_repeating(photos, run, monkeypatch, capsys):
    """Ctrl-C in the midst leaves no table; the same command does the rest and no more."""
    command = ["caption", run, "photos", "--out", "captions.jsonl", "--batch_size", "3"]
    worked_on = watch_batches(monkeypatch, stop_after=2)
    assert main(command) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    assert not Path("captions.jsonl").exists()
    first = list(worked_on)
    worked_on = watch_batches(monkeypatch)
    assert main(command) == 2
    assert "are in captions.jsonl.partial already" in capsys.readouterr().err
    assert first and worked_on
    assert not set(first) & set(worked_on)
    rows = [json.loads(line) for line in Path("captions.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rows] == sorted(map(str, first + worked_on))
    assert Path("captions.jsonl.partial").exists()  # one picture is bad


def test_mended_pictures_are_added_to_a_finished_table(photos, run, monkeypatch, capsys):
    command = ["caption", run, "photos", "--out", "captions.csv"]
    assert main(command) == 2
    assert "once the pictures are mended, the same command adds them" in capsys.readouterr().err
    whole = Path("captions.csv").read_text().splitlines()
    bad = [Path("photos/bad.jpg"), Path("photos/deeper/empty.png")]
    for path in bad:
        Image.new("RGB", (40, 30), "red").save(path)
    worked_on = watch_batches(monkeypatch)
    assert main(command) == 0
    assert sorted(worked_on) == bad
    mended = Path("captions.csv").read_text().splitlines()
    assert len(mended) == len(whole) + 2
    assert set(whole) < set(mended)
    assert not Path("captions.csv.partial").exists()
    assert main(command) == 2  # now it is finished
    assert "exists already" in capsys.readouterr().err


def watch_batches(monkeypatch, stop_after: int | None = None) -> list[Path]:
    """Note which pictures are captioned; press Ctrl-C after some batches."""
    done: list[Path] = []
    real = captioning.caption_files
    batches = 0

    def watched(captioner, paths, search, on_caption, *, batch_size, on_progress):
        def note(path, caption):
            done.append(path)
            on_caption(path, caption)

        def count(number):
            nonlocal batches
            batches += 1
            if batches == stop_after:
                raise KeyboardInterrupt
            on_progress(number)

        return real(captioner, paths, search, note, batch_size=batch_size, on_progress=count)

    monkeypatch.setattr(captioning, "caption_files", watched)
    return done


def test_sidecars(photos, run, capsys):
    written = photos / "deeper" / "val_red_circle.txt"
    written.write_text("by a person\n")
    assert main(["caption", run, "photos", "--sidecar"]) == 2
    assert written.read_text() == "by a person\n"
    assert len(list((photos / "deeper").glob("*.txt"))) == 14
    assert "13 captions written" in capsys.readouterr().out
    assert main(["caption", run, "photos", "--sidecar"]) == 2
    assert "0 captions written" in capsys.readouterr().out
    assert main(["caption", run, "photos", "--sidecar", "--overwrite"]) == 2
    assert written.read_text() != "by a person\n"


def test_attention_is_drawn_beside_a_table(photos, trained_runs):
    pictures = [str(p) for p in sorted((photos / "deeper").glob("val_*"))]
    run = str(trained_runs / "attention")
    more = ["--out", "c.jsonl", "--attention", "--attention_folder", "maps"]
    assert main(["caption", run, *pictures, *more]) == 0
    drawn = sorted(Path("maps").iterdir())
    assert len(drawn) == len(pictures)
    assert Image.open(drawn[0]).width > 100


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--out", "captions.txt"], "captions.txt: captions are written as .jsonl or .csv"),
            (["--out", "a.csv", "--sidecar"], "exclude each other"),
            (["--out", "a.csv", "--beam", "0"], "search.beam is 0"),
            (["--batch_size", "0"], "batch_size is 0"),
            (["--out", "a.csv", "--attention"], "no attention to draw"),
        ],
    )
    def test_is_told_in_one_line_and_leaves_nothing(self, photos, run, options, said, capsys):
        before = sorted(Path().rglob("*"))
        assert main(["caption", run, "photos", *options]) == 2
        captured = capsys.readouterr()
        assert said in captured.err
        assert captured.err.count("\n") == 1
        assert sorted(Path().rglob("*")) == before

    def test_nothing_but_bad_pictures_leaves_no_table(self, photos, run, capsys):
        assert main(["caption", run, "photos/bad.jpg", "--out", "captions.jsonl"]) == 2
        assert "photos/bad.jpg: not a picture" in capsys.readouterr().err
        assert not list(Path().glob("captions*"))
