"""Classes of words, on words of captions."""

import pytest

from pictell.data.scene_captions import BACKGROUNDS, PLACES, nouns
from pictell.data.scene_drawing import KINDS
from pictell.data.word_classes import WORD_CLASSES, english_class, word_classes


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("thing", "dog man water building ball grass bed bike waves bikes ring children sled"),
        ("description", "red big small young wooden little asian"),
        ("action", "running runs stands sits jumping watches carries caught jumped wearing"),
        ("position", "in on between left above through near middle"),
        ("number", "two several 3 couple"),
        ("function", "a the is are and of with there 's"),
    ],
)
def test_english(name, words):
    assert {word: english_class(word) for word in words.split()} == dict.fromkeys(
        words.split(), name
    )


def test_the_words_of_scenes_have_the_classes_that_they_have_there():
    for kind, look in KINDS.items():
        assert {english_class(noun) for noun in nouns(kind)} == {"thing"}, kind
        assert {english_class(colour) for colour in look.colors} <= {"description"}
    assert {english_class(name) for name in BACKGROUNDS} == {"thing"}
    places = {word for name in PLACES for word in name.split()}
    assert {english_class(word) for word in places} == {"position"}


def test_chinese():
    pytest.importorskip("rjieba")
    class_of = word_classes("zh")
    assert class_of is not None
    told = {
        word: class_of(word) for word in ("狗", "红色", "奔跑", "上", "两只", "的", "草地", "在")
    }
    assert told == {
        "狗": "thing",
        "红色": "description",
        "奔跑": "action",
        "上": "position",
        "两只": "number",
        "的": "function",
        "草地": "thing",
        "在": "position",
    }


def test_characters_have_no_classes():
    assert word_classes("zh-char") is None
    assert word_classes("en")("dog") in WORD_CLASSES
