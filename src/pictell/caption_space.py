"""A space in which pictures and captions meet: what a picture's captions would say, from features.

    space = CaptionSpace.fit(features, references)
    similarity = space.similarity(features_of_other_pictures)  # (B, N), cosines

Two pictures that look alike to a CNN need not be told of alike. So the words of the training
pictures' captions are regressed on their features, and a new picture is compared with the training
pictures by what its captions would say and what theirs do say. A picture's captions are the vector
of their words' counts, averaged over its captions, times log(N / pictures with the word).

The regression is linear, ridge and of reduced rank (Izenman 1975, "Reduced-rank regression for the
multivariate linear model", Journal of Multivariate Analysis 5; Mukherjee and Zhu 2011, "Reduced
rank ridge regression and its kernel extensions", Statistical Analysis and Data Mining 4). With
G = X'X + l I = L L' and the ridge estimate W = G^-1 X'Y, the best estimate of rank R is W V V',
where V are the first right singular vectors of L'W = L^-1 X'Y. V spans the space: pictures come
into it by x W V, captions by y V.

Axes: N training pictures, B other pictures, D feature width, W words, R dimensions of the space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Chosen together on Flickr8k's validation split, see docs/results.md.
RANK = 256
RIDGE = 0.1
_MIN_PICTURES = 3  # that have a word in their captions; what fewer have says little
_PICTURES_AT_ONCE = 1_000  # whose counts of all words are held at once

References = Sequence[Sequence[Sequence[int]]]  # of each picture, captions in numbers of words


@dataclass(frozen=True)
class CaptionSpace:
    """See the head of this file.

    Attributes:
        mean: (D,) of the training pictures' features.
        scale: (D,) their standard deviation.
        projection: (D, R) from standardised features of length 1 into the space.
        captions: (N, R) the training pictures' captions in the space, of length 1; kept in half
            precision.
    """

    mean: np.ndarray
    scale: np.ndarray
    projection: np.ndarray
    captions: np.ndarray

    @classmethod
    def fit(
        cls, features: np.ndarray, references: References, *, rank: int = RANK, ridge: float = RIDGE
    ) -> CaptionSpace:
        """The space of these pictures.

        Args:
            features: (N, D), one vector a picture.
            references: Their captions.
            rank: R at most; fewer where words or pictures are few, and none (then all similarities
                are 0) where no word is in the captions of three pictures or each is in all.
            ridge: l, in units of the mean of X'X's diagonal.
        """
        mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
        inputs = _standardised(features, mean, scale)  # (N, D)
        words = _Words(references)
        products = torch.zeros(features.shape[1], words.count)  # X'Y
        for start, counts in words.parts():
            products += inputs[start : start + len(counts)].T @ counts
        products -= inputs.sum(dim=0)[:, None] * words.mean  # X'(Y - mean of Y)
        gram = inputs.T @ inputs
        gram += ridge * gram.diagonal().mean().clamp_min(1e-6) * torch.eye(len(gram))
        lower = torch.linalg.cholesky(gram)
        fitted = torch.linalg.solve_triangular(lower, products, upper=False)  # L'W
        space = _right_singular_vectors(fitted, min(rank, len(features) - 1))  # (W, R)
        projection = torch.linalg.solve_triangular(lower.T, fitted @ space, upper=True)
        captions = torch.cat([(counts - words.mean) @ space for _, counts in words.parts()])
        rounded = _of_length_one(captions).numpy().astype(np.float16)
        return cls(mean, scale, projection.numpy(), rounded.astype(np.float32))

    def similarity(self, features: np.ndarray) -> np.ndarray:
        """Cosine between what captions of pictures (B, D) would say and the training captions.

        Returns:
            (B, N).
        """
        foreseen = _standardised(features, self.mean, self.scale) @ torch.from_numpy(
            self.projection
        )
        return (_of_length_one(foreseen) @ torch.from_numpy(self.captions).T).numpy()


class _Words:
    """The words of the captions, weighted, some pictures at a time.

    Attributes:
        count: W, words that enough pictures have.
        mean: (W,) over the pictures.
    """

    def __init__(self, references: References) -> None:
        pictures = Counter(word for captions in references for word in set().union(*captions))
        kept = sorted(word for word, count in pictures.items() if count >= _MIN_PICTURES)
        self.count = len(kept)
        self._columns = {word: column for column, word in enumerate(kept)}
        shares = torch.tensor([pictures[word] / len(references) for word in kept])
        self._weights = -shares.log()
        self._references = references
        total = torch.zeros(self.count)
        for _, counts in self.parts():
            total += counts.sum(dim=0)
        self.mean = total / max(len(references), 1)

    def parts(self) -> Iterator[tuple[int, Tensor]]:
        """Position of the first picture, and (pictures, W) of some in turn."""
        for start in range(0, len(self._references), _PICTURES_AT_ONCE):
            some = self._references[start : start + _PICTURES_AT_ONCE]
            counts = np.zeros((len(some), self.count), np.float32)
            for row, captions in zip(counts, some, strict=True):
                columns = [
                    self._columns[word]
                    for words in captions
                    for word in words
                    if word in self._columns
                ]
                np.add.at(row, columns, 1 / max(len(captions), 1))
            yield start, torch.from_numpy(counts) * self._weights


def _standardised(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> Tensor:
    return _of_length_one(torch.from_numpy((features - mean) / scale).float())


def _of_length_one(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)


def _right_singular_vectors(matrix: Tensor, rank: int) -> Tensor:
    """The first right singular vectors of (D, W) that are not of the null space: (W, R)."""
    # The smaller product's eigenvectors: exact, always the same, and quicker than all of an SVD.
    narrow = matrix.shape[1] <= matrix.shape[0]
    squares, vectors = torch.linalg.eigh(matrix.T @ matrix if narrow else matrix @ matrix.T)
    squares, vectors = squares.flip(0)[:rank], vectors.flip(1)[:, :rank]
    sure = squares > 1e-5 * squares[:1]  # what is smaller is rounding
    squares, vectors = squares[sure], vectors[:, sure]
    return vectors if narrow else matrix.T @ vectors / squares.sqrt()
