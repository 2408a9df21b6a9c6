"""Clustering of grid points into patterns: k-means, and how sure its answer is."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpuseg.arrays import cuml_serves, home_of, namespace, to_numpy
from gpuseg.engines import cuda, engine_for

__all__ = ["KMeans", "assign", "certainty", "check_random_state", "squared_distances"]


class KMeans:
    """k-means with k-means++ seeding and restarts.

    Minimises ``inertia = sum_i min_k |x_i - c_k|^2``. One implementation serves NumPy and CuPy, and draws its
    seeds on the host, so that both devices walk the same way to the same centres; on a GPU that has cuML,
    cuML may do it (`gpuseg.constants.CUML_SERVES`).

    Parameters
    ----------
    n_clusters : int
    n_init : int
        Number of seedings tried; the one of least inertia is kept.
    max_iter : int
        Largest number of iterations of each.
    tol : float
        A run ends when the centres move by less than this fraction of the samples' mean variance.
    random_state : int, numpy.random.RandomState or None

    Attributes
    ----------
    cluster_centers_ : (n, K) float32 array
    labels_ : (S,) int32 array
    inertia_ : float
    n_iter_ : int
    """

    def __init__(
        self,
        n_clusters: int,
        *,
        n_init: int = 3,
        max_iter: int = 300,
        tol: float = 1e-6,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, samples: Any) -> KMeans:
        """Find the centres of samples.

        Parameters
        ----------
        samples : (S, K) float32 array, NumPy or CuPy
            At least `n_clusters` of them.

        Returns
        -------
        KMeans
            Itself; the attributes live where `samples` does.
        """
        if self.n_clusters > samples.shape[0]:
            raise ValueError(
                f"`n_clusters` is {self.n_clusters}; "
                f"at most the number of samples, {samples.shape[0]}, is needed"
            )
        fit = _fit_cuml if cuml_serves("KMeans", samples) else _fit_lloyd
        centers, self.inertia_, self.n_iter_ = fit(self, samples)
        xp = namespace(samples)
        self.cluster_centers_ = xp.astype(centers, xp.float32)
        self.labels_ = assign(samples, self.cluster_centers_)
        return self

    def predict(self, samples: Any) -> Any:
        """The nearest centre of each sample.

        Parameters
        ----------
        samples : (S, K) array

        Returns
        -------
        (S,) int32 array
        """
        return assign(samples, self.cluster_centers_)


def squared_distances(samples: Any, centers: Any) -> Any:
    """Squared Euclidean distance of every sample to every centre.

    Parameters
    ----------
    samples : (S, K) array
    centers : (n, K) array

    Returns
    -------
    (n, S) array, at least 0
    """
    xp = namespace(samples, centers)
    if samples.shape[0] > SAMPLES_AT_A_TIME:
        return xp.concat([squared_distances(part, centers) for part in _parts(samples)], axis=1)
    rows = []
    for k in range(centers.shape[0]):  # few centres; differences first, so nothing cancels
        difference = samples.T - centers[k, :][:, None]
        rows.append(xp.sum(difference * difference, axis=0))
    return xp.stack(rows)


SAMPLES_AT_A_TIME = 1 << 20
"""Of more samples, only so many at a time have their differences from the centres in memory."""


def _parts(samples: Any) -> list[Any]:
    n = samples.shape[0]
    return [samples[begin : min(begin + SAMPLES_AT_A_TIME, n), :] for begin in range(0, n, SAMPLES_AT_A_TIME)]


def assign(samples: Any, centers: Any) -> Any:
    """The nearest centre of each sample; of equally near ones the first.

    Parameters
    ----------
    samples : (S, K) array
    centers : (n, K) array

    Returns
    -------
    (S,) int32 array
    """
    xp = namespace(samples, centers)
    parts = [
        xp.astype(xp.argmin(squared_distances(part, centers), axis=0), xp.int32) for part in _parts(samples)
    ]
    return parts[0] if len(parts) == 1 else xp.concat(parts)


def certainty(distances: Any) -> Any:
    """How much nearer the nearest centre is than the second nearest.

    Parameters
    ----------
    distances : (n, S) array
        Squared distances to the centres.

    Returns
    -------
    (S,) float32 array
        ``1 - d_1 / d_2`` in [0, 1] with distances d_1 <= d_2 to the nearest and the second nearest centre: 1
        on a centre, 0 half-way between two. 1 everywhere if there is only one centre; 0 where two centres
        coincide.
    """
    xp = namespace(distances)
    if distances.shape[1] > SAMPLES_AT_A_TIME:
        return xp.concat([certainty(part.T) for part in _parts(distances.T)])
    if distances.shape[0] == 1:
        return xp.ones(distances.shape[1], dtype=xp.float32)
    nearest, second = _two_smallest(distances)
    ratio = nearest / xp.where(second > 0, second, xp.ones_like(second))
    ratio = xp.where(second > 0, ratio, xp.ones_like(ratio))
    return xp.astype(1 - xp.sqrt(ratio), xp.float32)


def _two_smallest(distances: Any) -> tuple[Any, Any]:
    """Of each column; sorting all of them would wait for a GPU."""
    xp = namespace(distances)
    names = xp.arange(distances.shape[0], dtype=xp.int32)[:, None]
    others = xp.where(names == xp.argmin(distances, axis=0)[None, :], xp.inf, distances)
    return xp.min(distances, axis=0), xp.min(others, axis=0)


def _fit_cuml(model: KMeans, samples: Any) -> tuple[Any, float, int]:
    from cuml import KMeans as CumlKMeans

    kmeans = CumlKMeans(
        n_clusters=model.n_clusters,
        n_init=model.n_init,
        max_iter=model.max_iter,
        tol=model.tol,
        random_state=int(check_random_state(model.random_state).randint(2**31 - 1)),
        output_type="cupy",
    ).fit(samples)
    return kmeans.cluster_centers_, float(kmeans.inertia_), int(kmeans.n_iter_)


def check_random_state(random_state: Any) -> np.random.RandomState:
    """What scikit-learn's `random_state` means: a seed, a generator to draw on, or None for a new one.

    Parameters
    ----------
    random_state : int, numpy.random.RandomState or None

    Returns
    -------
    numpy.random.RandomState

    Raises
    ------
    TypeError, ValueError
    """
    if isinstance(random_state, np.random.RandomState):
        return random_state
    if random_state is None:
        return np.random.RandomState()
    wanted = "a whole number from 0 to 2**32 - 1, a numpy RandomState or None"
    if not isinstance(random_state, int | np.integer):
        raise TypeError(f"`random_state` is {random_state!r}; {wanted} is needed")
    if not 0 <= random_state < 2**32:
        raise ValueError(f"`random_state` is {random_state}; {wanted} is needed")
    return np.random.RandomState(int(random_state))


def _fit_lloyd(model: KMeans, samples: Any) -> tuple[Any, float, int]:
    """From several starts; nothing is looked at on the way but whether it is done, which a GPU waits for."""
    xp, home, random = namespace(samples), home_of(samples), check_random_state(model.random_state)
    n_starts = model.n_init if model.n_clusters > 1 else 1
    starts = [seed_centers(samples, model.n_clusters, random) for _ in range(n_starts)]
    spread = xp.mean(xp.var(samples, axis=0))
    threshold = xp.reshape(model.tol * xp.astype(spread, xp.float64), (1,))
    if home.kind == "cuda" and model.n_clusters > cuda.MOST_CLUSTERS:
        runs = [lloyd(samples, centers, model.max_iter, float(threshold[0])) for centers in starts]
        return min(runs, key=lambda run: run[1])
    starts = xp.astype(xp.stack(starts), xp.float32)
    return engine_for(home).lloyd(
        xp.astype(samples, xp.float32, copy=False), starts, model.max_iter, threshold
    )


def seed_centers(samples: Any, n_clusters: int, random: np.random.RandomState) -> Any:
    """k-means++: each next centre is a sample drawn with probability proportional to its squared distance.

    Parameters
    ----------
    samples : (S, K) array of any namespace
    n_clusters : int
    random : numpy.random.RandomState
        Draws on the host, so that every device seeds alike.

    Returns
    -------
    (n, K) array
    """
    xp = namespace(samples)
    n_samples = samples.shape[0]
    chosen = xp.asarray([int(random.randint(n_samples))])
    centers = xp.take(samples, chosen, axis=0)
    for _ in range(n_clusters - 1):
        nearest = xp.min(squared_distances(samples, centers), axis=0)
        heap = xp.cumulative_sum(xp.astype(nearest, xp.float64))
        drawn = heap[-1:] * float(random.random_sample())
        index = xp.searchsorted(heap, drawn, side="right")
        index = xp.where(index < n_samples, index, n_samples - 1 + 0 * index)  # clip waits for the GPU
        centers = xp.concat([centers, xp.take(samples, index, axis=0)])
    return centers


def lloyd(samples: Any, centers: Any, max_iter: int, threshold: float) -> tuple[Any, float, int]:
    """Lloyd's iteration: nearest centre, then the mean of its samples; an empty cluster keeps its centre.

    Parameters
    ----------
    samples : (S, K) array of any namespace
    centers : (n, K) array
    max_iter : int
    threshold : float
        Sum of squared moves of the centres below which the iteration ends.

    Returns
    -------
    centers : (n, K) array
    inertia : float
    n_iter : int
    """
    xp = namespace(samples)
    at_a_time = engine_for(home_of(samples)).ITERATIONS_AT_A_TIME
    names = xp.arange(centers.shape[0], dtype=xp.int32)[:, None]
    n_iter, parts = 0, _parts(samples)

    def sums_of(part: Any) -> tuple[Any, Any]:
        """Number and sum of the samples of each cluster."""
        # |x - c|^2 less |x|^2, halved and negated: one matrix product
        nearness = centers @ part.T - 0.5 * xp.sum(centers * centers, axis=1)[:, None]
        labels = xp.astype(xp.argmax(nearness, axis=0), xp.int32)
        member = xp.astype(labels[None, :] == names, part.dtype)
        return xp.sum(member, axis=1)[:, None], member @ part

    while n_iter < max_iter:
        for _ in range(min(at_a_time, max_iter - n_iter)):
            before = centers
            count, total = sums_of(parts[0])
            for part in parts[1:]:
                more = sums_of(part)
                count, total = count + more[0], total + more[1]
            mean = total / xp.where(count > 0, count, xp.ones_like(count))
            centers = xp.where(count > 0, mean, before)
            n_iter += 1
        if float(xp.sum((centers - before) ** 2)) <= threshold:
            break
    inertia = sum(float(xp.sum(xp.min(squared_distances(part, centers), axis=0))) for part in parts)
    return centers, inertia, n_iter


def count_members(labels: Any, n_clusters: int) -> Any:
    """Number of samples of each cluster, where the labels live.

    Parameters
    ----------
    labels : (S,) int array
    n_clusters : int

    Returns
    -------
    (n,) int64 array
    """
    if home_of(labels).kind == "cpu":
        return sizes(labels, n_clusters)
    xp = namespace(labels)  # CuPy's bincount would wait for the largest label
    return xp.stack([xp.count_nonzero(labels == k) for k in range(n_clusters)])


def sizes(labels: Any, n_clusters: int) -> np.ndarray:
    """Number of samples of each cluster.

    Parameters
    ----------
    labels : (S,) int array
    n_clusters : int

    Returns
    -------
    (n,) int64 NumPy array
    """
    return np.bincount(to_numpy(labels), minlength=n_clusters)
