"""What training minimises for one batch; the loop knows no more of it than this.

    objective = CrossEntropy(accelerator, decoder, encoder, config.train)
    objective.begin_epoch(0)
    loss, tally = objective.loss(batch, window)

Axes: see decoders/base.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor

from pictell.config import TrainConfig
from pictell.data.batches import Batch
from pictell.decoders.base import Decoder, TeacherForced, targets_of
from pictell.encoders.encoder import Encoder
from pictell.training.cuda_graphs import EncodingGraphs, ReadingGraphs
from pictell.training.loss import Tally, loss_sums, smoothing_sum, top5_hits
from pictell.training.scheduled_sampling import mix_own_words
from pictell.training.soft_targets import SoftTargets, soft_cross_entropy_sum
from pictell.training.validation import region_features, to_device


@dataclass(frozen=True)
class Window:
    """What a step of the optimiser sees, over all its batches and processes.

    Attributes:
        words: Real words, `<end>` included.
        captions: Captions.
        pictures: Pictures, those of each batch counted apart.
    """

    words: int
    captions: int
    pictures: int


class NotFiniteError(Exception):
    """A batch gave a number that cannot be learnt from; the message says which."""


class Objective(Protocol):
    """What the loop needs."""

    def begin_epoch(self, epoch: int) -> None:
        """Called before the first step of an epoch (or of what is left of it), counted from 0."""
        ...

    def loss(self, batch: Batch, window: Window) -> tuple[Tensor, Tally]:
        """The batch's share of its window's loss, and what is logged of it."""
        ...

    def figures(self) -> dict[str, Any]:
        """What a line of the log says beside the tally."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to know."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        ...


class CrossEntropy:
    """The captions of the data, word by word, and the term on attention (see loss.py)."""

    def __init__(
        self,
        accelerator: Accelerator,
        decoder: Decoder,
        encoder: Encoder,
        train: TrainConfig,
        soft: SoftTargets | None = None,
    ) -> None:
        self.accelerator, self.decoder, self.encoder = accelerator, decoder, encoder
        self.train, self._soft = train, soft
        self._reading: ReadingGraphs | None = None
        self._encoding: EncodingGraphs | None = None
        self.own_words = 0.0  # probability with which the decoder reads a word of its own

    def record_graphs(self) -> None:
        """From now on, encode and read the batches that allow it by CUDA graphs."""
        if self.decoder.loops:
            self._reading = ReadingGraphs(self.decoder, lambda: self.accelerator.autocast())
        if self.encoder.trained:
            self._encoding = EncodingGraphs(self.encoder, lambda: self.accelerator.autocast())

    def begin_epoch(self, epoch: int) -> None:
        rise = min(1.0, epoch / self.train.scheduled_sampling_epochs)
        self.own_words = self.train.scheduled_sampling * rise

    def loss(self, batch: Batch, window: Window) -> tuple[Tensor, Tally]:
        return self.loss_on(self.features(batch), batch, window)

    def features(self, batch: Batch) -> Tensor:
        """The encoder's cells of the batch's pictures, (P, C, D)."""
        device = self.accelerator.device
        features = self._encoding(batch.pictures.to(device)) if self._encoding else None
        if features is None:
            with self.accelerator.autocast():
                features = region_features(batch.pictures, self.encoder, device)
        return features

    def loss_on(self, features: Tensor, batch: Batch, window: Window) -> tuple[Tensor, Tally]:
        """As `loss`, for given cells of the batch's pictures."""
        device, train = self.accelerator.device, self.train
        targets = targets_of(batch.targets, batch.lengths).to(device)
        output = self._predict(features, batch)
        entropy, attention = loss_sums(output, targets, batch.lengths, train.alpha_target)
        loss = entropy / window.words + train.alpha_c * attention / window.captions
        told = {
            "cross_entropy": entropy.detach(),
            "top5": top5_hits(output.logits, targets),
            "regularisation": attention.detach(),
        }
        added = self._added(output.logits, targets, entropy, batch)
        if added is not None:
            loss = loss + added / window.words
            told["smoothing"] = added.detach()
        # As one tensor: a GPU's work is waited for once.
        sums = torch.stack([value.float() for value in told.values()]).tolist()
        told = dict(zip(told, sums, strict=True))
        return loss, Tally(words=len(targets), captions=len(batch.images), **told)

    def _added(
        self, logits: Tensor, targets: Tensor, entropy: Tensor, batch: Batch
    ) -> Tensor | None:
        """What label smoothing and teachers add to a batch's cross-entropy."""
        added = None
        if self.train.label_smoothing:
            added = smoothing_sum(logits, targets, self.train.label_smoothing)
        if self._soft is None:
            return added
        words, probabilities = self._soft.of(batch.captions, batch.lengths)
        device, weight = logits.device, self.train.teacher_weight
        soft = soft_cross_entropy_sum(logits, words.to(device), probabilities.to(device))
        hard = entropy if added is None else entropy + added
        return weight * soft + (1 - weight) * hard - entropy

    def _predict(self, features: Tensor, batch: Batch) -> TeacherForced:
        device, lengths = self.accelerator.device, batch.lengths
        words, owners = batch.inputs.to(device), to_device(batch.owners, device)
        if self.own_words:
            with self.accelerator.autocast():
                words = mix_own_words(
                    self.decoder, features.detach(), words, lengths, owners, self.own_words
                )
        output = self._reading(features, words, lengths, owners) if self._reading else None
        if output is None:
            with self.accelerator.autocast():
                output = self.decoder.teacher_forced(features, words, lengths, owners)
        return output

    def figures(self) -> dict[str, Any]:
        return {"own_words": self.own_words} if self.train.scheduled_sampling else {}

    def state_dict(self) -> dict[str, Any]:
        return {}  # all of it follows from the epoch

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert not state
