"""Views of a training picture: the whole or a random crop, as it is or mirrored left to right.

    views = training_views(config.train)
    counts = view_counts(examples, views)
    positions = views_of_epoch(captions.images, counts, seed=0, epoch=3)

Of n pictures, view v of picture i has position v * n + i. For each epoch a caption draws one of the
views that it is true of; one that says left or right would be wrong of the mirrored ones.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pictell.config import TrainConfig
from pictell.data.images import Box, ImageTransform
from pictell.data.records import Example
from pictell.errors import InputError

# Milder than the 8 to 100 % of Szegedy et al. 2015, who want one object recognised: a caption tells
# of most of its picture. Stores name crops by number: other boxes need other names in `View.name`.
MIN_CROP_AREA = 0.6  # share of the picture
MAX_CROP_STRETCH = 4 / 3  # of width to height or of height to width

# "left" may be the past of leave, and "right" mean correct: such captions keep their picture too.
_SIDES = re.compile(r"\b(?:left|right)|clockwise|[左右]|[顺順逆][时時][针針]", re.IGNORECASE)


@dataclass(frozen=True)
class View:
    """What is shown of a picture.

    Attributes:
        crop: Which of its random crops, counted from 1; 0 is the whole picture.
        mirrored: Whether it is mirrored left to right.
    """

    crop: int = 0
    mirrored: bool = False

    def name(self, content: str) -> str:
        """What a feature store calls this view, from the hash of the picture's content."""
        crop = f"-crop{self.crop}" if self.crop else ""
        return content + crop + ("-mirrored" if self.mirrored else "")

    def read(self, path: Path, transform: ImageTransform) -> np.ndarray:
        """Pixels of this view of a picture file: (3, S, S) uint8.

        Raises:
            InputError: As `read_image`.
        """
        pixels = self._read_cropped(path, transform) if self.crop else transform.read(path)
        return np.ascontiguousarray(pixels[:, :, ::-1]) if self.mirrored else pixels

    def _read_cropped(self, path: Path, transform: ImageTransform) -> np.ndarray:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        box = crop_box(hashlib.sha256(data).hexdigest(), self.crop)
        return transform.read(data, name=str(path), part=box)


PLAIN = View()


def training_views(train: TrainConfig) -> tuple[View, ...]:
    """The views of each training picture: as it is, its crops, and then all of these mirrored."""
    sides = (False, True) if train.flip else (False,)
    return tuple(View(crop, mirrored) for mirrored in sides for crop in range(train.crops + 1))


def crop_box(content: str, number: int) -> Box:
    """A random crop, in shares of the sides of what the encoder sees; of a picture always the same.

    The area is uniform from `MIN_CROP_AREA` to 1, the ratio of the two shares log-uniform as far as
    `MAX_CROP_STRETCH` and the sides of the picture allow, the place uniform.

    Args:
        content: Hash of the picture's content.
        number: Which of its crops.
    """
    # From the bytes of a hash: what a store holds must not depend on numpy's version.
    digest = hashlib.sha256(f"{content}-crop{number}".encode()).digest()
    area, stretch, across, down = (
        int.from_bytes(digest[i : i + 8], "big") / 2**64 for i in range(0, 32, 8)
    )
    area = MIN_CROP_AREA + (1 - MIN_CROP_AREA) * area
    limit = min(math.log(MAX_CROP_STRETCH), -math.log(area))  # at -log(area) a side is whole
    ratio = math.exp((2 * stretch - 1) * limit)
    width, height = min(1.0, math.sqrt(area * ratio)), min(1.0, math.sqrt(area / ratio))
    left, top = across * (1 - width), down * (1 - height)
    return (left, top, left + width, top + height)


def says_a_side(caption: str) -> bool:
    """Whether an English or Chinese caption says left, right or which way something turns."""
    return _SIDES.search(caption) is not None


def view_counts(examples: Sequence[Example], views: Sequence[View]) -> np.ndarray:
    """How many views each caption is true of, in the order of the examples: (captions,) int64.

    These are the first ones, since mirrored views come last.
    """
    as_it_is = sum(not view.mirrored for view in views)
    captions = (caption for example in examples for caption in example.captions)
    return np.array([as_it_is if says_a_side(c) else len(views) for c in captions], dtype=np.int64)


def views_of_epoch(images: np.ndarray, counts: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """Position of the view that each caption sees in an epoch, a function of seed and epoch:
    (captions,).

    Args:
        images: (captions,) position of each caption's picture.
        counts: (captions,) how many views it may see.
        seed: Seed of the run.
        epoch: Counted from 0.
    """
    generator = np.random.default_rng([seed, epoch, 1])  # the order of captions has [seed, epoch]
    lots = generator.random(len(images))
    # Low lots take the last views, so that flips without crops are drawn as they always were.
    views = counts - 1 - (lots * counts).astype(np.int64)
    return images + views * (int(images.max()) + 1)
