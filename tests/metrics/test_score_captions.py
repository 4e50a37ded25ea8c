"""All scores against numbers recorded once from pycocoevalcap 1.2.

Recorded with its Bleu(4), Rouge and Cider on the tokens in recorded_pycocoevalcap.json, divided by
spaces (no tokeniser was run). Its `Cider` is CIDEr-D with document frequencies of these references.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from pictell.metrics import DocumentFrequencies, score_captions

RECORDED = json.loads(
    (Path(__file__).parent / "recorded_pycocoevalcap.json").read_text(encoding="utf-8")
)
NAMES = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]
HYPOTHESES = [picture["hypothesis"].split() for picture in RECORDED["pictures"]]
REFERENCES = [[r.split() for r in picture["references"]] for picture in RECORDED["pictures"]]


@pytest.fixture(scope="module")
def scores():
    return score_captions(HYPOTHESES, REFERENCES)


def test_names_and_order(scores):
    assert list(scores) == NAMES
    assert [metric.name for metric in scores.values()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_corpus_score_is_that_of_pycocoevalcap(scores, name):
    # pycocoevalcap adds 1e-15 and 1e-9 to BLEU's counts, which shifts the score by about 1e-12.
    assert scores[name].corpus == pytest.approx(RECORDED["corpus"][name], abs=1e-10)


@pytest.mark.parametrize("name", ["ROUGE-L", "CIDEr-D"])
def test_picture_scores_are_those_of_pycocoevalcap(scores, name):
    np.testing.assert_allclose(
        scores[name].per_image, RECORDED["per_image"][name], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_statistics_give_pycocoevalcaps_picture_scores(scores, order):
    # Its picture scores are BLEU with matches + 1e-15 over totals + 1e-9; ours are smoothed.
    length, closest, *counts = scores["BLEU-4"].statistics.T
    matches, totals = np.array(counts[:4]), np.array(counts[4:])
    precisions = (matches + 1e-15) / (totals + 1e-9)
    ratio = (length + 1e-15) / (closest + 1e-9)
    penalty = np.where(ratio < 1, np.exp(np.minimum(1 - 1 / ratio, 0)), 1)
    expected = RECORDED["per_image"][f"BLEU-{order}"]
    np.testing.assert_allclose(
        penalty * precisions[:order].prod(axis=0) ** (1 / order), expected, rtol=1e-9
    )


def test_document_frequencies_reach_cider(scores):
    others = DocumentFrequencies.fit(REFERENCES[:20])
    changed = score_captions(HYPOTHESES, REFERENCES, document_frequencies=others)
    assert changed["CIDEr-D"].corpus != pytest.approx(scores["CIDEr-D"].corpus, rel=1e-3)
    assert changed["ROUGE-L"].corpus == scores["ROUGE-L"].corpus


def test_the_form_of_a_metric(scores):
    pictures = len(HYPOTHESES)
    for metric in scores.values():
        assert metric.statistics.dtype == metric.per_image.dtype == np.float64
        assert len(metric.statistics) == pictures
        assert metric.per_image.shape == (pictures,)
        summed = metric.statistics.sum(axis=0)
        assert metric.aggregate(np.stack([summed, summed])).tolist() == [metric.corpus] * 2


def test_unknown_words_do_not_match():
    with_unknown = [["a", "<unk>", "runs"], ["a", "cat"]]
    with_other = [["a", "zebra", "runs"], ["a", "cat"]]
    references = [[["a", "dog", "runs"]], [["a", "cat", "sits"]]]
    for unknown, other in zip(
        score_captions(with_unknown, references).values(),
        score_captions(with_other, references).values(),
        strict=True,
    ):
        assert unknown.per_image.tolist() == other.per_image.tolist()
