"""A live pystem 0.0.26: a worker process in its own environment, driven by JSON lines.

What is known of pystem here is its public interface, used as a black box: the constructor
``segmentationSTEM`` and the names of its stages. Its x is the row; its grid on each axis is
``arange(window + patch, size - window - patch, stride)``, that of power spectra without the patch.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

WORKER = Path(__file__).with_name("pystem_worker.py")
DEFAULT_FOLDER = Path(__file__).parents[1] / ".venv-pystem"


class PystemError(RuntimeError):
    """pystem is not there, or failed at what it was asked; the text says which."""


class Pystem:
    """A live pystem process.

    Parameters
    ----------
    folder : path
        The environment made by ``benchmarks/pystem_env.sh FOLDER``.

    Raises
    ------
    PystemError
        No such environment, or pystem cannot be imported in it.
    """

    def __init__(self, folder: str | Path) -> None:
        self._python = Path(folder) / "bin" / "python"
        if not self._python.is_file():
            raise PystemError(f"no environment in {folder}; make one: benchmarks/pystem_env.sh {folder}")
        self._scratch = tempfile.TemporaryDirectory(prefix="gpuseg-bench-")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        self._process = subprocess.Popen(
            [str(self._python), "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self._loaded: dict[str, np.ndarray] = {}
        self.versions: dict[str, str] = self._ask("versions")

    def __enter__(self) -> Pystem:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and remove its scratch folder."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._scratch.cleanup()

    def seconds(self, do: str, image: np.ndarray, parameters: dict[str, Any]) -> dict[str, float]:
        """Run `do`, a method of the worker that takes the time; stage -> seconds."""
        return self._ask(do, image=self._load(image), parameters=parameters)["seconds"]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays the last call of `seconds` made."""
        path = Path(self._scratch.name) / "answer.npz"
        self._ask("save", path=str(path))
        with np.load(path) as answer:
            return dict(answer)

    def _load(self, image: np.ndarray) -> str:
        """Send an image once; its name on the other side."""
        for name, known in self._loaded.items():
            if known is image:
                return name
        name = f"image{len(self._loaded)}"
        path = Path(self._scratch.name) / f"{name}.npy"
        np.save(path, image)
        self._ask("load", name=name, path=str(path))
        self._loaded[name] = image
        return name

    def _ask(self, do: str, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the empty answer below says it better
        line = self._process.stdout.readline()
        if not line:
            raise PystemError(f"pystem ended at {do!r}; try it: {self._python} -c 'import pystem'")
        answer = json.loads(line)
        if "error" in answer:
            raise PystemError(f"pystem failed at {do!r}:\n{answer['error']}")
        return answer


NAMES = {
    "translations": "local_correlation_map",
    "power-spectrum": "power_spectrum",
    "rotation": "rotational_symmetry_maximum_pooling",
    "reflection": "reflection_symmetry_maximum_pooling",
}


def parameters(
    n_patterns: int = 2,
    window: tuple[int, int] = (20, 20),
    patch: tuple[int, int] = (20, 20),
    max_num_points: int = 100,
    method: str = "direct",
    stride: int = 5,
    n_components: int = 5,
    descriptor: str = "translations",
) -> dict[str, Any]:
    """The words of gpuseg (half sizes in pixels, rows first) in those of pystem; the defaults are gpuseg's.

    The default window of pystem is 21 instead of 20; both give 81 translations. 20 is used on both sides. Its
    window is that of the spectrum, or the one in which it looks for the largest scores.
    """
    return {
        "descriptor_name": NAMES[descriptor],
        "n_patterns": n_patterns,
        "stride": stride,
        "n_PCA_components": n_components,
        "window_x": window[0],
        "window_y": window[1],
        "patch_x": patch[0],
        "patch_y": patch[1],
        "radius": patch[0],
        "num_reflection_plane": 10,
        "max_num_points": max_num_points,
        "method": method,
        "random_state": 0,
    }


def grid(shape: tuple[int, int], parameters: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of pystem's grid points in an image of this shape."""
    margins = [parameters["window_x"], parameters["window_y"]]
    if parameters["descriptor_name"] != NAMES["power-spectrum"]:
        margins = [m + parameters[patch] for m, patch in zip(margins, ("patch_x", "patch_y"), strict=True)]
    rows, cols = (
        np.arange(margin, size - margin, parameters["stride"])
        for size, margin in zip(shape, margins, strict=True)
    )
    return rows, cols


def fill_by_nearest(
    grid_labels: np.ndarray, shape: tuple[int, int], parameters: dict[str, Any]
) -> np.ndarray:
    """Every pixel gets the label of the nearest grid point, also in the margins."""
    rows, cols = grid(shape, parameters)
    near_row = np.abs(np.arange(shape[0])[:, None] - rows).argmin(axis=1)
    near_col = np.abs(np.arange(shape[1])[:, None] - cols).argmin(axis=1)
    return grid_labels[np.ix_(near_row, near_col)]
