"""numba kernels that fill in missing scores: each works on some pairs of opposite operations."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gpuseg.engines._cpu_options import INNER, KERNEL

U = np.uintp
ZERO = np.float32(0.0)


@njit(**INNER)
def _exchange(scores, a, b, n):
    """What is missing in one of two lines is taken from the other; returns how many both miss."""
    missing = 0
    for j in range(U(n)):
        one, other = scores[a + j], scores[b + j]
        scores[a + j] = other if math.isnan(one) else one
        scores[b + j] = one if math.isnan(other) else other
        missing += math.isnan(one) and math.isnan(other)
    return missing


@njit(**INNER)
def _missing_places(scores, shape, one, other, complete, places):
    """After an exchange of two maps, the grid points that both miss, by rows; returns how many.

    Not looked for in the rectangle `complete` = (first row, end, first column, end).
    """
    h, w = shape
    n = 0
    for i in range(h):
        inside = complete[0] <= i < complete[1] and complete[2] < complete[3]
        for begin, end in ((0, complete[2] if inside else w), (complete[3] if inside else w, w)):
            at = U((one * h + i) * w + begin)
            if end > begin and _exchange(scores, at, U((other * h + i) * w + begin), end - begin) > 0:
                for j in range(begin, end):
                    if math.isnan(scores[at + U(j - begin)]):
                        places[n, 0], places[n, 1] = i, j
                        n += 1
    return n


@njit(**INNER)
def _nearest_rows(scores, places, n, near, last):
    """near[i, j] = the row nearest to i with a score in column j, the upper of two, for each place (i, j).

    -1 if there is none; scores (h, w) miss what is a place, and nothing else.
    """
    h = scores.shape[0]
    for k in range(n):
        i, j = places[k, 0], places[k, 1]
        last[j] = i - 1 if i == 0 or not math.isnan(scores[i - 1, j]) else last[j]
        near[i, j] = last[j]
    for k in range(n - 1, -1, -1):
        i, j = places[k, 0], places[k, 1]
        last[j] = -1 if i == h - 1 else last[j] if math.isnan(scores[i + 1, j]) else i + 1
        above, below = near[i, j], last[j]
        near[i, j] = below if above < 0 or (below >= 0 and below - i < i - above) else above


FAR = np.int64(1) << 30


@njit(**INNER)
def _steps_down(near, i, j):
    """How far the nearest score in a column is."""
    return abs(np.int64(near[i, j]) - i) if near[i, j] >= 0 else FAR


@njit(**INNER)
def _nearest(shape, near, i, j, begin, end):
    """The grid point nearest to (i, j) that has a score, else -1, -1; ties: smallest row, then column.

    Row i misses its scores from `begin` to `end`; behind these nothing is nearer.
    """
    best, row, col = FAR * FAR, np.int64(-1), np.int64(-1)
    for x in (begin - 1, end):
        d = (x - j) * (x - j)
        if 0 <= x < shape[1] and d < best:
            best, row, col = d, np.int64(i), np.int64(x)
    away = 0
    while away * away <= best and away < shape[1]:
        for x in (j - away, j + away):
            steps = _steps_down(near, i, x) if begin <= x < end else FAR
            d = steps * steps + away * away
            y = np.int64(near[i, x]) if steps < FAR else FAR
            if steps < FAR and (d < best or (d == best and (y < row or (y == row and x < col)))):
                best, row, col = d, y, np.int64(x)
        away += 1
    return row, col


@njit(**INNER)
def _find_run(shape, near, i, begin, end, found):
    """found[j - begin] = the grid point nearest to (i, j) for a run of missing scores of row i."""
    least = FAR
    for j in range(begin, end):
        least = min(least, _steps_down(near, i, j))
    for j in range(begin, end):
        left = j - begin + 1 if begin > 0 else FAR
        right = end - j if end < shape[1] else FAR
        steps = _steps_down(near, i, j)
        if min(left, right) < least:  # nothing above or below is as near
            row, col = np.int64(i), begin - 1 if left <= right else end
        elif steps == least and least < min(left, right):  # nor is anything beside it
            row, col = np.int64(near[i, j]), j
        else:
            row, col = _nearest(shape, near, i, j, begin, end)
        found[j - begin, 0], found[j - begin, 1] = row, col


@njit(**KERNEL)
def fill_pairs(flat, scores, pairs, wanted, complete, near, last, places, found):
    """Missing scores of pairs (n, 2) of opposite operations of (N, h, w), in place; they may be the same.

    First from each other, then at the points `wanted` (h, w) from the nearest grid point. flat = the scores,
    flat; complete = (first row, end, first column, end) of a rectangle of grid points that is known to miss
    nothing; near (h, w), last (w,), places and found (h * w, 2) int32: working memory.
    """
    shape = scores.shape[1:]
    for p in range(pairs.shape[0]):
        one, other = pairs[p, 0], pairs[p, 1]
        n = _missing_places(flat, shape, one, other, complete, places)
        if n > 0:
            _nearest_rows(scores[one], places, n, near, last)
        k = 0
        while k < n:
            i, begin, first = places[k, 0], places[k, 1], k
            while k < n and places[k, 0] == i and places[k, 1] == begin + k - first:
                k += 1
            _find_run(shape, near, i, begin, begin + k - first, found[first:k])
        for k in range(n):  # all found before one is written: a filled score is nobody's neighbour
            i, j, row, col = places[k, 0], places[k, 1], found[k, 0], found[k, 1]
            if wanted[i, j]:
                scores[one, i, j] = scores[one, row, col] if row >= 0 else ZERO
                scores[other, i, j] = scores[other, row, col] if row >= 0 else ZERO
