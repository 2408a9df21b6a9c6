"""The same symmetry maps as one would write them with SciPy or scikit-image, beside gpuseg's."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from gpuseg.engines import cpu

from . import truth
from .cases import Case
from .contenders import RADIUS, Gpuseg, Scene, descriptor_of
from .timing import Absent, Contender, Stages, seconds

SIZE = tuple(2 * r + 1 for r in RADIUS)


class Maps(ABC):
    """Translation scores by other means than gpuseg's.

    Parameters
    ----------
    scene : Scene
    case : Case
        Its translations are scored at its grid points whose patches and shifts lie inside the image.
    """

    def __init__(self, scene: Scene, case: Case) -> None:
        descriptor = descriptor_of(case, "box")
        self.image = scene[0]
        self.shifts = np.array([(t.d_row, t.d_col) for t in descriptor.operations()])
        self.reach = np.abs(self.shifts).max(axis=0)
        grid = descriptor.grid(self.image.shape, case.stride)
        self.grid = tuple(
            np.asarray(positions)[(positions >= radius + reach) & (positions < size - radius - reach)]
            for positions, radius, reach, size in zip(
                (np.asarray(grid.rows), np.asarray(grid.cols)),
                RADIUS,
                self.reach,
                self.image.shape,
                strict=True,
            )
        )
        self.result: Any = None

    def __call__(self) -> Stages:
        """Do it once."""
        spent, self.result = seconds(self.scores)
        return {"descriptors": spent}

    @abstractmethod
    def scores(self) -> np.ndarray:
        """The scores (N, h, w)."""

    def rightness(self) -> dict[str, float]:
        """Of the last result."""
        return {
            "largest error of a score": truth.score_error(
                self.image, self.result, self.shifts, self.grid, RADIUS
            )
        }


class UniformFilter(Maps):
    """Covariances and variances by ``scipy.ndimage.uniform_filter``, on as many threads as gpuseg uses."""

    def scores(self) -> np.ndarray:
        """One filter for each translation, two for means and variances."""
        from scipy import ndimage

        image = (self.image - self.image.mean()).astype(np.float32)
        mean = ndimage.uniform_filter(image, SIZE)
        deviation = np.sqrt(np.maximum(ndimage.uniform_filter(image * image, SIZE) - mean * mean, 1e-12))
        rows, cols = (slice(positions[0], positions[-1] + 1) for positions in self.grid)
        found = np.empty((len(self.shifts), rows.stop - rows.start, cols.stop - cols.start), np.float32)

        def one(k: int) -> None:
            there = tuple(-shift for shift in self.shifts[k])
            moved, its_mean, its_deviation = (
                np.roll(each, there, (0, 1)) for each in (image, mean, deviation)
            )
            covariance = ndimage.uniform_filter(image * moved, SIZE) - mean * its_mean
            found[k] = (covariance / (deviation * its_deviation))[rows, cols]

        with ThreadPoolExecutor(cpu.n_threads()) as threads:
            list(threads.map(one, range(len(self.shifts))))
        return found


class MatchTemplate(Maps):
    """``skimage.feature.match_template``: the patch of a grid point as template of its surroundings."""

    def scores(self) -> np.ndarray:
        """One call for each grid point."""
        from skimage.feature import match_template

        found = np.empty((len(self.shifts), *map(len, self.grid)), np.float32)
        near, far = RADIUS, tuple(r + int(reach) for r, reach in zip(RADIUS, self.reach, strict=True))

        def cut(row: int, col: int, half: tuple[int, ...]) -> np.ndarray:
            return self.image[row - half[0] : row + half[0] + 1, col - half[1] : col + half[1] + 1]

        where = tuple((self.shifts + self.reach).T)
        for i, row in enumerate(self.grid[0]):
            for j, col in enumerate(self.grid[1]):
                found[:, i, j] = match_template(cut(row, col, far), cut(row, col, near))[where]
        return found


def contenders(case: Case, device: str, scene: Scene) -> tuple[list[Contender | Absent], str]:
    """gpuseg and the other; the baseline is the other, where it is installed."""
    people: list[Contender | Absent] = []
    if case.stride == 1:
        other = UniformFilter(scene, case)
        people.append(Contender("scipy uniform_filter", other, other.rightness))
    elif importlib.util.find_spec("skimage") is None:
        people.append(Absent("scikit-image match_template", "scikit-image is not installed"))
    else:
        other = MatchTemplate(scene, case)
        people.append(Contender("scikit-image match_template", other, other.rightness))
    for resident in (False, True) if device == "cuda" else (False,):
        name = "gpuseg" if device == "cpu" else f"gpuseg cuda{', resident' if resident else ''}"
        who = Gpuseg(scene, case, device, "auto", resident)
        people.append(Contender(name, who, who.rightness))
    first = people[0] if isinstance(people[0], Contender) else people[1]
    return people, first.name
