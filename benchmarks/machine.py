"""The machine a run was made on: what it is, and what it could do at best."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from gpuseg import arrays

from .timing import seconds

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
    """Processor, cores, memory, system, thread settings, and the two limits that `limit_seconds` uses."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": cores,
        "memory_gb": _memory_gb(),
        "system": platform.platform(),
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "copy_gb_per_s": copy_bandwidth() / 1e9,
        "multiply_adds_per_s": multiply_adds(),
    }


def device() -> dict[str, Any]:
    """The GPU, or why there is none."""
    usable, reason = arrays.gpu_status()
    return {"usable": usable, "reason": reason, "devices": arrays.cuda_devices() if usable else []}


def copy_bandwidth(megabytes: int = 128, times: int = 5) -> float:
    """Bytes per second, read and written, of the fastest of some large copies in one thread."""
    source = np.ones(megabytes * 1_000_000 // 4, np.float32)
    target = np.empty_like(source)
    np.copyto(target, source)
    return 2 * source.nbytes / min(seconds(lambda: np.copyto(target, source))[0] for _ in range(times))


def multiply_adds(side: int = 1024, times: int = 5) -> float:
    """Float32 multiply-adds per second of the fastest of some matrix products, on all cores."""
    a = np.ones((side, side), np.float32)
    a @ a
    return side**3 / min(seconds(lambda: a @ a)[0] for _ in range(times))


def limit_seconds(machine: dict[str, Any], side: int, n_translations: int, n_points: int) -> float:
    """The least time `box` could take here: its arithmetic at peak or its bytes at copy speed.

    Arithmetic: a multiply-add per pixel and translation for the product image and one for its running sum.
    Bytes: the image read once and the scores written once. The longer of the two counts.
    """
    arithmetic = 2 * side * side * n_translations / machine["multiply_adds_per_s"]
    traffic = 4 * (side * side + n_translations * n_points) / (machine["copy_gb_per_s"] * 1e9)
    return max(arithmetic, traffic)


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
