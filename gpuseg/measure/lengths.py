"""The length of boundaries in a map of labels, by counting where straight lines cross them.

Cauchy and Crofton: the length of a curve is proportional to how often it is crossed by the lines of a
regular family, averaged over all directions. Eight directions are taken, those of the steps from a pixel to
its neighbours and of a knight's move, each weighted by the angle for which it stands.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["lengths_between", "numbered", "outlines"]

STEPS = ((0, 1), (1, 2), (1, 1), (2, 1), (1, 0), (2, -1), (1, -1), (1, -2))  # (row, col), by their angle


def lengths_between(labels: np.ndarray, stride: int) -> np.ndarray:
    """Length of the boundary between each two labels.

    Parameters
    ----------
    labels : (H, W) array of int
        0, 1, ...; negative = nothing is known there, no boundary.
    stride : int
        Length of a step in pixels. Labels that were found at every `stride`-th pixel have stairs of that
        size, which are no part of a boundary; steps as long as the stairs do not see them.

    Returns
    -------
    (n, n) float64 array
        In pixels; symmetric, with zeros on the diagonal. The boundary is thought to go on straight across
        the border of the image, which itself is no boundary.
    """
    n = max(int(labels.max()) + 1, 0)
    if n == 0:
        return np.zeros((0, 0))
    # one name for "nothing"; two strides of margin, so that every pixel has all its partners
    named = np.where(labels < 0, n, labels)
    margin = 2 * stride
    padded = np.pad(named, margin, mode="edge")
    found = np.zeros((n + 1, n + 1))
    for step, weight in zip(STEPS, _weights(), strict=True):
        found += weight * _crossings(padded, named.shape, margin, step, stride, n)
    found = found[:n, :n]
    return (found + found.T) / 2


def numbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels numbered without gaps, so that what is kept of each two of them stays small.

    Parameters
    ----------
    labels : (H, W) array of int
        0, 1, ...; negative = nothing is known there.

    Returns
    -------
    numbers : (H, W) array of int
        0 ... n - 1, -1 where there is none.
    names : (n,) array of int
        The label that each number stands for, rising.
    """
    names = np.flatnonzero(np.bincount(labels[labels >= 0]))
    if names.size == 0:
        return labels, names
    number = np.full(int(names[-1]) + 2, -1)  # the last entry is that of -1
    number[names] = np.arange(names.size)
    return number[np.maximum(labels, -1)], names


def outlines(names: np.ndarray, stride: int) -> np.ndarray:
    """Length of the outline of each named region, holes and parts along the border of the image included.

    Parameters
    ----------
    names : (H, W) array of int
        1 ... n = region, 0 = none.
    stride : int
        As in `lengths_between`.

    Returns
    -------
    (n,) float64 array
        In pixels.
    """
    n, margin = int(names.max()), 2 * stride
    padded = np.pad(names, margin)
    here = _shifted(padded, names.shape, margin, (0, 0))
    found = np.zeros(n + 1)
    for (row, col), weight in zip(STEPS, _weights(), strict=True):
        for step in (stride, -stride):
            there = _shifted(padded, names.shape, margin, (row * step, col * step))
            found += weight * np.bincount(here[here != there], minlength=n + 1)
    return found[1:] / stride


def _weights() -> np.ndarray:
    """Length that one crossing of each direction stands for: pi / 2 x share of all angles x line distance."""
    angles = np.array([math.atan2(row, col) % math.pi for row, col in STEPS])
    gap = (np.roll(angles, -1) - angles) % math.pi
    share = (gap + np.roll(gap, 1)) / (2 * math.pi)
    return math.pi / 2 * share / np.array([math.hypot(*step) for step in STEPS])


def _crossings(
    padded: np.ndarray, shape: tuple[int, ...], margin: int, step: tuple[int, int], stride: int, n: int
) -> np.ndarray:
    """(n + 1, n + 1) how often each label is left for each other one by a step from inside the image.

    Forwards and backwards both count half, so that a boundary near the border weighs as much as elsewhere.
    A third label half-way of a knight's move is a boundary to both ends, and not one between the ends.
    """
    here = _shifted(padded, shape, margin, (0, 0))
    found = np.zeros((n + 1, n + 1))
    for sign in (1, -1):
        there = _shifted(padded, shape, margin, (sign * step[0] * stride, sign * step[1] * stride))
        differ = here != there
        first, last = here[differ], there[differ]
        if 2 in map(abs, step):
            half = tuple(sign * stride * math.trunc(each / 2) for each in step)
            middle = _shifted(padded, shape, margin, half)[differ]
            between = (middle != first) & (middle != last) & (middle < n)
            found += _count(first[between], middle[between], n) + _count(middle[between], last[between], n)
            first, last = first[~between], last[~between]
        found += _count(first, last, n)
    return found / stride


def _shifted(padded: np.ndarray, shape: tuple[int, ...], margin: int, shift: tuple[int, ...]) -> np.ndarray:
    row, col = (margin + each for each in shift)
    return padded[row : row + shape[0], col : col + shape[1]]


def _count(first: np.ndarray, last: np.ndarray, n: int) -> np.ndarray:
    pairs = np.bincount(first * (n + 1) + last, minlength=(n + 1) ** 2)
    return pairs.reshape(n + 1, n + 1).astype(np.float64)
