"""Fisher separability: how well one operation tells the patterns apart (paper, eq. 4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gpuseg.arrays import namespace

__all__ = ["separability", "separability_of_parts"]


def separability(values: Any, labels: Any, n_patterns: int) -> Any:
    """Variance of a score between patterns over its variance within them.

    Parameters
    ----------
    values : (N, S) array of float
        Scores of N operations at S grid points.
    labels : (S,) array of int
        Pattern of each point, 0 .. n_patterns - 1; points with other labels are left out.
    n_patterns : int

    Returns
    -------
    (N,) float32 array
        ``S_O = sum_k N_k (mu_k - mu)^2 / sum_k N_k sigma_k^2``, at least 0: 0 for an operation that scores
        the same everywhere, inf for one that is constant within patterns and differs between them.
    """
    return separability_of_parts([(values, labels)], n_patterns)


def separability_of_parts(parts: Iterable[tuple[Any, Any]], n_patterns: int) -> Any:
    """The same of scores that come in parts, of which one at a time is in memory.

    Parameters
    ----------
    parts : iterable of (values (N, S), labels (S,))
        As in `separability`; at least one.
    n_patterns : int

    Returns
    -------
    (N,) float32 array
    """
    centre: Any = None
    for values, labels in parts:
        xp = namespace(values, labels)
        member = xp.astype(labels[:, None] == xp.arange(n_patterns, dtype=labels.dtype)[None, :], xp.float32)
        used = xp.any(member > 0, axis=1)
        values = xp.where(used[None, :], values, xp.zeros_like(values))
        here = xp.sum(member, axis=0, dtype=xp.float64)
        if centre is None:
            count = xp.zeros_like(here)
            sums = xp.zeros((values.shape[0], n_patterns), dtype=xp.float64)
            squares = xp.zeros(values.shape[0], dtype=xp.float64)
        if centre is None or not bool(xp.any(count > 0)):
            # about a mean, so that no variance is the difference of two large numbers
            some = xp.sum(here)
            centre = xp.astype(xp.sum(values, axis=1) / xp.where(some > 0, some, 1.0), xp.float32)
        centred = xp.where(used[None, :], values - centre[:, None], xp.zeros_like(values))
        count += here
        sums += centred @ member
        squares += xp.sum(centred * centred, axis=1)
    total = xp.sum(count)
    drift = xp.sum(sums, axis=1) / xp.where(
        total > 0, total, 1.0
    )  # of the mean of all from that of the first
    sums -= drift[:, None] * count
    squares -= total * drift * drift
    between = xp.sum(xp.where(count > 0, sums * sums / xp.where(count > 0, count, 1.0), 0.0), axis=1)
    within = squares - between
    within = xp.where(within > _ROUNDING * between, within, xp.zeros_like(within))
    ratio = between / xp.where(within > 0, within, xp.ones_like(within))
    at_zero = xp.where(between > _ROUNDING * total, xp.inf, xp.zeros_like(between))
    return xp.astype(xp.where(within > 0, ratio, at_zero), xp.float32)


_ROUNDING = 1e-6  # of float32 sums: less than that of a variance is none
