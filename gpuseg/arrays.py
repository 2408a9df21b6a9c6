"""The array layer: where an array lives, where work runs, and the moves between the two.

CuPy is named here and in `gpuseg.engines.cuda` only. High-level code asks an array for its namespace and
runs unchanged on NumPy, CuPy and array-api-strict arrays.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.util
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gpuseg import constants

__all__ = [
    "Device",
    "DeviceError",
    "cuda_devices",
    "cuml_serves",
    "free_memory",
    "gpu_status",
    "home_of",
    "ingest",
    "is_dask",
    "is_out_of_memory",
    "move",
    "namespace",
    "release_memory",
    "resolve_device",
    "to_numpy",
    "to_numpy_together",
]

log = logging.getLogger("gpuseg")

_DLPACK_CUDA = (2, 13)  # kDLCUDA and kDLCUDAManaged in the DLPack header


class DeviceError(RuntimeError):
    """A GPU was asked for and cannot be used; the text says why and what to do."""


@dataclass(frozen=True)
class Device:
    """Where work runs: ``Device("cpu")`` or ``Device("cuda", 0)``; prints as ``cpu`` or ``cuda:0``."""

    kind: str
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"

    def synchronize(self) -> None:
        """Wait until the device has done what was asked of it."""
        if self.kind == "cuda":
            with self.current:
                cupy_module().cuda.get_current_stream().synchronize()

    @property
    def current(self) -> contextlib.AbstractContextManager[Any]:
        """A context in which new CuPy arrays and kernels belong to this device."""
        return contextlib.nullcontext() if self.kind == "cpu" else cupy_module().cuda.Device(self.index)


def cupy_module() -> ModuleType:
    """CuPy itself, imported at first use.

    Returns
    -------
    module
    """
    import cupy

    return cupy


@functools.lru_cache(maxsize=1)
def gpu_status() -> tuple[bool, str]:
    """Whether a GPU can be used, found out once per process by running a small kernel.

    Returns
    -------
    usable : bool
    reason : str
        What is missing, or the name of the GPU.
    """
    if os.environ.get("GPUSEG_FORCE_CPU") == "1":
        return False, "the environment variable GPUSEG_FORCE_CPU is 1"
    try:
        cupy = cupy_module()
    except Exception as error:  # a broken CuPy raises anything from ImportError to OSError
        return False, f"CuPy cannot be imported ({_first_line(error)}); pip install 'gpuseg[cuda13]'"
    return _driver_status(cupy)


def _driver_status(cupy: Any) -> tuple[bool, str]:
    runtime = cupy.cuda.runtime
    try:
        driver, built_for = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        if driver == 0:
            return False, "no NVIDIA driver is installed"
        if driver // 1000 < built_for // 1000:
            return False, (
                f"the driver knows CUDA {driver // 1000}, this CuPy needs CUDA {built_for // 1000}; "
                "update the driver or install the CuPy made for the older one"
            )
        if runtime.getDeviceCount() == 0:
            return False, "no CUDA device is visible"
        return _probe(cupy)
    except Exception as error:  # whatever CUDA finds wrong is a reason, never a crash
        return False, f"CUDA does not work: {_first_line(error)}"


def _probe(cupy: Any) -> tuple[bool, str]:
    """Allocate, compile, launch and read back: only that proves a GPU usable."""
    kernel = cupy.RawKernel('extern "C" __global__ void gpuseg_probe(int* a) { a[0] = 42; }', "gpuseg_probe")
    answer = cupy.zeros(1, cupy.int32)
    kernel((1,), (1,), (answer,))
    if int(answer[0]) != 42:
        return False, "a probe kernel gave a wrong result"
    return True, cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def cuda_devices() -> list[dict[str, Any]]:
    """The CUDA devices that can be used.

    Returns
    -------
    list of dict
        With ``index``, ``name``, ``compute_capability``, ``memory_total`` and ``memory_free`` (bytes), in
        the order of ``device="cuda:index"``; empty where there is no usable GPU.
    """
    if not gpu_status()[0]:
        return []
    cupy = cupy_module()
    found = []
    for index in range(cupy.cuda.runtime.getDeviceCount()):
        properties = cupy.cuda.runtime.getDeviceProperties(index)
        with cupy.cuda.Device(index):
            free, total = cupy.cuda.runtime.memGetInfo()
        found.append(
            {
                "index": index,
                "name": properties["name"].decode(),
                "compute_capability": f"{properties['major']}.{properties['minor']}",
                "memory_total": int(total),
                "memory_free": int(free),
            }
        )
    return found


def free_memory(device: Device) -> int:
    """Memory that could be had on a device.

    Parameters
    ----------
    device : Device

    Returns
    -------
    int
        Bytes. On the CPU what Linux calls available, within the limit of the container; elsewhere all there
        is, or 8 GB where nothing tells.
    """
    if device.kind == "cuda":
        cupy = cupy_module()
        with device.current:
            pool = cupy.get_default_memory_pool()
            return int(cupy.cuda.runtime.memGetInfo()[0]) + int(pool.free_bytes())
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        try:
            return int(os.sysconf("SC_PHYS_PAGES")) * int(os.sysconf("SC_PAGE_SIZE"))
        except (AttributeError, OSError, ValueError):  # Windows has no such thing
            return 8 << 30
    try:
        limit, used = (
            int(Path(f"/sys/fs/cgroup/memory.{name}").read_text("ascii")) for name in ("max", "current")
        )
    except (OSError, ValueError):  # no container, or no limit ("max")
        return free
    return max(min(free, limit - used), 0)


def release_memory(device: Device) -> None:
    """Free what nobody needs any more, after work that failed for want of memory.

    Parameters
    ----------
    device : Device
        On a GPU the pool's blocks go back to the driver, too: those of one size are in the way
        of larger ones.
    """
    gc.collect()  # an error that passed a context manager is in a cycle with the arrays of its frames
    if device.kind == "cuda":
        with device.current:
            cupy_module().get_default_memory_pool().free_all_blocks()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, on the host or on a GPU.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    bool
    """
    if isinstance(error, MemoryError):  # CuPy's is one too
        return True
    return "cupy" in sys.modules and "cudaErrorMemoryAllocation" in str(error)


def resolve_device(device: Any, array: Any = None) -> Device:
    """Which device a call means.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "cuda:i"} or Device
        "auto" is the array's own GPU for a GPU array, else the first GPU if one is usable, else the CPU (the
        reason is logged once).
    array : array, optional
        The ingested input.

    Returns
    -------
    Device

    Raises
    ------
    ValueError
        If `device` is not one of the names.
    DeviceError
        If a GPU is asked for and none, or not that many, can be used.
    """
    if isinstance(device, Device):
        return device
    home = home_of(array)
    kind, colon, index = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind not in ("auto", "cpu", "cuda") or (colon and (kind != "cuda" or not index.isdecimal())):
        raise ValueError(f"`device` is {device!r}; one of 'auto', 'cpu', 'cuda', 'cuda:1' is needed")
    if kind == "cpu":
        return Device("cpu")
    if home.kind == "cuda" and not index:
        return home
    usable, reason = gpu_status()
    if kind == "auto":
        if not usable:
            _log_once(reason)
        return Device("cuda", 0) if usable else Device("cpu")
    if not usable:
        raise DeviceError(f"`device` is {device!r}, but no GPU can be used: {reason}; or use device='cpu'")
    count = cupy_module().cuda.runtime.getDeviceCount()
    if int(index or 0) >= count:
        raise DeviceError(f"`device` is {device!r}, but there are {count} CUDA devices, counted from 0")
    return Device("cuda", int(index or 0))


@functools.lru_cache(maxsize=1)
def _log_once(reason: str) -> None:
    log.info("working on the CPU: %s", reason)


def home_of(array: Any) -> Device:
    """Where an array lives.

    Parameters
    ----------
    array : object

    Returns
    -------
    Device
        The GPU of a CuPy array, the CPU for everything else.
    """
    return Device("cuda", int(array.device.id)) if _is_cupy(array) else Device("cpu")


def _is_cupy(array: Any) -> bool:
    # an array of a library that nobody imported cannot exist
    return "cupy" in sys.modules and isinstance(array, cupy_module().ndarray)


def cuml_serves(estimator: str, array: Any) -> bool:
    """Whether cuML does a piece of work: see `gpuseg.constants.CUML_SERVES`.

    Parameters
    ----------
    estimator : {"PCA", "KMeans"}
    array : array
        What it would work on.

    Returns
    -------
    bool
    """
    wanted = estimator in constants.CUML_SERVES and home_of(array).kind == "cuda"
    return wanted and importlib.util.find_spec("cuml") is not None


def ingest(array: Any) -> Any:
    """Any array as NumPy or CuPy, without a copy where that can be.

    Parameters
    ----------
    array : array_like
        NumPy and CuPy arrays, nested lists, dask arrays (computed), anything with DLPack such as torch
        tensors (a CUDA tensor becomes a CuPy array on its GPU), anything with ``__array__``. The masked
        pixels of a NumPy masked array become NaN.

    Returns
    -------
    numpy.ndarray or cupy.ndarray
    """
    if isinstance(array, np.ma.MaskedArray):
        pixels = array.data.astype(np.result_type(array.dtype, np.float16))
        pixels[np.ma.getmaskarray(array)] = np.nan
        return pixels
    if isinstance(array, np.ndarray) or _is_cupy(array):
        return array
    if hasattr(array, "__dask_graph__") and hasattr(array, "compute"):
        return ingest(array.compute())
    if hasattr(array, "detach"):  # torch refuses to export a tensor that needs its gradient
        array = array.detach()
    if hasattr(array, "__dlpack_device__"):
        if array.__dlpack_device__()[0] in _DLPACK_CUDA:
            return cupy_module().from_dlpack(array)
        with contextlib.suppress(BufferError, RuntimeError, TypeError, ValueError):
            return np.from_dlpack(array)
    try:
        return np.asarray(array)
    except ValueError as error:  # rows of different length
        raise ValueError(f"`image` or `mask` is no rectangular array ({error})") from None


def is_dask(array: Any) -> bool:
    """Whether an array is one of dask's, of which nothing is computed yet.

    Parameters
    ----------
    array : object

    Returns
    -------
    bool
    """
    # an array of a library that nobody imported cannot exist
    return "dask.array" in sys.modules and isinstance(array, sys.modules["dask.array"].Array)


def to_numpy(array: Any) -> np.ndarray:
    """An array on the host.

    Parameters
    ----------
    array : array_like
        As in `ingest`.

    Returns
    -------
    numpy.ndarray
    """
    array = ingest(array)
    return cupy_module().asnumpy(array) if _is_cupy(array) else array


def to_numpy_together(*arrays: Any) -> list[np.ndarray]:
    """Several small arrays on the host by one transfer, where each of its own would wait for the GPU.

    Parameters
    ----------
    *arrays : numpy.ndarray or cupy.ndarray
        Those of a GPU on the same one.

    Returns
    -------
    list of numpy.ndarray
        Of the same shapes and dtypes.
    """
    there = [array for array in arrays if _is_cupy(array)]
    if len(there) < 2:
        return [to_numpy(array) for array in arrays]
    cupy = cupy_module()
    flat = [cupy.ascontiguousarray(array).reshape(-1).view(cupy.uint8) for array in there]
    ends = np.cumsum([array.nbytes for array in there])
    pieces = iter(np.split(cupy.asnumpy(cupy.concatenate(flat)), ends[:-1]))
    # copied, for a piece may begin anywhere
    return [
        next(pieces).copy().view(array.dtype).reshape(array.shape) if _is_cupy(array) else to_numpy(array)
        for array in arrays
    ]


def move(array: Any, device: Device) -> Any:
    """An array on another device, untouched if it is there already.

    Parameters
    ----------
    array : numpy.ndarray or cupy.ndarray
    device : Device

    Returns
    -------
    numpy.ndarray or cupy.ndarray
    """
    if home_of(array) == device:
        return array
    if device.kind == "cpu":
        return to_numpy(array)
    with device.current:
        return cupy_module().asarray(array)


def namespace(*arrays: Any) -> Any:
    """The array API namespace that the arrays share.

    Parameters
    ----------
    *arrays : array

    Returns
    -------
    module
        With the names of the array API standard.
    """
    from array_api_compat import array_namespace

    return array_namespace(*arrays)
