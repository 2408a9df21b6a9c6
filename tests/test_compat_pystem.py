"""The interface of pystem over this package: its names, its shapes, its numbers."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import gpuseg
from gpuseg.compat.pystem import calculate_Fisher_separability, colorcode, segmentationSTEM
from tests import naive
from tests.test_golden import agreement
from tests.tolerances import TOLERANCE, assert_scores_close

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden" / "pystem_0.0.26.npz"
SMALL = {"window_x": 9, "window_y": 7, "patch_x": 8, "patch_y": 6, "stride": 4, "max_num_points": 60,
         "n_PCA_components": 4, "random_state": 0, "device": "cpu"}  # fmt: skip


@pytest.fixture(scope="module")
def golden():
    if not GOLDEN.exists():
        pytest.skip(f"the golden numbers are not part of the package ({GOLDEN.name} not found)")
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def scene():
    return gpuseg.synthetic.bicrystal((120, 110), period=9, misorientation=20, counts=20, random_state=0)


@pytest.fixture(scope="module")
def image(scene):
    return scene.image


# --- the interface ---------------------------------------------------------------------------------------


def test_the_constructor_is_that_of_pystem():
    signature = inspect.signature(segmentationSTEM)
    positional = {
        name: each.default
        for name, each in signature.parameters.items()
        if each.kind is not each.KEYWORD_ONLY
    }
    assert positional == {
        "n_patterns": 2, "stride": 5, "descriptor_name": "local_correlation_map", "n_PCA_components": 5,
        "upsampling": True, "preselected_translations": None, "window_x": 21, "window_y": 21,
        "num_reflection_plane": 10, "radius": 20, "patch_x": 20, "patch_y": 20, "max_num_points": 100,
        "method": "direct", "sort_labels_by_pattern_size": True, "random_state": None,
        "separability_analysis": False, "num_operations_with_best_sep": 5, "one_step_kmeans": False,
        "pca_fitted": None, "kmeans_init_centers": None,
    }  # fmt: skip
    paras = segmentationSTEM(3, 4).paras
    assert (paras["n_patterns"], paras["step"], paras["num_max"]) == (3, 4, 10)
    assert "stride" not in paras


def test_a_notebook_runs(scene, image):
    model = segmentationSTEM(separability_analysis=True, num_operations_with_best_sep=7, **SMALL)
    labels = model.perform_clustering(image)
    assert labels.shape == image.shape
    assert labels.dtype == np.int32
    assert agreement(labels, scene.truth) > 0.95
    assert np.bincount(labels.ravel())[0] < labels.size / 2
    np.testing.assert_array_equal(model._segmentation_labels, labels)
    h, w = len(range(17, 120 - 17, 4)), len(range(13, 110 - 13, 4))
    n = len(model._translation_vectors)
    assert model._descriptors.shape == (h, w, n)
    assert model._PCA_components.shape == (h, w, 4)
    assert model._pca.explained_variance_ratio_.shape == (4,)
    assert model._pca.components_.shape == (4, n)
    assert model._kmeans.cluster_centers_.shape == (2, 4)
    assert model._Fisher_separability.shape == (n,)
    best = model._translation_vectors[np.argsort(-model._Fisher_separability)[:7]]
    np.testing.assert_array_equal(model._operations_with_best_sep, best)
    # the second half of the notebooks: the best translations alone
    fast = segmentationSTEM(
        descriptor_name="preselected_translations",
        preselected_translations=model._operations_with_best_sep,
        **SMALL,
    )
    assert agreement(fast.perform_clustering(image), labels) > 0.97


def test_the_stages_one_by_one(image):
    model = segmentationSTEM(upsampling=False, **SMALL)
    descriptors = model.get_descriptors(image)
    components = model.get_PCA_components(image, descriptors)
    points = model.perform_clustering(image, features=components)
    assert points.shape == descriptors.shape[:2] == components.shape[:2]
    np.testing.assert_array_equal(model.get_PCA_components(image), components)
    np.testing.assert_array_equal(model.perform_clustering(image, descriptors=descriptors), points)
    np.testing.assert_array_equal(model.perform_clustering(image), points)
    labels = model.perform_upsampling_labels(image, points)
    np.testing.assert_array_equal(labels[17 : 120 - 17 : 4, 13 : 110 - 13 : 4], points)
    np.testing.assert_array_equal(labels, segmentationSTEM(**SMALL).perform_clustering(image))
    assert model.check_image_validity(image) is None


def test_the_axes_and_centres_of_an_earlier_frame(image):
    first = segmentationSTEM(**SMALL)
    labels = first.perform_clustering(image)
    later = segmentationSTEM(
        pca_fitted=first._pca,
        kmeans_init_centers=first._kmeans.cluster_centers_,
        one_step_kmeans=True,
        **SMALL,
    )
    np.testing.assert_array_equal(later.perform_clustering(image), labels)
    assert later._pca is first._pca
    assert later._kmeans.n_iter_ == 1
    np.testing.assert_allclose(later._kmeans.cluster_centers_, first._kmeans.cluster_centers_, atol=0.05)
    moved = segmentationSTEM(kmeans_init_centers=first._kmeans.cluster_centers_[::-1], **SMALL)
    np.testing.assert_array_equal(moved.perform_clustering(image), labels)  # sorted by size again
    with pytest.raises(ValueError, match=r"`kmeans_init_centers` has shape \(3, 4\); \(2, 4\) is needed"):
        segmentationSTEM(kmeans_init_centers=np.zeros((3, 4)), **SMALL).perform_clustering(image)


def test_scikit_learn_can_fit_the_axes(image):
    from sklearn.decomposition import PCA

    model = segmentationSTEM(**SMALL)
    descriptors = model.get_descriptors(image)
    fitted = PCA(4).fit(descriptors.reshape(-1, descriptors.shape[2]))
    labels = segmentationSTEM(pca_fitted=fitted, **SMALL).perform_clustering(image)
    assert agreement(labels, model.perform_clustering(image)) > 0.999


@pytest.mark.parametrize("name", ["local_correlation_map", "power_spectrum"])
def test_the_device_gives_the_same(name, image, emulated_cuda):
    small = image[:80, :90]
    parameters = {**SMALL, "descriptor_name": name, "stride": 8, "separability_analysis": True}
    cpu = segmentationSTEM(**parameters)
    labels = cpu.perform_clustering(small)
    emulated_cuda()
    cuda = segmentationSTEM(**{**parameters, "device": "cuda"})
    np.testing.assert_array_equal(cuda.perform_clustering(small), labels)
    assert_scores_close(cuda._descriptors, cpu._descriptors, TOLERANCE["window", "log power"])
    assert isinstance(cuda._descriptors, np.ndarray)  # where the image is


def test_parameters_may_be_changed_between_calls(image):
    model = segmentationSTEM(**SMALL)
    model.paras["n_patterns"] = 3
    assert set(np.unique(model.perform_clustering(image))) == {0, 1, 2}
    model.paras["step"] = 8
    assert model.get_descriptors(image).shape[0] == len(range(17, 120 - 17, 8))


@pytest.mark.parametrize("method", ["direct", "fft"])
def test_both_methods_give_the_same(method, image):
    got = segmentationSTEM(method=method, **SMALL).get_descriptors(image)
    np.testing.assert_array_equal(got, segmentationSTEM(**SMALL).get_descriptors(image))


def test_labels_sorted_by_size():
    model = segmentationSTEM(3)
    labels = np.array([[0, 0, 0], [1, 2, 2], [-1, 0, -1]])
    np.testing.assert_array_equal(
        model.sort_labels_by_pattern_size(labels), [[2, 2, 2], [0, 1, 1], [-1, 2, -1]]
    )
    with pytest.raises(ValueError, match="`labels` has 4 patterns; `n_patterns`, 3, are needed"):
        model.sort_labels_by_pattern_size(labels + 1)


def test_unsorted_labels_are_those_of_the_clusters(image):
    model = segmentationSTEM(sort_labels_by_pattern_size=False, upsampling=False, **SMALL)
    labels = model.perform_clustering(image)
    np.testing.assert_array_equal(labels.ravel(), model._kmeans.labels_)
    sorted_ = segmentationSTEM(upsampling=False, **SMALL)
    again = sorted_.perform_clustering(image)
    np.testing.assert_array_equal(again.ravel(), sorted_._kmeans.labels_)
    nearest = np.linalg.norm(
        sorted_._PCA_components[:, :, None] - sorted_._kmeans.cluster_centers_, axis=-1
    ).argmin(axis=-1)
    np.testing.assert_array_equal(nearest, again)


def test_the_nearer_centre_has_the_larger_share():
    centers, features = np.array([[0.0, 0], [4, 0]]), np.array([[0.1, 0], [3, 0], [2, 0], [500, 0]])
    shares = segmentationSTEM().perform_soft_segmentation(centers, features)
    wanted = [1 / (1 + np.exp(0.1**2 - 3.9**2)), 1 / (1 + np.exp(9 - 1)), 0.5, 0]
    np.testing.assert_allclose(shares, wanted, atol=1e-12)
    three = segmentationSTEM(3).perform_soft_segmentation(np.array([[0.0, 0], [4, 0], [0, 5]]), features)
    assert three.shape == (4, 3)
    np.testing.assert_allclose(three.sum(axis=1), 1)
    np.testing.assert_array_equal(three[[0, 1]].argmax(axis=1), [0, 1])


def test_separability_of_other_descriptors(image):
    model = segmentationSTEM(descriptor_name="power_spectrum", separability_analysis=True, **SMALL)
    model.perform_clustering(image)
    assert model._Fisher_separability.shape == model._descriptors.shape[2:] == (143,)
    assert len(model._operations_with_best_sep) == 5
    assert "power spectrum (" in str(model._operations_with_best_sep[0])
    few = segmentationSTEM(
        descriptor_name="preselected_translations", preselected_translations=[(9, 0), (0, 9)],
        separability_analysis=True, **{**SMALL, "n_PCA_components": 2},
    )  # fmt: skip
    few.perform_clustering(image)
    assert few._operations_with_best_sep.shape == (2, 2)


def test_separability_where_only_components_are_given(image):
    first = segmentationSTEM(separability_analysis=True, **SMALL)
    first.perform_clustering(image)
    later = segmentationSTEM(separability_analysis=True, **SMALL)
    later.perform_clustering(image, features=first._PCA_components)
    np.testing.assert_array_equal(later._Fisher_separability, first._Fisher_separability)


def test_pixels_that_are_missing(image):
    holed = image.astype(np.float32).copy()
    holed[20:75, 15:70] = np.nan
    model = segmentationSTEM(separability_analysis=True, **SMALL)
    labels = model.perform_clustering(holed)
    assert labels[45, 40] == -1
    whole = segmentationSTEM(**SMALL).perform_clustering(image)
    assert agreement(labels[90:], whole[90:]) > 0.95
    assert (labels >= -1).all()
    assert np.isfinite(model._Fisher_separability).all()


@pytest.mark.parametrize(("parameters", "message"), [
    ({"descriptor_name": "symmetry"}, "`descriptor_name` is 'symmetry'; one of 'local_correlation_map', "),
    ({"method": "box"}, "`method` is 'box'; one of 'direct', 'fft' is needed"),
    ({"n_patterns": 0}, "`n_patterns` is 0"),
    ({"descriptor_name": "preselected_translations"}, "`preselected_translations` is None; an"),
    ({"num_operations_with_best_sep": 0}, "`num_operations_with_best_sep` is 0"),
    ({"upsampling": "yes"}, "`upsampling` is 'yes'"),
])  # fmt: skip
def test_bad_parameters_are_told_at_once(parameters, message):
    with pytest.raises((TypeError, ValueError), match=message):
        segmentationSTEM(**parameters)


@pytest.mark.parametrize(("parameters", "message"), [
    ({"stride": 0}, "`stride` is 0"), ({"patch_x": -1}, "`patch_radius` is -1"),
    ({"n_PCA_components": 0}, "`n_components` is 0"), ({"window_x": 60}, "`image` has 120 rows"),
])  # fmt: skip
def test_bad_parameters_are_told(parameters, message, image):
    with pytest.raises((TypeError, ValueError), match=message):
        segmentationSTEM(**{**SMALL, **parameters}).perform_clustering(image)


def test_bad_arrays(image):
    model = segmentationSTEM(**SMALL)
    with pytest.raises(ValueError, match="two axes"):
        model.perform_clustering(image[None])
    with pytest.raises(TypeError, match="dtype"):
        model.check_image_validity(image * 1j)
    with pytest.raises(ValueError, match=r"`features` has shape \(5, 4\); \(h, w, N\) is needed"):
        model.perform_clustering(image, features=np.zeros((5, 4)))
    with pytest.raises(ValueError, match=r"`labels` has shape \(3, 3\); .*, the grid's, is needed"):
        model.perform_upsampling_labels(image, np.zeros((3, 3), int))


# --- rotations and reflections ---------------------------------------------------------------------------


def test_rotations_and_reflections_are_asked_for_by_our_names(monkeypatch):
    made = []
    for name in ("RotationalSymmetry", "ReflectionSymmetry"):
        monkeypatch.setattr(gpuseg, name, lambda name=name, **options: made.append((name, options)))
    for name in ("rotational", "reflection"):
        segmentationSTEM(
            descriptor_name=f"{name}_symmetry_maximum_pooling", radius=11, num_reflection_plane=7, **SMALL
        )
    common = {"radius": 11, "pooling_radius": (9, 7), "n_max": 10, "border": "valid"}
    assert made == [
        ("RotationalSymmetry", {**common, "angles": (60, 90, 120, 180)}),
        ("ReflectionSymmetry", {**common, "n_planes": 7}),
    ]


@pytest.mark.parametrize(
    ("name", "key"), [("rotational", "rotational_top10"), ("reflection", "reflection_top5")]
)
def test_golden_rotations_and_reflections(name, key, golden):
    model, labels = of(golden, descriptor_name=f"{name}_symmetry_maximum_pooling", radius=10)
    got, wanted = model._descriptors, golden[key]
    assert got.shape == wanted.shape  # margins, stride and number of values as there
    by_rank = got.reshape(*got.shape[:2], 10, -1)
    assert (np.diff(by_rank, axis=2) <= 0).all()  # in the order of theirs
    assert np.abs(got).max() <= 1 + 1e-5
    assert agreement(labels, golden["truth"]) > 0.95  # theirs: 0.53 by rotation, 0.98 by reflection


@pytest.mark.parametrize("plane", range(10))
def test_planes_stand_in_the_order_of_pystem(plane):
    # what pystem 0.0.26 scores highest in such an image: plane k, 18 k degrees clockwise from the rows
    angle = np.deg2rad(-18 * plane)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(91, 91)), 2.5)
    row, col = np.mgrid[:91, :91] - 45.0
    along, across = np.cos(2 * angle), np.sin(2 * angle)
    mirrored = [45 - (col * across + row * along), 45 + (col * along - row * across)]
    image = noise + ndimage.map_coordinates(noise, mirrored, order=3, mode="reflect")
    model = segmentationSTEM(
        descriptor_name="reflection_symmetry_maximum_pooling", window_x=2, window_y=2, stride=1, device="cpu"
    )
    largest = model.get_descriptors(image)[..., :10]
    assert largest[largest.shape[0] // 2, largest.shape[1] // 2].argmax() == plane
    assert largest[largest.shape[0] // 2, largest.shape[1] // 2].max() > 0.95


def test_the_margin_of_rotations_is_that_of_pystem(image):
    parameters = {**SMALL, "radius": 12, "descriptor_name": "rotational_symmetry_maximum_pooling"}
    model = segmentationSTEM(separability_analysis=True, **parameters)
    labels = model.perform_clustering(image)
    h, w = len(range(21, 120 - 21, 4)), len(range(19, 110 - 19, 4))
    assert model._descriptors.shape == (h, w, 40)
    assert model._PCA_components.shape == (h, w, 4)
    points = segmentationSTEM(upsampling=False, **parameters).perform_clustering(image)
    assert agreement(labels[21 : 120 - 21 : 4, 19 : 110 - 19 : 4], points) == 1
    # away from the border the scores are those of the descriptor itself
    direct = gpuseg.RotationalSymmetry(12, pooling_radius=(9, 7), n_max=10, border="full").transform(
        image, stride=1, device="cpu"
    )
    k, row, col = 2 * 10 + 3, 21 + 4 * (h // 2), 19 + 4 * (w // 2)
    assert model._descriptors[h // 2, w // 2, 3 * 4 + 2] == pytest.approx(
        direct.values[k, row, col], abs=1e-5
    )
    best = model._operations_with_best_sep[0]
    assert model._Fisher_separability.argmax() == best.rank * 4 + (60, 90, 120, 180).index(
        best.operation.angle
    )


# --- the numbers of pystem 0.0.26 ------------------------------------------------------------------------


def of(golden, **parameters):
    model = segmentationSTEM(**{**SMALL, **parameters})
    return model, model.perform_clustering(golden["image"])


def assert_same_labels(model, labels, wanted):
    """The same everywhere but half-way between two grid points, where either may be meant."""
    grid, half = model._grid(labels.shape), model.paras["step"] // 2
    rows, cols = (np.arange(n) - first for n, first in zip(labels.shape, grid.first, strict=True))
    clear = np.ix_(rows % (2 * half) != half, cols % (2 * half) != half)
    assert agreement(grid.at_points(labels), grid.at_points(wanted)) == 1
    assert agreement(labels[clear], wanted[clear]) == 1


@pytest.mark.parametrize("method", ["direct", "fft"])
def test_golden_local_correlation_map(golden, method):
    model, labels = of(golden, method=method, separability_analysis=True)
    np.testing.assert_array_equal(model._translation_vectors, golden[f"lcm_{method}_translations"])
    theirs = np.abs(golden[f"lcm_{method}"] - golden["pearson_float64"]).max()
    assert_scores_close(model._descriptors, golden["pearson_float64"], TOLERANCE["score", "float32"])
    assert_scores_close(model._descriptors, golden[f"lcm_{method}"], theirs + TOLERANCE["score", "float32"])
    np.testing.assert_allclose(
        model._pca.explained_variance_ratio_, golden[f"lcm_{method}_explained_variance_ratio"], atol=1e-3
    )
    assert_same_labels(model, labels, golden[f"lcm_{method}_labels"])
    if method == "direct":
        wanted = golden["lcm_direct_separability"]
        np.testing.assert_allclose(
            model._Fisher_separability, wanted, rtol=TOLERANCE["separability", "pystem"]
        )
        best = model._translation_vectors[np.argsort(-wanted)[:5]]
        np.testing.assert_array_equal(model._operations_with_best_sep, best)


def test_golden_preselected_translations(golden):
    model, labels = of(
        golden, descriptor_name="preselected_translations", n_PCA_components=3,
        preselected_translations=golden["preselected_translations"],
    )  # fmt: skip
    theirs = np.abs(golden["lcm_direct"] - golden["pearson_float64"]).max()
    assert_scores_close(model._descriptors, golden["preselected"], theirs + TOLERANCE["score", "float32"])
    np.testing.assert_allclose(
        model._pca.explained_variance_ratio_, golden["preselected_explained_variance_ratio"], atol=1e-3
    )
    assert_same_labels(model, labels, golden["preselected_labels"])


def test_golden_power_spectrum(golden):
    model, labels = of(golden, descriptor_name="power_spectrum")
    whole = golden["power_spectrum"].reshape(*model._descriptors.shape[:2], 19, 15)
    theirs = np.stack([whole[:, :, k, m] for k, m in naive.frequencies((9, 7))], axis=-1)
    assert_scores_close(model._descriptors, theirs, TOLERANCE["window", "log power of pystem"])
    # theirs stand where they were found plus the patch
    shifted = golden["power_spectrum_labels"][8 + 9 : -9, 6 + 7 : -7]
    here = labels[9 : -8 - 9, 7 : -6 - 7]
    assert agreement(here, shifted) >= 0.9


# --- its helpers -----------------------------------------------------------------------------------------


def test_the_separability_of_features():
    rng = np.random.default_rng(0)
    features, classes = rng.normal(size=(90, 4)), np.repeat([3, 7, 9], 30)
    features[classes == 7, 2] += 5
    got = calculate_Fisher_separability(features, classes)
    mean = features.mean(axis=0)
    parts = [features[classes == k] for k in (3, 7, 9)]
    wanted = sum(len(p) * (p.mean(axis=0) - mean) ** 2 for p in parts) / sum(
        len(p) * p.var(axis=0) for p in parts
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-4)
    with pytest.raises(ValueError, match=r"`features` has shape \(2, 3, 4\)"):
        calculate_Fisher_separability(np.zeros((2, 3, 4)), np.zeros(2))


def test_labels_painted_over_their_image():
    image, labels = np.arange(12.0).reshape(3, 4), np.array([[0, 0, 1, 1]] * 2 + [[-1, -1, 2, 2]])
    picture = colorcode(image, labels)
    assert picture.shape == (3, 4, 3)
    np.testing.assert_allclose(picture.max(axis=2), image / 11)  # brightness
    np.testing.assert_allclose(np.ptp(picture[2, :2], axis=1), 0, atol=1e-12)  # masked: grey
    np.testing.assert_allclose(picture[1, 0, 1:], picture[1, 0, 0] * 0.8)  # hue 0 is red
    green = colorcode(image, labels, colors=[1 / 3] * 3, saturation=1, im0=0, im1=5)
    np.testing.assert_allclose(green[1, 2], [0, 1, 0], atol=1e-12)
    with pytest.raises(ValueError, match="`colors` has 1 hues; one for each of 3 patterns"):
        colorcode(image, labels, colors=[0.5])
    with pytest.raises(ValueError, match=r"`labels` has shape \(4, 3\)"):
        colorcode(image, labels.T)
    with pytest.raises(TypeError, match="`labels` has dtype float64; whole numbers"):
        colorcode(image, labels.astype(float))


def test_something_else_than_a_fitted_pca_is_refused():
    with pytest.raises(TypeError, match="`pca_fitted` is 3; the `_pca` of an earlier segmentation"):
        segmentationSTEM(pca_fitted=3)
