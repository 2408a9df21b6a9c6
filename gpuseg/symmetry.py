"""Candidate symmetry operations: what a score is a score of.

Wang et al. 2021 score how well the patch at a position maps onto the image under a candidate operation O
(their eq. 1). Each operation is a small immutable value that prints readably and can be used as a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "Feature",
    "GlideReflection",
    "Part",
    "Ranked",
    "Reflection",
    "Rotation",
    "Translation",
    "translations_in_window",
]


@dataclass(frozen=True, order=True)
class Translation:
    """Shift of a patch by whole pixels (paper eq. 3: m = ``d_row``, n = ``d_col``).

    Parameters
    ----------
    d_row, d_col : int
        Shift along the rows (downwards) and along the columns (to the right), in pixels.
    """

    d_row: int
    d_col: int

    def __neg__(self) -> Translation:
        return Translation(-self.d_row, -self.d_col)

    def __str__(self) -> str:
        return f"translation ({self.d_row:+d}, {self.d_col:+d}) px"


@dataclass(frozen=True, order=True)
class Rotation:
    """Turn of a patch about its centre.

    Parameters
    ----------
    angle : float
        In degrees, counter-clockwise as the image is seen.
    """

    angle: float

    @property
    def matrix(self) -> np.ndarray:
        """(2, 2) float64: acts on (row, col) from the centre of the patch."""
        c, s = _cosine_sine(self.angle)
        return np.array([[c, -s], [s, c]])

    @property
    def shift(self) -> np.ndarray:
        """(2,) float64: (row, col) added afterwards; none."""
        return np.zeros(2)

    def __str__(self) -> str:
        return f"rotation {self.angle:g}°"


@dataclass(frozen=True, order=True)
class Reflection:
    """Mirror image of a patch at a line through its centre.

    Parameters
    ----------
    angle : float
        Direction of the line in degrees, counter-clockwise from the column axis: 0 is the horizontal line.
    """

    angle: float

    @property
    def matrix(self) -> np.ndarray:
        """(2, 2) float64: acts on (row, col) from the centre of the patch (paper: the matrix M)."""
        c, s = _cosine_sine(2 * self.angle)
        return np.array([[-c, -s], [-s, c]])

    @property
    def shift(self) -> np.ndarray:
        """(2,) float64: (row, col) added afterwards; none."""
        return np.zeros(2)

    def __str__(self) -> str:
        return f"reflection {self.angle:g}°"


@dataclass(frozen=True, order=True)
class GlideReflection:
    """Mirror image of a patch at a line through its centre, moved along that line (paper: r -> M r + t').

    Parameters
    ----------
    angle : float
        Direction of the line in degrees, counter-clockwise from the column axis.
    glide : float
        How far, in pixels.
    """

    angle: float
    glide: float

    @property
    def matrix(self) -> np.ndarray:
        """(2, 2) float64: acts on (row, col) from the centre of the patch."""
        return Reflection(self.angle).matrix

    @property
    def shift(self) -> np.ndarray:
        """(2,) float64: (row, col) added afterwards, the paper's t'."""
        c, s = _cosine_sine(self.angle)
        return self.glide * np.array([-s, c])

    def __str__(self) -> str:
        return f"glide reflection {self.angle:g}°, {self.glide:.4g} px"


def _cosine_sine(angle: float) -> tuple[float, float]:
    """Of an angle in degrees; exact for quarter turns."""
    quarters, rest = divmod(angle, 90)
    c, s = np.cos(np.deg2rad(rest)), np.sin(np.deg2rad(rest))
    for _ in range(int(quarters) % 4):
        c, s = -s, c
    return float(c), float(s)


@dataclass(frozen=True)
class Ranked:
    """One of the largest scores of an operation in a pooling window.

    Parameters
    ----------
    operation : Rotation, Reflection, ...
    rank : int
        0 for the largest score, 1 for the second largest, ...
    """

    operation: Any
    rank: int

    def __str__(self) -> str:
        return f"{self.operation}, rank {self.rank + 1}"


@dataclass(frozen=True, order=True)
class Feature:
    """What a descriptor measures that scores no symmetry operation, by name.

    Parameters
    ----------
    name : str
        E.g. "power spectrum (+3, -2) / 41 px".
    """

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Part:
    """An operation of one of several fused descriptors.

    Two of them may score the same operation, each on patches of its own size.

    Parameters
    ----------
    block : int
        Which of the descriptors, counted from 0.
    operation : Translation, Feature, ...
    """

    block: int
    operation: Any

    def __str__(self) -> str:
        return f"{self.block}: {self.operation}"


def translations_in_window(window_radius: tuple[int, int], max_num_points: int) -> tuple[Translation, ...]:
    """The densest uniform grid of translations in the shift window with at most `max_num_points` members.

    Parameters
    ----------
    window_radius : (rows, cols) of int
        Half sizes of the shift window in pixels, each at least 0.
    max_num_points : int
        Largest number of translations, at least 1.

    Returns
    -------
    tuple of Translation
        Row by row from ``(-rows, -cols)`` in steps g, the smallest whole number for which they are few
        enough (paper, Appendix A).
    """
    rows, cols = window_radius
    step = 1
    while (2 * rows // step + 1) * (2 * cols // step + 1) > max_num_points:
        step += 1
    return tuple(
        Translation(d_row, d_col)
        for d_row in range(-rows, rows + 1, step)
        for d_col in range(-cols, cols + 1, step)
    )


def as_translations(translations: Any) -> tuple[Translation, ...]:
    """Check and convert a list of translations given by the user.

    Parameters
    ----------
    translations : sequence of Translation or (n, 2) array_like of int
        Shifts (d_row, d_col) in pixels; no shift may occur twice.

    Returns
    -------
    tuple of Translation

    Raises
    ------
    ValueError, TypeError
        If there is none, one is not a pair of whole numbers, or one occurs twice.
    """
    hint = "give whole pixels (d_row, d_col), e.g. [(0, 14), (12, 7)]"
    if isinstance(translations, str | bytes) or not isinstance(translations, Iterable):
        raise TypeError(f"`translations` is {translations!r}; {hint}")
    found = tuple(_as_translation(entry, hint) for entry in translations)
    if not found:
        raise ValueError(f"`translations` is empty; {hint}")
    if len(set(found)) < len(found):
        twice = next(t for t in found if found.count(t) > 1)
        raise ValueError(f"`translations` holds {twice} more than once; each may occur once")
    return found


def _as_translation(entry: Any, hint: str) -> Translation:
    if isinstance(entry, Translation):
        return entry
    pair: Sequence[Any] = entry.tolist() if isinstance(entry, np.ndarray) else entry
    try:
        d_row, d_col = pair
        whole = int(d_row) == d_row and int(d_col) == d_col
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"`translations` holds {entry!r}; {hint}") from None
    if not whole:
        raise ValueError(f"`translations` holds {entry!r}; {hint}")
    return Translation(int(d_row), int(d_col))
