"""What rotation, reflection and glide share: scores at every pixel, of which the largest nearby are kept."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from gpuseg.arrays import namespace
from gpuseg.checks import check_choice, check_int, check_radius
from gpuseg.descriptors.base import BORDERS, Descriptor, Ready, Score, place_grid
from gpuseg.descriptors.filling import filled
from gpuseg.descriptors.kept import Kept
from gpuseg.engines import engine_for
from gpuseg.grid import Grid
from gpuseg.polar import MOST_SECTORS, SPLINE_ROWS, PolarPlan, sectors_for
from gpuseg.symmetry import Ranked

__all__ = ["PolarSymmetry", "check_angles"]


@dataclass(frozen=True)
class PolarSymmetry(Descriptor):
    """A descriptor of operations that are scored on circular patches at every pixel, then pooled."""

    def __post_init__(self) -> None:
        for parameter in fields(self):  # tuples, so that it compares and cannot change
            value = getattr(self, parameter.name)
            if isinstance(value, list | range | np.ndarray):
                object.__setattr__(self, parameter.name, tuple(value))

    @abstractmethod
    def scored(self) -> tuple[Any, ...]:
        """The symmetry operations, each once.

        Returns
        -------
        tuple of Rotation, Reflection or GlideReflection
        """

    def operations(self) -> tuple[Any, ...]:
        """What each map scores: the operations; with ``n_max`` > 1 each rank of the first, of the second, ...

        Returns
        -------
        tuple of Rotation, Reflection, GlideReflection or Ranked

        Raises
        ------
        TypeError, ValueError
            For a parameter that makes no sense.
        """
        scored, n_max = self.scored(), self._checked()[2]
        if n_max == 1:
            return scored
        return tuple(Ranked(operation, rank) for operation in scored for rank in range(n_max))

    def grid(self, image_shape: tuple[int, int], stride: int) -> Grid:
        """The positions that are scored.

        Parameters
        ----------
        image_shape : (H, W) of int
        stride : int

        Returns
        -------
        Grid
        """
        radius, pooling, _, border = self._checked()
        reach = pooling
        if border == "valid":  # the splines of the outermost samples reach further than the patch
            further = _plan(radius, self.scored(), self._sectors()).reach - radius
            reach = pooling[0] + further, pooling[1] + further
        return place_grid(image_shape, stride, (radius, radius), border, "radius", reach)

    def halo(self) -> tuple[int, int]:
        """How far from a grid point pixels are looked at: pooling window, patch and its splines.

        Returns
        -------
        (rows, cols) of int
        """
        radius, pooling, _, _ = self._checked()
        further = _plan(radius, self.scored(), self._sectors()).reach + SPLINE_ROWS
        return pooling[0] + further, pooling[1] + further

    def keeping(self, indices: Sequence[int]) -> Any:
        """The descriptor of some of the maps, which scores no operation without need.

        Parameters
        ----------
        indices : sequence of int
            Places in `operations`.

        Returns
        -------
        descriptor
        """
        n_max = self._checked()[2]
        needed = list(dict.fromkeys(int(k) // n_max for k in indices))
        fewer = self._only([self.scored()[k] for k in needed])
        if n_max == 1:
            return fewer
        return Kept(fewer, tuple(needed.index(int(k) // n_max) * n_max + int(k) % n_max for k in indices))

    def scorer(self, ready: Ready, grid: Grid) -> Score:
        """What scores an image, some rows of grid points at a time; see `Descriptor.scorer`.

        Parameters
        ----------
        ready : Ready
        grid : Grid

        Returns
        -------
        callable
        """
        radius, pooling, n_max, border = self._checked()
        plan, engine = _plan(radius, self.scored(), self._sectors()), engine_for(ready.device)
        height, width = grid.image_shape

        def score(band: Grid) -> Any:
            if band == grid:
                scores, here = engine.polar_scores(ready.pixels, ready.valid, plan), band
            else:  # the pixels that the pooling windows reach
                rows = max(0, band.first[0] - pooling[0]), min(height, int(band.rows[-1]) + pooling[0] + 1)
                scores = engine.polar_scores(ready.pixels, ready.valid, plan, rows)
                here = replace(
                    band,
                    image_shape=(rows[1] - rows[0], width),
                    first=(band.first[0] - rows[0], band.first[1]),
                )
            return _all_or_none(engine.pool(scores, here, pooling, n_max), n_max)

        if border == "valid" and ready.valid is None:
            return score
        return filled(score, ready, grid, np.full(len(self.operations()), -1, np.int64))

    def working_bytes(self, band: Grid) -> int:
        """Memory that scoring takes beside its values.

        Parameters
        ----------
        band : Grid

        Returns
        -------
        int
        """
        _, pooling, n_max, _ = self._checked()
        rows = min(band.image_shape[0], (band.shape[0] - 1) * band.stride + 2 * pooling[0] + 1)
        n, width = len(self.scored()), band.image_shape[1]
        return width * (rows * (4 * n + PLANES) + 12 * n * n_max * band.shape[0])

    def _only(self, scored: list[Any]) -> Self:
        """The same for some of the operations, on the same samples."""
        changes: dict[str, Any] = {"angles": tuple(each.angle for each in scored), "sectors": self._sectors()}
        return replace(self, **changes)

    def _sectors(self) -> int:
        given: Any = self
        if given.sectors is None:
            return sectors_for(given.radius, self.scored())
        return check_int(given.sectors, "sectors", 1, MOST_SECTORS)

    def _checked(self) -> tuple[int, tuple[int, int], int, str]:
        """Radius, pooling radius, `n_max` and border."""
        given: Any = self
        if isinstance(given.radius, str):
            check_radius(given.radius, "radius")  # says what "auto" needs
        pooling = check_radius(given.pooling_radius, "pooling_radius")
        window = (2 * pooling[0] + 1) * (2 * pooling[1] + 1)
        return (
            check_int(given.radius, "radius", 1),
            pooling,
            check_int(given.n_max, "n_max", 1, window),
            check_choice(given.border, "border", BORDERS),
        )


PLANES = 40
"""Bytes for each pixel of what the scores are made from: splines, levels and what of them is known."""


def _all_or_none(values: Any, n_max: int) -> Any:
    """Missing wherever a rank of the same operation is: so what is filled in stays sorted."""
    if n_max == 1:
        return values
    xp = namespace(values)
    ranks = xp.reshape(values, (-1, n_max, *values.shape[1:]))
    missing = xp.any(xp.isnan(ranks), axis=1)[:, None]
    filled = xp.where(missing, xp.asarray(xp.nan, dtype=xp.float32), ranks)
    return xp.reshape(filled, values.shape)


@functools.lru_cache(maxsize=8)
def _plan(radius: int, operations: tuple[Any, ...], sectors: int) -> PolarPlan:
    return PolarPlan.of(radius, operations, sectors)


def check_angles(angles: Any, name: str, period: float, what: str) -> tuple[float, ...]:
    """Different angles in degrees.

    Parameters
    ----------
    angles : sequence of float, or one
    name : str
    period : float
        Angles are given modulo this.
    what : str
        An example, for the error.

    Returns
    -------
    tuple of float
        In [0, period).

    Raises
    ------
    TypeError, ValueError
    """
    hint = f"different angles in degrees are needed, e.g. {what}"
    try:
        found = np.atleast_1d(np.asarray(angles, np.float64))
    except (TypeError, ValueError):
        raise TypeError(f"`{name}` is {angles!r}; {hint}") from None
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        raise ValueError(f"`{name}` is {angles!r}; {hint}")
    turned = found % period
    rounded = np.round(turned, 9) % period
    if len(np.unique(rounded)) < len(rounded):
        raise ValueError(f"`{name}` is {angles!r}, which holds one twice (modulo {period:g}); {hint}")
    # as they were given, so that operations stay equal; only what rounding keeps from 0 is 0
    return tuple(np.where(rounded == 0, 0.0, turned).tolist())
