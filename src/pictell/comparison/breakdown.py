"""Where a model is better: by the length of what people wrote, and by class of word.

    parts = breakdown(scored, tokenized_references(scored))
    parts.length["long"].corpus

Pictures are cut into three groups of nearly equal size by the mean length of their references; each
group has its CIDEr-D. For each class of words the captions get an F1: precision is the share of the
words said that stand in a reference, recall is the share of the words that at least half of the
references have and that were said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pictell.comparison.models import Scored
from pictell.data.text import get_tokenizer
from pictell.data.word_classes import WORD_CLASSES, WordClass, word_classes
from pictell.metrics import Metric, bootstrap_interval, paired_bootstrap

LENGTHS = ("short", "middling", "long")
BY_LENGTH = "CIDEr-D"
FEWEST_PICTURES = 10  # a group of fewer, or a class wanted on fewer, is not shown


@dataclass(frozen=True, eq=False)
class Breakdown:
    """One model's metrics, by group.

    Attributes:
        length: CIDEr-D by group of pictures.
        word_class: F1 by class of words.
    """

    length: dict[str, Metric]
    word_class: dict[str, Metric]


@dataclass(frozen=True)
class LengthGroup:
    """Pictures whose references have from `low` to `high` words in the mean."""

    name: str
    low: float
    high: float
    positions: list[int]


def length_groups(references: Sequence[Sequence[Sequence[str]]]) -> list[LengthGroup]:
    """Three groups of pictures, from short to long references.

    Pictures with the same mean length stay together, so that groups may differ in size; those of
    fewer than ten pictures are left out.

    Args:
        references: For each picture its references in words.
    """
    lengths = np.array([np.mean([len(words) for words in one]) for one in references])
    bounds = np.quantile(lengths, [1 / 3, 2 / 3])
    number = (lengths > bounds[0]).astype(int) + (lengths > bounds[1])
    groups = []
    for index, name in enumerate(LENGTHS):
        positions = np.flatnonzero(number == index)
        if len(positions) >= FEWEST_PICTURES:
            own = lengths[positions]
            groups.append(LengthGroup(name, float(own.min()), float(own.max()), positions.tolist()))
    return groups


def class_metric(
    name: WordClass,
    captions: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    class_of: Callable[[str], WordClass],
) -> Metric:
    """F1 of the words of one class.

    Args:
        name: The class.
        captions: Words of one caption per picture.
        references: For each picture its references in words.
        class_of: Tells the class of a word.
    """
    rows = np.array(
        [
            _class_counts(name, caption, refs, class_of)
            for caption, refs in zip(captions, references, strict=True)
        ],
        dtype=np.float64,
    )  # (pictures, 4)
    return Metric(name, rows, _f1, _f1(rows))


def _class_counts(
    name: WordClass,
    caption: Sequence[str],
    references: Sequence[Sequence[str]],
    class_of: Callable[[str], WordClass],
) -> tuple[int, int, int, int]:
    """Words said that some reference has, words said, wanted words said, words wanted."""
    said = [word for word in caption if class_of(word) == name]
    having = Counter(word for words in references for word in set(words) if class_of(word) == name)
    wanted = {word for word, count in having.items() if 2 * count >= len(references)}
    right = sum(word in having for word in said)
    return right, len(said), len(wanted & set(said)), len(wanted)


def _f1(summed: np.ndarray) -> np.ndarray:
    """(..., 4) counts -> F1; 0 where nothing was said or nothing wanted."""
    right, said, found, wanted = np.moveaxis(summed, -1, 0)
    precision, recall = right / np.maximum(said, 1), found / np.maximum(wanted, 1)
    return 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def breakdown(scored: Scored, references: Sequence[Sequence[Sequence[str]]]) -> Breakdown:
    """One model's metrics at the largest beam width, by group.

    Args:
        scored: The model's captions and scores.
        references: For each picture its references in words, as the scores see them.
    """
    whole = scored.metrics[scored.beam][BY_LENGTH]
    length = {
        group.name: Metric(
            whole.name,
            whole.statistics[group.positions],
            whole.aggregate,
            whole.per_image[group.positions],
        )
        for group in length_groups(references)
    }
    class_of = word_classes(scored.language)
    as_scored = get_tokenizer(scored.language).as_scored
    captions = [as_scored(row["words"]) for row in scored.predictions]
    classes: dict[str, Metric] = {}
    for name in WORD_CLASSES if class_of else ():
        assert class_of is not None
        metric = class_metric(name, captions, references, class_of)
        if (metric.statistics[:, 3] > 0).sum() >= FEWEST_PICTURES:
            classes[name] = metric
    return Breakdown(length, classes)


def groups_record(
    references: Sequence[Sequence[Sequence[str]]], parts: Breakdown
) -> dict[str, Any]:
    """What comparison.json says of the groups themselves: `length` and `word_class`."""
    return {
        "length": [
            {"name": g.name, "low": g.low, "high": g.high, "pictures": len(g.positions)}
            for g in length_groups(references)
        ],
        "word_class": [
            {
                "name": name,
                "words": int(metric.statistics[:, 3].sum()),
                "pictures": int((metric.statistics[:, 3] > 0).sum()),
            }
            for name, metric in parts.word_class.items()
        ],
    }


def breakdown_record(parts: Breakdown, *, resamples: int, seed: int) -> dict[str, Any]:
    """One model's scores by group, with intervals."""
    how = {"resamples": resamples, "seed": seed}
    return {
        kind: {name: vars(bootstrap_interval(m, **how)).copy() for name, m in metrics.items()}
        for kind, metrics in vars(parts).items()
    }


def breakdown_difference(
    first: Breakdown, second: Breakdown, *, resamples: int, seed: int
) -> dict[str, Any]:
    """The second model minus the first by group, with intervals and p-values."""
    how = {"resamples": resamples, "seed": seed}
    pairs: Mapping[str, tuple[dict[str, Metric], dict[str, Metric]]] = {
        "length": (first.length, second.length),
        "word_class": (first.word_class, second.word_class),
    }
    return {
        kind: {name: vars(paired_bootstrap(a[name], b[name], **how)).copy() for name in a}
        for kind, (a, b) in pairs.items()
    }
