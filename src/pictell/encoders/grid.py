"""Adaptive average pooling of a grid of cells, as a linear map.

A backbone turns 256 px into 8 x 8 cells; `AdaptiveAvgPool2d(14)` then *up*-samples them to
196 regions. Each region is the mean of one to four cells, so pooling is a matrix P (L, C) whose
rows sum to one, and everything linear can be done on the C cells instead of the L regions:

    mean of the regions   (1/L) 1' P F
    keys of the regions   (P F) W = P (F W)
    context               alpha' (P F) = (P' alpha)' F

Axes: B images, L regions, C cells, D feature width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pooling_matrix(cells: tuple[int, int], regions: tuple[int, int]) -> Tensor:
    """The matrix P of adaptive average pooling.

    Args:
        cells: Rows and columns of the backbone's grid.
        regions: Rows and columns after pooling.

    Returns:
        (L, C) float64, both grids in row-major order; P @ F equals torch's adaptive_avg_pool2d.
    """
    rows = _pooling_1d(cells[0], regions[0])
    columns = _pooling_1d(cells[1], regions[1])
    return torch.kron(rows, columns)  # the 2-d windows are products of 1-d windows


def _pooling_1d(cells: int, regions: int) -> Tensor:
    matrix = torch.zeros(regions, cells, dtype=torch.float64)
    for region in range(regions):
        start = region * cells // regions
        end = -(-(region + 1) * cells // regions)
        matrix[region, start:end] = 1 / (end - start)
    return matrix


def decoder_grid(cells: tuple[int, int], pooled_grid: int) -> tuple[int, int]:
    """Rows and columns that the decoder attends over: the pooled grid, or the cells if it is 0."""
    return (pooled_grid, pooled_grid) if pooled_grid else cells
