"""Translation symmetry: how well a patch maps onto the image around it (paper, eq. 3)."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuseg.checks import check_choice, check_int, check_radius
from gpuseg.descriptors.base import BORDERS, Descriptor, Ready, Score, place_grid
from gpuseg.descriptors.filling import filled
from gpuseg.engines import engine_for
from gpuseg.grid import Grid
from gpuseg.symmetry import Translation, as_translations, translations_in_window

__all__ = ["LocalCorrelationMap", "PreselectedTranslations", "choose_method"]

METHODS = ("auto", "direct", "fft", "box")


class Translations(Descriptor):
    """A descriptor of translations.

    A subclass is a dataclass with ``patch_radius``, ``method`` and ``border``.
    """

    patch_radius: Any
    method: str
    border: str

    @abstractmethod
    def reach(self) -> tuple[int, int]:
        """Largest shift (rows, cols) in pixels.

        Returns
        -------
        (int, int)
        """

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
        radius = check_radius(self.patch_radius, "patch_radius")
        check_choice(self.method, "method", METHODS)
        border = check_choice(self.border, "border", BORDERS)
        return place_grid(image_shape, stride, radius, border, "patch_radius", self.reach())

    def halo(self) -> tuple[int, int]:
        """How far from a grid point pixels are looked at: patch and largest shift.

        Returns
        -------
        (rows, cols) of int
        """
        radius, reach = check_radius(self.patch_radius, "patch_radius"), self.reach()
        return radius[0] + reach[0], radius[1] + reach[1]

    def keeping(self, indices: Sequence[int]) -> PreselectedTranslations:
        """The descriptor of some of the translations.

        Parameters
        ----------
        indices : sequence of int
            Places in `operations`.

        Returns
        -------
        PreselectedTranslations
        """
        operations = self.operations()
        kept = tuple(operations[k] for k in indices)
        return PreselectedTranslations(kept, self.patch_radius, self.method, self.border)

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
        radius = check_radius(self.patch_radius, "patch_radius")
        method = check_choice(self.method, "method", METHODS)
        operations = self.operations()
        shifts = np.array([(t.d_row, t.d_col) for t in operations], np.int64)
        if method == "auto":
            method = choose_method(grid, shifts, radius)
        engine = engine_for(ready.device)

        def score(band: Grid) -> Any:
            return engine.translation_scores(ready.pixels, ready.valid, band, shifts, radius, method)

        if self.border == "valid" and ready.valid is None:
            return score
        reach = self.reach()
        return filled(score, ready, grid, _opposites(operations), lambda band: _complete(band, radius, reach))


@dataclass(frozen=True)
class LocalCorrelationMap(Translations):
    """Pearson's coefficient of the patch at every grid point with its copies in a shift window.

    The paper's default descriptor ("local correlation map", eq. 3): the periodicity of a crystal shows as
    maxima at its lattice vectors.

    Parameters
    ----------
    patch_radius : int or (rows, cols)
        Half size of the patch in pixels; 20 means 41 pixels. Best about one to two lattice periods.
    window_radius : int or (rows, cols)
        Half size of the shift window in pixels, at least one lattice period.
    max_num_points : int
        Largest number of translations. They are the densest uniform grid in the window with at most so many
        members. More of them make segmentation far more robust to noise.
    method : {"auto", "direct", "fft", "box"}
        How the same scores are computed: from the definition, by batched Fourier transforms (paper,
        Appendix B), or by box sums of product images, whose cost does not depend on the patch.
    border : {"full", "valid"}
        "full" scores the whole image: pixels outside count as masked, a translation that cannot be scored
        takes the score of its opposite, else that of the nearest grid point. "valid" is the paper's: only
        positions whose patch and shifts lie inside the image.

    Notes
    -----
    Scores lie in [-1, 1]; the shift (0, 0) scores 1. A patch that is flat (variance below 1e-10 of the
    image's) scores 0 with everything. Masked and non-finite pixels are left out; where less than half of
    the pixel pairs remain, the score is missing and filled as above.
    """

    patch_radius: Any = 20
    window_radius: Any = 20
    max_num_points: int = 100
    method: str = "auto"
    border: str = "full"

    def operations(self) -> tuple[Translation, ...]:
        """The translations that are scored, row by row.

        Returns
        -------
        tuple of Translation

        Raises
        ------
        TypeError, ValueError
            For a parameter that makes no sense.
        """
        window = check_radius(self.window_radius, "window_radius")
        return translations_in_window(window, check_int(self.max_num_points, "max_num_points", 1))

    def reach(self) -> tuple[int, int]:
        """Largest shift (rows, cols) in pixels: the half size of the window.

        Returns
        -------
        (int, int)
        """
        return check_radius(self.window_radius, "window_radius")


@dataclass(frozen=True)
class PreselectedTranslations(Translations):
    """Pearson's coefficient of the patch at every grid point with its copies at given shifts.

    The paper's way to make series fast: score only the translations that separate the patterns best.

    Parameters
    ----------
    translations : sequence of Translation or (n, 2) array_like of int
        Shifts (d_row, d_col) in pixels, each once.
    patch_radius, method, border
        As in `LocalCorrelationMap`.
    """

    translations: Any
    patch_radius: Any = 20
    method: str = "auto"
    border: str = "full"

    def __post_init__(self) -> None:  # so that it compares, however the translations were given
        with contextlib.suppress(TypeError, ValueError):  # `operations` tells what is wrong with them
            object.__setattr__(self, "translations", as_translations(self.translations))

    def operations(self) -> tuple[Translation, ...]:
        """The translations that are scored, in the order given.

        Returns
        -------
        tuple of Translation

        Raises
        ------
        TypeError, ValueError
            If they make no sense.
        """
        return as_translations(self.translations)

    def reach(self) -> tuple[int, int]:
        """Largest shift (rows, cols) in pixels.

        Returns
        -------
        (int, int)
        """
        shifts = [(abs(t.d_row), abs(t.d_col)) for t in self.operations()]
        return max(d for d, _ in shifts), max(e for _, e in shifts)


def _complete(grid: Grid, radius: tuple[int, int], reach: tuple[int, int]) -> tuple[int, int, int, int]:
    """First row, end, first column, end of the grid points whose patches and shifts lie inside the image."""
    ends = []
    for axis, positions in enumerate((grid.rows, grid.cols)):
        margin = radius[axis] + reach[axis]
        ends += np.searchsorted(positions, [margin, grid.image_shape[axis] - margin]).tolist()
    return tuple(ends)


def _opposites(operations: tuple[Translation, ...]) -> np.ndarray:
    position = {t: k for k, t in enumerate(operations)}
    return np.array([position.get(-t, -1) for t in operations], np.int64)


def choose_method(grid: Grid, shifts: np.ndarray, patch_radius: tuple[int, int]) -> str:
    """The method that costs least for a grid, some shifts and a patch.

    By a model fitted to measurements on two CPU cores (`benchmarks`, cases methods-*): `direct` pays for
    every pixel of every patch and translation, `box` prepares every pixel once and then pays little for each
    of them and nothing for the patch. `fft` pays for a transform of the whole window at every grid point,
    which one of the others always undercuts.

    Parameters
    ----------
    grid : Grid
    shifts : (N, 2) int array
    patch_radius : (rows, cols) of int

    Returns
    -------
    {"direct", "box"}
    """
    patch = (2 * patch_radius[0] + 1) * (2 * patch_radius[1] + 1)
    pixels = grid.image_shape[0] * grid.image_shape[1]
    direct = grid.size * len(shifts) * (1.6 * patch + 100)  # nanoseconds
    box = pixels * (10 + 0.15 * len(shifts))
    return "direct" if direct < box else "box"
