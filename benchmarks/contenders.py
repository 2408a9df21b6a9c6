"""gpuseg and pystem as contenders of a case, and how right each of them is."""

from __future__ import annotations

from typing import Any

import numpy as np

import gpuseg
from gpuseg import arrays
from gpuseg.decomposition import PCA

from . import pystem_client, truth
from .cases import SAME, Case
from .pystem_client import Pystem
from .timing import Absent, Contender, Stages, seconds

Scene = tuple[np.ndarray, np.ndarray]
RADIUS = (20, 20)
"""Patch and window of every timed case, both packages: gpuseg's default."""


class Gpuseg:
    """gpuseg doing the work of a case, on one device by one method.

    Parameters
    ----------
    scene : (image, grains), (H, W) arrays
        The picture and its truth.
    case : Case
    device : {"cpu", "cuda"}
    method : str
    resident : bool
        Give the image as an array that already lies on the device and leave the result there. Otherwise the
        way from and to host memory is part of the time.
    """

    def __init__(self, scene: Scene, case: Case, device: str, method: str, resident: bool = False) -> None:
        image, self.grains = scene
        self.case, self.device, self.host_image = case, device, image
        self.image = on_device(image) if resident else image
        self.method, self.descriptor = method, descriptor_of(case, method)
        self.result: Any = None

    def __call__(self) -> Stages:
        """Do it once, until the last number is there."""
        spent, self.result = seconds(self._whole if self.case.work == "segment" else self._descriptors)
        if self.case.work == "segment":
            return {"whole": spent, **self.result.timings}
        if self.case.work == "components":
            more, _ = seconds(self._components)
            return {"whole": spent + more, "descriptors": spent, "decomposition": more}
        return {"descriptors": spent}

    def _descriptors(self) -> Any:
        result = self.descriptor.transform(self.image, stride=self.case.stride, device=self.device)
        wait(result.values)
        return result

    def _components(self) -> Any:
        samples = self.result.samples()
        components = PCA(5).fit(samples).transform(samples)
        wait(components)
        return components

    def _whole(self) -> Any:
        result = gpuseg.segment(
            self.image,
            2,
            descriptor=self.descriptor,
            stride=self.case.stride,
            random_state=0,
            device=self.device,
        )
        wait(result.labels)
        return result

    def rightness(self) -> dict[str, float]:
        """Of the last result: the error of the scores, or the adjusted Rand index."""
        if self.case.work == "segment":
            labels = arrays.to_numpy(self.result.labels)
            found = {"adjusted Rand index": truth.adjusted_rand(self.grains, labels)}
            if self.device == "cuda" and "cpu" in self.case.devices:
                on_cpu = Gpuseg((self.host_image, self.grains), self.case, "cpu", self.method)._whole()
                found[SAME] = float((on_cpu.labels == labels).mean())
            return found
        grid = (np.asarray(self.result.grid.rows), np.asarray(self.result.grid.cols))
        values = arrays.to_numpy(self.result.values)
        if self.case.descriptor == "power-spectrum":
            return {
                "largest error of a log power": truth.power_error(
                    self.host_image, values, truth.half_spectrum(RADIUS), grid, RADIUS
                )
            }
        translations = np.array([(t.d_row, t.d_col) for t in self.result.operations])
        return {
            "largest error of a score": truth.score_error(self.host_image, values, translations, grid, RADIUS)
        }


class PystemContender:
    """pystem doing the work of a case."""

    def __init__(self, scene: Scene, case: Case, pystem: Pystem) -> None:
        self.image, self.grains = scene
        self.case, self.pystem = case, pystem
        self.parameters = pystem_client.parameters(
            max_num_points=case.max_num_points,
            method=case.pystem_method or "direct",
            stride=case.stride,
            descriptor=case.descriptor,
        )

    def __call__(self) -> Stages:
        """Do it once. `segment` runs twice: the one call that gives "whole", then the stages one by one."""
        if self.case.work != "segment":
            return self.pystem.seconds(self.case.work, self.image, self.parameters)
        whole = self.pystem.seconds("segment", self.image, self.parameters)
        return {**whole, **self.pystem.seconds("stages", self.image, self.parameters)}

    def rightness(self) -> dict[str, float]:
        """As `Gpuseg.rightness`; pystem's labels with the margins filled by nearest."""
        answer = self.pystem.arrays()
        if self.case.work == "segment":
            labels = pystem_client.fill_by_nearest(answer["grid_labels"], self.image.shape, self.parameters)
            return {"adjusted Rand index": truth.adjusted_rand(self.grains, labels)}
        grid = pystem_client.grid(self.image.shape, self.parameters)
        values = np.moveaxis(answer["values"], 2, 0)
        if self.case.descriptor == "power-spectrum":
            return {
                "largest error of a log power": truth.power_error(
                    self.image, values, truth.whole_spectrum(RADIUS), grid, RADIUS
                )
            }
        return {
            "largest error of a score": truth.score_error(
                self.image, values, answer["translations"], grid, RADIUS
            )
        }


def contenders(
    case: Case, device: str, scene: Scene, pystem: Pystem | None
) -> tuple[list[Contender | Absent], str]:
    """Who takes part in a case on a device, and the name of the baseline."""
    people: dict[str, Gpuseg | PystemContender] = {}
    if pystem is not None and case.pystem_method is not None:
        people["pystem"] = PystemContender(scene, case, pystem)
    for method in case.methods:
        name = "gpuseg" if method == "auto" else f"gpuseg {method}"
        if device == "cuda":
            people[f"{name} cuda"] = Gpuseg(scene, case, "cuda", method)
            people[f"{name} cuda, resident"] = Gpuseg(scene, case, "cuda", method, resident=True)
        if device == "cpu" or (method == "auto" and "cpu" in case.devices):
            people[name] = Gpuseg(scene, case, "cpu", method)
    pooled = case.descriptor in ("rotation", "reflection")  # nothing here knows what these should be
    found: list[Contender | Absent] = [
        Contender(name, who, None if pooled else who.rightness) for name, who in people.items()
    ]
    return found, next(iter(people))


def descriptor_of(case: Case, method: str) -> Any:
    """The descriptor of a case."""
    if case.descriptor == "power-spectrum":
        return gpuseg.PowerSpectrum(window_radius=RADIUS)
    pooling = {"radius": RADIUS[0], "pooling_radius": RADIUS[0], "n_max": 1, "border": "full"}
    if case.descriptor == "rotation":
        return gpuseg.RotationalSymmetry(angles=(60, 90, 120, 180), **pooling)
    if case.descriptor == "reflection":
        return gpuseg.ReflectionSymmetry(n_planes=10, **pooling)
    return gpuseg.LocalCorrelationMap(
        patch_radius=RADIUS,
        window_radius=case.window_radius,
        max_num_points=case.max_num_points,
        method=method,
    )


def on_device(image: np.ndarray) -> Any:
    """The image as an array on the GPU."""
    return arrays.move(image, arrays.resolve_device("cuda"))


def wait(array: Any) -> None:
    """Until the array's numbers are there: nothing for NumPy, the end of the stream for CuPy."""
    if not isinstance(array, np.ndarray):
        arrays.cupy_module().cuda.get_current_stream().synchronize()
