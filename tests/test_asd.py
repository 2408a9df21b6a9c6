"""High-speed AFM movies (.asd), written here byte by byte."""

import struct

import numpy as np
import pytest
import tifffile

import gpuseg
from gpuseg import LocalCorrelationMap, segment_series, synthetic
from gpuseg.cli import main
from gpuseg.frames import open_frames
from gpuseg.io import ReadError, read_image

KINDS = {"topography": 0x5054, "error": 0x5245, "phase": 0x4850, None: 0}
FAST = {"descriptor": LocalCorrelationMap(8, 8, 60), "random_state": 0, "device": "cpu"}


def header(version, shape, kinds=("topography", None), name=b"Somebody", comment=b"", nm=(50, 40)):
    """The file header as the versions lay it out; the numbers that are not looked at are made up."""
    length, height, width = shape
    first, second = (KINDS[kind] for kind in kinds)
    rows, columns = nm
    body = struct.pack("<4i", 32, 932, len(name), len(comment))
    body += struct.pack("<8i", first, second, length + 3, length, 1, 7, width, height)
    body += struct.pack("<2i?9i", columns, rows, True, 1, 2020, 5, 17, 12, 30, 1, 3, 2)
    body += struct.pack("<3f4i3i6f", 1000, 1, 1, 0, 0, 0, 0, 2, 3, 12, 730, 2911, 7.3, 29.1, 12.48, 2)
    body += name + comment
    if version == 2:
        body += struct.pack("<i?id5i", length, False, 0, 0.0, 255, 0, 0, 0, 0)
    return struct.pack("<2i", version, 8 + len(body)) + body


def write_asd(path, *channels, version=1, kinds=("topography", None), **options):
    """One or two stacks (T, H, W) of converter levels as an .asd file."""
    content = header(version, channels[0].shape, kinds, **options)
    for levels in channels:
        for k, plane in enumerate(levels.astype("<i2")):
            content += struct.pack("<i28x", k + 1) + plane.tobytes()
    path.write_bytes(content)
    return path


@pytest.fixture
def levels():
    return np.random.default_rng(0).integers(0, 4096, (5, 8, 10))


@pytest.fixture(scope="module")
def stack():
    movie = synthetic.boundary_movie((80, 100), 5, period=9, misorientation=20, random_state=1)
    return np.stack([scene.image for scene in movie]).astype(np.int64)


@pytest.mark.parametrize("version", [1, 2])
def test_every_version(version, levels, tmp_path):
    path = write_asd(tmp_path / "m.asd", levels, version=version, comment=b"a\x82\xa0", nm=(80, 100))
    frames = open_frames(path)
    assert (frames.length, frames.pixel_size, frames.unit) == (5, 10.0, "nm")
    for _ in range(2):
        np.testing.assert_array_equal(np.stack(list(frames)), -levels)
    one = read_image(path, frame=3)
    np.testing.assert_array_equal(one.data, -levels[3])  # high is bright
    assert one.data.dtype == np.float32
    assert (one.pixel_size, one.unit) == (10.0, "nm")


def test_two_channels(levels, tmp_path):
    path = write_asd(
        tmp_path / "m.asd", levels, levels[::-1] - 2000, kinds=("topography", "phase"), nm=(8, 10)
    )
    with pytest.raises(
        ReadError, match="choose one with `dataset`: 0 = 'topography' 5 x 8 x 10; 1 = 'phase'"
    ):
        open_frames(path)
    np.testing.assert_array_equal(np.stack(list(open_frames(path, dataset="topography"))), -levels)
    np.testing.assert_array_equal(np.stack(list(open_frames(path, dataset="phase"))), levels[::-1] - 2000)
    np.testing.assert_array_equal(read_image(path, dataset=1, frame=0).data, levels[-1] - 2000)


def test_pixels_that_are_not_square(levels, tmp_path, caplog):
    assert open_frames(write_asd(tmp_path / "m.asd", levels)).pixel_size is None
    assert "not square (6.25 x 4 nm)" in caplog.text


def test_a_series(stack, tmp_path):
    path = write_asd(tmp_path / "m.asd", 4000 - stack, nm=(40, 50))
    found = segment_series(path, 2, out=tmp_path / "out", **FAST)
    wanted = segment_series(stack, 2, **FAST)
    np.testing.assert_array_equal(found.labels, wanted.labels)
    with tifffile.TiffFile(tmp_path / "out" / "labels.tif") as tif:
        assert tif.pages[0].tags["XResolution"].value == (2, 1)


def test_a_file_that_is_cut_gives_the_frames_before(stack, tmp_path, capsys):
    path = write_asd(tmp_path / "m.asd", 4000 - stack)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 2 * 16032 - 40])
    found = segment_series(path, 2, **FAST)
    assert len(found) == 2
    assert "broke off at frame 2" in found.ended_early
    assert "it ends within frame 2 of 5 of its topography" in found.ended_early
    options = ["--random-state", "0", "--device", "cpu", "-o", str(tmp_path / "out")]
    assert main(["series", str(path), *options]) == 0
    out, err = capsys.readouterr()
    assert "m.asd: 2 frames" in out
    assert "broke off at frame 2" in err
    with pytest.raises(ReadError, match="ends within frame 4 of 5"):
        read_image(path, frame=4)


def test_dead_frames(stack, tmp_path):
    levels = 4000 - stack
    levels[3] = 267
    found = segment_series(write_asd(tmp_path / "m.asd", levels), 2, **FAST)
    assert list(found.frames_flagged) == [3]
    assert "is constant" in found.frames_flagged[3]


@pytest.mark.parametrize(("content", "message"), [
    (b"", "is empty"),
    (b"\1\0\0", "it ends after 3 bytes, within the header"),
    (header(1, (5, 8, 10))[:40], "it ends after 40 bytes, within the header"),
    (header(0, (5, 8, 10)), "its version, the first number, is 0; 1 or 2 is wanted: export it as TIFF"),
    (b"II*\0" + bytes(200), "its version, the first number, is 2771273; 1 or 2 is wanted"),
    (header(1, (0, 8, 10)), "its header tells of 0 frames of 8 x 10 pixels"),
    (header(1, (5, 8, -10)), "its header tells of 5 frames of 8 x -10 pixels"),
    (header(2, (5, 10**6, 10)), "its header tells of 5 frames of 1000000 x 10 pixels"),
    (header(1, (5, 8, 10), kinds=(None, None)), r"its channels are of the kinds \[\]"),
    (header(1, (5, 8, 10)).replace(b"TP", b"XY", 1), r"its channels are of the kinds \[22872\]"),
    (struct.pack("<2i", 1, 3) + header(1, (5, 8, 10))[8:], "its header says that it has 3 bytes"),
    (header(1, (5, 8, 10)), "broke off at frame 0: .*it ends within frame 0 of 5 of its topography"),
])  # fmt: skip
def test_broken_files(content, message, tmp_path):
    path = tmp_path / "m.asd"
    path.write_bytes(content)
    with pytest.raises(ReadError, match=message):
        segment_series(path, 2, **FAST)


def test_a_movie_is_read_frame_by_frame(levels, tmp_path):
    path = write_asd(tmp_path / "m.asd", levels)
    frames = iter(open_frames(path))
    next(frames)
    with path.open("r+b") as file:  # what comes later is not looked at before it is asked for
        file.truncate(len(header(1, levels.shape)) + 2 * (32 + 160))
    np.testing.assert_array_equal(next(frames), -levels[1])
    with pytest.raises(ReadError, match="ends within frame 2"):
        next(frames)


def test_the_name_of_the_package_reads_it(levels, tmp_path):
    assert gpuseg.io.read_image(write_asd(tmp_path / "M.ASD", levels), frame=0).name == "M.ASD [frame 0]"
