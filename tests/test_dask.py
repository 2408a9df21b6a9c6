"""Dask arrays: in whatever chunks, on whatever workers, the labels of an image in memory."""

import importlib.util
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Case:
    """A picture, how it is cut, and how it is segmented; all of it drawn by one seed."""

    seed: int

    def chosen(self):
        rng = np.random.default_rng(self.seed)
        shape = tuple(rng.integers(28, 64, 2).tolist())
        kind = rng.choice(["noise", "lattice", "flat areas"])
        hole = rng.choice(["none", "none", "nan row", "scattered nan", "one nan"])
        hidden = rng.choice(["none", "none", "half plane", "disc", "scattered", "islands"])
        image = build_image(kind, shape, "float32", hole=hole, seed=self.seed)
        mask = islands(shape, rng) if hidden == "islands" else build_mask(hidden, shape, self.seed)
        chunks = tuple(chunks_along(side, rng) for side in shape)
        options = {
            "stride": int(rng.integers(1, 7)),
            "upsampling": bool(rng.random() < 0.7),
            "random_state": 0,
            "device": "cpu",
        }
        return image, mask, chunks, rng.choice(["full", "full", "valid"]), options


def chunks_along(side, rng):
    """Chunks along an axis: one, even, or uneven down to single pixels."""
    kind = rng.choice(["one", "even", "uneven", "uneven"])
    if kind == "one":
        return (side,)
    if kind == "even":
        size = int(rng.integers(5, 20))
        return tuple(min(size, side - begin) for begin in range(0, side, size))
    cuts = np.unique(rng.integers(1, side, rng.integers(1, 6)))
    return tuple(np.diff([0, *cuts, side]).tolist())


def islands(shape, rng):
    """Mostly masked, with some lines a pixel wide far from what can be scored."""
    mask = np.zeros(shape, bool)
    top, left = rng.integers(0, shape[0] - 16), rng.integers(0, shape[1] - 16)
    mask[top : top + 16, left : left + 16] = True
    mask[rng.integers(shape[0])] = True
    mask[:, rng.integers(shape[1])] = True
    return mask


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


@pytest.mark.parametrize("name", list(DESCRIPTORS))
@settings(max_examples=12)
@given(case=st.builds(Case, st.integers(0, 10**6)))
def test_chunks_do_not_matter(name, case):
    image, mask, chunks, border, options = case.chosen()
    options["descriptor"] = with_border(DESCRIPTORS[name], border)
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
