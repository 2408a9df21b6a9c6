"""Dask arrays: in whatever chunks, on whatever workers, the labels of an image in memory."""

import contextlib
import importlib.util
import logging
import os
import pathlib
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpuseg
from gpuseg import (
    Fusion,
    GlideReflectionSymmetry,
    Histogram,
    LocalCorrelationMap,
    Patches,
    PowerSpectrum,
    PreselectedTranslations,
    ReflectionSymmetry,
    RotationalSymmetry,
    synthetic,
)
from gpuseg.engines import cpu
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
@settings(max_examples=6)
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


@pytest.mark.parametrize("line", [24, 25])
def test_the_nearest_score_may_lie_blocks_away(line):
    image = build_image("lattice", (56, 180), "float32", seed=3)
    mask = np.zeros(image.shape, bool)
    mask[:, :24] = True
    mask[line, 24:] = True  # a pixel wide: nothing is scored along it, with grid points on it or beside it
    options = {"descriptor": PreselectedTranslations([(2, 1), (0, 3)], 2), "stride": 2, "device": "cpu"}
    whole = gpuseg.segment(image, 3, mask=mask, random_state=0, **options)
    assert whole.descriptors.usable[:, 20:].any() == (line == 24)
    chunks = ((20, 20, 16), (30,) * 6)
    found = whole.model.predict(lazy(image, chunks), mask=lazy(mask, chunks), device="cpu")
    assert max(block.around for block in found.chunked.blocks) > 60
    assert min(block.around for block in found.chunked.blocks) < 10
    got = computed(found)
    np.testing.assert_allclose(got["values"], whole.descriptors.values, atol=2e-5)
    np.testing.assert_array_equal(got["labels"], whole.labels)
    learnt = gpuseg.segment(lazy(image, chunks), 3, mask=lazy(mask, chunks), random_state=0, **options)
    np.testing.assert_array_equal(learnt.labels.compute(), whole.labels)


# --- learnt from all of it -----------------------------------------------------------------------------------

PICTURE = synthetic.bicrystal((120, 130), period=9, misorientation=18, counts=4, random_state=0)
HOLED = PICTURE.image.astype(np.float32)
HOLED[40:52, 30:60] = np.nan
CHUNKS = ((37, 37, 46), (50, 1, 79))


@pytest.mark.parametrize("name", list(DESCRIPTORS))
@pytest.mark.parametrize("holed", [False, True])
def test_labels_are_those_of_an_image_in_memory(name, holed):
    image = HOLED if holed else PICTURE.image
    options = {"descriptor": DESCRIPTORS[name], "stride": 3, "random_state": 0, "device": "cpu"}
    whole = gpuseg.segment(image, 2, **options)
    found = gpuseg.segment(lazy(image, CHUNKS), 2, **options)
    assert len(found.chunked.blocks) > 4
    got = computed(found)
    np.testing.assert_array_equal(got["labels"], whole.labels)
    np.testing.assert_array_equal(got["points"], whole.point_labels)
    np.testing.assert_allclose(got["certainty"], whole.certainty, atol=2e-3)
    np.testing.assert_allclose(found.cluster_centers, whole.cluster_centers, atol=1e-3)
    np.testing.assert_allclose(found.separability, whole.separability, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.area_fractions, whole.area_fractions, atol=1e-12)
    assert found.misfit == pytest.approx(whole.misfit, rel=1e-3)
    assert found.model.typical_certainty == pytest.approx(whole.model.typical_certainty, rel=1e-3)
    assert found.model.typical_misfit == pytest.approx(whole.model.typical_misfit, rel=1e-3)
    assert found.n_patterns == 2
    for one, other in zip(found.to_table(), whole.to_table(), strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def test_a_level_far_above_the_contrast_loses_nothing():
    image = (PICTURE.image.astype(np.float64) - 3) * 1e-3 + 1e9
    options = {"descriptor": DESCRIPTORS["box"], "stride": 3, "random_state": 0, "device": "cpu"}
    whole = gpuseg.segment(image, 2, **options)
    got = computed(gpuseg.segment(lazy(image, CHUNKS), 2, **options))
    np.testing.assert_allclose(got["values"], whole.descriptors.values, atol=2e-5)
    np.testing.assert_array_equal(got["labels"], whole.labels)


def test_a_sample_does_not_depend_on_the_chunks(monkeypatch):
    monkeypatch.setattr("gpuseg.dask.ENOUGH_SAMPLES", 300)
    options = {"descriptor": LocalCorrelationMap(9, 9, 81), "stride": 3, "random_state": 0, "device": "cpu"}
    whole = gpuseg.segment(HOLED, 2, **options)
    found = [gpuseg.segment(lazy(HOLED, chunks), 2, **options) for chunks in (CHUNKS, (23, 60))]
    for each in found:
        assert each.sampled.samples().shape == (300, 49)
        # which of two equal halves is the smaller one is known as well as the sample tells
        agreement = np.mean((each.labels.compute() == whole.labels)[whole.labels >= 0])
        assert max(agreement, 1 - agreement) > 0.97
    np.testing.assert_allclose(found[0].sampled.samples(), found[1].sampled.samples(), rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(found[0].cluster_centers, found[1].cluster_centers, atol=1e-3)
    drawn = found[0].model.predict(lazy(HOLED, CHUNKS), device="cpu").sampled
    np.testing.assert_allclose(drawn.samples(), found[0].sampled.samples(), rtol=1e-4, atol=2e-5)


def test_selected_operations_and_predicted_images():
    options = {"descriptor": DESCRIPTORS["box"], "stride": 3, "random_state": 0, "device": "cpu"}
    whole = gpuseg.segment(HOLED, 2, **options)
    found = gpuseg.segment(lazy(HOLED, CHUNKS), 2, **options)
    few, wanted = found.select(12), whole.select(12)
    assert few.descriptor == wanted.descriptor
    assert few.accuracy == pytest.approx(wanted.accuracy)
    labels = few.predict(lazy(HOLED, CHUNKS), device="cpu").labels
    np.testing.assert_array_equal(labels.compute(), wanted.predict(HOLED, device="cpu").labels)
    segmenter = gpuseg.Segmenter(**options).fit(lazy(HOLED, CHUNKS))
    np.testing.assert_array_equal(segmenter.predict(lazy(HOLED, (50, 50))).labels.compute(), whole.labels)


def test_results_that_are_wanted_in_memory(tmp_path):
    options = {"descriptor": DESCRIPTORS["box"], "stride": 3, "random_state": 0, "device": "cpu"}
    whole = gpuseg.segment(HOLED, 2, **options)
    found = gpuseg.segment(lazy(HOLED, CHUNKS), 2, **options)
    assert "not computed" in repr(found)
    here = found.compute()
    assert type(here) is gpuseg.Segmentation
    np.testing.assert_array_equal(here.labels, whole.labels)
    np.testing.assert_allclose(here.separability, whole.separability, rtol=1e-3, atol=1e-6)
    bands = list(here.descriptors.bands())
    assert [band.grid.shape[0] for band in bands] == list(found.components.chunks[1])
    np.testing.assert_array_equal(np.concatenate([b.usable for b in bands]), whole.descriptors.usable)
    np.testing.assert_allclose(
        np.concatenate([b.values for b in bands], axis=1), whole.descriptors.values, atol=2e-5
    )
    found.save(tmp_path / "out")
    assert (tmp_path / "out" / "labels.tif").exists()
    assert found.plot().axes
    with pytest.raises(ValueError, match=r"not in memory; .*`segmentation.select\(n\)` selects"):
        found.model.select(5, found)


# --- what cannot be had --------------------------------------------------------------------------------------


def test_what_is_auto_follows_the_middle(monkeypatch):
    monkeypatch.setattr("gpuseg.dask.MIDDLE", 100)
    descriptor = [
        LocalCorrelationMap("auto", "auto", 49),
        GlideReflectionSymmetry(8, n_planes=4, pooling_radius=4),
    ]
    options = {"descriptor": descriptor, "stride": "auto", "random_state": 0, "device": "cpu"}
    found = gpuseg.segment(lazy(PICTURE.image, CHUNKS), 2, **options)
    assert found.parameters["lattice_period"] == pytest.approx(9, abs=0.6)
    assert found.parameters["stride"] == 2
    assert all(glide > 0 for glide in found.model.descriptor.descriptors[1].glides)
    image = HOLED.copy()
    image[10:110, 15:115] = np.nan
    with pytest.raises(ValueError, match=r"looked for amid a dask array, in rows 10 to 110 .*; give numbers"):
        gpuseg.segment(lazy(image, CHUNKS), 2, **options)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n_patterns": "auto"}, ValueError, r"`n_patterns` is 'auto', but `image` is a dask array.*gpuseg.suggest"),
        ({"n_patterns": 2000}, ValueError, r"`n_patterns` is 2000; at most the number of usable grid points, 1760"),
        ({"max_memory": "1KB"}, ValueError, r"`max_memory` is 1 KB; at least \d+ KB are needed"),
        ({"mask": np.ones((3, 3), bool)}, ValueError, r"`mask` has shape \(3, 3\); that of `image`, \(120, 130\)"),
        ({"mask": np.zeros((120, 130), bool)}, ValueError, "no finite pixel inside `mask`"),
        ({"mask": np.full((120, 130), "x")}, TypeError, "`mask` has dtype"),
        ({"device": "gpu"}, ValueError, "`device` is 'gpu'"),
        ({"descriptor": LocalCorrelationMap(70, 3)}, ValueError, "`image` has 120 rows"),
    ],
)  # fmt: skip
def test_parameters_that_make_no_sense(change, error, message):
    options = {"n_patterns": 2, "descriptor": DESCRIPTORS["box"], "stride": 3, "device": "cpu"} | change
    with pytest.raises(error, match=message):
        gpuseg.segment(lazy(PICTURE.image, CHUNKS), **options)


def test_images_that_make_no_sense():
    def segment(image):
        return gpuseg.segment(image, 2, descriptor=DESCRIPTORS["box"], device="cpu")

    with pytest.raises(ValueError, match="is constant"):
        segment(lazy(np.full((60, 60), 7), 20))
    with pytest.raises(ValueError, match="has no finite pixel"):
        segment(lazy(np.full((60, 60), np.nan), 20))
    with pytest.raises(ValueError, match="for a series segment one frame"):
        segment(lazy(np.zeros((3, 60, 60)), 20))
    with pytest.raises(TypeError, match="complex128; real numbers are needed"):
        segment(lazy(np.zeros((60, 60), complex), 20))
    image = lazy(PICTURE.image, CHUNKS)
    with pytest.raises(ValueError, match=r"chunks of unknown size; image.compute_chunk_sizes\(\)"):
        segment(image[image.sum(axis=1) > 0])


def test_a_descriptor_that_needs_all_of_the_image():
    class Means:
        def operations(self):
            return (gpuseg.Feature("mean"),)

        def transform(self, image, stride=5, mask=None, device="auto"):
            raise AssertionError("not asked")

    with pytest.raises(TypeError, match="Means cannot be worked on in blocks, for want of a method `grid`"):
        gpuseg.segment(lazy(PICTURE.image, CHUNKS), descriptor=Means(), device="cpu")


# --- series --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def movie():
    frames = np.array(
        [each.image for each in synthetic.boundary_movie((90, 100), n_frames=7, random_state=0)]
    )
    frames = frames.astype(np.float32)
    frames[3] = 5  # dead
    frames[5, :9] = np.nan
    return frames


SERIES = {
    "descriptor": LocalCorrelationMap(6, 8, 49),
    "stride": 4,
    "random_state": 0,
    "device": "cpu",
    "fit_frames": [0, 2],
}


@pytest.mark.parametrize(
    ("options", "masks"),
    [({}, None), ({}, "each"), ({"n_operations": 15, "upsampling": False}, "one")],
)
def test_a_series(movie, monkeypatch, options, masks):
    monkeypatch.setattr("gpuseg.dask_series.LEAST_PIXELS", 1)
    mask = None
    if masks:
        mask = np.ones((7, 90, 100), bool)
        mask[:, :, 70:] = False
        mask = mask[0] if masks == "one" else mask
    lazy_mask = None if mask is None else lazy(mask, 40)
    whole = gpuseg.segment_series(movie, 2, mask=mask, **SERIES, **options)
    found = gpuseg.segment_series(lazy(movie, (2, 40, 70)), 2, mask=lazy_mask, **SERIES, **options)
    assert len(found.walk.parts) == 4
    assert found.labels.dtype == np.int8
    np.testing.assert_array_equal(found.labels.compute(), whole.labels)
    np.testing.assert_array_equal(found.certainty.compute(), whole.certainty)
    np.testing.assert_array_equal(found.area_fractions.compute(), whole.area_fractions)
    assert found.frames_flagged == whole.frames_flagged
    assert list(found.frames_flagged) == [3]
    assert found.model.accuracy == whole.model.accuracy
    for k in (0, 3, -1):
        np.testing.assert_array_equal(found[k].labels, whole[k].labels)
        np.testing.assert_array_equal(found[k].certainty, whole[k].certainty)
        assert found[k].index == whole[k].index
    np.testing.assert_array_equal(found.pixel_certainty[5].compute(), whole[5].certainty)
    assert [frame.index for frame in found] == [frame.index for frame in found[:]] == list(range(7))
    with pytest.raises(IndexError, match="frame 7 is wanted, the series has 7 frames"):
        found[7]
    here = found.compute()
    assert type(here) is gpuseg.SeriesSegmentation
    np.testing.assert_array_equal(here.labels, whole.labels)


def test_a_series_into_a_folder_goes_on(movie, monkeypatch, tmp_path):
    monkeypatch.setattr("gpuseg.dask_series.LEAST_PIXELS", 1)
    monkeypatch.setattr("gpuseg.dask_series.PARTS_AT_A_TIME", 2)
    whole = gpuseg.segment_series(movie, 2, **SERIES)

    def interrupt(frame):
        if frame.index == 4:
            raise KeyboardInterrupt

    frames = lazy(movie, (2, 40, 70))
    with pytest.raises(KeyboardInterrupt):
        gpuseg.segment_series(frames, 2, out=tmp_path / "out", callback=interrupt, **SERIES)
    seen = []
    found = gpuseg.segment_series(
        frames, 2, out=tmp_path / "out", callback=lambda frame: seen.append(frame.index), **SERIES
    )
    assert seen == [5, 6]
    np.testing.assert_array_equal(found.labels, whole.labels)
    assert found.frames_flagged == whole.frames_flagged


def test_a_series_that_breaks_off(movie, monkeypatch):
    monkeypatch.setattr("gpuseg.dask_series.LEAST_PIXELS", 1)

    def read(block, block_info=None):
        if block_info[0]["array-location"][0][0] >= 4:
            raise OSError("the disk is gone")
        return block

    frames = lazy(movie, (2, 90, 100)).map_blocks(read, dtype=movie.dtype, meta=movie[:0])
    found = gpuseg.segment_series(frames, 2, **SERIES)
    with pytest.raises(OSError, match="the disk is gone"):
        found.labels.compute()
    here = found.compute()
    assert len(here) == 4
    assert here.ended_early == (
        "the series broke off in frames 4 to 5: the disk is gone; the frames before are whole"
    )
    np.testing.assert_array_equal(here.labels, found.labels[:4].compute())


# --- other processes -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def two_workers():
    """Processes of their own, on whatever ports are free."""
    require(HERE, "dask and distributed are not installed; pip install 'gpuseg[dask]'")
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as workers,
        Client(workers, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def cluster():
    with two_workers() as client:
        yield client


@pytest.fixture
def on_workers(cluster):
    import dask

    with dask.config.set(scheduler=cluster):
        yield cluster


class OneChunk:
    """A file without chunks that remembers how much of it was read at a time."""

    shape, dtype, ndim = (300, 280), np.dtype("f4"), 2
    read: ClassVar[list[int]] = []

    def __getitem__(self, index):
        part = np.resize(HOLED, self.shape)[index]
        self.read.append(part.size)
        return part


def test_chunks_too_large_for_memory_are_read_in_parts(monkeypatch):
    import dask.array

    monkeypatch.setattr("gpuseg.dask.BLOCK_MEMORY", 1 << 18)
    image = dask.array.from_array(OneChunk(), chunks=-1, asarray=False)
    options = {"descriptor": DESCRIPTORS["direct"], "stride": 4, "random_state": 0, "device": "cpu"}
    found = gpuseg.segment(image, 2, **options)
    labels = found.labels.compute()
    assert len(found.chunked.blocks) >= 9
    assert max(OneChunk.read) < 0.2 * labels.size
    whole = gpuseg.segment(np.resize(HOLED, OneChunk.shape), 2, **options)
    np.testing.assert_array_equal(labels, whole.labels)


def test_workers_from_disk_to_disk(on_workers, tmp_path):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    import dask.array

    stored = zarr.create_array(
        str(tmp_path / "image.zarr"), shape=HOLED.shape, chunks=(32, 50), dtype=HOLED.dtype
    )
    stored[:] = HOLED
    options = {"descriptor": DESCRIPTORS["box"], "stride": 3, "random_state": 0, "device": "cpu"}
    found = gpuseg.segment(dask.array.from_zarr(str(tmp_path / "image.zarr")), 2, **options)
    assert len(found.chunked.blocks) > 4
    found.labels.rechunk((60, 65)).to_zarr(str(tmp_path / "labels.zarr"))
    labels = zarr.open_array(str(tmp_path / "labels.zarr"))[:]
    np.testing.assert_array_equal(labels, gpuseg.segment(HOLED, 2, **options).labels)


def test_a_series_on_workers(on_workers, movie, monkeypatch, tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    import dask.array

    monkeypatch.setattr("gpuseg.dask_series.LEAST_PIXELS", 1)
    with h5py.File(tmp_path / "movie.h5", "w") as file:
        file.create_dataset("frames", data=movie, chunks=(2, 45, 50))
    with h5py.File(tmp_path / "movie.h5", "r") as file:
        frames = dask.array.from_array(FromFile(tmp_path / "movie.h5", file["frames"]), chunks=(2, 90, 100))
    found = gpuseg.segment_series(frames, 2, **SERIES)
    whole = gpuseg.segment_series(movie, 2, **SERIES)
    np.testing.assert_array_equal(found.labels.compute(), whole.labels)
    assert found.frames_flagged == whole.frames_flagged


class FromFile:
    """A data set that every process opens for itself."""

    def __init__(self, path, data):
        self.path, self.shape, self.dtype, self.ndim = str(path), data.shape, data.dtype, data.ndim

    def __getitem__(self, index):
        import h5py

        with h5py.File(self.path, "r") as file:
            return file["frames"][index]


def slow_and_told(block, folder):
    """A chunk of pixels that takes its time, and says which process it was read in."""
    (pathlib.Path(folder) / f"{os.getpid()}").touch()
    time.sleep(0.05)
    return block


def test_a_worker_that_dies_half_way(tmp_path):
    options = {"descriptor": DESCRIPTORS["box"], "stride": 3, "random_state": 0, "device": "cpu"}
    whole = gpuseg.segment(HOLED, 2, **options)
    slow = lazy(HOLED, (20, 26)).map_blocks(slow_and_told, str(tmp_path), dtype=HOLED.dtype, meta=HOLED[:0])
    found = whole.model.predict(slow, device="cpu")
    for file in tmp_path.iterdir():
        file.unlink()
    with two_workers() as client:
        processes = client.run(os.getpid).values()
        labels = client.compute(found.labels)
        deadline = time.monotonic() + 60
        while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.005)
        victim = int(next(tmp_path.iterdir()).name)
        assert victim in processes
        assert not labels.done()
        os.kill(victim, signal.SIGKILL)
        np.testing.assert_array_equal(labels.result(60), whole.labels)
        assert len(list(tmp_path.iterdir())) > 1  # another one went on with it


def test_nothing_is_imported_before_its_time():
    code = "import sys, gpuseg.dask, gpuseg.dask_series; print('dask' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("chunks", "least", "most", "ends"),
    [
        ((100,) * 5, 1, 1000, (0, 20, 40, 60, 80, 100)),
        ((100,) * 5, 200, 1000, (0, 40, 100)),
        ((7,) * 71 + (3,), 100, 1000, (0, 21, 42, 63, 100)),
        ((500,), 1, 30, (0, 25, 50, 75, 100)),
        ((1, 498, 1), 1, 1000, (0, 1, 100)),
        ((120, 380), 600, 1000, (0, 100)),
    ],
)
def test_blocks_follow_the_chunks(chunks, least, most, ends, monkeypatch):
    from gpuseg import blocks

    monkeypatch.setattr(blocks, "LEAST_SIDE", least)
    found = blocks._ends(chunks, gpuseg.Grid.full((500, 500), 5).cells(0), most)
    assert found == ends


def test_blocks_keep_to_their_memory():
    from gpuseg import blocks

    def sides(budget):
        layout = blocks.plan_blocks(LocalCorrelationMap(), (9000, 9000), 5, ((9000,), (9000,)), 5, budget)
        assert {
            block.settled for block in layout.with_room(layout.blocks(), np.zeros(layout.shape, int))
        } == {True}
        return np.diff(layout.ends[0])

    assert max(sides(16 << 20)) < max(sides(64 << 20)) < max(sides(1 << 30))
    assert 4 * 81 * max(sides(64 << 20)) ** 2 < 64 << 20
    assert np.ptp(sides(64 << 20)) <= 1


def test_on_a_gpu(emulated_cuda):
    emulated_cuda()
    image, descriptor = HOLED[:60, :66], LocalCorrelationMap(4, 4, 25)
    whole = gpuseg.segment(image, descriptor=descriptor, stride=2, random_state=0, device="cpu")
    found = gpuseg.segment(
        lazy(image, (30, 40)),
        descriptor=descriptor,
        stride=2,
        random_state=0,
        device="cuda",
        max_memory="1MB",
    )
    assert found.device == "cuda:0"
    got = computed(found)
    assert type(got["labels"]) is np.ndarray  # where the chunks live
    np.testing.assert_allclose(got["values"], whole.descriptors.values, atol=1e-5)
    np.testing.assert_array_equal(got["labels"], whole.labels)


def test_a_worker_short_of_memory_scores_fewer_rows_at_a_time(monkeypatch, caplog):
    options = {"descriptor": DESCRIPTORS["box"], "stride": 3, "random_state": 0, "device": "cpu"}
    image = HOLED[:60, :66]
    whole = gpuseg.segment(image, 2, **options)
    scores = cpu.translation_scores

    def limited(pixels, valid, grid, *rest):
        if grid.shape[0] > 12:
            raise MemoryError("42 bytes")
        return scores(pixels, valid, grid, *rest)

    monkeypatch.setattr(cpu, "translation_scores", limited)
    with caplog.at_level(logging.WARNING, "gpuseg"):
        found = gpuseg.segment(lazy(image, (60, 33)), 2, **options)
        np.testing.assert_array_equal(found.labels.compute(), whole.labels)
    assert "out of memory: again in" in caplog.text
    monkeypatch.setattr(cpu, "translation_scores", lambda *_: limited(None, None, np.empty(13)))
    with pytest.raises(MemoryError, match=r"not even one row .*\(42 bytes\)"):
        gpuseg.segment(lazy(image, (60, 33)), 2, **options)


def test_results_travel():
    import pickle

    found = gpuseg.segment(lazy(HOLED, CHUNKS), 2, descriptor=DESCRIPTORS["box"], stride=3, device="cpu")
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.labels.compute(), found.labels.compute())
