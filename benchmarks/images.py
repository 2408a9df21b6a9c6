"""The pictures of the cases, each with its truth."""

from __future__ import annotations

import functools

import numpy as np

from gpuseg import synthetic


@functools.lru_cache(maxsize=4)
def bicrystal(size: int, dose: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two hexagonal grains of 14 px spacing, 14 degrees apart, with a tilted boundary.

    Parameters
    ----------
    size : int
        Side in pixels.
    dose : float
        Mean counts per pixel.
    seed : int

    Returns
    -------
    image : (size, size) float32
    grains : (size, size) int
        The truth.
    """
    scene = synthetic.bicrystal(
        (size, size), period=14.0, misorientation=14.0, counts=dose, random_state=seed
    )
    return np.ascontiguousarray(scene.image, np.float32), scene.truth
