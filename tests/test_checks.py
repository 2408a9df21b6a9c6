"""Checks: the text gives the name, what came, what was wanted."""

from __future__ import annotations

import numpy as np
import pytest

from gpuseg.checks import check_choice, check_image, check_int, check_mask, check_radius


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)])
def test_whole_numbers(value):
    got = check_int(value, "n", 1, 5)
    assert got == 3
    assert type(got) is int


@pytest.mark.parametrize("value", [3.0, "3", None, True, np.True_, np.array([3]), np.float32(3), 3j, [3]])
def test_what_is_no_whole_number(value):
    with pytest.raises(TypeError, match="`n` is .*; a whole number of at least 1 and at most 5 is needed"):
        check_int(value, "n", 1, 5)


@pytest.mark.parametrize(("value", "limits", "wanted"), [(0, (1,), "at least 1 is"), (-4, (0,), "at least 0 is"), (6, (1, 5), "at least 1 and at most 5 is")])  # fmt: skip
def test_numbers_out_of_range(value, limits, wanted):
    with pytest.raises(ValueError, match=f"`n` is {value}; a whole number of {wanted} needed"):
        check_int(value, "n", *limits)


@pytest.mark.parametrize(("value", "wanted"), [(4, (4, 4)), ((3, 0), (3, 0)), ([1, 2], (1, 2)), (np.array([1, 2]), (1, 2)), (np.int64(7), (7, 7))])  # fmt: skip
def test_radii(value, wanted):
    assert check_radius(value, "patch_radius") == wanted


@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), ((1, -1), ValueError), ((1,), ValueError), ((1, 2, 3), ValueError), ((), ValueError), (1.5, TypeError), ("12", TypeError), (None, TypeError), ((1, "2"), TypeError)])  # fmt: skip
def test_radii_that_make_no_sense(value, error):
    with pytest.raises(error, match=r"`patch_radius` is .*; .* is needed"):
        check_radius(value, "patch_radius")


def test_choices():
    assert check_choice("b", "method", ("a", "b")) == "b"
    for wrong in ("c", "", None, 1, ["a"], np.array(["a", "b"])):
        with pytest.raises(ValueError, match=r"`method` is .*; one of 'a', 'b' is needed"):
            check_choice(wrong, "method", ("a", "b"))


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((0, 5)), ValueError, r"`image` has shape \(0, 5\), which holds no pixel"),
        (np.zeros((5, 0)), ValueError, r"`image` has shape \(5, 0\), which holds no pixel"),
        ([], ValueError, r"`image` has shape \(0,\)"),
        (np.zeros(5), ValueError, r"`image` has shape \(5,\); two axes \(rows, columns\) are needed"),
        (3.0, ValueError, r"`image` has shape \(\); two axes"),
        (np.zeros((4, 5, 3)), ValueError, r"`image` has shape \(4, 5, 3\); two axes .* are needed; .*image\[0\].*image\[\.\.\., 0\]"),
        (np.zeros((2, 4, 5, 3)), ValueError, r"`image` has shape \(2, 4, 5, 3\); two axes"),
        (np.zeros((4, 5), complex), TypeError, r"`image` has dtype complex128; real numbers are needed; .*np\.abs"),
        (np.zeros((4, 5), object), TypeError, "`image` has dtype object; real numbers are needed"),
        (np.full((4, 5), "a"), TypeError, "`image` has dtype <U1; real numbers are needed"),
        ([["a", "b"]], TypeError, "`image` has dtype <U1; real numbers are needed"),
        ("image.tif", TypeError, "`image` has dtype <U9; real numbers are needed"),
        (None, TypeError, "`image` has dtype object; real numbers are needed"),
        (np.zeros((4, 5), "datetime64[s]"), TypeError, r"`image` has dtype datetime64\[s\]; real numbers"),
        (np.zeros((4, 5), "timedelta64[s]"), TypeError, "real numbers are needed"),
        (np.zeros((4, 5), [("r", "u1"), ("g", "u1")]), TypeError, "real numbers are needed"),
    ],
    ids=lambda value: None,
)  # fmt: skip
def test_images_that_make_no_sense(image, error, message):
    with pytest.raises(error, match=message):
        check_image(image)


def test_ragged_lists_are_no_image():
    with pytest.raises((TypeError, ValueError), match="`image`"):
        check_image([[1, 2], [3]])


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">f4", ">u2", "g"]
)
def test_images_of_any_real_type(dtype):
    image = np.ones((3, 4), dtype)
    assert check_image(image) is image


def test_masks():
    mask = np.eye(3, dtype=bool)
    assert check_mask(None, (3, 3)) is None
    assert check_mask(mask, (3, 3)) is mask
    for same in (mask.astype(np.uint8) * 255, mask.astype(float), mask.tolist(), mask.astype(">i4")):
        got = check_mask(same, (3, 3))
        assert got.dtype == bool
        np.testing.assert_array_equal(got, mask)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (
            np.ones((3, 4), bool),
            ValueError,
            r"`mask` has shape \(3, 4\); that of `image`, \(3, 3\), is needed",
        ),
        (np.ones(9, bool), ValueError, r"`mask` has shape \(9,\); that of `image`, \(3, 3\)"),
        (True, ValueError, r"`mask` has shape \(\); that of `image`"),
        (
            np.zeros((3, 3), bool),
            ValueError,
            "`mask` is False everywhere; it is True where a pixel is to be used",
        ),
        (np.full((3, 3), "yes"), TypeError, "`mask` has dtype <U3; bool is needed"),
        (np.full((3, 3), None), TypeError, "`mask` has dtype object; bool is needed"),
        (np.ones((3, 3), complex), TypeError, "`mask` has dtype complex128; bool is needed"),
    ],
    ids=lambda value: None,
)
def test_masks_that_make_no_sense(mask, error, message):
    with pytest.raises(error, match=message):
        check_mask(mask, (3, 3))
