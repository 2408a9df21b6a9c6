"""Label maps: which pixel is which grain."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpuseg.synthetic._geometry import distance_along, squared_distance
from gpuseg.synthetic._inputs import RandomState, check_integer, check_number, check_shape


def label_halves(shape: tuple[int, int], *, angle: float = 75.0, offset: float = 0.0) -> NDArray[np.int32]:
    """Two grains and a straight boundary.

    Parameters
    ----------
    shape : (H, W)
        In pixels.
    angle : float, default 75
        Direction of the boundary in degrees. Label 1 lies on its right as one looks along it.
    offset : float, default 0
        Distance of the boundary from the image's centre in pixels, positive into label 1.

    Returns
    -------
    (H, W) int32, 0 or 1
    """
    return (distance_along(check_shape(shape), angle - 90) > offset).astype(np.int32)


def label_bands(shape: tuple[int, int], n_bands: int, *, angle: float = 90.0) -> NDArray[np.int32]:
    """Parallel bands of equal width, one label each.

    Parameters
    ----------
    shape : (H, W)
        In pixels.
    n_bands : int
        At least 1.
    angle : float, default 90
        Direction of the boundaries in degrees: 90 gives bands side by side, 0 bands on top of each other.

    Returns
    -------
    (H, W) int32
        0 ... n_bands - 1, from left to right (for 0 degrees from top to bottom).
    """
    n_bands = check_integer("n_bands", n_bands, least=1)
    along = distance_along(check_shape(shape), angle - 90)
    low, high = along.min(), along.max()
    share = (along - low) / max(high - low, 1e-9)
    return np.minimum((share * n_bands).astype(np.int32), n_bands - 1)


def label_discs(shape: tuple[int, int], centers: ArrayLike, radii: ArrayLike) -> NDArray[np.int32]:
    """Discs in a matrix: label 0 outside, k + 1 in disc k; where discs overlap the last one wins.

    Parameters
    ----------
    shape : (H, W)
        In pixels.
    centers : (n, 2)
        (row, col) of the centres, inside the image or not.
    radii : float or (n,)
        In pixels, positive.

    Returns
    -------
    (H, W) int32, 0 ... n
    """
    shape = check_shape(shape)
    points = np.asarray(centers, float)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"`centers` has shape {points.shape}; (n, 2) is needed, a (row, col) for each disc")
    labels = np.zeros(shape, np.int32)
    for k, ((row, col), radius) in enumerate(zip(points, np.broadcast_to(radii, len(points)), strict=True)):
        check_number("radii", float(radius), above=0)
        labels[squared_distance(shape, row, col) <= radius**2] = k + 1
    return labels


def label_voronoi(
    shape: tuple[int, int], n_grains: int, *, random_state: RandomState = None
) -> NDArray[np.int32]:
    """Grains as the Voronoi cells of random points that keep away from each other.

    Parameters
    ----------
    shape : (H, W)
        In pixels.
    n_grains : int
        From 1 to the number of pixels; every grain has at least one pixel.
    random_state : int, Generator or None
        Same number, same grains.

    Returns
    -------
    (H, W) int32, 0 ... n_grains - 1
    """
    shape = check_shape(shape)
    n_grains = check_integer("n_grains", n_grains, least=1)
    size = shape[0] * shape[1]
    if n_grains > size:
        raise ValueError(f"`n_grains` is {n_grains}; an image of {shape} has room for at most {size}")
    rng = np.random.default_rng(random_state)
    pool = rng.choice(size, min(size, 3 * n_grains), replace=False)
    rows, cols = np.unravel_index(pool, shape)
    seed, to_nearest_seed = 0, np.full(len(pool), np.inf)
    nearest, labels = np.full(shape, np.inf, np.float32), np.zeros(shape, np.int32)
    for k in range(n_grains):
        distance = squared_distance(shape, rows[seed], cols[seed])
        labels[distance < nearest] = k
        nearest = np.minimum(nearest, distance)
        to_nearest_seed = np.minimum(to_nearest_seed, (rows - rows[seed]) ** 2 + (cols - cols[seed]) ** 2)
        seed = int(to_nearest_seed.argmax())
    return labels
