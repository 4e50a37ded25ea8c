"""Choose among the captions that search found with the captions of similar training pictures.

    neighbours = Neighbours.of_runs([run], encoder, device)
    found = neighbours.rerank(found, [features], count=20, weight=2.5, by="captions")

Consensus reranking: Mao et al. 2015, "Deep captioning with multimodal recurrent neural networks",
ICLR, after the consensus of Devlin et al. 2015, "Exploring nearest neighbor approaches for image
captioning". A picture's neighbours are the training pictures that are most similar to it, and a
hypothesis is worth the more, the better it agrees with what people wrote of them:

    value(y) = log p(y) / n^lambda + weight * mean over the references of the neighbours of
               CIDEr-D(y, reference)

By *features*, pictures are similar whose features point into the same direction (cosine), and all
neighbours have the same say. By *captions*, the cosine in `CaptionSpace` between what the picture's
captions would say and what the training picture's do is added, and a neighbour's say in the mean is
proportional to exp(similarity / .15).

The references judge, they are never copied: only what search found can be chosen, so that with a
beam of 1 nothing changes. Document frequencies are those of the training captions.

Axes: B pictures, C cells, D feature width, N training pictures, K hypotheses of a picture.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pictell.caption_space import CaptionSpace
from pictell.config import NeighboursBy
from pictell.decoders.search import Hypothesis
from pictell.encoders.encoder import Encoder
from pictell.errors import InputError
from pictell.files import replacing
from pictell.metrics import CiderD
from pictell.progress import console
from pictell.training.checkpoint import RunFolder, models_hash
from pictell.training.task import all_positions, build_task
from pictell.training.validation import region_features

PICTURES_AT_ONCE = 64
_TEMPERATURE = 0.15  # of a neighbour's say, for the sum of two cosines
References = list[list[list[int]]]  # of each picture, captions in numbers of words


@dataclass(frozen=True)
class Memory:
    """The training pictures as an encoder sees them, and what people wrote of them.

    Attributes:
        directions: (N, D) the mean of a picture's cells, less `centre`, of length 1; kept in half
            precision.
        centre: (D,) the mean over the pictures.
        references: Captions in the numbers of the run's words; words that the run cannot write have
            numbers behind these.
        space: Where pictures and these captions meet.
    """

    directions: np.ndarray
    centre: np.ndarray
    references: References
    space: CaptionSpace

    @classmethod
    def of_run(cls, run: RunFolder, encoder: Encoder, device: torch.device) -> Memory:
        """What the run folder keeps; at first made of its training data, and then kept there.

        Args:
            run: The run.
            encoder: Its encoder.
            device: Where pictures are encoded, if they must be.

        Raises:
            InputError: There is nothing kept, and the training data are not there or not the same.
        """
        key = _key(run)
        kept = cls._read(run.neighbours_file, key)
        if kept is None:
            kept = cls._made(run, encoder, device)
            try:
                kept._write(run.neighbours_file, key)
            except OSError as error:  # a run folder that others may only read
                console.print(f"{run.neighbours_file}: not kept ({error.strerror})", soft_wrap=True)
        return kept

    @classmethod
    @torch.inference_mode()
    def _made(cls, run: RunFolder, encoder: Encoder, device: torch.device) -> Memory:
        console.print(
            f"noting the training pictures for search.neighbours in {run.neighbours_file}",
            soft_wrap=True,
        )
        try:
            task = build_task(run.config, vocabulary=run.vocabulary, encoder=encoder, device=device)
        except InputError as error:
            raise InputError(
                f"search.neighbours needs the pictures that {run.path} was trained on once: {error}"
            ) from None
        if task.data_hash != run.info["data"]["sha256"]:
            raise InputError(
                f"{task.config.data.dataset}: has changed since {run.path} was trained on it; "
                "search.neighbours needs the same pictures and captions"
            )
        split = task.split("train")
        pooled = [
            region_features(split.pictures(positions), encoder, device).mean(dim=1).cpu().numpy()
            for positions in all_positions(split, PICTURES_AT_ONCE)
        ]
        features = np.concatenate(pooled)  # (N, D)
        centre = features.mean(axis=0)
        numbers = dict(task.vocabulary.ids)
        references = [
            [[numbers.setdefault(word, len(numbers)) for word in words] for words in captions]
            for captions in split.references
        ]
        rounded = _directions(features, centre).astype(np.float16)
        space = CaptionSpace.fit(features, references)
        return cls(rounded.astype(np.float32), centre, references, space)

    def _write(self, file: Path, key: str) -> None:
        captions = [words for picture in self.references for words in picture]
        with replacing(file) as temporary, open(temporary, "wb") as opened:
            np.savez(
                opened,
                key=key,
                directions=self.directions.astype(np.float16),
                centre=self.centre,
                captions=np.array([len(picture) for picture in self.references]),
                lengths=np.array([len(words) for words in captions]),
                words=np.array([word for words in captions for word in words], dtype=np.int32),
                space_mean=self.space.mean,
                space_scale=self.space.scale,
                space_projection=self.space.projection,
                space_captions=self.space.captions.astype(np.float16),
            )

    @classmethod
    def _read(cls, file: Path, key: str) -> Memory | None:
        """What is kept; None if there is nothing, or if it is of another model or other data."""
        if not file.exists():
            return None
        try:
            with np.load(file) as kept:
                if str(kept["key"]) != key:
                    return None
                words = np.split(kept["words"], np.cumsum(kept["lengths"])[:-1])
                captions = iter([part.tolist() for part in words])
                references = [[next(captions) for _ in range(n)] for n in kept["captions"].tolist()]
                directions = kept["directions"].astype(np.float32)
                space = CaptionSpace(
                    mean=kept["space_mean"],
                    scale=kept["space_scale"],
                    projection=kept["space_projection"],
                    captions=kept["space_captions"].astype(np.float32),
                )
                return cls(directions, kept["centre"], references, space)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{file}: not readable ({error}); delete it, and it is made again where the "
                "training data are"
            ) from None

    def similarity(self, features: Tensor, by: NeighboursBy) -> np.ndarray:
        """Between pictures (B, C, D) and each training picture: (B, N).

        A cosine by features, the sum of two cosines by captions.
        """
        pooled = features.float().mean(dim=1).cpu().numpy()
        # torch's product, since numpy's has threads of its own, which get into the way of torch's.
        moved = torch.from_numpy(_directions(pooled, self.centre))
        seen = (moved @ torch.from_numpy(self.directions).T).numpy()
        return seen if by == "features" else seen + self.space.similarity(pooled)


class Neighbours:
    """See the head of this file.

    Args:
        memories: One for each encoder; where there are several, similarities are averaged.
    """

    def __init__(self, memories: Sequence[Memory]) -> None:
        self._memories = memories
        self._scorer = CiderD(memories[0].references)

    @classmethod
    def of_runs(
        cls, runs: Sequence[RunFolder], encoders: Sequence[Encoder], device: torch.device
    ) -> Neighbours:
        """Of runs with these encoders, one run for each encoder.

        Raises:
            InputError: As `Memory.of_run`, or the runs were trained on different pictures.
        """
        pairs = zip(runs, encoders, strict=True)
        memories = [Memory.of_run(run, encoder, device) for run, encoder in pairs]
        for run, memory in zip(runs, memories, strict=True):
            if memory.references != memories[0].references:
                raise InputError(
                    f"{runs[0].path} and {run.path} were trained on different pictures; "
                    "search.neighbours needs the same ones"
                )
        return cls(memories)

    def rerank(
        self,
        found: Sequence[Sequence[Hypothesis]],
        features: Sequence[Tensor],
        *,
        count: int,
        weight: float,
        by: NeighboursBy,
    ) -> list[list[Hypothesis]]:
        """The hypotheses of each picture, best first by the value above.

        Args:
            found: What search found for each of B pictures.
            features: (B, C, D) of each encoder.
            count: Neighbours of a picture; all training pictures where there are fewer.
            weight: Of the agreement, CIDEr-D from 0 to 10, beside the score of search.
            by: What makes pictures similar.

        Returns:
            As given, in another order. Captions that ended still come before captions cut at the
            maximal length.
        """
        similarity = np.mean(
            [m.similarity(f, by) for m, f in zip(self._memories, features, strict=True)], axis=0
        )
        nearest = _largest(similarity, count)  # (B, count)
        says = _says(np.take_along_axis(similarity, nearest, axis=1), by)
        return [
            self._reranked(hypotheses, pictures, say, weight)
            for hypotheses, pictures, say in zip(found, nearest.tolist(), says, strict=True)
        ]

    def _reranked(
        self, hypotheses: Sequence[Hypothesis], pictures: list[int], say: np.ndarray, weight: float
    ) -> list[Hypothesis]:
        if len(hypotheses) < 2:
            return list(hypotheses)
        agreement = self._scorer.agreement([h.words for h in hypotheses], pictures, say)
        values = [h.score + weight * a for h, a in zip(hypotheses, agreement, strict=True)]
        order = sorted(
            range(len(hypotheses)), key=lambda i: (hypotheses[i].ended, values[i]), reverse=True
        )
        return [hypotheses[i] for i in order]


def _directions(features: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Features (N, D) less the centre, of length 1."""
    moved = features - centre
    return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)


def _says(similarity: np.ndarray, by: NeighboursBy) -> np.ndarray:
    """How much each reference of a neighbour counts, (B, count), from its similarity; 1 at most."""
    if by == "features":
        return np.ones_like(similarity)
    return np.exp((similarity - similarity.max(axis=1, keepdims=True)) / _TEMPERATURE)


def _largest(similarity: np.ndarray, count: int) -> np.ndarray:
    """Positions of the largest in each row, (B, count), falling; equal ones in order."""
    return np.argsort(-similarity, axis=1, kind="stable")[:, :count]


def _key(run: RunFolder) -> str:
    """What a memory depends on: data, the part that was used, words, encoder, what is kept."""
    config, info = run.config, run.info
    encoder = models_hash([run]) if config.encoder.fine_tune else info["encoder"]["key"]
    pictures = config.data.pictures
    return f"{info['data']['sha256']} {pictures} {encoder} {len(run.vocabulary)} captions"
