"""Sentences in other languages than English, which is also the key under which they are found.

    say("zh", "{winner} is faster than {loser}.", winner="rnn", loser="attention")

`zh.json` holds English templates and their translations. A test holds the two together: whatever
the code or a page says is there, and nothing else is.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from pictell.errors import InputError

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


def check_language(language: str) -> None:
    """Raise `InputError` unless pages can be written in the language."""
    if language not in LANGUAGES:
        raise InputError(
            f"no report in language {language!r}; known: {', '.join(LANGUAGES)} (the language of "
            "the captions is another matter: the run knows it)"
        )


@cache
def catalogue(language: Language) -> dict[str, str]:
    """English templates and what they are in the language; empty for English."""
    if language == "en":
        return {}
    file = Path(__file__).parent / f"{language}.json"
    return json.loads(file.read_text(encoding="utf-8"))


def translate(language: Language, text: str) -> str:
    """A text or template in the language; English where there is no translation."""
    return catalogue(language).get(text, text)


def say(language: Language, text: str, /, **values: Any) -> str:
    """A template in the language, filled in."""
    said = translate(language, text).format(**values)
    return _chinese_spacing(said) if language == "zh" else said


def _chinese_spacing(text: str) -> str:
    """Spaces between Chinese characters and Latin letters or digits, and none before %."""
    text = re.sub(r"(?<=[\u4e00-\u9fff])(?=[A-Za-z0-9])", " ", text.replace(" %", "%"))
    return re.sub(r"(?<=[A-Za-z0-9%])(?=[\u4e00-\u9fff])", " ", text)
