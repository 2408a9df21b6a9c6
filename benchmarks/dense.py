"""Scores at every pixel beside what SciPy needs for their box sums alone, on all cores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from gpuseg.engines import cpu

from . import work
from .cases import COPIED, WRITTEN, Case
from .contenders import RADIUS, Gpuseg, Scene, descriptor_of
from .timing import Absent, Contender, Stages, seconds
from .work import Peaks

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


def contenders(case: Case, device: str, scene: Scene) -> tuple[list[Contender | Absent], str]:
    """gpuseg with each border, and SciPy; the baseline is SciPy."""
    people: list[Contender | Absent] = [Contender(SCIPY, BoxSums(scene, case))]
    for resident in (False, True) if device == "cuda" else (False,):
        for border in ("full", "valid"):
            who = Gpuseg(scene, case, device, "box", resident)
            who.descriptor = replace(who.descriptor, border=border)
            name = "gpuseg" if device == "cpu" else f"gpuseg cuda{', resident' if resident else ''}"
            people.append(Contender(name if border == "full" else f"{name}, valid", who, who.rightness))
    return people, SCIPY


def shares(descriptor: Any, stride: int, size: int, spent: float, peaks: Peaks) -> dict[str, float]:
    """How near to the speed of the memory a result came.

    Parameters
    ----------
    descriptor : LocalCorrelationMap
    stride : int
    size : int
        Side of the picture in pixels.
    spent : float
        Seconds of the scores.
    peaks : Peaks
        Of the device they were made on.

    Returns
    -------
    dict
        Bytes written over those the memory takes in that time, into memory that was there before and into
        new; bytes read and written over those of a copy.
    """
    shifts = np.array([(t.d_row, t.d_col) for t in descriptor.operations()])
    least = work.box_scores(size**2, descriptor.grid((size, size), stride).size, shifts, stride)
    return {
        WRITTEN: least.written / spent / peaks.write_bytes_per_s,
        f"{WRITTEN} to new memory": least.written / spent / peaks.fresh_write_bytes_per_s,
        COPIED: least.moved / spent / peaks.copy_bytes_per_s,
    }
