"""Sizes that are "auto": from the lattice period, kept as numbers, the defaults where there is no lattice."""

import json
import logging

import numpy as np
import pytest

import gpuseg
from gpuseg import sizes, synthetic
from gpuseg.descriptors import Fusion, Histogram, LocalCorrelationMap, PowerSpectrum, PreselectedTranslations

AUTO = {
    "descriptor": LocalCorrelationMap("auto", "auto"),
    "stride": "auto",
    "device": "cpu",
    "random_state": 0,
}


def crystal(period, counts=20.0, side=256):
    labels = np.zeros((side, side), np.int32)
    return synthetic.image_of_grains(
        labels, [synthetic.hexagonal(period)], counts=counts, random_state=0
    ).image


NOISE = np.random.default_rng(0).standard_normal((128, 128))


@pytest.mark.parametrize("period", [6, 10, 14, 22])
def test_sizes_follow_the_lattice(period):
    found = sizes.sizes_of(crystal(period))
    assert found.lattice_period == pytest.approx(period, rel=0.02)
    assert found.patch_radius == round(1.25 * found.lattice_period)
    assert found.window_radius == round(1.25 * found.lattice_period)
    assert found.stride == max(1, int(found.lattice_period / 4))
    assert "lattice period" in found.reasons[0]


def test_fewer_counts_larger_patches():
    clear, noisy, dark = (sizes.sizes_of(crystal(10, counts)) for counts in (20, 0.5, 0.1))
    assert clear.patch_radius < noisy.patch_radius <= dark.patch_radius == pytest.approx(30, abs=2)
    assert dark.window_radius == pytest.approx(20, abs=2)
    assert "enlarged for noise" in dark.reasons[1]


def test_no_radius_is_larger_than_the_image_allows():
    found = sizes.sizes_of(crystal(14, counts=0.3, side=96))
    assert found.lattice_period == pytest.approx(14, rel=0.1)
    assert found.patch_radius == 24
    assert found.window_radius <= 24


def test_a_fine_lattice_in_a_large_image_does_not_get_a_million_grid_points():
    found = sizes.sizes_of(crystal(4.5, side=1024))
    assert found.stride == 3
    assert "131072 grid points" in found.reasons[-1]


def test_without_a_lattice_the_defaults_and_a_warning(caplog):
    with caplog.at_level(logging.WARNING, "gpuseg"):
        result = gpuseg.segment(NOISE, **AUTO)
    assert result.model.descriptor == LocalCorrelationMap(20, 20)
    assert result.model.stride == 5
    assert result.parameters["lattice_period"] is None
    assert "no lattice was found" in caplog.text


@pytest.mark.parametrize("side", [3, 30, 60])
def test_small_images_without_a_lattice_get_smaller_radii(side):
    image = NOISE[:side, : 2 * side]
    result = gpuseg.segment(image, **AUTO)
    radius = max(1, side // 4)
    assert result.model.descriptor == LocalCorrelationMap(radius, radius)
    assert f"patch and window radius {radius}" in sizes.sizes_of(image).reasons[0]


def test_what_was_chosen_is_kept_and_used_again(tmp_path, caplog):
    scene = synthetic.bicrystal((256, 256), random_state=0)
    with caplog.at_level(logging.INFO, "gpuseg"):
        result = gpuseg.segment(scene.image, **AUTO)
    assert "lattice period 13.9" in caplog.text
    used = result.model.descriptor
    assert (used.patch_radius, used.window_radius, result.model.stride) == (17, 16, 3)
    assert result.parameters["descriptor"]["patch_radius"] == 17
    assert result.parameters["stride"] == 3
    assert result.parameters["lattice_period"] == pytest.approx(14, rel=0.02)
    assert result.grid.stride == 3
    assert "sizes" in result.timings
    # an image without a lattice is looked at with the same numbers
    again = result.model.predict(NOISE, device="cpu")
    assert again.grid.stride == 3
    assert again.model.descriptor == used
    result.model.save(tmp_path / "model.npz")
    assert gpuseg.SegmentationModel.load(tmp_path / "model.npz").descriptor == used
    result.save(tmp_path / "result")
    summary = json.loads((tmp_path / "result" / "summary.json").read_text())
    assert summary["parameters"]["descriptor"]["window_radius"] == 16


def test_auto_gives_what_its_numbers_give():
    image = synthetic.bicrystal((256, 256), counts=3, random_state=1).image
    auto = gpuseg.segment(image, **AUTO)
    numbers = {"descriptor": auto.model.descriptor, "stride": auto.model.stride}
    given = gpuseg.segment(image, device="cpu", random_state=0, **numbers)
    np.testing.assert_array_equal(auto.labels, given.labels)
    assert "sizes" not in given.timings
    assert "lattice_period" not in given.parameters


def test_only_what_is_auto_is_chosen():
    image = crystal(10)
    descriptor, stride, _ = sizes.resolve(LocalCorrelationMap(7, "auto", max_num_points=50), 4, image)
    assert (descriptor.patch_radius, stride, descriptor.max_num_points) == (7, 4, 50)
    assert descriptor.window_radius == 12
    same = LocalCorrelationMap(7, 9)
    assert sizes.resolve(same, 4, image) == (same, 4, None)
    assert sizes.resolve(same, "auto", image)[:2] == (same, 2)


@pytest.mark.parametrize("max_num_points", [1, 9, 100, 400, 1681])
@pytest.mark.parametrize("period", [6, 11, 16])
def test_the_window_is_about_as_large_as_wanted_and_its_translations_are_hardly_lopsided(
    period, max_num_points
):
    descriptor, _, found = sizes.resolve(LocalCorrelationMap(20, "auto", max_num_points), 5, crystal(period))
    assert descriptor.window_radius == pytest.approx(found.window_radius, rel=0.2)
    if max_num_points >= 100:  # of three or fewer, the rule for their distance decides
        shifts = sorted({t.d_row for t in descriptor.operations()})
        assert -shifts[0] - shifts[-1] <= 0.5 * (shifts[1] - shifts[0])


def test_other_descriptors_and_lists_of_them():
    image = crystal(10)
    listed = Fusion((PowerSpectrum("auto"), Histogram(9), LocalCorrelationMap("auto")))
    descriptor, _, found = sizes.resolve(listed, 5, image)
    spectrum, histogram, correlation = descriptor.descriptors
    assert spectrum.window_radius == correlation.patch_radius == found.patch_radius == 12
    assert histogram.window_radius == 9
    assert correlation.window_radius == 20
    chosen = PreselectedTranslations([(0, 10), (9, 5)], patch_radius="auto")
    assert sizes.resolve(chosen, 5, image)[0].patch_radius == 12
    result = gpuseg.segment(image, 1, descriptor=[PowerSpectrum("auto"), "histogram"], device="cpu")
    assert result.model.descriptor.descriptors[0].window_radius == 12


def test_radii_of_symmetries_about_a_point():
    image = crystal(10)
    for kind in (gpuseg.RotationalSymmetry, gpuseg.ReflectionSymmetry, gpuseg.GlideReflectionSymmetry):
        descriptor, _, found = sizes.resolve(kind(radius="auto", pooling_radius="auto"), 5, image)
        assert (descriptor.radius, descriptor.pooling_radius) == (found.patch_radius, 10)
    result = gpuseg.segment(
        image, 1, descriptor=gpuseg.RotationalSymmetry("auto", pooling_radius="auto"), device="cpu"
    )
    assert result.model.descriptor.radius == 12
    assert result.parameters["descriptor"]["pooling_radius"] == 10


def test_a_mask_hides_the_lattice_it_covers():
    image = np.concatenate([crystal(10), crystal(18)], axis=1)
    mask = np.zeros(image.shape, bool)
    mask[:, :256] = True
    assert sizes.sizes_of(image, mask).lattice_period == pytest.approx(10, rel=0.02)
    assert sizes.sizes_of(image, ~mask).lattice_period == pytest.approx(18, rel=0.02)


def test_segmenter_and_series_take_the_word():
    scene = synthetic.bicrystal((200, 200), period=10, random_state=0)
    words = {name: AUTO[name] for name in ("descriptor", "stride", "device", "random_state")}
    segmenter = gpuseg.Segmenter(2, **words).fit(scene.image)
    assert segmenter.get_params()["stride"] == "auto"
    assert segmenter.model_.stride == 2
    series = gpuseg.segment_series([scene.image, NOISE[:200, :200]], 2, **words)
    assert series.model.stride == 2
    assert series.model.descriptor == segmenter.model_.descriptor


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"stride": "atuo"}, "`stride` is 'atuo'; a whole number of at least 1 or 'auto' is needed"),
        ({"stride": "AUTO"}, "`stride` is 'AUTO'"),
        ({"stride": 2.5}, "`stride` is 2.5"),
        ({"descriptor": LocalCorrelationMap("atuo")}, "`patch_radius` is 'atuo'; a whole number of pixels"),
        ({"descriptor": LocalCorrelationMap(20, "large")}, "`window_radius` is 'large'; .* or 'auto'"),
        ({"descriptor": LocalCorrelationMap(("auto", 20))}, "`patch_radius` is 'auto'"),
        ({"descriptor": PowerSpectrum("automatic")}, "`window_radius` is 'automatic'"),
    ],
)
def test_misspelt_words_are_refused(parameters, message):
    with pytest.raises(TypeError, match=message):
        gpuseg.segment(NOISE, **{"device": "cpu", **parameters})


def test_a_descriptor_alone_cannot_know_and_says_who_does():
    with pytest.raises(TypeError, match=r"`window_radius` is 'auto'; .*gpuseg\.suggest\(image\)"):
        LocalCorrelationMap(20, "auto").transform(NOISE, device="cpu")
    with pytest.raises(TypeError, match="`stride` is 'auto'"):
        LocalCorrelationMap().transform(NOISE, stride="auto", device="cpu")


@pytest.mark.parametrize("image", [np.full((80, 80), np.nan), np.ones((80, 80))], ids=["nan", "constant"])
def test_a_dead_image_is_an_error_before_it_is_one_without_a_lattice(image, caplog):
    with pytest.raises(ValueError, match="`image` of shape"):
        gpuseg.segment(image, stride="auto", device="cpu")
    assert not caplog.records
