"""Translation descriptors: the physics of scores, geometry, filling, the choice of operations and method."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpuseg
from gpuseg import LocalCorrelationMap, PreselectedTranslations, Translation
from gpuseg.descriptors import as_descriptor
from gpuseg.descriptors.base import DeadImageError
from gpuseg.descriptors.choice import describe, from_description
from gpuseg.descriptors.translation import choose_method
from tests import naive, parity, strategies
from tests.parity import METHODS
from tests.tolerances import TOLERANCE, assert_scores_close

BOUND = TOLERANCE["score", "float32"]
SMALL = {"patch_radius": (4, 3), "window_radius": (5, 6), "max_num_points": 60}


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture
def image():
    return np.random.default_rng(4).normal(size=(34, 41)).astype(np.float32)


def lattice(shape, a, b):
    """A perfect lattice with whole-pixel vectors a, b: three waves of the reciprocal lattice."""
    row, col = np.mgrid[: shape[0], : shape[1]]
    reciprocal = np.linalg.inv(np.array([a, b], float)).T  # rows: a*, b*
    phases = [2 * np.pi * (g[0] * row + g[1] * col) for g in (*reciprocal, reciprocal.sum(0))]
    return np.cos(phases[0]) + 0.7 * np.cos(phases[1] + 0.4) + 0.5 * np.cos(phases[2] - 1.1)


# --- physics ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("border", ["full", "valid"])
@pytest.mark.parametrize(("a", "b"), [((7, 0), (0, 5)), ((6, 2), (-3, 7)), ((4, 4), (5, -4))])
def test_a_perfect_lattice_scores_one_at_its_vectors(a, b, border, method):
    vectors = [a, b, (a[0] + b[0], a[1] + b[1]), (-a[0], -a[1])]
    descriptor = PreselectedTranslations(vectors, patch_radius=8, method=method, border=border)
    values = descriptor.transform(lattice((60, 66), a, b), stride=4).values
    assert values.min() > 1 - BOUND
    between = PreselectedTranslations(
        [(a[0] // 2, a[1] // 2 + 1)], patch_radius=8, method=method, border=border
    )
    assert between.transform(lattice((60, 66), a, b), stride=4).values.max() < 0.9


def test_a_square_lattice_looks_the_same_after_a_quarter_turn(method):
    a, b = (8, 0), (0, 8)
    descriptor = LocalCorrelationMap(8, 8, 289, method=method)
    maps = descriptor.transform(lattice((48, 48), a, b) + lattice((48, 48), b, (-8, 0)), stride=6).maps
    assert len(maps) == 289
    assert maps[Translation(8, 0)].min() > 1 - BOUND
    assert maps[Translation(0, -8)].min() > 1 - BOUND


@pytest.mark.parametrize(("gain", "offset"), [(3.5, 0), (-2, 0), (1, 1000), (1e-6, 7), (2**10, -(2**14))])
def test_gain_and_level_change_nothing(image, method, gain, offset):
    descriptor = LocalCorrelationMap(**SMALL, method=method)
    wanted = descriptor.transform(image.astype(np.float64)).values
    got = descriptor.transform(gain * image.astype(np.float64) + offset).values
    assert_scores_close(got, wanted, TOLERANCE["score", "twins"])


TURNS = {
    "upside down": (lambda a: a[::-1], lambda t: (-t[0], t[1])),
    "left to right": (lambda a: a[:, ::-1], lambda t: (t[0], -t[1])),
    "quarter turn": (np.rot90, lambda t: (-t[1], t[0])),
    "transposed": (np.transpose, lambda t: (t[1], t[0])),
}


@pytest.mark.parametrize("name", TURNS)
@pytest.mark.parametrize("border", ["full", "valid"])
def test_flips_and_turns_permute_translations(name, border, method):
    turn, turned = TURNS[name]
    shape = (31, 36) if border == "full" else (34, 37)  # for grids that are symmetric about the centre
    image = np.random.default_rng(1).normal(size=shape)
    shifts = [(0, 0), (2, 3), (-4, 1), (0, 5), (6, -2)]
    wanted = PreselectedTranslations(shifts, 3, method=method, border=border).transform(image).maps
    turned_shifts = [turned(t) for t in shifts]
    got = PreselectedTranslations(turned_shifts, 3, method=method, border=border).transform(turn(image)).maps
    case = parity.case(image, (3, 3), shifts, stride=5, border=border)
    for t, scored in zip(shifts, np.isfinite(parity.naive_scores(case)[0]), strict=True):
        # what is filled in may come from another of two neighbours that are equally near
        here, there = turn(np.where(scored, wanted[Translation(*t)], 0)), got[Translation(*turned(t))]
        assert_scores_close(np.where(turn(scored), there, 0), here, TOLERANCE["score", "twins"])


def test_the_zero_shift_is_exactly_one_and_scores_are_in_range(image, method):
    descriptors = LocalCorrelationMap(**SMALL, method=method).transform(image, stride=3)
    assert Translation(0, 0) not in descriptors.operations or (descriptors.maps[Translation(0, 0)] == 1).all()
    window = LocalCorrelationMap(3, 2, 25, method=method).transform(image, stride=3)
    assert (window.maps[Translation(0, 0)] == 1).all()
    assert np.abs(window.values).max() <= 1
    alone = PreselectedTranslations([(0, 0)], 2, method=method).transform(image)
    assert (alone.values == 1).all()


@pytest.mark.parametrize("level", [0.0, 0.1, 7.3, 30000.0])
def test_a_flat_patch_scores_zero_with_everything(image, method, level):
    image = image.copy()
    image[:, 20:] = level
    descriptors = LocalCorrelationMap(3, (2, 3), 35, method=method).transform(image, stride=2)
    flat = descriptors.grid.cols >= 20 + 3
    assert flat.any()
    assert (descriptors.values[:, :, flat] == 0).all()
    touching = descriptors.grid.cols < 20 - 3
    assert (descriptors.maps[Translation(0, 0)][:, touching] == 1).all()


@pytest.mark.parametrize("radius", [(2, 3), 4])
def test_full_and_valid_borders_agree_inside(image, method, radius):
    descriptor = {"patch_radius": radius, "window_radius": (4, 5), "max_num_points": 40, "method": method}
    full = LocalCorrelationMap(**descriptor, border="full").transform(image, stride=1)
    valid = LocalCorrelationMap(**descriptor, border="valid").transform(image, stride=3)
    assert full.operations == valid.operations
    inside = full.values[:, valid.grid.rows][:, :, valid.grid.cols]
    assert_scores_close(inside, valid.values, TOLERANCE["score", "twins"])
    assert full.grid.shape == image.shape
    assert valid.grid.rows[0] == np.broadcast_to(radius, 2)[0] + 4


@parity.examples(40)
@given(data=st.data(), method=st.sampled_from((*METHODS, "auto")))
def test_transform_is_the_naive_one_filled_by_the_rule(data, method):
    case = data.draw(parity.cases("box"))
    if case.max_num_points is None:
        descriptor = PreselectedTranslations(case.translations, case.patch_radius, method, case.border)
    else:
        descriptor = LocalCorrelationMap(
            case.patch_radius, case.window_radius, case.max_num_points, method, case.border
        )
    wanted, conditioning = parity.naive_scores(case)
    if np.isnan(wanted).all():
        with pytest.raises(DeadImageError, match="no grid point around which half of the pixels"):
            descriptor.transform(case.image, stride=case.stride, mask=case.mask, device="cpu")
        return
    got = descriptor.transform(case.image, stride=case.stride, mask=case.mask, device="cpu")
    rows, cols = case.positions
    np.testing.assert_array_equal([(t.d_row, t.d_col) for t in got.operations], case.translations)
    np.testing.assert_array_equal(got.usable, case.valid[np.ix_(rows, cols)])
    filled = naive.fill_missing(wanted, case.translations, rows, cols, case.valid)
    # a score may have been taken from anywhere, so it magnifies rounding as the worst does
    worst = np.where(np.isnan(wanted), conditioning.max(), conditioning)
    assert_scores_close(got.values, filled, BOUND * worst)
    assert not np.isnan(got.values[:, got.usable]).any()


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_point_near_the_border_is_filled(image, method, stride):
    """Small patches miss their scores as soon as a pixel or two lie outside."""
    descriptor = PreselectedTranslations([(0, 3), (2, 0), (-2, 0), (-1, -4)], (1, 0), method=method)
    got = descriptor.transform(image, stride=stride)
    shifts = [(t.d_row, t.d_col) for t in got.operations]
    case = parity.case(image, (1, 0), shifts, stride=stride)
    scores, conditioning = parity.naive_scores(case)
    assert np.isnan(scores).any()
    wanted = naive.fill_missing(scores, np.array(shifts), *case.positions, case.valid)
    assert_scores_close(got.values, wanted, BOUND * conditioning.max())


def test_a_missing_score_takes_that_of_the_opposite_translation(image, method):
    shifts = [(0, 20), (0, -20), (3, 17)]
    descriptors = PreselectedTranslations(shifts, 3, method=method).transform(image, stride=4)
    there, back = descriptors.maps[Translation(0, 20)], descriptors.maps[Translation(0, -20)]
    right = descriptors.grid.cols + 20 > 40 + 1
    np.testing.assert_array_equal(there[:, right], back[:, right])
    # no opposite: the nearest grid point which has a score
    alone, known = descriptors.maps[Translation(3, 17)], descriptors.grid.cols + 17 <= 40
    last = np.flatnonzero(known)[-1]
    np.testing.assert_array_equal(alone[:5, ~known], np.repeat(alone[:5, [last]], (~known).sum(), axis=1))


def test_masked_points_with_too_few_neighbours_stay_missing(image, method):
    mask = np.ones(image.shape, bool)
    mask[:, 20:] = False
    descriptors = LocalCorrelationMap(3, 3, 49, method=method).transform(image, stride=2, mask=mask)
    np.testing.assert_array_equal(descriptors.usable, mask[::2, ::2])
    far = descriptors.grid.cols > 20 + 3
    assert np.isnan(descriptors.values[:, :, far]).all()
    assert np.isfinite(descriptors.values[:, descriptors.usable]).all()
    assert descriptors.samples().shape == (descriptors.usable.sum(), 49)


def test_masked_pixels_have_no_influence(image, method):
    mask = np.random.default_rng(0).random(image.shape) < 0.8
    descriptor = LocalCorrelationMap(**SMALL, method=method)
    wanted = descriptor.transform(image, mask=mask).values
    for value in (1e6, np.nan, -np.inf, 0):
        other = np.where(mask, image, np.float32(value))
        np.testing.assert_array_equal(descriptor.transform(other, mask=mask).values, wanted)


def test_preselected_translations_are_maps_of_the_local_correlation_map(image, method):
    every = LocalCorrelationMap(3, (4, 4), 81, method=method).transform(image, stride=3)
    chosen = (
        Translation(3, -1),
        Translation(-3, 1),
        Translation(0, 4),
        Translation(0, -4),
        Translation(0, 0),
    )
    few = PreselectedTranslations(chosen, 3, method=method).transform(image, stride=3)
    assert few.operations == chosen
    for t in chosen:
        assert_scores_close(few.maps[t], every.maps[t], TOLERANCE["score", "twins"])


@pytest.mark.parametrize("border", ["full", "valid"])
def test_auto_is_one_of_the_methods(image, border):
    wanted = LocalCorrelationMap(**SMALL, method="direct", border=border).transform(image).values
    for method in ("auto", "fft", "box"):
        got = LocalCorrelationMap(**SMALL, method=method, border=border).transform(image).values
        assert_scores_close(got, wanted, TOLERANCE["score", "twins"])


def test_auto_takes_box_for_dense_grids_and_direct_for_few_points():
    dense, sparse = (gpuseg.Grid.full((512, 512), stride) for stride in (5, 200))
    shifts = naive.translations_of_window((20, 20), 100)
    assert choose_method(dense, shifts, (20, 20)) == "box"
    assert choose_method(sparse, shifts[:3], (2, 2)) == "direct"


def test_a_list_of_lists_is_an_image(image):
    wanted = LocalCorrelationMap(**SMALL).transform(image.astype(np.float64)).values
    got = LocalCorrelationMap(**SMALL).transform(image.astype(np.float64).tolist()).values
    np.testing.assert_array_equal(got, wanted)


# --- what is scored --------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(window=strategies.radii(0, 25), points=st.integers(1, 3000))
def test_operations_are_those_of_the_paper(window, points):
    operations = LocalCorrelationMap(window_radius=window, max_num_points=points).operations()
    assert len(operations) <= points
    np.testing.assert_array_equal(
        [(t.d_row, t.d_col) for t in operations], naive.translations_of_window(window, points)
    )


def test_the_default_window():
    operations = LocalCorrelationMap().operations()
    assert len(operations) == 81
    assert operations[0] == Translation(-20, -20)
    assert operations[1] == Translation(-20, -15)


def test_preselected_operations_keep_their_order():
    wanted = (Translation(3, 4), Translation(-1, 0), Translation(0, 2))
    for given_as in (
        wanted,
        [(3, 4), (-1, 0), (0, 2)],
        np.array([[3, 4], [-1, 0], [0, 2]]),
        [[3.0, 4.0], (-1, 0), wanted[2]],
    ):
        assert PreselectedTranslations(given_as).operations() == wanted


@pytest.mark.parametrize(
    ("descriptor", "error", "message"),
    [
        (LocalCorrelationMap(patch_radius=-1), ValueError, "`patch_radius` is -1; a whole number of at least 0"),
        (LocalCorrelationMap(patch_radius=2.5), TypeError, "`patch_radius` is 2.5; a whole number"),
        (LocalCorrelationMap(patch_radius=(1, 2, 3)), ValueError, r"`patch_radius` is \(1, 2, 3\); .*pair"),
        (LocalCorrelationMap(patch_radius=True), TypeError, "`patch_radius` is True; a whole number"),
        (LocalCorrelationMap(window_radius=-3), ValueError, "`window_radius` is -3; a whole number of at least 0"),
        (LocalCorrelationMap(window_radius="20"), TypeError, "`window_radius` is '20'; a whole number"),
        (LocalCorrelationMap(max_num_points=0), ValueError, "`max_num_points` is 0; .*at least 1"),
        (LocalCorrelationMap(method="fastest"), ValueError, "`method` is 'fastest'; one of 'auto', 'direct', 'fft', 'box'"),
        (LocalCorrelationMap(method=None), ValueError, "`method` is None; one of"),
        (LocalCorrelationMap(border="half"), ValueError, "`border` is 'half'; one of 'full', 'valid'"),
        (PreselectedTranslations([]), ValueError, "`translations` is empty"),
        (PreselectedTranslations([(1, 2), (1, 2)]), ValueError, r"translation \(\+1, \+2\) px more than once"),
        (PreselectedTranslations([(1, 2.5)]), ValueError, r"holds \(1, 2.5\); give whole pixels"),
        (PreselectedTranslations([(1, float("nan"))]), ValueError, "holds .*; give whole pixels"),
        (PreselectedTranslations([1, 2]), ValueError, "holds 1; give whole pixels"),
        (PreselectedTranslations("north"), TypeError, "`translations` is 'north'"),
        (PreselectedTranslations(5), TypeError, "`translations` is 5"),
        (LocalCorrelationMap(patch_radius=30), ValueError, "`image` has 34 rows; .*`patch_radius` 30 needs 61"),
        (LocalCorrelationMap(10, 10, border="valid"), ValueError, "`image` has 34 rows; .*its shifts need 41"),
        (LocalCorrelationMap((1, 9), (1, 12), border="valid"), ValueError, "`image` has 41 columns; .*need 43"),
    ],
)  # fmt: skip
def test_parameters_that_make_no_sense(image, descriptor, error, message):
    with pytest.raises(error, match=message):
        descriptor.transform(image)


@pytest.mark.parametrize(("stride", "error"), [(0, ValueError), (-5, ValueError), (2.5, TypeError), ("5", TypeError), (None, TypeError)])  # fmt: skip
def test_strides_that_make_no_sense(image, stride, error):
    with pytest.raises(error, match=f"`stride` is {stride!r}; a whole number of at least 1"):
        LocalCorrelationMap(2, 2).transform(image, stride=stride)


def test_numpy_integers_are_whole_numbers(image):
    descriptor = LocalCorrelationMap(np.int64(3), (np.uint8(2), np.int32(3)), np.int16(9))
    assert descriptor.transform(image, stride=np.int64(7)).values.shape == (
        len(descriptor.operations()),
        5,
        6,
    )


def test_a_patch_as_large_as_the_image(method):
    image = np.random.default_rng(0).normal(size=(9, 11))
    descriptors = LocalCorrelationMap((4, 5), 2, 25, method=method, border="full").transform(image, stride=4)
    assert descriptors.values.shape == (25, 3, 3)
    assert np.isfinite(descriptors.values).all()
    valid = LocalCorrelationMap((4, 5), 0, 1, method=method, border="valid").transform(image)
    np.testing.assert_array_equal(valid.values, [[[1]]])


# --- names -----------------------------------------------------------------------------------------------


def test_names_of_descriptors():
    assert as_descriptor(None) == LocalCorrelationMap()
    assert as_descriptor("local-correlation-map") == LocalCorrelationMap()
    mine = PreselectedTranslations([(1, 2)])
    assert as_descriptor(mine) is mine
    with pytest.raises(ValueError, match="`descriptor` is 'wavelets'; one of 'local-correlation-map'"):
        as_descriptor("wavelets")
    with pytest.raises(ValueError, match="needs its translations"):
        as_descriptor("preselected-translations")
    for wrong in (5, LocalCorrelationMap, {LocalCorrelationMap()}):
        with pytest.raises(TypeError, match="`descriptor` is .*LocalCorrelationMap"):
            as_descriptor(wrong)


@pytest.mark.parametrize(
    "descriptor",
    [
        LocalCorrelationMap(),
        LocalCorrelationMap((3, 4), 5, 17, "fft", "valid"),
        LocalCorrelationMap(np.int64(3), (np.int32(4), 4)),
        PreselectedTranslations([Translation(1, -2), (0, 3)], patch_radius=(1, 2)),
        PreselectedTranslations(np.array([[1, -2], [0, 3]])),
    ],
)
def test_descriptions_go_through_json(descriptor):
    import json

    again = from_description(json.loads(json.dumps(describe(descriptor))))
    assert type(again) is type(descriptor)
    assert again.operations() == descriptor.operations()
    assert describe(again) == describe(descriptor)
    assert again == descriptor


def test_an_unknown_description():
    with pytest.raises(ValueError, match="'Wavelets' is unknown; one of LocalCorrelationMap"):
        from_description({"name": "Wavelets"})


def test_more_translations_than_a_grid_of_blocks_is_high(emulated_cuda):
    emulated_cuda()
    image = np.random.default_rng(0).normal(size=(20, 20))
    every_shift = gpuseg.LocalCorrelationMap(1, 128, 257**2, method="fft")
    scores = every_shift.transform(image, stride=30, device="cuda").values
    assert scores.shape == (257**2, 1, 1)
    assert np.isfinite(scores).all()
    expected = every_shift.transform(image, stride=30, device="cpu").values
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["cuda:", "cuda: 1", "cpu:", "auto:0"])
def test_half_a_device_name_is_none(name):
    with pytest.raises(ValueError, match=f"`device` is '{name}'; one of"):
        gpuseg.LocalCorrelationMap(2, 2).transform(np.eye(20), device=name)
