"""Colours for attention: a scale on which equal steps look equal.

    heat_colours()[128]      # red, green, blue of the middle, 0 to 1

It is computed here, so that drawing attention needs Pillow and numpy only.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=1)
def heat_colours() -> np.ndarray:
    """(256, 3) colours from dark violet over red to light yellow, 0 to 1.

    Lightness rises evenly in OKLab (Ottosson 2020), so that equal steps of attention look equal,
    also in grey and to colour-blind eyes.
    """
    t = np.linspace(0, 1, 256)
    lightness = 0.18 + 0.77 * t
    hue = np.radians(300 + 165 * t)  # violet, red, orange, yellow
    chroma = 0.05 + 0.15 * np.sin(np.pi * np.clip(0.12 + 0.8 * t, 0, 1))
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cones = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(to_linear @ cones**3, 0, 1).T  # (256, 3)
    low = linear <= 0.0031308
    return np.where(low, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
