"""Labellers: the labels of `predict` for frames of one shape, on the CPU and as a graph on the emulated GPU."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpuseg
from gpuseg import LocalCorrelationMap, PreselectedTranslations, arrays, synthetic
from gpuseg.descriptors.base import DeadImageError
from gpuseg.engines import _cuda_predict
from gpuseg.labeller import Labeller
from tests import parity
from tests.emulator import run_tests_sanitized
from tests.tolerances import TOLERANCE

SHAPE = (150, 140)
MAP = LocalCorrelationMap(8, 8, 60)
AGREEMENT = TOLERANCE["labels", "agreement"]
NARROW = np.hypot(*(np.mgrid[:150, :140] - np.array([70, 75])[:, None, None])) < 66


def frame(seed=0, **options):
    return synthetic.bicrystal(SHAPE, period=8, counts=20, random_state=seed, **options).image


FRAMES = [frame(seed).astype(np.uint16) for seed in range(5)]


@pytest.fixture(scope="module")
def model():
    return gpuseg.segment(FRAMES[0], 3, descriptor=MAP, random_state=0, device="cpu").model


@pytest.fixture(scope="module")
def wanted(model):
    return [model.predict(each, device="cpu").labels for each in FRAMES]


@pytest.fixture(params=["cpu", "emulated"])
def device(request, emulated_cuda):
    if request.param == "cpu":
        return "cpu"
    emulated_cuda()
    return "cuda"


def assert_agree(got, wanted):
    """Equal but for points between two patterns."""
    got = arrays.to_numpy(got)
    assert got.dtype == np.int32
    assert got.shape == wanted.shape
    np.testing.assert_array_equal(got == -1, wanted == -1)
    assert (got == wanted).mean() >= AGREEMENT


def drain(stream, found):
    """Everything that comes, also if an error comes last."""
    for each in stream:
        found.append(each)


# --- the labels of predict -------------------------------------------------------------------------------

MODELS = {
    "window": {"descriptor": MAP},
    "valid border": {"descriptor": LocalCorrelationMap(8, 8, 60, border="valid")},
    "direct": {"descriptor": LocalCorrelationMap(4, 6, 9, method="direct"), "stride": 9},
    "few of them": {
        "descriptor": PreselectedTranslations([(3, 4), (0, 0), (-8, 2), (8, -2), (5, 5)], (6, 7))
    },
    "stride 1": {"descriptor": PreselectedTranslations([(8, 0), (-8, 0), (0, 8)], 5), "stride": 1},
    "stride beyond the patch": {"descriptor": LocalCorrelationMap(2, 8, 40), "stride": 7},
    "grid points": {"descriptor": MAP, "upsampling": False},
    "many components": {"descriptor": MAP, "n_components": 30, "n_patterns": 6},
    "one pattern": {"descriptor": MAP, "n_patterns": 1},
    "one component": {"descriptor": MAP, "n_components": 1},
}


@pytest.mark.parametrize("mask", [None, NARROW], ids=["all", "masked"])
@pytest.mark.parametrize("name", MODELS)
def test_labels_are_those_of_predict(device, name, mask):
    options = {"n_patterns": 2, **MODELS[name]}
    image = FRAMES[1]
    model = gpuseg.segment(image, random_state=0, device="cpu", mask=mask, **options).model
    label = model.labeller(SHAPE, mask, device)
    assert label.fused
    alone = model.predict(FRAMES[2], mask, device="cpu")
    for _ in range(2):  # the first of a dtype, and one more
        labels, certainty = label(FRAMES[2], certainty=True)
        assert_agree(labels, alone.labels)
        found = label.frame(FRAMES[2])
        assert_agree(found.point_labels, alone.point_labels)
        for got, want in ((certainty, alone.certainty), (found.point_certainty, alone.point_certainty)):
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, want, atol=TOLERANCE["labels", "certainty"])
        assert found.misfit == pytest.approx(alone.misfit, rel=1e-4, abs=1e-7)
        if device == "cpu":
            np.testing.assert_array_equal(labels, alone.labels)
            np.testing.assert_array_equal(certainty, alone.certainty)


@pytest.mark.parametrize(
    "descriptor",
    [
        gpuseg.PowerSpectrum(8),
        gpuseg.RotationalSymmetry(6, pooling_radius=5),
        [LocalCorrelationMap(6, 8, 30), gpuseg.Histogram(8)],
    ],
    ids=["power spectrum", "rotation", "fused"],
)
def test_other_descriptors_go_stage_by_stage(descriptor):
    made = gpuseg.segment(FRAMES[0], 2, descriptor=descriptor, stride=9, random_state=0, device="cpu")
    label = made.model.labeller(SHAPE, device="cpu")
    assert not label.fused
    assert "stage by stage" in repr(label)
    alone = made.model.predict(FRAMES[1], device="cpu")
    found = label.frame(FRAMES[1])
    np.testing.assert_array_equal(found.labels, alone.labels)
    np.testing.assert_array_equal(found.certainty, alone.certainty)
    assert found.misfit == alone.misfit
    np.testing.assert_array_equal(label(FRAMES[1]), alone.labels)


def test_a_selected_model(device):
    made = gpuseg.segment(
        FRAMES[0], 2, descriptor=LocalCorrelationMap(8, 8, 289), random_state=0, device="cpu"
    )
    model = made.select(20)
    label = model.labeller(SHAPE, device=device)
    assert label.fused
    assert_agree(label(FRAMES[1]), model.predict(FRAMES[1], device="cpu").labels)


@pytest.mark.parametrize(
    "dtype", ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">f4", ">u2", ">f8"]
)
def test_every_dtype(device, model, dtype):
    image = np.round(FRAMES[1] / FRAMES[1].max() * 100)
    image = (image > np.median(image)) if dtype == "?" else image.astype(dtype)
    label = model.labeller(SHAPE, device=device)
    assert_agree(label(image), model.predict(image, device="cpu").labels)


@pytest.mark.parametrize("layout", parity.strategies.LAYOUTS)
def test_every_layout(device, model, layout, wanted):
    label = model.labeller(SHAPE, device=device)
    assert_agree(label(parity.strategies.lay_out(FRAMES[1], layout)), wanted[1])


@parity.examples(12)
@given(
    shape=st.tuples(st.integers(17, 60), st.integers(17, 60)),
    stride=st.integers(1, 9),
    step=st.integers(1, 4),
    n_components=st.integers(1, 6),
    border=st.sampled_from(["full", "valid"]),
    seed=st.integers(0, 99),
)
def test_any_shape(device, shape, stride, step, n_components, border, seed):
    image = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    shifts = [(step * m, step * n) for m in (-1, 0, 1) for n in (-1, 0, 1)][seed % 3 :]
    descriptor = PreselectedTranslations(shifts, (4, 3), border=border)
    options = {"stride": stride, "n_components": n_components, "random_state": 0, "device": "cpu"}
    model = gpuseg.segment(image, 1, descriptor=descriptor, **options).model
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(3, len(model.components)), scale=0.2).astype(np.float32)
    model = gpuseg.SegmentationModel(**{**vars(model), "cluster_centers": centers})
    label = model.labeller(shape, device=device)
    alone = model.predict(image, device="cpu")
    found = label.frame(image)
    unsure = alone.certainty < 1e-3
    assert ((found.labels == alone.labels) | unsure).all()
    np.testing.assert_allclose(found.certainty, alone.certainty, atol=TOLERANCE["labels", "certainty"])


def test_a_faint_contrast_on_a_large_level(device, model):
    lattice = np.round(30000 + 20 * (FRAMES[1] / FRAMES[1].mean() - 1)).astype(np.uint16)
    label = model.labeller(SHAPE, device=device)
    assert_agree(label(lattice), model.predict(lattice, device="cpu").labels)
    huge = lattice * 1e300
    assert_agree(label(huge), label(lattice))


# --- frames that cannot be labelled, or not in one pass --------------------------------------------------


@pytest.mark.parametrize("fill", [np.nan, np.inf])
def test_pixels_that_are_not_finite(device, model, fill):
    image = frame(1).astype(np.float32)
    image[60:75, 20:110] = fill
    label = model.labeller(SHAPE, device=device)
    alone = model.predict(image, device="cpu")
    found = label.frame(image)
    assert_agree(found.labels, alone.labels)
    np.testing.assert_allclose(found.certainty, alone.certainty, atol=TOLERANCE["labels", "certainty"])
    assert found.misfit == pytest.approx(alone.misfit, rel=1e-4)
    assert_agree(
        label(np.nan_to_num(image, posinf=0)),
        model.predict(np.nan_to_num(image, posinf=0), device="cpu").labels,
    )


def test_masked_pixels_need_not_be_finite(device, model):
    image = frame(1).astype(np.float32)
    image[~NARROW] = np.nan
    label = model.labeller(SHAPE, NARROW, device)
    assert_agree(label(image), model.predict(FRAMES[1], NARROW, device="cpu").labels)


def test_dead_frames(device, model):
    label = model.labeller(SHAPE, device=device)
    for dead, message in (
        (np.full(SHAPE, 7), "is constant"),
        (np.full(SHAPE, np.nan), "has no finite pixel"),
    ):
        with pytest.raises(DeadImageError, match=message):
            label(dead)
    assert (label(FRAMES[1]) >= 0).all()


def test_a_frame_of_another_shape(device, model):
    label = model.labeller(SHAPE, device=device)
    with pytest.raises(
        ValueError, match=r"`frame` has shape \(140, 150\); this labeller is for frames of shape \(150, 140\)"
    ):
        label(FRAMES[0].T)
    with pytest.raises(ValueError, match="two axes"):
        label(FRAMES[0][None])
    with pytest.raises(TypeError, match="real numbers"):
        label(FRAMES[0].astype(complex))


def test_arguments_that_make_no_sense(model):
    for shape, error in ((5, TypeError), ((1, 2, 3), TypeError), ((0, 5), ValueError), ((1.5, 2), TypeError)):
        with pytest.raises(error, match="`image_shape` is"):
            model.labeller(shape, device="cpu")
    with pytest.raises(ValueError, match="`mask` has shape"):
        model.labeller(SHAPE, NARROW[1:], device="cpu")
    with pytest.raises(ValueError, match="16 rows; a patch"):
        model.labeller((16, 100), device="cpu")
    with pytest.raises(ValueError, match="`device` is"):
        model.labeller(SHAPE, device="gpu")
    spectra = gpuseg.segment(FRAMES[0], 1, descriptor="power-spectrum", stride=20, device="cpu").model
    with pytest.raises(ValueError, match="20 rows; a window"):
        spectra.labeller((20, 100), device="cpu")


def test_a_mask_too_narrow_for_any_score(device, model):
    mask = np.zeros(SHAPE, bool)
    mask[70:73] = True
    label = model.labeller(SHAPE, mask, device)
    assert not label.fused
    with pytest.raises(DeadImageError, match="no grid point"):
        label(FRAMES[0])


def test_frames_too_large_for_memory_go_in_bands(monkeypatch, model, wanted):
    monkeypatch.setattr("gpuseg.large.free_memory", lambda device: 900_000)
    label = model.labeller(SHAPE, device="cpu")
    assert not label.fused
    assert_agree(label(FRAMES[1]), wanted[1])


# --- streams of frames -----------------------------------------------------------------------------------


@pytest.mark.parametrize("certainty", [False, True])
def test_a_stream_gives_the_labels_in_order(device, model, wanted, certainty):
    label = model.labeller(SHAPE, device=device)
    found = list(label.stream(iter(FRAMES), certainty))
    assert len(found) == len(FRAMES)
    for each, want in zip(found, wanted, strict=True):
        assert_agree(each[0] if certainty else each, want)
    assert list(label.stream([])) == []


def test_a_camera_may_use_its_memory_again(device, model, wanted):
    memory = np.empty_like(FRAMES[0])

    def camera():
        for each in FRAMES:
            memory[...] = each
            yield memory
            memory[...] = 0

    label = model.labeller(SHAPE, device=device)
    for got, want in zip(label.stream(camera()), wanted, strict=True):
        assert_agree(got, want)


def test_labels_are_the_users_own(device, model, wanted):
    label = model.labeller(SHAPE, device=device)
    first = label(FRAMES[0])
    first_of_stream = next(stream := label.stream(FRAMES))
    list(stream)
    label(FRAMES[3])
    assert_agree(first, wanted[0])
    assert_agree(first_of_stream, wanted[0])
    first[...] = 7
    assert_agree(label(FRAMES[0]), wanted[0])


def test_dead_frames_of_a_stream(device, model, wanted):
    frames = [FRAMES[0], np.zeros(SHAPE, np.uint16), np.full(SHAPE, np.nan), FRAMES[1]]
    found = list(model.labeller(SHAPE, device=device).stream(frames, certainty=True))
    assert_agree(found[0][0], wanted[0])
    assert_agree(found[3][0], wanted[1])
    for labels, certainty in found[1:3]:
        assert (labels == -1).all()
        assert (certainty == 0).all()
        assert labels.dtype == np.int32


@pytest.mark.parametrize("broken", ["shape", "source"])
def test_a_stream_that_breaks_off_gives_the_frames_before(device, model, wanted, broken):
    def source():
        yield from FRAMES[:3]
        if broken == "source":
            raise OSError("the cable was pulled")
        yield FRAMES[3][1:]

    found, stream = [], model.labeller(SHAPE, device=device).stream(source())
    with pytest.raises((OSError, ValueError), match="the cable was pulled|has shape"):
        drain(stream, found)
    assert len(found) == 3
    for got, want in zip(found, wanted, strict=False):
        assert_agree(got, want)


def test_streams_beside_each_other(device, model, wanted):
    label = model.labeller(SHAPE, device=device)
    one, other = label.stream(FRAMES), label.stream(FRAMES[::-1])
    for k, (a, b) in enumerate(zip(one, other, strict=True)):
        assert_agree(a, wanted[k])
        assert_agree(b, wanted[-1 - k])
        assert_agree(label(FRAMES[2]), wanted[2])


def test_a_stream_that_nobody_follows_to_its_end(device, model, wanted):
    label = model.labeller(SHAPE, device=device)
    for _ in range(3):
        stream = label.stream(FRAMES)
        assert_agree(next(stream), wanted[0])
        stream.close()
    for got, want in zip(label.stream(FRAMES), wanted, strict=True):
        assert_agree(got, want)
    assert len(label._free) <= 2


# --- on a GPU --------------------------------------------------------------------------------------------


def test_frames_on_the_gpu_stay_there(emulated_cuda, model, wanted):
    cupy = emulated_cuda()
    frames = [cupy.asarray(each) for each in FRAMES]
    for device in ("auto", "cuda"):
        label = model.labeller(SHAPE, device=device)
        assert str(label.device) == "cuda:0"
        for got, want in zip(label.stream(frames, certainty=True), wanted, strict=True):
            assert all(isinstance(each, cupy.ndarray) for each in got)
            assert_agree(got[0], want)
        assert_agree(label(FRAMES[0]), wanted[0])
    on_host = model.labeller(SHAPE, device="cpu")(frames[0])
    assert isinstance(on_host, cupy.ndarray)
    assert_agree(on_host, wanted[0])


def test_a_frame_is_one_graph(emulated_cuda, model, wanted):
    cupy = emulated_cuda()
    label = model.labeller(SHAPE, device="cuda")
    label(FRAMES[0])
    before, launches = cupy.graph_launches, sum(cupy.launches.values())
    reads = cupy.host_reads
    for each, want in zip(FRAMES, wanted, strict=True):
        assert_agree(label(each), want)
    assert cupy.graph_launches - before == len(FRAMES)
    assert sum(cupy.launches.values()) - launches == 10 * len(FRAMES)
    assert cupy.host_reads == reads


@pytest.mark.parametrize("what", ["begin_capture", "end_capture", "__call__"])
def test_without_graphs_kernels_are_launched_one_by_one(
    emulated_cuda, monkeypatch, model, wanted, caplog, what
):
    cupy = emulated_cuda()
    _cuda_predict._log_once.cache_clear()

    original = getattr(_cuda_predict.PointLabeller if what == "__call__" else cupy.cuda.Stream, what)

    def refuses(self, *arguments):
        if what != "begin_capture":
            original(self, *arguments)
        if what == "__call__":
            cupy.empty(3)  # nobody knows where it will be when the graph is launched
        else:
            raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorNotSupported: operation not supported")

    owner = _cuda_predict.PointLabeller if what == "__call__" else cupy.cuda.Stream
    monkeypatch.setattr(owner, what, refuses)
    label = model.labeller(SHAPE, device="cuda")
    with caplog.at_level(logging.WARNING, "gpuseg"):
        for got, want in zip(label.stream(FRAMES), wanted, strict=True):
            assert_agree(got, want)
    assert len(caplog.messages) == 1
    assert "no CUDA graph could be made" in caplog.text
    assert ("StreamCapture" if what == "__call__" else "cudaErrorNotSupported") in caplog.text
    assert cupy.graph_launches == 0


def test_what_does_not_fit_goes_stage_by_stage(emulated_cuda, monkeypatch, model, wanted):
    emulated_cuda()
    monkeypatch.setattr(_cuda_predict, "can_label", lambda plan: False)
    label = model.labeller(SHAPE, device="cuda")
    assert not label.fused
    assert_agree(label(FRAMES[0]), wanted[0])


def test_large_tiles_are_used_where_shared_memory_is_large(emulated_cuda):
    emulated_cuda()
    model = gpuseg.segment(
        FRAMES[0], 2, descriptor=LocalCorrelationMap(20, 20, 9), random_state=0, device="cpu"
    ).model
    label = model.labeller(SHAPE, device="cuda")
    assert _cuda_predict._tile_of(label._plan) == (4, 8)  # 64 KiB
    assert_agree(label(FRAMES[1]), model.predict(FRAMES[1], device="cpu").labels)


def test_the_components_are_those_of_predict_at_full_size(emulated_cuda):
    """All defaults: several tiles, of which the inner ones see no border."""
    emulated_cuda()
    image = synthetic.bicrystal((300, 330), counts=3, random_state=0).image
    model = gpuseg.segment(image, 2, random_state=0, device="cpu").model
    label, alone = model.labeller(image.shape, device="cuda"), model.predict(image, device="cpu")
    assert_agree(label(image), alone.labels)
    components = arrays.to_numpy(label._free[0]._labeller.found.components)
    np.testing.assert_allclose(components, alone.components, atol=TOLERANCE["components", "predict"])


def test_a_gpu_out_of_memory_goes_stage_by_stage(emulated_cuda, monkeypatch, model, wanted, caplog):
    emulated_cuda()

    def full(plan, upsampling):
        raise MemoryError("Out of memory allocating 8 bytes")

    label = model.labeller(SHAPE, device="cuda")
    monkeypatch.setattr("gpuseg.engines.cuda.frame_path", full)
    for got, want in zip(label.stream(FRAMES), wanted, strict=True):
        assert_agree(got, want)
    assert not label.fused
    assert caplog.messages == [
        "no memory to label frames in one pass (Out of memory allocating 8 bytes): stage by stage"
    ]
    assert_agree(label(FRAMES[1]), wanted[1])


def test_a_labeller_passes_the_sanitizers():
    names = ["window-all", "window-masked", "few of them-all", "stride 1-all", "grid points-masked"]
    run_tests_sanitized(
        *(f"tests/test_labeller.py::test_labels_are_those_of_predict[emulated-{name}]" for name in names),
        timeout=240,
    )


def test_the_class_itself_can_be_made(model, wanted):
    label = Labeller(model, FRAMES[0].shape, device="cpu")
    assert repr(label) == "<Labeller of frames of 150 x 140 pixels, in one pass, on cpu>"
    assert_agree(label(FRAMES[0]), wanted[0])
