"""Between the upload of an image and its labels a GPU does not wait for the host, but for the looks counted here.

The stand-in for CuPy counts every number that comes back, also where CuPy must know one itself (a boolean
index). A new look shows here: remove it, or raise the number and say in kernels/README.md what it is for.
"""

from __future__ import annotations

import numpy as np
import pytest

import gpuseg
from gpuseg import LocalCorrelationMap, arrays, synthetic
from gpuseg.clustering import KMeans

DESCRIPTOR = LocalCorrelationMap(6, 8, 81)
IMAGE = synthetic.bicrystal((90, 94), period=9, counts=20, random_state=0).image


@pytest.fixture
def cupy(emulated_cuda, monkeypatch):
    """The stand-in, which keeps the size of all that was read as a whole."""
    cupy = emulated_cuda()
    cupy.sizes_read = []
    get = cupy.ndarray.get

    def noted(self, *rest, **options):
        cupy.sizes_read.append(self.nbytes)
        return get(self, *rest, **options)

    monkeypatch.setattr(cupy.ndarray, "get", noted)
    return cupy


def picture(kind):
    image = IMAGE.astype(np.uint16 if kind == "counts" else np.float32)
    mask = None
    if kind == "masked":
        mask = np.ones(image.shape, bool)
        mask[20:60, 20:60] = False
    return image, mask


# counts: is anything there, how many points are usable, covariance, has k-means ended, its result, what was learnt;
# float: and twice whether a pixel is not finite; masked: and what the masks pick, and the far grid points' labels
@pytest.mark.parametrize(("kind", "looks"), [("counts", 6), ("float", 8), ("masked", 19)])
def test_segment_looks_seldom(cupy, kind, looks):
    image, mask = picture(kind)
    wanted = gpuseg.segment(image, descriptor=DESCRIPTOR, stride=3, mask=mask, random_state=0, device="cpu")
    image, mask = (None if each is None else cupy.asarray(each) for each in (image, mask))
    before = cupy.host_reads
    found = gpuseg.segment(image, descriptor=DESCRIPTOR, stride=3, mask=mask, random_state=0)
    assert 0 < cupy.host_reads - before <= looks
    np.testing.assert_array_equal(found.labels.get(), wanted.labels)


@pytest.mark.parametrize(("kind", "looks"), [("counts", 2), ("float", 4)])
def test_predict_looks_seldom(cupy, kind, looks):
    image, _ = picture(kind)
    model = gpuseg.segment(image, descriptor=DESCRIPTOR, stride=3, random_state=0, device="cpu").model
    there = cupy.asarray(image)
    before = cupy.host_reads
    found = model.predict(there)
    assert 0 < cupy.host_reads - before <= looks
    np.testing.assert_array_equal(found.labels.get(), model.predict(image, device="cpu").labels)


def test_nothing_large_is_read(cupy):
    image, _ = picture("float")
    gpuseg.segment(cupy.asarray(image), descriptor=DESCRIPTOR, stride=3, random_state=0)
    covariance = 8 * 81 * 81
    assert max(cupy.sizes_read) <= covariance + 4 * 81
    assert sum(cupy.sizes_read) < 1.1 * covariance


def test_a_large_eigenproblem_stays_on_the_gpu(cupy, monkeypatch):
    monkeypatch.setattr("gpuseg.engines.cuda.EIGENPROBLEMS_ON_HOST", 80)
    image, _ = picture("counts")
    found = gpuseg.segment(cupy.asarray(image), descriptor=DESCRIPTOR, stride=3, random_state=0)
    assert max(cupy.sizes_read) < 8 * 81 * 81 / 10
    wanted = gpuseg.segment(image, descriptor=DESCRIPTOR, stride=3, random_state=0, device="cpu")
    np.testing.assert_array_equal(found.labels.get(), wanted.labels)


def test_kmeans_looks_only_whether_it_is_done(cupy):
    samples = cupy.asarray(np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32))
    before = cupy.host_reads
    kmeans = KMeans(4, n_init=5, random_state=0).fit(samples)
    assert cupy.host_reads - before <= kmeans.n_iter_ / 10 + 2
    before = cupy.host_reads
    KMeans(4, n_init=50, max_iter=10, random_state=0).fit(samples)  # however many starts
    assert cupy.host_reads - before == 2


def test_stages_are_timed_without_waiting(cupy):
    image, _ = picture("counts")
    found = gpuseg.segment(cupy.asarray(image), descriptor=DESCRIPTOR, stride=3, random_state=0)
    assert list(found.timings) == ["descriptors", "decomposition", "clustering", "labels", "upsampling"]
    assert all(seconds > 0 for seconds in found.timings.values())


def test_several_arrays_come_by_one_transfer(cupy):
    wanted = [
        np.arange(3, dtype=np.uint8),
        np.float32(7.5),
        np.arange(6.0).reshape(2, 3),
        np.array([[True], [False]]),
        np.zeros((0, 4), np.int32),
        np.array(["host"]),
    ]
    given = [cupy.asarray(array) for array in wanted[:-1]]
    given[2] = cupy.asfortranarray(given[2])
    before = cupy.host_reads
    got = arrays.to_numpy_together(*given, wanted[-1])
    assert cupy.host_reads - before == 1
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == other.dtype
        assert one.flags.aligned
        np.testing.assert_array_equal(one, other)
    assert arrays.to_numpy_together() == []
