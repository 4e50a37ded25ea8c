"""Progress bars with rate and time left, the same everywhere."""

from __future__ import annotations

import os

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


def is_first_process() -> bool:
    """Whether no launcher (torchrun, accelerate) started this process, or as the first of several.

    Only the first one tells what all of them do; each tells its own errors.
    """
    return os.environ.get("RANK", "0") == "0"


# Results go to standard output; progress and notes for a person go to standard error.
console = Console(stderr=True, quiet=not is_first_process())


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f} {task.fields.get('unit', '')}/s")


def progress_bar(*, disable: bool = False) -> Progress:
    """A bar for `with`; tasks take `unit=` (pictures, captions, ...) and may show `note=`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=disable,
        transient=True,
    )
