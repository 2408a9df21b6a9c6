"""Synthetic images: the truth lines up with the image, and the physics is that of counted electrons."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuseg import synthetic
from gpuseg.synthetic import Amorphous, Lattice, Vacuum, _geometry
from tests import naive

SEEDED = settings(derandomize=True, deadline=None, max_examples=40)
SCENES = (
    synthetic.bicrystal,
    synthetic.polycrystal,
    synthetic.three_phases,
    synthetic.precipitates,
    synthetic.film_in_vacuum,
)


# ---- lattices


@pytest.mark.parametrize(
    ("lattice", "spacing", "columns_per_area"),
    [
        (synthetic.square(10), 10, 1 / 100),
        (synthetic.rectangular(10, 17), 10, 1 / 170),
        (synthetic.centred(30, 40), 25, 2 / 1200),
        (synthetic.oblique(10, 12, 90), 10, 1 / 120),
        (synthetic.hexagonal(14), 14, 2 / math.sqrt(3) / 14**2),
        (synthetic.honeycomb(15), 15 / math.sqrt(3), 4 / math.sqrt(3) / 15**2),
        (synthetic.kagome(20), 10, 6 / math.sqrt(3) / 20**2),
        (synthetic.perovskite(14), 14 / math.sqrt(2), 2 / 14**2),
        (synthetic.pm_crystal(40, 40), 0.34 * 40, 4 / 1600),
        (synthetic.pg_crystal(40, 40), None, 4 / 1600),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_ready_made_lattices_have_their_spacing_and_density(lattice, spacing, columns_per_area):
    turned = lattice.rotated(23)
    if spacing is not None:
        assert lattice.spacing == pytest.approx(spacing)
    assert turned.spacing == pytest.approx(lattice.spacing)
    assert lattice.scaled(1.5).spacing == pytest.approx(1.5 * lattice.spacing)
    positions, heights = turned.positions((600, 500))
    assert len(positions) == len(heights) == pytest.approx(300_000 * columns_per_area, rel=0.05)


def test_positions_are_those_of_the_lattice():
    positions, heights = synthetic.rectangular(10, 7).positions((22, 31), origin=(1, 2))
    wanted = [(r, c) for r in (1, 8, 15) for c in (2, 12, 22)]
    np.testing.assert_allclose(sorted(map(tuple, positions)), wanted, atol=1e-9)
    np.testing.assert_array_equal(heights, np.ones(9))
    with_margin, _ = synthetic.rectangular(10, 7).positions((22, 31), origin=(1, 2), margin=6)
    assert len(with_margin) == 5 * 4  # rows -6 ... 22, columns 2 ... 32
    assert len(synthetic.rectangular(10, 7).positions((22, 31), origin=(1, 2), margin=-5)[0]) == 2 * 2


def test_angles_are_counter_clockwise_from_the_column_axis():
    turned = synthetic.square(10).rotated(30)
    np.testing.assert_allclose(turned.a, (-5, 10 * math.cos(math.pi / 6)))  # to the right and up
    assert turned.angle == pytest.approx(30)
    assert synthetic.hexagonal(14).rotated(-12).rotated(5).angle == pytest.approx(-7)
    np.testing.assert_allclose(synthetic.rotate_vector((0, 1), 90), (-1, 0), atol=1e-15)


def picture(lattice, side=81):
    """A lattice with its origin in the middle pixel, without noise."""
    middle = (side - 1) / 2
    positions, heights = lattice.positions((side, side), origin=(middle, middle), margin=20)
    return synthetic.gaussian_columns((side, side), positions, heights, sigma=3)


def same(a, b):
    return np.abs(a - b).max() < 1e-4


def test_motifs_have_the_symmetry_of_their_plane_group():
    p4mm = picture(synthetic.perovskite(16))
    assert same(p4mm, np.rot90(p4mm))
    assert same(p4mm, p4mm[:, ::-1])
    pm = picture(synthetic.pm_crystal(40, 32))
    assert same(pm, pm[:, ::-1])
    assert not same(pm, pm[::-1])
    assert not same(pm, pm[::-1, ::-1])
    pg = picture(synthetic.pg_crystal(40, 32))
    assert same(pg[16:], pg[:-16, ::-1])  # half a cell down the glide line
    for other in (pg[:, ::-1], pg[::-1], pg[::-1, ::-1]):
        assert not same(pg, other)


@pytest.mark.parametrize("make", [synthetic.hexagonal, synthetic.honeycomb, synthetic.kagome])
def test_p6mm_lattices_are_themselves_after_60_degrees(make):
    lattice = make(20)
    shape, origin = (123, 125), (60.3, 61.2)  # no column on the window's edge
    here, _ = lattice.positions(shape, origin=origin)
    turned, _ = lattice.rotated(60).positions(shape, origin=origin)
    distance = np.hypot(*np.moveaxis(here[:, None] - turned[None], -1, 0))
    assert len(here) == len(turned)
    assert distance.min(1).max() < 1e-9


# ---- label maps


@pytest.mark.parametrize(("angle", "side"), [(90, "right"), (0, "bottom"), (180, "top"), (270, "left")])
def test_label_one_lies_on_the_right_of_the_boundary(angle, side):
    labels = synthetic.label_halves((40, 60), angle=angle)
    inside = {
        "right": np.s_[:, 30:],
        "left": np.s_[:, :30],
        "bottom": np.s_[20:],
        "top": np.s_[:20],
    }[side]
    assert (labels[inside] == 1).all()
    assert labels.sum() == 1200


def test_a_boundary_can_be_moved():
    np.testing.assert_array_equal(synthetic.label_halves((1, 8), angle=90, offset=2), [[0] * 6 + [1] * 2])


def test_bands_are_of_equal_width():
    labels = synthetic.label_bands((30, 60), 3)
    np.testing.assert_array_equal(labels[0], np.repeat([0, 1, 2], 20))
    np.testing.assert_array_equal(synthetic.label_bands((30, 60), 3, angle=0)[:, 0], np.repeat([0, 1, 2], 10))
    assert np.bincount(synthetic.label_bands((90, 90), 4, angle=30).ravel()).size == 4


def test_discs_have_their_area_and_the_last_one_wins():
    labels = synthetic.label_discs((100, 100), [(50, 30), (50, 60)], [20, 15])
    assert (labels == 2).sum() == pytest.approx(math.pi * 15**2, rel=0.02)
    assert labels[50, 48] == 2
    assert labels[50, 30] == 1
    assert labels[0, 0] == 0


@SEEDED
@given(rows=st.integers(1, 30), cols=st.integers(1, 30), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_every_voronoi_grain_has_a_pixel(rows, cols, share, seed):
    n_grains = 1 + int(share * (min(rows * cols, 40) - 1))
    labels = synthetic.label_voronoi((rows, cols), n_grains, random_state=seed)
    assert labels.shape == (rows, cols)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(np.unique(labels), np.arange(n_grains))


# ---- columns


def direct_sum(shape, positions, heights, sigma):
    """Every column at every pixel, in float64."""
    image = np.zeros(shape)
    for (row, col), height in zip(positions, heights, strict=True):
        squared = np.add.outer((np.arange(shape[0]) - row) ** 2, (np.arange(shape[1]) - col) ** 2)
        image += height * np.exp(-squared / (2 * sigma**2))
    return image


@SEEDED
@given(
    rows=st.integers(1, 40),
    cols=st.integers(1, 40),
    number=st.integers(0, 30),
    sigma=st.floats(0.3, 5),
    seed=st.integers(0, 99),
)
def test_columns_are_summed_exactly(rows, cols, number, sigma, seed):
    rng = np.random.default_rng(seed)
    positions = rng.uniform(-12, 52, (number, 2))
    heights = rng.uniform(0.1, 2, number)
    got = synthetic.gaussian_columns((rows, cols), positions, heights, sigma=sigma)
    assert got.dtype == np.float32
    wanted = direct_sum((rows, cols), positions, heights, sigma)
    assert np.abs(got - wanted).max() < 4e-6 * max(heights.sum(), 1)  # tails beyond 5 sigma


def test_rendering_in_chunks_changes_nothing(monkeypatch):
    positions = np.random.default_rng(0).uniform(0, 60, (50, 2))
    whole = synthetic.gaussian_columns((60, 60), positions, sigma=2)
    monkeypatch.setattr(synthetic.columns, "CHUNK", 1000)
    np.testing.assert_allclose(
        synthetic.gaussian_columns((60, 60), positions, sigma=2), whole, rtol=0, atol=1e-6
    )


def test_total_intensity_is_that_of_the_columns():
    positions = np.random.default_rng(1).uniform(30, 70, (40, 2))
    image = synthetic.gaussian_columns((100, 100), positions, 1.5, sigma=2.5)
    assert image.sum(dtype=np.float64) == pytest.approx(40 * 1.5 * 2 * math.pi * 2.5**2, rel=1e-5)


def test_columns_belong_to_the_grain_that_contains_them():
    labels = synthetic.label_voronoi((150, 130), 4, random_state=3)
    lattices = [synthetic.hexagonal(9 + k).rotated(17 * k) for k in range(4)]
    positions, heights, grains = synthetic.columns_of_grains(labels, lattices, margin=5, random_state=0)
    assert len(positions) == len(heights) == len(grains)
    row, col = np.rint(positions).astype(int).T
    np.testing.assert_array_equal(labels[row.clip(0, 149), col.clip(0, 129)], grains)
    for k, lattice in enumerate(lattices):
        own = positions[grains == k]
        cells = (own - own[0]) @ np.linalg.inv(np.array([lattice.a, lattice.b]))
        assert np.abs(cells - np.rint(cells)).max() < 1e-9
        area = (labels == k).sum() + 5 * 2 * (150 + 130) / 4  # its share of the margin, roughly
        assert len(own) == pytest.approx(area / lattice.cell_area, rel=0.35)


def closest(positions):
    squared = ((positions[:, None] - positions[None]) ** 2).sum(-1)
    return math.sqrt(squared[~np.eye(len(positions), dtype=bool)].min())


def test_a_minimum_distance_is_kept_at_boundaries():
    labels = synthetic.label_halves((200, 200))
    lattices = [synthetic.hexagonal(14), synthetic.hexagonal(14).rotated(14)]
    free, _, free_grains = synthetic.columns_of_grains(labels, lattices, random_state=0)
    kept, _, kept_grains = synthetic.columns_of_grains(labels, lattices, min_distance=9, random_state=0)
    assert closest(free) < 8
    assert closest(kept) >= 9
    np.testing.assert_array_equal(kept[kept_grains == 0], free[free_grains == 0])
    assert (free_grains == 1).sum() - 20 < (kept_grains == 1).sum() < (free_grains == 1).sum()


def test_close_pairs_are_those_of_all_pairs():
    points = np.random.default_rng(0).uniform(-30, 70, (200, 2))
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    wanted = np.argwhere((squared < 36) & ~np.eye(200, dtype=bool))
    got = np.stack(_geometry.close_pairs(points, 6.0), 1)
    assert sorted(map(tuple, got)) == sorted(map(tuple, wanted))


def test_amorphous_columns_are_as_dense_as_a_lattice_and_keep_apart():
    positions, heights = Amorphous(10, weight=0.7).columns((400, 400), 0, random_state=0)
    assert len(positions) == pytest.approx(160_000 * 2 / math.sqrt(3) / 100, rel=0.05)
    assert closest(positions) >= 5
    assert set(heights) == {0.7}


# ---- the microscope


def test_a_gradient_is_a_linear_ramp():
    flat = np.full((20, 31), 2.0)
    right = synthetic.intensity_gradient(flat, 0.5)
    np.testing.assert_allclose(right[[0, 5]], [np.linspace(1.5, 2.5, 31)] * 2, rtol=1e-6)
    up = synthetic.intensity_gradient(flat, 1, angle=90)
    np.testing.assert_allclose(up[:, 3], np.linspace(3, 1, 20), rtol=1e-6)
    np.testing.assert_array_equal(synthetic.intensity_gradient(flat, 0), flat)


def test_jitter_moves_rows_along_themselves():
    ramp = np.tile(np.arange(60.0), (4000, 1))
    moved = synthetic.scan_jitter(ramp, 1.5, random_state=0)[:, 20:40] - ramp[:, 20:40]
    np.testing.assert_allclose(moved, np.repeat(moved[:, :1], 20, axis=1), atol=1e-4)
    assert moved[:, 0].std() == pytest.approx(1.5, rel=0.05)
    assert abs(moved[:, 0].mean()) < 0.1


def test_line_offsets_are_levels_of_rows():
    image = np.random.default_rng(0).random((3000, 5)) + 1
    added = synthetic.line_offsets(image, 0.2, random_state=0) - image
    np.testing.assert_allclose(added, np.repeat(added[:, :1], 5, axis=1), atol=1e-6)
    assert added[:, 0].std() == pytest.approx(0.2 * image.mean(), rel=0.05)


@pytest.mark.parametrize("counts", [0.05, 1, 20, 3000])
def test_counts_are_poisson_numbers(counts):
    image = synthetic.poisson_dose(np.ones((300, 300)), counts, random_state=0)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, np.rint(image))
    pixels = image.size
    assert image.mean(dtype=np.float64) == pytest.approx(counts, abs=5 * math.sqrt(counts / pixels))
    spread_of_variance = math.sqrt((counts + 2 * counts**2) / pixels)
    assert image.var(dtype=np.float64) == pytest.approx(counts, abs=5 * spread_of_variance)


def test_the_dose_follows_the_image():
    steps = np.repeat([[1.0, 2.0, 5.0]], 20_000, axis=0)
    image = synthetic.poisson_dose(steps, 8, random_state=0)
    np.testing.assert_allclose(image.mean(0, dtype=np.float64), [3, 6, 15], rtol=0.01)


# ---- scenes


@pytest.mark.parametrize("scene", SCENES)
def test_scenes_carry_their_truth(scene):
    made = scene((160, 190), counts=5, random_state=0)
    assert made.image.shape == made.truth.shape == (160, 190)
    assert made.image.dtype == np.float32
    assert made.truth.dtype == np.int32
    assert made.n_patterns == len(made.phases) == len(np.unique(made.truth))
    assert made.image.mean(dtype=np.float64) == pytest.approx(5, rel=0.02)
    assert "5 counts per pixel" in made.description
    assert "image" not in repr(made).replace("SyntheticImage", "")


@pytest.mark.parametrize("scene", SCENES)
def test_the_same_random_state_gives_the_same_image(scene):
    options = {"counts": 5, "jitter": 0.5, "offset": 0.1, "displacement": 0.3, "gradient": 0.4}
    first, again = (scene((70, 60), random_state=4, **options) for _ in range(2))
    other = scene((70, 60), random_state=5, **options)
    generator = scene((70, 60), random_state=np.random.default_rng(4), **options)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.image, generator.image)
    assert (first.image != other.image).any()


@pytest.mark.parametrize("scene", SCENES)
def test_the_dose_leaves_the_grains_where_they_are(scene):
    clean, noisy = (scene((70, 60), random_state=4, counts=counts) for counts in (None, 1))
    np.testing.assert_array_equal(clean.truth, noisy.truth)
    np.testing.assert_array_equal(clean.positions, noisy.positions)
    assert (np.rint(noisy.image) == noisy.image).all()
    assert "no noise" in clean.description


@SEEDED
@given(rows=st.integers(1, 60), cols=st.integers(1, 60), which=st.integers(0, len(SCENES) - 1))
def test_scenes_come_in_any_shape(rows, cols, which):
    made = SCENES[which]((rows, cols), counts=None, n_grains=1) if which == 1 else SCENES[which]((rows, cols))
    assert made.image.shape == made.truth.shape == (rows, cols)
    assert np.isfinite(made.image).all()
    assert made.image.min() >= 0


def similarity(image, point, steps):
    """Scores of a large patch at `point` against itself moved by each of `steps`."""
    return naive.translation_scores(image, [point[0]], [point[1]], steps, (24, 24))[:, 0, 0]


@pytest.mark.parametrize("counts", [None, 20, 3])
def test_each_grain_repeats_at_its_own_lattice_vectors(counts):
    scene = synthetic.bicrystal((200, 240), counts=counts, random_state=0)
    around = np.array([(m, n) for m in range(-3, 4) for n in range(-3, 4)])
    for label, point in enumerate([(100, 45), (100, 195)]):
        assert (scene.truth[76:125, point[1] - 38 : point[1] + 39] == label).all()
        own, other = scene.phases[label], scene.phases[1 - label]
        for vector, foreign in ((own.a, other.a), (own.b, other.b)):
            steps = np.rint(vector).astype(int) + around
            scores = similarity(scene.image, point, steps)
            assert np.abs(steps[scores.argmax()] - vector).max() < 0.75
            assert scores.max() > 1.1 * similarity(scene.image, point, [np.rint(foreign).astype(int)])[0]


def test_misorientation_is_as_asked_for():
    left, right = synthetic.bicrystal((40, 40), misorientation=11, rotation=3, period=9).phases
    assert right.angle - left.angle == pytest.approx(11)
    assert left.spacing == pytest.approx(9)


def test_polycrystal_orientations_are_apart():
    angles = np.array([g.angle for g in synthetic.polycrystal((60, 60), n_grains=5, random_state=0).phases])
    apart = np.abs(angles[:, None] - angles) % 60
    apart = np.minimum(apart, 60 - apart)[~np.eye(5, dtype=bool)]
    assert apart.min() > 12 - 1e-9


def test_vacuum_is_its_background_and_nothing_else():
    scene = synthetic.film_in_vacuum((200, 200), counts=None, random_state=0)
    vacuum, amorphous, crystal = (scene.image[scene.truth == k].mean() for k in range(3))
    assert scene.image[:40].min() == scene.image[:40].max() == np.float32(0.02)
    assert vacuum < 0.05 < amorphous < crystal
    counted = synthetic.film_in_vacuum((200, 200), counts=20, random_state=0)
    expected = 20 * 0.02 / scene.image.mean()
    assert counted.image[:40].mean() == pytest.approx(expected, abs=5 * math.sqrt(expected / 8000))


def test_displacement_is_of_the_size_asked_for():
    still, moved = (
        synthetic.bicrystal((200, 200), displacement=size, random_state=0).positions for size in (0, 0.8)
    )
    assert (moved - still).std() == pytest.approx(0.8, rel=0.1)


def test_vacancies_leave_out_the_nearest_columns():
    places = [(50, 40), (52, 41), (20.0, 90.0)]  # the first two mean one column
    full, empty = (
        synthetic.bicrystal((100, 120), counts=None, vacancies=v, random_state=0) for v in (None, places)
    )
    assert full.vacancies.shape == (0, 2)
    assert len(empty.vacancies) == 2
    assert len(empty.positions) == len(full.positions) - 2
    for row, col in empty.vacancies:
        assert np.hypot(*(np.array(places) - (row, col)).T).min() < 14
        near = np.s_[round(row) - 2 : round(row) + 3, round(col) - 2 : round(col) + 3]
        assert empty.image[near].max() < 0.5 * full.image[near].max()
    different = np.argwhere(full.image - empty.image > 0.05)
    distance = np.linalg.norm(different[:, None] - empty.vacancies[None], axis=2)
    assert distance.min(1).max() < 14


@pytest.mark.parametrize("places", [[1, 2], [(1, 2, 3)], [(1, np.nan)]])
def test_bad_vacancies_are_refused(places):
    with pytest.raises(ValueError, match=r"`vacancies` has shape .*a \(row, col\) for each column"):
        synthetic.bicrystal((60, 60), vacancies=places)
    with pytest.raises(ValueError, match="`vacancies` are wanted where no phase has columns"):
        synthetic.image_of_grains(np.zeros((9, 9), int), [synthetic.Vacuum()], vacancies=[(1, 2)])


def test_options_reach_the_image():
    labels = np.zeros((50, 300), int)
    brighter = synthetic.image_of_grains(labels, [synthetic.square(10)], gradient=1, random_state=0).image
    assert brighter[:, 250:].mean() > 2 * brighter[:, :50].mean()
    named = synthetic.image_of_grains(labels, [Vacuum()], counts=2, description="nothing", random_state=0)
    assert named.description == "nothing; 2 counts per pixel"
    assert named.image.mean() == pytest.approx(2, rel=0.05)


# ---- errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Lattice((0, 10), (0, 5)), ValueError, "`a`.*parallel"),
        (lambda: Lattice((0, 10), (5, 0), motif=()), ValueError, "`motif` is empty"),
        (lambda: Lattice((0, 10), (5, 0), weights=(1, 2)), ValueError, "`weights` has 2.*1 columns"),
        (lambda: Lattice((0, 10), (5, 0), weights=(-1,)), ValueError, "`weights` is -1.0.*above 0"),
        (lambda: Lattice((0, 10, 1), (5, 0)), ValueError, "`a`.*two numbers"),
        (lambda: Lattice((0, 10), (5, 0), background=-1), ValueError, "`background`.*at least 0"),
        (lambda: synthetic.hexagonal(0), ValueError, "above 0"),
        (lambda: synthetic.hexagonal("14"), TypeError, "'14'.*a number is needed"),
        (lambda: synthetic.square(math.nan), ValueError, "nan.*finite"),
        (lambda: synthetic.square(10).scaled(-1), ValueError, "`factor`"),
        (lambda: Amorphous(-3), ValueError, "`period` is -3"),
        (lambda: Vacuum(-1), ValueError, "`background`"),
        (lambda: synthetic.label_halves((10, 0)), ValueError, "`shape` is 0.*at least 1"),
        (lambda: synthetic.label_halves((10, 10, 3)), ValueError, "`shape`.*rows, columns"),
        (lambda: synthetic.label_halves((10.5, 10)), TypeError, "`shape` is 10.5.*integer"),
        (lambda: synthetic.label_bands((10, 10), 0), ValueError, "`n_bands` is 0"),
        (lambda: synthetic.label_discs((10, 10), [1, 2], 3), ValueError, "`centers` has shape"),
        (lambda: synthetic.label_discs((10, 10), [(1, 2)], 0), ValueError, "`radii`"),
        (lambda: synthetic.label_voronoi((2, 2), 5), ValueError, "`n_grains` is 5.*at most 4"),
        (lambda: synthetic.gaussian_columns((9, 9), [1, 2], sigma=1), ValueError, "`positions` has shape"),
        (lambda: synthetic.gaussian_columns((9, 9), [(1, 2)], sigma=0), ValueError, "`sigma` is 0"),
        (lambda: synthetic.intensity_gradient(np.ones((3, 3)), 2.5), ValueError, "`strength`.*at most 2"),
        (lambda: synthetic.intensity_gradient(np.ones(3), 1), ValueError, "`image` has shape"),
        (lambda: synthetic.scan_jitter(np.ones((3, 3)), -1), ValueError, "`jitter`"),
        (lambda: synthetic.line_offsets(np.ones((3, 3), complex), 1), TypeError, "`image` is complex128"),
        (lambda: synthetic.poisson_dose(np.ones((3, 3)), 0), ValueError, "`counts` is 0"),
        (lambda: synthetic.poisson_dose(-np.ones((3, 3)), 1), ValueError, "`image` runs from -1"),
        (lambda: synthetic.poisson_dose(np.zeros((3, 3)), 1), ValueError, "somewhere positive"),
        (lambda: synthetic.poisson_dose(np.full((3, 3), np.nan), 1), ValueError, "NaN or infinite"),
        (lambda: synthetic.image_of_grains(np.ones((9, 9), int), [Vacuum()]), ValueError, "1 phases"),
        (lambda: synthetic.image_of_grains(np.zeros((9, 9)), [Vacuum()]), TypeError, "`labels` is float64"),
        (lambda: synthetic.image_of_grains(np.zeros(9, int), [Vacuum()]), ValueError, "`labels` has shape"),
        (lambda: synthetic.bicrystal((30, 30), counts=-1), ValueError, "`counts`"),
        (lambda: synthetic.bicrystal((30, 30), displacement=-1), ValueError, "`displacement`"),
        (lambda: synthetic.bicrystal((30, 30), jitter=-1), ValueError, "`jitter`"),
        (lambda: synthetic.bicrystal((30, 30), colour="red"), TypeError, "colour"),
        (lambda: synthetic.polycrystal((30, 30), n_grains=0), ValueError, "`n_grains` is 0"),
        (
            lambda: synthetic.precipitates((30, 30), n_precipitates=True),
            TypeError,
            "`n_precipitates` is True",
        ),
    ],
)
def test_bad_parameters_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- movies


def test_the_boundary_of_a_movie_moves_at_its_speed():
    movie = synthetic.boundary_movie((60, 90), n_frames=5, speed=3, random_state=0)
    np.testing.assert_allclose(movie.boundary, [-6, -3, 0, 3, 6])
    assert len(movie) == 5
    for scene, position in zip(movie, movie.boundary, strict=True):
        assert scene.image.shape == scene.truth.shape == (60, 90)
        assert (scene.truth == 0).mean() * 90 == pytest.approx(45 + position, abs=0.6)
    backwards = synthetic.boundary_movie((60, 90), n_frames=3, speed=-2, start=10, random_state=0)
    np.testing.assert_allclose(backwards.boundary, [10, 8, 6])


def test_the_crystals_of_a_movie_stand_still():
    movie = synthetic.boundary_movie((60, 90), n_frames=9, speed=4, counts=None, random_state=3)
    first, last = movie[0], movie[-1]
    for grain in (0, 1):  # away from the boundary, in that grain in both
        same = slice(0, 14) if grain == 0 else slice(77, 90)
        np.testing.assert_array_equal(first.image[:, same], last.image[:, same])
    assert not np.array_equal(first.image, last.image)


def test_every_frame_has_its_own_noise_and_is_always_the_same():
    movie = synthetic.boundary_movie((50, 50), n_frames=3, speed=0, random_state=5)
    np.testing.assert_array_equal(movie[1].image, movie[-2].image)
    np.testing.assert_array_equal(
        movie[1].image, synthetic.boundary_movie((50, 50), n_frames=3, speed=0, random_state=5)[1].image
    )
    assert not np.array_equal(movie[0].image, movie[1].image)
    assert movie[1].image.mean() == pytest.approx(20, rel=0.05)
    assert "20 counts per pixel" in movie[1].description


@pytest.mark.parametrize(("parameters", "message"), [
    ({"n_frames": 0}, "`n_frames` is 0"),
    ({"speed": math.inf}, "`speed` is inf"),
    ({"speed": "fast"}, "`speed` is 'fast'"),
    ({"start": math.nan}, "`start` is nan"),
    ({"counts": 0}, "`counts` is 0"),
    ({"period": -3}, "-3"),
    ({"shape": (5,)}, "`shape` is"),
])  # fmt: skip
def test_bad_movies_are_refused(parameters, message):
    with pytest.raises((TypeError, ValueError), match=message):
        synthetic.boundary_movie(**parameters)


def test_a_frame_that_is_not_there():
    with pytest.raises(IndexError, match="frame 50 is asked for; the movie has 50, 0 to 49"):
        synthetic.boundary_movie()[50]
