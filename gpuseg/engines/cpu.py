"""The engine for the CPU: numba kernels on all cores. Its twin is `gpuseg.engines.cuda`."""

from __future__ import annotations

import functools
import logging
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np

from gpuseg.constants import FLAT_VARIANCE
from gpuseg.grid import Grid

log = logging.getLogger("gpuseg")

TILE = (256, 512)
"""Pixels of a tile (rows, columns): its copy and its box sums stay in the second-level cache."""

BAND = 64
"""Rows converted to float64 at a time: a copy of the whole image would be the largest array of all."""

FFT_BATCH_BYTES = 64 << 20
"""Memory for one batch of patches and their spectra in the `fft` method."""


@functools.cache
def _kernels() -> ModuleType:
    from gpuseg.engines import _cpu_translation

    return _cpu_translation


def _share_out(kernel: Any, calls: list[tuple[Any, ...]]) -> None:
    """Run a compiled kernel once per tuple of arguments, on all cores.

    Kernels release the GIL and each call writes its own part of the result. Plain threads rather than
    numba's own: they compile in half the time and may be started from several Python threads at once.
    """
    before = sum(kernel.stats.cache_misses.values())
    begin = time.perf_counter()
    kernel(*calls[0])  # compiles or loads, once
    if sum(kernel.stats.cache_misses.values()) > before:
        log.info(
            "compiled the CPU kernel %s in %.1f s; it is kept on disk for later runs",
            kernel.__name__, time.perf_counter() - begin,
        )  # fmt: skip
    for _ in _workers(n_threads()).map(lambda call: kernel(*call), calls[1:]):
        pass


def n_threads() -> int:
    """Number of threads: NUMBA_NUM_THREADS, else OMP_NUM_THREADS, else the cores this process may use.

    Returns
    -------
    int
    """
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name, "").isdecimal():
            return max(1, int(os.environ[name]))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="gpuseg")


def normalise(image: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """The image with mean 0 and variance 1 over its valid pixels, 0 elsewhere.

    Parameters
    ----------
    image : (H, W) array of real numbers
    valid : (H, W) bool, optional
        None if every pixel is.

    Returns
    -------
    (H, W) float32, or zeros if the image is constant
    """
    # the level first, so that the mean of large numbers loses nothing of a small contrast
    level = float(image.flat[0] if valid is None else image.flat[int(np.argmax(valid))])
    bands = [slice(row, row + BAND) for row in range(0, image.shape[0], BAND)]

    def centred(band: slice, mean: float) -> np.ndarray:
        values = image[band].astype(np.float64) - level - mean
        return values if valid is None else np.where(valid[band], values, 0)

    count = image.size if valid is None else int(np.count_nonzero(valid))
    mean = sum(float(centred(band, 0).sum()) for band in bands) / count
    largest = max(float(np.abs(centred(band, mean)).max()) for band in bands)
    if largest == 0:
        return np.zeros(image.shape, np.float32)
    squares = sum(float(np.square(centred(band, mean) / largest).sum()) for band in bands)
    scale = 1 / (largest * math.sqrt(squares / count))
    pixels = np.empty(image.shape, np.float32)
    for band in bands:
        np.multiply(centred(band, mean), scale, out=pixels[band], casting="same_kind")
    return pixels


def translation_scores(
    pixels: np.ndarray,
    valid: np.ndarray | None,
    grid: Grid,
    shifts: np.ndarray,
    patch_radius: tuple[int, int],
    method: str,
) -> np.ndarray:
    """Pearson's coefficient of every patch with its copy at every shift.

    Parameters
    ----------
    pixels : (H, W) float32
        From `normalise`.
    valid : (H, W) bool, optional
        None if every pixel is.
    grid : Grid
    shifts : (N, 2) int64
        (d_row, d_col) in pixels.
    patch_radius : (rows, cols) of int
    method : {"direct", "fft", "box"}

    Returns
    -------
    (N, h, w) float32
        In [-1, 1]; NaN where less than half of the pixel pairs are valid.
    """
    compute = {"direct": _direct, "fft": _fft, "box": _box}[method]
    return compute(pixels, valid, grid, shifts, patch_radius)


def fill_missing(scores: np.ndarray, opposite: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Give missing scores the opposite translation's, else the nearest grid point's; in place.

    Parameters
    ----------
    scores : (N, h, w) float32
        NaN where missing.
    opposite : (N,) int64
        Index of the opposite translation, -1 where there is none.
    wanted : (h, w) bool
        Grid points to fill from their neighbours; others may stay NaN.

    Returns
    -------
    (N, h, w) float32
        `scores` itself.
    """
    kernel = _kernels().fill_pair
    wanted = np.ascontiguousarray(wanted)
    pairs = [(k, int(m)) for k, m in enumerate(opposite) if m == k or m < 0 or m > k]
    # a view of two operations, however far apart
    _share_out(kernel, [(scores[k : m + 1 : m - k] if m > k else scores[k : k + 1], wanted) for k, m in pairs])
    return scores


def _direct(
    pixels: np.ndarray, valid: np.ndarray | None, grid: Grid, shifts: np.ndarray, radius: tuple[int, int]
) -> np.ndarray:
    valid = np.ones(pixels.shape, np.bool_) if valid is None else np.ascontiguousarray(valid)
    scores = np.empty((len(shifts), *grid.shape), np.float32)
    rest = (grid.first, grid.stride, _size(radius), _reach(shifts), shifts, FLAT_VARIANCE, scores)
    _share_out(_kernels().direct_row, [(pixels, valid, row, *rest) for row in range(grid.shape[0])])
    return scores


def _box(
    pixels: np.ndarray, valid: np.ndarray | None, grid: Grid, shifts: np.ndarray, radius: tuple[int, int]
) -> np.ndarray:
    stride, size, reach = grid.stride, _size(radius), _reach(shifts)
    plan = _plan(shifts, stride)
    # patches at r + shift, seen from r: their spacing tells at which positions means and norms are needed
    step = tuple(int(np.gcd.reduce([stride, *shifts[:, axis]])) for axis in (0, 1))
    beyond = tuple(r // stride if (plan[2] >= 0).any() and f >= stride else 0 for r, f in zip(reach, grid.first, strict=True))
    scores = np.empty((len(shifts), *grid.shape), np.float32)
    scores[plan[2][plan[2] >= 0]] = np.nan  # these are written only where the opposite end is on the grid
    clean, masked = [], []
    for place in _tiles(grid, beyond):
        if valid is None or valid[_pixels_of(place, grid, size, reach)].all():
            clean.append((pixels, place, grid.first, stride, size, reach, step, plan, FLAT_VARIANCE, scores))
        else:
            masked.append((pixels, valid, place, grid.first, stride, size, reach, plan, FLAT_VARIANCE, scores))
    if clean:
        _share_out(_kernels().box_tile, clean)
    if masked:
        _share_out(_kernels().masked_box_tile, masked)
    return scores


def _size(radius: tuple[int, int]) -> tuple[int, int]:
    return 2 * radius[0] + 1, 2 * radius[1] + 1


def _reach(shifts: np.ndarray) -> tuple[int, int]:
    rows, cols = np.abs(shifts).max(axis=0)
    return int(rows), int(cols)


def _plan(shifts: np.ndarray, stride: int) -> tuple[np.ndarray, ...]:
    """What to compute: shifts ordered by rows, their indices, those of the opposites they yield (or -1).

    The pair of patches at r and r + t is that of r + t and the shift -t: one sum, two scores, where both
    ends lie on the grid. Last comes the number of each column shift, for tables that depend on it alone.
    """
    position = {(int(d), int(e)): k for k, (d, e) in enumerate(shifts)}
    compute, mirror = [], []
    for (d, e), k in sorted(position.items()):
        other = position.get((-d, -e), -1) if d % stride == 0 and e % stride == 0 else -1
        if other < 0 or other == k or (d, e) > (-d, -e):
            compute.append(k)
            mirror.append(-1 if other == k else other)
    column = np.unique(shifts[compute, 1], return_inverse=True)[1]
    return shifts[compute], np.array(compute), np.array(mirror), column.astype(np.int64)


def _tiles(grid: Grid, beyond: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """First grid row and column, rows and columns of each tile, `beyond` the grid where asked."""
    spans = []
    for axis in (0, 1):
        begin, end = -beyond[axis], grid.shape[axis] + beyond[axis]
        side = max(1, TILE[axis] // grid.stride)
        if axis == 0:  # every core has something to do
            side = min(side, max(1, -(-(end - begin) // n_threads())))
        n_tiles = max(1, round((end - begin) / side))
        edges = np.linspace(begin, end, n_tiles + 1).round().astype(int).tolist()
        spans.append([(a, b - a) for a, b in zip(edges[:-1], edges[1:], strict=True)])
    return [(row, col, n, m) for row, n in spans[0] for col, m in spans[1]]


def _pixels_of(
    place: tuple[int, int, int, int], grid: Grid, size: tuple[int, int], reach: tuple[int, int]
) -> tuple[slice, slice]:
    """The pixels that the scores of a tile depend on."""
    begin = [grid.first[a] + place[a] * grid.stride - size[a] // 2 - reach[a] for a in (0, 1)]
    end = [begin[a] + (place[2 + a] - 1) * grid.stride + size[a] + 2 * reach[a] for a in (0, 1)]
    return slice(max(begin[0], 0), max(end[0], 0)), slice(max(begin[1], 0), max(end[1], 0))


def _fft(
    pixels: np.ndarray, valid: np.ndarray | None, grid: Grid, shifts: np.ndarray, radius: tuple[int, int]
) -> np.ndarray:
    """All shifts of a grid point from the products of spectra (paper, Appendix B), masks included.

    Each sum over valid pixel pairs is a correlation of two of: weights, pixels, squared pixels. float64
    keeps variances exact; batches of grid points bound the memory.
    """
    from scipy import fft

    size = _size(radius)
    reach = _reach(shifts)
    window = tuple(size[a] + 2 * reach[a] for a in (0, 1))
    transform = tuple(fft.next_fast_len(n, real=True) for n in window)
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
