"""Products with a weight, by the library that is faster for them on this processor.

    y = linear(x, weight, bias)           # x W' + bias, with gradients
    d_x = way_back(d_y, weight)           # d_y W, in a backward pass of one's own

Torch's products on a CPU are MKL's. Where `laid_out.prefers_onednn` says so, those of a decoder in
training are oneDNN's, which torch holds too: with 32 rows up to twice as fast, with more up to 1.4
times (benchmarks/README.md). A weight's own gradient, dW = d_y' x, stays with MKL, which is faster
for it. All are the same products in single precision; everything else takes torch's.

oneDNN builds a routine for each number of rows, in 1 ms and .6 MB at these sizes, and keeps it. So
this is for numbers that come again, as those of a batch's pictures and captions; how many words a
batch has differs, and what reads all of them at once is left to MKL.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pictell.decoders.laid_out import prefers_onednn


class Linear(nn.Linear):
    """nn.Linear by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """nn.functional.linear, for numbers of rows that come again.

    x (..., n), weight (m, n), bias (m,) -> (..., m).
    """
    rows = x.shape[:-1].numel()
    training = torch.is_grad_enabled() and weight.requires_grad
    if training and not torch.is_autocast_enabled("cpu") and _is_onednns(x, weight, rows):
        product = _OneDNNLinear.apply(x.reshape(rows, -1), weight, bias)
        return product.view(*x.shape[:-1], -1)  # type: ignore[union-attr]
    return nn.functional.linear(x, weight, bias)


def way_back(d_y: Tensor, weight: Tensor) -> Tensor:
    """The gradient of x in y = x W', itself without gradients: (rows, m), (m, n) -> (rows, n)."""
    if _is_onednns(d_y, weight, len(d_y)):
        return _by_onednn(d_y, weight.t(), None)
    return d_y @ weight


def _is_onednns(x: Tensor, weight: Tensor, rows: int) -> bool:
    single = x.dtype == weight.dtype == torch.float32
    return single and weight.device.type == "cpu" and rows > 1 and prefers_onednn()


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        return _by_onednn(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            way_back(d_y, weight) if for_x else None,
            d_y.t() @ x if for_weight else None,
            d_y.sum(dim=0) if for_bias else None,
        )
