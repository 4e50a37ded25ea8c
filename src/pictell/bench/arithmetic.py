"""How many floating-point operations an operation takes, counted from its shapes.

A matrix product (m x k) (k x n) takes 2 m k n. A training step is counted forward and backward: a
product has two more behind it, one for each of its factors, unless a factor needs no gradient.

Axes: B captions, C cells, L regions, D feature width, E word width, A attention width, H hidden,
T words (N = B T), V vocabulary.

Bytes are those that pass between memory (or the processor's shared cache) and a core: an operation
takes at least what its arithmetic takes at the pace of a large product, and at least what its bytes
take. The sum of the larger of the two is the least time in which it could be done this way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from pictell.bench.case import Product, Term


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Extents of a batch; the widths are the reference setting's."""

    captions: int = 32
    real_words: int = 384
    distinct_words: int = 160  # of these
    cells: int = 64
    regions: int = 196
    features: int = 2048
    width: int = 512
    vocabulary: int = 2538


def product(name: str, m: int, k: int, n: int, *, passes: int, steps: int = 1) -> Term:
    """`passes` products of the size (m x k)(k x n).

    Args:
        name: What is computed.
        m: Rows.
        k: Width that is summed over.
        n: Columns.
        passes: 1 forward, 2 with the gradient of one factor, 3 with those of both.
        steps: Words of a recurrence, m / steps rows each: forward and for the gradient of the rows
            the other factor is read anew at each; its own gradient is one product.
    """
    weights = k * n * (steps * min(passes, 2) + max(passes - 2, 0))
    rows = round(m / steps)
    forward = Product("forward", rows, k, n, steps)
    back, weight = Product("back", rows, n, k, steps), Product("weight", n, m, k)
    made = {1: (forward,), 2: (forward, weight), 3: (forward, back, weight)}
    return Term(
        name=name,
        shape=f"{passes} x ({m} x {k})({k} x {n})",
        gflop=2e-9 * m * k * n * passes,
        megabytes=4e-6 * (m * (k + n) * passes + weights),
        products=made[passes],
    )


def many_products(name: str, m: int, k: int, n: int, *, passes: int) -> Term:
    """As `product`, in parts of their own: for each picture, or each word."""
    return replace(product(name, m, k, n, passes=passes), products=())


def rnn_step(s: Shapes) -> list[Term]:
    """Forward and backward of the RNN decoder, and Adam; the features are frozen."""
    b, n, d, w, v = s.captions, s.real_words, s.features, s.width, s.vocabulary
    parameters = v * w + 2 * d * w + 8 * w * w + w * v
    return [
        product("first states", b, d, 2 * w, passes=2),
        product("distinct words to gates", s.distinct_words, w, 4 * w, passes=3),
        product("state to gates", n, w, 4 * w, passes=3, steps=n // b),
        product("vocabulary", n, w, v, passes=3),
        update(parameters),
    ]


def attention_step(s: Shapes) -> list[Term]:
    """Forward and backward of the attention decoder, and Adam; the features are frozen."""
    b, n, c, r, d, w, v = (
        *(s.captions, s.real_words, s.cells, s.regions, s.features, s.width, s.vocabulary),
    )
    steps = n // b
    parameters = v * w + 3 * d * w + 5 * w * w + w * d + 4 * w * w + 4 * w * d + w * v
    return [
        product("keys of the cells", b * c, d, w, passes=2),
        many_products("keys pooled to regions", b * r, c, w, passes=2),
        product("first states", b, d, 2 * w, passes=2),
        product("distinct words to gates", s.distinct_words, w, 4 * w, passes=3),
        product("state to query, gate, gates", n, w, w + d + 4 * w, passes=3, steps=steps),
        scores(n, r, w, keys=b * r * w * (2 * steps + 2), backward=True),
        many_products("attention to cells", n, r, c, passes=2),
        context(n, c, d, read=b * c * d * 2 * steps, passes=2),
        product("context to gates", n, d, 4 * w, passes=3, steps=steps),
        product("vocabulary", n, w, v, passes=3),
        update(parameters),
    ]


def scores(n: int, regions: int, width: int, *, keys: int, backward: bool) -> Term:
    """Scores of n queries; `keys` numbers are read in all."""
    done = "sum, function, weighted sum" + (", and their derivatives" if backward else "")
    return Term(
        name="scores",
        shape=f"per region and word: {done}",
        gflop=1e-9 * n * regions * width * (10 if backward else 4),
        megabytes=4e-6 * keys,
    )


def context(n: int, cells: int, features: int, *, read: int = 0, passes: int) -> Term:
    """Sums of cells, each caption's its own, so that features are read for each."""
    return Term(
        name="context",
        shape=f"{passes} x {n} x (1 x {cells})({cells} x {features})",
        gflop=2e-9 * n * cells * features * passes,
        megabytes=4e-6 * read,
    )


def update(parameters: int) -> Term:
    """The gradient's norm, and Adam: each number is read and written with its two moments."""
    return Term(
        name="norm and Adam",
        shape=f"{parameters:,} parameters, 8 numbers each",
        gflop=1e-9 * 15 * parameters,
        megabytes=4e-6 * 8 * parameters,
    )


def beam_search_terms(s: Shapes, rows: list[int], *, beam: int, attention: bool) -> list[Term]:
    """Writing captions: `rows` captions are read at each step, of `rows / beam` pictures."""
    b, c, r, d, w, v = s.captions, s.cells, s.regions, s.features, s.width, s.vocabulary
    n, steps = sum(rows), len(rows)
    terms = [
        product("first states", b, d, 2 * w, passes=1),
        product("vocabulary", n, w, v, passes=1, steps=steps),
    ]
    if not attention:
        return [*terms, product("state to gates", n, w, 4 * w, passes=1, steps=steps)]
    pictures = n // beam
    return [
        *terms,
        product("keys of the cells", b * c, d, w, passes=1),
        many_products("keys pooled to regions", b * r, c, w, passes=1),
        product("state to query, gate, gates", n, w, w + d + 4 * w, passes=1, steps=steps),
        scores(n, r, w, keys=pictures * r * w, backward=False),
        many_products("attention to cells", n, r, c, passes=1),
        context(n, c, d, read=pictures * c * d, passes=1),
        product("context to gates", n, d, 4 * w, passes=1, steps=steps),
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
