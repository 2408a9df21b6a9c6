"""Stages of a segmentation that do not know its results: what is learnt, what is timed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpuseg.arrays import Device, namespace, to_numpy
from gpuseg.checks import AUTO
from gpuseg.clustering import KMeans, certainty, sizes, squared_distances
from gpuseg.decomposition import PCA, project
from gpuseg.descriptors import Descriptors
from gpuseg.evidence import Evidence, find_n_patterns
from gpuseg.misfit import typical_misfit

__all__ = [
    "Stopwatch",
    "check_usable",
    "find_patterns",
    "flat_usable",
    "joined",
    "learn",
    "project_points",
]

log = logging.getLogger("gpuseg")


class Stopwatch:
    """Seconds per stage; waits for the device at the end of each, or they would mean nothing."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the seconds of the block to those of a stage.

        Parameters
        ----------
        stage : str
        """
        begin = time.perf_counter()
        yield
        self.device.synchronize()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin


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
    n_usable = sum(int(namespace(each.usable).count_nonzero(each.usable)) for each in described)
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
    centers = to_numpy(kmeans.cluster_centers_)
    distances = squared_distances(known, kmeans.cluster_centers_)
    xp = namespace(known)
    typical = {
        "typical_certainty": float(xp.mean(certainty(distances))),
        "typical_misfit": typical_misfit(pca, xp.min(distances, axis=0)),
    }
    if sort_labels_by_pattern_size:
        centers = centers[np.argsort(sizes(kmeans.labels_, n_patterns), kind="stable")]
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
