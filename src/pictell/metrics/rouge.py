"""ROUGE-L of captions: the longest common subsequence with the references.

    metric = rouge_l([["a", "dog", "runs"]], [[["a", "brown", "dog", "runs"]]])
    metric.corpus

Source: Lin (2004), "ROUGE: a package for automatic evaluation of summaries", section 3.1, in COCO's
variant: the best precision and the best recall over the references, which need not come from the
same reference, combined with beta = 1.2. The corpus score is the mean over pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pictell.metrics.base import Metric, Tokens, check_captions, mean_metric

_BETA_SQUARED = 1.2**2


def rouge_l(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> Metric:
    """ROUGE-L of N captions (0 to 1)."""
    check_captions(hypotheses, references)
    scores = [_score(h, r) for h, r in zip(hypotheses, references, strict=True)]
    return mean_metric("ROUGE-L", np.array(scores))


def _score(hypothesis: Tokens, references: Sequence[Tokens]) -> float:
    common = [longest_common_subsequence(hypothesis, reference) for reference in references]
    if not any(common):
        return 0.0
    precision = max(common) / len(hypothesis)
    recall = max(c / len(r) for c, r in zip(common, references, strict=True) if c)
    return (1 + _BETA_SQUARED) * precision * recall / (recall + _BETA_SQUARED * precision)


def longest_common_subsequence(first: Tokens, second: Tokens) -> int:
    """Length in words, by Hyyrö (2004), "Bit-parallel LCS-length computation revisited".

    A row of the usual table grows by 0 or 1 from cell to cell, so one integer holds a whole row: a
    bit is 0 where the row grows. Each word of `second` then costs four integer operations.
    """
    positions: dict[str | int, int] = {}
    for place, word in enumerate(first):
        positions[word] = positions.get(word, 0) | 1 << place
    all_ones = (1 << len(first)) - 1
    row = all_ones
    for word in second:
        shared = row & positions.get(word, 0)
        row = (row + shared) | (row - shared)
    return (all_ones & ~row).bit_count()
