"""CIDEr-D against examples worked out by hand."""

import math

import numpy as np
import pytest

from pictell.errors import InputError
from pictell.metrics import CiderD, DocumentFrequencies, cider_d

# Two pictures that share no n-gram: every n-gram weighs log 2.
DISJOINT = [[["a", "b"]], [["c", "d"]]]


def first_score(hypothesis, references=DISJOINT):
    rest = [captions[0] for captions in references[1:]]
    return cider_d([hypothesis, *rest], references).per_image[0]


def test_the_reference_itself():
    # Words and pairs agree fully; a caption of two words has no triples or fours.
    assert first_score(["a", "b"]) == pytest.approx(10 * (1 + 1 + 0 + 0) / 4)


def test_four_words_reach_the_scale():
    references = [[["a", "b", "c", "d"]], [["e", "f", "g", "h"]]]
    assert cider_d([["a", "b", "c", "d"], ["e", "f", "g", "h"]], references).corpus == (
        pytest.approx(10)
    )


def test_clipping_and_length_penalty():
    # Words: min(2, 1) of a and of b, so 2 / (sqrt(8) sqrt(2)); pairs: "a b" twice and "b a" once
    # against "a b" once, so 1 / sqrt(5). Two words too many: exp(-2^2 / (2 6^2)).
    expected = 10 * (2 / 4 + 1 / math.sqrt(5)) / 4 * math.exp(-4 / 72)
    assert first_score(["a", "b", "a", "b"]) == pytest.approx(expected)


def test_too_short_costs_as_much_as_too_long():
    references = [[["a", "b", "c"]], [["x", "y", "z"]]]
    # One of three words, no pairs; two words too few.
    expected = 10 * (1 / math.sqrt(3)) / 4 * math.exp(-4 / 72)
    assert first_score(["a"], references) == pytest.approx(expected)


def test_the_mean_over_references_counts():
    references = [[["a", "b"], ["q", "r"]], [["c", "d"]]]
    assert first_score(["a", "b"], references) == pytest.approx(5 / 2)


def test_words_of_every_picture_weigh_nothing():
    references = [[["the", "b"]], [["the", "d"]]]
    # "the" weighs log(2 / 2) = 0, so the word vectors are equal without it.
    assert first_score(["b"], references) == pytest.approx(10 / 4 * math.exp(-1 / 72))
    assert first_score(["the"], references) == 0


def test_rare_words_weigh_more():
    references = [[["rare", "common"]], [["common", "c"]], [["d", "e"]]]
    rare, common = math.log(3 / 1), math.log(3 / 2)
    norm = math.hypot(rare, common)
    penalty = math.exp(-1 / 72)
    assert first_score(["rare"], references) == pytest.approx(10 / 4 * rare / norm * penalty)
    assert first_score(["common"], references) == pytest.approx(10 / 4 * common / norm * penalty)


def test_words_that_no_reference_has_lengthen_the_vector():
    # ["a", "z"]: a and z weigh log 2 each. Words: 1 / (sqrt(2) sqrt(2)); pairs: none.
    assert first_score(["a", "z"]) == pytest.approx(10 * (1 / 2) / 4)


def test_an_empty_hypothesis_scores_zero():
    assert first_score([]) == 0


def test_one_picture_has_no_weights():
    assert cider_d([["a", "b"]], [[["a", "b"]]]).corpus == 0


def test_given_document_frequencies():
    others = DocumentFrequencies.fit([*DISJOINT, [["a", "q"]], [["q"]]])
    assert (others.pictures, others.counts["a",], others.counts["a", "b"]) == (4, 2, 1)
    # Of the picture's two words a weighs log(4/2) and b log(4/1).
    score = cider_d([["b"]], [[["a", "b"]]], document_frequencies=others).corpus
    expected = math.log(4) / math.hypot(math.log(4), math.log(2))
    assert score == pytest.approx(10 / 4 * expected * math.exp(-1 / 72))


def test_an_ngram_counts_once_per_picture():
    frequencies = DocumentFrequencies.fit([[["a", "a"], ["a", "b"]], [["b"]]])
    assert dict(frequencies.counts) == {("a",): 1, ("b",): 2, ("a", "a"): 1, ("a", "b"): 1}


def test_indices_choose_the_pictures():
    scorer = CiderD(DISJOINT)
    scores = scorer.score([["c", "d"], ["a"], ["c"]], indices=[1, 0, 0])
    np.testing.assert_allclose(scores, [5, 10 / 4 / math.sqrt(2) * math.exp(-1 / 72), 0])


def test_bad_input():
    with pytest.raises(InputError, match="3 hypotheses but references of 2"):
        cider_d([["a"]] * 3, DISJOINT)
    with pytest.raises(InputError, match="1 hypotheses for 2 pictures"):
        CiderD(DISJOINT).score([["a"]])
    with pytest.raises(InputError, match="no pictures"):
        DocumentFrequencies.fit([])
    with pytest.raises(InputError, match="in 3 pictures of 2"):
        DocumentFrequencies({("a",): 3}, 2)


def test_agreement_is_the_mean_over_all_references_of_the_pictures():
    references = [[["a", "dog", "runs"], ["a", "dog"]], [["two", "cats"]], [["a", "red", "car"]]]
    scorer = CiderD(references)
    captions = [["a", "dog"], ["two", "red", "cats"]]
    alone = [
        CiderD([[r]] * 2, scorer.document_frequencies).score(captions)
        for r in (*references[0], *references[2])
    ]
    equal = scorer.agreement(captions, [0, 2], np.ones(2))
    assert equal == pytest.approx(np.mean(alone, axis=0))
    # Each reference of the first picture counts half as much as the third picture's only one.
    weighted = scorer.agreement(captions, [0, 2], np.array([0.5, 1.0]))
    assert weighted == pytest.approx(np.array([0.25, 0.25, 0.5]) @ alone)
