"""A comparison at the console: a table of the models and the sentences.

    print_comparison(comparison, Path("comparison/report.html"))

BLEU-1 to BLEU-3 are left to the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pictell.comparison.wording import number, percent, seconds
from pictell.progress import console

_MARKS = {"settled": "[green]+[/]", "open": "[yellow]?[/]", "equal": "[dim]=[/]"}
_SCORES = ("BLEU-4", "CIDEr-D", "ROUGE-L")
_ROWS = (
    *("cross-entropy", "top-5", "median epoch", "training, captions/s", "decoding, captions/s"),
    *("peak memory, MB", "decoder parameters"),
)
_NOT_SAID = ("BLEU-1", "BLEU-2", "BLEU-3")  # they nearly always say what BLEU-4 says


def print_comparison(comparison: Mapping[str, Any], report: Path | None = None) -> None:
    """Table and sentences to standard output, warnings to standard error.

    Args:
        comparison: The contents of comparison.json.
        report: Where the report is, if one was written.
    """
    out = Console()
    out.print(_table(comparison))
    for warning in comparison["warnings"]:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False)
    if comparison["repeats"]:
        _print_repeats(out, comparison["repeats"], str(comparison["beam"]))
    for difference in comparison["differences"]:
        out.print(f"\n[bold]{escape(difference['headline'])}[/]", highlight=False)
        for claim in difference["claims"]:
            if claim["subject"] not in _NOT_SAID:
                sentence = escape(claim["sentence"])
                out.print(f"{_MARKS[claim['state']]} {sentence}", highlight=False)
    if report is not None:
        out.print(f"\nreport: {escape(str(report))}", highlight=False, soft_wrap=True)


def _print_repeats(out: Console, repeats: Mapping[str, Any], beam: str) -> None:
    """Means over seeds, and what they settle."""
    table = Table(title="Runs that differ in the seed alone", title_justify="left")
    table.add_column("")
    table.add_column("seeds")
    for name in _SCORES:
        table.add_column(name, justify="right")
    for one in repeats["experiments"]:
        seeds = ", ".join(str(seed) for seed in one["seeds"])
        cells = [_mean_and_spread(one["beams"][beam][name]) for name in _SCORES]
        table.add_row(escape(one["name"]), seeds, *cells)
    out.print(table)
    out.print("mean ± standard deviation over seeds, least to most in brackets", highlight=False)
    for difference in repeats["differences"]:
        out.print(f"\n[bold]{escape(difference['headline'])}[/]", highlight=False)
        for claim in difference["claims"]:
            out.print(f"{_MARKS[claim['state']]} {escape(claim['sentence'])}", highlight=False)


def _mean_and_spread(entry: Mapping[str, Any]) -> str:
    if entry["deviation"] is None:
        return number(entry["score"])
    spread = f"± {number(entry['deviation'])}"
    return escape(
        f"{number(entry['score'])} {spread} [{number(entry['low'])}, {number(entry['high'])}]"
    )


def _table(comparison: Mapping[str, Any]) -> Table:
    protocol = comparison["protocol"]
    table = Table(
        title=f"{protocol['split']}, {protocol['pictures']:,} pictures, beam {comparison['beam']}",
        title_justify="left",
    )
    table.add_column("")
    for model in comparison["models"]:
        table.add_column(escape(model["name"]), justify="right", overflow="fold")
    beam = str(comparison["beam"])
    columns = [
        {**_score_cells(model["beams"][beam]), **dict(zip(_ROWS, _cells(model, beam), strict=True))}
        for model in comparison["models"]
    ]
    for row in columns[0]:
        table.add_row(row, *(column[row] for column in columns))
    return table


def _score_cells(captions: Mapping[str, Any]) -> dict[str, str]:
    """The scores of a model at a beam width; of Chinese captions per word and per character."""
    units = captions["scores_by_unit"]
    if not units:
        return {name: number(captions["scores"][name]["score"]) for name in _SCORES}
    return {
        f"{name} per {unit}": number(scores[name]["score"])
        for unit, scores in units.items()
        for name in _SCORES
    }


def _cells(model: Mapping[str, Any], beam: str) -> list[str]:
    training = model["training"]
    epoch, speed = training["epoch_seconds"] or {}, training["captions_per_second"] or {}
    return [
        number(model["teacher_forced"]["cross_entropy"]),
        percent(model["teacher_forced"]["top5"]),
        seconds(epoch.get("median")),
        number(speed.get("median"), 0),
        number(model["beams"][beam]["decoding"]["captions_per_second"], 1),
        number(training["peak_memory_mb"], 0),
        number(model["decoder"]["parameters"], 0),
    ]
