import numpy as np
import pytest

from pictell.data.text import END, UNKNOWN, Vocabulary
from pictell.metrics import DocumentFrequencies, bleu, cider_d
from pictell.training.rewards import CaptionRewards

REFERENCES = [
    [caption.split() for caption in captions]
    for captions in (
        ["a dog runs on the grass", "a brown dog on grass", "one dog"],
        ["a man rides a bike", "a man on the road with a bike"],
        ["two zebras near a tree", "zebras on the grass"],
    )
]
VOCABULARY = Vocabulary.fit([c for captions in REFERENCES for c in captions], min_count=2)
CAPTIONS = [
    ("a dog on the grass", True, 0),
    ("a dog on the", False, 0),
    ("a man a man a man", True, 1),
    ("a", True, 2),
]


def numbers(text: str, ended: bool) -> list[int]:
    return VOCABULARY.encode(text.split()) + [END] * ended


def with_end(captions: list[list[str]]) -> list[list[str]]:
    return [[*words, "<end>"] for words in captions]


def test_the_reward_is_the_metric_on_words_with_their_end():
    rewards = CaptionRewards(REFERENCES, VOCABULARY)
    given = rewards([numbers(t, e) for t, e, _ in CAPTIONS], [i for *_, i in CAPTIONS])
    frequencies = DocumentFrequencies.fit([with_end(captions) for captions in REFERENCES])
    words = [VOCABULARY.decode(numbers(t, False)) + ["<end>"] * e for t, e, _ in CAPTIONS]
    expected = cider_d(
        words,
        [with_end(REFERENCES[i]) for *_, i in CAPTIONS],
        document_frequencies=frequencies,
    )
    np.testing.assert_allclose(given, expected.per_image, rtol=1e-12)
    assert (given[:3] > 0).all()


def test_words_that_the_model_cannot_write_match_nothing():
    assert "zebras" in VOCABULARY.ids
    assert "tree" not in VOCABULARY.ids
    rewards = CaptionRewards(REFERENCES, VOCABULARY)
    other = CaptionRewards([*REFERENCES[:2], [["q", "zebras", "r", "a", "s"], *REFERENCES[2][1:]]],
                           VOCABULARY)  # fmt: skip
    caption = numbers("two zebras near a tree", True)
    assert caption.count(UNKNOWN) == 3
    assert rewards([caption], [2]) == pytest.approx(other([caption], [2]))
    assert rewards([caption], [2]) > 0


def test_an_end_earns_and_its_lack_costs():
    rewards = CaptionRewards(REFERENCES, VOCABULARY)
    whole, cut, early = rewards(
        [
            numbers("a dog on grass", True),
            numbers("a dog on grass", False),
            numbers("a dog on", True),
        ],
        [0, 0, 0],
    )
    assert whole > cut
    assert whole > early


def test_bleu_is_added_with_its_weight():
    plain, both = (CaptionRewards(REFERENCES, VOCABULARY, bleu=w) for w in (0.0, 0.7))
    caption = numbers("a dog runs on the grass", True)
    known = VOCABULARY.decode(caption)
    assert known.count("<unk>") == 1  # "runs" is rare
    added = both([caption], [0]) - plain([caption], [0])
    hypothesis = ["<unk>" if w == "<unk>" else w for w in known] + ["<end>"]
    expected = bleu([hypothesis], [with_end(REFERENCES[0])])["BLEU-4"].per_image
    np.testing.assert_allclose(added, 0.7 * expected)
    assert expected[0] > 0
