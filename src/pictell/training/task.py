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
from pictell.data.records import SPLITS, Example, dataset_hash, read_dataset
from pictell.data.splits import with_fewer_training_pictures
from pictell.data.text import Tokenizer, Vocabulary, get_tokenizer
from pictell.encoders.encoder import Encoder, load_encoder
from pictell.encoders.features import (
    FeatureStore,
    content_hashes,
    encode_pictures,
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
    """

    name: str
    examples: list[Example]
    captions: Captions
    pictures: Pictures
    tokenizer: Tokenizer

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
    """

    config: Config
    examples: list[Example]
    data_hash: str
    tokenizer: Tokenizer
    vocabulary: Vocabulary
    encoder: Encoder
    store: FeatureStore | None

    def split(self, name: str) -> SplitData:
        """The data of a split.

        Raises:
            InputError: The split is empty.
        """
        examples = examples_of(self.examples, name, self.config.data.dataset)
        captions = Captions.encode(
            examples, self.tokenizer, self.vocabulary, self.config.data.max_length
        )
        return SplitData(name, examples, captions, self._pictures(examples), self.tokenizer)

    def _pictures(self, examples: Sequence[Example]) -> Pictures:
        if self.store is None:
            return DecodedPixels([e.path for e in examples], self.encoder.transform)
        return StoredFeatures(self.store.array(), rows_of(self.store, examples))


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
) -> Task:
    """Read the data set, fit or take the vocabulary, load the encoder, encode what is missing.

    Args:
        config: The experiment.
        vocabulary: Words of an existing run; when None they are fitted on the training captions.
        encoder: The encoder of an existing run; when None the configured one is loaded.
        device: Where pictures are encoded.
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
    store = None if encoder.trained else encode_examples(config, encoder, examples)
    return Task(config, examples, dataset_hash(everything), tokenizer, vocabulary, encoder, store)


def used_examples(config: Config, examples: Sequence[Example]) -> list[Example]:
    """The pictures of a data set that an experiment uses.

    Raises:
        InputError: `data.pictures` asks for more than there are.
    """
    return with_fewer_training_pictures(examples, config.data.pictures, source=config.data.dataset)


def encode_examples(config: Config, encoder: Encoder, examples: Sequence[Example]) -> FeatureStore:
    """Bring the feature store up to date with all pictures of the three splits."""
    store = store_of(config.encoder, encoder)
    paths = [e.path for e in examples if e.split in SPLITS]
    hashes = content_hashes(paths, store.folder / "hashes.json")
    missing = len(store.missing(hashes))
    if missing:
        have = len(set(hashes)) - missing
        console.print(f"encoding {missing:,} pictures into {store.folder} ({have:,} are there)")
        with progress_bar() as bar:
            task = bar.add_task("encode", total=missing, unit="pictures", note="")
            encode_pictures(
                encoder,
                store,
                paths,
                hashes,
                workers=config.train.workers,
                on_progress=lambda count: bar.advance(task, count),
            )
    return store


def all_positions(split: SplitData, batch_size: int) -> list[np.ndarray]:
    """Positions of a split's pictures, in order, in batches."""
    count = len(split.examples)
    return [np.arange(i, min(i + batch_size, count)) for i in range(0, count, batch_size)]
