"""The form in which all of pictell sees a data set, and the file it is kept in.

    examples = read_dataset(Path("data/flickr8k"))          # or .../dataset.jsonl

`prepare` turns every layout found in the wild into one `dataset.jsonl`, a picture a line; nothing
after it knows where the captions came from. Picture paths are kept relative to the file where the
pictures lie below it, so that such a folder can be moved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pictell.errors import InputError
from pictell.files import read_text, write_jsonl

Split = Literal["train", "val", "test", ""]
SPLITS: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
DATASET_FILE = "dataset.jsonl"

_SPLIT_NAMES: dict[str, Split] = {
    "": "",
    **dict.fromkeys(("train", "training", "restval"), "train"),  # restval: Karpathy's COCO split
    **dict.fromkeys(("val", "dev", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True, kw_only=True)
class Example:
    """A picture with its captions.

    Attributes:
        image_id: Unique in the data set; every later file names the picture by it.
        path: The picture file.
        captions: Texts as people wrote them, any number.
        split: `train`, `val` or `test`; empty when the source does not say.
        extra: What else the source knows of the picture (boxes of things in generated scenes).
        sha256: Hash of the picture file's bytes in hexadecimal; empty when it is not known.
    """

    image_id: str
    path: Path
    captions: tuple[str, ...]
    split: Split = ""
    extra: dict[str, Any] | None = None
    sha256: str = ""


def parse_split(name: object, *, where: str) -> Split:
    """`train`, `val`, `test` or empty, from any of the names that data sets use for them.

    Raises:
        InputError: The name is not known; `where` (file and line) is in the message.
    """
    split = _SPLIT_NAMES.get(name.strip().lower()) if isinstance(name, str) else None
    if split is None:
        known = ", ".join(sorted(filter(None, _SPLIT_NAMES)))
        raise InputError(f"{where}: unknown split {name!r}; known: {known}")
    return split


def dataset_file(path: Path) -> Path:
    """The `dataset.jsonl` meant by a folder or by the file itself."""
    return path / DATASET_FILE if path.is_dir() else path


def read_dataset(path: Path) -> list[Example]:
    """Read a data set that `pictell prepare` (or anybody else) wrote.

    Args:
        path: The `dataset.jsonl`, or the folder that holds it.

    Returns:
        The examples in the order of the file, with picture paths made absolute. Whether the
        pictures are there is not looked at: reading one says so clearly enough.

    Raises:
        InputError: The file is missing, empty, or a line is not as expected.
    """
    file = dataset_file(Path(path))
    text = read_text(file, what="data set (`pictell prepare` writes one)")
    lines: dict[str, int] = {}
    examples = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        example = _parse_line(line, file.parent, where=f"{file}, line {number}")
        if example.image_id in lines:
            raise InputError(
                f"{file}, line {number}: image_id {example.image_id!r} stands in line "
                f"{lines[example.image_id]} already; every picture has one line"
            )
        lines[example.image_id] = number
        examples.append(example)
    if not examples:
        raise InputError(f"{file}: the data set is empty; write it again with `pictell prepare`")
    return examples


def _parse_line(line: str, folder: Path, *, where: str) -> Example:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: must be a JSON object, not {line[:40]!r}")
    for key in ("image_id", "path"):
        if not isinstance(row.get(key), str) or not row[key]:
            raise InputError(f"{where}: {key!r} must be a text, not {row.get(key)!r}")
    captions, extra = row.get("captions"), row.get("extra")
    if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
        raise InputError(f"{where}: 'captions' must be a list of texts, not {captions!r}")
    if extra is not None and not isinstance(extra, dict):
        raise InputError(f"{where}: 'extra' must be a JSON object, not {extra!r}")
    return Example(
        image_id=row["image_id"],
        path=(folder / row["path"]).absolute(),
        captions=tuple(captions),
        split=parse_split(row.get("split", ""), where=where),
        extra=extra,
        sha256=str(row.get("sha256") or ""),
    )


def write_dataset(path: Path, examples: Iterable[Example]) -> Path:
    """Write a data set, whole or not at all.

    Args:
        path: A folder, in which `dataset.jsonl` is written, or a file that ends in `.jsonl`.
        examples: What to write, one line each.

    Returns:
        The file written.
    """
    path = Path(path)
    file = path if path.suffix == ".jsonl" else path / DATASET_FILE
    folder = file.parent.resolve()
    write_jsonl(file, [_to_row(example, folder) for example in examples])
    return file


def _to_row(example: Example, folder: Path) -> dict[str, Any]:
    picture = example.path.absolute()
    if picture.is_relative_to(folder):
        shown = picture.relative_to(folder).as_posix()
    elif picture.resolve().is_relative_to(folder):  # one of the two goes through a link
        shown = picture.resolve().relative_to(folder).as_posix()
    else:
        shown = str(picture)
    row: dict[str, Any] = {
        "image_id": example.image_id,
        "path": shown,
        "captions": list(example.captions),
        "split": example.split,
    }
    if example.extra is not None:
        row["extra"] = example.extra
    if example.sha256:
        row["sha256"] = example.sha256
    return row


def dataset_hash(examples: Iterable[Example]) -> str:
    """One sha256 (hexadecimal) that names a data set in records of experiments.

    It covers ids, captions, splits and, where known, the pictures' contents; neither the order of
    the examples nor the place of the pictures matters.
    """
    digest = hashlib.sha256()
    for example in sorted(examples, key=lambda e: e.image_id):
        row = [example.image_id, list(example.captions), example.split, example.sha256]
        digest.update(json.dumps(row).encode("ascii") + b"\n")
    return digest.hexdigest()
