"""What kind of word a word is: a thing, what it is like, what it does, where, how many, or grammar.

    class_of = word_classes("en")
    class_of("dog"), class_of("red"), class_of("running")     # "thing", "description", "action"

English words are told by lists (english_words.txt) and by their endings, not by a tagger: a word
always has the same class, whatever stands around it, and what is in no list and has no telling
ending is a thing. For captions, which name things most of all, this is right nearly always; "a man
walks his dogs" and "a man on his walk" show where it is not. Chinese words are told by rjieba's
part-of-speech tags.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

from pictell.errors import MissingExtraError

WordClass = Literal["thing", "description", "action", "position", "number", "function"]
WORD_CLASSES: tuple[WordClass, ...] = (
    "thing",
    "description",
    "action",
    "position",
    "number",
    "function",
)


def word_classes(language: str) -> Callable[[str], WordClass] | None:
    """The function from a word to its class.

    Args:
        language: As in `data.language`.

    Returns:
        None for languages whose words are not words of a dictionary (`zh-char`).
    """
    return {"en": english_class, "zh": chinese_class}.get(language)


def _read_lists() -> dict[str, frozenset[str]]:
    lists: dict[str, set[str]] = {}
    text = (Path(__file__).parent / "english_words.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        name, _, words = line.partition(": ")
        if words and not line.startswith("#"):
            lists.setdefault(name, set()).update(words.split())
    return {name: frozenset(words) for name, words in lists.items()}


def _third_person(verb: str) -> str:
    if verb.endswith(("s", "sh", "ch", "x", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + "s"


@cache
def _english_lists() -> dict[str, frozenset[str]]:
    """The lists of the file, with the forms of its verbs under `action`."""
    lists = _read_lists()
    bases = lists["verb"] - lists["verb-base-thing"]
    forms = {_third_person(verb) for verb in lists["verb"]} - lists["verb-s-thing"]
    return {**lists, "action": lists["action"] | bases | forms}


@cache
def english_class(word: str) -> WordClass:
    """The class of a lower-case English word; Arabic numerals are numbers."""
    lists = _english_lists()
    for name in ("function", "number", "position", "description", "action"):
        if word in lists[name]:
            return name
    if word[:1].isdigit():
        return "number"
    if word.endswith("ing") and len(word) > 4 and word not in lists["ing-thing"]:
        return "action"
    if word.endswith("ed") and len(word) > 3 and word not in lists["ed-thing"]:
        return "action"
    return "thing"


# First letters of rjieba's tags (those of ICTCLAS); what is not named here is grammar.
_CHINESE_TAGS: dict[str, WordClass] = {
    **dict.fromkeys("nsti", "thing"),
    **dict.fromkeys("abz", "description"),
    "v": "action",
    "f": "position",
    "m": "number",
}


@cache
def chinese_class(word: str) -> WordClass:
    """The class of a Chinese word."""
    try:
        import rjieba
    except ImportError:
        raise MissingExtraError("rjieba", "zh", "telling the classes of Chinese words") from None
    if word.endswith("色"):  # colours are tagged as nouns
        return "description"
    if word == "在":
        return "position"
    if word in ("是", "有"):
        return "function"
    tags = [tag for _, tag in rjieba.tag(word)]
    return _CHINESE_TAGS.get(tags[-1][:1], "function") if tags else "function"
