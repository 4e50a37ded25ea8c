"""What all readers share: the pictures under a folder, and captions joined to them.

pictures = PictureFolder(Path("flickr8k/images"))
reading = join(pictures, [Row(name="1.jpg", caption="a dog", split="train")], source=path)
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pictell.data.images import IMAGE_SUFFIXES
from pictell.data.records import Example, Split
from pictell.errors import InputError

Problems = dict[str, list[str]]  # kind of problem -> what it was met at


@dataclass(frozen=True, kw_only=True)
class Row:
    """One caption as the source has it.

    Attributes:
        name: What the source calls the picture: a file name or a path.
        caption: The text.
        split: The picture's split, empty when the source does not say.
        where: File and line, for messages.
        extra: What else the source knows of the picture.
        image_id: The source's own name for the picture in the data set; made from the path if
            empty.
    """

    name: str
    caption: str
    split: Split = ""
    where: str = ""
    extra: dict[str, Any] | None = None
    image_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a reader found.

    Attributes:
        examples: Pictures with captions, ordered by `image_id`.
        problems: What did not fit: kind of problem (a key of `summary.PROBLEMS`) -> names.
        notes: Things to know that are no fault.
    """

    examples: list[Example]
    problems: Problems = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _same(name: str) -> str:
    """A name as it is compared: macOS stores letters decomposed, Windows ignores case."""
    return unicodedata.normalize("NFC", name).lower()


class PictureFolder:
    """The picture files at any depth under a folder.

    Attributes:
        root: The folder; names in captions are looked up relative to it.
        files: All picture files under it, ordered by path.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise InputError(f"{root}: no such folder of pictures")
        self.root = Path(os.path.abspath(root))  # without "..", as `find` makes its paths
        self.files = sorted(_walk(self.root))

    @cached_property
    def base(self) -> Path:
        """The innermost folder that holds all the pictures; `image_id`s are relative to it."""
        folders = {str(file.parent) for file in self.files}
        return Path(os.path.commonpath(folders)) if folders else self.root

    @cached_property
    def _known(self) -> set[Path]:
        return set(self.files)

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        index: dict[str, list[Path]] = defaultdict(list)
        for file in self.files:
            index[_same(file.name)].append(file)
            index[_same(file.stem)].append(file)  # captions that leave out ".jpg"
        return index

    def find(self, name: str) -> Path | None:
        """The picture a caption means: by path, else by file name if only one has it."""
        name = name.strip().replace("\\", "/")
        for path in (self.root / name, self.base / name):
            path = Path(os.path.normpath(path))
            if path in self._known or (name and path.is_file()):
                return path
        found = self._by_name.get(_same(name.rsplit("/", 1)[-1]), [])
        return found[0] if len(found) == 1 else None

    def image_id(self, path: Path) -> str:
        """The name of a picture in the data set: its path below all pictures' common folder."""
        inside = path.is_relative_to(self.base)
        return (path.relative_to(self.base) if inside else path).as_posix()


def _walk(root: Path) -> Iterable[Path]:
    seen = {os.path.realpath(root)}
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if _is_new(os.path.join(folder, name), seen)]
        for name in names:
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith("."):
                yield Path(folder, name)


def _is_new(folder: str, seen: set[str]) -> bool:
    """Whether to look into a folder: not twice, should a link lead back to where we were."""
    name, real = os.path.basename(folder), os.path.realpath(folder)
    # Archives made on a Mac bring "__MACOSX/._1.jpg", which are no pictures.
    if real in seen or name.startswith(".") or name == "__MACOSX":
        return False
    seen.add(real)
    return True


def join(pictures: PictureFolder, rows: Sequence[Row], *, source: Path) -> Reading:
    """Bring captions and pictures together.

    Captions of a picture keep the order of the rows.

    Raises:
        InputError: There is no caption, no picture, no caption of a picture that is there, one
            picture is in two splits, or two pictures have one id.
    """
    if not rows:
        raise InputError(f"{source}: holds no captions")
    if not pictures.files and not any(pictures.find(row.name) for row in rows):
        raise InputError(f"{pictures.root}: holds no pictures; say where they are with --images")
    groups, homeless = _group(pictures, rows)
    if not groups:
        raise InputError(
            f"{source}: none of the captions belongs to a picture under {pictures.root}: captions "
            f"name {rows[0].name!r}, files are called {pictures.files[0].name!r}"
        )
    examples = [_to_example(pictures, path, group) for path, group in groups.items()]
    _check_ids(examples)
    problems = {
        "captions_without_picture": [
            f"{name} ({number} caption{'s' if number > 1 else ''})"
            for name, number in sorted(homeless.items())
        ],
        "pictures_without_caption": _without_caption(pictures, groups),
    }
    return Reading(
        examples=sorted(examples, key=lambda e: e.image_id),
        problems={kind: names for kind, names in problems.items() if names},
    )


def _group(
    pictures: PictureFolder, rows: Iterable[Row]
) -> tuple[dict[Path, list[Row]], Counter[str]]:
    """Rows by picture, and how many captions each name without a picture has."""
    places: dict[str, Path | None] = {}
    groups: dict[Path, list[Row]] = {}
    homeless: Counter[str] = Counter()
    for row in rows:
        if row.name not in places:
            places[row.name] = pictures.find(row.name)
        path = places[row.name]
        if path is None:
            homeless[row.name] += 1
        else:
            groups.setdefault(path, []).append(row)
    return groups, homeless


def _to_example(pictures: PictureFolder, path: Path, rows: Sequence[Row]) -> Example:
    splits: dict[Split, Row] = {row.split: row for row in rows if row.split}
    if len(splits) > 1:
        said = " but ".join(f"{split} in {row.where}" for split, row in sorted(splits.items()))
        raise InputError(f"{rows[0].name}: one picture in two splits ({said})")
    return Example(
        image_id=next((row.image_id for row in rows if row.image_id), pictures.image_id(path)),
        path=path,
        captions=tuple(row.caption for row in rows),
        split=next(iter(splits)) if splits else "",
        extra=next((row.extra for row in rows if row.extra), None),
    )


def _check_ids(examples: Iterable[Example]) -> None:
    paths: dict[str, Path] = {}
    for example in examples:
        other = paths.setdefault(example.image_id, example.path)
        if other != example.path:
            raise InputError(
                f"image_id {example.image_id!r} names two pictures, {other} and {example.path}; "
                "give each its own, or leave image_id out"
            )


def _without_caption(pictures: PictureFolder, groups: Iterable[Path]) -> list[str]:
    used = set(groups)
    # A folder none of whose pictures has a caption is another data set (COCO's train2017 beside
    # val2017), not a gap in this one.
    folders = {path.parent for path in used}
    return [
        pictures.image_id(file)
        for file in pictures.files
        if file not in used and file.parent in folders
    ]
