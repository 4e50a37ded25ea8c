"""The optimiser of a training: which parameters, at which rates.

optimizer = build_optimizer(config.train, decoder, encoder)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from pictell.config import TrainConfig
from pictell.decoders.base import Decoder
from pictell.encoders.encoder import Encoder


def build_optimizer(
    train: TrainConfig, decoder: Decoder, encoder: Encoder
) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019), a rate for each network."""
    parts = [(list(decoder.parameters()), train.decoder_lr)]
    if encoder.trained:
        parts.append((encoder.trained, train.encoder_lr))
    fused = parts[0][0][0].device.type in ("cpu", "cuda")
    if train.optimizer == "adam":
        return torch.optim.Adam([{"params": p, "lr": lr} for p, lr in parts], fused=fused)
    groups = [group for p, lr in parts for group in _decayed_and_not(p, lr, train.weight_decay)]
    return torch.optim.AdamW(groups, fused=fused)


def _decayed_and_not(
    parameters: Sequence[nn.Parameter], rate: float, decay: float
) -> list[dict[str, Any]]:
    """Vectors are biases and the weights of norms: shrinking them only moves what they centre."""
    matrices = [p for p in parameters if p.dim() > 1]
    vectors = [p for p in parameters if p.dim() <= 1]
    return [
        {"params": matrices, "lr": rate, "weight_decay": decay},
        {"params": vectors, "lr": rate, "weight_decay": 0.0},
    ]
