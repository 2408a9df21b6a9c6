"""Frames a second of a model with selected operations: what follows a microscope while it scans."""

from __future__ import annotations

import numpy as np

import gpuseg
from gpuseg import arrays

from . import truth
from .cases import SAME, Case
from .contenders import descriptor_of, on_device, wait
from .images import bicrystal
from .timing import Absent, Contender, Stages, seconds

N_FRAMES = 16


class Predict:
    """Frames labelled one after the other by a model of the best translations.

    Parameters
    ----------
    case : Case
    device : {"cpu", "cuda"}
    size : int
    way : {"stream", "labeller", "predict"}
        By a labeller, which plans once for all frames, with the frames as a stream or one by one; or by
        ``model.predict``.
    resident : bool
        Frames that lie on the device.
    """

    def __init__(self, case: Case, device: str, size: int, way: str, resident: bool = False) -> None:
        first, _ = bicrystal(size, dose=3.0)
        choice = {"descriptor": descriptor_of(case, "auto"), "stride": case.stride, "random_state": 0}
        learnt = gpuseg.segment(first, 2, device=device, **choice)
        self.model = learnt.select(case.n_operations) if case.n_operations else learnt.model
        self.device, self.way = device, way
        self.label = self.model.labeller(first.shape, device=device)
        scenes = [bicrystal(size, dose=3.0, seed=1 + k) for k in range(N_FRAMES)]
        self.frames = [on_device(image) if resident else image for image, _ in scenes]
        self.grains = [grains for _, grains in scenes]
        self.labels: list[np.ndarray] = []

    def __call__(self) -> Stages:
        """Do it once."""
        spent, self.labels = seconds(self._labelled)
        return {"per frame": spent / N_FRAMES}

    def _labelled(self) -> list[np.ndarray]:
        if self.way == "stream":
            found = list(self.label.stream(self.frames))
        elif self.way == "labeller":
            found = [self.label(frame) for frame in self.frames]
        else:
            found = [self.model.predict(frame, device=self.device).labels for frame in self.frames]
        wait(found[-1])
        return found

    def rightness(self) -> dict[str, float]:
        """Of the worst frame."""
        pairs = zip(self.grains, self.labels, strict=True)
        least = min(truth.adjusted_rand(grains, arrays.to_numpy(labels)) for grains, labels in pairs)
        if self.device == "cpu":
            return {"adjusted Rand index": least}
        there = [self.model.predict(arrays.to_numpy(frame), device="cpu").labels for frame in self.frames]
        same = [np.mean(a == arrays.to_numpy(b)) for a, b in zip(there, self.labels, strict=True)]
        return {"adjusted Rand index": least, SAME: float(min(same))}


def contenders(case: Case, device: str, size: int) -> tuple[list[Contender | Absent], None]:
    """gpuseg by each of its ways, on a GPU also with frames that are there already; there is no baseline."""
    ways = {"": "stream", " one by one": "labeller", " predict": "predict"}
    people: dict[str, Predict] = {}
    for name, way in ways.items():
        if device == "cpu":
            people[f"gpuseg{name}"] = Predict(case, device, size, way)
            continue
        people[f"gpuseg cuda{name}"] = Predict(case, device, size, way)
        people[f"gpuseg cuda{name}, resident"] = Predict(case, device, size, way, resident=True)
    return [Contender(name, who, who.rightness) for name, who in people.items()], None
