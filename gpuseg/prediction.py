"""What labelling frames of one shape by translations needs to know beforehand, for both engines."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuseg.constants import VALID_FRACTION
from gpuseg.grid import Grid

__all__ = ["FrameLabels", "Missing", "PatternPlan", "PointLabels"]


@dataclass(frozen=True)
class PointLabels:
    """The patterns of the grid points of one frame; arrays of the engine's own kind.

    Parameters
    ----------
    labels : (h, w) int32 array
        -1 where some score stays missing, which happens on masked pixels only.
    certainty : (h, w) float32 array
        0 where the label is -1.
    misfit : (h, w) float32 array
        Squared distance of the scores from the nearest pattern; NaN where the label is -1.
    components : (K, h, w) float32 array
        Principal components of the scores.
    """

    labels: Any
    certainty: Any
    misfit: Any
    components: Any


@dataclass(frozen=True)
class FrameLabels:
    """What was found in one frame.

    Parameters
    ----------
    labels, certainty : (H, W) or (h, w) int32 and float32 arrays
        Of every pixel, or of every grid point where nothing is upsampled; -1 and 0 where masked. No certainty
        (None) if it was not asked for.
    point_labels, point_certainty : (h, w) int32 and float32 arrays
        None if not asked for.
    misfit : float
        Mean over the grid points on valid pixels; may be NaN if not asked for.
    n_broken : int
        Pixels that may be used but are not finite; if there are any, nothing else here means anything.
    constant : bool
        Whether all pixels are equal; nothing else means anything then either.
    frame : (H, W) array, optional
        What was given, where `n_broken` is not 0.
    """

    labels: Any
    certainty: Any
    point_labels: Any
    point_certainty: Any
    misfit: float
    n_broken: int
    constant: bool
    frame: Any = None


@dataclass(frozen=True)
class Missing:
    """Where scores are missing that are to be taken from other grid points, and which.

    Parameters
    ----------
    points : (P,) int32
        Numbers of the grid points, row by row.
    begins : (P + 1,) int32
        Where the entries of each begin and end.
    entries : (E, 3) int32
        The translation that is missing, the grid point its score is taken from (-1: from none, it is 0), and
        the translation there: itself or its opposite.
    known : (h, w) bool
        Grid points that then have all scores.
    """

    points: np.ndarray
    begins: np.ndarray
    entries: np.ndarray
    known: np.ndarray


@dataclass(frozen=True, eq=False)
class PatternPlan:
    """Translations, components and patterns for frames of one shape.

    Parameters
    ----------
    grid : Grid
    shifts : (N, 2) int64
        (d_row, d_col) in pixels.
    patch_radius : (rows, cols) of int
    method : {"direct", "fft", "box"}
        For engines that score first and project then.
    mean : (N,) float32
    axes : (K, N) float32
    centers : (n, K) float32
    valid : (H, W) bool, optional
        Pixels that may be used; None if every pixel is.
    fills : bool
        Whether missing scores are those of the opposite translation, else of the nearest grid point.
    """

    grid: Grid
    shifts: np.ndarray
    patch_radius: tuple[int, int]
    method: str
    mean: np.ndarray
    axes: np.ndarray
    centers: np.ndarray
    valid: np.ndarray | None = None
    fills: bool = True

    @functools.cached_property
    def opposite(self) -> np.ndarray:
        """(N,) int64: number of the opposite of each translation, -1 where there is none."""
        number = {(int(d), int(e)): k for k, (d, e) in enumerate(self.shifts)}
        return np.array([number.get((-int(d), -int(e)), -1) for d, e in self.shifts], np.int64)

    @functools.cached_property
    def pairs(self) -> np.ndarray:
        """(M, 2) int32: every translation once, beside its opposite; -1 where it has none or is its own."""
        pairs = [
            (k, -1 if other == k else int(other))
            for k, other in enumerate(self.opposite)
            if other < 0 or other >= k
        ]
        return np.array(pairs, np.int32)

    @functools.cached_property
    def usable(self) -> np.ndarray:
        """(h, w) bool: grid points on valid pixels."""
        if self.valid is None:
            return np.ones(self.grid.shape, bool)
        return np.ascontiguousarray(self.grid.at_points(self.valid))

    @functools.cached_property
    def scores_something(self) -> bool:
        """Whether there is a grid point at which some translation can be scored."""
        return not all(self._lacking(k).all() for k in range(len(self.shifts)))

    @functools.cached_property
    def missing(self) -> Missing:
        """What is missing: geometry and the mask tell, not the image."""
        n_cols = self.grid.shape[1]
        known = np.ones(self.grid.shape, bool)
        found = [np.empty((0, 4), np.int64)]
        for k, other in self.pairs.tolist():
            lacking = [self._lacking(each) for each in (k, other) if each >= 0]
            both = lacking[0] & lacking[-1]
            known &= ~(both & ~self.usable)
            row, col = np.nonzero(both & self.usable)
            if not row.size:
                continue
            source = _nearest(~both, row, col)
            for each, own in zip((k, other), lacking, strict=False):
                # the nearest point has the score of one of the two at least
                there = np.where(own.ravel()[source], k + other - each, each)
                there = np.where(source < 0, each, there)
                found.append(np.stack([row * n_cols + col, np.full(row.size, each), source, there], 1))
        table = np.concatenate(found)
        table = table[np.lexsort((table[:, 1], table[:, 0]))]
        points, begins = np.unique(table[:, 0], return_index=True)
        begins = np.append(begins, len(table)).astype(np.int32)
        return Missing(points.astype(np.int32), begins, table[:, 1:].astype(np.int32), known)

    @functools.cached_property
    def borrowed(self) -> tuple[np.ndarray, np.ndarray]:
        """(E,), (E,) int64: places of missing scores, counted map by map, and whose score each takes.

        Those of the opposite translation, else of the nearest grid point; -1 where there is none, and 0 is
        taken.
        """
        missing, size = self.missing, self.grid.size
        points = np.repeat(missing.points, np.diff(missing.begins)).astype(np.int64)
        which, there, by = missing.entries.astype(np.int64).T
        to, source = [which * size + points], [np.where(there < 0, -1, by * size + there)]
        for k, other in self.pairs.tolist():
            for one, two in ((k, other), (other, k)):
                if other >= 0:
                    lacking = np.flatnonzero(self._lacking(one) & ~self._lacking(two))
                    to.append(one * size + lacking)
                    source.append(two * size + lacking)
        return np.concatenate(to), np.concatenate(source)

    @functools.cached_property
    def near(self) -> np.ndarray:
        """(h, w) int32: the grid point whose label each one shows, itself where it has one; -1 for none."""
        known = self.missing.known
        numbers = np.where(known, np.arange(known.size).reshape(known.shape), -1)
        return np.asarray(self.grid.nearest_known(numbers), np.int32)

    def _lacking(self, k: int) -> np.ndarray:
        """Where less than half of the pixel pairs of a translation are valid: (h, w) bool."""
        if not self.fills:
            return np.zeros(self.grid.shape, bool)
        shift, size = self.shifts[k], [2 * radius + 1 for radius in self.patch_radius]
        shape = self.grid.image_shape
        begins = [max(0, -int(d)) for d in shift]
        ends = [min(n, n - int(d)) for n, d in zip(shape, shift, strict=True)]
        if self.valid is None:
            within = []
            for axis, positions in enumerate((self.grid.rows, self.grid.cols)):
                first = positions - self.patch_radius[axis]
                within.append(np.minimum(first + size[axis], ends[axis]) - np.maximum(first, begins[axis]))
            count = np.multiply.outer(*(np.maximum(each, 0) for each in within))
        else:
            count = self._valid_pairs(shift, begins, ends)
        return count < VALID_FRACTION * size[0] * size[1]

    def _valid_pairs(self, shift: np.ndarray, begins: list[int], ends: list[int]) -> np.ndarray:
        """Pixels of each patch that are valid and valid where the translation takes them: (h, w) int64."""
        both = np.zeros(self.grid.image_shape, bool)
        if all(begin < end for begin, end in zip(begins, ends, strict=True)):
            here = tuple(slice(begin, end) for begin, end in zip(begins, ends, strict=True))
            there = tuple(slice(s.start + int(d), s.stop + int(d)) for s, d in zip(here, shift, strict=True))
            both[here] = self.valid[here] & self.valid[there]  # type: ignore[index]
        sums = np.zeros([n + 1 for n in both.shape], np.int64)
        np.cumsum(np.cumsum(both, 0, out=sums[1:, 1:]), 1, out=sums[1:, 1:])
        edges = []
        for axis, positions in enumerate((self.grid.rows, self.grid.cols)):
            for radius in (-self.patch_radius[axis], self.patch_radius[axis] + 1):
                edges.append((positions + radius).clip(0, both.shape[axis]))
        top, bottom, left, right = edges
        return (
            sums[np.ix_(bottom, right)]
            - sums[np.ix_(top, right)]
            - sums[np.ix_(bottom, left)]
            + sums[np.ix_(top, left)]
        )


def _nearest(known: np.ndarray, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Which known grid point is nearest to each given one; of equals the first row, then column, or -1."""
    height, width = known.shape
    if not known.any():
        return np.full(row.size, -1)
    far = 2 * (height + width)
    place = np.where(known, np.arange(height)[:, None], -far)
    above = np.maximum.accumulate(place, axis=0)
    below = np.minimum.accumulate(np.where(known, place, far)[::-1], axis=0)[::-1]
    line = np.arange(height)[:, None]
    in_column = np.where(
        below - line < line - above, below, above
    )  # of each column the nearest, the upper of two
    found = np.empty(row.size, np.int64)
    step = max(1, POINTS_AT_A_TIME // width)
    for begin in range(0, row.size, step):
        part = slice(begin, begin + step)
        y = in_column[row[part]]
        distance = (y - row[part, None]) ** 2 + (np.arange(width) - col[part, None]) ** 2
        number = y * width + np.arange(width)
        # a column without any lies further away than all of the grid; distance first, then row, then column
        key = np.where((y >= 0) & (y < height), distance * known.size + number, np.iinfo(np.int64).max)
        found[part] = np.take_along_axis(number, key.argmin(axis=1)[:, None], 1)[:, 0]
    return found


POINTS_AT_A_TIME = 1 << 20
"""Pairs of grid points whose distances are in memory at a time."""
