"""Grid: the one owner of positions, margins, stride and upsampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuseg.arrays import namespace, to_numpy

__all__ = ["Grid"]


@dataclass(frozen=True)
class Grid:
    """Positions at which an image is scored: every `stride`-th row and column from `first` on.

    Build one with `Grid.full` or `Grid.inside` rather than by hand.

    Parameters
    ----------
    image_shape : (H, W) of int
        Shape of the image in pixels.
    stride : int
        Distance of neighbouring grid points in pixels, at least 1.
    first : (row, col) of int
        Position of the first grid point.
    shape : (h, w) of int
        Number of grid points along the rows and the columns.
    """

    image_shape: tuple[int, int]
    stride: int
    first: tuple[int, int]
    shape: tuple[int, int]

    @classmethod
    def full(cls, image_shape: tuple[int, int], stride: int) -> Grid:
        """The grid over a whole image, the remainder shared between both ends.

        Parameters
        ----------
        image_shape : (H, W) of int
        stride : int

        Returns
        -------
        Grid
        """
        first = tuple((n - 1) % stride // 2 for n in image_shape)
        shape = tuple((n - 1) // stride + 1 for n in image_shape)
        return cls(tuple(image_shape), stride, first, shape)  # type: ignore[arg-type]

    @classmethod
    def inside(cls, image_shape: tuple[int, int], stride: int, margin: tuple[int, int]) -> Grid:
        """The paper's grid: only positions at least `margin` pixels away from every edge.

        Parameters
        ----------
        image_shape : (H, W) of int
        stride : int
        margin : (rows, cols) of int
            Reach of the patch and its shifts in pixels.

        Returns
        -------
        Grid
            With no point at all (a 0 in `shape`) if the image is too small.
        """
        shape = tuple(len(range(m, n - m, stride)) for n, m in zip(image_shape, margin, strict=True))
        return cls(tuple(image_shape), stride, tuple(margin), shape)  # type: ignore[arg-type]

    @property
    def rows(self) -> np.ndarray:
        """(h,) int64: image rows of the grid points."""
        return self.first[0] + self.stride * np.arange(self.shape[0])

    @property
    def cols(self) -> np.ndarray:
        """(w,) int64: image columns of the grid points."""
        return self.first[1] + self.stride * np.arange(self.shape[1])

    @property
    def size(self) -> int:
        """Number of grid points."""
        return self.shape[0] * self.shape[1]

    def band(self, begin: int, end: int) -> Grid:
        """Some neighbouring rows of grid points.

        Parameters
        ----------
        begin, end : int
            The first row, and the one after the last, counted in grid points.

        Returns
        -------
        Grid
            Of the same image.
        """
        first = self.first[0] + self.stride * begin, self.first[1]
        return Grid(self.image_shape, self.stride, first, (end - begin, self.shape[1]))

    def cells(self, axis: int) -> np.ndarray:
        """Where the pixels begin that are nearest to each row or column of grid points.

        Parameters
        ----------
        axis : {0, 1}

        Returns
        -------
        (n + 1,) int64
            The last entry is the end of the image; see `upsample` for pixels half-way between two.
        """
        n = self.shape[axis]
        inner = self.first[axis] + self.stride * np.arange(1, n) - (self.stride - 1) // 2
        return np.concatenate([[0], inner, [self.image_shape[axis]]]).astype(np.int64)

    def place_of(self, band: Grid) -> tuple[int, int]:
        """Where a `band` of this grid begins and ends.

        Parameters
        ----------
        band : Grid

        Returns
        -------
        begin, end : int
        """
        begin = (band.first[0] - self.first[0]) // self.stride
        return begin, begin + band.shape[0]

    def at_points(self, image: Any) -> Any:
        """The pixels of an (H, W) array under the grid points.

        Parameters
        ----------
        image : (H, W) array

        Returns
        -------
        (h, w) array, a view
        """
        (row, col), s, (h, w) = self.first, self.stride, self.shape
        return image[row : row + s * h : s, col : col + s * w : s]

    def upsample(self, values: Any) -> Any:
        """Give every pixel the value of its nearest grid point.

        A pixel half-way between two grid points takes the upper or left one; margins take the outermost
        points.

        Parameters
        ----------
        values : (..., h, w) array of any namespace

        Returns
        -------
        (..., H, W) array of the same dtype and namespace
        """
        if tuple(values.shape[-2:]) != self.shape:
            raise ValueError(f"`values` has shape {tuple(values.shape)}; this grid has {self.shape} points")
        xp = namespace(values)
        nearest = [xp.asarray(self._nearest(axis)) for axis in (0, 1)]
        # whole rows last: they are copied, columns are gathered
        return xp.take(xp.take(values, nearest[1], axis=-1), nearest[0], axis=-2)

    def nearest_known(self, labels: Any) -> Any:
        """Give grid points without a label that of the nearest grid point with one.

        Parameters
        ----------
        labels : (h, w) int array of any namespace
            Negative where there is none.

        Returns
        -------
        (h, w) int array
        """
        xp = namespace(labels)
        unknown = labels < 0
        if not bool(xp.any(unknown)) or bool(xp.all(unknown)):
            return labels
        from scipy import ndimage

        index = ndimage.distance_transform_edt(to_numpy(unknown), return_distances=False, return_indices=True)
        nearest = xp.asarray((index[0] * self.shape[1] + index[1]).ravel().astype(np.int64))
        return xp.reshape(xp.take(xp.reshape(labels, (-1,)), nearest), self.shape)

    def _nearest(self, axis: int) -> np.ndarray:
        distance = np.arange(self.image_shape[axis]) - self.first[axis]
        index = (distance + (self.stride - 1) // 2) // self.stride
        return np.clip(index, 0, self.shape[axis] - 1)
