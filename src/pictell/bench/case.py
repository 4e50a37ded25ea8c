"""What is measured: one operation, done by the textbook and by pictell, with the same result.

class Encode(Case): ...
table = [measure(case, repeats=5) for case in cases]
"""

from __future__ import annotations

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from pictell.errors import InputError

TEXTBOOK, PICTELL = "textbook", "pictell"


@dataclass(frozen=True)
class Product:
    """A matrix product as a step makes it, with its factors as they lie in memory.

    Attributes:
        form: `forward` x W', x (rows, inner), W (columns, inner); `back` y W, y (rows, inner),
            W (inner, columns); `weight` y' x, y (inner, rows), x (inner, columns).
        rows, inner, columns: Extents.
        times: How often a step makes it, with the same W.
    """

    form: Literal["forward", "back", "weight"]
    rows: int
    inner: int
    columns: int
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class Term:
    """A part of an operation's arithmetic.

    Attributes:
        name: What is computed.
        shape: The product's extents, as a reader would write them.
        gflop: 10^9 floating-point operations (a multiplication and an addition are two).
        megabytes: 10^6 bytes that have to be read and written, in single precision, when nothing
            stays in a core's own cache from one step of a recurrence to the next; 0 where
            arithmetic alone limits.
        products: Its products, where it is nothing else.
    """

    name: str
    shape: str
    gflop: float
    megabytes: float = 0.0
    products: tuple[Product, ...] = ()


class Case(ABC):
    """One operation.

    Attributes:
        name: What is done.
        unit: What is counted, such as captions.
        amount: How many of them one run does.
        ways: The ways of doing it, the baseline first.
    """

    name: str
    unit: str
    amount: int
    ways: tuple[str, ...] = (TEXTBOOK, PICTELL)

    @abstractmethod
    def prepare(self, way: str) -> Callable[[], object]:
        """Make everything that is not measured; what is returned does the operation once."""

    @abstractmethod
    def check(self) -> None:
        """Raise AssertionError unless all ways give the same result."""

    def arithmetic(self) -> list[Term]:
        """What pictell has to compute; empty where arithmetic is not the point."""
        return []


def textbook(module: str) -> ModuleType:
    """A module of `benchmarks/textbook`.

    Raises:
        InputError: The folder is neither in the package nor in this checkout.
    """
    here = Path(__file__).parent
    for folder in (here / "baselines", here.parents[2] / "benchmarks"):
        if (folder / "textbook" / f"{module}.py").exists():
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))
            return importlib.import_module(f"textbook.{module}")
    raise InputError(
        "the baselines (benchmarks/textbook) are not here; run pictell bench in a checkout"
    )
