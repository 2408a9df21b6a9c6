"""Fixtures for all tests: the emulated GPU, kinds of arrays."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis
import numpy as np
import pytest

from gpuseg.arrays import to_numpy
from tests.emulator import emulated_cuda_fixture, require  # noqa: F401

hypothesis.settings.register_profile(
    "gpuseg", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("gpuseg")


@dataclass(frozen=True)
class Space:
    """A kind of array: how to make one from NumPy's, and how to tell it."""

    name: str
    make: Callable[[np.ndarray], Any]
    module: str

    def __call__(self, values, dtype=None):
        return self.make(np.array(values, dtype))

    def numpy(self, array):
        """Back to NumPy, after a look at whether it is of this kind still."""
        assert type(array).__module__.partition(".")[0] == self.module, (
            f"{type(array)} from {self.name} arrays"
        )
        return to_numpy(array)


def _read_only(array):
    array.flags.writeable = False
    return array


@pytest.fixture(params=["numpy", "read-only", "array-api-strict", "emulated GPU"])
def space(request, emulated_cuda):
    """Each kind of array that the namespace-agnostic functions take."""
    if request.param == "array-api-strict":
        require(importlib.util.find_spec("array_api_strict"), "pip install array-api-strict")
        import array_api_strict

        return Space(request.param, array_api_strict.asarray, "array_api_strict")
    if request.param == "emulated GPU":
        return Space(request.param, emulated_cuda().asarray, "tests")
    return Space(request.param, _read_only if request.param == "read-only" else np.asarray, "numpy")


@pytest.fixture(params=["numpy", "read-only", "emulated GPU"])
def device_space(request, emulated_cuda):
    """The kinds of arrays that classes choose an implementation for."""
    if request.param == "emulated GPU":
        return Space(request.param, emulated_cuda().asarray, "tests")
    return Space(request.param, _read_only if request.param == "read-only" else np.asarray, "numpy")
