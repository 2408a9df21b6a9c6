"""Frames of one shape to labels, on the CPU: the stages that labels need, and nothing beside."""

from __future__ import annotations

import numpy as np

from gpuseg.engines import cpu
from gpuseg.prediction import FrameLabels, PatternPlan, PointLabels


def label_points(pixels: np.ndarray, plan: PatternPlan, with_misfit: bool) -> PointLabels:
    """See `cpu.label_points`.

    Parameters
    ----------
    pixels : (H, W) float32
    plan : PatternPlan
    with_misfit : bool

    Returns
    -------
    PointLabels
    """
    scores = cpu.translation_scores(
        pixels, plan.valid, plan.grid, plan.shifts, plan.patch_radius, plan.method
    )
    if plan.fills:
        complete = (0, 0, 0, 0) if plan.valid is not None else plan.complete
        scores = cpu.fill_missing(scores, plan.opposite, plan.usable, complete)
    return _nearest_patterns(scores.reshape(len(scores), -1), plan, with_misfit)


def _nearest_patterns(scores: np.ndarray, plan: PatternPlan, with_misfit: bool) -> PointLabels:
    """Of scores (N, S): components, and what is nearest to them."""
    n_axes, n_points = plan.axes.shape[0], scores.shape[1]
    components = np.empty((n_axes, n_points), np.float32)
    labels, sure = np.empty(n_points, np.int32), np.empty(n_points, np.float32)
    misfit = np.full(n_points, np.nan, np.float32)
    offset = plan.axes @ plan.mean  # so that no centred copy of the scores is made

    def work(begin: int) -> None:
        part = slice(begin, min(begin + cpu.SAMPLES_AT_A_TIME, n_points))
        points = components[:, part] = plan.axes @ scores[:, part] - offset[:, None]
        distances = np.stack([np.square(points - center[:, None]).sum(axis=0) for center in plan.centers])
        known = np.isfinite(points).all(axis=0)
        labels[part] = np.where(known, distances.argmin(axis=0), -1)
        sure[part] = np.where(known, _certainty(distances), 0)
        if with_misfit:
            apart = scores[:, part] - plan.mean[:, None]
            off = np.square(apart).sum(axis=0) - np.square(points).sum(axis=0) + distances.min(axis=0)
            misfit[part] = np.where(known, off, np.nan)

    cpu.each(work, range(0, n_points, cpu.SAMPLES_AT_A_TIME))
    shape = plan.grid.shape
    return PointLabels(
        labels.reshape(shape), sure.reshape(shape), misfit.reshape(shape), components.reshape(-1, *shape)
    )


def _certainty(distances: np.ndarray) -> np.ndarray:
    """1 - d_1 / d_2 of squared distances (n, S) to the two nearest centres."""
    if len(distances) == 1:
        return np.ones(distances.shape[1], np.float32)
    nearest, second = np.sort(distances, axis=0)[:2]
    ratio = np.divide(nearest, second, out=np.ones_like(second), where=second > 0)
    return 1 - np.sqrt(ratio)


class FramePath:
    """The way of frames of one shape to their labels; see `cpu.frame_path`.

    Parameters
    ----------
    plan : PatternPlan
    upsampling : bool
    """

    def __init__(self, plan: PatternPlan, upsampling: bool) -> None:
        self.plan, self._upsampling = plan, upsampling
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
        counts = np.isfinite(frame) if frame.dtype.kind == "f" else None
        if counts is not None and plan.valid is not None:
            counts |= ~plan.valid
        if counts is not None and not counts.all():
            self._found = _nothing(int(counts.size - np.count_nonzero(counts)), False, frame)
            return
        pixels = cpu.normalise(frame, plan.valid)
        if not pixels.any():
            self._found = _nothing(0, True, None)
            return
        points = label_points(pixels, plan, details)
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
