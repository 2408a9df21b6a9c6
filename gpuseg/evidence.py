"""How many patterns there are: the valley between any two of them, and whether each fills a region."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from gpuseg.arrays import namespace, to_numpy
from gpuseg.clustering import KMeans, assign
from gpuseg.descriptors import Descriptors
from gpuseg.descriptors.kept import Kept
from gpuseg.grid import Grid

__all__ = ["Evidence", "find_n_patterns", "reach_of"]

CANDIDATES = tuple(range(2, 9))
"""Numbers of patterns that are tried beside 1."""

VALLEY, VALLEY_IN_FEW, FEW = 0.6, 0.88, 20
"""Between two patterns the density falls by at least this share of the lower of their peaks.

Measured: 0.7 to 1 between crystals (0.6 at 0.3 counts per pixel), at most 0.3 within one. Where the image has
room for fewer than 20 surroundings side by side, those of noise alone fall into groups: up to 0.86.
"""

ROOM = 2
"""So many surroundings for each pattern have to fit into the image, or the number is not tried."""

REGION = 0.3
"""At least this share of a pattern's grid points has its own pattern around it.

Measured: 0.5 to 1 for grains, bands of 90 pixels and precipitates; for the seam along a boundary 0 with a
local correlation map, up to 0.29 with other descriptors.
"""

SURROUNDED, SURROUNDINGS = 0.85, 0.5
"""Around means: this share of the points within that share of the reach of the descriptor."""

ENOUGH_SAMPLES = 1 << 12
"""Grid points that are clustered for each candidate, evenly spaced."""

FEWEST = 20
"""A cluster of fewer samples has no density to speak of."""

BINS = 512

POINT = 1e-3
"""A group that is so much narrower than the other one is a point, such as the vacuum of a simulated image."""


@dataclass(frozen=True)
class Evidence:
    """Why so many patterns: the curve of the criterion over the numbers that were tried.

    For each number n, k-means finds n clusters. Its `valley` is the smallest depth of the valley between two
    of them: 1 - (least density between them) / (lower one of their peaks), along the line that separates the
    two best (Fisher's discriminant); 0 where there is none, 1 where nothing lies between. Its `region` is
    the smallest share of a cluster's grid points that lie inside a region of it: the seams along boundaries
    are clusters as well, but fill no region. The answer is the largest n for which both are large enough,
    else 1.

    Parameters
    ----------
    n_patterns : int
        The answer.
    candidates : tuple of int
        What was tried, from 2 on.
    valley, region : tuple of float
        Of each candidate, in [0, 1].
    valley_needed, region_needed : float
    n_samples : int
        Grid points that were clustered.
    """

    n_patterns: int
    candidates: tuple[int, ...]
    valley: tuple[float, ...]
    region: tuple[float, ...]
    valley_needed: float = VALLEY
    region_needed: float = REGION
    n_samples: int = 0

    criterion = "valley between patterns"

    @property
    def reason(self) -> str:
        """The answer in a sentence."""
        curve = list(zip(self.candidates, self.valley, self.region, strict=True))
        for n, valley, _ in curve:
            if n == self.n_patterns:
                return (
                    f"{n} patterns: the most that fill regions and have a valley of {self.valley_needed:.0%} "
                    f"between any two (here {valley:.0%})"
                )
        best = max((valley for _, valley, region in curve if region >= self.region_needed), default=0.0)
        return (
            f"1 pattern: no more of them fill regions and have a valley of {self.valley_needed:.0%} "
            f"between any two (at most {best:.0%})"
        )


def find_n_patterns(components: Sequence[Any], described: Sequence[Descriptors], reach: float) -> Evidence:
    """The number of patterns in the descriptors of one or more images.

    Parameters
    ----------
    components : sequence of (S, K) array
        Principal components of every grid point of each image, NumPy or CuPy.
    described : sequence of Descriptors
    reach : float
        How far the pixels lie that a grid point's descriptor depends on.

    Returns
    -------
    Evidence
        The same for the same components: the k-means in it has a seed of its own.
    """
    samples = _sample(components, described)
    room = _room(described, reach)
    candidates = tuple(n for n in CANDIDATES if samples.shape[0] >= n * FEWEST and room >= n * ROOM)
    valley, region = [], []
    for n in candidates:
        kmeans = KMeans(n, max_iter=100, tol=1e-4, random_state=0).fit(samples)
        valley.append(_smallest_valley(samples, kmeans.labels_, n))
        region.append(_smallest_region(components, described, kmeans.cluster_centers_, reach))
    needed = VALLEY_IN_FEW if room < FEW else VALLEY
    curve = zip(candidates, valley, region, strict=True)
    return Evidence(
        n_patterns=max((n for n, v, r in curve if v >= needed and r >= REGION), default=1),
        candidates=candidates,
        valley=tuple(valley),
        region=tuple(region),
        valley_needed=needed,
        n_samples=samples.shape[0],
    )


def reach_of(descriptor: Any) -> float:
    """How far the pixels lie that a descriptor of a grid point depends on.

    Parameters
    ----------
    descriptor : descriptor
        The radii among its parameters are added up, with its largest shift; of fused ones the largest. Where
        only some maps of a descriptor are kept, it is that descriptor's.

    Returns
    -------
    float
        In pixels.
    """
    parts = getattr(descriptor, "descriptors", ())
    if isinstance(descriptor, Kept):
        return reach_of(descriptor.descriptor)
    if parts:
        return max(reach_of(part) for part in parts)
    names = [name for name in vars(descriptor) if name.endswith("radius")]
    total = sum(float(np.mean(getattr(descriptor, name))) for name in names)
    if hasattr(descriptor, "reach") and "window_radius" not in names:
        total += float(np.mean(descriptor.reach()))
    glides = getattr(descriptor, "glides", 0.0)
    return total if isinstance(glides, str) else total + float(np.max(glides))


def _room(described: Sequence[Descriptors], reach: float) -> float:
    """How many surroundings fit into the images side by side."""
    area = sum(np.count_nonzero(to_numpy(each.usable)) * each.grid.stride**2 for each in described)
    return float(area / (2 * SURROUNDINGS * reach + 1) ** 2)


def _sample(components: Sequence[Any], described: Sequence[Descriptors]) -> np.ndarray:
    """Components of enough usable grid points, on the host."""
    known = []
    for points, each in zip(components, described, strict=True):
        usable = np.flatnonzero(to_numpy(each.usable).ravel())
        known.append((points, usable))
    step = max(1, -(-sum(len(usable) for _, usable in known) // ENOUGH_SAMPLES))
    parts = []
    for points, usable in known:
        xp = namespace(points)
        parts.append(to_numpy(xp.take(points, xp.asarray(usable[::step]), axis=0)))
    samples = np.concatenate(parts).astype(np.float32)
    return np.ascontiguousarray(samples[np.isfinite(samples).all(axis=1)])


def _smallest_valley(samples: np.ndarray, labels: np.ndarray, n: int) -> float:
    groups = [samples[labels == k].astype(np.float64) for k in range(n)]
    if min(len(group) for group in groups) < FEWEST:
        return 0.0
    return min(_valley(one, other) for one, other in combinations(groups, 2))


def _valley(one: np.ndarray, other: np.ndarray) -> float:
    """Depth of the valley in the density of two groups along the line that separates them best."""
    within = np.atleast_2d(np.cov(one.T)) + np.atleast_2d(np.cov(other.T))
    scale = np.trace(within)
    if scale <= 0:  # two points: nothing lies between them, unless they are one
        return float(np.any(one[0] != other[0]))
    within += 1e-6 * scale * np.eye(len(within))
    axis = np.linalg.solve(within, other.mean(axis=0) - one.mean(axis=0))
    left, right = one @ axis, other @ axis
    begin, end = np.median(left), np.median(right)
    if not begin < end:
        return 0.0
    narrow, wide = sorted((float(left.std()), float(right.std())))
    if wide == 0:  # as above
        return 1.0
    fewest = min(len(left), len(right))
    # a point has no width by which to smooth the other one
    width = max(0.3, 1.06 * fewest**-0.2) * (narrow if narrow > POINT * wide else wide)
    density, place = _density(np.concatenate([left, right]), width)
    between = (place >= begin) & (place <= end)
    if np.count_nonzero(between) < 3:
        return 0.0
    low = place[between][np.argmin(density[between])]
    peak = min(density[place <= low].max(), density[place >= low].max())
    return float(1 - density[between].min() / peak)


def _density(values: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Histogram of values smoothed by a Gaussian, and the places of its bins."""
    from scipy import ndimage

    counts, edges = np.histogram(values, bins=BINS)
    sigma = width / (edges[1] - edges[0])
    return (
        ndimage.gaussian_filter1d(counts.astype(np.float64), sigma, mode="constant"),
        (edges[1:] + edges[:-1]) / 2,
    )


def _smallest_region(
    components: Sequence[Any], described: Sequence[Descriptors], centers: np.ndarray, reach: float
) -> float:
    """Smallest share of a cluster's grid points that have their own cluster around them."""
    inside, total = np.zeros(len(centers)), np.zeros(len(centers))
    for points, each in zip(components, described, strict=True):
        xp = namespace(points)
        labels = to_numpy(assign(points, xp.asarray(centers))).reshape(each.grid.shape)
        labels = np.where(to_numpy(each.usable), labels, -1)
        for k, surrounded in enumerate(_surrounded(labels, each.grid, len(centers), reach)):
            inside[k] += np.count_nonzero(surrounded)
            total[k] += np.count_nonzero(labels == k)
    return float(np.min(inside / np.maximum(total, 1)))


def _surrounded(labels: np.ndarray, grid: Grid, n: int, reach: float) -> Iterator[np.ndarray]:
    """Of each cluster the grid points around which it prevails."""
    from scipy import ndimage

    size = 2 * round(SURROUNDINGS * reach / grid.stride) + 1
    known = ndimage.uniform_filter((labels >= 0).astype(np.float32), size, mode="nearest")
    for k in range(n):
        own = labels == k
        share = ndimage.uniform_filter(own.astype(np.float32), size, mode="nearest")
        yield own & (share > SURROUNDED * known)
