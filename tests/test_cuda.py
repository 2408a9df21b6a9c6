"""On a real GPU: all parity of test_engines.py again, streams, determinism, the whole of `segment`.

Run with ``pytest -m cuda``. Skipped without a GPU, also in CI.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

import gpuseg
from gpuseg import LocalCorrelationMap, arrays, synthetic
from gpuseg.engines import cuda
from tests import parity, polar_parity, strategies
from tests.parity import METHODS, Backend
from tests.tolerances import TOLERANCE, assert_scores_close

pytestmark = pytest.mark.cuda
CASES = parity.corner_cases()
AGREEMENT = TOLERANCE["labels", "agreement"]


@pytest.fixture(autouse=True)
def gpu():
    usable, reason = arrays.gpu_status()
    if not usable:
        pytest.skip(f"no GPU: {reason}")


@pytest.fixture
def cupy():
    return arrays.cupy_module()


@pytest.fixture
def backend():
    return Backend(arrays.Device("cuda", 0))


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture(scope="module")
def picture():
    return synthetic.bicrystal((512, 512), counts=3, random_state=0)


# --- parity ----------------------------------------------------------------------------------------------


@parity.examples(150)
@given(data=st.data(), method=st.sampled_from(METHODS))
def test_scores_are_the_naive_ones(backend, data, method):
    parity.check_scores(backend, data.draw(parity.cases(method)), method)


@pytest.mark.parametrize("name", CASES)
def test_corner_cases(backend, name, method):
    parity.check_scores(backend, CASES[name], method)


@parity.examples(80)
@given(case=strategies.correlation_cases())
def test_filling_is_the_naive_one(backend, case):
    parity.check_filling(backend, case)


@pytest.mark.parametrize("name", CASES)
def test_filling_of_corner_cases(backend, name):
    parity.check_filling(backend, CASES[name])


def test_a_small_contrast_on_a_high_level(backend, method):
    parity.check_high_level(backend, method)


def test_pixels_are_taken_about_a_local_mean(backend, method):
    parity.check_steps(backend, method)


@pytest.mark.parametrize("bright", ["region", "hot pixel"])
def test_something_bright_does_not_spoil_the_dark(backend, method, bright):
    parity.check_dark_beside(backend, method, bright)


@pytest.mark.parametrize("name", parity.IMAGES)
def test_normalised_images(backend, name):
    parity.check_normalise(backend, parity.IMAGES[name])


@pytest.mark.parametrize("name", ["window", "half plane", "scattered nan", "multiples of the stride"])
def test_how_the_work_is_cut_up_does_not_show(monkeypatch, backend, name):
    case = CASES[name]
    monkeypatch.setattr(cuda, "ENOUGH_BLOCKS", 1)
    monkeypatch.setattr(cuda, "FFT_BATCH_BYTES", 200_000)
    for method in ("box", "fft"):
        parity.check_scores(backend, case, method)
    monkeypatch.setattr(
        cuda, "SHARED_BYTES", cuda._shared_of((1, 1), case.stride, [2 * p + 1 for p in case.patch_radius])
    )
    parity.check_scores(backend, case, "box")


@pytest.mark.parametrize("masked", [False, True])
def test_twins_on_a_large_image(backend, method, masked):
    """Every block of a big launch writes where it should."""
    image = np.random.default_rng(0).normal(size=(700, 900)).astype(np.float32)
    if masked:
        image[200:260, 300:420] = np.nan
    stride = 20 if method != "box" else 5
    case = parity.case(image, (20, 20), parity.naive.translations_of_window((20, 20), 30), stride=stride)
    wanted = Backend(arrays.Device("cpu")).scores(case, "box")
    assert_scores_close(backend.scores(case, method), wanted, TOLERANCE["score", "twins"])


# --- patterns --------------------------------------------------------------------------------------------


@parity.examples(100)
@given(case=parity.cases(), n_axes=st.integers(1, 6), n_centers=st.integers(1, 5))
def test_patterns_are_the_naive_ones(backend, case, n_axes, n_centers):
    parity.check_patterns(backend, case, n_axes, n_centers)


@pytest.mark.parametrize(
    "name", [name for name in CASES if parity.patterns_of(CASES[name], 1, 1)[0].scores_something]
)
def test_patterns_of_corner_cases(backend, name):
    parity.check_patterns(backend, CASES[name])


@pytest.mark.parametrize("tile", cuda.PREDICT_TILES)
@pytest.mark.parametrize("tiles", [1, 10**6])
def test_patterns_whatever_the_tiles(monkeypatch, backend, tile, tiles):
    monkeypatch.setattr(cuda, "PREDICT_TILES", (tile,))
    monkeypatch.setattr("gpuseg.engines._cuda_predict.ENOUGH_TILES", tiles)
    parity.check_patterns(backend, CASES["several tiles of a GPU"])
    parity.check_patterns(backend, CASES["half plane"])


@pytest.mark.parametrize("n_operations", [None, 20])
@pytest.mark.parametrize("home", ["host", "gpu"])
def test_a_labeller_gives_the_labels_of_predict(cupy, picture, n_operations, home):
    made = gpuseg.segment(picture.image, 2, random_state=0, device="cuda")
    model = made.model if n_operations is None else made.select(n_operations)
    label = model.labeller((512, 512), device="cuda")
    assert label.fused
    frames = [
        synthetic.bicrystal((512, 512), counts=3, random_state=k).image.astype(np.uint16) for k in range(4)
    ]
    for frame, got in zip(
        frames, label.stream(cupy.asarray(f) if home == "gpu" else f for f in frames), strict=True
    ):
        assert type(got) is (cupy.ndarray if home == "gpu" else np.ndarray)
        assert (arrays.to_numpy(got) == model.predict(frame, device="cuda").labels).mean() >= AGREEMENT
        assert (label(frame) == arrays.to_numpy(got)).all()


def test_a_labeller_works_as_a_graph(picture, caplog):
    model = gpuseg.segment(picture.image, 2, stride=10, random_state=0, device="cuda").model
    label = model.labeller((512, 512), device="cuda")
    first, second = label(picture.image), label(picture.image)
    np.testing.assert_array_equal(first, second)
    assert not [each for each in caplog.records if "no CUDA graph" in each.message]


# --- polar patches ---------------------------------------------------------------------------------------

POLAR = polar_parity.corner_cases()
POOLING = polar_parity.pooling_corner_cases()


@parity.examples(150)
@given(case=polar_parity.polar_cases())
def test_polar_scores_are_the_naive_ones(backend, case):
    polar_parity.check_polar(backend, case)


@parity.examples(80)
@given(case=polar_parity.polar_cases(max_radius=4, least=(18, 38), max_side=60))
def test_polar_scores_of_several_tiles_are_the_naive_ones(backend, case):
    polar_parity.check_polar(backend, case)


@pytest.mark.parametrize("name", POLAR)
def test_polar_corner_cases(backend, name):
    polar_parity.check_polar(backend, POLAR[name])


@pytest.mark.parametrize("name", ["all kinds", "half masked", "faint beside bright", "many tiles"])
@pytest.mark.parametrize(("constant", "value"), [("SCRATCH_BYTES", 1), ("SHARED_BYTES", 0)])
def test_how_polar_work_is_cut_up_does_not_show(monkeypatch, backend, name, constant, value):
    monkeypatch.setattr(cuda, constant, value)
    polar_parity.check_polar(backend, POLAR[name])


@pytest.mark.parametrize("masked", [False, True])
def test_polar_twins_on_a_large_image(backend, masked):
    """Every block of a big launch writes where it should, the same each time."""
    image = np.random.default_rng(0).normal(size=(700, 900)).astype(np.float32)
    image[:, 600:] *= 1e-3
    if masked:
        image[200:260, 300:420] = np.nan
    case = polar_parity.by_hand(image, 12, (*polar_parity.TURNS, *polar_parity.GLIDES))
    wanted = polar_parity.polar_scores(Backend(arrays.Device("cpu")), case)
    got = polar_parity.polar_scores(backend, case)
    # noise of a thousandth beside noise: pixels next to the step are magnified by no more than that
    assert_scores_close(got, wanted, TOLERANCE["score", "twins"])
    assert polar_parity.polar_scores(backend, case).tobytes() == got.tobytes()


@parity.examples(100)
@given(case=polar_parity.pooling_cases())
def test_pooling_is_the_naive_one(backend, case):
    polar_parity.check_pooling(backend, *case)


@pytest.mark.parametrize("name", POOLING)
def test_pooling_of_corner_cases(backend, name):
    polar_parity.check_pooling(backend, *POOLING[name])


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (33, 29), (700, 900)])
def test_spline_coefficients(backend, shape):
    from scipy import ndimage

    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    got = arrays.to_numpy(cuda._spline_coefficients(backend.put(image)))
    wanted = ndimage.spline_filter(image.astype(np.float64), output=np.float64, mode="mirror")
    np.testing.assert_allclose(got, wanted, atol=1e-13)


@pytest.mark.parametrize(
    "descriptor",
    [
        gpuseg.RotationalSymmetry(12, pooling_radius=9),
        gpuseg.ReflectionSymmetry(12, 6, pooling_radius=9, n_max=3),
        gpuseg.GlideReflectionSymmetry(12, 4, (6, 8, 6, 8), pooling_radius=9),
    ],
)
def test_polar_descriptors_are_those_of_the_cpu(picture, descriptor):
    image = picture.image.astype(np.float32)
    image[250:260, 100:400] = np.nan
    got, wanted = (descriptor.transform(image, 7, device=device).values for device in ("cuda", "cpu"))
    np.testing.assert_allclose(got, wanted, atol=TOLERANCE["score", "twins"])


# --- streams and determinism -----------------------------------------------------------------------------


def test_work_keeps_to_its_stream(cupy, method):
    image = cupy.asarray(np.random.default_rng(0).normal(size=(200, 220)).astype(np.float32))
    descriptor = LocalCorrelationMap(8, 8, 60, method=method)
    wanted = descriptor.transform(image).values
    cupy.cuda.Device().synchronize()
    for _ in range(5):
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            got = descriptor.transform(image * 1).values
        stream.synchronize()
        assert bool((got == wanted).all())


def test_the_same_call_gives_the_same_bits(cupy, picture, method):
    image = cupy.asarray(picture.image)
    descriptor = LocalCorrelationMap(20, 20, 81, method=method)
    results = [gpuseg.segment(image, 3, descriptor=descriptor, stride=10, random_state=0) for _ in range(3)]
    for name in ("labels", "certainty", "components", "point_labels", "separability"):
        bits = {arrays.to_numpy(getattr(result, name)).tobytes() for result in results}
        assert len(bits) == 1, name
    assert len({result.descriptors.values.get().tobytes() for result in results}) == 1


# --- the whole job ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3])
def test_labels_are_those_of_the_cpu(picture, n):
    got = gpuseg.segment(picture.image, n, random_state=0, device="cuda")
    wanted = gpuseg.segment(picture.image, n, random_state=0, device="cpu")
    assert got.device == "cuda:0"
    assert (got.labels == wanted.labels).mean() >= AGREEMENT
    np.testing.assert_allclose(got.explained_variance_ratio, wanted.explained_variance_ratio, atol=1e-4)
    np.testing.assert_allclose(got.separability, wanted.separability, rtol=0.01, atol=1e-4)
    if n == 2:
        assert adjusted_rand_score(picture.truth.ravel(), got.labels.ravel()) >= 0.97


def test_masked_labels_are_those_of_the_cpu(picture):
    row, col = np.mgrid[:512, :512]
    mask = (row - 256) ** 2 + (col - 256) ** 2 < 230**2
    image = picture.image.astype(np.float32)
    image[250:260, 100:400] = np.nan
    got = gpuseg.segment(image, 2, mask=mask, random_state=0, device="cuda").labels
    wanted = gpuseg.segment(image, 2, mask=mask, random_state=0, device="cpu").labels
    np.testing.assert_array_equal(got == -1, ~(mask & np.isfinite(image)))
    assert (got == wanted).mean() >= AGREEMENT


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0", "cpu"])
@pytest.mark.parametrize("home", ["host", "gpu"])
def test_results_live_where_the_input_lives(cupy, picture, device, home):
    kind = cupy.ndarray if home == "gpu" else np.ndarray
    image = cupy.asarray(picture.image) if home == "gpu" else picture.image
    got = gpuseg.segment(image, stride=20, random_state=0, device=device)
    for name in ("image", "labels", "certainty", "components", "point_labels", "separability"):
        assert type(getattr(got, name)) is kind, name
    assert type(got.descriptors.values) is kind
    assert type(got.area_fractions) is type(got.cluster_centers) is np.ndarray
    assert got.device == ("cpu" if device == "cpu" else "cuda:0")
    assert sum(row["pixels"] for row in got.to_table()) == 512 * 512
    predicted = got.model.predict(image, device=device)
    assert type(predicted.labels) is kind
    np.testing.assert_array_equal(arrays.to_numpy(predicted.labels), arrays.to_numpy(got.labels))


def test_a_model_made_on_one_device_works_on_the_other(picture, tmp_path):
    for made_on, used_on in (("cuda", "cpu"), ("cpu", "cuda")):
        made = gpuseg.segment(picture.image, random_state=0, device=made_on)
        made.model.save(tmp_path / "model.npz")
        model = gpuseg.SegmentationModel.load(tmp_path / "model.npz")
        assert (model.predict(picture.image, device=used_on).labels == made.labels).mean() >= AGREEMENT


@pytest.mark.parametrize(
    "dtype", ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">f4", ">u2", ">f8"]
)
def test_every_dtype_gives_the_labels_of_the_cpu(dtype):
    picture = synthetic.bicrystal((160, 170), counts=40, random_state=0)
    image = np.round(picture.image / picture.image.max() * 100)
    image = (image > np.median(image)) if dtype == "?" else image.astype(dtype)
    got, wanted = (gpuseg.segment(image, random_state=0, device=device).labels for device in ("cuda", "cpu"))
    assert (got == wanted).mean() >= AGREEMENT


@pytest.mark.parametrize("layout", strategies.LAYOUTS)
def test_every_layout_gives_the_same_labels(cupy, layout):
    image = synthetic.bicrystal((160, 170), counts=40, random_state=0).image.astype(np.float32)
    wanted = gpuseg.segment(image, random_state=0, device="cuda").labels
    laid_out = strategies.lay_out(image, layout)
    np.testing.assert_array_equal(gpuseg.segment(laid_out, random_state=0, device="cuda").labels, wanted)
    if layout in ("Fortran", "reversed"):
        there = strategies.lay_out(cupy.asarray(image), "C")
        there = (
            cupy.asfortranarray(there)
            if layout == "Fortran"
            else cupy.ascontiguousarray(there[::-1, ::-1])[::-1, ::-1]
        )
        np.testing.assert_array_equal(gpuseg.segment(there, random_state=0).labels.get(), wanted)


def test_arrays_given_are_never_changed(cupy, picture):
    image = cupy.asarray(picture.image)
    mask = cupy.asarray(picture.truth == 0)
    before = image.get().tobytes(), mask.get().tobytes()
    gpuseg.segment(image, mask=mask, stride=20).model.predict(image, mask=mask)
    assert (image.get().tobytes(), mask.get().tobytes()) == before


def test_a_constant_image_and_one_without_pixels(cupy):
    for image, message in (
        (np.full((60, 60), 7.1), "is constant"),
        (np.full((60, 60), np.nan), "has no finite pixel"),
    ):
        for given_as in (image, cupy.asarray(image)):
            with pytest.raises(ValueError, match=message):
                gpuseg.segment(given_as, device="cuda")


# --- what follows the scores -----------------------------------------------------------------------------


def test_pca(cupy):
    parity.check_pca(cupy.asarray)


def test_kmeans(cupy):
    parity.check_kmeans(cupy.asarray)


# --- the device ------------------------------------------------------------------------------------------


def test_the_status_and_the_devices(cupy):
    usable, name = arrays.gpu_status()
    devices = arrays.cuda_devices()
    assert usable
    assert name == devices[0]["name"]
    assert len(devices) == cupy.cuda.runtime.getDeviceCount()
    assert 0 < devices[0]["memory_free"] <= devices[0]["memory_total"]
    assert str(arrays.resolve_device("auto")) == "cuda:0"
    with pytest.raises(gpuseg.DeviceError, match=f"there are {len(devices)} CUDA devices"):
        gpuseg.segment(np.eye(60), device=f"cuda:{len(devices)}")


def test_dlpack_of_a_gpu_array(cupy):
    class OnlyDLPack:
        def __init__(self, array):
            self._array = array

        def __dlpack__(self, **keywords):
            return self._array.__dlpack__(**keywords)

        def __dlpack_device__(self):
            return self._array.__dlpack_device__()

    values = cupy.arange(12, dtype=cupy.float32).reshape(3, 4)
    got = arrays.ingest(OnlyDLPack(values))
    assert isinstance(got, cupy.ndarray)
    assert got.data.ptr == values.data.ptr


KERNELS = {
    "kmeans": ("lloyd_sums", "lloyd_centers"),
    "translation": ("direct_scores", "box_scores", "masked_box_scores"),
    "missing": ("fill_from_opposite", "fill_from_nearest"),
    "polar": ("spline_coefficients", "polar_scores", "masked_polar_scores", "careful_polar_scores"),
    "pooling": ("pool_down", "pool_across"),
    "normalise": ("normalise_moments", "normalise_squares", "normalise_pixels"),
    "predict": (
        "integrate_rows",
        "integrate_columns",
        "project_scores",
        "project_missing",
        "label_points",
        "upsample_labels",
        "mean_misfit",
    ),
}


def test_every_compiled_variant_is_launched():
    """What tests/test_kernels_compile.py compiles is what runs here."""
    for name, options in cuda.variants().items():
        for variant in options:
            module = cuda._module(name, variant, 0)
            for kernel in KERNELS[name]:
                assert module.get_function(kernel).num_regs > 0
