"""k-means: against its definition and scikit-learn, on every kind of array; certainty on blobs known by heart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuseg import constants
from gpuseg.clustering import (
    KMeans,
    assign,
    certainty,
    count_members,
    lloyd,
    seed_centers,
    squared_distances,
)
from gpuseg.engines import cpu, cuda
from tests import cuml_stand_in, naive, parity
from tests.strategies import feature_tables

CENTERS = np.array([[0.0, 0.0], [10.0, 1.0], [-4.0, 8.0]])


def blobs(n=300, spread=0.7, seed=0):
    """(S, 2) float32 samples about CENTERS, and which is whose."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, n, p=[0.2, 0.5, 0.3])
    return (CENTERS[truth] + spread * rng.normal(size=(n, 2))).astype(np.float32), truth


@pytest.fixture(params=["cpu", "emulated"])
def put(request, emulated_cuda):
    """Moves samples to a device."""
    return np.asarray if request.param == "cpu" else emulated_cuda().asarray


def host(array):
    return array.get() if hasattr(array, "get") else array


def matched(got, wanted):
    """`got` in the order of `wanted`."""
    return got[((got[None] - wanted[:, None]) ** 2).sum(-1).argmin(1)]


# --- the parts, on every kind of array -------------------------------------------------------------------


@given(values=feature_tables(), n=st.integers(1, 5))
def test_squared_distances_are_the_naive_ones(values, n):
    samples = values.T.astype(np.float32)
    centers = samples[:n] + np.float32(0.25)
    wanted = naive.distances(samples.T, centers) ** 2
    np.testing.assert_allclose(squared_distances(samples, centers), wanted, rtol=1e-5)


def test_distances_and_nearest_centres(space):
    samples, _ = blobs(50)
    centers = CENTERS.astype(np.float32)
    distances = space.numpy(squared_distances(space(samples), space(centers)))
    np.testing.assert_allclose(distances, naive.distances(samples.T, centers) ** 2, rtol=1e-5)
    labels = space.numpy(assign(space(samples), space(centers)))
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, naive.assign(samples.T, centers))


def test_distances_lose_nothing_far_from_the_origin(space):
    samples, _ = blobs(50, spread=0.01)
    moved = space.numpy(squared_distances(space(samples + 1000), space(CENTERS + 1000, np.float32)))
    exact = (samples + np.float32(1000)).astype(np.float64).T
    np.testing.assert_allclose(moved, naive.distances(exact, CENTERS + 1000) ** 2, rtol=1e-4)


def test_of_equally_near_centres_the_first(space):
    labels = assign(space([[0.0, 0.0], [1.0, 0.0]], np.float32), space([[1, 0], [-1, 0], [1, 0]], np.float32))
    np.testing.assert_array_equal(space.numpy(labels), [0, 0])


def test_lloyd_of_every_kind_of_array(space):
    samples, truth = blobs()
    start = space(CENTERS + np.array([[1, -1], [2, 2], [-1, 1]]), np.float32)
    centers, inertia, n_iter = lloyd(space(samples), start, 50, 1e-9)
    wanted = np.array([samples[truth == k].mean(0) for k in range(3)])
    np.testing.assert_allclose(space.numpy(centers), wanted, atol=1e-5)
    assert inertia == pytest.approx(naive.inertia(samples.T, wanted), rel=1e-4)
    assert 1 <= n_iter <= 50


@pytest.mark.parametrize("max_iter", [1, 3, 5, 7])
def test_lloyd_takes_so_many_steps_and_never_gets_worse(space, max_iter):
    samples, _ = blobs(spread=4)
    start = samples[:4]
    centers, inertia, n_iter = lloyd(space(samples), space(start), max_iter, -1.0)
    assert n_iter == max_iter
    wanted = start.astype(np.float64)
    for _ in range(max_iter):
        labels = naive.assign(samples.T, wanted)
        wanted = np.array([samples[labels == k].mean(0, dtype=np.float64) for k in range(4)])
    np.testing.assert_allclose(space.numpy(centers), wanted, atol=1e-4)
    assert inertia == pytest.approx(naive.inertia(samples.T, wanted), rel=1e-4)
    assert inertia < naive.inertia(samples.T, start)


def test_an_empty_cluster_keeps_its_centre(space):
    samples, _ = blobs()
    start = np.vstack([CENTERS, [[500, 500]]]).astype(np.float32)
    centers, _, _ = lloyd(space(samples), space(start), 20, 0.0)
    np.testing.assert_array_equal(space.numpy(centers)[3], [500, 500])
    assert np.isfinite(space.numpy(centers)).all()


def test_seeds_are_samples_far_apart(space):
    samples, truth = blobs(spread=0.1)
    for seed in range(10):
        centers = space.numpy(seed_centers(space(samples), 3, np.random.RandomState(seed)))
        assert centers.shape == (3, 2)
        which = [np.flatnonzero((samples == c).all(1))[0] for c in centers]
        assert len({truth[k] for k in which}) == 3


def test_every_kind_of_array_seeds_alike(space):
    samples, _ = blobs()
    got = space.numpy(seed_centers(space(samples), 4, np.random.RandomState(3)))
    np.testing.assert_array_equal(got, seed_centers(samples, 4, np.random.RandomState(3)))


def test_seeds_of_samples_that_are_all_the_same(space):
    centers = space.numpy(seed_centers(space(np.ones((6, 2)), np.float32), 3, np.random.RandomState(0)))
    np.testing.assert_array_equal(centers, np.ones((3, 2)))


# --- certainty -------------------------------------------------------------------------------------------


def test_certainty_worked_out_by_hand(space):
    # distances 0 and 4; 2 and 2; 1 and 4; and the third of three counts for nothing
    squared = [[0.0, 4.0, 1.0, 81.0], [16.0, 4.0, 16.0, 9.0], [99.0, 4.1, 99.0, 36.0]]
    got = space.numpy(certainty(space(squared, np.float32)))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [1, 0, 0.75, 0.5], atol=1e-6)


def test_certainty_without_a_second_centre_or_with_the_same_twice(space):
    np.testing.assert_array_equal(space.numpy(certainty(space([[3.0, 0.0]], np.float32))), [1, 1])
    np.testing.assert_array_equal(space.numpy(certainty(space([[0.0, 2.0], [0.0, 2.0]], np.float32))), [0, 0])


@given(values=feature_tables(), n=st.integers(1, 5))
def test_certainty_is_the_naive_one(values, n):
    samples = values.T.astype(np.float32)
    squared = squared_distances(samples, samples[:n] + np.float32(0.25))
    got = certainty(squared)
    assert got.min() >= 0
    assert got.max() <= 1
    if n > 1:
        nearest, second = np.sort(np.sqrt(squared.astype(np.float64)), axis=0)[:2]
        np.testing.assert_allclose(got, 1 - nearest / second, atol=1e-6)


def test_certainty_falls_from_a_centre_to_the_middle():
    line = np.linspace(0, 5, 50, dtype=np.float32)[:, None]
    got = certainty(squared_distances(line, np.array([[0.0], [10.0]], np.float32)))
    assert got[0] == 1
    assert got[-1] == pytest.approx(0, abs=1e-6)
    assert (np.diff(got) < 0).all()


# --- k-means ---------------------------------------------------------------------------------------------


def test_kmeans_finds_the_blobs(put):
    samples, truth = blobs()
    kmeans = KMeans(3, random_state=0).fit(put(samples))
    centers, labels = host(kmeans.cluster_centers_), host(kmeans.labels_)
    assert (centers.dtype, labels.dtype) == (np.float32, np.int32)
    np.testing.assert_allclose(matched(centers, CENTERS), CENTERS, atol=0.3)
    np.testing.assert_array_equal(labels, naive.assign(samples.T, centers))
    assert len(set(zip(labels.tolist(), truth.tolist(), strict=True))) == 3
    assert kmeans.inertia_ == pytest.approx(naive.inertia(samples.T, centers), rel=1e-4)
    assert kmeans.n_iter_ >= 1
    np.testing.assert_array_equal(host(kmeans.predict(put(samples))), labels)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_kmeans_is_as_good_as_scikit_learn(put, n):
    from sklearn.cluster import KMeans as Reference

    samples, _ = blobs(spread=1.5)
    wanted = Reference(n, n_init=10, tol=1e-6, random_state=0).fit(samples.astype(np.float64))
    got = KMeans(n, n_init=10, random_state=0).fit(put(samples))
    assert got.inertia_ == pytest.approx(wanted.inertia_, rel=1e-3)
    np.testing.assert_allclose(
        matched(host(got.cluster_centers_), wanted.cluster_centers_), wanted.cluster_centers_, atol=0.05
    )


def test_twins_agree(device_space):
    parity.check_kmeans(device_space)


def test_the_same_seed_gives_the_same_bits(put):
    samples, _ = blobs(spread=4)
    first, second = (KMeans(4, random_state=5).fit(put(samples)) for _ in range(2))
    assert host(first.cluster_centers_).tobytes() == host(second.cluster_centers_).tobytes()
    np.testing.assert_array_equal(host(first.labels_), host(second.labels_))
    same = KMeans(4, random_state=np.random.RandomState(5)).fit(put(samples))
    assert host(same.cluster_centers_).tobytes() == host(first.cluster_centers_).tobytes()


def test_without_a_seed_it_works(put):
    samples, _ = blobs()
    assert KMeans(3).fit(put(samples)).inertia_ > 0


def test_restarts_keep_the_best(put):
    samples, _ = blobs(spread=3)
    alone = [KMeans(5, n_init=1, random_state=seed).fit(put(samples)).inertia_ for seed in range(8)]
    best = KMeans(5, n_init=10, random_state=0).fit(put(samples)).inertia_
    assert best <= min(alone) * 1.02


def test_fewer_distinct_samples_than_centres(put):
    samples = np.repeat([[0.0, 0.0], [1.0, 1.0]], 5, axis=0).astype(np.float32)
    kmeans = KMeans(4, random_state=0).fit(put(samples))
    assert host(kmeans.cluster_centers_).shape == (4, 2)
    assert np.isfinite(host(kmeans.cluster_centers_)).all()
    assert kmeans.inertia_ == pytest.approx(0, abs=1e-6)
    labels = host(kmeans.labels_)
    assert len(set(labels[:5])) == len(set(labels[5:])) == 1
    assert labels[0] != labels[5]


def test_as_many_centres_as_samples(put):
    samples, _ = blobs(6)
    kmeans = KMeans(6, random_state=0).fit(put(samples))
    assert kmeans.inertia_ == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match="`n_clusters` is 7; at most the number of samples, 6, is needed"):
        KMeans(7).fit(put(samples))


STARTS = np.array(
    [
        [[0, 0, 0], [1, 0, 0], [0, 1, 0]],
        [[5, 5, 5], [900, 0, 0], [-5, 0, 5]],  # the second of these has no sample
        [[0, 0, 0], [0, 0, 0], [3, 0, 0]],  # nor has the second of two alike
    ],
    np.float32,
)


@pytest.mark.parametrize("n_samples", [3, 300, 5000])
@pytest.mark.parametrize(("max_iter", "threshold"), [(0, 0), (1, 0), (4, 0), (60, 1e-4), (60, 1.0)])
def test_the_cpu_goes_the_way_of_the_definition(n_samples, max_iter, threshold):
    samples = np.random.default_rng(3).normal(size=(n_samples, 3)) * [3, 2, 1] + [1, 0, 0]
    samples = samples.astype(np.float32)
    for starts in (STARTS, STARTS[:1], STARTS[1:2], STARTS[2:], STARTS[::-1]):
        ends = [naive.lloyd(samples, start, max_iter, threshold) for start in starts]
        inertias = [naive.inertia(samples.T, centers) for centers, _ in ends]
        best = int(np.argmin(inertias))
        centers, inertia, n_iter = cpu.lloyd(samples, starts, max_iter, np.array([threshold], float))
        assert inertia == pytest.approx(inertias[best], rel=1e-5, abs=1e-9)
        np.testing.assert_allclose(centers, ends[best][0], atol=2e-5)
        assert n_iter == ends[best][1]


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("n_samples", [3, 300, 5000])
@pytest.mark.parametrize(("max_iter", "threshold"), [(1, 0), (4, 0), (60, 1e-4), (60, 1.0)])
def test_the_kernel_goes_the_way_of_the_definition(emulated_cuda, order, n_samples, max_iter, threshold):
    cupy = emulated_cuda(order=order)
    samples = np.random.default_rng(3).normal(size=(n_samples, 3)).astype(np.float32) * [3, 2, 1] + [1, 0, 0]
    samples = samples.astype(np.float32)
    for starts in (STARTS, STARTS[1:2], STARTS[::-1]):
        ends = [naive.lloyd(samples, start, max_iter, threshold) for start in starts]
        inertias = [naive.inertia(samples.T, centers) for centers, _ in ends]
        best = int(np.argmin(inertias))
        centers, inertia, n_iter = cuda.lloyd(
            cupy.asarray(samples), cupy.asarray(starts), max_iter, cupy.asarray(np.array([threshold], float))
        )
        assert inertia == pytest.approx(inertias[best], rel=1e-5, abs=1e-9)
        np.testing.assert_allclose(centers.get(), ends[best][0], atol=2e-5)
        assert n_iter == ends[best][1]


def test_more_centres_than_the_kernel_has_room_for(emulated_cuda):
    cupy = emulated_cuda()
    samples = np.random.default_rng(0).normal(size=(90, 2)).astype(np.float32)
    for n in (cuda.MOST_CLUSTERS, cuda.MOST_CLUSTERS + 1):
        cupy.launches.clear()
        got = KMeans(n, n_init=1, random_state=0).fit(cupy.asarray(samples))
        assert (cupy.launches["lloyd_sums"] > 0) == (n == cuda.MOST_CLUSTERS)
        wanted = KMeans(n, n_init=1, random_state=0).fit(samples)
        assert got.inertia_ == pytest.approx(wanted.inertia_, rel=1e-4)


def test_members_are_counted_where_they_are(emulated_cuda):
    labels = np.array([2, 0, 2, 2, 4], np.int32)
    assert count_members(labels, 6).tolist() == [1, 0, 3, 0, 1, 0]
    cupy = emulated_cuda()
    there = count_members(cupy.asarray(labels), 6)
    assert isinstance(there, cupy.ndarray)
    assert there.get().tolist() == [1, 0, 3, 0, 1, 0]


def test_cuml_is_used_where_it_is_installed_and_serves(emulated_cuda, monkeypatch):
    cupy, fitted = emulated_cuda(), cuml_stand_in.install(monkeypatch)
    samples, _ = blobs()
    kmeans = KMeans(3, random_state=0).fit(cupy.asarray(samples))
    assert fitted == ["KMeans"]
    assert isinstance(kmeans.labels_, cupy.ndarray)
    np.testing.assert_allclose(matched(kmeans.cluster_centers_.get(), CENTERS), CENTERS, atol=0.5)
    KMeans(3, random_state=0).fit(samples)
    monkeypatch.setattr(constants, "CUML_SERVES", frozenset({"PCA"}))
    KMeans(3, random_state=0).fit(cupy.asarray(samples))
    assert fitted == ["KMeans"]
