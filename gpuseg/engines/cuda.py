"""The engine for a GPU: launchers of kernels/*.cu. Its twin is `gpuseg.engines.cpu`.

A launcher knows the shape of the blocks, the order of the arguments and their types; nothing else does. All
of it runs without a GPU too: the tests put an emulator in the place of CuPy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from gpuseg import arrays
from gpuseg.constants import FLAT_VARIANCE
from gpuseg.grid import Grid
from gpuseg.polar import SPLINE_ROWS, PolarPlan
from gpuseg.prediction import PatternPlan, PointLabels

BLOCK = 256
"""Threads of every block; BLOCK in kernels/common.cuh."""

TILES = ((16, 64), (8, 32), (1, 1))
"""Grid points of a tile of the box sums (rows, columns), powers of two: for dense grids, for others, and for
patches too wide for those."""

SHARED_BYTES = 48 << 10
"""Shared memory that a block may have on every GPU."""

PREDICT_TILES = ((8, 16), (4, 8), (1, 8))
"""Grid points of a tile of the fused prediction (rows, columns): the first that shared memory can hold."""

POLAR_TILE = {"float32": (8, 32), "float64": (4, 32)}
"""Pixels of a tile of polar patches (rows, columns), by the type of its sums; Tile in kernels/polar.cu."""

SCRATCH_BYTES = 64 << 20
"""Memory for the sums of the polar patches: it limits the number of blocks."""

NEAREST_BYTES = 128 << 20
"""Memory for where the nearest scores are, of the operations that are filled together."""

FFT_BATCH_BYTES = 256 << 20
"""Memory for one batch of patches and their spectra in the `fft` method."""

OPTIONS = ("--std=c++17",)


def source(name: str) -> str:
    """The whole text of a kernel file.

    Parameters
    ----------
    name : str
        Without ``.cu``.

    Returns
    -------
    str
        With common.cuh in front: as text, because CuPy's cache does not see included files.
    """
    folder = _kernels_folder()
    common, text = ((folder / file).read_text("utf-8") for file in ("common.cuh", f"{name}.cu"))
    return f'{common}\n#line 1 "{name}.cu"\n{text}'


def _kernels_folder() -> Any:
    try:
        return resources.files("gpuseg.kernels")
    except ModuleNotFoundError:  # Python was started in a checkout, whose gpuseg hides the installed one
        return Path(__file__).parents[2] / "kernels"


def variants() -> dict[str, list[tuple[str, ...]]]:
    """Compiler options that each kernel file is built with.

    Returns
    -------
    dict
        Name of the file -> list of options.
    """
    return {
        "translation": [(*OPTIONS, *_tile_options(tile)) for tile in TILES],
        "kmeans": [OPTIONS],
        "missing": [OPTIONS],
        "polar": [OPTIONS],
        "pooling": [OPTIONS],
        "normalise": [OPTIONS],
        "predict": [(*OPTIONS, f"-DTILE_ROWS={rows}") for rows, _ in PREDICT_TILES],
    }


def _tile_options(tile: tuple[int, int]) -> tuple[str, ...]:
    return f"-DTILE_ROWS={tile[0]}", f"-DTILE_COLS={tile[1]}"


@functools.cache
def _module(name: str, options: tuple[str, ...], device: int) -> Any:
    return arrays.cupy_module().RawModule(code=source(name), options=options)


def _launch(
    name: str, function: str, options: tuple[str, ...], grid: tuple[int, ...], *args: Any, shared: int = 0
) -> None:
    """Start a kernel; Python's ints and floats become the C ints and floats that every kernel takes."""
    device = arrays.cupy_module().cuda.Device().id
    plain = {int: np.int32, float: np.float32}
    converted = tuple(plain[type(arg)](arg) if type(arg) in plain else arg for arg in args)
    kernel = _module(name, options, device).get_function(function)
    if shared > SHARED_BYTES:
        kernel.max_dynamic_shared_size_bytes = shared
    kernel(grid, (BLOCK,), converted, shared_mem=shared)


def one_blas_thread() -> AbstractContextManager[Any]:
    """Nothing to do: cuBLAS has no threads on the host.

    Returns
    -------
    context manager
    """
    return nullcontext()


def each(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """The results of a function for each item, in order.

    Parameters
    ----------
    function : callable
    items : sequence

    Returns
    -------
    list
    """
    return [function(item) for item in items]


EIGENPROBLEMS_ON_HOST = 512
"""Up to so many features the eigenvectors of their covariance are found on the host: one transfer instead of
many small kernels that wait for each other. A guess, to be measured on a GPU; 0 is never."""

SAMPLES_AT_A_TIME = 1 << 16
"""Rows of a table of samples that are centred at a time: few enough that what cuBLAS reads is in the
second-level cache still, up to some 200 features."""

SAMPLES_OF_A_PRODUCT = 1 << 62
"""All samples are multiplied by a few axes at once: a part of them would be copied first."""

SPANS, SAMPLES_OF_A_SPAN = 1, 1
"""A table of samples is summed up in one part: cuBLAS is busy with one."""

WINDOW_PIXELS_AT_A_TIME = 1 << 25
"""Pixels of all windows that one thread works on at a time,
enough to keep a GPU busy; 128 MiB of float32."""

ITERATIONS_AT_A_TIME = 10
"""Iterations of an algorithm between two looks at whether it has converged, each of which stops the GPU."""


def _as_many_as_fit(count: int, allocate: Callable[[int], Any]) -> Any:
    """Working memory for so many at a time, or fewer where there is not enough of it."""
    while True:
        try:
            return allocate(count)
        except MemoryError:
            if count == 1:
                raise
        count = -(-count // 2)


def _blocks(count: int) -> int:
    return -(-count // BLOCK)


def normalise(image: Any, valid: Any) -> Any:
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
    cp = arrays.cupy_module()
    counts = cp.ones(image.shape, bool) if valid is None else cp.ascontiguousarray(valid)
    reference = cp.argmax(counts).reshape(1)
    pixels = cp.empty(image.shape, cp.float32)
    work = cp.empty(6 * BLOCK + 2, cp.float64)
    image = cp.ascontiguousarray(image.astype(cp.float64))
    normalise_into(pixels, image, counts, reference, 0.0, work)
    return pixels


def normalise_into(pixels: Any, image: Any, valid: Any, reference: Any, hole: float, work: Any) -> None:
    """`normalise` without memory of its own, so that a graph can hold it.

    Parameters
    ----------
    pixels : (H, W) float32
        Is filled.
    image : (H, W) float64
    valid : (H, W) bool
        Pixels that are finite in addition count.
    reference : (1,) int64
        Number of a valid pixel.
    hole : float
        What other pixels become.
    work : (6 * BLOCK + 2,) float64
        Ends with how many valid pixels are not finite, and the largest distance of a pixel from the mean, 0
        of a constant image.
    """
    blocks = min(_blocks(image.size), BLOCK)
    moments, squares, state = work[: 5 * BLOCK], work[5 * BLOCK : 6 * BLOCK], work[6 * BLOCK :]
    of_image = image, valid, reference, int(image.size), moments
    _launch("normalise", "normalise_moments", OPTIONS, (blocks,), *of_image)
    _launch("normalise", "normalise_squares", OPTIONS, (blocks,), *of_image, squares)
    _launch("normalise", "normalise_pixels", OPTIONS, (blocks,), *of_image, squares, hole, pixels, state)


def leading_eigenvectors(matrix: Any, count: int) -> tuple[Any, Any]:
    """The largest eigenvalues of a symmetric matrix and their vectors.

    Parameters
    ----------
    matrix : (N, N) float64 array
    count : int
        How many are wanted, at most N.

    Returns
    -------
    values : (count,) float64
        The largest first.
    vectors : (N, count) float64
    """
    cp = arrays.cupy_module()
    values, vectors = cp.linalg.eigh(matrix)
    return values[::-1][:count], vectors[:, ::-1][:, :count]


MOST_CLUSTERS = SHARED_BYTES // (4 * BLOCK) - 1
"""As many centres as `lloyd` has room for."""

SAMPLES_OF_A_THREAD = 8
"""Of k-means, where there are few: so many that sums over a block's threads do not take most of the time."""


def lloyd(samples: Any, starts: Any, max_iter: int, threshold: Any) -> tuple[Any, float, int]:
    """Lloyd's iteration from several starts side by side; its twin is `gpuseg.engines.cpu.lloyd`.

    Parameters
    ----------
    samples : (S, K) float32 array
    starts : (m, n, K) float32 array
        Centres to start from, at most `MOST_CLUSTERS` each.
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
    cp = arrays.cupy_module()
    (n_samples, n_features), (n_starts, n_clusters) = samples.shape, starts.shape[:2]
    columns = cp.ascontiguousarray(samples.T)  # as they lie already, as a rule
    centers = starts.copy()
    blocks = min(128, -(-n_samples // (SAMPLES_OF_A_THREAD * BLOCK)))
    sums = cp.empty((n_starts, n_features + 2, n_clusters, blocks), cp.float32)
    state = cp.zeros((n_starts, 2), cp.int32)

    def add_up(again: bool) -> None:
        _launch(
            "kmeans", "lloyd_sums", OPTIONS, (blocks, n_features + 2, n_starts),
            columns, n_samples, n_features, centers, n_clusters, state, int(again), sums,
            shared=4 * BLOCK * n_clusters,
        )  # fmt: skip

    ended = max_iter < 1
    while not ended:
        for _ in range(ITERATIONS_AT_A_TIME):
            add_up(again=False)
            _launch(
                "kmeans", "lloyd_centers", OPTIONS, (n_starts,),
                sums, blocks, n_features, n_clusters, threshold, max_iter, centers, state,
            )  # fmt: skip
        ended = bool(cp.all(state[:, 0]))
    add_up(again=True)
    inertia = cp.sum(sums[:, n_features + 1].reshape(n_starts, -1), axis=1, dtype=cp.float64)
    inertias, states = arrays.to_numpy_together(inertia, state)
    best = int(np.argmin(inertias))
    return centers[best], float(inertias[best]), int(states[best, 1])


def translation_scores(
    pixels: Any,
    valid: Any,
    grid: Grid,
    shifts: np.ndarray,
    patch_radius: tuple[int, int],
    method: str,
) -> Any:
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
    cp = arrays.cupy_module()
    pixels = cp.ascontiguousarray(pixels)
    if valid is not None:
        pixels = cp.where(valid, pixels, cp.float32(np.nan))
    compute = {"direct": _direct, "fft": _fft, "box": _box}[method]
    return compute(pixels, valid is not None, grid, shifts, patch_radius)


def fill_missing(
    scores: Any, opposite: np.ndarray, wanted: Any, complete: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> Any:
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
    cp = arrays.cupy_module()
    rows, cols = scores.shape[1:]
    top, bottom, left, right = complete
    rectangle = complete if top < bottom and left < right else (0, 0, 0, 0)
    outside = rows * cols - (rectangle[1] - rectangle[0]) * (rectangle[3] - rectangle[2])
    if outside == 0:
        return scores
    opposites = [(k, max(k, int(m))) for k, m in enumerate(opposite) if m < 0 or m >= k]
    pairs, wanted = cp.asarray(opposites, dtype=cp.int32), cp.ascontiguousarray(wanted)
    at_a_time = max(1, min(len(pairs), NEAREST_BYTES // (4 * outside), 65535))
    near = _as_many_as_fit(at_a_time, lambda count: cp.empty((count, outside), cp.int32))
    at_a_time = len(near)
    for begin in range(0, len(pairs), at_a_time):
        some = pairs[begin : begin + at_a_time]
        _launch(
            "missing", "fill_from_opposite", OPTIONS, (_blocks(cols), len(some)),
            scores, some, rows, cols, *rectangle, near,
        )  # fmt: skip
        _launch(
            "missing", "fill_from_nearest", OPTIONS, (_blocks(outside), len(some)),
            scores, some, wanted, rows, cols, *rectangle, near,
        )  # fmt: skip
    return scores


def label_points(pixels: Any, plan: PatternPlan, with_misfit: bool = True) -> PointLabels:
    """The pattern of every grid point of an image.

    Parameters
    ----------
    pixels : (H, W) float32
        From `normalise`.
    plan : PatternPlan
    with_misfit : bool
        Whether the misfit is wanted; here it comes at no cost.

    Returns
    -------
    PointLabels
    """
    from gpuseg.engines._cuda_predict import PointLabeller

    cp = arrays.cupy_module()
    if plan.valid is not None:
        pixels = cp.where(cp.asarray(plan.valid), pixels, cp.float32(np.nan))
    labeller = PointLabeller(plan)
    labeller(cp.ascontiguousarray(pixels))
    return labeller.found


def can_label(plan: PatternPlan) -> bool:
    """Whether `label_points` can work as planned on the current GPU.

    Parameters
    ----------
    plan : PatternPlan

    Returns
    -------
    bool
        False where a tile with its shifts does not fit into shared memory, or too much is missing.
    """
    from gpuseg.engines._cuda_predict import can_label

    return can_label(plan)


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
        With ``submit(frame)``, which starts the work on a frame, and ``result()``, which waits for it and
        gives `gpuseg.prediction.FrameLabels`.
    """
    from gpuseg.engines._cuda_predict import FramePath

    return FramePath(plan, upsampling)


FRAMES_AT_A_TIME = 2
"""Of a series: one is copied to or from the GPU while the other is worked on."""


def polar_scores(pixels: Any, valid: Any, plan: PolarPlan, rows: tuple[int, int] | None = None) -> Any:
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
    cp = arrays.cupy_module()
    if rows is not None:
        further = plan.reach + SPLINE_ROWS
        begin, end = max(0, rows[0] - further), rows[1] + further
        around = polar_scores(pixels[begin:end], None if valid is None else valid[begin:end], plan)
        return cp.ascontiguousarray(around[:, rows[0] - begin : rows[1] - begin])
    coefficients = _spline_coefficients(pixels)
    if valid is not None:
        coefficients = cp.where(valid, coefficients, np.nan)
    scores = cp.empty((len(plan.kinds), *pixels.shape), cp.float32)
    tile = POLAR_TILE["float32"]
    states = cp.empty(-(-pixels.shape[0] // tile[0]) * -(-pixels.shape[1] // tile[1]), cp.int32)
    # each takes the tiles that the last has left
    for function, dtype, n_sums in (
        ("polar_scores", "float32", 3),
        ("masked_polar_scores", "float32", 7),
        ("careful_polar_scores", "float64", 7),
    ):
        _polar_pass(function, dtype, n_sums, coefficients, plan, states, scores)
    return scores


def pool(scores: Any, grid: Grid, radius: tuple[int, int], n_max: int) -> Any:
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
    cp = arrays.cupy_module()
    n, height, width = scores.shape
    h, w = grid.shape
    length = min(n_max, 2 * radius[0] + 1)
    layers = min(h, 65535), min(n, 65535)
    lists = cp.empty((n, length, h, width), cp.float32)
    _launch(
        "pooling", "pool_down", OPTIONS, (_blocks(width), *layers),
        cp.ascontiguousarray(scores), n, height, width,
        grid.first[0], grid.stride, h, radius[0], length, lists,
    )  # fmt: skip
    pooled = cp.empty((n * n_max, h, w), cp.float32)
    _launch(
        "pooling", "pool_across", OPTIONS, (_blocks(w), *layers),
        lists, n, length, h, width, grid.first[1], grid.stride, w, radius[1], n_max, pooled,
    )  # fmt: skip
    return pooled


def _direct(pixels: Any, masked: bool, grid: Grid, shifts: np.ndarray, radius: tuple[int, int]) -> Any:
    cp = arrays.cupy_module()
    scores = cp.empty((len(shifts), *grid.shape), cp.float32)
    _launch(
        "translation", "direct_scores", (*OPTIONS, *_tile_options(TILES[1])), (grid.shape[1], grid.shape[0]),
        pixels, *pixels.shape, *grid.first, grid.stride, *grid.shape, *radius,
        cp.asarray(shifts, dtype=cp.int32), len(shifts), FLAT_VARIANCE, scores,
    )  # fmt: skip
    return scores


def _box(pixels: Any, masked: bool, grid: Grid, shifts: np.ndarray, radius: tuple[int, int]) -> Any:
    cp = arrays.cupy_module()
    size = 2 * radius[0] + 1, 2 * radius[1] + 1
    fitting = [tile for tile in TILES if _shared_of(tile, grid.stride, size) <= SHARED_BYTES]
    if not fitting:  # a patch of more than 1000 columns
        return _fft(pixels, masked, grid, shifts, radius)
    tile = fitting[0]
    options = (*OPTIONS, *_tile_options(tile))
    reach = tuple(int(r) for r in np.abs(shifts).max(axis=0))
    # patches at r + shift, seen from r: their spacing tells at which positions means and norms are needed
    step = tuple(int(np.gcd.reduce([grid.stride, *shifts[:, axis]])) for axis in (0, 1))
    known = tuple(((grid.shape[a] - 1) * grid.stride + 2 * reach[a]) // step[a] + 1 for a in (0, 1))
    mean, scale = cp.empty(known, cp.float32), cp.empty(known, cp.float32)
    _launch(
        "translation", "patch_statistics", options, (-(-known[1] // tile[1]), known[0]),
        pixels, *pixels.shape, grid.first[0] - reach[0], grid.first[1] - reach[1], *step, *known, *radius,
        FLAT_VARIANCE, mean, scale, shared=16 * ((tile[1] - 1) * step[1] + size[1]),
    )  # fmt: skip
    scores = cp.empty((len(shifts), *grid.shape), cp.float32)
    tiles = -(-grid.shape[1] // tile[1]), -(-grid.shape[0] // tile[0])
    parts = min(len(shifts), max(1, ENOUGH_BLOCKS // (tiles[0] * tiles[1])), 65535)
    where = *pixels.shape, *grid.first, grid.stride, *grid.shape, *radius, *reach
    shifts = cp.asarray(shifts, dtype=cp.int32)
    _launch(
        "translation", "box_scores", options, (*tiles, parts),
        pixels, *where, *step, mean, scale, known[1], shifts, len(shifts), int(masked), scores,
        shared=_shared_of_sums(tile, grid.stride, size),
    )  # fmt: skip
    _launch(
        "translation", "masked_box_scores", options, (*tiles, parts),
        pixels, *where, shifts, len(shifts), int(masked), FLAT_VARIANCE, scores,
        shared=_shared_of_masked_sums(tile, grid.stride, size),
    )  # fmt: skip
    return scores


ENOUGH_BLOCKS = 2048
"""Blocks that keep every multiprocessor of a large GPU busy; more only repeat the blocks' preparations."""


def _shared_of(tile: tuple[int, int], stride: int, size: tuple[int, int]) -> int:
    """Shared memory that the box sums of a tile take."""
    return max(kernel(tile, stride, size) for kernel in (_shared_of_sums, _shared_of_masked_sums))


def _shared_of_sums(tile: tuple[int, int], stride: int, size: tuple[int, int]) -> int:
    return 4 * tile[0] * ((((tile[1] - 1) * stride + size[1]) | 1) + tile[1])


def _shared_of_masked_sums(tile: tuple[int, int], stride: int, size: tuple[int, int]) -> int:
    return 8 * 6 * min(tile[0], 4) * ((tile[1] - 1) * stride + size[1])


def _fft(pixels: Any, masked: bool, grid: Grid, shifts: np.ndarray, radius: tuple[int, int]) -> Any:
    """All shifts of a grid point from the products of spectra (paper, Appendix B), masks included."""
    from scipy.fft import next_fast_len

    cp = arrays.cupy_module()
    options = (*OPTIONS, *_tile_options(TILES[1]))
    reach = tuple(int(r) for r in np.abs(shifts).max(axis=0))
    transform = tuple(next_fast_len(2 * (radius[a] + reach[a]) + 1, real=True) for a in (0, 1))
    points = np.stack(np.meshgrid(grid.rows, grid.cols, indexing="ij"), -1).reshape(-1, 2)
    points, n_grid, n_shifts = cp.asarray(points, dtype=cp.int32), grid.size, len(shifts)
    shifts = cp.asarray(shifts, dtype=cp.int32)
    scores = cp.empty((n_shifts, *grid.shape), cp.float32)
    patch_size = (2 * radius[0] + 1) * (2 * radius[1] + 1)
    batch = max(1, min(65535, FFT_BATCH_BYTES // (48 * 6 * transform[0] * transform[1])))
    for begin in range(0, n_grid, batch):
        count = min(batch, n_grid - begin)
        planes = cp.empty((6, count, *transform), cp.float64)
        _launch(
            "translation", "fft_gather", options, (count,),
            pixels, *pixels.shape, points[begin : begin + count], count, *radius, *reach, *transform, planes,
        )  # fmt: skip
        a, aa, m, b, bb, w = cp.fft.rfft2(planes)
        pairs = cp.stack(
            [a.conj() * b, m.conj() * w, a.conj() * w, m.conj() * b, aa.conj() * w, m.conj() * bb]
        )
        sums = cp.fft.irfft2(pairs, s=transform)
        _launch(
            "translation", "fft_finish", options, (_blocks(n_shifts), count),
            cp.ascontiguousarray(sums), count, *transform, shifts, n_shifts, *reach, patch_size,
            FLAT_VARIANCE, begin, n_grid, scores,
        )  # fmt: skip
    return scores


def _spline_coefficients(pixels: Any) -> Any:
    """Of the cubic splines through the pixels of an image mirrored at its outermost ones; (H, W) float64."""
    cp = arrays.cupy_module()
    coefficients = cp.ascontiguousarray(pixels).astype(cp.float64)
    for axis in (0, 1):
        filtered = cp.empty_like(coefficients)
        blocks = (_blocks(coefficients.size),)
        _launch("polar", "spline_coefficients", OPTIONS, blocks, coefficients, *pixels.shape, axis, filtered)
        coefficients = filtered
    return coefficients


def _polar_pass(
    function: str, dtype: str, n_sums: int, coefficients: Any, plan: PolarPlan, states: Any, scores: Any
) -> None:
    """Score the tiles that one of the kernels is for."""
    cp = arrays.cupy_module()
    rows, cols = POLAR_TILE[dtype]
    most = int(np.diff(plan.batch_samples).max())
    values = (most + 1) * rows * cols
    region = (rows + 2 * plan.reach) * (cols + 2 * plan.reach)
    size = np.dtype(dtype).itemsize
    fits = size * (values + region) <= SHARED_BYTES
    scratch_size = 2 * n_sums * len(plan.kinds) * BLOCK + (0 if fits else region + region % 2)
    tiles = -(-scores.shape[1] // rows) * -(-scores.shape[2] // cols)
    blocks = min(tiles, max(1, SCRATCH_BYTES // (size * scratch_size)))
    scratch = _as_many_as_fit(blocks, lambda count: cp.empty((count, scratch_size), dtype))
    _launch(
        "polar", function, OPTIONS, (len(scratch),),
        coefficients, *coefficients.shape, *_polar_arrays(plan, dtype), len(plan.corners),
        len(plan.batch_samples) - 1, len(plan.kinds), plan.reach, most, int(fits), FLAT_VARIANCE,
        scratch, scratch_size, states, scores, shared=size * (values + region * fits),
    )  # fmt: skip


def _polar_arrays(plan: PolarPlan, dtype: str) -> tuple[Any, ...]:
    """A plan as kernels/polar.cu takes it: pairs of the same batch and operation are runs."""
    cp = arrays.cupy_module()
    operation = plan.pairs[:, 0]
    new = np.diff(operation, prepend=-1) != 0
    new[plan.batch_pairs[:-1]] = True
    begins = np.flatnonzero(new)
    runs = np.stack([np.append(begins, len(new)), np.append(operation[begins], -1)], 1)
    batches = np.stack([plan.batch_samples, np.searchsorted(begins, plan.batch_pairs)], 1)
    pairs = np.empty(len(plan.pairs), [("one", "i4"), ("other", "i4"), ("coarse", dtype), ("rest", dtype)])
    pairs["one"], pairs["other"] = plan.pairs[:, 1], plan.pairs[:, 2]
    coarse = np.rint(plan.pair_weight * 2.0**22) / 2.0**22
    pairs["coarse"], pairs["rest"] = coarse, plan.pair_weight - coarse
    found = (
        (plan.corners, "int32"),
        (plan.splines, dtype),
        (plan.own_weight, dtype),
        (pairs.view("int32"), "int32"),
        (batches, "int32"),
        (runs, "int32"),
        (plan.kinds, "int32"),
    )
    return tuple(cp.asarray(np.ascontiguousarray(array, kind)) for array, kind in found)
