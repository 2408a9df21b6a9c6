"""Frames a second of a model with selected operations: what follows a microscope while it scans."""

from __future__ import annotations

import numpy as np

import gpuseg
from gpuseg import arrays

from . import truth
from .cases import Case
from .contenders import RADIUS, on_device, wait
from .images import bicrystal
from .timing import Contender, Stages, seconds

N_FRAMES, N_OPERATIONS = 4, 50


class Predict:
    """Frames labelled one after the other by the best 50 translations.

    Parameters
    ----------
    case : Case
    device : {"cpu", "cuda"}
    size : int
    resident : bool
        Frames that lie on the device.
    planned : bool
        By a labeller, which plans once for all frames; else by ``model.predict``.
    """

    def __init__(
        self, case: Case, device: str, size: int, resident: bool = False, planned: bool = True
    ) -> None:
        self.device, self.stride = device, case.stride
        first, _ = bicrystal(size, dose=3.0)
        descriptor = gpuseg.LocalCorrelationMap(RADIUS, RADIUS, case.max_num_points)
        learnt = gpuseg.segment(
            first, 2, descriptor=descriptor, stride=case.stride, random_state=0, device=device
        )
        self.model = learnt.select(N_OPERATIONS)
        scenes = [bicrystal(size, dose=3.0, seed=1 + k) for k in range(N_FRAMES)]
        self.frames = [on_device(image) if resident else image for image, _ in scenes]
        self.grains = [grains for _, grains in scenes]
        self.label = self.model.labeller((size, size), device=device) if planned else None
        self.labels: list[np.ndarray] = []

    def __call__(self) -> Stages:
        """Do it once."""
        spent, self.labels = seconds(self._labelled)
        return {"per frame": spent / N_FRAMES}

    def _labelled(self) -> list[np.ndarray]:
        if self.label is not None:
            return list(self.label.stream(self.frames))
        labels = [self.model.predict(frame, device=self.device).labels for frame in self.frames]
        wait(labels[-1])
        return labels

    def rightness(self) -> dict[str, float]:
        """Of the worst frame."""
        pairs = zip(self.grains, self.labels, strict=True)
        least = min(truth.adjusted_rand(grains, arrays.to_numpy(labels)) for grains, labels in pairs)
        return {"adjusted Rand index": least}


def contenders(case: Case, device: str, size: int) -> tuple[list[Contender], None]:
    """gpuseg, on a GPU also with frames that are there already; there is no baseline."""
    name = "gpuseg" if device == "cpu" else "gpuseg cuda"
    people = {
        name: Predict(case, device, size),
        f"{name} predict": Predict(case, device, size, planned=False),
    }
    if device == "cuda":
        people[f"{name}, resident"] = Predict(case, device, size, resident=True)
        people[f"{name} predict, resident"] = Predict(case, device, size, resident=True, planned=False)
    return [Contender(name, who, who.rightness) for name, who in people.items()], None
