"""Translation scores on the CPU: what the kernels of `_cpu_translation` work on; and scores by transforms."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuseg.constants import FLAT_VARIANCE
from gpuseg.engines._cpu_threads import compiled, n_threads, scratch, share_out
from gpuseg.grid import Grid

Tile = tuple[int, int, int, int]
"""First grid row and column, rows and columns."""

TILE = (256, 1024)
"""Pixels of a tile (rows, columns): its copy and its box sums stay in the second-level cache."""

FFT_BATCH_BYTES = 64 << 20
"""Memory for one batch of patches and their spectra in the `fft` method."""

SPARE = 64
"""Numbers behind the end of what is read and written in whole vectors."""


def direct(
    pixels: np.ndarray, valid: np.ndarray | None, grid: Grid, shifts: np.ndarray, radius: tuple[int, int]
) -> np.ndarray:
    """Scores from the definition, point by point; see `gpuseg.engines.cpu.translation_scores`."""
    size, reach, stride = _size(radius), _reach(shifts), grid.stride
    scores = np.empty((len(shifts), *grid.shape), np.float32)
    columns = grid.shape[1]
    begin = grid.first[1] - radius[1] - reach[1]
    width = (columns - 1) * stride + size[1] + 2 * reach[1]

    def call(row: int) -> tuple[Any, ...]:
        corner = grid.first[0] + row * stride - radius[0] - reach[0], begin
        band, weights = _masked_region(pixels, valid, corner, (size[0] + 2 * reach[0], width))
        return band, weights, row, columns, stride, size, reach, shifts, FLAT_VARIANCE, scores

    share_out(compiled("translation").direct_row, range(grid.shape[0]), call)
    return scores


def box(
    pixels: np.ndarray,
    valid: np.ndarray | None,
    grid: Grid,
    shifts: np.ndarray,
    radius: tuple[int, int],
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Scores from box sums; `out` (N, h, w) float32, in one piece, is where they go."""
    size, reach = _size(radius), _reach(shifts)
    # with border="valid", or in a band, the other end of a pair may lie beyond the grid
    rows, cols = (r // grid.stride if f >= grid.stride else 0 for r, f in zip(reach, grid.first, strict=True))
    plan = _plan(shifts, grid.stride, rows < grid.shape[0])
    scores = np.empty((len(shifts), *grid.shape), np.float32) if out is None else out
    if not (plan[:, 3] >= 0).any():
        rows = cols = 0
    _forget_beyond(scores, plan, grid.stride, (rows, cols))
    box = Box(pixels, valid, grid, size, reach, shifts, plan, scores)
    tiles = _tiles(grid, (rows, cols))
    masked = [tile for tile in tiles if valid is not None and not valid[box.pixels_of(tile)].all()]
    clean = [tile for tile in tiles if tile not in masked]
    share_out(compiled("translation").box_tile, clean, box.call)
    share_out(compiled("translation").masked_box_tile, masked, box.masked_call)
    return scores


def _forget_beyond(scores: np.ndarray, plan: np.ndarray, stride: int, beyond: tuple[int, int]) -> None:
    """NaN in the maps of opposites where the other end of a pair is in no tile, `beyond` the grid or not."""
    for d, e, other in np.column_stack([plan[:, :2] // stride, plan[:, 3]]).tolist():
        if other >= 0:
            scores[other, : max(0, d - beyond[0])] = np.nan
            scores[other, :, : max(0, e - beyond[1])] = np.nan
            scores[other, :, scores.shape[2] - max(0, -e - beyond[1]) :] = np.nan


CANCELS = 4.0
"""Standard deviations between the level of a patch and that of its tile from which products are summed in
double: of single ones the squared distance would cancel, and takes so many times their rounding with it."""


@dataclass(frozen=True)
class Box:
    """Everything a tile of the box sums is made of; its methods lay out the arguments of the kernels."""

    pixels: np.ndarray
    valid: np.ndarray | None
    grid: Grid
    size: tuple[int, int]
    reach: tuple[int, int]
    shifts: np.ndarray
    plan: np.ndarray
    scores: np.ndarray

    @property
    def geometry(self) -> tuple[int, int, int, int, int]:
        return self.grid.stride, *self.size, *self.reach

    @property
    def out(self) -> tuple[np.ndarray, tuple[int, int]]:
        return self.scores.reshape(-1), self.grid.shape

    def corner(self, tile: Tile) -> tuple[int, int]:
        """Position in the image of the first pixel that the tile's scores depend on."""
        row, col = (
            self.grid.first[a] + tile[a] * self.grid.stride - self.size[a] // 2 - self.reach[a]
            for a in (0, 1)
        )
        return row, col

    def extent(self, axis: int, n_points: int) -> int:
        """Pixels that the scores of so many grid points depend on."""
        return (n_points - 1) * self.grid.stride + self.size[axis] + 2 * self.reach[axis]

    def pixels_of(self, tile: Tile) -> tuple[slice, slice]:
        begin = self.corner(tile)
        end = [begin[a] + self.extent(a, tile[2 + a]) for a in (0, 1)]
        return slice(max(begin[0], 0), max(end[0], 0)), slice(max(begin[1], 0), max(end[1], 0))

    def call(self, tile: Tile) -> tuple[Any, ...]:
        """Arguments of the kernel `box_tile`: in single precision where that does."""
        found, contrast = self._laid_out(tile, np.float32)
        return found if contrast < CANCELS else self._laid_out(tile, np.float64)[0]

    def _laid_out(self, tile: Tile, dtype: Any) -> tuple[tuple[Any, ...], float]:
        """The same in a precision, and the largest level of a patch in its standard deviations."""
        stride, (n_rows, n_cols) = self.grid.stride, tile[2:]
        pitch = self.pitch(n_cols)
        shape, corner = (self.extent(0, n_rows), pitch * stride), self.corner(tile)
        inside = _inside(corner, shape, self.pixels.shape)
        span = (inside[0].start, inside[0].stop, inside[1].start, inside[1].stop)
        # patches at r + shift, seen from r: their spacing tells at which positions statistics are needed
        step = tuple(int(np.gcd.reduce([stride, *self.shifts[:, axis]])) for axis in (0, 1))
        phases = stride // step[1]
        n_lines = (shape[0] - self.size[0]) // step[0] + 1
        line = (((shape[1] - self.size[1]) // step[1]) // phases + 1) * phases
        n_cut = min(n_rows, 2 * self._beside(0, n_rows, span[:2]))
        n_side = -(-self._beside(1, n_cols, span[2:]) // 16) * 16
        n_row = -(-(n_cols + n_side + SPARE) // 16) * 16
        kernels, n_shifts = compiled("translation"), int(self.plan[:, 4].max()) + 1
        at_cut = n_lines * line
        at_sides = at_cut + 2 * kernels.GROUP * n_cut * line
        half = at_sides + 4 * n_shifts * n_lines * n_side
        statistics = scratch.array("statistics", (2 * (half + SPARE),), dtype)
        spare = tuple(
            scratch.array(f"spare {k}", (shape[1] + 1,), kind)
            for k, kind in enumerate((np.float64, np.float64, dtype, dtype))
        )
        row_at = self._rows_of_integrals(shape[0], n_lines, step[0], span)
        sums, squares = scratch.array("integrals", (2, int(row_at.max()) + 1, shape[1] + 1), np.float64)
        integrals = sums, squares, row_at
        planes = scratch.array("tile", (stride**2 + 1, -(-shape[0] // stride) + 1, pitch), dtype)
        for array in (*spare, planes):
            array.fill(0)
        kernels.lay_out(self.pixels, corner, span, stride, row_at, spare, planes, sums, squares)
        contrast = kernels.whole_statistics(
            integrals, self.size, step, phases, FLAT_VARIANCE, spare, line, statistics
        )
        found = (
            statistics,
            (line, n_cut, n_side, n_shifts * n_side, n_lines * n_shifts * n_side),
            at_cut,
            at_sides,
            np.zeros((n_shifts, 2, 2, stride // step[0]), np.bool_),
            spare,
            np.zeros((kernels.GROUP, n_rows, 2), np.int64),
            np.zeros((kernels.GROUP, 4, 5), np.int64),
            (scratch.array("rows", (kernels.GROUP * n_row,), np.float32), n_row),
        )
        known = planes.reshape(-1), integrals, span
        work = found, (*self.layout(n_cols), self.sums(n_cols, dtype))
        what = tile, self.geometry, self.cells, step, self.plan, FLAT_VARIANCE, work
        return (*known, *what, *self.out), contrast

    def _beside(self, axis: int, n: int, span: tuple[int, int]) -> int:
        """Grid points at each end of an axis of a tile whose patches, or their copies, the border may cut."""
        begin = np.maximum(span[0], span[0] - self.shifts[:, axis]) - self.reach[axis]
        end = np.minimum(span[1], span[1] - self.shifts[:, axis]) - self.reach[axis] - self.size[axis]
        before = -(-begin // self.grid.stride).min(), (end // self.grid.stride).min() + 1
        return int(min(n, max(0, before[0], n - before[1])))

    def _rows_of_integrals(
        self, n_rows: int, n_lines: int, step: int, span: tuple[int, int, int, int]
    ) -> np.ndarray:
        """Place of each row of a tile, and of its end, in the integrals; -1 where no patch begins or ends."""
        needed = np.zeros(n_rows + 1, bool)
        for first in (0, self.size[0]):
            needed[first + step * np.arange(n_lines)] = True
        if span[0] > 0 or span[1] < n_rows:  # the border cuts patches, and their copies at another place
            starts = np.arange(self.reach[0], n_rows - self.size[0] - self.reach[0] + 1, self.grid.stride)
            for d in np.unique(self.shifts[:, 0]):
                top = np.maximum(starts, max(span[0], span[0] - d))
                bottom = np.minimum(starts + self.size[0], min(span[1], span[1] - d))
                some = bottom > top
                for row in (top[some], bottom[some]):
                    needed[row] = needed[row + d] = True
        return np.where(needed, np.cumsum(needed) - 1, -1)

    def masked_call(self, tile: Tile) -> tuple[Any, ...]:
        """Arguments of the kernel `masked_box_tile`."""
        stride, (n_rows, n_cols) = self.grid.stride, tile[2:]
        pitch = self.pitch(n_cols)
        shape = self.extent(0, n_rows), pitch * stride
        a, m = _masked_region(self.pixels, self.valid, self.corner(tile), shape)
        planes = (
            _by_phase(plane, stride, name)
            for plane, name in ((a, "pixels"), (m, "weights"), (a * a, "squares"))
        )
        sums = tuple(self.sums(n_cols, np.float64, name=f"of {k}") for k in range(6))
        work = self.row(n_cols), *self.layout(n_cols), sums
        return *planes, tile, self.geometry, self.cells, self.plan, FLAT_VARIANCE, work, *self.out

    def pitch(self, n_cols: int) -> int:
        """Columns of blocks in a row of a tile: all that its patches and shifts reach, in whole vectors."""
        return -(-(self.extent(1, n_cols) // self.grid.stride + 1) // 16) * 16

    def width(self, n_cols: int) -> int:
        """Columns of blocks in a row of box sums, in whole pairs of vectors."""
        return -(-(n_cols + self.size[1] // self.grid.stride) // 32) * 32

    def layout(self, n_cols: int) -> tuple[tuple[int, int], np.ndarray]:
        """Width of a row of box sums and of a row of a tile, and room for the places of factors."""
        places = np.zeros((self.grid.stride**2, 1 + compiled("translation").GROUP), np.int64)
        return (self.width(n_cols), self.pitch(n_cols)), places

    def row(self, n_cols: int) -> np.ndarray:
        """Room for the scores of a row of grid points."""
        return scratch.array("row", (n_cols + SPARE,), np.float32)

    def sums(self, n_cols: int, dtype: Any, name: str = "") -> tuple[Any, ...]:
        """Working memory of the box sums: lines and what is summed of them, ring, sums so far, total.

        The lines are sums of products over the parts of a row of blocks, and sums of 4, 16, 64 ... of them
        that lie side by side, each made from the one before. A sum across the patches takes as many of each
        as the number of blocks across has: the widest first, which are the best aligned.
        """
        stride, n = self.grid.stride, compiled("translation").GROUP * self.width(n_cols)
        n_down, n_across = (s // stride for s in self.size)
        parts, steps, terms, free = _lines(self.size, stride, n + -(-(4 * n_across + SPARE) // 16) * 16)
        lines, ring, so_far, total = (
            scratch.array(f"{what} {name}", (count,), dtype)
            for what, count in (
                ("lines", free),
                ("ring", max(n_down, 1) * n),
                ("sums so far", n),
                ("total", n + SPARE),
            )
        )
        return lines, parts, steps, terms, ring, so_far, total

    @functools.cached_property
    def cells(self) -> tuple[np.ndarray, tuple[int, ...]]:
        """(row, column) of the pixels of a block, and where its four parts end; see `_sum_products`."""
        stride = self.grid.stride
        first, other = zip(*((range(n % stride), range(n % stride, stride)) for n in self.size), strict=True)
        parts = [
            [(y, x) for y in rows for x in cols]
            for rows, cols in (
                (first[0], first[1]),
                (first[0], other[1]),
                (other[0], first[1]),
                (other[0], other[1]),
            )
        ]
        ends = np.cumsum([len(part) for part in parts]).tolist()
        return np.array(list(itertools.chain(*parts)), np.int64).reshape(-1, 2), tuple(ends)


def _lines(
    size: tuple[int, int], stride: int, apart: int
) -> tuple[tuple[int, ...], np.ndarray, tuple[np.ndarray, int], int]:
    """Lines that a sum across patches is made of, `apart` from each other; see `Box.sums`.

    Returns
    -------
    parts : where the lines of the four parts of a block begin
    steps : (source, target, step) of each sum of four
    terms : (where the lines begin whose sum is the sum across, how many of these are of first rows)
    end : where the last line ends
    """
    n_across, rest = divmod(size[1], stride)
    parts, steps, terms, ends, free = [], [], [], [], 0
    for rows in (size[0] % stride, stride - size[0] % stride):
        first, line = free, free + apart
        parts += [first, line]
        free += 2 * apart
        found, length, step = [], n_across if rows else 0, 1
        while length:
            found.append((length % 4, step, line))
            length //= 4
            if length:
                steps.append((line, free, step))
                line, free, step = free, free + apart, 4 * step
        begin = 0
        for count, step, line in reversed(found):
            terms += [line + begin + k * step for k in range(count)]
            begin += count * step
        if rows and rest:
            terms.append(first + n_across)
        ends.append(len(terms))
    table = np.array(steps, np.int64).reshape(-1, 3)
    return tuple(parts), table, (np.array(terms, np.int64), ends[0]), free


def _by_phase(region: np.ndarray, stride: int, name: str) -> np.ndarray:
    """A tile stored flat, [y % stride, x % stride, y // stride, x // stride], with room to read on."""
    rows, width = region.shape
    down, across = -(-rows // stride) + 1, width // stride
    stored = scratch.array(name, (stride * stride + 1, down, across), region.dtype)
    stored[:] = 0
    for phase in range(stride):
        lines = region[phase::stride].reshape(-1, across, stride)
        stored[phase * stride : (phase + 1) * stride, : lines.shape[0]] = lines.transpose(2, 0, 1)
    return stored.ravel()


def _inside(corner: tuple[int, int], shape: tuple[int, int], image: tuple[int, int]) -> tuple[slice, slice]:
    """Where in a region lies the image that it may reach beyond."""
    rows, cols = (
        slice(max(0, -c), max(0, -c, min(n, size - c)))
        for c, n, size in zip(corner, shape, image, strict=True)
    )
    return rows, cols


def _masked_region(
    pixels: np.ndarray, valid: np.ndarray | None, corner: tuple[int, int], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """A part of the image about its own mean, 0 where invalid; and the weights, 1 where a pixel is valid."""
    row, col = corner
    inside = _inside(corner, shape, pixels.shape)
    part = tuple(slice(c + s.start, c + s.stop) for c, s in zip((row, col), inside, strict=True))
    region, weight = np.zeros(shape), np.zeros(shape)
    weight[inside] = 1 if valid is None else valid[part]
    region[inside] = pixels[part] * weight[inside]
    region -= weight * (region.sum() / max(weight.sum(), 1))
    return region, weight


def _size(radius: tuple[int, int]) -> tuple[int, int]:
    return 2 * radius[0] + 1, 2 * radius[1] + 1


def _reach(shifts: np.ndarray) -> tuple[int, int]:
    rows, cols = np.abs(shifts).max(axis=0)
    return int(rows), int(cols)


def _plan(shifts: np.ndarray, stride: int, in_pairs: bool = True) -> np.ndarray:
    """What to compute (n, 5): shifts ordered by rows, their indices, those of opposites they yield (or -1).

    The shift that is none comes first: it needs no sums.

    The pair of patches at r and r + t is that of r + t and the shift -t: one sum, two scores, where both
    ends lie on the grid; not `in_pairs` where most would not. Last comes the number of each column shift, for
    tables that depend on it alone.
    """
    position = {(int(d), int(e)): k for k, (d, e) in enumerate(shifts)}
    compute, mirror = [], []
    for (d, e), k in sorted(position.items(), key=lambda item: (item[0] != (0, 0), item[0])):
        other = position.get((-d, -e), -1) if in_pairs and d % stride == 0 and e % stride == 0 else -1
        if other < 0 or other == k or (d, e) > (-d, -e):
            compute.append(k)
            mirror.append(-1 if other == k else other)
    column = np.unique(shifts[compute, 1], return_inverse=True)[1]
    return np.column_stack([shifts[compute], compute, mirror, column]).astype(np.int64)


def _tiles(grid: Grid, beyond: tuple[int, int]) -> list[Tile]:
    """First grid row and column, rows and columns of each tile, `beyond` the grid (not below) where asked."""
    spans = []
    for axis in (0, 1):
        begin, end = -beyond[axis], grid.shape[axis] + beyond[axis]
        points = max(1, TILE[axis] // grid.stride)
        if axis == 0:
            end = grid.shape[0]  # no shift that is computed goes up, and every core has something to do
            points = min(points, max(1, -(-(end - begin) // n_threads())))
        edges = (
            np.linspace(begin, end, max(1, round((end - begin) / points)) + 1).round().astype(int).tolist()
        )
        spans.append([(a, b - a) for a, b in itertools.pairwise(edges)])
    return [(row, col, n, m) for row, n in spans[0] for col, m in spans[1]]


def fft(
    pixels: np.ndarray, valid: np.ndarray | None, grid: Grid, shifts: np.ndarray, radius: tuple[int, int]
) -> np.ndarray:
    """All shifts of a grid point from the products of spectra (paper, Appendix B), masks included.

    Each sum over valid pixel pairs is a correlation of two of: weights, pixels, squared pixels. float64
    keeps variances exact; batches of grid points bound the memory.
    """
    from scipy import fft

    size = _size(radius)
    reach = _reach(shifts)
    window = size[0] + 2 * reach[0], size[1] + 2 * reach[1]
    transform = fft.next_fast_len(window[0], real=True), fft.next_fast_len(window[1], real=True)
    border = [(radius[a] + reach[a],) * 2 for a in (0, 1)]
    planes = _planes(pixels, valid, border)
    points = np.stack(np.meshgrid(grid.rows, grid.cols, indexing="ij"), -1).reshape(-1, 2)
    scores = np.empty((len(shifts), grid.size), np.float32)
    lag = (shifts[:, 0] + reach[0], shifts[:, 1] + reach[1])
    batch = max(1, FFT_BATCH_BYTES // (16 * 9 * transform[0] * transform[1]))
    for begin in range(0, grid.size, batch):
        chosen = points[begin : begin + batch]
        scores[:, begin : begin + batch] = _fft_batch(planes, chosen, size, reach, window, transform, lag)
    return scores.reshape(len(shifts), *grid.shape)


def _planes(pixels: np.ndarray, valid: np.ndarray | None, border: list[tuple[int, int]]) -> np.ndarray:
    """(2, H + ..., W + ...) float64: pixels and weights, 0 outside the image."""
    weight = np.ones(pixels.shape) if valid is None else valid.astype(np.float64)
    return np.stack([np.pad(pixels * weight, border), np.pad(weight, border)])


def _fft_batch(
    planes: np.ndarray,
    points: np.ndarray,
    size: tuple[int, int],
    reach: tuple[int, int],
    window: tuple[int, int],
    transform: tuple[int, int],
    lag: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Scores (N, points) of a batch of grid points."""
    from scipy import fft

    view = np.lib.stride_tricks.sliding_window_view(planes, window, axis=(1, 2))
    there, weight_there = view[:, points[:, 0], points[:, 1]]
    inner = (slice(None), slice(reach[0], reach[0] + size[0]), slice(reach[1], reach[1] + size[1]))
    # about the mean of the patch, so that no sum is large against the variance
    level = there[inner].sum((1, 2)) / np.maximum(weight_there[inner].sum((1, 2)), 1)
    there = (there - level[:, None, None]) * weight_there
    here, weight_here = there[inner], weight_there[inner]

    def spectrum(stack: np.ndarray) -> np.ndarray:
        return fft.rfft2(stack, transform, workers=-1)

    def at_lags(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return fft.irfft2(np.conj(a) * b, transform, workers=-1)[:, lag[0], lag[1]].T

    a, aa, m = (spectrum(x) for x in (here, here * here, weight_here))
    b, bb, w = (spectrum(x) for x in (there, there * there, weight_there))
    n = np.rint(at_lags(m, w))
    few = 2 * n < size[0] * size[1]
    n = np.maximum(n, 1)
    mean_a, mean_b = at_lags(a, w) / n, at_lags(m, b) / n
    var_a, var_b = at_lags(aa, w) / n - mean_a**2, at_lags(m, bb) / n - mean_b**2
    flat = (var_a <= FLAT_VARIANCE) | (var_b <= FLAT_VARIANCE)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (at_lags(a, b) / n - mean_a * mean_b) / np.sqrt(var_a * var_b)
    r = np.clip(r, -1, 1)
    r[(lag[0] == reach[0]) & (lag[1] == reach[1])] = 1
    r[flat] = 0
    r[few] = np.nan
    return r
