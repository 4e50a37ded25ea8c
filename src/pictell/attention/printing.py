"""The measures of attention at the console.

print_attention(scores, Console())
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from pictell.progress import console


def print_attention(scores: Mapping[str, Any], out: Console) -> None:
    """Tables of one scores.json with `attention`; warnings go to standard error."""
    measures = scores["attention"]
    out.print(
        f"attention of the captions at beam {scores['beam']} ({measures['pictures']:,} pictures, "
        f"{measures['words']:,} words): entropy {measures['entropy']:.1%} of even attention",
        highlight=False,
    )
    if measures["boxes"]:
        out.print(_boxes(measures["boxes"]))
    if measures["by_class"]:
        out.print(_classes(measures))
    if measures["deletion"]:
        out.print(_deletion(measures["deletion"]))
    for warning in measures["warnings"]:
        console.print(f"[yellow]warning:[/] {warning}", highlight=False)


def _interval(entry: Mapping[str, float] | None, form: str) -> str:
    if entry is None:
        return "–"
    low, high = format(entry["low"], form), format(entry["high"], form)
    return f"{format(entry['score'], form)} [{low}, {high}]"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _boxes(boxes: Mapping[str, Any]) -> Table:
    table = _table(
        f"{boxes['words']:,} words that name something with a box, in {boxes['pictures']:,} "
        "pictures, with 95 % intervals",
        *("", "attention", "uniform map", "shuffled maps"),
    )
    for kind, label in (("share", "attention inside the box"), ("hits", "pointing game, hits")):
        names = (kind, f"uniform_{kind}", f"shuffled_{kind}")
        table.add_row(label, *(_interval(boxes[name], ".1%") for name in names))
    return table


def _classes(measures: Mapping[str, Any]) -> Table:
    table = _table("by class of word", "", "words", "entropy", "gate")
    for name, entry in measures["by_class"].items():
        gate = "–" if entry["gate"] is None else f"{entry['gate']:.3f}"
        table.add_row(name, f"{entry['words']:,}", f"{entry['entropy']:.1%}", gate)
    return table


def _deletion(deletion: Mapping[str, Any]) -> Table:
    table = _table(
        f"deletion check: fall of the log-probability with {deletion['greyed_cells']} of "
        f"{deletion['cells']} cells greyed ({deletion['words']:,} words, {deletion['pictures']:,} "
        "pictures), in nats a word",
        *("cells greyed", "fall"),
    )
    for name, label in (
        ("attended", "most attended"),
        ("random", "at random"),
        ("elsewhere", "attended to elsewhere"),
        ("attended_over_random", "difference to random"),
        ("attended_over_elsewhere", "difference to elsewhere"),
    ):
        table.add_row(label, _interval(deletion[name], "+.3f"))
    return table
