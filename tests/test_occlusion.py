"""Greying parts of a picture, on pictures of a few pixels."""

import numpy as np
import pytest

from pictell.errors import InputError
from pictell.occlusion import grey_cells, grey_patches, patch_edges

GREY = np.array([10.4, 20.0, 30.6])


def test_edges_cover_every_pixel_once():
    assert patch_edges(64, 2) == [0, 32, 64]
    assert patch_edges(10, 3) == [0, 3, 7, 10]


@pytest.mark.parametrize("patches", [0, 11])
def test_patches_that_do_not_fit_are_an_error(patches):
    with pytest.raises(InputError, match=f"{patches} patches along a side of 10 pixels"):
        patch_edges(10, patches)


def test_only_the_chosen_cells_are_greyed():
    pixels = np.zeros((3, 4, 4), np.uint8)
    cells = np.array([[False, True], [False, False]])
    greyed = grey_cells(pixels, cells, GREY)
    assert greyed[:, 0, 2].tolist() == [10, 20, 31]
    assert (greyed[:, :2, 2:] != 0).all()
    assert greyed.sum() == greyed[:, :2, 2:].sum()
    assert not pixels.any()  # the original stays


def test_each_patch_is_greyed_in_a_picture_of_its_own():
    pixels = np.zeros((3, 4, 6), np.uint8)
    greyed = grey_patches(pixels, (2, 3), GREY)
    assert greyed.shape == (6, 3, 4, 6)
    times = (greyed[:, 0] != 0).sum(axis=0)
    assert (times == 1).all()
    assert (greyed[4, 0] != 0).nonzero()[1].min() == 2  # row by row: the fifth is (1, 1)
