"""Selection of operations: the best are kept, patterns keep their labels, and what was lost is told."""

import dataclasses

import numpy as np
import pytest

import gpuseg
from gpuseg import LocalCorrelationMap, PreselectedTranslations, SegmentationModel
from gpuseg.descriptors.kept import Kept
from gpuseg.segmentation import segment_together
from tests.test_segmentation import FAST, uneven_bicrystal
from tests.tolerances import TOLERANCE

N_PATTERNS = 2


@pytest.fixture(scope="module")
def picture():
    return uneven_bicrystal()


@pytest.fixture(scope="module")
def segmentation(picture):
    return gpuseg.segment(picture.image, **FAST)


def test_the_operations_of_largest_separability_are_kept(segmentation):
    model = segmentation.select(7)
    scores = dict(zip(segmentation.operations, segmentation.separability, strict=True))
    kept = model.descriptor.operations()
    assert isinstance(model.descriptor, PreselectedTranslations)
    assert [scores[each] for each in kept] == sorted(scores.values(), reverse=True)[:7]
    assert model.components.shape == (5, 7)
    assert model.descriptor.patch_radius == segmentation.model.descriptor.patch_radius


@pytest.mark.parametrize("n_operations", [1, 5, 20, 36])
def test_patterns_keep_their_labels(n_operations, segmentation, picture):
    model = segmentation.select(n_operations)
    again = model.predict(picture.image, device="cpu")
    assert (again.labels == segmentation.labels).mean() > 0.9
    assert 0.9 < model.accuracy <= 1
    assert model.cluster_centers.shape == (N_PATTERNS, min(5, n_operations))


def test_accuracy_is_the_share_of_equal_grid_points(segmentation):
    model = segmentation.select(3)
    values = segmentation.descriptors.values
    order = [segmentation.operations.index(each) for each in model.descriptor.operations()]
    points = (values[order].reshape(3, -1).T - model.mean) @ model.components.T
    nearest = ((points[:, None] - model.cluster_centers) ** 2).sum(-1).argmin(1)
    assert model.accuracy == pytest.approx((nearest == segmentation.point_labels.ravel()).mean(), abs=1e-3)
    assert segmentation.model.accuracy is None


def test_labelled_descriptors_serve_as_well(segmentation):
    wanted = segmentation.select(6)
    model = segmentation.model.select(6, segmentation.descriptors, segmentation.point_labels)
    np.testing.assert_array_equal(model.cluster_centers, wanted.cluster_centers)
    assert model.descriptor == wanted.descriptor
    twice = segmentation.model.select(6, [segmentation, segmentation])
    assert twice.descriptor == wanted.descriptor
    assert twice.accuracy == pytest.approx(wanted.accuracy)


def test_masked_points_do_not_count(picture):
    mask = np.ones(picture.image.shape, bool)
    mask[:, :30] = False
    masked = gpuseg.segment(picture.image, mask=mask, **FAST)
    assert (masked.select(9).predict(picture.image, mask, "cpu").labels == masked.labels).mean() > 0.97


def test_a_selected_model_is_saved_with_its_accuracy(segmentation, tmp_path, picture):
    model = segmentation.select(6)
    model.save(tmp_path / "m.npz")
    loaded = SegmentationModel.load(tmp_path / "m.npz")
    assert (loaded.accuracy, loaded.typical_certainty) == (model.accuracy, model.typical_certainty)
    labels = [each.predict(picture.image, device="cpu").labels for each in (model, loaded)]
    np.testing.assert_array_equal(*labels)


def test_typical_certainty_is_that_of_the_image_learnt_from(segmentation):
    typical = segmentation.model.typical_certainty
    assert typical == pytest.approx(segmentation.certainty.mean(), abs=0.02)
    assert 0.5 < typical < 1


def test_several_images_share_their_patterns(picture):
    other = uneven_bicrystal(offset=-10.0, random_state=1).image
    options = {"stride": 5, "n_components": 5, "upsampling": True, "sort_labels_by_pattern_size": True,
               **FAST}  # fmt: skip
    first, second = segment_together([picture.image, other], 2, masks=[None, None], **options)
    assert first.model is second.model
    np.testing.assert_array_equal(first.model.predict(other, device="cpu").labels, second.labels)
    alone = segment_together([picture.image], 2, masks=[None], **options)[0]
    np.testing.assert_array_equal(alone.labels, gpuseg.segment(picture.image, **FAST).labels)


@pytest.mark.parametrize("n_operations", [0, -1, 37, 2.5, "many", True])
def test_bad_numbers_are_refused(n_operations, segmentation):
    with pytest.raises((TypeError, ValueError), match="`n_operations` is"):
        segmentation.select(n_operations)


def test_bad_labels_are_refused(segmentation):
    model, descriptors = segmentation.model, segmentation.descriptors
    with pytest.raises(TypeError, match="Descriptors without `labels`; a Segmentation"):
        model.select(3, descriptors)
    with pytest.raises(TypeError, match="`labelled` is str"):
        model.select(3, "all")
    with pytest.raises(ValueError, match=r"`labels` of shape \(3, 3\)"):
        model.select(3, descriptors, np.zeros((3, 3), int))
    with pytest.raises(ValueError, match="pattern 1 has no grid point"):
        model.select(3, descriptors, np.zeros(descriptors.grid.shape, int))
    with pytest.raises(ValueError, match="0 descriptors came with 0 labels"):
        model.select(3, [], [])
    with pytest.raises(ValueError, match="1 descriptors came with 2 labels"):
        model.select(3, [descriptors], [segmentation.point_labels] * 2)
    fewer = dataclasses.replace(
        descriptors, values=descriptors.values[:4], operations=segmentation.operations[:4]
    )
    with pytest.raises(ValueError, match="descriptors of 4 operations"):
        model.select(3, fewer, segmentation.point_labels)


def test_operations_of_any_descriptor_are_selected():
    class Whole:
        def transform(self, image, stride=5, mask=None, device="auto"):
            return LocalCorrelationMap(6, 6, 30).transform(image, stride, mask, device)

    whole = gpuseg.segment(uneven_bicrystal().image, descriptor=Whole(), random_state=0, device="cpu")
    few = whole.select(3)
    best = np.argsort(-np.asarray(whole.separability), kind="stable")[:3]
    again = few.predict(uneven_bicrystal().image, device="cpu")
    np.testing.assert_array_equal(again.descriptors.values, whole.descriptors.values[best])
    assert again.operations == tuple(whole.operations[k] for k in best)
    fewer = few.select(2, again)
    assert fewer.descriptor.indices == tuple(best[list(np.argsort(-np.asarray(again.separability))[:2])])
    with pytest.raises(ValueError, match="places among 4 operations"):
        Kept(LocalCorrelationMap(3, 1, 4), (4,)).operations()


def test_every_kind_of_array_is_selected_from_alike(segmentation, device_space):
    """Also with a point that has no pattern."""
    found = segmentation.descriptors
    points = segmentation.point_labels.copy()
    points[0, 0] = -1
    there = dataclasses.replace(found, values=device_space(found.values), usable=device_space(found.usable))
    wanted = segmentation.model.select(6, found, points)
    model = segmentation.model.select(6, there, device_space(points))
    assert model.descriptor == wanted.descriptor
    assert model.accuracy == pytest.approx(wanted.accuracy, abs=2 / points.size)
    np.testing.assert_allclose(
        model.cluster_centers, wanted.cluster_centers, atol=TOLERANCE["pca", "components"]
    )
