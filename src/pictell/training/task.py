"""What a run works on: the splits of its data set, as captions in numbers with their pictures.

task = build_task(config)
task.split("val").references
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from pictell.config import Config
from pictell.data.batches import Captions, DecodedPixels, Pictures, StoredFeatures
from pictell.data.mirroring import may_be_mirrored
from pictell.data.records import SPLITS, Example, dataset_hash, read_dataset
from pictell.data.splits import with_fewer_training_pictures
from pictell.data.text import Tokenizer, Vocabulary, get_tokenizer
from pictell.encoders.encoder import Encoder, load_encoder
from pictell.encoders.features import (
    FeatureStore,
    content_hashes,
    encode_pictures,
    mirrored_name,
    rows_of,
    store_of,
)
from pictell.errors import InputError
from pictell.progress import console, progress_bar


@dataclass
class SplitData:
    """One split.

    Attributes:
        name: `train`, `val` or `test`.
        examples: Its pictures with captions.
        captions: All its captions as numbers.
        pictures: Gives features or pixels by position.
        free: (captions,) which captions may see their picture mirrored; None where none is.
    """

    name: str
    examples: list[Example]
    captions: Captions
    pictures: Pictures
    tokenizer: Tokenizer
    free: np.ndarray | None = None

    @cached_property
    def references(self) -> list[list[list[str]]]:
        """For each picture its captions in words, as all scores see them."""
        return [[self.tokenizer.tokenize(c) for c in e.captions] for e in self.examples]


@dataclass
class Task:
    """A data set, its words, and the encoder that looks at its pictures.

    Attributes:
        examples: Pictures of all splits; of training those that `data.pictures` leaves.
        data_hash: Names the whole data set in records of results.
        mirror: Whether training pictures are there mirrored too.
    """

    config: Config
    examples: list[Example]
    data_hash: str
    tokenizer: Tokenizer
    vocabulary: Vocabulary
    encoder: Encoder
    store: FeatureStore | None
    mirror: bool = False

    def split(self, name: str) -> SplitData:
        """The data of a split.

        Raises:
            InputError: The split is empty.
        """
        examples = examples_of(self.examples, name, self.config.data.dataset)
        captions = Captions.encode(
            examples, self.tokenizer, self.vocabulary, self.config.data.max_length
        )
        mirror = self.mirror and name == "train"
        pictures = self._pictures(examples, mirror=mirror)
        free = may_be_mirrored(examples) if mirror else None
        return SplitData(name, examples, captions, pictures, self.tokenizer, free)

    def _pictures(self, examples: Sequence[Example], *, mirror: bool) -> Pictures:
        if self.store is None:
            return DecodedPixels([e.path for e in examples], self.encoder.transform)
        rows = rows_of(self.store, examples)
        if mirror:
            rows = np.concatenate([rows, rows_of(self.store, examples, mirrored=True)])
        return StoredFeatures(self.store.array(), rows)


def examples_of(examples: Sequence[Example], split: str, source: str) -> list[Example]:
    """The examples of a split that have captions, or an error if there are none."""
    chosen = [e for e in examples if e.split == split and e.captions]
    if not chosen:
        found = sorted({e.split or "(none)" for e in examples})
        raise InputError(f"{source}: no pictures in split {split!r}; it has: {', '.join(found)}")
    return chosen


def build_task(
    config: Config,
    *,
    vocabulary: Vocabulary | None = None,
    encoder: Encoder | None = None,
    device: torch.device | None = None,
    mirror: bool = False,
) -> Task:
    """Read the data set, fit or take the vocabulary, load the encoder, encode what is missing.

    Args:
        config: The experiment.
        vocabulary: Words of an existing run; when None they are fitted on the training captions.
        encoder: The encoder of an existing run; when None the configured one is loaded.
        device: Where pictures are encoded.
        mirror: Have the training pictures mirrored too.
    """
    everything = read_dataset(Path(config.data.dataset))
    examples = used_examples(config, everything)
    tokenizer = get_tokenizer(config.data.language)
    if vocabulary is None:
        train = examples_of(examples, "train", config.data.dataset)
        words = (tokenizer.tokenize(c) for e in train for c in e.captions)
        vocabulary = Vocabulary.fit(words, min_count=config.data.min_count)
    if encoder is None:
        encoder = load_encoder(config.encoder)
    if device is not None:
        encoder.to(device)
    store = None if encoder.trained else encode_examples(config, encoder, examples, mirror=mirror)
    return Task(
        config, examples, dataset_hash(everything), tokenizer, vocabulary, encoder, store, mirror
    )


def used_examples(config: Config, examples: Sequence[Example]) -> list[Example]:
    """The pictures of a data set that an experiment uses.

    Raises:
        InputError: `data.pictures` asks for more than there are.
    """
    return with_fewer_training_pictures(examples, config.data.pictures, source=config.data.dataset)


def encode_examples(
    config: Config, encoder: Encoder, examples: Sequence[Example], *, mirror: bool
) -> FeatureStore:
    """Bring the feature store up to date with all pictures of the three splits.

    Args:
        config: Where the store is, and how many processes decode.
        encoder: The frozen encoder.
        examples: All pictures.
        mirror: Those for training mirrored too.
    """
    store = store_of(config.encoder, encoder)
    _encode_missing(config, encoder, store, [e for e in examples if e.split in SPLITS])
    if mirror:
        train = [e for e in examples if e.split == "train"]
        _encode_missing(config, encoder, store, train, mirrored=True)
    return store


def _encode_missing(
    config: Config,
    encoder: Encoder,
    store: FeatureStore,
    examples: Sequence[Example],
    *,
    mirrored: bool = False,
) -> None:
    paths = [e.path for e in examples]
    hashes = content_hashes(paths, store.folder / "hashes.json")
    if mirrored:
        hashes = [mirrored_name(content) for content in hashes]
    missing = len(store.missing(hashes))
    if missing:
        have, what = len(set(hashes)) - missing, "mirrored pictures" if mirrored else "pictures"
        console.print(f"encoding {missing:,} {what} into {store.folder} ({have:,} are there)")
        with progress_bar() as bar:
            task = bar.add_task("encode", total=missing, unit="pictures", note="")
            encode_pictures(
                encoder,
                store,
                paths,
                hashes,
                workers=config.train.workers,
                mirrored=mirrored,
                on_progress=lambda count: bar.advance(task, count),
            )


def all_positions(split: SplitData, batch_size: int) -> list[np.ndarray]:
    """Positions of a split's pictures, in order, in batches."""
    count = len(split.examples)
    return [np.arange(i, min(i + batch_size, count)) for i in range(0, count, batch_size)]
