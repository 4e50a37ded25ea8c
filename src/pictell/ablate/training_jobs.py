"""Several trainings, each in a process of its own, one after another or some at once.

    failures = run_trainings(plan.trainings(), jobs=2, logs=Path("runs/study/screening/logs"))

The processor's threads are divided between the processes. Ctrl-C stops all of them after a step,
with their states saved; a training that fails leaves its reason, and the others go on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from pictell.comparison.entrants import Entrant
from pictell.comparison.training_process import forwarding_signals, training_command
from pictell.comparison.wording import seconds
from pictell.machine import cores
from pictell.progress import console, progress_bar
from pictell.training.loop import InterruptedTraining

_LOOK_EVERY = 0.25  # seconds between two looks at the processes
Failures = dict[Path, str]  # run folder -> why its training failed


@dataclass
class _Job:
    training: Entrant
    process: subprocess.Popen
    log: Path
    shown: Any
    started: float
    epochs: int = 0


def run_trainings(trainings: Sequence[Entrant], *, jobs: int, logs: Path) -> Failures:
    """Train each to its end.

    Args:
        trainings: Unfinished; their config files are written.
        jobs: How many at once.
        logs: Folder for what the processes say.

    Returns:
        Why, for each training that failed.

    Raises:
        InterruptedTraining: SIGINT or SIGTERM came; all states are saved.
    """
    if not trainings:
        return {}
    logs.mkdir(parents=True, exist_ok=True)
    with forwarding_signals() as (processes, signals), progress_bar() as bar:
        crew = _Crew(trainings, jobs, logs, processes, bar)
        while crew.unfinished(stopping=bool(signals)):
            crew.look()
            time.sleep(_LOOK_EVERY)
    if signals or crew.stopped:
        raise InterruptedTraining(
            f"the study was stopped, {crew.done} of {len(trainings)} trainings are done; the same "
            "command again goes on from there"
        )
    return crew.failures


class _Crew:
    """The processes at work."""

    def __init__(
        self,
        trainings: Sequence[Entrant],
        jobs: int,
        logs: Path,
        processes: list[subprocess.Popen],
        bar: Progress,
    ) -> None:
        self._waiting, self._running = list(trainings), []
        self._jobs, self._logs, self._processes, self._bar = jobs, logs, processes, bar
        self._count = len(trainings)
        self._environment = _environment(jobs)
        total = sum(training.config.train.epochs for training in trainings)
        self._all = bar.add_task("all trainings", total=total, unit="epochs", note="")
        self.failures: Failures = {}
        self.done, self.stopped = 0, False

    def unfinished(self, *, stopping: bool) -> bool:
        """Start what there is room for; says whether anything is at work."""
        while self._waiting and len(self._running) < self._jobs and not (stopping or self.stopped):
            self._running.append(self._start(self._waiting.pop(0)))
        return bool(self._running)

    def _start(self, training: Entrant) -> _Job:
        log = self._logs / f"{training.run.name}.txt"
        with open(log, "ab") as output:
            process = subprocess.Popen(
                training_command(training),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environment,
                # A group of its own: Ctrl-C at a terminal would reach it twice.
                process_group=0 if os.name == "posix" else None,
            )
        self._processes.append(process)
        epochs = training.config.train.epochs
        shown = self._bar.add_task(training.name, total=epochs, unit="epochs", note="")
        return _Job(training, process, log, shown, time.monotonic())

    def look(self) -> None:
        """Tell of epochs that are done, and see who has ended."""
        for job in list(self._running):
            epochs, note = _where(job.training)
            self._bar.update(job.shown, completed=epochs, note=note)
            self._bar.advance(self._all, epochs - job.epochs)
            job.epochs = epochs
            code = job.process.poll()
            if code is not None:
                self._running.remove(job)
                self._processes.remove(job.process)
                self._ended(job, code)

    def _ended(self, job: _Job, code: int) -> None:
        training = job.training
        self._bar.remove_task(job.shown)
        self._bar.advance(self._all, training.config.train.epochs - job.epochs)
        if code in (130, -signal.SIGINT):
            self.stopped = True
            return
        self.done += 1
        place = f"{self.done}/{self._count} {training.name}"
        if code == 0 and training.finished:
            info = training.run.info
            score = ", ".join(f"{name} {value:.4f}" for name, value in info["best_score"].items())
            took = seconds(time.monotonic() - job.started)
            line = f"{place}: best epoch {info['best_epoch']}, validation {score}, {took}"
        else:
            reason = _last_words(job.log) or f"exit code {code}"
            self.failures[training.run.path] = reason
            line = f"{place} failed: {reason} (all of it: {job.log})"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _environment(jobs: int) -> dict[str, str]:
    """For each of several processes its share of the threads; of one, all that there are."""
    if jobs == 1:
        return dict(os.environ)
    threads = min(max(1, cores() // jobs), int(os.environ.get("OMP_NUM_THREADS") or cores()))
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def _where(training: Entrant) -> tuple[int, str]:
    """Epochs done, and a word on the last line of the log."""
    try:
        lines = training.run.log_file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0, ""
    epochs, note = 0, ""
    for line in lines:
        epochs += line.startswith('{"kind": "epoch"')
    try:
        last = json.loads(lines[-1])
        note = f"step {last['step']}, cross-entropy {_entropy(last):.3f}"
    except (ValueError, KeyError, IndexError):  # a line that is being written
        pass
    return min(epochs, training.config.train.epochs), note


def _entropy(line: dict[str, Any]) -> float:
    return line["cross_entropy"] if line["kind"] == "step" else line["train"]["cross_entropy"]


def _last_words(log: Path) -> str:
    """The last line that a process left, which says why it ended."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1].removeprefix("pictell train: ") if said else ""
