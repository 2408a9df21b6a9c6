"""Files: every kind in with its pixel size, every bad one a clear line, results whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Pillow

from gpuseg import io
from gpuseg.io import ReadError, read_image
from tests.test_plot import made_segmentation

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32), dtype=np.uint8)
RESULTS = ["certainty.tif", "labels.tif", "model.npz", "overlay.png", "summary.json"]
in_one_folder = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


# --- reading: kinds of files --------------------------------------------------------------------------------


@in_one_folder
@given(
    image=hnp.arrays(
        st.sampled_from(["?", "u1", "i2", "<u2", ">u2", "<f4", ">f8", "f2", "i8", "u8"]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    ),
    kind=st.sampled_from(["npy", "npz"]),
)
def test_numpy_files_come_back_as_they_were(image, kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    np.save(path, image) if kind == "npy" else np.savez(path, only=image)
    read = read_image(path)
    np.testing.assert_array_equal(read.data, image)
    assert read.data.dtype == image.dtype
    assert (read.pixel_size, read.unit) == (None, None)


@in_one_folder
@given(
    image=hnp.arrays(
        st.sampled_from(["u1", "u2", "i2", "f4", "f8"]), hnp.array_shapes(min_dims=2, max_dims=2, min_side=2)
    ),
    compression=st.sampled_from([None, "zlib"]),
    byteorder=st.sampled_from("<>"),
)
def test_tiff_files_come_back_as_they_were(image, compression, byteorder, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, compression=compression, byteorder=byteorder, photometric="minisblack")
    np.testing.assert_array_equal(read_image(path).data, image)


@pytest.mark.parametrize("kind", ["png", "bmp", "tif", "TIFF", "PNG"])
def test_grey_pictures_come_back_as_they_were(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    Pillow.fromarray(IMAGE).save(path)
    np.testing.assert_array_equal(read_image(path).data, IMAGE)


def test_sixteen_bit_png_keeps_its_numbers(tmp_path):
    image = IMAGE.astype(np.uint16) * 257
    Pillow.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").data, image)


def test_lzw_tiff_is_read_without_another_package(tmp_path):
    Pillow.fromarray(IMAGE).save(tmp_path / "a.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, IMAGE)


def test_palette_of_greys_is_grey(tmp_path):
    for kind in ("png", "gif", "tif"):
        path = tmp_path / f"a.{kind}"
        Pillow.fromarray(IMAGE).convert("P").save(path)
        read = read_image(path).data
        assert read.shape == IMAGE.shape
        assert np.corrcoef(read.ravel(), IMAGE.ravel())[0, 1] > 0.999


def test_image_says_where_it_comes_from(tmp_path):
    np.savez(tmp_path / "two.npz", one=IMAGE, stack=np.stack([IMAGE, IMAGE + 1]))
    read = read_image(tmp_path / "two.npz", dataset="stack", frame=1)
    np.testing.assert_array_equal(read.data, IMAGE + 1)
    assert read.name == "two.npz [stack] [frame 1]"
    assert read.metadata == {
        "path": str(tmp_path / "two.npz"), "format": "npz", "dataset": "stack", "frame": 1,
        "shape": [24, 32], "dtype": "uint8",
    }  # fmt: skip
    json.dumps(read.metadata)
    assert "array(" not in repr(read)


# --- reading: colour ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("kind", ["png", "tif", "npy"])
def test_grey_saved_as_colour_is_grey(kind, channels, tmp_path):
    colour = np.repeat(IMAGE[..., None], channels, axis=2)
    if channels == 4:
        colour[..., 3] = 255
    path = tmp_path / f"a.{kind}"
    np.save(path, colour) if kind == "npy" else Pillow.fromarray(colour).save(path)
    np.testing.assert_array_equal(read_image(path).data, IMAGE)


def test_grey_colour_of_floats_may_hold_nan(tmp_path):
    image = IMAGE / np.float32(7)
    image[3, 4] = np.nan
    np.save(tmp_path / "a.npy", np.repeat(image[..., None], 3, axis=2))
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy").data, image)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_of_a_grey_picture_is_grey(mode, tmp_path):
    smooth = np.hypot(*np.mgrid[:64, :80]).astype(np.uint8)
    Pillow.fromarray(smooth).convert(mode).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").data.astype(int) - smooth).max() < 12


@pytest.mark.parametrize(
    ("difference", "is_grey"), [(io.GREY_TOLERANCE, True), (io.GREY_TOLERANCE + 1, False)]
)
def test_channels_may_differ_by_what_jpeg_rounds(difference, is_grey, tmp_path):
    colour = np.repeat(IMAGE[..., None] // 2, 3, axis=2)
    colour[5, 6, 2] += difference
    np.save(tmp_path / "a.npy", colour)
    if is_grey:
        np.testing.assert_array_equal(read_image(tmp_path / "a.npy").data, IMAGE // 2)
    else:
        with pytest.raises(
            ReadError, match="colour picture: its channels differ by up to 3; one value per pixel is wanted"
        ):
            read_image(tmp_path / "a.npy")


def test_coloured_sixteen_bit_pictures_get_no_tolerance(tmp_path):
    colour = np.repeat(IMAGE[..., None].astype(np.uint16), 3, axis=2)
    colour[0, 0, 0] += 1
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb")
    with pytest.raises(ReadError, match="colour picture"):
        read_image(tmp_path / "a.tif")


def test_colour_stored_plane_by_plane(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([IMAGE] * 3), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, IMAGE)


def test_tiff_in_which_zero_is_white(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", 255 - IMAGE, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, IMAGE)


def test_transparent_pictures_are_refused(tmp_path):
    colour = np.repeat(IMAGE[..., None], 4, axis=2)
    Pillow.fromarray(colour).save(tmp_path / "a.png")
    with pytest.raises(ReadError, match="partly transparent; an opaque grey picture is wanted"):
        read_image(tmp_path / "a.png")


# --- reading: pixel sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [(0.0125, "nm", 0.0125), (1.25e-5, "micron", 0.0125), (1.25e-5, "\\u00B5m", 0.0125), (12.5, "pm", 0.0125),
     (0.125, "angstrom", 0.0125), (1.25e-11, "m", 0.0125), (2.0, "nm", 2.0)],
)  # fmt: skip
def test_imagej_pixel_size_in_nanometres(size, unit, expected, tmp_path):
    resolution = (1 / size, 1 / size) if size > 1e-6 else ((4 * 10**9, 1), (4 * 10**9, 1))
    expected = expected if size > 1e-6 else 0.25
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, imagej=True, resolution=resolution, metadata={"unit": unit})
    read = read_image(tmp_path / "a.tif")
    assert read.unit == "nm"
    assert read.pixel_size == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("unit", ["", "pixel", None])
def test_imagej_file_without_a_unit_is_not_calibrated(unit, tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        IMAGE,
        imagej=True,
        resolution=(1, 1),
        metadata={"unit": unit} if unit is not None else {},
    )
    assert read_image(tmp_path / "a.tif").pixel_size is None


def test_unit_that_is_no_length_is_passed_on(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, imagej=True, resolution=(4, 4), metadata={"unit": "1/nm"})
    read = read_image(tmp_path / "a.tif")
    assert (read.pixel_size, read.unit) == (0.25, "1/nm")


OME_UNITS = ("PhysicalSizeXUnit", "PhysicalSizeYUnit")


@pytest.mark.parametrize(("about", "expected"), [
    ({"PhysicalSizeX": 0.02, "PhysicalSizeY": 0.02}, 20.0),
    ({"PhysicalSizeX": 0.02, "PhysicalSizeY": 0.02, **dict.fromkeys(OME_UNITS, "nm")}, 0.02),
    ({"PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2, **dict.fromkeys(OME_UNITS, "Å")}, 0.02),
    ({}, None),
])  # fmt: skip
def test_ome_pixel_size_in_nanometres(about, expected, tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", np.stack([IMAGE] * 3), metadata={"axes": "TYX", **about})
    read = read_image(tmp_path / "a.ome.tif", frame=2)
    assert read.pixel_size == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(("resolution", "unit", "expected"), [
    ((1e8, 1e8), "centimeter", 0.1), ((2.54e8, 2.54e8), "inch", 0.1),
    ((72, 72), "inch", None), ((1e8, 1e8), "none", None),
])  # fmt: skip
def test_resolution_tags_count_where_no_printer_is_that_fine(resolution, unit, expected, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, resolution=resolution, resolutionunit=unit)
    assert read_image(tmp_path / "a.tif").pixel_size == (
        expected if expected is None else pytest.approx(expected)
    )


def test_pixels_that_are_not_square_have_no_size(tmp_path, caplog):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, imagej=True, resolution=(10, 20), metadata={"unit": "nm"})
    assert read_image(tmp_path / "a.tif").pixel_size is None
    assert "pixels are not square (0.05 x 0.1 nm)" in caplog.text


# --- reading: choosing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"imagej": True}, {"compression": "zlib"}, {"metadata": None}])
def test_frame_of_a_tiff_stack(options, tmp_path):
    stack = np.stack([IMAGE, IMAGE // 2, IMAGE // 4])
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", frame=2).data, stack[2])
    with pytest.raises(ReadError, match="holds 3 frames; choose one with `frame`, 0 to 2"):
        read_image(tmp_path / "a.tif")
    with pytest.raises(ReadError, match=r"`frame` is 3; .* has 3 frame"):
        read_image(tmp_path / "a.tif", frame=3)


@pytest.mark.parametrize(
    "options", [{"imagej": True, "metadata": {"axes": "TZYX"}}, {}, {"compression": "zlib"}]
)
def test_frame_of_a_hyperstack(options, tmp_path):
    stack = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", frame=4).data, stack[1, 1])


def test_single_frame_needs_no_choice(tmp_path):
    np.save(tmp_path / "a.npy", IMAGE[None])
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy").data, IMAGE)
    np.save(tmp_path / "b.npy", IMAGE)
    np.testing.assert_array_equal(read_image(tmp_path / "b.npy", frame=0).data, IMAGE)
    with pytest.raises(ReadError, match=r"`frame` is -1; .* has 1 frame\(s\): 0 to 0 is wanted"):
        read_image(tmp_path / "b.npy", frame=-1)


def test_pages_of_different_size_are_data_sets(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(IMAGE)
        tif.write(IMAGE[::4, ::4])
    with pytest.raises(
        ReadError, match=r"holds 2 pictures; choose one with `dataset`: 0 = '0' 24 x 32; 1 = '1' 6 x 8"
    ):
        read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", dataset=1).data, IMAGE[::4, ::4])


def test_data_set_by_name_or_number(tmp_path):
    np.savez(tmp_path / "a.npz", one=IMAGE, spectrum=np.arange(9), two=IMAGE + 1)
    with pytest.raises(
        ReadError, match=r"holds 2 pictures; choose one with `dataset`: 0 = 'one' 24 x 32; 1 = 'two' 24 x 32"
    ):
        read_image(tmp_path / "a.npz")
    for wanted in ("two", 1, "1"):
        np.testing.assert_array_equal(read_image(tmp_path / "a.npz", dataset=wanted).data, IMAGE + 1)
    with pytest.raises(ReadError, match="`dataset` 'three' is not in"):
        read_image(tmp_path / "a.npz", dataset="three")


# --- reading: bad files -------------------------------------------------------------------------------------


def one_line(error):
    text = str(error.value)
    assert text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("kind", ["npy", "npz", "tif", "png", "jpg", "bmp", "sxm"])
@pytest.mark.parametrize("content", ["cut", "noise", "nothing"])
def test_broken_files_give_one_clear_line(kind, content, tmp_path):
    path = tmp_path / f"broken.{kind}"
    if kind == "sxm":
        path.write_bytes(nanonis_bytes(np.zeros((4, 3, 5))))
    elif kind in ("npy", "npz"):
        np.save(path, IMAGE) if kind == "npy" else np.savez(path, a=IMAGE)
    else:
        Pillow.fromarray(IMAGE).save(path)
    whole = path.read_bytes()
    noise = np.random.default_rng(0).bytes(500)
    path.write_bytes({"cut": whole[: int(0.7 * len(whole))], "noise": noise, "nothing": b""}[content])
    with pytest.raises(ReadError) as error:
        read_image(path)
    text = one_line(error)
    assert str(path) in text
    assert ("copy or export it again" if content == "nothing" else path.name) in text


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no\.tif' does not exist; the path of an image file is wanted"
    ):
        read_image(tmp_path / "no.tif")
    with pytest.raises(IsADirectoryError, match="is a folder; the path of one image file is wanted"):
        read_image(tmp_path)


@pytest.mark.parametrize("name", ["a.dat", "a", "a.docx"])
def test_unknown_type_says_what_is_known(name, tmp_path):
    pytest.importorskip("rsciio", reason="RosettaSciIO knows which types there are; pip install 'gpuseg[io]'")
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(ReadError, match=r"unknown file type '\.(dat|docx)?'; wanted: \.npy \.npz \.tif"):
        read_image(tmp_path / name)


@pytest.mark.parametrize(("array", "message"), [
    (np.zeros((0, 5)), r"holds an empty array of shape \(0, 5\)"),
    (np.zeros(7), r"holds no picture but 'a' 7; an array of shape \(H, W\) or a stack \(T, H, W\) is wanted"),
    (np.float64(3), "holds no picture but 'a' a single number"),
    (np.zeros((2, 2, 8, 8)), "holds no picture but 'a' 2 x 2 x 8 x 8"),
    (np.zeros((4, 4), complex), r"holds complex numbers \(complex128\); real ones are wanted"),
    (np.array([["a", "b"], ["c", "d"]]), "holds <U1; integers or floating point numbers are wanted"),
    (np.zeros((3, 3), "M8[s]"), "integers or floating point numbers are wanted"),
    (np.array([[1, None]], object), "could not be read"),
])  # fmt: skip
def test_arrays_that_are_no_image(array, message, tmp_path):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(ReadError, match=message) as error:
        read_image(tmp_path / "a.npy")
    one_line(error)


def test_objects_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.save(tmp_path / "a.npy", np.array([[Trap()]], object), allow_pickle=True)
    with pytest.raises(ReadError):
        read_image(tmp_path / "a.npy")
    assert not (tmp_path / "sprung").exists()


# --- reading: binning ---------------------------------------------------------------------------------------


def test_binned_averages_and_grows_the_pixel(tmp_path):
    image = io.Image(np.arange(35, dtype=np.uint16).reshape(5, 7), 0.1, "nm", "a", {"path": "a"})
    binned = image.binned(2)
    np.testing.assert_array_equal(binned.data, [[4, 6, 8], [18, 20, 22]])
    assert binned.data.dtype == np.float32
    assert binned.pixel_size == 0.2
    assert binned.metadata == {"path": "a", "bin": 2}
    assert image.binned(1) is image


@pytest.mark.parametrize("factor", [0, -2, 6])
def test_binned_refuses_what_leaves_nothing(factor):
    with pytest.raises(ValueError, match=rf"`bin` is {factor}; 1 to 5 is wanted"):
        io.Image(np.zeros((5, 7)), None, None, "a").binned(factor)


# --- reading: Nanonis and RosettaSciIO ----------------------------------------------------------------------


def nanonis_bytes(planes, direction="down", order=">f4"):
    """A Nanonis file with the channels Z and Current, forward and backward."""
    height, width = planes.shape[1:]
    header = (
        f":NANONIS_VERSION:\n2\n:SCANIT_TYPE:\n FLOAT {'MSBFIRST' if order == '>f4' else 'LSBFIRST'}\n"
        f":SCAN_PIXELS:\n {width} {height}\n:SCAN_RANGE:\n {width * 2e-11} {height * 2e-11}\n"
        f":SCAN_DIR:\n{direction}\n"
        ":DATA_INFO:\n\tChannel\tName\tUnit\tDirection\tCalibration\tOffset\n\t14\tZ\tm\tboth\t1\t0\n"
        "\t0\tCurrent\tA\tboth\t1\t0\n\n:SCANIT_END:\n\n\n"
    )
    return header.encode() + b"\x1a\x04" + planes.astype(order).tobytes()


@pytest.mark.parametrize("order", [">f4", "<f4"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_nanonis_channels_show_the_sample_the_same_way_up(direction, order, tmp_path):
    sample = np.arange(15, dtype=float).reshape(3, 5)
    scanned = sample[::-1] if direction == "up" else sample
    planes = np.stack([scanned, scanned[:, ::-1], 2 * scanned, 2 * scanned[:, ::-1]])
    (tmp_path / "a.sxm").write_bytes(nanonis_bytes(planes, direction, order))
    for name, factor in (("Z forward", 1), ("Z backward", 1), ("Current backward", 2)):
        read = read_image(tmp_path / "a.sxm", dataset=name)
        np.testing.assert_array_equal(read.data, factor * sample)
        assert (read.pixel_size, read.unit) == (0.02, "nm")
    with pytest.raises(ReadError, match="holds 4 pictures; choose one with `dataset`: 0 = 'Z forward' 3 x 5"):
        read_image(tmp_path / "a.sxm")


def axis(size, scale=1.0, units=None, navigate=False):
    return {"size": size, "scale": scale, "offset": 0.0, "units": units, "navigate": navigate}


def signal(data, axes, title=""):
    return {"data": data, "axes": axes, "metadata": {"General": {"title": title}}}


@pytest.fixture
def rosetta(monkeypatch, tmp_path):
    """A RosettaSciIO that gives what a test wants for files of type .abc."""
    module, plugin = types.ModuleType("rsciio"), types.ModuleType("rsciio.abc")
    module.IO_PLUGINS = [{"name": "ABC", "file_extensions": ["abc", "ABC"], "api": "rsciio.abc"}]
    monkeypatch.setitem(sys.modules, "rsciio", module)
    monkeypatch.setitem(sys.modules, "rsciio.abc", plugin)
    path = tmp_path / "a.abc"
    path.write_bytes(b"something")

    def serve(result):
        def file_reader(filename, lazy=False):
            if isinstance(result, Exception):
                raise result
            return result

        plugin.file_reader = file_reader
        return path

    return serve


NM = (0.0125, "nm")


@pytest.mark.parametrize(("scale", "units", "expected"), [
    (0.0125, "nm", NM), (1.25e-11, "m", NM), (12.5, "pm", NM), (0.0125, "n_m", NM), (0.0125, "[n_m]", NM),
    (0.125, "Å", NM), (0.125, "A", NM), (1.25e-5, "µm", NM), (1.25e-5, "um", NM),
    (0.3, "1/nm", (0.3, "1/nm")), (1.0, None, (None, None)), (1.0, "<undefined>", (None, None)),
    (0.0, "nm", (None, None)), (float("nan"), "nm", (None, None)),
])  # fmt: skip
def test_rosettasciio_units(scale, units, expected, rosetta):
    read = read_image(rosetta([signal(IMAGE, [axis(24, scale, units), axis(32, scale, units)], "my title")]))
    np.testing.assert_array_equal(read.data, IMAGE)
    assert (read.pixel_size, read.unit) == expected
    assert read.metadata["title"] == "my title"


def test_sides_of_different_kinds_have_no_pixel_size(rosetta):
    path = rosetta([signal(IMAGE, [axis(24, 2.0, "s"), axis(32, 2.0, "nm")])])
    assert read_image(path).pixel_size is None


def test_rosettasciio_stack_and_spectra(rosetta):
    stack = np.stack([IMAGE, IMAGE + 1])
    path = rosetta([
        signal(stack, [axis(2, navigate=True), axis(24, 2.0, "nm"), axis(32, 2.0, "nm")], "movie"),
        signal(np.zeros((24, 32, 9)), [axis(24, navigate=True), axis(32, navigate=True), axis(9)], "spectra"),
        signal(np.zeros((24, 9)), [axis(24, navigate=True), axis(9)], "line of spectra"),
    ])  # fmt: skip
    read = read_image(path, frame=1)
    np.testing.assert_array_equal(read.data, stack[1])
    assert read.pixel_size == 2.0
    with pytest.raises(ReadError, match="holds 2 frames"):
        read_image(path)


def test_rosettasciio_colour_records(rosetta):
    colour = np.zeros(IMAGE.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for channel in "RGB":
        colour[channel] = IMAGE
    np.testing.assert_array_equal(read_image(rosetta([signal(colour, [axis(24), axis(32)])])).data, IMAGE)


@pytest.mark.parametrize(
    "error", [KeyError("x"), RuntimeError("two\nlines"), OSError("cut"), AssertionError()]
)
def test_whatever_rosettasciio_raises_is_one_clear_line(error, rosetta):
    with pytest.raises(ReadError, match=r"a\.abc' could not be read: ") as caught:
        read_image(rosetta(error))
    one_line(caught)


def test_missing_package_of_a_format_names_the_extra(rosetta):
    with pytest.raises(
        ReadError,
        match=r"'\.abc' needs another package \(No module named 'h5py'\); `pip install 'gpuseg\[io\]'`",
    ):
        read_image(rosetta(ModuleNotFoundError("No module named 'h5py'")))


def test_missing_rosettasciio_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "rsciio", None)
    (tmp_path / "a.dm3").write_bytes(b"something")
    with pytest.raises(ReadError, match=r"a\.dm3'.* `pip install 'gpuseg\[io\]'` \.dm3"):
        read_image(tmp_path / "a.dm3")


def test_empty_result_of_rosettasciio(rosetta):
    with pytest.raises(ReadError, match="holds no picture but nothing"):
        read_image(rosetta([]))


def test_formats_with_one_extension_are_tried_in_turn(rosetta, monkeypatch):
    path = rosetta([signal(IMAGE, [axis(24), axis(32)])])
    monkeypatch.setattr(
        sys.modules["rsciio"],
        "IO_PLUGINS",
        [
            {"name": "needs more", "file_extensions": ["abc"], "api": "rsciio.not_there"},
            {"name": "other", "file_extensions": ["xyz"], "api": "rsciio.other"},
            {"name": "ABC", "file_extensions": ["ABC"], "api": "rsciio.abc"},
        ],
    )
    np.testing.assert_array_equal(read_image(path).data, IMAGE)
    rosetta(OSError("it is cut"))
    with pytest.raises(ReadError, match="it is cut"):
        read_image(path)


DATA = Path(__file__).parents[2] / "shared" / "data" / "images"
REAL = [
    ("Au_grain_boundary_512.png", None, (512, 512), None),
    ("Au_nanoparticles_velox.emd", None, (2048, 2048), 0.0075),
    ("CdTe_tilt_GB_HAADF149.dm3", None, (512, 512), 0.01639),
    ("HEA_laths_pystem.npy", None, (1024, 1024), None),
    ("Ni_M3B2_interface_HAADF91.tif", None, (1024, 1024), None),
    ("STO_16_STOimage_1.ser", None, (1024, 1024), 0.01001),
    ("STO_on_Ge_HAADF.jpg", None, (3044, 3042), None),
    ("Si_tilt_GB_HAADF85.dm3", None, (512, 512), 0.01639),
    ("nanographene_AFM_02602.sxm", "Frequency_Shift forward", (128, 128), 2 / 128),
    ("ncem_Acquisition_18.emd", None, (1024, 1024), 0.01225),
    ("rGO_current_AFM_15nm.tif", None, (915, 915), None),
]


@pytest.mark.parametrize(("name", "dataset", "shape", "pixel_size"), REAL)
def test_real_files(name, dataset, shape, pixel_size):
    if not (DATA / name).exists():
        pytest.skip(f"{name}: real images are not part of the package")
    if name.endswith(("dm3", "ser", "emd")):
        pytest.importorskip("rsciio", reason="needs RosettaSciIO: pip install 'gpuseg[io]'")
    if name.endswith("emd"):
        pytest.importorskip("h5py", reason="needs h5py: pip install 'gpuseg[io]'")
    read = read_image(DATA / name, dataset=dataset)
    assert read.data.shape == shape
    assert read.data.std() > 0
    assert read.pixel_size == (None if pixel_size is None else pytest.approx(pixel_size, rel=1e-3))
    assert read.unit == (None if pixel_size is None else "nm")


# --- writing ------------------------------------------------------------------------------------------------


@in_one_folder
@given(
    labels=hnp.arrays(
        st.sampled_from([np.int8, np.int32, np.int64]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.integers(-1, 100),
    ),
    pixel_size=st.one_of(st.none(), st.floats(1e-3, 1e3)),
)
def test_labels_come_back_one_higher_with_their_pixel_size(labels, pixel_size, tmp_path):
    io.write_labels(tmp_path / "l.tif", labels, pixel_size, "nm")
    read = read_image(tmp_path / "l.tif")
    np.testing.assert_array_equal(read.data.astype(int) - 1, labels)
    assert read.data.dtype == np.uint8
    assert read.pixel_size == (None if pixel_size is None else pytest.approx(pixel_size, rel=1e-6))


@pytest.mark.parametrize(
    ("highest", "dtype"),
    [(0, np.uint8), (253, np.uint8), (254, np.uint8), (255, np.uint16), (65534, np.uint16)],
)
def test_labels_are_as_small_as_they_can_be(highest, dtype, tmp_path):
    io.write_labels(tmp_path / "l.tif", np.array([[-1, highest]]))
    written = tifffile.imread(tmp_path / "l.tif")
    assert written.dtype == dtype
    assert written.tolist() == [[0, highest + 1]]


@pytest.mark.parametrize(("labels", "error", "message"), [
    (np.zeros((2, 2)), TypeError, "`labels` is float64; integers are wanted"),
    (np.zeros(3, int), ValueError, r"`labels` has shape \(3,\); \(H, W\)"),
    (np.full((2, 2), -2), ValueError, "runs from -2 to -2; -1"),
    (np.full((2, 2), 65535), ValueError, "runs from 65535 to 65535; -1"),
])  # fmt: skip
def test_labels_that_are_none(labels, error, message, tmp_path):
    with pytest.raises(error, match=message):
        io.write_labels(tmp_path / "l.tif", labels)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("unit", [None, "nm", "µm", "Å", "1/nm"])
def test_map_keeps_float32_nan_and_unit(unit, tmp_path):
    values = np.random.default_rng(0).random((5, 6)).astype(np.float32)
    values[1, 2] = np.nan
    io.write_map(tmp_path / "m.tif", values, 0.5, unit)
    read = read_image(tmp_path / "m.tif")
    np.testing.assert_array_equal(read.data, values)
    assert read.pixel_size == pytest.approx({"µm": 500.0, "Å": 0.05}.get(unit, 0.5))
    assert read.unit == ("1/nm" if unit == "1/nm" else "nm")


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf")])
def test_pixel_size_must_be_a_positive_number(size, tmp_path):
    with pytest.raises(ValueError, match=r"`pixel_size` is .*; a positive number is wanted"):
        io.write_map(tmp_path / "m.tif", np.zeros((2, 2)), size, "nm")


def test_json_is_what_every_parser_reads(tmp_path):
    content = {
        "nan": float("nan"), "array": np.array([1.5, np.inf]), "int": np.int64(3), "bool": np.bool_(True),
        "path": Path("a"), "tuple": (1, None), 5: "é",
    }  # fmt: skip
    io.write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {
        "nan": None, "array": [1.5, None], "int": 3, "bool": True, "path": "a", "tuple": [1, None], "5": "é",
    }  # fmt: skip


@pytest.mark.parametrize("write", [
    lambda path: io.write_labels(path, np.zeros((2, 2), int)),
    lambda path: io.write_map(path, np.zeros((2, 2))),
    lambda path: io.write_png(path, IMAGE), lambda path: io.write_json(path, {}),
])  # fmt: skip
def test_interrupted_write_leaves_the_old_file_and_nothing_else(write, tmp_path, monkeypatch):
    path = tmp_path / "result.tif"
    path.write_text("old")

    def no_space(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(source))

    monkeypatch.setattr(io.os, "replace", no_space)
    with pytest.raises(OSError, match=r"No space left on device: .*result\.tif"):
        write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_where_there_is_no_folder_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no/l\.tif"):
        io.write_labels(tmp_path / "no" / "l.tif", np.zeros((2, 2), int))


# --- a whole result -----------------------------------------------------------------------------------------


def names(folder):
    return sorted(each.name for each in folder.iterdir())


def test_result_is_written_whole(tmp_path):
    folder = tmp_path / "a" / "out"
    segmentation = made_segmentation()
    io.save_segmentation(segmentation, folder, pixel_size=0.5, unit="nm", source={"path": "image.dm3"})
    assert names(folder) == RESULTS
    labels = read_image(folder / "labels.tif")
    np.testing.assert_array_equal(labels.data.astype(int) - 1, segmentation.labels)
    assert (labels.pixel_size, labels.unit) == (0.5, "nm")
    np.testing.assert_array_equal(read_image(folder / "certainty.tif").data, segmentation.certainty)
    with Pillow.open(folder / "overlay.png") as picture:
        assert picture.size == (50, 60)
    assert list(np.load(folder / "model.npz")) == ["centers"]
    summary = json.loads((folder / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["source"] == {"path": "image.dm3"}
    assert summary["image_shape"] == [60, 50]
    assert summary["parameters"] == {"stride": 5, "n_components": 2, "nothing": None}
    assert summary["seconds"] == {"descriptors": 0.01, "total": 0.02}
    assert summary["explained_variance_ratio"] == [0.6, 0.3]
    assert summary["masked_pixels"] == 250
    assert summary["patterns"][0] == {
        "pattern": 0, "value_in_labels_tif": 1, "area_fraction": 0.4,
        "area_pixels": 55 * 21, "area_nm^2": 55 * 21 * 0.25,
    }  # fmt: skip
    assert {"gpuseg", "numpy", "python", "scikit-learn"} <= summary["versions"].keys()


def test_result_on_the_grid_has_pixels_as_wide_as_the_stride(tmp_path):
    segmentation = made_segmentation(upsampling=False)
    io.save_segmentation(segmentation, tmp_path / "out", pixel_size=0.5)
    labels = read_image(tmp_path / "out" / "labels.tif")
    assert labels.data.shape == segmentation.grid.shape
    assert labels.pixel_size == 2.5
    with Pillow.open(tmp_path / "out" / "overlay.png") as picture:
        assert picture.size == (50, 60)


def test_result_is_not_overwritten_unless_forced(tmp_path):
    segmentation = made_segmentation()
    (tmp_path / "labels.tif").write_text("mine")
    with pytest.raises(
        FileExistsError, match=r"already holds labels\.tif; use force \(--force\) or another folder"
    ):
        io.save_segmentation(segmentation, tmp_path)
    assert names(tmp_path) == ["labels.tif"]
    assert (tmp_path / "labels.tif").read_text() == "mine"
    io.save_segmentation(segmentation, tmp_path, force=True)
    assert names(tmp_path) == RESULTS


def old_result(folder):
    folder.mkdir()
    for name in [*RESULTS, "notes.txt"]:
        (folder / name).write_text(f"old {name}")


def assert_old_result(folder):
    assert names(folder) == sorted([*RESULTS, "notes.txt"])
    for name in RESULTS:
        assert (folder / name).read_text() == f"old {name}"


@pytest.mark.parametrize("failing", ["write_labels", "write_map", "write_png", "write_json"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device", "x"), KeyboardInterrupt(), MemoryError()]
)
def test_failing_write_leaves_the_old_result_or_nothing(failing, error, tmp_path, monkeypatch):
    def fail(path, *args):
        Path(path).write_text("half")
        raise error

    monkeypatch.setattr(io, failing, fail)
    old_result(tmp_path / "old")
    for folder in (tmp_path / "old", tmp_path / "deep" / "new"):
        with pytest.raises(type(error)) as caught:
            io.save_segmentation(made_segmentation(), folder, force=True)
        if isinstance(error, OSError):
            assert str(caught.value) == f"[Errno {errno.ENOSPC}] No space left on device: '{folder}'"
    assert_old_result(tmp_path / "old")
    assert names(tmp_path) == ["old"]


@pytest.mark.parametrize("moved", range(5))
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_failing_rename_puts_the_old_result_back(moved, error, tmp_path, monkeypatch):
    rename, done = os.replace, []

    def fail_late(source, target):
        if Path(target).parent.name in ("old", "new"):
            done.append(target)
            if len(done) == moved + 1:
                raise error
        rename(source, target)

    old_result(tmp_path / "old")
    for folder in (tmp_path / "old", tmp_path / "new"):
        done.clear()
        monkeypatch.setattr(io.os, "replace", fail_late)
        with pytest.raises(type(error)):
            io.save_segmentation(made_segmentation(), folder, force=True)
        monkeypatch.undo()
    assert_old_result(tmp_path / "old")
    assert names(tmp_path) == ["old"]


def test_summary_comes_last(tmp_path, monkeypatch):
    rename, order = os.replace, []

    def note(source, target):
        if Path(target).parent == tmp_path / "out":
            order.append(Path(target).name)
            assert not (tmp_path / "out" / "summary.json").exists()
        rename(source, target)

    old_result(tmp_path / "out")
    monkeypatch.setattr(io.os, "replace", note)
    io.save_segmentation(made_segmentation(), tmp_path / "out", force=True)
    assert sorted(order) == RESULTS
    assert order[-1] == "summary.json"


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(NotADirectoryError, match="out' is a file; a folder for the results is wanted"):
        io.save_segmentation(made_segmentation(), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"
