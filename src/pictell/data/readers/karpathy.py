"""Karpathy's JSON: `dataset_flickr8k.json`, `dataset_flickr30k.json`, `dataset_coco.json`.

    reading = read_karpathy(Path("dataset_coco.json"), images=Path("coco"))

The splits most papers report on. Cite: Karpathy, Fei-Fei, CVPR 2015.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pictell.data.readers.pictures import PictureFolder, Reading, Row, join
from pictell.data.records import parse_split
from pictell.errors import InputError
from pictell.files import read_json


def read_karpathy(source: Path, *, images: Path | None = None) -> Reading:
    """Read a JSON file in Karpathy's layout; the split `restval` counts as training.

    Args:
        source: The JSON file, or a folder that holds one `dataset*.json`.
        images: The folder of pictures; default: anywhere below the JSON file's folder.

    Raises:
        InputError: The file is missing, is not JSON, or lacks the expected keys.
    """
    file = _find_file(source)
    content = read_json(file, what="Karpathy JSON")
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise InputError(
            f"{file}: not Karpathy's layout: expected the key 'images' with a list of "
            f"{{filename, split, sentences}}{_found(content)}"
        )
    rows = [
        row for number, entry in enumerate(content["images"]) for row in _rows(entry, file, number)
    ]
    return join(PictureFolder(images or file.parent), rows, source=file)


def _find_file(source: Path) -> Path:
    if not source.is_dir():
        return source
    found = sorted(source.glob("dataset*.json"))
    if len(found) != 1:
        names = ", ".join(f.name for f in found) or "none"
        raise InputError(f"{source}: expected one dataset*.json, found {names}; name the file")
    return found[0]


def _found(content: Any) -> str:
    return f", found {', '.join(map(repr, list(content)[:5]))}" if isinstance(content, dict) else ""


def _rows(entry: Any, file: Path, number: int) -> Iterator[Row]:
    where = f"{file}, images[{number}]"
    try:
        name, split, sentences = entry["filename"], entry["split"], entry["sentences"]
        captions = [s["raw"] if "raw" in s else " ".join(s["tokens"]) for s in sentences]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{where}: expected filename, split and sentences with raw or tokens "
            f"({type(error).__name__}: {error})"
        ) from None
    if entry.get("filepath"):  # COCO: train2014 or val2014
        name = f"{entry['filepath']}/{name}"
    extra = {"coco_id": entry["cocoid"]} if "cocoid" in entry else None
    known = parse_split(split, where=where)
    for caption in captions:
        yield Row(name=name, caption=caption, split=known, where=where, extra=extra)
