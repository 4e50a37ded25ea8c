"""Flickr8k and Flickr30k in the layouts in which they are passed around.

    reading = read_flickr(Path("flickr8k"), language="en")

Cite: Hodosh, Young, Hockenmaier, JAIR 2013 (Flickr8k); Young et al., TACL 2014 (Flickr30k); for the
Chinese captions Li, Lan, Dong, Liu, ICMR 2016 (Flickr8k-CN).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from pictell.data.readers.pictures import PictureFolder, Reading, Row, join
from pictell.data.records import Split
from pictell.errors import InputError
from pictell.files import read_text

_PICTURE_FOLDERS = (
    "images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset",
    "flickr30k_images", "flickr30k-images",
)  # fmt: skip
_SPLIT_LISTS: dict[str, Split] = {"train": "train", "dev": "val", "val": "val", "test": "test"}

# "1.jpg#0<TAB>A dog ." and, in Chinese, "1.jpg#zhc#0 ..."; a key may stand without a caption.
_TOKEN_LINE = re.compile(r"(?P<name>.+?)#(?:zh\w*#)?(?P<number>\d+)(?:[\t ]+(?P<caption>.*))?")
# "1.jpg| 0| A dog ." One line of Flickr30k lacks its second bar.
_BAR_LINE = re.compile(r"(?P<name>[^|]+)\|\s*(?P<number>\d+)\s*\|?(?P<caption>.*)")


def read_flickr(source: Path, *, images: Path | None = None, language: str = "en") -> Reading:
    """Read Flickr8k or Flickr30k.

    Args:
        source: The folder, or the file of captions in it. Captions: `Flickr8k.token.txt`,
            `results_20130124.token`, `results.csv` or Kaggle's `captions.txt`; in Chinese
            `flickr8kzhc.caption.txt`. Splits: `Flickr_8k.trainImages.txt` and its siblings; where
            they are missing no picture has a split.
        images: The folder of pictures, where it is not beside the captions.
        language: `en`, or `zh` / `zh-char` for the Chinese captions.

    Raises:
        InputError: Nothing known was found, or a line is malformed.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    folder = source if source.is_dir() else source.parent
    captions = _find_captions(folder, language) if source.is_dir() else source
    rows = _read_captions(captions)
    pictures = PictureFolder(images or _find_pictures(folder))
    splits = _read_split_lists(folder)
    rows = [replace(row, split=splits.get(row.name, "")) for row in rows]
    reading = join(pictures, rows, source=captions)
    reading.notes.append(f"captions from {captions}")
    listed_only = sorted(name for name in splits if pictures.find(name) is None)
    if listed_only:
        reading.problems["split_entries_without_picture"] = listed_only
    return reading


def _find_captions(folder: Path, language: str) -> Path:
    english = ("Flickr8k.token.txt", "results_20130124.token", "results.csv", "captions.txt")
    chinese = ("flickr8kzhc.caption.txt", "*zh*.caption.txt", "captions.txt")
    wanted = chinese if language.startswith("zh") else english
    for pattern in wanted:
        # Archives unpack into a folder of their own as often as not (Flickr8k_text/).
        for found in (folder.glob(pattern), folder.glob(f"*/{pattern}")):
            for file in sorted(found):
                return file
    raise InputError(
        f"{folder}: no Flickr captions in language {language!r}; looked for {', '.join(wanted)}"
    )


def _find_pictures(folder: Path) -> Path:
    return next((folder / n for n in _PICTURE_FOLDERS if (folder / n).is_dir()), folder)


def _read_split_lists(folder: Path) -> dict[str, Split]:
    splits: dict[str, Split] = {}
    for word, split in _SPLIT_LISTS.items():
        pattern = f"*.{word}Images.txt"
        for file in sorted({*folder.glob(pattern), *folder.glob(f"*/{pattern}")}):
            for name in read_text(file, what="split list").split():
                if splits.setdefault(name, split) != split:
                    raise InputError(f"{file}: {name} is in the split {splits[name]!r} as well")
    return splits


def _read_captions(file: Path) -> list[Row]:
    lines = read_text(file, what="file of captions").split("\n")
    first = lines[0].strip().lower()
    if first.startswith("image_name|"):
        return _parse(file, lines[1:], _parse_bars, first=2)
    if first.replace(" ", "").startswith("image,caption"):
        return _parse(file, lines[1:], _parse_commas, first=2)
    return _parse(file, lines, _parse_token, first=1)


_Parsed = tuple[str, int | None, str]  # picture, number of the caption, caption


def _parse(
    file: Path, lines: Iterable[str], parse: Callable[[str], _Parsed | None], *, first: int
) -> list[Row]:
    found = []
    for number, line in enumerate(lines, start=first):
        if not line.strip():
            continue
        parsed = parse(line)
        if parsed is None:
            raise InputError(f"{file}, line {number}: no picture and caption in {line[:60]!r}")
        name, order, caption = parsed
        row = Row(name=name.strip(), caption=caption.strip(), where=f"{file}, line {number}")
        found.append((number if order is None else order, row))
    # The five captions of a picture in the order of their numbers, wherever the lines stand.
    return [row for _, row in sorted(found, key=lambda item: item[0])]


def _parse_token(line: str) -> _Parsed | None:
    match = _TOKEN_LINE.fullmatch(line.rstrip())
    return match and (match["name"], int(match["number"]), match["caption"] or "")


def _parse_bars(line: str) -> _Parsed | None:
    match = _BAR_LINE.fullmatch(line.rstrip())
    return match and (match["name"], int(match["number"]), match["caption"])


def _parse_commas(line: str) -> _Parsed | None:
    """Kaggle's CSV, line by line: an unclosed quote must not swallow the lines after it."""
    try:
        name, *rest = next(csv.reader([line], strict=True))
    except csv.Error:
        name, *rest = line.split(",", 1)
    return (name, None, ",".join(rest)) if rest else None
