"""How many floating-point operations an operation takes, counted from its shapes.

A matrix product (m x k) (k x n) takes 2 m k n. A training step is counted forward and backward: a
product has two more behind it, one for each of its factors, unless a factor needs no gradient.

Axes: B captions, C cells, L regions, D feature width, E word width, A attention width, H hidden,
T words (N = B T), V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from pictell.bench.case import Term


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Extents of a batch; the widths are the reference setting's."""

    captions: int = 32
    real_words: int = 384
    cells: int = 64
    regions: int = 196
    features: int = 2048
    width: int = 512
    vocabulary: int = 2538


def product(name: str, m: int, k: int, n: int, *, passes: int) -> Term:
    """`passes` products of the size (m x k)(k x n)."""
    return Term(
        name=name, shape=f"{passes} x ({m} x {k})({k} x {n})", gflop=2e-9 * m * k * n * passes
    )


def rnn_step(s: Shapes) -> list[Term]:
    """Forward and backward of the RNN decoder; the features are frozen."""
    b, n, d, w, v = s.captions, s.real_words, s.features, s.width, s.vocabulary
    return [
        product("first states", b, d, 2 * w, passes=2),
        product("words to gates", n, w, 4 * w, passes=3),
        product("state to gates", n, w, 4 * w, passes=3),
        product("vocabulary", n, w, v, passes=3),
    ]


def attention_step(s: Shapes) -> list[Term]:
    """Forward and backward of the attention decoder; the features are frozen."""
    b, n, c, r, d, w, v = (
        *(s.captions, s.real_words, s.cells, s.regions, s.features, s.width, s.vocabulary),
    )
    score = "per region and word: sum, function, weighted sum, and their derivatives"
    return [
        product("keys of the cells", b * c, d, w, passes=2),
        product("keys pooled to regions", b * r, c, w, passes=2),
        product("first states", b, d, 2 * w, passes=2),
        product("words to gates", n, w, 4 * w, passes=3),
        product("state to query, gate, gates", n, w, w + d + 4 * w, passes=3),
        Term(name="scores", shape=score, gflop=1e-9 * n * r * w * 10),
        product("attention to cells", n, r, c, passes=2),
        product("context", n, c, d, passes=2),
        product("context to gates", n, d, 4 * w, passes=3),
        product("vocabulary", n, w, v, passes=3),
    ]


def convolutions(backbone: nn.Module, pixels: torch.Tensor) -> float:
    """GFLOP of a CNN's convolutions and linear layers for given pixels, forward."""
    total = 0.0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            taps = module.kernel_size[0] * module.kernel_size[1] * module.in_channels
            total += 2e-9 * output.numel() * taps / module.groups
        elif isinstance(module, nn.Linear):
            total += 2e-9 * output.numel() * module.in_features

    hooks = [
        module.register_forward_hook(count)
        for module in backbone.modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    with torch.inference_mode():
        backbone.forward_features(pixels)  # type: ignore[operator]
    for hook in hooks:
        hook.remove()
    return total
