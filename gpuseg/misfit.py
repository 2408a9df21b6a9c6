"""How far descriptors lie from every pattern that was learnt: a frame far from all shows something else."""

from __future__ import annotations

from typing import Any

from gpuseg.arrays import namespace, to_numpy

__all__ = ["misfit", "typical_misfit"]


def misfit(samples: Any, mean: Any, components: Any, nearest: Any) -> float:
    """Mean squared distance of descriptors from their nearest pattern, among all operations.

    Certainty compares two patterns and cannot tell that both are far; and it looks at the principal
    components only, which know nothing of what did not occur where they were learnt.

    Parameters
    ----------
    samples : (S, N) array
        Descriptors.
    mean : (N,) array
        What the components are measured from.
    components : (S, K) array
        Their principal components.
    nearest : (S,) array
        Squared distance of the components to the nearest centre.

    Returns
    -------
    float
        At least 0; NaN where no sample is finite.
    """
    xp = namespace(samples)
    apart = samples - mean[None, :]
    # the part that the components leave out, and the part between them and the centre
    squares = xp.sum(apart * apart, axis=1) - xp.sum(components * components, axis=1) + nearest
    known = xp.isfinite(squares)
    if not bool(xp.any(known)):
        return float("nan")
    return max(float(xp.mean(squares[known])), 0.0)


def typical_misfit(pca: Any, nearest: Any) -> float:
    """The same of the descriptors that the components were learnt from, at no cost.

    Parameters
    ----------
    pca : gpuseg.decomposition.PCA
        Fitted.
    nearest : (S,) array
        Squared distance to the nearest centre.

    Returns
    -------
    float
    """
    kept = float(to_numpy(pca.explained_variance_).sum(dtype="float64"))
    share = float(to_numpy(pca.explained_variance_ratio_).sum(dtype="float64"))
    left_out = kept * (1 / share - 1) if share > 0 else 0.0
    return max(left_out, 0.0) + float(namespace(nearest).mean(nearest))
