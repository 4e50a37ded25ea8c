"""Validation of an epoch: greedy captions, their scores, and the figures under teacher forcing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from pictell.bench.arithmetic import Shapes
from pictell.bench.case import PICTELL, Case
from pictell.bench.decoding import BeamSearch
from pictell.bench.inputs import captions_of, lengths_of
from pictell.config import TrainConfig
from pictell.data.batches import Captions, StoredFeatures
from pictell.data.text import get_tokenizer
from pictell.metrics import score_captions
from pictell.training.task import SplitData
from pictell.training.validation import teacher_forced_captions, write_greedy


class Validation(Case):
    """What the training loop does after an epoch, on pictures with five captions each.

    Args:
        decoder: `rnn` or `attention`.
        shapes: Extents.
        pictures: How many are validated on.
    """

    unit = "pictures"
    ways = (PICTELL,)

    def __init__(self, decoder: str, shapes: Shapes, pictures: int = 1000) -> None:
        self.name = f"{decoder}, validation"
        self.search, self.amount = BeamSearch(decoder, shapes), pictures

    def split(self) -> SplitData:
        """Captions; the features of the search's pictures, repeated."""
        words = captions_of(self.search.step.shapes.vocabulary, 5 * self.amount)
        captions = Captions(words, np.repeat(np.arange(self.amount), 5), lengths_of(words))
        _, features = self.search.build()
        stored = StoredFeatures(features.half().numpy(), np.arange(self.amount) % len(features))
        examples: Any = range(self.amount)  # only their number is asked for
        split = SplitData("val", examples, captions, stored, get_tokenizer("en"))
        texts = [[str(word) for word in numbers[1:-1]] for numbers in words]
        split.references = [texts[i : i + 5] for i in range(0, len(texts), 5)]
        return split

    def prepare(self, way: str) -> Callable[[], dict[str, float]]:
        decoder, _ = self.search.build()
        split, encoder, cpu = self.split(), nn.Identity(), torch.device("cpu")

        def run() -> dict[str, float]:
            written = write_greedy(decoder, split, encoder, cpu, max_length=30)  # type: ignore[arg-type]
            texts = [[str(word) for word in numbers] for numbers in written]
            scores = {n: m.corpus for n, m in score_captions(texts, split.references).items()}
            forced = teacher_forced_captions(decoder, split, encoder, cpu, TrainConfig())  # type: ignore[arg-type]
            return scores | forced.tally().means(1.0)

        return run

    def check(self) -> None:
        """The same figures each time, and every picture captioned."""
        run = self.prepare(PICTELL)
        assert run() == run()
