"""numba kernels of the scores of polar patches and of their pooling: each works on one tile or one map.

As with the translations, everything that numba compiles for them stands in this one file. Planes of a tile
are flat lines, rows side by side; `gpuseg.engines.cpu` lays them out and shares the tiles out.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gpuseg.engines._cpu_options import INNER, KERNEL

U = np.uintp
SAME_PATCH, INVOLUTION, OTHER_PATCH = 0, 1, 2  # as in gpuseg.polar
HALF = 0.5 - 1e-9  # of a sum of weights that rounding has touched


# --- scores of tiles without an invalid pixel, in single precision ---------------------------------------


@njit(**INNER)
def _sample(region, at, pitch, weights, n_rows, width, level, rows, value):
    """value = the spline through 4 x 4 pixels at a constant place, for all pixels of a tile, less `level`."""
    a, b, c, d = weights[1, 0], weights[1, 1], weights[1, 2], weights[1, 3]
    for row in range(n_rows + 3):
        to, begin = U(row * width), U(at + row * pitch)
        for m in range(U(width)):
            rows[to + m] = (a * region[begin + m] + b * region[begin + m + U(1)]) + (
                c * region[begin + m + U(2)] + d * region[begin + m + U(3)]
            )
    a, b, c, d = weights[0, 0], weights[0, 1], weights[0, 2], weights[0, 3]
    one, two, three = U(width), U(2 * width), U(3 * width)
    for m in range(U(n_rows * width)):
        value[m] = (a * rows[m] + b * rows[m + one]) + (c * rows[m + two] + d * rows[m + three]) - level[m]


@njit(**INNER)
def _add_moments(value, weight, size, total, squares):
    """Add a sample to mean and mean square."""
    for m in range(size):
        part = weight * value[m]
        total[m] += part
        squares[m] += part * value[m]


@njit(**INNER)
def _add_own(values, weights, first, end, size, total, squares):
    """Add the samples of a batch to mean and mean square, four a pass; those of no weight change nothing."""
    k = first
    while k + 4 <= end:
        a, b, c, d = values[k - first], values[k - first + 1], values[k - first + 2], values[k - first + 3]
        wa, wb, wc, wd = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        for m in range(size):
            pa, pb, pc, pd = wa * a[m], wb * b[m], wc * c[m], wd * d[m]
            total[m] += (pa + pb) + (pc + pd)
            squares[m] += (pa * a[m] + pb * b[m]) + (pc * c[m] + pd * d[m])
        k += 4
    while k < end:
        if weights[k] > 0:
            _add_moments(values[k - first], weights[k], size, total, squares)
        k += 1


@njit(**INNER)
def _add_pairs(values, pairs, weights, begin, end, size, total):
    """total += sum over the pairs of weight * one * other, four a pass."""
    k = begin
    while k + 4 <= end:
        a0, a1, a2, a3 = (
            values[pairs[k, 1]],
            values[pairs[k + 1, 1]],
            values[pairs[k + 2, 1]],
            values[pairs[k + 3, 1]],
        )
        b0, b1, b2, b3 = (
            values[pairs[k, 2]],
            values[pairs[k + 1, 2]],
            values[pairs[k + 2, 2]],
            values[pairs[k + 3, 2]],
        )
        w0, w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        for m in range(size):
            total[m] += (w0 * a0[m] * b0[m] + w1 * a1[m] * b1[m]) + (w2 * a2[m] * b2[m] + w3 * a3[m] * b3[m])
        k += 4
    while k < end:
        a0, b0, w0 = values[pairs[k, 1]], values[pairs[k, 2]], weights[k]
        for m in range(size):
            total[m] += w0 * a0[m] * b0[m]
        k += 1


@njit(**INNER)
def _run(pairs, begin, end):
    """Where the pairs of the operation of the first one end."""
    stop = begin + 1
    while stop < end and pairs[stop, 0] == pairs[begin, 0]:
        stop += 1
    return stop


@njit(**KERNEL)
def polar_tile(region, pitch, starts, level, plan, place, thresholds, work, out, redo):
    """Scores of every operation at every pixel of a tile; `redo` marks pixels of too little contrast for it.

    plan = splines (S, 2, 4), own_weight (S,), pairs, pair_weight, batch_samples, batch_pairs, kinds;
    starts (S,): place in `region` of the first pixel of each sample; place = row, col, rows, cols of it.
    """
    splines, own, pairs, weights, sample_ends, pair_ends, kinds = plan
    row0, col0, n_rows, n_cols = place
    flat, flat_square, faint, cancelled = thresholds
    rows, values, total, squares, products, totals, other_squares = work
    width = level.size // n_rows
    size = U(level.size)
    total[:] = 0
    squares[:] = 0
    products[:] = 0
    totals[:] = 0
    other_squares[:] = 0
    for batch in range(len(sample_ends) - 1):
        first = sample_ends[batch]
        for k in range(first, sample_ends[batch + 1]):
            _sample(region, starts[k], pitch, splines[k], n_rows, width, level, rows, values[k - first])
        _add_own(values, own, first, sample_ends[batch + 1], size, total, squares)
        begin = pair_ends[batch]
        while begin < pair_ends[batch + 1]:
            operation, end = pairs[begin, 0], _run(pairs, begin, pair_ends[batch + 1])
            _add_pairs(values, pairs, weights, begin, end, size, products[operation])
            if kinds[operation] == OTHER_PATCH:
                for k in range(begin, end):
                    _add_moments(
                        values[pairs[k, 2]], weights[k], size, totals[operation], other_squares[operation]
                    )
            begin = end
    for operation in range(len(kinds)):
        other = kinds[operation] == OTHER_PATCH
        for i in range(n_rows):
            for j in range(n_cols):
                m = i * width + j
                mean, square = total[m], squares[m]
                there, other_square = mean, square
                if other:
                    there, other_square = totals[operation, m], other_squares[operation, m]
                variance, spread = square - mean * mean, other_square - there * there
                out[operation, row0 + i, col0 + j] = 0
                if (variance <= flat and square < flat_square) or (
                    spread <= flat and other_square < flat_square
                ):
                    continue
                lost = cancelled * variance < square or cancelled * spread < other_square
                if lost or min(variance, spread) < faint:
                    redo[row0 + i, col0 + j] = True
                    continue
                r = (products[operation, m] - mean * there) / math.sqrt(variance * spread)
                out[operation, row0 + i, col0 + j] = min(np.float32(1), max(np.float32(-1), r))


# --- scores of tiles with invalid pixels or faint contrast, in double precision --------------------------


@njit(**INNER)
def _masked_sample(region, at, pitch, weights, n_rows, width, rows, value, known):
    """The same of pixels that may be NaN: value 0 and known 0 where a pixel with any weight is."""
    a, b, c, d = weights[1, 0], weights[1, 1], weights[1, 2], weights[1, 3]
    for row in range(n_rows + 3):
        to, begin = U(row * width), U(at + row * pitch)
        for m in range(U(width)):
            rows[to + m] = a * region[begin + m] + b * region[begin + m + U(1)] + c * region[begin + m + U(2)]
        if d > 0:
            for m in range(U(width)):
                rows[to + m] += d * region[begin + m + U(3)]
    a, b, c, d = weights[0, 0], weights[0, 1], weights[0, 2], weights[0, 3]
    one, two, three = U(width), U(2 * width), U(3 * width)
    for m in range(U(n_rows * width)):
        v = a * rows[m] + b * rows[m + one] + c * rows[m + two]
        if d > 0:
            v += d * rows[m + three]
        missing = math.isnan(v)
        value[m] = 0 if missing else v
        known[m] = 0 if missing else 1


@njit(**INNER)
def _add_masked_pairs(values, known, pairs, weights, begin, end, size, sums):
    """Add pairs to the sums of weights, a, b, a a, b b and a b over what both sides know, two a pass."""
    n, sum_a, sum_b, sum_aa, sum_bb, sum_ab = sums[0], sums[1], sums[2], sums[3], sums[4], sums[5]
    for k in range(begin, end, 2):
        last = k + 1 == end  # an odd one is taken twice, the second time with no weight
        a, b, c, d = pairs[k, 1], pairs[k, 2], pairs[k if last else k + 1, 1], pairs[k if last else k + 1, 2]
        w, v = weights[k], 0.0 if last else weights[k + 1]
        one, two, three, four = values[a], values[b], values[c], values[d]
        known_one, known_two, known_three, known_four = known[a], known[b], known[c], known[d]
        for m in range(size):
            here, there = w * known_two[m] * one[m], w * known_one[m] * two[m]
            also_here, also_there = v * known_four[m] * three[m], v * known_three[m] * four[m]
            n[m] += w * known_one[m] * known_two[m] + v * known_three[m] * known_four[m]
            sum_a[m] += here + also_here
            sum_b[m] += there + also_there
            sum_aa[m] += here * one[m] + also_here * three[m]
            sum_bb[m] += there * two[m] + also_there * four[m]
            sum_ab[m] += here * two[m] + also_here * four[m]


@njit(**KERNEL)
def masked_polar_tile(region, pitch, starts, plan, place, flat, work, out):
    """Scores at every pixel of a tile with invalid pixels in reach: NaN where half of a patch is unknown."""
    splines, _, pairs, weights, sample_ends, pair_ends, kinds = plan
    row0, col0, n_rows, n_cols = place
    rows, values, known, sums = work
    size = U(values.shape[1])
    width = values.shape[1] // n_rows
    sums[:] = 0
    for batch in range(len(sample_ends) - 1):
        first = sample_ends[batch]
        for k in range(first, sample_ends[batch + 1]):
            _masked_sample(
                region, starts[k], pitch, splines[k], n_rows, width, rows, values[k - first], known[k - first]
            )
        begin = pair_ends[batch]
        while begin < pair_ends[batch + 1]:
            operation, end = pairs[begin, 0], _run(pairs, begin, pair_ends[batch + 1])
            _add_masked_pairs(values, known, pairs, weights, begin, end, size, sums[operation])
            begin = end
    for operation in range(len(kinds)):
        n, sum_a, sum_b, sum_aa, sum_bb, sum_ab = sums[operation]
        for i in range(n_rows):
            for j in range(n_cols):
                m = i * width + j
                if n[m] < HALF:
                    out[operation, row0 + i, col0 + j] = np.nan
                    continue
                mean_a, mean_b = sum_a[m] / n[m], sum_b[m] / n[m]
                square_a, square_b = sum_aa[m] / n[m], sum_bb[m] / n[m]
                if kinds[operation] == INVOLUTION:  # a pair stands for (a, b) and (b, a)
                    mean_a = mean_b = (mean_a + mean_b) / 2
                    square_a = square_b = (square_a + square_b) / 2
                var_a, var_b = square_a - mean_a * mean_a, square_b - mean_b * mean_b
                r = 0.0
                if var_a > flat and var_b > flat:
                    r = (sum_ab[m] / n[m] - mean_a * mean_b) / math.sqrt(var_a * var_b)
                out[operation, row0 + i, col0 + j] = min(1.0, max(-1.0, r))


# --- pooling: the largest scores in a moving window -------------------------------------------------------


@njit(**INNER)
def _insert(best, values, n_max, size):
    """Put values[m] into the falling list best[:, m]; the least of each list falls out, into values."""
    for k in range(n_max):
        line = best[k]
        for m in range(size):
            here, value = line[m], values[m]
            line[m] = here if here >= value else value
            values[m] = value if here >= value else here


@njit(**INNER)
def _insert_row(best, source, row, n_max, size, spare):
    """Put a row of every list of `source` (M, L, C) into `best`; NaN is less than everything."""
    for k in range(source.shape[0]):
        line = source[k, row]
        for m in range(size):
            value = line[m]
            spare[m] = value if value == value else -np.inf
        _insert(best, spare, n_max, size)


@njit(**INNER)
def _copy(line, out):
    for m in range(U(out.size)):
        out[m] = line[m]


@njit(**KERNEL)
def pool_rows(source, centers, radius, best, spare, out):
    """out[:, g] = the largest of source (M, L, C) over the rows about centers[g], for each column, falling.

    A window as long as a block of rows is the end of one block and the begin of the next. So one pass down
    and one pass up, in which blocks begin anew, serve windows of any length.
    """
    n_max, size = out.shape[0], U(source.shape[2])
    length, block = source.shape[1], 2 * radius + 1
    g = 0
    for p in range(length + 2 * radius):  # rows counted from `radius` above the first
        if p % block == 0:
            best[:] = -np.inf
        if 0 <= p - radius < length:
            _insert_row(best, source, p - radius, n_max, size, spare)
        if g < len(centers) and p == centers[g] + 2 * radius:
            for k in range(n_max):
                _copy(best[k], out[k, g])
            g += 1
    g = len(centers) - 1
    for p in range(length + 2 * radius - 1, -1, -1):
        if p % block == block - 1:
            best[:] = -np.inf
        if 0 <= p - radius < length:
            _insert_row(best, source, p - radius, n_max, size, spare)
        if g >= 0 and p == centers[g]:
            if p % block != 0:  # else the pass down has seen the whole window
                for k in range(n_max):
                    _copy(best[k], spare)
                    _insert(out[:, g], spare, n_max, size)
            g -= 1
