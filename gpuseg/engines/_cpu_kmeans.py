"""A numba kernel of k-means: all of Lloyd's iteration from one start."""

from __future__ import annotations

import numpy as np
from numba import njit

from gpuseg.engines._cpu_options import INNER, KERNEL

U = np.uintp
AT_A_TIME = 512
"""Samples whose distances stay in the first-level cache."""


@njit(**INNER)
def _nearest(columns, first, n, centers, distance, nearest, labels):
    """Label and squared distance of the nearest centre, of the samples `first` to first + n."""
    for c in range(centers.shape[0]):
        for j in range(n):
            distance[j] = 0
        for k in range(columns.shape[0]):
            column, center = columns[k], centers[c, k]
            for j in range(n):
                difference = column[first + j] - center
                distance[j] += difference * difference
        for j in range(n):
            nearer = c == 0 or distance[j] < nearest[j]
            nearest[j] = distance[j] if nearer else nearest[j]
            labels[j] = c if nearer else labels[j]


@njit(**INNER)
def _add_members(columns, first, n, labels, sums):
    """sums[c] = sum of the samples of each cluster, and how many they are."""
    for c in range(sums.shape[0]):
        count = np.int32(0)
        for j in range(n):
            count += np.int32(1) if labels[j] == c else np.int32(0)
        sums[c, columns.shape[0]] += count
        for k in range(columns.shape[0]):
            column, total = columns[k], np.float32(0)
            for j in range(n):
                total += column[first + j] if labels[j] == c else np.float32(0)
            sums[c, k] += total


@njit(**KERNEL)
def lloyd(columns, centers, max_iter, threshold, sums, distance, nearest, labels, found):
    """Move centres (n, K) until they move no more; columns (K, S); found = inertia, iterations.

    sums (n, K + 1) float64, the others of `AT_A_TIME` numbers: working memory.

    Sums of a few hundred samples are made in single precision, sums of those in double.
    """
    n_samples = columns.shape[1]
    n_iter, moved = 0, np.inf
    while True:
        for c in range(sums.shape[0]):
            for k in range(sums.shape[1]):
                sums[c, k] = 0
        inertia = 0.0
        for first in range(0, n_samples, AT_A_TIME):
            n = U(min(AT_A_TIME, n_samples - first))
            _nearest(columns, U(first), n, centers, distance, nearest, labels)
            _add_members(columns, U(first), n, labels, sums)
            for j in range(n):
                inertia += nearest[j]
        if n_iter >= max_iter or moved <= threshold:
            break
        moved = 0.0
        for c in range(centers.shape[0]):
            count = sums[c, columns.shape[0]]
            for k in range(columns.shape[0]):
                before = centers[c, k]
                centers[c, k] = np.float32(sums[c, k] / count) if count > 0 else before
                moved += (np.float64(centers[c, k]) - before) ** 2
        n_iter += 1
    found[0], found[1] = inertia, n_iter
