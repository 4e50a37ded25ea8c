"""What trained models think of each word of the training captions, as targets for another one.

    soft = SoftTargets.of_teachers(config, task, split, folder / "soft_targets.npz", device)
    words, probabilities = soft.of(batch.captions, batch.lengths)
    loss = soft_cross_entropy_sum(logits, words, probabilities)

Knowledge distillation (Hinton et al. 2015, "Distilling the knowledge in a neural network", at a
temperature of 1), word by word as in Kim and Rush 2016, "Sequence-level knowledge distillation",
section 3.1. Several teachers are one by the mean of their probabilities.

Teachers are asked once, before the first step, about each picture as it is; so a step costs nearly
what it costs without them, however many they are. Of each distribution the most probable words are
kept, and what is left is spread over all words alike.

Axes: B captions, N real words of a batch, V vocabulary, K words that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pictell.config import Config
from pictell.data.batches import load_batches, picture_batches
from pictell.decoders.base import pack
from pictell.ensemble import compose, ensemble_task, open_members
from pictell.errors import InputError
from pictell.files import replacing
from pictell.progress import console, progress_bar
from pictell.training.checkpoint import RunFolder, models_hash
from pictell.training.task import SplitData, Task
from pictell.training.validation import CAPTIONS_AT_ONCE, region_features, to_device

KEPT = 32  # words of each distribution: 41 MB for the 30,000 captions of Flickr8k


def teachers_of(config: Config) -> list[RunFolder]:
    """The runs that `train.teachers` names; none where it is empty.

    Raises:
        InputError: One cannot be used, or their words are not the same.
    """
    return open_members(config.train.teacher_runs) if config.train.teachers else []


@dataclass(frozen=True)
class SoftTargets:
    """Distributions over the next word, for each word of all captions of a split.

    Attributes:
        starts: (captions + 1,) where each caption's words begin.
        words: (all words, K) numbers of the most probable words.
        probabilities: (all words, K) theirs, in half precision.
    """

    starts: np.ndarray
    words: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def of_teachers(
        cls, config: Config, task: Task, split: SplitData, file: Path, device: torch.device
    ) -> SoftTargets:
        """Ask the teachers, or read what an earlier start of the same training asked.

        Args:
            config: The new experiment; `train.teachers` names the runs.
            task: Its data.
            split: Its training captions.
            file: Where the answers are kept for a resumed run.
            device: Where teachers are asked.

        Raises:
            InputError: A teacher cannot be used, or knows other words.
        """
        teachers = teachers_of(config)
        for teacher in teachers:
            _check_words(teacher, task)
        key = f"{models_hash(teachers)} {task.data_hash}"
        starts = np.r_[0, np.cumsum(split.captions.lengths)]
        if file.exists():
            with np.load(file) as kept:
                if str(kept["key"]) == key and np.array_equal(kept["starts"], starts):
                    return cls(starts, kept["words"], kept["probabilities"])
        with torch.random.fork_rng(devices=[]):  # loading models draws random weights first
            soft = cls._asked(teachers, config, split, starts, device)
        with replacing(file) as temporary, open(temporary, "wb") as opened:
            np.savez(opened, key=key, **vars(soft))
        return soft

    @classmethod
    @torch.inference_mode()
    def _asked(
        cls,
        teachers: list[RunFolder],
        config: Config,
        split: SplitData,
        starts: np.ndarray,
        device: torch.device,
    ) -> SoftTargets:
        encoder, decoder = compose(teachers)
        encoder.to(device).eval()
        decoder.to(device).eval()
        _, theirs = ensemble_task(teachers, encoder, device, split="train", data=config.data)
        captions = split.captions
        kept = min(KEPT, decoder.vocab_size)
        words = np.empty((starts[-1], kept), dtype=np.int32)
        probabilities = np.empty((starts[-1], kept), dtype=np.float16)
        batches = picture_batches(captions, np.arange(len(split.examples)), CAPTIONS_AT_ONCE)
        names = ", ".join(teacher.name for teacher in teachers)
        console.print(f"asking {names} about {len(captions.words):,} captions")
        with progress_bar() as bar:
            shown = bar.add_task("teachers", total=len(captions.words), unit="captions", note="")
            for batch in load_batches(captions, theirs.pictures, batches, workers=0):
                features = region_features(batch.pictures, encoder, device)
                output = decoder.teacher_forced(
                    features,
                    batch.inputs.to(device),
                    batch.lengths,
                    to_device(batch.owners, device),
                )
                best = output.logits.float().softmax(dim=1).topk(kept, dim=1)  # (N, K)
                places = _places(starts, batch.captions, batch.lengths)
                words[places] = best.indices.cpu().numpy()
                probabilities[places] = best.values.cpu().numpy()
                bar.advance(shown, len(batch.captions))
        return cls(starts, words, probabilities)

    def of(self, captions: list[int], lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Words and probabilities (N, K) for captions of a batch, in the order of its logits.

        Args:
            captions: Their positions in the split, in order of falling length.
            lengths: (B,) their real words, on the CPU.
        """
        places = _places(self.starts, captions, lengths)
        words = torch.from_numpy(self.words[places]).long()
        return words, torch.from_numpy(self.probabilities[places]).float()


def _places(starts: np.ndarray, captions: list[int], lengths: Tensor) -> np.ndarray:
    """Row of each real word of a batch, (N,), in the order of the logits."""
    first = torch.from_numpy(starts[captions])[:, None]
    return pack(first + torch.arange(int(lengths[0])), lengths).numpy()


def _check_words(teacher: RunFolder, task: Task) -> None:
    if teacher.vocabulary.words != task.vocabulary.words:
        raise InputError(
            f"train.teachers: {teacher.path} knows {len(teacher.vocabulary):,} words, this "
            f"experiment {len(task.vocabulary):,}, and they are not the same; a teacher must be "
            "trained with the same data.dataset, data.language, data.min_count and data.pictures"
        )


def soft_cross_entropy_sum(logits: Tensor, words: Tensor, probabilities: Tensor) -> Tensor:
    """Cross-entropy against soft targets, summed over words.

    Args:
        logits: (N, V).
        words: (N, K) the words of each target that are kept.
        probabilities: (N, K) theirs; what they leave is spread over all V words alike.
    """
    log_probs = logits.float().log_softmax(dim=1)
    told = (probabilities * log_probs.gather(1, words)).sum()
    rest = (1 - probabilities.sum(dim=1)).clamp(min=0)
    return -told - (rest * log_probs.mean(dim=1)).sum()
