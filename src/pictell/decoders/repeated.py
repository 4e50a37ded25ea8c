"""What a search asks of the same weights at every step, prepared for being asked often.

Writing captions multiplies a few rows with the same weights word after word. Where no gradient is
wanted, on a CPU, two things then pay:

- A weight can be brought into the order in which the processor's units read it, for a given number
  of rows, once for all steps (`RepeatedProduct`; see laid_out.py).
- A word's part of the LSTM's gates depends on the word alone. Once as many words were read as the
  vocabulary holds, the gates of all words would have been cheaper: from then on they are looked up
  (`WordGates`).

Both are the same products as without, and both forget what they prepared when a weight changes.

Axes: V vocabulary, E embedding width, H hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from pictell.decoders.laid_out import MKLProduct, OneDNNProduct, lay_out

_OFTEN = 3  # uses for the same number of rows; laying out costs one or two products
_KEPT = 2  # numbers of rows: those of whole batches, and perhaps of the last one


class RepeatedProduct:
    """nn.functional.linear with a weight that is laid out when it meets as many rows often."""

    def __init__(self) -> None:
        self._weight: Any = None
        self._uses: dict[int, int] = {}
        self._laid_out: dict[int, MKLProduct | OneDNNProduct | None] = {}

    def __call__(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """input (..., n), weight (m, n), bias (m,) -> (..., m)."""
        rows = input.shape[:-1].numel()
        laid_out = None
        if rows > 1 and _prepares(weight):
            laid_out = self._lay_out(weight, rows)
        if laid_out is None:
            return nn.functional.linear(input, weight, bias)
        product = laid_out(input.reshape(rows, -1), bias)
        return product.view(*input.shape[:-1], -1)

    def _lay_out(self, weight: Tensor, rows: int) -> MKLProduct | OneDNNProduct | None:
        if self._weight != _state_of(weight):
            self._weight, self._uses, self._laid_out = _state_of(weight), {}, {}
        self._uses[rows] = self._uses.get(rows, 0) + 1
        if rows in self._laid_out:
            return self._laid_out[rows]
        if self._uses[rows] < _OFTEN:
            return None
        if len(self._laid_out) >= _KEPT:
            least = min(self._laid_out, key=lambda kept: self._uses[kept])
            if self._uses[least] >= self._uses[rows]:
                return None
            del self._laid_out[least]
        self._laid_out[rows] = lay_out(weight, rows)
        return self._laid_out[rows]

    def __deepcopy__(self, memo: Any) -> RepeatedProduct:
        return RepeatedProduct()  # a copy has weights of its own


class RepeatedLinear(nn.Linear):
    """nn.Linear whose weight is laid out when it meets as many rows often."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._product = RepeatedProduct()

    def forward(self, input: Tensor) -> Tensor:
        return self._product(input, self.weight, self.bias)


class WordGates:
    """Words (...) to their part of the LSTM's gates (..., 4H): layer(embedding(words))."""

    def __init__(self) -> None:
        self._key: Any = None
        self._read = 0
        self._table: Tensor | None = None
        self._product = RepeatedProduct()  # until there is a table

    def __call__(
        self, words: Tensor, embedding: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        """Gates of words.

        Args:
            words: Numbers.
            embedding: (V, E).
            weight: (4H, E).
            bias: (4H,), or None.
        """
        if not _prepares(weight):
            return nn.functional.linear(nn.functional.embedding(words, embedding), weight, bias)
        key = [_state_of(tensor) for tensor in (embedding, weight, bias) if tensor is not None]
        if key != self._key:
            self._key, self._read, self._table = key, 0, None
        self._read += words.numel()
        if self._table is None and self._read >= len(embedding):
            self._table = nn.functional.linear(embedding, weight, bias)  # (V, 4H)
            self._product = RepeatedProduct()
        if self._table is not None:
            return nn.functional.embedding(words, self._table)
        return self._product(nn.functional.embedding(words, embedding), weight, bias)


def _prepares(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class _OptimizerSteps:
    """How many steps any optimiser has made in this process.

    Tensors count their changes, except those that a fused optimiser makes.
    """

    def __init__(self) -> None:
        self.count = 0
        register_optimizer_step_post_hook(self._step)

    def _step(self, *_: Any) -> None:
        self.count += 1


_steps = _OptimizerSteps()


def _state_of(weight: Tensor) -> tuple[int, ...]:
    """Changes when the weight does. One made in inference mode can change in that mode alone."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version, _steps.count
