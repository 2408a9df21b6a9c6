"""The other side of pystem_client.py: runs inside the environment that pystem_env.sh makes, and only there.

Reads one JSON request per line from standard input and writes one JSON answer per line to what was standard
output when it started. pystem and its libraries may print as they like: their standard output is turned to
standard error. Arrays travel as .npy files. Seconds are taken here, around the call alone, without imports
and transport.

This file is a script for another environment: it imports nothing of the benchmarks and nothing of gpuseg.
"""

import json
import os
import sys
import time
import traceback
import warnings
from importlib.metadata import version

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
warnings.simplefilter("ignore")  # pystem warns about an optional package that nothing here uses

import numpy as np  # noqa: E402 - standard output must be out of the way first
from pystem import segmentationSTEM  # noqa: E402


class Worker:
    """The requests, one method each; images are loaded once and kept by name."""

    def __init__(self) -> None:
        self.images: dict[str, np.ndarray] = {}
        self.answer: dict[str, np.ndarray] = {}  # the arrays of the last timed request, for `save`

    def versions(self) -> dict:
        """Versions of what is timed here."""
        names = ("pystem", "numpy", "scipy", "scikit-learn")
        return {"python": sys.version.split()[0], **{name: version(name) for name in names}}

    def load(self, name: str, path: str) -> dict:
        """Keep the image of a .npy file under a name."""
        self.images[name] = np.load(path)
        return {}

    def descriptors(self, image: str, parameters: dict) -> dict:
        """Time the descriptors alone."""
        model = segmentationSTEM(**parameters)
        start = time.perf_counter()
        values = model.get_descriptors(self.images[image])
        seconds = time.perf_counter() - start
        self.answer = {"values": values}
        if "pooling" not in parameters["descriptor_name"]:
            self.answer["translations"] = np.asarray(model._translation_vectors)
        return {"seconds": {"descriptors": seconds}}

    def components(self, image: str, parameters: dict) -> dict:
        """Time the descriptors and their principal components."""
        model = segmentationSTEM(**parameters)
        pixels = self.images[image]
        start = time.perf_counter()
        values = model.get_descriptors(pixels)
        middle = time.perf_counter()
        model.get_PCA_components(pixels, values)
        end = time.perf_counter()
        self.answer = {"values": values}
        return {
            "seconds": {"whole": end - start, "descriptors": middle - start, "decomposition": end - middle}
        }

    def segment(self, image: str, parameters: dict) -> dict:
        """Time the whole segmentation: one call from the image to the labels of all its pixels."""
        model = segmentationSTEM(**parameters)
        start = time.perf_counter()
        labels = model.perform_clustering(self.images[image])
        seconds = time.perf_counter() - start
        self.answer = {"labels": labels}
        return {"seconds": {"whole": seconds}}

    def stages(self, image: str, parameters: dict) -> dict:
        """Time the stages one after the other: the same calls a user makes to look at each."""
        model = segmentationSTEM(**{**parameters, "upsampling": False})
        pixels = self.images[image]
        ticks = [time.perf_counter()]
        values = model.get_descriptors(pixels)
        ticks.append(time.perf_counter())
        components = model.get_PCA_components(pixels, values)
        ticks.append(time.perf_counter())
        labels = model.perform_clustering(pixels, features=components)
        ticks.append(time.perf_counter())
        model.perform_upsampling_labels(pixels, labels)
        ticks.append(time.perf_counter())
        names = ("descriptors", "decomposition", "clustering", "upsampling")
        self.answer = {"grid_labels": labels}
        return {
            "seconds": {
                name: end - start for name, start, end in zip(names, ticks[:-1], ticks[1:], strict=True)
            }
        }

    def save(self, path: str) -> dict:
        """Write the arrays of the last timed request into an .npz file."""
        np.savez(path, **self.answer)
        return {}


def main() -> None:
    """Answer requests until standard input ends."""
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
