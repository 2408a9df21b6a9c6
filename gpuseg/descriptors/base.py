"""What every local descriptor yields, and how an image is made ready for it."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from gpuseg.arrays import Device, home_of, move, namespace, resolve_device
from gpuseg.checks import check_image, check_int, check_mask
from gpuseg.engines import engine_for
from gpuseg.grid import Grid

__all__ = [
    "BORDERS",
    "DeadImageError",
    "Descriptor",
    "Descriptors",
    "Ready",
    "Score",
    "check_scored",
    "count_usable",
    "place_grid",
    "prepare",
    "usable_points",
    "valid_pixels",
]

BORDERS = ("full", "valid")

Score = Callable[[Grid], Any]
"""Of a band of a grid: its values (N, h, w)."""


class DeadImageError(ValueError):
    """An image without anything to score: constant, or without enough pixels that may be used anywhere."""


@dataclass(frozen=True)
class Descriptors:
    """The local descriptors of an image: one number per operation and grid point.

    Parameters
    ----------
    values : (N, h, w) float32 array
        ``values[k]`` is the map of ``operations[k]``. NaN only at grid points that lie on a masked or
        non-finite pixel and have too few valid pixels around them.
    operations : tuple of N
        What the maps score, e.g. `gpuseg.Translation`.
    grid : Grid
        Where.
    usable : (h, w) bool array
        Grid points whose own pixel is valid: those that patterns are learnt from.
    descriptor : descriptor, optional
        What describes further images alike, where it had to learn something from this one (the weights of
        fused blocks); None where it is the one that was used.
    """

    values: Any
    operations: tuple[Any, ...]
    grid: Grid
    usable: Any
    descriptor: Any = None

    @functools.cached_property
    def n_usable(self) -> int:
        """How many grid points patterns are learnt from; the device is asked once."""
        return count_usable(self.usable)

    @property
    def maps(self) -> dict[Any, Any]:
        """The (h, w) map of each operation."""
        return dict(zip(self.operations, self.values, strict=True))

    def bands(self) -> Iterator[Descriptors]:
        """All of them at once; those of an image worked on in bands come one band after the other.

        Yields
        ------
        Descriptors
        """
        yield self

    def samples(self) -> Any:
        """The descriptors of the usable grid points.

        Returns
        -------
        (S, N) float32 array, a view where every grid point is usable
        """
        xp = namespace(self.values)
        flat = xp.reshape(self.values, (len(self.operations), -1))
        return (flat if self.n_usable == self.grid.size else flat[:, xp.reshape(self.usable, (-1,))]).T

    def on(self, device: Device) -> Descriptors:
        """The same on another device.

        Parameters
        ----------
        device : Device

        Returns
        -------
        Descriptors
        """
        return replace(self, values=move(self.values, device), usable=move(self.usable, device))


@dataclass(frozen=True)
class Ready:
    """An image, made ready once, that descriptors score as often as they are asked to.

    Parameters
    ----------
    image : (H, W) array
        In its own unit, on the device.
    pixels, valid
        From `prepare`.
    device : Device
    spread_of_whole : float, optional
        Of a part of an image: the standard deviation of all of it, in its own unit.
    filling : bool
        Whether missing scores are the nearest grid point's; not in a part, where that may not be there.
    """

    image: Any
    pixels: Any
    valid: Any
    device: Device
    spread_of_whole: float | None = None
    filling: bool = True

    @classmethod
    def of(cls, image: Any, mask: Any, device: Device) -> Ready:
        """Make an image ready.

        Parameters
        ----------
        image, mask, device
            As in `prepare`.

        Returns
        -------
        Ready
        """
        pixels, valid = prepare(image, mask, device)
        return cls(move(image, device), pixels, valid, device)

    @property
    def spread(self) -> float:
        """Standard deviation of the valid pixels in the image's own unit."""
        if self.spread_of_whole is not None:
            return self.spread_of_whole
        xp = namespace(self.image)
        values = xp.astype(self.image if self.valid is None else self.image[self.valid], xp.float64)
        return float(xp.std(values - xp.reshape(values, (-1,))[0]))


class Descriptor(ABC):
    """What the descriptors of an image share: checks, making ready, and scoring all of the grid.

    A subclass has ``operations()``, ``grid(image_shape, stride)`` and ``scorer(ready, grid)``.
    """

    @abstractmethod
    def operations(self) -> tuple[Any, ...]:
        """What is measured, one entry for each map (N).

        Returns
        -------
        tuple
        """

    @abstractmethod
    def grid(self, image_shape: tuple[int, int], stride: int) -> Grid:
        """The positions that are looked at.

        Parameters
        ----------
        image_shape : (H, W) of int
        stride : int

        Returns
        -------
        Grid
        """

    @abstractmethod
    def scorer(self, ready: Ready, grid: Grid) -> Score:
        """What scores an image, some rows of grid points at a time.

        Parameters
        ----------
        ready : Ready
            The image.
        grid : Grid
            All of it.

        Returns
        -------
        callable
            Of a band of `grid` (`Grid.band`, or the grid itself); gives its values (N, h, w) on the device of
            the image. They are the same for every band that a grid point is part of, to rounding.
        """

    def transform(self, image: Any, stride: int = 5, mask: Any = None, device: Any = "auto") -> Descriptors:
        """Score an image at every grid point.

        Parameters
        ----------
        image : (H, W) array_like
            Intensities.
        stride : int
            Distance of grid points in pixels.
        mask : (H, W) array_like of bool, optional
            True where a pixel may be used.
        device : {"auto", "cpu", "cuda", "cuda:i"}

        Returns
        -------
        Descriptors
            With values (N, h, w) float32 that live where `image` lives.

        Raises
        ------
        TypeError, ValueError
            For an image, mask or parameter that makes no sense.
        gpuseg.DeviceError
            If a GPU is asked for and cannot be used.
        """
        image = check_image(image)
        mask = check_mask(mask, image.shape)
        stride, operations = check_int(stride, "stride", 1), self.operations()
        grid = self.grid(image.shape, stride)
        where = resolve_device(device, image)
        with where.current:
            ready = Ready.of(image, mask, where)
            values = self.scorer(ready, grid)(grid)
            usable = usable_points(ready.pixels, ready.valid, grid)
            return Descriptors(values, operations, grid, usable).on(home_of(image))


def valid_pixels(image: Any, mask: Any = None) -> Any:
    """Which pixels may contribute: finite and not masked.

    Parameters
    ----------
    image : (H, W) array
    mask : (H, W) bool array, optional

    Returns
    -------
    (H, W) bool array, or None where every pixel may
    """
    xp = namespace(image)
    if image.dtype.kind == "f":
        finite = xp.isfinite(image)
        mask = finite if mask is None else mask & finite
    return None if mask is None or bool(xp.all(mask)) else mask


def prepare(image: Any, mask: Any, device: Device) -> tuple[Any, Any]:
    """An image of any kind as what the engines work on.

    Parameters
    ----------
    image : (H, W) array
        Checked.
    mask : (H, W) bool array or None
    device : Device

    Returns
    -------
    pixels : (H, W) float32
        Mean 0 and variance 1 over the valid pixels, 0 elsewhere: Pearson's coefficient knows neither level
        nor scale, and so float32 loses nothing of a small contrast on a high level.
    valid : (H, W) bool or None
        None where every pixel is.

    Raises
    ------
    DeadImageError
        If no pixel is finite and unmasked, or all of them are equal.
    """
    image = move(image, device)
    xp = namespace(image)
    valid = valid_pixels(image, None if mask is None else move(mask, device))
    if valid is not None and not bool(xp.any(valid)):
        raise DeadImageError(
            f"`image` of shape {image.shape} has no finite pixel"
            + (" inside `mask`" if mask is not None else "")
        )
    pixels = engine_for(device).normalise(image, valid)
    if not bool(xp.any(pixels)):
        raise DeadImageError(f"`image` of shape {image.shape} is constant; there is nothing to tell apart")
    return pixels, valid


def place_grid(
    shape: tuple[int, int],
    stride: int,
    radius: tuple[int, int],
    border: str,
    name: str,
    reach: tuple[int, int] = (0, 0),
) -> Grid:
    """Where an image is looked at.

    Parameters
    ----------
    shape : (H, W) of int
    stride : int
    radius : (rows, cols) of int
        Half size of what lies around every grid point.
    border : {"full", "valid"}
        Over the whole image, or only where all that is looked at lies inside.
    name : {"patch_radius", "window_radius", "radius"}
        What the radius is called, for the error.
    reach : (rows, cols) of int
        How far it is shifted.

    Returns
    -------
    Grid

    Raises
    ------
    ValueError
        If the image is too small.
    """
    what = "patch" if name == "radius" else name.removesuffix("_radius")
    for axis, side in enumerate(("rows", "columns")):
        need = 2 * (radius[axis] + (reach[axis] if border == "valid" else 0)) + 1
        if shape[axis] < need:
            also = " and its shifts need" if border == "valid" and any(reach) else " needs"
            raise ValueError(
                f"`image` has {shape[axis]} {side}; a {what} of `{name}` {radius[axis]}{also} {need}; "
                "use a smaller radius or a larger image"
            )
    if border == "full":
        return Grid.full(shape, stride)
    return Grid.inside(shape, stride, (radius[0] + reach[0], radius[1] + reach[1]))


def check_scored(values: Any) -> None:
    """Refuse an image of which nothing could be scored: what would be filled in tells nothing.

    Parameters
    ----------
    values : (N, h, w) array
        NaN where missing.

    Raises
    ------
    DeadImageError
        If all of them are.
    """
    xp = namespace(values)
    # one map after the other: the first one tells, as a rule
    if not any(bool(xp.any(xp.isfinite(values[k, ...]))) for k in range(values.shape[0])):
        raise DeadImageError(
            "`image` has no grid point around which half of the pixels are finite, inside the image and not "
            "masked; use smaller radii or a larger `mask`"
        )


def count_usable(usable: Any) -> int:
    """Number of grid points that lie on a valid pixel.

    Parameters
    ----------
    usable : (h, w) bool array

    Returns
    -------
    int
    """
    return int(namespace(usable).count_nonzero(usable))


def usable_points(pixels: Any, valid: Any, grid: Grid) -> Any:
    """Which grid points lie on a valid pixel.

    Parameters
    ----------
    pixels, valid : from `prepare`
    grid : Grid

    Returns
    -------
    (h, w) bool array
    """
    xp = namespace(pixels)
    if valid is None:
        return xp.ones(grid.shape, dtype=xp.bool)
    return xp.asarray(grid.at_points(valid), copy=True)
