"""Scores of circular patches on the CPU: what the kernels of `_cpu_polar` work on, tile by tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuseg.constants import FLAT_VARIANCE
from gpuseg.polar import BATCH, SPLINE_ROWS, PolarPlan

Tile = tuple[int, int, int, int]
"""First row and column, rows and columns, of pixels."""

POLAR_TILE = (16, 128)
"""Pixels of a tile of polar patches (rows, columns): the samples of a batch stay in the second cache."""

CAREFUL_TILE = (16, 32)
"""The same where pixels are computed in double precision."""

FLAT_IN_SINGLE = np.float32(FLAT_VARIANCE / 10)
"""A variance that is no larger in single precision is flat for certain where the mean square is
below FLAT_SQUARE."""

FLAT_SQUARE = np.float32(1e-6)
"""Of the samples about the level that they are taken from: a variance is its difference from the square of
their mean, and rounded as it is."""

FAINT = np.float32(1e-4)
"""Below this variance, relative to the image's, single precision keeps less than five digits of a score."""

CANCELLED = np.float32(16)
"""Nor does it keep more where the mean square is so much larger than the variance: a glide may lead to a
patch on another level."""

FLOATS = FLAT_IN_SINGLE, FLAT_SQUARE, FAINT, CANCELLED
"""What the kernel in single precision is told."""


@dataclass(frozen=True)
class Polar:
    """Everything the scores of polar patches are made of; its methods lay out the arguments of the kernels.

    Pixels whose patches hold something invalid are computed in tiles of their own, in double precision, and
    so are those with so little contrast that single precision does not do.
    """

    coefficients: np.ndarray
    complete: np.ndarray
    level: np.ndarray
    redo: np.ndarray
    plan: PolarPlan
    scores: np.ndarray
    top: int
    """Row of the coefficients that is the first of all others."""

    @classmethod
    def of(
        cls, pixels: np.ndarray, valid: np.ndarray | None, plan: PolarPlan, rows: tuple[int, int]
    ) -> Polar:
        from scipy import ndimage

        side = 2 * plan.reach + 1
        begin, end = max(0, rows[0] - plan.reach - SPLINE_ROWS), rows[1] + plan.reach + SPLINE_ROWS
        pixels, valid = pixels[begin:end], None if valid is None else valid[begin:end]
        scored = slice(rows[0] - begin, rows[1] - begin)
        coefficients = ndimage.spline_filter(pixels.astype(np.float64), output=np.float64, mode="mirror")
        known = np.ones(pixels.shape, np.uint8) if valid is None else valid.astype(np.uint8)
        complete = ndimage.minimum_filter(known, side, mode="constant", cval=0).astype(bool)
        level = ndimage.uniform_filter(pixels.astype(np.float64), side, mode="mirror")
        if valid is not None:
            coefficients[~valid] = np.nan
        complete, level = complete[scored], level[scored]
        scores = np.empty((len(plan.kinds), *complete.shape), np.float32)
        return cls(coefficients, complete, level, ~complete, plan, scores, scored.start)

    def clean(self) -> list[Tile]:
        """Tiles of which some pixel is surrounded by valid ones."""
        return [
            tile
            for tile in _pixel_tiles(self.complete.shape, POLAR_TILE)
            if self._here(self.complete, tile).any()
        ]

    def marked(self) -> list[Tile]:
        """Tiles around the pixels that have to be computed with care."""
        found = []
        for tile in _pixel_tiles(self.redo.shape, CAREFUL_TILE):
            here = self._here(self.redo, tile)
            if here.any():
                rows, cols = np.flatnonzero(here.any(1)), np.flatnonzero(here.any(0))
                top, left = int(rows[0]), int(cols[0])
                size = int(rows[-1]) + 1 - top, int(cols[-1]) + 1 - left
                found.append((tile[0] + top, tile[1] + left, *size))
        return found

    def call(self, tile: Tile) -> tuple[Any, ...]:
        """Arguments of the kernel `polar_tile`."""
        row, col, n_rows, n_cols = tile
        width, n = _in_vectors(n_cols), len(self.plan.kinds)
        around = self._around(tile, 0.0)
        around[np.isnan(around)] = 0  # where no score is taken from
        middle = float(self.level[row + n_rows // 2, col + n_cols // 2])
        level = np.zeros((n_rows, width), np.float32)
        level[:, :n_cols] = self._here(self.level, tile) - middle
        size = level.size
        work = (
            np.empty((n_rows + 3) * width, np.float32),
            np.empty((BATCH, size), np.float32),
            *np.empty((2, size), np.float32),
            *np.empty((3, n, size), np.float32),
        )
        region = (around - middle).astype(np.float32)
        known = region.ravel(), region.shape[1], self._starts(region.shape[1]), level.ravel()
        return *known, self._plan(np.float32), tile, FLOATS, work, self.scores, self.redo

    def masked_call(self, tile: Tile) -> tuple[Any, ...]:
        """Arguments of the kernel `masked_polar_tile`."""
        size = tile[2] * _in_vectors(tile[3])
        work = (
            np.empty((tile[2] + 3) * _in_vectors(tile[3])),
            *np.empty((2, BATCH, size)),
            np.empty((len(self.plan.kinds), 6, size)),
        )
        region = self._around(tile, np.nan)
        known = region.ravel(), region.shape[1], self._starts(region.shape[1])
        return *known, self._plan(np.float64), tile, FLAT_VARIANCE, work, self.scores

    def _here(self, plane: np.ndarray, tile: Tile) -> np.ndarray:
        return plane[tile[0] : tile[0] + tile[2], tile[1] : tile[1] + tile[3]]

    def _around(self, tile: Tile, outside: float) -> np.ndarray:
        """Coefficients of a tile and all it reaches, with room to read on."""
        reach = self.plan.reach
        shape = tile[2] + 2 * reach + 1, _in_vectors(tile[3]) + 2 * reach + 1
        return _cut(self.coefficients, (self.top + tile[0] - reach, tile[1] - reach), shape, outside)

    def _starts(self, pitch: int) -> np.ndarray:
        """Place in the region of the first pixel of each sample."""
        row, col = self.plan.corners.astype(np.int64).T + self.plan.reach
        return row * pitch + col

    def _plan(self, dtype: Any) -> tuple[np.ndarray, ...]:
        plan = self.plan
        floats = [array.astype(dtype) for array in (plan.splines, plan.own_weight, plan.pair_weight)]
        return (*floats[:2], plan.pairs, floats[2], plan.batch_samples, plan.batch_pairs, plan.kinds)


def _pixel_tiles(shape: tuple[int, int], tile: tuple[int, int]) -> list[Tile]:
    return [
        (row, col, min(tile[0], shape[0] - row), min(tile[1], shape[1] - col))
        for row in range(0, shape[0], tile[0])
        for col in range(0, shape[1], tile[1])
    ]


def _in_vectors(length: int) -> int:
    return -(-length // 8) * 8


def _cut(plane: np.ndarray, corner: tuple[int, int], shape: tuple[int, int], outside: float) -> np.ndarray:
    """A rectangle of an image that may reach beyond it."""
    cut = np.full(shape, outside, plane.dtype)
    begin = [max(-c, 0) for c in corner]
    part = plane[tuple(slice(max(c, 0), max(c + n, 0)) for c, n in zip(corner, shape, strict=True))]
    cut[begin[0] : begin[0] + part.shape[0], begin[1] : begin[1] + part.shape[1]] = part
    return cut
