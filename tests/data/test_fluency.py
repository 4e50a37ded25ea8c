import pytest

from pictell.data.fluency import fluency, function_words
from pictell.data.text import LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_its_list(language):
    assert len(function_words(language)) > 20


def test_figures_by_hand():
    captions = [
        ["a", "dog", "with", "a"],
        ["a", "dog", "dog", "runs"],
        ["a", "dog", "and", "a", "dog"],
        ["a", "man", "sits", "down"],
        [],
    ]
    assert fluency(captions, "en") == {
        "share_ending_in_function_word": 0.4,  # the first, and the empty one
        "share_repeating": 0.4,
        "distinct_words": 8,
        "mean_words": 3.4,
    }


def test_chinese():
    figures = fluency([["一个", "男人", "在"], ["一", "只", "狗", "站", "着"]], "zh")
    assert figures["share_ending_in_function_word"] == 0.5
    assert fluency([list("一个男人在")], "zh-char")["share_ending_in_function_word"] == 1.0


def test_no_captions_are_no_error():
    assert fluency([], "en")["mean_words"] == 0
