"""A series of frames in which a boundary moves: how fast, how right, and how much memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import gpuseg
from gpuseg import synthetic

from .cases import Case
from .process import run_python
from .timing import Contender, Stages, seconds

SHAPE, N_FRAMES = (300, 400), 163
WINDOW = {"patch_radius": 20, "window_radius": 24, "max_num_points": 289}
N_OPERATIONS = 50

# Frames come one by one, ten of them again and again: the series itself takes no memory.
WATCH = """
import sys, itertools
import numpy, gpuseg
frames = numpy.load(sys.argv[1])
endless = itertools.islice(itertools.cycle(frames), int(sys.argv[2]))
descriptor = gpuseg.LocalCorrelationMap(patch_radius=20, window_radius=24, max_num_points=289)
choice = {"descriptor": descriptor, "n_operations": 50, "random_state": 0}
gpuseg.segment_series(endless, 2, device="cpu", out=sys.argv[3], force=True, **choice)
"""


class Series:
    """gpuseg labelling the frames with selected operations.

    Parameters
    ----------
    device : {"cpu", "cuda"}
    n_frames : int
    """

    def __init__(self, device: str, n_frames: int) -> None:
        self.movie = synthetic.boundary_movie(SHAPE, n_frames, random_state=0)
        self.frames = np.stack([scene.image for scene in self.movie]).astype(np.float32)
        self.device = device
        self.result: Any = None

    def __call__(self) -> Stages:
        """Do it once; learning is part of it."""
        spent, self.result = seconds(lambda: self._labelled(N_OPERATIONS))
        return {"whole": spent, "per frame": spent / len(self.frames)}

    def _labelled(self, n_operations: int | None) -> Any:
        return gpuseg.segment_series(
            self.frames,
            2,
            descriptor=gpuseg.LocalCorrelationMap(**WINDOW),
            n_operations=n_operations,
            random_state=0,
            device=self.device,
        )

    def rightness(self) -> dict[str, float]:
        """Of the last result: against all operations, and against the truth."""
        every = self._labelled(None)
        truth = np.stack([scene.truth for scene in self.movie])
        left = int(np.bincount(self.result.labels[truth == 0]).argmax())
        position = (self.result.labels == left).mean(axis=(1, 2)) * SHAPE[1]
        speed, true_speed = (
            np.polyfit(np.arange(len(self.frames)), along, 1)[0] for along in (position, self.movie.boundary)
        )
        return {
            "translations": float(every.model.components.shape[1]),
            "share of the pixels as with all translations": float(
                (self.result.labels == every.labels).mean()
            ),
            "share of the pixels right": float(((self.result.labels == left) == (truth == 0)).mean()),
            "error of the boundary's speed": float(abs(speed / true_speed - 1)),
        }


def memory(path: Path, short: int) -> Stages:
    """Peak memory in MB for a series and for one ten times as long, less that of the bare interpreter."""
    bare = run_python("")["peak"]
    out = str(path.parent / "out")
    peaks = [run_python(WATCH, str(path), str(n), out)["peak"] - bare for n in (short, 10 * short)]
    return {
        f"{short} frames": peaks[0],
        f"{10 * short} frames": peaks[1],
        f"{10 * short} frames more than {short}": peaks[1] - peaks[0],
    }


def contenders(case: Case, device: str, folder: Path, quick: bool) -> list[Contender]:
    """Who takes part in a case of series; files go into `folder`."""
    n_frames = N_FRAMES // 10 if quick else N_FRAMES
    if case.work == "series":
        series = Series(device, n_frames)
        return [Contender("gpuseg" if device == "cpu" else "gpuseg cuda", series, series.rightness)]
    movie = synthetic.boundary_movie(SHAPE, 10, random_state=0)
    path = folder / "frames.npy"
    np.save(path, np.stack([scene.image for scene in movie]).astype(np.float32))
    return [Contender("gpuseg", lambda: memory(path, n_frames))]
