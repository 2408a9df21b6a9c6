"""Principal components: against the SVD in float64 and scikit-learn, on every kind of array."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuseg import constants
from gpuseg.arrays import home_of
from gpuseg.decomposition import PCA, check_n_components, covariance_pca, project
from gpuseg.engines import cpu, cuda, engine_for
from tests import cuml_stand_in, naive, parity
from tests.strategies import feature_tables
from tests.tolerances import TOLERANCE

AXES = TOLERANCE["pca", "components"]
RATIO = TOLERANCE["pca", "explained_variance_ratio"]


@pytest.fixture
def samples():
    """(S, N) float32 with variances that fall by half from axis to axis, and a mean."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    return ((rng.normal(size=(400, 9)) * 0.7 ** np.arange(9)) @ turn + 3).astype(np.float32)


def assert_same_axes(got, wanted, bound=AXES):
    """Components equal, sign apart."""
    signs = np.sign((got * wanted).sum(1, keepdims=True))
    np.testing.assert_allclose(got, signs * wanted, atol=bound)


def assert_is_the_naive_pca(pca, samples, n):
    components, ratio, scores = naive.pca(samples.T, n)
    assert_same_axes(pca.components_, components)
    np.testing.assert_allclose(pca.explained_variance_ratio_, ratio, atol=RATIO)
    np.testing.assert_allclose(pca.explained_variance_, scores.var(1, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(pca.mean_, samples.mean(0, dtype=np.float64), rtol=1e-5, atol=1e-5)
    signs = np.sign((pca.components_ * components).sum(1))
    np.testing.assert_allclose(
        pca.transform(samples), (signs[:, None] * scores).T, atol=1e-4 * np.abs(samples).max()
    )


@pytest.mark.parametrize("n", [1, 4, 9])
def test_it_is_the_naive_one(samples, n):
    pca = PCA(n).fit(samples)
    assert pca.n_components_ == n
    assert {
        a.dtype for a in (pca.components_, pca.mean_, pca.explained_variance_, pca.explained_variance_ratio_)
    } == {np.dtype("f4")}
    assert_is_the_naive_pca(pca, samples, n)


@pytest.mark.parametrize("cumulative", [0.5, 0.8, 0.9, 0.999])
def test_a_fraction_of_the_variance(samples, space, cumulative):
    from sklearn.decomposition import PCA as Reference

    wanted = Reference(cumulative, svd_solver="full").fit(samples.astype(np.float64)).n_components_
    if space.name == "array-api-strict":
        _, components, _, ratio = covariance_pca(space(samples), cumulative)
        got = components.shape[0]
    else:
        pca = PCA(cumulative).fit(space(samples))
        got, ratio = pca.n_components_, pca.explained_variance_ratio_
    assert got == wanted
    ratio = space.numpy(ratio)
    assert ratio.sum() >= cumulative - RATIO
    assert ratio[:-1].sum() < cumulative + RATIO


def test_covariance_pca_of_every_kind_of_array(samples, space):
    mean, components, variance, ratio = map(space.numpy, covariance_pca(space(samples), 4))
    wanted, wanted_ratio, scores = naive.pca(samples.T, 4)
    assert_same_axes(components, wanted)
    np.testing.assert_allclose(ratio, wanted_ratio, atol=RATIO)
    np.testing.assert_allclose(variance, scores.var(1, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(mean, samples.mean(0), rtol=1e-5)


@pytest.mark.parametrize("at_a_time", [1, 64, 399, 400])
def test_the_parts_that_samples_are_read_in_do_not_show(samples, device_space, monkeypatch, at_a_time):
    for engine in (cpu, cuda):
        monkeypatch.setattr(engine, "SAMPLES_AT_A_TIME", at_a_time)
    pca = PCA(4).fit(device_space(samples))
    wanted, ratio, _ = naive.pca(samples.T, 4)
    components = device_space.numpy(pca.components_)
    assert_same_axes(components, wanted)
    np.testing.assert_allclose(device_space.numpy(pca.explained_variance_ratio_), ratio, atol=RATIO)
    got = device_space.numpy(pca.transform(device_space(samples)))
    assert got.shape == (400, 4)
    np.testing.assert_allclose(got, (samples - samples.mean(0)) @ components.T, atol=1e-4)


@given(values=feature_tables(), n=st.integers(1, 12))
def test_covariance_pca_spans_what_the_svd_spans(values, n):
    samples = values.T.astype(np.float32)
    n = min(n, samples.shape[1])
    mean, components, _, ratio = covariance_pca(samples, n)
    np.testing.assert_allclose(components @ components.T, np.eye(n), atol=AXES)
    wanted, wanted_ratio, _ = naive.pca(values, n)
    np.testing.assert_allclose(ratio, wanted_ratio, atol=RATIO)
    # equal variances share a plane, in which axes are free: compare what is explained
    left = (samples - mean) - (samples - mean) @ components.T @ components
    left_wanted = (values.T - values.mean(1)) @ (np.eye(values.shape[0]) - wanted.T @ wanted)
    assert abs((left**2).sum() - (left_wanted**2).sum()) <= 1e-4 * (values.var(1) * values.shape[1]).sum()


def test_twins_agree(device_space):
    parity.check_pca(device_space)


def test_signs_are_fixed(samples, device_space):
    for flipped in (samples, -samples, samples[::-1].copy()):
        components = device_space.numpy(PCA(4).fit(device_space(flipped)).components_)
        largest = np.abs(components).argmax(1)
        assert (components[np.arange(4), largest] > 0).all()


def test_project(samples, space):
    mean, axes = (
        samples.mean(0),
        np.linalg.qr(np.random.default_rng(1).normal(size=(9, 3)))[0].T.astype(np.float32),
    )
    got = space.numpy(project(space(samples), space(mean), space(axes)))
    assert got.dtype == np.float32
    wanted = (samples.astype(np.float64) - mean) @ axes.T.astype(np.float64)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_what_is_missing_stays_missing_in_its_row(samples, space):
    values = samples.copy()
    values[7] = np.nan
    axes = np.eye(3, 9, dtype=np.float32)
    got = space.numpy(project(space(values), space(samples.mean(0)), space(axes)))
    assert np.isnan(got[7]).all()
    assert np.isfinite(np.delete(got, 7, axis=0)).all()


@pytest.mark.parametrize(("wanted", "limit"), [(9, 9), (50, 9), (10**9, 9)])
def test_more_components_than_features_are_as_many_as_there_are(samples, device_space, wanted, limit):
    assert PCA(wanted).fit(device_space(samples)).n_components_ == limit
    few = samples[:3]
    assert PCA(wanted).fit(device_space(few)).n_components_ <= 3


@pytest.mark.parametrize("n", [3, 0.9])
def test_samples_that_are_all_the_same(device_space, n):
    pca = PCA(n).fit(device_space(np.full((20, 4), 0.3), np.float32))
    assert np.isfinite(device_space.numpy(pca.explained_variance_ratio_)).all()
    assert np.isfinite(device_space.numpy(pca.components_)).all()
    np.testing.assert_allclose(
        device_space.numpy(pca.transform(device_space(np.full((20, 4), 0.3), np.float32))), 0, atol=1e-6
    )


def test_one_sample(device_space):
    pca = PCA(5).fit(device_space(np.array([[1.0, 2.0, 3.0]]), np.float32))
    assert pca.n_components_ == 1
    assert np.isfinite(device_space.numpy(pca.explained_variance_ratio_)).all()
    np.testing.assert_allclose(device_space.numpy(pca.mean_), [1, 2, 3])


@pytest.mark.parametrize(
    ("given_as", "wanted"), [(3, 3), (np.int64(3), 3), (3.0, 3), (0.5, 0.5), (np.float32(0.5), 0.5), (99, 7)]
)
def test_numbers_of_components(given_as, wanted):
    got = check_n_components(given_as, 7, 100)
    assert got == wanted
    assert type(got) is (float if wanted == 0.5 else int)
    assert check_n_components(99, 7, 2) == 2


@pytest.mark.parametrize("wrong", [0, -1, 1.5, 0.0, -0.5, np.nan, np.inf])
def test_numbers_of_components_out_of_range(wrong):
    with pytest.raises(ValueError, match=r"`n_components` is .*; a whole number of at least 1 or a fraction"):
        check_n_components(wrong, 7, 100)


@pytest.mark.parametrize("wrong", ["5", None, True, [3], 2j])
def test_what_is_no_number_of_components(wrong):
    with pytest.raises(TypeError, match=r"`n_components` is .*; a whole number of at least 1 or a fraction"):
        check_n_components(wrong, 7, 100)


def test_cuml_is_used_where_it_is_installed_and_serves(samples, emulated_cuda, monkeypatch):
    cupy, fitted = emulated_cuda(), cuml_stand_in.install(monkeypatch)
    for n in (3, 0.9):
        got, wanted = PCA(n).fit(cupy.asarray(samples)), PCA(n).fit(samples)
        assert got.n_components_ == wanted.n_components_
        np.testing.assert_allclose(got.components_.get(), wanted.components_, atol=AXES)
        np.testing.assert_allclose(
            got.explained_variance_ratio_.get(), wanted.explained_variance_ratio_, atol=RATIO
        )
    assert fitted == ["PCA", "PCA"]
    monkeypatch.setattr(constants, "CUML_SERVES", frozenset({"KMeans"}))
    PCA(3).fit(cupy.asarray(samples))
    assert fitted == ["PCA", "PCA"]


@pytest.mark.parametrize("count", [1, 5, 120, 300])
def test_leading_eigenvectors_of_a_large_matrix(device_space, count):
    rng = np.random.default_rng(3)
    factors = rng.normal(size=(400, 300)) * 0.98 ** np.arange(300)
    matrix = factors.T @ factors
    there = device_space(matrix, None)
    found = engine_for(home_of(there)).leading_eigenvectors(there, count)
    values, vectors = map(device_space.numpy, found)
    assert values.shape == (count,)
    assert vectors.shape == (300, count)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[::-1][:count], rtol=1e-9)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(count), atol=1e-10)
    np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=1e-8 * values[0])
