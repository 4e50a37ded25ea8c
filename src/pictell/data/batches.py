"""Batches of captions with their pictures' features or pixels.

Captions are shuffled, then bucketed by length: each batch holds captions of nearly one length, so
that almost nothing is spent on padding, while the batches come in random order. Or pictures are
shuffled, and a batch holds all captions of some of them, which share what is computed for the
picture. The batches of an epoch are a function of seed and epoch alone; a run that was interrupted
goes on at any of them.

Axes: B captions, P pictures, C cells, D feature width, T words, S picture side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pictell.data.images import ImageTransform
from pictell.data.records import Example
from pictell.data.text import END, PAD, START, Tokenizer, Vocabulary
from pictell.data.views import PLAIN, View
from pictell.errors import InputError
from pictell.machine import cores

BUCKET_BATCHES = 100  # batches that are sorted by length together
_SHARE_FOR_FEATURES = 0.25  # of a GPU's free memory, at most, for the pictures of a split
_ROWS_SENT = 256  # at once


@dataclass(frozen=True)
class Captions:
    """Captions as numbers.

    Attributes:
        words: For each caption `<start>`, its words and `<end>`.
        images: For each caption the position of its picture.
        lengths: (captions,) how many words are to be predicted, `<end>` included.
    """

    words: list[np.ndarray]
    images: np.ndarray
    lengths: np.ndarray

    @classmethod
    def encode(
        cls,
        examples: Sequence[Example],
        tokenizer: Tokenizer,
        vocabulary: Vocabulary,
        max_length: int,
    ) -> Captions:
        """Tokenise and number all captions; longer ones are cut to `max_length` words."""
        words, images = [], []
        for position, example in enumerate(examples):
            for caption in example.captions:
                numbers = vocabulary.encode(tokenizer.tokenize(caption)[:max_length])
                words.append(np.array([START, *numbers, END], dtype=np.int64))
                images.append(position)
        lengths = np.array([len(w) - 1 for w in words], dtype=np.int64)
        return cls(words, np.array(images, dtype=np.int64), lengths)

    def at(self, positions: np.ndarray) -> Captions:
        """Those at the positions, of the same pictures."""
        words = [self.words[position] for position in positions]
        return Captions(words, self.images[positions], self.lengths[positions])


@dataclass
class Batch:
    """One batch, captions in order of falling length.

    Attributes:
        pictures: (P, C, D) fp16 features, or (P, 3, S, S) uint8 pixels, each picture once; on the
            CPU, or features where they are kept.
        owners: (B,) which of the pictures each caption belongs to, or None where each has its own.
        inputs: (B, T) words that are read, `<start>` first.
        targets: (B, T) words that are predicted, `<end>` last.
        lengths: (B,) real words of each.
        images: Positions of the pictures in the split.
        captions: Positions of the captions in the split.
    """

    pictures: Tensor
    owners: Tensor | None
    inputs: Tensor
    targets: Tensor
    lengths: Tensor
    images: list[int]
    captions: list[int] = field(default_factory=list)


class Pictures(Protocol):
    """Where batches take pictures from. Of n pictures, those of view v begin at position v * n."""

    def __call__(self, images: np.ndarray) -> Tensor:
        """Features or pixels of the pictures at these positions."""
        ...


@dataclass(frozen=True)
class StoredFeatures:
    """Features from a memory-mapped array (rows, C, D); `rows` gives each position's row."""

    array: np.ndarray
    rows: np.ndarray

    def __call__(self, images: np.ndarray) -> Tensor:
        return torch.from_numpy(self.array[self.rows[images]])


@dataclass(frozen=True)
class FeaturesOnDevice:
    """Features (rows, C, D) in a GPU's memory; `places` gives each position's row."""

    rows: Tensor
    places: np.ndarray

    def __call__(self, images: np.ndarray) -> Tensor:
        chosen = torch.from_numpy(self.places[images])
        return self.rows.index_select(0, chosen.to(self.rows.device))


def near(pictures: Pictures, device: torch.device) -> Pictures:
    """Stored features in the memory of the GPU that reads them, where there is room.

    Otherwise each batch's features are read from disk and sent to it, again in every epoch.
    """
    if device.type != "cuda" or not isinstance(pictures, StoredFeatures):
        return pictures
    rows, places = np.unique(pictures.rows, return_inverse=True)
    needed = len(rows) * pictures.array[0].nbytes
    if needed > _SHARE_FOR_FEATURES * torch.cuda.mem_get_info(device)[0]:
        return pictures
    shape = (len(rows), *pictures.array.shape[1:])
    kept = torch.empty(shape, dtype=torch.float16, device=device)
    for start in range(0, len(rows), _ROWS_SENT):
        here = slice(start, start + _ROWS_SENT)
        kept[here] = torch.from_numpy(pictures.array[rows[here]])
    return FeaturesOnDevice(kept, places)


@dataclass(frozen=True)
class DecodedPixels:
    """Pixels decoded from files each time they are asked for."""

    paths: list[Path]
    transform: ImageTransform
    views: Sequence[View] = (PLAIN,)

    def __call__(self, images: np.ndarray) -> Tensor:
        return torch.from_numpy(np.stack([self._read(i) for i in images]))

    def _read(self, position: int) -> np.ndarray:
        view, image = divmod(position, len(self.paths))
        return self.views[view].read(self.paths[image], self.transform)


def captions_of_epoch(images: np.ndarray, per_picture: int, *, seed: int, epoch: int) -> np.ndarray:
    """Positions of the captions that an epoch reads: so many of each picture, or all if it has no
    more, as many in every epoch. In rising order.

    Args:
        images: (captions,) position of each caption's picture.
        per_picture: At least 1.
        seed: Seed of the run.
        epoch: Epochs differ in the captions they draw.
    """
    # The order of captions has [seed, epoch], their views have [seed, epoch, 1].
    order = np.random.default_rng([seed, epoch, 2]).permutation(len(images))
    order = order[np.argsort(images[order], kind="stable")]  # by picture, at random within it
    counts = np.bincount(images)
    places = np.arange(len(images)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[places < per_picture])


def epoch_batches(
    lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int
) -> list[np.ndarray]:
    """Positions of the captions of each batch of an epoch, every caption once.

    Args:
        lengths: (captions,) words of each caption.
        batch_size: Captions in a batch; the last one may be smaller.
        seed: Seed of the run.
        epoch: Epochs differ in their order.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    bucket = batch_size * BUCKET_BATCHES
    batches = []
    for start in range(0, len(order), bucket):
        part = order[start : start + bucket]
        part = part[np.argsort(-lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def epoch_picture_batches(
    captions: Captions, batch_size: int, *, seed: int, epoch: int
) -> list[np.ndarray]:
    """As `epoch_batches`, with the captions of a picture together."""
    generator = np.random.default_rng([seed, epoch])
    pictures = generator.permutation(int(captions.images.max()) + 1)
    return picture_batches(captions, pictures, batch_size)


def picture_batches(captions: Captions, pictures: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Positions of the captions of each batch: whole pictures, as many as fit, longest first.

    Args:
        captions: All captions.
        pictures: The order of the pictures.
        batch_size: Captions in a batch, at most. A picture with more has batches of its own.
    """
    by_picture = np.argsort(captions.images, kind="stable")
    ends = np.cumsum(np.bincount(captions.images, minlength=len(pictures)))
    batches: list[list[int]] = [[]]
    for picture in pictures:
        own = by_picture[ends[picture - 1] if picture else 0 : ends[picture]].tolist()
        if batches[-1] and len(batches[-1]) + len(own) > batch_size:
            batches.append([])
        while len(own) > batch_size:
            batches[-1:] = [own[:batch_size], []]
            own = own[batch_size:]
        batches[-1] += own
    found = [np.array(batch, dtype=np.int64) for batch in batches if batch]
    return [batch[np.argsort(-captions.lengths[batch], kind="stable")] for batch in found]


class _BatchDataset(Dataset):
    def __init__(
        self,
        captions: Captions,
        pictures: Pictures,
        batches: Sequence[np.ndarray],
        views: np.ndarray | None,
    ) -> None:
        self.captions, self.pictures, self.batches = captions, pictures, batches
        self.views = captions.images if views is None else views

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Batch | str:
        if number >= len(self.batches):
            raise IndexError(number)
        try:
            return self._batch(number)
        except InputError as error:  # told by the main process: a worker's traceback helps nobody
            return str(error)

    def _batch(self, number: int) -> Batch:
        chosen = self.batches[number]
        lengths = self.captions.lengths[chosen]
        words = np.full((len(chosen), lengths.max() + 1), PAD, dtype=np.int64)
        for row, caption in enumerate(chosen):
            words[row, : lengths[row] + 1] = self.captions.words[caption]
        distinct, owners = _distinct(self.views[chosen])
        inputs = words[:, :-1].copy()
        inputs[inputs == END] = PAD  # <end> of a shorter caption is predicted, never read
        return Batch(
            self.pictures(distinct),
            None if owners is None else torch.from_numpy(owners),
            torch.from_numpy(inputs),
            torch.from_numpy(words[:, 1:].copy()),
            torch.from_numpy(lengths),
            self.captions.images[chosen].tolist(),
            chosen.tolist(),
        )


def _distinct(images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Each picture once, in order of its first caption, and the place of each caption's picture."""
    distinct, first, owners = np.unique(images, return_index=True, return_inverse=True)
    if len(distinct) == len(images):
        return images, None
    order = np.argsort(first)
    return distinct[order], np.argsort(order)[owners]


def load_batches(
    captions: Captions,
    pictures: Pictures,
    batches: Sequence[np.ndarray],
    *,
    workers: int,
    views: np.ndarray | None = None,
) -> Iterator[Batch]:
    """Yield the batches in order. Stored features are read here, pixels decoded by `workers`.

    Args:
        captions: All captions.
        pictures: Where their pictures come from.
        batches: Positions of the captions of each batch.
        workers: Processes that decode.
        views: (captions,) what to ask of `pictures` for each caption (see views.py); None for
            its picture as it is.

    Raises:
        InputError: A picture does not decode.
    """
    if not isinstance(pictures, DecodedPixels):
        workers = 0  # a copy of features is cheaper than sending them between processes
    loader = DataLoader(
        _BatchDataset(captions, pictures, batches, views),
        batch_size=None,
        shuffle=False,
        num_workers=min(workers, cores()),
        # A loader draws a seed for its workers when it starts: not from the numbers of dropout,
        # or a run that is resumed within an epoch would not equal an uninterrupted one.
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, str):
            raise InputError(batch)
        yield batch
