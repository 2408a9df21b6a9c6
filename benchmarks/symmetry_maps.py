"""Scores of rotations and reflections at every pixel, without pooling."""

from __future__ import annotations

from typing import Any

import gpuseg

from .contenders import Scene, on_device, wait
from .timing import Contender, Stages, seconds

RADIUS, ANGLES, N_PLANES = 20, (60.0, 90.0, 120.0, 180.0), 10
"""Patches of 41x41 pixels; the paper's turns; axes of reflection."""


class SymmetryMaps:
    """gpuseg making the maps, those of the turns and those of the mirrors."""

    def __init__(self, scene: Scene, device: str, angles: tuple[float, ...], resident: bool = False) -> None:
        self.image, self.device = on_device(scene[0]) if resident else scene[0], device
        dense = {"radius": RADIUS, "pooling_radius": 0}
        self.descriptors = {
            "rotation": gpuseg.RotationalSymmetry(angles=angles, **dense),
            "mirror": gpuseg.ReflectionSymmetry(n_planes=N_PLANES, **dense),
        }

    def __call__(self) -> Stages:
        """Do it once."""
        stages = {}
        for name, descriptor in self.descriptors.items():
            stages[name], _ = seconds(lambda descriptor=descriptor: self._maps(descriptor))
        return {"whole": sum(stages.values()), **stages}

    def _maps(self, descriptor: Any) -> None:
        wait(descriptor.transform(self.image, stride=1, device=self.device).values)


def own(device: str, scene: Scene, angles: tuple[float, ...] = ANGLES) -> list[Contender]:
    """gpuseg, on a GPU also with the image there already."""
    name = "gpuseg" if device == "cpu" else "gpuseg cuda"
    people = [Contender(name, SymmetryMaps(scene, device, angles))]
    if device == "cuda":
        people.append(Contender(f"{name}, resident", SymmetryMaps(scene, device, angles, resident=True)))
    return people
