"""Windows that overlap share their rows: a row of pixels is summed with its waves once for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuseg.arrays import home_of, namespace
from gpuseg.constants import FLAT_VARIANCE
from gpuseg.descriptors.windows import Part
from gpuseg.engines import engine_for
from gpuseg.grid import Grid

__all__ = ["window_sums"]


def window_sums(
    pixels: Any, grid: Grid, part: Part, rows: np.ndarray, cols: np.ndarray
) -> Iterator[tuple[Part, Any]]:
    """Sums of windows times waves along their rows and columns: ``rows @ (window - its mean) @ cols.T``.

    The mean of a window is another than that of the next one with the same rows, so each row loses its own
    mean first, and what that differs from the window's comes back afterwards: nothing large is ever
    subtracted, however high the level against the contrast.

    Parameters
    ----------
    pixels : (H, W) float32 array
        From the engines' ``normalise``, none of them masked.
    grid : Grid
    part : (slice, slice)
        Rows and columns of the grid points around which the windows lie.
    rows : (K, p) float32 NumPy array
        With p odd. Pixels outside the image count as the mean.
    cols : (M, q) float32 NumPy array

    Yields
    ------
    ((slice, slice), (h, K, M, w) array)
        Some of the grid points, and the sums of their windows; exactly 0 where a window is flat.
    """
    xp, engine = namespace(pixels), engine_for(home_of(pixels))
    size, width = rows.shape[1], part[1].stop - part[1].start
    places = np.add.outer(grid.rows[part[0]], np.arange(size) - size // 2)
    needed, place = np.unique(places, return_inverse=True)
    begins = np.reshape(place, places.shape)[:, 0]
    lines, of_one = _lines(pixels, needed, grid.cols[part[1]], cols)
    waves = xp.asarray(rows)
    at_a_time = max(1, engine.WINDOW_PIXELS_AT_A_TIME // (size * cols.shape[1] * width))
    for first in range(0, begins.size, at_a_time):
        windows = lines.of_windows(begins[first : first + at_a_time], size)
        n = windows.sums.shape[0]
        sums = xp.reshape(waves @ xp.reshape(windows.sums, (n, size, -1)), (n, len(rows), len(cols), width))
        rest, flat = windows.off_the_mean()
        sums[:, :, : of_one.shape[0], :] += (waves @ rest)[:, :, None, :] * of_one
        if bool(xp.any(flat)):
            sums = xp.where(flat[:, None, None, :], xp.zeros_like(sums), sums)
        begin = part[0].start + first
        yield (slice(begin, begin + n), part[1]), sums


@dataclass(frozen=True)
class _Lines:
    """Segments of rows of pixels, w beside each other in each of Y rows or of h windows with p rows each.

    Parameters
    ----------
    sums : (Y, M, w) or (h, p, M, w) array
        Of the segment less its level, times each wave. This and all others are 0 outside the image.
    level, total : (Y, w) or (h, p, w) float64 arrays
        Very nearly the segment's mean, and its sum: numbers of which differences are taken.
    squares, count : (Y, w) or (h, p, w) float32 arrays
        Sum of the squares of the segment less its level, and its pixels inside the image.
    """

    sums: Any
    level: Any
    total: Any
    squares: Any
    count: Any

    def of_windows(self, begins: np.ndarray, size: int) -> _Lines:
        """Those of windows that begin at given rows; views where it is one window."""
        if begins.size == 1:
            rows = slice(begins[0], begins[0] + size)
            return _Lines(*(each[None, rows, ...] for each in vars(self).values()))
        xp = namespace(self.sums)
        places = xp.asarray(np.add.outer(begins, np.arange(size)).ravel())
        return _Lines(
            *(
                xp.reshape(xp.take(each, places, axis=0), (begins.size, size, *each.shape[1:]))
                for each in vars(self).values()
            )
        )

    def off_the_mean(self) -> tuple[Any, Any]:
        """What the level of each row (h, p, w) is off the window's mean; which windows (h, w) are flat."""
        xp = namespace(self.sums)
        count = xp.sum(self.count, axis=1, keepdims=True)
        mean = xp.sum(self.total, axis=1, keepdims=True) / count
        level = xp.astype(self.level - mean, xp.float32)
        level = xp.where(self.count > 0, level, xp.zeros_like(level))
        squares = xp.sum(self.squares + self.count * level * level, axis=1)
        return level, squares <= FLAT_VARIANCE * count[:, 0, :]


def _lines(pixels: Any, rows: np.ndarray, cols: np.ndarray, waves: np.ndarray) -> tuple[_Lines, Any]:
    """Segments of rows around columns; what a segment of ones sums up to, for the first waves."""
    xp = namespace(pixels)
    places = np.add.outer(np.arange(waves.shape[1]) - waves.shape[1] // 2, cols)
    row_in, col_in = (
        (place >= 0) & (place < n) for place, n in zip((rows, places), pixels.shape, strict=True)
    )
    here = bool(row_in.all() and col_in.all())
    of_one = waves @ col_in.astype(np.float32)
    # odd waves cancel but for rounding
    there = np.flatnonzero(np.abs(of_one).max(axis=1) > 1e-6 * np.abs(waves).sum(axis=1).max())
    of_one = of_one[: there[-1] + 1] if there.size else of_one[:0]
    index = [
        xp.asarray(place.clip(0, n - 1).ravel())
        for place, n in zip((rows, places), pixels.shape, strict=True)
    ]
    segments = xp.reshape(xp.take(xp.take(pixels, index[0], axis=0), index[1], axis=1), (-1, *places.shape))
    row_in, col_in = (xp.astype(xp.asarray(each), xp.float32) for each in (row_in, col_in))
    count = row_in[:, None] * xp.sum(col_in, axis=0)
    inside = None if here else row_in[:, None, None] * col_in

    def only_inside(values: Any) -> Any:
        return values if inside is None else values * inside

    level = xp.sum(only_inside(segments), axis=1) / xp.where(count > 0, count, xp.ones_like(count))
    segments = only_inside(segments - level[:, None, :])
    level, remainder = (xp.astype(each, xp.float64) for each in (level, xp.sum(segments, axis=1)))
    total = xp.astype(count, xp.float64) * level + remainder
    squares = xp.sum(segments * segments, axis=1)
    return _Lines(xp.asarray(waves) @ segments, level, total, squares, count), xp.asarray(of_one)
