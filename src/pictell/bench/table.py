"""The benchmarks' results as a table for a person and as files.

Writes BENCH.md, which is meant to be read, and bench.json, which holds every number.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from pictell.bench.case import PICTELL, TEXTBOOK
from pictell.bench.gpu import GpuResult
from pictell.bench.growth import exponent
from pictell.bench.measure import Measured, Timing
from pictell.bench.start import IMPORTS
from pictell.files import write_json, write_text

if TYPE_CHECKING:
    from pictell.bench.run import Results

Section = tuple[str, list[str], list[list[str]]]  # title, columns, rows


def sections(results: Results) -> list[Section]:
    """All tables."""
    found: list[Section] = []
    if results.operations:
        found.append(_operations(results.operations))
    if results.whole_trainings:
        found.append(_whole_trainings(results.whole_trainings))
    if results.validation:
        rows = [
            [name, f"{v['validation']:.1f}", f"{v['epoch']:.0f}", f"{v['share']:.1%}"]
            for name, v in results.validation.items()
        ]
        columns = ["decoder", "validation, s", "epoch, s", "share"]
        found.append(("Validation of an epoch (1,000 pictures; 30,000 captions)", columns, rows))
    for name, parts in results.one_picture.items():
        rows = [[part, f"{milliseconds:.1f}"] for part, milliseconds in parts.items()]
        found.append((name, ["part", "ms"], rows))
    if results.start:
        found.append(_start(results.start))
    if results.growth:
        found.append(_growth(results.growth))
    if results.gpu:
        found.append(_gpu(results.gpu))
    return found


def _operations(operations: Sequence[Measured]) -> Section:
    columns = ["operation", "time, ms", "spread", "rate", "textbook, ms", "spread", "ratio"]
    columns += ["GFLOP", "of the product's pace", "roofline, ms", "products alone, ms"]
    columns += ["memory, MB", "textbook's"]
    return "Operations", columns, [_row(measured) for measured in operations]


def _row(m: Measured) -> list[str]:
    ours, plain = m.timings[PICTELL], m.timings.get(TEXTBOOK)
    share = m.pace_share
    return [
        m.case.name,
        _ms(ours.median),
        _spread(ours),
        f"{m.rate:,.1f} {m.case.unit}/s",
        _ms(plain.median) if plain else "",
        _spread(plain) if plain else "",
        f"{m.ratio:.1f}" if m.ratio else "",
        f"{m.gflop:.1f}" if m.gflop else "",
        f"{share:.0%} of {m.pace:.0f} GFLOP/s" if share else "",
        _least(m.roofline, ours),
        _least(m.products_alone, ours),
        f"{m.memory_mb[PICTELL]:.0f}" if PICTELL in m.memory_mb else "",
        f"{m.memory_mb[TEXTBOOK]:.0f}" if TEXTBOOK in m.memory_mb else "",
    ]


def _least(seconds: float | None, ours: Timing) -> str:
    """The least time, and what part of the time it is."""
    return "" if seconds is None else f"{_ms(seconds)} ({seconds / ours.median:.0%})"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.1f}" if seconds < 1 else f"{1000 * seconds:,.0f}"


def _spread(timing: Timing) -> str:
    return f"{_ms(timing.least)} to {_ms(timing.most)}"


def _whole_trainings(trainings: Mapping[str, Mapping[str, float]]) -> Section:
    rows = []
    for name, v in trainings.items():
        encode = [v[f"encode a picture, {way}"] for way in (TEXTBOOK, PICTELL)]
        train = [v[f"train a caption, {way}"] for way in (TEXTBOOK, PICTELL)]
        rows.append(
            [
                name,
                f"300,000 x ({encode[0]:.4f} + {train[0]:.5f}) = {v['textbook']:,.0f}",
                f"6,000 x {encode[1]:.4f} + 300,000 x {train[1]:.5f} = {v['pictell']:,.0f}",
                f"{v['ratio']:.1f}",
            ]
        )
    columns = ["decoder", "textbook, s", "pictell, s", "ratio"]
    title = "Ten epochs of Flickr8k on raw pictures, ResNet-101 frozen (computed from the parts)"
    return title, columns, rows


def _start(start: Mapping[str, Timing]) -> Section:
    base = start[IMPORTS].median
    rows = [
        [name, f"{t.median:.2f}", f"{t.least:.2f} to {t.most:.2f}", f"{t.median / base:.2f}"]
        for name, t in start.items()
    ]
    return "A new process", ["command", "s", "spread", f"of {IMPORTS}"], rows


def _growth(growth: Mapping[str, Mapping[str, Sequence[float]]]) -> Section:
    rows = []
    for name, values in growth.items():
        for pictures, seconds, peak in zip(
            values["pictures"], values["seconds"], values["peak_mb"], strict=True
        ):
            rows.append([name, f"{pictures:,.0f}", f"{seconds:.1f}", f"{peak:.0f}", ""])
        rows[-1][-1] = f"{exponent(values['pictures'], values['seconds']):.3f}"
    columns = ["operation", "pictures", "s", "peak memory, MB", "exponent"]
    return "Growth with the number of pictures", columns, rows


def _gpu(results: Sequence[GpuResult]) -> Section:
    rows = [
        [str(r.setting), *([r.failure, *[""] * 7] if r.failure else _gpu_numbers(r))]
        for r in results
    ]
    columns = ["training", "captions/s", "textbook's", "ratio", "memory, MB", "textbook's"]
    columns += ["of the product's pace", "of the bandwidth"]
    return "Training on a GPU", columns, rows


def _gpu_numbers(r: GpuResult) -> list[str]:
    rates = [f"{r.captions_per_second:,.0f}", f"{r.textbook:,.0f}", f"{r.ratio:.1f}"]
    memory = [f"{r.peak_mb:,.0f}", f"{r.textbook_mb:,.0f}"]
    shares = (f"{share:.1%}" if share else "" for share in (r.pace_share, r.bandwidth_share))
    return [*rates, *memory, *shares]


def print_results(results: Results) -> None:
    """Tables on standard output."""
    # In a log thirteen columns of 80 letters would be all that rich allows them.
    console = Console(width=None if sys.stdout.isatty() else 230)
    for title, columns, rows in sections(results):
        table = Table(title=title, title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(column, justify="left" if number == 0 else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in counting(results.operations):
        console.print(line, highlight=False)


def counting(operations: Iterable[Measured]) -> list[str]:
    """How the arithmetic of each operation was counted, a line for each term."""
    lines = []
    for measured in operations:
        if measured.terms:
            lines.append(f"{measured.case.name}: {measured.bandwidth:.0f} GB/s")
            lines += [
                f"  {t.gflop:8.2f} GFLOP {t.megabytes:8,.0f} MB  {t.name}: {t.shape}"
                for t in measured.terms
            ]
    return lines


def write_results(results: Results, folder: Path) -> None:
    """Write BENCH.md and bench.json, each whole or not at all."""
    about = results.about
    machine = about["hardware"]
    lines = [
        f"`{about['command']}`, {about['date']}, {machine['cores']} cores of "
        f"{machine['processor']}, {machine['memory_gb']} GB, GPU: {machine['gpu'] or 'none'}; "
        + ", ".join(f"{name} {version}" for name, version in about["versions"].items()),
        "",
    ]
    for title, columns, rows in sections(results):
        lines += [f"### {title}", "", _line(columns)]
        lines.append("| --- " + "| ---: " * (len(columns) - 1) + "|")
        lines += [_line(row) for row in rows] + [""]
    counted = counting(results.operations)
    if counted:
        lines += ["### How the arithmetic was counted", "", "```text", *counted, "```", ""]
    write_text(folder / "BENCH.md", "\n".join(lines))
    write_json(folder / "bench.json", as_json(results))


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def as_json(results: Results) -> dict[str, Any]:
    """Every number."""
    operations = [
        {
            "name": m.case.name,
            "unit": m.case.unit,
            "amount": m.case.amount,
            "seconds": {way: vars(timing) for way, timing in m.timings.items()},
            "ratio": m.ratio,
            "gflop": m.gflop,
            "pace_gflop_per_s": m.pace,
            "pace_share": m.pace_share,
            "bandwidth_gb_per_s": m.bandwidth,
            "roofline_seconds": m.roofline,
            "products_alone_seconds": m.products_alone,
            "memory_mb": dict(m.memory_mb),
        }
        for m in results.operations
    ]
    parts = {
        name: getattr(results, name)
        for name in ("about", "whole_trainings", "validation", "one_picture", "growth")
    }
    start = {name: vars(timing) for name, timing in results.start.items()}
    gpu = [{**vars(r), "setting": vars(r.setting), "ratio": r.ratio} for r in results.gpu]
    return json.loads(json.dumps({**parts, "operations": operations, "start": start, "gpu": gpu}))
