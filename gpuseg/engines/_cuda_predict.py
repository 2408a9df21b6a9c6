"""Launchers of kernels/predict.cu: frames of one shape to labels, planned once and replayed as a graph."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpuseg import arrays
from gpuseg.constants import FLAT_VARIANCE
from gpuseg.engines import cuda
from gpuseg.engines.cuda import BLOCK, OPTIONS, _blocks, _launch
from gpuseg.prediction import FrameLabels, PatternPlan, PointLabels

log = logging.getLogger("gpuseg")

ENOUGH_TILES = 512
"""Blocks that keep every multiprocessor of a large GPU busy; with fewer tiles several share the pairs."""

MOST_PAIRS, MOST_PAIRS_OF_A_SCORE = 1 << 28, 20
"""Scores taken from other grid points are computed from their definition: so many pairs of pixels may be
looked at, or so many for each score of the image, or it takes longer than everything else."""


class PointLabeller:
    """Grid points of images of one shape to their patterns; everything but the pixels is there beforehand.

    Parameters
    ----------
    plan : PatternPlan

    Attributes
    ----------
    found : PointLabels
        Of the last image: the same arrays each time.
    """

    def __init__(self, plan: PatternPlan) -> None:
        cp = arrays.cupy_module()
        tile = _tile_of(plan)
        assert tile is not None, "can_label tells beforehand"
        self.plan, self.tile = plan, tile
        (h, w), n_axes = plan.grid.shape, plan.axes.shape[0]
        tiles = -(-w // self.tile[1]), -(-h // self.tile[0])
        parts = min(len(plan.pairs), max(1, ENOUGH_TILES // (tiles[0] * tiles[1])), 65535)
        self._blocks = *tiles, parts
        height, width = plan.grid.image_shape
        self._reach = [int(r) for r in np.abs(plan.shifts).max(axis=0)]
        self._integrals = cp.empty((height + 1, width + 1, 2), cp.float64)
        self._shifts, self._pairs = (cp.asarray(each, dtype=cp.int32) for each in (plan.shifts, plan.pairs))
        learnt = (np.ascontiguousarray(each, np.float32) for each in (plan.mean, plan.axes, plan.centers))
        self._average, self._axes, self._centers = map(cp.asarray, learnt)
        missing = plan.missing
        self._missing = tuple(cp.asarray(each) for each in (missing.points, missing.begins, missing.entries))
        self._most = int(np.diff(missing.begins).max(initial=0))
        self._known = cp.asarray(missing.known)
        self._sums = cp.empty((parts, n_axes + 1, h, w), cp.float64)
        self.found = PointLabels(
            cp.empty((h, w), cp.int32),
            cp.empty((h, w), cp.float32),
            cp.empty((h, w), cp.float32),
            cp.empty((n_axes, h, w), cp.float32),
        )

    def __call__(self, pixels: Any) -> None:
        """Start the work on an image.

        Parameters
        ----------
        pixels : (H, W) float32
            From `normalise`, NaN where masked.
        """
        plan, found, (height, width) = self.plan, self.found, pixels.shape
        grid = *plan.grid.first, plan.grid.stride, *plan.grid.shape
        place = pixels, height, width, *grid, *plan.patch_radius
        learnt = self._average, self._axes, plan.axes.shape[0]
        options, integrals = (*OPTIONS, f"-DTILE_ROWS={self.tile[0]}"), self._integrals
        _launch("predict", "integrate_rows", options, (height,), pixels, height, width, integrals)
        length = 2 * (width + 1)
        columns = (-(-length // 32),)
        _launch("predict", "integrate_columns", options, columns, height + 1, length, integrals)
        _launch(
            "predict", "project_scores", options, self._blocks,
            *place, *self._reach, integrals, self._shifts, len(plan.shifts),
            self._pairs, len(plan.pairs), int(plan.valid is not None), FLAT_VARIANCE, *learnt, self.tile[1],
            self._sums, shared=_shared_bytes(plan, self.tile),
        )  # fmt: skip
        if self._most:
            _launch(
                "predict", "project_missing", options, (len(plan.missing.points),),
                *place, self._shifts, len(plan.shifts), *self._missing, FLAT_VARIANCE, *learnt, self._sums,
                shared=4 * self._most,
            )  # fmt: skip
        _launch(
            "predict", "label_points", options, (_blocks(plan.grid.size),),
            self._sums, self._blocks[2], plan.grid.size, self._known, self._centers, len(plan.centers),
            plan.axes.shape[0], found.components, found.labels, found.certainty, found.misfit,
        )  # fmt: skip


class FramePath:
    """The way of frames of one shape to their labels on a stream of its own; see `cuda.frame_path`.

    What is worked on lies at the same place for every frame, so that all launches are one graph, made when
    the first frame of a dtype comes.

    Parameters
    ----------
    plan : PatternPlan
    upsampling : bool
    """

    def __init__(self, plan: PatternPlan, upsampling: bool) -> None:
        cp = arrays.cupy_module()
        shape, grid = plan.grid.image_shape, plan.grid
        self.plan, self._shape = plan, shape
        self._stream = cp.cuda.Stream(non_blocking=True)
        self._labeller = PointLabeller(plan)
        valid = np.ones(shape, bool) if plan.valid is None else plan.valid
        self._valid, self._reference = cp.asarray(valid), cp.asarray([int(valid.argmax())])
        self._wide, self._pixels = cp.empty(shape, cp.float64), cp.empty(shape, cp.float32)
        self._work, self._usable = cp.empty(6 * BLOCK + 4, cp.float64), cp.asarray(plan.usable)
        # grid points shown by themselves are an image of their own, of which each pixel is a grid point
        self._raster = (*grid.first, grid.stride, *grid.shape) if upsampling else (0, 0, 1, *grid.shape)
        self._near = cp.asarray(plan.near if upsampling else np.arange(grid.size, dtype=np.int32))
        self._shown_where = self._valid if upsampling else self._usable
        self._shown = cp.empty(self._shown_where.shape, cp.int32)
        self._sure = cp.empty(self._shown_where.shape, cp.float32)
        found = self._labeller.found
        self._outputs = self._shown, self._sure, found.labels, found.certainty, self._work[6 * BLOCK :]
        self._host = [_pinned(each.shape, each.dtype) for each in self._outputs]
        self._given: dict[Any, tuple[Any, np.ndarray, Callable[[], None]]] = {}
        self._stay, self._frame, self._wanted = False, self._pixels, [True] * 4

    def submit(self, frame: Any, certainty: bool = True, details: bool = True) -> None:
        """Start the work on a frame; one at a time, `result` takes it.

        Parameters
        ----------
        frame : (H, W) NumPy or CuPy array of real numbers
            Its memory may be used again at once.
        certainty : bool
            Whether the certainty of the pixels is wanted.
        details : bool
            Whether what is known of the grid points is, and the misfit.
        """
        cp = arrays.cupy_module()
        self._wanted = [True, certainty, details, details]
        dtype = frame.dtype.newbyteorder("=")
        self._stay = not isinstance(frame, np.ndarray)
        given, host, run = self._given.get(dtype) or self._begin(dtype)
        if self._stay:  # where it is made, and while it is there
            cp.copyto(given, frame)
        else:
            np.copyto(host, frame)
            given.set(host, stream=self._stream)
        self._frame = given if self._stay else host
        # after that copy, and those that `result` has made
        self._stream.wait_event(cp.cuda.get_current_stream().record())
        with self._stream:
            run()
        fetched = *(wanted and not self._stay for wanted in self._wanted), True
        for there, here, is_fetched in zip(self._outputs, self._host, fetched, strict=True):
            if is_fetched:
                there.get(stream=self._stream, out=here, blocking=False)

    def result(self) -> FrameLabels:
        """Wait for the frame and take what was found.

        Returns
        -------
        FrameLabels
            In new arrays that live where the frame does.
        """
        self._stream.synchronize()
        found = self._outputs if self._stay else self._host
        broken, largest, misfit, n_points = (float(each) for each in self._host[-1])
        mean = misfit / n_points if n_points else float("nan")
        frame = self._frame.copy() if broken else None
        parts = zip(found, self._wanted, strict=False)
        shown, sure, labels, certainty = (each.copy() if wanted else None for each, wanted in parts)
        return FrameLabels(shown, sure, labels, certainty, mean, int(broken), largest == 0, frame)

    def _begin(self, dtype: Any) -> tuple[Any, np.ndarray, Callable[[], None]]:
        """Where frames of a dtype are put on the device and on the host, and what then does the work."""
        cp = arrays.cupy_module()
        given, host = cp.zeros(self._shape, dtype), _pinned(self._shape, dtype)
        cp.cuda.get_current_stream().synchronize()
        with self._stream:
            self._work_on(given)  # compiles what has to be: nothing may when a graph is made
        self._stream.synchronize()
        plain = functools.partial(self._work_on, given)
        self._given[dtype] = given, host, _graph_of(plain, self._stream) or plain
        return self._given[dtype]

    def _work_on(self, given: Any) -> None:
        """All launches, without an allocation and without a look at a number."""
        cp, plan, found = arrays.cupy_module(), self.plan, self._labeller.found
        cp.copyto(self._wide, given)
        hole = 0.0 if plan.valid is None else float("nan")
        cuda.normalise_into(self._pixels, self._wide, self._valid, self._reference, hole, self._work)
        self._labeller(self._pixels)
        options, (height, width) = (*OPTIONS, f"-DTILE_ROWS={self._labeller.tile[0]}"), self._shown.shape
        _launch(
            "predict", "upsample_labels", options, (_blocks(width), min(height, 65535)),
            found.labels, found.certainty, self._near, self._shown_where, height, width, *self._raster,
            self._shown, self._sure,
        )  # fmt: skip
        _launch(
            "predict", "mean_misfit", options, (1,),
            found.misfit, self._usable, plan.grid.size, self._work[6 * BLOCK + 2 :],
        )  # fmt: skip


def can_label(plan: PatternPlan) -> bool:
    """Whether `PointLabeller` can be made.

    Parameters
    ----------
    plan : PatternPlan

    Returns
    -------
    bool
    """
    if _tile_of(plan) is None or not plan.grid.size:
        return False
    n_pairs = len(plan.missing.entries) * math.prod(2 * radius + 1 for radius in plan.patch_radius)
    most = int(np.diff(plan.missing.begins).max(initial=0))
    few = n_pairs <= max(MOST_PAIRS, MOST_PAIRS_OF_A_SCORE * len(plan.shifts) * plan.grid.size)
    return few and 4 * most <= cuda.SHARED_BYTES and bool(plan.missing.known.any())


def _tile_of(plan: PatternPlan) -> tuple[int, int] | None:
    """The largest tile that fits into the shared memory of the current GPU, None if none does."""
    attributes = arrays.cupy_module().cuda.Device().attributes
    room = max(cuda.SHARED_BYTES, attributes.get("MaxSharedMemoryPerBlockOptin", 0))
    return next((tile for tile in cuda.PREDICT_TILES if _shared_bytes(plan, tile) <= room), None)


def _shared_bytes(plan: PatternPlan, tile: tuple[int, int]) -> int:
    """Shared memory of `project_scores`: components of the points, and what their scores are made from."""
    size = [2 * radius + 1 for radius in plan.patch_radius]
    reach = np.abs(plan.shifts).max(axis=0).tolist()
    rows = min(tile[0], plan.grid.shape[0])
    depth, span = ((n - 1) * plan.grid.stride + size[axis] for axis, n in enumerate(tile))
    clean = 4 * ((depth + 2 * reach[0]) * (span + 2 * reach[1]) + 2 * rows * span)
    masked = 0 if plan.valid is None else 8 * 6 * rows * span
    return 8 * (len(plan.axes) + 1) * tile[0] * tile[1] + max(clean, masked)


def _pinned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Memory on the host that the GPU reads and writes by itself."""
    count, dtype = int(np.prod(shape)), np.dtype(dtype)
    memory = arrays.cupy_module().cuda.alloc_pinned_memory(count * dtype.itemsize)
    return np.frombuffer(memory, dtype, count).reshape(shape)


def _graph_of(work: Callable[[], None], stream: Any) -> Callable[[], None] | None:
    """What launches all of some work at once; None where that cannot be."""
    try:
        with stream:
            stream.begin_capture()
            try:
                work()
            finally:
                graph = stream.end_capture()
        return graph.launch
    except Exception as error:  # a driver or CuPy that cannot: the launches one by one do the same
        with contextlib.suppress(Exception):
            stream.synchronize()
        _log_once(f"{type(error).__name__}: {error}")
        return None


@functools.lru_cache(maxsize=1)
def _log_once(reason: str) -> None:
    log.warning("no CUDA graph could be made (%s); kernels are launched one by one", reason)
