"""Captions of many files on disk: a table that can be taken up again, or a text beside each file.

    with CaptionTable(Path("captions.jsonl"), made_by([run], search)) as table:
        failed = caption_files(captioner, table.missing(paths), search, table.add)
        table.finish(paths)

A table grows as OUT.partial, a line for each picture, and becomes OUT when all are done. A run that
was stopped goes on with the pictures that have no line yet. Where pictures had to be left out,
OUT.partial stays beside OUT, so that the same command adds them once they are mended.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pictell.caption_files import Failures
from pictell.captioner import Caption
from pictell.config import SearchConfig
from pictell.errors import InputError
from pictell.files import write_text
from pictell.training.checkpoint import RunFolder, models_hash

COLUMNS: tuple[str, ...] = ("file", "caption", "log_probability", "ended", "width", "height")


def made_by(runs: Sequence[RunFolder], search: SearchConfig) -> dict[str, Any]:
    """What captions depend on beside the picture; a table holds captions of one kind."""
    return {"model_sha256": models_hash(runs), "search": vars(search)}


class CaptionTable:
    """Captions in a file that grows, for `with`.

    Args:
        out: The file to write, .jsonl or .csv.
        settings: What the captions depend on, from `made_by`.
        overwrite: Forget what was written before.

    Raises:
        InputError: The file is finished already, has another suffix, is being written, or was begun
            with another model or other options.
    """

    def __init__(self, out: Path, settings: dict[str, Any], *, overwrite: bool = False) -> None:
        self.out, self.settings = out, settings
        self.partial = out.with_name(out.name + ".partial")
        self.rows: dict[str, dict[str, Any]] = {}
        if out.suffix.lower() not in (".jsonl", ".csv"):
            raise InputError(f"{out}: captions are written as .jsonl or .csv; name it so")
        if out.exists() and not overwrite and not self.partial.exists():
            raise InputError(f"{out}: exists already; name another file, or give --overwrite")
        out.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._open()
        try:
            self._begin(overwrite)
        except InputError:
            self._file.close()
            raise

    def _open(self) -> io.BufferedRandom:
        file = open(self.partial, "a+b")  # noqa: SIM115 - closed by __exit__
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise InputError(f"{self.partial}: another process is writing it") from None
        return file

    def _begin(self, overwrite: bool) -> None:
        """Take up the lines that are there, or write the head."""
        if overwrite:
            self._file.truncate(0)
        self._file.seek(0)
        whole = self._file.read()
        whole = whole[: whole.rfind(b"\n") + 1]  # a line that was cut off counts as not written
        self._file.truncate(len(whole))
        if not whole:
            self._write({"made_by": self.settings})
            return
        head, *rows = self._parse(whole)
        if head.get("made_by") != self.settings:
            raise InputError(
                f"{self.partial}: begun with another model or other options; finish it with those, "
                "or give --overwrite to begin anew"
            )
        self.rows = {row["file"]: row for row in rows}

    def _parse(self, whole: bytes) -> list[dict[str, Any]]:
        try:
            return [json.loads(line) for line in whole.decode().rstrip("\n").split("\n")]
        except ValueError:
            raise InputError(
                f"{self.partial}: not what pictell writes; move it away, or give --overwrite"
            ) from None

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def missing(self, paths: Iterable[Path]) -> list[Path]:
        """The pictures without a line, or changed since it was written."""
        return [path for path in paths if not self._has(path)]

    def _has(self, path: Path) -> bool:
        row = self.rows.get(str(path))
        return row is not None and row["stamp"] == _stamp(path)

    def add(self, path: Path, caption: Caption) -> None:
        """Write a picture's line."""
        row = {"file": str(path), "stamp": _stamp(path), **_columns(caption)}
        self.rows[row["file"]] = row
        self._write(row)

    def finish(self, paths: Sequence[Path]) -> None:
        """Write the file itself, whole, with the lines of these pictures in this order.

        Pictures without a line are left out, and what is needed to add them later is kept.
        """
        rows = [self.rows[str(path)] for path in paths if str(path) in self.rows]
        table = _csv if self.out.suffix.lower() == ".csv" else _jsonl
        write_text(self.out, table([{k: v for k, v in r.items() if k != "stamp"} for r in rows]))
        if len(rows) == len(paths):
            self.partial.unlink()

    def __enter__(self) -> CaptionTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self.rows:  # nothing that is worth taking up
            self.partial.unlink(missing_ok=True)


def _stamp(path: Path) -> list[int] | None:
    """Size and time of change: a changed picture is captioned again."""
    with suppress(OSError):
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]
    return None


def _columns(caption: Caption) -> dict[str, Any]:
    width, height = caption.image_size
    return {
        "caption": caption.text,
        "log_probability": round(caption.log_probability, 4),
        "ended": caption.ended,
        "words": caption.words,
        "word_log_probabilities": [round(value, 4) for value in caption.word_log_probabilities],
        "width": width,
        "height": height,
    }


def _jsonl(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    written = io.StringIO(newline="")
    table = csv.DictWriter(written, COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return written.getvalue()


# -- a text beside each picture --------------------------------------------------------------------


def sidecar_of(path: Path) -> Path:
    """The text file beside a picture."""
    return path.with_suffix(".txt")


def write_sidecar(path: Path, caption: Caption) -> None:
    """Write the caption into the text file beside the picture."""
    write_text(sidecar_of(path), caption.text + "\n")


def without_sidecar(
    paths: Sequence[Path], *, overwrite: bool = False
) -> tuple[list[Path], Failures]:
    """The pictures whose text is to be written, and those that would share one with another.

    A text that is there is kept, whoever wrote it, unless `overwrite`.
    """
    first: dict[Path, Path] = {}
    shared: Failures = {}
    for path in paths:
        owner = first.setdefault(sidecar_of(path), path)
        if owner != path:
            shared[path] = f"its text would be that of {owner.name}; rename one of the two"
    wanted = [p for p in first.values() if overwrite or not sidecar_of(p).exists()]
    return wanted, shared
