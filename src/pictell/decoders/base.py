"""What all decoders share: one way to be trained and one way to be stepped.

A decoder is trained by `teacher_forced` and used by `start` and `step`; search and training know
nothing else of it. A new decoder is one new file with a class that is registered here by name.

Axes: B images, C cells of the encoder, L regions, D width of a cell as the decoder sees it,
K beams, T words, E width of a word's vector, H hidden, N real tokens of a batch, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from pictell.config import DecoderConfig
from pictell.decoders.dropout import dropped
from pictell.decoders.regions import RegionReader
from pictell.encoders.grid import decoder_grid, pooling_matrix
from pictell.errors import InputError


@dataclass(frozen=True)
class State:
    """Where a decoder stands in the captions that it writes.

    Attributes:
        images: Tensors that belong to a picture, (B, ...): shared by its beams, never copied.
        beams: Tensors that belong to a caption being written, (B, K, ...).
    """

    images: tuple[Tensor, ...]
    beams: tuple[Tensor, ...]

    def select_images(self, index: Tensor) -> State:
        """Keep some pictures: index (B',) of the old B."""
        return State(tuple(t[index] for t in self.images), tuple(t[index] for t in self.beams))

    def select_beams(self, index: Tensor) -> State:
        """Reorder or multiply the beams of each picture: index (B, K') of the old K."""
        rows = torch.arange(len(index), device=index.device)[:, None]
        return State(self.images, tuple(t[rows, index] for t in self.beams))


@dataclass(frozen=True)
class Step:
    """What one step gives.

    Attributes:
        logits: (B, K, V) of the next word.
        state: After the word that was read.
        attention: (B, K, L), sums to one over the regions; None for a decoder without.
        gate: (B, K, G) numbers from 0 to 1, whose mean says how much of what was attended to the
            next word is given; None for a decoder without.
    """

    logits: Tensor
    state: State
    attention: Tensor | None = None
    gate: Tensor | None = None


@dataclass(frozen=True)
class TeacherForced:
    """What teacher forcing gives.

    Attributes:
        logits: (N, V), only for real tokens, in the order of `targets_of`.
        attention_sums: (B, L) sum over a caption's real words of its attention, or None.
    """

    logits: Tensor
    attention_sums: Tensor | None


class Decoder(nn.Module, ABC):
    """Regions to words.

    `regions` brings the encoder's cells into the form that the decoder sees, `region_size` is their
    width D then; `teacher_forced` and `start` begin with it.

    Args:
        config: Widths and options.
        vocab_size: V, special words included.
        feature_size: Width of an encoder's cell.
        cells: Rows and columns of the encoder's grid.
        pooled_grid: Side of the adaptive average pooling before the decoder; 0 for none.

    Attributes:
        attends: Whether each step gives attention.
        loops: Whether `teacher_forced` reads word by word. All that it does for captions of one
            length must be work of the features' device then (see training/cuda_graphs.py).
        options: Fields of `DecoderConfig` that not all decoders read, but this one does.
    """

    attends: ClassVar[bool] = True
    loops: ClassVar[bool] = False
    options: ClassVar[frozenset[str]] = frozenset()
    pool: Tensor
    pool_mean: Tensor
    embedding: nn.Embedding
    vocabulary: nn.Linear

    def __init__(
        self,
        config: DecoderConfig,
        *,
        vocab_size: int,
        feature_size: int,
        cells: tuple[int, int],
        pooled_grid: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.regions = RegionReader(config, feature_size)
        self.region_size = config.region_projection or feature_size
        self.grid = decoder_grid(cells, pooled_grid)
        pool = pooling_matrix(cells, self.grid)  # (L, C)
        self.register_buffer("pool", pool.float(), persistent=False)
        self.register_buffer("pool_mean", pool.mean(dim=0).float(), persistent=False)  # (C,)

    def mean_region(self, features: Tensor) -> Tensor:
        """Mean of the pooled regions without pooling them: (B, C, D) -> (B, D)."""
        return self.pool_mean @ features

    def word_vectors(self, words: Tensor) -> Tensor:
        """Vectors of words that are read, with dropout in training: (...) -> (..., E)."""
        return dropped(self.embedding(words), self.config.embedding_dropout, self.training)

    def word_products(self, words: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """What a layer makes of the words of given captions: (N,) -> (N, m).

        Of the words of a batch less than half are different ones (157 of 377 in Flickr8k's batches
        of 32 captions): each is multiplied once, and so is the sum of its gradients. On a GPU the
        product costs less than to wait for their number; with dropout no two are the same.
        """
        if words.is_cuda or (self.training and self.config.embedding_dropout):
            return linear(self.word_vectors(words), weight, bias)
        distinct, places = words.unique(return_inverse=True)
        return embedding(places, linear(self.embedding(distinct), weight, bias))

    def tie_words(self) -> None:
        """Predict words with the vectors by which they are read (Press and Wolf 2017)."""
        if self.vocabulary.weight.shape != self.embedding.weight.shape:
            raise InputError(
                f"decoder.tied_embedding: {self.config.name} reads words as vectors of "
                f"{self.embedding.weight.shape[1]} numbers, but predicts them from "
                f"{self.vocabulary.weight.shape[1]}"
            )
        self.vocabulary.weight = self.embedding.weight

    @abstractmethod
    def teacher_forced(
        self, features: Tensor, words: Tensor, lengths: Tensor, owners: Tensor | None = None
    ) -> TeacherForced:
        """Predict each next word of given captions.

        Args:
            features: (B, C, D) cells of the encoder; with `owners` (P, C, D) of P pictures.
            words: (B, T) numbers that are read, `<start>` first, padded at the end.
            lengths: (B,) real words that are read, on the CPU, falling.
            owners: (B,) which of the P pictures each caption belongs to: what depends on the
                picture alone is then computed once for all its captions.
        """

    def compile_loops(self) -> bool:
        """Fuse what torch.compile can fuse, where there is a compiler; says whether it did."""
        return False

    @abstractmethod
    def start(self, features: Tensor) -> State:
        """State before the first word, with one beam: features (B, C, D)."""

    @abstractmethod
    def step(self, state: State, words: Tensor) -> Step:
        """Read one word a beam, words (B, K), and predict the next."""


def pack(padded: Tensor, lengths: Tensor) -> Tensor:
    """Real entries only: (B, T, ...) -> (N, ...), time by time, long captions first."""
    return pack_padded_sequence(padded, lengths, batch_first=True).data


def unpack(packed: Tensor, counts: Sequence[int]) -> Tensor:
    """The way back: (N, ...) with n_t rows for word t -> (B, T, ...), zeros for padding."""
    return pad_sequence(list(packed.split(list(counts))))


def per_caption(of_pictures: Tensor, owners: Tensor | None) -> Tensor:
    """Rows of pictures (P, ...) as rows of their captions (B, ...)."""
    return of_pictures if owners is None else of_pictures.index_select(0, owners)


def counts_of(lengths: Tensor) -> list[int]:
    """For each word how many captions have it: lengths (B,), falling -> T numbers, falling."""
    steps = torch.arange(int(lengths[0]))
    return (lengths[None] > steps[:, None]).sum(dim=1).tolist()


def targets_of(targets: Tensor, lengths: Tensor) -> Tensor:
    """The words that are to be predicted, (B, T) -> (N,), in the order of the logits."""
    return pack(targets, lengths)


DECODERS = {
    "rnn": "pictell.decoders.rnn:RNNDecoder",
    "attention": "pictell.decoders.attention:AttentionDecoder",
    "adaptive": "pictell.decoders.adaptive:AdaptiveDecoder",
    "topdown": "pictell.decoders.topdown:TopDownDecoder",
    "transformer": "pictell.decoders.transformer:TransformerDecoder",
}


def decoder_class(name: str) -> type[Decoder]:
    """The class that is registered under a name.

    Raises:
        InputError: The name is unknown.
    """
    if name not in DECODERS:
        raise InputError(f"decoder.name is {name!r}; known: {', '.join(DECODERS)}")
    module, cls = DECODERS[name].split(":")
    return getattr(import_module(module), cls)


def build_decoder(
    config: DecoderConfig,
    *,
    vocab_size: int,
    feature_size: int,
    cells: tuple[int, int],
    pooled_grid: int,
) -> Decoder:
    """The configured decoder with fresh weights.

    Raises:
        InputError: The name is unknown.
    """
    decoder: Decoder = decoder_class(config.name)(
        config,
        vocab_size=vocab_size,
        feature_size=feature_size,
        cells=cells,
        pooled_grid=pooled_grid,
    )
    if config.tied_embedding:
        decoder.tie_words()
    return decoder
