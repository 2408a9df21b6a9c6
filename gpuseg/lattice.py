"""The lattice in an image: its autocorrelation, the peaks of it, and the periods they tell."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuseg.arrays import home_of, namespace, to_numpy
from gpuseg.checks import check_image, check_mask

__all__ = ["Autocorrelation", "LatticeVector", "autocorrelation", "lattice_period", "period_along"]

REACH = 1 / 3
"""Largest shift of an autocorrelation, as a share of the image's side; two thirds of it still overlap."""

BACKGROUND = 1 / 16
"""What is broader than about four times this share of the shorter side is background and taken off."""

PAIRS = 0.25
"""A shift is judged only where at least this share of the pixels has a valid partner."""

ROUNDING = 1e-5
"""Of the image's energy: what less of it overlaps is nothing but the rounding of the Fourier transforms."""

SIGNIFICANT = 6.0
"""A peak has to be so many standard errors high: the highest of 1e5 shifts of pure noise has about 4.5."""

DIP = 0.3
"""Between no shift and a peak the autocorrelation has to fall below the peak by this share of it."""

MOST_PEAKS = 400
"""So many peaks are looked at, the shortest."""

FULL = 0.68
"""A lattice vector is at least this high compared with its double and its triple.

Vectors from one column of a cell to another one are peaks too, but a multiple of them may be a lattice
vector: they are at most half as high in a honeycomb, two thirds in a perovskite.
"""

LASTING = 0.25
"""The share of a lattice vector's height that is left at twice and three times the vector, at least.

In an amorphous structure the first ring may be as high, but order is lost after it.
"""

AGAIN = 0.05
"""The double and the triple are looked for within this share of their lengths."""

FAINT, FARTHER = 0.5, 3.5
"""Peaks below this share of the highest one from half to so many times their length are left out."""


@dataclass(frozen=True)
class LatticeVector:
    """A shift that brings the lattice onto itself, as the autocorrelation shows it.

    Parameters
    ----------
    d_row, d_col : float
        In pixels; known to a fraction of one.
    height : float
        Of the autocorrelation there, in [-1, 1].
    """

    d_row: float
    d_col: float
    height: float

    @property
    def length(self) -> float:
        """In pixels."""
        return math.hypot(self.d_row, self.d_col)

    @property
    def angle(self) -> float:
        """Direction in degrees, counter-clockwise from the column axis, in [0, 180)."""
        return math.degrees(math.atan2(-self.d_row, self.d_col)) % 180


@dataclass(frozen=True, eq=False)
class Autocorrelation:
    """How well an image matches itself, shifted; made by `autocorrelation`.

    Parameters
    ----------
    values : (2 R + 1, 2 C + 1) NumPy array
        Correlation coefficient in [-1, 1] at the shifts from (-R, -C) to (R, C); NaN where too few pixels
        have a valid partner. ``values[R, C]`` belongs to no shift.
    error : float
        Standard error of a value far from any peak, had the image no order.
    """

    values: np.ndarray
    error: float

    @property
    def reach(self) -> tuple[int, int]:
        """Largest shift (R, C) in pixels."""
        return self.values.shape[0] // 2, self.values.shape[1] // 2

    def at(self, d_row: Any, d_col: Any) -> np.ndarray:
        """Values at any shifts, between the pixels by linear interpolation.

        Parameters
        ----------
        d_row, d_col : array_like
            In pixels.

        Returns
        -------
        NumPy array
            NaN outside the reach.
        """
        from scipy import ndimage

        place = np.broadcast_arrays(np.asarray(d_row) + self.reach[0], np.asarray(d_col) + self.reach[1])
        return ndimage.map_coordinates(self.values, place, order=1, cval=np.nan)

    @functools.cached_property
    def peaks(self) -> tuple[LatticeVector, ...]:
        """Significant maxima in the lower half plane, the shortest first."""
        return tuple(sorted(self._maxima(), key=lambda peak: peak.length))

    @functools.cached_property
    def vectors(self) -> tuple[LatticeVector, ...]:
        """Lattice vectors, the shortest first: peaks that come again at their multiples.

        Empty where there is no lattice.
        """
        length = np.array([peak.length for peak in self.peaks])
        height = np.array([peak.height for peak in self.peaks])
        return tuple(
            peak
            for peak in self.peaks
            if peak.height >= FAINT * height[_between(length, peak.length / 2, FARTHER * peak.length)].max()
            and self._repeats(peak)
        )

    def _maxima(self) -> Iterator[LatticeVector]:
        from scipy import ndimage

        known = np.where(np.isnan(self.values), -np.inf, self.values)
        is_peak = (known == ndimage.maximum_filter(known, 3)) & (known > SIGNIFICANT * self.error)
        rows, cols = self.reach
        is_peak[:rows, :] = is_peak[rows, : cols + 1] = False  # each shift has its opposite
        shifts = np.argwhere(is_peak) - (rows, cols)
        length = np.hypot(shifts[:, 0], shifts[:, 1])
        near = self._half_width()
        for n in np.argsort(length, kind="stable")[:MOST_PEAKS]:
            d_row, d_col = shifts[n]
            around = self.values[
                max(0, rows + d_row - near) : rows + d_row + near + 1,
                max(0, cols + d_col - near) : cols + d_col + near + 1,
            ]
            if around.shape != (2 * near + 1, 2 * near + 1) or around.max() != around[near, near]:
                continue  # at the edge, not known everywhere, or noise beside a higher maximum
            row_shift, col_shift, height = _vertex(around)
            peak = LatticeVector(float(d_row + row_shift), float(d_col + col_shift), height)
            if self._lowest_before(peak) < (1 - DIP) * height:
                yield peak

    def _half_width(self) -> int:
        """Radius in pixels at which the central peak, like any other, has fallen to half of its height."""
        angles = np.linspace(0, np.pi, 32, endpoint=False)
        radii = np.arange(1, max(2, min(self.reach)))  # at 0 stands the noise
        profile = self.at(np.outer(radii, np.sin(angles)), np.outer(radii, np.cos(angles))).mean(axis=1)
        return int(radii[np.argmax(profile < profile[0] / 2)])

    def _lowest_before(self, peak: LatticeVector) -> float:
        """Least value on the way from no shift to a peak."""
        way = np.linspace(0, 1, max(8, 2 * math.ceil(peak.length)))
        return float(np.nanmin(self.at(way * peak.d_row, way * peak.d_col)))

    def _repeats(self, peak: LatticeVector) -> bool:
        """Whether a peak comes again, no lower and no higher, at its multiples as far as they can be seen."""
        heights = []
        for n in (2, 3):
            spread = math.ceil(max(1.5, AGAIN * n * peak.length))
            near = np.arange(-spread, spread + 1)
            around = self.at(n * peak.d_row + near[:, None], n * peak.d_col + near)
            if np.isnan(around).all():
                break
            heights.append(float(np.nanmax(around)))
        if not heights:
            return False
        least = max(LASTING * peak.height, SIGNIFICANT / 2 * self.error)
        return min(heights) >= least and peak.height >= FULL * max(heights)


def autocorrelation(image: Any, mask: Any = None) -> Autocorrelation:
    """How well an image matches itself at every shift up to a third of its sides.

    Slow changes of brightness are taken off first, and both copies are normalised over the pixels that
    overlap, so neither a background nor the border pulls at the peaks (masked normalised correlation,
    Padfield, IEEE Trans. Image Process. 21 (2012)).

    Parameters
    ----------
    image : (H, W) array_like
        NumPy or CuPy; the Fourier transforms run where it lives.
    mask : (H, W) array_like of bool, optional
        True where a pixel may be used. NaN and infinite pixels never are.

    Returns
    -------
    Autocorrelation
        All zero if the image is constant or has no valid pixel.

    Raises
    ------
    TypeError, ValueError
        For an image or mask that makes no sense.
    """
    from scipy.fft import next_fast_len

    image = check_image(image)
    mask = check_mask(mask, image.shape)
    xp = namespace(image)
    valid = xp.ones(image.shape, dtype=xp.bool) if mask is None else xp.asarray(mask)
    if image.dtype.kind == "f":
        valid = valid & xp.isfinite(image)
    reach = (int(REACH * image.shape[0]), int(REACH * image.shape[1]))
    size = tuple(next_fast_len(n + r, real=True) for n, r in zip(image.shape, reach, strict=True))
    weight = xp.astype(valid, xp.float32)
    pixels = _without_background(_without_mean(image, valid), weight, size)
    spectrum, energy, shape = (_spectrum(plane, size) for plane in (pixels, pixels * pixels, weight))
    product, here, pairs = (
        _central(_inverse(each, size), reach)
        for each in (xp.abs(spectrum) ** 2, xp.conj(energy) * shape, xp.abs(shape) ** 2)
    )
    there = xp.flip(here)  # of the other copy: the same at the opposite shift
    enough = pairs >= PAIRS * pairs[reach[0], reach[1]]
    least = ROUNDING * float(here[reach[0], reach[1]])
    norm = xp.sqrt(xp.where((here > least) & (there > least), here * there, xp.ones_like(here)))
    values = xp.where(norm > 0, product / norm, xp.zeros_like(norm))
    values = to_numpy(xp.where(enough, values, xp.asarray(xp.nan, dtype=values.dtype)))
    return Autocorrelation(values, _standard_error(values, float(xp.sum(weight))))


def lattice_period(image: Any, mask: Any = None) -> float | None:
    """Length of the shortest lattice vector in an image.

    Parameters
    ----------
    image : (H, W) array_like or Autocorrelation
    mask : (H, W) array_like of bool, optional
        True where a pixel may be used.

    Returns
    -------
    float or None
        In pixels; that of the lattice which fills most of the image where there are several. None if there
        is no lattice, or if fewer than about three periods fit into a third of the image.

    Raises
    ------
    TypeError, ValueError
        For an image or mask that makes no sense.
    """
    found = image if isinstance(image, Autocorrelation) else autocorrelation(image, mask)
    return found.vectors[0].length if found.vectors else None


def period_along(found: Autocorrelation, angle: float, tolerance: float = 5.0) -> float | None:
    """Length of the shortest lattice vector along a direction.

    Parameters
    ----------
    found : Autocorrelation
        Of the image.
    angle : float
        Of the direction in degrees, counter-clockwise from the column axis.
    tolerance : float
        Largest deviation of the lattice vector from it, in degrees.

    Returns
    -------
    float or None
        In pixels; None if no lattice vector points there.

    Raises
    ------
    ValueError
        If `angle` is not finite or `tolerance` is not in (0, 90].
    """
    if not math.isfinite(angle):
        raise ValueError(f"`angle` is {angle}; a finite number of degrees is needed")
    if not 0 < tolerance <= 90:
        raise ValueError(f"`tolerance` is {tolerance}; degrees above 0 and at most 90 are needed")
    for vector in found.vectors:
        if abs((vector.angle - angle + 90) % 180 - 90) <= tolerance:
            return vector.length
    return None


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return (values >= low) & (values <= high)


def _spectrum(plane: Any, size: tuple[int, int]) -> Any:
    if home_of(plane).kind == "cpu":
        from scipy import fft

        return fft.rfft2(to_numpy(plane), s=size, workers=-1)
    return namespace(plane).fft.rfftn(plane, s=size, axes=(0, 1))


def _inverse(spectrum: Any, size: tuple[int, int]) -> Any:
    if home_of(spectrum).kind == "cpu":
        from scipy import fft

        return fft.irfft2(spectrum, s=size, workers=-1)
    return namespace(spectrum).fft.irfftn(spectrum, s=size, axes=(0, 1))


def _central(plane: Any, reach: tuple[int, int]) -> Any:
    """The shifts from -reach to reach of a correlation whose shift 0 is in the corner."""
    xp = namespace(plane)
    rows, cols = reach
    plane = xp.roll(plane, (rows, cols), axis=(0, 1))
    return plane[: 2 * rows + 1, : 2 * cols + 1]


def _without_mean(image: Any, valid: Any) -> Any:
    """Pixels in standard deviations from their mean as float32; 0 where not valid, or where all are equal."""
    xp = namespace(image)
    pixels = xp.where(valid, xp.astype(image, xp.float64), xp.zeros(image.shape, dtype=xp.float64))
    count = max(float(xp.sum(xp.astype(valid, xp.float64))), 1.0)
    level = float(xp.sum(pixels)) / count
    pixels = xp.where(valid, pixels - level, xp.zeros_like(pixels))
    spread = math.sqrt(float(xp.sum(pixels * pixels)) / count)
    # what is left of a constant image is the rounding of its mean
    scale = 1 / spread if spread > 1e-12 * abs(level) else 0.0
    return xp.astype(pixels * scale, xp.float32)


def _without_background(pixels: Any, weight: Any, size: tuple[int, int]) -> Any:
    """Pixels less the weighted mean of their wide surroundings; 0 where the weight is."""
    xp = namespace(pixels)
    sigma = BACKGROUND * min(pixels.shape)
    frequencies = (np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :])
    blur = np.exp(-2 * (math.pi * sigma) ** 2 * (frequencies[0] ** 2 + frequencies[1] ** 2))
    transfer = xp.asarray(blur.astype(np.float32))
    total, share = (
        _inverse(_spectrum(plane, size) * transfer, size)[: pixels.shape[0], : pixels.shape[1]]
        for plane in (pixels, weight)
    )
    return (pixels - total / xp.where(share > 1e-3, share, 1e-3)) * weight


def _standard_error(values: np.ndarray, n_pixels: float) -> float:
    """That of a correlation coefficient of so many pixels, correlated over the width of the central peak."""
    centre = (values.shape[0] // 2, values.shape[1] // 2)
    around = values[tuple(slice(max(0, c - 3), c + 4) for c in centre)]
    return math.sqrt(float(np.nansum(around**2)) / max(n_pixels, 1.0))


def _vertex(around: np.ndarray) -> tuple[float, float, float]:
    """Place, from the middle, and height of the top of the parabola through (2 n + 1, 2 n + 1) values."""
    near = around.shape[0] // 2
    row, col = np.mgrid[-near : near + 1, -near : near + 1].reshape(2, -1) / near
    inside = row * row + col * col <= 2 if near == 1 else row * row + col * col <= 1
    terms = np.stack([np.ones(row.size), row, col, row * row, row * col, col * col], axis=1)
    c, r, s, rr, rs, ss = np.linalg.lstsq(terms[inside], around.ravel()[inside], rcond=None)[0]
    hessian = np.array([[2 * rr, rs], [rs, 2 * ss]])
    if np.linalg.det(hessian) <= 0 or rr >= 0:
        return 0.0, 0.0, float(around[near, near])
    step = np.clip(np.linalg.solve(hessian, [-r, -s]), -1, 1)
    return float(near * step[0]), float(near * step[1]), float(c + (r * step[0] + s * step[1]) / 2)
