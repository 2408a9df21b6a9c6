"""Frames of one shape to labels, on the CPU: the stages that labels need, and nothing beside."""

from __future__ import annotations

import numpy as np

from gpuseg.engines import _cpu_translation_tiles as tiles
from gpuseg.engines import cpu
from gpuseg.engines._cpu_threads import compiled
from gpuseg.prediction import FrameLabels, PatternPlan, PointLabels


def label_points(
    pixels: np.ndarray, plan: PatternPlan, with_misfit: bool, out: np.ndarray | None = None
) -> PointLabels:
    """See `cpu.label_points`.

    Parameters
    ----------
    pixels : (H, W) float32
    plan : PatternPlan
    with_misfit : bool
    out : (N, h, w) float32, optional
        Memory for the scores.

    Returns
    -------
    PointLabels
    """
    what = pixels, plan.valid, plan.grid, plan.shifts, plan.patch_radius
    scores = tiles.box(*what, out) if plan.method == "box" else cpu.translation_scores(*what, plan.method)
    scores = scores.reshape(len(plan.shifts), -1)
    if plan.fills:
        to, source = plan.borrowed
        scores.reshape(-1)[to] = np.where(source < 0, np.float32(0), scores.reshape(-1)[source])
    return _nearest_patterns(scores, plan, with_misfit)


def _nearest_patterns(scores: np.ndarray, plan: PatternPlan, with_misfit: bool) -> PointLabels:
    """Of scores (N, S): components, and what is nearest to them."""
    n_points, nearest = scores.shape[1], compiled("patterns").nearest_patterns
    components = np.empty((plan.axes.shape[0], n_points), np.float32)
    labels, sure, off = (np.empty(n_points, dtype) for dtype in (np.int32, np.float32, np.float32))
    offset = plan.axes @ plan.mean  # so that no centred copy of the scores is made

    def work(begin: int) -> None:
        part = slice(begin, min(begin + cpu.SAMPLES_AT_A_TIME, n_points))
        points = plan.axes @ scores[:, part] - offset[:, None]
        nearest(points, plan.centers, begin, labels, sure, off)
        components[:, part] = points
        if with_misfit:
            apart = scores[:, part] - plan.mean[:, None]
            off[part] += np.square(apart).sum(axis=0) - np.square(points).sum(axis=0)

    cpu.each(work, range(0, n_points, cpu.SAMPLES_AT_A_TIME))
    if not with_misfit:
        off[:] = np.nan
    shape = plan.grid.shape
    return PointLabels(
        labels.reshape(shape), sure.reshape(shape), off.reshape(shape), components.reshape(-1, *shape)
    )


class FramePath:
    """The way of frames of one shape to their labels; see `cpu.frame_path`.

    Parameters
    ----------
    plan : PatternPlan
    upsampling : bool
    """

    def __init__(self, plan: PatternPlan, upsampling: bool) -> None:
        self.plan, self._upsampling = plan, upsampling
        self._scores = np.empty((len(plan.shifts), *plan.grid.shape), np.float32)
        self._found: FrameLabels | None = None

    def submit(self, frame: np.ndarray, certainty: bool = True, details: bool = True) -> None:
        """Work on a frame.

        Parameters
        ----------
        frame : (H, W) array of real numbers
        certainty : bool
            Whether the certainty of the pixels is wanted.
        details : bool
            Whether the misfit is.
        """
        plan = self.plan
        pixels = cpu.normalise(frame, plan.valid)
        if frame.dtype.kind == "f" and not np.isfinite(pixels.flat[0]):  # then no pixel is
            n_broken = np.count_nonzero(~np.isfinite(frame if plan.valid is None else frame[plan.valid]))
            # none, where the sum of huge numbers is: `predict` tells what becomes of them
            self._found = _nothing(max(1, int(n_broken)), False, frame)
            return
        if pixels.flat[0] == 0 and not pixels.any():
            self._found = _nothing(0, True, None)
            return
        points = label_points(pixels, plan, details, self._scores)
        misfit = float("nan")
        if details:
            known = points.misfit[plan.usable & np.isfinite(points.misfit)]
            misfit = float(known.mean(dtype=np.float64)) if known.size else misfit
        self._found = FrameLabels(
            *self._shown(points, certainty), points.labels, points.certainty, misfit, 0, False
        )

    def result(self) -> FrameLabels:
        """What was found in the frame.

        Returns
        -------
        FrameLabels
        """
        found, self._found = self._found, None
        assert found is not None, "no frame was submitted"
        return found

    def _shown(self, points: PointLabels, certainty: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Labels and certainty as the user sees them."""
        plan, grid = self.plan, self.plan.grid
        labels, sure = points.labels, points.certainty if certainty else None
        if self._upsampling:
            labels = grid.upsample(grid.nearest_known(labels))
            sure = None if sure is None else grid.upsample(sure)
        if plan.valid is None:
            return labels, sure
        valid = plan.valid if self._upsampling else plan.usable
        labels = np.where(valid, labels, np.int32(-1))
        return labels, None if sure is None else np.where(valid, sure, np.float32(0))


def _nothing(n_broken: int, constant: bool, frame: np.ndarray | None) -> FrameLabels:
    return FrameLabels(None, None, None, None, float("nan"), n_broken, constant, frame)
