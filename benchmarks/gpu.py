"""Everything worth knowing of a GPU, in order of importance and in little time: tests, times, sanitizer.

Every step is a process of its own with its own time limit. A step that fails or hangs takes nothing with it,
and what was found is on disk after each.
"""

from __future__ import annotations

import glob
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MUST_SHOW = ("segment", "predict-81", "dense-289", "dense-symmetry", "dense-fit")
SPEED = ("descriptors-*", "rotation", "reflection", "power-spectrum", "predict-50", "methods-*", "series")
TOOLS = ("memcheck", "racecheck", "initcheck")
GRACE = 5.0
"""Seconds between asking a process to end and making it."""


@dataclass(frozen=True)
class Step:
    """One thing to run.

    Parameters
    ----------
    name, what : str
        The name of its files, and one line of explanation.
    limit : float
        Seconds it may take.
    command : tuple of str
        Empty where something it needs is not there.
    missing : str
        What that is.
    """

    name: str
    what: str
    limit: float
    command: tuple[str, ...]
    missing: str = ""


def steps(out: Path, quick: bool = False) -> list[Step]:
    """What to run, the most important first.

    Parameters
    ----------
    out : Path
        Folder for JSON files.
    quick : bool
        Small pictures.

    Returns
    -------
    list of Step
    """

    def bench(name: str, what: str, limit: float, *arguments: str) -> Step:
        words = [*arguments, "--json", str(out / f"{name}.json"), *(["--quick"] if quick else [])]
        return Step(name, what, limit, (sys.executable, "-m", "benchmarks", *words))

    def cases(name: str, what: str, limit: float, rounds: int, *names: str) -> Step:
        chosen = [word for each in names for word in ("--case", each)]
        return bench(name, what, limit, *chosen, "--device", "cuda", "--rounds", str(rounds))

    test = sys.executable, "-m", "pytest", "-m", "cuda", "-q", "--durations=10", f"--junitxml={out}/tests.xml"
    found = [Step("tests", "parity and agreement on the device: pytest -m cuda", 300, test)]
    found += [cases(f"case-{name}", "what is asked of an H200", 90, 5, name) for name in MUST_SHOW]
    found += [_sanitized(tool) for tool in TOOLS]
    gpu = "--device", "cuda"
    found.append(bench("roofline", "each stage beside the limits of the GPU", 120, "roofline", *gpu))
    found.append(bench("cuml", "PCA and k-means: gpuseg's own beside cuML's", 180, "cuml"))
    found.append(cases("speed", "the other cases, on the GPU and beside the CPU", 240, 3, *SPEED))
    found.append(bench("questions", "constants, shares and choices of the kernels", 150, "questions"))
    found.append(cases("first-call", "compiling, and finding what was compiled", 60, 2, "first-call"))
    found.append(bench("studies", "time against one thing at a time", 240, "studies", *gpu, "--rounds", "2"))
    return found


def chosen(plan: list[Step], patterns: list[str]) -> list[Step]:
    """The steps whose name matches one of the shell patterns; all of them for no pattern."""
    return [step for step in plan if not patterns or any(fnmatch(step.name, p) for p in patterns)]


def names() -> str:
    """Those of all steps."""
    return ", ".join(step.name for step in steps(Path()))


def _sanitized(tool: str) -> Step:
    what = f"every kernel under compute-sanitizer {tool}"
    found = sanitizer()
    if found is None:
        return Step(tool, what, 0, (), "compute-sanitizer is not found; it comes with the CUDA toolkit")
    launch = sys.executable, "-m", "benchmarks.every_kernel"
    return Step(tool, what, 150, (found, "--tool", tool, "--error-exitcode", "9", *launch))


def sanitizer() -> str | None:
    """Where compute-sanitizer is: on the path, in a CUDA toolkit, or in one that came as Python packages."""
    toolkits = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    packages = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    places = [f"{folder}/bin" for folder in toolkits if folder]
    places += [*sorted(glob.glob(f"{packages}/*/bin")), *sorted(glob.glob(f"{packages}/*/compute-sanitizer"))]
    return shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path=os.pathsep.join(places)
    )


def run(
    plan: list[Step], out: Path, seconds: float, each: Callable[[list[dict[str, Any]]], None]
) -> list[dict[str, Any]]:
    """Run the steps one after the other.

    Parameters
    ----------
    plan : list of Step
    out : Path
        Folder for what they print, a ``.log`` each.
    seconds : float
        For all of them together; steps that do not fit are not begun.
    each : callable
        Given what was found so far, after every step.

    Returns
    -------
    list of dict
        As JSON can hold it: name, what, command, limit_s, seconds, outcome, and the last line printed.
    """
    end = time.monotonic() + seconds
    found: list[dict[str, Any]] = []
    for step in plan:
        left = end - time.monotonic()
        row: dict[str, Any] = {"name": step.name, "what": step.what, "command": list(step.command)}
        if not step.command:
            row |= {"outcome": f"not measured: {step.missing}", "seconds": 0.0, "last": ""}
        elif left < 1:
            row |= {"outcome": "not measured: no time was left", "seconds": 0.0, "last": ""}
        else:
            row |= _one(step, min(step.limit, left), out / f"{step.name}.log")
        found.append(row)
        print(line(row), flush=True)
        each(found)
    return found


def _one(step: Step, limit: float, log: Path) -> dict[str, Any]:
    begin = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            step.command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True
        )
        try:
            status = process.wait(limit)
            outcome = "passed" if status == 0 else f"failed: exit status {status}"
        except subprocess.TimeoutExpired:
            outcome = f"out of time after {limit:.0f} s"
        finally:
            _end(process)
    printed = [text for text in log.read_text("utf-8", "replace").splitlines() if text.strip()]
    spent = time.monotonic() - begin
    return {"limit_s": limit, "seconds": spent, "outcome": outcome, "last": printed[-1] if printed else ""}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a process and of all that it started: they are a group of their own."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(GRACE)
        except (ProcessLookupError, PermissionError):
            return
        except subprocess.TimeoutExpired:
            continue


def line(row: dict[str, Any]) -> str:
    """A step for the terminal."""
    return f"{row['name']:<20} {row['seconds']:6.1f} s  {row['outcome']:<40} {row['last'][:100]}"


def table(rows: list[dict[str, Any]]) -> str:
    """The steps in Markdown."""
    head = ["| step | what | outcome | s | last line |", "|---|---|---|---:|---|"]
    return "\n".join(
        head
        + [
            f"| {row['name']} | {row['what']} | {row['outcome']} | {row['seconds']:.0f} "
            f"| {row['last'].replace('|', '/')[:160]} |"
            for row in rows
        ]
    )
