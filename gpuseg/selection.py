"""Selection of the operations that tell the patterns apart, and the model that scores only them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gpuseg.arrays import home_of, ingest, move, namespace, to_numpy
from gpuseg.checks import check_int
from gpuseg.clustering import certainty, sizes, squared_distances
from gpuseg.decomposition import PCA
from gpuseg.descriptors import Descriptors
from gpuseg.descriptors.kept import Kept
from gpuseg.misfit import typical_misfit
from gpuseg.separability import separability
from gpuseg.stages import joined

__all__ = ["select_operations"]


def select_operations(
    model: Any, n_operations: int, described: Sequence[Descriptors], labels: Sequence[Any]
) -> Any:
    """The model of the operations of largest Fisher separability (paper, eq. 4).

    PCA is fitted again on the kept scores, and the centre of a pattern is the mean of its grid points: no new
    clustering, so every pattern keeps its label.

    Parameters
    ----------
    model : gpuseg.SegmentationModel
    n_operations : int
        From 1 to the number of operations.
    described : sequence of Descriptors
        Scores of all operations of the model; pooled.
    labels : sequence of (h, w) int array
        Pattern of every grid point of each; -1 for none.

    Returns
    -------
    gpuseg.SegmentationModel
        With `accuracy`, the share of labelled grid points that keep their label.

    Raises
    ------
    TypeError, ValueError
    """
    wanted = check_int(n_operations, "n_operations", 1, model.components.shape[1])
    samples, names = _pooled(described, labels, model.components.shape[1])
    n_patterns = int(model.cluster_centers.shape[0])
    counts = sizes(names, n_patterns)
    if not counts.all():
        raise ValueError(
            f"pattern {int(np.argmin(counts))} has no grid point in what was given; "
            "operations can be selected only where every pattern is seen"
        )
    scores = to_numpy(separability(samples.T, names, n_patterns))
    kept = np.argsort(-scores, kind="stable")[:wanted]
    xp = namespace(samples)
    few = xp.take(samples, xp.asarray(kept), axis=1)
    pca = PCA(min(int(model.components.shape[0]), wanted)).fit(few)
    points = pca.transform(few)
    members = [xp.astype(names == k, points.dtype) for k in range(n_patterns)]
    centers = xp.stack([member @ points / xp.sum(member) for member in members])
    distances = squared_distances(points, centers)
    agree = xp.astype(xp.argmin(distances, axis=0), xp.int32) == names
    return replace(
        model,
        descriptor=_keeping(model.descriptor, kept.tolist()),
        mean=to_numpy(pca.mean_),
        components=to_numpy(pca.components_),
        explained_variance_ratio=to_numpy(pca.explained_variance_ratio_),
        cluster_centers=to_numpy(centers),
        typical_certainty=float(xp.mean(certainty(distances))),
        typical_misfit=typical_misfit(pca, xp.min(distances, axis=0)),
        accuracy=float(np.mean(to_numpy(agree))),
    )


def _keeping(descriptor: Any, indices: list[int]) -> Any:
    """A descriptor of some operations: it leaves the others out itself where it can."""
    return descriptor.keeping(indices) if hasattr(descriptor, "keeping") else Kept(descriptor, indices)


def _pooled(described: Sequence[Descriptors], labels: Sequence[Any], n_operations: int) -> tuple[Any, Any]:
    """Scores (S, N) and patterns (S,) of all labelled grid points."""
    if not described or len(described) != len(labels):
        raise ValueError(f"{len(described)} descriptors came with {len(labels)} labels; one each is needed")
    samples, names = [], []
    for each, pattern in zip(described, labels, strict=True):
        if not isinstance(each, Descriptors) and hasattr(each, "bands"):
            each.samples()  # says why they are not there
        if not isinstance(each, Descriptors) or pattern is None:
            raise TypeError(
                f"`labelled` is {type(each).__name__}{'' if pattern is not None else ' without `labels`'}; "
                "a Segmentation, or Descriptors with the pattern of each grid point, is needed"
            )
        pattern = ingest(pattern)
        if len(each.operations) != n_operations or tuple(pattern.shape) != each.grid.shape:
            raise ValueError(
                f"descriptors of {len(each.operations)} operations on a grid {each.grid.shape} came with "
                f"`labels` of shape {tuple(pattern.shape)}; {n_operations} operations, those of the model, "
                "and a label for each grid point are needed"
            )
        xp = namespace(each.values)
        pattern = xp.reshape(xp.asarray(move(pattern, home_of(each.values))), (-1,))
        known = (pattern >= 0) & xp.reshape(each.usable, (-1,))
        samples.append(xp.reshape(each.values, (n_operations, -1))[:, known].T)
        names.append(xp.astype(pattern[known], xp.int32))
    return joined(samples), joined(names)
