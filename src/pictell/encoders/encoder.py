"""Any timm backbone as an encoder: pixels to a grid of cells.

    encoder = load_encoder(EncoderConfig(name="resnet101"))
    cells = encoder(pixels)                        # (B, 3, 256, 256) uint8 -> (B, 64, 2048)

The backbone's pooling and classifier are left out. A frozen encoder is always in eval mode, and a
fine-tuned one keeps its batch-norm statistics: they never move. Earlier layers may stand beside the
last one in each cell (earlier_layers.py).

Axes: B images, C cells, D feature width.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import torch
from timm.data.config import resolve_data_config
from timm.models import group_parameters
from torch import Tensor, nn

from pictell.config import EncoderConfig
from pictell.data.images import ImageTransform
from pictell.encoders.earlier_layers import beside_the_last, check_layers, layer_outputs
from pictell.encoders.frozen import fuse
from pictell.encoders.weights import create_backbone, load_weights
from pictell.errors import InputError

# What one layer of a CNN writes and the next one reads stays in the processor's cache for few
# pictures: 4 are up to 1.7 times as fast as 32.
_PICTURES_AT_ONCE = 4


class Encoder(nn.Module):
    """A timm backbone without pooling and classifier.

    Attributes:
        grid: Rows and columns of cells for pictures of the configured size.
        feature_size: Width D of a cell.
        transform: What is done to a picture before the encoder sees it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderConfig, backbone: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        data = resolve_data_config({}, model=backbone)
        self.register_buffer("mean", torch.tensor(data["mean"]).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(data["std"]).view(1, 3, 1, 1) * 255)
        self.transform = ImageTransform(size=config.image_size, resize=config.resize)
        self._earlier = config.earlier_layer_names
        check_layers(backbone, config.name, self._earlier)
        self.trained = _trained_parameters(backbone, config) if config.fine_tune else []
        self.requires_grad_(False)
        for parameter in self.trained:
            parameter.requires_grad_(True)
        self.eval()
        # In a dictionary, so that it is no part of the weights.
        self._fused: dict[str, Any] = {}
        self.grid, self.feature_size = self._measure()

    def train(self, mode: bool = True) -> Encoder:
        """Dropout-like layers may train; batch norms never do, and a frozen encoder not at all."""
        super().train(mode and bool(self.trained))
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 -> (B, C, D) cells in row-major order."""
        pixels = (pixels.to(self.mean.dtype) - self.mean) / self.std
        pixels = pixels.to(memory_format=torch.channels_last)
        outputs = self._layer_outputs(pixels)
        if not self._earlier:
            return self._cells(outputs[0])
        # Swin and others write (B, rows, columns, D), in all layers.
        turned = outputs[0].dim() == 4 and outputs[0].shape[1] != self.backbone.num_features
        maps = [self._map(output, turned=turned) for output in outputs]
        return beside_the_last(maps).flatten(2).transpose(1, 2)  # (B, D, r, c) -> (B, C, D)

    def _layer_outputs(self, pixels: Tensor) -> list[Tensor]:
        """By the backbone as it is, or, where nothing is trained and there is no GPU, fused."""
        plain = self.trained or torch.is_grad_enabled() or pixels.dtype != torch.float32
        if plain or pixels.device.type != "cpu":
            return self._plain(pixels)
        # torch counts the changes of a tensor (one made in inference mode cannot change
        # outside of it): changed weights are fused anew.
        tensors = [*self.backbone.parameters(), *self.backbone.buffers()]
        weights = [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors]
        if self._fused.get("weights") != weights:
            run = fuse(self.backbone, self._earlier) or self._plain
            self._fused = {"weights": weights, "run": run}
        parts = [self._fused["run"](part) for part in pixels.split(_PICTURES_AT_ONCE)]
        if len(parts) == 1:
            return parts[0]  # without a copy
        return [torch.cat(outputs) for outputs in zip(*parts, strict=True)]

    def _plain(self, pixels: Tensor) -> list[Tensor]:
        return layer_outputs(self.backbone, pixels, self._earlier)

    def _cells(self, output: Tensor) -> Tensor:
        if output.dim() == 3:
            return self._patches(output)
        if output.shape[1] != self.backbone.num_features:  # swin and others: (B, rows, columns, D)
            return output.flatten(1, 2)
        return output.flatten(2).transpose(1, 2)  # (B, D, rows, columns) -> (B, C, D)

    def _patches(self, output: Tensor) -> Tensor:
        """Of a vision transformer, without class and register tokens, which stand first."""
        return output[:, getattr(self.backbone, "num_prefix_tokens", 0) :]

    def _map(self, output: Tensor, *, turned: bool) -> Tensor:
        """A layer's output as (B, D, rows, columns); `turned` if it is (B, rows, columns, D)."""
        if isinstance(output, Tensor) and output.dim() == 4:
            return output.permute(0, 3, 1, 2) if turned else output
        patches = (
            self._patches(output) if isinstance(output, Tensor) and output.dim() == 3 else None
        )
        side = 0 if patches is None else math.isqrt(patches.shape[1])
        if patches is None or side * side != patches.shape[1]:
            raise InputError(
                f"encoder.earlier_layers is {self.config.earlier_layers!r}, but not all of these "
                f"layers of {self.config.name} put out a square grid"
            )
        return patches.transpose(1, 2).unflatten(2, (side, side))

    @torch.inference_mode()
    def _measure(self) -> tuple[tuple[int, int], int]:
        name, size = self.config.name, self.config.image_size
        probe = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=self.mean.device)
        try:
            cells = self(probe)  # (1, C, D)
        except (AssertionError, RuntimeError) as error:  # transformers take one size
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise InputError(f"encoder.image_size is {size}, but {name} says: {reason}") from None
        side = math.isqrt(cells.shape[1])
        if side * side != cells.shape[1]:
            raise InputError(f"{name} gives {cells.shape[1]} cells, which are no square grid")
        return (side, side), cells.shape[2]

    def fingerprint(self) -> str:
        """A hash of the weights and the preprocessing: equal features have equal fingerprints."""
        digest = hashlib.sha256()
        for name, tensor in self.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        transform = vars(self.transform)
        description = {"name": self.config.name, "transform": transform, "grid": self.grid}
        if self._earlier:
            description["earlier_layers"] = self._earlier
        digest.update(json.dumps(description, sort_keys=True).encode())
        return digest.hexdigest()


def _trained_parameters(backbone: nn.Module, config: EncoderConfig) -> list[nn.Parameter]:
    """Parameters of the stages that are fine-tuned (timm numbers the stem 0, then the stages)."""
    stages: dict[Any, list[str]] = group_parameters(backbone, backbone.group_matcher(coarse=True))  # type: ignore[operator]
    named = dict(backbone.named_parameters())
    if config.fine_tune_from > max(stages):
        raise InputError(
            f"encoder.fine_tune_from is {config.fine_tune_from}, but the last stage of "
            f"{config.name} is {max(stages)}: nothing would be trained"
        )
    return [
        named[name]
        for stage, names in stages.items()
        if stage >= config.fine_tune_from
        for name in names
        if name in named
    ]


def load_encoder(config: EncoderConfig, state: dict[str, Tensor] | None = None) -> Encoder:
    """Build the configured encoder with its weights.

    Args:
        config: Which backbone and which weights.
        state: Weights of a fine-tuned backbone; they replace `config.weights`.

    Raises:
        InputError: The backbone or the weights cannot be found or do not fit.
    """
    if state is None:
        return Encoder(config, load_weights(config.name, config.weights))
    backbone = create_backbone(config.name, pretrained=False)
    try:
        backbone.load_state_dict(state)
    except RuntimeError:
        raise InputError(f"the weights given do not fit {config.name}") from None
    return Encoder(config, backbone)
