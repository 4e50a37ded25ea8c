"""The backgrounds of generated scenes: places painted with gradients and simple shapes.

    draw_background("beach", 0, 256).save("beach.png")

In all of them the left looks different from the right, and the top from the bottom: a wood on the
left of a meadow, the sea on the right of a beach. A convolutional network hardly knows where in
the picture it looks (it was trained on mirrored photographs), and attention cannot either unless
there is something to go by. As every picture has the same sides, they give nothing away about what
stands where.
"""

from __future__ import annotations

import random
from functools import lru_cache

from PIL import Image, ImageDraw, ImageOps

RGB = tuple[int, int, int]
VARIANTS = 8


@lru_cache(maxsize=64)
def draw_background(name: str, variant: int, size: int) -> Image.Image:
    """A square RGB background of `size` pixels; there are `VARIANTS` of each name."""
    side = 2 * size  # drawn at twice the size: Pillow's shapes have hard edges
    canvas = _PAINTERS[name](side, random.Random(variant))
    return canvas.resize((size, size), Image.Resampling.BOX)


class _Brush:
    """A canvas with a sky, and shapes in parts of its side."""

    def __init__(self, side: int, top: RGB, bottom: RGB) -> None:
        grey = Image.linear_gradient("L").resize((side, side), Image.Resampling.BILINEAR)
        self.canvas = ImageOps.colorize(grey, top, bottom)
        self._draw = ImageDraw.Draw(self.canvas)
        self._side = side

    def disc(self, x: float, y: float, radius: float, color: RGB) -> None:
        box = (x - radius, y - radius, x + radius, y + radius)
        self._draw.ellipse([value * self._side for value in box], fill=color)

    def bar(self, left: float, top: float, right: float, bottom: float, color: RGB) -> None:
        corners = [value * self._side for value in (left, top, right, bottom)]
        self._draw.rectangle(corners, fill=color)

    def area(self, color: RGB, *points: tuple[float, float]) -> None:
        self._draw.polygon([(x * self._side, y * self._side) for x, y in points], fill=color)

    def dots(
        self, rng: random.Random, count: int, region: tuple[float, float, float, float], color: RGB
    ) -> None:
        left, top, right, bottom = region
        for _ in range(count):
            x, y = rng.uniform(left, right), rng.uniform(top, bottom)
            self.disc(x, y, rng.uniform(0.002, 0.006), color)


def _paint_meadow(side: int, rng: random.Random) -> Image.Image:
    """A wood on the left, a yellow field and the sun on the right."""
    brush = _Brush(side, (150, 206, 248), (240, 248, 252))
    brush.disc(rng.uniform(0.8, 0.92), 0.14, 0.07, (255, 232, 130))
    horizon = rng.uniform(0.48, 0.54)
    brush.disc(rng.uniform(0.7, 1.0), horizon + 0.6, 0.62, (160, 206, 124))
    brush.bar(0, horizon + 0.12, 1, 1, (146, 198, 108))
    field = horizon + 0.2
    brush.area((244, 222, 110), (0.56, field), (1, field - 0.06), (1, 1), (0.5, 1))
    brush.bar(0, 0, 0.06, horizon + 0.22, (120, 92, 70))
    for row in range(10):
        y = 0.02 + row * (horizon + 0.06) / 10
        for _ in range(4):
            shade = rng.randrange(-12, 13)
            x = rng.uniform(-0.05, 0.34 + 0.1 * rng.random())
            brush.disc(x, y, rng.uniform(0.05, 0.08), (72 + shade, 132 + shade, 84 + shade))
    brush.dots(rng, 40, (0, field, 0.5, 1), (250, 250, 230))
    return brush.canvas


def _paint_beach(side: int, rng: random.Random) -> Image.Image:
    """Along the shore: sand on the left, the sea on the right."""
    brush = _Brush(side, (150, 212, 246), (228, 244, 250))
    horizon, shore = rng.uniform(0.26, 0.32), rng.uniform(0.5, 0.6)
    brush.bar(0, horizon, 1, 1, (78, 168, 210))
    for _ in range(30):
        x, y = rng.uniform(0.45, 1), rng.uniform(horizon + 0.03, 1)
        brush.bar(x, y, x + 0.09, y + 0.008, (150, 208, 232))
    sand = ((0, horizon - 0.04), (0.3, horizon), (shore - 0.1, 0.7), (shore, 1), (0, 1))
    brush.area((244, 250, 250), *((x + 0.03 * (x > 0), y) for x, y in sand))
    brush.area((244, 222, 172), *sand)
    brush.dots(rng, 90, (0, horizon + 0.06, 0.36, 1), (214, 184, 128))
    brush.disc(rng.uniform(0.84, 0.92), 0.12, 0.07, (255, 240, 170))
    return brush.canvas


def _paint_night(side: int, rng: random.Random) -> Image.Image:
    """The moon and most stars on the left, dark mountains on the right."""
    brush = _Brush(side, (30, 34, 92), (104, 92, 168))
    brush.dots(rng, 130, (0, 0, 0.6, 0.9), (250, 246, 214))
    brush.dots(rng, 20, (0.6, 0, 1, 0.3), (250, 246, 214))
    moon = rng.uniform(0.08, 0.16)
    brush.disc(moon, 0.13, 0.07, (250, 240, 196))
    brush.disc(moon + 0.035, 0.11, 0.06, (38, 42, 100))
    peak = rng.uniform(0.76, 0.84)
    brush.area((44, 48, 76), (0.46, 1), (peak, 0.16), (1.2, 0.7), (1.2, 1))
    brush.area((222, 228, 244), (peak - 0.06, 0.3), (peak, 0.16), (peak + 0.1, 0.3), (peak, 0.27))
    brush.area((30, 34, 58), (0.4, 1), (0.6, 0.5), (0.72, 0.72), (1, 0.46), (1, 1))
    brush.bar(0, 0.9, 1, 1, (52, 56, 92))
    return brush.canvas


def _paint_snow(side: int, rng: random.Random) -> Image.Image:
    """Fir trees on the left, open slopes on the right."""
    brush = _Brush(side, (160, 186, 218), (226, 234, 244))
    horizon = rng.uniform(0.46, 0.54)
    brush.disc(rng.uniform(0.8, 1.0), horizon + 0.6, 0.64, (246, 249, 253))
    brush.bar(0, horizon + 0.2, 1, 1, (250, 252, 255))
    brush.area((232, 239, 248), (0, 0), (0.3, 0), (0.62, 1), (0, 1))
    for row in range(5):
        for column in range(4):
            x = 0.02 + 0.12 * column + rng.uniform(-0.03, 0.03)
            _paint_fir(brush, x, 0.05 + 0.19 * row + rng.uniform(-0.03, 0.03))
    brush.dots(rng, 80, (0.45, 0, 1, 1), (255, 255, 255))
    return brush.canvas


def _paint_fir(brush: _Brush, x: float, top: float) -> None:
    for layer in range(3):
        y, half = top + 0.04 * layer, 0.03 + 0.012 * layer
        brush.area((92, 134, 128), (x, y), (x - half, y + 0.07), (x + half, y + 0.07))
    brush.area((250, 252, 255), (x, top), (x - 0.02, top + 0.045), (x + 0.02, top + 0.045))


def _paint_city(side: int, rng: random.Random) -> Image.Image:
    """High buildings on the left, a park on the right."""
    brush = _Brush(side, (250, 206, 176), (252, 238, 220))
    brush.bar(0.5, 0.6, 1, 1, (140, 190, 120))
    left = -0.02
    while left < 0.5:
        width, top = rng.uniform(0.13, 0.17), rng.uniform(0.02, 0.16)
        shade = rng.randrange(-8, 9)
        brush.bar(left, top, left + width, 0.86, (170 + shade, 164 + shade, 190 + shade))
        _paint_windows(brush, left, top, width)
        left += width + 0.012
    for _ in range(9):
        x, y, shade = rng.uniform(left + 0.05, 1), rng.uniform(0.5, 0.62), rng.randrange(-10, 11)
        brush.disc(x, y, rng.uniform(0.06, 0.09), (110 + shade, 168 + shade, 96 + shade))
    brush.bar(0, 0.84, 1, 1, (150, 150, 160))
    for x in (0.05, 0.3, 0.55, 0.8):
        brush.bar(x, 0.91, x + 0.12, 0.925, (240, 240, 240))
    return brush.canvas


def _paint_windows(brush: _Brush, left: float, top: float, width: float) -> None:
    for row in range(int((0.8 - top) / 0.06)):
        for column in range(2):
            x, y = left + width * (0.2 + 0.35 * column), top + 0.03 + 0.06 * row
            brush.bar(x, y, x + width * 0.24, y + 0.03, (252, 234, 168))


def _paint_room(side: int, rng: random.Random) -> Image.Image:
    """The corner of a room: striped wallpaper on the left, a blue wall on the right."""
    brush = _Brush(side, (246, 226, 206), (250, 234, 216))
    corner = rng.uniform(0.47, 0.53)
    floor = rng.uniform(0.66, 0.72)
    for stripe in range(10):
        x = corner * stripe / 10
        brush.bar(x, 0, x + corner / 20, 1, (232, 180, 150))
    brush.bar(corner, 0, 1, 1, (158, 190, 206))
    window = corner + rng.uniform(0.1, 0.16)
    brush.bar(window, 0.1, window + 0.26, 0.46, (250, 250, 246))
    for column in (0.02, 0.14):
        for row in (0.12, 0.29):
            brush.bar(window + column, row, window + column + 0.1, row + 0.15, (206, 234, 250))
    brush.area((176, 132, 92), (0, floor + 0.12), (corner, floor), (corner, 1), (0, 1))
    brush.area((150, 110, 76), (1, floor + 0.12), (corner, floor), (corner, 1), (1, 1))
    return brush.canvas


_PAINTERS = {
    "meadow": _paint_meadow,
    "beach": _paint_beach,
    "night": _paint_night,
    "snow": _paint_snow,
    "city": _paint_city,
    "room": _paint_room,
}
