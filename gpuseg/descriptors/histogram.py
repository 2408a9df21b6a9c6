"""Local intensity distribution: how often each intensity occurs around every grid point."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuseg.checks import check_int
from gpuseg.descriptors.base import Ready
from gpuseg.descriptors.windows import WindowDescriptor, Windows
from gpuseg.symmetry import Feature

__all__ = ["Histogram"]

RANGE = 3.0
"""Intensities are told apart up to so many standard deviations of the image from its mean."""

MOMENTS = (
    "mean intensity",
    "standard deviation of intensity",
    "third moment of intensity (cube root)",
    "fourth moment of intensity (fourth root)",
)


@dataclass(frozen=True)
class Histogram(WindowDescriptor):
    """Histogram and low moments of the intensities in the window around every grid point.

    Blind to where in the window an intensity occurs. It tells a honeycomb from its inverse, bright columns on
    a dark ground from dark holes in a bright one, whose correlations are the same.

    Parameters
    ----------
    window_radius : int or (rows, cols)
        Half size of the window in pixels; 20 means 41 pixels. At least one lattice period.
    n_bins : int
        Number of bins, at least 2.
    border : {"full", "valid"}
        "full" looks at the whole image, "valid" only where the window lies inside.

    Notes
    -----
    Intensities count in standard deviations of the image's valid pixels from their mean, so gain and offset
    do not matter, but differences and slow changes of brightness within the image do. The bins share the
    range from -3 to 3 equally, an intensity on an edge belongs to the upper one, and the outermost take what
    lies beyond. Their values are densities, the fraction of the window's valid pixels over the width of a
    bin. The moments are the mean, the standard deviation, and the cube and fourth roots of the third and
    fourth central moments (the third keeps its sign): all are intensities, and none explodes in a window that
    is nearly flat.

    Pixels that are masked, not finite or outside the image do not count. Where fewer than half of a window's
    pixels are valid, the values are those of the nearest grid point. A flat window (variance below 1e-10 of
    the image's) has one bin and its mean.
    """

    window_radius: Any = 20
    n_bins: int = 16
    border: str = "full"

    def operations(self) -> tuple[Feature, ...]:
        """The bins from dark to bright, then the moments.

        Returns
        -------
        tuple of Feature

        Raises
        ------
        TypeError, ValueError
            For a parameter that makes no sense.
        """
        inner = [f"{edge:+.2f}" for edge in self._edges()]
        names = [f"below {inner[0]}"]
        names += [f"{a} to {b}" for a, b in itertools.pairwise(inner)]
        names += [f"from {inner[-1]}"]
        return (*(Feature(f"histogram {name} std") for name in names), *map(Feature, MOMENTS))

    def _edges(self) -> np.ndarray:
        """Edges between bins."""
        return np.linspace(-RANGE, RANGE, check_int(self.n_bins, "n_bins", 2) + 1)[1:-1]

    def _measure(self, ready: Ready, xp: Any) -> Callable[[Windows], Any]:
        edges = self._edges()
        width = 2 * RANGE / (len(edges) + 1)

        def measure(windows: Windows) -> Any:
            # above[k]: share of the pixels from edge k on; the bins are the differences
            above = [_share(windows, windows.pixels >= np.float32(edge), xp) for edge in edges]
            everything = xp.ones_like(windows.mean)
            shares = [a - b for a, b in zip([everything, *above], [*above, 0 * everything], strict=True)]
            return xp.stack([*(share / width for share in shares), *_moments(windows, xp)], axis=-1)

        return measure


def _share(windows: Windows, where: Any, xp: Any) -> Any:
    """Fraction of the valid pixels of each window."""
    if windows.inside is not None:
        where = where & (windows.inside > 0)
    return xp.astype(xp.count_nonzero(where, axis=(-2, -1)), xp.float32) / windows.count


def _moments(windows: Windows, xp: Any) -> list[Any]:
    squares = windows.values * windows.values
    third = xp.sum(squares * windows.values, axis=(-2, -1)) / windows.count
    fourth = xp.sum(squares * squares, axis=(-2, -1)) / windows.count
    root = xp.sign(third) * xp.abs(third) ** (1 / 3)
    return [windows.mean, xp.sqrt(windows.variance), root, fourth**0.25]
