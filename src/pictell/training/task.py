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
from pictell.data.views import PLAIN, View, view_counts
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
        view_counts: (captions,) how many views of its picture each caption may see; None where
            there is only the picture as it is.
    """

    name: str
    examples: list[Example]
    captions: Captions
    pictures: Pictures
    tokenizer: Tokenizer
    view_counts: np.ndarray | None = None

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
        views: What is there of each training picture.
    """

    config: Config
    examples: list[Example]
    data_hash: str
    tokenizer: Tokenizer
    vocabulary: Vocabulary
    encoder: Encoder
    store: FeatureStore | None
    views: Sequence[View] = (PLAIN,)

    def split(self, name: str) -> SplitData:
        """The data of a split.

        Raises:
            InputError: The split is empty.
        """
        examples = examples_of(self.examples, name, self.config.data.dataset)
        captions = Captions.encode(
            examples, self.tokenizer, self.vocabulary, self.config.data.max_length
        )
        views = self.views if name == "train" else (PLAIN,)
        pictures = self._pictures(examples, views)
        counts = view_counts(examples, views) if len(views) > 1 else None
        return SplitData(name, examples, captions, pictures, self.tokenizer, counts)

    def _pictures(self, examples: Sequence[Example], views: Sequence[View]) -> Pictures:
        if self.store is None:
            return DecodedPixels([e.path for e in examples], self.encoder.transform, views)
        return StoredFeatures(self.store.array(), rows_of(self.store, examples, views))


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
    views: Sequence[View] = (PLAIN,),
) -> Task:
    """Read the data set, fit or take the vocabulary, load the encoder, encode what is missing.

    Args:
        config: The experiment.
        vocabulary: Words of an existing run; when None they are fitted on the training captions.
        encoder: The encoder of an existing run; when None the configured one is loaded.
        device: Where pictures are encoded.
        views: What to have of each training picture.
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
    store = None if encoder.trained else encode_examples(config, encoder, examples, views)
    return Task(
        config, examples, dataset_hash(everything), tokenizer, vocabulary, encoder, store, views
    )


def used_examples(config: Config, examples: Sequence[Example]) -> list[Example]:
    """The pictures of a data set that an experiment uses.

    Raises:
        InputError: `data.pictures` asks for more than there are.
    """
    return with_fewer_training_pictures(examples, config.data.pictures, source=config.data.dataset)


def encode_examples(
    config: Config, encoder: Encoder, examples: Sequence[Example], views: Sequence[View]
) -> FeatureStore:
    """Bring the feature store up to date with all pictures of the three splits.

    Args:
        config: Where the store is, and how many processes decode.
        encoder: The frozen encoder.
        examples: All pictures.
        views: What to encode of those for training; of the others it is the picture as it is.
    """
    store = store_of(config.encoder, encoder)
    _encode_missing(config, encoder, store, [e for e in examples if e.split in SPLITS], PLAIN)
    train = [e for e in examples if e.split == "train"]
    for view in views:
        if view != PLAIN:
            _encode_missing(config, encoder, store, train, view)
    return store


def _encode_missing(
    config: Config,
    encoder: Encoder,
    store: FeatureStore,
    examples: Sequence[Example],
    view: View,
) -> None:
    paths = [e.path for e in examples]
    hashes = [view.name(c) for c in content_hashes(paths, store.folder / "hashes.json")]
    missing = len(store.missing(hashes))
    if missing:
        have = len(set(hashes)) - missing
        what = "mirrored pictures" if view.mirrored else "pictures"
        if view.crop:
            what += f" (crop {view.crop})"
        console.print(f"encoding {missing:,} {what} into {store.folder} ({have:,} are there)")
        with progress_bar() as bar:
            task = bar.add_task("encode", total=missing, unit="pictures", note="")
            encode_pictures(
                encoder,
                store,
                paths,
                hashes,
                workers=config.train.workers,
                view=view,
                on_progress=lambda count: bar.advance(task, count),
            )


def all_positions(split: SplitData, batch_size: int) -> list[np.ndarray]:
    """Positions of a split's pictures, in order, in batches."""
    count = len(split.examples)
    return [np.arange(i, min(i + batch_size, count)) for i in range(0, count, batch_size)]
