"""How open the gate on the attended picture is while each word is chosen.

    gates = word_gates(decoder, features, [[4, 7, 9]], device=device)      # [[0.61, 0.34, 0.52]]

Some decoders scale what they attended to by numbers from 0 to 1 before they choose a word, one for
each feature or one for all (`Step.gate`). Their mean says how much of the picture a word was given.

Axes: B images, T words.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pictell.decoders.base import Decoder, State, Step
from pictell.decoders.search import follow


@torch.inference_mode()
def word_gates(
    decoder: Decoder, features: Tensor, captions: Sequence[list[int]], *, device: torch.device
) -> list[list[float]] | None:
    """The mean gate of each word of given captions; None if the decoder has no gate.

    Args:
        decoder: Any decoder.
        features: (B, C, D) cells of the encoder.
        captions: Word numbers of one caption per picture.
        device: Where all that lives.
    """
    means: list[Tensor] = []

    def watched(state: State, words: Tensor) -> Step:
        step = decoder.step(state, words)
        if step.gate is not None:
            means.append(step.gate[:, 0].mean(dim=-1))  # (B,)
        return step

    follow(watched, decoder.start(features), list(captions), device=device)
    if not means:
        return None
    table = torch.stack(means, dim=1).float().tolist()  # (B, T)
    return [row[: len(words)] for row, words in zip(table, captions, strict=True)]
