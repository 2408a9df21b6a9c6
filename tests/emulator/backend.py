"""A stand-in for CuPy that runs CUDA kernels on the CPU, for tests of gpuseg's CUDA engine without a GPU."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from .compiler import emulator_status
from .cupy_names import CUPY_VERSION, NOT_IN_CUPY
from .device_array import MEMORY, DeviceArray, OutOfMemoryError, on_device, to_device, to_host
from .module import MAX_SHARED_BYTES, EmulatedFunction, EmulatedModule
from .requirements import require
from .sanitizer import sanitize_by_default
from .streams import CUDARuntimeError, Event, Graph, Stream, current_stream, finish_all, forget

SUPPORTED_DTYPES = "?bhilqBHILQefdFD"
POISON = 0xFF  # as bytes of a float: NaN


class _Translated(ModuleType):
    """A namespace of NumPy whose functions work on device arrays."""

    def __init__(self, name: str, original: ModuleType) -> None:
        super().__init__(name)
        self._original = original
        self.__spec__ = ModuleSpec(name, None)
        absent = NOT_IN_CUPY[original.__name__]
        self.__all__ = [n for n in dir(original) if not n.startswith("_") and n not in absent and n != "test"]

    def __getattr__(self, name: str) -> Any:
        original = self.__dict__["_original"]
        if name in NOT_IN_CUPY[original.__name__] or name.startswith("__"):
            raise AttributeError(f"CuPy {CUPY_VERSION} has no {self.__name__}.{name}")
        value = getattr(original, name)
        is_function = callable(value) and not isinstance(value, type)
        return on_device(value) if is_function else value


class EmulatedCupy(_Translated):
    """What ``import cupy`` gives, for one emulated GPU.

    Functions and types are NumPy's, on `DeviceArray`; kernels are run by `EmulatedModule`. Random numbers are
    NumPy's and differ from CuPy's.

    Parameters
    ----------
    order : {0, 1, 2}
        In which order threads run; see `EmulatedModule`.
    sanitize : bool, optional
        Build kernels with the sanitizers; by default if `run_sanitized` started this process.
    memory : int
        Bytes of free device memory that the device reports.
    refuse : bool
        Whether an allocation fails where that memory is taken. Temporary arrays inside of functions are not
        counted.

    Attributes
    ----------
    launches : collections.Counter
        How often each kernel was launched.
    """

    ndarray = DeviceArray
    __version__ = CUPY_VERSION

    def __init__(
        self, order: int = 0, sanitize: bool | None = None, memory: int = 1 << 30, refuse: bool = False
    ) -> None:
        super().__init__("cupy", np)
        MEMORY.reset(memory if refuse else None)
        self.pool_was_emptied = 0
        self.order = order
        self.sanitize = sanitize_by_default() if sanitize is None else sanitize
        self.launches: Counter[str] = Counter()
        self.linalg = _Translated("cupy.linalg", np.linalg)
        self.fft = _Translated("cupy.fft", np.fft)
        self.random = _emulated_random()
        self.cuda = _emulated_cuda_module(memory)
        self.__all__ = sorted(
            {*self.__all__, "asnumpy", "cuda", "get_array_module", "linalg", "fft", "random"}
        )
        DeviceArray.host_reads = 0
        forget()

    @property
    def graph_launches(self) -> int:
        """How often a graph was launched since this object was made."""
        return Graph.launches

    @property
    def host_reads(self) -> int:
        """How often numbers came back to the host since this object was made."""
        return DeviceArray.host_reads

    def modules(self) -> dict[str, ModuleType]:
        """The modules that an import system should know, by name."""
        inner = [self.linalg, self.fft, self.random, self.cuda, self.cuda.device]
        return {module.__name__: module for module in (self, *inner)}

    # arrays

    def array(
        self, obj: Any, dtype: Any = None, copy: bool | None = True, order: str = "K", **keywords: Any
    ) -> DeviceArray:
        """A new array on the device, from the host or the device."""
        current_stream().synchronize()
        if isinstance(obj, DeviceArray):
            return to_device(
                np.array(obj.host, dtype, copy=copy, order=order, **keywords), {id(obj.host): obj}
            )
        host = np.array(
            obj if isinstance(obj, np.ndarray) else to_host(obj), dtype, copy=True, order=order, **keywords
        )
        if host.dtype.char not in SUPPORTED_DTYPES or not host.dtype.isnative:
            raise ValueError(f"Unsupported dtype {host.dtype.str}")
        return DeviceArray(host)

    def asarray(self, a: Any, dtype: Any = None, order: str | None = None, **keywords: Any) -> DeviceArray:
        """The array on the device: itself if it is there already, else a copy."""
        return self.array(a, dtype, copy=None, order=order or "K")

    asanyarray = asarray

    def asnumpy(
        self, a: Any, stream: Any = None, order: str = "C", out: Any = None, **keywords: Any
    ) -> np.ndarray:
        """A copy on the host."""
        return a.get(order=order, out=out) if isinstance(a, DeviceArray) else np.asarray(a, order=order)

    def empty(self, *arguments: Any, **keywords: Any) -> DeviceArray:
        """As NumPy's, but filled with NaN or -1: an element that nobody wrote shows."""
        current_stream().refuse("empty, which takes new memory,")
        return DeviceArray(_poisoned(np.empty(*arguments, **keywords)))

    def empty_like(self, a: DeviceArray, *arguments: Any, **keywords: Any) -> DeviceArray:
        """As NumPy's, but filled as in `empty`."""
        current_stream().refuse("empty_like, which takes new memory,")
        return DeviceArray(_poisoned(np.empty_like(to_host(a), *arguments, **keywords)))

    def copyto(self, dst: DeviceArray, src: DeviceArray, casting: str = "same_kind") -> None:
        """Write one array into another of the same shape, in the order of the current stream."""
        if not isinstance(src, DeviceArray):
            raise TypeError(f"Unsupported type {type(src)}: an array on the device is needed")
        if not np.can_cast(src.dtype, dst.dtype, casting):
            raise TypeError(f"Cannot cast {src.dtype} to {dst.dtype} in {casting} casting mode")
        current_stream().put(lambda: np.copyto(dst.host, src.host, casting=casting))

    def get_array_module(self, *arrays: Any) -> ModuleType:
        """This module if there is a device array among them, else NumPy."""
        return self if any(isinstance(a, DeviceArray) for a in arrays) else np

    # kernels

    def RawModule(
        self,
        *,
        code: str,
        options: tuple[str, ...] = (),
        name_expressions: Sequence[str] | None = None,
        **keywords: Any,
    ) -> _Module:
        """Kernels from CUDA C++; see `EmulatedModule`."""
        if not isinstance(options, tuple):
            raise TypeError(f"`options` is a {type(options).__name__}; CuPy needs a tuple")
        if name_expressions and not any("std=c++" in option for option in options):
            raise ValueError("need to specify C++ standard for compiling template code")
        return _Module(self, code, options, tuple(name_expressions or ()))

    def RawKernel(self, code: str, name: str, options: tuple[str, ...] = (), **keywords: Any) -> _Function:
        """One kernel from CUDA C++."""
        return self.RawModule(code=code, options=options).get_function(name)

    # memory

    def is_available(self) -> bool:
        """There is an emulated GPU."""
        return True

    def get_default_memory_pool(self) -> Any:
        """A pool that keeps nothing, and counts how often it was emptied."""

        def empty() -> None:
            self.pool_was_emptied += 1

        return SimpleNamespace(
            used_bytes=lambda: MEMORY.used,
            total_bytes=lambda: MEMORY.used,
            free_bytes=lambda: 0,
            free_all_blocks=empty,
            get_limit=lambda: 0,
            set_limit=lambda size=None, fraction=None: None,
        )

    get_default_pinned_memory_pool = get_default_memory_pool


def _poisoned(array: np.ndarray) -> np.ndarray:
    if array.dtype == bool:  # a bool of 0xFF is none
        array.fill(True)
    elif array.size:
        array.reshape(-1).view(np.uint8).fill(POISON) if array.flags.c_contiguous else array.fill(-1)
    return array


class _Module:
    """Stands in for ``cupy.RawModule``: compiles at the first use, as CuPy does."""

    def __init__(
        self, cupy: EmulatedCupy, code: str, options: tuple[str, ...], names: tuple[str, ...]
    ) -> None:
        self._cupy = cupy
        self._make = lambda: EmulatedModule(
            code, options, name_expressions=names, order=cupy.order, sanitize=cupy.sanitize
        )

    @functools.cached_property
    def _module(self) -> EmulatedModule:
        return self._make()

    def compile(self, log_stream: Any = None) -> None:
        """Compile now."""
        _ = self._module

    def get_function(self, name: str) -> _Function:
        """The kernel of that name."""
        return _Function(self._cupy, self._module.get_function(name))


class _Function:
    """Stands in for ``cupy.RawKernel``: arrays on the device in, arrays on the host refused."""

    def __init__(self, cupy: EmulatedCupy, function: EmulatedFunction) -> None:
        self._cupy, self._function = cupy, function

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], *, shared_mem: int = 0
    ) -> None:
        arguments = to_host(tuple(args))

        def run() -> None:
            self._function(grid, block, arguments, shared_mem=shared_mem)
            self._cupy.launches[self._function.name] += 1

        current_stream().put(run)

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._function.max_dynamic_shared_size_bytes

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        self._function.max_dynamic_shared_size_bytes = size


class _Generator:
    """A random generator of NumPy whose numbers lie on the device."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def __getattr__(self, name: str) -> Any:
        return on_device(getattr(self._generator, name))


def _emulated_random() -> ModuleType:
    module = _Translated("cupy.random", np.random)
    module.RandomState = lambda seed=None: _Generator(np.random.RandomState(seed))
    module.default_rng = lambda seed=None: _Generator(np.random.default_rng(seed))
    return module


class _Device:
    """The one emulated GPU; entering it changes nothing."""

    compute_capability = "75"
    attributes = {"MaxSharedMemoryPerBlockOptin": MAX_SHARED_BYTES}  # noqa: RUF012

    def __init__(self, device: int | _Device | None = None) -> None:
        self.id = getattr(device, "id", device or 0)
        if self.id != 0:
            raise ValueError(f"CUDA device {self.id} was asked for; there is one emulated device, 0")

    def __enter__(self) -> _Device:
        return self

    def __exit__(self, *error: Any) -> None:
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Device) and other.id == self.id

    def __hash__(self) -> int:
        return self.id

    def use(self) -> _Device:
        return self

    def synchronize(self) -> None:
        finish_all()


def _pinned_memory(size: int) -> memoryview:
    """Memory on the host, filled as in `EmulatedCupy.empty`."""
    return memoryview(bytearray([POISON]) * size)


def _emulated_cuda_module(memory: int) -> ModuleType:
    module = ModuleType("cupy.cuda")
    module.Device, module.Stream, module.Event, module.Graph = _Device, Stream, Event, Graph
    module.alloc_pinned_memory = _pinned_memory
    module.memory = ModuleType("cupy.cuda.memory")
    module.memory.OutOfMemoryError = OutOfMemoryError
    module.get_elapsed_time = lambda begin, end: 1000 * (end.moment - begin.moment)
    module.device = ModuleType("cupy.cuda.device")
    module.device.Device = _Device
    module.get_current_stream = current_stream
    module.get_device_id = lambda: 0
    module.is_available = lambda: True
    properties = {
        "name": b"emulated GPU",
        "major": 7,
        "minor": 5,
        "totalGlobalMem": memory,
        "multiProcessorCount": 1,
    }
    module.runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        deviceSynchronize=finish_all,
        driverGetVersion=lambda: 13000,
        getDevice=lambda: 0,
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda device: properties,
        memGetInfo=lambda: (memory - MEMORY.used, memory),
        runtimeGetVersion=lambda: 13000,
        setDevice=lambda device: None,
    )
    return module


@pytest.fixture(name="emulated_cuda")
def emulated_cuda_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., EmulatedCupy]]:
    """A function ``(order=0, sanitize=None, memory=2**30, refuse=False)`` that gives gpuseg an emulated GPU.

    It returns the `EmulatedCupy` that stands in for CuPy until the test ends. The test is skipped where no
    kernel can be compiled.
    """

    def install(
        order: int = 0, sanitize: bool | None = None, memory: int = 1 << 30, refuse: bool = False
    ) -> EmulatedCupy:
        cupy = EmulatedCupy(order, sanitize, memory, refuse)
        usable, reason = emulator_status(cupy.sanitize)
        require(usable, reason)
        _replace_cupy(monkeypatch, cupy)
        return cupy

    yield install
    MEMORY.reset(None)
    _forget_kernels()
    _forget_namespace()


def _replace_cupy(monkeypatch: pytest.MonkeyPatch, cupy: EmulatedCupy) -> None:
    import array_api_compat

    import gpuseg.arrays as arrays

    for name, module in cupy.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in [n for n in sys.modules if n.startswith("array_api_compat.cupy")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(array_api_compat, "cupy", raising=False)
    stand_ins = {
        "cupy_module": functools.cache(lambda: cupy),
        "gpu_status": functools.cache(lambda: (True, "emulated")),
    }
    originals = {name: getattr(arrays, name) for name in stand_ins}
    for module in [m for n, m in sys.modules.items() if n.partition(".")[0] == "gpuseg"]:
        for name, original in originals.items():
            if getattr(module, name, None) is original:
                monkeypatch.setattr(module, name, stand_ins[name])
    _forget_kernels()


def _forget_kernels() -> None:
    """Empty the caches of compiled kernels: each belongs to the CuPy that made it."""
    for name, module in list(sys.modules.items()):
        if name.startswith("gpuseg.engines"):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def _forget_namespace() -> None:
    """Drop array_api_compat's namespace around CuPy: it keeps the CuPy that it found at its import."""
    import array_api_compat

    for name in [n for n in sys.modules if n.startswith("array_api_compat.cupy")]:
        del sys.modules[name]
    vars(array_api_compat).pop("cupy", None)
