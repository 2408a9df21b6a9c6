"""Images worked on in bands: the descriptors and labels of the whole, in bounded memory."""

import dataclasses
import logging
import re
import subprocess
import sys
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpuseg
from gpuseg import (
    Fusion,
    GlideReflectionSymmetry,
    Histogram,
    LocalCorrelationMap,
    Patches,
    PowerSpectrum,
    PreselectedTranslations,
    ReflectionSymmetry,
    RotationalSymmetry,
    synthetic,
)
from gpuseg.arrays import Device, free_memory, is_out_of_memory
from gpuseg.checks import check_memory
from gpuseg.decomposition import PCA
from gpuseg.engines import cpu, cuda
from gpuseg.large import BandedDescriptors, MemoryPlan, describe_image, plan_memory, within_memory
from gpuseg.separability import separability, separability_of_parts
from tests.emulator.device_array import MEMORY
from tests.strategies import build_image, build_mask

CPU = Device("cpu")
DESCRIPTORS = {
    "direct": LocalCorrelationMap(3, 4, 25, method="direct"),
    "fft": LocalCorrelationMap(3, (5, 3), 30, method="fft"),
    "box": LocalCorrelationMap(3, 4, 81, method="box"),
    "one way": PreselectedTranslations([(3, 1), (-4, 2), (0, 5), (0, -5)], (4, 2)),
    "rotation": RotationalSymmetry(4, pooling_radius=3, n_max=2),
    "reflection": ReflectionSymmetry(5, 3, pooling_radius=(4, 0)),
    "spectrum": PowerSpectrum(3),
    "patches": Patches((2, 4)),
    "histogram": Histogram(4, n_bins=4),
    "fused": Fusion((LocalCorrelationMap(2, 3, 25), PowerSpectrum(3)), (0.5, 2.0)),
}


def in_bands(descriptor, image, mask, stride, rows):
    grid = descriptor.grid(image.shape, stride)
    plan = MemoryPlan(grid, rows, 0, 0)
    found = describe_image(descriptor, image, stride, mask, CPU, plan)
    if plan.n_bands == 1:
        return found.values
    assert isinstance(found, BandedDescriptors)
    bands = list(found.bands())
    assert [band.grid.shape[0] for band in bands[:-1]] == [rows] * (len(bands) - 1)
    np.testing.assert_array_equal(np.concatenate([band.usable for band in bands]), found.usable)
    return np.concatenate([band.values for band in bands], axis=1)


def valid_of(descriptor):
    parts = getattr(descriptor, "descriptors", None)
    if parts:
        return Fusion(tuple(valid_of(each) for each in parts[:1]), descriptor.weights[:1])
    return type(descriptor)(**{**vars(descriptor), "border": "valid"})


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(list(DESCRIPTORS)),
    border=st.sampled_from(["full", "valid"]),
    kind=st.sampled_from(["noise", "lattice", "flat areas"]),
    hidden=st.sampled_from(["none", "half plane", "disc", "scattered"]),
    hole=st.sampled_from(["none", "nan row", "scattered nan"]),
    shape=st.tuples(st.integers(28, 48), st.integers(28, 48)),
    stride=st.integers(1, 5),
    rows=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_bands_hold_what_the_whole_holds(name, border, kind, hidden, hole, shape, stride, rows, seed):
    descriptor = DESCRIPTORS[name] if border == "full" else valid_of(DESCRIPTORS[name])
    image = build_image(kind, shape, "float32", hole=hole, seed=seed)
    mask = build_mask(hidden, shape, seed)
    try:
        whole = descriptor.transform(image, stride, mask, device="cpu").values
    except ValueError:  # constant, or nothing left
        return
    got = in_bands(descriptor, image, mask, stride, rows)
    if name in ("direct", "fft"):  # every score for itself: not a bit may differ
        np.testing.assert_array_equal(got, whole)
    else:  # sums are taken about the mean of another tile
        np.testing.assert_allclose(got, whole, rtol=1e-4, atol=2e-5)


def test_the_nearest_score_may_lie_bands_away():
    image = build_image("lattice", (60, 40), "float32", seed=3)
    mask = np.ones(image.shape, bool)
    mask[10:50, 5:] = np.indices((40, 35)).sum(0) % 3 == 0  # a third is used: nothing is scored in there
    descriptor = DESCRIPTORS["direct"]
    whole = descriptor.transform(image, 2, mask, device="cpu").values
    np.testing.assert_array_equal(in_bands(descriptor, image, mask, 2, 1), whole)
    assert np.isnan(whole).any()


# --- labels ------------------------------------------------------------------------------------------------

PICTURE = synthetic.bicrystal((120, 130), period=9, misorientation=18, counts=4, random_state=0)
HOLED = PICTURE.image.astype(np.float32)
HOLED[40:52, 30:60] = np.nan


def budget_for(descriptor, shape, stride, bands):
    """A budget that asks for about so many bands."""
    whole = plan_memory(descriptor, shape, stride, 5, "1TB", "cpu")
    assert whole.n_bands == 1
    low, high = 1, whole.expected
    while high - low > 1:
        middle = (low + high) // 2
        try:
            enough = plan_memory(descriptor, shape, stride, 5, middle, "cpu").n_bands <= bands
        except ValueError:
            enough = False
        low, high = (low, middle) if enough else (middle, high)
    return high


@pytest.mark.parametrize("name", ["box", "rotation", "spectrum"])
@pytest.mark.parametrize("border", ["full", "valid"])
@pytest.mark.parametrize("masked", [False, True])
def test_labels_do_not_depend_on_the_bands(name, border, masked):
    descriptor = DESCRIPTORS[name] if border == "full" else valid_of(DESCRIPTORS[name])
    image = HOLED if masked else PICTURE.image
    options = {"descriptor": descriptor, "stride": 3, "random_state": 0, "device": "cpu"}
    whole = gpuseg.segment(image, 2, **options)
    for bands in (2, 5, 10):
        budget = budget_for(descriptor, image.shape, 3, bands)
        found = gpuseg.segment(image, 2, max_memory=budget, **options)
        assert isinstance(found.descriptors, BandedDescriptors)
        assert len(list(found.descriptors.bands())) in (bands, bands - 1)
        np.testing.assert_array_equal(found.labels, whole.labels)
        np.testing.assert_allclose(found.components, whole.components, atol=1e-3)
        np.testing.assert_allclose(found.certainty, whole.certainty, atol=2e-3)
        np.testing.assert_allclose(found.separability, whole.separability, rtol=1e-3)
        assert found.misfit == pytest.approx(whole.misfit, rel=1e-3)
        assert found.model.typical_misfit == pytest.approx(whole.model.typical_misfit, rel=1e-3)
        again = found.model.predict(image, device="cpu", max_memory=budget)
        assert isinstance(again.descriptors, BandedDescriptors)
        np.testing.assert_array_equal(again.labels, whole.labels)


def test_what_is_learnt_for_fusion_and_glides_is_that_of_the_whole():
    fused = [
        LocalCorrelationMap(4, 5, 25),
        Histogram(4, 4),
        GlideReflectionSymmetry(8, n_planes=4, pooling_radius=4),
    ]
    options = {"descriptor": fused, "stride": 3, "random_state": 0, "device": "cpu"}
    whole = gpuseg.segment(HOLED, 2, **options)
    budget = budget_for(whole.model.descriptor, HOLED.shape, 3, 4)
    found = gpuseg.segment(HOLED, 2, max_memory=budget, **options)
    assert isinstance(found.descriptors, BandedDescriptors)
    np.testing.assert_allclose(found.model.descriptor.weights, whole.model.descriptor.weights, rtol=1e-4)
    assert found.operations == whole.operations
    np.testing.assert_array_equal(found.labels, whole.labels)


def test_the_number_of_patterns_may_be_found_in_bands():
    descriptor = DESCRIPTORS["box"]
    budget = budget_for(descriptor, PICTURE.image.shape, 2, 6)
    options = {"descriptor": descriptor, "stride": 2, "random_state": 0, "device": "cpu"}
    found = gpuseg.segment(PICTURE.image, "auto", max_memory=budget, **options)
    whole = gpuseg.segment(PICTURE.image, "auto", **options)
    assert isinstance(found.descriptors, BandedDescriptors)
    assert found.n_patterns == whole.n_patterns
    np.testing.assert_array_equal(found.labels, whole.labels)


def test_the_estimator_and_files_know_of_it(tmp_path):
    budget = budget_for(DESCRIPTORS["box"], PICTURE.image.shape, 3, 4)
    segmenter = gpuseg.Segmenter(
        descriptor=DESCRIPTORS["box"], stride=3, random_state=0, device="cpu", max_memory=budget
    )
    found = segmenter.fit(PICTURE.image).segmentation_
    assert isinstance(found.descriptors, BandedDescriptors)
    assert isinstance(segmenter.predict(PICTURE.image).descriptors, BandedDescriptors)
    found.save(tmp_path / "out")
    assert (tmp_path / "out" / "labels.tif").exists()


def test_what_is_not_in_memory_is_told():
    budget = budget_for(DESCRIPTORS["box"], PICTURE.image.shape, 3, 4)
    found = gpuseg.segment(
        PICTURE.image, descriptor=DESCRIPTORS["box"], stride=3, device="cpu", max_memory=budget
    )
    for read in (lambda d: d.values, lambda d: d.maps, lambda d: d.samples()):
        with pytest.raises(
            ValueError, match=r"descriptors would take .* in bands of \d+ rows; take them .*`max_memory`"
        ):
            read(found.descriptors)
    with pytest.raises(ValueError, match="bands"):
        found.select(5)


# --- the plan ----------------------------------------------------------------------------------------------


def test_the_plan_keeps_to_the_budget():
    descriptor = LocalCorrelationMap(window_radius=24, max_num_points=289)
    for size in ("1600MB", "2GB", "5GB"):
        plan = plan_memory(descriptor, (4096, 4096), 1, 5, size, "cpu")
        assert plan.expected <= plan.budget == check_memory(size)
        assert plan.n_bands > 1
        assert plan.rows * plan.n_bands - 4096 < plan.n_bands  # bands of nearly equal height
        assert re.match(rf"about .* of .*, in {plan.n_bands} bands of {plan.rows} rows", str(plan))
    assert "the whole image at once" in str(plan_memory(descriptor, (300, 300), 5, 5, "1GB", "cpu"))
    larger = plan_memory(dataclasses.replace(descriptor, max_num_points=49), (4096, 4096), 1, 5, "2GB", "cpu")
    assert larger.rows > plan_memory(descriptor, (4096, 4096), 1, 5, "2GB", "cpu").rows


PEAK = """
import numpy as np, gpuseg

def memory(name):
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith(name)).split()[1]) * 1024

image = np.random.default_rng(0).normal(size=(600, 600)).astype(np.float32)
image[300, 300] = np.nan
options = {"descriptor": gpuseg.LocalCorrelationMap(6, 8, 289), "stride": 1, "random_state": 0, "device": "cpu"}
for part in (image[:70, :70], image[280:350, 280:350]):  # what is loaded and compiled once
    gpuseg.segment(part, **options)
with open("/proc/self/clear_refs", "w") as file:  # loading took more for a moment: forget it
    file.write("5")
before = memory("VmRSS")
found = gpuseg.segment(image, max_memory="60MB", **options)
assert found.descriptors.rows < 250
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is told by /proc")
def test_the_memory_that_is_really_taken():
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    whole = 4 * 289 * 600 * 600  # bytes of the scores alone
    assert int(done.stdout) < (60 + 50) * 2**20 < 0.5 * whole  # the tiles of each core come on top


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (
            "1MB",
            ValueError,
            "`max_memory` is 1 MB; at least .* MB are needed for an image of 300 x 300 pixels",
        ),
        ("much", ValueError, "`max_memory` is 'much'; bytes or a text such as '128MB' or '2GB' is needed"),
        (1.5, TypeError, "`max_memory` is 1.5"),
        (0, ValueError, "`max_memory` is 0"),
    ],
)
def test_sizes_that_make_no_sense(value, error, message):
    with pytest.raises(error, match=message):
        gpuseg.segment(np.random.default_rng(0).normal(size=(300, 300)), device="cpu", max_memory=value)


def test_what_cannot_be_cut_into_bands_is_told():
    class Means:
        def operations(self):
            return (gpuseg.Feature("mean"),) * 4000

        def grid(self, image_shape, stride):
            return LocalCorrelationMap(1, 1, 1).grid(image_shape, stride)

        def transform(self, image, stride=5, mask=None, device="auto"):
            raise AssertionError("there is no memory for that")

    with pytest.raises(TypeError, match="Means cannot be worked on in bands, for want of a method `scorer`"):
        gpuseg.segment(PICTURE.image, descriptor=Means(), stride=1, device="cpu", max_memory="20MB")


def test_free_memory_and_its_absence(monkeypatch):
    assert 2**20 < free_memory(Device("cpu")) < 2**50
    monkeypatch.setattr("gpuseg.large.free_memory", lambda device: 2 * 10**6)
    found = gpuseg.segment(
        PICTURE.image, descriptor=DESCRIPTORS["box"], stride=3, device="cpu", random_state=0
    )
    assert isinstance(found.descriptors, BandedDescriptors)  # half of it is used
    monkeypatch.setattr("gpuseg.large.free_memory", lambda device: 0)
    found = gpuseg.segment(
        PICTURE.image, descriptor=DESCRIPTORS["box"], stride=3, device="cpu", random_state=0
    )
    assert found.descriptors.rows == 1  # nobody asked for a limit: it is tried


# --- out of memory -----------------------------------------------------------------------------------------


class OutOfMemoryError(MemoryError):
    """CuPy's is one of these too."""


def test_a_gpu_out_of_memory_gets_smaller_bands(emulated_cuda, monkeypatch, caplog):
    cupy = emulated_cuda()
    scores, asked = cuda.translation_scores, []

    def limited(pixels, valid, grid, *rest):
        asked.append(grid.shape[0])
        if grid.shape[0] > 8:
            raise OutOfMemoryError("Out of memory allocating 42 bytes")
        return scores(pixels, valid, grid, *rest)

    image = PICTURE.image[:60, :66]
    descriptor = LocalCorrelationMap(4, 4, 25)
    whole = gpuseg.segment(image, descriptor=descriptor, stride=2, random_state=0, device="cpu")
    monkeypatch.setattr(cuda, "translation_scores", limited)
    with caplog.at_level(logging.WARNING, "gpuseg"):
        found = gpuseg.segment(cupy.asarray(image), descriptor=descriptor, stride=2, random_state=0)
    assert asked[:3] == [30, 15, 8]
    assert isinstance(found.descriptors, BandedDescriptors)
    assert "out of memory: again in 2 bands of 15 rows" in caplog.text
    np.testing.assert_array_equal(cupy.asnumpy(found.labels), whole.labels)
    values = np.concatenate([cupy.asnumpy(band.values) for band in found.descriptors.bands()], axis=1)
    np.testing.assert_allclose(values, whole.descriptors.values, atol=4e-6)


SMALL = PICTURE.image[:60, :66]


def segment_small(name, device="cuda", **more):
    return gpuseg.segment(
        SMALL, descriptor=DESCRIPTORS[name], stride=2, random_state=0, device=device, max_memory="1TB", **more
    )


@pytest.mark.parametrize("name", ["box", "rotation", "spectrum", "patches", "fused"])
@pytest.mark.parametrize("share", [0.6, 0.45])
def test_a_smaller_gpu_does_the_same(emulated_cuda, name, share):
    """Every allocation may fail, that of working memory included, and none of a failed try stays behind."""
    emulated_cuda(memory=1 << 40, refuse=True)
    whole, most = segment_small(name), MEMORY.most
    model = whole.model
    cupy = emulated_cuda(memory=int(share * most), refuse=True)
    found = segment_small(name)
    np.testing.assert_array_equal(found.labels, whole.labels)
    assert MEMORY.most <= share * most
    if name != "rotation":  # which takes less working memory first
        assert isinstance(found.descriptors, BandedDescriptors)
        assert cupy.pool_was_emptied >= 1
    del found
    again = model.predict(SMALL, device="cuda", max_memory="1TB")
    np.testing.assert_array_equal(again.labels, whole.labels)


@pytest.mark.parametrize("name", ["box", "rotation", "spectrum", "patches", "fused"])
def test_a_gpu_too_small_says_so(emulated_cuda, name):
    emulated_cuda(memory=1 << 40, refuse=True)
    model = segment_small(name).model
    wanted = (
        r"not even one row of grid points at a time fits, for which about \d+ [KM]B are needed, into the memory "
        r"of cuda:0, of which \d+ KB are free \(Out of memory allocating [\d,]+ bytes .*\); use a larger "
        r"`stride`, fewer operations, a part of the image, or device='cpu'"
    )
    for memory in (100_000, 1):
        emulated_cuda(memory=memory, refuse=True)
        for call in (
            lambda: segment_small(name),
            lambda: model.predict(SMALL, device="cuda", max_memory="1TB"),
        ):
            with pytest.raises(MemoryError, match=wanted):
                call()


def test_what_comes_before_the_bands_says_so_too(emulated_cuda):
    for descriptor, wanted in (
        (LocalCorrelationMap("auto", "auto"), "looking for the lattice period does not fit into the memory"),
        (GlideReflectionSymmetry(8, n_planes=4), "looking for what to score does not fit into the memory"),
    ):
        image = emulated_cuda(memory=1 << 20, refuse=True).asarray(PICTURE.image)
        MEMORY.size = MEMORY.used + 20_000
        with pytest.raises(MemoryError, match=rf"{wanted} of cuda:0.*device='cpu'"):
            gpuseg.segment(image, descriptor=descriptor)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bands", [1, 4])
@pytest.mark.parametrize(("stride", "points"), [(20, 9), (2, 25)])
def test_the_plan_of_a_gpu_is_kept_to(emulated_cuda, masked, bands, stride, points):
    image = build_image("noise", (90, 90), "float32", seed=1)
    image[:30, :40] = np.nan if masked else image[:30, :40]
    descriptor = LocalCorrelationMap(3, 2, points)
    emulated_cuda(memory=1 << 40, refuse=True)
    budget = "1TB"
    if bands > 1:
        whole = plan_memory(descriptor, image.shape, stride, 5, "1TB", "cuda")
        budget = whole.least + (whole.expected - whole.least) // bands
    plan = plan_memory(descriptor, image.shape, stride, 5, budget, "cuda")
    found = gpuseg.segment(
        image, descriptor=descriptor, stride=stride, random_state=0, device="cuda", max_memory=budget
    )
    assert (plan.n_bands > 1) == isinstance(found.descriptors, BandedDescriptors) == (bands > 1)
    assert 0.3 * plan.expected < MEMORY.most <= plan.expected


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_nothing_of_a_failed_try_stays(emulated_cuda, monkeypatch, where):
    emulated_cuda()
    engine, kept = {"cpu": cpu, "cuda": cuda}[where], []
    scores = engine.translation_scores

    class Probe:
        pass

    def failing(pixels, valid, grid, *rest):
        assert not any(probe() is not None for probe in kept), "an array of the last try is still there"
        if grid.shape[0] > 8:
            probe = Probe()  # a local of the frame that fails, as its arrays are
            kept.append(weakref.ref(probe))
            raise OutOfMemoryError("Out of memory allocating 42 bytes")
        return scores(pixels, valid, grid, *rest)

    monkeypatch.setattr(engine, "translation_scores", failing)
    segment_small("box", where)
    assert len(kept) >= 2


def test_out_of_memory_for_good_is_told(monkeypatch):
    def never(*_):
        raise MemoryError("42 bytes")

    monkeypatch.setattr(cpu, "translation_scores", never)
    with pytest.raises(
        MemoryError, match=r"not even one row .*\(42 bytes\); use a larger `stride`"
    ) as caught:
        gpuseg.segment(PICTURE.image, descriptor=DESCRIPTORS["box"], device="cpu")
    assert "device='cpu'" not in str(caught.value)


def test_other_errors_pass():
    def wrong(plan):
        raise KeyError("something else")

    with pytest.raises(KeyError, match="something else"):
        within_memory(wrong, None)
    assert not is_out_of_memory(ValueError("x"))


# --- sums over parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 300])
def test_components_of_parts_are_those_of_the_whole(device_space, level):
    rng = np.random.default_rng(0)
    samples = (rng.normal(size=(700, 9)) * np.arange(1, 10) + level).astype(np.float32)
    samples[300:] += 3
    parts = [device_space(part) for part in np.split(samples, [0, 1, 40, 300])]
    one, other = PCA(3).fit(device_space(samples)), PCA(3).fit_parts(iter(parts))
    for name in ("mean_", "components_", "explained_variance_", "explained_variance_ratio_"):
        wanted, got = (device_space.numpy(getattr(pca, name)) for pca in (one, other))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    assert PCA(0.6).fit_parts(iter(parts)).n_components_ == PCA(0.6).fit(device_space(samples)).n_components_


def test_separability_of_parts_is_that_of_the_whole(space):
    rng = np.random.default_rng(1)
    values, labels = rng.normal(size=(4, 200)).astype(np.float32), rng.integers(-1, 3, 200).astype(np.int32)
    values += np.array([[0], [1], [2], [10]], np.float32) * labels
    labels[:20] = -1
    parts = [
        (space(values[:, a:b]), space(labels[a:b])) for a, b in [(0, 20), (20, 21), (21, 120), (120, 200)]
    ]
    got = space.numpy(separability_of_parts(parts, 3))
    np.testing.assert_allclose(got, space.numpy(separability(space(values), space(labels), 3)), rtol=1e-3)
