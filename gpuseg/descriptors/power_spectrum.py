"""Power spectrum of the window around every grid point: which spatial frequencies are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuseg.arrays import namespace
from gpuseg.checks import check_flag, check_radius
from gpuseg.descriptors.base import Descriptors
from gpuseg.descriptors.windows import Windows, describe_windows, window_grid
from gpuseg.grid import Grid
from gpuseg.symmetry import Feature

__all__ = ["PowerSpectrum"]


@dataclass(frozen=True)
class PowerSpectrum:
    """Squared modulus of the Fourier transform of the window around every grid point.

    Knows nothing of where in the window the atoms lie, and everything about their spacings and directions.

    Parameters
    ----------
    window_radius : int or (rows, cols)
        Half size of the window in pixels; 20 means 41 pixels. A few lattice periods.
    logarithm : bool
        Whether log(1 + power) is given instead of the power itself, for weak reflections to count too.
    border : {"full", "valid"}
        "full" looks at the whole image, "valid" only where the window lies inside.

    Notes
    -----
    The window's mean is subtracted and its pixels are multiplied by sqrt(hann(row) hann(column)), the Hann
    window's square root, so that their squares are Hann-weighted. The power is in squares of the image's own
    unit (counts): its logarithm is linear where the power is far below 1, so an image in units of which its
    contrast is tiny, such as metres of height, is better scaled up first. Without the logarithm a gain g
    multiplies everything by g^2. The offset never matters.

    The spectrum of a real image is symmetric and half of it is given: the frequencies (k_row, k_col) with
    k_col > 0, or k_col = 0 and k_row >= 0, in periods per window; (n_rows n_cols + 1) / 2 of them.

    Pixels that are masked, not finite or outside the image take the mean of the window's valid pixels. Where
    those are fewer than half the spectrum is that of the nearest grid point. A flat window (variance below
    1e-10 of the image's) has no power at all.
    """

    window_radius: Any = 20
    logarithm: bool = True
    border: str = "full"

    def operations(self) -> tuple[Feature, ...]:
        """The spatial frequencies.

        Returns
        -------
        tuple of Feature

        Raises
        ------
        TypeError, ValueError
            For a parameter that makes no sense.
        """
        check_flag(self.logarithm, "logarithm")
        rows, cols = check_radius(self.window_radius, "window_radius")
        size = f"{2 * rows + 1}" if rows == cols else f"({2 * rows + 1}, {2 * cols + 1})"
        return tuple(Feature(f"power spectrum ({k:+d}, {m:+d}) / {size} px") for k, m in _half(rows, cols))

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
        return window_grid(self, image_shape, stride)

    def transform(self, image: Any, stride: int = 5, mask: Any = None, device: Any = "auto") -> Descriptors:
        """The spectrum at every grid point.

        Parameters
        ----------
        image : (H, W) array_like
        stride : int
            Distance of grid points in pixels.
        mask : (H, W) array_like of bool, optional
            True where a pixel may be used.
        device : {"auto", "cpu", "cuda", "cuda:i"}

        Returns
        -------
        Descriptors
            With values (N, h, w) float32, at least 0, that live where `image` lives.

        Raises
        ------
        TypeError, ValueError, gpuseg.DeviceError
            As `gpuseg.LocalCorrelationMap.transform`.
        """
        return describe_windows(self, self._measure, image, stride, mask, device)

    def _measure(self, image: Any, valid: Any, xp: Any) -> Callable[[Windows], Any]:
        radius = check_radius(self.window_radius, "window_radius")
        # the engines' image has variance 1: its spread comes back with the weights
        spread = _spread(image, valid)
        rows, cols = (xp.asarray(np.concat(_waves(r)).astype(np.float32)) for r in radius)
        cols = xp.asarray(spread, dtype=xp.float32) * cols.T
        n, m = radius[0] + 1, radius[1] + 1

        def measure(windows: Windows) -> Any:
            # two matrix products: windows are small and 41 is a prime, where a fast transform is none
            waves = rows @ (windows.values @ cols)
            cc, cs = waves[..., :n, :m], waves[..., :n, m:]
            sc, ss = waves[..., n:, :m], waves[..., n:, m:]
            same = (cc - ss) ** 2 + (cs + sc) ** 2  # k_row >= 0
            other = ((cc + ss) ** 2 + (cs - sc) ** 2)[..., 1:, 1:]  # k_row < 0
            power = xp.concat([xp.reshape(half, (*half.shape[:2], -1)) for half in (same, other)], axis=-1)
            return xp.log1p(power) if self.logarithm else power

        return measure


def _half(rows: int, cols: int) -> list[tuple[int, int]]:
    """Frequencies (k_row, k_col) of which none is the opposite of another, in the order of the values."""
    same = [(k, m) for k in range(rows + 1) for m in range(cols + 1)]
    return same + [(-k, m) for k in range(1, rows + 1) for m in range(1, cols + 1)]


def _waves(radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines (k, pixel) of 0 to `radius` periods per window, times the root of the Hann window."""
    size = 2 * radius + 1
    weight = np.sqrt(np.hanning(size)) if radius else np.ones(1)
    phase = 2 * np.pi / size * np.outer(np.arange(radius + 1), np.arange(-radius, radius + 1))
    return weight * np.cos(phase), weight * np.sin(phase)


def _spread(image: Any, valid: Any) -> float:
    """Standard deviation of the valid pixels in the image's own unit."""
    xp = namespace(image)
    values = xp.astype(image if valid is None else image[valid], xp.float64)
    return float(xp.std(values - xp.reshape(values, (-1,))[0]))
