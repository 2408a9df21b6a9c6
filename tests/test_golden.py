"""Golden numbers: the definition in float64 and what pystem 0.0.26 found on the same image."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import gpuseg
from gpuseg import LocalCorrelationMap, PowerSpectrum, PreselectedTranslations
from gpuseg.separability import separability
from tests import naive
from tests.tolerances import TOLERANCE, assert_scores_close

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden" / "pystem_0.0.26.npz"
METHODS = ("auto", "direct", "fft", "box")
WINDOW = {"patch_radius": (8, 6), "window_radius": (9, 7), "max_num_points": 60}
STRIDE = 4


@pytest.fixture(scope="module")
def golden():
    if not GOLDEN.exists():
        pytest.skip(f"the golden numbers are not part of the package ({GOLDEN.name} not found)")
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(params=["cpu", "emulated"])
def device(request, emulated_cuda):
    if request.param == "cpu":
        return "cpu"
    emulated_cuda()
    return "cuda"


def agreement(got, wanted):
    """Share of equal labels under the best renaming."""
    names = np.unique(wanted)
    return max((np.array(order)[got] == wanted).mean() for order in itertools.permutations(names))


def inside(descriptors):
    """The pixels between the outermost grid points: those away from the margins."""
    rows, cols = descriptors.grid.rows, descriptors.grid.cols
    return slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_those_of_the_definition(golden, device, method):
    descriptor = LocalCorrelationMap(**WINDOW, method=method, border="valid")
    got = descriptor.transform(golden["image"], stride=STRIDE, device=device)
    np.testing.assert_array_equal(
        [(t.d_row, t.d_col) for t in got.operations], golden["lcm_direct_translations"]
    )
    np.testing.assert_array_equal(got.grid.rows, golden["rows"])
    np.testing.assert_array_equal(got.grid.cols, golden["cols"])
    wanted = np.moveaxis(golden["pearson_float64"], -1, 0)
    assert_scores_close(got.values, wanted, TOLERANCE["score", "float32"])


@pytest.mark.parametrize("method", METHODS)
def test_preselected_translations(golden, method):
    descriptor = PreselectedTranslations(
        golden["preselected_translations"], (8, 6), method=method, border="valid"
    )
    got = descriptor.transform(golden["image"], stride=STRIDE, device="cpu")
    wanted = np.moveaxis(golden["preselected"], -1, 0)
    assert got.values.shape == wanted.shape
    # theirs are float32 sums in one pass: as far from the definition as those of the local correlation map
    theirs = np.abs(golden["lcm_direct"] - golden["pearson_float64"]).max()
    assert_scores_close(got.values, wanted, theirs + TOLERANCE["score", "float32"])


def test_scores_lie_closer_to_the_definition_than_those_of_pystem_direct(golden):
    got = LocalCorrelationMap(**WINDOW, border="valid").transform(
        golden["image"], stride=STRIDE, device="cpu"
    )
    wanted = np.moveaxis(golden["pearson_float64"], -1, 0)
    theirs = np.moveaxis(golden["lcm_direct"], -1, 0)
    assert np.abs(got.values - wanted).max() < np.abs(theirs - wanted).max()


@pytest.mark.parametrize("method", METHODS)
def test_labels_inside_the_margins(golden, device, method):
    descriptor = LocalCorrelationMap(**WINDOW, method=method, border="valid")
    got = gpuseg.segment(
        golden["image"],
        2,
        descriptor=descriptor,
        stride=STRIDE,
        n_components=4,
        random_state=0,
        device=device,
    )
    part = inside(got.descriptors)
    assert agreement(got.labels[part], golden["lcm_direct_labels"][part]) >= 0.98


def test_labels_of_preselected_translations(golden):
    descriptor = PreselectedTranslations(golden["preselected_translations"], (8, 6), border="valid")
    got = gpuseg.segment(
        golden["image"], 2, descriptor=descriptor, stride=STRIDE, n_components=3, random_state=0, device="cpu"
    )
    part = inside(got.descriptors)
    assert agreement(got.labels[part], golden["preselected_labels"][part]) >= 0.98


def test_labels_of_the_whole_image_are_the_truth(golden):
    descriptor = LocalCorrelationMap(**WINDOW)
    got = gpuseg.segment(
        golden["image"], 2, descriptor=descriptor, stride=STRIDE, n_components=4, random_state=0, device="cpu"
    )
    assert agreement(got.labels, golden["truth"]) >= 0.97


def test_explained_variance(golden):
    descriptor = LocalCorrelationMap(**WINDOW, border="valid")
    got = gpuseg.segment(
        golden["image"], 2, descriptor=descriptor, stride=STRIDE, n_components=4, random_state=0, device="cpu"
    )
    # pystem's scores are wrong by some 1e-4, and so are its variances
    np.testing.assert_allclose(
        got.explained_variance_ratio, golden["lcm_direct_explained_variance_ratio"], atol=1e-3
    )
    few = PreselectedTranslations(golden["preselected_translations"], (8, 6), border="valid")
    got = gpuseg.segment(
        golden["image"], 2, descriptor=few, stride=STRIDE, n_components=3, random_state=0, device="cpu"
    )
    np.testing.assert_allclose(
        got.explained_variance_ratio, golden["preselected_explained_variance_ratio"], atol=1e-3
    )


def test_separability_on_the_same_labels(golden):
    descriptor = LocalCorrelationMap(**WINDOW, border="valid")
    got = descriptor.transform(golden["image"], stride=STRIDE, device="cpu")
    labels = got.grid.at_points(golden["lcm_direct_labels"]).astype(np.int32).ravel()
    ours = separability(got.values.reshape(len(got.operations), -1), labels, 2)
    wanted = golden["lcm_direct_separability"]
    np.testing.assert_allclose(ours, wanted, rtol=TOLERANCE["separability", "pystem"])
    assert np.median(np.abs(ours / wanted - 1)) < TOLERANCE["separability", "relative"]


def test_the_separability_of_a_segmentation(golden):
    descriptor = LocalCorrelationMap(**WINDOW, border="valid")
    got = gpuseg.segment(
        golden["image"], 2, descriptor=descriptor, stride=STRIDE, n_components=4, random_state=0, device="cpu"
    )
    wanted = golden["lcm_direct_separability"]
    assert np.corrcoef(np.argsort(np.argsort(got.separability)), np.argsort(np.argsort(wanted)))[0, 1] > 0.98


def test_the_power_spectrum(golden, device):
    got = PowerSpectrum((9, 7), border="valid").transform(golden["image"], STRIDE, device=device)
    # theirs is the whole spectrum, of which half is redundant
    whole = golden["power_spectrum"].reshape(*got.grid.shape, 19, 15)
    theirs = np.stack([whole[:, :, k, m] for k, m in naive.frequencies((9, 7))])
    np.testing.assert_array_equal((got.grid.rows[0], got.grid.cols[0]), (9, 7))
    wanted = np.log1p(naive.power_spectrum(golden["image"], got.grid.rows, got.grid.cols, (9, 7)))
    assert_scores_close(got.values, wanted, TOLERANCE["window", "log power"])
    # theirs is single precision too, and four times further from the definition
    assert_scores_close(got.values, theirs, TOLERANCE["window", "log power of pystem"])
    assert np.abs(got.values - wanted).max() < np.abs(theirs - wanted).max()
