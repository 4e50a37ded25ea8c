"""A study as a table, for the screen and for a page in Markdown.

print_study(record)
write_text(out / "table.md", markdown_of(record))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pictell.ablate.results import SCORES
from pictell.ablate.study import BASE
from pictell.comparison.wording import DASH, number, seconds, signed

_LETTERS = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ", *(f"A{c}" for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ")]
HEADS = (
    *("variation", "CIDEr-D", "difference [95 %]", "BLEU-4", "difference [95 %]", "verdict"),
    *("best epoch", "to the best", "s/epoch", "captions/s", "decoding/s", "peak MB"),
)


def rows_of(study: Mapping[str, Any]) -> list[list[str]]:
    """A row of cells for each variation, under HEADS."""
    letters = _machine_letters(study)
    return [_row(variation, letters) for variation in study["variations"]]


def _machines_of(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The different machines that a study was measured on."""
    found: list[dict[str, Any]] = []
    for variation in study["variations"]:
        found += [m for m in variation["machines"] if m not in found]
    return found


def _machine_letters(study: Mapping[str, Any]) -> dict[str, str]:
    """A letter for each variation where machines differ; "A, B" if its seeds' do."""
    machines = _machines_of(study)
    if len(machines) < 2:
        return {}
    return {
        v["name"]: ", ".join(_LETTERS[machines.index(m)] for m in v["machines"])
        for v in study["variations"]
    }


def _row(variation: Mapping[str, Any], letters: Mapping[str, str]) -> list[str]:
    if variation["state"] != "measured":
        return [variation["name"], *[""] * 4, _why_not(variation), *[""] * 6]
    cells = [cell for name in SCORES for cell in _score_cells(variation, name)]
    cost = variation["cost"]
    best = cost.get("best_epoch")
    letter = letters.get(variation["name"])
    return [
        variation["name"] + (f" ({letter})" if letter else ""),
        *cells,
        _verdict(variation),
        DASH if best is None else f"{best:.3g}",
        seconds(cost.get("seconds_to_best")),
        number(cost.get("epoch_seconds"), 1),
        number(cost.get("captions_per_second"), 0),
        number(cost.get("decoding_captions_per_second"), 0),
        number(cost.get("peak_memory_mb"), 0),
    ]


def _score_cells(variation: Mapping[str, Any], name: str) -> list[str]:
    score = variation["scores"][name]
    shown = number(score["score"])
    if score["deviation"] is not None:
        shown += f" ± {number(score['deviation'])}"
    entry = variation["differences"].get(name)
    if entry is None:
        return [shown, ""]
    return [
        shown,
        f"{signed(entry['difference'])} [{number(entry['low'])}, {number(entry['high'])}]",
    ]


def _verdict(variation: Mapping[str, Any]) -> str:
    """What both scores say: once if they agree."""
    if variation["name"] == BASE:
        return "the base"
    found = {name: e["verdict"] for name, e in variation["differences"].items()}
    if not found:
        return "no base to compare with"
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return ", ".join(f"{name} {verdict}" for name, verdict in found.items())


def _why_not(variation: Mapping[str, Any]) -> str:
    return variation["state"] if variation["state"] != "unchanged" else "changes nothing"


def notes_of(study: Mapping[str, Any]) -> Iterator[str]:
    """What a reader of the table has to know."""
    over = {e["over_seeds"] for v in study["variations"] for e in v["differences"].values()}
    yield (
        f"{study['split']} split, {study['pictures']:,} pictures; seeds "
        f"{', '.join(map(str, study['seeds']))}. Differences are to the base, on the same "
        f"pictures, with {study['resamples']:,} resamples."
    )
    if over == {False}:
        yield "Intervals are over pictures alone: they say nothing of the chance of the seed."
    elif over:
        yield (
            "Intervals are over seeds and pictures where base and variation have several seeds, "
            "else over pictures alone."
        )
    yield (
        "within noise: the interval of the difference holds 0. unsure: it does not, but with as "
        "many variations as these one such is to be expected by chance (Holm's correction, 5 %)."
    )
    if study["jobs"] > 1:
        yield (
            f"Up to {study['jobs']} trainings ran at once: times are not those of an idle machine."
        )
    machines = _machines_of(study)
    if len(machines) > 1:
        shown = "; ".join(
            f"{_LETTERS[i]}: {', '.join(f'{k} {v}' for k, v in machine.items())}"
            for i, machine in enumerate(machines)
        )
        yield f"Times and memory compare within a machine alone, the letter says which. {shown}"
    yield from study["warnings"]


def failures_of(study: Mapping[str, Any]) -> list[str]:
    """A line for each training or evaluation that failed."""
    return [
        f"{variation['name']}, seed {failure['seed']}: {failure['reason']}"
        for variation in study["variations"]
        for failure in variation["failures"]
    ]


def markdown_of(study: Mapping[str, Any]) -> str:
    """The table, its notes, failures and the claims, as Markdown."""
    cells = [[_escaped(cell) for cell in row] for row in rows_of(study)]
    options = [
        f"- {_escaped(v['name'])}: `{_options(v)}`" for v in study["variations"] if _options(v)
    ]
    parts = [
        f"# {study['size']} of {study['study']}",
        "\n".join(_markdown_rows(cells)),
        *notes_of(study),
        _listed("What failed", failures_of(study)),
        _listed("Claims of the starting report", [c["sentence"] for c in study["claims"]]),
        "## What varies\n\n" + "\n".join(options),
        f"Command: `{study['command']}`" if study["command"] else "",
        _machine(study),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _machine(study: Mapping[str, Any]) -> str:
    """The one that all was measured on; of several, the notes tell."""
    machines = _machines_of(study) or [study["hardware"]]
    one = len(machines) == 1
    return "Machine: " + ", ".join(f"{k} {v}" for k, v in machines[0].items()) if one else ""


def _markdown_rows(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(HEADS)} |"
    yield "| --- |" + " ---: |" * (len(HEADS) - 1)
    for row in cells:
        yield f"| {' | '.join(row)} |"


def _listed(title: str, lines: Sequence[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""


def _options(variation: Mapping[str, Any]) -> str:
    options = dict(variation["options"])
    if variation["ensemble"]:
        options["ensemble"] = ", ".join(variation["ensemble"])
    return "; ".join(f"{name} {value}" for name, value in options.items())


def _escaped(text: str) -> str:
    return text.replace("|", r"\|")


def print_study(study: Mapping[str, Any]) -> None:
    """The same to standard output."""
    out = Console()
    rows = rows_of(study)
    title = f"{study['size']} of {study['study']}"
    for part in ((0, 1, 2, 5), (0, 3, 4), (0, *range(6, len(HEADS)))):  # all are too wide
        out.print(_console_table(rows, part, title))
        title = ""
    for note in notes_of(study):
        out.print(note, highlight=False, markup=False)
    for line in failures_of(study):
        out.print(f"failed: {line}", highlight=False, markup=False, style="red")
    out.print("\nclaims of the starting report")
    for claim in study["claims"]:
        out.print(f"  {claim['sentence']}", highlight=False, markup=False)


def _console_table(rows: Sequence[Sequence[str]], columns: Sequence[int], title: str) -> Table:
    table = Table(title=title or None, title_justify="left")
    for column in columns:
        left = HEADS[column] in ("variation", "verdict")
        table.add_column(HEADS[column], justify="left" if left else "right", overflow="fold")
    for row in rows:
        if any(row[column] for column in columns[1:]):
            table.add_row(*(escape(row[column]) for column in columns))
    return table
