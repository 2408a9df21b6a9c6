"""What descriptors of the window around every grid point share: gathering, masks, borders, batches."""

from __future__ import annotations

import functools
import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuseg.arrays import home_of, namespace
from gpuseg.checks import check_choice, check_radius
from gpuseg.constants import FLAT_VARIANCE, VALID_FRACTION
from gpuseg.descriptors.base import BORDERS, Descriptor, Ready, Score, place_grid
from gpuseg.descriptors.filling import filled
from gpuseg.engines import engine_for
from gpuseg.grid import Grid

__all__ = ["Part", "WindowDescriptor", "Windows"]

Part = tuple[slice, slice]
"""Rows and columns of the grid."""


@dataclass(frozen=True)
class Windows:
    """Some of the windows of an image, those around h x w neighbouring grid points.

    Parameters
    ----------
    pixels : (h, w, p, q) float32 array
        In standard deviations of the image from its mean; anything where a pixel is not valid.
    values : (h, w, p, q) float32 array
        The same less the mean of the window's valid pixels, 0 where a pixel is not valid (so that it counts
        as the mean). Exactly 0 in a flat window.
    mean : (h, w) float32 array
    variance : (h, w) float32 array
        Over the valid pixels, exactly 0 in a flat window.
    count : (h, w) float32 array
        Number of valid pixels, at least 1.
    inside : (h, w, p, q) float32 array or None
        1 where a pixel is valid, else 0; None where all are.
    """

    pixels: Any
    values: Any
    mean: Any
    variance: Any
    count: Any
    inside: Any


class WindowDescriptor(Descriptor):
    """A descriptor of the window around every grid point.

    A subclass is a dataclass with ``window_radius`` and ``border``.
    """

    window_radius: Any
    border: str

    def grid(self, image_shape: tuple[int, int], stride: int) -> Grid:
        """The positions that are looked at.

        Parameters
        ----------
        image_shape : (H, W) of int
        stride : int

        Returns
        -------
        Grid
        """
        border = check_choice(self.border, "border", BORDERS)
        radius = check_radius(self.window_radius, "window_radius")
        return place_grid(image_shape, stride, radius, border, "window_radius")

    def halo(self) -> tuple[int, int]:
        """How far from a grid point pixels are looked at: the half size of the window.

        Returns
        -------
        (rows, cols) of int
        """
        return check_radius(self.window_radius, "window_radius")

    def scorer(self, ready: Ready, grid: Grid) -> Score:
        """What measures an image, some rows of grid points at a time; see `Descriptor.scorer`.

        Missing are values where fewer than half of a window's pixels are valid, and then the nearest grid
        point's are taken.

        Parameters
        ----------
        ready : Ready
        grid : Grid

        Returns
        -------
        callable
        """
        radius = check_radius(self.window_radius, "window_radius")
        n, pixels, valid = len(self.operations()), ready.pixels, ready.valid
        xp = namespace(pixels)
        fast = self._unmasked(ready) if valid is None else None
        function = None if fast is not None else self._measure(ready, xp)

        def score(band: Grid) -> Any:
            values = xp.empty((n, *band.shape), dtype=np.float32)
            if fast is not None:
                _write(functools.partial(fast, band), values, band, radius)
            else:
                _measure(function, pixels, valid, band, radius, values)
            return values

        if self.border == "valid" and valid is None:
            return score
        return filled(score, ready, grid, np.full(n, -1, np.int64), lambda band: _inside(band, radius))

    @abstractmethod
    def _measure(self, ready: Ready, xp: Any) -> Callable[[Windows], Any]:
        """Of the image and the namespace: what measures `Windows`.

        The function returned takes those around (h, w) grid points and gives (h, w, N).
        """

    def _unmasked(self, ready: Ready) -> Callable[[Grid, Part, Any], None] | None:
        """A faster way where no pixel of the image is masked, None where there is none.

        Gives a function of a grid, a part of it and the values (N, h, w), in which it writes those of that
        part.
        """
        return None


def _measure(
    function: Any,
    pixels: Any,
    valid: Any,
    grid: Grid,
    radius: tuple[int, int],
    values: Any,
) -> None:
    """Write the values (N, h, w) of all grid points, NaN where missing, some windows at a time."""
    xp, engine = namespace(pixels), engine_for(home_of(pixels))
    size = (2 * radius[0] + 1) * (2 * radius[1] + 1)

    def run(part: Part) -> None:
        windows = _gather(pixels, valid, grid, radius, part)
        found = xp.astype(function(windows), xp.float32)
        missing = windows.count < VALID_FRACTION * size
        if bool(xp.any(missing)):
            found = xp.where(missing[..., None], xp.asarray(xp.nan, dtype=xp.float32), found)
        values[:, part[0], part[1]] = xp.permute_dims(found, (2, 0, 1))

    at_a_time = max(1, engine.WINDOW_PIXELS_AT_A_TIME // size)
    width = min(grid.shape[1], at_a_time)
    engine.each(run, list(_parts(grid.shape, at_a_time // width, width)))


def _write(function: Callable[[Part, Any], None], values: Any, grid: Grid, radius: tuple[int, int]) -> None:
    """Write the values (N, h, w) of an image without a mask, NaN where missing."""
    xp, engine = namespace(values), engine_for(home_of(values))
    size = [2 * r + 1 for r in radius]
    width = min(grid.shape[1], max(1, engine.WINDOW_PIXELS_AT_A_TIME // math.prod(size)))
    width = -(-grid.shape[1] // -(-grid.shape[1] // width))  # strips of equal width
    # high enough that most lines of pixels are shared by as many windows as can be
    height = max(1, 5 * size[0] // grid.stride, engine.WINDOW_PIXELS_AT_A_TIME // (width * math.prod(size)))
    engine.each(lambda part: function(part, values), list(_parts(grid.shape, height, width)))
    share = np.multiply.outer(*(_inside_share(grid, axis, radius[axis]) for axis in (0, 1)))
    missing = share < VALID_FRACTION
    if missing.any():
        values[:, xp.asarray(missing)] = xp.nan


def _inside_share(grid: Grid, axis: int, radius: int) -> np.ndarray:
    """Share of the rows or columns of the windows that lie inside the image."""
    at, n = (grid.rows, grid.cols)[axis], grid.image_shape[axis]
    return (np.minimum(at + radius, n - 1) - np.maximum(at - radius, 0) + 1) / (2 * radius + 1)


def _inside(grid: Grid, radius: tuple[int, int]) -> tuple[int, int, int, int]:
    """Rectangle of the grid points whose windows lie inside the image: first row, end, first column, end."""
    spans = (np.flatnonzero(_inside_share(grid, axis, radius[axis]) == 1) for axis in (0, 1))
    rows, cols = ((int(span[0]), int(span[-1]) + 1) if span.size else (0, 0) for span in spans)
    return *rows, *cols


def _parts(shape: tuple[int, int], height: int, width: int) -> Iterator[Part]:
    """Rectangles of at most so many rows and columns of grid points."""
    steps = [
        [slice(a, min(a + step, n)) for a in range(0, n, step)]
        for n, step in zip(shape, (height, width), strict=True)
    ]
    return itertools.product(*steps)


def _gather(pixels: Any, valid: Any, grid: Grid, radius: tuple[int, int], part: Part) -> Windows:
    xp = namespace(pixels)
    places = [
        np.add.outer(positions[span], np.arange(-r, r + 1))
        for positions, span, r in zip((grid.rows, grid.cols), part, radius, strict=True)
    ]
    here = [(place >= 0) & (place < n) for place, n in zip(places, grid.image_shape, strict=True)]
    index = [
        xp.asarray(place.clip(0, n - 1).ravel()) for place, n in zip(places, grid.image_shape, strict=True)
    ]
    (h, p), (w, q) = places[0].shape, places[1].shape

    def windows_of(plane: Any) -> Any:
        chosen = xp.take(xp.take(plane, index[0], axis=0), index[1], axis=1)
        return xp.permute_dims(xp.reshape(chosen, (h, p, w, q)), (0, 2, 1, 3))

    inside = None
    if not all(bool(side.all()) for side in here):
        rows, cols = (xp.astype(xp.asarray(side), xp.float32) for side in here)
        inside = rows[:, None, :, None] * cols[None, :, None, :]
    if valid is not None:
        weight = xp.astype(windows_of(valid), xp.float32)
        inside = weight if inside is None else inside * weight
    return _centred(windows_of(pixels), inside)


def _centred(pixels: Any, inside: Any) -> Windows:
    xp = namespace(pixels)
    window = (-2, -1)

    def only_valid(values: Any) -> Any:
        return values if inside is None else values * inside

    if inside is None:
        count = xp.full(pixels.shape[:2], math.prod(pixels.shape[2:]), dtype=xp.float32)
    else:
        count = xp.sum(inside, axis=window)
        count = xp.where(count > 0, count, xp.ones_like(count))
    mean = xp.sum(only_valid(pixels), axis=window) / count
    values = only_valid(pixels - mean[..., None, None])
    # what the rounding of the mean left over, where the level is high against the contrast
    rest = xp.sum(values, axis=window) / count
    values = only_valid(values - rest[..., None, None])
    variance = xp.sum(values * values, axis=window) / count
    flat = variance <= FLAT_VARIANCE
    if bool(xp.any(flat)):
        values = xp.where(flat[..., None, None], xp.zeros_like(values), values)
        variance = xp.where(flat, xp.zeros_like(variance), variance)
    return Windows(pixels, values, mean + rest, variance, count, inside)
