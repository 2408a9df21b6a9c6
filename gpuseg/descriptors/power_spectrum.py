"""Power spectrum of the window around every grid point: which spatial frequencies are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuseg.arrays import namespace
from gpuseg.checks import check_flag, check_radius
from gpuseg.descriptors.base import Ready
from gpuseg.descriptors.shared_rows import window_sums
from gpuseg.descriptors.windows import Part, WindowDescriptor, Windows
from gpuseg.grid import Grid
from gpuseg.symmetry import Feature

__all__ = ["PowerSpectrum"]


@dataclass(frozen=True)
class PowerSpectrum(WindowDescriptor):
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

    def _measure(self, ready: Ready, xp: Any) -> Callable[[Windows], Any]:
        rows, cols = map(xp.asarray, self._waves(ready.spread))

        def measure(windows: Windows) -> Any:
            # two matrix products: windows are small and 41 is a prime, where a fast transform is none
            power = self._power(rows @ (windows.values @ cols.T), (2, 3))
            return xp.concat([xp.reshape(half, (*half.shape[:2], -1)) for half in power], axis=-1)

        return measure

    def _unmasked(self, ready: Ready) -> Callable[[Grid, Part, Any], None]:
        pixels = ready.pixels
        xp = namespace(pixels)
        rows, cols = self._waves(ready.spread)
        n, m = len(rows) // 2, len(cols) // 2

        def write(grid: Grid, part: Part, values: Any) -> None:
            same = xp.reshape(values[: n * m, ...], (n, m, *grid.shape))
            other = xp.reshape(values[n * m :, ...], (n - 1, m - 1, *grid.shape))
            for (row, col), sums in window_sums(pixels, grid, part, rows, cols):
                for half, power in zip((same, other), self._power(sums, (1, 2)), strict=True):
                    half[:, :, row, col] = xp.permute_dims(power, (1, 2, 0, 3))

        return write

    def _waves(self, spread: float) -> tuple[np.ndarray, np.ndarray]:
        """Waves along the rows and along the columns of a window, cosines first, (2 n, p) and (2 m, q)."""
        radius = check_radius(self.window_radius, "window_radius")
        rows, cols = (np.concat(_waves(r)) for r in radius)
        # the engines' image has variance 1: its spread comes back with the waves
        return rows.astype(np.float32), (spread * cols).astype(np.float32)

    def _power(self, sums: Any, axes: tuple[int, int]) -> tuple[Any, Any]:
        """Power at k_row >= 0 (n by m) and k_row < 0 (n - 1 by m - 1), of sums over (2 n, 2 m) waves."""
        xp = namespace(sums)
        n, m = (sums.shape[axis] // 2 for axis in axes)

        def of(row: slice, col: slice) -> Any:
            index: list[Any] = [slice(None)] * sums.ndim
            index[axes[0]], index[axes[1]] = row, col
            return sums[tuple(index)]

        def power(row: slice, col: slice, sign: int) -> Any:
            """The rows and columns of the cosines; the sines are n and m further on."""
            row_sin, col_sin = slice(row.start + n, None), slice(col.start + m, None)
            real, imaginary = of(row, col), of(row, col_sin)
            if sign > 0:
                real, imaginary = real - of(row_sin, col_sin), imaginary + of(row_sin, col)
            else:
                real, imaginary = real + of(row_sin, col_sin), imaginary - of(row_sin, col)
            # in place: they would not stay in the cache
            real *= real
            imaginary *= imaginary
            real += imaginary
            return xp.log1p(real) if self.logarithm else real

        return power(slice(0, n), slice(0, m), 1), power(slice(1, n), slice(1, m), -1)


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
