"""A folder of pictures, each with a text file of the same name beside it, one caption a line.

    reading = read_folder(Path("holiday"))             # holiday/beach.jpg, holiday/beach.txt

Folders train/, val/ and test/ at the top name the splits where they are present.
"""

from __future__ import annotations

from pathlib import Path

from pictell.data.readers.pictures import PictureFolder, Reading, Row, join
from pictell.data.records import Split, parse_split
from pictell.errors import InputError
from pictell.files import read_text

_NOT_CAPTIONS = frozenset(["readme", "license", "licence"])


def read_folder(source: Path) -> Reading:
    """Read pictures with `.txt` files beside them, at any depth.

    Raises:
        InputError: The folder is missing, or holds no such pair.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder")
    pictures = PictureFolder(source)
    texts = {path.with_suffix("") for path in pictures.root.rglob("*.txt")}
    rows = [row for path in pictures.files for row in _rows(path, pictures.root)]
    if not rows:
        raise InputError(
            f"{source}: no captions; looked for a .txt file beside each of {len(pictures.files)} "
            "pictures (beach.jpg and beach.txt)"
        )
    reading = join(pictures, rows, source=source)
    alone = sorted(texts - {path.with_suffix("") for path in pictures.files})
    alone = [f"{p.name}.txt" for p in alone if p.name.lower() not in _NOT_CAPTIONS]
    if alone:
        reading.problems["captions_without_picture"] = alone
    return reading


def _rows(picture: Path, root: Path) -> list[Row]:
    text = picture.with_suffix(".txt")
    if not text.is_file():
        return []
    name = picture.relative_to(root).as_posix()
    captions = [line for line in read_text(text, what="caption file").split("\n") if line.strip()]
    split = _split_of(picture, root)
    return [Row(name=name, caption=c, split=split, where=str(text)) for c in captions or [""]]


def _split_of(picture: Path, root: Path) -> Split:
    first = picture.relative_to(root).parts[0]
    try:
        return parse_split(first, where=str(picture))
    except InputError:
        return ""  # any other folder (or the picture itself) says nothing about splits
