"""What every part of the CPU engine works with: compiled kernels, threads to share them out over, memory."""

from __future__ import annotations

import functools
import importlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

log = logging.getLogger("gpuseg")


@functools.cache
def compiled(concept: str) -> ModuleType:
    """Kernels of a file; their machine code is kept in the user's cache folder, or that of NUMBA_CACHE_DIR.

    Not beside the sources, where numba would put it: pip removes only what it installed, and the folder left
    behind hides an editable install.
    """
    with _our_way():  # a kernel takes note of the folder when it is defined
        return importlib.import_module(f"gpuseg.engines._cpu_{concept}")


@contextmanager
def _our_way() -> Iterator[None]:
    """A context in which numba keeps and compiles kernels as we want it; afterwards as others do.

    Whoever is the first in a process to define a kernel also settles how much is made of machine code.
    """
    from numba.core import config
    from numba.core.compiler_lock import global_compiler_lock

    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    with global_compiler_lock:  # nobody else compiles meanwhile
        folder, level = config.CACHE_DIR, config.OPT
        config.CACHE_DIR = folder or os.path.join(cache, "gpuseg", "kernels")
        config.OPT = type(level)(min(level, ENOUGH_OPTIMISATION))
        try:
            yield
        finally:
            config.CACHE_DIR, config.OPT = folder, level


ENOUGH_OPTIMISATION = 2
"""LLVM's level: kernels run as fast as from the third, which takes a tenth longer to compile."""


def share_out(kernel: Any, items: Sequence[Any], arguments: Callable[[Any], tuple[Any, ...]]) -> None:
    """Run a compiled kernel once per item, with the arguments made for it, on all cores.

    Kernels release the GIL and each call writes its own part of the result. Plain threads rather than
    numba's own: they compile in half the time and may be started from several Python threads at once.
    """

    def run(item: Any) -> None:
        kernel(*arguments(item))

    if len(items) == 0:
        return
    if not kernel.signatures:
        _first_call(kernel, lambda: run(items[0]))
        items = items[1:]
    for _ in workers(n_threads()).map(run, items):
        pass


def _first_call(kernel: Any, run: Callable[[], None]) -> None:
    """Load a kernel from disk, or compile it and say so: it takes seconds, once per machine."""
    misses = sum(kernel.stats.cache_misses.values())
    begin = time.perf_counter()
    with _our_way():
        run()
    if sum(kernel.stats.cache_misses.values()) > misses:
        seconds = time.perf_counter() - begin
        log.info(
            "compiled the CPU kernel %s in %.1f s; it is kept on disk for later runs",
            kernel.__name__,
            seconds,
        )


def n_threads() -> int:
    """Number of threads: NUMBA_NUM_THREADS, else OMP_NUM_THREADS, else the cores this process may use.

    Returns
    -------
    int
    """
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name, "").isdecimal():
            return max(1, int(os.environ[name]))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="gpuseg")


class _Scratch(threading.local):
    """Working memory of a thread, kept from tile to tile and call to call.

    The first touch of new memory takes as long as the work that is done in it.
    """

    def __init__(self) -> None:
        self.kept: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array with whatever was left in it; one at a time of each name."""
        count = math.prod(shape)
        n_bytes = count * np.dtype(dtype).itemsize
        if n_bytes > LARGEST_SCRATCH:
            return np.empty(shape, dtype)
        if name not in self.kept or self.kept[name].nbytes < n_bytes:
            room = np.empty(n_bytes + CACHE_LINE, np.uint8)
            self.kept[name] = room[-room.ctypes.data % CACHE_LINE :]
        return self.kept[name][:n_bytes].view(dtype).reshape(shape)


CACHE_LINE = 64
"""Bytes; where working memory begins: a vector across two of them takes twice as long."""

LARGEST_SCRATCH = 16 << 20
"""Bytes of an array that a thread keeps; larger ones are made anew each time."""

scratch = _Scratch()
