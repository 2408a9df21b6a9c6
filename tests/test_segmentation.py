"""The main job: truth, labels in order, degenerate input, models, and what every bad input is told."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score

import gpuseg
from gpuseg import (
    LocalCorrelationMap,
    PreselectedTranslations,
    SegmentationModel,
    Segmenter,
    arrays,
    synthetic,
)
from gpuseg.engines import cpu
from tests import naive
from tests.tolerances import TOLERANCE

ROOT = Path(gpuseg.__file__).resolve().parents[1]
FAST = {"descriptor": LocalCorrelationMap(8, 8, 60), "random_state": 0, "device": "cpu"}


def uneven_bicrystal(shape=(120, 140), *, offset=25.0, counts=40, random_state=1):
    """Two grains, of which one is larger, and their truth."""
    grains = [synthetic.hexagonal(9).rotated(angle) for angle in (3, 21)]
    labels = synthetic.label_halves(shape, offset=offset)
    return synthetic.image_of_grains(labels, grains, counts=counts, random_state=random_state)


@pytest.fixture(scope="module")
def picture():
    return uneven_bicrystal()


@pytest.fixture(scope="module")
def segmentation(picture):
    return gpuseg.segment(picture.image, **FAST)


# --- truth -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("counts", "pystem"), [(20, 0.972), (3, 0.971), (1, 0.976)])
def test_a_bicrystal_at_low_dose(counts, pystem):
    picture = synthetic.bicrystal((512, 512), counts=counts, random_state=0)
    labels = gpuseg.segment(picture.image, n_patterns=2, random_state=0, device="cpu").labels
    score = adjusted_rand_score(picture.truth.ravel(), labels.ravel())
    assert score >= 0.97, f"ARI {score:.4f} at {counts} counts; pySTEM {pystem}"


def test_three_phases():
    picture = synthetic.three_phases((192, 192), random_state=0)
    labels = gpuseg.segment(picture.image, 3, random_state=0, device="cpu").labels
    assert adjusted_rand_score(picture.truth.ravel(), labels.ravel()) > 0.8


# --- what comes out --------------------------------------------------------------------------------------


def test_shapes_types_and_ranges(picture, segmentation):
    shape, (h, w) = picture.image.shape, segmentation.grid.shape
    assert segmentation.image is picture.image
    assert (segmentation.labels.shape, segmentation.labels.dtype) == (shape, np.int32)
    assert (segmentation.certainty.shape, segmentation.certainty.dtype) == (shape, np.float32)
    assert 0 <= segmentation.certainty.min() < 0.5 < segmentation.certainty.max() <= 1
    assert (h, w) == (24, 28)
    n = len(segmentation.operations)
    assert segmentation.descriptors.values.shape == (n, h, w)
    assert (segmentation.components.shape, segmentation.components.dtype) == ((5, h, w), np.float32)
    assert segmentation.explained_variance_ratio.shape == (5,)
    assert segmentation.cluster_centers.shape == (2, 5)
    assert (segmentation.separability.shape, segmentation.separability.dtype) == ((n,), np.float32)
    assert segmentation.n_patterns == 2
    assert segmentation.area_fractions.shape == (2,)
    assert segmentation.area_fractions.sum() == pytest.approx(1)
    assert segmentation.device == "cpu"
    assert set(segmentation.timings) >= {"descriptors", "decomposition", "clustering"}
    assert all(seconds >= 0 for seconds in segmentation.timings.values())


def test_labels_are_sorted_by_size(picture):
    counts = np.bincount(gpuseg.segment(picture.image, 4, **FAST).point_labels.ravel(), minlength=4)
    assert (np.diff(counts) >= 0).all()
    assert counts.min() > 0


def test_labels_need_not_be_sorted(picture):
    sizes = []
    for seed in range(6):
        options = {**FAST, "random_state": seed}
        unsorted = gpuseg.segment(picture.image, 3, sort_labels_by_pattern_size=False, **options)
        sizes.append(np.bincount(unsorted.point_labels.ravel(), minlength=3))
        same = gpuseg.segment(picture.image, 3, **options)
        assert adjusted_rand_score(unsorted.labels.ravel(), same.labels.ravel()) == 1
    assert any((np.diff(s) < 0).any() for s in sizes)


def test_labels_are_the_nearest_centre_at_the_nearest_point(segmentation):
    flat = segmentation.components.reshape(5, -1)
    points = naive.assign(flat, segmentation.cluster_centers).reshape(segmentation.grid.shape)
    np.testing.assert_array_equal(segmentation.point_labels, points)
    grid = segmentation.grid
    wanted = naive.nearest_upsampling(points, grid.rows, grid.cols, grid.image_shape)
    np.testing.assert_array_equal(segmentation.labels, wanted)


def test_certainty_is_that_of_the_distances(segmentation):
    flat = segmentation.components.reshape(5, -1)
    nearest, second = np.sort(naive.distances(flat, segmentation.cluster_centers), axis=0)
    wanted = (1 - nearest / second).reshape(segmentation.grid.shape)
    np.testing.assert_allclose(segmentation.grid.at_points(segmentation.certainty), wanted, atol=1e-4)


def test_components_are_the_principal_ones(segmentation):
    values = segmentation.descriptors.values.reshape(len(segmentation.operations), -1)
    _, ratio, scores = naive.pca(values, 5)
    np.testing.assert_allclose(
        segmentation.explained_variance_ratio, ratio, atol=TOLERANCE["pca", "explained_variance_ratio"]
    )
    first = segmentation.components[0].ravel()
    assert abs(np.corrcoef(first, scores[0])[0, 1]) > 1 - 1e-6


def test_separability_is_the_naive_one(segmentation):
    values = segmentation.descriptors.values.reshape(len(segmentation.operations), -1)
    wanted = naive.separability(values, segmentation.point_labels.ravel())
    np.testing.assert_allclose(
        segmentation.separability, wanted, rtol=TOLERANCE["separability", "relative"], atol=1e-6
    )


def test_without_upsampling(picture, segmentation):
    small = gpuseg.segment(picture.image, upsampling=False, **FAST)
    assert small.labels.shape == small.certainty.shape == small.grid.shape
    np.testing.assert_array_equal(small.labels, segmentation.point_labels)
    np.testing.assert_array_equal(small.grid.upsample(small.labels), segmentation.labels)


@pytest.mark.parametrize("border", ["full", "valid"])
def test_one_pattern(picture, border):
    one = gpuseg.segment(
        picture.image, 1, descriptor=LocalCorrelationMap(8, 8, 60, border=border), device="cpu"
    )
    assert (one.labels == 0).all()
    assert (one.certainty == 1).all()
    np.testing.assert_array_equal(one.area_fractions, [1])
    assert np.isfinite(one.separability).all()


def test_the_valid_border_labels_its_margin_too(picture):
    labels = gpuseg.segment(
        picture.image, **{**FAST, "descriptor": LocalCorrelationMap(8, 8, 60, border="valid")}
    ).labels
    assert labels.shape == picture.image.shape
    assert set(np.unique(labels)) == {0, 1}
    np.testing.assert_array_equal(labels[:17], np.broadcast_to(labels[16], (17, labels.shape[1])))


@pytest.mark.parametrize("fraction", [0.5, 0.85, 0.99])
def test_a_fraction_of_the_variance(picture, fraction):
    got = gpuseg.segment(picture.image, n_components=fraction, **FAST)
    ratio = got.explained_variance_ratio
    assert ratio.sum() >= fraction - 1e-5
    assert ratio[:-1].sum() < fraction
    assert got.components.shape[0] == len(ratio)


def test_more_components_than_operations(picture):
    few = gpuseg.segment(
        picture.image, descriptor=PreselectedTranslations([(9, 0), (0, 9)], 8), n_components=50, device="cpu"
    )
    assert few.components.shape[0] == 2


def test_as_many_patterns_as_grid_points():
    image = np.random.default_rng(0).normal(size=(20, 20))
    every = gpuseg.segment(
        image, 9, stride=8, descriptor=LocalCorrelationMap(3, 3), random_state=0, device="cpu"
    )
    assert sorted(np.unique(every.labels)) == list(range(9))


def test_a_grid_of_one_point():
    image = np.random.default_rng(0).normal(size=(15, 15))
    one = gpuseg.segment(image, 1, stride=99, descriptor=LocalCorrelationMap(3, 3), device="cpu")
    assert (one.labels == 0).all()
    assert one.grid.shape == (1, 1)


def test_a_name_of_the_paper_and_the_default_descriptor(picture):
    default = gpuseg.segment(picture.image, random_state=0, device="cpu")
    named = gpuseg.segment(picture.image, random_state=0, descriptor="local-correlation-map", device="cpu")
    np.testing.assert_array_equal(default.labels, named.labels)
    assert default.parameters["descriptor"]["name"] == "LocalCorrelationMap"
    assert len(default.operations) == 81


def test_parameters_go_through_json(segmentation):
    again = json.loads(json.dumps(segmentation.parameters))
    assert again == segmentation.parameters
    assert again["n_patterns"] == 2
    assert again["descriptor"] == {
        "name": "LocalCorrelationMap", "patch_radius": 8, "window_radius": 8, "max_num_points": 60, "method": "auto", "border": "full",
    }  # fmt: skip


def test_parameters_in_numpy_types_go_through_json(picture):
    descriptor = LocalCorrelationMap(np.int64(8), (np.int32(8), np.uint8(8)), np.int64(60))
    got = gpuseg.segment(picture.image, np.int64(2), descriptor=descriptor, stride=np.int32(5), n_components=np.int64(4), random_state=np.int64(0))  # fmt: skip
    again = json.loads(json.dumps(got.parameters))
    assert (again["n_patterns"], again["stride"], again["n_components"], again["random_state"]) == (
        2,
        5,
        4,
        0,
    )


def test_the_table_and_the_repr(segmentation, picture):
    table = segmentation.to_table()
    assert [row["pattern"] for row in table] == [0, 1]
    assert sum(row["pixels"] for row in table) == picture.image.size
    for row in table:
        mine = segmentation.labels == row["pattern"]
        assert row["pixels"] == mine.sum()
        assert row["area_fraction"] == pytest.approx(mine.mean())
        assert row["mean_certainty"] == pytest.approx(segmentation.certainty[mine].mean())
    share = f"{segmentation.area_fractions[0]:.1%}"
    assert repr(segmentation) == (
        f"<Segmentation of 120 x 140 pixels into 2 patterns ({share}, {segmentation.area_fractions[1]:.1%}) on cpu>"
    )


def test_a_picture_for_jupyter(segmentation):
    assert segmentation._repr_png_().startswith(b"\x89PNG")


def test_results_are_frozen_and_stay_whole(segmentation):
    with pytest.raises(AttributeError):
        segmentation.labels = None
    with pytest.raises(AttributeError):
        segmentation.model.stride = 3


def test_a_segmentation_can_be_pickled(segmentation):
    again = pickle.loads(pickle.dumps(segmentation))
    np.testing.assert_array_equal(again.labels, segmentation.labels)


# --- masks and holes -------------------------------------------------------------------------------------


def disc_mask(shape):
    row, col = np.mgrid[: shape[0], : shape[1]]
    return (row - shape[0] / 2) ** 2 + (col - shape[1] / 2) ** 2 < (0.45 * min(shape)) ** 2


@pytest.mark.parametrize("upsampling", [True, False])
def test_masked_pixels_are_minus_one(picture, upsampling):
    mask = disc_mask(picture.image.shape)
    got = gpuseg.segment(picture.image, mask=mask, upsampling=upsampling, **FAST)
    shown = mask if upsampling else got.grid.at_points(mask)
    np.testing.assert_array_equal(got.labels == -1, ~shown)
    assert (got.certainty[~shown] == 0).all()
    truth = picture.truth if upsampling else got.grid.at_points(picture.truth)
    assert adjusted_rand_score(truth[shown], got.labels[shown]) > 0.9
    assert got.area_fractions.sum() == pytest.approx(1)
    assert sum(row["pixels"] for row in got.to_table()) == shown.sum()
    assert np.isfinite(got.separability).all()


@pytest.mark.parametrize(
    "descriptor", ["local-correlation-map", "rotational-symmetry", "power-spectrum", "histogram", "patches"]
)
def test_a_mask_without_room_for_a_patch_is_refused(picture, descriptor):
    mask = np.zeros(picture.image.shape, bool)
    mask[60:64] = True
    with pytest.raises(ValueError, match="no grid point around which half of the pixels are finite"):
        gpuseg.segment(picture.image, 2, descriptor=descriptor, stride=1, mask=mask, device="cpu")


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_pixels_without_a_number_are_minus_one(picture, hole):
    image = picture.image.astype(np.float32)
    image[30:50, 40:90] = hole
    image[5, 7] = hole
    got = gpuseg.segment(image, **FAST)
    np.testing.assert_array_equal(got.labels == -1, ~np.isfinite(image))
    masked = gpuseg.segment(picture.image, mask=np.isfinite(image), **FAST)
    np.testing.assert_array_equal(got.labels, masked.labels)


@pytest.mark.parametrize("kind", [np.uint8, np.float64, list, np.ma.masked_array, "Fortran"])
def test_masks_of_any_kind(picture, kind):
    mask = disc_mask(picture.image.shape)
    wanted = gpuseg.segment(picture.image, mask=mask, **FAST).labels
    if kind is np.ma.masked_array:
        got = gpuseg.segment(np.ma.masked_array(picture.image, ~mask), **FAST)
    elif kind is list:
        got = gpuseg.segment(picture.image, mask=mask.tolist(), **FAST)
    elif kind == "Fortran":
        got = gpuseg.segment(picture.image, mask=np.asfortranarray(mask), **FAST)
    else:
        got = gpuseg.segment(picture.image, mask=mask.astype(kind), **FAST)
    np.testing.assert_array_equal(got.labels, wanted)


def test_a_mask_that_is_true_everywhere_is_none(picture, segmentation):
    got = gpuseg.segment(picture.image, mask=np.ones(picture.image.shape, bool), **FAST)
    np.testing.assert_array_equal(got.labels, segmentation.labels)


# --- every kind of image ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype",
    ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">f4", ">f8", ">u2", ">i4", "g"],
)
def test_every_dtype_gives_the_same_labels(picture, segmentation, dtype):
    image = picture.image
    scaled = np.round(image / image.max() * 100)
    wanted = gpuseg.segment(scaled, **FAST).labels
    got = gpuseg.segment(scaled.astype(dtype), **FAST).labels
    np.testing.assert_array_equal(got, wanted)


def test_a_boolean_image(picture):
    got = gpuseg.segment(picture.image > np.median(picture.image), **FAST)
    assert adjusted_rand_score(picture.truth.ravel(), got.labels.ravel()) > 0.85


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "read-only": lambda a: (b := a.copy(), b.setflags(write=False))[0],
    "reversed": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "every second": lambda a: np.repeat(np.repeat(a, 2, 0), 2, 1)[::2, ::2],
    "broadcast row": lambda a: np.broadcast_to(a, (1, *a.shape))[0],
    "subclass": lambda a: a.view(type("Picture", (np.ndarray,), {})),
    "list": lambda a: a.tolist(),
    "memory map": None,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_labels(picture, segmentation, layout, tmp_path):
    if layout == "memory map":
        np.save(tmp_path / "image.npy", picture.image)
        image = np.load(tmp_path / "image.npy", mmap_mode="r")
    else:
        image = LAYOUTS[layout](picture.image)
    np.testing.assert_array_equal(gpuseg.segment(image, **FAST).labels, segmentation.labels)


def test_gain_and_level_change_no_label(picture, segmentation):
    image = picture.image.astype(np.float64)
    for other in (image * 1e-20, image * 1e30 + 5, -3 * image + 1000):
        np.testing.assert_array_equal(gpuseg.segment(other, **FAST).labels, segmentation.labels)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u2"])
def test_arrays_given_are_never_changed(picture, dtype):
    image = picture.image.astype(dtype)
    if dtype != "u2":
        image[3, 4] = np.nan
    mask = disc_mask(image.shape)
    before = image.tobytes(), mask.tobytes()
    got = gpuseg.segment(image, mask=mask, **FAST)
    got.model.predict(image, mask=mask, device="cpu")
    LocalCorrelationMap(5, 5).transform(image, mask=mask, device="cpu")
    assert (image.tobytes(), mask.tobytes()) == before


# --- the same again --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["direct", "fft", "box"])
def test_the_same_seed_gives_the_same_bits(picture, method):
    options = {**FAST, "descriptor": LocalCorrelationMap(6, 6, 60, method=method), "stride": 8}
    first, second = (gpuseg.segment(picture.image, 3, **options) for _ in range(2))
    for name in ("labels", "certainty", "components", "cluster_centers", "separability"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name


def test_a_random_state_object_seeds_too(picture, segmentation):
    options = {**FAST, "random_state": np.random.RandomState(0)}
    np.testing.assert_array_equal(gpuseg.segment(picture.image, **options).labels, segmentation.labels)


THREADS = """
import hashlib, gpuseg
image = gpuseg.synthetic.bicrystal((200, 230), period=9, misorientation=18, counts=2, random_state=1).image
for n in (2, 5):
    found = gpuseg.segment(image, n, random_state=0, device="cpu", descriptor=gpuseg.LocalCorrelationMap(8, 8, 60))
    print(hashlib.sha256(found.labels.tobytes()).hexdigest())
"""


def test_the_number_of_threads_changes_no_label():
    found = set()
    for threads in ("1", "2", "5"):
        environment = {**os.environ, "NUMBA_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-c", THREADS]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT)
        found.add(run.stdout)
    assert len(found) == 1
    assert len(set(found.pop().split())) == 2


def test_several_threads_at_once(picture, segmentation):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: gpuseg.segment(picture.image, **FAST).labels, range(8)))
    for labels in found:
        np.testing.assert_array_equal(labels, segmentation.labels)


# --- models ----------------------------------------------------------------------------------------------


def test_a_model_predicts_what_it_was_made_from(picture, segmentation):
    again = segmentation.model.predict(picture.image, device="cpu")
    np.testing.assert_array_equal(again.labels, segmentation.labels)
    np.testing.assert_array_equal(again.certainty, segmentation.certainty)
    np.testing.assert_allclose(again.separability, segmentation.separability, rtol=1e-6)
    assert again.n_patterns == 2


@pytest.mark.parametrize("descriptor", [LocalCorrelationMap(8, (8, 9), 60), PreselectedTranslations([(9, 0), (4, 8), (-4, 8), (3, 3)], (8, 7), border="valid")])  # fmt: skip
@pytest.mark.parametrize("upsampling", [True, False])
def test_a_model_survives_its_file(picture, tmp_path, descriptor, upsampling):
    made = gpuseg.segment(
        picture.image,
        3,
        **{**FAST, "descriptor": descriptor},
        stride=4,
        n_components=3,
        upsampling=upsampling,
    )
    made.model.save(tmp_path / "model.npz")
    model = SegmentationModel.load(tmp_path / "model.npz")
    for name in ("mean", "components", "explained_variance_ratio", "cluster_centers"):
        assert getattr(model, name).tobytes() == getattr(made.model, name).tobytes()
    assert (model.stride, model.upsampling) == (4, upsampling)
    assert model.descriptor.operations() == descriptor.operations()
    np.testing.assert_array_equal(model.predict(picture.image, device="cpu").labels, made.labels)
    with np.load(tmp_path / "model.npz", allow_pickle=False) as file:  # plain arrays
        assert {"mean", "components", "cluster_centers"} <= set(file)


def test_a_model_saved_under_a_name_keeps_it(segmentation, tmp_path):
    segmentation.model.save(str(tmp_path / "model.bin"))
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]
    assert SegmentationModel.load(str(tmp_path / "model.bin")).stride == 5


def test_a_model_with_numpy_radii_can_be_saved(picture, tmp_path):
    descriptor = LocalCorrelationMap(np.int64(8), (np.int32(8), 8), 60)
    gpuseg.segment(picture.image, **{**FAST, "descriptor": descriptor}).model.save(tmp_path / "model.npz")
    assert len(SegmentationModel.load(tmp_path / "model.npz").descriptor.operations()) == len(
        descriptor.operations()
    )


def test_a_model_labels_another_image_alike(picture, segmentation):
    other = uneven_bicrystal((150, 110), offset=-25, random_state=9)
    predicted = segmentation.model.predict(other.image, device="cpu")
    assert predicted.labels.shape == (150, 110)
    assert adjusted_rand_score(other.truth.ravel(), predicted.labels.ravel()) > 0.85
    # label k is the same crystal, although it is the other one that is small here
    name = {int(np.median(picture.truth[segmentation.labels == k])): k for k in (0, 1)}
    same = np.vectorize(name.get)(other.truth) == predicted.labels
    assert same.mean() > 0.95


def test_a_model_takes_masks_and_holes(picture, segmentation):
    mask = disc_mask(picture.image.shape)
    image = np.where(mask, picture.image, np.nan)
    np.testing.assert_array_equal(segmentation.model.predict(image, device="cpu").labels == -1, ~mask)
    masked = segmentation.model.predict(picture.image, mask=mask, device="cpu").labels
    np.testing.assert_array_equal(masked == -1, ~mask)
    with pytest.raises(ValueError, match="`mask` has shape"):
        segmentation.model.predict(picture.image, mask=mask[1:], device="cpu")
    with pytest.raises(ValueError, match="`image` has shape .*two axes"):
        segmentation.model.predict(picture.image[None], device="cpu")


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04 broken"])
def test_files_that_are_no_model(tmp_path, content):
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"'.*model.npz' is not a model saved by gpuseg"):
        SegmentationModel.load(path)


def test_other_archives_and_versions_are_no_model(tmp_path, segmentation):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    segmentation.model.save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as file:
        content = dict(file)
    content["settings"] = np.array(str(content["settings"]).replace("gpuseg model 1", "gpuseg model 999"))
    np.savez(tmp_path / "newer.npz", **content)
    np.save(tmp_path / "array.npy", np.zeros(3))
    truncated = tmp_path / "truncated.npz"
    truncated.write_bytes((tmp_path / "model.npz").read_bytes()[:-200])
    for path in (tmp_path / "other.npz", tmp_path / "newer.npz", tmp_path / "array.npy", truncated):
        with pytest.raises(ValueError, match="is not a model saved by gpuseg"):
            SegmentationModel.load(path)
    with pytest.raises(FileNotFoundError, match="nothing.npz"):
        SegmentationModel.load(tmp_path / "nothing.npz")


# --- the estimator ---------------------------------------------------------------------------------------


def test_the_estimator_is_segment(picture, segmentation):
    estimator = Segmenter(**FAST)
    assert estimator.fit(picture.image) is estimator
    np.testing.assert_array_equal(estimator.segmentation_.labels, segmentation.labels)
    assert estimator.model_ is estimator.segmentation_.model
    np.testing.assert_array_equal(estimator.predict(picture.image).labels, segmentation.labels)


def test_the_estimator_keeps_to_scikit_learns_contract(picture):
    parameters = {"n_patterns": 3, "stride": 4, "n_components": 0.9, **FAST}
    estimator = Segmenter(**parameters)
    assert {name: estimator.get_params()[name] for name in parameters} == parameters
    copy = clone(estimator)
    assert copy is not estimator
    assert copy.get_params()["stride"] == 4
    assert estimator.set_params(stride=6).stride == 6
    assert "n_patterns=3" in repr(estimator)
    # nothing is looked at before fit
    wrong = Segmenter(n_patterns=-1, stride="x")
    with pytest.raises(ValueError, match="`n_patterns` is -1"):
        wrong.fit(picture.image)
    with pytest.raises(NotFittedError, match="Segmenter"):
        Segmenter().predict(picture.image)


def test_the_estimator_takes_what_segment_takes():
    import inspect

    def options(function):
        return {
            p.name: p.default
            for p in inspect.signature(function).parameters.values()
            if p.name not in ("self", "image", "mask")
        }

    assert options(Segmenter.__init__) == options(gpuseg.segment)


def test_the_estimator_takes_a_mask(picture):
    mask = disc_mask(picture.image.shape)
    estimator = Segmenter(**FAST).fit(picture.image, mask=mask)
    np.testing.assert_array_equal(estimator.segmentation_.labels == -1, ~mask)
    np.testing.assert_array_equal(estimator.predict(picture.image, mask=mask).labels == -1, ~mask)


# --- devices ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["direct", "fft", "box", "auto"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_gpu_gives_the_labels_of_the_cpu(emulated_cuda, method, masked):
    picture = synthetic.bicrystal((64, 72), period=9, misorientation=20, counts=40, random_state=2)
    mask = disc_mask(picture.image.shape) if masked else None
    options = {
        "descriptor": LocalCorrelationMap(7, 6, 40, method=method),
        "stride": 4,
        "random_state": 0,
        "mask": mask,
    }
    wanted = gpuseg.segment(picture.image, device="cpu", **options)
    cupy = emulated_cuda(order=2)
    got = gpuseg.segment(picture.image, device="cuda", **options)
    assert got.device == "cuda:0"
    assert cupy.launches
    assert (got.labels == wanted.labels).mean() >= TOLERANCE["labels", "agreement"]
    assert type(got.labels) is np.ndarray
    np.testing.assert_allclose(got.explained_variance_ratio, wanted.explained_variance_ratio, atol=1e-4)
    # a model made on one device works on the other
    assert (
        got.model.predict(picture.image, mask=mask, device="cpu").labels == got.labels
    ).mean() >= TOLERANCE["labels", "agreement"]
    assert (
        wanted.model.predict(picture.image, mask=mask, device="cuda").labels == wanted.labels
    ).mean() >= TOLERANCE["labels", "agreement"]


# --- bad input -------------------------------------------------------------------------------------------

GOOD = np.random.default_rng(0).normal(size=(60, 64))


BAD_IMAGES = {
    "empty": (np.zeros((0, 0)), ValueError, r"`image` has shape \(0, 0\), which holds no pixel"),
    "1-D": (np.zeros(100), ValueError, r"`image` has shape \(100,\); two axes \(rows, columns\) are needed"),
    "3-D": (np.zeros((4, 60, 60)), ValueError, r"`image` has shape \(4, 60, 60\); two axes \(rows, columns\) are needed"),
    "complex": (GOOD.astype(complex), TypeError, "`image` has dtype complex128; real numbers are needed"),
    "object": (GOOD.astype(object), TypeError, "`image` has dtype object; real numbers are needed"),
    "string": (np.full((60, 60), "x"), TypeError, "`image` has dtype <U1; real numbers are needed"),
    "a path": ("image.tif", TypeError, "`image` has dtype <U9; real numbers are needed"),
    "None": (None, TypeError, "`image` .*; real numbers are needed"),
    "smaller than its patch": (GOOD[:40], ValueError, "`image` has 40 rows; a patch of `patch_radius` 20 needs 41; use a smaller radius or a larger image"),
    "narrower than its patch": (GOOD[:, :30], ValueError, "`image` has 30 columns; a patch of `patch_radius` 20 needs 41"),
    "all NaN": (np.full((60, 60), np.nan), ValueError, r"`image` of shape \(60, 60\) has no finite pixel"),
    "all inf": (np.full((60, 60), np.inf), ValueError, r"`image` of shape \(60, 60\) has no finite pixel"),
    "constant": (np.full((60, 60), 7.1), ValueError, r"`image` of shape \(60, 60\) is constant; there is nothing to tell apart"),
    "constant but for NaN": (np.where(np.eye(60) > 0, np.nan, 7.1), ValueError, "is constant"),
    "constant integers": (np.full((60, 60), 7, np.uint16), ValueError, "is constant"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_IMAGES)
@pytest.mark.parametrize("call", ["segment", "transform", "fit", "predict"])
def test_images_that_make_no_sense(name, call, segmentation):
    image, error, message = BAD_IMAGES[name]
    calls = {
        "segment": lambda: gpuseg.segment(image, device="cpu"),
        "transform": lambda: LocalCorrelationMap().transform(image, device="cpu"),
        "fit": lambda: Segmenter(device="cpu").fit(image),
        "predict": lambda: gpuseg.segment(GOOD, stride=20, device="cpu").model.predict(image, device="cpu"),
    }
    with pytest.raises(error, match=message):
        calls[call]()


BAD_PARAMETERS = {
    "n_patterns 0": ({"n_patterns": 0}, ValueError, "`n_patterns` is 0; a whole number of at least 1"),
    "n_patterns -3": ({"n_patterns": -3}, ValueError, "`n_patterns` is -3; a whole number of at least 1"),
    "n_patterns 2.0": ({"n_patterns": 2.0}, TypeError, "`n_patterns` is 2.0; a whole number"),
    "n_patterns text": ({"n_patterns": "2"}, TypeError, "`n_patterns` is '2'; a whole number"),
    "n_patterns None": ({"n_patterns": None}, TypeError, "`n_patterns` is None; a whole number"),
    "n_patterns too many": ({"n_patterns": 157}, ValueError, "`n_patterns` is 157; at most the number of usable grid points, 156, is needed; a smaller `stride` gives more"),
    "stride 0": ({"stride": 0}, ValueError, "`stride` is 0; a whole number of at least 1"),
    "stride 2.5": ({"stride": 2.5}, TypeError, "`stride` is 2.5; a whole number"),
    "patch_radius": ({"descriptor": LocalCorrelationMap(patch_radius=-1)}, ValueError, "`patch_radius` is -1; a whole number of at least 0"),
    "window_radius": ({"descriptor": LocalCorrelationMap(5, -1)}, ValueError, "`window_radius` is -1; a whole number of at least 0"),
    "descriptor text": ({"descriptor": "wavelets"}, ValueError, "`descriptor` is 'wavelets'; one of 'local-correlation-map', 'power-spectrum', .* is needed"),
    "descriptor number": ({"descriptor": 5}, TypeError, "`descriptor` is 5; LocalCorrelationMap"),
    "descriptor class": ({"descriptor": LocalCorrelationMap}, TypeError, "`descriptor` is .*; LocalCorrelationMap"),
    "method": ({"descriptor": LocalCorrelationMap(method="quick")}, ValueError, "`method` is 'quick'; one of 'auto', 'direct', 'fft', 'box' is needed"),
    "border": ({"descriptor": LocalCorrelationMap(border="wrap")}, ValueError, "`border` is 'wrap'; one of 'full', 'valid' is needed"),
    "mask shape": ({"mask": np.ones((60, 63), bool)}, ValueError, r"`mask` has shape \(60, 63\); that of `image`, \(60, 64\), is needed"),
    "mask all False": ({"mask": np.zeros((60, 64), bool)}, ValueError, "`mask` is False everywhere"),
    "mask text": ({"mask": np.full((60, 64), "a")}, TypeError, "`mask` has dtype <U1; bool is needed"),
    "mask of few pixels": ({"mask": np.eye(60, 64) * (np.arange(64) < 1) > 0}, ValueError, "`image`|`n_patterns`"),
    "n_components 0": ({"n_components": 0}, ValueError, "`n_components` is 0; a whole number of at least 1 or a fraction"),
    "n_components text": ({"n_components": "5"}, TypeError, "`n_components` is '5'; a whole number of at least 1 or a fraction"),
    "n_components nan": ({"n_components": float("nan")}, ValueError, "`n_components` is nan; a whole number"),
    "device": ({"device": "tpu"}, ValueError, "`device` is 'tpu'; one of 'auto', 'cpu', 'cuda', 'cuda:1' is needed"),
    "random_state": ({"random_state": "seed"}, TypeError, "`random_state` is 'seed'; a whole number"),
    "random_state -1": ({"random_state": -1}, ValueError, "`random_state` is -1"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_PARAMETERS)
def test_parameters_that_make_no_sense(name):
    options, error, message = BAD_PARAMETERS[name]
    with pytest.raises(error, match=message):
        gpuseg.segment(GOOD, **{"device": "cpu", **options})
    if "mask" not in options:
        with pytest.raises(error, match=message):
            Segmenter(**{"device": "cpu", **options}).fit(GOOD)


LATE = ("n_patterns too many", "mask of few pixels")  # told when it is known how many points can be used


@pytest.mark.parametrize("name", sorted(BAD_PARAMETERS.keys() - LATE))
def test_bad_parameters_are_told_before_the_work_begins(monkeypatch, name):
    def no_work(*arguments, **keywords):
        pytest.fail("work had begun")

    monkeypatch.setattr(cpu, "translation_scores", no_work)
    options, error, message = BAD_PARAMETERS[name]
    with pytest.raises(error, match=message):
        gpuseg.segment(GOOD, **{"device": "cpu", **options})


def test_cuda_without_a_gpu():
    if arrays.gpu_status()[0]:
        pytest.skip("there is a GPU")
    with pytest.raises(
        gpuseg.DeviceError, match="`device` is 'cuda', but no GPU can be used: .*; or use device='cpu'"
    ):
        gpuseg.segment(GOOD, device="cuda")


def test_flat_and_empty_parts_of_an_image_are_a_pattern_of_their_own(picture):
    image = picture.image.copy()
    image[:, 90:] = 0
    got = gpuseg.segment(image, 2, **FAST)
    assert (got.labels[:, 105:] == got.labels[0, -1]).all()
    assert (got.labels[:, :75] != got.labels[0, -1]).all()
    assert all(np.isfinite(x).all() for x in (got.components, got.certainty, got.separability))


@pytest.mark.parametrize(("rows", "cols"), list(itertools.product([41, 42, 47], [41, 55])))
def test_the_smallest_images(rows, cols):
    got = gpuseg.segment(GOOD[:rows, :cols], random_state=0, device="cpu")
    assert got.labels.shape == (rows, cols)
    assert set(np.unique(got.labels)) == {0, 1}


def test_a_mask_between_the_grid_points_is_told():
    mask = np.zeros((60, 60), bool)
    mask[:, [k for k in range(60) if k % 5 != 2]] = True  # grid points lie in columns 2, 7, ...
    image = np.random.default_rng(0).normal(size=(60, 60))
    with pytest.raises(ValueError, match="meet at no grid point; a smaller `stride`"):
        gpuseg.segment(image, mask=mask, descriptor=gpuseg.LocalCorrelationMap(6, 3), stride=5, device="cpu")
