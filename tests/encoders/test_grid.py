import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from pictell.encoders.grid import decoder_grid, pooling_matrix


@pytest.mark.parametrize(
    ("cells", "regions"),
    [
        ((8, 8), (14, 14)),
        ((7, 7), (14, 14)),
        ((10, 10), (14, 14)),
        ((14, 14), (14, 14)),
        ((16, 16), (14, 14)),
        ((32, 32), (14, 14)),
        ((1, 1), (14, 14)),
        ((8, 8), (1, 1)),
        ((7, 5), (14, 3)),
        ((3, 16), (5, 4)),
    ],
)
def test_equals_torch_adaptive_average_pooling(cells, regions):
    torch.manual_seed(0)
    features = torch.randn(2, 5, *cells, dtype=torch.float64)  # (B, D, rows, columns)
    expected = adaptive_avg_pool2d(features, regions).flatten(2).transpose(1, 2)  # (B, L, D)
    matrix = pooling_matrix(cells, regions)
    assert matrix.dtype == torch.float64
    pooled = matrix @ features.flatten(2).transpose(1, 2)
    torch.testing.assert_close(pooled, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("cells", [(8, 8), (7, 7), (10, 10), (16, 16), (7, 5)])
def test_rows_sum_to_one_so_that_attention_keeps_its_sum(cells):
    matrix = pooling_matrix(cells, (14, 14))
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(196, dtype=torch.float64))


def test_seven_cells_to_fourteen_regions_repeats_every_cell_four_times():
    matrix = pooling_matrix((7, 7), (14, 14))
    assert set(matrix.flatten().tolist()) == {0.0, 1.0}
    assert matrix.sum(dim=0).tolist() == [4.0] * 49


def test_equal_grids_need_no_pooling():
    torch.testing.assert_close(pooling_matrix((8, 8), (8, 8)), torch.eye(64, dtype=torch.float64))


def test_decoder_grid():
    assert decoder_grid((8, 8), 14) == (14, 14)
    assert decoder_grid((8, 8), 0) == (8, 8)
