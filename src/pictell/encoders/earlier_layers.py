"""Outputs of several layers of a backbone, side by side in each cell of its grid.

    check_layers(backbone, "tf_efficientnet_lite2", ["blocks.5", "blocks.6"])
    maps = layer_outputs(backbone, pixels, ["blocks.5", "blocks.6"])   # the last layer's is first
    output = beside_the_last(maps)

The last layer of a classifier is the most specific to its classes (Yosinski et al. 2014, "How
transferable are features in deep neural networks?"), and a caption may want more of a picture.
Outputs of several layers at one place are a hypercolumn (Hariharan et al. 2015, "Hypercolumns for
object segmentation and fine-grained localization", section 3, who lay them on the finest grid).
Here maps with more cells are averaged to the last one's grid. Each earlier map is scaled, picture
by picture, to the root mean square of the last one, so that none drowns another:

    cell = [last, earlier_1 * rms(last) / rms(earlier_1), ...]

Axes: B images, D channels.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from pictell.errors import InputError


def check_layers(backbone: nn.Module, name: str, layers: Sequence[str]) -> None:
    """Raise `InputError` unless each layer is a module of the backbone called `name`."""
    known = [module for module, _ in backbone.named_modules() if module]
    for layer in layers:
        if layer not in known:
            near = difflib.get_close_matches(layer, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            some = ", ".join(module for module in known if module.count(".") < 2)
            raise InputError(
                f"encoder.earlier_layers names {layer!r}, which {name} lacks{hint or f': {some}'}"
            )


def layer_outputs(backbone: nn.Module, pixels: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """What `forward_features` gives, and then what each of the layers put out on the way to it."""
    outputs: dict[str, Tensor] = {}
    thread = threading.get_ident()

    def keep(layer: str):
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            if threading.get_ident() == thread:  # others may be at work with the same backbone
                outputs[layer] = output

        return hook

    hooks = [backbone.get_submodule(layer).register_forward_hook(keep(layer)) for layer in layers]
    try:
        last = backbone.forward_features(pixels)  # type: ignore[operator]
    finally:
        for hook in hooks:
            hook.remove()
    for layer in layers:
        if layer not in outputs:
            raise InputError(
                f"encoder.earlier_layers names {layer!r}, which does nothing on the way to "
                "the cells"
            )
    return [last, *(outputs[layer] for layer in layers)]


def beside_the_last(maps: Sequence[Tensor]) -> Tensor:
    """Several maps as one of the first one's grid.

    Args:
        maps: Each (B, D_i, rows_i, columns_i).

    Returns:
        (B, sum of D_i, rows_1, columns_1).
    """
    last = maps[0]
    rows, columns = last.shape[2:]
    target = _mean_square(last)
    scaled = []
    for earlier in maps[1:]:
        pooled = adaptive_avg_pool2d(earlier, (rows, columns))
        ratio = target / _mean_square(pooled).clamp(min=torch.finfo(torch.float32).tiny)
        scaled.append(pooled * ratio.sqrt().to(pooled.dtype))
    return torch.cat([last, *scaled], dim=1)


def _mean_square(maps: Tensor) -> Tensor:
    """(B, 1, 1, 1), of all cells and channels of a picture."""
    return maps.float().square().mean(dim=(1, 2, 3), keepdim=True)
