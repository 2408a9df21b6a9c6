"""The engine for the CPU: numba kernels on all cores. Its twin is `gpuseg.engines.cuda`."""

from __future__ import annotations

import functools
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from gpuseg.arrays import namespace, to_numpy
from gpuseg.engines import _cpu_translation_tiles as tiles
from gpuseg.engines._cpu_polar_tiles import Polar
from gpuseg.engines._cpu_threads import compiled, n_threads, scratch, share_out, workers
from gpuseg.grid import Grid
from gpuseg.polar import PolarPlan
from gpuseg.prediction import PatternPlan, PointLabels


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
        return list(workers(n_threads()).map(function, items))


EIGENPROBLEMS_ON_HOST = 0
"""Up to so many features: they are on the host already."""

SAMPLES_AT_A_TIME = 1 << 12
"""Rows of a table of samples that one thread works on at a time."""

POOL_COLUMNS = 256
"""Columns of a score map that are pooled at a time."""

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
    kernels, out = compiled("level"), np.empty(image.shape, np.float32)
    # the parts do not depend on the number of threads, so neither does the result
    parts = [slice(k, k + PIXELS_AT_A_TIME) for k in range(0, image.size, PIXELS_AT_A_TIME)]
    flat, flat_out = image.reshape(-1), out.reshape(-1)
    sums = np.empty((len(parts), 2))
    # about one of the pixels: their variance is at least the n-th part of its squared distance from the mean
    level = float(flat[0])
    share_out(kernels.moments, range(len(parts)), lambda k: (flat[parts[k]], level, sums[k]))
    mean, mean_square = (sums.sum(axis=0) / image.size).tolist()
    variance = mean_square - mean * mean
    if variance <= 0:
        return np.zeros(image.shape, np.float32)
    level, factor = level + mean, 1 / math.sqrt(variance)
    share_out(kernels.rescale, parts, lambda part: (flat[part], level, factor, flat_out[part]))
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
    kernels = compiled("kmeans")

    def call(k: int) -> tuple[Any, ...]:
        sums = np.empty((starts.shape[1], starts.shape[2] + 1))
        lines = [np.empty(kernels.AT_A_TIME, dtype) for dtype in (np.float32, np.float32, np.int32)]
        return columns, centers[k], max_iter, bound, sums, *lines, found[k]

    share_out(kernels.lloyd, range(len(starts)), call)
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
    compute = {"direct": tiles.direct, "fft": tiles.fft, "box": tiles.box}[method]
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
    if not scores.flags.c_contiguous:
        scores[...] = fill_missing(np.ascontiguousarray(scores), opposite, wanted, complete)
        return scores
    wanted = np.ascontiguousarray(wanted)
    pairs = np.array([(k, max(k, int(m))) for k, m in enumerate(opposite) if m < 0 or m >= k])

    def call(some: np.ndarray) -> tuple[Any, ...]:
        n_points = wanted.size
        near = scratch.array("near", wanted.shape, np.int32)
        last = scratch.array("last", (wanted.shape[1],), np.int32)
        places = scratch.array("places", (n_points, 2), np.int32)
        found = scratch.array("found", (n_points, 2), np.int32)
        return scores.reshape(-1), scores, some, wanted, complete, near, last, places, found

    share_out(compiled("missing").fill_pairs, np.array_split(pairs, min(len(pairs), 4 * n_threads())), call)
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
    polar = Polar.of(pixels, valid, plan, (0, pixels.shape[0]) if rows is None else rows)
    kernels = compiled("polar")
    share_out(kernels.polar_tile, polar.clean(), polar.call)
    share_out(kernels.masked_polar_tile, polar.marked(), polar.masked_call)
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
    kernel = compiled("polar").pool_rows
    n, _, width = scores.shape
    (h, w), rows, cols = grid.shape, grid.rows, grid.cols
    down = np.empty((n, n_max, h, width), np.float32)

    def along_rows(part: tuple[int, slice]) -> tuple[Any, ...]:
        source = scores[part[0] : part[0] + 1, :, part[1]]
        n_cols = source.shape[2]
        best, spare = np.empty((n_max, n_cols), np.float32), np.empty(n_cols, np.float32)
        return source, rows, radius[0], best, spare, down[part[0], :, :, part[1]]

    strips = [slice(a, min(a + POOL_COLUMNS, width)) for a in range(0, width, POOL_COLUMNS)]
    share_out(kernel, list(itertools.product(range(n), strips)), along_rows)
    across = np.empty((n, n_max, w, h), np.float32)
    turned = np.ascontiguousarray(down.swapaxes(2, 3))

    def along_cols(k: int) -> tuple[Any, ...]:
        best, spare = np.empty((n_max, h), np.float32), np.empty(h, np.float32)
        return turned[k, :, :, :], cols, radius[1], best, spare, across[k, :, :, :]

    share_out(kernel, range(n), along_cols)
    pooled = np.ascontiguousarray(across.swapaxes(2, 3)).reshape(-1, h, w)
    pooled[pooled == -np.inf] = np.nan
    return pooled
