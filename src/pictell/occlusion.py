"""Grey a part of a picture, to see what a model makes of the rest.

    greyed = grey_patches(pixels, (7, 7), mean)        # (49, 3, S, S)

After Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2.

Axes: S side of a picture in pixels, P rows times columns of patches.
"""

from __future__ import annotations

import numpy as np

from pictell.errors import InputError


def patch_edges(size: int, patches: int) -> list[int]:
    """Where `patches` equal parts of `size` pixels begin and end, to the nearest pixel."""
    if not 1 <= patches <= size:
        raise InputError(
            f"{patches} patches along a side of {size} pixels; give 1 to {size}, such as 7"
        )
    return [round(edge * size / patches) for edge in range(patches + 1)]


def grey_cells(pixels: np.ndarray, cells: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """A picture with some cells in one colour.

    Args:
        pixels: (3, S, S) uint8.
        cells: (rows, columns) of booleans; true cells are greyed.
        grey: (3,) colour, 0 to 255: the encoder's mean, which it reads as zero.
    """
    rows = patch_edges(pixels.shape[1], cells.shape[0])
    columns = patch_edges(pixels.shape[2], cells.shape[1])
    greyed = pixels.copy()
    colour = np.round(grey).astype(np.uint8)[:, None, None]
    for row, column in np.argwhere(cells):
        greyed[:, rows[row] : rows[row + 1], columns[column] : columns[column + 1]] = colour
    return greyed


def grey_patches(pixels: np.ndarray, grid: tuple[int, int], grey: np.ndarray) -> np.ndarray:
    """A picture once for each patch of a grid, with this patch greyed: (P, 3, S, S) uint8.

    Args:
        pixels: (3, S, S) uint8.
        grid: Rows and columns of patches.
        grey: (3,) colour, 0 to 255.
    """
    one_each = np.eye(grid[0] * grid[1], dtype=bool).reshape(-1, *grid)
    return np.stack([grey_cells(pixels, cells, grey) for cells in one_each])
