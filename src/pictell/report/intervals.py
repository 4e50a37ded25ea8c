"""Differences with their intervals as bars on one scale: what is drawn under the answer.

    chart = interval_chart(comparison["differences"][0], comparison["models"], "5")

Scores have different units; relative differences, in per cent of the first model's score, can stand
on one axis. The page draws the bars with CSS, so that they grow and shrink with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_METRICS = ("BLEU-4", "CIDEr-D", "ROUGE-L", "BLEU-1", "BLEU-2", "BLEU-3")


@dataclass(frozen=True)
class Bar:
    """A difference, in per cent of the first score, and its place on the axis (0 to 100).

    Attributes:
        name: The score.
        difference: Second minus first, with `low` and `high`.
        at: Place of the difference; `start` and `width` of its interval.
        winner: Position of the better model if the interval excludes zero.
    """

    name: str
    difference: float
    low: float
    high: float
    at: float
    start: float
    width: float
    winner: int | None


@dataclass(frozen=True)
class IntervalChart:
    """Bars with their axis: `zero` and the ticks (place, label) are places from 0 to 100."""

    bars: list[Bar]
    zero: float
    ticks: list[tuple[float, str]]


def interval_chart(
    difference: Mapping[str, Any], models: Sequence[Mapping[str, Any]], beam: str
) -> IntervalChart | None:
    """The chart of one pair, or None when the first model's scores are all zero."""
    scores = models[difference["first"]]["beams"][beam]["scores"]
    rows = []
    for name in _METRICS:
        base, entry = scores[name]["score"], difference["beams"][beam][name]
        if base > 0:
            values = [100 * entry[key] / base for key in ("difference", "low", "high")]
            rows.append((name, *values))
    if not rows:
        return None
    low, high, step = _axis(min(r[2] for r in rows), max(r[3] for r in rows))

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 3)

    bars = [
        Bar(
            name, value, least, most, place(value), place(least), place(most) - place(least), winner
        )
        for name, value, least, most in rows
        for winner in [_winner(difference, least, most)]
    ]
    ticks = [low + step * n for n in range(round((high - low) / step) + 1)]
    labels = [(place(tick), f"{tick:+g} %".replace("-", "\N{MINUS SIGN}")) for tick in ticks]
    return IntervalChart(bars, place(0.0), [(at, text.replace("+0 ", "0 ")) for at, text in labels])


def _winner(difference: Mapping[str, Any], low: float, high: float) -> int | None:
    if low > 0:
        return difference["second"]
    return difference["first"] if high < 0 else None


def _axis(least: float, most: float) -> tuple[float, float, float]:
    """Round bounds that hold zero and all values, and the step between ticks."""
    least, most = min(least, 0.0), max(most, 0.0)
    span = (most - least) or 2.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= span / 4)
    low, high = math.floor(least / step) * step, math.ceil(most / step) * step
    return (-step, step, step) if low == high else (low, high, step)
