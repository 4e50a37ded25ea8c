"""BLEU against sacrebleu and against examples worked out by hand."""

import math

import numpy as np
import pytest
from sacrebleu.metrics import BLEU  # pyright: ignore[reportPrivateImportUsage]

from pictell.errors import InputError
from pictell.metrics import bleu


def words(text):
    return text.split()


def corpus(hypotheses, references):
    metrics = bleu([words(h) for h in hypotheses], [[words(r) for r in rs] for rs in references])
    return {name: metric.corpus for name, metric in metrics.items()}


@pytest.fixture(scope="module")
def random_captions():
    """300 pictures with captions of 0 to 12 words out of 8, and one to five references each."""
    generator = np.random.default_rng(0)

    def caption(shortest):
        return " ".join(generator.choice(list("abcdefgh"), generator.integers(shortest, 13)))

    hypotheses = [caption(0) for _ in range(300)]
    references = [[caption(1) for _ in range(generator.integers(1, 6))] for _ in range(300)]
    return hypotheses, references


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_corpus_score_is_that_of_sacrebleu(random_captions, order):
    hypotheses, references = random_captions
    longest = max(map(len, references))
    streams = [[rs[i] if i < len(rs) else None for rs in references] for i in range(longest)]
    theirs = BLEU(tokenize="none", smooth_method="none", max_ngram_order=order, force=True)
    expected = theirs.corpus_score(hypotheses, streams).score / 100
    assert corpus(hypotheses, references)[f"BLEU-{order}"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_picture_score_is_the_smoothed_sentence_score_of_sacrebleu(random_captions, order):
    hypotheses, references = random_captions
    theirs = BLEU(tokenize="none", smooth_method="exp", effective_order=True, max_ngram_order=order)
    expected = [
        theirs.sentence_score(h, rs).score / 100
        for h, rs in zip(hypotheses, references, strict=True)
    ]
    ours = bleu([words(h) for h in hypotheses], [[words(r) for r in rs] for rs in references])
    np.testing.assert_allclose(ours[f"BLEU-{order}"].per_image, expected, atol=1e-12)


def test_clipping():
    # Papineni's example: "the" stands seven times, but at most twice in one reference.
    scores = corpus(
        ["the the the the the the the"],
        [["the cat is on the mat", "there is a cat on the mat"]],
    )
    assert scores["BLEU-1"] == pytest.approx(2 / 7)
    assert scores["BLEU-2"] == 0


def test_brevity_penalty():
    scores = corpus(["a b c d"], [["a b c d e f"]])  # all precisions are 1
    assert scores == pytest.approx(dict.fromkeys(scores, math.exp(1 - 6 / 4)))


def test_no_penalty_for_long_hypotheses():
    assert corpus(["a b c d"], [["a b"]])["BLEU-1"] == pytest.approx(2 / 4)


def test_the_shorter_of_two_equally_close_references_counts():
    assert corpus(["a b c"], [["a b c d", "a b"]])["BLEU-1"] == 1.0


def test_the_corpus_score_is_not_the_mean_of_sentences():
    # Matches 1 of 1 and 1 of 3 words: 2 of 4 together.
    scores = corpus(["a", "a x y"], [["a"], ["a b c"]])
    assert scores["BLEU-1"] == pytest.approx(2 / 4)


def test_precisions_are_combined_by_the_geometric_mean():
    scores = corpus(["a b c x"], [["a b c d"]])  # 3 of 4 words, 2 of 3 pairs, 1 of 2 triples
    assert scores["BLEU-2"] == pytest.approx((3 / 4 * 2 / 3) ** (1 / 2))
    assert scores["BLEU-3"] == pytest.approx((3 / 4 * 2 / 3 * 1 / 2) ** (1 / 3))
    assert scores["BLEU-4"] == 0


def test_a_caption_shorter_than_four_words_has_no_bleu_4():
    assert corpus(["a b c"], [["a b c"]])["BLEU-4"] == 0


def test_smoothing_of_a_single_picture():
    metrics = bleu([words("a b x")], [[words("a b c")]])
    # 2 of 3 words, 1 of 2 pairs; no triple matches, so 1/2 of 1; there is no run of four.
    assert metrics["BLEU-4"].per_image[0] == pytest.approx((2 / 3 * 1 / 2 * 1 / 2) ** (1 / 3))


def test_an_empty_hypothesis_scores_zero():
    metrics = bleu([[], words("a b c d")], [[words("a b")], [words("a b c d")]])
    assert metrics["BLEU-1"].per_image.tolist() == [0.0, 1.0]
    # Its reference still counts in the length penalty: 4 words against 2 + 4, or 2 if alone.
    assert metrics["BLEU-4"].corpus == pytest.approx(math.exp(1 - 6 / 4))
    assert bleu([[]], [[words("a b")]])["BLEU-1"].corpus == 0


def test_aggregate_works_over_leading_axes(random_captions):
    hypotheses, references = random_captions
    metric = bleu([words(h) for h in hypotheses], [[words(r) for r in rs] for rs in references])[
        "BLEU-2"
    ]
    summed = metric.statistics.reshape(3, 2, 50, -1).sum(axis=2)  # (3, 2, 10)
    scores = metric.aggregate(summed)
    assert scores.shape == (3, 2)
    assert scores[1, 0] == metric.aggregate(metric.statistics[100:150].sum(axis=0))
    assert len(np.unique(scores)) == 6


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ([["a"]], [], "1 hypotheses but references of 0 pictures"),
        ([], [], "no pictures"),
        ([["a"]], [[]], "picture 0 has no reference"),
        (["a dog"], [[["a", "dog"]]], "hypothesis 0 is the text 'a dog'"),
        ([["a", "dog"]], [["a dog"]], "reference 0 of picture 0 is the text 'a dog'"),
    ],
)
def test_bad_input(hypotheses, references, message):
    with pytest.raises(InputError, match=message):
        bleu(hypotheses, references)
