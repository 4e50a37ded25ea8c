"""What test_processes.py runs twice at once: python one_of_two_processes.py CONFIG OUT."""

import os
import sys
from pathlib import Path

import torch

from pictell.config import Config
from pictell.training.loop import InterruptedTraining, Trainer, train
from pictell.training.update import Update

config, out = Config.load(sys.argv[1]), Path(sys.argv[2])
rank = int(os.environ["RANK"])
gradients: list[torch.Tensor] = []
sum_gradients, step = Update._sum_gradients, Trainer._step


def keep_gradients(self: Update) -> None:
    sum_gradients(self)
    gradients.append(torch.cat([p.grad.flatten() for p in self.parameters]))  # type: ignore[union-attr]


def interrupt_one(self: Trainer, window, batches) -> None:
    step(self, window, batches)
    if rank == 1 and self.progress.step == 2:
        self._interrupted = True


Update._sum_gradients = keep_gradients
train(config, out / "run")
torch.save(gradients, out / f"gradients_{rank}.pt")

Trainer._step = interrupt_one
try:
    train(config, out / "interrupted")
except InterruptedTraining as stop:
    (out / f"stopped_{rank}.txt").write_text(str(stop))
