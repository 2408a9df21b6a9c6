"""Polar patches: their plan, splines, scores and pooling, both engines against tests/naive.py.

The CUDA kernels run in the emulator; tests/test_cuda.py repeats it on a GPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from scipy import ndimage

import gpuseg
from gpuseg import arrays
from gpuseg.engines import _cpu_polar_tiles as polar_tiles
from gpuseg.engines import cpu, cuda
from gpuseg.grid import Grid
from gpuseg.polar import (
    BATCH,
    INVOLUTION,
    OTHER_PATCH,
    SAME_PATCH,
    PolarPlan,
    ring_sizes,
    samples_of,
    sectors_for,
)
from gpuseg.symmetry import GlideReflection, Reflection, Rotation
from tests import naive, parity, polar_parity
from tests.emulator import run_tests_sanitized
from tests.parity import Backend
from tests.polar_parity import GLIDES, PLANES, TURNS, check_polar, check_pooling
from tests.tolerances import TOLERANCE, assert_scores_close

CPU = Backend(arrays.Device("cpu"))
GPU = Backend(arrays.Device("cuda", 0))
CASES = polar_parity.corner_cases()
POOLING = polar_parity.pooling_corner_cases()
ROOT = Path(gpuseg.__file__).resolve().parents[1]
ORDERS = {"forward": 0, "reverse": 1, "shuffled": 2}
KERNELS = ("polar_scores", "masked_polar_scores", "careful_polar_scores")


@pytest.fixture(params=["cpu", "emulated"])
def backend(request, emulated_cuda):
    if request.param == "cpu":
        return CPU
    emulated_cuda()
    return GPU


@pytest.fixture(params=ORDERS.values(), ids=ORDERS)
def emulated(request, emulated_cuda):
    """The emulated GPU under each order of threads."""
    emulated_cuda(order=request.param)
    return GPU


# --- the definition itself -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(9, 7), (2, 3), (1, 5), (6, 1), (1, 1), (40, 61)])
def test_naive_splines_are_those_of_scipy(shape):
    image = np.random.default_rng(0).normal(size=shape)
    coefficients = naive.spline_coefficients(image)
    wanted = ndimage.spline_filter(image, output=np.float64, mode="mirror")
    np.testing.assert_allclose(coefficients, wanted, atol=1e-13)
    if min(shape) > 4:
        row, col = np.random.default_rng(1).uniform(1, np.array(shape)[:, None] - 3, (2, 50))
        wanted = ndimage.map_coordinates(image, [row, col], order=3, mode="mirror")
        np.testing.assert_allclose(naive.interpolate(coefficients, row, col), wanted, atol=1e-13)


def test_naive_interpolation_needs_the_pixels_that_count():
    coefficients = naive.spline_coefficients(np.random.default_rng(0).normal(size=(8, 9)))
    coefficients[4, 4] = np.nan
    row, col = np.array([2.0, 2.5, 4.0, 6.0, 0.0, 0.5, 1.0]), np.array([4.0, 4.0, 2.0, 2.5, 5.0, 6.5, 7.0])
    known = np.isfinite(naive.interpolate(coefficients, row, col))
    # exactly two pixels away one counts nothing; (0, 5) needs row -1, (0.5, 6.5) as well
    np.testing.assert_array_equal(known, [True, False, True, True, False, False, True])


def test_naive_pooling_worked_out_by_hand():
    scores = np.array([[[0.1, 0.5, np.nan], [0.5, -1.0, 0.2]]])
    got = naive.pooled(scores, np.array([0, 1]), np.array([0, 2]), (0, 1), 2)
    np.testing.assert_array_equal(got, [[[0.5, 0.5], [0.5, 0.2]], [[0.1, np.nan], [-1.0, -1.0]]])


def test_naive_scores_of_a_picture_that_is_its_own_mirror_image():
    row, col = np.mgrid[:21, :25]
    image = np.cos(row / 3) * (col - 12.0) ** 2
    operations = [(each.matrix, each.shift) for each in (Reflection(90.0), Rotation(180.0))]
    mirror, turn = naive.polar_scores(image, operations, 4, 4)
    np.testing.assert_allclose(mirror[6:-6, 12], 1, atol=1e-12)
    assert (turn[6:-6, 12] < 0.99).all()


# --- the plan --------------------------------------------------------------------------------------------

SETS = {
    "turns": (8, TURNS),
    "planes": (8, PLANES),
    "quarter turns": (5, (Rotation(90.0),)),
    "glides": (6, GLIDES),
    "all kinds": (5, (*TURNS, *PLANES[:3], *GLIDES)),
    "odd": (6, (Rotation(17.0), Reflection(11.3))),
    "usual and odd": (6, (Rotation(90.0), Rotation(17.0), Rotation(180.0))),
    "many planes": (4, tuple(Reflection(180 * k / 37) for k in range(37))),
    "one ring": (1, (*TURNS, *GLIDES)),
    "radius 20": (20, (*TURNS, *PLANES)),
}


@pytest.fixture(params=SETS.values(), ids=SETS)
def planned(request):
    """A radius, operations, their plan."""
    return *request.param, PolarPlan.of(*request.param)


def batches_of(plan):
    """Slices of the samples and of the pairs of each batch."""
    ends = zip(
        plan.batch_samples[:-1],
        plan.batch_samples[1:],
        plan.batch_pairs[:-1],
        plan.batch_pairs[1:],
        strict=True,
    )
    return [(slice(a, b), slice(c, d)) for a, b, c, d in ends]


def sample_positions(plan):
    """(S, 2), from the splines: their weights reproduce a straight line."""
    return plan.corners + (plan.splines * np.arange(4)).sum(-1)


def pairs_of(plan, operation):
    """Positions of both sides of an operation, and the areas, both orders of an involution."""
    positions, one, other, weights = sample_positions(plan), [], [], []
    for samples, pairs in batches_of(plan):
        rows = plan.pairs[pairs]
        chosen = rows[:, 0] == operation
        here = positions[samples]
        one.append(here[rows[chosen, 1]])
        other.append(here[rows[chosen, 2]])
        weights.append(plan.pair_weight[pairs][chosen])
    return np.concatenate(one), np.concatenate(other), np.concatenate(weights)


def test_areas_are_shares(planned):
    _, operations, plan = planned
    assert plan.own_weight.sum() == pytest.approx(1, abs=1e-12)
    assert (plan.own_weight >= 0).all()
    totals = np.bincount(plan.pairs[:, 0], plan.pair_weight, len(operations))
    np.testing.assert_allclose(totals, 1, atol=1e-12)
    assert (plan.pair_weight > 0).all()


def test_own_samples_are_those_of_the_patch_once_each(planned):
    radius, operations, plan = planned
    wanted, areas = naive.polar_samples(radius, sectors_for(radius, operations))
    own = plan.own_weight > 0
    assert own.sum() == len(wanted)
    positions, weights = sample_positions(plan)[own], plan.own_weight[own]
    nearest = np.hypot(*(positions[:, None] - wanted[None]).T).argmin(0)
    assert len(np.unique(nearest)) == len(wanted)
    np.testing.assert_allclose(positions, wanted[nearest], atol=2e-7)
    np.testing.assert_allclose(weights, areas[nearest], atol=1e-14)


def test_pairs_compare_a_sample_with_its_image(planned):
    radius, operations, plan = planned
    samples, areas = naive.polar_samples(radius, sectors_for(radius, operations))
    for k, operation in enumerate(operations):
        one, other, weights = pairs_of(plan, k)
        np.testing.assert_allclose(one @ operation.matrix.T + operation.shift, other, atol=3e-7)
        nearest = np.hypot(*(one[:, None] - samples[None]).T).argmin(0)
        seen = np.bincount(nearest, weights, len(samples))
        if plan.kinds[k] == INVOLUTION:  # a pair stands for both orders: half of its area is the other's
            partner = np.hypot(*(other[:, None] - samples[None]).T).argmin(0)
            seen = (seen + np.bincount(partner, weights, len(samples))) / 2
        np.testing.assert_allclose(seen, areas, atol=1e-14)


def test_batches_are_small_and_sorted(planned):
    _, _, plan = planned
    assert plan.batch_samples[0] == plan.batch_pairs[0] == 0
    assert plan.batch_samples[-1] == len(plan.corners) == len(plan.splines) == len(plan.own_weight)
    assert plan.batch_pairs[-1] == len(plan.pairs) == len(plan.pair_weight)
    for samples, pairs in batches_of(plan):
        count = samples.stop - samples.start
        assert 0 < count <= BATCH
        assert pairs.stop > pairs.start
        rows = plan.pairs[pairs]
        assert (np.diff(rows[:, 0]) >= 0).all()
        assert rows[:, 1:].min() >= 0
        assert rows[:, 1:].max() < count
        assert len(np.unique(rows[:, 1:])) == count  # no sample is interpolated for nothing


def test_an_orbit_larger_than_a_batch_is_cut():
    radius, operations = SETS["many planes"]
    plan = PolarPlan.of(radius, operations)
    assert len(plan.corners) > 1.5 * ring_sizes(radius, sectors_for(radius, operations)).sum()
    assert np.diff(plan.batch_samples).max() == BATCH


def test_splines_are_b_splines_within_reach(planned):
    _, _, plan = planned
    positions = sample_positions(plan)
    distance = positions[..., None] - plan.corners[..., None] - np.arange(4)
    np.testing.assert_allclose(plan.splines, naive.b_spline(distance), atol=1e-7)
    np.testing.assert_allclose(plan.splines.sum(-1), 1, atol=1e-14)
    # only the last pixel may count nothing, and then does so exactly: masks go by it
    assert (plan.splines[..., :3] > 0).all()
    assert plan.corners.min() >= -plan.reach
    assert plan.corners.max() + 3 <= plan.reach
    assert plan.reach in (-plan.corners.min(), plan.corners.max() + 3)


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        (Rotation(180.0), INVOLUTION),
        (Rotation(90.0), SAME_PATCH),
        (Rotation(60.0), SAME_PATCH),
        (Reflection(0.0), INVOLUTION),
        (Reflection(18.0), INVOLUTION),
        (Reflection(45.0), INVOLUTION),
        (GlideReflection(0.0, 3.0), OTHER_PATCH),
        (Rotation(17.3), OTHER_PATCH),
        (Reflection(11.37), OTHER_PATCH),
    ],
)
def test_kinds_of_operations(operation, kind):
    plan = PolarPlan.of(6, [operation])
    assert plan.kinds.tolist() == [kind]
    permuted = ring_sizes(6, sectors_for(6, [operation])).sum()
    assert (len(plan.corners) == permuted) == (kind != OTHER_PATCH)


@pytest.mark.parametrize(("radius", "sectors"), [(1, 4), (1, 60), (7, 12), (20, 20), (5, 360)])
def test_samples_are_the_naive_ones(radius, sectors):
    positions, areas = samples_of(radius, sectors)
    wanted, wanted_areas = naive.polar_samples(radius, sectors)
    np.testing.assert_allclose(positions, wanted, atol=1e-13)
    np.testing.assert_allclose(areas, wanted_areas, atol=1e-15)
    assert (ring_sizes(radius, sectors) % sectors == 0).all()
    assert len(positions) == ring_sizes(radius, sectors).sum()


def test_every_plan_has_whole_quarters():
    for operations in (TURNS, PLANES, GLIDES, [Rotation(17.0)], [Rotation(1 / 3)], []):
        assert sectors_for(6, operations) % 4 == 0
    assert sectors_for(20, TURNS) == 12
    assert sectors_for(20, PLANES) == 20


# --- spline coefficients on the GPU ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (2, 1), (3, 2), (1, 90), (90, 1), (5, 61), (33, 29), (70, 70)]
)
@pytest.mark.parametrize("level", [0, 500])
def test_gpu_splines_are_those_of_scipy(emulated, shape, level):
    image = (np.random.default_rng(0).normal(size=shape) + level).astype(np.float32)
    got = arrays.to_numpy(cuda._spline_coefficients(GPU.put(image)))
    assert got.dtype == np.float64
    for wanted in (
        ndimage.spline_filter(image.astype(np.float64), output=np.float64, mode="mirror"),
        naive.spline_coefficients(image),
    ):
        np.testing.assert_allclose(got, wanted, atol=4e-14 * (1 + level))


# --- scores ----------------------------------------------------------------------------------------------


@parity.examples(60)
@given(case=polar_parity.polar_cases())
def test_cpu_scores_are_the_naive_ones(case):
    check_polar(CPU, case)


@parity.examples(25)
@given(case=polar_parity.polar_cases(max_side=30))
def test_emulated_scores_are_the_naive_ones(emulated_cuda, case):
    emulated_cuda()
    check_polar(GPU, case)


@parity.examples(25)
@given(case=polar_parity.polar_cases(max_radius=4, least=(18, 38), max_side=40))
def test_emulated_scores_of_several_tiles_are_the_naive_ones(emulated_cuda, case):
    """Images of which a tile and what it reaches is the middle."""
    emulated_cuda()
    check_polar(GPU, case)


@pytest.mark.parametrize("name", CASES)
def test_corner_cases_on_the_cpu(name):
    check_polar(CPU, CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_corner_cases_in_the_emulator(emulated, name):
    check_polar(emulated, CASES[name])


@pytest.mark.parametrize("name", ["all kinds", "glides", "half masked", "faint beside bright", "many planes"])
def test_the_order_of_threads_changes_no_bit(emulated_cuda, name):
    found = set()
    for order in ORDERS.values():
        emulated_cuda(order=order)
        found.add(polar_parity.polar_scores(GPU, CASES[name]).tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("name", ["all kinds", "half masked", "faint beside bright"])
def test_the_same_call_gives_the_same_bits(backend, name):
    first, second = (polar_parity.polar_scores(backend, CASES[name]) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("name", ["turns", "glides", "samples of their own"])
def test_valid_everywhere_is_no_mask(backend, name):
    case = CASES[name]
    pixels, valid = backend.prepared(case)
    assert valid is None
    everywhere = backend.put(np.ones(case.image.shape, bool))
    got, wanted = (
        arrays.to_numpy(backend.engine.polar_scores(pixels, v, case.plan)) for v in (everywhere, None)
    )
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", CASES)
def test_the_engines_agree(emulated_cuda, name):
    emulated_cuda()
    case = CASES[name]
    got, wanted = (
        polar_parity.polar_scores(each, case)[:, :: case.every, :: case.every] for each in (GPU, CPU)
    )
    bound = np.maximum(TOLERANCE["score", "twins"], TOLERANCE["score", "polar level"] * case.wanted[1])
    assert_scores_close(got, wanted, bound)


def test_what_is_given_is_left_alone(backend):
    case = CASES["half masked"]
    pixels, valid = backend.prepared(case)
    before = arrays.to_numpy(pixels).tobytes(), arrays.to_numpy(valid).tobytes()
    backend.engine.polar_scores(pixels, valid, case.plan)
    assert (arrays.to_numpy(pixels).tobytes(), arrays.to_numpy(valid).tobytes()) == before


# --- how the work is cut up does not show ----------------------------------------------------------------

CUT_UP = ("all kinds", "half masked", "faint beside bright", "many tiles", "radius 1")


def states(monkeypatch, case):
    """How many tiles are done, masked and in need of care, after each kernel of the GPU."""
    seen, run = [], cuda._polar_pass

    def spy(function, dtype, n_sums, coefficients, plan, states, scores):
        run(function, dtype, n_sums, coefficients, plan, states, scores)
        seen.append((function, np.bincount(arrays.to_numpy(states), minlength=3).tolist()))

    with monkeypatch.context() as patch:
        patch.setattr(cuda, "_polar_pass", spy)
        polar_parity.polar_scores(GPU, case)
    assert [function for function, _ in seen] == list(KERNELS)
    return [counts for _, counts in seen]


def test_each_kernel_has_its_tiles(monkeypatch, emulated_cuda):
    """Else the others are not tested by what is called a corner case here."""
    emulated_cuda()
    found = {name: states(monkeypatch, CASES[name]) for name in CASES}
    first, second, _ = found["turns"]
    assert first[0] > 0  # tiles of which all is known
    assert first[1] > 0  # tiles at the border
    assert first[2] == second[2] == 0  # single precision does for noise
    assert found["faint beside bright"][0][2] > 0  # too faint
    assert found["a glide along a step"][0][2] > 0  # another level
    assert found["half masked"][1][0] > found["half masked"][0][0]
    assert found["radius 20"][0][0] > 0


def test_an_ordinary_picture_needs_no_double_precision(monkeypatch, emulated_cuda):
    emulated_cuda()
    row, col = np.mgrid[:64, :140]
    lattice = np.cos(2 * np.pi * row / 7.3) + np.cos(2 * np.pi * (0.4 * row + col) / 8.1)
    noisy = lattice + 0.5 * np.random.default_rng(0).normal(size=lattice.shape)
    case = polar_parity.by_hand(noisy, 8, [*TURNS, *PLANES, *GLIDES])
    assert states(monkeypatch, case)[-1][2] == 0


@pytest.mark.parametrize("name", CUT_UP)
def test_few_blocks_take_all_tiles(monkeypatch, emulated, name):
    monkeypatch.setattr(cuda, "SCRATCH_BYTES", 1)
    check_polar(emulated, CASES[name])


@pytest.mark.parametrize("name", CUT_UP)
def test_a_region_beside_shared_memory(monkeypatch, emulated, name):
    monkeypatch.setattr(cuda, "SHARED_BYTES", 0)
    check_polar(emulated, CASES[name])


def test_radius_20_fits_into_shared_memory(emulated_cuda, monkeypatch):
    """And a region that does not, does not stop anything."""
    cupy, fits = emulated_cuda(), []
    launch = cuda._launch

    def spy(name, function, options, grid, *args, shared=0):
        if function in KERNELS:
            assert shared <= cuda.SHARED_BYTES
            fits.append(args[15])
        launch(name, function, options, grid, *args, shared=shared)

    monkeypatch.setattr(cuda, "_launch", spy)
    for name, wanted in (("radius 20", 1), ("radius 20 beyond shared memory", 0)):
        polar_parity.polar_scores(GPU, CASES[name])
        assert fits[0] == wanted
        fits.clear()
    assert all(cupy.launches[kernel] == 2 for kernel in KERNELS)


@pytest.mark.parametrize("tile", [(1, 1), (5, 9), (1000, 7)])
@pytest.mark.parametrize("name", ["all kinds", "half masked", "faint beside bright", "many planes"])
def test_cpu_tiles(monkeypatch, name, tile):
    monkeypatch.setattr(polar_tiles, "POLAR_TILE", tile)
    monkeypatch.setattr(polar_tiles, "CAREFUL_TILE", tile)
    check_polar(CPU, CASES[name])


@pytest.mark.parametrize("threads", ["1", "3"])
def test_cpu_threads_change_no_bit(monkeypatch, threads):
    wanted = polar_parity.polar_scores(CPU, CASES["faint beside bright"])
    monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
    got = polar_parity.polar_scores(CPU, CASES["faint beside bright"])
    assert got.tobytes() == wanted.tobytes()


# --- pooling ---------------------------------------------------------------------------------------------


@parity.examples(100)
@given(case=polar_parity.pooling_cases())
def test_cpu_pooling_is_the_naive_one(case):
    check_pooling(CPU, *case)


@parity.examples(60)
@given(case=polar_parity.pooling_cases(max_side=20))
def test_emulated_pooling_is_the_naive_one(emulated_cuda, case):
    emulated_cuda()
    check_pooling(GPU, *case)


@pytest.mark.parametrize("name", POOLING)
def test_pooling_of_corner_cases_on_the_cpu(name):
    check_pooling(CPU, *POOLING[name])


@pytest.mark.parametrize("name", POOLING)
def test_pooling_of_corner_cases_in_the_emulator(emulated, name):
    check_pooling(emulated, *POOLING[name])


@pytest.mark.parametrize("columns", [1, 10, 47])
def test_cpu_pooling_of_strips(monkeypatch, columns):
    monkeypatch.setattr(cpu, "POOL_COLUMNS", columns)
    check_pooling(CPU, *POOLING["ties and holes"])


def test_pooling_reads_each_score_a_side_at_a_time(emulated_cuda):
    """The cost of a window is that of its sides: as many lists as sides are long, not as pixels."""
    cupy = emulated_cuda()
    scores = np.random.default_rng(0).normal(size=(1, 50, 60)).astype(np.float32)
    GPU.engine.pool(GPU.put(scores), Grid.full((50, 60), 3), (20, 20), 1)
    assert cupy.launches == {"pool_down": 1, "pool_across": 1}


# --- the whole descriptor --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "descriptor",
    [
        gpuseg.RotationalSymmetry(5, pooling_radius=4),
        gpuseg.ReflectionSymmetry(5, 4, pooling_radius=(2, 6), n_max=3),
        gpuseg.GlideReflectionSymmetry(5, 2, (3, 4.5), pooling_radius=3),
    ],
)
def test_descriptors_on_both_devices(emulated_cuda, descriptor):
    cupy = emulated_cuda()
    image = ndimage.gaussian_filter(np.random.default_rng(6).normal(size=(45, 90)), 1.5)
    image[20:24, 10:40] = np.nan
    got, wanted = (descriptor.transform(image, 3, device=device) for device in ("cuda", "cpu"))
    assert got.operations == wanted.operations
    np.testing.assert_array_equal(got.usable, wanted.usable)
    np.testing.assert_allclose(got.values, wanted.values, atol=TOLERANCE["score", "twins"])
    assert all(cupy.launches[kernel] for kernel in (*KERNELS, "pool_down", "pool_across"))


# --- under the sanitizers --------------------------------------------------------------------------------


def test_the_kernels_pass_the_sanitizers():
    scores = [
        "all kinds",
        "many planes",
        "hardly larger than a patch",
        "one row",
        "one column",
        "half masked",
        "faint beside bright",
        "a glide longer than the image",
    ]
    pooling = ["ties and holes", "the whole window", "beyond the image", "more than there are", "inside"]
    file = "tests/test_polar.py"
    run_tests_sanitized(
        *(f"{file}::test_corner_cases_in_the_emulator[shuffled-{name}]" for name in scores),
        *(f"{file}::test_pooling_of_corner_cases_in_the_emulator[forward-{name}]" for name in pooling),
        *(f"{file}::test_a_region_beside_shared_memory[forward-{name}]" for name in CUT_UP[:3]),
        f"{file}::test_few_blocks_take_all_tiles[reverse-many tiles]",
        f"{file}::test_gpu_splines_are_those_of_scipy[forward-0-shape3]",
        timeout=240,
    )


def test_the_cpu_kernels_stay_inside_their_arrays(tmp_path):
    """numba, told to check every index: what the sanitizers are to the CUDA kernels."""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/test_polar.py", "-k",
               "cases_on_the_cpu or test_cpu_tiles"]  # fmt: skip
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout[-6000:]
    assert " passed" in run.stdout
