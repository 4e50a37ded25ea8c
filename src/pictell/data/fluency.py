"""Signs that captions were spoilt by chasing a score: how they end, what they repeat, their words.

    fluency([["a", "dog", "with", "a"]], "en")["share_ending_in_function_word"]     # 1.0

Training on a reward that does not see the end of a caption makes captions that stop after "a" or
"with a"; these figures are watched beside the reward. Of the captions that people wrote for
Flickr8k 0.8 % end in a word of the list all the same ("keeps its hat on"), of Flickr8k-CN's 0.1 %
(0.2 % when cut into characters).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path


@cache
def function_words(language: str) -> frozenset[str]:
    """Words that a finished caption does not end in, for a value of `data.language`."""
    words: set[str] = set()
    text = (Path(__file__).parent / "last_words.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        name, _, listed = line.partition(": ")
        if name == language:
            words.update(listed.split())
    assert words, f"last_words.txt has no list for {language}"
    return frozenset(words)


def fluency(captions: Sequence[Sequence[str]], language: str) -> dict[str, float]:
    """Figures of captions as words.

    Args:
        captions: Words of each.
        language: As in `data.language`.

    Returns:
        `share_ending_in_function_word` (of captions, empty ones included), `share_repeating` (of
        captions that hold a word twice in a row, or two words in a row a second time),
        `distinct_words`, `mean_words`.
    """
    functions, total = function_words(language), max(len(captions), 1)
    unfinished = sum(not words or words[-1] in functions for words in captions)
    return {
        "share_ending_in_function_word": round(unfinished / total, 4),
        "share_repeating": round(sum(map(_repeats, captions)) / total, 4),
        "distinct_words": len({word for words in captions for word in words}),
        "mean_words": round(sum(map(len, captions)) / total, 3),
    }


def _repeats(words: Sequence[str]) -> bool:
    pairs = list(pairwise(words))
    return len(set(pairs)) < len(pairs) or any(a == b for a, b in pairs)
