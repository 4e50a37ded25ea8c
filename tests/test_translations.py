"""The Chinese sentences: one for each English one that code and pages say, and no other."""

import ast
import re
import string
from pathlib import Path

import pytest

import pictell
from pictell.errors import InputError
from pictell.report.curves import _PANELS
from pictell.translations import catalogue, check_language, say

ROOT = Path(pictell.__file__).parent
SPEAKERS = {"say", "translate"}

# What reaches `say` through a variable: subjects of claims and parts of their sentences.
THROUGH_VARIABLES = {
    *("cross-entropy", "top-5 accuracy", "training speed", "decoding speed", "peak memory"),
    *("decoder parameters", "encoder parameters", "decoder", "encoder"),
    *("trained", "evaluated", "trains", "writes captions"),
    *("seeds and pictures", "pictures alone"),
    *("{scores} favour {name}", "{scores} favours {name}"),
    *("; {scores} leave it open", "; {scores} leaves it open"),
    *("Test", "Val", "Train"),  # names of splits
    *(text for panel in _PANELS for text in (panel.title, panel.note)),
}
# These are the same in both languages.
NAMES = {"BLEU-4", "CIDEr-D"}


def said_by_code() -> set[str]:
    """String literals given to `say` and `translate`; both branches of a condition count."""
    found = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in SPEAKERS:
                for argument in node.args[:2]:
                    found |= _texts(argument)
    return found - {"en", "zh"}


def _texts(node: ast.expr) -> set[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.IfExp):
        return _texts(node.body) | _texts(node.orelse)
    return set()


def said_by_pages() -> set[str]:
    """String literals given to `t` in the templates."""
    found = set()
    for path in (ROOT / "report" / "templates").glob("*.j2"):
        found |= set(re.findall(r'\bt\(\s*"([^"]*)"', path.read_text(encoding="utf-8")))
    return found


SAID = (said_by_code() | said_by_pages() | THROUGH_VARIABLES) - NAMES - {"{value}", "{value}<"}


def test_there_is_something_to_translate():
    assert len(said_by_code()) > 40
    assert len(said_by_pages()) > 100


def test_every_sentence_has_a_translation_and_no_translation_is_left_over():
    known = set(catalogue("zh"))
    assert SAID - known == set()
    assert known - SAID == set()


@pytest.mark.parametrize("text", sorted(SAID))
def test_a_translation_fills_in_the_same_values(text):
    fields = [
        {(name, form) for _, name, form, _ in string.Formatter().parse(one) if name is not None}
        for one in (text, catalogue("zh").get(text, text))
    ]
    assert fields[0] == fields[1]


def test_sentences_are_filled_in():
    assert say("en", "beam {beam}", beam=5) == "beam 5"
    assert say("zh", "beam {beam}", beam=5) == catalogue("zh")["beam {beam}"].format(beam=5)
    assert say("zh", "{value}", value="12.5 %") == "12.5%"
    assert (
        say("zh", "{value}", value="其rnn的BLEU-4为0.3，占5 %的")
        == "其 rnn 的 BLEU-4 为 0.3，占 5% 的"
    )


def test_an_unknown_language_is_an_error():
    check_language("zh")
    with pytest.raises(InputError, match="no report in language 'fr'; known: en, zh"):
        check_language("fr")
