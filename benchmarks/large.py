"""Memory of one large image: a process that learns from it, and one that labels it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .cases import Case
from .process import run_python
from .timing import Contender, Stages

BUDGET, LEAST_BUDGET = "2GB", "300MB"
"""`max_memory`, and that of a quick trial: Python and its libraries take memory beside it."""

FIT = """
import sys
import numpy, gpuseg
image = numpy.load(sys.argv[1])
descriptor = gpuseg.LocalCorrelationMap(patch_radius=20, window_radius=24, max_num_points=289)
choice = {"descriptor": descriptor, "stride": 1, "random_state": 0, "max_memory": sys.argv[2]}
gpuseg.segment(image, 2, device="cpu", **choice).model.save(sys.argv[3])
"""

PREDICT = """
import sys
import numpy, gpuseg
image = numpy.load(sys.argv[1])
gpuseg.SegmentationModel.load(sys.argv[3]).predict(image, device="cpu", max_memory=sys.argv[2])
"""


def memory(path: Path, budget: str) -> Stages:
    """Peak memory in MB of 10^6 bytes, less that of the bare interpreter."""
    bare = run_python("")["peak"]
    model = str(path.with_name("model.npz"))
    peaks = {name: run_python(text, str(path), budget, model)["peak"] for name, text in WORK.items()}
    return {name: peak - bare for name, peak in peaks.items()}


WORK = {"fit": FIT, "predict": PREDICT}


def contenders(case: Case, image: np.ndarray, folder: Path) -> list[Contender]:
    """gpuseg; files go into `folder`."""
    path = folder / "image.npy"
    np.save(path, image)
    budget = BUDGET if image.shape[0] == case.size else LEAST_BUDGET
    return [Contender("gpuseg", lambda: memory(path, budget))]
