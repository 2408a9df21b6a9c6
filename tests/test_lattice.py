"""The autocorrelation of an image and the lattice periods it tells, on crystals whose periods are known."""

import numpy as np
import pytest

from gpuseg import lattice, synthetic

SIDE = 256


def crystal(phase, counts=20.0, random_state=0, side=SIDE, **imaging):
    labels = np.zeros((side, side), np.int32)
    return synthetic.image_of_grains(
        labels, [phase], counts=counts, random_state=random_state, **imaging
    ).image


def pearson_at(image, d_row, d_col):
    """The definition, for a shift of d_row >= 0."""
    height, width = image.shape
    here = image[: height - d_row, max(0, -d_col) : min(width, width - d_col)]
    there = image[d_row:, max(0, d_col) : min(width, width + d_col)]
    return float((here * there).sum() / np.sqrt((here**2).sum() * (there**2).sum()))


CRYSTALS = {
    "square": (synthetic.square(17.3), 17.3),
    "hexagonal": (synthetic.hexagonal(14), 14.0),
    "rectangular": (synthetic.rectangular(12, 20), 12.0),
    "centred": (synthetic.centred(17, 24), np.hypot(8.5, 12)),
    "honeycomb": (synthetic.honeycomb(20), 20.0),
    "kagome": (synthetic.kagome(18), 18.0),
    "perovskite": (synthetic.perovskite(20), 20.0),
    "pm": (synthetic.pm_crystal(20, 28), 20.0),
    "pg": (synthetic.pg_crystal(20, 28), 20.0),
    "fine": (synthetic.hexagonal(5), 5.0),
    "coarse": (synthetic.square(33), 33.0),
}


@pytest.mark.parametrize("angle", [0, 11, 37])
@pytest.mark.parametrize("name", CRYSTALS)
def test_period_of_a_crystal_is_that_of_its_lattice_and_not_the_distance_of_its_columns(name, angle):
    phase, period = CRYSTALS[name]
    image = crystal(phase.rotated(angle))
    assert lattice.lattice_period(image) == pytest.approx(period, rel=0.01)


def test_a_gradient_an_offset_and_a_unit_change_little():
    image = crystal(synthetic.square(15), gradient=1.5, gradient_angle=30)
    assert lattice.lattice_period(image) == pytest.approx(15, rel=0.01)
    plain = lattice.lattice_period(crystal(synthetic.square(15)))
    counts = np.round(30000 + 20 * crystal(synthetic.square(15))).astype(">u2")
    assert lattice.lattice_period(counts) == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_period_is_found_in_noise(seed):
    image = crystal(synthetic.hexagonal(14).rotated(9), counts=0.1, random_state=seed, side=512)
    assert lattice.lattice_period(image) == pytest.approx(14, rel=0.04)


@pytest.mark.parametrize("n_grains", [2, 8, 20])
def test_grains_of_one_crystal_have_its_period(n_grains):
    scene = synthetic.polycrystal(n_grains=n_grains, counts=3, random_state=n_grains)
    assert lattice.lattice_period(scene.image) == pytest.approx(14, rel=0.04)


@pytest.mark.parametrize("seed", range(5))
def test_no_lattice_in_noise_nor_in_an_amorphous_structure(seed):
    noise = np.random.default_rng(seed).standard_normal((SIDE, SIDE))
    assert lattice.lattice_period(noise) is None
    assert lattice.lattice_period(crystal(synthetic.Amorphous(14), random_state=seed)) is None


def test_no_lattice_where_two_periods_do_not_fit():
    blobs = np.zeros((96, 96))
    blobs[::40, ::40] = 1
    assert lattice.lattice_period(blobs) is None


@pytest.mark.parametrize("value", [0.0, 7.3, 1e9])
def test_constant_and_tiny_images_have_no_lattice(value):
    assert lattice.lattice_period(np.full((64, 48), value)) is None
    assert lattice.lattice_period(np.array([[value]])) is None
    assert lattice.lattice_period(np.full((64, 48), np.nan)) is None


def test_autocorrelation_is_the_correlation_of_the_overlap():
    rng = np.random.default_rng(0)
    image = rng.standard_normal((60, 47))
    found = lattice.autocorrelation(image)
    rows, cols = found.reach
    assert (rows, cols) == (20, 15)
    assert found.values[rows, cols] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(found.values, found.values[::-1, ::-1], atol=1e-5)
    # the background of white noise is nearly nothing, so the definition on the raw pixels comes close
    for shift in [(0, 3), (7, -4), (20, 15), (13, 0)]:
        value = found.values[rows + shift[0], cols + shift[1]]
        assert value == pytest.approx(pearson_at(image - image.mean(), *shift), abs=0.03)
    assert np.nanmax(np.abs(found.values)) <= 1 + 1e-5


def test_masked_and_missing_pixels_do_not_count():
    image = crystal(synthetic.square(13).rotated(8))
    mask = np.ones(image.shape, bool)
    mask[40:120, 60:200] = False
    broken = image.copy()
    broken[~mask] = 1e6
    assert lattice.lattice_period(broken, mask) == pytest.approx(13, rel=0.01)
    broken[~mask] = np.nan
    assert lattice.lattice_period(broken) == pytest.approx(13, rel=0.01)
    same = lattice.autocorrelation(broken).values, lattice.autocorrelation(image, mask).values
    np.testing.assert_allclose(same[0], same[1], atol=1e-6)


def test_where_hardly_any_pixel_has_a_partner_nothing_is_said():
    image = crystal(synthetic.square(13))
    image[8:, :] = np.nan
    values = lattice.autocorrelation(image).values
    assert np.isnan(values[0]).all()
    assert np.isfinite(values[values.shape[0] // 2]).any()


def test_period_along_a_direction():
    found = lattice.autocorrelation(crystal(synthetic.rectangular(16, 24).rotated(20)))
    assert lattice.period_along(found, 20) == pytest.approx(16, rel=0.01)
    assert lattice.period_along(found, 110) == pytest.approx(24, rel=0.01)
    assert lattice.period_along(found, 290) == pytest.approx(24, rel=0.01)
    diagonal = 20 + np.degrees(np.arctan2(24, 16))
    assert lattice.period_along(found, diagonal) == pytest.approx(np.hypot(16, 24), rel=0.01)
    assert lattice.period_along(found, 23.0, tolerance=4) == pytest.approx(16, rel=0.01)
    assert lattice.period_along(found, 24.0, tolerance=2) is None


@pytest.mark.parametrize("angle", [0, 30])
def test_period_along_a_glide_line_is_the_cell_and_not_half_of_it(angle):
    found = lattice.autocorrelation(crystal(synthetic.pg_crystal(20, 28).rotated(angle)))
    assert lattice.period_along(found, 90 + angle) == pytest.approx(28, rel=0.01)
    assert lattice.period_along(found, angle) == pytest.approx(20, rel=0.01)


def test_period_along_is_none_without_a_lattice():
    found = lattice.autocorrelation(np.random.default_rng(0).standard_normal((128, 128)))
    assert found.vectors == ()
    assert lattice.period_along(found, 0) is None


def test_vectors_know_their_length_and_angle():
    found = lattice.autocorrelation(crystal(synthetic.square(15).rotated(25)))
    first, second = found.vectors[:2]
    assert [first.length, second.length] == pytest.approx([15, 15], rel=0.01)
    assert sorted([first.angle, second.angle]) == pytest.approx([25, 115], abs=1)
    assert 0.8 < first.height <= 1


@pytest.mark.parametrize("angle", [np.nan, np.inf])
def test_a_direction_has_to_be_finite(angle):
    found = lattice.autocorrelation(np.ones((20, 20)))
    with pytest.raises(ValueError, match="`angle` is .*; a finite number of degrees is needed"):
        lattice.period_along(found, angle)


@pytest.mark.parametrize("tolerance", [0, -1, 91, np.nan])
def test_a_tolerance_has_to_be_one(tolerance):
    found = lattice.autocorrelation(np.ones((20, 20)))
    with pytest.raises(ValueError, match="`tolerance` is .*; degrees above 0 and at most 90 are needed"):
        lattice.period_along(found, 0, tolerance)


def test_bad_images_and_masks_are_refused():
    with pytest.raises(TypeError, match="complex128; real numbers are needed"):
        lattice.lattice_period(np.ones((8, 8), complex))
    with pytest.raises(ValueError, match=r"`mask` has shape \(8, 9\)"):
        lattice.lattice_period(np.ones((8, 8)), np.ones((8, 9), bool))


def test_an_emulated_gpu_finds_the_same(emulated_cuda):
    image = crystal(synthetic.hexagonal(9).rotated(4), side=72)
    image[10:20, 30:44] = np.nan
    wanted = lattice.autocorrelation(image)
    found = lattice.autocorrelation(emulated_cuda().asarray(image))
    assert type(found.values) is np.ndarray
    np.testing.assert_allclose(found.values, wanted.values, atol=1e-5)
    assert lattice.lattice_period(found) == pytest.approx(lattice.lattice_period(wanted), rel=1e-4)
