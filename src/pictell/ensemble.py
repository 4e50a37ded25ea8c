"""Several runs as one model: their encoders side by side, their decoders averaged.

    encoder, decoder = compose([RunFolder.open("runs/a"), RunFolder.open("runs/b")])
    captioner = Captioner.load_ensemble(["runs/a", "runs/b"])

Runs may differ in decoder, encoder and picture size, not in their words. An encoder that several
runs share sees each picture once. What the encoders say is one tensor, see `pack_features`; where
picture sizes differ, pixels are packed too.

Axes: B pictures, C cells, D feature width, W = sum of C D over the encoders, S side of a picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pictell.config import DataConfig
from pictell.data.batches import Pictures
from pictell.data.images import Box, ImageTransform
from pictell.decoders.ensemble import EnsembleDecoder, pack_features
from pictell.encoders.encoder import Encoder
from pictell.errors import InputError
from pictell.training.checkpoint import RunFolder
from pictell.training.task import SplitData, Task, build_task
from pictell.training.validation import region_features


@dataclass(frozen=True)
class EnsembleTransform:
    """What each encoder sees of a picture; one array where all see the same."""

    transforms: list[ImageTransform]

    @property
    def distinct(self) -> list[ImageTransform]:
        """Each way to bring a picture to its size once."""
        return list(dict.fromkeys(self.transforms))

    def read(self, source: str | Path | bytes | Image.Image, *, name: str = "") -> np.ndarray:
        """Decode and transform: (3, S, S) uint8, or (sum of 3 S S,) where the sizes differ."""
        pixels = [transform.read(source, name=name) for transform in self.distinct]
        return pixels[0] if len(pixels) == 1 else np.concatenate([p.ravel() for p in pixels])

    def seen_box(self, width: int, height: int) -> Box:
        """What the first encoder sees of a picture; attention is averaged only where all do."""
        return self.transforms[0].seen_box(width, height)

    def unpack(self, pixels: Tensor) -> list[Tensor]:
        """For each encoder its pixels (B, 3, S, S), of what `read` gave, batched."""
        if len(self.distinct) == 1:
            return [pixels] * len(self.transforms)
        shapes = {transform: (3, transform.size, transform.size) for transform in self.distinct}
        parts = pixels.split([math.prod(shape) for shape in shapes.values()], dim=1)
        seen = {
            transform: part.unflatten(1, shape)
            for (transform, shape), part in zip(shapes.items(), parts, strict=True)
        }
        return [seen[transform] for transform in self.transforms]


class EnsembleEncoder(Encoder):
    """Encoders side by side: pixels to packed features, which are one cell as wide as all."""

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        nn.Module.__init__(self)  # there is no backbone beside the members' own
        self.members = nn.ModuleList(encoders)
        self.transform: Any = EnsembleTransform([encoder.transform for encoder in encoders])
        self.register_buffer("mean", encoders[0].mean.clone())  # the grey of occlusion
        self.trained = []
        self.grid = (1, 1)
        self.feature_size = sum(math.prod(e.grid) * e.feature_size for e in encoders)

    @property
    def encoders(self) -> list[Encoder]:
        """The encoders, each once."""
        return list(self.members)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels as `transform.read` gives them, batched, to (B, 1, W)."""
        seen = self.transform.unpack(pixels)
        return pack_features(
            [encoder(part) for encoder, part in zip(self.encoders, seen, strict=True)]
        )


def open_members(runs: Sequence[str | Path | RunFolder]) -> list[RunFolder]:
    """Run folders that can be averaged.

    Raises:
        InputError: There are fewer than one, one is given twice or cannot be used, or their words
            are not the same.
    """
    if not runs:
        raise InputError("an ensemble needs at least one run folder")
    members = [run if isinstance(run, RunFolder) else RunFolder.open(run) for run in runs]
    first = members[0]
    for number, member in enumerate(members[1:], start=1):
        if member.path.resolve() in {m.path.resolve() for m in members[:number]}:
            raise InputError(f"{member.path}: is given twice; average it with another run")
        if member.config.data.language != first.config.data.language:
            raise InputError(
                f"{first.path} is in {first.config.data.language!r} and {member.path} in "
                f"{member.config.data.language!r}; an ensemble has one language"
            )
        if member.vocabulary.words != first.vocabulary.words:
            raise InputError(
                f"{first.path} and {member.path} have different vocabularies "
                f"({len(first.vocabulary):,} and {len(member.vocabulary):,} words); an ensemble "
                "averages the probabilities of the same words"
            )
    return members


def compose(
    members: Sequence[RunFolder], *, weights: str = ""
) -> tuple[EnsembleEncoder, EnsembleDecoder]:
    """The encoders and the decoders of runs from `open_members`.

    Raises:
        InputError: Weights are not found or do not fit.
    """
    encoders: dict[str, Encoder] = {}
    for member in members:
        key = _encoder_key(member)
        if key not in encoders:
            encoders[key] = member.load_encoder(weights)
    places = {key: place for place, key in enumerate(encoders)}
    decoder = EnsembleDecoder(
        [member.load_decoder() for member in members],
        parts=[(math.prod(e.grid), e.feature_size) for e in encoders.values()],
        reads=[places[_encoder_key(member)] for member in members],
        share_maps=len({member.config.encoder.resize for member in members}) == 1,
    )
    return EnsembleEncoder(list(encoders.values())), decoder


def one_run_each(members: Sequence[RunFolder]) -> list[RunFolder]:
    """The first run with each encoder, in the order of the encoders that `compose` loads."""
    first: dict[str, RunFolder] = {}
    for member in members:
        first.setdefault(_encoder_key(member), member)
    return list(first.values())


def _encoder_key(member: RunFolder) -> str:
    """Runs with the same key have the same encoder; a fine-tuned one is a run's own."""
    own = member.config.encoder.fine_tune
    return str(member.path.resolve()) if own else member.info["encoder"]["key"]


def ensemble_task(
    members: Sequence[RunFolder],
    encoder: Encoder,
    device: torch.device,
    *,
    split: str,
    dataset: str = "",
    data: DataConfig | None = None,
) -> tuple[Task, SplitData]:
    """The first run's data with the features of all encoders, from their stores.

    Args:
        members: The runs, in the order that `compose` got.
        encoder: What `compose` made of them.
        device: Where pictures are encoded.
        split: `train`, `val` or `test`.
        dataset: Another prepared data set than the first run's.
        data: Replaces all of the first run's data options.
    """
    assert isinstance(encoder, EnsembleEncoder)
    data = data or members[0].config.data
    if dataset:
        data = replace(data, dataset=dataset)
    tasks = [
        build_task(
            replace(member.config, data=data),
            vocabulary=members[0].vocabulary,
            encoder=one,
            device=device,
        )
        for member, one in zip(one_run_each(members), encoder.encoders, strict=True)
    ]
    splits = [task.split(split) for task in tasks]
    sources = [(part.pictures, one) for part, one in zip(splits, encoder.encoders, strict=True)]
    return tasks[0], replace(splits[0], pictures=_PackedPictures(sources, device))


@dataclass(frozen=True)
class _PackedPictures:
    """Packed features by position; pixels of fine-tuned encoders are encoded here."""

    sources: list[tuple[Pictures, Encoder]]
    device: torch.device

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> Tensor:
        return pack_features(
            [
                region_features(pictures(images), encoder, self.device)
                for pictures, encoder in self.sources
            ]
        )
