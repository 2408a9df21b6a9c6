"""Images worked on in bands: the descriptors and labels of the whole, in bounded memory."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuseg import (
    Histogram,
    LocalCorrelationMap,
    Patches,
    PowerSpectrum,
    PreselectedTranslations,
    ReflectionSymmetry,
    RotationalSymmetry,
)
from gpuseg.arrays import Device
from gpuseg.descriptors import Fusion
from gpuseg.large import BandedDescriptors, MemoryPlan, describe_image
from tests.strategies import build_image, build_mask

CPU = Device("cpu")
DESCRIPTORS = {
    "direct": LocalCorrelationMap(3, 4, 25, method="direct"),
    "fft": LocalCorrelationMap(3, (5, 3), 30, method="fft"),
    "box": LocalCorrelationMap(3, 4, 81, method="box"),
    "one way": PreselectedTranslations([(3, 1), (-4, 2), (0, 5), (0, -5)], (4, 2)),
    "rotation": RotationalSymmetry(4, pooling_radius=3, n_max=2),
    "reflection": ReflectionSymmetry(5, 3, pooling_radius=(4, 0)),
    "spectrum": PowerSpectrum(3),
    "patches": Patches((2, 4)),
    "histogram": Histogram(4, n_bins=4),
    "fused": Fusion((LocalCorrelationMap(2, 3, 25), PowerSpectrum(3)), (0.5, 2.0)),
}


def in_bands(descriptor, image, mask, stride, rows):
    grid = descriptor.grid(image.shape, stride)
    plan = MemoryPlan(grid, rows, 0, 0)
    found = describe_image(descriptor, image, stride, mask, CPU, plan)
    if plan.n_bands == 1:
        return found.values
    assert isinstance(found, BandedDescriptors)
    bands = list(found.bands())
    assert [band.grid.shape[0] for band in bands[:-1]] == [rows] * (len(bands) - 1)
    np.testing.assert_array_equal(np.concatenate([band.usable for band in bands]), found.usable)
    return np.concatenate([band.values for band in bands], axis=1)


def valid_of(descriptor):
    parts = getattr(descriptor, "descriptors", None)
    if parts:
        return Fusion(tuple(valid_of(each) for each in parts[:1]), descriptor.weights[:1])
    return type(descriptor)(**{**vars(descriptor), "border": "valid"})


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(list(DESCRIPTORS)),
    border=st.sampled_from(["full", "valid"]),
    kind=st.sampled_from(["noise", "lattice", "flat areas"]),
    hidden=st.sampled_from(["none", "half plane", "disc", "scattered"]),
    hole=st.sampled_from(["none", "nan row", "scattered nan"]),
    shape=st.tuples(st.integers(28, 48), st.integers(28, 48)),
    stride=st.integers(1, 5),
    rows=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_bands_hold_what_the_whole_holds(name, border, kind, hidden, hole, shape, stride, rows, seed):
    descriptor = DESCRIPTORS[name] if border == "full" else valid_of(DESCRIPTORS[name])
    image = build_image(kind, shape, "float32", hole=hole, seed=seed)
    mask = build_mask(hidden, shape, seed)
    try:
        whole = descriptor.transform(image, stride, mask, device="cpu").values
    except ValueError:  # constant, or nothing left
        return
    got = in_bands(descriptor, image, mask, stride, rows)
    if name in ("direct", "fft"):  # every score for itself: not a bit may differ
        np.testing.assert_array_equal(got, whole)
    else:  # sums are taken about the mean of another tile
        np.testing.assert_allclose(got, whole, rtol=1e-4, atol=2e-5)
