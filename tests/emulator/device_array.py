"""`DeviceArray`: a NumPy array that can be used only as a CuPy array can.

It never turns into a NumPy array by itself and never mixes with one, so that code which would fail on a GPU,
or copy in silence, fails here.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from .streams import current_stream

CUDA_DLPACK_DEVICE = (2, 0)
HOST_ONLY = {
    "ctypes",
    "base",
    "tofile",
    "tostring",
    "setflags",
    "byteswap",
    "newbyteorder",
    "resize",
    "to_device",
}
READS = {"item", "tolist", "tobytes"}
WAITS = {"argwhere", "bincount", "eigh", "eigvalsh", "flatnonzero", "nonzero", "unique"}
"""Functions of which CuPy has to know a number of the result before it can go on."""


class OutOfMemoryError(MemoryError):
    """Stands in for ``cupy.cuda.memory.OutOfMemoryError``."""


class DeviceMemory:
    """How much of the emulated device's memory is taken, by what is reachable.

    Attributes
    ----------
    size : int or None
        Bytes; more is refused. None refuses nothing.
    used, most : int
        Bytes that are taken now, and that ever were.
    """

    def __init__(self) -> None:
        self.size: int | None = None
        self.used = self.most = 0
        self._known: set[int] = set()

    def reset(self, size: int | None) -> None:
        """Another device, of which nothing is taken; what the last one held is not counted."""
        self.__init__()
        self.size = size

    def take(self, host: np.ndarray) -> None:
        """Count the memory behind an array, once, until nobody holds it any more."""
        if self.size is None:
            return
        while isinstance(host.base, np.ndarray):
            host = host.base
        if id(host) in self._known:
            return
        if self.used + host.nbytes > self.size:
            raise OutOfMemoryError(
                f"Out of memory allocating {host.nbytes:,} bytes (allocated so far: {self.used:,} bytes)."
            )
        self.used += host.nbytes
        self.most = max(self.most, self.used)
        self._known.add(id(host))
        weakref.finalize(host, self._give_back, self._known, id(host), host.nbytes)

    def _give_back(self, known: set[int], key: int, size: int) -> None:
        if known is self._known:  # of this device
            known.discard(key)
            self.used -= size


MEMORY = DeviceMemory()


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """Stands in for ``cupy.ndarray``.

    Parameters
    ----------
    host : numpy.ndarray
        The "device memory": used as it is, not copied.

    Attributes
    ----------
    host : numpy.ndarray
        For tests and for the emulator; CuPy has no such thing.
    host_reads : int
        Of the class: how often numbers came back from the "device", each of which would wait for the GPU:
        also where CuPy must count what a mask picks.
    """

    __slots__ = ("host",)
    __hash__ = None
    host_reads = 0

    def __init__(self, host: np.ndarray) -> None:
        MEMORY.take(host)
        self.host = host

    # what NumPy asks for

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        return on_device(getattr(ufunc, method))(*inputs, **keywords)

    def __array_function__(
        self, function: Callable[..., Any], types: Any, arguments: Any, keywords: Any
    ) -> Any:
        return on_device(function)(*arguments, **keywords)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.host.__array_interface__, "stream": 1}

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA_DLPACK_DEVICE

    # attributes and methods

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in HOST_ONLY:
            raise AttributeError(f"cupy.ndarray has no attribute {name!r}")
        value = getattr(self.host, name)
        if name in READS:
            return lambda *arguments: (_count_read(), value(*arguments))[1]
        return on_device(value) if callable(value) else to_device(value)

    @property
    def device(self) -> Any:
        """The emulated GPU."""
        return SimpleNamespace(id=0)

    @property
    def data(self) -> Any:
        """The pointer, as ``.data.ptr``."""
        return SimpleNamespace(ptr=self.host.ctypes.data)

    def get(
        self, stream: Any = None, order: str = "C", out: np.ndarray | None = None, blocking: bool = True
    ) -> np.ndarray:
        """A copy on the host."""
        stream = stream or current_stream()
        if out is None:
            out, blocking = np.empty(self.host.shape, self.host.dtype, order if order in "CF" else "C"), True
        target = out
        stream.put(lambda: np.copyto(target, self.host))
        if blocking:
            DeviceArray.host_reads += 1
            stream.synchronize()
        return out

    def set(self, array: np.ndarray, stream: Any = None) -> None:
        """Fill from an array on the host, of the same shape and dtype."""
        if array.shape != self.shape or array.dtype != self.dtype:
            raise ValueError(f"{array.dtype} {array.shape} was given, {self.dtype} {self.shape} is needed")
        (stream or current_stream()).put(lambda: np.copyto(self.host, array))

    def __len__(self) -> int:
        return len(self.host)

    def __iter__(self) -> Iterator[DeviceArray]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> DeviceArray:
        key = to_host(key)
        if any(isinstance(part, np.ndarray) and part.dtype == bool for part in _parts(key)):
            _count_read()
        found = self.host[key]
        if isinstance(found, np.generic):  # CuPy gives a view even of one element
            found = self.host[(*key, ...) if isinstance(key, tuple) else (key, ...)]
        return DeviceArray(found)

    def __setitem__(self, key: Any, value: Any) -> None:
        current_stream().synchronize()
        self.host[to_host(key)] = to_host(value)

    # numbers for the host

    def __bool__(self) -> bool:
        _count_read()
        return bool(self.host)

    def __int__(self) -> int:
        _count_read()
        return int(self.host)

    def __float__(self) -> float:
        _count_read()
        return float(self.host)

    def __complex__(self) -> complex:
        _count_read()
        return complex(self.host)

    def __index__(self) -> int:
        _count_read()
        return self.host.__index__()

    def __repr__(self) -> str:
        return repr(self.host)

    __str__ = __repr__


def _parts(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def _count_read() -> None:
    current_stream().synchronize()
    DeviceArray.host_reads += 1


def to_host(value: Any, known: dict[int, DeviceArray] | None = None) -> Any:
    """The NumPy arrays behind the device arrays in an argument, also inside tuples, lists and dicts.

    Parameters
    ----------
    value : object
    known : dict, optional
        Is filled with the device arrays found, by the id of their NumPy array.

    Raises
    ------
    TypeError
        If there is a NumPy array among them, which CuPy refuses too.
    """
    if isinstance(value, DeviceArray):
        if known is not None:
            known[id(value.host)] = value
        return value.host
    if isinstance(value, np.ndarray):
        raise TypeError(
            f"Unsupported type {type(value)}: a host array of shape {value.shape} where CuPy wants its own"
        )
    if isinstance(value, list | tuple):
        parts = [to_host(part, known) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {key: to_host(part, known) for key, part in value.items()}
    return value


def to_device(value: Any, known: dict[int, DeviceArray] | None = None) -> Any:
    """A NumPy result as CuPy would give it: arrays on the device, and 0-d arrays for single numbers."""
    if isinstance(value, np.ndarray):
        same = (known or {}).get(id(value))
        return DeviceArray(value) if same is None else same
    if isinstance(value, np.generic):
        return DeviceArray(np.asarray(value))
    if isinstance(value, list | tuple):
        parts = [to_device(part, known) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def on_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy function that takes and gives device arrays, and no others."""

    def run(*arguments: Any, **keywords: Any) -> Any:
        current_stream().refuse(f"{run.__name__}, which takes new memory,")
        current_stream().finish()  # what it reads may be on its way
        known: dict[int, DeviceArray] = {}
        if run.__name__ in WAITS:
            _count_read()
        return to_device(function(*to_host(arguments, known), **to_host(keywords, known)), known)

    run.__name__ = getattr(function, "__name__", "function")
    return run
