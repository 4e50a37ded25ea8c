"""Where the things of a generated scene stand, before a pixel is drawn.

    arrange("left of", (Group("car", "red"), Group("dog", count=2)), random.Random(0))

All lengths are parts of the picture's side. Each thing gets a square slot, and slots never overlap.
The words of the captions hold for whole groups: each thing of the left group ends before the
first thing of the right group begins, and the groups stand roughly on one line.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from pictell.data.scene_captions import PLACES, Group

Slot = tuple[float, float, float]  # left, top, length

MARGIN = 0.02  # free edge of the picture
GAP = 0.06  # between the things of a group, in lengths of a thing
DRIFT = 0.1  # how far the centres of groups may be from one line
LENGTHS = {"small": (0.19, 0.22), "big": (0.3, 0.4), "": (0.28, 0.4)}
LENGTHS_IN_GROUP = (0.2, 0.3)

# From left to right in each column: first and last x. The middle one of three is named first.
_HALVES = ((MARGIN, 0.49), (0.51, 1 - MARGIN))
_THIRDS = ((0.345, 0.655), (MARGIN, 0.33), (0.67, 1 - MARGIN))

# Rows and columns in which so many things may stand.
_GRIDS = {
    1: ((1, 1),),
    2: ((1, 2), (2, 1)),
    3: ((1, 3), (3, 1), (2, 2)),
    4: ((2, 2), (1, 4), (4, 1)),
}


@dataclass(frozen=True)
class _Block:
    """A grid of cells with things in some of them."""

    rows: int
    columns: int
    cells: tuple[int, ...]
    length: float

    @property
    def width(self) -> float:
        return _extent(self.columns, self.length)

    @property
    def height(self) -> float:
        return _extent(self.rows, self.length)

    def slots(self, left: float, top: float) -> list[Slot]:
        step = self.length * (1 + GAP)
        places = (divmod(cell, self.columns) for cell in self.cells)
        return [(left + column * step, top + row * step, self.length) for row, column in places]


def arrange(relation: str, groups: Sequence[Group], rng: random.Random) -> list[list[Slot]]:
    """Slots for each thing of each group.

    Args:
        relation: `left of`, `above` (two groups), `between` (three: the middle, the left and the
            right one) or a key of `scene_captions.PLACES` (one).
        groups: In the order in which captions name them.
        rng: Source of chance.
    """
    if relation in PLACES:
        return [_in_place(relation, groups[0], rng)]
    if relation == "between":
        return _side_by_side(_THIRDS, groups, rng)
    slots = _side_by_side(_HALVES, groups, rng)
    if relation == "above":  # turned about the diagonal, left becomes top
        slots = [[(top, left, length) for left, top, length in group] for group in slots]
    return slots


def _in_place(place: str, group: Group, rng: random.Random) -> list[Slot]:
    block = _block(group, 0.5 - MARGIN, 0.5 - MARGIN, rng)
    column = 0.0 if "left" in place else 1.0 if "right" in place else 0.5
    row = 0.0 if "top" in place else 1.0 if "bottom" in place else 0.5
    return block.slots(_near(column, block.width, rng), _near(row, block.height, rng))


def _near(anchor: float, extent: float, rng: random.Random) -> float:
    """Start of a stretch at the beginning (0), middle (0.5) or end (1) of the free space."""
    free = 1 - 2 * MARGIN - extent
    return MARGIN + free * min(1.0, max(0.0, anchor + rng.uniform(-0.08, 0.08)))


def _side_by_side(
    columns: Sequence[tuple[float, float]], groups: Sequence[Group], rng: random.Random
) -> list[list[Slot]]:
    height = 1 - 2 * MARGIN
    blocks = [
        _block(group, last - first, height, rng)
        for (first, last), group in zip(columns, groups, strict=True)
    ]
    # The line follows the tallest block, which has the least freedom; the others can reach it.
    tallest = max(block.height for block in blocks)
    line = rng.uniform(MARGIN + tallest / 2, 1 - MARGIN - tallest / 2)
    slots = []
    for (first, last), block in zip(columns, blocks, strict=True):
        drift = rng.uniform(-DRIFT, DRIFT) / 2
        top = min(max(line + drift - block.height / 2, MARGIN), 1 - MARGIN - block.height)
        slots.append(block.slots(rng.uniform(first, last - block.width), top))
    return slots


def _block(group: Group, width: float, height: float, rng: random.Random) -> _Block:
    """A grid for a group that fits into a width and a height."""
    low, high = LENGTHS[group.size] if group.count == 1 else LENGTHS_IN_GROUP
    rows, columns = rng.choice(
        [
            (rows, columns)
            for rows, columns in _GRIDS[group.count]
            if _extent(rows, low) <= height and _extent(columns, low) <= width
        ]
    )
    largest = min(high, width / _extent(columns, 1), height / _extent(rows, 1))
    if group.count > 1:  # as large as there is room for: small things are hard to tell apart
        low = max(low, 0.85 * largest)
    cells = sorted(rng.sample(range(rows * columns), group.count))
    return _Block(rows, columns, tuple(cells), rng.uniform(low, largest))


def _extent(number: int, length: float) -> float:
    """Length of a row of things."""
    return length * (number + GAP * (number - 1))
