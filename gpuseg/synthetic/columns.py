"""The columns of atoms of grains, and their image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpuseg.synthetic._geometry import close_pairs
from gpuseg.synthetic._inputs import RandomState, check_labels, check_number, check_shape
from gpuseg.synthetic.phases import Phase

REACH_IN_SIGMA = 5.0
"""A Gaussian column is summed out to this many sigma, where it has fallen to 4e-6 of its peak."""


CHUNK = 1 << 21
"""Pixels of columns rendered at a time; bounds the working memory to some 50 MB."""


def columns_of_grains(
    labels: NDArray[np.integer],
    phases: Sequence[Phase],
    *,
    margin: float = 0.0,
    min_distance: float = 0.0,
    random_state: RandomState = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int32]]:
    """The columns of every grain that lie inside that grain.

    Parameters
    ----------
    labels : (H, W) int
        Grain of each pixel, 0 ... len(phases) - 1.
    phases : sequence of Phase
        What each grain is made of: `Lattice`, `Amorphous`, `Vacuum`.
    margin : float, default 0
        Columns this far outside the image are given too (their tails reach inside); they belong to the grain
        of the nearest pixel.
    min_distance : float, default 0
        Of two columns of different grains closer than this (pixels), that of the larger label is left out.
    random_state : int, Generator or None
        Decides the origin of every lattice.

    Returns
    -------
    positions : (n, 2) float64
        (row, col) in pixels.
    heights : (n,) float64
        Peak height of each column.
    grains : (n,) int32
        The label each column belongs to.
    """
    labels = check_labels(labels, len(phases))
    check_number("min_distance", min_distance, least=0)
    streams = np.random.default_rng(random_state).spawn(len(phases))
    parts = []
    for k, (phase, stream) in enumerate(zip(phases, streams, strict=True)):
        positions, heights = phase.columns(labels.shape, margin, stream)
        row, col = (np.rint(positions).astype(int).clip(0, np.array(labels.shape) - 1)).T
        here = labels[row, col] == k
        parts.append((positions[here], heights[here], np.full(here.sum(), k, np.int32)))
    positions, heights, grains = (np.concatenate(part) for part in zip(*parts, strict=True))
    if min_distance > 0:
        first, second = close_pairs(positions, min_distance)
        keep = np.ones(len(positions), bool)
        keep[second[grains[first] < grains[second]]] = False
        positions, heights, grains = positions[keep], heights[keep], grains[keep]
    return positions, heights, grains


def gaussian_columns(
    shape: tuple[int, int], positions: ArrayLike, heights: ArrayLike = 1.0, *, sigma: float
) -> NDArray[np.float32]:
    """Sum of round Gaussians, ``height * exp(-distance**2 / (2 sigma**2))``, at the centre of every pixel.

    Positions are exact, not rounded to pixels; each Gaussian is cut off at 5 sigma (4e-6 of its height) along
    either axis. Its sum over the pixels is ``2 pi sigma**2 height`` for sigma of about 0.7 pixels and more.

    Parameters
    ----------
    shape : (H, W)
        In pixels.
    positions : (n, 2)
        (row, col), inside the image or not.
    heights : float or (n,), default 1
        Of the peaks.
    sigma : float
        Width in pixels, positive.

    Returns
    -------
    (H, W) float32
    """
    shape, sigma = check_shape(shape), check_number("sigma", sigma, above=0)
    points = np.asarray(positions, float)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(
            f"`positions` has shape {points.shape}; (n, 2) is needed, a (row, col) for each column"
        )
    tall = np.broadcast_to(np.asarray(heights, float), len(points))
    reach = math.ceil(REACH_IN_SIGMA * sigma)
    nearest = np.rint(points).astype(int)
    seen = ((nearest >= -reach) & (nearest < np.array(shape) + reach)).all(1)
    points, tall, nearest = points[seen], tall[seen], nearest[seen]
    window = np.arange(-reach, reach + 1)
    rows, cols = shape[0] + 4 * reach, shape[1] + 4 * reach  # room for the whole of the outermost columns
    canvas = np.zeros(rows * cols)
    step = max(1, CHUNK // len(window) ** 2)
    for start in range(0, len(points), step):
        part = slice(start, start + step)
        off_centre = window + (nearest[part] - points[part])[..., None]  # (n, 2, s)
        profile = np.exp(-0.5 * (off_centre / sigma) ** 2)
        spots = (tall[part, None] * profile[:, 0])[:, :, None] * profile[:, 1][:, None, :]
        at = nearest[part] + 2 * reach
        index = ((at[:, :1] + window) * cols)[:, :, None] + (at[:, 1:] + window)[:, None, :]
        canvas += np.bincount(index.ravel(), spots.ravel(), minlength=canvas.size)
    inside = canvas.reshape(rows, cols)[2 * reach : rows - 2 * reach, 2 * reach : cols - 2 * reach]
    return inside.astype(np.float32)


def nearest_columns(positions: NDArray[np.float64], places: ArrayLike | None) -> NDArray[np.intp]:
    """Numbers of the columns nearest to the places, each once."""
    points = np.empty((0, 2)) if places is None else np.asarray(places, float)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(
            f"`vacancies` has shape {points.shape}; finite (n, 2) is needed, a (row, col) for each column"
        )
    if not len(positions) and len(points):
        raise ValueError("`vacancies` are wanted where no phase has columns")
    nearest = [int(((positions - point) ** 2).sum(1).argmin()) for point in points]
    return np.unique(np.array(nearest, np.intp))
