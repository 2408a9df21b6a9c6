"""numba kernels of the translation scores: each works on one tile, `gpuseg.engines.cpu` shares them out.

Everything that numba compiles for the translations stands in this one file, because its cache does not
notice changes in the functions of other modules.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# without nnan and ninf: isnan must keep working
FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}
SERIAL = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": FASTMATH}

U = np.uintp
ZERO = np.float32(0.0)
ONE = np.float32(1.0)


# --- box sums: for one translation, the sums over all patches of a product image ------------------------
#
# Arrays are flat here and positions unsigned: a slice would cost an atomic reference count per row, and a
# signed index a test for negative ones, either of which takes longer than the arithmetic.


@njit(**SERIAL)
def _add_products(total, to, p, a, q, b, pitch, n_rows, width):
    """total[to:] += sum over `n_rows` rows (`pitch` apart) of p[a:] * q[b:], four rows a pass."""
    while n_rows >= 4:
        a1, a2, a3 = a + pitch, a + pitch + pitch, a + pitch + pitch + pitch
        b1, b2, b3 = b + pitch, b + pitch + pitch, b + pitch + pitch + pitch
        for x in range(width):
            total[to + x] += (p[a + x] * q[b + x] + p[a1 + x] * q[b1 + x]) + (
                p[a2 + x] * q[b2 + x] + p[a3 + x] * q[b3 + x]
            )
        a = a3 + pitch
        b = b3 + pitch
        n_rows -= 4
    for _ in range(n_rows):
        for x in range(width):
            total[to + x] += p[a + x] * q[b + x]
        a += pitch
        b += pitch


@njit(**SERIAL)
def _add_box(lines, spare, length, stride, out, to, n):
    """out[to + j] += sum of lines[j * stride : j * stride + length], by doubling; spoils both lines."""
    span = U((n - 1) * stride + length)
    offset, step = U(0), U(1)
    this, other = lines, spare
    while True:
        if length & 1:
            for j in range(U(n)):
                out[to + j] += this[offset + j * U(stride)]
            offset += step
        length >>= 1
        if length == 0:
            return
        span -= step
        for x in range(span):  # into the other line: a loop that overlaps itself is not vectorised
            other[x] = this[x] + this[x + step]
        this, other = other, this
        step += step


@njit(**SERIAL)
def _box_row(row, length, stride, out, to, n):
    """out[to + j] = sum of line[j * stride : j * stride + length]; row = (line, and three more), spoiled.

    First over blocks of `stride` columns, then over the blocks of a patch.
    """
    line, spare, blocks, spare_blocks = row
    n_blocks = length // stride
    ahead = U(n_blocks * stride)
    for j in range(U(n)):
        out[to + j] = 0
    for k in range(U(length - n_blocks * stride)):
        for j in range(U(n)):
            out[to + j] += line[ahead + k + j * U(stride)]
    if n_blocks > 0:
        for j in range(U(n + n_blocks - 1)):
            blocks[j] = 0
        _add_box(line, spare, stride, stride, blocks, U(0), n + n_blocks - 1)
        _add_box(blocks, spare_blocks, n_blocks, 1, out, to, n)


@njit(**SERIAL)
def _padded(n_cols, stride, length):
    """Width of a line of column sums: whole vectors, so that no loop ends in scalar steps."""
    return -(-((n_cols - 1) * stride + length) // 64) * 64


@njit(**SERIAL)
def _box_sums(p, q, pitch, origin, shift, stride, size, scratch, out):
    """out[i, j] = sum over the patch at tile point (i, j) of p(r) q(r + shift).

    p, q, out are flat, tiles with rows `pitch` apart; the patch of point (0, 0) begins at `origin`. Products
    are summed over blocks of `stride` rows, the blocks over the patch by running sums that start anew every
    patch length (the end of one group of blocks + the beginning of the next): nothing is ever subtracted, so
    rounding cannot travel further than a patch, and the cost does not depend on the patch.
    """
    lines, row, n_rows, n_cols = scratch
    line = row[0]
    width = U(line.size)
    n_blocks = size[0] // stride
    head = size[0] - n_blocks * stride  # rows of the patch beyond its last whole block
    prefix, lead, first_block = U(0), width, width + width
    for x in range(width):
        lines[prefix + x] = 0
    for j in range(n_rows + n_blocks):
        a = (origin[0] + j * stride) * pitch + origin[1]
        b = a + shift[0] * pitch + shift[1]
        for x in range(width):
            lines[lead + x] = 0
        _add_products(lines, lead, p, U(a), q, U(b), U(pitch), head, width)
        slot = j % max(n_blocks, 1)
        block = first_block + U(slot) * width
        i = j - n_blocks  # the row of patches whose blocks were complete with the last turn
        if i >= 0:
            if slot == 0:
                for x in range(width):
                    line[x] = lines[prefix + x] + lines[lead + x]
            else:
                for x in range(width):
                    line[x] = (lines[prefix + x] + lines[block + x]) + lines[lead + x]
            _box_row(row, size[1], stride, out, U(i * n_cols), n_cols)
            if i == n_rows - 1:
                return
        if n_blocks == 0:
            continue
        if slot == 0 and j > 0:
            # the group is complete: its blocks become the sums from each of them to the end
            for k in range(n_blocks - 2, 0, -1):
                to, after = first_block + U(k) * width, first_block + U(k + 1) * width
                for x in range(width):
                    lines[to + x] += lines[after + x]
        a, b = a + head * pitch, b + head * pitch
        for x in range(width):
            lines[block + x] = lines[lead + x]
        _add_products(lines, block, p, U(a), q, U(b), U(pitch), stride - head, width)
        if slot == 0:
            for x in range(width):
                lines[prefix + x] = lines[block + x]
        else:
            for x in range(width):
                lines[prefix + x] += lines[block + x]


@njit(**SERIAL)
def _scratch(stride, size, n_rows, n_cols, like):
    """Working memory of `_box_sums`, of the type of `like`."""
    width, n_blocks = _padded(n_cols, stride, size[1]), n_cols + size[1] // stride
    lines = np.empty((2 + max(size[0] // stride, 1)) * width, like.dtype)
    line, spare = np.empty(width, like.dtype), np.empty(width, like.dtype)
    return lines, (line, spare, line[:n_blocks].copy(), line[:n_blocks].copy()), n_rows, n_cols


# --- what a tile knows about itself: a local copy, its integrals, the patches' means and norms ----------


@njit(**SERIAL)
def _load_tile(pixels, tile, y0, x0):
    """Copy the region from (y0, x0) on, less its mean, into `tile`; 0 outside the image."""
    rows, cols = tile.shape
    top, bottom = max(0, -y0), min(rows, pixels.shape[0] - y0)
    left, right = max(0, -x0), min(cols, pixels.shape[1] - x0)
    total = 0.0
    for i in range(top, bottom):
        for j in range(left, right):
            total += pixels[y0 + i, x0 + j]
    level = np.float32(total / max((bottom - top) * (right - left), 1))
    tile[:] = 0
    for i in range(top, bottom):
        for j in range(left, right):
            tile[i, j] = pixels[y0 + i, x0 + j] - level


@njit(**SERIAL)
def _load_masked_tile(pixels, valid, tile, weight, y0, x0):
    """As `_load_tile`, 0 also where a pixel is invalid; weight = 1 where valid. Were all pixels valid?"""
    rows, cols = tile.shape
    tile[:] = 0
    weight[:] = 0
    total = 0.0
    count = 0
    for i in range(max(0, -y0), min(rows, pixels.shape[0] - y0)):
        for j in range(max(0, -x0), min(cols, pixels.shape[1] - x0)):
            if valid[y0 + i, x0 + j]:
                weight[i, j] = 1
                tile[i, j] = pixels[y0 + i, x0 + j]
                total += tile[i, j]
                count += 1
    level = total / max(count, 1)
    for i in range(rows):
        for j in range(cols):
            tile[i, j] -= weight[i, j] * level
    return count == rows * cols


@njit(**SERIAL)
def _integrate(tile, sums, squares):
    """Integral images of a tile and of its square: entry (i, j) is the sum over rows < i, columns < j."""
    rows, cols = tile.shape
    sums[0, :] = 0
    squares[0, :] = 0
    for i in range(rows):
        s = 0.0
        ss = 0.0
        sums[i + 1, 0] = 0
        squares[i + 1, 0] = 0
        source, s_row, ss_row = tile[i], sums[i + 1, 1:], squares[i + 1, 1:]
        for j in range(cols):
            v = np.float64(source[j])
            s += v
            ss += v * v
            s_row[j] = s
            ss_row[j] = ss
        s_above, ss_above = sums[i, 1:], squares[i, 1:]
        for j in range(cols):
            s_row[j] += s_above[j]
            ss_row[j] += ss_above[j]


@njit(**SERIAL)
def _rectangle(integral, top, bottom, left, right):
    return (integral[bottom, right] - integral[top, right]) - (integral[bottom, left] - integral[top, left])


@njit(**SERIAL)
def _rectangle_statistics(sums, squares, top, bottom, left, right, flat):
    """Mean and 1 / (standard deviation * sqrt(n)) of the pixels in a rectangle, which must hold some."""
    n = np.float64((bottom - top) * (right - left))
    mean = _rectangle(sums, top, bottom, left, right) / n
    variance = _rectangle(squares, top, bottom, left, right) / n - mean * mean
    return mean, 1.0 / math.sqrt(n * variance) if variance > flat else 0.0


@njit(**SERIAL)
def _line_statistics(sums, squares, top, bottom, length, step, flat, mean, scale):
    """Statistics of the rectangles `length` wide, every `step` columns, in the rows [top, bottom).

    Number k stands at [k % phases, k // phases], so that patches a stride apart lie side by side.
    """
    phases = mean.shape[0]
    for k in range((sums.shape[1] - 1 - length) // step + 1):
        m, f = _rectangle_statistics(sums, squares, top, bottom, k * step, k * step + length, flat)
        mean[k % phases, k // phases] = m
        scale[k % phases, k // phases] = f


# --- finishing: from sums to Pearson's coefficient -------------------------------------------------------


@njit(**SERIAL)
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


@njit(**SERIAL)
def _clipped(r):
    return min(ONE, max(-ONE, r))


@njit(**SERIAL)
def _common_span(start, size, shift, begin, end):
    """The part of [start, start + size) that lies in [begin, end) and still does after the shift."""
    return max(start, begin, begin - shift), min(start + size, end, end - shift)


@njit(**SERIAL)
def _score_line(products, to, n, mean_a, scale_a, a, mean_b, scale_b, b, same, width):
    """Sums of products become scores, side by side: (sum ab - n mean_a mean_b) / (norm_a norm_b)."""
    if same:
        for j in range(width):
            products[to + j] = ONE if scale_a[a + j] > ZERO else ZERO
    else:
        for j in range(width):
            covariance = products[to + j] - n * mean_a[a + j] * mean_b[b + j]
            products[to + j] = _clipped(covariance * (scale_a[a + j] * scale_b[b + j]))


@njit(**SERIAL)
def _border_tables(sums, squares, spans, d, size, step, flat, tables):
    """Statistics of the patches in rows cut by the border, for the row shift d: valid for every column shift.

    spans (n_rows, 2) = first and last row common to both patches; tables (4, n_rows, phases, n).
    """
    for i in range(spans.shape[0]):
        top, bottom = spans[i, 0], spans[i, 1]
        if 0 < bottom - top < size[0]:
            _line_statistics(sums, squares, top, bottom, size[1], step[1], flat, tables[0, i], tables[1, i])
            _line_statistics(
                sums, squares, top + d, bottom + d, size[1], step[1], flat, tables[2, i], tables[3, i]
            )


@njit(**SERIAL)
def _side_tables(sums, squares, left, right, e, size, step, flat, tables):
    """Statistics of patches cut by the left or right border, every step[0] rows; tables (4, n)."""
    for k in range((sums.shape[0] - 1 - size[0]) // step[0] + 1):
        top, bottom = k * step[0], k * step[0] + size[0]
        m, f = _rectangle_statistics(sums, squares, top, bottom, left, right, flat)
        tables[0, k], tables[1, k] = m, f
        m, f = _rectangle_statistics(sums, squares, top, bottom, left + e, right + e, flat)
        tables[2, k], tables[3, k] = m, f


@njit(**SERIAL)
def _corner_score(sums, squares, span, d, e, sum_ab, flat):
    """Score over the rectangle (top, bottom, left, right) of pixels inside the image at both ends."""
    top, bottom, left, right = span
    n = (bottom - top) * (right - left)
    m_a, f_a = _rectangle_statistics(sums, squares, top, bottom, left, right, flat)
    m_b, f_b = _rectangle_statistics(sums, squares, top + d, bottom + d, left + e, right + e, flat)
    if d == 0 and e == 0:
        return ONE if f_a > 0 else ZERO
    return _clipped(np.float32((sum_ab - n * m_a * m_b) * (f_a * f_b)))


@njit(**SERIAL)
def _store(scores, place, d, e, out, which):
    """Write the scores of a tile, moved by (d, e) grid points, where they lie inside out[which] (h, w)."""
    _, height, width = out.shape
    _, _, n_rows, n_cols = place
    first_row, first_col = place[0] + d, place[1] + e
    flat_out = out.reshape(-1)
    left = max(0, -first_col)
    n = min(n_cols, width - first_col) - left
    for i in range(max(0, -first_row), min(n_rows, height - first_row)):
        to, a = U(((which * height) + first_row + i) * width + first_col + left), U(i * n_cols + left)
        for j in range(U(max(n, 0))):
            flat_out[to + j] = scores[a + j]


@njit(**SERIAL)
def _place(tile, first, stride, size, reach):
    """Position of a tile's first pixel in the image."""
    return (
        first[0] + tile[0] * stride - size[0] // 2 - reach[0],
        first[1] + tile[1] * stride - size[1] // 2 - reach[1],
    )


@njit(**SERIAL)
def box_tile(pixels, place, first, stride, size, reach, step, plan, flat, out):
    """Scores of every translation at the grid points of a tile of an image without invalid pixels.

    pixels (H, W) float32; place = first grid row, first grid column, rows, columns (may reach beyond the
    grid); first = position of grid point (0, 0); reach = largest |shift| per axis; step = spacing at which
    patch statistics are needed; plan = shifts (n, 2) ordered by rows, index of each in out, index of the
    opposite shift or -1, number of each column shift; out (N, h, w) float32, NaN where nothing is written.
    """
    shifts, index, mirror, column_shift = plan
    n_rows, n_cols = place[2], place[3]
    rows = (n_rows - 1) * stride + size[0] + 2 * reach[0]
    cols = _padded(n_cols, stride, size[1]) + 2 * reach[1]
    tile = np.empty((rows, cols), np.float32)
    y0, x0 = _place(place, first, stride, size, reach)
    _load_tile(pixels, tile, y0, x0)
    sums = np.empty((rows + 1, cols + 1))
    squares = np.empty((rows + 1, cols + 1))
    _integrate(tile, sums, squares)

    # statistics of whole patches: [what, row, phase, column // phases], and the same of cut ones
    phases = stride // step[1]
    n_lines, n_side = (rows - size[0]) // step[0] + 1, ((cols - size[1]) // step[1]) // phases + 1
    whole = np.zeros((2, n_lines, phases, n_side), np.float32)
    for k in range(n_lines):
        top = k * step[0]
        _line_statistics(
            sums, squares, top, top + size[0], size[1], step[1], flat, whole[0, k], whole[1, k]
        )  # fmt: skip
    cut = np.empty((4, n_rows, phases, n_side), np.float32)
    side = np.empty((column_shift.max() + 1, n_cols, 4, n_lines), np.float32)
    whole_mean, whole_scale = whole[0].reshape(-1), whole[1].reshape(-1)
    cut_mean_a, cut_scale_a = cut[0].reshape(-1), cut[1].reshape(-1)
    cut_mean_b, cut_scale_b = cut[2].reshape(-1), cut[3].reshape(-1)
    side_known = np.zeros((column_shift.max() + 1, n_cols), np.bool_)

    flat_tile = tile.reshape(-1)
    scratch = _scratch(stride, size, n_rows, n_cols, tile)
    scores = np.zeros((n_rows, n_cols), np.float32)
    flat_scores = scores.reshape(-1)
    row_spans = np.zeros((n_rows, 2), np.int64)
    d_known = reach[0] + 1
    for k in range(index.size):
        d, e = shifts[k, 0], shifts[k, 1]
        same = d == 0 and e == 0
        if not same:
            _box_sums(flat_tile, flat_tile, cols, reach, (d, e), stride, size, scratch, flat_scores)
        if d != d_known:
            for i in range(n_rows):
                y = reach[0] + i * stride
                row_spans[i] = _common_span(y, size[0], d, max(0, -y0), min(rows, pixels.shape[0] - y0))
            _border_tables(sums, squares, row_spans, d, size, step, flat, cut)
            d_known = d
        begin, end = n_cols, 0  # columns of patches inside the image at both ends
        for j in range(n_cols):
            x = reach[1] + j * stride
            left, right = _common_span(x, size[1], e, max(0, -x0), min(cols, pixels.shape[1] - x0))
            if right - left == size[1]:
                begin, end = min(begin, j), j + 1
        a, b = reach[1] // step[1], (reach[1] + e) // step[1]
        for i in range(n_rows):
            n_common = row_spans[i, 1] - row_spans[i, 0]
            if 2 * n_common < size[0]:
                scores[i, :] = np.nan
            elif begin < end:
                n = np.float32(n_common * size[1])
                at_a = (a % phases) * n_side + a // phases + begin
                at_b = (b % phases) * n_side + b // phases + begin
                y, line = reach[0] + i * stride, phases * n_side
                if n_common == size[0]:
                    at_a += (y // step[0]) * line
                    at_b += ((y + d) // step[0]) * line
                    mean_a, scale_a, mean_b, scale_b = whole_mean, whole_scale, whole_mean, whole_scale
                else:
                    at_a += i * line
                    at_b += i * line
                    mean_a, scale_a, mean_b, scale_b = cut_mean_a, cut_scale_a, cut_mean_b, cut_scale_b
                _score_line(
                    flat_scores, U(i * n_cols + begin), n, mean_a, scale_a, U(at_a), mean_b, scale_b, U(at_b),
                    same, U(end - begin),
                )  # fmt: skip
        for j in range(n_cols):
            if begin <= j < end:
                continue
            x = reach[1] + j * stride
            left, right = _common_span(x, size[1], e, max(0, -x0), min(cols, pixels.shape[1] - x0))
            if 2 * (right - left) < size[1]:
                scores[:, j] = np.nan
                continue
            tables = side[column_shift[k], j]
            if not side_known[column_shift[k], j]:
                _side_tables(sums, squares, left, right, e, size, step, flat, tables)
                side_known[column_shift[k], j] = True
            for i in range(n_rows):
                n_common = row_spans[i, 1] - row_spans[i, 0]
                n = n_common * (right - left)
                if 2 * n < size[0] * size[1] or n_common <= 0:
                    scores[i, j] = np.nan
                elif n_common == size[0]:
                    y = reach[0] + i * stride
                    here, there = y // step[0], (y + d) // step[0]
                    if same:
                        scores[i, j] = ONE if tables[1, here] > ZERO else ZERO
                    else:
                        scores[i, j] = _clipped(
                            (scores[i, j] - np.float32(n) * tables[0, here] * tables[2, there])
                            * (tables[1, here] * tables[3, there])
                        )
                else:
                    span = (row_spans[i, 0], row_spans[i, 1], left, right)
                    scores[i, j] = _corner_score(sums, squares, span, d, e, scores[i, j], flat)
        _store(flat_scores, place, 0, 0, out, index[k])
        if mirror[k] >= 0:
            _store(flat_scores, place, d // stride, e // stride, out, mirror[k])


@njit(**SERIAL)
def masked_box_tile(pixels, valid, place, first, stride, size, reach, plan, flat, out):
    """Scores of a tile with invalid pixels: masked Pearson from six box sums in float64; see `box_tile`."""
    shifts, index, mirror, _ = plan
    n_rows, n_cols = place[2], place[3]
    rows = (n_rows - 1) * stride + size[0] + 2 * reach[0]
    pitch = _padded(n_cols, stride, size[1]) + 2 * reach[1]
    y0, x0 = _place(place, first, stride, size, reach)
    tile = np.empty((rows, pitch))
    weight = np.empty((rows, pitch))
    _load_masked_tile(pixels, valid, tile, weight, y0, x0)
    a, m = tile.reshape(-1), weight.reshape(-1)
    aa = a * a
    sums = np.zeros((6, n_rows * n_cols))
    scores = np.empty((n_rows, n_cols), np.float32)
    flat_scores = scores.reshape(-1)
    scratch = _scratch(stride, size, n_rows, n_cols, a)
    for k in range(index.size):
        d, e = shifts[k, 0], shifts[k, 1]
        for which, (p, q) in enumerate(((m, m), (a, m), (m, a), (aa, m), (m, aa), (a, a))):
            _box_sums(p, q, pitch, reach, (d, e), stride, size, scratch, sums[which])
        for i in range(n_rows):
            for j in range(n_cols):
                n, s_a, s_b, s_aa, s_bb, s_ab = sums[:, i * n_cols + j]
                if 2 * n < size[0] * size[1]:
                    scores[i, j] = np.nan
                else:
                    scores[i, j] = _pearson(n, s_a, s_b, s_aa, s_bb, s_ab, flat, d == 0 and e == 0)
        _store(flat_scores, place, 0, 0, out, index[k])
        if mirror[k] >= 0:
            _store(flat_scores, place, d // stride, e // stride, out, mirror[k])


# --- the definition, point by point ----------------------------------------------------------------------


@njit(**SERIAL)
def _direct_point(window, weight, whole, size, reach, d, e, flat):
    """The score of one translation from its definition, in a window of pixels about the grid point."""
    n = 0.0
    s_a = s_b = s_aa = s_bb = s_ab = 0.0
    for i in range(size[0]):
        a = window[reach[0] + i, reach[1] : reach[1] + size[1]]
        b = window[reach[0] + i + d, reach[1] + e : reach[1] + e + size[1]]
        r_a = r_b = r_aa = r_bb = r_ab = 0.0
        if whole:
            for j in range(size[1]):
                u, v = np.float64(a[j]), np.float64(b[j])
                r_a += u
                r_b += v
                r_aa += u * u
                r_bb += v * v
                r_ab += u * v
            n += size[1]
        else:
            wa = weight[reach[0] + i, reach[1] : reach[1] + size[1]]
            wb = weight[reach[0] + i + d, reach[1] + e : reach[1] + e + size[1]]
            for j in range(size[1]):
                w = np.float64(wa[j] * wb[j])
                u, v = w * a[j], w * b[j]
                n += w
                r_a += u
                r_b += v
                r_aa += u * u
                r_bb += v * v
                r_ab += u * v
        s_a += r_a
        s_b += r_b
        s_aa += r_aa
        s_bb += r_bb
        s_ab += r_ab
    if 2 * n < size[0] * size[1]:
        return np.float32(np.nan)
    return _pearson(n, s_a, s_b, s_aa, s_bb, s_ab, flat, d == 0 and e == 0)


@njit(**SERIAL)
def direct_row(pixels, valid, grid_row, first, stride, size, reach, shifts, flat, out):
    """Scores of every translation at the grid points of one row from the definition; see `box_tile`."""
    height, width = pixels.shape
    window = np.empty((size[0] + 2 * reach[0], size[1] + 2 * reach[1]))
    weight = np.empty_like(window)
    for j in range(out.shape[2]):
        y0, x0 = _place((grid_row, j), first, stride, size, reach)
        inside = y0 >= 0 and x0 >= 0 and y0 + window.shape[0] <= height and x0 + window.shape[1] <= width
        whole = _load_masked_tile(pixels, valid, window, weight, y0, x0) and inside
        for k in range(shifts.shape[0]):
            d, e = shifts[k, 0], shifts[k, 1]
            out[k, grid_row, j] = _direct_point(window, weight, whole, size, reach, d, e, flat)


# --- what is missing -------------------------------------------------------------------------------------


@njit(**SERIAL)
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


@njit(**SERIAL)
def fill_pair(scores, wanted):
    """Missing scores of two opposite operations (2, h, w), or of one (1, h, w), in place.

    First from each other, then at the points `wanted` (h, w) from the nearest grid point.
    """
    n, n_rows, n_cols = scores.shape
    missing = 0
    for i in range(n_rows):
        for j in range(n_cols):
            a, b = scores[0, i, j], scores[n - 1, i, j]
            if math.isnan(a):
                scores[0, i, j] = b
                missing += 1
            if math.isnan(b):
                scores[n - 1, i, j] = a
                missing += 1
    if missing == 0:
        return
    for k in range(n):
        source = scores[k].copy()
        for i in range(n_rows):
            for j in range(n_cols):
                if wanted[i, j] and math.isnan(source[i, j]):
                    scores[k, i, j] = _nearest_score(source, i, j)
