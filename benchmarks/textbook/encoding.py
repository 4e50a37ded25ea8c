"""The encoder in torch's default layout, run for each caption of each epoch.

Axes: B pictures, D feature width, S side of the picture.
"""

from __future__ import annotations

import torch
from timm.data.config import resolve_data_config
from torch import Tensor, nn


class TextbookEncoder(nn.Module):
    """Pixels (B, 3, S, S) as floats in 0..1 -> cells (B, C, D)."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.to(memory_format=torch.contiguous_format)
        data = resolve_data_config({}, model=backbone)
        self.register_buffer("mean", torch.tensor(data["mean"]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(data["std"]).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        cells = self.backbone.forward_features((pixels - self.mean) / self.std)
        return cells.flatten(2).transpose(1, 2)
