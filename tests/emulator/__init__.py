"""CUDA without a GPU: the kernels of gpuseg, compiled by a C++ compiler and run on NumPy arrays.

What it catches: a launch that CUDA would refuse, arguments that do not fit the parameters, divergent
barriers, warp operations that lanes of their mask do not reach, reads of unwritten shared memory (NaN); by
comparing results over the three orders, missing barriers and races; under the sanitizers, accesses out of
bounds in global, static and dynamic shared memory, misaligned ones, and undefined behaviour.

Streams keep their work back until somebody waits, and graphs are recorded and replayed, so a result that is
read too early, memory that is used again too early, and what a graph cannot hold show too.

What it does not see: the memory model, fused multiply-adds, flushing to zero and approximate functions, too
much static shared memory (tests/nvrtc.py does), functions that NVRTC lacks (likewise). Threads that spin till
another one writes never end. Textures, inline PTX, cooperative groups, half precision and headers are not
there. Under the sanitizers static shared memory starts with what the last block left in it.
"""

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
