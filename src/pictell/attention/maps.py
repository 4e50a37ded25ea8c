"""What attention maps are like, whatever is in the picture: how spread, how fixed.

    summary = map_summary(captions_maps)
    map_warnings(summary)

Three ways in which attention may be worth nothing have a number each: maps that are even over the
regions, maps that stay the same from word to word, and maps that are the same for all pictures.

Axes: T words, R rows, C columns, L = R * C regions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pictell.translations import Language, say

EVEN_ENTROPY = 0.98  # of the largest possible: more is even attention, for all that can be seen
SMALLEST_CHANGE = 0.05  # share of the attention that must lie elsewhere to call two maps different


def relative_entropy(maps: np.ndarray) -> np.ndarray:
    """Entropy of each map as a share of the largest possible, log L: (..., R, C) -> (...).

    1 is even attention, 0 is all of it on one region.
    """
    flat = maps.reshape(*maps.shape[:-2], -1).astype(np.float64)
    if flat.shape[-1] == 1:
        return np.ones(flat.shape[:-1])
    logs = np.log(flat, where=flat > 0, out=np.zeros_like(flat))
    return -(flat * logs).sum(axis=-1) / math.log(flat.shape[-1])


def change(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of attention that lies elsewhere, 0 to 1 (total variation): (..., R, C) -> (...)."""
    return np.abs(maps - others).sum(axis=(-2, -1)) / 2


def map_summary(captions: Sequence[np.ndarray]) -> dict[str, float | None]:
    """Entropy, and how much maps change over words and over pictures.

    Args:
        captions: (T, R, C) maps of each caption.

    Returns:
        `entropy`: mean of `relative_entropy` over words. `change_over_words`: mean over words of
        the change against the caption's mean map; null where no caption has two words.
        `change_over_pictures`: mean of the change against the mean map of the same place in all
        captions (first words with first words, and so on); null where there is one caption.
    """
    several = [maps for maps in captions if len(maps) > 1]
    over_words = [change(maps, maps.mean(axis=0)) for maps in several]
    over_pictures = _changes_over_pictures(captions)
    entropies = [relative_entropy(maps) for maps in captions]
    return {
        "entropy": _mean(entropies),
        "change_over_words": _mean(over_words),
        "change_over_pictures": _mean(over_pictures),
    }


def _changes_over_pictures(captions: Sequence[np.ndarray]) -> list[np.ndarray]:
    found = []
    for t in range(max((len(maps) for maps in captions), default=0)):
        there = np.array([maps[t] for maps in captions if len(maps) > t])
        if len(there) > 1:
            found.append(change(there, there.mean(axis=0)))
    return found


def _mean(values: Sequence[np.ndarray]) -> float | None:
    return float(np.concatenate(values).mean()) if values else None


def map_warnings(summary: Mapping[str, Any], language: Language = "en") -> list[str]:
    """What is wrong with the maps, one sentence each; nothing if nothing is.

    Even maps change little in every way, so that the other two are not said of them.

    Args:
        summary: From `map_summary`.
        language: Of the sentences.
    """
    entropy = summary["entropy"]
    if entropy is not None and entropy > EVEN_ENTROPY:
        return [
            say(
                language,
                "Attention is all but even: its entropy is {entropy:.1%} of the largest possible, "
                "so that the model hardly tells regions apart.",
                entropy=entropy,
            )
        ]
    found = []
    words, pictures = summary["change_over_words"], summary["change_over_pictures"]
    if words is not None and words < SMALLEST_CHANGE:
        found.append(
            say(
                language,
                "Attention hardly moves from word to word: on average {share:.1%} of it lies "
                "elsewhere than in its caption's mean map.",
                share=words,
            )
        )
    if pictures is not None and pictures < SMALLEST_CHANGE:
        found.append(
            say(
                language,
                "Attention is nearly the same for all pictures: on average {share:.1%} of it lies "
                "elsewhere than in the mean map over the pictures.",
                share=pictures,
            )
        )
    return found
