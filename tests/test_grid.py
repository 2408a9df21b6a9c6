"""Grid: positions, and every label at its right pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuseg.grid import Grid
from tests import naive

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(shape=SHAPES, stride=st.integers(1, 50))
def test_the_full_grid_is_centred(shape, stride):
    grid = Grid.full(shape, stride)
    for got, length in zip((grid.rows, grid.cols), shape, strict=True):
        np.testing.assert_array_equal(got, naive.grid_positions(length, stride))
        # what is left over is shared between both ends, to a pixel
        assert 0 <= (length - 1 - got[-1]) - got[0] <= 1
    assert grid.shape == (len(grid.rows), len(grid.cols))
    assert grid.size == grid.shape[0] * grid.shape[1]


@given(shape=SHAPES, stride=st.integers(1, 50), margin=st.tuples(st.integers(0, 20), st.integers(0, 20)))
def test_the_grid_inside_keeps_its_margin(shape, stride, margin):
    grid = Grid.inside(shape, stride, margin)
    for got, length, keep in zip((grid.rows, grid.cols), shape, margin, strict=True):
        np.testing.assert_array_equal(got, naive.grid_positions(length, stride, keep))


@given(
    shape=SHAPES,
    stride=st.integers(1, 50),
    margin=st.none() | st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_every_label_is_at_its_right_pixel(shape, stride, margin):
    grid = Grid.full(shape, stride) if margin is None else Grid.inside(shape, stride, margin)
    if grid.size == 0:
        return
    labels = np.arange(grid.size, dtype=np.int32).reshape(grid.shape)
    wanted = naive.nearest_upsampling(labels, grid.rows, grid.cols, shape)
    got = grid.upsample(labels)
    assert got.dtype == labels.dtype
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(grid.at_points(got), labels)


@pytest.mark.parametrize(
    "grid", [Grid.full((11, 14), 4), Grid.inside((17, 15), 3, (5, 4))], ids=["full", "inside"]
)
@pytest.mark.parametrize("dtype", ["int32", "float32", "bool"])
def test_upsampling_of_every_kind_of_array(space, grid, dtype):
    values = np.random.default_rng(0).integers(0, 2, (3, *grid.shape)).astype(dtype)
    got = space.numpy(grid.upsample(space(values)))
    wanted = [naive.nearest_upsampling(v, grid.rows, grid.cols, grid.image_shape) for v in values]
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, wanted)


def test_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"`values` has shape \(3, 3\); this grid has \(3, 4\) points"):
        Grid.full((11, 14), 4).upsample(np.zeros((3, 3)))


def test_points_of_an_image_are_a_view():
    image = np.arange(11 * 14).reshape(11, 14)
    grid = Grid.full(image.shape, 4)
    got = grid.at_points(image)
    assert np.shares_memory(got, image)
    np.testing.assert_array_equal(got, image[np.ix_(grid.rows, grid.cols)])


@pytest.mark.parametrize("stride", [1, 3])
def test_points_without_a_label_take_the_nearest(space, stride):
    grid = Grid.full((9 * stride, 12 * stride), stride)
    rng = np.random.default_rng(2)
    labels = np.where(rng.random(grid.shape) < 0.3, rng.integers(0, 5, grid.shape), -1).astype(np.int32)
    got = space.numpy(grid.nearest_known(space(labels)))
    row, col = np.nonzero(labels >= 0)
    for (i, j), label in np.ndenumerate(got):
        distance = (row - i) ** 2 + (col - j) ** 2
        near = distance == distance.min()  # of several any one
        assert label in labels[row[near], col[near]]
    assert (got[labels >= 0] == labels[labels >= 0]).all()


@pytest.mark.parametrize("value", [-1, 2])
def test_without_anything_missing_or_known_labels_stay(space, value):
    labels = np.full((3, 4), value, np.int32)
    got = Grid.full((3, 4), 1).nearest_known(space(labels))
    np.testing.assert_array_equal(space.numpy(got), labels)


def test_grids_are_values():
    assert Grid.full((5, 6), 2) == Grid.full((5, 6), 2)
    assert hash(Grid.full((5, 6), 2)) == hash(Grid.full((5, 6), 2))
    assert Grid.full((5, 6), 2) != Grid.full((5, 6), 1)
    with pytest.raises(AttributeError):
        Grid.full((5, 6), 2).stride = 3
