"""Dask arrays: in whatever chunks, on whatever workers, the labels of an image in memory."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpuseg
from gpuseg import (
    Fusion,
    Histogram,
    LocalCorrelationMap,
    Patches,
    PowerSpectrum,
    PreselectedTranslations,
    ReflectionSymmetry,
    RotationalSymmetry,
)
from tests.emulator import require
from tests.strategies import build_image, build_mask

HERE = importlib.util.find_spec("dask") and importlib.util.find_spec("distributed")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks as small as the chunks, in this very thread."""
    require(HERE, "dask and distributed are not installed; pip install 'gpuseg[dask]'")
    import dask

    monkeypatch.setattr("gpuseg.blocks.LEAST_SIDE", 1)
    with dask.config.set(scheduler="synchronous"):
        yield


def lazy(array, chunks):
    import dask.array

    return dask.array.from_array(array, chunks=chunks)


def computed(found):
    import dask

    return dict(
        zip(
            ("labels", "certainty", "components", "points", "values"),
            dask.compute(
                found.labels,
                found.certainty,
                found.components,
                found.point_labels,
                found.descriptors.values,
            ),
            strict=True,
        )
    )


@st.composite
def chunkings(draw, side):
    """Chunks along an axis: one, even, tiny, uneven."""
    kind = draw(st.sampled_from(["one", "even", "uneven"]))
    if kind == "one":
        return (side,)
    if kind == "even":
        size = draw(st.integers(5, side))
        return tuple(min(size, side - begin) for begin in range(0, side, size))
    cuts = sorted(draw(st.sets(st.integers(1, side - 1), max_size=5)))
    return tuple(np.diff([0, *cuts, side]).tolist())


# --- the same as in memory -----------------------------------------------------------------------------------

DESCRIPTORS = {
    "direct": LocalCorrelationMap(3, 4, 25, method="direct"),
    "box": LocalCorrelationMap(3, 4, 81, method="box"),
    "one way": PreselectedTranslations([(3, 1), (-4, 2), (0, 5), (0, -5)], (4, 2)),
    "rotation": RotationalSymmetry(4, pooling_radius=3, n_max=2),
    "reflection": ReflectionSymmetry(5, 3, pooling_radius=(4, 0)),
    "spectrum": PowerSpectrum(3),
    "patches": Patches((2, 4)),
    "histogram": Histogram(4, n_bins=4),
    "fused": Fusion((LocalCorrelationMap(2, 3, 25), PowerSpectrum(3))),
}


def with_border(descriptor, border):
    if isinstance(descriptor, Fusion):
        return descriptor
    return type(descriptor)(**{**vars(descriptor), "border": border})


@settings(max_examples=60)
@given(
    data=st.data(),
    name=st.sampled_from(list(DESCRIPTORS)),
    border=st.sampled_from(["full", "full", "valid"]),
    kind=st.sampled_from(["noise", "lattice", "flat areas"]),
    hidden=st.sampled_from(["none", "half plane", "disc", "scattered"]),
    hole=st.sampled_from(["none", "nan row", "scattered nan"]),
    shape=st.tuples(st.integers(28, 56), st.integers(28, 56)),
    stride=st.integers(1, 6),
    upsampling=st.booleans(),
    seed=st.integers(0, 99),
)
def test_chunks_do_not_matter(data, name, border, kind, hidden, hole, shape, stride, upsampling, seed):
    descriptor = with_border(DESCRIPTORS[name], border)
    image = build_image(kind, shape, "float32", hole=hole, seed=seed)
    mask = build_mask(hidden, shape, seed)
    chunks = tuple(data.draw(chunkings(side)) for side in shape)
    options = {
        "descriptor": descriptor,
        "stride": stride,
        "upsampling": upsampling,
        "random_state": 0,
        "device": "cpu",
    }
    lazy_mask = None if mask is None else lazy(mask, chunks)
    try:
        whole = gpuseg.segment(image, 2, mask=mask, **options)
    except ValueError as error:  # constant, or nothing left
        with pytest.raises(type(error)):
            gpuseg.segment(lazy(image, chunks), 2, mask=lazy_mask, **options)
        return
    # learnt in memory, so that nothing but the chunks differs
    found = whole.model.predict(lazy(image, chunks), mask=lazy_mask, device="cpu")
    got = computed(found)
    np.testing.assert_allclose(got["values"], whole.descriptors.values, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(got["components"], whole.components, rtol=1e-4, atol=1e-4)
    sure = whole.certainty > 1e-3
    np.testing.assert_array_equal(got["labels"][sure], whole.labels[sure])
    np.testing.assert_array_equal(got["labels"] < 0, whole.labels < 0)
    np.testing.assert_allclose(got["certainty"], whole.certainty, atol=2e-3)
    learnt = gpuseg.segment(lazy(image, chunks), 2, mask=lazy_mask, **options)
    np.testing.assert_allclose(
        learnt.explained_variance_ratio, whole.explained_variance_ratio, rtol=1e-3, atol=1e-5
    )
    assert learnt.model.typical_misfit == pytest.approx(whole.model.typical_misfit, rel=1e-2)
