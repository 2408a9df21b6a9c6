"""Directions and distances in an image."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gpuseg.synthetic._inputs import check_number


def rotate_vector(vector: tuple[float, float], angle: float) -> tuple[float, float]:
    """A vector turned counter-clockwise, as seen in the image.

    Parameters
    ----------
    vector : (row, col) of float
    angle : float
        In degrees.

    Returns
    -------
    (row, col) of float
    """
    row, col = vector
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return row * cos - col * sin, col * cos + row * sin


def close_pairs(points: NDArray[np.float64], distance: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All ordered pairs (i, j), i != j, of points closer than `distance`; cells of that size, so time ~ n."""
    if not len(points):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    cells = np.floor((points - points.min(0)) / distance).astype(np.int64) + 1
    width = int(cells[:, 1].max()) + 2
    keys = cells[:, 0] * width + cells[:, 1]
    order = np.argsort(keys)
    ordered = keys[order]
    pairs = []
    for step in (d_row * width + d_col for d_row in (-1, 0, 1) for d_col in (-1, 0, 1)):
        start, stop = (
            np.searchsorted(ordered, keys + step),
            np.searchsorted(ordered, keys + step, side="right"),
        )
        number = stop - start
        i = np.repeat(np.arange(len(points)), number)
        within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        j = order[np.repeat(start, number) + within]
        close = (i != j) & (((points[i] - points[j]) ** 2).sum(1) < distance**2)
        pairs.append((i[close], j[close]))
    first, second = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return first, second


def distance_along(shape: tuple[int, int], angle: float) -> NDArray[np.float64]:
    """Distance of each pixel from the image's centre along a direction (degrees), (H, W)."""
    check_number("angle", angle)
    d_row, d_col = rotate_vector((0.0, 1.0), angle)
    rows = (np.arange(shape[0]) - (shape[0] - 1) / 2) * d_row
    cols = (np.arange(shape[1]) - (shape[1] - 1) / 2) * d_col
    return np.add.outer(rows, cols)


def squared_distance(shape: tuple[int, int], row: float, col: float) -> NDArray[np.float32]:
    """Squared distance of each pixel from a point, (H, W)."""
    distance = np.add.outer((np.arange(shape[0]) - row) ** 2.0, (np.arange(shape[1]) - col) ** 2.0)
    return distance.astype(np.float32)
