"""Every kernel compiles for every GPU generation, keeps to its registers and fits its block. Needs no GPU."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import pytest

from tests import nvrtc
from tests.emulator import require

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "tests" / "emulator" / "demo.cu"
KERNELS = sorted(path.stem for path in (ROOT / "kernels").glob("*.cu"))


def source(name):
    """The text that is compiled: the launchers' own where they say it."""
    if importlib.util.find_spec("gpuseg.engines.cuda"):
        engine = importlib.import_module("gpuseg.engines.cuda")
        if hasattr(engine, "source"):
            return engine.source(name)
    common = (ROOT / "kernels" / "common.cuh").read_text()
    return f'{common}\n#line 1 "{name}.cu"\n{(ROOT / "kernels" / f"{name}.cu").read_text()}'


def variants(name):
    """The tuples of options that the launchers compile a source with."""
    if importlib.util.find_spec("gpuseg.engines.cuda"):
        engine = importlib.import_module("gpuseg.engines.cuda")
        if hasattr(engine, "variants"):
            return engine.variants()[name]
    return [("--std=c++17",)]


@pytest.fixture(params=nvrtc.ARCHITECTURES, ids=lambda architecture: f"sm_{architecture}")
def architecture(request):
    usable, reason = nvrtc.nvrtc_status()
    require(usable, reason)
    supported = nvrtc.supported_architectures()
    require(
        request.param in supported,
        f"{reason} compiles for sm_{supported[0]} to sm_{supported[-1]}; {nvrtc.HOW_TO_GET_IT}",
    )
    return request.param


def test_there_are_kernels():
    assert KERNELS


@pytest.mark.parametrize("name", KERNELS)
def test_kernel(name, architecture, record_property):
    for options in variants(name):
        kernels = nvrtc.compile_cuda(source(name), f"{name}.cu", architecture, options)
        assert kernels, f"{name}.cu has no kernel"
        for kernel in kernels:
            record_property(kernel.name, str(kernel))
            print(kernel, *options)
            assert kernel.spill_bytes == 0, kernel
            assert kernel.registers_of_a_block <= nvrtc.REGISTERS_PER_BLOCK, kernel
            assert kernel.shared_bytes <= nvrtc.SHARED_BYTES_PER_BLOCK, kernel


# The checks themselves, on sources of which the answer is known.


def test_what_is_read_from_the_compiler(architecture):
    options = ("--std=c++17",)
    kernels = nvrtc.compile_cuda(DEMO.read_text(), DEMO.name, architecture, options, ["scaled<float>"])
    by_name = {kernel.name: kernel for kernel in kernels}
    box = by_name["box_sum"]
    assert box.shared_bytes == 4 * ((8 + 4) * (32 + 4) + 8)
    assert box.largest_block == 256
    assert by_name["scale_float"].largest_block == 1024
    assert by_name["box_sum_double"].uses_double
    assert not box.uses_double
    assert any("scaled" in name for name in by_name)
    assert all(0 < kernel.registers <= 255 and kernel.spill_bytes == 0 for kernel in kernels)


CROWDED = """
extern "C" __global__ void __launch_bounds__(1024) crowded(float* data) {
  float values[96];
  for (int i = 0; i < 96; ++i) values[i] = data[i * 1024 + threadIdx.x];
  __syncthreads();
  for (int k = 0; k < 95; ++k) values[k + 1] += values[k] * values[95 - k];
  for (int i = 0; i < 96; ++i) data[i * 1024 + threadIdx.x] = values[i] * values[95 - i];
}
"""


def test_spills_are_seen(architecture):
    (kernel,) = nvrtc.compile_cuda(CROWDED, "crowded.cu", architecture)
    assert kernel.spill_bytes > 0
    assert kernel.registers_of_a_block <= nvrtc.REGISTERS_PER_BLOCK


def test_a_kernel_without_launch_bounds_is_taken_to_have_1024_threads(architecture):
    (kernel,) = nvrtc.compile_cuda(CROWDED.replace("__launch_bounds__(1024)", ""), "crowded.cu", architecture)
    assert kernel.spill_bytes == 0
    assert kernel.registers_of_a_block > nvrtc.REGISTERS_PER_BLOCK


def test_an_error_says_file_line_and_reason(architecture):
    with pytest.raises(
        nvrtc.NvrtcError, match=r'(?s)sm_\d+:.*"?wrong\.cu"?\(2\).*"undeclared_thing" is undefined'
    ):
        nvrtc.compile_cuda(
            '\nextern "C" __global__ void f(int* a) { *a = undeclared_thing; }', "wrong.cu", architecture
        )
