"""Pictures mirrored left to right, where their captions allow it.

    free = may_be_mirrored(examples)
    views = views_of_epoch(captions.images, free, seed=0, epoch=3)

A picture has two views: as it is, at its position, and mirrored, at its position + the number of
pictures. For each epoch a caption draws one of them; a caption that says left or right would be
wrong of the mirrored one and keeps its picture.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from pictell.data.records import Example

# "left" may be the past of leave, and "right" mean correct: such captions keep their picture too.
_SIDES = re.compile(r"\b(?:left|right)|clockwise|[左右]|[顺順逆][时時][针針]", re.IGNORECASE)


def says_a_side(caption: str) -> bool:
    """Whether an English or Chinese caption says left, right or which way something turns."""
    return _SIDES.search(caption) is not None


def may_be_mirrored(examples: Sequence[Example]) -> np.ndarray:
    """For each caption, in the order of the examples, whether it is true of the mirrored picture:
    (captions,) of booleans.
    """
    return np.array([not says_a_side(c) for example in examples for c in example.captions])


def views_of_epoch(images: np.ndarray, free: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """The view that each caption sees in an epoch, a function of seed and epoch: (captions,).

    Args:
        images: (captions,) position of each caption's picture.
        free: (captions,) which may see the mirrored one.
        seed: Seed of the run.
        epoch: Counted from 0.
    """
    generator = np.random.default_rng([seed, epoch, 1])  # the order of captions has [seed, epoch]
    mirrored = free & (generator.random(len(free)) < 0.5)
    return images + mirrored * (int(images.max()) + 1)
