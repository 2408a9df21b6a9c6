"""PCA and k-means of the same descriptors: gpuseg's beside scikit-learn's on the CPU, cuML's on a GPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpuseg import arrays, constants
from gpuseg.clustering import KMeans
from gpuseg.decomposition import PCA

from .cases import ANGLE, INERTIA, LEAST_INERTIA, RAND, VARIANCES, Case
from .contenders import Scene, descriptor_of, wait
from .process import run_python
from .timing import Absent, Contender, Stages, digits, seconds
from .truth import adjusted_rand

N_COMPONENTS, N_PATTERNS = 5, range(2, 9)
K_MEANS = {"n_init": 3, "max_iter": 300, "tol": 1e-6, "random_state": 0}
"""The same for all: gpuseg's defaults."""
RIVAL = {"cpu": "scikit-learn", "cuda": "cuML"}

FIRST = """
import sys, time
import numpy
from gpuseg import arrays, constants
from gpuseg.clustering import KMeans
from gpuseg.decomposition import PCA
where = arrays.resolve_device("cuda")
samples = arrays.move(numpy.random.default_rng(0).normal(size=(42025, 81)).astype("float32"), where)
constants.CUML_SERVES = frozenset({"PCA", "KMeans"} if sys.argv[1] == "cuML" else ())
found, before = {}, time.perf_counter()
for name, work in (("first PCA", PCA(5)), ("first k-means", KMeans(2, random_state=0))):
    work.fit(samples[:, :5] if found else samples)
    where.synchronize()
    found[name], before = time.perf_counter() - before, time.perf_counter()
"""


class Learner:
    """Who finds components of samples, then patterns of the components.

    Parameters
    ----------
    name : {"gpuseg", "scikit-learn", "cuML"}
        cuML is used as gpuseg uses it where it serves.
    samples : (S, N) array
    components : (S, K) array
        What the patterns are sought in: the same for all.
    """

    def __init__(self, name: str, samples: Any, components: Any) -> None:
        self.name, self.samples, self.components = name, samples, components
        self.pca: Any = None
        self.patterns: dict[int, Any] = {}

    def __call__(self) -> Stages:
        """Do it once."""
        with cuml(serves=self.name == "cuML"):
            stages = {}
            stages["PCA"], self.pca = seconds(lambda: self._fit(self._pca(), self.samples))
            for n in N_PATTERNS:
                work = lambda n=n: self._fit(self._k_means(n), self.components)  # noqa: E731
                stages[f"k-means, {n} patterns"], self.patterns[n] = seconds(work)
        return stages

    def _fit(self, estimator: Any, samples: Any) -> Any:
        estimator.fit(samples)
        arrays.home_of(samples).synchronize()
        return estimator

    def _pca(self) -> Any:
        if self.name != "scikit-learn":
            return PCA(N_COMPONENTS)
        from sklearn import decomposition

        return decomposition.PCA(N_COMPONENTS, random_state=0)

    def _k_means(self, n: int) -> Any:
        if self.name != "scikit-learn":
            return KMeans(n, **K_MEANS)
        from sklearn import cluster

        return cluster.KMeans(n, **K_MEANS)


@contextmanager
def cuml(serves: bool) -> Iterator[None]:
    """For a while, cuML serves wherever it can or nowhere."""
    before = constants.CUML_SERVES
    constants.CUML_SERVES = frozenset({"PCA", "KMeans"} if serves else ())
    try:
        yield
    finally:
        constants.CUML_SERVES = before


def agreement(own: Learner, other: Learner) -> dict[str, float]:
    """How alike the results of two are; the names of the measures stand in `cases`."""
    from scipy.linalg import subspace_angles

    variance, its_variance = (arrays.to_numpy(each.pca.explained_variance_) for each in (own, other))
    axes, its_axes = (arrays.to_numpy(each.pca.components_).astype(np.float64).T for each in (own, other))
    first = N_PATTERNS[0]
    labels, its_labels = (arrays.to_numpy(each.patterns[first].labels_) for each in (own, other))
    inertia = [float(other.patterns[n].inertia_) / float(own.patterns[n].inertia_) for n in N_PATTERNS]
    return {
        VARIANCES: float(np.max(np.abs(its_variance / variance - 1))),
        ANGLE: float(np.degrees(subspace_angles(axes, its_axes).max())),
        INERTIA: inertia[0],
        LEAST_INERTIA: min(inertia),
        LEAST_INERTIA.replace("least", "largest"): max(inertia),
        RAND: adjusted_rand(labels, its_labels),
    }


def contenders(case: Case, device: str, scene: Scene) -> tuple[list[Contender | Absent], str]:
    """gpuseg's own and the other of the device; the baseline is the other, where it is installed."""
    image = scene[0]
    descriptor = descriptor_of(case, "auto")
    where = arrays.resolve_device(device)
    described = descriptor.transform(arrays.move(image, where), stride=case.stride, device=where)
    samples = described.samples()
    with cuml(serves=False):
        components = PCA(N_COMPONENTS).fit(samples).transform(samples)
    wait(components)
    name, rival = "gpuseg" if device == "cpu" else "gpuseg cuda, resident", RIVAL[device]
    own = Learner("gpuseg", samples, components)
    if device == "cuda" and importlib.util.find_spec("cuml") is None:
        return [
            Absent(rival, "cuML is not installed; pip install 'gpuseg[rapids]'"),
            Contender(name, own),
        ], name
    other = Learner(rival, samples, components)
    return [Contender(rival, other, lambda: agreement(own, other)), Contender(name, own)], rival


def first_calls(device: str) -> list[Contender | Absent]:
    """Fresh processes that fit on a GPU for the first time, by gpuseg's own and by cuML."""

    def first(who: str) -> Stages:
        found = run_python(FIRST, who)
        return {stage: found[stage] for stage in ("first PCA", "first k-means")}

    people: list[Contender | Absent] = [Contender("gpuseg cuda, resident", lambda: first("own"))]
    if importlib.util.find_spec("cuml") is None:
        return [*people, Absent("cuML", "cuML is not installed; pip install 'gpuseg[rapids]'")]
    return [*people, Contender("cuML", lambda: first("cuML"))]


def verdict(cases: list[dict[str, Any]]) -> str:
    """Who is faster at what on a GPU, in words; "" where cuML was not measured.

    Parameters
    ----------
    cases : list of dict
        As JSON holds them.
    """
    ratios: dict[str, list[float]] = {"PCA": [], "k-means": []}
    for row in [row for case in cases for row in case.get("rows", [])]:
        if row["baseline"] == RIVAL["cuda"]:
            ratios[row["stage"].partition(",")[0]].append(row["ratio"])
    return "\n".join(
        f"{work}: gpuseg's own is faster than cuML in {sum(r > 1 for r in found)} of {len(found)} "
        f"measurements, {digits(float(np.median(found)))} times in the median."
        for work, found in ratios.items()
        if found
    )
