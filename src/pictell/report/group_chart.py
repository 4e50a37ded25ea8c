"""Scores by group as bars: what is drawn where the report tells where each model wins.

    for chart in group_charts(comparison):
        chart.kind, chart.rows

Bars of a chart share one scale from zero, so that groups and models can be compared by eye.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GroupBar:
    """A model's score on a group: where its bar (`width`) and interval (`low` to `high`) end.

    Attributes:
        model: Position of the model.
        score: The score, with `interval`, in the metric's units.
        width: Of the bar, 0 to 100.
        low: Start of the interval, 0 to 100.
        high: End of the interval, 0 to 100.
        settled: Whether its difference to the first model is; None for the first model itself.
    """

    model: int
    score: float
    interval: tuple[float, float]
    width: float
    low: float
    high: float
    settled: bool | None


@dataclass(frozen=True)
class GroupRow:
    """A group: its record of `groups` in comparison.json, and a bar for each model."""

    group: Mapping[str, Any]
    bars: list[GroupBar]


@dataclass(frozen=True)
class GroupChart:
    """All groups of a kind, `length` or `word_class`."""

    kind: str
    rows: list[GroupRow]


def group_charts(comparison: Mapping[str, Any]) -> list[GroupChart]:
    """The charts for which there are groups."""
    return [
        GroupChart(kind, _rows(comparison, kind))
        for kind, groups in comparison["groups"].items()
        if groups
    ]


def _rows(comparison: Mapping[str, Any], kind: str) -> list[GroupRow]:
    models, groups = comparison["models"], comparison["groups"][kind]
    top = max(
        model["breakdown"][kind][group["name"]]["high"] for model in models for group in groups
    )

    def place(value: float) -> float:
        return round(100 * value / top, 2) if top > 0 else 0.0

    rows = []
    for group in groups:
        bars = []
        for index, model in enumerate(models):
            entry = model["breakdown"][kind][group["name"]]
            bars.append(
                GroupBar(
                    index,
                    entry["score"],
                    (entry["low"], entry["high"]),
                    place(entry["score"]),
                    place(entry["low"]),
                    place(entry["high"]),
                    _settled(comparison, kind, group["name"], index),
                )
            )
        rows.append(GroupRow(group, bars))
    return rows


def _settled(comparison: Mapping[str, Any], kind: str, name: str, index: int) -> bool | None:
    for difference in comparison["differences"]:
        if difference["second"] == index:
            entry = difference["breakdown"][kind][name]
            return entry["low"] > 0 or entry["high"] < 0
    return None
