"""numba kernels of the translation scores: each works on one tile, `gpuseg.engines.cpu` shares them out.

Everything that numba compiles for the translations stands in this one file, because its cache does not
notice changes in the functions of other modules.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gpuseg.engines._cpu_options import INNER, KERNEL

U = np.uintp
CHUNK = 4096
ZERO = np.float32(0.0)
ONE = np.float32(1.0)


# --- box sums: for one translation, the sums over all patches of a product image ------------------------
#
# A tile is stored by phase, tile[y % stride, x % stride, y // stride, x // stride]: pixels that are a stride
# apart lie side by side, so that sums over blocks of stride x stride pixels are sums of whole planes, and
# sums of blocks are sums of shifted planes. A plane is one flat line: what reaches from one of its rows into
# the next falls into columns that nobody reads.
#
# Arrays are flat here and positions unsigned: a slice would cost an atomic reference count, and a signed
# index a test for negative ones.


@njit(**INNER)
def _add_products(total, p, q, offsets, begin, end, at, width):
    """total[at + m] += sum over (u, v) = offsets[begin:end] of p[u + at + m] q[v + at + m], four a pass."""
    k = begin
    while k + 4 <= end:
        a0, a1 = at + U(offsets[k, 0]), at + U(offsets[k + 1, 0])
        a2, a3 = at + U(offsets[k + 2, 0]), at + U(offsets[k + 3, 0])
        b0, b1 = at + U(offsets[k, 1]), at + U(offsets[k + 1, 1])
        b2, b3 = at + U(offsets[k + 2, 1]), at + U(offsets[k + 3, 1])
        for m in range(width):
            total[at + m] += (p[a0 + m] * q[b0 + m] + p[a1 + m] * q[b1 + m]) + (
                p[a2 + m] * q[b2 + m] + p[a3 + m] * q[b3 + m]
            )
        k += 4
    while k < end:
        a0, b0 = at + U(offsets[k, 0]), at + U(offsets[k, 1])
        for m in range(width):
            total[at + m] += p[a0 + m] * q[b0 + m]
        k += 1


@njit(**INNER)
def _set(target, source, a, width):
    """target[m] = source[a + m]."""
    for m in range(width):
        target[m] = source[a + m]


@njit(**INNER)
def _add(target, source, a, width):
    """target[m] += source[a + m]."""
    for m in range(width):
        target[m] += source[a + m]


@njit(**INNER)
def _add_box(line, spare, length, unit, out, n):
    """out[m] += sum of line[m], line[m + unit], ..., `length` of them, by doubling; spoils both lines."""
    offset, step, span = U(0), U(unit), U(n + (length - 1) * unit)
    this, other = line, spare
    while True:
        if length & 1:
            _add(out, this, offset, U(n))
            offset += step
        length >>= 1
        if length == 0:
            return
        span -= step
        for m in range(span):  # into the other line: a loop that overlaps itself is not vectorised
            other[m] = this[m] + this[m + step]
        this, other = other, this
        step += step


@njit(**INNER)
def _box_sums(p, q, shift, geometry, cells, n_rows, pitch, offsets, work, out):
    """out[i, j] = sum over the patch at tile point (i, j) of p(r) q(r + shift); rows of out `pitch` apart.

    The pixels of a patch are blocks of stride x stride, and the rest at its lower and right edge. Products
    are summed over four parts of each block: its first rows and columns (as many as the rest has), other
    columns of the first rows, first columns of the other rows, the others; then parts over the patch.
    Nothing is ever subtracted, so rounding cannot travel further than a patch.

    cells = (row, column) of each pixel of a block, part by part, and where the parts end.
    """
    stride, n_patch_rows, n_patch_cols, reach_row, reach_col = geometry
    pixels, ends = cells
    corner, top, left, rest, columns, spare = work
    n_down, n_across = n_patch_rows // stride, n_patch_cols // stride
    plane = p.size // (stride * stride + 1)
    for k in range(ends[3]):
        for side in range(2):
            y = reach_row + pixels[k, 0] + side * shift[0]
            x = reach_col + pixels[k, 1] + side * shift[1]
            offsets[k, side] = (y % stride * stride + x % stride) * plane + y // stride * pitch + x // stride
    whole, n = (n_rows + n_down) * pitch, U(n_rows * pitch)
    for begin in range(0, whole, CHUNK):  # the sums of a chunk stay in the first-level cache
        at, width = U(begin), U(min(CHUNK, whole - begin))
        for m in range(width):
            corner[at + m] = 0
            top[at + m] = 0
        _add_products(corner, p, q, offsets, 0, ends[0], at, width)
        _add_products(top, p, q, offsets, ends[0], ends[1], at, width)
        if n_down > 0:
            for m in range(width):
                left[at + m] = corner[at + m]
                rest[at + m] = top[at + m]
            _add_products(left, p, q, offsets, ends[1], ends[2], at, width)
            _add_products(rest, p, q, offsets, ends[2], ends[3], at, width)
    down = U(n_down * pitch)
    _set(columns, corner, down, n)
    _set(corner, top, down, n)
    if n_down > 0:
        _add_box(left, spare, n_down, pitch, columns, n)
        _add_box(rest, spare, n_down, pitch, corner, n)
    # now `columns` holds the sums over the rows of the patch of the first columns of each block, `corner` of
    # its other columns
    _add(corner, columns, U(0), n)
    n -= U(n_across)
    _set(out, columns, U(n_across), n)
    if n_across > 0:
        _add_box(corner, spare, n_across, 1, out, n)


# --- what a tile knows about itself: integrals, the patches' means and norms ------------------------------


@njit(**KERNEL)
def integrate(tile, row_at, sums, squares, line):
    """Integral images of a tile and of its square, of the rows that are needed.

    sums[row_at[i], j] is the sum over rows < i, columns < j; nothing is stored for rows i whose row_at is
    negative. line (2, columns): working memory.
    """
    rows, cols = tile.shape
    total, total_of_squares = line[0], line[1]
    total[:] = 0
    total_of_squares[:] = 0
    for i in range(rows + 1):
        if row_at[i] >= 0:
            _running_sum(total, sums[row_at[i]], cols)
            _running_sum(total_of_squares, squares[row_at[i]], cols)
        if i < rows:
            source = tile[i]
            for j in range(cols):
                v = np.float64(source[j])
                total[j] += v
                total_of_squares[j] += v * v


@njit(**INNER)
def _running_sum(source, target, n):
    s = 0.0
    target[0] = 0
    for j in range(n):
        s += source[j]
        target[j + 1] = s


@njit(**INNER)
def _rectangle(integral, above, below, left, right):
    return (integral[below, right] - integral[above, right]) - (integral[below, left] - integral[above, left])


@njit(**INNER)
def _rectangle_statistics(integrals, top, bottom, left, right, flat):
    """Mean and 1 / (standard deviation * sqrt(n)) of the pixels in a rectangle, which must hold some."""
    sums, squares, row_at = integrals
    above, below = row_at[top], row_at[bottom]
    n = np.float64((bottom - top) * (right - left))
    mean = _rectangle(sums, above, below, left, right) / n
    variance = _rectangle(squares, above, below, left, right) / n - mean * mean
    return mean, 1.0 / math.sqrt(n * variance) if variance > flat else 0.0


@njit(**INNER)
def _line_statistics(integrals, top, bottom, length, step, phases, flat, mean, scale, to):
    """Statistics of the rectangles `length` wide, every `step` columns, in the rows [top, bottom).

    Number k stands at to + (k % phases) * n + k // phases, so that patches a stride apart lie side by side.
    """
    n_rectangles = (integrals[0].shape[1] - 1 - length) // step + 1
    n = (n_rectangles - 1) // phases + 1
    for k in range(n_rectangles):
        m, f = _rectangle_statistics(integrals, top, bottom, k * step, k * step + length, flat)
        at = to + (k % phases) * n + k // phases
        mean[at] = m
        scale[at] = f


@njit(**KERNEL)
def whole_statistics(integrals, size, step, phases, flat, line, whole):
    """Statistics of all whole patches of a tile, every `step` pixels; whole (2, n_lines * line) float32."""
    for k in range(whole.shape[1] // line):
        _line_statistics(
            integrals, k * step[0], k * step[0] + size[0], size[1], step[1], phases, flat,
            whole[0], whole[1], k * line,
        )  # fmt: skip


@njit(**INNER)
def _cut_statistics(integrals, spans, d, size, step, phases, flat, line, cut):
    """Statistics of the patches in rows cut by the border, for the row shift d: valid for every column shift.

    spans (n_rows, 2) = first and last row common to both patches; cut (4, n_rows * line): mean and scale of
    the patch, mean and scale of the shifted one.
    """
    for i in range(spans.shape[0]):
        top, bottom = spans[i, 0], spans[i, 1]
        if 0 < bottom - top < size[0]:
            for k in range(2):
                _line_statistics(
                    integrals, top + k * d, bottom + k * d, size[1], step[1], phases, flat,
                    cut[2 * k], cut[2 * k + 1], i * line,
                )  # fmt: skip


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
def _store(scores, pitch, place, d, e, out, height, width, which):
    """Write the scores of a tile, moved by (d, e) grid points, where they lie inside map `which` of out."""
    _, _, n_rows, n_cols = place
    first_row, first_col = place[0] + d, place[1] + e
    left = max(0, -first_col)
    n = min(n_cols, width - first_col) - left
    for i in range(max(0, -first_row), min(n_rows, height - first_row)):
        to, a = U(((which * height) + first_row + i) * width + first_col + left), U(i * pitch + left)
        for j in range(U(max(n, 0))):
            out[to + j] = scores[a + j]


@njit(**INNER)
def _score_rows(scores, pitch, spans, rows, shift_row, size, step_row, inside, columns, whole, cut, same):
    """Sums become scores in the columns [inside) of a tile, where the border cuts no patch on its sides.

    rows = first row of patches and their distance; columns = (length of a line of statistics, place of the
    first patch and of its copy in it); whole and cut: mean and scale of a patch, mean and scale of its copy.
    """
    reach_row, stride = rows
    line, at_a, at_b = columns
    begin, count = inside[0], U(inside[1] - inside[0])
    for i in range(spans.shape[0]):
        n_common = spans[i, 1] - spans[i, 0]
        y, to = reach_row + i * stride, U(i * pitch + begin)
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


@njit(**KERNEL)
def box_tile(tile, integrals, span, place, geometry, cells, step, plan, flat, work, out, out_shape):
    """Scores of every translation at the grid points of a tile of an image without invalid pixels.

    tile flat float32, stored by phase, 0 outside the image = span (top, bottom, left, right); integrals from
    `integrate`; place = first grid row, first grid column, rows, columns; geometry = stride, patch rows,
    patch columns, largest |shift| of rows and columns; cells as in `_box_sums`; step = spacing at which patch
    statistics are needed; plan = shifts (n, 2) ordered by rows, index of each in out, index of the opposite
    shift or -1, number of each column shift; work, made by `gpuseg.engines.cpu`: statistics of whole patches,
    of those cut above or below, of those cut on a side and whether these are known, rows common to a patch
    and its copy, working memory of the box sums, scores; out flat (N, h, w) float32.
    """
    shifts, index, mirror, column_shift = plan
    whole, cut, side, side_known, row_spans, offsets, planes, scores = work
    stride, n_patch_rows, n_patch_cols, reach_row, reach_col = geometry
    size = (n_patch_rows, n_patch_cols)
    n_rows, n_cols = place[2], place[3]
    pitch, line, phases = scores.size // n_rows, cut.shape[1] // n_rows, stride // step[1]
    # taken apart once: each view costs an atomic reference count
    of_whole, of_cut = (whole[0], whole[1], whole[0], whole[1]), (cut[0], cut[1], cut[2], cut[3])
    height, width = out_shape
    d_known = reach_row + 1
    for k in range(index.size):
        d, e = shifts[k, 0], shifts[k, 1]
        same = d == 0 and e == 0
        if not same:
            _box_sums(tile, tile, (d, e), geometry, cells, n_rows, pitch, offsets, planes, scores)
        if d != d_known:
            _row_spans(row_spans, reach_row, stride, n_patch_rows, d, span[0], span[1])
            _cut_statistics(integrals, row_spans, d, size, step, phases, flat, line, cut)
            d_known = d
        # columns of patches that lie inside the image, as do their copies
        begin = min(n_cols, max(0, -(-(max(span[2], span[2] - e) - reach_col) // stride)))
        end = max(begin, min(n_cols, (min(span[3], span[3] - e) - n_patch_cols - reach_col) // stride + 1))
        a, b = reach_col // step[1], (reach_col + e) // step[1]
        at_a = (a % phases) * (line // phases) + a // phases + begin
        at_b = (b % phases) * (line // phases) + b // phases + begin
        _score_rows(
            scores, pitch, row_spans, (reach_row, stride), d, size, step[0], (begin, end), (line, at_a, at_b),
            of_whole, of_cut, same,
        )  # fmt: skip
        for j in range(n_cols):
            if begin <= j < end:
                continue
            left, right = _common_span(reach_col + j * stride, n_patch_cols, e, span[2], span[3])
            if 2 * (right - left) < n_patch_cols:
                for i in range(n_rows):
                    scores[i * pitch + j] = np.nan
                continue
            tables = side[column_shift[k], j]
            if not side_known[column_shift[k], j]:
                _side_statistics(integrals, left, right, e, size, step, flat, tables)
                side_known[column_shift[k], j] = True
            _side_column(
                scores, U(j), pitch, np.float32(n_patch_rows * (right - left)), row_spans, left, right, d, e,
                size, reach_row // step[0], (reach_row + d) // step[0], stride // step[0], tables,
                integrals, flat,
            )  # fmt: skip
        _store(scores, pitch, place, 0, 0, out, height, width, index[k])
        if mirror[k] >= 0:
            _store(scores, pitch, place, d // stride, e // stride, out, height, width, mirror[k])


@njit(**KERNEL)
def masked_box_tile(a, m, aa, place, geometry, cells, plan, flat, work, out, out_shape):
    """Scores of a tile with invalid pixels: masked Pearson from six box sums in float64; see `box_tile`.

    a, m, aa flat float64: pixels, 0 where invalid; weights, 1 or 0; squared pixels.
    """
    shifts, index, mirror, _ = plan
    sums, offsets, planes, scores = work
    n_rows, n_cols = place[2], place[3]
    pitch = scores.size // n_rows
    half_patch = 0.5 * geometry[1] * geometry[2]
    for k in range(index.size):
        d, e = shifts[k, 0], shifts[k, 1]
        for which in range(6):
            p = a if which in (1, 5) else aa if which == 3 else m
            q = a if which in (2, 5) else aa if which == 4 else m
            _box_sums(p, q, (d, e), geometry, cells, n_rows, pitch, offsets, planes, sums[which])
        for i in range(n_rows):
            for j in range(n_cols):
                at = i * pitch + j
                if sums[0, at] < half_patch:
                    scores[at] = np.nan
                else:
                    scores[at] = _pearson(
                        sums[0, at], sums[1, at], sums[2, at], sums[3, at], sums[4, at], sums[5, at],
                        flat, d == 0 and e == 0,
                    )  # fmt: skip
        _store(scores, pitch, place, 0, 0, out, out_shape[0], out_shape[1], index[k])
        if mirror[k] >= 0:
            stride = geometry[0]
            _store(scores, pitch, place, d // stride, e // stride, out, out_shape[0], out_shape[1], mirror[k])


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
def _nearest_score(scores, i, j):
    """The score at the grid point nearest to (i, j) that has one, else 0; ties: smallest row, then column."""
    height, width = scores.shape
    best, best_y, best_x = np.int64(-1), 0, 0
    ring = 1
    while ring < max(height, width) and (best < 0 or ring * ring <= best):
        for y in range(max(0, i - ring), min(height, i + ring + 1)):
            step = 1 if abs(y - i) == ring else 2 * ring
            for x in range(j - ring, j + ring + 1, step):
                if 0 <= x < width and not math.isnan(scores[y, x]):
                    d = (y - i) * (y - i) + (x - j) * (x - j)
                    earlier = y < best_y or (y == best_y and x < best_x)
                    if best < 0 or d < best or (d == best and earlier):
                        best, best_y, best_x = d, y, x
        ring += 1
    return scores[best_y, best_x] if best >= 0 else ZERO


@njit(**INNER)
def _nearest_rows(scores, near, last):
    """near[i, j] = the row nearest to i with a score in column j, the upper of two; -1 if there is none."""
    n_rows, n_cols = scores.shape
    last[:] = -1
    for i in range(n_rows):
        for j in range(n_cols):
            last[j] = last[j] if math.isnan(scores[i, j]) else i
            near[i, j] = last[j]
    last[:] = -1
    for i in range(n_rows - 1, -1, -1):
        for j in range(n_cols):
            last[j] = last[j] if math.isnan(scores[i, j]) else i
            above, below = near[i, j], last[j]
            near[i, j] = below if above < 0 or (below >= 0 and below - i < i - above) else above


@njit(**INNER)
def _score_nearest_by_rows(scores, near, i, j):
    """The same as `_nearest_score`, from the nearest rows of every column."""
    n_cols = near.shape[1]
    best, row, col = np.int64(-1), np.int64(-1), np.int64(-1)
    away = 0
    while away < n_cols and (best < 0 or away * away <= best):
        for x in (j - away, j + away):
            if 0 <= x < n_cols and near[i, x] >= 0:
                y = np.int64(near[i, x])
                d = (y - i) * (y - i) + away * away
                if best < 0 or d < best or (d == best and (y < row or (y == row and x < col))):
                    best, row, col = d, y, x
        away += 1
    return scores[row, col] if best >= 0 else ZERO


@njit(**KERNEL)
def fill_pair(scores, one, other, wanted, complete, near, last):
    """Missing scores of two opposite operations of (N, h, w), in place; they may be the same.

    First from each other, then at the points `wanted` (h, w) from the nearest grid point. complete = (first
    row, end, first column, end) of a rectangle of grid points that is known to miss nothing; near (h, w) and
    last (w,) int32: working memory.
    """
    _, n_rows, n_cols = scores.shape
    places = np.empty((n_rows * n_cols, 2), np.int32)  # where both are missing
    n = 0
    for i in range(n_rows):
        inside = complete[0] <= i < complete[1]
        for j in range(n_cols):
            if inside and complete[2] <= j < complete[3]:
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
    found = np.empty((n, 2), np.float32)
    # the search by rings looks at the square of the distance, that by rows at all points once
    furthest = max(complete[0], n_rows - complete[1], complete[2], n_cols - complete[3])
    by_rows = n * furthest * furthest > 2 * n_rows * n_cols
    if by_rows:  # both miss the same now
        _nearest_rows(scores[one], near, last)
    for k in range(n):  # all found before one is written: a filled score is nobody's neighbour
        i, j = places[k, 0], places[k, 1]
        if by_rows:
            found[k, 0] = _score_nearest_by_rows(scores[one], near, i, j)
            found[k, 1] = _score_nearest_by_rows(scores[other], near, i, j)
        else:
            found[k, 0] = _nearest_score(scores[one], i, j)
            found[k, 1] = _nearest_score(scores[other], i, j)
    for k in range(n):
        scores[one, places[k, 0], places[k, 1]] = found[k, 0]
        scores[other, places[k, 0], places[k, 1]] = found[k, 1]
