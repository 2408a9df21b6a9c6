"""The judge is judged: tests/naive.py against numbers by hand, by np.corrcoef and by the golden file."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from tests import naive, strategies
from tests.tolerances import TOLERANCE, assert_scores_close

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden" / "pystem_0.0.26.npz"
LINE = np.array([[1.0, 2.0, 3.0, 5.0, 4.0, 9.0]])


def score(image, col, shift, mask=None, patch_radius=(0, 1)):
    """The one score at (0, col) for a shift along the columns."""
    return naive.translation_scores(image, [0], [col], [(0, shift)], patch_radius, mask)[0, 0, 0]


def test_a_score_worked_out_by_hand():
    # (1, 2, 3) and (3, 5, 4): deviations (-1, 0, 1) and (-1, 1, 0), covariance 1 over norm 2
    assert score(LINE, col=1, shift=2) == pytest.approx(0.5, abs=1e-15)


def test_the_border_takes_its_pixels_out_of_both_patches():
    assert score(LINE, col=0, shift=1) == pytest.approx(1)  # (1, 2) and (2, 3); the third pixel is outside
    assert score(LINE, col=5, shift=-1) == pytest.approx(-1)  # (4, 9) and (5, 4)


def test_fewer_than_half_of_the_pixels_is_missing():
    assert np.isnan(score(LINE, col=0, shift=-1))  # one pixel of three
    assert np.isnan(score(LINE, col=3, shift=20))


def test_five_pixels_of_nine_are_enough_and_four_are_not():
    image = np.array([[1.0, 2.0, 4.0], [2.0, 3.0, 9.0], [7.0, 5.0, 8.0]])
    mask = np.ones((3, 3), bool)
    mask[0, :] = mask[1, 0] = False
    assert naive.translation_scores(image, [1], [1], [(0, 0)], (1, 1), mask) == 1
    mask[1, 1] = False
    assert np.isnan(naive.translation_scores(image, [1], [1], [(0, 0)], (1, 1), mask))


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_masked_and_non_finite_pixels_are_the_same_hole(hole):
    mask = np.array([[True, True, False, True, True, True]])
    broken = np.where(mask, LINE, hole)
    # at column 1: (1, 2, hole) against (hole, 5, 4) leaves one pair
    assert np.isnan(score(LINE, col=1, shift=2, mask=mask))
    assert np.isnan(score(broken, col=1, shift=2))
    # at column 4: (5, 4, 9) against (4, 9, outside) leaves (5, 4) and (4, 9)
    assert score(broken, col=4, shift=1) == score(LINE, col=4, shift=1, mask=mask) == pytest.approx(-1)


def test_a_flat_patch_scores_zero_even_with_itself():
    image = np.array([[7.1, 7.1, 7.1, 7.1, 1.0, 2.0, 4.0]])
    assert score(image, col=1, shift=0) == 0
    assert score(image, col=1, shift=4) == 0
    assert score(image, col=5, shift=-4) == 0
    assert score(image, col=5, shift=0) == 1
    assert score(np.full((1, 5), 0.1), col=2, shift=1) == 0


def test_flat_is_relative_to_the_image():
    image = np.array([[0.0, 1e-7, 0.0, 0.0, 0.0, 1.0, 0.0]])
    assert score(image, col=1, shift=0) == 0
    assert score(image[:, :5], col=1, shift=0) == 1


def test_interior_scores_are_those_of_corrcoef():
    image = np.random.default_rng(0).normal(size=(20, 24)) + 1000
    shifts = [(0, 0), (3, -2), (-4, 1)]
    scores = naive.translation_scores(image, [7, 11], [6, 9, 14], shifts, (2, 3))
    for (k, i, j), got in np.ndenumerate(scores):
        row, col = [7, 11][i], [6, 9, 14][j]
        a = image[row - 2 : row + 3, col - 3 : col + 4]
        row, col = row + shifts[k][0], col + shifts[k][1]
        b = image[row - 2 : row + 3, col - 3 : col + 4]
        assert got == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-12)


def test_scores_are_those_of_the_golden_file():
    if not GOLDEN.exists():
        pytest.skip(f"the golden numbers are not part of the package ({GOLDEN.name} not found)")
    golden = np.load(GOLDEN)
    translations = naive.translations_of_window((9, 7), 60)
    rows, cols = naive.grid_positions(168, 4, 17), naive.grid_positions(150, 4, 13)
    np.testing.assert_array_equal(translations, golden["lcm_direct_translations"])
    np.testing.assert_array_equal(rows, golden["rows"])
    np.testing.assert_array_equal(cols, golden["cols"])
    got = naive.translation_scores(golden["image"], rows, cols, translations, (8, 6))
    assert_scores_close(got, np.moveaxis(golden["pearson_float64"], -1, 0), TOLERANCE["score", "float64"])


SEEDED = settings(derandomize=True, deadline=None, max_examples=60)


@SEEDED
@given(case=strategies.correlation_cases())
def test_scores_are_correlations(case):
    rows, cols = case.positions
    assert len(rows) > 0
    assert len(cols) > 0
    scores = naive.translation_scores(case.image, rows, cols, case.translations, case.patch_radius, case.mask)
    assert scores.shape == (len(case.translations), len(rows), len(cols))
    assert np.nanmax(np.abs(scores), initial=0) <= 1
    if case.border == "valid" and case.valid.all():
        assert not np.isnan(scores).any()
    filled = naive.fill_missing(scores, case.translations, rows, cols, case.valid)
    assert not np.isnan(filled[:, case.valid[np.ix_(rows, cols)]]).any()


@SEEDED
@given(case=strategies.correlation_cases(kinds=("noise", "lattice"), dtypes=("float64",)))
def test_gain_and_level_change_nothing(case):
    rows, cols = case.positions
    given_as = (rows, cols, case.translations, case.patch_radius, case.mask)
    scores = naive.translation_scores(case.image, *given_as)
    bound = 1e-12 * naive.conditioning(case.image, *given_as)
    assert_scores_close(naive.translation_scores(3 * case.image - 5, *given_as), scores, bound)


@SEEDED
@given(case=strategies.correlation_cases(dtypes=("float64", "uint16"), max_side=20))
def test_the_opposite_translation_is_the_same_pair_of_patches(case):
    (d_row, d_col), all_rows, all_cols = case.translations[0], *map(np.arange, case.image.shape)
    given_as = (case.patch_radius, case.mask)
    there = naive.translation_scores(case.image, all_rows, all_cols, [(d_row, d_col)], *given_as)[0]
    back = naive.translation_scores(
        case.image, all_rows + d_row, all_cols + d_col, [(-d_row, -d_col)], *given_as
    )
    assert_scores_close(back[0], there, TOLERANCE["score", "float64"])


def test_conditioning_is_one_on_ordinary_and_constant_patches_and_large_on_faint_ones():
    image = np.random.default_rng(0).normal(size=(30, 40))
    image[:, 20:] = 7.1
    image[:, 30:] += 1e-3 * image[:, :10]
    got = naive.conditioning(image, [15], [8, 24, 35], [(0, 0), (0, 1)], (4, 4))
    assert got[:, 0, 0].max() < 20
    np.testing.assert_array_equal(got[:, 0, 1], [1, 1])
    assert got[:, 0, 2].min() > 1e5


def test_assert_scores_close_sees_wrong_scores_missing_ones_and_wrong_shapes():
    wanted = np.array([0.1, np.nan, 0.3])
    assert_scores_close(wanted + 1e-7, wanted, np.array([1e-6, 0, 1e-6]))
    for wrong in (wanted + 2e-6, np.array([0.1, 0.2, 0.3]), np.full(3, np.nan), wanted[:2]):
        with pytest.raises(AssertionError, match=r"out of bounds|missing in one|shape"):
            assert_scores_close(wrong, wanted, 1e-6)


def fill(scores, translations, rows, cols, valid=None):
    valid = np.ones((rows[-1] + 1, cols[-1] + 1), bool) if valid is None else valid
    return naive.fill_missing(np.array(scores), translations, np.array(rows), np.array(cols), valid)


def test_a_missing_score_takes_the_opposite_one_first():
    scores = [[[np.nan, 0.1]], [[0.5, np.nan]], [[np.nan, 0.3]]]
    got = fill(scores, [(1, 2), (-1, -2), (0, 3)], [0], [0, 4])
    np.testing.assert_array_equal(got, [[[0.5, 0.1]], [[0.5, 0.1]], [[0.3, 0.3]]])


def test_a_missing_score_takes_the_nearest_in_pixels():
    nan = np.nan
    scores = [[[1, nan, nan], [nan, nan, 2]]]
    got = fill(scores, [(0, 1)], [0, 2], [0, 4, 9])
    # (0, 4): 16 from the 1, 29 from the 2; (0, 9): 4 from the 2; (2, 4): 20 from the 1, 25 from the 2
    np.testing.assert_array_equal(got, [[[1, 1, 2], [1, 1, 2]]])


def test_ties_go_to_the_smallest_row_then_column():
    nan = np.nan
    got = fill([[[nan, 1, nan], [2, nan, 3], [nan, 4, nan]]], [(0, 1)], [0, 3, 6], [0, 3, 6])
    np.testing.assert_array_equal(got, [[[1, 1, 1], [2, 1, 3], [2, 4, 3]]])


def test_invalid_points_stay_missing_and_nothing_to_take_is_zero():
    valid = np.array([[False, True, True]])
    nan = np.nan
    got = fill([[[nan, 5, nan]], [[nan, nan, nan]]], [(0, 1), (1, 1)], [0], [0, 1, 2], valid)
    np.testing.assert_array_equal(got, [[[nan, 5, 5]], [[nan, 0, 0]]])


@pytest.mark.parametrize(
    ("length", "stride", "margin", "wanted"),
    [
        (9, 4, None, [0, 4, 8]),
        (10, 4, None, [0, 4, 8]),
        (11, 4, None, [1, 5, 9]),
        (12, 4, None, [1, 5, 9]),
        (3, 5, None, [1]),
        (1, 5, None, [0]),
        (10, 3, 2, [2, 5]),
        (11, 3, 2, [2, 5, 8]),
        (4, 1, 2, []),
    ],
)
def test_grid_positions(length, stride, margin, wanted):
    np.testing.assert_array_equal(naive.grid_positions(length, stride, margin), wanted)


def test_translations_of_window():
    np.testing.assert_array_equal(naive.translations_of_window((0, 1), 3), [(0, -1), (0, 0), (0, 1)])
    np.testing.assert_array_equal(naive.translations_of_window((0, 2), 4), [(0, -2), (0, 0), (0, 2)])
    np.testing.assert_array_equal(naive.translations_of_window((1, 2), 4), [(-1, -2), (-1, 1)])
    assert len(naive.translations_of_window((20, 20), 100)) == 81
    assert len(naive.translations_of_window((20, 20), 1681)) == 1681


def test_pca_of_points_on_a_line():
    components, ratio, scores = naive.pca([[0.0, 1.0, 2.0], [5.0, 6.0, 7.0]], 2)
    np.testing.assert_allclose(np.abs(components[0]), [0.5**0.5] * 2)
    np.testing.assert_allclose(ratio, [1, 0], atol=1e-15)
    np.testing.assert_allclose(scores[0] * np.sign(components[0, 0]), [-(2**0.5), 0, 2**0.5], atol=1e-12)


def test_separability_worked_out_by_hand():
    values = [[0.0, 2.0, 4.0, 6.0, 99.0], [1.0, 3.0, 1.0, 3.0, 0.0], [0.0, 0.0, 5.0, 5.0, 0.0], [0.1] * 5]
    got = naive.separability(values, np.array([0, 0, 1, 1, -1]))
    # means 1 and 5 about 3: 2 * 4 + 2 * 4 = 16; variances 1 and 1: 2 + 2 = 4
    np.testing.assert_allclose(got, [4, 0, np.inf, 0])


def test_assign_and_inertia():
    scores, centers = np.array([[0.0, 1.0, 4.0], [0.0, 0.0, 3.0]]), np.array([[0.0, 0.0], [2.0, 0.0]])
    np.testing.assert_array_equal(naive.assign(scores, centers), [0, 0, 1])  # the second is as near to both
    assert naive.inertia(scores, centers) == pytest.approx(0 + 1 + 13)


def test_nearest_upsampling():
    got = naive.nearest_upsampling(np.array([[1, 2], [3, 4]]), np.array([1, 3]), np.array([0, 3]), (5, 4))
    np.testing.assert_array_equal(got, [[1, 1, 2, 2]] * 3 + [[3, 3, 4, 4]] * 2)
