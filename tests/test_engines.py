"""Both engines, every method: parity with tests/naive.py; the CUDA kernels run in the emulator."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpuseg
from gpuseg import arrays
from gpuseg.engines import _cpu_translation_tiles as tiles
from gpuseg.engines import cpu, cuda
from gpuseg.grid import Grid
from tests import parity, strategies
from tests.emulator import run_tests_sanitized
from tests.parity import METHODS, Backend
from tests.tolerances import TOLERANCE, assert_scores_close

CPU = Backend(arrays.Device("cpu"))
CASES = parity.corner_cases()
ROOT = Path(gpuseg.__file__).resolve().parents[1]
ORDERS = {"forward": 0, "reverse": 1, "shuffled": 2}


@pytest.fixture(params=["cpu", "emulated"])
def backend(request, emulated_cuda):
    if request.param == "cpu":
        return CPU
    emulated_cuda()
    return Backend(arrays.Device("cuda", 0))


@pytest.fixture(params=ORDERS.values(), ids=ORDERS)
def emulated(request, emulated_cuda):
    """The emulated GPU under each order of threads."""
    emulated_cuda(order=request.param)
    return Backend(arrays.Device("cuda", 0))


# --- parity with the definition --------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@parity.examples(60)
@given(data=st.data())
def test_cpu_scores_are_the_naive_ones(data, method):
    parity.check_scores(CPU, data.draw(parity.cases(method)), method)


@pytest.mark.parametrize("method", METHODS)
@parity.examples(25)
@given(data=st.data())
def test_emulated_scores_are_the_naive_ones(emulated_cuda, data, method):
    emulated_cuda()
    case = data.draw(parity.cases(method, max_side=22))
    parity.check_scores(Backend(arrays.Device("cuda", 0)), case, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_corner_cases_on_the_cpu(name, method):
    parity.check_scores(CPU, CASES[name], method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_corner_cases_in_the_emulator(emulated, name, method):
    parity.check_scores(emulated, CASES[name], method)


@pytest.mark.parametrize("method", METHODS)
def test_a_small_contrast_on_a_high_level(backend, method):
    parity.check_high_level(backend, method)


@pytest.mark.parametrize("method", ["direct", "fft"])
def test_pixels_are_taken_about_the_mean_of_a_patch(backend, method):
    parity.check_steps(backend, method)


def test_pixels_are_taken_about_the_mean_of_a_tile(emulated):
    parity.check_steps(emulated, "box")  # a tile of the CPU's box sums is larger than that image


@pytest.mark.parametrize("bright", ["region", "hot pixel"])
@pytest.mark.parametrize("method", METHODS)
def test_something_bright_does_not_spoil_the_dark(backend, method, bright):
    parity.check_dark_beside(backend, method, bright)


@pytest.mark.parametrize("contrast", [1.0, 0.1, 1e-2, 1e-3])
@pytest.mark.parametrize("method", METHODS)
def test_a_faint_half_beside_another_level(backend, method, contrast):
    parity.check_faint_half(backend, method, contrast, 2e-6 + 5e-8 / contrast)


@pytest.mark.parametrize("contrast", [1.0, 0.1, 1e-2])
def test_a_faint_half_of_a_dense_grid(emulated_cuda, contrast):
    """Whole tiles in single precision, those with patches far from their level once more in double."""
    emulated_cuda()
    image = np.random.default_rng(17).normal(size=(45, 140))
    image[:, :70] = contrast * image[:, :70] - 3
    case = parity.case(image, (8, 8), [(0, 0), (3, 5), (-3, -5), (0, -7)], stride=1)
    got = Backend(arrays.Device("cuda", 0)).scores(case, "box")
    assert_scores_close(got, parity.naive_scores(case)[0], TOLERANCE["score", "float32"] + 5e-8 / contrast)


def test_the_dark_cases_test_something():
    made, dark = parity.dark_beside("hot pixel")
    _, cols = made.positions
    # shifts away from the bright part, at points whose window reaches into it
    assert dark[:, :, (cols + 4 + 6 >= 60) & (cols + 4 < 60)].any()
    assert not dark.all()


@pytest.mark.parametrize("method", METHODS)
def test_valid_everywhere_is_no_mask(backend, method):
    case = CASES["window"]
    pixels, valid = backend.prepared(case)
    assert valid is None
    all_valid = backend.put(np.ones(case.image.shape, bool))
    grid, what = parity.grid_of(case), (case.translations, case.patch_radius, method)
    got, wanted = (backend.engine.translation_scores(pixels, v, grid, *what) for v in (all_valid, None))
    bound = TOLERANCE["score", "twins"] * parity.naive_scores(case)[1]
    assert_scores_close(arrays.to_numpy(got), arrays.to_numpy(wanted), bound)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_call_gives_the_same_bits(backend, method):
    case = CASES["half plane"]
    first, second = (backend.scores(case, method) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["window", "several tiles, valid", "scattered nan"])
def test_the_order_of_threads_changes_no_bit(emulated_cuda, name, method):
    found = set()
    for order in ORDERS.values():
        emulated_cuda(order=order)
        found.add(Backend(arrays.Device("cuda", 0)).scores(CASES[name], method).tobytes())
    assert len(found) == 1


LEVELS = """
extern "C" __global__ void __launch_bounds__(BLOCK) levels(
    const float* pixels, int height, int width, const int* corners, int n_rows, int n_cols, float* found) {
  const Image image{pixels, height, width};
  bool complete;
  const float level = level_of(image, corners[2 * blockIdx.x], corners[2 * blockIdx.x + 1], n_rows, n_cols, complete);
  found[2 * (blockIdx.x * BLOCK + threadIdx.x)] = level;
  found[2 * (blockIdx.x * BLOCK + threadIdx.x) + 1] = complete;
}
"""


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_every_thread_knows_the_mean_of_a_rectangle(emulated_cuda, order):
    """A wrong one hardly shows in a score: no score depends on the level."""
    cupy = emulated_cuda(order=order)
    common = cuda.source("translation").partition("#line")[0]
    kernel = cupy.RawModule(code=common + LEVELS, options=cuda.OPTIONS).get_function("levels")
    image = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32) + 3
    image[30:, 20:] = np.nan
    corners = np.array([[0, 0], [10, 5], [-4, -6], [25, 10], [30, 25], [38, 0], [-90, 0]], np.int32)
    rows, cols = 17, 19
    found = cupy.empty((len(corners), cuda.BLOCK, 2), cupy.float32)
    sizes = [np.int32(n) for n in (*image.shape,)], [np.int32(n) for n in (rows, cols)]
    kernel(
        (len(corners),),
        (cuda.BLOCK,),
        (cupy.asarray(image), *sizes[0], cupy.asarray(corners), *sizes[1], found),
    )
    for (row, col), got in zip(corners, found.get(), strict=True):
        part = image[max(row, 0) : max(row + rows, 0), max(col, 0) : max(col + cols, 0)]
        known = part[np.isfinite(part)]
        np.testing.assert_allclose(got[:, 0], known.mean(dtype=np.float64) if known.size else 0, rtol=1e-6)
        assert (got[:, 1] == (known.size == rows * cols)).all()


# --- what is missing -------------------------------------------------------------------------------------


@parity.examples(60)
@given(case=strategies.correlation_cases())
def test_cpu_filling_is_the_naive_one(case):
    parity.check_filling(CPU, case)


@pytest.mark.parametrize("name", ["window", "scattered nan"])
def test_cpu_filling_of_a_part_of_an_array(name):
    """In place, whatever the order of the scores in memory."""
    case = CASES[name]
    scores = parity.naive_scores(case)[0].astype(np.float32)
    rows, cols = case.positions
    wanted, opposite = case.valid[np.ix_(rows, cols)], parity.opposites(case.translations)
    filled = cpu.fill_missing(scores.copy(), opposite, wanted)
    assert np.isnan(scores).any()
    assert not np.array_equal(filled, scores, equal_nan=True)
    room = np.full((*scores.shape[:2], scores.shape[2] + 3), 7, np.float32)
    room[:, :, 1:-2] = scores
    part = room[:, :, 1:-2]
    assert cpu.fill_missing(part, opposite, wanted) is part
    np.testing.assert_array_equal(part, filled)
    assert (room[:, :, 0] == 7).all()
    assert (room[:, :, -2:] == 7).all()


@parity.examples(15)
@given(case=strategies.correlation_cases(max_side=22))
def test_emulated_filling_is_the_naive_one(emulated_cuda, case):
    emulated_cuda()
    parity.check_filling(Backend(arrays.Device("cuda", 0)), case)


@pytest.mark.parametrize("name", CASES)
def test_filling_of_corner_cases_on_the_cpu(name):
    parity.check_filling(CPU, CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_filling_of_corner_cases_in_the_emulator(emulated, name):
    parity.check_filling(emulated, CASES[name])


@pytest.mark.parametrize("name", ["window", "scattered nan", "half plane"])
@pytest.mark.parametrize("memory", [1, 5000])
def test_filling_of_some_operations_at_a_time(monkeypatch, emulated, name, memory):
    monkeypatch.setattr(cuda, "NEAREST_BYTES", memory)
    parity.check_filling(emulated, CASES[name])


def test_filling_in_a_wide_grid(emulated):
    """More columns than a block has threads; the nearest score is beyond the rectangle, in it, or nowhere."""
    rng = np.random.default_rng(6)
    translations = np.array([(0, 1), (2, 3), (0, -1), (5, 5)])
    case = parity.case(rng.normal(size=(7, 600)), (0, 0), translations, stride=1)
    scores = rng.normal(size=(4, 7, 600)).astype(np.float32)
    scores[:, :, :270] = scores[:, 5:, 100:] = np.nan
    scores[3] = np.nan
    scores[:3, 0, 3], scores[1, 6, 20] = 7, 8
    scores[3, 1:4, 300:550] = 9
    wanted = parity.naive.fill_missing(scores, translations, *case.positions, case.valid)
    for complete in ((0, 0, 0, 0), (1, 4, 300, 550), (2, 2, 300, 550)):
        np.testing.assert_array_equal(emulated.filled(case, scores, complete), wanted)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.95])
@pytest.mark.parametrize("shape", [(13, 17), (1, 40), (23, 1)])
def test_filling_of_scattered_scores(backend, shape, share):
    rng = np.random.default_rng(5)
    translations = np.array([(0, 1), (2, 3), (0, -1), (0, 0), (-2, -3), (7, 7)])
    case = parity.case(rng.normal(size=shape), (0, 0), translations, stride=1, mask=rng.random(shape) < 0.9)
    scores = rng.normal(size=(6, *shape)).astype(np.float32)
    scores[rng.random(scores.shape) > share] = np.nan
    scores[5] = np.nan
    rows, cols = case.positions
    wanted = parity.naive.fill_missing(scores, translations, rows, cols, case.valid)
    np.testing.assert_array_equal(backend.filled(case, scores), wanted)


# --- patterns --------------------------------------------------------------------------------------------


@parity.examples(60)
@given(case=parity.cases(), n_axes=st.integers(1, 6), n_centers=st.integers(1, 5))
def test_cpu_patterns_are_the_naive_ones(case, n_axes, n_centers):
    parity.check_patterns(CPU, case, n_axes, n_centers)


@parity.examples(40)
@given(case=parity.cases(max_side=30), n_axes=st.integers(1, 6), n_centers=st.integers(1, 5))
def test_emulated_patterns_are_the_naive_ones(emulated_cuda, case, n_axes, n_centers):
    emulated_cuda()
    parity.check_patterns(Backend(arrays.Device("cuda", 0)), case, n_axes, n_centers)


SCORED = [name for name in CASES if parity.patterns_of(CASES[name], 1, 1)[0].scores_something]


@pytest.mark.parametrize("name", SCORED)
def test_patterns_of_corner_cases_on_the_cpu(name):
    parity.check_patterns(CPU, CASES[name])


@pytest.mark.parametrize("name", SCORED)
def test_patterns_of_corner_cases_in_the_emulator(emulated, name):
    parity.check_patterns(emulated, CASES[name])


@pytest.mark.parametrize("tile", [(8, 3), (4, 8), (1, 8)])
@pytest.mark.parametrize("tiles", [1, 10**6])
@pytest.mark.parametrize(
    "name", ["several tiles of a GPU", "half plane", "shifts without opposites", "window"]
)
def test_patterns_whatever_the_tiles(monkeypatch, emulated, name, tile, tiles):
    """Other tiles, and pairs shared out over blocks or not."""
    monkeypatch.setattr(cuda, "PREDICT_TILES", (tile,))
    monkeypatch.setattr("gpuseg.engines._cuda_predict.ENOUGH_TILES", tiles)
    parity.check_patterns(emulated, CASES[name])


def test_patterns_of_a_small_contrast_on_a_high_level(backend):
    parity.check_patterns(backend, parity.level_30000_contrast_20())


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (300, 17), (40, 256), (9, 33)])
def test_integrals(emulated, shape):
    """Of images that several rounds of a block go over, and several warps along the columns."""
    pixels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    pixels[0, 0] = np.nan
    cupy, (height, width) = arrays.cupy_module(), shape
    found = cupy.empty((height + 1, width + 1, 2), cupy.float64)
    options = (*cuda.OPTIONS, "-DTILE_ROWS=8")
    cuda._launch("predict", "integrate_rows", options, (height,), cupy.asarray(pixels), height, width, found)
    length = 2 * (width + 1)
    cuda._launch("predict", "integrate_columns", options, (-(-length // 32),), height + 1, length, found)
    known = np.nan_to_num(pixels).astype(np.float64)
    for which in (0, 1):
        wanted = np.pad((known ** (which + 1)).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        np.testing.assert_allclose(found.get()[:, :, which], wanted, atol=TOLERANCE["score", "float64"] * 100)


def test_patterns_of_the_dark_are_not_spoilt_by_the_bright(backend):
    parity.check_patterns(backend, parity.dark_beside("region")[0])


def test_the_order_of_threads_changes_no_bit_of_the_patterns(emulated_cuda):
    plan, _, _ = parity.patterns_of(CASES["scattered nan"], 3, 3)
    found = set()
    for order in ORDERS.values():
        emulated_cuda(order=order)
        on = Backend(arrays.Device("cuda", 0))
        points = cuda.label_points(on.prepared(CASES["scattered nan"])[0], plan)
        found.add(b"".join(arrays.to_numpy(each).tobytes() for each in vars(points).values()))
    assert len(found) == 1


@pytest.mark.parametrize("radius", [(60, 60), (3, 700)])
def test_tiles_that_do_not_fit_are_not_promised(emulated_cuda, radius):
    emulated_cuda()
    plan, _, _ = parity.patterns_of(CASES["window"], 1, 1)
    assert cuda.can_label(plan)
    wide = dataclasses.replace(plan, patch_radius=radius, shifts=plan.shifts * 9)
    assert not cuda.can_label(wide)


# --- normalisation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", parity.IMAGES)
def test_normalised_images(backend, name):
    parity.check_normalise(backend, parity.IMAGES[name])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_what_is_invalid_does_not_count(backend, value):
    image = parity.IMAGES["noise"].copy()
    valid = np.random.default_rng(1).random(image.shape) < 0.7
    valid.flat[0] = False
    image[~valid] = value
    parity.check_normalise(backend, image, valid)


@pytest.mark.parametrize("level", [0.0, 0.1, 7, 3e4, -1e300])
@pytest.mark.parametrize("masked", [False, True])
def test_a_constant_image_is_normalised_to_zeros(backend, level, masked):
    image, valid = np.full((6, 7), float(level)), np.ones((6, 7), bool)
    if masked:
        image[2, 3], valid[2, 3] = np.nan, False
    got = backend.engine.normalise(backend.put(image), backend.put(valid) if masked else None)
    np.testing.assert_array_equal(arrays.to_numpy(got), np.zeros((6, 7), np.float32))


# --- how the work is cut up does not show ----------------------------------------------------------------


@pytest.mark.parametrize("tile", [(1, 1), (4, 7), (9, 1000), (1000, 9)])
@parity.examples(40)
@given(case=parity.cases("box"), threads=st.sampled_from(["1", "2", "5"]))
def test_cpu_tiles(case, tile, threads):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE", tile)
        patch.setenv("NUMBA_NUM_THREADS", threads)
        parity.check_scores(CPU, case, "box")


@pytest.mark.parametrize("tile", [(1, 1), (4, 7), (9, 1000), (1000, 9)])
@pytest.mark.parametrize("name", CASES)
def test_cpu_tiles_of_corner_cases(monkeypatch, name, tile):
    monkeypatch.setattr(tiles, "TILE", tile)
    parity.check_scores(CPU, CASES[name], "box")


def test_cpu_scores_of_many_tiles_and_threads(monkeypatch):
    """An image of several tiles of the size that is in use."""
    side = [3 * n // 2 for n in tiles.TILE]
    image = np.random.default_rng(2).normal(size=side).astype(np.float32)
    case = parity.case(image, (9, 11), [(0, 0), (10, -20), (-10, 20), (3, 4)], stride=20)
    for threads in ("1", "3"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
        parity.check_scores(CPU, case, "box")


@pytest.mark.parametrize("stride", [1, 2])
def test_cpu_scores_of_a_dense_grid(monkeypatch, stride):
    """More points in a tile than the box sums take at once."""
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    image = np.random.default_rng(2).normal(size=(90, 100 * stride)).astype(np.float32)
    case = parity.case(image, (2, 3), [(0, 0), (2, -4), (-2, 4), (3, 1)], stride=stride)
    parity.check_scores(CPU, case, "box")


@pytest.mark.parametrize(
    ("radius", "shape"), [((1, 33), (12, 110)), ((33, 1), (110, 12)), ((2, 130), (9, 300))]
)
def test_cpu_scores_of_long_patches(radius, shape):
    """So many blocks across or down that sums of sums of sums are summed."""
    image = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    parity.check_scores(CPU, parity.case(image, radius, [(0, 0), (1, -4), (-1, 4), (2, 5)], stride=1), "box")


@pytest.mark.parametrize("engine", [tiles, cuda], ids=["cpu", "emulated"])
@pytest.mark.parametrize("name", ["window", "scattered nan", "shifts without opposites"])
@pytest.mark.parametrize("memory", [1, 200_000])
def test_fft_batches(monkeypatch, emulated_cuda, engine, name, memory):
    monkeypatch.setattr(engine, "FFT_BATCH_BYTES", memory)
    backend = CPU
    if engine is cuda:
        emulated_cuda()
        backend = Backend(arrays.Device("cuda", 0))
    parity.check_scores(backend, CASES[name], "fft")


@pytest.mark.parametrize("name", CASES)
def test_blocks_that_take_several_shifts(monkeypatch, emulated, name):
    monkeypatch.setattr(cuda, "ENOUGH_BLOCKS", 1)
    parity.check_scores(emulated, CASES[name], "box")


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("shape", "stride", "radius"),
    [
        (
            (37, 145),
            1,
            (8, 4),
        ),  # sixteen patches below each other share their products, eight beside each other
        ((37, 145), 1, (3, 1)),  # four, two
        ((35, 140), 1, (0, 0)),  # none
        ((60, 110), 3, (11, 13)),  # eight and eight
        ((60, 110), 3, (7, 2)),  # four, one
        ((50, 160), 5, (9, 18)),  # four, eight
    ],
)
def test_tiles_of_the_box_sums(emulated, shape, stride, radius, masked):
    """Several tiles, the last ones cut; every number of patches that share what they are summed from."""
    image = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    if masked:
        image[: shape[0] // 3, 20:40] = np.nan
    case = parity.case(image, radius, [(0, 0), (2, -4), (-2, 4), (-3, 0)], stride=stride)
    parity.check_scores(emulated, case, "box")


def test_bright_pixels_do_not_reach_patches_that_do_not_hold_them(emulated_cuda):
    """Not a bit of a score depends on pixels outside of its two patches, but for the level of its tile."""
    emulated_cuda()
    backend = Backend(arrays.Device("cuda", 0))
    image = np.random.default_rng(2).normal(size=(60, 200)).astype(np.float32)
    image -= image.mean(dtype=np.float64).astype(np.float32)
    bright = image.copy()
    bright[30, [60, 61]] = 1e4, -1e4  # the mean of every tile stays as it was, but for rounding
    grid = Grid.full(image.shape, 1)
    shifts = np.array([(0, 0), (3, 5), (0, 9)])
    one, other = (
        arrays.to_numpy(
            backend.engine.translation_scores(backend.put(each), None, grid, shifts, (4, 4), "box")
        )
        for each in (image, bright)
    )
    apart = np.ones(grid.shape, bool)
    apart[(grid.rows > 30 - 4 - 4) & (grid.rows < 30 + 5)] = False
    far = np.broadcast_to(apart, one.shape) & np.isfinite(one)
    assert far.sum() > 1000
    assert np.abs(one - other)[far].max() < 1e-6
    assert np.abs(one - other)[np.isfinite(one)].max() > 0.1


@pytest.mark.parametrize("name", ["window", "scattered nan", "half plane", "multiples of the stride"])
def test_blocks_with_little_shared_memory(monkeypatch, emulated, name):
    case = CASES[name]
    size = [2 * p + 1 for p in case.patch_radius]
    monkeypatch.setattr(cuda, "SHARED_BYTES", cuda._shared_of((1, 1), case.stride, size))
    parity.check_scores(emulated, case, "box")


def test_a_patch_too_large_for_shared_memory_is_left_to_the_fft(monkeypatch, emulated_cuda):
    cupy = emulated_cuda()
    monkeypatch.setattr(cuda, "SHARED_BYTES", 16)
    parity.check_scores(Backend(arrays.Device("cuda", 0)), CASES["window"], "box")
    assert cupy.launches["fft_finish"] > 0
    assert cupy.launches["box_scores"] == 0


# --- twins -----------------------------------------------------------------------------------------------


def engine_functions_in_use():
    """Names called as `engine.name(...)` or `engine_for(...).name(...)` anywhere in gpuseg."""
    names = set()
    for path in Path(gpuseg.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = ast.unparse(node.func.value)
                if owner == "engine" or owner.startswith("engine_for("):
                    names.add(node.func.attr)
    return names


def public_functions(module):
    return {
        name: function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }


def test_the_engines_are_twins():
    used = engine_functions_in_use()
    assert {"normalise", "translation_scores", "fill_missing"} <= used
    left, right = public_functions(cpu), public_functions(cuda)
    assert used <= left.keys() & right.keys()
    for name in left.keys() & right.keys():
        a, b = ([(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
                for f in (left[name], right[name]))  # fmt: skip
        assert a == b, f"{name}: {a} on the CPU, {b} on the GPU"


@pytest.mark.parametrize("method", METHODS)
def test_kernels_that_each_method_launches(emulated_cuda, method):
    cupy = emulated_cuda()
    backend = Backend(arrays.Device("cuda", 0))
    backend.scores(CASES["window"], method)
    wanted = {
        "direct": {"direct_scores"},
        "fft": {"fft_gather", "fft_finish"},
        "box": {"patch_statistics", "box_scores", "masked_box_scores"},
    }
    normalising = {"normalise_moments", "normalise_squares", "normalise_pixels"}
    assert set(cupy.launches) == wanted[method] | normalising


# --- under the sanitizers --------------------------------------------------------------------------------


def test_the_kernels_pass_the_sanitizers():
    names = [
        "window",
        "half plane",
        "two values",
        "shifts beyond the image",
        "one row",
        "patch as large as the image",
    ]
    ids = [f"[forward-{name}-{method}]" for name in names for method in METHODS]
    patterns = ["half plane", "several tiles of a GPU", "shifts beyond the image", "window, valid border"]
    fill = [f"[shuffled-{name}]" for name in ("scattered nan", "one row")]
    run_tests_sanitized(
        *(f"tests/test_engines.py::test_corner_cases_in_the_emulator{i}" for i in ids),
        *(f"tests/test_engines.py::test_filling_of_corner_cases_in_the_emulator{i}" for i in fill),
        *(
            f"tests/test_engines.py::test_patterns_of_corner_cases_in_the_emulator[shuffled-{name}]"
            for name in patterns
        ),
        *(
            f"tests/test_engines.py::test_blocks_that_take_several_shifts[reverse-{name}]"
            for name in names[:2]
        ),
        *(
            f"tests/test_engines.py::test_blocks_with_little_shared_memory[reverse-{name}]"
            for name in names[:2]
        ),
        timeout=240,
    )


def test_the_cpu_kernels_stay_inside_their_arrays(tmp_path):
    """numba, told to check every index: what the sanitizers are to the CUDA kernels."""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/test_engines.py", "-k",
               "cases_on_the_cpu or tiles_of_corner_cases"]  # fmt: skip
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout[-6000:]
    assert " passed" in run.stdout
