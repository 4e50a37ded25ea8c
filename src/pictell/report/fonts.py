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


_MOST_FACES = 40  # of the largest collections, with all weights in one file


def label_font(size: int, text: str = "") -> Font:
    """A font of `size` pixels that holds the letters of `text`, if one can be found.

    Warns when the text holds Chinese (Japanese, Korean) and no font for it is installed; its
    characters then come out as boxes.
    """
    if holds_chinese(text):
        file = chinese_font_file()
        if file is not None:
            return ImageFont.truetype(str(file), size, index=_chinese_face(file))
        warnings.warn(
            "no font with Chinese characters was found, so they are drawn as boxes; install one, "
            "for example Noto Sans CJK (Debian and Ubuntu: apt-get install fonts-noto-cjk)",
            stacklevel=2,
        )
    return ImageFont.load_default(size)


def holds_chinese(text: str) -> bool:
    """Whether a text has letters that need a Chinese (Japanese, Korean) font."""
    return any(_is_wide(letter) for letter in text)


@lru_cache(maxsize=1)
def chinese_font_file() -> Path | None:
    """A font file of the system that holds Chinese, of regular weight if there is one, or None."""
    files = sorted(_font_files(), key=lambda file: "regular" not in file.name.lower())
    for wanted in _CHINESE:
        for file in files:
            if wanted in file.name.lower():
                return file
    return None


@lru_cache(maxsize=1)
def _chinese_face(file: Path) -> int:
    """Which font of a file has the simplified Chinese shapes; the first where none says so.

    A file with fonts for all of East Asia begins with the Japanese one, which draws many characters
    otherwise.
    """
    for index in range(_MOST_FACES):
        try:
            family, style = ImageFont.truetype(str(file), 10, index=index).getname()
        except OSError:  # no further font
            break
        if any(name.split()[-1:] == ["SC"] for name in (family or "", style or "")):
            return index
    return 0


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
