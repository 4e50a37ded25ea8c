"""What a decoder sees of the encoder's cells: as they are, or through a layer of its own.

    read = RegionReader(DecoderConfig(region_projection=512), feature_size=1280)
    cells = read(features)                             # (B, C, 1280) -> (B, C, 512)

The layer is applied to the C cells that the encoder gives, and the grid is pooled afterwards. With
its ReLU this is not what a layer on the L pooled regions would give (which is no linear map either
of the cells), but everything behind it stays linear in what it gives, so that pooling still costs
nothing (see encoders/grid.py).

Axes: B images, C cells, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from pictell.config import DecoderConfig
from pictell.decoders.dropout import dropped
from pictell.decoders.products import Linear


class RegionReader(nn.Module):
    """cells -> dropout(relu(W cells + b)), or dropout(cells) without a projection.

    Args:
        config: `region_projection` and `region_dropout`.
        feature_size: Width of an encoder's cell.
    """

    def __init__(self, config: DecoderConfig, feature_size: int) -> None:
        super().__init__()
        self.share = config.region_dropout
        width = config.region_projection
        self.projection = Linear(feature_size, width) if width else None

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, feature width) -> (B, C, D)."""
        if self.projection is not None:
            features = self.projection(features).relu()
        return dropped(features, self.share, self.training)
