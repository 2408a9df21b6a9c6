"""What rotation, reflection and glide share: scores at every pixel, of which the largest nearby are kept."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from gpuseg.arrays import home_of, namespace, resolve_device
from gpuseg.checks import check_choice, check_image, check_int, check_mask, check_radius
from gpuseg.descriptors.base import BORDERS, Descriptors, check_scored, place_grid, prepare, usable_points
from gpuseg.descriptors.kept import Kept
from gpuseg.engines import engine_for
from gpuseg.grid import Grid
from gpuseg.polar import MOST_SECTORS, PolarPlan, sectors_for
from gpuseg.symmetry import Ranked

__all__ = ["PolarSymmetry", "check_angles"]


@dataclass(frozen=True)
class PolarSymmetry:
    """A descriptor of operations that are scored on circular patches at every pixel, then pooled."""

    def __post_init__(self) -> None:
        for parameter in fields(self):  # tuples, so that it compares and cannot change
            value = getattr(self, parameter.name)
            if isinstance(value, list | range | np.ndarray):
                object.__setattr__(self, parameter.name, tuple(value))

    def scored(self) -> tuple[Any, ...]:
        """The symmetry operations, each once.

        Returns
        -------
        tuple of Rotation, Reflection or GlideReflection
        """
        raise TypeError(f"{type(self).__name__} scores no operation; use one of its subclasses")

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

    def transform(self, image: Any, stride: int = 5, mask: Any = None, device: Any = "auto") -> Descriptors:
        """Score every operation around every grid point.

        Parameters
        ----------
        image : (H, W) array_like
            Intensities; any gain and offset gives the same scores.
        stride : int
            Distance of grid points in pixels. With ``stride=1`` and ``pooling_radius=0`` the maps are the
            scores of every pixel (the paper's Figure 5).
        mask : (H, W) array_like of bool, optional
            True where a pixel may be used.
        device : {"auto", "cpu", "cuda", "cuda:i"}

        Returns
        -------
        Descriptors
            With values (N, h, w) float32 in [-1, 1] that live where `image` lives.

        Raises
        ------
        TypeError, ValueError
            For an image, mask or parameter that makes no sense.
        gpuseg.DeviceError
            If a GPU is asked for and cannot be used.
        """
        image = check_image(image)
        mask = check_mask(mask, image.shape)
        radius, pooling, n_max, border = self._checked()
        grid = self.grid(image.shape, check_int(stride, "stride", 1))
        operations = self.operations()
        where = resolve_device(device, image)
        with where.current:
            pixels, valid = prepare(image, mask, where)
            engine = engine_for(where)
            scores = engine.polar_scores(pixels, valid, _plan(radius, self.scored(), self._sectors()))
            values = _all_or_none(engine.pool(scores, grid, pooling, n_max), n_max)
            usable = usable_points(pixels, valid, grid)
            if border == "full" or valid is not None:
                check_scored(values)
                alone = np.full(len(operations), -1, np.int64)
                values = engine.fill_missing(values, alone, usable)
        return Descriptors(values, operations, grid, usable).on(home_of(image))

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
