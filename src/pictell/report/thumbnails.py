"""Pictures inside the page: small JPEGs as data URIs, all together within a budget.

    thumbnails = Thumbnails(["photos/dog.jpg", "photos/cat.jpg"])
    thumbnails.of("photos/dog.jpg")      # "data:image/jpeg;base64,..."

They are encoded anew, so that nothing of a photograph's metadata (its place, say) is passed on.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pictell.data.images import read_image
from pictell.errors import InputError

BUDGET = 9_000_000  # bytes of pictures in a page, as base64
_SIDES = (480, 360, 240, 160)  # pixels; the first at which all fit is taken


@dataclass(frozen=True)
class Thumbnail:
    """A picture in a page: its data URI, and the width and height of the original."""

    uri: str
    width: int
    height: int


class Thumbnails:
    """The pictures of a page, all at the size at which they fit together.

    Args:
        paths: The picture files, as often as they are shown.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._made: dict[str, Thumbnail | None] = {}
        for side in _SIDES:
            self._made = {path: thumbnail(path, side=side) for path in dict.fromkeys(paths)}
            shown = (self._made[path] for path in paths)
            if sum(len(one.uri) for one in shown if one) <= BUDGET:
                return

    def of(self, path: str) -> Thumbnail | None:
        """A picture; None where the file is missing or does not decode."""
        return self._made[path]


def thumbnail(path: str | Path, *, side: int = 320, quality: int = 80) -> Thumbnail | None:
    """A picture file as a data URI, at most `side` pixels wide and high.

    Returns:
        None where the file is missing or does not decode: a report about captions is still one.
    """
    if not str(path):
        return None
    try:
        image = read_image(path)
    except InputError:
        return None
    width, height = image.size
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return Thumbnail(jpeg_uri(image, quality=quality), width, height)


def jpeg_uri(image: Image.Image, *, quality: int) -> str:
    """An RGB picture as the data URI of a JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
