"""Keep a search from writing the same words in a row twice.

    block_repeats(scores, words, size=3)       # in place

Axes: B images, K beams, V vocabulary, T words, W runs of words.
"""

from __future__ import annotations

import torch
from torch import Tensor


def block_repeats(scores: Tensor, words: Tensor, size: int) -> None:
    """Set to -inf the score of each word that would end a run which the caption holds already.

    Paulus et al. 2018, "A Deep Reinforced Model for Abstractive Summarization", section 2.5.

    Args:
        scores: (B, K, V) of the next word; changed.
        words: (B, K, T) written so far.
        size: Words in a run.
    """
    if words.shape[2] < size:
        return
    runs = words.unfold(2, size, 1)  # (B, K, W, size)
    last = words[:, :, words.shape[2] - size + 1 :]  # (B, K, size - 1)
    same = (runs[..., :-1] == last[:, :, None]).all(dim=-1)  # (B, K, W)
    picture, beam, run = same.nonzero(as_tuple=True)
    scores[picture, beam, runs[picture, beam, run, -1]] = -torch.inf
