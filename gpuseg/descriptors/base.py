"""What every local descriptor yields, and how an image is made ready for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gpuseg.arrays import Device, move, namespace
from gpuseg.engines import engine_for
from gpuseg.grid import Grid

__all__ = ["DeadImageError", "Descriptors", "prepare", "valid_pixels"]


class DeadImageError(ValueError):
    """An image without anything to score: constant, or without a finite pixel that may be used."""


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
    """

    values: Any
    operations: tuple[Any, ...]
    grid: Grid
    usable: Any

    @property
    def maps(self) -> dict[Any, Any]:
        """The (h, w) map of each operation."""
        return dict(zip(self.operations, self.values, strict=True))

    def samples(self) -> Any:
        """The descriptors of the usable grid points.

        Returns
        -------
        (S, N) float32 array, a view where every grid point is usable
        """
        xp = namespace(self.values)
        flat = xp.reshape(self.values, (len(self.operations), -1))
        usable = xp.reshape(self.usable, (-1,))
        return (flat if bool(xp.all(usable)) else flat[:, usable]).T

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
