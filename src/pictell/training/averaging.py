"""A moving average of the weights (Polyak and Juditsky 1992, with exponential forgetting).

    average = WeightAverage([decoder], decay=0.999)
    average.update()                    # after each step of the optimiser
    with average.applied():             # validation, and what the run keeps
        ...

The average is kept beside the weights and not in a copy of the network, so that it can be applied
to a decoder and a trained encoder alike, compiled loops included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """average <- d average + (1 - d) weights, d = min(decay, (1 + n) / (10 + n)) at update n.

    While n is small, d is: else the average would hold the random weights of the start for the
    first 1 / (1 - decay) steps. Statistics of batch norms are averaged too.

    Args:
        modules: Whose weights.
        decay: The greatest d; 0 switches the average off.
    """

    def __init__(self, modules: Sequence[nn.Module], decay: float) -> None:
        self.decay, self.updates = decay, 0
        tensors = [t for m in modules for t in (*_trained(m), *_statistics(m))] if decay else []
        self._weights: list[Tensor] = [t.detach() for t in tensors]
        self._averages: list[Tensor] = [t.clone() for t in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        if not self._weights:
            return
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        get_ema_multi_avg_fn(decay)(self._averages, self._weights, self.updates)
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the networks have the averaged weights."""
        kept = [t.clone() for t in self._weights]
        self._set(self._averages)
        try:
            yield
        finally:
            self._set(kept)

    @torch.no_grad()
    def _set(self, values: Sequence[Tensor]) -> None:
        for weight, value in zip(self._weights, values, strict=True):
            weight.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """The average, for a resumed run."""
        return {"updates": self.updates, "averages": self._averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.updates = state["updates"]
        for average, value in zip(self._averages, state["averages"], strict=True):
            average.copy_(value)


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _statistics(module: nn.Module) -> list[Tensor]:
    """Running means and variances of batch norms: buffers that are weights in all but name."""
    return [
        buffer
        for part in module.modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm)
        for buffer in (part.running_mean, part.running_var)
        if buffer is not None
    ]
