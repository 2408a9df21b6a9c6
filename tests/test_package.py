"""The package: fast to import, names that resolve, docstrings that match, kernels on board."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Protocol

import pytest

import gpuseg
from gpuseg.engines import cuda

PACKAGE = Path(gpuseg.__file__).parent
HEAVY = (
    "cupy",
    "cupyx",
    "cuml",
    "numba",
    "sklearn",
    "matplotlib",
    "tifffile",
    "PIL",
    "dask",
    "rsciio",
    "tqdm",
    "click",
    "torch",
    "skimage",
    "pandas",
)
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(PACKAGE)], "gpuseg.")
    if not module.name.rpartition(".")[2].startswith("_")
)


def fresh(code):
    """What a new Python prints."""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    return run.stdout.strip()


# --- import ----------------------------------------------------------------------------------------------


def test_import_is_fast():
    code = "import time; t = time.perf_counter(); import gpuseg; print(time.perf_counter() - t)"
    seconds = min(float(fresh(code)) for _ in range(3))
    assert seconds < 0.3, f"import gpuseg takes {seconds:.2f} s"


@pytest.mark.parametrize(
    "use",
    ["import gpuseg", "import gpuseg; gpuseg.LocalCorrelationMap().operations(); repr(gpuseg.Translation(1, 2)); dir(gpuseg)",
     "import gpuseg.arrays as a; a.resolve_device('cpu')", "import gpuseg.engines.cpu", "import gpuseg.engines.cuda"],
)  # fmt: skip
def test_nothing_heavy_is_imported_too_early(use):
    loaded = set(fresh(f"import sys; {use}; print(*sys.modules)").split())
    assert not loaded & set(HEAVY)


def test_the_cpu_needs_no_cupy():
    code = (
        "import sys, numpy as np, gpuseg; image = np.random.default_rng(0).normal(size=(50, 50));"
        "gpuseg.segment(image, device='cpu'); print('cupy' in sys.modules, 'sklearn' in sys.modules)"
    )
    assert fresh(code).split()[0] == "False"


def test_every_public_name_resolves():
    assert set(gpuseg.__all__) >= {"segment", "Segmenter", "Segmentation", "SegmentationModel", "LocalCorrelationMap",
                                   "PreselectedTranslations", "Descriptors", "Grid", "Translation", "DeviceError",
                                   "synthetic", "io", "plot"}  # fmt: skip
    for name in gpuseg.__all__:
        assert getattr(gpuseg, name) is not None
        assert name in dir(gpuseg)
    with pytest.raises(AttributeError, match="module 'gpuseg' has no attribute 'segmet'"):
        gpuseg.segmet  # noqa: B018


@pytest.mark.parametrize("name", MODULES)
def test_every_modules_all_resolves(name):
    if name == "gpuseg.cli":
        pytest.importorskip("click")
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public), f"{name}.{public}"


def installed_version():
    from importlib import metadata

    try:
        return metadata.version("gpuseg")
    except metadata.PackageNotFoundError:
        pytest.skip("gpuseg is not installed, only importable")


def test_the_version_is_that_of_the_distribution():
    assert installed_version() == gpuseg.__version__


def test_types_are_announced():
    assert (PACKAGE / "py.typed").exists()


# --- docstrings ------------------------------------------------------------------------------------------


def documented(docstring):
    """Names under the numpydoc heading Parameters, or Attributes of a value, in order."""
    match = re.search(
        r"\n(?:Parameters|Attributes)\n-{10}\n(.*?)(?:\n\n[A-Z]\w+\n-{3,}|\Z)", docstring, re.DOTALL
    )
    if not match:
        return []
    entries = re.findall(r"^([\w*][\w*, ]*?)(?: :.*)?$", match[1], re.MULTILINE)
    return [name.strip().lstrip("*") for entry in entries for name in entry.split(",")]


def parameters(function):
    """Names of the parameters of a function or the fields of a class, in order."""
    names = [p.name for p in inspect.signature(function).parameters.values()]
    return [name for name in names if name not in ("self", "cls")]


def public_callables():
    """(name, object) of what the modules list in __all__, and of the public methods of classes in it."""
    found = {}
    for module_name in MODULES:
        if module_name in ("gpuseg.cli",) or module_name.startswith("gpuseg.kernels"):
            continue
        module = importlib.import_module(module_name)
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if not callable(value) or not getattr(value, "__module__", "").startswith("gpuseg"):
                continue
            found[f"{value.__module__}.{value.__qualname__}"] = value
            for method_name, raw in vars(value).items() if inspect.isclass(value) else ():
                method = getattr(value, method_name)
                is_method = inspect.isfunction(raw) or isinstance(raw, classmethod | staticmethod)
                if is_method and not method_name.startswith("_"):
                    found[f"{value.__module__}.{method.__qualname__}"] = method
    for engine in ("cpu", "cuda"):
        module = importlib.import_module(f"gpuseg.engines.{engine}")
        found |= {f"{module.__name__}.{n}": f for n, f in inspect.getmembers(module, inspect.isfunction)
                  if not n.startswith("_") and f.__module__ == module.__name__}  # fmt: skip
    return found


CALLABLES = public_callables()


def test_there_is_something_to_check():
    assert len(CALLABLES) > 40
    assert {"gpuseg.segmentation.segment", "gpuseg.grid.Grid.upsample", "gpuseg.segmenter.Segmenter"} <= set(
        CALLABLES
    )
    assert documented(
        "A.\n\nParameters\n----------\na, b : int\n    About: it.\n*rest\n    More.\n\nReturns\n-------\nx"
    ) == ["a", "b", "rest"]


@pytest.mark.parametrize("name", sorted(CALLABLES))
def test_docstrings_tell_every_parameter(name):
    value = CALLABLES[name]
    text = inspect.cleandoc(value.__doc__ or "")
    assert text, f"{name} has no docstring"
    try:
        wanted = parameters(value)
    except ValueError:
        return
    if inspect.isclass(value) and issubclass(value, Exception | Protocol):
        return
    told = documented(text)
    if inspect.isclass(value) and not told and len(text.splitlines()) == 1:
        return  # a small value that its one line explains
    assert told == wanted, f"{name}: told {told}, takes {wanted}"


@pytest.mark.parametrize("name", sorted(n for n, f in CALLABLES.items() if inspect.isfunction(f)))
def test_docstrings_tell_what_is_returned(name):
    function = CALLABLES[name]
    returns = inspect.signature(function).return_annotation
    if returns not in (None, "None", inspect.Signature.empty):
        assert re.search(r"\n(Returns|Yields)\n-{6,7}\n", inspect.cleandoc(function.__doc__)), name


# --- kernels ---------------------------------------------------------------------------------------------


def test_the_kernels_are_on_board():
    assert installed_version()
    names = {file.name for file in resources.files("gpuseg.kernels").iterdir()}
    assert {"common.cuh", "translation.cu", "missing.cu"} <= names
    for name in cuda.variants():
        text = cuda.source(name)
        assert text.startswith((resources.files("gpuseg.kernels") / "common.cuh").read_text("utf-8"))
        assert "__global__" in text
    assert {name.removesuffix(".cu") for name in names if name.endswith(".cu")} == set(cuda.variants())


def test_every_kernel_has_a_launcher():
    launchers = "".join(path.read_text("utf-8") for path in Path(cuda.__file__).parent.glob("*cuda*.py"))
    for name in cuda.variants():
        kernels = re.findall(
            r"__global__ void __launch_bounds__\(BLOCK[, \d]*\)\s+(\w+)\(", cuda.source(name)
        )
        for kernel in {*kernels} - {"name"}:  # of a macro
            assert f'"{kernel}"' in launchers


def test_the_launchers_know_the_size_of_a_block():
    (block,) = re.findall(r"constexpr int BLOCK = (\d+);", cuda.source("translation"))
    assert int(block) == cuda.BLOCK


def test_fast_math_still_knows_nan_and_infinity():
    """Missing scores are NaN: no kernel may be compiled as if there were none."""
    found = 0
    for path in (PACKAGE / "engines").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "fastmath":
                assert not (isinstance(node.value, ast.Constant) and node.value.value is True), path.name
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FASTMATH":
                flags = ast.literal_eval(node.value)
                assert not {"fast", "nnan", "ninf"} & set(flags)
                found += 1
    assert found


def test_the_first_call_says_that_it_compiles(tmp_path):
    code = (
        "import logging, numpy as np, gpuseg; logging.basicConfig(level=logging.INFO, format='%(message)s');"
        "gpuseg.LocalCorrelationMap(3, 3).transform(np.eye(30), device='cpu')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent,
                         env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)})  # fmt: skip
    assert re.search(r"compiled the CPU kernel \w+ in \d+\.\d s; it is kept on disk", run.stderr)
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent,
                           env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)})  # fmt: skip
    assert "compiled" not in again.stderr


def test_compiled_kernels_lie_in_the_users_cache_folder(tmp_path):
    code = (
        "import numba, numpy as np; from gpuseg.engines import cpu; before = numba.config.CACHE_DIR; "
        "scores = np.zeros((1, 2, 2), np.float32); "
        "cpu.fill_missing(scores, np.array([-1]), np.ones((2, 2), bool)); "
        "assert numba.config.CACHE_DIR == before"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list((tmp_path / "gpuseg" / "kernels").rglob("*fill_pair*.nbi"))
