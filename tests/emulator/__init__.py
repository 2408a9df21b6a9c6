"""CUDA without a GPU: the kernels of gpuseg, compiled by a C++ compiler and run on NumPy arrays."""

from .backend import EmulatedCupy, emulated_cuda_fixture
from .compiler import CompileError, emulator_status
from .module import EmulatedModule, LaunchError
from .requirements import in_ci, require
from .sanitizer import run_sanitized, run_tests_sanitized

__all__ = [
    "CompileError",
    "EmulatedCupy",
    "EmulatedModule",
    "LaunchError",
    "emulated_cuda_fixture",
    "emulator_status",
    "in_ci",
    "require",
    "run_sanitized",
    "run_tests_sanitized",
]
