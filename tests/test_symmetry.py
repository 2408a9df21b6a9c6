"""Operations: small values that print, compare and turn into their opposites."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from gpuseg import Translation
from gpuseg.symmetry import as_translations, translations_in_window
from tests import naive


def test_a_translation_prints_readably():
    assert str(Translation(3, -14)) == "translation (+3, -14) px"
    assert repr(Translation(3, -14)) == "Translation(d_row=3, d_col=-14)"


def test_a_translation_is_a_value():
    assert Translation(1, 2) == Translation(1, 2) != Translation(2, 1)
    assert {Translation(1, 2): "a"}[Translation(1, 2)] == "a"
    assert -Translation(1, -2) == Translation(-1, 2)
    assert sorted([Translation(1, 0), Translation(0, 5)]) == [Translation(0, 5), Translation(1, 0)]
    assert pickle.loads(pickle.dumps(Translation(1, 2))) == Translation(1, 2)
    with pytest.raises(AttributeError):
        Translation(1, 2).d_row = 5


@pytest.mark.parametrize("window", [(0, 0), (0, 7), (3, 0), (5, 4), (20, 20)])
@pytest.mark.parametrize("points", [1, 2, 9, 50, 100, 1681, 10**6])
def test_translations_of_a_window(window, points):
    got = translations_in_window(window, points)
    np.testing.assert_array_equal(
        [(t.d_row, t.d_col) for t in got], naive.translations_of_window(window, points)
    )
    assert all(type(t.d_row) is type(t.d_col) is int for t in got)


@pytest.mark.parametrize(
    "entries",
    [[(1, 2), (0, -3)], np.array([[1, 2], [0, -3]]), [[1.0, 2.0], np.array([0, -3])], (Translation(1, 2), (0, -3)),
     iter([(1, 2), (0, -3)])],
)  # fmt: skip
def test_what_counts_as_translations(entries):
    got = as_translations(entries)
    assert got == (Translation(1, 2), Translation(0, -3))
    assert all(type(t.d_row) is int for t in got)


@pytest.mark.parametrize(
    "entry", [(1,), (1, 2, 3), (0.5, 1), ("a", 1), None, 3, (1, np.inf), (1, np.nan), (1, None)]
)
def test_what_does_not(entry):
    with pytest.raises(ValueError, match=r"`translations` holds .*; give whole pixels \(d_row, d_col\)"):
        as_translations([(4, 4), entry])
