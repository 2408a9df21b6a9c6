"""What is missing at a grid point is the nearest grid point's, also where the grid is worked on in bands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpuseg.arrays import home_of, namespace, to_numpy
from gpuseg.descriptors.base import Ready, Score, check_scored, usable_points
from gpuseg.engines import engine_for
from gpuseg.grid import Grid

__all__ = ["filled"]

Rectangle = tuple[int, int, int, int]
"""First row, end, first column, end."""

NOWHERE = (0, 0, 0, 0)


def filled(
    score: Score,
    ready: Ready,
    grid: Grid,
    opposite: np.ndarray,
    complete: Callable[[Grid], Rectangle] | None = None,
) -> Score:
    """Scores of which none is missing, the same for every band that a grid point is part of.

    Parameters
    ----------
    score : callable
        Of any band of `grid`; gives its scores (N, h, w), NaN where missing.
    ready : Ready
    grid : Grid
        All of it: the nearest grid point with a score may lie far from a band.
    opposite : (N,) int64 NumPy array
        Index of the operation that scores the same pair from its other end, -1 where there is none.
    complete : callable, optional
        Of a band; gives the rectangle in it where nothing is missing if no pixel is masked.

    Returns
    -------
    callable
        As `score`; only grid points on invalid pixels may stay NaN. All that have neither a score nor an
        opposite where ``ready.filling`` is False.
    """
    height = grid.shape[0]

    def swap(band: Grid) -> Any:
        values = score(band)
        known = NOWHERE if complete is None or ready.valid is not None else complete(band)
        nowhere = namespace(values).zeros(band.shape, dtype=bool)
        return engine_for(home_of(values)).fill_missing(values, opposite, nowhere, known)

    def fill(band: Grid) -> Any:
        inner = grid.place_of(band)
        begin, end = inner
        while True:
            wide = grid.band(begin, end)
            values = score(wide)
            known = NOWHERE if complete is None or ready.valid is not None else complete(wide)
            wanted = usable_points(ready.pixels, ready.valid, wide)
            wanted[: inner[0] - begin, :] = False
            wanted[inner[1] - begin :, :] = False
            outside = begin > 0, end < height
            if wide == grid and not (known[0] < known[1] and known[2] < known[3]):
                check_scored(values)
            further = _further(values, opposite, wanted, known, outside) if any(outside) else 0
            if further == 0:
                break
            del values
            begin, end = max(0, begin - further), min(height, end + further)
        values = engine_for(home_of(values)).fill_missing(values, opposite, wanted, known)
        if wide == band:
            return values
        return namespace(values).asarray(values[:, inner[0] - begin : inner[1] - begin, :], copy=True)

    return fill if ready.filling else swap


def _further(
    values: Any, opposite: np.ndarray, wanted: Any, known: Rectangle, outside: tuple[bool, bool]
) -> int:
    """Rows that are still to be scored above and below until the nearest score of every point is there.

    It is there for certain where some score, in the same row or the same column, is nearer than any grid
    point above or below can be.

    Parameters
    ----------
    values : (N, h, w) float32 array
        NaN where missing.
    opposite : (N,) int64
    wanted : (h, w) bool array
        Grid points that are to be filled.
    known : rectangle
        Where nothing is missing.
    outside : (bool, bool)
        Whether there are grid points above and below.

    Returns
    -------
    int
        0 if none.
    """
    n, h, w = values.shape
    wanted = to_numpy(wanted)
    rows = np.flatnonzero(wanted.any(axis=1))
    if not rows.size:
        return 0
    spans = [slice(0, w)]
    if known[2] < known[3] and known[0] <= rows[0] and rows[-1] < known[1]:  # only the sides miss anything
        spans = [slice(0, min(known[2] + 1, w)), slice(max(known[3] - 1, 0), w)]
    far = h + w
    line = np.arange(h)[:, None]
    room = np.minimum(line + 1 if outside[0] else far, h - line if outside[1] else far)
    further = 0
    for span in spans:
        for k in range(n):
            if opposite[k] > k:
                continue
            missing = _missing(values, k, int(opposite[k]), span)
            points = missing & wanted[:, span]
            if not points.any():
                continue
            nearest = np.minimum(_steps(missing, far), _steps(missing.T, far).T)
            lacking = (nearest - room)[points].max() + 1
            if lacking > 0:
                further = max(further, int(lacking) if lacking < far - h else h)
    return further


def _missing(values: Any, k: int, other: int, span: slice) -> np.ndarray:
    xp = namespace(values)
    missing = xp.isnan(values[k, :, span])
    if 0 <= other != k:
        missing = missing & xp.isnan(values[other, :, span])
    return to_numpy(missing)


def _steps(missing: np.ndarray, far: int) -> np.ndarray:
    """Distance of every point from the nearest in its line (the last axis) that is there, at most `far`."""
    place = np.broadcast_to(np.arange(missing.shape[1]), missing.shape)
    before = np.maximum.accumulate(np.where(missing, -far, place), axis=1)
    after = np.minimum.accumulate(np.where(missing, 2 * far, place)[:, ::-1], axis=1)[:, ::-1]
    return np.minimum(np.minimum(place - before, after - place), far)
