"""A stand-in for cuML with its names and keyword-only arguments; the work is gpuseg's own."""

from __future__ import annotations

import importlib.machinery
import sys
from types import ModuleType

import numpy as np

from gpuseg.clustering import assign, lloyd, seed_centers
from gpuseg.decomposition import covariance_pca


class PCA:
    """With components of the other sign."""

    def __init__(self, *, n_components=None, output_type=None):
        assert output_type == "cupy"
        self.n_components = n_components

    def fit(self, x):
        mean, components, variance, ratio = covariance_pca(x, self.n_components)
        self.mean_, self.components_ = mean, -components
        self.explained_variance_, self.explained_variance_ratio_ = variance, ratio
        return self


class KMeans:
    """With seeds of its own."""

    def __init__(self, *, n_clusters, n_init, max_iter, tol, random_state, output_type):
        assert output_type == "cupy"
        assert isinstance(random_state, int)
        self.n_clusters, self.n_init, self.random_state = n_clusters, n_init, random_state

    def fit(self, x):
        random = np.random.RandomState(self.random_state)
        starts = [seed_centers(x, self.n_clusters, random) for _ in range(self.n_init)]
        runs = [lloyd(x, start, 100, 0.0) for start in starts]
        self.cluster_centers_, self.inertia_, self.n_iter_ = min(runs, key=lambda run: run[1])
        self.labels_ = assign(x, self.cluster_centers_)
        return self


def install(monkeypatch):
    """Put it where `import cuml` finds it; gives a list of the classes that were asked to fit, as it grows."""
    fitted = []

    def noted(original):
        class Noted(original):
            def fit(self, x):
                fitted.append(original.__name__)
                return super().fit(x)

        return Noted

    cuml = ModuleType("cuml")
    cuml.PCA, cuml.KMeans = noted(PCA), noted(KMeans)
    cuml.__spec__ = importlib.machinery.ModuleSpec("cuml", None)
    monkeypatch.setitem(sys.modules, "cuml", cuml)
    return fitted
