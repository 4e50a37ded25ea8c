"""Products of a few rows with one weight, again and again, with the weight laid out beforehand.

    product = lay_out(weight, rows)
    product(x, bias)                     # x W' + bias, for x (rows, n)

A product so thin spends nearly half its time on bringing the weight into the order in which the
processor's units read it. Two libraries in torch can do that once for all products: MKL, and
oneDNN. Which one is faster was measured (benchmarks/README.md): MKL on an Intel with AVX-512,
oneDNN on an AMD, with AVX-512 or with AVX2 alone. The choice depends on the processor alone, never
on a time, so that a machine repeats its numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pictell.machine import processor_maker


def lay_out(weight: Tensor, rows: int) -> MKLProduct | OneDNNProduct | None:
    """The product with a weight (m, n) for x of `rows` rows; None where none can be laid out.

    It keeps the weight's values of now. x and bias must not ask for gradients.
    """
    if weight.dtype != torch.float32 or weight.device.type != "cpu" or rows < 2:
        return None
    library = _library()
    return library(weight, rows) if library else None


def _library() -> type[MKLProduct] | type[OneDNNProduct] | None:
    """The faster of those that are there; oneDNN only where it was tried."""
    libraries: list[type[MKLProduct] | type[OneDNNProduct]] = [MKLProduct]
    if torch.backends.cpu.get_cpu_capability() in {"AVX2", "AVX512"}:
        libraries.append(OneDNNProduct)
        if prefers_onednn():
            libraries.reverse()
    return next((library for library in libraries if library.available()), None)


def prefers_onednn() -> bool:
    """Whether oneDNN is there, and faster than MKL on this processor."""
    if not OneDNNProduct.available():
        return False
    capability = torch.backends.cpu.get_cpu_capability()
    return capability == "AVX2" or (capability == "AVX512" and processor_maker() == "AMD")


class MKLProduct:
    """By MKL, for one number of rows."""

    def __init__(self, weight: Tensor, rows: int) -> None:
        self._weight, self._rows = weight, rows
        self._laid_out: Any = torch.ops.mkl._mkl_reorder_linear_weight(weight, rows)

    @staticmethod
    def available() -> bool:
        return torch.backends.mkl.is_available()

    def takes(self, rows: int) -> bool:
        """Whether it is for x of so many rows."""
        return rows == self._rows

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x (rows, n), bias (m,) -> (rows, m)."""
        return torch.ops.mkl._mkl_linear(x, self._laid_out, self._weight, bias, self._rows)


class OneDNNProduct:
    """By oneDNN; it is laid out for one number of rows, and as fast for somewhat fewer."""

    def __init__(self, weight: Tensor, rows: int) -> None:
        self._rows = rows
        self._laid_out: Any = torch.ops.mkldnn._reorder_linear_weight(weight, rows)

    @staticmethod
    def available() -> bool:
        return torch.backends.mkldnn.is_available()

    def takes(self, rows: int) -> bool:
        """Whether it is for x of so many rows."""
        return 1 < rows <= self._rows

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x (rows, n), bias (m,) -> (rows, m)."""
        return torch.ops.mkldnn._linear_pointwise(x, self._laid_out, bias, "none", [], "")
