"""A frozen encoder on pixels that are decoded already."""

from __future__ import annotations

import copy
from collections.abc import Callable

import timm
import torch
from torch import Tensor

from pictell.bench.arithmetic import convolutions
from pictell.bench.case import PICTELL, Case, Term, textbook
from pictell.bench.training import settle_norms
from pictell.config import EncoderConfig
from pictell.encoders.encoder import Encoder
from pictell.encoders.weights import load_weights


class Encoding(Case):
    """Pixels to cells.

    Args:
        backbone: timm's name.
        side: Of the pictures, in pixels.
        pictures: In a batch.
        pretrained: Use the weights of a Python package; else random ones with settled batch norms.
    """

    unit = "pictures"

    def __init__(self, backbone: str, side: int, pictures: int, *, pretrained: bool) -> None:
        self.name = f"encoding, {backbone}, {side} px"
        self.backbone, self.side, self.amount = backbone, side, pictures
        self.pretrained = pretrained

    def encoder(self) -> Encoder:
        """The frozen encoder."""
        config = EncoderConfig(name=self.backbone, weights="auto", image_size=self.side)
        if self.pretrained:
            return Encoder(config, load_weights(self.backbone, "package"))
        torch.manual_seed(1)
        backbone = timm.create_model(self.backbone, num_classes=0, global_pool="")
        return Encoder(config, settle_norms(backbone, self.side))

    def pixels(self) -> Tensor:
        """(B, 3, S, S) uint8; smooth, as photographs are."""
        generator = torch.Generator().manual_seed(3)
        coarse = torch.rand(self.amount, 3, 9, 9, generator=generator)
        fine = torch.nn.functional.interpolate(coarse, self.side, mode="bicubic")
        return (fine.clamp(0, 1) * 255).to(torch.uint8)

    def arithmetic(self) -> list[Term]:
        backbone = self.encoder().backbone
        pixels = torch.zeros(1, 3, self.side, self.side)
        gflop = convolutions(backbone, pixels) * self.amount
        shape = f"{self.amount} pictures, each convolution 2 x output x taps x channels / groups"
        return [Term(name="convolutions", shape=shape, gflop=gflop)]

    def prepare(self, way: str) -> Callable[[], Tensor]:
        encoder, pixels = self.encoder(), self.pixels()
        if way == PICTELL:
            return torch.inference_mode()(lambda: encoder(pixels))
        plain = textbook("encoding").TextbookEncoder(copy.deepcopy(encoder.backbone)).eval()
        floats = pixels.float() / 255
        return torch.no_grad()(lambda: plain(floats))

    def check(self) -> None:
        """Equal features but for rounding."""
        results = [self.prepare(way)() for way in self.ways]
        difference = (results[0] - results[1]).norm() / results[0].norm()
        assert difference < 1e-4, f"features differ by {difference:.1e}"
