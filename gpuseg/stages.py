"""Stages of a segmentation that do not know its results: what is learnt, what is timed."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpuseg.arrays import Device, cupy_module, namespace, to_numpy
from gpuseg.checks import AUTO
from gpuseg.clustering import KMeans, certainty, count_members, squared_distances
from gpuseg.decomposition import PCA, project
from gpuseg.descriptors import Descriptors
from gpuseg.evidence import Evidence, find_n_patterns
from gpuseg.grid import Grid
from gpuseg.misfit import misfit, typical_misfit

__all__ = [
    "Stopwatch",
    "check_usable",
    "find_patterns",
    "flat_usable",
    "joined",
    "label_components",
    "learn",
    "mean_misfit",
    "project_points",
    "shown_labels",
    "tally",
]

log = logging.getLogger("gpuseg")


class Stopwatch:
    """Seconds per stage.

    On a GPU by events, which the device passes when it has done what came before: to wait at the end of each
    stage would keep it idle until the next is under way.

    Parameters
    ----------
    device : Device
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._seconds: dict[str, float] = {}
        self._events: list[tuple[str, Any, Any]] = []

    @property
    def seconds(self) -> dict[str, float]:
        """Of each stage so far, in order; waits for the device. Later stages are added to the same dict."""
        with self.device.current:
            for stage, begin, end in self._events:
                end.synchronize()
                self._seconds[stage] += cupy_module().cuda.get_elapsed_time(begin, end) / 1000
        self._events.clear()
        return self._seconds

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the seconds of the block to those of a stage.

        Parameters
        ----------
        stage : str
        """
        self._seconds.setdefault(stage, 0.0)
        if self.device.kind == "cpu":
            started = time.perf_counter()
            yield
            self._seconds[stage] += time.perf_counter() - started
            return
        with self.device.current:
            begin, end = cupy_module().cuda.Event(), cupy_module().cuda.Event()
            begin.record()
        yield
        with self.device.current:
            end.record()
        self._events.append((stage, begin, end))


def learn(
    described: list[Descriptors],
    n_patterns: Any,
    n_components: int | float,
    sort_labels_by_pattern_size: bool,
    seeds: np.random.RandomState,
    clock: Stopwatch,
    reach: float,
) -> tuple[PCA, list[Any], np.ndarray, dict[str, float], Evidence | None]:
    """Learn components and patterns from the descriptors of one or more images, pooled.

    Parameters
    ----------
    described : list of Descriptors or BandedDescriptors
    n_patterns : int or "auto"
    n_components : int or float
    sort_labels_by_pattern_size : bool
    seeds : numpy.random.RandomState
    clock : Stopwatch
    reach : float
        How far in pixels the descriptor of a grid point looks.

    Returns
    -------
    pca : PCA
        With its attributes on the host.
    components : list of (S, K) array
        Of every grid point of each image.
    centers : (n, K) float32 NumPy array
        In the order of the labels.
    typical : dict
        ``typical_certainty`` and ``typical_misfit`` of the usable grid points.
    evidence : Evidence or None
        For the number of patterns, where it was "auto".

    Raises
    ------
    ValueError
        If there are fewer usable grid points than patterns.
    """
    evidence = None
    n_usable = sum(each.n_usable for each in described)
    check_usable(n_usable, n_patterns)
    with clock("decomposition"):
        pca = PCA(n_components)
        if all(isinstance(each, Descriptors) for each in described):
            pca.fit(joined([each.samples() for each in described]))
        else:
            pca.fit_parts(band.samples() for each in described for band in each.bands())
        components = [project_points(each, pca.mean_, pca.components_) for each in described]
    if n_patterns == AUTO:
        with clock("number of patterns"):
            evidence = find_n_patterns(components, described, reach)
            n_patterns = evidence.n_patterns
            log.info("%s", evidence.reason)
    with clock("clustering"):
        complete = n_usable == sum(each.grid.size for each in described)
        pairs = zip(components, described, strict=True)
        known = joined(
            components if complete else [each[flat_usable(descriptors), :] for each, descriptors in pairs]
        )
        centers, typical = find_patterns(known, pca, n_patterns, sort_labels_by_pattern_size, seeds)
    return pca, components, centers, typical, evidence


def check_usable(n_usable: int, n_patterns: Any) -> None:
    """Refuse images with too few grid points to learn from.

    Parameters
    ----------
    n_usable : int
        Grid points on valid pixels.
    n_patterns : int or "auto"

    Raises
    ------
    ValueError
        If they are fewer than the patterns.
    """
    if n_usable == 0:
        raise ValueError("`mask` and finite pixels meet at no grid point; a smaller `stride` may help")
    if n_patterns != AUTO and n_patterns > n_usable:
        raise ValueError(
            f"`n_patterns` is {n_patterns}; at most the number of usable grid points, "
            f"{n_usable}, is needed; a smaller `stride` gives more"
        )


def find_patterns(
    known: Any, pca: PCA, n_patterns: int, sort_labels_by_pattern_size: bool, seeds: np.random.RandomState
) -> tuple[np.ndarray, dict[str, float]]:
    """Cluster the components of grid points into patterns.

    Parameters
    ----------
    known : (S, K) array
        Components of usable grid points.
    pca : PCA
        What they were found by.
    n_patterns : int
    sort_labels_by_pattern_size : bool
    seeds : numpy.random.RandomState

    Returns
    -------
    centers : (n, K) float32 NumPy array
        In the order of the labels.
    typical : dict
        ``typical_certainty`` and ``typical_misfit``.
    """
    kmeans = KMeans(n_patterns, random_state=seeds).fit(known)
    distances = squared_distances(known, kmeans.cluster_centers_)
    xp = namespace(known)
    centers, members, sure, apart = pca.to_host_with(
        kmeans.cluster_centers_,
        count_members(kmeans.labels_, n_patterns),
        xp.mean(certainty(distances)),
        xp.mean(xp.min(distances, axis=0)),
    )
    typical = {"typical_certainty": float(sure), "typical_misfit": typical_misfit(pca, apart)}
    if sort_labels_by_pattern_size:
        centers = centers[np.argsort(members, kind="stable")]
    return centers, typical


def joined(parts: list[Any]) -> Any:
    """The rows of all parts, one after the other; no copy of a single part.

    Parameters
    ----------
    parts : list of (S, K) array

    Returns
    -------
    (sum of S, K) array
    """
    return parts[0] if len(parts) == 1 else namespace(*parts).concat(parts, axis=0)


def flat_usable(descriptors: Descriptors) -> Any:
    """Which grid points patterns are learnt from, in one row.

    Parameters
    ----------
    descriptors : Descriptors

    Returns
    -------
    (h * w,) bool array
    """
    return namespace(descriptors.usable).reshape(descriptors.usable, (-1,))


def project_points(descriptors: Descriptors, mean: Any, axes: Any) -> Any:
    """Components of every grid point.

    Parameters
    ----------
    descriptors : Descriptors
    mean : (N,) array
    axes : (K, N) array

    Returns
    -------
    (h * w, K) array

    Raises
    ------
    ValueError
        If the descriptors have another number of operations than N.
    """
    found: Any = None
    begin = 0
    for band in descriptors.bands():
        values = band.values
        flat = namespace(values).reshape(values, (values.shape[0], -1))
        if flat.shape[0] != axes.shape[1]:
            raise ValueError(
                f"the model knows {axes.shape[1]} operations, the descriptor gave {flat.shape[0]}"
            )
        points = project(flat.T, mean, axes)
        if band.grid == descriptors.grid:
            return points
        if found is None:  # filled in place: joined at the end they would be in memory twice
            found = namespace(values).empty((axes.shape[0], descriptors.grid.size), dtype=points.dtype)
        found[:, begin : begin + points.shape[0]] = points.T
        begin += points.shape[0]
    return found.T


def label_components(components: Any, centers: Any, grid: Grid, complete: bool) -> tuple[Any, Any]:
    """The nearest centre of every grid point.

    Parameters
    ----------
    components : (h * w, K) array
    centers : (n, K) array
    grid : Grid
    complete : bool
        Whether every grid point is usable: then all components are finite, and nobody has to look.

    Returns
    -------
    labels : (h, w) int32 array
        -1 where a component is not finite.
    certainty : (h, w) float32 array
        0 there.
    """
    xp = namespace(components)
    distances = squared_distances(components, centers)
    points = xp.reshape(xp.astype(xp.argmin(distances, axis=0), xp.int32), grid.shape)
    sure = xp.reshape(certainty(distances), grid.shape)
    if not complete:
        known = xp.reshape(xp.all(xp.isfinite(components), axis=1), grid.shape)
        points = xp.where(known, points, -xp.ones_like(points))
        sure = xp.where(known, sure, xp.zeros_like(sure))
    return points, sure


def shown_labels(
    grid: Grid, points: Any, sure: Any, valid: Any, upsampling: bool, complete: bool
) -> tuple[Any, Any]:
    """Labels and certainty of grid points as the user sees them.

    Parameters
    ----------
    grid : Grid
    points : (h, w) int32 array
    sure : (h, w) float32 array
    valid : (H, W) bool array or None
        None if every pixel is.
    upsampling : bool
        Whether pixels get labels or grid points.
    complete : bool
        Whether every grid point has a label.

    Returns
    -------
    labels : (H, W) or (h, w) int32 array
        -1 where not valid.
    certainty : (H, W) or (h, w) float32 array
        0 there.
    """
    xp = namespace(points)
    if upsampling:
        near = points if complete else grid.nearest_known(points)
        labels, shown = grid.upsample(near), grid.upsample(sure)
    else:
        labels, shown = points, sure
        valid = None if valid is None else grid.at_points(valid)
    if valid is not None:
        labels = xp.where(valid, labels, -xp.ones_like(labels))
        shown = xp.where(valid, shown, xp.zeros_like(shown))
    return labels, shown


def mean_misfit(described: Any, components: Any, mean: Any, centers: Any) -> float:
    """Mean squared distance of descriptors from their nearest pattern; see `gpuseg.misfit`.

    Parameters
    ----------
    described : Descriptors or BandedDescriptors
    components : (h * w, K) array
        Of every grid point.
    mean : (N,) array
    centers : (n, K) array

    Returns
    -------
    float
        NaN where no grid point is known.
    """
    xp, grid, found = namespace(components), described.grid, []
    for band in described.bands():
        begin, end = (row * grid.shape[1] for row in grid.place_of(band.grid))
        here = components[begin:end, :][flat_usable(band), :]
        nearest = xp.min(squared_distances(here, centers), axis=0)
        found.append((misfit(band.samples(), mean, here, nearest), here.shape[0]))
    known = [(value, count) for value, count in found if not math.isnan(value)]
    if not known:
        return float("nan")
    return sum(value * count for value, count in known) / sum(count for _, count in known)


def tally(labels: Any, certainty: Any, n_patterns: int) -> np.ndarray:
    """Labelled pixels of each pattern, and the sum of their certainties.

    Parameters
    ----------
    labels, certainty : (H, W) arrays
        Labels below 0 belong to no pattern.
    n_patterns : int

    Returns
    -------
    (2, n) float64 array
    """
    labels, sure = to_numpy(labels), to_numpy(certainty)
    known = labels >= 0
    weights = (None, sure[known].astype(np.float64))
    return np.stack([np.bincount(labels[known], each, minlength=n_patterns) for each in weights]).astype(
        float
    )
