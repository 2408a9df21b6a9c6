"""Symmetry maps of every pixel beside motif-learn, which makes them from Zernike moments of the patches.

motif-learn (MIT, on PyPI) lives in an environment of its own, where it finds the versions it wants:
``python -m venv .venv-motif && .venv-motif/bin/pip install motif-learn==0.1.2``.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from .cases import Case
from .contenders import Scene
from .symmetry_maps import N_PLANES, RADIUS, own
from .timing import Absent, Contender, Stages

WORKER = Path(__file__).with_name("motif_worker.py")
DEFAULT_FOLDER = Path(__file__).parents[1] / ".venv-motif"
FOLDS, ORDERS = (2, 3, 4, 6), 10
"""Folds of a turn; Zernike moments up to this order."""


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


def contenders(case: Case, device: str, scene: Scene) -> tuple[list[Contender | Absent], str | None]:
    """gpuseg, and motif-learn where its environment is; $MOTIF_ENV says where, else .venv-motif."""
    python = Path(os.environ.get("MOTIF_ENV", DEFAULT_FOLDER)) / "bin" / "python"
    people: list[Contender | Absent] = []
    if python.is_file():
        people.append(Contender("motif-learn", MotifLearn(scene, python)))
    else:
        people.append(Absent("motif-learn", f"there is no {python}; see benchmarks/zernike.py"))
    people += own(device, scene, tuple(360 / n for n in FOLDS))
    return people, people[0].name if python.is_file() else None
