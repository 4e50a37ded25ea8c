"""Pictures inside the page: small JPEGs as data URIs.

    thumbnail("photos/dog.jpg", side=320)      # "data:image/jpeg;base64,..."

They are encoded anew, so that nothing of a photograph's metadata (its place, say) is passed on.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from pictell.data.images import read_image
from pictell.errors import InputError


def thumbnail(path: str | Path, *, side: int = 320, quality: int = 80) -> str | None:
    """A picture file as a data URI, at most `side` pixels wide and high.

    Returns:
        None where the file is missing or does not decode: a report about captions is still one.
    """
    if not str(path):
        return None
    try:
        image = read_image(path, draft_size=2 * side)
    except InputError:
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return jpeg_uri(image, quality=quality)


def panel_picture(picture: bytes, *, width: int = 1000, quality: int = 80) -> str:
    """An encoded picture (PNG or any other) as a JPEG data URI of at most `width` pixels across."""
    image = read_image(picture, name="attention picture")
    if image.width > width:
        height = max(1, round(image.height * width / image.width))
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return jpeg_uri(image, quality=quality)


def jpeg_uri(image: Image.Image, *, quality: int) -> str:
    """An RGB picture as the data URI of a JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
