"""The C++ compiler of this machine, and shared objects built with it, kept from run to run."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADERS = sorted(HERE.glob("*.h"))
UNUSED_AFTER_DAYS = 30

# no contraction to fused multiply-adds: the same numbers on every processor
COMMON = ("-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno")
# reinterpret_cast between a float* and a float4* is everyday CUDA, where types do not limit what may alias
FAST = ("-O2", "-fno-strict-aliasing")
SANITIZED = ("-O1", "-g", "-fno-omit-frame-pointer", "-fno-strict-aliasing")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
DEFINES = ("-DGPUSEG_EMULATOR=1", "-D__CUDA_ARCH__=750")


class CompileError(RuntimeError):
    """A kernel that the C++ compiler refuses; the text is the compiler's."""


@functools.cache
def find_compiler(sanitize: bool = False) -> tuple[str, ...] | None:
    """The command of the C++ compiler: ``CXX``, else g++, clang++ or c++; None without any.

    For the sanitizers it has to be GNU's: only that one takes a library that is loaded before Python as its
    own run time.
    """
    for candidate in (os.environ.get("CXX", ""), "g++", "clang++", "c++"):
        command = tuple(shlex.split(candidate))
        if command and shutil.which(command[0]) and (not sanitize or _is_gnu(command)):
            return command
    return None


def _is_gnu(command: tuple[str, ...]) -> bool:
    return "Free Software Foundation" in _version(command)


def emulator_status(sanitize: bool = False) -> tuple[bool, str]:
    """Whether kernels can be run here, and why not.

    Parameters
    ----------
    sanitize : bool
        With the sanitizers in them.

    Returns
    -------
    usable : bool
    reason : str
        What is missing, or the compiler.
    """
    if platform.system() != "Linux":
        return False, f"the CUDA emulator runs on Linux, this is {platform.system()}"
    compiler = find_compiler(sanitize)
    if compiler is None:
        wanted = "GNU C++ compiler, which the sanitizers need" if sanitize else "C++ compiler"
        return False, f"no {wanted}: install g++ (Debian: apt-get install g++)"
    if sanitize and len(sanitizer_libraries()) < 2:
        return False, f"{compiler[0]} has no libasan.so and libubsan.so: install those of its version"
    return True, " ".join(compiler)


@functools.cache
def sanitizer_libraries() -> tuple[str, ...]:
    """The sanitizers' libraries, which must be loaded before Python (``LD_PRELOAD``); empty without them."""
    found = []
    for name in ("libasan.so", "libubsan.so"):
        path = _run([*(find_compiler(sanitize=True) or ()), f"-print-file-name={name}"]).stdout.strip()
        if os.path.isabs(path) and os.path.exists(path):
            found.append(os.path.realpath(path))
    return tuple(found)


def sanitizers_loaded() -> bool:
    """Whether this process was started with the address sanitizer."""
    return hasattr(ctypes.CDLL(None), "__asan_init")


def cache_folder() -> Path:
    """Where built objects are kept: ``GPUSEG_EMULATOR_CACHE``, else a folder in the user's cache."""
    given = os.environ.get("GPUSEG_EMULATOR_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpuseg" / "emulator"


def preprocess(code: str, options: Sequence[str]) -> str:
    """The text of a CUDA source after the preprocessor, CUDA's own words untouched."""
    command = [*_compiler(sanitize=False), "-E", "-P", "-w", *DEFINES, *options, "-x", "c++", "-"]
    result = _run(command, input=code)
    if result.returncode:
        raise CompileError(result.stderr)
    return result.stdout


def build(source: str, options: Sequence[str], sanitize: bool) -> Path:
    """The shared object of a C++ source, from the cache if it was built before.

    Parameters
    ----------
    source : str
        C++ that wants ``cuda_on_cpu.h``.
    options : sequence of str
        Options for the preprocessor.
    sanitize : bool
        Build with the address and undefined-behaviour sanitizers.

    Returns
    -------
    Path

    Raises
    ------
    CompileError
        With the compiler's text.
    """
    flags = [*COMMON, *(SANITIZED + SANITIZERS if sanitize else FAST), *DEFINES, *options]
    compiler = _compiler(sanitize)
    target = cache_folder() / f"{_key(source, compiler, flags)}.so"
    if target.exists():
        os.utime(target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=target.parent
    ) as scratch:  # the same file system: the rename is atomic
        built = Path(scratch) / "kernels.so"
        command = [
            *compiler,
            *flags,
            "-include",
            str(HERE / "cuda_on_cpu.h"),
            "-x",
            "c++",
            "-",
            "-o",
            str(built),
        ]
        result = _run(command, input=source)
        if result.returncode:
            raise CompileError(result.stderr)
        built.replace(target)
    _forget_unused(target.parent)
    return target


def _key(source: str, compiler: tuple[str, ...], flags: Sequence[str]) -> str:
    parts = [source, *compiler, _version(compiler), *flags, *(header.read_text() for header in HEADERS)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


@functools.cache
def _version(compiler: tuple[str, ...]) -> str:
    return _run([*compiler, "--version"]).stdout


def _compiler(sanitize: bool) -> tuple[str, ...]:
    usable, reason = emulator_status(sanitize)
    if not usable:
        raise RuntimeError(reason)
    return find_compiler(sanitize) or ()


def _run(command: Sequence[str], input: str | None = None) -> subprocess.CompletedProcess[str]:
    # the compiler itself must not run under the sanitizer that a test process was started with
    environment = {**os.environ, "LD_PRELOAD": "", "LC_ALL": "C"}
    return subprocess.run(command, input=input, capture_output=True, text=True, check=False, env=environment)


def _forget_unused(folder: Path) -> None:
    oldest = time.time() - UNUSED_AFTER_DAYS * 86400
    for built in folder.glob("*.so"):
        try:
            if built.stat().st_mtime < oldest:
                built.unlink()
        except FileNotFoundError:  # another process was quicker
            continue
