"""Python, and tests, in a process that watches every memory access of the kernels it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .compiler import emulator_status, sanitizer_libraries
from .requirements import require

SANITIZE_VARIABLE = "GPUSEG_EMULATOR_SANITIZE"
ROOT = Path(__file__).resolve().parents[2]


def sanitize_by_default() -> bool:
    """Whether this process is one that `run_sanitized` started."""
    return os.environ.get(SANITIZE_VARIABLE, "") not in ("", "0")


def run_sanitized(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run Python under the address and undefined-behaviour sanitizers; skip the test where there are none.

    The stand-in for CuPy sanitizes its kernels in that process. A fault in one ends the process with a report
    on stderr.

    Parameters
    ----------
    *arguments : str
        The command line after ``python``, such as ``"-c", "..."`` or ``"-m", "pytest", ...``.
    timeout : float
        Seconds.

    Returns
    -------
    subprocess.CompletedProcess
        With text in ``stdout`` and ``stderr``.
    """
    usable, reason = emulator_status(sanitize=True)
    require(usable, reason)
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(sanitizer_libraries()),
        # CPython itself leaks at its end, on purpose
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        SANITIZE_VARIABLE: "1",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_tests_sanitized(*selection: str, timeout: float = 600) -> None:
    """Repeat tests under the sanitizers, and fail with what they found.

    Parameters
    ----------
    *selection : str
        pytest's own: node ids with paths relative to the root of the project, ``-k``, ``-m`` and so on.
    timeout : float
        Seconds.
    """
    result = run_sanitized("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *selection, timeout=timeout)
    # the sanitizers' report comes last, pytest's before it
    assert result.returncode == 0, f"{result.stdout[-6000:]}\n{result.stderr[-6000:]}"
    assert " passed" in result.stdout, f"no test ran: {result.stdout[-2000:]}"
