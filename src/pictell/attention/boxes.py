"""Attention against boxes: is what a word names where the model looks?

    looks = looks_at_things(caption.words, caption.attention, objects, caption.seen_box)
    box_measures([looks], resamples=1000, seed=0)["share"]

For each word that names something with a known box: the share of the word's attention inside the
box, and whether its strongest cell lies there (the pointing game of Zhang et al. 2018, "Top-down
neural attention by excitation backprop", here without a margin). Two maps that know nothing stand
beside it: a uniform one, whose share is that of the box's area, and shuffled ones, which are the
maps of the words of other pictures; they have the model's habits (the middle of the picture, say),
but not this picture.

Axes: R rows and C columns of a map, P pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pictell.data.images import Box
from pictell.metrics import Metric, bootstrap_interval

NEIGHBOURS = (-1, 1)  # the map of the word before, of the word after


@dataclass(frozen=True, eq=False)
class Look:
    """A word that names something, and where the model looked while it was said.

    Attributes:
        word: The word.
        inside: (R, C) share of each cell that lies inside a box of what the word names.
        centres: (R, C) whether the middle of each cell does.
        attention: (R, C) the word's map.
        neighbours: The maps of the word before and of the word after, by -1 and 1.
    """

    word: str
    inside: np.ndarray
    centres: np.ndarray
    attention: np.ndarray
    neighbours: dict[int, np.ndarray]


def looks_at_things(
    words: Sequence[str], maps: np.ndarray, objects: Sequence[Mapping[str, Any]], seen_box: Box
) -> list[Look]:
    """The words of a caption that name something in the picture.

    Args:
        words: Of the caption.
        maps: (T, R, C) attention.
        objects: What `Example.extra["objects"]` holds: `box` (left, top, right, bottom in pixels)
            and `words` that name it. A word that names several things means all of them.
        seen_box: What the maps cover, in the same pixels.
    """
    looks = []
    for t, word in enumerate(words):
        boxes = [tuple(thing["box"]) for thing in objects if word in thing["words"]]
        if not boxes:
            continue
        looks.append(
            Look(
                word,
                inside_shares(boxes, seen_box, maps.shape[1:]),
                inside_centres(boxes, seen_box, maps.shape[1:]),
                maps[t],
                {by: maps[t + by] for by in NEIGHBOURS if 0 <= t + by < len(maps)},
            )
        )
    return looks


def inside_shares(boxes: Sequence[Box], seen_box: Box, grid: tuple[int, ...]) -> np.ndarray:
    """(R, C) share of each cell's area that lies in at least one of the boxes."""
    columns = np.linspace(seen_box[0], seen_box[2], grid[1] + 1)
    rows = np.linspace(seen_box[1], seen_box[3], grid[0] + 1)
    # Cut along every edge: each piece lies wholly inside or outside of each box and each cell.
    x = _cuts(columns, [edge for box in boxes for edge in (box[0], box[2])])
    y = _cuts(rows, [edge for box in boxes for edge in (box[1], box[3])])
    middle_x, middle_y = (x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2
    areas = np.diff(y)[:, None] * np.diff(x)[None] * _inside(boxes, middle_x, middle_y)
    shares = np.zeros((grid[0], grid[1]))
    row = np.searchsorted(rows, middle_y) - 1
    column = np.searchsorted(columns, middle_x) - 1
    np.add.at(shares, (row[:, None], column[None]), areas)
    return shares / ((rows[1] - rows[0]) * (columns[1] - columns[0]))


def _cuts(edges: np.ndarray, others: Sequence[float]) -> np.ndarray:
    within = [edge for edge in others if edges[0] < edge < edges[-1]]
    return np.unique(np.concatenate([edges, within]))


def inside_centres(boxes: Sequence[Box], seen_box: Box, grid: tuple[int, ...]) -> np.ndarray:
    """(R, C) whether the middle of each cell lies in at least one of the boxes."""
    x = seen_box[0] + (np.arange(grid[1]) + 0.5) / grid[1] * (seen_box[2] - seen_box[0])
    y = seen_box[1] + (np.arange(grid[0]) + 0.5) / grid[0] * (seen_box[3] - seen_box[1])
    return _inside(boxes, x, y)


def _inside(boxes: Sequence[Box], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    found = np.zeros((len(y), len(x)), dtype=bool)
    for left, top, right, bottom in boxes:
        found |= ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))[None]
    return found


def box_measures(
    pictures: Sequence[Sequence[Look]], *, resamples: int, seed: int
) -> dict[str, Any] | None:
    """All numbers on attention and boxes, with 95 % intervals over the choice of pictures.

    Args:
        pictures: The looks of each picture; those without any do not count.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        `words` and `pictures` that count. As score, low and high, each a mean over the words:
        `share` of the attention inside the box, `uniform_share` (the box's share of the area),
        `shuffled_share`, and the differences `share_over_uniform` and `share_over_shuffled`; `hits`
        of the pointing game, with `uniform_hits`, `shuffled_hits`, `hits_over_uniform` and
        `hits_over_shuffled`. `neighbours`: `share` and `hits` of the maps of the word before and
        after, under "-1" and "1". None if no word names anything with a box; shuffled values are
        null if one picture alone has such words.
    """
    pictures = [looks for looks in pictures if looks]
    if not pictures:
        return None
    sums = {
        "words": np.array([len(looks) for looks in pictures], dtype=np.float64),
        **_own_sums(pictures),
        **_shuffled_sums(pictures),
    }
    how = {"resamples": resamples, "seed": seed}
    measures: dict[str, Any] = {"words": int(sums["words"].sum()), "pictures": len(pictures)}
    for kind in ("share", "hits"):
        names = [kind, f"uniform_{kind}", f"shuffled_{kind}"]
        measures |= {name: _mean(name, sums, **how) for name in names}
        for other in ("uniform", "shuffled"):
            name = f"{kind}_over_{other}"
            measures[name] = _difference(name, sums, kind, f"{other}_{kind}", **how)
    measures["neighbours"] = {
        str(by): {kind: _neighbour_mean(pictures, by, kind) for kind in ("share", "hits")}
        for by in NEIGHBOURS
    }
    return measures


def _own_sums(pictures: Sequence[Sequence[Look]]) -> dict[str, np.ndarray]:
    """Sums over each picture's words, (P,) each."""
    each = {
        "share": lambda look: (look.attention * look.inside).sum(),
        "uniform_share": lambda look: look.inside.mean(),
        "hits": lambda look: look.centres.flat[look.attention.argmax()],
        "uniform_hits": lambda look: look.centres.mean(),
    }
    return {
        name: np.array([sum(float(value(look)) for look in looks) for looks in pictures])
        for name, value in each.items()
    }


def _shuffled_sums(pictures: Sequence[Sequence[Look]]) -> dict[str, np.ndarray]:
    """The mean over all maps of other pictures, in place of one drawn by chance: it is as cheap."""
    maps = np.array([sum(look.attention for look in looks) for looks in pictures])  # (P, R, C)
    peaks = np.array([sum(_peak(look.attention) for look in looks) for looks in pictures])
    words = np.array([len(looks) for looks in pictures])
    others = (words.sum() - words).astype(np.float64)
    others[others == 0] = np.nan  # one picture alone: there are no other maps
    sums = {}
    for name, own, region in (
        ("shuffled_share", maps, "inside"),
        ("shuffled_hits", peaks, "centres"),
    ):
        mean = (own.sum(axis=0) - own) / others[:, None, None]  # (P, R, C)
        sums[name] = np.array(
            [
                sum(float((mean[p] * getattr(look, region)).sum()) for look in looks)
                for p, looks in enumerate(pictures)
            ]
        )
    return sums


def _peak(attention: np.ndarray) -> np.ndarray:
    peak = np.zeros(attention.shape)
    peak.flat[attention.argmax()] = 1.0
    return peak


def _mean(
    name: str, sums: Mapping[str, np.ndarray], *, resamples: int, seed: int
) -> dict[str, float] | None:
    return interval_of_mean(name, sums[name], sums["words"], resamples=resamples, seed=seed)


def _difference(
    name: str,
    sums: Mapping[str, np.ndarray],
    first: str,
    second: str,
    *,
    resamples: int,
    seed: int,
) -> dict[str, float] | None:
    values = sums[first] - sums[second]
    return interval_of_mean(name, values, sums["words"], resamples=resamples, seed=seed)


def interval_of_mean(
    name: str, sums: np.ndarray, counts: np.ndarray, *, resamples: int, seed: int
) -> dict[str, float] | None:
    """A mean with its 95 % interval over the choice of pictures.

    Args:
        name: Of the measure.
        sums: (P,) sum over each picture's words.
        counts: (P,) how many words that were.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        `score`, `low` and `high`; None if a sum is not known.
    """
    if not np.isfinite(sums).all():
        return None
    statistics = np.stack([sums, counts], axis=1)
    metric = Metric(name, statistics, lambda total: total[..., 0] / total[..., 1], sums / counts)
    return vars(bootstrap_interval(metric, resamples=resamples, seed=seed)).copy()


def _neighbour_mean(pictures: Sequence[Sequence[Look]], by: int, kind: str) -> float | None:
    values = []
    for look in (look for looks in pictures for look in looks if by in look.neighbours):
        attention = look.neighbours[by]
        inside = (attention * look.inside).sum()
        values.append(inside if kind == "share" else look.centres.flat[attention.argmax()])
    return float(np.mean(values)) if values else None
