"""COCO's caption files: `annotations/captions_train2017.json` and its sibling for `val2017`.

    reading = read_coco(Path("coco"))          # holds annotations/, train2017/, val2017/

Cite: Chen et al., Microsoft COCO Captions, 2015.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pictell.data.readers.pictures import PictureFolder, Reading, Row, join
from pictell.data.records import Split, parse_split
from pictell.errors import InputError
from pictell.files import read_json


def read_coco(source: Path, *, images: Path | None = None) -> Reading:
    """Read one or several COCO caption files; the split is told by the file name.

    A file of one split alone (`captions_val2017.json` where there is no training file) says
    nothing about splits: its pictures are returned without one.

    Args:
        source: A file, or a folder that holds `captions_*.json`, directly or in `annotations/`.
        images: The folder with `train2017/` and `val2017/`, or with the pictures themselves;
            default: the folder of the file, or the one above `annotations/`.

    Raises:
        InputError: A file is missing, is not JSON, or lacks the expected keys.
    """
    files = _find_files(source)
    folder = files[0].parent
    root = images or (folder.parent if folder.name == "annotations" else folder)
    rows = [row for file in files for row in _rows(file)]
    if len({row.split for row in rows}) == 1:
        rows = [replace(row, split="") for row in rows]
    return join(PictureFolder(root), rows, source=source)


def _find_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    pattern = "captions_*.json"
    found = sorted(source.glob(pattern)) or sorted(source.glob(f"annotations/{pattern}"))
    if not found:
        raise InputError(f"{source}: no {pattern} in it nor in its folder annotations/")
    return found


def _split_of(file: Path) -> Split:
    name = file.stem.lower()
    word = next((w for w in ("train", "val", "test") if w in name), "")
    return parse_split(word, where=str(file))


def _rows(file: Path) -> Iterator[Row]:
    content = read_json(file, what="COCO caption file")
    try:
        names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        captions = [(a["image_id"], str(a["caption"])) for a in content["annotations"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{file}: not COCO's layout: {_complaint(content, error)}") from None
    split, folder = _split_of(file), file.stem.removeprefix("captions_")
    for image, caption in captions:
        # Should one file name stand in train2017/ and in val2017/, the folder tells them apart.
        name = f"{folder}/{names[image]}" if image in names else f"image id {image}"
        yield Row(
            name=name, caption=caption, split=split, where=str(file), extra={"coco_id": image}
        )


def _complaint(content: Any, error: Exception) -> str:
    if isinstance(content, dict) and "annotations" in content and "images" in content:
        return (
            "images need id and file_name, annotations need image_id and caption "
            f"({type(error).__name__}: {error}); is it captions_*.json, not instances_*.json?"
        )
    found = ", ".join(map(repr, list(content)[:5])) if isinstance(content, dict) else "no object"
    return f"expected the keys 'images' and 'annotations', found {found}"
