"""Self-critical training: captions that the model samples are made likelier the more they earn.

    objective = SelfCritical(supervised, rewards, vocabulary, config)

For K samples y_1 .. y_K of a picture with rewards r, the gradient of the expected reward is
estimated by REINFORCE (Williams 1992) with the mean reward of the *other* samples as baseline
(Luo 2020, "A Better Variant of Self-Critical Sequence Training", after Rennie et al. 2017):

    term = - 1 / (M T) sum over samples of (r_k - mean of the other r) log p(y_k)

with M samples in the window and T the mean length of the training captions, a constant that brings
the term to the scale of one word, like the cross-entropy beside it. The other samples do not depend
on y_k, so the baseline changes the variance of the estimate and not its expectation.

Captions are sampled without gradients, K for a picture at once, and then read once more under
teacher forcing. Both happen without dropout: the distribution that is sampled is the one that is
differentiated, and the one that search will use.

Axes: P pictures, K samples of a picture, M = P K captions, T words.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pictell.config import Config
from pictell.data.batches import Batch
from pictell.data.fluency import fluency
from pictell.data.text import Vocabulary
from pictell.decoders.sampling import caption_log_probabilities, sample_captions
from pictell.training.loss import Tally
from pictell.training.objective import CrossEntropy, NotFiniteError, Window
from pictell.training.rewards import CaptionRewards

RECENT = 1_000  # sampled captions that the figures of the log are made of


class SelfCritical:
    """w * cross-entropy + (1 - w) * the term above; see `Objective`.

    Args:
        supervised: The cross-entropy, on the captions of the same pictures.
        rewards: What captions are worth.
        vocabulary: The words.
        config: `train.samples`, `train.cross_entropy_weight`, `search.max_length`.
        mean_length: T, words of a training caption, `<end>` included.
    """

    def __init__(
        self,
        supervised: CrossEntropy,
        rewards: CaptionRewards,
        vocabulary: Vocabulary,
        config: Config,
        *,
        mean_length: float,
    ) -> None:
        self.supervised, self.rewards, self.vocabulary = supervised, rewards, vocabulary
        self.decoder, self.device = supervised.decoder, supervised.accelerator.device
        self.config, self.mean_length = config, mean_length
        self._captions: deque[list[int]] = deque(maxlen=RECENT)
        self._rewards: deque[float] = deque(maxlen=RECENT)
        self._clock = _Clock()

    def begin_epoch(self, epoch: int) -> None:
        self.supervised.begin_epoch(epoch)
        self._clock = _Clock()

    def loss(self, batch: Batch, window: Window) -> tuple[Tensor, Tally]:
        weight = self.config.train.cross_entropy_weight
        features = self.supervised.features(batch)
        with torch.set_grad_enabled(weight > 0):  # without weight it is only told
            supervised, tally = self.supervised.loss_on(features, batch, window)
        self.decoder.eval()
        term = self._term(features, batch, window)
        self.decoder.train()
        return weight * supervised + (1 - weight) * term, tally

    def _term(self, features: Tensor, batch: Batch, window: Window) -> Tensor:
        """The batch's share of the term."""
        samples = self.config.train.samples
        with self._clock.of("sampling"):
            words, lengths = self._sample(features.detach())
        captions = _as_lists(words, lengths)
        with self._clock.of("reward"):
            rewards = self._reward(captions, pictures_of(batch))
        advantage = advantages(torch.from_numpy(rewards).view(-1, samples)).flatten()
        order = lengths.flatten().argsort(descending=True, stable=True)
        owners = torch.arange(len(features)).repeat_interleave(samples)
        with self.supervised.accelerator.autocast():
            log_probs = caption_log_probabilities(
                self.decoder,
                features,
                words.flatten(0, 1)[order.to(self.device)],
                lengths.flatten()[order],
                owners[order].to(self.device),
            )  # (M,)
        gain = (advantage[order].to(log_probs) * log_probs).sum()
        return -gain / (window.pictures * samples * self.mean_length)

    def _sample(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Words (P, K, T), and their lengths (P, K) on the CPU."""
        with torch.no_grad(), self.supervised.accelerator.autocast():
            words, lengths = sample_captions(
                self.decoder.step,
                self.decoder.start(features),
                len(features),
                samples=self.config.train.samples,
                max_length=self.config.search.max_length,
                device=self.device,
            )
        return words, lengths.cpu()

    def _reward(self, captions: list[list[int]], pictures: Sequence[int]) -> np.ndarray:
        images = np.repeat(pictures, self.config.train.samples).tolist()
        rewards = self.rewards(captions, images)
        wrong = np.flatnonzero(~np.isfinite(rewards))
        if len(wrong):
            text = " ".join(self.vocabulary.decode(captions[wrong[0]]))
            raise NotFiniteError(
                f"the reward of the sampled caption {text!r} is {rewards[wrong[0]]}"
            )
        self._captions.extend(captions)
        self._rewards.extend(rewards.tolist())
        return rewards

    def figures(self) -> dict[str, Any]:
        """`sampled`: mean reward and fluency of the last captions; `time_shares` of the steps."""
        words = [self.vocabulary.decode(caption) for caption in self._captions]
        mean = sum(self._rewards) / max(len(self._rewards), 1)
        return {
            **self.supervised.figures(),
            "sampled": {
                "captions": len(words),
                "reward": round(mean, 5),
                **fluency(words, self.config.data.language),
            },
            "time_shares": self._clock.shares(),
        }

    def state_dict(self) -> dict[str, Any]:
        return {"captions": list(self._captions), "rewards": list(self._rewards)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._captions.extend(state["captions"])
        self._rewards.extend(state["rewards"])


def pictures_of(batch: Batch) -> list[int]:
    """Positions in the split of the batch's pictures, each once: P numbers."""
    if batch.owners is None:
        return batch.images
    pictures = [0] * len(batch.pictures)
    for owner, image in zip(batch.owners.tolist(), batch.images, strict=True):
        pictures[owner] = image
    return pictures


def advantages(rewards: Tensor) -> Tensor:
    """Each reward less the mean of the picture's other samples: (P, K) -> (P, K)."""
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return rewards - others


def _as_lists(words: Tensor, lengths: Tensor) -> list[list[int]]:
    rows = words.flatten(0, 1).tolist()
    return [row[:n] for row, n in zip(rows, lengths.flatten().tolist(), strict=True)]


class _Clock:
    """Which share of the time goes into parts of a step; the rest is the passes with gradients."""

    def __init__(self) -> None:
        self._since, self._spent = time.perf_counter(), {"sampling": 0.0, "reward": 0.0}

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._spent[part] += time.perf_counter() - start

    def shares(self) -> dict[str, float]:
        """Since the clock was made or last asked."""
        now = time.perf_counter()
        elapsed = max(now - self._since, 1e-9)
        shares = {part: round(spent / elapsed, 4) for part, spent in self._spent.items()}
        self._since, self._spent = now, dict.fromkeys(self._spent, 0.0)
        return {**shares, "gradients": round(1 - sum(shares.values()), 4)}
