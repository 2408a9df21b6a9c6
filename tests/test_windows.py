"""Descriptors of windows and their fusion: the definitions, the physics, degenerate input, models."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpuseg
from gpuseg import Feature, Fusion, Histogram, LocalCorrelationMap, Part, Patches, PowerSpectrum, synthetic
from gpuseg.descriptors import as_descriptor
from gpuseg.descriptors.base import DeadImageError, Descriptors
from gpuseg.descriptors.choice import describe, from_description
from gpuseg.descriptors.fusion import _weight
from gpuseg.engines import cpu
from tests import naive, parity, strategies
from tests.tolerances import TOLERANCE, assert_scores_close

KINDS = (PowerSpectrum, Histogram, Patches)
MIXED = [PowerSpectrum(6), LocalCorrelationMap(5, 6, 50), Histogram(6, 8), Patches(3)]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def image():
    return np.random.default_rng(4).normal(size=(34, 41)).astype(np.float32)


@pytest.fixture(params=["cpu", "emulated"])
def device(request, emulated_cuda):
    if request.param == "cpu":
        return "cpu"
    emulated_cuda()
    return "cuda"


def wanted_of(descriptor, image, rows, cols, radius, mask=None):
    """Values by the definition, filled by the rule; None where there is not a single one."""
    if isinstance(descriptor, PowerSpectrum):
        values = naive.power_spectrum(image, rows, cols, radius, mask)
    elif isinstance(descriptor, Patches):
        values = naive.scaled_patches(image, rows, cols, radius, mask)
    else:
        values = naive.histogram(image, rows, cols, radius, descriptor.n_bins, mask)
    if np.isnan(values).all():
        return None
    operations = [(k, 0) for k in range(1, len(values) + 1)]  # none is the opposite of another
    if descriptor.border == "full" or not naive.valid_pixels(image, mask).all():
        values = naive.fill_missing(values, operations, rows, cols, naive.valid_pixels(image, mask))
    return values


def check(descriptor, image, stride, radius, mask=None, device="cpu"):
    rows, cols = (
        naive.grid_positions(n, stride, r if descriptor.border == "valid" else None)
        for n, r in zip(image.shape, radius, strict=True)
    )
    wanted = wanted_of(descriptor, image, rows, cols, radius, mask)
    if wanted is None:
        with pytest.raises(DeadImageError, match="no grid point around which half of the pixels"):
            descriptor.transform(image, stride, mask, device)
        return
    got = descriptor.transform(image, stride, mask, device)
    np.testing.assert_array_equal(got.grid.rows, rows)
    np.testing.assert_array_equal(got.grid.cols, cols)
    assert got.values.dtype == np.float32
    assert len(got.operations) == len(set(got.operations)) == got.values.shape[0]
    values = got.values
    if isinstance(descriptor, PowerSpectrum):
        # amplitudes are what rounding adds to; none can exceed all of the window's pixels together
        values, wanted = np.sqrt(values), np.sqrt(wanted)
        _, windows, _ = naive.windows(image, rows, cols, radius, mask)
        wanted, values = (x / max(np.abs(windows).sum((-2, -1)).max(), 1e-30) for x in (wanted, values))
    assert_scores_close(values, wanted, TOLERANCE["window", type(descriptor).__name__])


# --- the definitions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("border", ["full", "valid"])
@pytest.mark.parametrize("radius", [(5, 4), (3, 7), (0, 3), (4, 0)])
def test_values_are_those_of_the_definition(kind, image, radius, border, device):
    extra = {"logarithm": False} if kind is PowerSpectrum else {}
    descriptor = kind(radius, border=border, **extra)
    check(descriptor, image, 4, radius, device=device)
    mask = np.random.default_rng(1).random(image.shape) < 0.7
    mask[:, :11] = False
    holes = image.copy()
    holes[5, 12:20] = np.nan
    check(descriptor, holes, 3, radius, mask, device)


@parity.examples(30)
@given(
    data=st.data(), kind=st.sampled_from([PowerSpectrum, Patches]), border=st.sampled_from(["full", "valid"])
)
def test_any_image_gives_the_values_of_the_definition(data, kind, border):
    radius = data.draw(strategies.radii(1, 6))
    _, image, mask = data.draw(strategies.built(radius))
    extra = {"logarithm": False} if kind is PowerSpectrum else {}
    check(kind(radius, border=border, **extra), image, data.draw(st.integers(1, 9)), radius, mask)


def test_the_logarithm(image):
    power = PowerSpectrum(5, logarithm=False).transform(30 * image).values
    assert_scores_close(PowerSpectrum(5).transform(30 * image).values, np.log1p(power), 2e-6)


def test_a_batch_more_or_less_changes_nothing(kind, image, monkeypatch):
    wanted = kind(4).transform(image, 3, device="cpu").values
    for pixels in (1, 300, 1 << 30):
        monkeypatch.setattr(cpu, "WINDOW_PIXELS_AT_A_TIME", pixels)
        got = kind(4).transform(image, 3, device="cpu").values
        assert_scores_close(got, wanted, 1e-5)


# --- physics ---------------------------------------------------------------------------------------------


def test_a_wave_has_its_power_at_its_frequency():
    row, col = np.mgrid[:60, :70]
    image = np.cos(2 * np.pi * (3 * row - 2 * col) / 21)
    found = PowerSpectrum(10, border="valid").transform(image, 7)
    strongest = {str(found.operations[k]) for k in found.values.reshape(len(found.operations), -1).argmax(0)}
    assert strongest == {"power spectrum (-3, +2) / 21 px"}


def test_the_spectrum_does_not_see_where_a_lattice_lies():
    row, col = np.mgrid[:80, :90]
    lattice = np.cos(2 * np.pi * row / 7) + np.cos(2 * np.pi * col / 7)
    values = PowerSpectrum(20, border="valid").transform(1000 * lattice, 1).values
    peaks = values[values.mean((1, 2)) > 0.9 * values.max()]
    assert len(peaks) >= 2
    assert (peaks.std((1, 2)) < 0.01 * peaks.mean((1, 2))).all()


@pytest.mark.parametrize(("gain", "offset"), [(3.5, 0), (1, 1000), (1e-6, 7), (2**10, -(2**14))])
def test_gain_and_level_change_nothing(kind, image, gain, offset):
    descriptor = kind(4, logarithm=False) if kind is PowerSpectrum else kind(4)
    wanted = descriptor.transform(image.astype(np.float64)).values
    got = descriptor.transform(gain * image.astype(np.float64) + offset).values
    if kind is PowerSpectrum:
        got = got / gain**2  # its unit is that of the image, squared
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)


def test_a_bright_region_of_small_contrast_loses_nothing():
    # an edge in every row: the mean of a row's segment is far from that of the window
    image = np.random.default_rng(5).normal(size=(60, 64))
    image[:, :30] = 0.01 * image[:, :30] + 3
    image[30:, :] += 1.5
    radius = (6, 7)
    found = PowerSpectrum(radius, logarithm=False).transform(image, 3, device="cpu")
    wanted = naive.power_spectrum(image, found.grid.rows, found.grid.cols, radius)
    inside = found.grid.cols + radius[1] < 30
    assert inside.any()
    got, wanted = (np.sqrt(each[:, :, inside]) for each in (found.values, wanted))
    known = ~np.isnan(wanted)
    np.testing.assert_allclose(got[known], wanted[known], atol=1e-5)  # amplitudes of 0.1


@pytest.mark.parametrize("level", [0.0, 0.1, 30000.0])
def test_flat_windows(image, level):
    image = image.copy()
    image[:, 20:] = level
    for descriptor in (PowerSpectrum(3), Patches(3)):
        found = descriptor.transform(image, 2)
        flat = found.grid.cols >= 20 + 3
        assert flat.any()
        assert (found.values[:, :, flat] == 0).all()
    found = Histogram(3, n_bins=8).transform(image, 2)
    flat = found.values[:, :, flat]
    assert ((flat[:8] > 0).sum(0) == 1).all()
    assert (flat[9:] == 0).all()


def test_rounding_noise_is_flat(image):
    image = image.astype(np.float64)
    image[:, 20:] = image[:, :20].mean() + 1e-6 * image[:, 20:]
    found = Patches(3).transform(image, 2)
    flat = found.grid.cols >= 20 + 3
    assert (found.values[:, :, flat] == 0).all()
    assert (found.values[:, :, ~flat].std(0) > 0.5).all()


def test_a_histogram_is_one(image):
    found = Histogram(4, n_bins=6).transform(image, 3)
    assert_scores_close(found.values[:6].sum(0), np.ones(found.grid.shape), 1e-5)
    assert found.values[:6].min() >= 0
    assert [str(each) for each in found.operations[:2]] == [
        "histogram below -2.00 std",
        "histogram -2.00 to -1.00 std",
    ]
    assert str(found.operations[6]) == "mean intensity"


def test_a_patch_is_the_window(image):
    found = Patches((2, 3), border="valid").transform(image, 5)
    window = image[
        found.grid.rows[1] - 2 : found.grid.rows[1] + 3, found.grid.cols[2] - 3 : found.grid.cols[2] + 4
    ]
    window = (window - window.mean()) / window.std()
    np.testing.assert_allclose(found.values[:, 1, 2].reshape(5, 7), window, atol=1e-5)
    assert str(found.operations[0]) == "pixel (-2, -3)"


def test_a_honeycomb_and_its_inverse_differ_in_their_histograms_alone():
    labels = synthetic.label_halves((160, 170), angle=90.0)
    honeycomb = synthetic.image_of_grains(
        np.zeros_like(labels), [synthetic.honeycomb(12)], random_state=0
    ).image
    honeycomb = (honeycomb - honeycomb.mean()) / honeycomb.std()
    image = np.where(labels == 0, honeycomb, -honeycomb) + np.random.default_rng(0).normal(size=labels.shape)

    def right(descriptor):
        found = gpuseg.segment(image, 2, descriptor=descriptor, random_state=0, device="cpu").labels
        share = (found == labels).mean()
        return max(share, 1 - share)

    assert right(Histogram(12)) > 0.95
    assert right(LocalCorrelationMap(12, 12)) < 0.8
    assert right([LocalCorrelationMap(12, 12), Histogram(12)]) > 0.9


# --- fusion ----------------------------------------------------------------------------------------------


def test_a_fusion_is_its_blocks_side_by_side(image, device):
    blocks = [each.transform(image, 4, device=device) for each in MIXED]
    fused = Fusion(MIXED).transform(image, 4, device=device)
    assert fused.values.dtype == np.float32
    assert fused.operations == tuple(Part(k, o) for k, block in enumerate(blocks) for o in block.operations)
    weights = fused.descriptor.weights
    wanted = np.concat([w * block.values for w, block in zip(weights, blocks, strict=True)])
    assert_scores_close(fused.values, wanted, 1e-5)
    again = fused.descriptor.transform(2 * image, 4, device=device)
    assert again.descriptor.weights == weights


def test_blocks_have_equal_weight(image):
    fused = Fusion(MIXED).transform(1000 * image, 2)
    block = np.array([part.block for part in fused.operations])
    for k in range(len(MIXED)):
        values = fused.values[block == k].reshape((block == k).sum(), -1).astype(np.float64)
        # by power iteration: what is left of the next axes makes the estimate smaller, never larger
        assert 1 <= np.linalg.eigvalsh(np.cov(values, bias=True))[-1] * (1 + 1e-5) < 1.1


def test_a_block_that_never_changes_weighs_nothing(image):
    fused = Fusion([gpuseg.PreselectedTranslations([(0, 0)], 3), Patches(2)]).transform(image)
    assert fused.descriptor.weights[0] == 0
    assert (fused.values[0] == 0).all()


def test_a_block_of_a_value_and_its_opposite_has_a_weight():
    values = np.random.default_rng(0).integers(0, 2, (1, 20, 20)).astype(np.float32)
    usable = np.ones((20, 20), bool)
    block = Descriptors(np.concatenate([values, 1 - values]), (0, 1), gpuseg.Grid.full((20, 20), 1), usable)
    assert _weight(block.samples()) == pytest.approx((2 * values.var()) ** -0.5, rel=1e-5)


def test_fused_blocks_need_the_same_grid(image):
    with pytest.raises(ValueError, match=r"number 1 has .* grid points from \(3, 3\) on.*border='full'"):
        Fusion([Patches(2, border="valid"), Patches(3, border="valid")]).transform(image)
    same = Fusion([Patches(3, border="valid"), Histogram(3, border="valid")]).transform(image)
    assert same.grid.first == (3, 3)


# --- segmentations and models ----------------------------------------------------------------------------


@pytest.mark.parametrize("descriptor", [PowerSpectrum(8), Histogram(8), Patches(4), MIXED], ids=["power", "histogram", "patches", "fused"])  # fmt: skip
def test_a_model_survives_its_file_and_labels_alike(descriptor, tmp_path):
    picture = synthetic.bicrystal((90, 100), random_state=0)
    made = gpuseg.segment(picture.image, 2, descriptor=descriptor, random_state=0, device="cpu")
    n = made.descriptors.values.shape[0]
    assert made.separability.shape == (n,)
    assert np.isfinite(made.separability).any()
    json.dumps(made.parameters)
    made.model.save(tmp_path / "model.npz")
    model = gpuseg.SegmentationModel.load(tmp_path / "model.npz")
    assert describe(model.descriptor) == describe(made.model.descriptor)
    again = model.predict(picture.image, device="cpu")
    np.testing.assert_array_equal(again.labels, made.labels)
    assert model.predict(picture.image[:70], device="cpu").descriptors.values.shape[0] == n
    assert made._repr_png_()[:4] == b"\x89PNG"
    made.save(tmp_path / "result")


def test_a_mask_and_missing_windows():
    picture = synthetic.bicrystal((90, 100), random_state=0)
    mask = np.ones(picture.image.shape, bool)
    mask[:, 60:] = False
    found = gpuseg.segment(picture.image, 2, descriptor=MIXED, mask=mask, random_state=0, device="cpu")
    assert ((found.labels == -1) == ~mask).all()
    assert np.isfinite(found.descriptors.samples()).all()
    hidden = picture.image.copy()
    hidden[~mask] = 1e6
    same = gpuseg.segment(hidden, 2, descriptor=MIXED, mask=mask, random_state=0, device="cpu")
    np.testing.assert_array_equal(same.labels, found.labels)


def test_a_model_applies_the_weights_it_was_fitted_with():
    picture = synthetic.bicrystal((90, 100), random_state=0)
    made = gpuseg.segment(picture.image, 2, descriptor=MIXED, random_state=0, device="cpu")
    weights = made.model.descriptor.weights
    assert len(weights) == len(MIXED)
    assert min(weights) > 0
    other = synthetic.three_phases((90, 100), random_state=3).image
    again = made.model.predict(other, device="cpu").descriptors.values
    for part, values in zip(made.operations, again, strict=True):
        if part == Part(1, gpuseg.Translation(0, 0)):  # scores 1 everywhere
            assert_scores_close(values, np.full(values.shape, weights[1]), 1e-6)
            break
    else:
        pytest.fail("no zero shift")
    assert Fusion(MIXED).transform(other).descriptor.weights != weights


@pytest.mark.parametrize("descriptor", [PowerSpectrum(8), Histogram(8), Patches(4), MIXED], ids=["power", "histogram", "patches", "fused"])  # fmt: skip
def test_an_emulated_gpu_gives_the_same_labels(descriptor, emulated_cuda):
    picture = synthetic.bicrystal((60, 70), random_state=0)
    wanted = gpuseg.segment(picture.image, 2, descriptor=descriptor, random_state=0, device="cpu")
    cupy = emulated_cuda()
    there = cupy.asarray(picture.image)
    got = gpuseg.segment(there, 2, descriptor=descriptor, random_state=0)
    assert type(got.labels) is cupy.ndarray
    assert got.device == "cuda:0"
    np.testing.assert_allclose(
        cupy.asnumpy(got.descriptors.values), wanted.descriptors.values, rtol=1e-3, atol=1e-4
    )
    same = (cupy.asnumpy(got.labels) == wanted.labels).mean()
    assert max(same, 1 - same) >= TOLERANCE["labels", "agreement"]


# --- names, descriptions, errors -------------------------------------------------------------------------


def test_names_and_lists():
    assert as_descriptor("power-spectrum") == PowerSpectrum()
    assert as_descriptor("histogram") == Histogram()
    assert as_descriptor("patches") == Patches()
    fused = as_descriptor(["power-spectrum", Histogram(5)])
    assert fused == Fusion((PowerSpectrum(), Histogram(5)))
    assert str(fused.operations()[-1]) == "1: fourth moment of intensity (fourth root)"
    assert isinstance(fused.operations()[-1].operation, Feature)


@pytest.mark.parametrize(
    "descriptor",
    [PowerSpectrum((3, np.int64(4)), False), Histogram(3, 5, "valid"), Patches(2), as_descriptor(MIXED), Fusion(MIXED, [1, 2, 0.1, 0])],
)  # fmt: skip
def test_descriptions_go_through_json(descriptor):
    again = from_description(json.loads(json.dumps(describe(descriptor))))
    assert type(again) is type(descriptor)
    assert again.operations() == descriptor.operations()
    assert describe(again) == describe(descriptor)


WRONG = {
    "logarithm": (PowerSpectrum(logarithm="no"), TypeError, "`logarithm` is 'no'; True or False"),
    "radius": (Patches(-1), ValueError, "`window_radius` is -1; a whole number of at least 0"),
    "radius of text": (PowerSpectrum("wide"), TypeError, "`window_radius` is 'wide'"),
    "too large": (Histogram(20), ValueError, "`image` has 34 rows; a window of `window_radius` 20 needs 41"),
    "bins": (Histogram(3, n_bins=1), ValueError, "`n_bins` is 1; a whole number of at least 2"),
    "border": (Patches(3, border="wrap"), ValueError, "`border` is 'wrap'; one of 'full', 'valid'"),
    "empty list": ([], ValueError, "`descriptor` is an empty list"),
    "list in a list": ([[Patches()]], TypeError, "a list that holds"),
    "None in a list": ([None], TypeError, "a list that holds None"),
    "name in a list": (["wavelets"], ValueError, "`descriptor` is 'wavelets'"),
    "number in a list": ([3], TypeError, "`descriptor` is 3"),
    "weights": (Fusion([Patches(3)], [1, 2]), ValueError, "`weights` has 2 entries"),
    "nan weight": (Fusion([Patches(3)], [np.nan]), ValueError, "finite numbers of at least 0"),
    "no member": (Fusion([]), ValueError, "at least one descriptor"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_parameters_are_told(name, image):
    descriptor, error, text = WRONG[name]
    with pytest.raises(error, match=text):
        gpuseg.segment(image, 2, descriptor=descriptor, device="cpu")


def test_fused_weights_of_the_first_image_hold_for_all():
    # of two images fitted together the second is brighter in contrast, so that its own weights would differ
    first = synthetic.bicrystal((90, 100), random_state=0).image
    second = first * np.linspace(1, 6, 100, dtype=np.float32)
    both = [gpuseg.PowerSpectrum(10), gpuseg.LocalCorrelationMap(10, 8)]
    series = gpuseg.segment_series(
        np.stack([first, second]), 2, fit_frames=2, descriptor=both, random_state=0
    )
    alone = gpuseg.segment(first, 2, descriptor=both, random_state=0)
    assert series.model.descriptor == alone.model.descriptor
    for labels, image in zip(series.labels, (first, second), strict=True):
        np.testing.assert_array_equal(labels, series.model.predict(image).labels)
