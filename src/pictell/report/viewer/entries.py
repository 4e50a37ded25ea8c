"""What the viewer needs: its two files, and a model's caption as JSON.

    json.dumps(viewer_entry(caption, name="attention"))

A map is sent as a byte a cell and its largest value: a caption of ten words over 196 regions takes
2.6 kB.
"""

from __future__ import annotations

import base64
import math
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pictell.captioner import Caption
from pictell.errors import InputError

_HERE = Path(__file__).parent
Kind = Literal["attention", "occlusion", "none"]


@lru_cache(maxsize=1)
def viewer_script() -> str:
    """viewer.js: defines `pictellViewer.mount(element, options)`."""
    return (_HERE / "viewer.js").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def viewer_style() -> str:
    """viewer.css."""
    return (_HERE / "viewer.css").read_text(encoding="utf-8")


def viewer_entry(caption: Caption, *, name: str, kind: Kind | None = None) -> dict[str, Any]:
    """One model's caption as the viewer reads it, ready for JSON.

    Args:
        caption: Of a picture.
        name: What to call the model.
        kind: Which maps to show. None takes the attention, else the occlusion maps, else none.

    Raises:
        InputError: The caption has no maps of the kind.
    """
    if kind is None:
        kind = "attention" if caption.attention is not None else "occlusion"
        kind = "none" if kind == "occlusion" and caption.occlusion is None else kind
    entry = {
        "name": name,
        "caption": caption.text,
        "kind": kind,
        "words": _words(caption),
        "seen": list(caption.seen_box),
    }
    if kind == "none":
        return entry
    maps = caption.attention if kind == "attention" else caption.occlusion
    if maps is None:
        raise InputError(f"the caption {caption.text!r} has no {kind} maps")
    return {**entry, "grid": list(maps.shape[1:]), "maps": pack_maps(maps)}


def _words(caption: Caption) -> list[dict[str, Any]]:
    alternatives = caption.alternatives or [[] for _ in caption.words]
    return [
        {
            "text": word,
            "probability": _probability(value),
            "alternatives": [
                {"text": other.word, "probability": _probability(other.log_probability)}
                for other in others
            ],
        }
        for word, value, others in zip(
            caption.words, caption.word_log_probabilities, alternatives, strict=True
        )
    ]


def _probability(log_probability: float) -> float:
    return float(f"{min(1.0, math.exp(log_probability)):.4g}")


def pack_maps(maps: np.ndarray) -> dict[str, Any]:
    """Maps (T, R, C) as bytes, 255 for the largest value of each; what is below zero becomes zero.

    Returns:
        `scale`, the largest value of each map, and `data`, base64 of T * R * C bytes.
    """
    values = np.clip(np.asarray(maps, dtype=np.float64), 0.0, None)
    scale = values.max(axis=(1, 2), initial=0.0)  # (T,)
    shares = values / np.where(scale > 0, scale, 1.0)[:, None, None]
    data = np.round(255 * shares).astype(np.uint8)
    return {
        "scale": [float(f"{value:.5g}") for value in scale],
        "data": base64.b64encode(data.tobytes()).decode("ascii"),
    }
