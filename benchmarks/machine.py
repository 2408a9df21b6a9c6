"""The machine a run was made on: what it is, and what it could do at best."""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from gpuseg import arrays
from gpuseg.engines import engine_for

from .timing import seconds
from .work import Peaks

PACKAGES = ("gpuseg", "numpy", "scipy", "scikit-learn", "numba", "cupy-cuda12x", "cupy-cuda13x", "cuml-cu13")
THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def versions() -> dict[str, str]:
    """Versions of what takes part, and the commit if this is a clone."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    describe_commit = ["git", "-C", str(Path(__file__).parents[1]), "describe", "--always", "--dirty"]
    git = subprocess.run(describe_commit, capture_output=True, text=True, check=False)
    return {**found, "commit": git.stdout.strip()} if git.returncode == 0 else found


def describe() -> dict[str, Any]:
    """Processor, cores, memory, system, thread settings; copies of one thread and arithmetic of all."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": cores,
        "memory_gb": _memory_gb(),
        "system": platform.platform(),
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "thread_pools": thread_pools(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "copy_gb_per_s": copy_bandwidth() / 1e9,
        "multiply_adds_per_s": multiply_adds(),
    }


def thread_pools() -> list[str]:
    """The libraries with threads of their own that NumPy, SciPy and scikit-learn have brought."""
    import scipy.linalg  # noqa: F401
    import sklearn.cluster  # noqa: F401
    from threadpoolctl import threadpool_info

    return [
        f"{pool['internal_api']} {pool['version'] or ''}".strip() + f" with {pool['num_threads']} threads"
        for pool in threadpool_info()
    ]


def device() -> dict[str, Any]:
    """The GPU, or why there is none."""
    usable, reason = arrays.gpu_status()
    return {"usable": usable, "reason": reason, "devices": arrays.cuda_devices() if usable else []}


def copy_bandwidth(megabytes: int = 128, times: int = 5) -> float:
    """Bytes per second, read and written, of the fastest of some large copies in one thread."""
    return _speeds_of_memory(arrays.resolve_device("cpu"), 1, megabytes * 1_000_000, times)[0]


def multiply_adds(side: int = 1024, times: int = 5) -> float:
    """Float32 multiply-adds per second of the fastest of some matrix products, on all cores."""
    a = np.ones((side, side), np.float32)
    a @ a
    return side**3 / min(seconds(lambda: a @ a)[0] for _ in range(times))


def peaks(where: arrays.Device, quick: bool = False) -> Peaks:
    """What a device can do at best: on the CPU on as many threads as gpuseg uses, each with work of its own.

    Parameters
    ----------
    where : Device
    quick : bool
        Small arrays, two tries: numbers of the right kind, not to be quoted.

    Returns
    -------
    Peaks
        The fastest of some tries each. On a GPU: CuPy's copies and cuBLAS without TF32.
    """
    on_gpu = where.kind == "cuda"
    times = 2 if quick else 15  # many, so that some of them have the machine for themselves
    n_bytes = 4_000_000 if quick else 2_000_000_000 if on_gpu else 256_000_000
    side = 256 if quick else 8192 if on_gpu else 1024
    threads = 1 if on_gpu else engine_for(where).n_threads()
    with where.current:
        copied, written, fresh = _speeds_of_memory(where, threads, n_bytes, times)
        xp = _array_module(where)
        factor = xp.ones((side, side), dtype=xp.float32)
        products = [xp.empty_like(factor) for _ in range(threads)]

        def multiply(product: Any) -> None:
            xp.matmul(factor, factor, out=product)

        rate = threads * side**3 / _fastest(where, multiply, products, times)
    return Peaks(0 if on_gpu else threads, copied, written, fresh, rate)


def _speeds_of_memory(
    where: arrays.Device, threads: int, n_bytes: int, times: int
) -> tuple[float, float, float]:
    """Bytes per second of copies (read and written), of writing, and of writing to new memory, on threads."""
    xp = _array_module(where)
    source = xp.ones(n_bytes // 4, dtype=xp.float32)
    target = xp.zeros_like(source)
    edges = np.linspace(0, source.size, threads + 1).astype(int).tolist()
    parts = [slice(*edge) for edge in itertools.pairwise(edges)]

    def copy(part: slice) -> None:
        xp.copyto(target[part], source[part])

    def write(part: slice) -> None:
        target[part] = 1.0

    def write_new(part: slice) -> None:
        xp.empty(part.stop - part.start, dtype=xp.float32)[:] = 1.0

    copied, written, fresh = (_fastest(where, work, parts, times) for work in (copy, write, write_new))
    return 2 * source.nbytes / copied, source.nbytes / written, source.nbytes / fresh


def _fastest(where: arrays.Device, work: Callable[[Any], None], items: list[Any], times: int) -> float:
    """Least seconds of some runs of `work` for all items at once, after a first that is not counted."""

    def run() -> None:
        engine_for(where).each(work, items)
        where.synchronize()

    run()
    return min(seconds(run)[0] for _ in range(times))


def _array_module(where: arrays.Device) -> Any:
    return arrays.cupy_module() if where.kind == "cuda" else np


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _memory_gb() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):
        return None
