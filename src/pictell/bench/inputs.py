"""Batches as real ones are: lengths of Flickr8k's captions, features that are not zero.

batch = caption_batch(batch_size=32)
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pictell.data.batches import epoch_batches
from pictell.data.records import read_dataset
from pictell.data.text import START, get_tokenizer

DATASET = Path("data/flickr8k")  # where `pictell prepare flickr8k` puts it in the README


@cache
def caption_lengths(count: int = 30_000) -> np.ndarray:
    """Words of captions, `<end>` included: Flickr8k's where it is prepared, else such as those."""
    if (DATASET / "dataset.jsonl").exists():
        tokenize = get_tokenizer("en").tokenize
        train = [e for e in read_dataset(DATASET) if e.split == "train"]
        words = [len(tokenize(caption)) + 1 for example in train for caption in example.captions]
        return np.resize(np.array(words, dtype=np.int64), count)
    lengths = np.random.default_rng(0).gamma(8.0, 1.35, count).round() + 1  # mean 11.8, spread 3.8
    return lengths.clip(2, 38).astype(np.int64)


def caption_batch(batch_size: int, vocab_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The words of a batch of captions of nearly one length: the median batch by its words.

    Returns:
        What is read (B, T), what is predicted (B, T), and the lengths (B,), falling.
    """
    lengths = caption_lengths()
    batches = epoch_batches(lengths, batch_size, seed=0, epoch=0)
    by_words = sorted(batches, key=lambda batch: int(lengths[batch].sum()))
    return _words_of(lengths[by_words[len(by_words) // 2]], vocab_size)


def picture_batch(
    pictures: int, captions: int, vocab_size: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The words of a batch of pictures with so many captions each: the median batch by its words.

    Returns:
        As `caption_batch`, and to which picture each caption belongs, (B,).
    """
    lengths = caption_lengths()
    by_picture = lengths[: len(lengths) // captions * captions].reshape(-1, captions)
    order = np.random.default_rng(0).permutation(len(by_picture))
    batches = [by_picture[order[i : i + pictures]] for i in range(0, len(order), pictures)]
    by_words = sorted((b for b in batches if len(b) == pictures), key=lambda batch: batch.sum())
    chosen = by_words[len(by_words) // 2].flatten()
    falling = np.argsort(-chosen, kind="stable")
    return *_words_of(chosen[falling], vocab_size), torch.from_numpy(falling // captions)


def _words_of(lengths: np.ndarray, vocab_size: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    size = (len(lengths), int(lengths[0]))
    words = torch.randint(4, vocab_size, size, generator=generator)
    targets = torch.randint(4, vocab_size, size, generator=generator)
    words[:, 0] = START
    return words, targets, torch.from_numpy(lengths)


def region_features(pictures: int, cells: int, width: int) -> Tensor:
    """Features like a CNN's last ReLU gives: half of them zero, none negative."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(pictures, cells, width, generator=generator).relu()
