"""Tables made by oneself: CSV, TSV or JSON lines with the columns image, caption and split.

reading = read_csv(Path("captions.csv"))           # image,caption[,split]
reading = read_jsonl(Path("captions.jsonl"))       # {"image": ..., "caption": ...} a line
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pictell.data.readers.pictures import PictureFolder, Reading, Row, join
from pictell.data.records import parse_split
from pictell.errors import InputError
from pictell.files import read_text

_IMAGE_COLUMNS = ("image", "path", "image_name", "file_name", "filename", "file", "image_id")
_CAPTION_COLUMNS = ("caption", "comment", "text")


def read_csv(source: Path, *, images: Path | None = None) -> Reading:
    """Read a table with a header; one row a caption, any number of rows a picture.

    Args:
        source: The file: `image,caption` or `image,caption,split`, parted by commas, semicolons or
            tabs. Commas in a caption need quotes, unless the caption is the last column.
        images: The folder that picture names are relative to; default: the table's folder.

    Raises:
        InputError: A column is missing, a line is malformed, or a split is unknown.
    """
    text = read_text(source, what="table of captions")
    rows = list(_table_rows(text, source))
    return join(PictureFolder(images or source.parent), rows, source=source)


def _table_rows(text: str, file: Path) -> Iterator[Row]:
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    lines = iter(_cells(text, delimiter, file))
    columns = [name.strip().lower() for name in next(lines, (0, []))[1]]
    image = _column(columns, _IMAGE_COLUMNS, file)
    caption = _column(columns, _CAPTION_COLUMNS, file)
    split = columns.index("split") if "split" in columns else None
    for number, cells in lines:
        where = f"{file}, line {number}"
        if caption == len(columns) - 1 and len(cells) > len(columns):
            # Commas beyond the header's can only be the caption's own.
            cells = [*cells[:caption], delimiter.join(cells[caption:])]
        if len(cells) != len(columns):
            raise InputError(
                f"{where}: {len(cells)} cells where the header has {len(columns)}; a caption with "
                f"{delimiter!r} in it must stand in quotes"
            )
        yield Row(
            name=cells[image],
            caption=cells[caption],
            split="" if split is None else parse_split(cells[split], where=where),
            where=where,
        )


def _cells(text: str, delimiter: str, file: Path) -> list[tuple[int, list[str]]]:
    """(line number, cells) of every line that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines, start = [], 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                lines.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        if delimiter == "\t":  # most programs write tab-separated values without any quoting
            plain = enumerate(text.split("\n"), start=1)
            return [(number, line.split("\t")) for number, line in plain if line.strip()]
        raise InputError(
            f"{file}, line {start}: {error}; a caption that holds quotes must stand in quotes, "
            'with each inner quote written twice ("")'
        ) from None
    return lines


def _column(columns: Sequence[str], names: Sequence[str], file: Path) -> int:
    for name in names:
        if name in columns:
            return columns.index(name)
    raise InputError(
        f"{file}, line 1: no column {names[0]!r}; the first line must name the columns, "
        f"image,caption[,split], and holds {', '.join(map(repr, columns)) or 'nothing'}"
    )


def read_jsonl(source: Path, *, images: Path | None = None) -> Reading:
    """Read JSON lines: `image` and `caption`, or a list `captions`.

    Optional: `split`, `image_id` (default: made from the path), and `extra` (an object, kept).

    Args:
        source: The file; a `dataset.jsonl` of pictell is one of them.
        images: The folder that picture names are relative to; default: the file's folder.

    Raises:
        InputError: A line is malformed, or a split is unknown.
    """
    rows = []
    text = read_text(source, what="file of captions")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            rows.extend(_json_rows(line, f"{source}, line {number}"))
    return join(PictureFolder(images or source.parent), rows, source=source)


def _json_rows(line: str, where: str) -> list[Row]:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(entry, dict):
        raise InputError(f"{where}: must be a JSON object, not {line[:40]!r}")
    name = next((entry[key] for key in _IMAGE_COLUMNS if key in entry), None)
    captions: Any = entry["captions"] if "captions" in entry else [entry.get("caption")]
    extra = entry.get("extra")
    if not isinstance(name, str) or not _are_texts(captions):
        raise InputError(
            f"{where}: expected 'image' (a text) and 'caption' (a text) or 'captions' (a list of "
            f"texts), found {', '.join(map(repr, entry)) or 'nothing'}"
        )
    if extra is not None and not isinstance(extra, dict):
        raise InputError(f"{where}: 'extra' must be a JSON object, not {extra!r}")
    split = parse_split(entry.get("split", ""), where=where)
    own_id = str(entry.get("image_id", ""))
    return [
        Row(name=name, caption=c, split=split, where=where, extra=extra, image_id=own_id)
        for c in captions
    ]


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
