"""A step of the optimiser: gradients of all processes, clipped, at the rate of the moment.

update = Update(config.train, accelerator, decoder, encoder, steps_per_epoch=500)
loss.backward()
norm = update.step(step=0, epoch=0)
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pictell.config import TrainConfig
from pictell.decoders.base import Decoder
from pictell.encoders.encoder import Encoder
from pictell.training.averaging import WeightAverage
from pictell.training.optimizer import build_optimizer
from pictell.training.schedule import LearningRates


class Update:
    """Optimiser, learning rates and averaged weights of a training.

    Attributes:
        parameters: All that are trained.
        rates: The learning rates.
        average: The averaged weights.
    """

    def __init__(
        self,
        train: TrainConfig,
        accelerator: Accelerator,
        decoder: Decoder,
        encoder: Encoder,
        steps_per_epoch: int,
    ) -> None:
        self._train, self._accelerator = train, accelerator
        self.parameters: list[nn.Parameter] = [*decoder.parameters(), *encoder.trained]
        self._optimizer = accelerator.prepare(build_optimizer(train, decoder, encoder))
        self.rates = LearningRates(train, self._optimizer, steps_per_epoch)
        self.average = WeightAverage(
            [decoder, encoder] if encoder.trained else [decoder], train.ema
        )

    def step(self, *, step: int, epoch: int) -> float:
        """Sum gradients over processes, clip, step.

        Args:
            step: Steps made so far.
            epoch: Epochs completed.

        Returns:
            The gradient's norm before clipping.
        """
        if self._accelerator.num_processes > 1:
            self._sum_gradients()
        self._accelerator.unscale_gradients(self._optimizer)
        norm = self._clip()
        self.rates.set(step=step, epoch=epoch)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.average.update()
        return norm

    def _clip(self) -> float:
        """Limit the gradients; returns their norm before."""
        train, gradients = self._train, self.gradients()
        norm = float(nn.utils.get_total_norm(gradients))
        if train.clip and train.clip_by == "value":
            nn.utils.clip_grad_value_(self.parameters, train.clip)
        elif train.clip and norm > train.clip:  # below it nothing is multiplied by one
            for gradient in gradients:
                gradient.mul_(train.clip / norm)
        return norm

    def gradients(self) -> list[Tensor]:
        """Of all parameters that have one."""
        return [p.grad for p in self.parameters if p.grad is not None]

    def _sum_gradients(self) -> None:
        """A process without a batch in the last window has no gradient: it adds zeros."""
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        flat = torch.cat([g.flatten() for g in gradients])
        summed: Tensor = self._accelerator.reduce(flat, reduction="sum")  # type: ignore[assignment]
        parts = summed.split([p.numel() for p in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to know."""
        scaler = self._accelerator.scaler
        return {
            "optimizer": self._optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "rates": self.rates.state_dict(),
            "average": self.average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self._optimizer.load_state_dict(state["optimizer"])
        if self._accelerator.scaler is not None and state["scaler"]:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        self.rates.load_state_dict(state["rates"])
        self.average.load_state_dict(state["average"])
