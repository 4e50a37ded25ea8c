"""Pictures: decode safely, bring to the encoder's size, and map grid cells back to the original.

    transform = ImageTransform(size=256, resize="squash")
    pixels = transform(read_image("photo.jpg"))        # (3, 256, 256) uint8

Pixels stay uint8 until they are on the encoder's device, where the encoder subtracts its own mean
and divides by its own standard deviation: nothing between file and encoder can confuse 0..1 with
0..255.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pictell.errors import InputError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"}
)
# Pillow reads forty more, by the content whatever the name; for some it starts other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF")
MAX_PIXELS = 100_000_000  # a decoded picture of this many pixels takes 300 MB
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels if nothing is said
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)  # in shares of the sides


def read_image(
    source: str | Path | bytes | Image.Image, *, draft_size: int | None = None, name: str = ""
) -> Image.Image:
    """Decode a picture to RGB, upright.

    Args:
        source: A file, the bytes of one, or a picture that is decoded already.
        draft_size: Let the JPEG decoder skip detail that a picture with sides of this many pixels
            cannot show. Much faster on photographs; the returned picture is then smaller.
        name: What to call the picture in errors when `source` is not a path.

    Returns:
        An RGB picture. EXIF orientation is applied, transparency is laid on white, 16-bit grey is
        scaled to 8 bits, and of an animation the first frame is taken.

    Raises:
        InputError: The file is missing, is no picture, is cut short, or has too many pixels.
    """
    if isinstance(source, Image.Image):
        return _to_upright_rgb(source)
    label = name or (str(source) if not isinstance(source, bytes) else "picture")
    try:
        with warnings.catch_warnings():
            # Our own pixel limit below replaces Pillow's warning.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with _open(source) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputError(
                        f"{label}: {image.width} x {image.height} pixels are more than the "
                        f"{MAX_PIXELS:,} that are read; make the picture smaller"
                    )
                if draft_size is not None:
                    image.draft("RGB", (draft_size, draft_size))
                return _to_upright_rgb(image)
    except FileNotFoundError:
        raise InputError(f"{label}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{label}: is a folder, not a picture") from None
    except UnidentifiedImageError:
        raise InputError(
            f"{label}: not a picture in a format that is read ({', '.join(FORMATS)})"
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{label}: the picture does not decode ({error})") from None


def _open(source: str | Path | bytes) -> Image.Image:
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)


def picture_size(source: str | Path | bytes | Image.Image) -> tuple[int, int]:
    """Width and height of a picture, upright and at full size; of a file only the header is read.

    The source must be one that `read_image` can read.
    """
    if isinstance(source, Image.Image):
        return _upright_size(source)
    with _open(source) as image:
        return _upright_size(image)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    return (image.height, image.width) if turned else (image.width, image.height)


def _to_upright_rgb(image: Image.Image) -> Image.Image:
    image.load()  # raises on a truncated file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = ImageOps.exif_transpose(image)  # a copy, when there is nothing to turn
    except Exception:  # a broken EXIF block raises nearly anything; it is best left alone
        image = image.copy()
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        grey = np.asarray(image, dtype=np.float64)
        grey = (grey * _scale(grey, image.mode)).clip(0, 255)
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _scale(grey: np.ndarray, mode: str) -> float:
    """What brings grey values to 0..255; floats come as 0..1, 0..255 or 0..65535."""
    top = grey.max(initial=0) if mode == "F" else 65535
    return 255.0 if top <= 1 else 1.0 if top <= 255 else 255.0 / 65535.0


def is_constant(image: Image.Image) -> bool:
    """Whether every pixel of an RGB picture has the same colour (black pictures, say)."""
    return all(low == high for low, high in image.getextrema())  # type: ignore[misc]


@dataclass(frozen=True, kw_only=True)
class ImageTransform:
    """Bring a picture to a square of `size` pixels, and know which part of it was seen.

    Attributes:
        size: Side of the square, in pixels.
        resize: `squash` shows the encoder the whole picture and changes its aspect ratio; `crop`
            keeps the aspect ratio and shows the central square.
    """

    size: int = 256
    resize: Literal["squash", "crop"] = "squash"

    def seen_box(self, width: int, height: int) -> Box:
        """The part of an upright picture that the encoder sees, in the picture's own pixels."""
        if self.resize == "squash":
            return (0.0, 0.0, float(width), float(height))
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return (left, top, left + side, top + side)

    def cell_box(self, row: int, column: int, grid: tuple[int, int], seen: Box) -> Box:
        """The pixels of the original picture under one cell of a (rows, columns) grid."""
        rows, columns = grid
        left, top, right, bottom = seen
        width, height = (right - left) / columns, (bottom - top) / rows
        return (
            left + column * width,
            top + row * height,
            left + (column + 1) * width,
            top + (row + 1) * height,
        )

    def __call__(self, image: Image.Image, *, part: Box = WHOLE) -> np.ndarray:
        """RGB picture -> (3, size, size) uint8.

        Args:
            image: The picture.
            part: Show this part of what is seen otherwise, in shares of its sides.
        """
        left, top, right, bottom = self.seen_box(*image.size)
        width, height = right - left, bottom - top
        resized = image.resize(
            (self.size, self.size),
            Image.Resampling.BILINEAR,
            box=(
                left + part[0] * width,
                top + part[1] * height,
                left + part[2] * width,
                top + part[3] * height,
            ),
        )
        return np.ascontiguousarray(np.asarray(resized, dtype=np.uint8).transpose(2, 0, 1))

    def read(
        self, source: str | Path | bytes | Image.Image, *, name: str = "", part: Box = WHOLE
    ) -> np.ndarray:
        """Decode, turn upright and transform (as `__call__`): (3, size, size) uint8.

        The JPEG decoder may skip detail (Pillow's draft mode), but never below twice the size.
        """
        shown = min(part[2] - part[0], part[3] - part[1])  # share of a side that fills the square
        draft_size = math.ceil(2 * self.size / shown)
        return self(read_image(source, draft_size=draft_size, name=name), part=part)
