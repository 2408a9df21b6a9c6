"""Raw windows: the pixels around every grid point themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpuseg.checks import check_radius
from gpuseg.descriptors.base import Ready
from gpuseg.descriptors.windows import WindowDescriptor, Windows
from gpuseg.symmetry import Feature

__all__ = ["Patches"]


@dataclass(frozen=True)
class Patches(WindowDescriptor):
    """The pixels of the window around every grid point, centred and scaled.

    The simplest descriptor there is. It knows where in the window the atoms lie, so within one crystal it
    changes from grid point to grid point, and several patterns come out per crystal unless the stride is a
    lattice period: a means to find motifs and columns rather than grains.

    Parameters
    ----------
    window_radius : int or (rows, cols)
        Half size of the window in pixels; 8 means 17 pixels, 289 values per grid point.
    border : {"full", "valid"}
        "full" looks at the whole image, "valid" only where the window lies inside.

    Notes
    -----
    Each window has mean 0 and variance 1 over its valid pixels: gain, offset and slow changes of brightness
    do not matter. Pixels that are masked, not finite or outside the image are 0, the window's mean. Where
    fewer than half of a window's pixels are valid, the nearest grid point's window is given. A flat window
    (variance below 1e-10 of the image's) is 0 everywhere.
    """

    window_radius: Any = 8
    border: str = "full"

    def operations(self) -> tuple[Feature, ...]:
        """The pixels of the window, row by row.

        Returns
        -------
        tuple of Feature

        Raises
        ------
        TypeError, ValueError
            For a parameter that makes no sense.
        """
        rows, cols = check_radius(self.window_radius, "window_radius")
        return tuple(
            Feature(f"pixel ({d:+d}, {e:+d})") for d in range(-rows, rows + 1) for e in range(-cols, cols + 1)
        )

    def _measure(self, ready: Ready, xp: Any) -> Callable[[Windows], Any]:
        def measure(windows: Windows) -> Any:
            spread = xp.sqrt(xp.where(windows.variance > 0, windows.variance, xp.ones_like(windows.variance)))
            values = windows.values / spread[..., None, None]
            return xp.reshape(values, (*values.shape[:2], -1))

        return measure
