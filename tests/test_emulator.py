"""The CUDA emulator: correct kernels give right numbers, every kind of fault is caught."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.emulator import (
    EmulatedCupy,
    EmulatedModule,
    LaunchError,
    emulated_cuda_fixture,  # noqa: F401
    emulator_status,
    require,
    requirements,
    run_sanitized,
    run_tests_sanitized,
)
from tests.emulator.compiler import CompileError
from tests.emulator.device_array import DeviceArray
from tests.emulator.sanitizer import sanitize_by_default
from tests.emulator.source_text import KernelText, kernels_in

DEMO = (Path(__file__).parent / "emulator" / "demo.cu").read_text()
TEMPLATES = ("scaled<float>", "scaled<long long>")
ORDERS = (0, 1, 2)
SHAPES = ((64, 64), (50, 70), (9, 33), (1, 1), (7, 100))


@functools.cache
def demo(order=0):
    usable, reason = emulator_status(sanitize_by_default())
    require(usable, reason)
    return EmulatedModule(DEMO, name_expressions=TEMPLATES, order=order, sanitize=sanitize_by_default())


def run(name, grid, block, *args, order=0, shared_mem=0):
    demo(order).get_function(name)(grid, block, args, shared_mem=shared_mem)


@pytest.fixture(params=ORDERS, ids=("forward", "reverse", "shuffled"))
def order(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20210901)


# Correct kernels: also run under the sanitizers, by the last test of this file.


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "dtype", "radius"), [("box_sum", "f4", 2), ("box_sum_double", "f8", 7)])
def test_tile_with_halo_and_reduction(name, dtype, radius, shape, order, rng):
    image = rng.random(shape).astype(dtype)
    rows, cols = shape
    out, total = np.full_like(image, np.nan), np.zeros(1, dtype)
    run(
        name,
        (-(-cols // 32), -(-rows // 8)),
        (32, 8),
        image,
        out,
        total,
        np.int32(rows),
        np.int32(cols),
        order=order,
    )
    padded = np.pad(image.astype(float), radius, mode="edge")
    wanted = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1,) * 2).sum((-2, -1))
    # pixel after pixel: at most (2 r + 1)^2 roundings in a window's sum, and a few for the total
    bound = (2 * radius + 1) ** 2 * np.finfo(dtype).eps
    np.testing.assert_allclose(out, wanted, rtol=bound)
    np.testing.assert_allclose(total[0], wanted.sum(), rtol=2 * bound)


@pytest.mark.parametrize("n", [1, 31, 256, 1000])
def test_templates_and_macros_make_kernels(n, order, rng):
    values, out = rng.random(n, dtype=np.float32), np.full(n, np.nan, np.float32)
    run("scaled<float>", (-(-n // 128),), (128,), values, out, np.float32(3), np.int32(n), order=order)
    np.testing.assert_array_equal(out, values * np.float32(3))
    whole, doubled = np.arange(n, dtype=np.int32), np.zeros(n, np.int32)
    run("scale_int", (-(-n // 64),), (64,), whole, doubled, np.int32(2), n, order=order)
    np.testing.assert_array_equal(doubled, 2 * whole)


def test_every_thread_knows_its_place(order):
    where = np.full((6, 4, 10), -1, np.int32)
    run("where_am_i", (2, 2, 3), (5, 2, 2), where, order=order)
    z, y, x = np.indices(where.shape)
    np.testing.assert_array_equal(where, 10000 * z + 100 * y + x)


def test_atomics(order, rng):
    values = rng.integers(0, 64, 1001, dtype=np.uint8)
    counts, squares = np.zeros(64, np.int32), np.zeros(1, np.uint64)
    run("histogram", (3,), (96,), values, np.int32(values.size), counts, squares, order=order)
    np.testing.assert_array_equal(counts, np.bincount(values, minlength=64))
    assert squares[0] == (values.astype(np.uint64) ** 2).sum()


def test_warp_operations(order):
    n = 64
    out = np.full((8, n), -1, np.int32)
    run("warp_operations", (1,), (n,), out, order=order)
    i = np.arange(n)
    warp, lane, in_8 = i // 32, i % 32, i % 8
    votes = [sum(1 << k for k in range(32) if (32 * w + k) % 3 == 0) for w in (0, 1)]
    np.testing.assert_array_equal(out[0], 32 * warp + 5)
    np.testing.assert_array_equal(out[1], np.where(in_8 >= 3, i - 3, i))
    np.testing.assert_array_equal(out[2], np.where(in_8 < 5, i + 3, i))
    np.testing.assert_array_equal(out[3], i ^ 6)
    np.testing.assert_array_equal(out[4].view(np.uint32), np.array(votes, np.uint32)[warp])
    np.testing.assert_array_equal(out[5], np.where(warp == 0, 2, 1))
    np.testing.assert_array_equal(out[6], 10 + 100 + 200)
    np.testing.assert_array_equal(out[7], 32 * warp + np.where(lane < 16, 15, 16))


def test_dynamic_shared_memory(order, rng):
    values, out = rng.random(48, dtype=np.float32), np.full(48, np.nan, np.float32)
    run("reversed", (1,), (48,), values, out, np.int32(48), np.int32(0), order=order, shared_mem=48 * 4)
    np.testing.assert_array_equal(out, values[::-1])


def test_complex_numbers_are_pairs(order, rng):
    z = (rng.random(16) + 1j * rng.random(16)).astype(np.complex64)
    wanted = z.real**2 - z.imag**2 + 2j * z.real * z.imag
    run("squared", (1,), (16,), z, order=order)
    np.testing.assert_allclose(z, wanted, rtol=4 * np.finfo("f4").eps)


# Faults that one process survives.


def test_a_missing_barrier_shows_in_another_order(rng):
    values = rng.random(64, dtype=np.float32)
    results = []
    for order in ORDERS:
        results.append(np.zeros(64, np.float32))
        run("missing_barrier", (1,), (64,), values, results[-1], order=order)
    assert not np.array_equal(results[0], results[1], equal_nan=True)
    assert not np.array_equal(results[0], results[2], equal_nan=True)


def test_blocks_that_race_show_in_another_order():
    results = np.zeros((3, 1), np.float32)
    for order in ORDERS:
        run("blocks_that_race", (60,), (32,), results[order], order=order)
    assert len(set(results[:, 0])) == 3


@pytest.mark.parametrize(
    ("name", "threads", "arguments", "message"),
    [
        (
            "divergent_barrier",
            64,
            [np.int32(40)],
            r"of 64 threads, 24 have returned, 40 wait in __syncthreads",
        ),
        (
            "two_barriers_for_one",
            64,
            [],
            r"0 have returned, 32 wait in __syncthreads .*, 32 wait in __syncthreads",
        ),
        ("half_warp_shuffle", 32, [], r"of 32 threads, 16 have returned, 16 wait in __shfl_xor_sync"),
        ("not_in_its_mask", 32, [], r"a thread is not in the mask that it calls with"),
    ],
)
def test_threads_that_cannot_go_on(name, threads, arguments, message, order):
    with pytest.raises(LaunchError, match=rf"kernel {name}: .*{message}"):
        run(name, (2,), (threads,), np.zeros(threads, np.float32), *arguments, order=order)
    # and the module still works
    where = np.zeros((1, 1, 64), np.int32)
    run("where_am_i", (1,), (64,), where, order=order)
    np.testing.assert_array_equal(where[0, 0], np.arange(64))


def test_a_report_names_the_line():
    wanted = 1 + DEMO[: DEMO.index("void divergent_barrier")].count("\n") + 2
    with pytest.raises(LaunchError, match=rf"kernel\.cu:{wanted}\)"):
        run("divergent_barrier", (1,), (64,), np.zeros(64, np.float32), np.int32(40))


def test_shared_memory_starts_as_nan_in_every_block(order):
    for name, shared in (("unwritten_shared", 0), ("unwritten_dynamic_shared", 256)):
        out = np.zeros(64, np.float32)
        run(name, (3,), (64,), out, order=order, shared_mem=shared)
        np.testing.assert_array_equal(np.isnan(out), np.arange(64) >= 60, err_msg=name)


def test_a_lane_that_does_not_exist_has_nothing_to_read():
    out = np.zeros(20, np.float32)
    run("shuffle_past_the_end", (1,), (20,), out)
    assert np.isnan(out).all()


FLOATS = np.zeros(64, np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((FLOATS, FLOATS.copy(), np.int32(1)), TypeError, "has 4 parameters, 3 arguments were given"),
        ((FLOATS, FLOATS.copy(), np.int32(1), np.int32(0), 0), TypeError, "has 4 parameters, 5 arguments"),
        ((FLOATS, FLOATS.copy(), 1, np.int32(0)), TypeError, "a Python int travels as 64 bit.*wants int32"),
        ((FLOATS, FLOATS.copy(), np.float32(1), np.int32(0)), TypeError, r"float32.*wants int32"),
        (
            (FLOATS.astype("f8"), FLOATS.copy(), np.int32(1), np.int32(0)),
            TypeError,
            "array of float64.*to float32",
        ),
        (
            (np.int64(0), FLOATS.copy(), np.int32(1), np.int32(0)),
            TypeError,
            "int64.*wants a pointer to float32",
        ),
        ((FLOATS, FLOATS.copy(), FLOATS, np.int32(0)), TypeError, "is an array, the kernel wants int32"),
        ((FLOATS, FLOATS.copy(), True, np.int32(0)), TypeError, "is a bool"),
        ((FLOATS, [0.0], np.int32(1), np.int32(0)), TypeError, "is a list"),
        ((FLOATS[::2], FLOATS.copy(), np.int32(1), np.int32(0)), ValueError, "argument 0 .*not C-contiguous"),
        ((FLOATS.astype(">f4"), FLOATS.copy(), np.int32(1), np.int32(0)), ValueError, "byte order '>f4'"),
        ((FLOATS, np.broadcast_to(FLOATS, (1, 64)), np.int32(1), np.int32(0)), ValueError, "is read-only"),
    ],
)
def test_arguments_that_do_not_fit(arguments, error, message):
    with pytest.raises(error, match=message):
        run("reversed", (1,), (1,), *arguments, shared_mem=4)


@pytest.mark.parametrize(
    ("name", "grid", "block", "shared", "message"),
    [
        ("where_am_i", (1,), (1025,), 0, r"`block` is \(1025,\)"),
        ("where_am_i", (1,), (64, 32), 0, "a block of 2048 threads; it can have 1024"),
        ("where_am_i", (1,), (1, 1, 65), 0, "`block` is"),
        ("where_am_i", (0,), (32,), 0, "`grid` is"),
        ("where_am_i", (1, 70000), (32,), 0, "`grid` is"),
        ("box_sum", (1,), (257,), 0, "a block of 257 threads; it can have 256"),
        ("where_am_i", (1,), (1,), 49153, "49153 bytes of shared memory; 49152 are allowed"),
    ],
)
def test_launches_that_cuda_refuses(name, grid, block, shared, message):
    with pytest.raises(LaunchError, match=message):
        run(name, grid, block, shared_mem=shared)


def test_more_shared_memory_has_to_be_asked_for():
    demo()
    function = EmulatedModule(DEMO, sanitize=sanitize_by_default()).get_function("unwritten_dynamic_shared")
    out = np.zeros(64, np.float32)
    function.max_dynamic_shared_size_bytes = 50000
    function((1,), (64,), (out,), shared_mem=50000)
    assert np.isnan(out[60:]).all()
    with pytest.raises(LaunchError, match="65536"):
        function.max_dynamic_shared_size_bytes = 100000


def test_a_grid_is_a_tuple_as_in_cupy():
    with pytest.raises(TypeError, match="a tuple of one to three ints"):
        run("where_am_i", [1], (1,))


def test_names_that_are_not_there():
    with pytest.raises(LaunchError, match=r"no kernel 'box_sums'.*box_sum"):
        demo().get_function("box_sums")
    with pytest.raises(ValueError, match="no kernel found"):
        EmulatedModule("__global__ void unreachable(int* a) { a[0] = 1; }")


def test_code_that_is_no_cuda():
    demo()  # skips without a compiler
    with pytest.raises(CompileError, match=r"kernel\.cu:2:.*undeclared_thing"):
        EmulatedModule('\nextern "C" __global__ void wrong(int* a) { a[0] = undeclared_thing; }')
    with pytest.raises(CompileError, match=r"kernel\.cu:1:.*__threadfence"):
        EmulatedModule('extern "C" __global__ void wrong() { __threadfence(1); }')


def test_options_reach_the_source():
    demo()
    code = 'extern "C" __global__ void fill(int* a) { a[threadIdx.x] = VALUE; }'
    for options in (("-DVALUE=7",), ("--define-macro=VALUE=7", "--std=c++17", "-use_fast_math")):
        out = np.zeros(4, np.int32)
        EmulatedModule(code, options, sanitize=sanitize_by_default()).get_function("fill")((1,), (4,), (out,))
        np.testing.assert_array_equal(out, 7)


def test_the_portable_switch_of_fibers(rng):
    demo()
    module = EmulatedModule(DEMO, ("-DGPUSEG_UCONTEXT",), order=2, sanitize=sanitize_by_default())
    values, out = rng.random(48, dtype=np.float32), np.full(48, np.nan, np.float32)
    arguments = (values, out, np.int32(48), np.int32(0))
    module.get_function("reversed")((1,), (48,), arguments, shared_mem=48 * 4)
    np.testing.assert_array_equal(out, values[::-1])


def test_kernels_are_found_in_the_text():
    text = """
    extern "C" __global__ void plain(int a);
    extern "C" __global__ void __launch_bounds__(32 * (4 + 4), 2) bounded(const float* p) { f("{ ;"); }
    extern "C" __global__ __launch_bounds__(64) void turned(int a) { }
    template <int N> __global__ void no_name_yet(int a) { }
    __device__ void not_a_kernel(int a) { }
    extern "C" __global__ void plain(int a) { }
    """
    assert kernels_in(text) == [
        KernelText("plain", "0"),
        KernelText("bounded", "32 * (4 + 4)"),
        KernelText("turned", "64"),
    ]


def test_the_cache_is_used_and_survives_a_second_compilation(tmp_path, monkeypatch):
    demo()
    monkeypatch.setenv("GPUSEG_EMULATOR_CACHE", str(tmp_path / "cache"))
    code = 'extern "C" __global__ void one(int* a) { a[0] = 1; }'
    for _ in range(2):
        EmulatedModule(code)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    EmulatedModule(code, ("-DOTHER",))
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_what_ci_lacks_is_a_failure(monkeypatch):
    monkeypatch.setenv("GPUSEG_CI", "1")
    with pytest.raises(pytest.fail.Exception, match="missing in CI: no compiler"):
        require(False, "no compiler")
    monkeypatch.setenv("GPUSEG_CI", "0")
    with pytest.raises(pytest.skip.Exception, match="no compiler"):
        requirements.require(False, "no compiler")
    require(True, "no compiler")


# The stand-in for CuPy.


@pytest.fixture
def cupy():
    return EmulatedCupy()


def test_device_arrays_never_turn_into_host_arrays(cupy):
    x = cupy.arange(6, dtype=cupy.float32).reshape(2, 3)
    for convert in (np.asarray, np.array, lambda a: np.stack([np.zeros(3), a[0]])):
        with pytest.raises(TypeError, match=r"Implicit conversion|Unsupported type"):
            convert(x)
    np.testing.assert_array_equal(x.get(), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(cupy.asnumpy(x[1]), [3, 4, 5])


@pytest.mark.parametrize(
    "mix",
    [
        lambda cupy, x, host: x + host,
        lambda cupy, x, host: host * x,
        lambda cupy, x, host: cupy.maximum(x, host),
        lambda cupy, x, host: cupy.concatenate([x, host]),
        lambda cupy, x, host: cupy.zeros_like(host),
        lambda cupy, x, host: x.dot(host),
        lambda cupy, x, host: x[host > 0],
        lambda cupy, x, host: x.__setitem__(slice(None), host),
        lambda cupy, x, host: np.dot(x, host),
    ],
)
def test_host_and_device_do_not_mix(cupy, mix):
    with pytest.raises(TypeError, match="Unsupported type"):
        mix(cupy, cupy.ones(4), np.ones(4))


def test_results_stay_on_the_device(cupy, rng):
    host = rng.random((8, 6))
    x = cupy.asarray(host)
    values, vectors = cupy.linalg.eigh(x.T @ x)
    results = [
        x.T,
        x[1],
        x[1, 2],
        x.sum(),
        x.mean(axis=0),
        2 * x,
        x > 0.5,
        cupy.fft.rfft2(x),
        cupy.sqrt(x),
        values,
        vectors,
    ]
    results += [
        np.sum(x),
        cupy.where(x > 0.5, x, 0),
        x.astype(cupy.float32),
        cupy.argmax(x),
        *cupy.nonzero(x),
        *x,
    ]
    assert all(isinstance(result, DeviceArray) for result in results)
    np.testing.assert_allclose(cupy.fft.irfft2(cupy.fft.rfft2(x)).get(), host, atol=1e-14)
    x += 1
    x[0, 0] = x[1, 1]
    x[2] *= cupy.float64(2)
    assert float(x[0, 0]) == host[1, 1] + 1
    out = cupy.empty_like(x)
    assert cupy.add(x, 1, out=out) is out
    assert cupy.asarray(out) is out
    assert not np.shares_memory(cupy.array(out).host, out.host)
    assert not np.shares_memory(cupy.asarray(host).host, host)


def test_what_nobody_wrote_shows(cupy):
    assert np.isnan(cupy.empty((3, 2), cupy.float32).get()).all()
    assert (cupy.empty_like(cupy.zeros(3, cupy.int32)).get() == -1).all()


def test_what_cupy_lacks_is_missing(cupy):
    with pytest.raises(AttributeError, match=r"has no cupy\.nanquantile"):
        cupy.nanquantile  # noqa: B018
    with pytest.raises(ValueError, match="Unsupported dtype >f4"):
        cupy.asarray(np.zeros(3, ">f4"))
    with pytest.raises(ValueError, match="Unsupported dtype"):
        cupy.asarray(np.array(["a"]))


def test_reads_and_launches_are_counted(cupy):
    demo()
    module = cupy.RawModule(code=DEMO, options=("--std=c++17",), name_expressions=["scaled<float>"])
    x, out = cupy.arange(40, dtype=cupy.float32), cupy.empty(40, cupy.float32)
    scaled = module.get_function("scaled<float>")
    scaled((2,), (32,), (x, out, np.float32(2), np.int32(40)))
    assert cupy.launches == {"scaled<float>": 1}
    assert cupy.host_reads == 0
    np.testing.assert_array_equal(out.get(), 2 * np.arange(40))
    assert bool((out == 2 * x).all())
    assert cupy.host_reads == 2
    with pytest.raises(TypeError, match="a host array of shape"):
        scaled((2,), (32,), (np.zeros(40, np.float32), out, np.float32(2), np.int32(40)))


def test_raw_module_is_as_strict_as_cupys(cupy):
    with pytest.raises(TypeError, match="CuPy needs a tuple"):
        cupy.RawModule(code=DEMO, options=["--std=c++17"])
    with pytest.raises(ValueError, match=r"need to specify C\+\+ standard"):
        cupy.RawModule(code=DEMO, name_expressions=["scaled<float>"])


def test_random_numbers_and_the_device(cupy):
    draw = cupy.random.RandomState(3).uniform(size=5)
    np.testing.assert_array_equal(draw.get(), np.random.RandomState(3).uniform(size=5))
    with cupy.cuda.Device(0) as device:
        assert device.id == draw.device.id == 0
    cupy.cuda.Stream.null.synchronize()
    free, total = cupy.cuda.runtime.memGetInfo()
    assert free == total == 1 << 30
    cupy.get_default_memory_pool().free_all_blocks()


def test_gpuseg_takes_it_for_a_gpu(emulated_cuda):
    from gpuseg import arrays

    was_there = sys.modules.get("cupy")
    cupy = emulated_cuda(order=2, memory=1 << 20)
    assert arrays.gpu_status() == (True, "emulated")
    assert arrays.cuda_devices()[0]["memory_free"] == 1 << 20
    assert str(arrays.resolve_device("auto")) == "cuda:0"
    x = arrays.move(np.eye(3, dtype=np.float32), arrays.resolve_device("cuda"))
    assert isinstance(x, DeviceArray)
    assert arrays.home_of(x).kind == "cuda"
    np.testing.assert_array_equal(arrays.to_numpy(arrays.ingest(x)), np.eye(3))
    xp = arrays.namespace(x)
    assert xp.__name__ == "array_api_compat.cupy"
    total = xp.sum(xp.astype(xp.concat([x, xp.asarray([[1, 2, 3]], dtype=xp.float32)]), xp.float64), axis=0)
    np.testing.assert_array_equal(total.get(), [2, 3, 4])
    assert was_there is not sys.modules["cupy"] is cupy


def test_afterwards_there_is_no_gpu():
    from gpuseg import arrays

    # the test above installed one, and left nothing behind
    assert "emulated" not in arrays.gpu_status()[1]
    assert not isinstance(sys.modules.get("cupy"), EmulatedCupy)


# Under the sanitizers, where a fault ends the process.

FAULT = """
import numpy as np
from tests.emulator import EmulatedModule
code = open("tests/emulator/demo.cu").read()
floats, ints = np.zeros(64, np.float32), np.zeros(64, np.int32)
EmulatedModule(code, sanitize=True).get_function({name!r})((1,), (64,), ({arguments}), shared_mem={shared})
print("not caught")
"""


@pytest.mark.parametrize(
    ("name", "arguments", "shared", "report"),
    [
        (
            "outside_shared",
            "floats, floats.copy(), np.int32(1)",
            0,
            "global-buffer-overflow|insufficient space",
        ),
        ("reversed", "floats, floats.copy(), np.int32(64), np.int32(1)", 256, "heap-buffer-overflow"),
        ("reversed", "floats[:63].copy(), floats, np.int32(64), np.int32(0)", 256, "heap-buffer-overflow"),
        ("reversed", "floats, floats[:63].copy(), np.int32(64), np.int32(0)", 256, "heap-buffer-overflow"),
        ("undefined_overflow", "ints, np.int32(2**31 - 10)", 0, "signed integer overflow"),
        ("misaligned", "np.zeros(80, np.float32), floats", 0, "misaligned address"),
    ],
    ids=["shared", "dynamic shared", "global read", "global write", "overflow", "alignment"],
)
def test_the_sanitizers_catch(name, arguments, shared, report):
    result = run_sanitized("-c", FAULT.format(name=name, arguments=arguments, shared=shared))
    assert result.returncode != 0
    assert "not caught" not in result.stdout
    assert re.search(report, result.stderr)
    assert "kernel.cu" in result.stderr


def test_correct_kernels_pass_the_sanitizers():
    correct = (
        "tile or templates or place or atomics or warp_operations or dynamic or pairs or go_on or counted"
    )
    run_tests_sanitized("tests/test_emulator.py", "-k", correct)


def test_a_sanitized_module_needs_its_process():
    demo()
    with pytest.raises(RuntimeError, match="run_sanitized"):
        EmulatedModule(DEMO, sanitize=True)


# --- streams and graphs ----------------------------------------------------------------------------------

DOUBLED = 'extern "C" __global__ void doubled(float* a) { a[threadIdx.x] *= 2.0f; }'


@pytest.fixture
def doubling(emulated_cuda):
    """CuPy, an array of ones, and what doubles it on the current stream."""
    cupy = emulated_cuda()
    ones = cupy.ones(4, cupy.float32)
    kernel = cupy.RawKernel(DOUBLED, "doubled")
    return cupy, ones, lambda: kernel((1,), (4,), (ones,))


def test_a_stream_is_not_ready_before_somebody_waits(doubling):
    cupy, ones, double = doubling
    stream, host = cupy.cuda.Stream(non_blocking=True), np.zeros(4, np.float32)
    with stream:
        double()
    ones.get(stream=stream, out=host, blocking=False)
    assert ones.get()[0] == 1
    assert not host.any()
    assert not stream.done
    stream.synchronize()
    assert stream.done
    assert ones.get()[0] == host[0] == 2


def test_memory_that_a_copy_needs_must_not_be_used_again(doubling):
    cupy, ones, _ = doubling
    stream, host = cupy.cuda.Stream(non_blocking=True), np.full(4, 5, np.float32)
    ones.set(host, stream=stream)
    host[:] = 7
    stream.synchronize()
    assert ones.get()[0] == 7


def test_what_reads_on_the_same_stream_waits_by_itself(doubling):
    cupy, ones, double = doubling
    with cupy.cuda.Stream(non_blocking=True):
        double()
        assert float((ones + 1)[0]) == 3
        double()
        assert float(ones.sum()) == 16


@pytest.mark.parametrize("how", ["event", "device", "record"])
def test_streams_wait_for_each_other(doubling, how):
    cupy, ones, double = doubling
    one, other = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
    with one:
        double()
        event = cupy.cuda.Event()
        event.record() if how == "event" else one.record(event)
    cupy.cuda.Device().synchronize() if how == "device" else other.wait_event(event)
    with other:
        double()
    other.synchronize()
    assert ones.get()[0] == 4


def test_a_graph_does_again_what_was_captured(doubling):
    cupy, ones, double = doubling
    stream, source = cupy.cuda.Stream(non_blocking=True), cupy.full(4, 3.0)
    with stream:
        stream.begin_capture()
        cupy.copyto(ones, source, casting="same_kind")
        double()
        double()
        assert stream.is_capturing()
        graph = stream.end_capture()
    assert ones.get()[0] == 1
    for level in (3, 5):
        source[:] = level
        graph.launch(stream)
        stream.synchronize()
        assert ones.get()[0] == 4 * level
    assert cupy.graph_launches == 2
    assert cupy.launches["doubled"] == 4


@pytest.mark.parametrize("what", ["empty", "sum", "copy to the host", "synchronize", "number", "write"])
def test_what_a_graph_cannot_hold_is_refused(doubling, what):
    cupy, ones, _ = doubling
    stream = cupy.cuda.Stream(non_blocking=True)
    refused = {
        "empty": lambda: cupy.empty(3),
        "sum": ones.sum,
        "copy to the host": ones.get,
        "synchronize": stream.synchronize,
        "number": lambda: float(ones[0]),
        "write": lambda: ones.__setitem__(0, 1),
    }
    with stream:
        stream.begin_capture()
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureUnsupported"):
            refused[what]()
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
            stream.end_capture()
    assert not stream.is_capturing()
    stream.synchronize()


def test_the_default_stream_cannot_be_captured(emulated_cuda):
    cupy = emulated_cuda()
    with pytest.raises(RuntimeError, match="cannot capture on the default"):
        cupy.cuda.Stream.null.begin_capture()
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="is not capturing"):
        cupy.cuda.Stream().end_capture()
