"""How open the gate on the attended picture is while each word is chosen.

    gates = word_gates(decoder, features, [[4, 7, 9]], device=device)      # [[0.61, 0.34, 0.52]]

The attention decoder scales what it attended to by a gate, g = sigmoid(G h + b), a number for each
of the D features (Xu et al. 2015, section 4.2.1, there a single number). Their mean says how much
of the picture a word was given.

Axes: B images, K beams, D feature width, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pictell.decoders.attention import AttentionDecoder
from pictell.decoders.base import Decoder, State, Step
from pictell.decoders.search import follow


def has_gate(decoder: Decoder) -> bool:
    """Whether the decoder has a gate to speak of."""
    return isinstance(decoder, AttentionDecoder) and decoder.config.gate


def gate_of(decoder: AttentionDecoder, hidden: Tensor) -> Tensor:
    """The gate for the word that is chosen next: hidden states (..., H) -> (..., D)."""
    first = decoder.config.attention_size  # query, gate and LSTM gates are one product, in order
    width = decoder.from_context.in_features
    rows = slice(first, first + width)
    weight, bias = decoder.from_hidden.weight[rows], decoder.from_hidden.bias[rows]
    return torch.nn.functional.linear(hidden, weight, bias).sigmoid()


@torch.inference_mode()
def word_gates(
    decoder: Decoder, features: Tensor, captions: Sequence[list[int]], *, device: torch.device
) -> list[list[float]]:
    """The mean gate of each word of given captions.

    Args:
        decoder: An attention decoder with a gate.
        features: (B, C, D) cells of the encoder.
        captions: Word numbers of one caption per picture.
        device: Where all that lives.
    """
    assert isinstance(decoder, AttentionDecoder) and decoder.config.gate
    means: list[Tensor] = []

    def watched(state: State, words: Tensor) -> Step:
        means.append(gate_of(decoder, state.beams[0][:, 0]).mean(dim=-1))  # (B,)
        return decoder.step(state, words)

    follow(watched, decoder.start(features), list(captions), device=device)
    table = torch.stack(means, dim=1).float().tolist()  # (B, T)
    return [row[: len(words)] for row, words in zip(table, captions, strict=True)]
