"""Decomposition of descriptors into a few components: principal component analysis."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from gpuseg.arrays import Device, cuml_serves, home_of, move, namespace, to_numpy, to_numpy_together
from gpuseg.engines import engine_for

__all__ = ["PCA", "Moments", "check_n_components", "moments", "together"]


def check_n_components(n_components: Any, n_features: int, n_samples: int) -> int | float:
    """How many components are wanted.

    Parameters
    ----------
    n_components : int or float
        A number from 1 on, or the fraction of the variance to explain, in (0, 1).
    n_features, n_samples : int
        More components than either of them cannot be; a larger int is reduced to that.

    Returns
    -------
    int or float

    Raises
    ------
    TypeError, ValueError
    """
    wanted = "a whole number of at least 1 or a fraction of the variance in (0, 1)"
    if isinstance(n_components, bool | np.bool_) or not isinstance(n_components, int | float | np.number):
        raise TypeError(f"`n_components` is {n_components!r}; {wanted} is needed")
    if 0 < n_components < 1:
        return float(n_components)
    if not n_components >= 1 or not float(n_components).is_integer():
        raise ValueError(f"`n_components` is {n_components!r}; {wanted} is needed")
    return min(int(n_components), n_features, n_samples)


class PCA:
    """Principal component analysis, the same on every device.

    From the covariance matrix; by cuML on a GPU that has it, by scikit-learn where there are many features.

    Parameters
    ----------
    n_components : int or float
        Number of components, or the fraction of the variance they explain together, in (0, 1); the paper
        recommends 0.8 to 0.9.

    Attributes
    ----------
    components_ : (K, N) float32 array
        Orthonormal; the entry of largest modulus of each is positive.
    mean_ : (N,) float32 array
    explained_variance_, explained_variance_ratio_ : (K,) float32 arrays
    n_components_ : int
    """

    def __init__(self, n_components: int | float = 5) -> None:
        self.n_components = n_components

    def fit(self, samples: Any) -> PCA:
        """Find the components of samples.

        Parameters
        ----------
        samples : (S, N) float32 array, NumPy or CuPy

        Returns
        -------
        PCA
            Itself; the attributes live where `samples` does.
        """
        n_samples, n_features = samples.shape
        wanted = check_n_components(self.n_components, n_features, n_samples)
        return self._keep(home_of(samples), *_solver(samples)(samples, wanted))

    def fit_parts(self, parts: Iterable[Any]) -> PCA:
        """Find the components of samples that come in parts, of which one at a time is in memory.

        By the covariance matrix of all of them: the components are those of `fit`, but for rounding.

        Parameters
        ----------
        parts : iterable of (S, N) float32 array, NumPy or CuPy
            Looked at once; together at least one sample.

        Returns
        -------
        PCA
            Itself.
        """
        return self.fit_moments(
            functools.reduce(together, (moments(part) for part in parts if part.shape[0]))
        )

    def fit_moments(self, known: Moments) -> PCA:
        """Find the components of samples of which the moments are known.

        Parameters
        ----------
        known : Moments
            From `moments` and `together`.

        Returns
        -------
        PCA
            Itself.
        """
        wanted = check_n_components(self.n_components, known[1].shape[0], known[0])
        return self._keep(home_of(known[1]), *_principal(*known, wanted))

    def to_host_with(self, *others: Any) -> list[np.ndarray]:
        """Bring the attributes to the host, and something else by the same transfer.

        Parameters
        ----------
        *others : array
            From the same device.

        Returns
        -------
        list of NumPy arrays
            The others.
        """
        here = to_numpy_together(*(getattr(self, name) for name in _LEARNT), *others)
        for name, array in zip(_LEARNT, here, strict=False):
            setattr(self, name, array)
        return here[len(_LEARNT) :]

    def _keep(self, home: Device, mean: Any, components: Any, variance: Any, ratio: Any) -> PCA:
        xp = namespace(components)
        largest = xp.argmax(xp.abs(components), axis=1)
        signs = xp.sign(components[xp.arange(components.shape[0]), largest])
        signs = xp.where(signs == 0, xp.ones_like(signs), signs)
        self.mean_ = xp.astype(mean, xp.float32)
        self.components_ = xp.astype(components * signs[:, None], xp.float32)
        self.explained_variance_ = xp.astype(variance, xp.float32)
        self.explained_variance_ratio_ = xp.astype(ratio, xp.float32)
        self.n_components_ = int(components.shape[0])
        for name in _LEARNT:
            setattr(self, name, move(getattr(self, name), home))
        return self

    def transform(self, samples: Any) -> Any:
        """Components of samples.

        Parameters
        ----------
        samples : (S, N) array of the namespace fitted with

        Returns
        -------
        (S, K) float32 array
        """
        return project(samples, self.mean_, self.components_)


_LEARNT = ("mean_", "components_", "explained_variance_", "explained_variance_ratio_")


def project(samples: Any, mean: Any, components: Any) -> Any:
    """Coordinates of samples on components.

    Parameters
    ----------
    samples : (S, N) array
    mean : (N,) array
    components : (K, N) array

    Returns
    -------
    (S, K) array
        Each component's coordinates lie side by side in memory, as the clustering likes them.
    """
    offset = components @ mean  # so that no centred copy of the samples is made
    parts = _in_parts(samples, lambda part: components @ part.T - offset[:, None])
    return (parts[0] if len(parts) == 1 else namespace(samples).concat(parts, axis=1)).T


def _in_parts(samples: Any, function: Callable[[Any], Any]) -> list[Any]:
    """The results of a function of some rows of the samples at a time; on the CPU by all cores."""
    engine, n_samples = engine_for(home_of(samples)), samples.shape[0]
    begins = range(0, n_samples, engine.SAMPLES_OF_A_PRODUCT)
    ends = [min(begin + engine.SAMPLES_OF_A_PRODUCT, n_samples) for begin in begins]
    return engine.each(function, [samples[begin:end, :] for begin, end in zip(begins, ends, strict=True)])


def _solver(samples: Any) -> Callable[..., tuple[Any, Any, Any, Any]]:
    """cuML where it serves; else by device and shape, the covariance matrix or scikit-learn."""
    n_samples, n_features = samples.shape
    if cuml_serves("PCA", samples):
        return _fit_cuml
    if home_of(samples).kind == "cuda" or n_features <= FEW_FEATURES or n_samples == 1:
        return _fit_covariance
    return _fit_sklearn


FEW_FEATURES = 1000
"""Up to so many features the covariance matrix is small beside the samples and its eigenvectors are cheap.

Power spectra, 841 features of 42025 grid points, on two cores: 0.2 s against scikit-learn's 2.9 s."""


def _fit_sklearn(samples: Any, wanted: int | float) -> tuple[Any, Any, Any, Any]:
    from sklearn.decomposition import PCA as SklearnPCA

    n_samples, n_features = samples.shape
    few = isinstance(wanted, int) and wanted < 0.1 * min(n_samples, n_features)
    # the randomised solver is seeded, so that the same samples give the same components
    pca = SklearnPCA(n_components=wanted, svd_solver="randomized" if few else "full", random_state=0).fit(
        samples
    )
    ratio = np.nan_to_num(pca.explained_variance_ratio_)  # 0 / 0 where every sample is the same
    return pca.mean_, pca.components_, pca.explained_variance_, ratio


def _fit_cuml(samples: Any, wanted: int | float) -> tuple[Any, Any, Any, Any]:
    from cuml import PCA as CumlPCA

    xp = namespace(samples)
    count = wanted if isinstance(wanted, int) else min(samples.shape)
    pca = CumlPCA(n_components=count, output_type="cupy").fit(xp.asarray(samples, dtype=xp.float32))
    ratio = xp.reshape(pca.explained_variance_ratio_, (-1,))
    n = _enough(to_numpy(ratio), wanted)
    variance = xp.reshape(pca.explained_variance_, (-1,))
    return xp.reshape(pca.mean_, (-1,)), pca.components_[:n], variance[:n], ratio[:n]


def covariance_pca(samples: Any, wanted: int | float) -> tuple[Any, Any, Any, Any]:
    """PCA from the eigenvectors of the covariance matrix, in any namespace with ``linalg.eigh``.

    Parameters
    ----------
    samples : (S, N) array
        Read a part at a time and never copied as a whole.
    wanted : int or float
        Number of components or fraction of the variance.

    Returns
    -------
    mean (N,), components (K, N), explained variance (K,), explained variance ratio (K,)
    """
    found, xp = _fit_covariance(samples, wanted), namespace(samples)
    mean, components, variance, ratio = (xp.asarray(array) for array in found)
    return mean, components, variance, ratio


def _fit_covariance(samples: Any, wanted: int | float) -> tuple[Any, Any, Any, Any]:
    """The same, on the host where the eigenproblem is solved there."""
    return _principal(*moments(samples), wanted)


Moments = tuple[int, Any, Any]
"""Number of samples, their mean (N,), their scatter about it (N, N)."""


def moments(samples: Any) -> Moments:
    """Moments of samples.

    Parameters
    ----------
    samples : (S, N) float32 array
        At least one; read a part at a time and never copied as a whole.

    Returns
    -------
    Moments
    """
    mean = namespace(samples).mean(samples, axis=0)
    return samples.shape[0], mean, _scatter(samples, mean)


def together(one: Moments, other: Moments) -> Moments:
    """Moments of the samples of both; nothing large is subtracted.

    Parameters
    ----------
    one, other : Moments

    Returns
    -------
    Moments
    """
    xp = namespace(one[2])
    n, mean = one[0] + other[0], xp.astype(one[1], xp.float64)
    apart = other[1] - mean
    scatter = one[2] + other[2] + (one[0] * (other[0] / n)) * apart[:, None] * apart[None, :]
    return n, mean + (other[0] / n) * apart, scatter


def _principal(n_samples: int, mean: Any, scatter: Any, wanted: int | float) -> tuple[Any, Any, Any, Any]:
    engine, n_features = engine_for(home_of(scatter)), scatter.shape[0]
    if n_features <= engine.EIGENPROBLEMS_ON_HOST:
        mean, scatter = to_numpy_together(mean, scatter)
        engine = engine_for(home_of(scatter))
    xp = namespace(scatter)
    covariance = scatter / max(n_samples - 1, 1)
    total = xp.sum(xp.linalg.diagonal(covariance))
    count = wanted if isinstance(wanted, int) else n_features
    variance, vectors = engine.leading_eigenvectors(covariance, count)
    variance = xp.where(variance > 0, variance, xp.zeros_like(variance))
    ratio = variance / xp.where(total > 0, total, xp.ones_like(total))
    n = _enough(to_numpy(ratio), wanted)
    return mean, vectors.T[:n, :], variance[:n], ratio[:n]


def _scatter(samples: Any, mean: Any) -> Any:
    """Sum over the samples of the outer products of what they differ from the mean by, (N, N) float64."""
    xp, engine, n_samples = namespace(samples), engine_for(home_of(samples)), samples.shape[0]

    def sum_of(span: tuple[int, int]) -> Any:
        total = xp.zeros((mean.shape[0], mean.shape[0]), dtype=xp.float64)
        for begin in range(*span, engine.SAMPLES_AT_A_TIME):
            # centred first: the difference of two large sums would lose the small components
            part = samples[begin : min(begin + engine.SAMPLES_AT_A_TIME, span[1]), :]
            centred = part.T - mean[:, None]  # in this order of axes CuPy keeps the layout of the samples
            total += centred @ centred.T
        return total

    # equal spans that do not depend on the number of cores, so that the result does not either
    n_spans = min(engine.SPANS, -(-n_samples // engine.SAMPLES_OF_A_SPAN))
    ends = np.linspace(0, n_samples, n_spans + 1).astype(int).tolist()
    return functools.reduce(operator.iadd, engine.each(sum_of, list(itertools.pairwise(ends))))


def _enough(ratio: np.ndarray, wanted: int | float) -> int:
    if isinstance(wanted, int):
        return wanted
    return min(int(np.searchsorted(np.cumsum(ratio), wanted)) + 1, ratio.size)
