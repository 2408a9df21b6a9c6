"""A numba kernel from components to patterns."""

from __future__ import annotations

import numpy as np
from numba import njit

from gpuseg.engines._cpu_options import KERNEL

U = np.uintp
ROUNDED_AS_NUMPY = {**KERNEL, "fastmath": False}
"""So that a labeller and `predict` agree where a point lies half-way between two centres."""


@njit(**ROUNDED_AS_NUMPY)
def nearest_patterns(points, centers, begin, labels, certainty, squared):
    """Nearest centre of points (K, n), how certain it is, and the squared distance from it, from `begin` on.

    A point that is not finite gets -1, 0 and NaN.
    """
    for j in range(U(points.shape[1])):
        nearest, second, label = np.float32(np.inf), np.float32(np.inf), -1
        for c in range(centers.shape[0]):
            distance = np.float32(0)
            for k in range(points.shape[0]):
                difference = points[k, j] - centers[c, k]
                distance += difference * difference
            if distance < nearest:
                nearest, second, label = distance, nearest, c
            elif distance < second:
                second = distance
        known, sure = label >= 0, np.float32(0)
        if known and centers.shape[0] == 1:
            sure = np.float32(1)
        elif known and second > 0:
            sure = np.float32(1) - np.sqrt(nearest / second)
        at = U(begin) + j
        labels[at], certainty[at], squared[at] = label, sure, nearest if known else np.nan
