"""`EmulatedModule`: CUDA kernels compiled for the CPU, called as ``cupy.RawModule`` is, on NumPy arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from .arguments import pack
from .compiler import build, preprocess, sanitizers_loaded
from .source_text import KernelText, kernels_in

MAX_THREADS = 1024
MAX_BLOCK = (1024, 1024, 64)
MAX_GRID = (2**31 - 1, 65535, 65535)
SHARED_BYTES = 48 << 10  # what a launch gets without asking
MAX_SHARED_BYTES = (
    64 << 10
)  # what can be asked for on the smallest GPU that the kernels are compiled for, sm_75


class LaunchError(RuntimeError):
    """A launch that CUDA would refuse, or a kernel whose threads cannot go on."""


class EmulatedModule:
    """CUDA C++ that runs on the CPU, one fiber per CUDA thread.

    Parameters
    ----------
    code : str
        CUDA C++ with kernels declared as ``extern "C" __global__ void name(...)``, or templates.
        Dynamic shared memory is written ``SHARED_MEMORY(float, name);``.
    options : sequence of str
        As for NVRTC. Macros and include folders count, the rest is about code generation and does not.
    name_expressions : sequence of str
        Instances of templates to make, such as ``"box_sum<float, 2>"``.
    order : {0, 1, 2}
        Threads and blocks run forward, in reverse, or shuffled anew after every barrier. A kernel that lacks
        a barrier gives different numbers.
    sanitize : bool
        Compile with the address and undefined-behaviour sanitizers: a fault ends the process, so this works
        only in one started by `emulator.sanitizer.run_sanitized`.
    """

    def __init__(
        self,
        code: str,
        options: Sequence[str] = (),
        *,
        name_expressions: Sequence[str] = (),
        order: int = 0,
        sanitize: bool = False,
    ) -> None:
        if order not in (0, 1, 2):
            raise ValueError(f"`order` is {order!r}; 0 (forward), 1 (reverse) or 2 (shuffled) is needed")
        if sanitize and not sanitizers_loaded():
            raise RuntimeError(
                "a sanitized module needs a process with the sanitizers in it: see run_sanitized"
            )
        self.order = order
        options = _preprocessor_options(options)
        kernels = kernels_in(preprocess(code, options)) + [KernelText(name, "0") for name in name_expressions]
        if not kernels:
            raise ValueError(
                'no kernel found; declare `extern "C" __global__ void name(...)` or name_expressions'
            )
        # PyDLL keeps the interpreter's lock: the state of a launch is global in the module
        self._library = ctypes.PyDLL(str(build(_with_table(code, kernels), options, sanitize)))
        self._library.gpuseg_describe.restype = ctypes.c_char_p
        self._library.gpuseg_launch.restype = ctypes.c_char_p
        self._functions = {
            function.name: function
            for index, line in enumerate(self._library.gpuseg_describe().decode().splitlines())
            for function in [EmulatedFunction(self, index, *line.split("\t"))]
        }

    @property
    def kernel_names(self) -> tuple[str, ...]:
        """The names that `get_function` knows."""
        return tuple(self._functions)

    def get_function(self, name: str) -> EmulatedFunction:
        """The kernel of that name.

        Parameters
        ----------
        name : str

        Returns
        -------
        EmulatedFunction
        """
        if name not in self._functions:
            raise LaunchError(f"no kernel {name!r} in this module; it has {', '.join(self._functions)}")
        return self._functions[name]


class EmulatedFunction:
    """A kernel, ready to be launched; see `EmulatedModule`.

    Attributes
    ----------
    name : str
    max_dynamic_shared_size_bytes : int
        To be raised before a launch with more than 48 KiB of dynamic shared memory, as on a GPU.
    """

    def __init__(
        self, module: EmulatedModule, index: int, name: str, largest_block: str, parameters: str
    ) -> None:
        self._module, self._index = module, index
        self.name = name
        self._largest_block = int(largest_block)
        self._parameters = tuple(parameters.split())
        self._max_shared = SHARED_BYTES

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        """How much dynamic shared memory a launch may ask for."""
        return self._max_shared

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        if size > MAX_SHARED_BYTES:
            raise LaunchError(
                f"kernel {self.name}: {size} bytes of shared memory; {MAX_SHARED_BYTES} is all of sm_75"
            )
        self._max_shared = size

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], *, shared_mem: int = 0
    ) -> None:
        """Run the kernel over a grid of blocks, and wait for it.

        Parameters
        ----------
        grid, block : tuple of int
            One to three dimensions, x first.
        args : sequence
            C-contiguous NumPy arrays, NumPy scalars, ints (64 bit) and floats (double).
        shared_mem : int
            Bytes of dynamic shared memory.

        Raises
        ------
        LaunchError
            If CUDA would refuse the launch, or the kernel's threads cannot go on (a divergent barrier).
        TypeError, ValueError
            If the arguments do not fit the parameters; see `emulator.arguments.pack`.
        """
        grid, block = self._checked("grid", grid, MAX_GRID), self._checked("block", block, MAX_BLOCK)
        largest = self._largest_block or MAX_THREADS
        threads = block[0] * block[1] * block[2]
        if threads > largest:
            raise LaunchError(f"kernel {self.name}: a block of {threads} threads; it can have {largest}")
        if not 0 <= shared_mem <= self._max_shared:
            raise LaunchError(
                f"kernel {self.name}: {shared_mem} bytes of shared memory; {self._max_shared} are allowed, "
                "set max_dynamic_shared_size_bytes for more"
            )
        pointers, alive = pack(self.name, self._parameters, args)
        fault = self._module._library.gpuseg_launch(
            self._index,
            _triple(grid),
            _triple(block),
            ctypes.c_size_t(shared_mem),
            self._module.order,
            pointers,
        )
        del alive  # until here
        if fault:
            raise LaunchError(f"kernel {self.name}: {fault.decode()}")

    def _checked(
        self, what: str, size: tuple[int, ...], largest: tuple[int, int, int]
    ) -> tuple[int, int, int]:
        if not isinstance(size, tuple) or not 1 <= len(size) <= 3:
            raise TypeError(
                f"kernel {self.name}: `{what}` is {size!r}; a tuple of one to three ints is needed"
            )
        x, y, z = (*size, 1, 1)[:3]
        if not all(1 <= int(n) <= most for n, most in zip((x, y, z), largest, strict=True)):
            raise LaunchError(
                f"kernel {self.name}: `{what}` is {size}; each at least 1 and at most {largest} is needed"
            )
        return int(x), int(y), int(z)


def _triple(size: tuple[int, int, int]) -> Any:
    return (ctypes.c_uint * 3)(*size)


def _preprocessor_options(options: Sequence[str]) -> tuple[str, ...]:
    """Those of NVRTC's options that change the source text, as g++ spells them."""
    spellings = {"--define-macro=": "-D", "--undefine-macro=": "-U", "--include-path=": "-I"}
    kept = []
    for option in options:
        for long, short in spellings.items():
            option = option.replace(long, short, 1) if option.startswith(long) else option
        if option.startswith(("-D", "-U", "-I")):
            kept.append(option)
    return tuple(kept)


def _table_entry(kernel: KernelText) -> str:
    name, bound = kernel.name, kernel.largest_block
    return f'gpuseg_emulator::kernel<(&{name})>("{name}", int({bound}))'


def _with_table(code: str, kernels: Sequence[KernelText]) -> str:
    # Without a namespace the shared variables of inline functions and templates would be symbols that the
    # linker merges; those cannot stand in one section with ordinary ones.
    return "\n".join(
        [
            "namespace {",
            '#line 1 "kernel.cu"',
            code,
            "}",
            '#line 1 "table of kernels"',
            f"GPUSEG_KERNELS({', '.join(_table_entry(kernel) for kernel in kernels)})",
            "",
        ]
    )
