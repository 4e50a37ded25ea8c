"""Train in a process of its own, so that the speed and memory of two models are measured apart.

    train_in_process(entrant)      # python -m pictell train configs/flickr8k_rnn.yaml

Ctrl-C stops the training as if it had been started by itself: after a step, with its state saved.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pictell.comparison.entrants import Entrant
from pictell.errors import InputError
from pictell.progress import console
from pictell.training.loop import InterruptedTraining


def training_command(entrant: Entrant) -> list[str]:
    """The command that trains an entrant from where it stands."""
    command = [sys.executable, "-m", "pictell", *entrant.command]
    if entrant.run.state_file.exists():
        return [*command, "--resume"]
    if entrant.run.info_file.exists():  # it was stopped before its first save: nothing is lost
        return [*command, "--overwrite"]
    return command


def train_in_process(entrant: Entrant) -> None:
    """Train an entrant to its end; its output is passed through.

    Raises:
        InterruptedTraining: SIGINT or SIGTERM came; the training saved its state.
        InputError: The training failed.
    """
    command = training_command(entrant)
    doing = "going on with" if "--resume" in command else "training"
    console.print(f"{doing} {entrant.name}: {' '.join(['pictell', *command[3:]])}", highlight=False)
    code, interrupted = run_and_forward_signals(command)
    if interrupted or code in (130, -signal.SIGINT):
        raise InterruptedTraining(
            f"the training of {entrant.name} was stopped; the same command again goes on from there"
        )
    if code != 0:
        raise InputError(
            f"the training of {entrant.source} failed (exit code {code}); its messages stand above"
        )
    if not entrant.finished:
        raise InputError(f"{entrant.run.path}: the training ended without a finished run")


def run_and_forward_signals(command: Sequence[str]) -> tuple[int, bool]:
    """Run a command; each SIGINT or SIGTERM to this process is one SIGINT to the command.

    On POSIX the command gets a process group of its own: Ctrl-C at a terminal would otherwise reach
    it twice, once from the terminal and once from here, and two SIGINTs stop a training unsaved.

    Returns:
        The exit code, and whether a signal came.
    """
    group = 0 if os.name == "posix" else None
    with forwarding_signals() as (processes, signals):
        processes.append(subprocess.Popen(command, process_group=group))
        if signals:  # it came while the process was being started
            processes[0].send_signal(signal.SIGINT)
        code = processes[0].wait()
    return code, bool(signals)


@contextmanager
def forwarding_signals() -> Iterator[tuple[list[subprocess.Popen], list[int]]]:
    """For `with`: processes that get each SIGINT or SIGTERM as one SIGINT, and what came so far."""
    processes: list[subprocess.Popen] = []
    signals: list[int] = []

    def forward(signum: int, frame: object) -> None:
        signals.append(signum)
        if os.name == "posix":  # elsewhere Ctrl-C reaches the process anyway
            for process in processes:
                process.send_signal(signal.SIGINT)

    try:
        before = {s: signal.signal(s, forward) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are somebody else's
        yield processes, signals
        return
    try:
        yield processes, signals
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
