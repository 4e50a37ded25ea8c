"""How long a new process takes until something happens: help, and the caption of a picture."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pictell.bench.case import Case
from pictell.bench.measure import Timing, alternate

IMPORTS = "import torch, timm"


class Start(Case):
    """A new process: libraries alone, help, and a caption.

    Args:
        run: A run folder, or None to leave the caption out.
        picture: A picture file.
    """

    name = "start"
    unit = "starts"
    amount = 1

    def __init__(self, run: Path | None = None, picture: Path | None = None) -> None:
        self.commands = {
            IMPORTS: ["-c", IMPORTS],
            "pictell --help": ["-m", "pictell", "--help"],
        }
        if run is not None and picture is not None:
            self.commands["pictell caption"] = ["-m", "pictell", "caption", str(run), str(picture)]
        self.ways = tuple(self.commands)

    def prepare(self, way: str) -> Callable[[], object]:
        command = [sys.executable, *self.commands[way]]
        return lambda: subprocess.run(command, check=True, capture_output=True)

    def check(self) -> None:
        """All commands end well."""
        for way in self.ways:
            self.prepare(way)()

    def timings(self, repeats: int) -> dict[str, Timing]:
        """Seconds of each command."""
        self.check()
        return alternate({way: self.prepare(way) for way in self.ways}, repeats)
