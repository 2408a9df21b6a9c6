"""numba kernels of the translation scores: each works on one tile, `gpuseg.engines.cpu` shares them out.

Everything that numba compiles for the translations stands in this one file, because its cache does not
notice changes in the functions of other modules.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gpuseg.engines._cpu_options import INNER, KERNEL
from gpuseg.engines._cpu_vectors import BYTES, GROUP, add_all, multiply_add, store_all, zeros

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
# registers, and all that is kept of a row stays in the first two caches.
#
# Arrays are flat here and positions unsigned: a slice would cost an atomic reference count, and a signed
# index a test for negative ones.


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
def _sum_rows(none, p, q, offsets, ends, at, m, n, here, lines, ring):
    """Products of some columns of a row of blocks, and the sums over the rows of the patches that end in it.

    The rows of blocks are counted off in cycles of a patch. Of the last cycle, ring[0] and ring[1] hold the
    sum from each row to its end, and of this one, what each row has so far; ring[2] and ring[3] all of this
    one so far: two of these make a patch. Nothing is ever subtracted, so rounding cannot travel further than
    a patch.
    """
    first, total = lines
    of_first, of_others, first_so_far, others_so_far = ring
    if ends[0] > 0 or ends[2] > ends[1]:  # else no patch ends within a block, and `first` stays 0
        sums = _add_products(none, p, q, offsets, np.int64(0), ends[0], at)
        whole = add_all(add_all(sums, of_first, here, n), first_so_far, m, n)
        store_all(whole, first, m, n)
        sums = _add_products(sums, p, q, offsets, ends[1], ends[2], at)
        store_all(sums, of_first, here, n)
        store_all(add_all(sums, first_so_far, m, n), first_so_far, m, n)

    sums = _add_products(none, p, q, offsets, ends[0], ends[1], at)
    whole = add_all(add_all(sums, of_others, here, n), others_so_far, m, n)
    store_all(add_all(whole, first, m, n), total, m, n)
    sums = _add_products(sums, p, q, offsets, ends[2], ends[3], at)
    store_all(sums, of_others, here, n)
    store_all(add_all(sums, others_so_far, m, n), others_so_far, m, n)


@njit(**INNER)
def _sum_to_the_end(ring, length, n):
    """Each of the lines of a ring becomes the sum of itself and all that follow."""
    for row in range(length - 2, -1, -1):
        a = U(row) * n
        for m in range(n):
            ring[a + m] += ring[a + n + m]


@njit(**INNER)
def _add_box(line, spare, length, out, to, n):
    """out[to + m] += line[m] + line[m + 1] + ..., `length` of them; spoils both lines.

    Sums of 4, 16, 64 ... of them are made one from the other, and as many of each taken as the length has.
    """
    begin, step = U(0), U(1)
    this, other = line, spare
    while True:
        two, three = step + step, step + step + step
        if length % 4 == 1:
            for m in range(n):
                out[to + m] += this[begin + m]
        elif length % 4 == 2:
            for m in range(n):
                out[to + m] += this[begin + m] + this[begin + step + m]
        elif length % 4 == 3:
            for m in range(n):
                out[to + m] += (this[begin + m] + this[begin + step + m]) + this[begin + two + m]
        begin += U(length % 4) * step
        length //= 4
        if length == 0:
            return
        for m in range(n):
            other[m] = (this[m] + this[m + step]) + (this[m + two] + this[m + three])
        this, other = other, this
        step = two + two


@njit(**INNER)
def _box_sums(p, q, shifts, begin, geometry, cells, n_rows, width, pitch, offsets, work, out):
    """Sums over the patch at tile point (i, j) of p(r) q(r + shift), at (i * GROUP + g) * width + j of out.

    The pixels of a patch are blocks of stride x stride, and the rest at its lower and right edge. Products
    are summed over four parts of each block: its first rows and columns (as many as the rest has), other
    columns of the first rows, first columns of the other rows, the others; then parts over the patch.

    cells = (row, column) of each pixel of a block, part by part, and where the parts end; rows of the planes
    of p and q are `pitch` long.
    """
    stride, n_down, n_across = geometry[0], geometry[1] // geometry[0], geometry[2] // geometry[0]
    lines, ring, spare = work
    first, total = lines
    _place_factors(offsets, shifts, begin, geometry, cells[0], p.size // (stride * stride + 1), pitch)
    n, lanes, cycle = U(GROUP * width), BYTES // p.itemsize, max(n_down, 1)
    _set(first, 0)
    for i in range(n_rows + n_down):
        row, phase = U(i * pitch), i % cycle
        here = U(phase) * n
        if phase == 0:
            _set(ring[2], 0)
            _set(ring[3], 0)
        if n_down == 0:  # a patch is smaller than a block: all of it is in its first rows
            _set(ring[0], 0)
            _set(ring[1], 0)
        for m in range(0, width, 2 * lanes):
            at = U(m)
            _sum_rows(
                zeros(p, TWO_GROUPS), p, q, offsets, cells[1], row + at, at, U(width), here + at, lines, ring
            )
        if i >= n_down:
            to = U(i - n_down) * n
            for m in range(n):
                out[to + m] = first[U(m + n_across)]
            _add_box(total, spare, n_across, out, to, n)
        if phase == n_down - 1:
            _sum_to_the_end(ring[1], n_down, n)
            if cells[1][0] > 0 or cells[1][2] > cells[1][1]:
                _sum_to_the_end(ring[0], n_down, n)


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
def _mean_and_scale(total, total_of_squares, n, flat):
    """Mean and 1 / (standard deviation * sqrt(n)) from sums over n pixels; 0 for the latter if flat.

    The difference is taken in double; a root of it is rounded to single precision anyway.
    """
    mean = total / n
    variance = total_of_squares / n - mean * mean
    return mean, ONE / np.sqrt(np.float32(n * variance)) if variance > flat else ZERO


@njit(**INNER)
def _rectangle_statistics(integrals, top, bottom, left, right, flat):
    """Mean and 1 / (standard deviation * sqrt(n)) of the pixels in a rectangle, which must hold some."""
    sums, squares, row_at = integrals
    above, below = row_at[top], row_at[bottom]
    n = np.float64((bottom - top) * (right - left))
    return _mean_and_scale(
        _rectangle(sums, above, below, left, right), _rectangle(squares, above, below, left, right), n, flat
    )


@njit(**INNER)
def _line_statistics(integrals, top, bottom, length, step, phases, flat, line, mean, scale, to):
    """Statistics of the rectangles `length` wide, every `step` columns, in the rows [top, bottom).

    Number k stands at to + (k % phases) * n + k // phases, so that patches a stride apart lie side by side.
    line: working memory, two arrays (columns,) of float64 and two of float32.
    """
    sums, squares, row_at = integrals
    above, below = row_at[top], row_at[bottom]
    total, total_of_squares, means, scales = line
    for j in range(sums.shape[1]):
        total[j] = sums[below, j] - sums[above, j]
        total_of_squares[j] = squares[below, j] - squares[above, j]
    pixels = np.float64((bottom - top) * length)
    for j in range(U(sums.shape[1] - length)):
        end = j + U(length)
        means[j], scales[j] = _mean_and_scale(
            total[end] - total[j], total_of_squares[end] - total_of_squares[j], pixels, flat
        )
    n = ((sums.shape[1] - 1 - length) // step) // phases + 1
    for phase in range(phases):
        at, begin = U(phase * step), U(to + phase * n)
        for k in range(U((sums.shape[1] - 1 - length - phase * step) // (step * phases) + 1)):
            mean[begin + k] = means[at]
            scale[begin + k] = scales[at]
            at += U(step * phases)


@njit(**KERNEL)
def whole_statistics(integrals, size, step, phases, flat, line, length, whole):
    """Statistics of all whole patches of a tile, every `step` pixels; whole (2, n_lines * length).

    Returns the largest |mean| * scale.
    """
    largest = 0.0
    for k in range(whole.shape[1] // length):
        _line_statistics(
            integrals, k * step[0], k * step[0] + size[0], size[1], step[1], phases, flat, line,
            whole[0], whole[1], k * length,
        )  # fmt: skip
        means, scales = line[2], line[3]  # where those of the line still are
        for j in range(U(integrals[0].shape[1] - size[1])):
            largest = max(largest, abs(means[j]) * scales[j])
    return largest


@njit(**INNER)
def _cut_statistics(integrals, spans, d, size, step, phases, flat, line, length, cut):
    """Statistics of the patches in rows cut by the border, for the row shift d: valid for every column shift.

    spans (n_rows, 2) = first and last row common to both patches; cut, four arrays (n_rows * length,): mean
    and scale of the patch, mean and scale of the shifted one.
    """
    for i in range(spans.shape[0]):
        top, bottom = spans[i, 0], spans[i, 1]
        if 0 < bottom - top < size[0]:
            _line_statistics(
                integrals, top, bottom, size[1], step[1], phases, flat, line, cut[0], cut[1], i * length
            )
            _line_statistics(
                integrals,
                top + d,
                bottom + d,
                size[1],
                step[1],
                phases,
                flat,
                line,
                cut[2],
                cut[3],
                i * length,
            )


@njit(**INNER)
def _side_statistics(integrals, left, right, e, size, step, flat, tables):
    """Statistics of patches cut by the left or right border, every step[0] rows; tables (4, n_lines)."""
    for k in range(tables.shape[1]):
        top, bottom = k * step[0], k * step[0] + size[0]
        tables[0, k], tables[1, k] = _rectangle_statistics(integrals, top, bottom, left, right, flat)
        tables[2, k], tables[3, k] = _rectangle_statistics(integrals, top, bottom, left + e, right + e, flat)


@njit(**INNER)
def _common_span(start, size, shift, begin, end):
    """The part of [start, start + size) that lies in [begin, end) and still does after the shift."""
    return max(max(start, begin), begin - shift), min(min(start + size, end), end - shift)


@njit(**INNER)
def _row_spans(spans, reach, stride, size, d, top, bottom):
    """Rows common to the patch and its copy shifted by d, for every row of grid points of a tile."""
    for i in range(spans.shape[0]):
        spans[i, 0], spans[i, 1] = _common_span(reach + i * stride, size, d, top, bottom)


# --- finishing: from sums to Pearson's coefficient -------------------------------------------------------


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
def _score(sum_ab, n, mean_a, scale_a, mean_b, scale_b, same):
    """Pearson's coefficient from means and norms: (sum ab - n mean_a mean_b) / (norm_a norm_b)."""
    if same:
        return ONE if scale_a > ZERO else ZERO
    return min(ONE, max(-ONE, (sum_ab - n * mean_a * mean_b) * (scale_a * scale_b)))


@njit(**INNER)
def _score_line(sums, to, n, mean_a, scale_a, a, mean_b, scale_b, b, same, width):
    """Sums of products become scores, side by side."""
    if same:
        for j in range(width):
            sums[to + j] = ONE if scale_a[a + j] > ZERO else ZERO
    else:
        for j in range(width):
            covariance = sums[to + j] - n * mean_a[a + j] * mean_b[b + j]
            sums[to + j] = min(ONE, max(-ONE, covariance * (scale_a[a + j] * scale_b[b + j])))


@njit(**INNER)
def _side_column(
    scores, to, pitch, n, spans, left, right, d, e, size, here, there, lines, tables, integrals, flat
):
    """Sums of products become scores in a column of grid points whose patches the border cuts on one side.

    here, there = line of the tables for the first patch and for its copy, `lines` apart from row to row; n
    pixels in each patch. Where the border cuts the rows too, a corner of the image, the integrals tell.
    """
    same = d == 0 and e == 0
    for i in range(spans.shape[0]):
        top, bottom = spans[i, 0], spans[i, 1]
        if bottom - top == size[0]:
            scores[to] = _score(
                scores[to], n, tables[0, here], tables[1, here], tables[2, there], tables[3, there], same
            )  # fmt: skip
        elif 2 * (bottom - top) * (right - left) < size[0] * size[1]:
            scores[to] = np.nan
        else:
            m_a, f_a = _rectangle_statistics(integrals, top, bottom, left, right, flat)
            m_b, f_b = _rectangle_statistics(integrals, top + d, bottom + d, left + e, right + e, flat)
            n_corner = np.float64((bottom - top) * (right - left))
            scores[to] = _score(np.float64(scores[to]), n_corner, m_a, f_a, m_b, f_b, same)
        to += U(pitch)
        here += lines
        there += lines


@njit(**INNER)
def _store_row(scores, at, i, place, moves, out, out_shape):
    """Write row i of the scores of a tile, which begins `at`, into the maps that it belongs to.

    moves = (grid rows, grid columns, map) twice: where the scores of a translation lie, and those of its
    opposite, whose map may be -1; what lies beyond the grid is left out.
    """
    height, width = out_shape
    for d, e, which in moves:
        row, left = place[0] + i + d, max(0, -place[1] - e)
        n = min(place[3], width - place[1] - e) - left
        if which < 0 or not 0 <= row < height or n <= 0:
            continue
        to, begin = U((which * height + row) * width + place[1] + e + left), at + U(left)
        for j in range(U(n)):
            out[to + j] = scores[begin + j]


@njit(**INNER)
def _moves(shift, stride, index, mirror):
    return (0, 0, index), (shift[0] // stride, shift[1] // stride, mirror)


@njit(**INNER)
def _score_rows(
    scores, layout, spans, rows, shift_row, size, step_row, inside, columns, whole, cut, same,
    place, moves, out, out_shape,
):  # fmt: skip
    """Sums become scores in the columns [inside) of a tile, where the border cuts no patch on its sides.

    Those of the other columns are there already: each row is written while it is at hand.

    layout = distance of the rows of scores, and where they begin; rows = first row of patches and their
    distance; columns = (length of a line of statistics, place of the first patch and of its copy in it);
    whole and cut: mean and scale of a patch, mean and scale of its copy.
    """
    reach_row, stride = rows
    line, at_a, at_b = columns
    pitch, begin_of_row = layout
    begin, count = inside[0], U(inside[1] - inside[0])
    for i in range(spans.shape[0]):
        n_common = spans[i, 1] - spans[i, 0]
        y, to = reach_row + i * stride, U(begin_of_row + i * pitch + begin)
        n = np.float32(n_common * size[1])
        if 2 * n_common < size[0]:
            for j in range(count):
                scores[to + j] = np.nan
        elif n_common == size[0]:
            a, b = U(y // step_row * line + at_a), U((y + shift_row) // step_row * line + at_b)
            _score_line(scores, to, n, whole[0], whole[1], a, whole[2], whole[3], b, same, count)
        else:
            a, b = U(i * line + at_a), U(i * line + at_b)
            _score_line(scores, to, n, cut[0], cut[1], a, cut[2], cut[3], b, same, count)
        _store_row(scores, to - U(begin), i, place, moves, out, out_shape)


@njit(**INNER)
def _score_sums(k, tile, integrals, geometry, step, plan, flat, tables, layout, scores, out, out_shape):
    """Sums of products of translation k become scores, all over a tile, and are written; see `box_tile`."""
    span, place, known = tile
    shifts, index, mirror, column_shift = plan
    whole, cut, spare, side, side_known, row_spans = tables
    stride, n_patch_rows, n_patch_cols, reach_row, reach_col = geometry
    size = (n_patch_rows, n_patch_cols)
    n_rows, n_cols = place[2], place[3]
    pitch, begin_of_row = layout
    line, phases = cut[0].size // n_rows, stride // step[1]
    d, e = shifts[k, 0], shifts[k, 1]
    same = d == 0 and e == 0
    if not known:
        _row_spans(row_spans, reach_row, stride, n_patch_rows, d, span[0], span[1])
        _cut_statistics(integrals, row_spans, d, size, step, phases, flat, spare, line, cut)
    # columns of patches that lie inside the image, as do their copies
    begin = min(n_cols, max(0, -(-(max(span[2], span[2] - e) - reach_col) // stride)))
    end = max(begin, min(n_cols, (min(span[3], span[3] - e) - n_patch_cols - reach_col) // stride + 1))
    a, b = reach_col // step[1], (reach_col + e) // step[1]
    at_a = (a % phases) * (line // phases) + a // phases + begin
    at_b = (b % phases) * (line // phases) + b // phases + begin
    for j in range(n_cols):
        if begin <= j < end:
            continue
        left, right = _common_span(reach_col + j * stride, n_patch_cols, e, span[2], span[3])
        if 2 * (right - left) < n_patch_cols:
            for i in range(n_rows):
                scores[U(begin_of_row + i * pitch + j)] = np.nan
            continue
        statistics = side[column_shift[k], j]
        if not side_known[column_shift[k], j]:
            _side_statistics(integrals, left, right, e, size, step, flat, statistics)
            side_known[column_shift[k], j] = True
        _side_column(
            scores, U(begin_of_row + j), pitch, np.float32(n_patch_rows * (right - left)), row_spans,
            left, right, d, e, size, reach_row // step[0], (reach_row + d) // step[0], stride // step[0],
            statistics, integrals, flat,
        )  # fmt: skip
    _score_rows(
        scores, layout, row_spans, (reach_row, stride), d, size, step[0], (begin, end), (line, at_a, at_b),
        whole, cut, same, place, _moves((d, e), stride, index[k], mirror[k]), out, out_shape,
    )  # fmt: skip


@njit(**KERNEL)
def box_tile(tile, integrals, span, place, geometry, cells, step, plan, flat, work, out, out_shape):
    """Scores of every translation at the grid points of a tile of an image without invalid pixels.

    tile flat float32, stored by phase, 0 outside the image = span (top, bottom, left, right); integrals from
    `integrate`; place = first grid row, first grid column, rows, columns; geometry = stride, patch rows,
    patch columns, largest |shift| of rows and columns; cells as in `_box_sums`; step = spacing at which patch
    statistics are needed; plan = shifts (n, 2) ordered by rows, index of each in out, index of the opposite
    shift or -1, number of each column shift; work, made by `gpuseg.engines.cpu`: statistics of whole patches,
    of those cut above or below, lines to work in, of those cut on a side and whether these are known, rows
    common to a patch and its copy, width and pitch of the box sums, their working memory, scores; out flat
    (N, h, w) float32.
    """
    shifts, index, _, _ = plan
    whole, cut, spare, side, side_known, row_spans, (width, pitch), offsets, planes, scores = work
    # taken apart once: each view costs an atomic reference count
    of_whole, of_cut = (whole[0], whole[1], whole[0], whole[1]), (cut[0], cut[1], cut[2], cut[3])
    tables = of_whole, of_cut, spare, side, side_known, row_spans
    d_known = geometry[3] + 1
    k, row = np.int64(0), GROUP * width  # a literal 0 would have everything compiled for it once more
    while k < index.size:
        n = 1
        if shifts[k, 0] != 0 or shifts[k, 1] != 0:  # a patch and itself need no products
            n = min(GROUP, index.size - k)
            _box_sums(
                tile, tile, shifts, k, geometry, cells, place[2], width, pitch, offsets, planes, scores
            )  # fmt: skip
        for g in range(n):
            d = shifts[k + g, 0]
            _score_sums(
                k + g, (span, place, d == d_known), integrals, geometry, step, plan, flat, tables,
                (row, g * width), scores, out, out_shape,
            )  # fmt: skip
            d_known = d
        k += n


@njit(**KERNEL)
def masked_box_tile(a, m, aa, place, geometry, cells, plan, flat, work, out, out_shape):
    """Scores of a tile with invalid pixels: masked Pearson from six box sums in float64; see `box_tile`.

    a, m, aa flat float64: pixels, 0 where invalid; weights, 1 or 0; squared pixels.
    """
    shifts, index, mirror, _ = plan
    sums, (width, pitch), offsets, planes, scores = work
    half_patch = 0.5 * geometry[1] * geometry[2]
    row = GROUP * width
    for begin in range(0, index.size, GROUP):
        for which in range(6):
            p = a if which in (1, 5) else aa if which == 3 else m
            q = a if which in (2, 5) else aa if which == 4 else m
            _box_sums(
                p, q, shifts, begin, geometry, cells, place[2], width, pitch, offsets, planes, sums[which]
            )  # fmt: skip
        for k in range(begin, min(begin + GROUP, index.size)):
            d, e = shifts[k, 0], shifts[k, 1]
            moves = _moves((d, e), geometry[0], index[k], mirror[k])
            for i in range(place[2]):
                first = (k - begin) * width + i * row
                for at in range(first, first + place[3]):
                    if sums[0, at] < half_patch:
                        scores[at] = np.nan
                    else:
                        scores[at] = _pearson(
                            sums[0, at], sums[1, at], sums[2, at], sums[3, at], sums[4, at], sums[5, at],
                            flat, d == 0 and e == 0,
                        )  # fmt: skip
                _store_row(scores, U(first), i, place, moves, out, out_shape)


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


# --- what is missing -------------------------------------------------------------------------------------


@njit(**INNER)
def _nearest_rows(scores, complete, near, last):
    """near[i, j] = the row nearest to i with a score in column j, the upper of two; -1 if there is none.

    Not where all are known to be there, complete = (first row, end, first column, end).
    """
    n_rows, n_cols = scores.shape
    _set(last, -1)
    for i in range(n_rows):
        begin, end = _columns_to_look_at(i, complete, n_cols)
        _look(scores, near, last, i, np.int64(0), begin)
        _look(scores, near, last, i, end, n_cols)
    _set(last, -1)
    for i in range(n_rows - 1, -1, -1):
        begin, end = _columns_to_look_at(i, complete, n_cols)
        _look_back(scores, near, last, i, np.int64(0), begin)
        _look_back(scores, near, last, i, end, n_cols)


@njit(**INNER)
def _columns_to_look_at(i, complete, n_cols):
    """Those before the first and from the second on: others are complete in this row and both next to it."""
    if complete[0] < i < complete[1] - 1:
        return complete[2], complete[3]
    return n_cols, n_cols


@njit(**INNER)
def _look(scores, near, last, i, begin, end):
    for j in range(U(begin), U(end)):
        last[j] = last[j] if math.isnan(scores[i, j]) else i
        near[i, j] = last[j]


@njit(**INNER)
def _look_back(scores, near, last, i, begin, end):
    for j in range(U(begin), U(end)):
        last[j] = last[j] if math.isnan(scores[i, j]) else i
        above, below = near[i, j], last[j]
        near[i, j] = below if above < 0 or (below >= 0 and below - i < i - above) else above


@njit(**INNER)
def _nearest(near, complete, i, j):
    """The grid point nearest to (i, j) that has a score, else -1, -1; ties: smallest row, then column.

    near = the nearest rows of every column, from `_nearest_rows`.
    """
    n_cols = near.shape[1]
    best, row, col = np.int64(-1), np.int64(-1), np.int64(-1)
    is_complete = complete[0] <= i < complete[1]
    away = 0
    while away < n_cols and (best < 0 or away * away <= best):
        for x in (j - away, j + away):
            if not 0 <= x < n_cols:
                continue
            y = np.int64(i) if is_complete and complete[2] <= x < complete[3] else np.int64(near[i, x])
            if y >= 0:
                d = (y - i) * (y - i) + away * away
                if best < 0 or d < best or (d == best and (y < row or (y == row and x < col))):
                    best, row, col = d, y, x
        away += 1
    return row, col


@njit(**KERNEL)
def fill_pairs(scores, pairs, wanted, complete, near, last, places, found):
    """Missing scores of pairs (n, 2) of opposite operations of (N, h, w), in place; they may be the same.

    First from each other, then at the points `wanted` (h, w) from the nearest grid point. complete = (first
    row, end, first column, end) of a rectangle of grid points that is known to miss nothing; near (h, w) and
    last (w,) int32, places and found (h * w, 2): working memory.
    """
    for k in range(pairs.shape[0]):
        _fill_pair(scores, pairs[k, 0], pairs[k, 1], wanted, complete, near, last, places, found)


@njit(**INNER)
def _fill_pair(scores, one, other, wanted, complete, near, last, places, found):
    """The same of one pair; places = where both are missing, found = what they are given."""
    _, n_rows, n_cols = scores.shape
    n = 0
    for i in range(n_rows):  # then both miss the same
        inside = complete[0] <= i < complete[1]
        j = 0
        while j < n_cols:
            if inside and j == complete[2] and complete[3] > j:
                j = complete[3]
                continue
            a, b = scores[one, i, j], scores[other, i, j]
            if math.isnan(a) and math.isnan(b):
                if wanted[i, j]:
                    places[n, 0], places[n, 1] = i, j
                    n += 1
            elif math.isnan(a):
                scores[one, i, j] = b
            elif math.isnan(b):
                scores[other, i, j] = a
            j += 1
    if n > 0:
        _nearest_rows(scores[one], complete, near, last)
    for k in range(n):  # all found before one is written: a filled score is nobody's neighbour
        i, j = places[k, 0], places[k, 1]
        row, col = _nearest(near, complete, i, j)
        found[k, 0] = scores[one, row, col] if row >= 0 else ZERO
        found[k, 1] = scores[other, row, col] if row >= 0 else ZERO
    for k in range(n):
        scores[one, places[k, 0], places[k, 1]] = found[k, 0]
        scores[other, places[k, 0], places[k, 1]] = found[k, 1]
