"""Motion: areas, and the position and speed of a boundary, over a series of frames."""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpuseg.arrays import to_numpy
from gpuseg.checks import check_int
from gpuseg.frames import open_frames
from gpuseg.measure.inputs import check_labels, check_positive, check_scale
from gpuseg.measure.lengths import lengths_between, numbered
from gpuseg.measure.table import Table

__all__ = ["Motion", "series"]

log = logging.getLogger(__name__)

LEAST_SHARE = 0.02
"""The direction of a boundary is taken from the first frame in which both sides are at least this large."""

STRAIGHT = 0.8
"""Median straightness below which a position is worth a warning; see `series`."""

FINENESS = 16
"""Positions across a boundary are told apart to 1 / FINENESS of a pixel; areas interpolate between them."""

SAMPLE = 20000
"""The direction of a boundary is found on about so many pixels."""


@dataclass(frozen=True, eq=False)
class Motion:
    """What `series` measured.

    Parameters
    ----------
    frames : Table
        A row for each frame; see `series`.
    patterns : (a, b) of int, or None
        The two patterns whose boundary is followed; None where no frame has a boundary.
    angle : float
        Direction of the boundary in degrees, counter-clockwise from the column axis, in [0, 180).
    speed : float
        Slope of the straight line through the positions, positive where pattern a grows; NaN with fewer than
        two positions.
    speed_error : float
        Its standard error from the scatter of the positions; NaN with fewer than three.
    speed_unit : str
        Such as "px_per_frame" or "nm_per_s".
    start : float
        Position at frame 0 of that line.
    """

    frames: Table
    patterns: tuple[int, int] | None
    angle: float
    speed: float
    speed_error: float
    speed_unit: str
    start: float

    def summary(self) -> Table:
        """The fit as a table of one row.

        Returns
        -------
        Table
        """
        a, b = self.patterns if self.patterns is not None else (-1, -1)
        used = self.frames["used"]
        straight = self.frames["straightness"][used]
        values = {
            "pattern_a": a,
            "pattern_b": b,
            "angle_deg": self.angle,
            f"speed_{self.speed_unit}": self.speed,
            f"speed_error_{self.speed_unit}": self.speed_error,
            f"start_{self.speed_unit.split('_per_')[0]}": self.start,
            "median_straightness": float(np.median(straight)) if used.any() else math.nan,
            "frames_used": int(used.sum()),
            "frames": len(self.frames),
        }
        return Table({name: np.array([value]) for name, value in values.items()})

    def __repr__(self) -> str:
        unit = self.speed_unit.replace("_per_", "/")
        return f"<Motion over {len(self.frames)} frames: {self.speed:.4g} +- {self.speed_error:.2g} {unit}>"


def series(
    segmentation: Any,
    *,
    frame_time: float | None = None,
    time_unit: str = "s",
    pixel_size: float | None = None,
    unit: str | None = None,
    patterns: tuple[int, int] | None = None,
    angle: float | None = None,
    stride: int | None = None,
) -> Motion:
    """Follow areas and a boundary through a series.

    Parameters
    ----------
    segmentation : SeriesSegmentation, (T, H, W) array_like of int, or iterable of frames
        An iterable gives a `FrameSegmentation`, such as those of `gpuseg.iterate_series`, or labels (H, W)
        for each frame; one frame is in memory at a time. Labels: 0, 1, ... = patterns, -1 = masked.
    frame_time : float, optional
        Time from one frame to the next in `time_unit`; times and speeds count in frames if None.
    time_unit : str
    pixel_size, unit : float and str, optional
        As in `regions`.
    patterns : (a, b) of int, optional
        The two patterns whose boundary is followed. If None, the two with the longest boundary in the first
        frame that has one.
    angle : float, optional
        Direction of the boundary in degrees, counter-clockwise from the column axis. If None, it is found in
        the first frame in which both patterns are at least 2 % of their common area, and kept.
    stride : int, optional
        As in `regions`; known for a `SeriesSegmentation` and for `gpuseg.iterate_series`.

    Returns
    -------
    Motion
        With `speed`, `speed_error`, and in `frames` for each frame: ``frame``, the time such as ``time_s``
        (with `frame_time`), ``area_fraction_k`` of each pattern in the labelled pixels, ``mean_certainty``,
        ``boundary_length_px``, ``boundary_position_px``, ``boundary_speed_px_per_frame`` (slope of the
        neighbouring positions; lengths also in the unit, the speed in the unit and time unit instead where
        known), ``straightness``, ``used`` (whether the fit used it) and ``flag``. A dead frame has NaN
        everywhere; a flagged one is measured, but neither is used in the fit.

    Raises
    ------
    TypeError, ValueError
        For frames or a parameter that make no sense.

    Notes
    -----
    The position is that of the straight line along `angle` that cuts off as much area as pattern a has within
    a and b: the distance from the centre of the image, positive towards b. As it comes from areas it resolves
    less than a pixel and does not mind single wrong pixels. ``straightness`` is the share of the smaller of
    the two patterns that lies on its side of that line: above 0.95 for a straight boundary, below 0.5 for an
    island. Where its median is below 0.8, a warning is logged: the position says little then, and areas and
    boundary lengths are what to look at.
    """
    scale = check_scale(pixel_size, unit)
    step = None if frame_time is None else check_positive(frame_time, "frame_time")
    if not isinstance(time_unit, str) or not time_unit.isidentifier():
        raise ValueError(f"`time_unit` is {time_unit!r}; a name such as 's' or 'min' is needed")
    zoom, stride = _steps(segmentation, stride)
    tracker = _Tracker(_check_patterns(patterns), _check_angle(angle), stride)
    for labels, certainty, flag in _walk(segmentation):
        tracker.add(labels, certainty, flag)
    return tracker.result(scale, zoom, step, time_unit)


def _check_patterns(patterns: Any) -> tuple[int, int] | None:
    if patterns is None:
        return None
    if not isinstance(patterns, tuple | list | np.ndarray) or len(patterns) != 2:
        raise ValueError(f"`patterns` is {patterns!r}; two different patterns such as (0, 1) are needed")
    a, b = (check_int(each, "patterns", 0) for each in patterns)
    if a == b:
        raise ValueError(f"`patterns` is {patterns!r}; two different patterns such as (0, 1) are needed")
    return a, b


def _check_angle(angle: Any) -> float | None:
    if angle is None:
        return None
    if isinstance(angle, bool | np.bool_) or not isinstance(angle, numbers.Real):
        raise TypeError(f"`angle` is {angle!r}; degrees, or None to find it, are needed")
    if not math.isfinite(float(angle)):
        raise ValueError(f"`angle` is {angle!r}; degrees, or None to find it, are needed")
    return float(angle) % 180


def _steps(segmentation: Any, stride: int | None) -> tuple[int, int]:
    """Pixels of the image per pixel of the labels, and stride in pixels of the labels."""
    model = getattr(segmentation, "model", None)
    zoom = 1 if model is None or model.upsampling else int(model.stride)
    if stride is not None:
        return zoom, check_int(stride, "stride", 1)
    return zoom, 1 if model is None or not model.upsampling else int(model.stride)


def _walk(source: Any) -> Iterator[tuple[np.ndarray, float, str]]:
    """Labels, mean certainty and flag of each frame."""
    shape = None
    for index, (labels, certainty, flag) in enumerate(_frames(source)):
        checked = to_numpy(check_labels(labels, f"frame {index}"))
        if shape is not None and checked.shape != shape:
            raise ValueError(
                f"frame {index} has shape {checked.shape}; that of the others, {shape}, is needed"
            )
        shape = checked.shape
        yield checked, certainty, flag


def _frames(source: Any) -> Iterator[tuple[Any, float, str]]:
    if hasattr(source, "frames_flagged"):
        yield from _frames_of_series(source)
        return
    if isinstance(source, str | bytes) or not isinstance(source, Iterable):
        raise TypeError(
            f"`segmentation` is {type(source).__name__}; a SeriesSegmentation, labels (T, H, W) or an "
            "iterable of frames is needed"
        )
    if hasattr(source, "shape") and len(source.shape) != 3:
        raise ValueError(f"`segmentation` has shape {tuple(source.shape)}; labels (T, H, W) are needed")
    for frame in source:
        certainty = float(getattr(frame, "mean_certainty", math.nan))
        yield getattr(frame, "labels", frame), certainty, getattr(frame, "flag", "")


def _frames_of_series(result: Any) -> Iterator[tuple[Any, float, str]]:
    """One frame at a time, also from the folder that the series was written to."""
    if result.stack is not None or len(result) < 2:
        labels: Iterable[Any] = result.labels
    else:
        stack = open_frames(result.folder / "labels.tif")
        labels = (np.asarray(frame, np.int32) - 1 for frame in stack)
    for index, (frame, certainty) in enumerate(zip(labels, result.certainty, strict=True)):
        yield frame, float(certainty), result.frames_flagged.get(index, "")


@dataclass
class _Tracker:
    """Keeps some numbers of each frame, and of no frame its pixels."""

    patterns: tuple[int, int] | None
    angle: float | None
    stride: int
    line: _Line | None = None
    counts: list[np.ndarray] = field(default_factory=list)
    rows: list[tuple[float, float, float, float]] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)

    def add(self, labels: np.ndarray, certainty: float, flag: str) -> None:
        counts = np.bincount(labels[labels >= 0])
        numbers, names = numbered(labels)
        lengths = lengths_between(numbers, self.stride)
        if self.patterns is None and lengths.any() and not flag:
            one, other = divmod(int(np.triu(lengths).argmax()), len(lengths))
            self.patterns = int(names[one]), int(names[other])
        length = position = straightness = math.nan
        if self.patterns is not None and counts.size:
            at = [int(np.searchsorted(names, pattern)) for pattern in self.patterns if pattern in names]
            length = float(lengths[at[0], at[1]]) if len(at) == 2 else 0.0
            position, straightness = self._locate(labels, flag)
        self.counts.append(counts)
        self.rows.append((certainty, length, position, straightness))
        self.flags.append(flag)

    def _locate(self, labels: np.ndarray, flag: str) -> tuple[float, float]:
        a, b = self.patterns or (0, 1)
        in_a, in_b = labels == a, labels == b
        share = in_a.sum() / max(1, in_a.sum() + in_b.sum())
        if self.line is None and not flag and LEAST_SHARE <= share <= 1 - LEAST_SHARE:
            self.line = _Line(labels.shape, _normal(in_a, in_b, self.angle))
        if self.line is None or not in_a.any() or not in_b.any():
            return math.nan, math.nan
        return self.line.locate(in_a, in_b)

    def result(self, scale: Any, zoom: int, frame_time: float | None, time_unit: str) -> Motion:
        n_frames = len(self.rows)
        frames = np.arange(n_frames)
        columns: dict[str, np.ndarray] = {"frame": frames}
        times: np.ndarray = frames * (1.0 if frame_time is None else frame_time)
        if frame_time is not None:
            columns[f"time_{time_unit}"] = times
        n = max((len(each) for each in self.counts), default=0)
        counts = np.array([np.pad(each, (0, n - len(each))) for each in self.counts], float).reshape(
            n_frames, n
        )
        total = counts.sum(1)
        for k in range(n):
            columns[f"area_fraction_{k}"] = np.divide(
                counts[:, k], total, out=np.full(n_frames, np.nan), where=total > 0
            )
        certainty, length, position, straightness = np.array(self.rows, float).reshape(n_frames, 4).T
        used = np.isfinite(position) & np.array([not flag for flag in self.flags], bool)
        if used.any() and np.median(straightness[used]) < STRAIGHT:
            log.warning(
                "the boundary is far from a straight line (straightness %.2f, 1 is straight): its position "
                "and speed say little, look at areas and boundary length",
                np.median(straightness[used]),
            )
        per = scale.pixel_size or 1.0
        unit = f"{scale.unit}_per_{'frame' if frame_time is None else time_unit}"
        known = position * zoom * per
        speed, error, start = _slope(times[used], known[used])
        columns["mean_certainty"] = certainty
        columns |= scale.columns("boundary_length", length * zoom)
        columns |= scale.columns("boundary_position", position * zoom)
        columns[f"boundary_speed_{unit}"] = _local_slope(times, known, used)
        columns |= {"straightness": straightness, "used": used, "flag": np.array(self.flags, object)}
        angle = math.nan if self.line is None else self.line.angle % 180
        return Motion(Table(columns), self.patterns, angle, speed, error, unit, start)


class _Line:
    """Straight cuts through an image in one direction; `angle` (degrees) is that of the boundary.

    The normal (cos, sin) in (row, col) points from pattern a to pattern b.
    """

    def __init__(self, shape: tuple[int, ...], angle: float) -> None:
        self.angle = angle
        across = _across(np.indices(shape, np.float64), shape, angle)
        lowest = across.min()
        self.index = np.rint((across - lowest) * FINENESS).astype(np.int32)
        self.places = lowest + np.arange(self.index.max() + 1) / FINENESS

    def locate(self, in_a: np.ndarray, in_b: np.ndarray) -> tuple[float, float]:
        """Position of the boundary, and share of the smaller pattern on its side of such a cut."""
        area = np.bincount(self.index[in_a | in_b], minlength=len(self.places)).astype(np.float64)
        there = area > 0
        area, places = area[there], self.places[there]
        # half of the pixels at a place lie before it
        below = np.cumsum(area) - area / 2
        position = float(np.interp(in_a.sum(), below, places))
        before = self.places[self.index] < position
        if in_a.sum() <= in_b.sum():
            return position, np.count_nonzero(before & in_a) / np.count_nonzero(in_a)
        return position, np.count_nonzero(~before & in_b) / np.count_nonzero(in_b)


def _across(points: Any, shape: tuple[int, ...], angle: float) -> np.ndarray:
    """Distance of points (row, col) from the centre of the image along the normal."""
    towards = math.radians(angle)
    row, col = points[0] - (shape[0] - 1) / 2, points[1] - (shape[1] - 1) / 2
    return row * math.cos(towards) + col * math.sin(towards)


def _normal(in_a: np.ndarray, in_b: np.ndarray, angle: float | None) -> float:
    """Direction from a to b, [0, 360), along which a straight cut of a's area agrees best with the labels."""
    thin = max(1, math.isqrt(in_a.size // SAMPLE))
    labelled = (in_a | in_b)[::thin, ::thin]
    points = np.argwhere(labelled).T * thin
    is_a = in_a[::thin, ::thin][labelled]
    n_a = int(is_a.sum())

    def agreement(candidate: float) -> int:
        across = _across(points, in_a.shape, candidate)
        return int(is_a[np.argpartition(across, max(0, n_a - 1))[:n_a]].sum())

    if angle is not None:
        return max((angle, angle + 180), key=agreement)
    best = 0.0
    for reach, step in ((180, 10), (10, 1), (1, 0.1)):
        tried = best + np.arange(-reach, reach + step / 2, step)
        found = np.array([agreement(each) for each in tried])
        best = float(np.mean(tried[found == found.max()])) if reach < 180 else float(tried[found.argmax()])
    return best % 360


def _slope(times: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """Slope, its standard error, and the value at time 0 of the straight line of least squares."""
    if len(times) < 2:
        return math.nan, math.nan, math.nan
    middle, spread = times.mean(), times - times.mean()
    slope = float(spread @ values / (spread @ spread))
    start = float(values.mean() - slope * middle)
    if len(times) < 3:
        return slope, math.nan, start
    rest = values - start - slope * times
    return slope, math.sqrt(float(rest @ rest) / (len(times) - 2) / float(spread @ spread)), start


def _local_slope(times: np.ndarray, values: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Slope at each used frame from its used neighbours."""
    found = np.full(len(times), np.nan)
    if np.count_nonzero(used) > 1:
        found[used] = np.gradient(values[used], times[used])
    return found
