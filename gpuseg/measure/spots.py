"""Defects: connected spots inside a region that are little like it."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuseg.arrays import to_numpy
from gpuseg.checks import check_choice, check_int
from gpuseg.measure.inputs import check_positive, check_scale, labels_of, stride_of, where_measured
from gpuseg.measure.table import Table

__all__ = ["defects"]

OUTLIER = 5.0
"""Robust standard deviations below the median from which on a point is unusual.

Measured on four bicrystals of 512 x 512 pixels with eight vacancies each, one of them 55 pixels from the
boundary: by likeness 28, 28, 28, 25 and 0 of 32 are found at 20, 10, 5, 3 and 1 counts per pixel, by
certainty 28, 29, 26, 6 and 0; no false one, and none in the same images without vacancies.
"""

WAYS = ("auto", "certainty", "likeness")

DEFAULT_REACH = 20.0
"""Half size of the patches in pixels where it is not known: that of the default descriptor."""

FAR = 10.0
"""Likeness is 1 - d / (FAR x median d), d the distance of a grid point to its pattern's median descriptor."""


@dataclass(frozen=True)
class _Map:
    """Labels and certainty of the same pixels, what is low at defects, and how they were found."""

    labels: np.ndarray
    certainty: np.ndarray
    sure: np.ndarray
    reach: float
    stride: int


def defects(
    segmentation: Any,
    threshold: float | None = None,
    min_size: int | None = None,
    *,
    by: str = "auto",
    distance: float | None = None,
    pixel_size: float | None = None,
    unit: str | None = None,
    stride: int | None = None,
) -> Table:
    """Find spots of low certainty inside the regions: vacancies, small precipitates, dislocations.

    Parameters
    ----------
    segmentation : Segmentation or FrameSegmentation
        Anything with `labels` and `certainty` will do.
    threshold : float, optional
        Certainty (or likeness) in (0, 1) below which a pixel is unusual. If None, that of each pattern is
        found: the median well inside, less five robust standard deviations (1.4826 times the median
        deviation).
    min_size : int, optional
        Smaller spots (pixels) are left out; the area of four grid points if None.
    by : {"auto", "certainty", "likeness"}
        What is low at a defect. Certainty compares a grid point with the patterns; likeness compares it with
        its own pattern only, by all operations, and needs a `Segmentation`. "auto" is certainty where a
        threshold is given or only certainty is known, else likeness.
    distance : float, optional
        How far from boundaries between patterns, masked pixels and the border of the image "inside" begins,
        in pixels: the mean distance of a defect's pixels is larger. The patch radius of the descriptor if
        None (20 where it is not known): nearer, a patch sees both crystals, or not all of one.
    pixel_size, unit : float and str, optional
        As in `regions`.
    stride : int, optional
        As in `regions`.

    Returns
    -------
    Table
        A row for each defect: ``defect``, ``pattern`` of the region around it, ``mean_certainty``,
        ``min_certainty``, with likeness also ``mean_likeness``, and in pixels and the unit ``area``,
        ``centroid_row``, ``centroid_col``, ``distance_to_boundary`` (of its nearest pixel; inf where there is
        no boundary). The area is that of the spot, about that of a patch for a single vacancy.

    Raises
    ------
    TypeError, ValueError
        For a segmentation or parameter that makes no sense; for one pattern without its components.
    ImportError
        Without scikit-image (``pip install 'gpuseg[measure]'``).

    Notes
    -----
    Certainty is low all along a boundary. A spot that is connected with a boundary is therefore none, however
    far it reaches inside, and a defect that close to a boundary is not found. Regions smaller than a patch,
    ``(2 distance + 1)**2`` pixels, count as part of what surrounds them and as unusual: a strong defect
    often gets the label of another pattern.

    Likeness is 1 - d / (10 median d) in [0, 1], with the distance d of a grid point's descriptor to the
    median descriptor of its pattern. It also sees what moves a descriptor, but towards no other pattern; with
    a single pattern every label is certain, and likeness is used whatever the threshold.
    """
    scale = check_scale(pixel_size, unit)
    given = None if threshold is None else _check_threshold(threshold)
    found = _map_of(segmentation, stride, distance, check_choice(by, "by", WAYS), given)
    least = 4 * found.stride**2 if min_size is None else check_int(min_size, "min_size", 1)
    host, small = _without_islands(found.labels, (2 * found.reach + 1) ** 2)
    to_boundary = _distance_to_boundary(host)
    unusual = (host >= 0) & (small | (found.sure < _thresholds(found, host, to_boundary, given)))
    return _spots(found, host, unusual, to_boundary, least, scale)


def _check_threshold(threshold: Any) -> float:
    if isinstance(threshold, bool | np.bool_) or not isinstance(threshold, numbers.Real):
        raise TypeError(f"`threshold` is {threshold!r}; a certainty between 0 and 1, or None, is needed")
    if not 0 < float(threshold) < 1:
        raise ValueError(f"`threshold` is {threshold!r}; a certainty between 0 and 1, or None, is needed")
    return float(threshold)


def _map_of(
    segmentation: Any, stride: int | None, distance: float | None, by: str, threshold: float | None
) -> _Map:
    if not hasattr(segmentation, "labels") or not hasattr(segmentation, "certainty"):
        raise TypeError(
            f"`segmentation` is {type(segmentation).__name__}; a Segmentation, or another object with "
            "`labels` and `certainty`, is needed"
        )
    labels = to_numpy(labels_of(segmentation))
    reach = _reach(segmentation) if distance is None else check_positive(distance, "distance")
    certainty = to_numpy(_on_pixels(segmentation, segmentation.certainty)).astype(np.float64)
    if certainty.shape != labels.shape:
        raise ValueError(
            f"`certainty` has shape {certainty.shape}; that of the labels, {labels.shape}, is needed"
        )
    sure = certainty
    if _uses_likeness(segmentation, by, threshold):
        sure = to_numpy(_on_pixels(segmentation, _likeness(segmentation)))
    return _Map(labels, certainty, sure, reach, stride_of(segmentation, stride))


def _on_pixels(segmentation: Any, values: Any) -> Any:
    grid: Any = getattr(segmentation, "grid", None)
    return grid.upsample(values) if grid is not None and tuple(values.shape) == grid.shape else values


def _uses_likeness(segmentation: Any, by: str, threshold: float | None) -> bool:
    known = hasattr(segmentation, "descriptors")
    n_patterns = getattr(segmentation, "n_patterns", None) or _patterns_by_certainty(segmentation)
    if known:
        return by == "likeness" or (by == "auto" and (threshold is None or n_patterns == 1))
    if by == "likeness":
        raise ValueError(
            f"`by` is 'likeness', but `segmentation` is {type(segmentation).__name__} without descriptors; "
            "give a Segmentation, or use by='certainty'"
        )
    if n_patterns == 1:
        raise ValueError(
            "`segmentation` has one pattern, of which every label is certain; to find its defects give the "
            "Segmentation itself, with its descriptors"
        )
    return False


def _likeness(segmentation: Any) -> np.ndarray:
    """(h, w) how near each grid point is to what is typical of its pattern; 1 where nothing is known."""
    descriptors = segmentation.descriptors
    values = to_numpy(descriptors.values).reshape(len(descriptors.operations), -1)
    labels = to_numpy(segmentation.point_labels).ravel()
    usable = to_numpy(descriptors.usable).ravel()
    likeness = np.ones(labels.size)
    for k in range(segmentation.n_patterns):
        member = usable & (labels == k)
        samples = values[:, member]
        if not samples.size:
            continue
        distance = np.linalg.norm(samples - np.median(samples, axis=1, keepdims=True), axis=0)
        typical = float(np.median(distance))
        if typical > 0:  # else most of the pattern is the same to the last digit
            likeness[member] = np.clip(1 - distance / (FAR * typical), 0, 1)
    return likeness.reshape(descriptors.grid.shape)


def _patterns_by_certainty(segmentation: Any) -> int:
    """1 if every label is certain, as with a single pattern; 2 if not."""
    certainty, labels = to_numpy(segmentation.certainty), to_numpy(segmentation.labels)
    known = certainty[labels >= 0] if certainty.shape == labels.shape else certainty
    return 1 if known.size and bool((known == 1).all()) else 2


def _reach(segmentation: Any) -> float:
    """How far the descriptor looks: the largest half size of its patches or windows, pooling included."""
    descriptor = getattr(getattr(segmentation, "model", None), "descriptor", None)
    descriptor = getattr(descriptor, "descriptor", descriptor)  # of which only some maps are kept
    parts = getattr(descriptor, "descriptors", (descriptor,))
    names = ("patch_radius", "window_radius", "radius")
    # of a local correlation map the patch, not the shifts: of them some always stay on one side
    radii = [next((getattr(each, name) for name in names if hasattr(each, name)), None) for each in parts]
    pooled = [getattr(each, "pooling_radius", 0) for each in parts]
    known = [
        float(np.max(radius) + np.max(pooling))
        for radius, pooling in zip(radii, pooled, strict=True)
        if isinstance(radius, int | tuple | list | np.ndarray)
    ]
    return max(known, default=DEFAULT_REACH)


def _without_islands(labels: np.ndarray, smallest: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels with each region smaller than a patch given to what surrounds it, and where those were."""
    from scipy import ndimage

    labels, module = where_measured(labels)
    names = module.label(labels + 1, background=0, connectivity=1)
    sizes = np.bincount(names.ravel())
    small = (sizes[names] < smallest) & (labels >= 0)
    large = (labels >= 0) & ~small
    if not small.any() or not large.any():
        return labels, np.zeros(labels.shape, bool)
    nearest = ndimage.distance_transform_edt(~large, return_distances=False, return_indices=True)
    return np.where(small, labels[tuple(nearest)], labels), small


def _distance_to_boundary(labels: np.ndarray) -> np.ndarray:
    """Distance of every pixel to the nearest one that has another pattern beside it; inf without one."""
    from scipy import ndimage

    meet = np.zeros(labels.shape, bool)
    for here, there in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        differ = (labels[here] != labels[there]) & (labels[here] >= 0) & (labels[there] >= 0)
        meet[here] |= differ
        meet[there] |= differ
    if not meet.any():
        return np.full(labels.shape, np.inf)
    return ndimage.distance_transform_edt(~meet)


def _thresholds(
    found: _Map, host: np.ndarray, to_boundary: np.ndarray, given: float | None
) -> np.ndarray | float:
    """The certainty or likeness below which each pixel is unusual."""
    if given is not None:
        return given
    limits = np.zeros(max(int(host.max()) + 1, 1))
    for k in range(len(limits)):
        inside = found.sure[(host == k) & (to_boundary > 2 * found.reach)]
        if inside.size == 0:  # a pattern without an inside: nothing in it can be called unusual
            continue
        middle = np.median(inside)
        limits[k] = middle - OUTLIER * 1.4826 * np.median(np.abs(inside - middle))
    return limits[np.maximum(host, 0)]


def _spots(
    found: _Map, host: np.ndarray, unusual: np.ndarray, to_boundary: np.ndarray, least: int, scale: Any
) -> Table:
    from scipy import ndimage

    names, n = ndimage.label(unusual, np.ones((3, 3)))
    index = np.arange(1, n + 1)
    area = np.bincount(names.ravel(), minlength=n + 1)[1:]

    def of_each(function: Any, values: np.ndarray) -> np.ndarray:
        return np.asarray(function(values, names, index), np.float64).reshape(n)

    mean, nearest = of_each(ndimage.mean, found.certainty), of_each(ndimage.minimum, found.certainty)
    closest = of_each(ndimage.minimum, to_boundary)
    to_edge = ndimage.distance_transform_edt(np.pad(host >= 0, 1))[1:-1, 1:-1]
    within = of_each(ndimage.mean, np.minimum(to_boundary, to_edge))
    keep = (area >= least) & (closest > found.stride) & (within > found.reach)
    rows, cols = np.array(ndimage.center_of_mass(unusual, names, index), float).reshape(n, 2).T
    pattern = of_each(ndimage.median, host).astype(np.int64)
    columns = {
        "defect": np.arange(1, np.count_nonzero(keep) + 1),
        "pattern": pattern[keep],
        "mean_certainty": mean[keep],
        "min_certainty": nearest[keep],
    }
    if found.sure is not found.certainty:
        columns["mean_likeness"] = of_each(ndimage.mean, found.sure)[keep]
    columns |= scale.columns("area", area[keep], 2)
    columns |= scale.columns("centroid_row", rows[keep])
    columns |= scale.columns("centroid_col", cols[keep])
    columns |= scale.columns("distance_to_boundary", closest[keep])
    return Table(columns)
