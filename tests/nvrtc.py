"""NVRTC without a GPU, a driver or CuPy: compile CUDA C++ and read what the compiler says of each kernel.

The library comes from the package ``nvidia-cuda-nvrtc`` (90 MB to fetch, CUDA 13) or from a CUDA toolkit.
Kernels that include no header need nothing else.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARCHITECTURES = (75, 80, 90, 100, 120)
REGISTERS_PER_BLOCK = 65536  # on every architecture above
SHARED_BYTES_PER_BLOCK = 48 << 10  # static, on every architecture
MAX_THREADS = 1024
WARP = 32
REGISTER_UNIT = 8  # registers of a thread are given out in eights

# what CuPy adds to the options of a RawModule, but for its precompiled headers
CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")
HOW_TO_GET_IT = "pip install 'nvidia-cuda-nvrtc>=13,<14'"

_FUNCTION = re.compile(
    r"Compiling entry function '(?P<name>\S+)'.*?"
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)
_SHARED = re.compile(r"(\d+) bytes smem")
_ENTRY = re.compile(r"\.entry (?P<name>\w+)\((?P<head>.*?)\n\{(?P<body>.*?)\n\}", re.DOTALL)
_LARGEST_BLOCK = re.compile(r"\.maxntid (\d+)(?:, (\d+))?(?:, (\d+))?")


class NvrtcError(RuntimeError):
    """CUDA C++ that NVRTC refuses; the text is the compiler's."""


@dataclass(frozen=True)
class CompiledKernel:
    """What the compiler made of one kernel.

    Attributes
    ----------
    name : str
        As the linker knows it.
    architecture : int
        90 for sm_90.
    registers : int
        Of one thread.
    spill_bytes : int
        Stored to and loaded from memory because registers ran out.
    shared_bytes : int
        Static shared memory of a block.
    largest_block : int
        Threads, from ``__launch_bounds__``; 1024 without.
    uses_double : bool
        Whether it computes in double precision, at 1/32 or 1/64 of the speed on most GPUs.
    """

    name: str
    architecture: int
    registers: int
    spill_bytes: int
    shared_bytes: int
    largest_block: int
    uses_double: bool

    @property
    def registers_of_a_block(self) -> int:
        """Registers that the largest block takes; a launch fails if the multiprocessor has not as many."""
        per_thread = -(-self.registers // REGISTER_UNIT) * REGISTER_UNIT
        return per_thread * -(-self.largest_block // WARP) * WARP

    def __str__(self) -> str:
        return (
            f"sm_{self.architecture} {self.name}: {self.registers} registers, "
            f"{self.spill_bytes} bytes spilled, {self.shared_bytes} bytes shared, "
            f"up to {self.largest_block} threads"
            f"{', double precision' if self.uses_double else ''}"
        )


def nvrtc_status() -> tuple[bool, str]:
    """Whether NVRTC can be used here, and why not.

    Returns
    -------
    usable : bool
    reason : str
        What is missing and how to get it, or the version.
    """
    path = _find_library()
    if path is None:
        return False, f"no NVRTC: {HOW_TO_GET_IT}"
    try:
        _library()
    except OSError as error:
        return False, f"{path} cannot be loaded: {error}"
    major, minor = version()
    return True, f"NVRTC {major}.{minor} ({path})"


def version() -> tuple[int, int]:
    """The CUDA version of NVRTC."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def supported_architectures() -> tuple[int, ...]:
    """The architectures that this NVRTC compiles for, such as 90 for sm_90."""
    count = ctypes.c_int()
    _call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
    found = (ctypes.c_int * count.value)()
    _call("nvrtcGetSupportedArchs", found)
    return tuple(found)


def compile_cuda(
    code: str,
    name: str,
    architecture: int,
    options: Sequence[str] = (),
    name_expressions: Sequence[str] = (),
) -> list[CompiledKernel]:
    """Compile CUDA C++ to machine code, as CuPy's RawModule does on a GPU of that architecture.

    Parameters
    ----------
    code : str
    name : str
        What error messages call the source.
    architecture : int
        90 for sm_90.
    options : sequence of str
        Those of the RawModule.
    name_expressions : sequence of str
        Instances of templates to make.

    Returns
    -------
    list of CompiledKernel

    Raises
    ------
    NvrtcError
        With the compiler's log.
    """
    program = ctypes.c_void_p()
    _call("nvrtcCreateProgram", ctypes.byref(program), code.encode(), name.encode(), 0, None, None)
    try:
        for expression in name_expressions:
            _call("nvrtcAddNameExpression", program, expression.encode())
        wanted = [*options, *CUPY_OPTIONS, f"-arch=sm_{architecture}", "--ptxas-options=-v"]
        listed = (ctypes.c_char_p * len(wanted))(*[option.encode() for option in wanted])
        failed = _library().nvrtcCompileProgram(program, len(wanted), listed)
        log = _text(program, "ProgramLog")
        if failed:
            raise NvrtcError(f"{name} for sm_{architecture}:\n{log}")
        return _read(log, _text(program, "PTX"), architecture)
    finally:
        _call("nvrtcDestroyProgram", ctypes.byref(program))


def _read(log: str, ptx: str, architecture: int) -> list[CompiledKernel]:
    entries = {entry["name"]: entry for entry in _ENTRY.finditer(ptx)}
    kernels = []
    for found in _FUNCTION.finditer(log):
        entry, shared = entries[found["name"]], _SHARED.search(found["rest"])
        bound = _LARGEST_BLOCK.search(entry["head"])
        threads = MAX_THREADS
        if bound:
            threads = int(bound[1]) * int(bound[2] or 1) * int(bound[3] or 1)
        kernels.append(
            CompiledKernel(
                name=found["name"],
                architecture=architecture,
                registers=int(found["registers"]),
                spill_bytes=sum(int(found[part]) for part in ("stores", "loads")),
                shared_bytes=int(shared[1]) if shared else 0,
                largest_block=threads,
                uses_double=".f64" in entry["body"],
            )
        )
    if len(kernels) != len(entries):
        raise NvrtcError(f"the compiler's log describes {len(kernels)} of {len(entries)} kernels:\n{log}")
    return kernels


@functools.cache
def _find_library() -> Path | None:
    """The newest libnvrtc of the Python packages, else that of a CUDA toolkit."""
    packages = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (packages.submodule_search_locations or ())] if packages else []
    # nvidia/cu13/lib since CUDA 13, nvidia/cuda_nvrtc/lib before; "alt" is a second build of the same
    found = [path for folder in folders for path in folder.glob("*/lib/libnvrtc.so.*")]
    for toolkit in (os.environ.get("CUDA_PATH"), "/usr/local/cuda"):
        found += Path(toolkit).glob("lib64/libnvrtc.so.[0-9][0-9]") if toolkit else []
    return max(found, key=lambda path: int(path.suffix[1:]), default=None)


@functools.cache
def _library() -> ctypes.CDLL:
    path = _find_library()
    if path is None:
        raise OSError(f"no NVRTC: {HOW_TO_GET_IT}")
    # NVRTC asks for its builtins by name only: outside the linker's folders they must be loaded already
    for builtins in path.parent.glob(f"libnvrtc-builtins.so.{path.suffix[1:]}*"):
        ctypes.CDLL(str(builtins))
    return ctypes.CDLL(str(path))


def _call(function: str, *arguments: Any) -> None:
    result = getattr(_library(), function)(*arguments)
    if result:
        error = _library().nvrtcGetErrorString
        error.restype = ctypes.c_char_p
        raise NvrtcError(f"{function}: {error(result).decode()}")


def _text(program: ctypes.c_void_p, what: str) -> str:
    size = ctypes.c_size_t()
    _call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    _call(f"nvrtcGet{what}", program, buffer)
    return buffer.value.decode()
