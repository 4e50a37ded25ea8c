"""ROUGE-L by hand, and its subsequences against a plain table."""

import numpy as np
import pytest

from pictell.errors import InputError
from pictell.metrics import rouge_l
from pictell.metrics.rouge import longest_common_subsequence


def score(hypothesis, *references):
    return rouge_l([hypothesis.split()], [[r.split() for r in references]]).corpus


def table_subsequence(first, second):
    """The textbook's table, row by row."""
    row = [0] * (len(second) + 1)
    for word in first:
        above, row = row, [0]
        for column, other in enumerate(second):
            grown = above[column] + 1 if word == other else max(above[column + 1], row[-1])
            row.append(grown)
    return row[-1]


def test_longest_common_subsequence():
    generator = np.random.default_rng(0)
    for _ in range(500):
        first, second = (
            list(generator.choice(list("abcd"), n)) for n in generator.integers(20, size=2)
        )
        assert longest_common_subsequence(first, second) == table_subsequence(first, second)


def test_longer_than_a_machine_word():
    first = [str(n % 90) for n in range(200)]
    assert longest_common_subsequence(first, first[::2]) == 100


def test_worked_example():
    # Common: a dog runs, 3 of 3 and 3 of 4 words. (1 + 1.44) P R / (R + 1.44 P).
    expected = 2.44 * 1 * 0.75 / (0.75 + 1.44 * 1)
    assert score("a dog runs", "a brown dog runs") == pytest.approx(expected)


def test_order_matters():
    assert score("runs dog a", "a dog runs") == pytest.approx(1 / 3)


def test_best_precision_and_best_recall_may_come_from_two_references():
    # Precision 3/4 from the first, recall 1/1 from the second.
    expected = 2.44 * 0.75 * 1 / (1 + 1.44 * 0.75)
    assert score("a b c x", "a b c d e f", "x") == pytest.approx(expected)


def test_nothing_in_common_and_empty():
    assert score("a b", "c d") == 0
    assert score("", "c d") == 0


def test_duplicate_words_count_once_each():
    assert score("a a a", "a") == pytest.approx(2.44 * (1 / 3) * 1 / (1 + 1.44 / 3))


def test_the_corpus_score_is_the_mean():
    metric = rouge_l([["a"], ["b"]], [[["a"]], [["c"]]])
    assert metric.per_image.tolist() == [1.0, 0.0]
    assert metric.corpus == 0.5


def test_bad_input():
    with pytest.raises(InputError, match="1 hypotheses but references of 2"):
        rouge_l([["a"]], [[["a"]], [["b"]]])
