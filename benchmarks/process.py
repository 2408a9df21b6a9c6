"""Whole processes: the command line, the first call ever, the import, and the memory they take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from .cases import Case
from .timing import Contender, Stages, seconds

# Peak memory comes from VmHWM, the high-water mark of this program alone: on Linux, ru_maxrss starts at what
# the parent had when it started us. Elsewhere ru_maxrss is what there is (bytes on macOS).
REPORT = """
import json, sys
try:
    status = open("/proc/self/status").read()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
except FileNotFoundError:
    import resource
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
print(json.dumps({"peak": peak, **globals().get("found", {})}))
"""

IMPORT = """
import time
start = time.perf_counter()
import gpuseg
found = {"import": time.perf_counter() - start}
"""

SEGMENT = """
import sys, time
import numpy, gpuseg
image = numpy.load(sys.argv[1])
start = time.perf_counter()
gpuseg.segment(image, 2, device=sys.argv[2])
middle = time.perf_counter()
gpuseg.segment(image, 2, device=sys.argv[2])
found = {"first call": middle - start, "second call": time.perf_counter() - middle}
"""


def run_python(program: str, *arguments: str, environment: dict[str, str] | None = None) -> Stages:
    """Run a program in a fresh interpreter; its wall seconds (process), peak memory in MB and findings."""
    command = [sys.executable, "-c", program + REPORT, *arguments]
    spent, done = seconds(lambda: run_command(command, environment))
    return {"process": spent, **json.loads(done.stdout.splitlines()[-1])}


def run_command(
    command: list[str], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to the end; what it says on failure is in the error."""
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    if done.returncode:
        raise RuntimeError(f"{command[:4]} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done


def imported() -> Stages:
    """A process that imports gpuseg and does nothing with it."""
    found = run_python(IMPORT)
    return {key: found[key] for key in ("process", "import")}


def first_call(path: Path, device: str) -> Stages:
    """A process with empty caches of compiled code (numba's, CuPy's), and one that finds them full."""
    names = ("process", "first call", "second call")
    with tempfile.TemporaryDirectory(prefix="gpuseg-cache-") as cache:
        caches = {"NUMBA_CACHE_DIR": cache, "CUPY_CACHE_DIR": cache}
        first, later = (run_python(SEGMENT, str(path), device, environment=caches) for _ in range(2))
    return {**{name: first[name] for name in names}, "first call of a later process": later["first call"]}


def command_line(path: Path) -> Stages:
    """``gpuseg segment`` on a TIFF, as it is typed."""
    gpuseg = Path(sys.executable).with_name("gpuseg")
    with tempfile.TemporaryDirectory(prefix="gpuseg-out-") as folder:
        out = Path(folder) / "out"
        command = [str(gpuseg), "segment", str(path), "-n", "2", "-o", str(out), "--device", "cpu"]
        return {"process": seconds(lambda: run_command(command))[0]}


def memory(path: Path) -> Stages:
    """Peak memory in MB of 10^6 bytes, a fresh process each, less that of the bare interpreter."""
    bare = run_python("")["peak"]
    package = run_python("import numpy, gpuseg")["peak"]
    with tempfile.TemporaryDirectory(prefix="gpuseg-small-") as folder:
        small = Path(folder) / "small.npy"
        np.save(small, np.load(path)[:128, :128])
        loaded = run_python(SEGMENT, str(small), "cpu")["peak"]
    peak = run_python(SEGMENT, str(path), "cpu")["peak"]
    return {
        "bare interpreter": bare,
        "import numpy, gpuseg": package - bare,
        "libraries and kernels (segment 128x128)": loaded - bare,
        "over a bare interpreter": peak - bare,
    }


def contenders(case: Case, image: np.ndarray, device: str, folder: Path) -> list[Contender]:
    """Who takes part in a case of whole processes; their files go into `folder`."""
    if case.work == "import":
        return [
            Contender("bare interpreter", lambda: {"process": run_python("")["process"]}),
            Contender("gpuseg", imported),
        ]
    if case.work == "cli":
        import tifffile

        path = folder / "image.tif"
        tifffile.imwrite(path, image)
        return [Contender("gpuseg", lambda: command_line(path))]
    path = folder / "image.npy"
    np.save(path, image)
    if case.work == "memory":
        return [Contender("gpuseg", lambda: memory(path))]
    return [Contender("gpuseg" if device == "cpu" else "gpuseg cuda", lambda: first_call(path, device))]
