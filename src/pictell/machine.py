"""What a result was measured on: hardware, versions, memory."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ("pictell", "torch", "timm", "accelerate", "numpy", "pillow", "nltk")
_CPUINFO = Path("/proc/cpuinfo")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a result."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores, memory and accelerator."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor_name(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
    }


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def return_freed_memory() -> None:
    """Give what was freed back to the system, where the C library is glibc.

    It keeps freed blocks between blocks in use. Work that frees blocks of many sizes in turn, as a
    CNN does, then seems to need more and more.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").malloc_trim(0)


@cache
def processor_maker() -> str:
    """`Intel`, `AMD`, or what else the processor says of itself."""
    said = _cpuinfo("vendor_id") or platform.processor()
    return next((maker for maker in ("Intel", "AMD") if maker in said), said)


def _processor_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(field: str) -> str:
    """What Linux says of the first core; empty where it says nothing."""
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text(errors="replace").splitlines():
            if line.startswith(field):
                return line.split(":", 1)[1].strip()
    return ""


class OtherLoad:
    """How much of the processor other programs took since this was made.

    A rate that was measured beside them says little of the model.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._others, self._all = self._read()

    @property
    def share(self) -> float:
        """From 0 to 1, of all cores; time that a host gave to other guests counts too."""
        others, all_of_it = self._read()
        elapsed = all_of_it - self._all
        return round(min(1.0, max(0.0, (others - self._others) / elapsed)), 3) if elapsed else 0.0

    def _read(self) -> tuple[float, float]:
        """Seconds of all cores: those of other programs, and all there were."""
        own = self._process.cpu_times()
        mine = own.user + own.system + own.children_user + own.children_system
        times = psutil.cpu_times()._asdict()
        for counted_twice in ("guest", "guest_nice"):  # they are in user and nice, on Linux
            times.pop(counted_twice, None)
        idle = times["idle"] + times.get("iowait", 0.0)
        total = sum(times.values())
        return total - idle - mine, total


class PeakMemory:
    """The largest memory seen at the times of sampling.

    On a GPU it is what the allocator reports. On a CPU it is the process's anonymous memory
    (memory-mapped features are the page cache's and not counted), sampled after each forward pass,
    when everything that the backward pass needs is held.
    """

    def __init__(self) -> None:
        import torch

        self._cuda = torch.cuda if torch.cuda.is_available() else None
        self._process = psutil.Process()
        self._peak = 0
        if self._cuda:
            self._cuda.reset_peak_memory_stats()

    def sample(self) -> None:
        """Look at the memory now."""
        if not self._cuda:
            memory = self._process.memory_info()
            shared = getattr(memory, "shared", 0)  # file-backed pages, on Linux
            self._peak = max(self._peak, memory.rss - shared)

    @property
    def megabytes(self) -> float:
        """The peak in MB (10^6 bytes)."""
        peak = self._cuda.max_memory_allocated() if self._cuda else self._peak
        return round(peak / 1e6, 1)
