"""What a run writes while it trains: log.jsonl, TensorBoard, a line for the person who waits.

log = RunLog(run, config)
log.step(progress, tally, gradient_norm=0.7, captions_per_second=350.0)
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from pictell.config import Config, flatten
from pictell.errors import MissingExtraError
from pictell.files import write_text
from pictell.progress import console
from pictell.training.checkpoint import RunFolder
from pictell.training.loss import Tally


@dataclass
class Progress:
    """Where training stands; saved in the state, so that a resumed run knows it too."""

    epoch: int = 0  # epochs completed
    window: int = 0  # windows of the current epoch completed
    step: int = 0  # optimiser steps completed
    seconds: float = 0.0  # spent training in the current epoch
    total_seconds: float = 0.0  # spent in all, validation included
    log_lines: int = 0
    tally: Tally = field(default_factory=Tally)  # of the current epoch


class RunLog:
    """Writes for one run; of several processes the first one has it."""

    def __init__(self, run: RunFolder, config: Config) -> None:
        self._file, self._alpha_c = run.log_file, config.train.alpha_c
        self._board: Any = None
        if config.train.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise MissingExtraError("tensorboard", "tensorboard", "train.tensorboard") from None
            self._board = SummaryWriter(run.path / "tensorboard")

    def step(
        self,
        progress: Progress,
        tally: Tally,
        *,
        gradient_norm: float,
        captions_per_second: float,
        **figures: Any,
    ) -> None:
        """A line on a step: the means of its window, `tally`, and what else there is to say."""
        self._write(
            progress,
            {
                "kind": "step",
                "epoch": progress.epoch + 1,
                "step": progress.step,
                **tally.means(self._alpha_c),
                # Gradients that overflowed fp16: the scaler leaves the step out. JSON has no inf.
                "gradient_norm": gradient_norm if math.isfinite(gradient_norm) else None,
                "captions_per_second": round(captions_per_second, 2),
                **figures,
            },
        )

    def epoch(self, progress: Progress, entry: dict[str, Any], *, pictures: int) -> None:
        """A line on an epoch, and the same for a person; `pictures` were validated on."""
        train = progress.tally.means(self._alpha_c)
        scores, seconds = entry["val"], entry["seconds"]
        self._write(
            progress,
            {
                "kind": "epoch",
                "epoch": progress.epoch + 1,
                "step": progress.step,
                "train": train,
                **entry,
            },
        )
        forced = scores["teacher_forced"]
        console.print(
            f"epoch {progress.epoch + 1}: train loss {train['loss']:.3f} "
            f"(cross-entropy {train['cross_entropy']:.3f}), validation cross-entropy "
            f"{forced['cross_entropy']:.3f}, top-5 {forced['top5']:.1%}, BLEU-4 "
            f"{scores['BLEU-4']:.4f}, CIDEr-D {scores['CIDEr-D']:.3f}{_told(entry)}, "
            f"{seconds['train']:.0f} s + {seconds['validation']:.0f} s"
            f"{'  [bold green]best[/]' if entry['best'] else ''}",
            highlight=False,
            soft_wrap=True,
        )
        if scores["distinct_captions"] < 0.02 and pictures >= 100:
            console.print(
                "[yellow]warning:[/] nearly all validation pictures get the same caption; is the "
                "encoder right for these pictures?"
            )

    def _write(self, progress: Progress, entry: dict[str, Any]) -> None:
        with open(self._file, "a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")
        progress.log_lines += 1
        if self._board:
            for name, value in flatten(entry).items():
                if isinstance(value, (int, float)) and name not in ("epoch", "step"):
                    self._board.add_scalar(f"{entry['kind']}/{name}", value, entry["step"])

    def drop_after(self, lines: int) -> None:
        """Forget lines that were written after a saved state."""
        if self._file.exists():
            kept = self._file.read_text(encoding="utf-8").splitlines(keepends=True)[:lines]
            write_text(self._file, "".join(kept))

    def close(self) -> None:
        """Bring TensorBoard's file to its end."""
        if self._board:
            self._board.close()


def _told(entry: dict[str, Any]) -> str:
    """What sampled captions earned of late, where there are some."""
    sampled = entry.get("sampled")
    if not sampled:
        return ""
    return (
        f", reward {sampled['reward']:.3f}, "
        f"{sampled['share_ending_in_function_word']:.1%} ending in a function word"
    )
