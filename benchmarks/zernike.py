"""Symmetry maps of every pixel beside motif-learn, which makes them from Zernike moments of the patches.

motif-learn (MIT, on PyPI) lives in an environment of its own, where it finds the versions it wants:
``python -m venv .venv-motif && .venv-motif/bin/pip install motif-learn==0.1.2``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import gpuseg

from .cases import Case
from .contenders import Scene, on_device, wait
from .timing import Contender, Stages, seconds

WORKER = Path(__file__).with_name("motif_worker.py")
DEFAULT_FOLDER = Path(__file__).parents[1] / ".venv-motif"
RADIUS, FOLDS, N_PLANES, ORDERS = 20, (2, 3, 4, 6), 10, 10
"""Patches of 41x41 pixels; folds of a turn; axes of reflection; Zernike moments up to this order."""


class SymmetryMaps:
    """gpuseg's scores of rotations and reflections at every pixel, without pooling."""

    def __init__(self, scene: Scene, device: str, resident: bool = False) -> None:
        self.image, self.device = on_device(scene[0]) if resident else scene[0], device
        dense = {"radius": RADIUS, "pooling_radius": 0}
        self.descriptors = {
            "rotation": gpuseg.RotationalSymmetry(angles=tuple(360 / n for n in FOLDS), **dense),
            "mirror": gpuseg.ReflectionSymmetry(n_planes=N_PLANES, **dense),
        }

    def __call__(self) -> Stages:
        """Do it once."""
        stages = {}
        for name, descriptor in self.descriptors.items():
            stages[name], _ = seconds(lambda descriptor=descriptor: self._maps(descriptor))
        return {"whole": sum(stages.values()), **stages}

    def _maps(self, descriptor: object) -> None:
        found = descriptor.transform(self.image, stride=1, device=self.device)  # type: ignore[attr-defined]
        wait(found.values)


class MotifLearn:
    """motif-learn doing the same in a process of its own, which takes the times."""

    def __init__(self, scene: Scene, python: Path) -> None:
        self.image, self.python = scene[0], python

    def __call__(self) -> Stages:
        """Do it once. The moments are part of each stage, and once of the whole."""
        with tempfile.TemporaryDirectory(prefix="gpuseg-bench-") as folder:
            path = Path(folder) / "image.npy"
            np.save(path, self.image)
            request = {"size": 2 * RADIUS + 1, "orders": ORDERS, "folds": FOLDS, "n_planes": N_PLANES}
            command = [str(self.python), "-P", str(WORKER), str(path), json.dumps(request)]
            environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        spent = json.loads(done.stdout.splitlines()[-1])
        moments = spent.pop("moments")
        return {
            "whole": moments + sum(spent.values()),
            **{name: moments + more for name, more in spent.items()},
        }


def contenders(case: Case, device: str, scene: Scene) -> tuple[list[Contender], str]:
    """gpuseg, and motif-learn where its environment is; $MOTIF_ENV says where, else .venv-motif."""
    python = Path(os.environ.get("MOTIF_ENV", DEFAULT_FOLDER)) / "bin" / "python"
    people = []
    if python.is_file():
        people.append(Contender("motif-learn", MotifLearn(scene, python)))
    else:
        print(
            f"motif-learn is not measured: there is no {python}; see benchmarks/zernike.py", file=sys.stderr
        )
    name = "gpuseg" if device == "cpu" else "gpuseg cuda"
    people.append(Contender(name, SymmetryMaps(scene, device)))
    if device == "cuda":
        people.append(Contender(f"{name}, resident", SymmetryMaps(scene, device, resident=True)))
    return people, people[0].name
