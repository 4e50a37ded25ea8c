"""Beam search, one picture at a time: the beams are the batch.

Axes: K beams, L regions, D feature width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PAD, START, END, UNKNOWN = range(4)


@torch.no_grad()
def beam_search(
    decoder: nn.Module,
    regions: Tensor,
    *,
    beam: int,
    max_length: int = 30,
    length_penalty: float = 0.7,
) -> list[int]:
    """The best caption of one picture, regions (L, D), as word numbers."""
    regions = regions[None]
    hidden, cell = decoder.start(regions)
    written, totals, words = [[]], torch.zeros(1), torch.tensor([START])
    ended: list[tuple[float, list[int]]] = []
    for t in range(max_length):
        seen = regions.expand(len(words), -1, -1)
        logits, hidden, cell, _ = decoder.step(seen, words, hidden, cell)
        log_probs = logits.log_softmax(dim=1)
        log_probs[:, [PAD, START, UNKNOWN] + ([END] if t == 0 else [])] = -torch.inf
        scores = (totals[:, None] + log_probs).flatten()  # (K * V,)
        best, where = scores.topk(min(2 * beam, len(scores)))
        parents, numbers = where // logits.shape[1], where % logits.shape[1]
        kept: list[int] = []
        for rank in range(len(best)):
            if numbers[rank] == END:
                if rank < beam:
                    score = best[rank].item() / (t + 1) ** length_penalty
                    ended.append((score, written[int(parents[rank])]))
            elif len(kept) < beam:
                kept.append(rank)
        if len(ended) >= beam:
            break
        written = [[*written[int(parents[r])], int(numbers[r])] for r in kept]
        totals, words, order = best[kept], numbers[kept], parents[kept]
        hidden, cell = hidden[order], cell[order]
    if ended:
        return max(ended[:beam])[1]
    return written[int(totals.argmax())]
