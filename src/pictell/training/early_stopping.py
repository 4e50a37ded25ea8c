"""When to stop: after some epochs without a better validation score.

stopping = EarlyStopping(patience=3)
stopping.update(0.21)    # True: the best so far
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """Watches a score of which more is better.

    Attributes:
        patience: Epochs without a better score after which to stop; 0 never stops.
        best: The best score so far.
        best_epoch: When it was reached, counted from 1; 0 before the first score.
        epoch: Scores seen.
    """

    patience: int
    best: float = float("-inf")
    best_epoch: int = 0
    epoch: int = 0

    def update(self, score: float) -> bool:
        """Take the score of an epoch; says whether it is the best so far."""
        self.epoch += 1
        if score > self.best:
            self.best, self.best_epoch = score, self.epoch
            return True
        return False

    @property
    def should_stop(self) -> bool:
        """Whether patience has run out."""
        return 0 < self.patience <= self.epoch - self.best_epoch
