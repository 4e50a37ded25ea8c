"""A small transformer decoder: each word reads all words before it and the picture's regions.

    decoder = build_decoder(DecoderConfig(name="transformer"), vocab_size=2600, feature_size=2048,
                            cells=(8, 8), pooled_grid=14)

After Vaswani et al. 2017, "Attention Is All You Need", with the layer norms before the sublayers
(Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture") and sinusoidal
positions, so that captions may have any length. The picture's cells go through a linear layer and a
layer norm of their own; they are not given positions, and do not attend to each other.

Scores of dot-product attention are linear in the keys, so that they are computed for the C cells
and pooled: (P K) q = P (K q). So only the softmax is done for L regions (see encoders/grid.py). The
layer norm of the cells stands before the pooling, with which it would not commute.

Axes: see base.py; W width (hidden_size), E embedding width, h heads, w = W / h width of a head.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from pictell.config import DecoderConfig
from pictell.decoders.base import Decoder, State, Step, TeacherForced, pack, per_caption
from pictell.decoders.dropout import Dropout
from pictell.decoders.repeated import RepeatedLinear


def positions(start: int, count: int, width: int, like: Tensor) -> Tensor:
    """Sines and cosines that tell places apart (Vaswani et al. 2017, section 3.5): (count, W)."""
    how = {"dtype": torch.promote_types(like.dtype, torch.float32), "device": like.device}
    places = torch.arange(start, start + count, **how)[:, None]
    even = torch.arange(0, width, 2, **how)
    angles = places * torch.exp(even * (-math.log(10_000) / width))  # (count, W / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(like.dtype)


def split_heads(rows: Tensor, heads: int) -> Tensor:
    """(..., T, h w) -> (..., h, T, w)."""
    return rows.unflatten(-1, (heads, -1)).transpose(-3, -2)


def join_heads(rows: Tensor) -> Tensor:
    """(..., h, T, w) -> (..., T, h w)."""
    return rows.transpose(-3, -2).flatten(-2)


class Layer(nn.Module):
    """x + self-attention; + attention over the picture; + two layers with GELU, each after a norm.

    Args:
        width: W.
        heads: h, which divides W.
        dropout: Share of each sublayer's output that is dropped in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.word_norm, self.picture_norm, self.wide_norm = (nn.LayerNorm(width) for _ in range(3))
        self.word_query = nn.Linear(width, width)
        self.word_memory = nn.Linear(width, 2 * width)  # keys and values, head by head
        self.word_out = nn.Linear(width, width)
        self.picture_query = nn.Linear(width, width)
        self.picture_memory = nn.Linear(width, 2 * width)
        self.picture_out = nn.Linear(width, width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.dropout = Dropout(dropout)

    def remember_words(self, x: Tensor) -> Tensor:
        """What self-attention reads of words x (B, T, W): keys and values, (B, h, T, 2w)."""
        return split_heads(self.word_memory(self.word_norm(x)), self.heads)

    def remember_picture(self, cells: Tensor) -> Tensor:
        """What is read of the pictures' cells (B, C, W): keys and values, (B, h, C, 2w)."""
        return split_heads(self.picture_memory(cells), self.heads).contiguous()

    def read_words(self, x: Tensor, memory: Tensor, *, causal: bool) -> Tensor:
        """Self-attention: x (B, T, W) over words (B, h, T', 2w)."""
        query = split_heads(self.word_query(self.word_norm(x)), self.heads)
        keys, values = memory.chunk(2, dim=-1)
        read = scaled_dot_product_attention(query, keys, values, is_causal=causal)
        return x + self.dropout(self.word_out(join_heads(read)))

    def read_picture(self, x: Tensor, memory: Tensor, pool: Tensor) -> tuple[Tensor, Tensor]:
        """Attention over the picture: x (B, T, W) over cells (B, h, C, 2w).

        Returns:
            x, and the mean attention of the heads, (B, T, L).
        """
        # The pooling stands between scores and softmax, and the weights are wanted: so no
        # scaled_dot_product_attention here.
        query = split_heads(self.picture_query(self.picture_norm(x)), self.heads)
        keys, values = memory.chunk(2, dim=-1)
        scores = (query * query.shape[-1] ** -0.5) @ keys.transpose(-1, -2)  # (B, h, T, C)
        attention = (scores @ pool.t()).softmax(dim=-1)  # (B, h, T, L)
        read = (attention.to(values.dtype) @ pool.to(values.dtype)) @ values  # (B, h, T, w)
        x = x + self.dropout(self.picture_out(join_heads(read)))
        return x, attention.mean(dim=1)

    def think(self, x: Tensor) -> Tensor:
        """Two linear layers, the first four times as wide."""
        return x + self.dropout(self.narrow(gelu(self.widen(self.wide_norm(x)))))


class TransformerDecoder(Decoder):
    """Layers of self-attention over the words so far and attention over the regions.

    The attention that is told is that of the last layer, the mean over its heads.
    """

    options = frozenset({"layers", "heads", "layer_dropout"})

    def __init__(self, config: DecoderConfig, **shape: Any) -> None:
        super().__init__(config, **shape)
        width, size = config.hidden_size, config.embedding_size
        self.embedding = nn.Embedding(self.vocab_size, size)
        self.to_width = nn.Linear(size, width) if size != width else nn.Identity()
        self.cells = nn.Sequential(nn.Linear(self.region_size, width), nn.LayerNorm(width))
        self.layers = nn.ModuleList(
            Layer(width, config.heads, config.layer_dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(config.dropout)
        self.vocabulary = RepeatedLinear(width, self.vocab_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.vocabulary.weight, -0.1, 0.1)
        nn.init.zeros_(self.vocabulary.bias)

    def _embed(self, words: Tensor, start: int) -> Tensor:
        """Words (..., T) that stand at the places from `start` on, as (..., T, W)."""
        # Scaled up, so that a word is not lost beside its place (Vaswani et al. 2017, section 3.4).
        x = self.to_width(self.word_vectors(words) * self.config.embedding_size**0.5)
        return x + positions(start, words.shape[-1], x.shape[-1], x)

    def _memories(self, features: Tensor) -> tuple[Tensor, ...]:
        """What each layer reads of the pictures: keys and values of their cells, (B, h, C, 2w)."""
        cells = self.cells(self.regions(features))
        return tuple(layer.remember_picture(cells) for layer in self._layers())

    def _layers(self) -> list[Layer]:
        return list(self.layers)  # type: ignore[arg-type]

    def teacher_forced(
        self, features: Tensor, words: Tensor, lengths: Tensor, owners: Tensor | None = None
    ) -> TeacherForced:
        memories = (per_caption(memory, owners) for memory in self._memories(features))
        x = self._embed(words, 0)  # (B, T, W)
        # Padding stands at the end, where no real word looks.
        for layer, memory in zip(self._layers(), memories, strict=True):
            x = layer.read_words(x, layer.remember_words(x), causal=True)
            x, attention = layer.read_picture(x, memory, self.pool)
            x = layer.think(x)
        real = torch.arange(words.shape[1])[None] < lengths[:, None]  # (B, T)
        sums = (attention * real.to(attention)[:, :, None]).sum(dim=1)  # (B, L)
        x = self.dropout(self.norm(pack(x, lengths)))  # (N, W)
        return TeacherForced(self.vocabulary(x), sums)

    def start(self, features: Tensor) -> State:
        heads = self.config.heads
        nothing = features.new_zeros(
            len(features), 1, heads, 0, 2 * self.config.hidden_size // heads
        )
        return State(self._memories(features), (nothing,) * len(self.layers))

    def step(self, state: State, words: Tensor) -> Step:
        images, beams = words.shape
        x = self._embed(words.reshape(-1, 1), state.beams[0].shape[3])  # (B * K, 1, W)
        caches = []  # keys and values of the words so far, (B, K, h, T, 2w)
        for layer, memory, cache in zip(self._layers(), state.images, state.beams, strict=True):
            new = torch.cat([cache.flatten(0, 1), layer.remember_words(x)], dim=2)
            x = layer.read_words(x, new, causal=False)
            # Beams stand where words stand in training: each reads the picture by itself.
            x, attention = layer.read_picture(x.view(images, beams, -1), memory, self.pool)
            x = layer.think(x).view(images * beams, 1, -1)
            caches.append(new.unflatten(0, (images, beams)))
        logits = self.vocabulary(self.norm(x)).view(images, beams, -1)
        return Step(logits, State(state.images, tuple(caches)), attention)
