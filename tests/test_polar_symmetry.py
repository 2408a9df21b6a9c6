"""Rotation, reflection and glide reflection as descriptors: physics, pooling, masks, bad input."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy import ndimage

import gpuseg
from gpuseg import (
    GlideReflection,
    GlideReflectionSymmetry,
    Ranked,
    Reflection,
    ReflectionSymmetry,
    Rotation,
    RotationalSymmetry,
    arrays,
    synthetic,
)
from gpuseg.descriptors.base import prepare
from gpuseg.descriptors.choice import describe, from_description
from gpuseg.engines import cpu
from gpuseg.polar import PolarPlan
from tests.tolerances import TOLERANCE

EXACT = TOLERANCE["score", "polar"]
INTERPOLATED = 5e-3  # of a lattice that does not fit the pixels: what cubic splines leave, not a rounding

NEW = (RotationalSymmetry(6), ReflectionSymmetry(6, 4), GlideReflectionSymmetry(6, 4, 3.5))


CENTER = (60, 60)


def crystal(phase):
    """One noiseless grain about the pixel CENTER."""
    positions, heights = phase.positions((121, 121), origin=CENTER, margin=12)
    return synthetic.gaussian_columns((121, 121), positions, heights, sigma=2.2)


def p4mm(period=12, shape=(90, 96)):
    """A square lattice about pixel (0, 0), with a second atom in the middle of the cell."""
    row, col = np.mgrid[: shape[0], : shape[1]] * (2 * np.pi / period)
    return np.exp(2 * (np.cos(row) + np.cos(col))) + 5 * np.exp(-2 * (np.cos(row) + np.cos(col)))


def noise(shape=(60, 70), seed=0):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)


def dense(descriptor, image):
    """Score of every pixel, NaN where missing: {operation: (H, W)}."""
    operations = dataclasses.replace(descriptor, n_max=1).operations()
    pixels, valid = prepare(image, None, arrays.Device("cpu"))
    scores = cpu.polar_scores(pixels, valid, PolarPlan.of(descriptor.radius, operations))
    return dict(zip(operations, scores, strict=True))


# --- physics ---------------------------------------------------------------------------------------------


def test_a_p4mm_lattice_scores_1_at_its_centres():
    image = p4mm()
    inside = np.s_[24:-18:6, 24:-18:6]  # atoms, holes, and the twofold centres between them
    turns = dense(RotationalSymmetry(15, (90, 180, 270)), image)
    mirrors = dense(ReflectionSymmetry(15, 4), image)
    fourfold = (np.add.outer(np.arange(24, 72, 6), np.arange(24, 78, 6)) // 6) % 2 == 0
    for angle in (90, 270):
        scores = turns[Rotation(angle)][inside]
        assert (1 - scores[fourfold] < EXACT).all()
        assert (scores[~fourfold] < 0.7).all()
    for angle in (0, 90):
        assert (1 - mirrors[Reflection(angle)][inside] < EXACT).all()
    for angle in (45, 135):
        assert (1 - mirrors[Reflection(angle)][inside][fourfold] < EXACT).all()
    assert (1 - turns[Rotation(180)][inside] < EXACT).all()
    general = turns[Rotation(90)][26:64:12, 27:64:12]
    assert (general < 0.9).all()


@pytest.mark.parametrize("turn", [0, 17, 40])
def test_a_hexagonal_crystal_is_sixfold_whatever_its_orientation(turn):
    image = crystal(synthetic.hexagonal(14).rotated(turn))
    scores = {o.angle: values[CENTER] for o, values in dense(RotationalSymmetry(16), image).items()}
    assert all(1 - scores[angle] < INTERPOLATED for angle in (60, 120, 180))
    assert scores[90] < 0.7
    pooled = RotationalSymmetry(16, pooling_radius=20).transform(image, 5, device="cpu")
    assert (pooled.maps[Rotation(60)] > 0.95).all()  # every window holds a centre, within half a pixel
    assert (pooled.maps[Rotation(90)] < 0.9).all()


@pytest.mark.parametrize("turn", [0, 10, 33])
def test_mirror_lines_turn_with_the_crystal(turn):
    image = crystal(synthetic.rectangular(13, 10).rotated(turn))
    maps = dense(ReflectionSymmetry(16, angles=[turn, turn + 90, turn + 45, turn + 20]), image)
    along, across, other, another = (scores[CENTER] for scores in maps.values())
    assert 1 - along < INTERPOLATED
    assert 1 - across < INTERPOLATED
    assert max(other, another) < 0.7


def test_pm_and_pg_crystals_of_one_cell_are_told_apart():
    cell = (16, 12)
    scores = {}
    for name, phase in (("pm", synthetic.pm_crystal(*cell)), ("pg", synthetic.pg_crystal(*cell))):
        image = crystal(phase)
        mirror = ReflectionSymmetry(16, pooling_radius=10, angles=90).transform(image, device="cpu")
        glide = GlideReflectionSymmetry(16, glides=6, pooling_radius=10, angles=90).transform(
            image, device="cpu"
        )
        scores[name] = [d.values[0, 7:-7, 7:-7] for d in (mirror, glide)]
    assert (1 - scores["pm"][0] < INTERPOLATED).all()
    assert (1 - scores["pg"][1] < INTERPOLATED).all()
    assert scores["pm"][1].max() < 0.85
    assert scores["pg"][0].max() < 0.85


def test_pm_and_pg_grains_are_segmented_by_mirror_and_glide():
    labels = synthetic.label_halves((160, 160), angle=90)
    phases = [synthetic.pm_crystal(16, 12), synthetic.pg_crystal(16, 12)]
    made = synthetic.image_of_grains(labels, phases, counts=100, random_state=0)
    both = [
        ReflectionSymmetry(16, angles=90, pooling_radius=10),
        GlideReflectionSymmetry(16, glides=6, angles=90, pooling_radius=10),
    ]
    found = gpuseg.segment(made.image, 2, descriptor=both, random_state=0, device="cpu").labels
    agree = (found == made.truth).mean()
    assert max(agree, 1 - agree) > 0.95


def test_turned_images_have_turned_scores():
    image = noise()
    planes = ReflectionSymmetry(7, 4)
    turns, mirrors = dense(RotationalSymmetry(7), image), dense(planes, image)
    turned, mirrored = dense(RotationalSymmetry(7), np.rot90(image)), dense(planes, np.rot90(image))
    for operation, scores in turns.items():
        np.testing.assert_allclose(turned[operation], np.rot90(scores), atol=EXACT)
    for operation, scores in mirrors.items():  # counter-clockwise, and a line is the same after half a turn
        there = mirrored[Reflection((operation.angle + 90) % 180)]
        np.testing.assert_allclose(there, np.rot90(scores), atol=EXACT)


@pytest.mark.parametrize(("angle", "flip"), [(0, np.s_[::-1]), (90, np.s_[:, ::-1])])
def test_a_glide_is_the_same_in_the_mirror_of_its_line(angle, flip):
    image = noise()
    descriptor = GlideReflectionSymmetry(7, glides=5.5, angles=angle)
    (here,), (there,) = (dense(descriptor, each).values() for each in (image, image[flip]))
    np.testing.assert_allclose(there, here[flip], atol=EXACT)


@pytest.mark.parametrize("descriptor", NEW)
def test_gain_and_offset_change_nothing(descriptor):
    image = noise()
    wanted = descriptor.transform(image, 4, device="cpu").values
    got = descriptor.transform(-7 * image + 3e4, 4, device="cpu").values
    np.testing.assert_allclose(got, wanted, atol=EXACT)


def test_an_angle_and_its_opposite_score_the_same():
    maps = dense(RotationalSymmetry(7, (90, 270)), noise())
    np.testing.assert_allclose(maps[Rotation(90)], maps[Rotation(270)], atol=EXACT)
    maps = dense(RotationalSymmetry(12, (17.3, 342.7)), noise())  # on samples of their own
    assert np.nanmax(np.abs(maps[Rotation(17.3)] - maps[Rotation(342.7)])) < 0.05


def test_a_glide_of_a_period_is_a_reflection():
    image = p4mm()
    mirror = dense(ReflectionSymmetry(10, angles=0), image)[Reflection(0)]
    glide = dense(GlideReflectionSymmetry(10, angles=0, glides=12), image)[GlideReflection(0, 12)]
    inside = np.s_[24:-24, 24:-24]
    np.testing.assert_allclose(glide[inside], mirror[inside], atol=2 * EXACT)  # each within the bound


# --- pooling ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("descriptor", NEW)
@pytest.mark.parametrize("pooling", [0, 5, (2, 8)])
def test_a_map_holds_the_largest_score_of_each_window(descriptor, pooling):
    image = noise()
    pair = pooling if isinstance(pooling, tuple) else (pooling, pooling)
    found = dataclasses.replace(descriptor, pooling_radius=pooling).transform(image, 4, device="cpu")
    for operation, scores in dense(descriptor, image).items():
        unknown = np.where(np.isnan(scores), -np.inf, scores)
        largest = ndimage.maximum_filter(unknown, [2 * r + 1 for r in pair], mode="constant", cval=-np.inf)
        largest = found.grid.at_points(largest)
        known = np.isfinite(largest)
        assert known.mean() > 0.6
        np.testing.assert_array_equal(found.maps[operation][known], largest[known])


def test_several_largest_scores_are_sorted():
    one = RotationalSymmetry(6, (90, 180), 8)
    found = dataclasses.replace(one, n_max=4).transform(noise(), 4, device="cpu")
    assert found.operations[:5] == (*(Ranked(Rotation(90), k) for k in range(4)), Ranked(Rotation(180), 0))
    ranks = found.values.reshape(2, 4, *found.grid.shape)
    assert (np.diff(ranks, axis=1) <= 0).all()
    np.testing.assert_array_equal(ranks[:, 0], one.transform(noise(), 4, device="cpu").values)


# --- what is missing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("descriptor", NEW)
def test_masked_pixels_do_not_matter(descriptor):
    image = noise()
    mask = np.ones(image.shape, bool)
    mask[20:40, 30:44] = False
    other = image.copy()
    other[~mask] = 1e3 * noise(seed=1)[~mask]
    nan = np.where(mask, image, np.nan)
    wanted = descriptor.transform(image, 4, mask, "cpu")
    for got in (descriptor.transform(other, 4, mask, "cpu"), descriptor.transform(nan, 4, device="cpu")):
        np.testing.assert_array_equal(got.values, wanted.values)
        np.testing.assert_array_equal(got.usable, wanted.usable)
    assert np.isfinite(wanted.values[:, wanted.usable]).all()


def test_a_window_without_scores_takes_the_nearest():
    image = noise((50, 80))
    image[:, 30:] = np.nan
    image[25, 70] = 1  # a lone pixel far from everything
    descriptor = dataclasses.replace(NEW[0], pooling_radius=3)
    found = descriptor.transform(image, 5, device="cpu")
    i, j = list(found.grid.rows).index(22), list(found.grid.cols).index(67)
    image[22, 67] = 0
    found = descriptor.transform(image, 5, device="cpu")
    known = np.isfinite(found.values[0, i])
    assert known[j]
    last = np.flatnonzero(known[:j])[-1]
    np.testing.assert_array_equal(found.values[:, i, j], found.values[:, i, last])


def test_the_scored_border_ends_where_patches_leave_the_image():
    image = noise()
    full = dataclasses.replace(NEW[0], pooling_radius=2).transform(image, 1, device="cpu")
    valid = dataclasses.replace(NEW[0], pooling_radius=2, border="valid").transform(image, 1, device="cpu")
    margin = 6 + 1 + 2  # patch, spline, pooling window
    assert valid.grid.first == (margin, margin)
    assert valid.grid.shape == (60 - 2 * margin, 70 - 2 * margin)
    np.testing.assert_array_equal(valid.values, full.values[:, margin:-margin, margin:-margin])


def test_a_flat_patch_scores_0():
    image = noise((70, 70))
    image[:, 35:] = 0.3
    maps = dense(RotationalSymmetry(6), image)
    assert all((scores[10:60, 56:60] == 0).all() for scores in maps.values())


# --- as part of a segmentation ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grains():
    phases = [synthetic.square(12), synthetic.hexagonal(13)]
    return synthetic.image_of_grains(synthetic.label_halves((140, 150)), phases, counts=50, random_state=0)


@pytest.mark.parametrize(
    "descriptor",
    [
        RotationalSymmetry(14, pooling_radius=9),
        RotationalSymmetry(14, pooling_radius=9, n_max=3),
        ReflectionSymmetry(14, 6, pooling_radius=9),
        GlideReflectionSymmetry(14, 4, (6, 8, 6, 8), pooling_radius=9),
        [RotationalSymmetry(14, pooling_radius=9), gpuseg.LocalCorrelationMap(10, 10)],
    ],
    ids=["rotation", "ranks", "reflection", "glide", "fused"],
)
def test_models_select_save_and_predict(grains, descriptor, tmp_path):
    found = gpuseg.segment(grains.image, descriptor=descriptor, random_state=0, device="cpu")
    agree = (found.labels == grains.truth).mean()
    assert max(agree, 1 - agree) > 0.9
    few = found.select(3)
    assert len(few.descriptor.operations()) == 3
    best = np.argsort(-np.asarray(found.separability), kind="stable")[:3]
    described = few.predict(grains.image, device="cpu")
    np.testing.assert_allclose(described.descriptors.values, found.descriptors.values[best], atol=EXACT)
    few.save(tmp_path / "model.npz")
    again = gpuseg.SegmentationModel.load(tmp_path / "model.npz")
    assert again.descriptor == few.descriptor
    np.testing.assert_array_equal(again.predict(grains.image, device="cpu").labels, described.labels)


def test_named_as_in_the_paper(grains):
    for name, kind in (
        ("rotational-symmetry", RotationalSymmetry),
        ("reflection-symmetry", ReflectionSymmetry),
        ("glide-reflection-symmetry", GlideReflectionSymmetry),
    ):
        assert gpuseg.descriptors.as_descriptor(name) == kind()


@pytest.mark.parametrize("descriptor", NEW)
def test_descriptors_survive_json(descriptor):
    assert from_description(describe(descriptor)) == descriptor
    kept = dataclasses.replace(descriptor, n_max=3).keeping([4, 1])
    assert from_description(describe(kept)) == kept


def test_a_range_of_angles_survives_json():
    descriptor = RotationalSymmetry(6, range(60, 181, 60))
    assert from_description(json.loads(json.dumps(describe(descriptor)))) == descriptor


@pytest.mark.parametrize("n_planes", [7, 11])
def test_operations_that_are_kept_stay_what_they_were(n_planes):
    for descriptor in (ReflectionSymmetry(6, n_planes), GlideReflectionSymmetry(6, n_planes, 3.5)):
        assert descriptor.keeping([4, 1]).operations() == tuple(descriptor.operations()[k] for k in (4, 1))
    with pytest.raises(ValueError, match="rotation by 0 degrees"):
        RotationalSymmetry(6, (360 - 1e-12, 90)).operations()


# --- glides found in the image ---------------------------------------------------------------------------


def test_glides_are_half_the_periods_of_the_image():
    image = crystal(synthetic.pg_crystal(16, 12))
    found = GlideReflectionSymmetry(16, 4).found_in(image)
    assert found.angles == (0, 90)
    np.testing.assert_allclose(found.glides, [8, 6], atol=0.05)
    described = GlideReflectionSymmetry(16, 4).transform(image, device="cpu")
    assert described.descriptor == found
    assert described.operations == found.operations()


def test_a_model_keeps_the_glides_it_found():
    made = synthetic.image_of_grains(
        synthetic.label_halves((130, 140), angle=90),
        [synthetic.pm_crystal(16, 12), synthetic.pg_crystal(16, 12)],
    )
    descriptor = GlideReflectionSymmetry(16, 4, pooling_radius=10)
    found = gpuseg.segment(made.image, descriptor=descriptor, random_state=0, device="cpu")
    assert found.model.descriptor.glides[found.model.descriptor.angles.index(90)] == pytest.approx(6, abs=0.1)
    other = found.model.predict(noise((130, 140)), device="cpu")
    assert other.operations == found.operations


def test_an_image_without_a_lattice_has_no_glides():
    with pytest.raises(ValueError, match="no lattice period of at most 12 px along any of the 4 lines"):
        GlideReflectionSymmetry(6, 4).transform(np.random.default_rng(0).normal(size=(80, 80)), device="cpu")


def test_given_glides_are_not_looked_for():
    assert NEW[2].found_in(noise()) is NEW[2]


# --- bad input -------------------------------------------------------------------------------------------


BAD = [
    (RotationalSymmetry(0), "`radius` is 0"),
    (RotationalSymmetry("20"), "`radius` is '20'; a whole number of pixels is needed, or 'auto'"),
    (RotationalSymmetry(6.5), "`radius`"),
    (RotationalSymmetry(6, ()), r"`angles` is \(\)"),
    (RotationalSymmetry(6, (90, 450)), "holds one twice"),
    (RotationalSymmetry(6, (0, 90)), "rotation by 0 degrees"),
    (RotationalSymmetry(6, (90, np.nan)), "`angles`"),
    (RotationalSymmetry(6, "ninety"), "`angles` is 'ninety'"),
    (RotationalSymmetry(6, pooling_radius=-1), "`pooling_radius`"),
    (RotationalSymmetry(6, pooling_radius=(1, 2, 3)), "`pooling_radius`"),
    (RotationalSymmetry(6, pooling_radius=1, n_max=10), "`n_max` is 10"),
    (RotationalSymmetry(6, n_max=0), "`n_max` is 0"),
    (RotationalSymmetry(6, border="mirror"), "`border` is 'mirror'"),
    (RotationalSymmetry(6, sectors=0), "`sectors` is 0"),
    (RotationalSymmetry(6, sectors=361), "`sectors` is 361"),
    (ReflectionSymmetry(6, 0), "`n_planes` is 0"),
    (ReflectionSymmetry(6, angles=(10, 190)), "holds one twice"),
    (GlideReflectionSymmetry(6, glides="find"), "`glides` is 'find'"),
    (GlideReflectionSymmetry(6, glides=0), "`glides` holds 0"),
    (GlideReflectionSymmetry(6, glides=-3), "`glides` holds -3"),
    (GlideReflectionSymmetry(6, glides=(3, 4)), "2 lengths for 10 lines"),
    (GlideReflectionSymmetry(6, glides=(3, "x"), angles=(0, 90)), "`glides` holds 'x'"),
    (GlideReflectionSymmetry(6, 0), "`n_planes` is 0"),
    (RotationalSymmetry(60), "`radius` 60"),
    (RotationalSymmetry(20, border="valid", pooling_radius=20), "smaller radius or a larger image"),
]


@pytest.mark.parametrize(("descriptor", "message"), BAD)
def test_bad_parameters_are_named(descriptor, message):
    with pytest.raises((TypeError, ValueError), match=message):
        descriptor.transform(noise(), 5, device="cpu")


def test_glides_are_unknown_before_an_image():
    with pytest.raises(ValueError, match="depend on the image"):
        GlideReflectionSymmetry().operations()


def test_operations_print_readably():
    assert str(Rotation(60.0)) == "rotation 60°"
    assert str(Reflection(22.5)) == "reflection 22.5°"
    assert str(GlideReflection(90.0, 5.9991)) == "glide reflection 90°, 5.999 px"
    assert str(Ranked(Rotation(60.0), 1)) == "rotation 60°, rank 2"


@pytest.mark.parametrize("image", [np.zeros((50, 50)), np.full((50, 50), np.nan)])
def test_dead_images_are_refused(image):
    with pytest.raises(ValueError, match="`image`"):
        NEW[0].transform(image, device="cpu")


def test_glides_are_found_for_fused_descriptors_too():
    image = crystal(synthetic.pg_crystal(16, 12))
    fused = gpuseg.Fusion((ReflectionSymmetry(16, 4), GlideReflectionSymmetry(16, 4)))
    found = fused.transform(image, device="cpu")
    assert found.descriptor.descriptors[1] == GlideReflectionSymmetry(16, 4).found_in(image)
    assert found.operations == found.descriptor.operations()
    np.testing.assert_array_equal(found.descriptor.transform(image, device="cpu").values, found.values)
    assert fused.grid(image.shape, 5) == found.grid


def test_sizes_may_be_found_in_the_image(grains):
    descriptor = [RotationalSymmetry("auto", pooling_radius="auto"), GlideReflectionSymmetry("auto", 2)]
    found = gpuseg.segment(grains.image, descriptor=descriptor, random_state=0, device="cpu").model.descriptor
    rotation, glide = found.descriptors
    period = gpuseg.suggest(grains.image, device="cpu").lattice_period
    assert rotation.radius == glide.radius == round(1.25 * period)
    assert rotation.pooling_radius == round(period)
    assert 6 <= glide.glides[0] <= 6.5  # half the period of one grain, of the other, or between
