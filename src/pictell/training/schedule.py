"""Learning rates over a training: a factor on what the config says, set before each step.

    rates = LearningRates(config.train, optimizer, steps_per_epoch=500)
    rates.set(step=0, epoch=0)
    rates.end_epoch(better=True)

The factor is a function of the place in the training, and, for `plateau`, of two numbers that are
saved with the state. So a resumed run has the rates of an uninterrupted one.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from pictell.config import TrainConfig


class LearningRates:
    """Sets the rates of all groups of an optimiser.

    Args:
        train: `schedule`, `warmup`, `decay`, `decay_every`, `lr_floor`.
        optimizer: With the full rates.
        steps_per_epoch: For `cosine`, which ends with the last epoch.
    """

    def __init__(
        self, train: TrainConfig, optimizer: torch.optim.Optimizer, steps_per_epoch: int
    ) -> None:
        self._train, self._optimizer = train, optimizer
        self._full = [group["lr"] for group in optimizer.param_groups]
        self._last_step = train.epochs * steps_per_epoch
        self._decays = 0  # of `plateau`
        self._waited = 0  # epochs since the last better score or decay

    def set(self, *, step: int, epoch: int) -> None:
        """Before a step: both count those completed."""
        factor = self.factor(step, epoch)
        for group, rate in zip(self._optimizer.param_groups, self._full, strict=True):
            group["lr"] = rate * factor

    def factor(self, step: int, epoch: int) -> float:
        """The share of the full rates."""
        train = self._train
        if step < train.warmup:
            return (step + 1) / train.warmup
        if train.schedule == "cosine":  # Loshchilov and Hutter 2017, equation 5, without restarts
            span = max(1, self._last_step - train.warmup)
            done = min(1.0, (step - train.warmup) / span)
            return train.lr_floor + (1 - train.lr_floor) * (1 + math.cos(math.pi * done)) / 2
        decays = {"step": epoch // train.decay_every, "plateau": self._decays}
        return max(train.lr_floor, train.decay ** decays.get(train.schedule, 0))

    def end_epoch(self, *, better: bool) -> None:
        """Take note of whether the validation score was the best so far."""
        self._waited = 0 if better else self._waited + 1
        if self._waited >= self._train.decay_every:
            self._decays, self._waited = self._decays + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """What does not follow from the step."""
        return {"decays": self._decays, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self._decays, self._waited = state["decays"], state["waited"]
