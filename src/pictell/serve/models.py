"""The runs that a server captions with; one encoder for all that share it.

    models = Models.load(["runs/rnn", "runs/attention"])
    captions = models.caption([Job(pixels, size, orders)])[0]

Axes: S side of the picture that an encoder sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pictell.captioner import RUNNERS_UP, Caption, Captioner
from pictell.config import SearchConfig
from pictell.data.images import ImageTransform
from pictell.encoders.encoder import Encoder
from pictell.errors import InputError
from pictell.training.checkpoint import RunFolder

OCCLUSION_GRID = (7, 7)
OCCLUSION_PICTURES = 1 + OCCLUSION_GRID[0] * OCCLUSION_GRID[1]  # what one look costs the encoder


@dataclass(frozen=True)
class Order:
    """One caption that is wanted of a picture: by which model, found how."""

    model: str
    search: SearchConfig


@dataclass(frozen=True, eq=False)
class Job:
    """A picture and the captions that are wanted of it.

    Attributes:
        pixels: (3, S, S) uint8 for each of `Models.transforms`.
        size: Width and height of the upright picture.
        orders: At least one.
    """

    pixels: Sequence[np.ndarray]
    size: tuple[int, int]
    orders: tuple[Order, ...]


class Models:
    """Captioners by name. Safe to use from several threads.

    Args:
        captioners: By the name that users know them by.
        descriptions: Of each, as JSON.
    """

    def __init__(
        self, captioners: dict[str, Captioner], descriptions: dict[str, dict[str, Any]]
    ) -> None:
        self.captioners, self.descriptions = captioners, descriptions
        self.encoders: list[Encoder] = []
        for captioner in captioners.values():
            if captioner.encoder not in self.encoders:
                self.encoders.append(captioner.encoder)
        self.transforms: list[ImageTransform] = [e.transform for e in self.encoders]

    @classmethod
    def load(
        cls, runs: Sequence[str | Path], *, weights: str = "", device: str | None = None
    ) -> Models:
        """Load the best epoch of each run.

        Raises:
            InputError: A folder holds no usable run, or is named twice.
        """
        folders = [RunFolder.open(run) for run in runs]
        captioners: dict[str, Captioner] = {}
        shared: dict[str, Encoder] = {}
        for name, folder in zip(_names(folders), folders, strict=True):
            captioner = Captioner.load(folder, weights=weights, device=device)
            if not folder.config.encoder.fine_tune:
                key = folder.info["encoder"]["key"]
                captioner.encoder = shared.setdefault(key, captioner.encoder)
            captioners[name] = captioner
        described = zip(captioners.items(), folders, strict=True)
        return cls(captioners, {name: _describe(name, c, f) for (name, c), f in described})

    @property
    def names(self) -> list[str]:
        """In the order given."""
        return list(self.captioners)

    def order(
        self,
        model: str,
        *,
        beam: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        block_repeats: int | None = None,
    ) -> Order:
        """An order with the model's own search, but for what is given."""
        search = self.captioners[model].search.with_given(
            beam=beam,
            length_penalty=length_penalty,
            max_length=max_length,
            block_repeats=block_repeats,
        )
        return Order(model, search)

    @torch.inference_mode()
    def caption(self, jobs: Sequence[Job]) -> list[list[Caption]]:
        """Caption pictures together: for each job a caption for each of its orders.

        A picture is encoded once for each encoder that its models need, and all pictures with the
        same order are searched together.
        """
        found: list[dict[Order, Caption]] = [{} for _ in jobs]
        for number, encoder in enumerate(self.encoders):
            wanted = self._rows_by_order(jobs, encoder)
            rows = sorted({row for members in wanted.values() for row in members})
            if not rows:
                continue
            features = _encode(encoder, [jobs[row].pixels[number] for row in rows])
            for order, members in wanted.items():
                chosen = features[[rows.index(row) for row in members]]
                for row, caption in zip(members, self._write(order, chosen), strict=True):
                    seen = encoder.transform.seen_box(*jobs[row].size)
                    placed = Caption(**vars(caption), image_size=jobs[row].size, seen_box=seen)
                    found[row][order] = placed
        return [[found[row][order] for order in job.orders] for row, job in enumerate(jobs)]

    def _rows_by_order(self, jobs: Sequence[Job], encoder: Encoder) -> dict[Order, list[int]]:
        wanted: dict[Order, list[int]] = {}
        for row, job in enumerate(jobs):
            for order in dict.fromkeys(job.orders):
                if self.captioners[order.model].encoder is encoder:
                    wanted.setdefault(order, []).append(row)
        return wanted

    def _write(self, order: Order, features: Tensor) -> list[Any]:
        return self.captioners[order.model].write(features, order.search, RUNNERS_UP)

    def caption_with_occlusion(self, jobs: Sequence[Job]) -> list[list[Caption]]:
        """As `caption`, each caption with occlusion maps: an encoder pass for each patch."""
        return [
            [
                self._occlude(job, order, caption)
                for order, caption in zip(job.orders, captions, strict=True)
            ]
            for job, captions in zip(jobs, self.caption(jobs), strict=True)
        ]

    def _occlude(self, job: Job, order: Order, caption: Caption) -> Caption:
        captioner = self.captioners[order.model]
        pixels = job.pixels[self.encoders.index(captioner.encoder)]
        # At the encoder's own size the transform changes nothing more.
        image = Image.fromarray(pixels.transpose(1, 2, 0))
        return captioner.occlude(image, [caption], grid=OCCLUSION_GRID)[0]

    def warm_up(self) -> None:
        """Caption a grey picture with each model, so that the first visitor does not wait."""
        pixels = [np.full((3, t.size, t.size), 127, np.uint8) for t in self.transforms]
        orders = tuple(self.order(name) for name in self.names)
        self.caption([Job(pixels, (64, 64), orders)])


def _encode(encoder: Encoder, pixels: Sequence[np.ndarray]) -> Tensor:
    return encoder(torch.from_numpy(np.stack(pixels)).to(encoder.mean.device))


def _names(folders: Sequence[RunFolder]) -> list[str]:
    """The folders' names, longer where two are the same."""
    paths = [folder.path.resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise InputError("the same run folder is given twice; give different ones")
    names = [path.name for path in paths]
    longer = [f"{path.parent.name}/{path.name}" for path in paths]
    chosen = [n if names.count(n) == 1 else more for n, more in zip(names, longer, strict=True)]
    return chosen if len(set(chosen)) == len(chosen) else [str(path) for path in paths]


def _describe(name: str, captioner: Captioner, folder: RunFolder) -> dict[str, Any]:
    config, info = folder.config, folder.info
    return {
        "name": name,
        "decoder": config.decoder.name,
        "encoder": config.encoder.name,
        "language": config.data.language,
        "attention": captioner.decoder.attends,
        "words": len(captioner.vocabulary),
        "search": {
            "beam": config.search.beam,
            "length_penalty": config.search.length_penalty,
            "max_length": config.search.max_length,
        },
        "validation": info.get("best_score", {}),
    }
