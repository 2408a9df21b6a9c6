"""Fisher separability (paper, eq. 4) against the definition, on every kind of array."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuseg.separability import separability
from tests import naive
from tests.strategies import feature_tables
from tests.tolerances import TOLERANCE

RTOL = TOLERANCE["separability", "relative"]


@given(values=feature_tables(), n=st.integers(1, 4), seed=st.integers(0, 99))
def test_it_is_the_naive_one(values, n, seed):
    labels = np.random.default_rng(seed).integers(-1, n, values.shape[1]).astype(np.int32)
    labels[0] = 0
    values = values.astype(np.float32)
    got = separability(values, labels, n)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, naive.separability(values, labels), rtol=RTOL, atol=1e-6)


def test_worked_out_by_hand(space):
    values = [[0.0, 2.0, 4.0, 6.0, 99.0], [1.0, 3.0, 1.0, 3.0, 0.0], [0.0, 0.0, 5.0, 5.0, 0.0], [0.1] * 5]
    got = separability(space(values, np.float32), space([0, 0, 1, 1, -1], np.int32), 2)
    np.testing.assert_allclose(space.numpy(got), [4, 0, np.inf, 0], rtol=RTOL, atol=1e-6)


def test_patterns_without_points_and_points_without_a_pattern(space):
    values = np.random.default_rng(0).normal(size=(3, 20)).astype(np.float32)
    labels = np.repeat([0, 2, -1, 5], 5).astype(np.int32)  # nothing has 1, and 5 is none of 3 patterns
    got = space.numpy(separability(space(values), space(labels), 3))
    wanted = naive.separability(values, np.where(labels == 5, -1, labels))
    np.testing.assert_allclose(got, wanted, rtol=RTOL)


def test_what_is_missing_at_points_without_a_pattern_does_not_spread(space):
    values = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    labels = np.array([0, 0, 0, 1, 1, 1, -1, -1], np.int32)
    wanted = space.numpy(separability(space(values), space(labels), 2))
    values[:, 6:] = np.nan
    got = space.numpy(separability(space(values), space(labels), 2))
    np.testing.assert_array_equal(got, wanted)


def test_a_level_loses_nothing():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 3000).astype(np.int32)
    values = (0.97 + 1e-3 * (labels + rng.normal(size=(1, 3000)))).astype(np.float32)
    np.testing.assert_allclose(separability(values, labels, 2), naive.separability(values, labels), rtol=RTOL)


@pytest.mark.parametrize("value", [0.1, 1.0, -0.3333])
def test_a_score_that_is_the_same_everywhere_separates_nothing(space, value):
    labels = np.arange(1001) % 3
    got = separability(space(np.full((1, 1001), value), np.float32), space(labels, np.int32), 3)
    np.testing.assert_array_equal(space.numpy(got), [0])


def test_one_pattern_separates_nothing(space):
    values = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    got = space.numpy(separability(space(values), space(np.zeros(50), np.int32), 1))
    np.testing.assert_allclose(got, 0, atol=1e-6)
