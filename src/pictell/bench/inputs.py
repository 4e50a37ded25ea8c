"""Batches as real ones are: lengths of Flickr8k's captions, features that are not zero.

batch = caption_batch(batch_size=32)
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pictell.bench.arithmetic import Shapes
from pictell.data.batches import epoch_batches
from pictell.data.records import read_dataset
from pictell.data.text import END, SPECIAL_WORDS, START, Vocabulary, get_tokenizer

DATASET = Path("data/flickr8k")  # where `pictell prepare flickr8k` puts it in the README
VOCABULARY = Shapes.vocabulary  # Flickr8k's words that its training captions hold five times
FIRST = len(SPECIAL_WORDS)  # number of the first real word


@cache
def captions_of(vocab_size: int, count: int = 30_000) -> list[np.ndarray]:
    """Captions as numbers, `<start>` and `<end>` included.

    Flickr8k's training captions where it is prepared (again from the first if more are asked; words
    beyond the vocabulary's size are unknown), else such as those: as long, and with as many
    different words in a batch of 32, of which a word of rank r comes as often as 1 / (r + 2)^1.2
    says (Mandelbrot 1953).
    """
    if (DATASET / "dataset.jsonl").exists():
        tokenize = get_tokenizer("en").tokenize
        train = [e for e in read_dataset(DATASET) if e.split == "train"]
        tokens = [tokenize(caption) for example in train for caption in example.captions]
        vocabulary = Vocabulary.fit(tokens)
        vocabulary = Vocabulary(vocabulary.words[:vocab_size])
        given = [np.array([START, *vocabulary.encode(words), END]) for words in tokens]
        return [given[i % len(given)] for i in range(count)]
    random = np.random.default_rng(0)
    lengths = random.gamma(8.0, 1.35, count).round().clip(1, 37).astype(np.int64)  # mean 10.8
    often = 1 / (np.arange(1, vocab_size - FIRST + 1) + 2.0) ** 1.2
    words = FIRST + random.choice(len(often), lengths.sum(), p=often / often.sum())
    return [np.array([START, *own, END]) for own in np.split(words, np.cumsum(lengths)[:-1])]


def caption_lengths(count: int = 30_000) -> np.ndarray:
    """How many words captions have, `<end>` included."""
    return lengths_of(captions_of(VOCABULARY, count))


def lengths_of(captions: list[np.ndarray]) -> np.ndarray:
    """The same of given captions."""
    return np.array([len(words) - 1 for words in captions], dtype=np.int64)


def caption_batch(batch_size: int, vocab_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The words of a batch of captions of nearly one length: the median batch by its words.

    Returns:
        What is read (B, T), what is predicted (B, T), and the lengths (B,), falling.
    """
    words = captions_of(vocab_size)
    lengths = lengths_of(words)
    batches = epoch_batches(lengths, batch_size, seed=0, epoch=0)
    by_words = sorted(batches, key=lambda batch: int(lengths[batch].sum()))
    return _as_batch([words[i] for i in by_words[len(by_words) // 2]])


def picture_batch(
    pictures: int, each: int, vocab_size: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The words of a batch of pictures with `each` captions: the median batch by its words.

    Returns:
        As `caption_batch`, and to which picture each caption belongs, (B,).
    """
    words = captions_of(vocab_size)
    lengths = lengths_of(words)
    by_picture = np.arange(len(words) // each * each).reshape(-1, each)
    order = np.random.default_rng(0).permutation(len(by_picture))
    batches = [by_picture[order[i : i + pictures]] for i in range(0, len(order), pictures)]
    whole = [batch.flatten() for batch in batches if len(batch) == pictures]
    chosen = sorted(whole, key=lambda batch: lengths[batch].sum())[len(whole) // 2]
    falling = np.argsort(-lengths[chosen], kind="stable")
    batch = _as_batch([words[i] for i in chosen[falling]])
    return *batch, torch.from_numpy(falling // each)


def _as_batch(captions: list[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    """Captions of falling length; what stands behind their ends is padding."""
    read = pad_sequence([torch.from_numpy(words[:-1]) for words in captions], batch_first=True)
    targets = pad_sequence([torch.from_numpy(words[1:]) for words in captions], batch_first=True)
    return read, targets, torch.tensor([len(words) - 1 for words in captions])


def region_features(pictures: int, cells: int, width: int) -> Tensor:
    """Features like a CNN's last ReLU gives: half of them zero, none negative."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(pictures, cells, width, generator=generator).relu()
