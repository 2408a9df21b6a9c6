"""Series: labels that mean the same in every frame, dead and strange frames, broken and interrupted runs."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

import gpuseg
from gpuseg import LocalCorrelationMap, SeriesError, iterate_series, labeller, segment_series, synthetic
from gpuseg.frames import open_frames
from gpuseg.large import BandedDescriptors, plan_memory
from gpuseg.series_writer import SeriesWriter

FAST = {"descriptor": LocalCorrelationMap(8, 8, 60), "random_state": 0, "device": "cpu"}
SHAPE, LENGTH = (80, 100), 6


@pytest.fixture(scope="module")
def movie():
    return synthetic.boundary_movie(
        SHAPE, LENGTH, period=9, misorientation=20, speed=4, start=8, random_state=1
    )


@pytest.fixture(scope="module")
def stack(movie):
    return np.stack([scene.image for scene in movie])


@pytest.fixture(scope="module")
def series(stack):
    return segment_series(stack, 2, **FAST)


def breaking(stack, after):
    yield from stack[:after]
    raise OSError("the cable was pulled")


# --- labels ----------------------------------------------------------------------------------------------


def test_every_frame_is_labelled_as_the_model_labels_it(stack, series):
    first = gpuseg.segment(stack[0], 2, **FAST)
    np.testing.assert_array_equal(series.labels[0], first.labels)
    assert series.labels.shape == stack.shape
    assert series.labels.dtype == np.int8
    for k, frame in enumerate(stack):
        alone = series.model.predict(frame, device="cpu")
        np.testing.assert_array_equal(series.labels[k], alone.labels)
        np.testing.assert_allclose(series.area_fractions[k], alone.area_fractions)
        assert series.certainty[k] == pytest.approx(alone.certainty.mean(), rel=1e-5)
    assert not series.frames_flagged
    assert series.ended_early == ""
    assert len(series) == LENGTH
    assert "6 frames into 2 patterns" in repr(series)


def test_labels_follow_the_truth(movie, series):
    truth = np.stack([scene.truth for scene in movie])
    right = (series.labels == truth).mean(axis=(1, 2))
    right = right if right[0] > 0.5 else 1 - right
    assert right.min() > 0.93
    boundary = np.polyfit(np.arange(LENGTH), series.area_fractions[:, 0] * SHAPE[1], 1)[0]
    assert abs(boundary) == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("fit_frames", [3, [0, 4], (4, 0), range(5), np.array([1])])
def test_frames_to_learn_from_are_pooled(fit_frames, stack, series):
    pooled = segment_series(iter(stack), 2, fit_frames=fit_frames, **FAST)
    from_array = segment_series(stack, 2, fit_frames=fit_frames, **FAST)
    np.testing.assert_array_equal(pooled.labels, from_array.labels)
    same = (pooled.labels == series.labels).mean()
    assert max(same, 1 - same) > 0.95
    assert not np.array_equal(pooled.model.mean, series.model.mean)


def test_selected_operations_label_nearly_alike(stack, series):
    fast = segment_series(stack, 2, n_operations=12, **FAST)
    assert fast.model.components.shape[1] == 12
    assert fast.model.accuracy > 0.95
    assert (fast.labels == series.labels).mean() > 0.95


@pytest.mark.parametrize("fit_frames", [1, [0, 2]])
def test_labels_do_not_depend_on_the_memory(fit_frames, stack, tmp_path):
    options = {"fit_frames": fit_frames, **FAST}
    whole = segment_series(stack, 2, **options)
    n_frames = 1 if fit_frames == 1 else 2
    plan = plan_memory(FAST["descriptor"], SHAPE, FAST.get("stride", 5), 5, "1TB", "cpu")
    budget = n_frames * (plan.least + (plan.expected - plan.least) // 3)  # frames to learn from share it
    walk = iterate_series(stack, 2, max_memory=budget, **options)
    described, describe = [], labeller.describe_image

    def noted(*arguments):
        found = describe(*arguments)
        described.append((type(found), arguments[-1].budget))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labeller, "describe_image", noted)
        labels = np.stack([frame.labels for frame in walk])
        folder = segment_series(stack, 2, max_memory=budget, out=tmp_path / "out", **options)
    if (
        n_frames == 1
    ):  # what suffices for two frames to learn from suffices for one to be labelled in one pass
        assert described == 2 * len(stack) * [(BandedDescriptors, budget)]
    np.testing.assert_array_equal(labels, whole.labels)
    np.testing.assert_array_equal(folder.labels, whole.labels)
    with pytest.raises(ValueError, match=r"`max_memory` is \d KB; at least"):
        segment_series(stack, 2, max_memory="1KB", **options)


def test_a_model_of_before_is_used_as_it_is(stack, series):
    again = segment_series(stack[3:], model=series.model, device="cpu")
    np.testing.assert_array_equal(again.labels, series.labels[3:])
    with pytest.raises(ValueError, match="`n_operations` goes with learning"):
        segment_series(stack, model=series.model, n_operations=3)


def test_one_label_per_grid_point(stack):
    dead = np.concatenate([np.zeros((1, *SHAPE)), stack[:2]])
    coarse = segment_series(dead, 2, upsampling=False, **FAST)
    assert coarse.labels.shape == (3, 16, 20)
    assert (coarse.labels[0] == -1).all()
    np.testing.assert_array_equal(coarse.labels[2], coarse.model.predict(stack[1], device="cpu").labels)


def test_a_mask_holds_for_every_frame(stack):
    mask = np.ones(SHAPE, bool)
    mask[:10] = False
    masked = segment_series(stack[:3], 2, mask=mask, **FAST)
    assert (masked.labels[:, :10] == -1).all()
    assert (masked.labels[:, 10:] >= 0).all()


# --- where frames come from ------------------------------------------------------------------------------


class Reused:
    """A camera that hands out the same memory for every frame."""

    def __init__(self, stack):
        self.stack, self.memory = stack, np.empty_like(stack[0])

    def __iter__(self):
        for frame in self.stack:
            self.memory[:] = frame
            yield self.memory


@pytest.mark.parametrize("source", [
    list, tuple, iter, lambda stack: (frame for frame in stack), Reused, lambda stack: iter(Reused(stack)),
    lambda stack: stack[:, ::-1][:, ::-1], lambda stack: stack.astype(">f8"), open_frames,
], ids=["list", "tuple", "iterator", "generator", "reused", "iterator, reused", "views", "big-endian", "frames"])  # fmt: skip
def test_any_series_in_memory(source, stack, series):
    np.testing.assert_array_equal(segment_series(source(stack), 2, **FAST).labels, series.labels)


def write(kind, stack, folder):
    path = folder / f"movie.{kind}"
    if kind == "npy":
        np.save(path, stack)
    elif kind == "npz":
        np.savez_compressed(path, frames=stack, pixels=stack[0], times=np.arange(6))
    elif kind == "tif":
        tifffile.imwrite(
            path, stack, imagej=True, resolution=(50, 50), metadata={"axes": "TYX", "unit": "nm"}
        )
    elif kind == "deflated.tif":
        tifffile.imwrite(path, stack, compression="zlib", photometric="minisblack")
    elif kind == "big.tif":
        tifffile.imwrite(path, stack, byteorder=">", photometric="minisblack")
    elif kind == "stored.npz":
        np.savez(path, pixels=stack[0], frames=stack)
    elif kind == "ome.tif":
        tifffile.imwrite(path, stack, photometric="minisblack", ome=True, metadata={"axes": "TYX"})
    elif kind == "pages.tif":
        with tifffile.TiffWriter(path) as file:
            for frame in stack:
                file.write(frame, contiguous=False, photometric="minisblack")
    elif kind == "pillow.tif":
        first, *others = map(Pillow.fromarray, stack)
        first.save(path, save_all=True, append_images=others, compression="tiff_deflate")
    elif kind == "inverted.tif":
        tifffile.imwrite(path, np.invert(stack.astype(np.uint8)), photometric="miniswhite")
    elif kind == "folder":
        path = folder / "frames"
        path.mkdir()
        for k, frame in enumerate(stack):  # 2 comes before 10
            tifffile.imwrite(path / f"f{9 + k}.tif", frame)
        (path / "notes.txt").write_text("no image")
    return path


@pytest.mark.parametrize("kind", [
    "npy", "npz", "stored.npz", "tif", "deflated.tif", "big.tif", "ome.tif", "pillow.tif", "pages.tif",
    "inverted.tif", "folder",
])  # fmt: skip
def test_files_and_folders(kind, stack, tmp_path):
    frames = open_frames(write(kind, stack, tmp_path))
    assert frames.length == LENGTH
    for _ in range(2):
        read = np.stack(list(frames))
        np.testing.assert_array_equal(read, stack)
    if kind == "tif":
        assert (frames.pixel_size, frames.unit) == (pytest.approx(0.02), "nm")
        assert frames.binned(2).pixel_size == pytest.approx(0.04)
        assert np.stack(list(frames.binned(2))).shape == (6, 40, 50)


def test_an_animation_is_read_frame_by_frame(tmp_path):
    pictures = [Pillow.fromarray(np.full((8, 9), 40 * k, np.uint8)) for k in range(3)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    assert [int(frame[0, 0]) for frame in open_frames(tmp_path / "a.gif")] == [0, 40, 80]


def test_zarr(stack, series, tmp_path):
    zarr = pytest.importorskip("zarr", reason="pip install zarr")
    array = zarr.open(str(tmp_path / "m.zarr"), mode="w", shape=stack.shape, dtype="f4", chunks=(1, *SHAPE))
    array[:] = stack
    for source in (array, tmp_path / "m.zarr"):
        np.testing.assert_array_equal(segment_series(source, 2, **FAST).labels, series.labels)


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda folder: np.zeros((5, 5)), ValueError, r"`frames` has shape \(5, 5\).*gpuseg.segment"),
    (lambda folder: np.zeros((2, 3, 4, 5)), ValueError, r"\(T, H, W\) is needed"),
    (lambda folder: 7, TypeError, "`frames` is int"),
    (lambda folder: [], ValueError, "no frame that can be learnt from, of 0: it is empty"),
    (lambda folder: ["a", "b"], ValueError, "no frame that can be learnt from, of 2: `image` has dtype"),
    (lambda folder: np.zeros((3, 40, 40)), ValueError, "of 3: `image` of shape .* is constant"),
    (lambda folder: np.full((3, 40, 40), np.nan), ValueError, "has no finite pixel"),
    (lambda folder: np.random.default_rng(0).random((2, 9, 9)), ValueError, "`image` has 9 rows; a patch"),
    (lambda folder: folder / "no.tif", FileNotFoundError, "does not exist"),
    (lambda folder: folder / "no.zarr", FileNotFoundError, "does not exist"),
    (lambda folder: folder, ValueError, "holds no image; a folder with one image file per frame"),
    (lambda folder: write("npz", np.zeros((2, 3)), folder), ValueError, "holds 0 stacks"),
    (lambda folder: write("npy", np.zeros((3, 4)), folder), ValueError, "holds a single picture 3 x 4"),
    (lambda folder: write("big.tif", np.zeros((3, 4), np.uint8), folder), ValueError, "a single picture"),
])  # fmt: skip
def test_no_series(make, error, message, tmp_path):
    with pytest.raises(error, match=message):
        segment_series(make(tmp_path), 2, **FAST)


def test_the_stack_of_an_archive_is_chosen(stack, tmp_path):
    np.savez(tmp_path / "two.npz", a=stack, b=stack[:3])
    for dataset, length in (("a", 6), ("b", 3), (1, 3)):
        assert open_frames(tmp_path / "two.npz", dataset=dataset).length == length
    with pytest.raises(ValueError, match="holds 2 stacks; choose one with `dataset`: 0 = 'a'"):
        open_frames(tmp_path / "two.npz")
    with pytest.raises(ValueError, match="and `dataset` is 'c'"):
        open_frames(tmp_path / "two.npz", dataset="c")
    with pytest.raises(ValueError, match="`frames` is no file"):
        open_frames(stack, dataset="a")


@pytest.mark.parametrize(("parameters", "message"), [
    ({"fit_frames": 0}, "`fit_frames` is 0"),
    ({"fit_frames": 1.5}, "`fit_frames` is 1.5"),
    ({"fit_frames": []}, "`fit_frames` is empty"),
    ({"fit_frames": [0, -1]}, "`fit_frames` is -1"),
    ({"fit_frames": [9]}, "`fit_frames` names frame 9; the series has 6 frames"),
    ({"n_operations": 0}, "`n_operations` is 0"),
    ({"n_operations": 500}, "`n_operations` is 500; a whole number of at least 1 and at most 36"),
    ({"n_patterns": 0}, "`n_patterns` is 0"),
    ({"mask": np.ones((3, 3))}, "`mask` has shape"),
    ({"stride": 0}, "`stride` is 0"),
])  # fmt: skip
def test_bad_parameters(parameters, message, stack, tmp_path):
    for out in (None, tmp_path / "out"):
        with pytest.raises((TypeError, ValueError), match=message):
            segment_series(stack, out=out, **{**FAST, **parameters})
    assert not (tmp_path / "out").exists()


# --- frames that are not like the others -----------------------------------------------------------------


def test_dead_frames_are_flagged_and_passed_over(stack, series, tmp_path):
    dead = [
        np.full(SHAPE, 7),
        stack[0],
        np.full(SHAPE, np.nan),
        stack[1],
        stack[2][:50],
        "no frame",
        stack[3],
    ]
    for out in (None, tmp_path / "out"):
        found = segment_series(dead, 2, out=out, **FAST)
        assert sorted(found.frames_flagged) == [0, 2, 4, 5]
        assert "is constant" in found.frames_flagged[0]
        assert "no finite pixel" in found.frames_flagged[2]
        assert "has shape (50, 100), the others (80, 100)" in found.frames_flagged[4]
        assert "dtype" in found.frames_flagged[5]
        for k in found.frames_flagged:
            assert found.frames_flagged[k].startswith("dead: ")
            assert (found.labels[k] == -1).all()
            assert np.isnan(found.certainty[k])
            assert np.isnan(found.area_fractions[k]).all()
        for k, original in ((1, 0), (3, 1), (6, 3)):
            np.testing.assert_array_equal(found.labels[k], series.labels[original])


def test_a_frame_named_for_learning_must_live(stack):
    with pytest.raises(ValueError, match="`fit_frames` names frame 1, which is dead: .* is constant"):
        segment_series([stack[0], np.zeros(SHAPE)], fit_frames=[1], **FAST)


def test_a_frame_unlike_what_was_learnt_is_flagged(stack, series):
    rng = np.random.default_rng(0)
    square = synthetic.image_of_grains(np.zeros(SHAPE, int), [synthetic.square(13)], random_state=0).image
    strange = segment_series([*stack[:3], rng.poisson(20, SHAPE), square, stack[3]], 2, **FAST)
    assert sorted(strange.frames_flagged) == [3, 4]
    assert "unlike what was learnt: mean certainty 0." in strange.frames_flagged[3]
    assert (strange.labels[3] >= 0).all()
    np.testing.assert_array_equal(strange.labels[5], series.labels[3])


def test_a_broken_file_in_a_folder_is_a_dead_frame(stack, series, tmp_path):
    folder = write("folder", stack, tmp_path)
    (folder / "f11.tif").write_bytes(b"II*\0 and then nothing")
    found = segment_series(folder, 2, **FAST)
    assert list(found.frames_flagged) == [2]
    assert "could not be read" in found.frames_flagged[2]
    np.testing.assert_array_equal(found.labels[3], series.labels[3])


# --- series that end in the middle -----------------------------------------------------------------------


def test_a_stream_that_breaks_gives_the_frames_before(stack, series, tmp_path):
    for out in (None, tmp_path / "out"):
        found = segment_series(breaking(stack, 4), 2, out=out, **FAST)
        np.testing.assert_array_equal(found.labels, series.labels[:4])
        assert "broke off at frame 4: the cable was pulled" in found.ended_early
        assert "ended early" in repr(found)
    assert "cable" in json.loads((tmp_path / "out" / "summary.json").read_text())["ended_early"]
    early = segment_series(breaking(stack, 2), 2, fit_frames=4, **FAST)
    assert len(early) == 2
    with pytest.raises(SeriesError, match="broke off at frame 0: the cable"):
        segment_series(breaking(stack, 0), 2, **FAST)
    with pytest.raises(SeriesError, match="broke off at frame 2"):
        segment_series(breaking(stack, 2), 2, fit_frames=[0, 5], **FAST)
    walk = iterate_series(breaking(stack, 3), 2, **FAST)
    assert [next(walk).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(SeriesError, match="at frame 3"):
        next(walk)


@pytest.mark.parametrize(("kind", "told"), [
    ("npy", "ends within frame 3 of 6"), ("npz", "ends within frame 4 of 6"),
    ("stored.npz", "ends within frame 3 of 6"), ("tif", "ends within frame 3 of 6"),
    ("big.tif", "ends within frame 3 of 6"), ("deflated.tif", "could not be read"),
    ("ome.tif", "ends within frame 3 of 6"), ("pillow.tif", "ends before frame 3"), ("pages.tif", "could not be read"),
])  # fmt: skip
def test_a_file_that_is_cut_gives_the_frames_before(kind, told, stack, series, tmp_path):
    path = write(kind, stack, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.6)])
    found = segment_series(path, 2, dataset="frames" if "npz" in kind else None, **FAST)
    done = 4 if kind == "npz" else 3  # it holds other arrays behind
    assert len(found) == done
    np.testing.assert_array_equal(found.labels, series.labels[:done])
    assert f"broke off at frame {done}" in found.ended_early
    assert told in found.ended_early


def test_the_members_of_a_cut_archive(stack, tmp_path):
    path = tmp_path / "m.npz"
    np.savez(path, first=stack, pixels=stack[0], second=stack[:2])
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(stack[1].tobytes()) + 600])
    assert len(list(open_frames(path, dataset="first"))) == LENGTH
    frames = iter(open_frames(path, dataset="second"))
    np.testing.assert_array_equal(next(frames), stack[0])
    with pytest.raises(ValueError, match="ends within frame 1 of 2"):
        next(frames)
    path.write_bytes(content[:20])
    with pytest.raises(ValueError, match="not a zip file"):
        open_frames(path, dataset="first")


def test_pictures_of_one_kind_in_a_file_are_a_stack(stack, tmp_path):
    path = write("pages.tif", stack, tmp_path)
    np.testing.assert_array_equal(np.stack(list(open_frames(path))), stack)
    with tifffile.TiffWriter(path) as file:
        for frame in (stack[0], stack[1][:50]):
            file.write(frame, contiguous=False, photometric="minisblack")
    with pytest.raises(ValueError, match="holds 2 pictures; choose one"):
        open_frames(path)


# --- results on disk -------------------------------------------------------------------------------------


def test_a_folder_holds_what_memory_would(stack, series, tmp_path):
    seen = []
    path = write("tif", stack, tmp_path)
    found = segment_series(
        path, 2, out=tmp_path / "out", callback=lambda frame: seen.append(frame.index), **FAST
    )
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [
        "frames.csv", "labels.tif", "model.npz", "summary.json",
    ]  # fmt: skip
    assert seen == list(range(LENGTH))
    np.testing.assert_array_equal(found.labels, series.labels)
    np.testing.assert_array_equal(found.certainty, series.certainty)
    np.testing.assert_array_equal(found.area_fractions, series.area_fractions)
    with tifffile.TiffFile(tmp_path / "out" / "labels.tif") as tif:
        assert tif.is_imagej
        np.testing.assert_array_equal(tif.asarray(), series.labels + 1)
        assert tif.pages[0].tags["XResolution"].value == (50, 1)
    rows = list(csv.DictReader((tmp_path / "out" / "frames.csv").read_text().splitlines()))
    assert [float(row["area_0"]) for row in rows] == series.area_fractions[:, 0].tolist()
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["n_frames"] == LENGTH
    model = gpuseg.SegmentationModel.load(tmp_path / "out" / "model.npz")
    np.testing.assert_array_equal(model.predict(stack[5], device="cpu").labels, series.labels[5])
    with pytest.raises(FileExistsError, match="already holds labels.tif, .* use force"):
        segment_series(path, 2, out=tmp_path / "out", **FAST)
    with pytest.raises(ValueError, match="`n_patterns` is 0"):
        segment_series(path, 0, out=tmp_path / "out", force=True, **FAST)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "labels.tif"), series.labels + 1)
    segment_series(path, 3, out=tmp_path / "out", force=True, **FAST)
    assert tifffile.imread(tmp_path / "out" / "labels.tif").max() == 3


def stopping_at(index):
    def callback(frame):
        if frame.index == index:
            raise KeyboardInterrupt

    return callback


def interrupted(stack, out, at=2, **options):
    with pytest.raises(KeyboardInterrupt):
        segment_series(stack, 2, out=out, callback=stopping_at(at), **{**FAST, **options})


@pytest.mark.parametrize("damage", ["none", "half a frame", "half a row", "a frame without a row"])
def test_an_interrupted_run_goes_on(damage, stack, series, tmp_path):
    out, seen = tmp_path / "out", []
    interrupted(stack, out)
    assert not (out / "labels.tif").exists()
    if damage == "half a frame":
        with (out / "labels.part").open("r+b") as file:
            file.truncate(2 * 8000 + 11)
    elif damage == "half a row":
        text = (out / "frames.csv").read_text()
        (out / "frames.csv").write_text(text[:-5])
    elif damage == "a frame without a row":
        with (out / "labels.part").open("ab") as file:
            file.write(bytes(8000))
    found = segment_series(stack, 2, out=out, callback=lambda frame: seen.append(frame.index), **FAST)
    assert seen == ([3, 4, 5] if damage in ("none", "a frame without a row") else [2, 3, 4, 5])
    np.testing.assert_array_equal(found.labels, series.labels)
    np.testing.assert_array_equal(found.certainty, series.certainty)
    assert not (out / "progress.json").exists()


def test_an_interrupted_run_of_something_else_is_left_alone(stack, series, tmp_path):
    out = tmp_path / "out"
    interrupted(stack, out)
    with pytest.raises(FileExistsError, match="interrupted run with stride = 5, now it is 4"):
        segment_series(stack, 2, out=out, stride=4, **FAST)
    with pytest.raises(FileExistsError, match="interrupted run with n_patterns = 2, now it is 3"):
        segment_series(stack, 3, out=out, **FAST)
    with pytest.raises(ValueError, match="the series has 1 frames, but 3 were done before"):
        segment_series(stack[:1], 2, out=out, **FAST)
    (out / "model.npz").write_bytes(b"broken")
    with pytest.raises(FileExistsError, match="an interrupted run that cannot be read"):
        segment_series(stack, 2, out=out, **FAST)
    again = segment_series(stack, 2, out=out, force=True, **FAST)
    np.testing.assert_array_equal(again.labels, series.labels)


def test_a_folder_that_is_a_file(stack, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(NotADirectoryError, match="is a file"):
        segment_series(stack, 2, out=tmp_path / "out", **FAST)


def test_many_patterns_take_two_bytes(series, stack, tmp_path):
    centers = np.repeat(series.model.cluster_centers, 150, axis=0) + np.arange(300)[:, None] * 1e-4
    model = gpuseg.SegmentationModel(
        series.model.descriptor, 5, series.model.mean, series.model.components,
        series.model.explained_variance_ratio, centers.astype(np.float32),
    )  # fmt: skip
    found = segment_series(stack[:2], model=model, device="cpu", out=tmp_path / "out")
    assert found.labels.dtype == np.int16
    np.testing.assert_array_equal(found.labels[1], model.predict(stack[1], device="cpu").labels)
    assert not found.frames_flagged


# --- memory ----------------------------------------------------------------------------------------------


def test_iterating_keeps_no_frame(movie, series):
    import weakref

    class Frame(np.ndarray):
        pass

    alive = []

    def camera():
        for scene in movie:
            frame = scene.image.view(Frame)
            alive.append(weakref.ref(frame))
            yield frame
            del frame

    for k, frame in enumerate(iterate_series(camera(), 2, **FAST)):
        np.testing.assert_array_equal(frame.labels, series.labels[k])
        assert sum(each() is not None for each in alive) <= 2


def test_the_writer_closes_its_files(stack, tmp_path):
    with SeriesWriter(tmp_path / "out", {"a": 1}, False) as writer:
        assert writer.done == 0
        assert writer.model is None


# --- one frame of a series -------------------------------------------------------------------------------


def assert_is_predicted(frame, model, image, mask=None):
    alone = model.predict(image, mask=mask, device="cpu")
    np.testing.assert_array_equal(frame.labels, alone.labels)
    np.testing.assert_array_equal(frame.certainty, alone.certainty)
    np.testing.assert_allclose(frame.area_fractions, alone.area_fractions)


@pytest.mark.parametrize("options", [{}, {"upsampling": False}, {"n_operations": 9}, {"stride": 4}], ids=str)
def test_a_frame_of_the_result_is_what_the_model_predicts(options, stack):
    found = segment_series(stack, 2, **{**FAST, **options})
    frames = list(found)
    assert [frame.index for frame in frames] == list(range(LENGTH))
    for frame, image in zip(frames, stack, strict=True):
        assert_is_predicted(frame, found.model, image)
    assert_is_predicted(found[np.int64(2)], found.model, stack[2])
    assert_is_predicted(found[-1], found.model, stack[-1])
    assert [frame.index for frame in found[1:-2]] == [1, 2, 3]
    assert [frame.index for frame in found[::-2]] == [5, 3, 1]
    with pytest.raises(IndexError, match="frame 6 is wanted, the series has 6 frames"):
        found[6]
    with pytest.raises(IndexError, match="frame -7 is wanted"):
        found[-7]
    with pytest.raises(TypeError):
        found["0"]


def test_a_flagged_frame_of_the_result(stack):
    noise = np.random.default_rng(0).poisson(20, SHAPE)
    found = segment_series([stack[0], np.zeros(SHAPE), noise], 2, **FAST)
    dead, strange = found[1:]
    assert dead.is_dead
    assert dead.flag.startswith("dead: ")
    assert (dead.labels == -1).all()
    assert (dead.certainty == 0).all()
    assert np.isnan(dead.area_fractions).all()
    assert "unlike what was learnt" in strange.flag
    assert_is_predicted(strange, found.model, noise)


def test_a_frame_of_a_result_in_a_folder(stack, tmp_path):
    found = segment_series(stack, 2, out=tmp_path / "out", **FAST)
    np.testing.assert_array_equal(found[-2].labels, found.model.predict(stack[-2], device="cpu").labels)
    assert found[-2].mean_certainty == found.certainty[-2]
    assert found[-2].certainty is None


# --- a mask for each frame -------------------------------------------------------------------------------


def moving_mask():
    mask = np.ones((LENGTH, *SHAPE), bool)
    for k in range(LENGTH):
        mask[k, 10 * k : 10 * k + 20, 30:50] = False
    return mask


@pytest.mark.parametrize("fit_frames", [1, [3, 4]])
def test_every_frame_has_its_mask(fit_frames, stack, tmp_path):
    mask = moving_mask()
    found = segment_series(stack, 2, mask=mask, fit_frames=fit_frames, **FAST)
    np.testing.assert_array_equal(found.labels == -1, ~mask)
    for frame, image, used in zip(found, stack, mask, strict=True):
        assert_is_predicted(frame, found.model, image, used)
    blank = np.where(mask, stack, np.nan)
    np.testing.assert_array_equal(
        segment_series(iter(blank), 2, fit_frames=fit_frames, **FAST).labels, found.labels
    )
    kept = segment_series(stack, 2, mask=mask, fit_frames=fit_frames, out=tmp_path / "out", **FAST)
    np.testing.assert_array_equal(kept.labels, found.labels)


def test_masks_of_another_number(stack):
    with pytest.raises(ValueError, match=r"`mask` has 5 frames, the series 6; as many, or one"):
        segment_series(stack, 2, mask=moving_mask()[:5], **FAST)
    with pytest.raises(ValueError, match="`mask` has 3 frames, but the series goes on"):
        segment_series(iter(stack), 2, mask=moving_mask()[:3], **FAST)


# --- frames that show something else ---------------------------------------------------------------------


def scan_lines(rng):
    """What a probe microscope records when it has lost the surface: a level for every line."""
    return np.repeat(rng.normal(20, 3, SHAPE[0])[:, None], SHAPE[1], axis=1) + rng.normal(0, 0.1, SHAPE)


def test_distance_tells_what_certainty_cannot():
    one = [
        synthetic.image_of_grains(np.zeros(SHAPE, int), [synthetic.square(9)], counts=5, random_state=k).image
        for k in range(4)
    ]
    strange = [scan_lines(np.random.default_rng(k)) for k in range(2)]
    found = segment_series([*one[:3], *strange, one[3]], 1, **FAST)
    assert sorted(found.frames_flagged) == [3, 4]
    np.testing.assert_array_equal(found.certainty, 1)  # one pattern is always certain
    assert "times as far from the patterns as is typical" in found.frames_flagged[3]


REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "series"


def real(name):
    if not (REAL / name).exists():
        pytest.skip(f"real series are not part of the package ({name} not found)")
    return REAL / name


@pytest.mark.parametrize("n_patterns", [1, 2])
def test_an_afm_series_that_loses_its_lattice(n_patterns):
    found = segment_series(real("HSAFM_lattice_32frames.asd"), n_patterns, random_state=0, device="cpu")
    # scan lines in 18 to 20, a noisy lattice in 21, the tip off the surface afterwards; 28 is constant
    assert sorted(found.frames_flagged) == [18, 19, 20, *range(22, 32)]
    assert found.frames_flagged[28].startswith("dead: ")
    assert len(found) == 32


def test_an_stm_movie_with_islands_that_come_and_go():
    with np.load(real("STM_drift_movie_49frames_gray.npz")) as file:
        frames, mask = file["frames"], ~file["overlay_mask"]
    found = segment_series(frames, 3, mask=mask, random_state=0, device="cpu")
    assert not found.frames_flagged
    np.testing.assert_array_equal(found.labels < 0, ~mask)


@pytest.mark.parametrize("n_operations", [None, 9])
def test_the_misfit_of_what_was_learnt_is_the_typical_one(n_operations, stack, tmp_path):
    found = segment_series(stack, 2, fit_frames=[0, 1], n_operations=n_operations, **FAST)
    model = found.model
    misfits = [model.predict(image, device="cpu").misfit for image in stack[:2]]
    assert np.mean(misfits) == pytest.approx(model.typical_misfit, rel=0.01)
    # the definition: distance of the whole descriptor to the centre, put back among all operations
    one = model.predict(stack[0], device="cpu")
    centers = model.mean + model.cluster_centers @ model.components
    away = np.linalg.norm(one.descriptors.samples()[:, None] - centers, axis=2).min(axis=1)
    assert one.misfit == pytest.approx(np.mean(away.astype(float) ** 2), rel=1e-4)
    model.save(tmp_path / "model.npz")
    assert gpuseg.SegmentationModel.load(tmp_path / "model.npz").typical_misfit == model.typical_misfit
