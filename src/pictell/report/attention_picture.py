"""A caption with the picture once for each word, showing where the model looked while saying it.

    caption = captioner.caption("dog.jpg")[0]
    picture = read_image("dog.jpg")
    drawing = draw_attention(picture, caption.words, caption.attention, caption.seen_box)
    drawing.save("dog.attention.png")

The maps lie over the picture in its true geometry: they cover exactly the part that the encoder
saw, whatever was squashed or cropped on the way, and what it did not see stays dark.

Axes: T words, R rows and C columns of the map, H and W of a panel in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from pictell.data.images import Box
from pictell.errors import InputError
from pictell.report.colours import heat_colours
from pictell.report.fonts import Font, label_font, text_width, wrap

PAPER, INK, MUTED = (255, 255, 255), (27, 28, 30), (102, 104, 109)
_GAP = 10  # pixels between panels and around them
_UNSEEN = 0.25  # brightness of what the encoder did not see


def draw_attention(
    image: Image.Image,
    words: Sequence[str],
    maps: np.ndarray,
    seen_box: Box,
    *,
    width: int = 1200,
    columns: int = 5,
    caption: str | None = None,
) -> Image.Image:
    """Draw a caption with its attention: the picture, then a panel for each word.

    Args:
        image: The upright original.
        words: Of the caption (T).
        maps: (T, R, C) attention; each map sums to one.
        seen_box: Left, top, right, bottom of what the maps cover, in the original's pixels.
        width: Of the whole drawing, in pixels.
        columns: Panels in a row.
        caption: To read under the picture; the words, joined, if None.

    Returns:
        An RGB picture. Each panel's colours run from zero to the largest value of its own map,
        which is written beside the word as a share of all attention.

    Raises:
        InputError: Words and maps do not belong together, or a size makes no sense.
    """
    maps = np.asarray(maps, dtype=np.float32)
    _check(image, words, maps, seen_box, width, columns)
    columns = min(columns, len(words) + 1)
    layout = _Layout.fit(image.size, width, columns)
    text = caption if caption is not None else _joined(words)
    fonts = label_font(layout.font_size, text + "".join(words)), label_font(layout.small_size)
    lines = wrap(text, fonts[0], layout.panel[0])
    notes = _scale_notes(maps, fonts[1], layout, width)
    tops, height = _row_tops(len(words) + 1, columns, len(lines), layout)
    drawing = Image.new("RGB", (width, height + len(notes) * layout.line), PAPER)
    picture = image.convert("RGB").resize(layout.panel, Image.Resampling.LANCZOS)
    for panel in range(len(words) + 1):
        left = _GAP + panel % columns * (layout.panel[0] + _GAP)
        top = tops[panel // columns]
        below = left, top + layout.panel[1]
        if panel == 0:
            drawing.paste(picture, (left, top))
            _write_lines(drawing, lines, below, fonts[0], layout)
            continue
        one = maps[panel - 1]
        heat = panel_strength(one, image.size, seen_box, layout.panel)
        drawing.paste(overlay(picture, *heat), (left, top))
        _write_word(drawing, words[panel - 1], float(one.max()), below, fonts, layout)
    if notes:
        _write_scale(drawing, notes, (_GAP, height), fonts[1], layout)
    return drawing


def _row_tops(
    panels: int, columns: int, caption_lines: int, layout: _Layout
) -> tuple[list[int], int]:
    """Where each row of panels begins, and where the last one ends."""
    tops, top = [], _GAP
    for row in range(-(-panels // columns)):
        tops.append(top)
        lines = max(1, caption_lines) if row == 0 else 1  # the caption may need several
        top += layout.panel[1] + lines * layout.line + _GAP
    return tops, top


def panel_strength(
    attention: np.ndarray, size: tuple[int, int], seen_box: Box, panel: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """A map laid over a panel, pixel by pixel.

    Args:
        attention: (R, C).
        size: Width and height of the original.
        seen_box: What the map covers, in the original's pixels.
        panel: Width and height of the panel.

    Returns:
        Strength (H, W), 0 to 1, where 1 is the map's largest value, interpolated bicubically; and
        whether the encoder saw each pixel (H, W).
    """
    left, top, right, bottom = seen_box
    rows, columns = attention.shape
    # Centres of the panel's pixels, in the original's pixels.
    x = (np.arange(panel[0]) + 0.5) * size[0] / panel[0]  # (W,)
    y = (np.arange(panel[1]) + 0.5) * size[1] / panel[1]  # (H,)
    seen = ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))[None, :]  # (H, W)
    across = _cubic_weights((x - left) / (right - left) * columns, columns)  # (W, C)
    down = _cubic_weights((y - top) / (bottom - top) * rows, rows)  # (H, R)
    heat = down @ (attention / max(float(attention.max()), 1e-12)) @ across.T  # (H, W)
    return np.where(seen, heat, 0.0).clip(0.0, 1.0), seen  # a cubic overshoots


def _cubic_weights(places: np.ndarray, cells: int) -> np.ndarray:
    """(P, cells) shares of the cells in the values at P places, counted in cells from the edge.

    Keys (1981), "Cubic convolution interpolation for digital image processing", a = -1/2; the
    outermost cells go on for ever.
    """
    first = np.floor(places - 0.5).astype(int) - 1  # of the four cells that count
    rows = np.arange(len(places))
    weights = np.zeros((len(places), cells))
    for cell in (first + n for n in range(4)):
        distance = np.abs(places - 0.5 - cell)
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        weight = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
        np.add.at(weights, (rows, cell.clip(0, cells - 1)), weight)
    return weights


def overlay(picture: Image.Image, strength: np.ndarray, seen: np.ndarray) -> Image.Image:
    """The picture in grey with attention (H, W) in colour over it, dark where nothing was seen."""
    grey = np.asarray(picture.convert("L"), dtype=np.float32)[:, :, None] / 255  # (H, W, 1)
    colours = heat_colours()[(strength * 255).astype(np.uint8)]  # (H, W, 3)
    share = (0.25 + 0.5 * strength)[:, :, None]  # even where attention is low, the colour tells so
    lit = (1 - share) * 0.9 * grey + share * colours
    shown = np.where(seen[:, :, None], lit, _UNSEEN * grey)
    return Image.fromarray((shown * 255).round().astype(np.uint8))


@dataclass(frozen=True)
class _Layout:
    """Sizes in pixels: a panel, text, a line of text, the colour bar's length."""

    panel: tuple[int, int]
    font_size: int
    small_size: int
    line: int
    bar: int

    @classmethod
    def fit(cls, size: tuple[int, int], width: int, columns: int) -> _Layout:
        across = (width - _GAP * (columns + 1)) // columns
        font_size = min(22, max(11, across // 12))
        panel = across, max(1, round(across * size[1] / size[0]))
        small = max(10, round(font_size * 0.75))
        return cls(panel, font_size, small, line=round(font_size * 1.5), bar=6 * small)


def _check(
    image: Image.Image,
    words: Sequence[str],
    maps: np.ndarray,
    seen_box: Box,
    width: int,
    columns: int,
) -> None:
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise InputError(f"attention has the shape {maps.shape}; it must be words, rows, columns")
    if len(words) != len(maps):
        raise InputError(f"{len(words)} words but {len(maps)} attention maps; give one per word")
    left, top, right, bottom = seen_box
    if not (0 <= left < right <= image.width and 0 <= top < bottom <= image.height):
        raise InputError(
            f"the seen box {seen_box} does not lie in the picture of {image.width} x "
            f"{image.height} pixels"
        )
    if columns < 1 or width < columns * 60:
        raise InputError(
            f"{columns} columns do not fit into {width} pixels; a panel needs 60 or more"
        )


def _joined(words: Sequence[str]) -> str:
    """Words as a text: spaces between Latin words, none around Chinese ones."""
    text = ""
    for word in words:
        both_latin = text[-1:].isascii() and word[:1].isascii()
        text += f" {word}" if text and both_latin else word
    return text


def _write_lines(
    drawing: Image.Image,
    lines: Sequence[str],
    at: tuple[int, int],
    font: Font,
    layout: _Layout,
    colour: tuple[int, int, int] = INK,
) -> None:
    draw = ImageDraw.Draw(drawing)
    for number, line in enumerate(lines):
        draw.text((at[0], at[1] + layout.line * (number + 0.5)), line, colour, font, anchor="lm")


def _write_word(
    drawing: Image.Image,
    word: str,
    share: float,
    at: tuple[int, int],
    fonts: tuple[Font, Font],
    layout: _Layout,
) -> None:
    """The word on the left, the strongest cell's share of the attention on the right."""
    draw = ImageDraw.Draw(drawing)
    middle = at[1] + layout.line / 2
    note = f"{100 * share:.1f} %"
    right = at[0] + layout.panel[0]
    room = layout.panel[0] - text_width(note, fonts[1]) - layout.small_size
    shown = word
    while len(shown) > 1 and text_width(shown, fonts[0]) > room:
        shown = shown[:-2] + "…" if shown.endswith("…") else shown[:-1] + "…"
    draw.text((at[0], middle), shown, INK, fonts[0], anchor="lm")
    draw.text((right, middle), note, MUTED, fonts[1], anchor="rm")


def _scale_notes(maps: np.ndarray, font: Font, layout: _Layout, width: int) -> list[str]:
    """What the colours mean, in lines that fit beside the colour bar; none without words."""
    if not len(maps):
        return []
    cells = maps.shape[1] * maps.shape[2]
    text = (
        f"0 to the strongest of {cells} cells, whose share of the attention stands beside each "
        f"word; even attention: {100 / cells:.1f} %"
    )
    return wrap(text, font, width - layout.bar - layout.small_size - 2 * _GAP)


def _write_scale(
    drawing: Image.Image, notes: Sequence[str], at: tuple[int, int], font: Font, layout: _Layout
) -> None:
    """A colour bar and what it means."""
    height = round(0.6 * layout.small_size)
    bar = Image.fromarray((heat_colours()[None] * 255).round().astype(np.uint8))
    bar = bar.resize((layout.bar, height))
    drawing.paste(bar, (at[0], at[1] + (layout.line - height) // 2))
    beside = at[0] + layout.bar + layout.small_size, at[1]
    _write_lines(drawing, notes, beside, font, layout, MUTED)
