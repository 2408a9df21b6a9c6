"""numba kernels of the level and contrast of an image: each works on a part of it."""

from __future__ import annotations

import numpy as np
from numba import njit

from gpuseg.engines._cpu_options import KERNEL

U = np.uintp


@njit(**KERNEL)
def moments(pixels, level, sums):
    """sums[0], sums[1] = sum of the pixels' differences from a level, and of their squares."""
    total = total_of_squares = 0.0
    for k in range(U(pixels.size)):
        v = pixels[k] - level
        total += v
        total_of_squares += v * v
    sums[0] = total
    sums[1] = total_of_squares


@njit(**KERNEL)
def rescale(pixels, level, factor, out):
    """out = (pixels - level) * factor, rounded once."""
    for k in range(U(pixels.size)):
        out[k] = (pixels[k] - level) * factor
