"""Both decoders word by word: after Xu et al. 2015 and Vinyals et al. 2015.

The encoder's cells are pooled to L = 196 regions; at each word the regions are projected to keys,
scored, and summed, an LSTMCell reads word and context, and a product with the vocabulary follows.
Captions stand in order of falling length, and at each word only those that have it are read.

Axes: B captions, C cells, L regions, D feature width, T words, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d


def pool_regions(features: Tensor, cells: tuple[int, int], grid: int) -> Tensor:
    """(B, C, D) -> (B, L, D) by adaptive average pooling of the grid."""
    images = features.transpose(1, 2).unflatten(2, cells)  # (B, D, rows, columns)
    return adaptive_avg_pool2d(images, grid).flatten(2).transpose(1, 2).contiguous()


class TextbookAttention(nn.Module):
    """Soft attention: the regions are looked at anew for each word."""

    def __init__(self, vocab_size: int, feature_size: int, width: int = 512) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.initial_hidden = nn.Linear(feature_size, width)
        self.initial_cell = nn.Linear(feature_size, width)
        self.key = nn.Linear(feature_size, width)
        self.query = nn.Linear(width, width)
        self.score = nn.Linear(width, 1)
        self.gate = nn.Linear(width, feature_size)
        self.lstm = nn.LSTMCell(width + feature_size, width)
        self.dropout = nn.Dropout(0.5)
        self.vocabulary = nn.Linear(width, vocab_size)

    def attend(self, regions: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Context (B, D) and attention (B, L)."""
        summed = self.key(regions) + self.query(hidden)[:, None]  # (B, L, A)
        alpha = self.score(summed.relu()).squeeze(2).softmax(dim=1)  # (B, L)
        return (regions * alpha[:, :, None]).sum(dim=1), alpha

    def start(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden and cell state before the first word, from the mean region."""
        mean = regions.mean(dim=1)
        return self.initial_hidden(mean), self.initial_cell(mean)

    def step(
        self, regions: Tensor, words: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Read one word for each caption: logits (B, V), hidden, cell, attention."""
        context, alpha = self.attend(regions, hidden)
        context = self.gate(hidden).sigmoid() * context
        read = torch.cat([self.embedding(words), context], dim=1)
        hidden, cell = self.lstm(read, (hidden, cell))
        return self.vocabulary(self.dropout(hidden)), hidden, cell, alpha

    def forward(self, regions: Tensor, words: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) and attention (B, T, L), zero where a caption has ended."""
        batch, longest = words.shape
        hidden, cell = self.start(regions)
        logits = regions.new_zeros(batch, longest, self.vocabulary.out_features)
        alphas = regions.new_zeros(batch, longest, regions.shape[1])
        for t in range(longest):
            n = int((lengths > t).sum())
            logits[:n, t], hidden, cell, alphas[:n, t] = self.step(
                regions[:n], words[:n, t], hidden[:n], cell[:n]
            )
        return logits, alphas


class TextbookRNN(nn.Module):
    """The picture in the first state only; an LSTMCell word by word."""

    def __init__(self, vocab_size: int, feature_size: int, width: int = 512) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.initial_hidden = nn.Sequential(nn.Linear(feature_size, width), nn.BatchNorm1d(width))
        self.initial_cell = nn.Sequential(nn.Linear(feature_size, width), nn.BatchNorm1d(width))
        self.lstm = nn.LSTMCell(width, width)
        self.dropout = nn.Dropout(0.5)
        self.vocabulary = nn.Linear(width, vocab_size)

    def start(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden and cell state before the first word, from the mean region."""
        mean = regions.mean(dim=1)
        return self.initial_hidden(mean), self.initial_cell(mean)

    def step(
        self, regions: Tensor, words: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        """Read one word for each caption: logits (B, V), hidden, cell."""
        hidden, cell = self.lstm(self.embedding(words), (hidden, cell))
        return self.vocabulary(self.dropout(hidden)), hidden, cell, None

    def forward(self, regions: Tensor, words: Tensor, lengths: Tensor) -> tuple[Tensor, None]:
        """Logits (B, T, V), zero where a caption has ended."""
        batch, longest = words.shape
        hidden, cell = self.start(regions)
        logits = regions.new_zeros(batch, longest, self.vocabulary.out_features)
        for t in range(longest):
            n = int((lengths > t).sum())
            logits[:n, t], hidden, cell, _ = self.step(
                regions[:n], words[:n, t], hidden[:n], cell[:n]
            )
        return logits, None


def textbook_loss(
    logits: Tensor, alphas: Tensor | None, targets: Tensor, lengths: Tensor
) -> Tensor:
    """Mean cross-entropy of the real words, plus the doubly stochastic term (Xu et al., eq. 14)."""
    real = torch.arange(targets.shape[1])[None] < lengths[:, None]
    loss = nn.functional.cross_entropy(logits[real], targets[real])
    if alphas is not None:
        loss = loss + ((1 - alphas.sum(dim=1)) ** 2).mean()
    return loss
