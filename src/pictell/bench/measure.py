"""Times, rates and memory, so that they can be compared.

    measured = measure(case, repeats=5)
    measured.ratio, measured.pace_share

The ways of an operation alternate, A B A B, in one process: what else the machine does meets both.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pictell.bench.alone import least_seconds, roofline_seconds
from pictell.bench.case import PICTELL, TEXTBOOK, Case, Term
from pictell.errors import InputError

_SIDE = 2048  # of the matrix product that everything is compared with
_READ_BYTES = 64_000_000  # about what one word of a training step reads: weights, keys, features


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of several runs."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, seconds: list[float]) -> Timing:
        """Summarise."""
        return cls(median=statistics.median(seconds), least=min(seconds), most=max(seconds))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One operation's figures.

    Attributes:
        case: The operation.
        timings: By way.
        terms: The parts of pictell's arithmetic.
        pace: GFLOP/s of a 2048 x 2048 x 2048 matrix product in the same run.
        bandwidth: GB/s at which 64 MB are read again and again in the same run.
        memory_mb: Peak memory by way, in MB (10^6 bytes) above that of the imports.
        products_alone: The least seconds when each of its products is measured alone (alone.py).
    """

    case: Case
    timings: Mapping[str, Timing]
    terms: Sequence[Term]
    pace: float
    bandwidth: float
    memory_mb: Mapping[str, float]
    products_alone: float | None = None

    @property
    def gflop(self) -> float:
        """Of pictell's way."""
        return sum(term.gflop for term in self.terms)

    @property
    def roofline(self) -> float | None:
        """The least seconds that its arithmetic and its bytes allow, term by term."""
        if not self.terms:
            return None
        return sum(roofline_seconds(term, self.pace, self.bandwidth) for term in self.terms)

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the textbook."""
        if TEXTBOOK not in self.timings:
            return None
        return self.timings[TEXTBOOK].median / self.timings[PICTELL].median

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.case.amount / self.timings[PICTELL].median

    @property
    def pace_share(self) -> float | None:
        """Part of the matrix product's pace that is reached."""
        if not self.gflop:
            return None
        return self.gflop / self.timings[PICTELL].median / self.pace


def alternate(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Time functions in turn, after one run of each that is not counted."""
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            synchronize()
            started = time.perf_counter()
            function()
            synchronize()
            seconds[name].append(time.perf_counter() - started)
    return {name: Timing.of(values) for name, values in seconds.items()}


def synchronize() -> None:
    """Wait for a GPU's work, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matrix_pace(
    device: torch.device | None = None, dtype: torch.dtype | None = None, repeats: int = 10
) -> float:
    """GFLOP/s of a square matrix product: what this machine can do at best, as measured."""
    a, b = torch.randn(2, _SIDE, _SIDE, device=device, dtype=dtype)
    timing = alternate({"product": lambda: a @ b}, repeats)["product"]
    return 2 * _SIDE**3 / timing.median / 1e9


def read_bandwidth(device: torch.device | None = None, repeats: int = 20) -> float:
    """GB/s of reading a tensor that is too large for a core's own cache, or for a GPU's."""
    size = _READ_BYTES if device is None or device.type == "cpu" else 16 * _READ_BYTES
    read = torch.ones(size // 4, device=device)
    timing = alternate({"read": read.sum}, repeats)["read"]
    return size / timing.median / 1e9


def measure(case: Case, *, repeats: int, memory: bool) -> Measured:
    """All figures of one operation; it is checked first."""
    case.check()
    pace, bandwidth = matrix_pace(), read_bandwidth()
    timings = alternate({way: case.prepare(way) for way in case.ways}, repeats)
    terms = case.arithmetic()
    pace, bandwidth = max(pace, matrix_pace()), max(bandwidth, read_bandwidth())
    return Measured(
        case=case,
        timings=timings,
        terms=terms,
        pace=pace,
        bandwidth=bandwidth,
        products_alone=least_seconds(terms, pace, bandwidth),
        memory_mb={way: memory_in_child(case, way) for way in case.ways} if memory else {},
    )


# -- memory ----------------------------------------------------------------------------------------


def memory_in_child(case: Case, way: str) -> float:
    """Peak memory of one way in a process of its own, where nothing else has been."""
    command = [sys.executable, "-m", "pictell.bench.child", case.name, way]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise InputError(f"measuring the memory of {case.name} ({way}) failed: {done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1])["peak_mb"])


def resident_mb() -> float:
    """Anonymous memory of this process now, without mapped files."""
    return _status("RssAnon")


def peak_of(function: Callable[[], object]) -> float:
    """The most anonymous memory that a function was seen to hold, in MB (Linux).

    It is sampled by a thread every millisecond; the operations last hundreds of them.
    """
    import threading

    peak, done = resident_mb(), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, resident_mb())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        function()
    finally:
        done.set()
        thread.join()
    return max(peak, resident_mb())


def _status(field: str) -> float:
    file = Path("/proc/self/status")
    if not file.exists():
        return float("nan")
    line = next(line for line in file.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6
