"""Scores at every pixel beside what SciPy needs for their box sums alone, on all cores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from gpuseg.engines import cpu

from .cases import Case
from .contenders import RADIUS, Gpuseg, Scene, descriptor_of
from .timing import Contender, Stages, seconds

SCIPY = "scipy uniform_filter"


class BoxSums:
    """``scipy.ndimage.uniform_filter`` of the product of the image with each of its shifted copies.

    No mean is taken off, no norm is divided by, no border is treated: less than half of what a score needs.
    Products are spread over as many threads as gpuseg uses; the filter releases the GIL.
    """

    def __init__(self, scene: Scene, case: Case) -> None:
        image = scene[0]
        self.image = (image - image.mean()).astype(np.float32)
        self.operations = descriptor_of(case, "box").operations()
        self.reach = max(max(abs(t.d_row), abs(t.d_col)) for t in self.operations)
        self.result: Any = None

    def __call__(self) -> Stages:
        """Do it once."""
        spent, self.result = seconds(self._sums)
        return {"descriptors": spent}

    def _sums(self) -> np.ndarray:
        from scipy import ndimage

        (height, width), reach = self.image.shape, self.reach
        around = np.pad(self.image, reach)
        means = np.empty((len(self.operations), height, width), np.float32)
        size = tuple(2 * r + 1 for r in RADIUS)

        def one(k: int) -> None:
            row, col = reach + self.operations[k].d_row, reach + self.operations[k].d_col
            product = self.image * around[row : row + height, col : col + width]
            ndimage.uniform_filter(product, size, output=means[k], mode="constant")

        with ThreadPoolExecutor(cpu.n_threads()) as threads:
            list(threads.map(one, range(len(self.operations))))
        return means


def contenders(case: Case, device: str, scene: Scene) -> tuple[list[Contender], str]:
    """gpuseg with each border, and SciPy; the baseline is SciPy."""
    people = [Contender(SCIPY, BoxSums(scene, case))]
    for resident in (False, True) if device == "cuda" else (False,):
        for border in ("full", "valid"):
            who = Gpuseg(scene, case, device, "box", resident)
            who.descriptor = replace(who.descriptor, border=border)
            name = "gpuseg" if device == "cpu" else f"gpuseg cuda{', resident' if resident else ''}"
            people.append(Contender(name if border == "full" else f"{name}, valid", who, who.rightness))
    return people, SCIPY
