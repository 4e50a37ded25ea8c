"""The deletion check: does a word need the part of the picture that it attends to?

    found = deletion_check(captioner, pictures, resamples=1000, seed=0)

The cells with the most attention are greyed, and the word's log-probability is read again. It
should fall by more than when as many cells are greyed elsewhere: cells drawn at random, and cells
that a word of another picture attended to, which are as clustered and lie as much in the middle.
This asks for no boxes, so that it can be done on any data. After Petsiuk et al. 2018, "RISE", in
one step instead of a curve.

Axes: C cells of the encoder, L regions, T words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pictell.attention.boxes import interval_of_mean
from pictell.captioner import Captioner
from pictell.data.word_classes import WordClass
from pictell.occlusion import grey_cells
from pictell.progress import progress_bar

GREYED = 0.1  # share of the cells
CONTROLS = 4  # masks of either kind for a picture; each serves all its words


@dataclass(frozen=True, eq=False)
class Attended:
    """A picture with its caption and attention.

    Attributes:
        path: The picture file.
        words: Of the caption.
        attention: (T, L).
        tested: Positions of the words that are tested.
    """

    path: Path
    words: list[str]
    attention: np.ndarray
    tested: list[int]


def most_attended(
    attention: np.ndarray, pool: np.ndarray, count: int, generator: np.random.Generator
) -> np.ndarray:
    """(C,) booleans: the `count` cells with the most attention; ties are broken by chance.

    Args:
        attention: (L,) over the regions.
        pool: (L, C) shares of the cells in the regions.
        count: How many.
        generator: Source of chance.
    """
    weights = attention @ pool  # (C,)
    order = np.lexsort((generator.random(len(weights)), -weights))
    chosen = np.zeros(len(weights), dtype=bool)
    chosen[order[:count]] = True
    return chosen


def deletion_check(
    captioner: Captioner,
    pictures: Sequence[Attended],
    class_of: Callable[[str], WordClass] | None,
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any] | None:
    """How much a word's log-probability falls when cells are greyed.

    Args:
        captioner: With an attention decoder.
        pictures: What to test, with at least one tested word each.
        class_of: Tells the class of a word, for `by_class`; may be None.
        resamples: Of the bootstrap over pictures.
        seed: Of the bootstrap and of the random cells.

    Returns:
        `pictures`, `words`, `greyed_cells` of `cells`; as score, low and high in nats a word: the
        falls `attended`, `random` and `elsewhere`, and the differences `attended_over_random` and
        `attended_over_elsewhere`; `by_class`: for each class of words `words` and the mean falls.
        None without pictures; `elsewhere` is null with a single one.
    """
    if not pictures:
        return None
    generator = np.random.default_rng(seed)
    pool = captioner.decoder.pool.cpu().numpy()
    rows, columns = captioner.encoder.grid
    count = max(1, round(GREYED * rows * columns))
    masks = [
        np.array([most_attended(p.attention[t], pool, count, generator) for t in p.tested])
        for p in pictures
    ]
    falls = []
    with progress_bar() as bar:
        shown = bar.add_task("deletion check", total=len(pictures), unit="pictures", note="")
        for number, picture in enumerate(pictures):
            others = [own for other, own in enumerate(masks) if other != number]
            controls = _controls(others, rows * columns, count, generator)
            falls.append(_falls(captioner, picture, masks[number], controls))
            bar.advance(shown)
    classes = [[class_of(p.words[t]) for t in p.tested] for p in pictures] if class_of else None
    return {
        "pictures": len(pictures),
        "words": sum(len(own) for own in falls),
        "greyed_cells": count,
        "cells": rows * columns,
        **_summary(falls, resamples, seed),
        "by_class": _by_class(falls, classes) if classes else None,
    }


def _controls(
    others: Sequence[np.ndarray], cells: int, count: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Masks (CONTROLS, C): random cells, and those of words of other pictures."""
    scattered = np.zeros((CONTROLS, cells), dtype=bool)
    for mask in scattered:
        mask[generator.choice(cells, size=count, replace=False)] = True
    controls = {"random": scattered}
    if others:
        pictures = generator.integers(len(others), size=CONTROLS)
        drawn = [others[p][generator.integers(len(others[p]))] for p in pictures]
        controls["elsewhere"] = np.array(drawn)
    return controls


def _falls(
    captioner: Captioner, picture: Attended, masks: np.ndarray, controls: dict[str, np.ndarray]
) -> np.ndarray:
    """(tested words, 3): fall of the log-probability under its own mask, random ones, others'."""
    pixels = captioner.encoder.transform.read(picture.path)
    grey = captioner.encoder.mean.flatten().cpu().numpy()
    grid = captioner.encoder.grid
    every = np.concatenate([masks, *controls.values()]).reshape(-1, *grid)
    pictures = np.stack([pixels, *(grey_cells(pixels, mask, grey) for mask in every)])
    table = np.array(
        captioner.word_log_probabilities(pictures, [picture.words] * len(pictures))
    )  # (1 + masks, T)
    fallen = (table[:1] - table[1:])[:, picture.tested]  # (masks, tested words)
    own = np.diagonal(fallen)  # the first masks are the words' own, in their order
    columns, start = [own], len(masks)
    for name in ("random", "elsewhere"):
        used = len(controls.get(name, ()))
        mean = fallen[start : start + used].mean(axis=0) if used else np.full(len(own), np.nan)
        columns.append(mean)
        start += used
    return np.stack(columns, axis=1)


def _summary(falls: Sequence[np.ndarray], resamples: int, seed: int) -> dict[str, Any]:
    counts = np.array([len(own) for own in falls], dtype=np.float64)
    sums = np.array([own.sum(axis=0) for own in falls])  # (pictures, 3)
    how = {"resamples": resamples, "seed": seed}
    columns = {
        "attended": sums[:, 0],
        "random": sums[:, 1],
        "elsewhere": sums[:, 2],
        "attended_over_random": sums[:, 0] - sums[:, 1],
        "attended_over_elsewhere": sums[:, 0] - sums[:, 2],
    }
    return {name: interval_of_mean(name, values, counts, **how) for name, values in columns.items()}


def _by_class(
    falls: Sequence[np.ndarray], classes: Sequence[Sequence[str]]
) -> dict[str, dict[str, Any]]:
    table = np.concatenate(falls)
    names = np.array([name for own in classes for name in own])
    found = {}
    for name in sorted(set(names)):
        attended, random, elsewhere = (float(v) for v in table[names == name].mean(axis=0))
        found[name] = {
            "words": int((names == name).sum()),
            "attended": attended,
            "random": random,
            "elsewhere": None if np.isnan(elsewhere) else elsewhere,
        }
    return found
