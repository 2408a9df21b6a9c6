"""numba kernels of the translation scores: each works on one tile, `gpuseg.engines.cpu` shares them out.

Everything that numba compiles for the translations stands in this one file, because its cache does not
notice changes in the functions of other modules.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gpuseg.engines._cpu_options import INNER, KERNEL
from gpuseg.engines._cpu_vectors import (
    GROUP,
    add_all,
    correlate,
    fours,
    lanes_of,
    load_all,
    move,
    multiply_add,
    store_all,
    sum_of,
    zeros,
)

U = np.uintp
TWO_GROUPS = 2 * GROUP
ZERO = np.float32(0.0)
ONE = np.float32(1.0)


@njit(**INNER)
def _set(line, value):
    """All of a line; compiles in a tenth of the time of `line[:] = value`."""
    for k in range(U(line.size)):
        line[k] = value


# --- box sums: for a group of translations, the sums over all patches of their product images -------------
#
# A tile is stored by phase, tile[y % stride, x % stride, y // stride, x // stride]: pixels that are a stride
# apart lie side by side, so that sums over blocks of stride x stride pixels are sums of whole planes, and
# sums of blocks are sums of shifted planes. A plane is one flat line: what reaches from one of its rows into
# the next falls into columns that nobody reads.
#
# One row of blocks after the other, `GROUP` translations beside each other: their products are summed in
# registers, then across the patches that lie side by side, then down, and a row of patches becomes scores
# while it is in the first cache. Nothing is ever subtracted from a sum, so rounding travels no further than
# a patch.
#
# The pixels of a patch are blocks of stride x stride, and the rest at its lower and right edge. So the
# products of a block are summed over four parts: its first rows and columns (as many as the rest has), other
# columns of the first rows, first columns of the other rows, the others.
#
# Arrays are flat here and positions unsigned: a signed index costs a test for negative ones.


@njit(**INNER)
def _place_factors(offsets, shifts, begin, geometry, pixels, plane, pitch):
    """Where in a tile the factors of a product are: the pixel in column 0, its partners in the others.

    A group that has fewer translations repeats its last.
    """
    stride, _, _, reach_row, reach_col = geometry
    for k in range(offsets.shape[0]):
        for g in range(offsets.shape[1]):
            y, x = reach_row + pixels[k, 0], reach_col + pixels[k, 1]
            if g > 0:
                which = min(begin + g, shifts.shape[0]) - 1
                y += shifts[which, 0]
                x += shifts[which, 1]
            offsets[k, g] = (y % stride * stride + x % stride) * plane + y // stride * pitch + x // stride


@njit(**INNER)
def _add_products(sums, p, q, offsets, begin, end, at):
    """sums[g] + the products of the pixels begin to end of each block."""
    for k in range(begin, end):
        sums = multiply_add(sums, p, q, offsets, U(k), at)
    return sums


@njit(**INNER)
def _sum_products(p, q, offsets, ends, row, width, lines, parts):
    """Products of a row of blocks: of its first columns and of all, in its first rows and in its others.

    ends = where the parts of a block end; parts = where their four lines begin.
    """
    none, apart = zeros(p, TWO_GROUPS), U(width)
    for m in range(U(0), apart, U(2) * lanes_of(p)):
        at = row + m
        if ends[1] > 0:
            sums = _add_products(none, p, q, offsets, np.int64(0), ends[0], at)
            store_all(sums, lines, U(parts[0]) + m, apart)
            sums = _add_products(sums, p, q, offsets, ends[0], ends[1], at)
            store_all(sums, lines, U(parts[1]) + m, apart)
        sums = _add_products(none, p, q, offsets, ends[1], ends[2], at)
        store_all(sums, lines, U(parts[2]) + m, apart)
        sums = _add_products(sums, p, q, offsets, ends[2], ends[3], at)
        store_all(sums, lines, U(parts[3]) + m, apart)


@njit(**INNER)
def _sum_fours(lines, steps, n):
    """lines[target + m] = sum of four from lines[source + m] on; steps (k, 3) = source, target, distance."""
    lanes = lanes_of(lines)
    for k in range(steps.shape[0]):
        source, target, step = U(steps[k, 0]), U(steps[k, 1]), U(steps[k, 2])
        for m in range(U(0), n, U(GROUP) * lanes):
            if step == U(1):
                sums = fours(lines, source + m, 1)
            elif step == U(4):
                sums = fours(lines, source + m, 4)
            else:
                sums = load_all(lines, source + m)
                for j in range(U(1), U(4)):
                    sums = add_all(sums, lines, source + m + j * step, lanes)
            store_all(sums, lines, target + m, lanes)


@njit(**INNER)
def _add_lines(sums, lines, terms, begin, end, m):
    for k in range(begin, end):
        sums = add_all(sums, lines, U(terms[k]) + m, lanes_of(lines))
    return sums


@njit(**INNER)
def _sum_down(lines, terms, ring, here, so_far, total, n):
    """total = sums over the patches that end in a row of blocks, whose lines are summed across already.

    The rows of blocks are counted off in cycles of a patch. The ring holds, of the last cycle, the sum from
    each row to its end; so_far, of this one, the sum up to this row: the two and the first rows of this row
    make a patch. terms = where the lines begin whose sum is the sum across, and how many are of first rows.
    """
    places, n_first = terms
    none, lanes, z = zeros(lines, GROUP), lanes_of(lines), np.int64(0)
    for m in range(U(0), n, U(GROUP) * lanes):
        before = load_all(so_far, m)
        sums = _add_lines(none, lines, places, z, n_first, m)
        store_all(sum_of(add_all(sums, ring, here + m, lanes), before), total, m, lanes)
        sums = _add_lines(sums, lines, places, n_first, places.size, m)
        store_all(sums, ring, here + m, lanes)
        store_all(sum_of(sums, before), so_far, m, lanes)


@njit(**INNER)
def _sum_to_the_end(ring, length, n):
    """Each of the lines of a ring becomes the sum of itself and all that follow."""
    lanes = lanes_of(ring)
    for m in range(U(0), n, U(GROUP) * lanes):
        sums = load_all(ring, U(length - 1) * n + m)
        for row in range(length - 2, -1, -1):
            sums = add_all(sums, ring, U(row) * n + m, lanes)
            store_all(sums, ring, U(row) * n + m, lanes)


@njit(**INNER)
def _box_row(p, q, i, n_down, offsets, ends, width, pitch, work):
    """Sums over the patches that end in row i of blocks, at g * width + j of `total`; see `Box.sums`."""
    lines, parts, steps, terms, ring, so_far, total = work
    n, phase = U(GROUP * width), i % max(n_down, 1)
    if phase == 0:
        _set(so_far, 0)
        if n_down == 0:  # a patch is smaller than a block: all of it is in its first rows
            _set(ring, 0)
    _sum_products(p, q, offsets, ends, U(i * pitch), width, lines, parts)
    _sum_fours(lines, steps, n)
    _sum_down(lines, terms, ring, U(phase) * n, so_far, total, n)
    if phase == n_down - 1:
        _sum_to_the_end(ring, n_down, n)


# --- what a tile knows about itself: integrals, the patches' means and norms ------------------------------


@njit(**INNER)
def _mean(pixels, top, bottom, left, right):
    total = 0.0
    for i in range(top, bottom):
        row = pixels[i]
        for j in range(left, right):
            total += row[j]
    return total / max((bottom - top) * (right - left), 1)


@njit(**KERNEL)
def lay_out(pixels, corner, span, stride, row_at, line, tile, sums, squares):
    """A tile of an image about its own mean, stored by phase, and integral images of it and its square.

    corner = position in the image of the tile's first pixel, span = (top, bottom, left, right) of the image
    in the tile: products of pixels about a local level, so that no sum is large against the variance it tells
    of. sums[row_at[i], j] is the sum over rows < i, columns < j; nothing is stored for rows i whose row_at is
    negative. tile (phases + 1, rows, columns), all 0 before; line: as in `_line_statistics`, all 0 before.
    """
    top, bottom, left, right = span
    level = np.float32(
        _mean(pixels, corner[0] + top, corner[0] + bottom, corner[1] + left, corner[1] + right)
    )
    total, total_of_squares, about_level, _ = line
    for i in range(row_at.size):
        if row_at[i] >= 0:
            _running_sums(total, total_of_squares, sums[row_at[i]], squares[row_at[i]])
        if top <= i < bottom:
            _add_line(
                pixels[corner[0] + i], corner[1], left, right, level, about_level, total, total_of_squares
            )
            for phase in range(stride):
                target = tile[i % stride * stride + phase, i // stride]
                at = U(phase)
                for k in range(U(target.size)):
                    target[k] = about_level[at]
                    at += U(stride)


@njit(**INNER)
def _add_line(source, corner, left, right, level, about_level, total, total_of_squares):
    first = corner + left
    for j in range(U(right - left)):
        v = source[U(first) + j] - level
        about_level[U(left) + j] = v
        total[U(left) + j] += v
        total_of_squares[U(left) + j] += np.float64(v) * v


@njit(**INNER)
def _running_sums(first, second, first_sums, second_sums):
    """Sums over all numbers before each, of two lines.

    Both halves of both at a time: each number has to wait for the last.
    """
    n = U(first_sums.size - 1)
    half = n // U(2)
    s = t = u = v = 0.0
    first_sums[0] = second_sums[0] = 0
    for j in range(half):
        s += first[j]
        t += second[j]
        u += first[half + j]
        v += second[half + j]
        first_sums[j + U(1)] = s
        second_sums[j + U(1)] = t
        first_sums[half + j + U(1)] = u
        second_sums[half + j + U(1)] = v
    if half + half < n:
        first_sums[n] = u + first[n - U(1)]
        second_sums[n] = v + second[n - U(1)]
    for j in range(half + U(1), n + U(1)):
        first_sums[j] += s
        second_sums[j] += t


@njit(**INNER)
def _rectangle(integral, above, below, left, right):
    return (integral[below, right] - integral[above, right]) - (integral[below, left] - integral[above, left])


@njit(**INNER)
def _level_and_scale(total, total_of_squares, n, flat):
    """Mean / standard deviation, and 1 / (standard deviation * sqrt(n)), from sums over n pixels; 0 if flat.

    With them a score is sum(ab) * scale_a * scale_b - level_a * level_b. The variance is taken in double; its
    root in single precision, which is the same factor of both.
    """
    mean = total / n
    variance = total_of_squares / n - mean * mean
    scale = ONE / np.sqrt(np.float32(n * variance)) if variance > flat else ZERO
    return mean * (math.sqrt(n) * scale), scale


@njit(**INNER)
def _rectangle_statistics(integrals, top, bottom, left, right, flat):
    """Level and scale of the pixels in a rectangle, which must hold some."""
    sums, squares, row_at = integrals
    above, below = row_at[top], row_at[bottom]
    n = np.float64((bottom - top) * (right - left))
    return _level_and_scale(
        _rectangle(sums, above, below, left, right), _rectangle(squares, above, below, left, right), n, flat
    )


@njit(**INNER)
def _line_statistics(integrals, top, bottom, length, step, phases, flat, line, statistics, to):
    """Statistics of the rectangles `length` wide, every `step` columns, in the rows [top, bottom).

    Number k stands at to + (k % phases) * n + k // phases, so that patches a stride apart lie side by side:
    its scale in the first half of `statistics`, its level in the second. line: working memory, two arrays
    (columns,) of float64 and two of float32.
    """
    total, total_of_squares, levels, scales = line
    sums, squares, row_at = integrals
    columns = sums.shape[1]
    above, below = row_at[top], row_at[bottom]
    for j in range(U(columns)):
        total[j] = sums[below, j] - sums[above, j]
        total_of_squares[j] = squares[below, j] - squares[above, j]
    pixels = np.float64((bottom - top) * length)
    for j in range(U(columns - length)):
        end = j + U(length)
        levels[j], scales[j] = _level_and_scale(
            total[end] - total[j], total_of_squares[end] - total_of_squares[j], pixels, flat
        )
    n, half = ((columns - 1 - length) // step) // phases + 1, U(statistics.size // 2)
    for phase in range(phases):
        at, begin = U(phase * step), U(to + phase * n)
        for k in range(U((columns - 1 - length - phase * step) // (step * phases) + 1)):
            statistics[begin + k] = scales[at]
            statistics[half + begin + k] = levels[at]
            at += U(step * phases)


@njit(**KERNEL)
def whole_statistics(integrals, size, step, phases, flat, line, length, statistics):
    """Statistics of all whole patches of a tile, every `step` pixels, lines of `length` from 0 on.

    Returns the largest |level|.
    """
    largest = 0.0
    for k in range((integrals[2].size - 1 - size[0]) // step[0] + 1):
        top = k * step[0]
        _line_statistics(
            integrals, top, top + size[0], size[1], step[1], phases, flat, line, statistics, k * length
        )
        for j in range(U(integrals[0].shape[1] - size[1])):  # where those of the line still are
            largest = max(largest, abs(line[2][j]))
    return largest


@njit(**INNER)
def _common_span(start, size, shift, begin, end):
    """The part of [start, start + size) that lies in [begin, end) and still does after the shift."""
    return max(max(start, begin), begin - shift), min(min(start + size, end), end - shift)


@njit(**INNER)
def _cut_line(i, n_rows, n_cut):
    """The line of the statistics of the patches of row i, where the border cuts them above or below."""
    return i if 2 * i < n_cut or n_rows <= n_cut else i - n_rows + n_cut


@njit(**INNER)
def _cut_statistics(image, spans, slot, d, geometry, line, tables, statistics, to):
    """Statistics of the patches in rows cut by the border, for the row shift d: valid for every column shift.

    spans[slot] (n_rows, 2) becomes the first and the last row common to both patches; to = where the lines of
    the patches begin, followed by those of their copies.
    """
    integrals, span, step, flat = image
    n_rows, length, n_cut = spans.shape[1], tables[0], tables[1]
    for i in range(n_rows):
        top, bottom = _common_span(geometry[3] + i * geometry[0], geometry[1], d, span[0], span[1])
        spans[slot, i, 0], spans[slot, i, 1] = top, bottom
        if 0 < bottom - top < geometry[1]:
            here = to + _cut_line(i, n_rows, n_cut) * length
            for which in range(2):
                _line_statistics(
                    integrals, top + which * d, bottom + which * d, geometry[2], step[1],
                    geometry[0] // step[1], flat, line, statistics, here + which * n_cut * length,
                )  # fmt: skip


@njit(**INNER)
def _side_statistics(image, columns, n, shifts, patch, lines, statistics, whole, to):
    """Statistics of n patches a row where the border cuts some on their sides.

    columns = first column of the first patch, distance of patches; shifts = (column shift, how far these
    are shifted: not at all, or as much); lines = first and distance of those wanted; whole = (place of the
    statistics of the first patch were it whole, distance of lines); to = the same of the results. NaN where
    more than half is missing.
    """
    (integrals, span, step, flat), (first, stride), (e, by) = image, columns, shifts
    half = U(statistics.size // 2)
    for k in range(lines[0], (integrals[2].size - 1 - patch[0]) // step[0] + 1, lines[1]):
        top = k * step[0]
        for j in range(n):
            left, right = _common_span(first + j * stride, patch[1], e, span[2], span[3])
            here, known = U(to[0] + k * to[1] + j), U(whole[0] + k * whole[1] + j)
            if right - left == patch[1]:
                statistics[here], statistics[half + here] = statistics[known], statistics[half + known]
            elif 2 * (right - left) < patch[1]:
                statistics[here] = statistics[half + here] = np.nan
            else:
                statistics[half + here], statistics[here] = _rectangle_statistics(
                    integrals, top, top + patch[0], left + by, right + by, flat
                )


# --- scores: from sums to Pearson's coefficient -------------------------------------------------------


@njit(**INNER)
def _pearson(n, sum_a, sum_b, sum_aa, sum_bb, sum_ab, flat, same):
    """Pearson's coefficient from float64 sums over n pixel pairs; 0 if either side is flat."""
    var_a = sum_aa / n - (sum_a / n) * (sum_a / n)
    var_b = sum_bb / n - (sum_b / n) * (sum_b / n)
    if var_a <= flat or var_b <= flat:
        return ZERO
    if same:
        return ONE
    r = (sum_ab / n - (sum_a / n) * (sum_b / n)) / math.sqrt(var_a * var_b)
    return np.float32(min(1.0, max(-1.0, r)))


@njit(**INNER)
def _score_segments(sums, at, segments, g, which, lines, apart, statistics, row, to):
    """row[to + j] = scores of sums[at + j] in the segments which[0] to which[1] of a row, see `_cut_a_row`.

    lines = of the statistics of the patches and of their copies; apart = distance of lines, of whole rows and
    of sides. A vector may reach beyond its segment; the next one writes what is right there.
    """
    half, lanes = U(statistics.size // 2), lanes_of(sums)
    for s in range(which[0], which[1]):
        begin, end = segments[g, s, 0], segments[g, s, 1]
        distance = apart[1] if s == 1 or s == 2 else apart[0]
        a, b = U(segments[g, s, 2] + lines[0] * distance), U(segments[g, s, 3] + lines[1] * distance)
        for j in range(U(begin), U(max(begin, end)), lanes):
            correlate(sums, at + j, statistics, half, a, b, row, U(to) + j)
            a += lanes
            b += lanes


@njit(**INNER)
def _score_itself(segments, g, which, line, apart, statistics, row, to):
    """The same of a patch and itself, of which no products are summed: 1, or 0 where it is flat."""
    for s in range(which[0], which[1]):
        begin, distance = segments[g, s, 0], apart[1] if s == 1 or s == 2 else apart[0]
        for j in range(begin, segments[g, s, 1]):
            scale = statistics[U(segments[g, s, 2] + line * distance + j - begin)]
            row[to + j] = np.nan if math.isnan(scale) else ONE if scale > ZERO else ZERO


@njit(**INNER)
def _score_corner(sums, at, begin, end, rows, shift, columns, patch, image, row, to):
    """The same of grid points at a corner of the image: statistics from the integrals, point by point.

    rows = common to a patch and its copy; columns = first column of the first patch, distance of patches.
    """
    (integrals, span, _, flat), (top, bottom), (d, e) = image, rows, shift
    for j in range(begin, end):
        left, right = _common_span(columns[0] + j * columns[1], patch[1], e, span[2], span[3])
        if 2 * (bottom - top) * max(right - left, 0) < patch[0] * patch[1]:
            row[to + j] = np.nan
            continue
        level_a, scale_a = _rectangle_statistics(integrals, top, bottom, left, right, flat)
        level_b, scale_b = _rectangle_statistics(integrals, top + d, bottom + d, left + e, right + e, flat)
        if d == 0 and e == 0:
            row[to + j] = ONE if scale_a > ZERO else ZERO
        else:
            score = np.float64(sums[at + U(j)]) * scale_a * scale_b - level_a * level_b
            row[to + j] = min(1.0, max(-1.0, score))


@njit(**INNER)
def _store_row(row, begin, i, place, moves, out, out_shape):
    """Write row i of the scores of a tile into the maps that it belongs to.

    moves = (grid rows, grid columns, map) twice: where the scores of a translation lie, and those of its
    opposite, whose map may be -1; what lies beyond the grid is left out.
    """
    height, width = out_shape
    for d, e, which in moves:
        to_row, left = place[0] + i + d, max(0, -place[1] - e)
        n = min(place[3], width - place[1] - e) - left
        if which < 0 or not 0 <= to_row < height or n <= 0:
            continue
        _copy(row, U(begin + left), out, U((which * height + to_row) * width + place[1] + e + left), U(n))


@njit(**INNER)
def _copy(line, begin, out, to, n):
    """out[to:to + n] = line[begin:begin + n]; the last vector is the last of the line, whatever its place."""
    lanes = lanes_of(line)
    if n < lanes:
        for j in range(n):
            out[to + j] = line[begin + j]
        return
    for j in range(U(0), n - lanes, lanes):
        move(line, begin + j, out, to + j)
    move(line, begin + n - lanes, out, to + n - lanes)


@njit(**INNER)
def _moves(plan, k, stride):
    """Where the scores of translation k belong, and as those of its opposite; see `_store_row`."""
    return (np.int64(0), np.int64(0), plan[k, 2]), (plan[k, 0] // stride, plan[k, 1] // stride, plan[k, 3])


@njit(**INNER)
def _note(segments, g, s, begin, end, a, b):
    segments[g, s, 0], segments[g, s, 1], segments[g, s, 2], segments[g, s, 3] = begin, end, a, b


@njit(**INNER)
def _cut_a_row(segments, g, e, at, image, n_cols, geometry, tables):
    """The segments of a row that translation g of a group is scored in: begin, end, and where the first line
    of the statistics has their first patch and its copy; segments (GROUP, 4, 5).

    Segment 0 are the patches that the border cuts on no side, nor their copies; 1 those at the right side, 2
    those at the left, or all where a tile is not wider than a side; 3 is 0 in rows that the border cuts above
    or below. at = where the statistics of these rows, and of the sides, begin. Returns where those of whole
    patches have the first of the tile and its copy.
    """
    _, span, step, _ = image
    length, n_cut, n_side, _, table = tables
    stride, _, n_patch_cols, _, reach_col = geometry
    phases = stride // step[1]
    begin = min(n_cols, max(0, -(-(max(span[2], span[2] - e) - reach_col) // stride)))
    end = max(begin, min(n_cols, (min(span[3], span[3] - e) - n_patch_cols - reach_col) // stride + 1))
    a, b = reach_col // step[1], (reach_col + e) // step[1]
    a, b = (a % phases) * (length // phases) + a // phases, (b % phases) * (length // phases) + b // phases
    narrow = n_cols <= n_side and (begin > 0 or end < n_cols)
    cut_left, cut_right = begin > 0 and not narrow, end < n_cols and not narrow
    first, last = n_side if cut_left else 0, 0 if narrow else n_cols - n_side if cut_right else n_cols
    _note(segments, g, 0, first, last, a + first, b + first)
    right = (n_cols - n_side, n_cols) if cut_right else (0, 0)
    _note(segments, g, 1, right[0], right[1], at[1] + 2 * table, at[1] + 3 * table)
    left = n_cols if narrow else n_side if cut_left else 0
    _note(segments, g, 2, 0, left, at[1], at[1] + table)
    _note(segments, g, 3, begin, end, at[0] + a + begin, at[0] + n_cut * length + b + begin)
    return a, b


@njit(**INNER)
def _look_at_sides(segments, g, shift, which, known, whole, image, geometry, tables, statistics):
    """Statistics of the patches that the border cuts on a side: once for each column shift and lines a stride
    apart, `known` [number of the column shift, side, patch or copy, phase of the lines].
    """
    step, (length, _, _, apart, _), (d, e) = image[2], tables, shift
    stride, n_patch_rows, n_patch_cols, reach_row, reach_col = geometry
    for s in range(1, 3):
        begin, n = segments[g, s, 0], segments[g, s, 1] - segments[g, s, 0]
        for copy in range(2 if n > 0 else 0):
            phase = (reach_row + copy * d) // step[0] % (stride // step[0])
            if not known[which, s - 1, copy, phase]:
                known[which, s - 1, copy, phase] = True
                _side_statistics(
                    image, (reach_col + begin * stride, stride), n, (e, copy * e),
                    (n_patch_rows, n_patch_cols), (phase, stride // step[0]), statistics,
                    (whole[copy] + begin, length), (segments[g, s, 2 + copy], apart),
                )  # fmt: skip


@njit(**INNER)
def _score_row(sums, at, g, i, shift, rows, segments, image, place, geometry, tables, statistics, row, to):
    """Sums of products of a row of patches, sums[at + j], become scores: row[to + j] of grid point j.

    rows = first and last row common to the patches and their copies.
    """
    step, (length, n_cut, _, apart, _), (d, e), (top, bottom) = image[2], tables, shift, rows
    stride, n_patch_rows, n_patch_cols, reach_row, reach_col = geometry
    if 2 * (bottom - top) < n_patch_rows:
        for j in range(to, to + place[3]):
            row[j] = np.nan
        return
    is_cut = bottom - top < n_patch_rows
    if is_cut:
        here = there = _cut_line(i, place[2], n_cut)
    else:
        here, there = (reach_row + i * stride) // step[0], (reach_row + i * stride + d) // step[0]
    which, distances = ((3, 4) if is_cut else (0, 3)), (length, apart)
    if d == 0 and e == 0:
        _score_itself(segments, g, which, here, distances, statistics, row, to)
    else:
        _score_segments(sums, at, segments, g, which, (here, there), distances, statistics, row, to)
    for side in range(2 if is_cut else 0):
        begin, end = (segments[g, 3, 1], place[3]) if side else (np.int64(0), segments[g, 3, 0])
        _score_corner(
            sums, at, begin, end, rows, shift, (reach_col, stride), (n_patch_rows, n_patch_cols), image,
            row, to,
        )  # fmt: skip


@njit(**KERNEL)
def box_tile(tile, integrals, span, place, geometry, cells, step, plan, flat, work, out, out_shape):
    """Scores of every translation at the grid points of a tile of an image without invalid pixels.

    tile flat float32, stored by phase, 0 outside the image = span (top, bottom, left, right); integrals from
    `lay_out`; place = first grid row, first grid column, rows, columns; geometry = stride, patch rows,
    patch columns, largest |shift| of rows and columns; cells = (row, column) of each pixel of a block, part
    by part, and where the parts end; step = spacing at which patch statistics are needed; plan (n, 5) =
    rows and columns of each shift, ordered by rows, its index in out, that of the opposite shift or -1,
    number of its column shift; work, made by `_cpu_translation_tiles`; out flat (N, h, w) float32.

    Statistics are scales and levels, half of the array each. First come those of whole patches; from `at_cut`
    on those of patches cut above or below, for `GROUP` row shifts, of the patches and of their copies; from
    `at_sides` on those at the left and at the right side, likewise, those of all column shifts in a line.
    """
    statistics, tables, at_cut, at_sides, sides_known, line, spans, segments, (rows, n_row) = work[0]
    (width, pitch), offsets, sums = work[1]
    image, plane = (integrals, span, step, flat), tile.size // (geometry[0] ** 2 + 1)
    n_down, d_known, slot = geometry[1] // geometry[0], geometry[3] + 1, np.int64(0)
    k = np.int64(0)  # a literal 0 would have everything compiled for it once more
    while k < plan.shape[0]:
        same = plan[k, 0] == 0 and plan[k, 1] == 0  # a patch and itself need no products
        n = 1 if same else min(GROUP, plan.shape[0] - k)
        for g in range(n):
            d, e, which = plan[k + g, 0], plan[k + g, 1], plan[k + g, 4]
            if d != d_known:
                slot, d_known = (slot + 1) % GROUP, d
                to = at_cut + 2 * slot * tables[1] * tables[0]
                _cut_statistics(image, spans, slot, d, geometry, line, tables, statistics, to)
            segments[g, 0, 4] = slot
            at = at_cut + 2 * slot * tables[1] * tables[0], at_sides + which * tables[2]
            whole = _cut_a_row(segments, g, e, at, image, place[3], geometry, tables)
            _look_at_sides(
                segments, g, (d, e), which, sides_known, whole, image, geometry, tables, statistics
            )
        if not same:
            _place_factors(offsets, plan, k, geometry, cells[0], plane, pitch)
        for i in range(-n_down, place[2]):
            if not same:
                _box_row(tile, tile, i + n_down, n_down, offsets, cells[1], width, pitch, sums)
            for g in range(n if i >= 0 else 0):
                slot_of, shift = segments[g, 0, 4], (plan[k + g, 0], plan[k + g, 1])
                _score_row(
                    sums[6], U(g * width), g, i, shift, (spans[slot_of, i, 0], spans[slot_of, i, 1]),
                    segments, image, place, geometry, tables, statistics, rows, g * n_row,
                )  # fmt: skip
            for g in range(n if i >= 0 else 0):  # apart: a vector that was just stored takes long to load
                _store_row(rows, g * n_row, i, place, _moves(plan, k + g, geometry[0]), out, out_shape)
        k += n


@njit(**KERNEL)
def masked_box_tile(a, m, aa, place, geometry, cells, plan, flat, work, out, out_shape):
    """Scores of a tile with invalid pixels: masked Pearson from six box sums in float64; see `box_tile`.

    a, m, aa flat float64: pixels, 0 where invalid; weights, 1 or 0; squared pixels.
    """
    row, (width, pitch), offsets, sums = work
    n_down, half_patch = geometry[1] // geometry[0], 0.5 * geometry[1] * geometry[2]
    n, s_a, s_b, s_aa, s_bb, s_ab = sums[0][6], sums[1][6], sums[2][6], sums[3][6], sums[4][6], sums[5][6]
    for k in range(0, plan.shape[0], GROUP):
        _place_factors(offsets, plan, k, geometry, cells[0], a.size // (geometry[0] ** 2 + 1), pitch)
        for i in range(-n_down, place[2]):
            for which in range(6):
                p = a if which in (1, 5) else aa if which == 3 else m
                q = a if which in (2, 5) else aa if which == 4 else m
                _box_row(p, q, i + n_down, n_down, offsets, cells[1], width, pitch, sums[which])
            for g in range(min(GROUP, plan.shape[0] - k) if i >= 0 else 0):
                same = plan[k + g, 0] == 0 and plan[k + g, 1] == 0
                for j in range(place[3]):
                    at = g * width + j
                    if n[at] < half_patch:
                        row[j] = np.nan
                    else:
                        row[j] = _pearson(n[at], s_a[at], s_b[at], s_aa[at], s_bb[at], s_ab[at], flat, same)
                _store_row(row, 0, i, place, _moves(plan, k + g, geometry[0]), out, out_shape)


# --- the definition, point by point ----------------------------------------------------------------------


@njit(**INNER)
def _direct_score(window, weight, size, reach, d, e, flat):
    """The score of one translation in a window of pixels about the grid point: sums of the sums of rows."""
    n = s_a = s_b = s_aa = s_bb = s_ab = 0.0
    for i in range(reach[0], reach[0] + size[0]):
        r_n = r_a = r_b = r_aa = r_bb = r_ab = 0.0
        for j in range(reach[1], reach[1] + size[1]):
            w = weight[i, j] * weight[i + d, j + e]
            u, v = w * window[i, j], w * window[i + d, j + e]
            r_n += w
            r_a += u
            r_b += v
            r_aa += u * u
            r_bb += v * v
            r_ab += u * v
        n += r_n
        s_a += r_a
        s_b += r_b
        s_aa += r_aa
        s_bb += r_bb
        s_ab += r_ab
    if 2 * n < size[0] * size[1]:
        return np.float32(np.nan)
    return _pearson(n, s_a, s_b, s_aa, s_bb, s_ab, flat, d == 0 and e == 0)


@njit(**KERNEL)
def direct_row(pixels, weights, grid_row, columns, stride, size, reach, shifts, flat, out):
    """Scores of every translation at the grid points of one row, from the definition.

    pixels, weights: float64 bands of the image about this grid row, 0 outside the image; out (N, h, w).
    """
    n_window = size[1] + 2 * reach[1]
    for j in range(columns):
        x = j * stride
        window, weight = pixels[:, x : x + n_window], weights[:, x : x + n_window]
        for k in range(shifts.shape[0]):
            out[k, grid_row, j] = _direct_score(window, weight, size, reach, shifts[k, 0], shifts[k, 1], flat)
