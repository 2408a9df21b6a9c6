"""The engine for the CPU: numba kernels on all cores. Its twin is `gpuseg.engines.cuda`."""

from __future__ import annotations

import functools
import importlib
import itertools
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from gpuseg.arrays import namespace, to_numpy
from gpuseg.constants import FLAT_VARIANCE
from gpuseg.grid import Grid
from gpuseg.polar import BATCH, SPLINE_ROWS, PolarPlan
from gpuseg.prediction import PatternPlan, PointLabels

log = logging.getLogger("gpuseg")

Tile = tuple[int, int, int, int]

TILE = (256, 1024)
"""Pixels of a tile (rows, columns): its copy and its box sums stay in the second-level cache."""

POLAR_TILE = (16, 128)
"""Pixels of a tile of polar patches (rows, columns): the samples of a batch stay in the second cache."""

CAREFUL_TILE = (16, 32)
"""The same where pixels are computed in double precision."""

FLAT_IN_SINGLE = np.float32(FLAT_VARIANCE / 10)
"""A variance that is no larger in single precision is flat for certain where the mean square is
below FLAT_SQUARE."""

FLAT_SQUARE = np.float32(1e-6)
"""Of the samples about the level that they are taken from: a variance is its difference from the square of
their mean, and rounded as it is."""

FAINT = np.float32(1e-4)
"""Below this variance, relative to the image's, single precision keeps less than five digits of a score."""

CANCELLED = np.float32(16)
"""Nor does it keep more where the mean square is so much larger than the variance: a glide may lead to a
patch on another level."""

FLOATS = FLAT_IN_SINGLE, FLAT_SQUARE, FAINT, CANCELLED
"""What the kernel in single precision is told."""

POOL_COLUMNS = 256
"""Columns of a score map that are pooled at a time."""

FFT_BATCH_BYTES = 64 << 20
"""Memory for one batch of patches and their spectra in the `fft` method."""


@functools.cache
def _kernels(concept: str = "translation") -> ModuleType:
    """Kernels of a file; their machine code is kept in the user's cache folder, or that of NUMBA_CACHE_DIR.

    Not beside the sources, where numba would put it: pip removes only what it installed, and the folder left
    behind hides an editable install.
    """
    from numba.core import config

    chosen = config.CACHE_DIR
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    config.CACHE_DIR = chosen or os.path.join(cache, "gpuseg", "kernels")
    try:  # a kernel takes note of the folder when it is defined; other users of numba keep theirs
        return importlib.import_module(f"gpuseg.engines._cpu_{concept}")
    finally:
        config.CACHE_DIR = chosen


def _share_out(kernel: Any, items: Sequence[Any], arguments: Callable[[Any], tuple[Any, ...]]) -> None:
    """Run a compiled kernel once per item, with the arguments made for it, on all cores.

    Kernels release the GIL and each call writes its own part of the result. Plain threads rather than
    numba's own: they compile in half the time and may be started from several Python threads at once.
    """

    def run(item: Any) -> None:
        kernel(*arguments(item))

    if len(items) == 0:
        return
    if not kernel.signatures:
        _first_call(kernel, lambda: run(items[0]))
        items = items[1:]
    for _ in _workers(n_threads()).map(run, items):
        pass


def _first_call(kernel: Any, run: Callable[[], None]) -> None:
    """Load a kernel from disk, or compile it and say so: it takes seconds, once per machine."""
    from numba.core import config
    from numba.core.compiler_lock import global_compiler_lock

    misses = sum(kernel.stats.cache_misses.values())
    begin = time.perf_counter()
    with global_compiler_lock:  # nobody else compiles at this level
        chosen = config.OPT
        config.OPT = type(chosen)(min(chosen, ENOUGH_OPTIMISATION))
        try:
            run()
        finally:
            config.OPT = chosen
    if sum(kernel.stats.cache_misses.values()) > misses:
        seconds = time.perf_counter() - begin
        log.info(
            "compiled the CPU kernel %s in %.1f s; it is kept on disk for later runs",
            kernel.__name__,
            seconds,
        )


ENOUGH_OPTIMISATION = 2
"""LLVM's level: kernels run as fast as from the third, which takes a tenth longer to compile."""


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
def _blas(with_scipy: bool) -> Any:
    """Controls the libraries that are loaded at the first call: SciPy brings one of its own."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def one_blas_thread() -> AbstractContextManager[Any]:
    """A context in which each call of BLAS or LAPACK keeps to its own thread.

    Their threads wait for each other in every call by burning time, and take a hundred times as long as one
    thread alone as soon as another process wants a core too.

    Returns
    -------
    context manager
    """
    return _blas("scipy.linalg" in sys.modules).limit(limits=1)


def each(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """The results of a function for each item, in order, computed on all cores.

    Parameters
    ----------
    function : callable
        Of NumPy functions that release the GIL.
    items : sequence

    Returns
    -------
    list
    """
    with one_blas_thread():
        return list(_workers(n_threads()).map(function, items))


EIGENPROBLEMS_ON_HOST = 0
"""Up to so many features: they are on the host already."""

SAMPLES_AT_A_TIME = 1 << 12
"""Rows of a table of samples that one thread works on at a time."""

SAMPLES_OF_A_PRODUCT = SAMPLES_AT_A_TIME
"""Rows of a table of samples that one thread multiplies by a few axes at a time."""

SPANS, SAMPLES_OF_A_SPAN = 16, 1 << 11
"""At most so many parts of a table of samples are summed up beside each other, each of about so many or more:
every part has a covariance matrix of its own."""

FEW_FEATURES = 200
"""Up to so many, all eigenvectors are found as soon as some of them."""

WINDOW_PIXELS_AT_A_TIME = 1 << 18
"""Pixels of all windows that one thread works on at a time,
few enough that the windows and their spectra stay in its cache."""

ITERATIONS_AT_A_TIME = 1
"""Iterations of an algorithm between two looks at whether it has converged."""


@functools.cache
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="gpuseg")


class _Scratch(threading.local):
    """Working memory of a thread, kept from tile to tile and call to call.

    The first touch of new memory takes as long as the work that is done in it.
    """

    def __init__(self) -> None:
        self.kept: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array with whatever was left in it; one at a time of each name."""
        count = math.prod(shape)
        n_bytes = count * np.dtype(dtype).itemsize
        if n_bytes > LARGEST_SCRATCH:
            return np.empty(shape, dtype)
        if name not in self.kept or self.kept[name].nbytes < n_bytes:
            room = np.empty(n_bytes + CACHE_LINE, np.uint8)
            self.kept[name] = room[-room.ctypes.data % CACHE_LINE :]
        return self.kept[name][:n_bytes].view(dtype).reshape(shape)


CACHE_LINE = 64
"""Bytes; where working memory begins: a vector across two of them takes twice as long."""

SPARE = 64
"""Numbers behind the end of what is read and written in whole vectors."""

LARGEST_SCRATCH = 16 << 20
"""Bytes of an array that a thread keeps; larger ones are made anew each time."""

_scratch = _Scratch()


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
    if valid is None and image.dtype in NARROW_TYPES and image.dtype.isnative:
        return _normalise_all(np.ascontiguousarray(image))
    if valid is not None:
        image = np.where(valid, image, image.flat[int(np.argmax(valid))])
    centred = image.astype(np.float64)
    # the level first, so that the mean of large numbers loses nothing of a small contrast
    centred -= centred.flat[0]
    if valid is None:
        centred -= centred.mean()
    else:
        centred -= centred.mean(where=valid)
        centred[~valid] = 0
    largest = max(float(centred.max()), -float(centred.min()))
    if largest == 0:
        return np.zeros(image.shape, np.float32)
    flat = centred.ravel()
    if not 1e-100 < largest < 1e100:  # or the squares leave the range of a double
        flat /= largest
    count = image.size if valid is None else int(np.count_nonzero(valid))
    with one_blas_thread():
        scale = 1 / math.sqrt(float(flat @ flat) / count)
    # multiplied in float64 and rounded once: the factors alone may leave the range of float32
    return np.multiply(centred, scale, out=np.empty(image.shape, np.float32), casting="same_kind")


def _normalise_all(image: np.ndarray) -> np.ndarray:
    """The same for an image whose pixels are all valid, of a type whose squares a double holds."""
    kernels, out = _kernels("level"), np.empty(image.shape, np.float32)
    # the parts do not depend on the number of threads, so neither does the result
    parts = [slice(k, k + PIXELS_AT_A_TIME) for k in range(0, image.size, PIXELS_AT_A_TIME)]
    flat, flat_out = image.reshape(-1), out.reshape(-1)
    sums = np.empty((len(parts), 2))
    # about one of the pixels: their variance is at least the n-th part of its squared distance from the mean
    level = float(flat[0])
    _share_out(kernels.moments, range(len(parts)), lambda k: (flat[parts[k]], level, sums[k]))
    mean, mean_square = (sums.sum(axis=0) / image.size).tolist()
    variance = mean_square - mean * mean
    if variance <= 0:
        return np.zeros(image.shape, np.float32)
    level, factor = level + mean, 1 / math.sqrt(variance)
    _share_out(kernels.rescale, parts, lambda part: (flat[part], level, factor, flat_out[part]))
    return out


PIXELS_AT_A_TIME = 1 << 16
"""Pixels of an image that one thread looks at."""

NARROW_TYPES = tuple(map(np.dtype, ("float32", "uint8", "int8", "uint16", "int16", "uint32", "int32")))


def leading_eigenvectors(matrix: Any, count: int) -> tuple[Any, Any]:
    """The largest eigenvalues of a symmetric matrix and their vectors.

    Parameters
    ----------
    matrix : (N, N) float64 array
        Of any namespace on the host.
    count : int
        How many are wanted, at most N.

    Returns
    -------
    values : (count,) float64
        The largest first.
    vectors : (N, count) float64
    """
    xp = namespace(matrix)
    n = matrix.shape[0]
    if n <= FEW_FEATURES or count > n // 4:
        with one_blas_thread():
            values, vectors = xp.linalg.eigh(matrix)
    else:
        from scipy.linalg import eigh

        with one_blas_thread():
            found = eigh(to_numpy(matrix), subset_by_index=(n - count, n - 1), check_finite=False)
        values, vectors = map(xp.asarray, found)
    return xp.flip(values, axis=0)[:count], xp.flip(vectors, axis=1)[:, :count]


def lloyd(samples: np.ndarray, starts: np.ndarray, max_iter: int, threshold: Any) -> tuple[Any, float, int]:
    """Lloyd's iteration from several starts, each on a core; its twin is `gpuseg.clustering.lloyd`.

    Parameters
    ----------
    samples : (S, K) float32 array
    starts : (m, n, K) float32 array
        Centres to start from.
    max_iter : int
    threshold : (1,) float64 array
        Sum of squared moves of the centres below which the iteration ends.

    Returns
    -------
    centers : (n, K) float32 array
        Of the start of least inertia, of equal ones the first.
    inertia : float
    n_iter : int
    """
    columns, centers = np.ascontiguousarray(samples.T), starts.copy()
    found, bound = np.empty((len(starts), 2)), float(threshold[0])
    kernels = _kernels("kmeans")

    def call(k: int) -> tuple[Any, ...]:
        sums = np.empty((starts.shape[1], starts.shape[2] + 1))
        lines = [np.empty(kernels.AT_A_TIME, dtype) for dtype in (np.float32, np.float32, np.int32)]
        return columns, centers[k], max_iter, bound, sums, *lines, found[k]

    _share_out(kernels.lloyd, range(len(starts)), call)
    best = int(found[:, 0].argmin())
    return centers[best], float(found[best, 0]), int(found[best, 1])


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


def fill_missing(
    scores: np.ndarray,
    opposite: np.ndarray,
    wanted: np.ndarray,
    complete: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> np.ndarray:
    """Give missing scores the opposite translation's, else the nearest grid point's; in place.

    Parameters
    ----------
    scores : (N, h, w) float32
        NaN where missing.
    opposite : (N,) int64
        Index of the opposite translation, -1 where there is none.
    wanted : (h, w) bool
        Grid points to fill from their neighbours; others may stay NaN.
    complete : (first row, end, first column, end) of int, optional
        A rectangle of grid points that is known to miss nothing, and need not be looked at.

    Returns
    -------
    (N, h, w) float32
        `scores` itself.
    """
    wanted = np.ascontiguousarray(wanted)
    pairs = np.array([(k, max(k, int(m))) for k, m in enumerate(opposite) if m < 0 or m >= k])

    def call(some: np.ndarray) -> tuple[Any, ...]:
        n_points = wanted.size
        near = _scratch.array("near", wanted.shape, np.int32)
        last = _scratch.array("last", (wanted.shape[1],), np.int32)
        places = _scratch.array("places", (n_points, 2), np.int32)
        found = _scratch.array("found", (n_points, 2), np.int32)
        return scores.reshape(-1), scores, some, wanted, complete, near, last, places, found

    _share_out(_kernels().fill_pairs, np.array_split(pairs, min(len(pairs), 4 * n_threads())), call)
    return scores


def label_points(pixels: np.ndarray, plan: PatternPlan, with_misfit: bool = True) -> PointLabels:
    """The pattern of every grid point of an image.

    Parameters
    ----------
    pixels : (H, W) float32
        From `normalise`.
    plan : PatternPlan
    with_misfit : bool
        Whether the misfit is wanted; NaN if not.

    Returns
    -------
    PointLabels
    """
    from gpuseg.engines._cpu_predict import label_points

    return label_points(pixels, plan, with_misfit)


def can_label(plan: PatternPlan) -> bool:
    """Whether `label_points` can work as planned.

    Parameters
    ----------
    plan : PatternPlan

    Returns
    -------
    bool
        Here it always can.
    """
    return True


def frame_path(plan: PatternPlan, upsampling: bool) -> Any:
    """The way of frames of one shape to their labels, planned once.

    Parameters
    ----------
    plan : PatternPlan
    upsampling : bool
        Whether pixels get labels or grid points.

    Returns
    -------
    object
        With ``submit(frame)``, which works on a frame, and ``result()``, which gives
        `gpuseg.prediction.FrameLabels`.
    """
    from gpuseg.engines._cpu_predict import FramePath

    return FramePath(plan, upsampling)


FRAMES_AT_A_TIME = 1
"""Of a series: all cores work on each."""


def polar_scores(
    pixels: np.ndarray, valid: np.ndarray | None, plan: PolarPlan, rows: tuple[int, int] | None = None
) -> np.ndarray:
    """Pearson's coefficient of the circular patch at every pixel with what each operation makes of it.

    Parameters
    ----------
    pixels : (H, W) float32
        From `normalise`.
    valid : (H, W) bool, optional
        None if every pixel is.
    plan : PolarPlan
        What is sampled, and what is compared (N operations).
    rows : (begin, end) of int, optional
        Pixel rows that are scored; None is all of them.

    Returns
    -------
    (N, H, W) float32
        In [-1, 1]; NaN where less than half of the area is known on both sides. With `rows` only those.
    """
    polar = _Polar.of(pixels, valid, plan, (0, pixels.shape[0]) if rows is None else rows)
    kernels = _kernels("polar")
    _share_out(kernels.polar_tile, polar.clean(), polar.call)
    _share_out(kernels.masked_polar_tile, polar.marked(), polar.masked_call)
    return polar.scores


def pool(scores: np.ndarray, grid: Grid, radius: tuple[int, int], n_max: int) -> np.ndarray:
    """The largest scores in a window around every grid point.

    Parameters
    ----------
    scores : (N, H, W) float32
        NaN where missing.
    grid : Grid
    radius : (rows, cols) of int
        Half size of the window, which ends at the border of the image.
    n_max : int
        How many.

    Returns
    -------
    (N * n_max, h, w) float32
        Those of one operation follow each other, the largest first; NaN where there are fewer.
    """
    kernel = _kernels("polar").pool_rows
    n, _, width = scores.shape
    (h, w), rows, cols = grid.shape, grid.rows, grid.cols
    down = np.empty((n, n_max, h, width), np.float32)

    def along_rows(part: tuple[int, slice]) -> tuple[Any, ...]:
        source = scores[part[0] : part[0] + 1, :, part[1]]
        n_cols = source.shape[2]
        best, spare = np.empty((n_max, n_cols), np.float32), np.empty(n_cols, np.float32)
        return source, rows, radius[0], best, spare, down[part[0], :, :, part[1]]

    strips = [slice(a, min(a + POOL_COLUMNS, width)) for a in range(0, width, POOL_COLUMNS)]
    _share_out(kernel, list(itertools.product(range(n), strips)), along_rows)
    across = np.empty((n, n_max, w, h), np.float32)
    turned = np.ascontiguousarray(down.swapaxes(2, 3))

    def along_cols(k: int) -> tuple[Any, ...]:
        best, spare = np.empty((n_max, h), np.float32), np.empty(h, np.float32)
        return turned[k, :, :, :], cols, radius[1], best, spare, across[k, :, :, :]

    _share_out(kernel, range(n), along_cols)
    pooled = np.ascontiguousarray(across.swapaxes(2, 3)).reshape(-1, h, w)
    pooled[pooled == -np.inf] = np.nan
    return pooled


@dataclass(frozen=True)
class _Polar:
    """Everything the scores of polar patches are made of; its methods lay out the arguments of the kernels.

    Pixels whose patches hold something invalid are computed in tiles of their own, in double precision, and
    so are those with so little contrast that single precision does not do.
    """

    coefficients: np.ndarray
    complete: np.ndarray
    level: np.ndarray
    redo: np.ndarray
    plan: PolarPlan
    scores: np.ndarray
    top: int
    """Row of the coefficients that is the first of all others."""

    @classmethod
    def of(
        cls, pixels: np.ndarray, valid: np.ndarray | None, plan: PolarPlan, rows: tuple[int, int]
    ) -> _Polar:
        from scipy import ndimage

        side = 2 * plan.reach + 1
        begin, end = max(0, rows[0] - plan.reach - SPLINE_ROWS), rows[1] + plan.reach + SPLINE_ROWS
        pixels, valid = pixels[begin:end], None if valid is None else valid[begin:end]
        scored = slice(rows[0] - begin, rows[1] - begin)
        coefficients = ndimage.spline_filter(pixels.astype(np.float64), output=np.float64, mode="mirror")
        known = np.ones(pixels.shape, np.uint8) if valid is None else valid.astype(np.uint8)
        complete = ndimage.minimum_filter(known, side, mode="constant", cval=0).astype(bool)
        level = ndimage.uniform_filter(pixels.astype(np.float64), side, mode="mirror")
        if valid is not None:
            coefficients[~valid] = np.nan
        complete, level = complete[scored], level[scored]
        scores = np.empty((len(plan.kinds), *complete.shape), np.float32)
        return cls(coefficients, complete, level, ~complete, plan, scores, scored.start)

    def clean(self) -> list[Tile]:
        """Tiles of which some pixel is surrounded by valid ones."""
        return [
            tile
            for tile in _pixel_tiles(self.complete.shape, POLAR_TILE)
            if self._here(self.complete, tile).any()
        ]

    def marked(self) -> list[Tile]:
        """Tiles around the pixels that have to be computed with care."""
        found = []
        for tile in _pixel_tiles(self.redo.shape, CAREFUL_TILE):
            here = self._here(self.redo, tile)
            if here.any():
                rows, cols = np.flatnonzero(here.any(1)), np.flatnonzero(here.any(0))
                top, left = int(rows[0]), int(cols[0])
                size = int(rows[-1]) + 1 - top, int(cols[-1]) + 1 - left
                found.append((tile[0] + top, tile[1] + left, *size))
        return found

    def call(self, tile: Tile) -> tuple[Any, ...]:
        """Arguments of the kernel `polar_tile`."""
        row, col, n_rows, n_cols = tile
        width, n = _in_vectors(n_cols), len(self.plan.kinds)
        around = self._around(tile, 0.0)
        around[np.isnan(around)] = 0  # where no score is taken from
        middle = float(self.level[row + n_rows // 2, col + n_cols // 2])
        level = np.zeros((n_rows, width), np.float32)
        level[:, :n_cols] = self._here(self.level, tile) - middle
        size = level.size
        work = (
            np.empty((n_rows + 3) * width, np.float32),
            np.empty((BATCH, size), np.float32),
            *np.empty((2, size), np.float32),
            *np.empty((3, n, size), np.float32),
        )
        region = (around - middle).astype(np.float32)
        known = region.ravel(), region.shape[1], self._starts(region.shape[1]), level.ravel()
        return *known, self._plan(np.float32), tile, FLOATS, work, self.scores, self.redo

    def masked_call(self, tile: Tile) -> tuple[Any, ...]:
        """Arguments of the kernel `masked_polar_tile`."""
        size = tile[2] * _in_vectors(tile[3])
        work = (
            np.empty((tile[2] + 3) * _in_vectors(tile[3])),
            *np.empty((2, BATCH, size)),
            np.empty((len(self.plan.kinds), 6, size)),
        )
        region = self._around(tile, np.nan)
        known = region.ravel(), region.shape[1], self._starts(region.shape[1])
        return *known, self._plan(np.float64), tile, FLAT_VARIANCE, work, self.scores

    def _here(self, plane: np.ndarray, tile: Tile) -> np.ndarray:
        return plane[tile[0] : tile[0] + tile[2], tile[1] : tile[1] + tile[3]]

    def _around(self, tile: Tile, outside: float) -> np.ndarray:
        """Coefficients of a tile and all it reaches, with room to read on."""
        reach = self.plan.reach
        shape = tile[2] + 2 * reach + 1, _in_vectors(tile[3]) + 2 * reach + 1
        return _cut(self.coefficients, (self.top + tile[0] - reach, tile[1] - reach), shape, outside)

    def _starts(self, pitch: int) -> np.ndarray:
        """Place in the region of the first pixel of each sample."""
        row, col = self.plan.corners.astype(np.int64).T + self.plan.reach
        return row * pitch + col

    def _plan(self, dtype: Any) -> tuple[np.ndarray, ...]:
        plan = self.plan
        floats = [array.astype(dtype) for array in (plan.splines, plan.own_weight, plan.pair_weight)]
        return (*floats[:2], plan.pairs, floats[2], plan.batch_samples, plan.batch_pairs, plan.kinds)


def _pixel_tiles(shape: tuple[int, int], tile: tuple[int, int]) -> list[Tile]:
    return [
        (row, col, min(tile[0], shape[0] - row), min(tile[1], shape[1] - col))
        for row in range(0, shape[0], tile[0])
        for col in range(0, shape[1], tile[1])
    ]


def _in_vectors(length: int) -> int:
    return -(-length // 8) * 8


def _cut(plane: np.ndarray, corner: tuple[int, int], shape: tuple[int, int], outside: float) -> np.ndarray:
    """A rectangle of an image that may reach beyond it."""
    cut = np.full(shape, outside, plane.dtype)
    begin = [max(-c, 0) for c in corner]
    part = plane[tuple(slice(max(c, 0), max(c + n, 0)) for c, n in zip(corner, shape, strict=True))]
    cut[begin[0] : begin[0] + part.shape[0], begin[1] : begin[1] + part.shape[1]] = part
    return cut


def _direct(
    pixels: np.ndarray, valid: np.ndarray | None, grid: Grid, shifts: np.ndarray, radius: tuple[int, int]
) -> np.ndarray:
    size, reach, stride = _size(radius), _reach(shifts), grid.stride
    scores = np.empty((len(shifts), *grid.shape), np.float32)
    columns = grid.shape[1]
    begin = grid.first[1] - radius[1] - reach[1]
    width = (columns - 1) * stride + size[1] + 2 * reach[1]

    def call(row: int) -> tuple[Any, ...]:
        corner = grid.first[0] + row * stride - radius[0] - reach[0], begin
        band, weights = _masked_region(pixels, valid, corner, (size[0] + 2 * reach[0], width))
        return band, weights, row, columns, stride, size, reach, shifts, FLAT_VARIANCE, scores

    _share_out(_kernels().direct_row, range(grid.shape[0]), call)
    return scores


def _box(
    pixels: np.ndarray,
    valid: np.ndarray | None,
    grid: Grid,
    shifts: np.ndarray,
    radius: tuple[int, int],
    out: np.ndarray | None = None,
) -> np.ndarray:
    size, reach = _size(radius), _reach(shifts)
    # with border="valid", or in a band, the other end of a pair may lie beyond the grid
    rows, cols = (r // grid.stride if f >= grid.stride else 0 for r, f in zip(reach, grid.first, strict=True))
    plan = _plan(shifts, grid.stride, rows < grid.shape[0])
    scores = np.empty((len(shifts), *grid.shape), np.float32) if out is None else out
    if not (plan[2] >= 0).any():
        rows = cols = 0
    _forget_beyond(scores, plan, grid.stride, (rows, cols))
    box = _Box(pixels, valid, grid, size, reach, shifts, plan, scores)
    tiles = _tiles(grid, (rows, cols))
    masked = [tile for tile in tiles if valid is not None and not valid[box.pixels_of(tile)].all()]
    clean = [tile for tile in tiles if tile not in masked]
    _share_out(_kernels().box_tile, clean, box.call)
    _share_out(_kernels().masked_box_tile, masked, box.masked_call)
    return scores


def _forget_beyond(
    scores: np.ndarray, plan: tuple[np.ndarray, ...], stride: int, beyond: tuple[int, int]
) -> None:
    """NaN in the maps of opposites where the other end of a pair is in no tile, `beyond` the grid or not."""
    for (d, e), other in zip(plan[0] // stride, plan[2], strict=True):
        if other >= 0:
            scores[other, : max(0, d - beyond[0])] = np.nan
            scores[other, :, : max(0, e - beyond[1])] = np.nan
            scores[other, :, scores.shape[2] - max(0, -e - beyond[1]) :] = np.nan


CANCELS = 4.0
"""Standard deviations between the level of a patch and that of its tile from which products are summed in
double: of single ones the squared distance would cancel, and takes so many times their rounding with it."""


@dataclass(frozen=True)
class _Box:
    """Everything a tile of the box sums is made of; its methods lay out the arguments of the kernels."""

    pixels: np.ndarray
    valid: np.ndarray | None
    grid: Grid
    size: tuple[int, int]
    reach: tuple[int, int]
    shifts: np.ndarray
    plan: tuple[np.ndarray, ...]
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
        kernels, n_shifts = _kernels(), int(self.plan[3].max()) + 1
        at_cut = n_lines * line
        at_sides = at_cut + 2 * kernels.GROUP * n_cut * line
        half = at_sides + 4 * n_shifts * n_lines * n_side
        statistics = _scratch.array("statistics", (2 * (half + SPARE),), dtype)
        spare = tuple(
            _scratch.array(f"spare {k}", (shape[1] + 1,), kind)
            for k, kind in enumerate((np.float64, np.float64, dtype, dtype))
        )
        row_at = self._rows_of_integrals(shape[0], n_lines, step[0], span)
        sums, squares = _scratch.array("integrals", (2, int(row_at.max()) + 1, shape[1] + 1), np.float64)
        integrals = sums, squares, row_at
        planes = _scratch.array("tile", (stride**2 + 1, -(-shape[0] // stride) + 1, pitch), dtype)
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
            np.zeros((kernels.GROUP, 4, 4), np.int64),
            np.zeros(kernels.GROUP, np.int64),
            (_scratch.array("rows", (kernels.GROUP * n_row,), np.float32), n_row),
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
        places = np.zeros((self.grid.stride**2, 1 + _kernels().GROUP), np.int64)
        return (self.width(n_cols), self.pitch(n_cols)), places

    def row(self, n_cols: int) -> np.ndarray:
        """Room for the scores of a row of grid points."""
        return _scratch.array("row", (n_cols + SPARE,), np.float32)

    def sums(self, n_cols: int, dtype: Any, name: str = "") -> tuple[Any, ...]:
        """Working memory of the box sums: lines and what is summed of them, ring, sums so far, total.

        The lines are sums of products over the parts of a row of blocks, and sums of 4, 16, 64 ... of them
        that lie side by side, each made from the one before. A sum across the patches takes as many of each
        as the number of blocks across has: the widest first, which are the best aligned.
        """
        stride, n = self.grid.stride, _kernels().GROUP * self.width(n_cols)
        n_down, n_across = (s // stride for s in self.size)
        parts, steps, terms, free = _lines(self.size, stride, n + -(-(4 * n_across + SPARE) // 16) * 16)
        lines, ring, so_far, total = (
            _scratch.array(f"{what} {name}", (count,), dtype)
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
        """(row, column) of the pixels of a block, and where its four parts end; see `_box_sums`."""
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
    """Lines that a sum across patches is made of, `apart` from each other; see `_Box.sums`.

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
    stored = _scratch.array(name, (stride * stride + 1, down, across), region.dtype)
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


def _plan(shifts: np.ndarray, stride: int, in_pairs: bool = True) -> tuple[np.ndarray, ...]:
    """What to compute: shifts ordered by rows, their indices, those of the opposites they yield (or -1).

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
    return shifts[compute], np.array(compute), np.array(mirror), column.astype(np.int64)


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
