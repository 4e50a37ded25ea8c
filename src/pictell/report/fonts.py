"""Fonts for labels in pictures: Pillow's own, and one of the system's for Chinese.

    font = label_font(16, "一只狗在跑")

No font is shipped: Chinese ones are larger than all of pictell.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_FOLDERS = (
    *("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts"),
    *("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts"),
)
# Parts of the names of fonts that hold Chinese, the better ones first.
_CHINESE = (
    *("notosanscjk", "notosanssc", "sourcehansans", "wqy-microhei", "wqy-zenhei", "pingfang"),
    *("hiragino sans gb", "msyh", "simhei", "droidsansfallback", "arphic", "uming", "simsun"),
)


def label_font(size: int, text: str = "") -> Font:
    """A font of `size` pixels that holds the letters of `text`, if one can be found.

    Warns when the text holds Chinese (Japanese, Korean) and no font for it is installed; its
    characters then come out as boxes.
    """
    if holds_chinese(text):
        file = chinese_font_file()
        if file is not None:
            return ImageFont.truetype(str(file), size)
        warnings.warn(
            "no font with Chinese characters was found, so they are drawn as boxes; install one, "
            "for example Noto Sans CJK",
            stacklevel=2,
        )
    return ImageFont.load_default(size)


def holds_chinese(text: str) -> bool:
    """Whether a text has letters that need a Chinese (Japanese, Korean) font."""
    return any(_is_wide(letter) for letter in text)


@lru_cache(maxsize=1)
def chinese_font_file() -> Path | None:
    """A font file of the system that holds Chinese, or None."""
    files = list(_font_files())
    for wanted in _CHINESE:
        for file in files:
            if wanted in file.name.lower():
                return file
    return None


def _font_files() -> Iterator[Path]:
    for folder in _FOLDERS:
        yield from sorted(Path(folder).expanduser().rglob("*.[to]t[cf]"))


def _is_wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in ("W", "F")


def text_width(text: str, font: Font) -> float:
    """Width of a line in pixels."""
    return font.getlength(text)


def wrap(text: str, font: Font, width: int) -> list[str]:
    """Lines of at most `width` pixels; Chinese may break anywhere, other text between words.

    A single word that is wider stays on a line of its own.
    """
    lines = [""]
    for piece in _pieces(text):
        if lines[-1] and text_width((lines[-1] + piece).rstrip(), font) > width:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return [line.rstrip() for line in lines if line.strip()]


def _pieces(text: str) -> Iterator[str]:
    """What must not be broken: a word with the space before it, or a single wide letter."""
    piece = ""
    for letter in text:
        if piece and (letter == " " or _is_wide(letter) or _is_wide(piece[-1])):
            yield piece
            piece = ""
        piece += letter
    if piece:
        yield piece
