"""Images in and results out.

`read_image` turns a file of any microscope into one (H, W) array with its pixel size. The writers put every
file aside first and rename it when it is complete, so that a reader never sees half a file.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import platform
import secrets
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gpuseg.segmentation import Segmentation

__all__ = [
    "Image",
    "ReadError",
    "existing_results",
    "open_stack",
    "read_image",
    "save_segmentation",
    "write_csv",
    "write_json",
    "write_label_stack",
    "write_labels",
    "write_map",
    "write_png",
]

logger = logging.getLogger(__name__)

RESULT_FILES = ("labels.tif", "certainty.tif", "overlay.png", "model.npz", "summary.json")

# Grey levels. A grey picture stored as JPEG goes through YCbCr and back in whole numbers: its channels then
# differ by up to 2.
GREY_TOLERANCE = 2

# nm. A TIFF resolution tag coarser than this is for a printer (72 ... 9600 dpi), no microscope's calibration.
LARGEST_TAGGED_PIXEL = 1e3

# Two pixel sizes that differ by less are one: the sides of a scan are calibrated to about this.
SQUARE_TOLERANCE = 0.01

LARGEST_IMAGEJ = 2**32 - 2**20  # bytes

# Bytes. Larger files are read lazily: picking one picture out of a 4D data set must not load all of it.
LAZY_SIZE = 256 * 2**20

NANOMETRES = {
    "m": 1e9, "cm": 1e7, "mm": 1e6, "um": 1e3, "µm": 1e3, "μm": 1e3, "micron": 1e3, "microns": 1e3, "nm": 1.0,
    "a": 0.1, "å": 0.1, "ang": 0.1, "angstrom": 0.1, "angstroms": 0.1, "pm": 1e-3,
}  # fmt: skip
NO_UNIT = {"", "none", "px", "pixel", "pixels", "undefined", "<undefined>"}

TIFF_TYPES = (".tif", ".tiff")
PICTURE_TYPES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm")
WANTED = (
    "wanted: .npy .npz .tif .png .jpg .bmp .sxm .asd, "
    "or with `pip install 'gpuseg[io]'` .dm3 .dm4 .emd .ser .mrc .hspy ..."
)


class ReadError(ValueError):
    """A file without an image that can be read. The message is one line and says what to do."""


@dataclass(frozen=True, eq=False)
class Image:
    """One image as read from a file.

    Attributes
    ----------
    data : (H, W) array
        The pixels in the number type of the file, rows downwards.
    pixel_size : float or None
        Length of a pixel in `unit`; None if the file does not say or the pixels are not square.
    unit : str or None
        "nm" whenever the file gives a length; other units (such as "1/nm") are passed on as they are.
    name : str
        File name, and the data set or frame where there are several.
    metadata : dict
        What can be written as JSON about the origin: path, format, data set, frame, shape, dtype, title.
    """

    data: np.ndarray = field(repr=False)
    pixel_size: float | None
    unit: str | None
    name: str
    metadata: dict[str, Any] = field(default_factory=dict)

    def binned(self, factor: int) -> Image:
        """The image averaged over squares of `factor` pixels; what fills no square at the end is cut off.

        Parameters
        ----------
        factor : int
            At least 1; 1 changes nothing. A square with a NaN in it becomes NaN.

        Returns
        -------
        Image of (H // factor, W // factor) float32 with the larger pixel size.

        Raises
        ------
        ValueError
            If no square fits into the image.
        """
        if factor == 1:
            return self
        height, width = (n // factor if factor > 0 else 0 for n in self.data.shape)
        if not (height and width):
            raise ValueError(
                f"`bin` is {factor}; 1 to {min(self.data.shape)} is wanted for an image {self.data.shape}"
            )
        squares = self.data[: height * factor, : width * factor].reshape(height, factor, width, factor)
        data = squares.mean(axis=(1, 3), dtype=np.float64).astype(np.float32)
        size = None if self.pixel_size is None else self.pixel_size * factor
        return replace(self, data=data, pixel_size=size, metadata={**self.metadata, "bin": factor})


_Pixel = tuple[tuple[float, float] | None, str | None]  # (row, column) size and unit, each None if not known


@dataclass(frozen=True)
class _Dataset:
    """An array in a file. `layout` names its axes: YX, with T in front of a stack and S behind for colour; ""
    = no picture.

    `load(frame)` gives (H, W) or (H, W, S); frame is None where there is no stack. `pixel` = (row, column)
    pixel size.
    """

    name: str
    shape: tuple[int, ...]
    layout: str
    load: Callable[[int | None], np.ndarray]
    pixel: tuple[float, float] | None = None
    unit: str | None = None
    title: str | None = None

    @property
    def frames(self) -> int | None:
        return self.shape[0] if self.layout.startswith("T") else None


def read_image(
    path: str | os.PathLike[str], *, dataset: str | int | None = None, frame: int | None = None
) -> Image:
    """Read one image with its pixel size.

    Parameters
    ----------
    path : path
        .npy, .npz, .tif, .png, .jpg, .bmp, .sxm (Nanonis) and .asd (high-speed AFM) are read here; everything
        else, such as .dm3, .dm4, .emd, .ser, .mrc and .hspy, by RosettaSciIO (``pip install 'gpuseg[io]'``).
    dataset : str or int, optional
        Name or number of the data set in a file with several; not needed where only one is a picture.
    frame : int, optional
        Number of the frame, from 0, in a stack; not needed where there is only one.

    Returns
    -------
    Image
        Colour pictures whose channels are equal are taken as grey; an opaque alpha channel is ignored.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        If there is no file that can be opened.
    ReadError
        For an unknown type, a broken file, real colour, complex numbers, no picture in the file, or several
        and neither `dataset` nor `frame` to choose one.
    """
    path = Path(path)
    check_file(path)
    read = _reader(path)
    with broken_files_are_read_errors(path):
        datasets = read(path)
    chosen = _choose_dataset(path, datasets, dataset)
    frame = _choose_frame(path, chosen, frame)
    with broken_files_are_read_errors(path):
        data = grey(path, np.array(chosen.load(frame), order="C"))  # a copy: no file stays mapped
    _check_image(path, data)
    pixel_size, unit = _square_pixel(path, chosen)
    several = len(datasets) > 1
    name = (
        path.name + (f" [{chosen.name}]" if several else "") + ("" if frame is None else f" [frame {frame}]")
    )
    about = {
        "path": str(path), "format": path.suffix.lower().lstrip("."), "title": chosen.title,
        "dataset": chosen.name if several else None, "frame": frame,
        "shape": list(data.shape), "dtype": str(data.dtype),
    }  # fmt: skip
    return Image(
        data, pixel_size, unit, name, {key: value for key, value in about.items() if value is not None}
    )


def open_stack(
    path: Path, dataset: str | int | None = None
) -> tuple[int, Callable[[int], np.ndarray], float | None, str | None]:
    """A stack of frames, read one by one.

    Parameters
    ----------
    path : path
        Of a file that `read_image` reads.
    dataset : str or int, optional
        Name or number of the data set in a file with several; not needed where only one is a stack.

    Returns
    -------
    length : int
    load : callable
        Frame number -> (H, W) array.
    pixel_size, unit : float and str, or None

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError, ReadError
        As `read_image`; also for a file with one frame.
    """
    check_file(path)
    with broken_files_are_read_errors(path):
        datasets = _reader(path)(path)
    stacks = [each for each in datasets if each.frames is not None]
    chosen = stacks[0] if dataset is None and len(stacks) == 1 else _choose_dataset(path, datasets, dataset)
    length = chosen.frames
    if length is None:
        raise ReadError(f"'{path}' holds a single picture {_size(chosen.shape)}; a stack (T, H, W) is wanted")

    def load(frame: int) -> np.ndarray:
        with broken_files_are_read_errors(path):
            return grey(path, np.array(chosen.load(frame), order="C"))

    return (length, load, *_square_pixel(path, chosen))


def check_file(path: Path) -> None:
    """Refuse what is no file with something in it.

    Parameters
    ----------
    path : path

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError, ReadError
    """
    is_store = path.suffix.lower() == ".zspy"  # the one format that is a folder
    if path.is_dir() and not is_store:
        raise IsADirectoryError(f"'{path}' is a folder; the path of one image file is wanted")
    if not path.exists():
        raise FileNotFoundError(
            f"'{path}' does not exist; the path of an image file is wanted (folder: {Path.cwd()})"
        )
    if not is_store:
        with path.open(
            "rb"
        ) as file:  # a file that may not be read says so here, before any library rewords it
            if not file.read(1):
                raise ReadError(f"'{path}' is empty (0 bytes); copy or export it again")


def _reader(path: Path) -> Callable[[Path], list[_Dataset]]:
    readers = {".npy": _read_npy, ".npz": _read_npz, ".sxm": _read_nanonis, ".asd": _read_asd}
    readers |= dict.fromkeys(TIFF_TYPES, _read_tiff) | dict.fromkeys(PICTURE_TYPES, _read_picture)
    return readers.get(path.suffix.lower(), _read_with_rosettasciio)


@contextmanager
def broken_files_are_read_errors(path: Path) -> Iterator[None]:
    """Broken files make readers raise anything (struct.error, KeyError, zlib.error); users get one kind.

    Parameters
    ----------
    path : path
        For the message.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for warning in caught:
            logger.info("%s: %s", path.name, warning.message)
    except (ReadError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise ReadError(
            f"'{path}' could not be read: {text}; it may be incomplete or not a {path.suffix} file"
        ) from error


# --- choosing among what a file holds -----------------------------------------------------------------------


def _choose_dataset(path: Path, datasets: list[_Dataset], wanted: str | int | None) -> _Dataset:
    pictures = [each for each in datasets if each.layout]
    if wanted is None and len(pictures) == 1:
        return pictures[0]
    listed = "; ".join(f"{k} = '{each.name}' {_size(each.shape)}" for k, each in enumerate(pictures))
    if not pictures:
        others = ", ".join(f"'{each.name}' {_size(each.shape)}" for each in datasets[:8]) or "nothing"
        raise ReadError(
            f"'{path}' holds no picture but {others}; an array of shape (H, W) or a stack (T, H, W) is wanted"
        )
    if wanted is None:
        raise ReadError(f"'{path}' holds {len(pictures)} pictures; choose one with `dataset`: {listed}")
    named = [each for each in pictures if each.name == str(wanted)]
    if len(named) == 1:
        return named[0]
    number = int(wanted) if str(wanted).isdecimal() else -1
    if not named and 0 <= number < len(pictures):
        return pictures[number]
    problem = "not in" if not named else "more than once in"
    raise ReadError(
        f"`dataset` {wanted!r} is {problem} '{path}'; wanted: the number or name of one of {listed}"
    )


def _choose_frame(path: Path, dataset: _Dataset, frame: int | None) -> int | None:
    frames = dataset.frames
    if frame is None and frames == 1:
        return 0
    if frame is None and frames is not None:
        raise ReadError(f"'{path}' holds {frames} frames; choose one with `frame`, 0 to {frames - 1}")
    if frame is not None and not 0 <= frame < (frames or 1):
        last = (frames or 1) - 1
        raise ReadError(f"`frame` is {frame}; '{path}' has {last + 1} frame(s): 0 to {last} is wanted")
    return None if frames is None else frame


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def grey(path: Path, data: np.ndarray) -> np.ndarray:
    """(H, W) of (H, W) or (H, W, S) with equal channels S = 1, grey + alpha, RGB or RGB + alpha.

    Parameters
    ----------
    path : path
        For the message.
    data : (H, W) or (H, W, S) array

    Returns
    -------
    (H, W) array

    Raises
    ------
    ReadError
        If the channels differ or the picture is partly transparent.
    """
    if data.ndim == 2:
        return data
    if data.shape[2] in (2, 4):
        opaque = np.iinfo(data.dtype).max if data.dtype.kind in "ui" else 1
        if (data[..., -1] != opaque).any():
            raise ReadError(
                f"'{path}' is partly transparent; an opaque grey picture is wanted: export it without alpha"
            )
        data = data[..., :-1]
    middle = data[..., data.shape[2] // 2]
    for k in range(data.shape[2]):
        if np.array_equal(data[..., k], middle, equal_nan=data.dtype.kind == "f"):
            continue
        difference = float(np.nanmax(np.abs(np.subtract(data[..., k], middle, dtype=np.float64))))
        if data.dtype != np.uint8 or difference > GREY_TOLERANCE:
            raise ReadError(
                f"'{path}' is a colour picture: its channels differ by up to {difference:g}; "
                "one value per pixel is wanted: save it as grey, or pass one channel as an array"
            )
    return np.ascontiguousarray(middle)


def _check_image(path: Path, data: np.ndarray) -> None:
    if data.size == 0:
        raise ReadError(
            f"'{path}' holds an empty array of shape {data.shape}; an image with pixels is wanted"
        )
    if data.dtype.kind == "c":
        raise ReadError(
            f"'{path}' holds complex numbers ({data.dtype}); real ones are wanted, e.g. abs() saved as .npy"
        )
    if data.dtype.kind not in "biuf":
        raise ReadError(
            f"'{path}' holds {data.dtype}; integers or floating point numbers are wanted: "
            "save it as .npy or .tif"
        )


# --- pixel sizes --------------------------------------------------------------------------------------------


def _square_pixel(path: Path, dataset: _Dataset) -> tuple[float | None, str | None]:
    if dataset.pixel is None:
        return None, None
    height, width = (abs(float(size)) for size in dataset.pixel)
    if not (0 < height < math.inf and 0 < width < math.inf):
        return None, None
    if abs(height - width) > SQUARE_TOLERANCE * max(height, width):
        logger.warning(
            "%s: pixels are not square (%g x %g %s); the pixel size is left out",
            path.name,
            height,
            width,
            dataset.unit,
        )
        return None, None
    return _in_nanometres(width, dataset.unit)


def _in_nanometres(size: float, unit: str | None) -> tuple[float | None, str | None]:
    """(size, "nm") of any length; other units unchanged; (None, None) where the unit says nothing."""
    text = str(unit or "").replace("_", "").replace("\\u00B5", "µ").strip(" []")
    if text.lower() in NO_UNIT:
        return None, None
    factor = NANOMETRES.get(text.lower())
    if factor is None:
        return size, text
    # 12 digits: 1e-11 m is 0.01 nm, not 0.010000000000000002.
    return float(f"{size * factor:.12g}"), "nm"


# --- the readers: each gives all arrays of a file -----------------------------------------------------------


def _layout(shape: tuple[int, ...]) -> str:
    """Axes of a bare array, guessed as every image library does: a last axis of 3 or 4 is colour."""
    samples = "S" if len(shape) >= 3 and shape[-1] in (3, 4) else ""
    planes = {2: "YX", 3: "TYX"}.get(len(shape) - len(samples))
    return planes + samples if planes else ""


def _of_array(array: np.ndarray, name: str, **known: Any) -> _Dataset:
    def load(frame: int | None) -> np.ndarray:
        return array if frame is None else array[frame]

    return _Dataset(name, array.shape, _layout(array.shape), load, **known)


def _read_npy(path: Path) -> list[_Dataset]:
    # Mapped where it is large: one frame of a long movie reads only that frame.
    large = path.stat().st_size > LAZY_SIZE
    return [_of_array(np.load(path, allow_pickle=False, mmap_mode="r" if large else None), path.stem)]


def _read_npz(path: Path) -> list[_Dataset]:
    # Opened here: np.load leaves a broken file open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return [_of_array(arrays[name], name) for name in arrays.files]


def _read_picture(path: Path) -> list[_Dataset]:
    from PIL import Image as Pillow

    def load(frame: int | None) -> np.ndarray:
        with Pillow.open(path) as picture:
            return _pillow_array(picture, frame or 0)

    with Pillow.open(path) as picture:
        frames = getattr(picture, "n_frames", 1)
        width, height = picture.size
    shape = (height, width) if frames == 1 else (frames, height, width)
    return [_Dataset(path.stem, shape, "TYX"[-len(shape) :], load)]


def _pillow_array(picture: Any, frame: int) -> np.ndarray:
    picture.seek(frame)
    if picture.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
        has_alpha = picture.mode == "PA" or "transparency" in picture.info
        picture = picture.convert("RGBA" if has_alpha else "RGB")
    return np.asarray(picture)


def _read_tiff(path: Path) -> list[_Dataset]:
    import tifffile

    with tifffile.TiffFile(path) as tif:
        pixels = _tiff_pixels(tif)
        return [_tiff_dataset(path, k, series, *pixels(k)) for k, series in enumerate(tif.series)]


def _tiff_dataset(
    path: Path, index: int, series: Any, pixel: tuple[float, float] | None, unit: str | None
) -> _Dataset:
    name, axes = series.name or str(index), series.axes
    if not {"Y", "X"} <= set(axes):
        return _Dataset(name, series.shape, "", lambda frame: series.asarray())
    stacked = [k for k, axis in enumerate(axes) if axis not in "YXS"]
    plane = [axes.index(axis) for axis in "YXS" if axis in axes]
    frames = math.prod(series.shape[k] for k in stacked)
    shape = tuple(series.shape[k] for k in plane)

    def load(frame: int | None) -> np.ndarray:
        import tifffile

        with tifffile.TiffFile(path) as tif:
            series = tif.series[index]
            page = series.pages[frame or 0] if len(series.pages) == frames else None
            if page is not None:  # only this page is read
                return tiff_page(path, page)
            return series.asarray().transpose(stacked + plane).reshape(frames, *shape)[frame or 0]

    layout = "T" * bool(stacked) + "YXS"[: len(plane)]
    return _Dataset(name, (frames,) * bool(stacked) + shape, layout, load, pixel, unit)


def tiff_page(path: Path, page: Any) -> np.ndarray:
    """The pixels of one page of a TIFF file.

    Parameters
    ----------
    path : path
    page : tifffile.TiffPage or tifffile.TiffFrame

    Returns
    -------
    (H, W) or (H, W, S) array
    """
    try:
        data = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        # Pillow itself decodes what tifffile wants another package for, such as LZW and JPEG.
        from PIL import Image as Pillow

        with Pillow.open(path) as picture:
            return _pillow_array(picture, page.index)
    data = data.reshape([n for n, axis in zip(page.shape, page.axes, strict=True) if axis in "YXS"])
    if page.axes.find("S") == 0:
        data = np.moveaxis(data, 0, -1)  # colour stored plane by plane
    if page.keyframe.photometric == 3:  # palette: the numbers are places in a table of colours
        return np.moveaxis(page.keyframe.colormap, 0, -1)[data]
    # 0: the number 0 is white
    return np.invert(data) if page.keyframe.photometric == 0 and data.dtype.kind in "ub" else data


def _tiff_pixels(tif: Any) -> Callable[[int], _Pixel]:
    """Series number -> pixel size and unit: OME, ImageJ, or resolution tags too fine for a printer."""
    if tif.is_ome:
        found = _ome_pixels(tif.ome_metadata)
        return lambda series: found[series] if series < len(found) else (None, None)
    tags = tif.pages[0].tags
    try:
        width, height = (tags[name].value[1] / tags[name].value[0] for name in ("XResolution", "YResolution"))
    except (KeyError, ZeroDivisionError):
        return lambda series: (None, None)
    if tif.is_imagej:
        unit = (tif.imagej_metadata or {}).get("unit")
        return lambda series: ((height, width), unit)
    nanometres = {2: 2.54e7, 3: 1e7}.get(
        tags["ResolutionUnit"].value if "ResolutionUnit" in tags else 2, math.inf
    )
    size = (height * nanometres, width * nanometres)
    return lambda series: (size, "nm") if max(size) < LARGEST_TAGGED_PIXEL else (None, None)


def _ome_pixels(text: str) -> list[_Pixel]:
    from xml.etree import ElementTree

    found: list[_Pixel] = []
    for pixels in ElementTree.fromstring(text).iterfind(".//{*}Pixels"):
        width, height = (pixels.get(f"PhysicalSize{axis}") for axis in "XY")
        unit, other = (pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "XY")
        known = width is not None and height is not None and unit == other
        found.append(((float(height or 0), float(width or 0)), unit) if known else (None, None))
    return found


def _read_nanonis(path: Path) -> list[_Dataset]:
    """Nanonis .sxm: a header of text, the bytes 1A 04, then a float32 plane per channel and scan direction.

    Planes scanned backwards are mirrored and images scanned upwards turned over: all show the sample alike.
    """
    head, end, rest = path.read_bytes().partition(b":SCANIT_END:")
    _, start, pixels = rest.partition(b"\x1a\x04")
    if not (end and start):
        raise ReadError(
            f"'{path}' has no complete Nanonis header; a whole .sxm file is wanted: copy it again"
        )
    sections = head.decode("utf-8", errors="replace").split("\n:")
    header = {key.strip(":"): text for key, _, text in (section.partition(":\n") for section in sections)}
    names = _nanonis_planes(header["DATA_INFO"])
    width, height = (int(n) for n in header["SCAN_PIXELS"].split())
    range_x, range_y = (float(length) for length in header["SCAN_RANGE"].split())
    number = np.dtype(">f4" if "MSBFIRST" in header["SCANIT_TYPE"] else "<f4")
    count = len(names) * height * width
    if len(pixels) < count * number.itemsize:
        raise ReadError(
            f"'{path}' has {len(pixels)} bytes of pixels; {count * number.itemsize} are wanted: "
            "it is cut off, copy it again"
        )
    planes = np.frombuffer(pixels, number, count).reshape(len(names), height, width)
    if header["SCAN_DIR"].strip() == "up":
        planes = planes[:, ::-1]
    pixel = (range_y / height, range_x / width)
    return [
        _of_array(plane[:, ::-1] if name.endswith("backward") else plane, name, pixel=pixel, unit="m")
        for name, plane in zip(names, planes, strict=True)
    ]


def _read_asd(path: Path) -> list[_Dataset]:
    from gpuseg.asd import read_channels

    return [
        _Dataset(each.name, each.shape, "TYX", each.load, each.pixel, "nm")  # type: ignore[arg-type]
        for each in read_channels(path)  # stacks: never asked for no frame
    ]


def _nanonis_planes(table: str) -> list[str]:
    """Name of each plane, in the order of the file, from the header's table of channels."""
    titles, *rows = (row.split("\t") for row in table.splitlines() if row.startswith("\t"))
    name, direction = titles.index("Name"), titles.index("Direction")
    both = {"both": ("forward", "backward")}
    return [f"{row[name]} {each}" for row in rows for each in both.get(row[direction], (row[direction],))]


def _read_with_rosettasciio(path: Path) -> list[_Dataset]:
    extension = path.suffix.lower().lstrip(".")
    try:
        import rsciio
    except ImportError as error:
        raise ReadError(f"'{path}': '.{extension}' is not read by gpuseg itself; {WANTED}") from error
    plugins = [each for each in rsciio.IO_PLUGINS if extension in map(str.lower, each["file_extensions"])]
    if not plugins:
        raise ReadError(f"'{path}': unknown file type '.{extension}'; {WANTED}; save it e.g. as .tif or .npy")
    failures: list[Exception] = []
    for plugin in plugins:  # several formats share an extension: the first that understands the file reads it
        try:
            return _rosettasciio_datasets(import_module(plugin["api"]).file_reader, path)
        except Exception as error:
            failures.append(error)
    missing = [error for error in failures if isinstance(error, ImportError)]
    if missing == failures:
        raise ReadError(
            f"'{path}': '.{extension}' needs another package ({missing[0]}); `pip install 'gpuseg[io]'`"
        )
    raise next(error for error in failures if error not in missing)


def _rosettasciio_datasets(file_reader: Callable[..., list[dict[str, Any]]], path: Path) -> list[_Dataset]:
    lazy = path.is_file() and path.stat().st_size > LAZY_SIZE
    return [_rosettasciio_dataset(each, f"{k}") for k, each in enumerate(file_reader(str(path), lazy=lazy))]


def _rosettasciio_dataset(found: Mapping[str, Any], number: str) -> _Dataset:
    array, axes = found["data"], list(found["axes"])
    title = str(found.get("metadata", {}).get("General", {}).get("title") or "") or None
    stepped = [k for k, axis in enumerate(axes) if axis.get("navigate")]
    # The two sides of a picture are alike: both are stepped through or neither is. A row of spectra is not.
    is_plane = array.ndim == 2 and len(stepped) != 1
    is_stack = array.ndim == 3 and len(stepped) <= 1
    along = stepped[0] if stepped else 0
    sides = [k for k in range(array.ndim) if not (is_stack and k == along)]
    pixel, unit = _rosettasciio_pixel([axes[k] for k in sides]) if is_plane or is_stack else (None, None)

    def load(frame: int | None) -> np.ndarray:
        picture = np.asarray(array if frame is None else array.take(frame, axis=along))
        if picture.dtype.names:  # colour as a record (R, G, B)
            picture = np.stack([picture[channel] for channel in picture.dtype.names], axis=-1)
        return picture

    shape = (array.shape[along],) * is_stack + tuple(array.shape[k] for k in sides)
    layout = "TYX" if is_stack else "YX" if is_plane else ""
    return _Dataset(title or number, shape, layout, load, pixel, unit, title)


def _rosettasciio_pixel(sides: list[Mapping[str, Any]]) -> _Pixel:
    units = [str(axis.get("units")) for axis in sides]
    if units[0] != units[1] or not all("scale" in axis for axis in sides):
        return None, None
    return (float(sides[0]["scale"]), float(sides[1]["scale"])), units[1]


# --- writing ------------------------------------------------------------------------------------------------


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; renamed to `path` at the end, removed if anything fails."""
    path = Path(path)
    aside = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        yield aside
        os.replace(aside, path)
    except OSError as error:
        if error.errno is None:
            raise
        # The user never heard of the name aside: the message names the file that was wanted.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        aside.unlink(missing_ok=True)


def write_labels(
    path: str | os.PathLike[str], labels: np.ndarray, pixel_size: float | None = None, unit: str | None = None
) -> None:
    """Write labels as a TIFF that ImageJ, napari and regionprops understand: 0 = masked, k + 1 = pattern k.

    Parameters
    ----------
    path : path
        Of the .tif file; it appears whole or not at all, and replaces an older one.
    labels : (H, W) array of int
        -1 = masked, 0, 1, ... = patterns; at most 65534 of them. Up to 254 become uint8, more uint16.
    pixel_size, unit : float and str, optional
        Length of a pixel; the unit is "nm" if none is given. Written as ImageJ does, which all readers know.

    Raises
    ------
    ValueError, TypeError
        If the labels are no such array or the pixel size is not a positive number.
    OSError
        If the file cannot be written.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or not labels.size:
        raise ValueError(f"`labels` has shape {labels.shape}; (H, W) with at least one pixel is wanted")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"`labels` is {labels.dtype}; integers are wanted, -1 = masked, 0, 1, ... = patterns")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < -1 or highest >= np.iinfo(np.uint16).max:
        raise ValueError(f"`labels` runs from {lowest} to {highest}; -1 (masked) to 65534 is wanted")
    number = np.uint8 if highest < np.iinfo(np.uint8).max else np.uint16
    _write_tiff(path, (labels.astype(np.int32) + 1).astype(number), pixel_size, unit)


def write_map(
    path: str | os.PathLike[str], values: np.ndarray, pixel_size: float | None = None, unit: str | None = None
) -> None:
    """Write a map such as the certainty as a float32 TIFF; the rest as `write_labels`.

    Parameters
    ----------
    path : path
        Of the .tif file.
    values : (H, W) array of real numbers
        NaN stays NaN.
    pixel_size, unit : float and str, optional
        Length of a pixel.

    Raises
    ------
    ValueError, OSError
        As `write_labels`.
    """
    values = np.asarray(values)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"`values` has shape {values.shape}; (H, W) with at least one pixel is wanted")
    _write_tiff(path, values.astype(np.float32), pixel_size, unit)


def write_label_stack(
    path: str | os.PathLike[str], frames: Iterable[np.ndarray], shape: tuple[int, int, int], number: Any,
    pixel_size: float | None = None, unit: str | None = None,
) -> None:  # fmt: skip
    """Write the labels of a series as a TIFF stack, frame by frame; the rest as `write_labels`.

    Parameters
    ----------
    path : path
        Of the .tif file.
    frames : iterable of (H, W) array of uint8 or uint16
        0 = masked or passed over, k + 1 = pattern k.
    shape : (T, H, W)
        Of all of them together.
    number : dtype
        Of the file.
    pixel_size, unit : float and str, optional
        Length of a pixel.

    Raises
    ------
    ValueError, OSError
        As `write_labels`.
    """
    _write_tiff(path, iter(frames), pixel_size, unit, shape=shape, dtype=np.dtype(number))


def _write_tiff(
    path: str | os.PathLike[str], data: Any, pixel_size: float | None, unit: str | None, **layout: Any
) -> None:
    import tifffile

    about: dict[str, Any] = {"axes": "TYX"} if layout else {}
    resolution = None
    if pixel_size is not None:
        size = float(pixel_size)
        if not 0 < size < math.inf:
            raise ValueError(
                f"`pixel_size` is {pixel_size}; a positive number is wanted, or None if it is not known"
            )
        ascii_unit = (unit or "nm").replace("µ", "u").replace("μ", "u").replace("Å", "angstrom")
        resolution, about = (1 / size, 1 / size), {**about, "unit": ascii_unit}
    # what ImageJ reads must be smaller than 4 GB
    large = bool(layout) and math.prod(layout["shape"]) * layout["dtype"].itemsize > LARGEST_IMAGEJ
    kind = {"bigtiff": True} if large else {"imagej": True}
    with _aside(Path(path)) as aside:
        tifffile.imwrite(aside, data, **kind, resolution=resolution, metadata=about, **layout)


def write_png(path: str | os.PathLike[str], picture: np.ndarray) -> None:
    """Write a picture as PNG, whole or not at all.

    Parameters
    ----------
    path : path
        Of the .png file.
    picture : (H, W) or (H, W, 3) array of uint8
        Grey or RGB.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    from PIL import Image as Pillow

    with _aside(Path(path)) as aside:
        # Level 1: noise hardly compresses, level 6 makes it 4 % smaller in three times the time.
        Pillow.fromarray(np.ascontiguousarray(picture)).save(aside, format="PNG", compress_level=1)


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a mapping as JSON that every parser accepts, whole or not at all.

    Parameters
    ----------
    path : path
        Of the .json file.
    content : mapping
        Arrays become lists, NumPy numbers plain ones, NaN and infinity null, paths and other objects text.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    text = json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with _aside(Path(path)) as aside:
        aside.write_text(text, encoding="utf-8")


def write_csv(path: str | os.PathLike[str], names: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table as comma-separated text, whole or not at all.

    Parameters
    ----------
    path : path
        Of the .csv file; replaced if it exists.
    names : iterable of str
        Of the columns.
    rows : iterable of rows
        Numbers are written to their last digit, NaN as nan.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with _aside(Path(path)) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(names)
        table.writerows(rows)


def _plain(value: Any) -> Any:
    """The value in the types JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


# --- a whole result -----------------------------------------------------------------------------------------


def existing_results(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the result files that `save_segmentation` would overwrite in a folder.

    Parameters
    ----------
    folder : path
        Need not exist.

    Returns
    -------
    list of str
        Such as ["labels.tif", "summary.json"]; empty if the way is free.
    """
    return [name for name in RESULT_FILES if (Path(folder) / name).exists()]


def save_segmentation(
    segmentation: Segmentation, folder: str | os.PathLike[str], *, pixel_size: float | None = None,
    unit: str | None = None, force: bool = False, source: Mapping[str, Any] | str | None = None,
) -> None:  # fmt: skip
    """Write labels.tif, certainty.tif, overlay.png, model.npz and summary.json into a folder.

    All five are written aside and renamed when the last is complete. If anything fails, an older result is
    left as it was. summary.json goes first when a result is replaced and comes last: where it stands, the
    result is whole.

    Parameters
    ----------
    segmentation : Segmentation
        What `gpuseg.segment` returned.
    folder : path
        Made if it does not exist.
    pixel_size, unit : float and str, optional
        Length of a pixel, "nm" if no unit is given: goes into the TIFFs and gives areas in summary.json.
    force : bool
        Overwrite an existing result.
    source : str or mapping, optional
        Where the image came from, for summary.json: a name, or such as `Image.metadata`.

    Raises
    ------
    FileExistsError
        If there is a result already, unless `force`.
    OSError
        If the folder cannot be made or written to.
    """
    folder = Path(folder)
    made = make_folder(folder)
    aside = folder / f".gpuseg-{secrets.token_hex(4)}"
    try:
        aside.mkdir()
        _write_results(segmentation, aside, pixel_size, unit, source)
        existing = existing_results(folder)
        if existing and not force:  # asked last: another process may have been faster
            names = ", ".join(existing)
            raise FileExistsError(f"'{folder}' already holds {names}; use force (--force) or another folder")
        _publish(aside, folder)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        for each in made:
            with suppress(OSError):  # somebody else put something into it meanwhile
                each.rmdir()
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(folder)) from error
        raise
    shutil.rmtree(aside, ignore_errors=True)


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and its parents.

    Parameters
    ----------
    folder : path

    Returns
    -------
    list of pathlib.Path
        What was made, innermost first.

    Raises
    ------
    NotADirectoryError, OSError
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"'{folder}' is a file; a folder for the results is wanted")
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _write_results(
    segmentation: Segmentation,
    folder: Path,
    pixel_size: float | None,
    unit: str | None,
    source: Mapping[str, Any] | str | None,
) -> None:
    from gpuseg.arrays import to_numpy
    from gpuseg.plot import overlay

    image, labels = to_numpy(segmentation.image), to_numpy(segmentation.labels)
    on_grid = labels.shape != image.shape  # upsampling=False: a pixel of the label map is one stride wide
    full = to_numpy(segmentation.grid.upsample(labels)) if on_grid else labels
    step = None if pixel_size is None else pixel_size * (segmentation.grid.stride if on_grid else 1)
    write_labels(folder / "labels.tif", labels, step, unit)
    write_map(folder / "certainty.tif", to_numpy(segmentation.certainty), step, unit)
    write_png(folder / "overlay.png", overlay(image, full))
    segmentation.model.save(folder / "model.npz")
    write_json(folder / "summary.json", _summary(segmentation, full, pixel_size, unit, source))


def _summary(
    segmentation: Segmentation,
    labels: np.ndarray,
    pixel_size: float | None,
    unit: str | None,
    source: Mapping[str, Any] | str | None,
) -> dict[str, Any]:
    """What summary.json says: how the result was made and how much of each pattern there is."""
    counts = np.bincount(labels[labels >= 0].ravel(), minlength=segmentation.n_patterns)
    patterns = [
        {"pattern": k, "value_in_labels_tif": k + 1, "area_fraction": fraction, "area_pixels": int(count)}
        for k, (fraction, count) in enumerate(zip(segmentation.area_fractions, counts, strict=True))
    ]
    if pixel_size is not None:
        unit = unit or "nm"
        for each in patterns:
            each[f"area_{unit}^2"] = each["area_pixels"] * pixel_size**2
    return {
        "source": source,
        "image_shape": list(labels.shape),
        "pixel_size": pixel_size,
        "unit": unit if pixel_size is not None else None,
        "n_patterns": segmentation.n_patterns,
        "patterns": patterns,
        "masked_pixels": int((labels < 0).sum()),
        "explained_variance_ratio": segmentation.explained_variance_ratio,
        "n_operations": len(segmentation.operations),
        "device": segmentation.device,
        "seconds": dict(segmentation.timings),
        "parameters": segmentation.parameters,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on.

    Returns
    -------
    dict
    """
    names = ["gpuseg", "numpy", "scipy", "scikit-learn", "numba", "tifffile", "pillow"]
    names += [each for each in ("cupy", "cuml") if each in sys.modules]
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except (
            metadata.PackageNotFoundError
        ):  # run from a source tree, or a wheel under another name (cupy-cuda13x)
            found[name] = getattr(sys.modules.get(name), "__version__", "unknown")
    return found


def _publish(aside: Path, folder: Path) -> None:
    """Rename all results from `aside` into `folder`, or put back what was there."""
    names = [name for name in RESULT_FILES if (aside / name).exists()]
    old = aside / "old"
    old.mkdir()
    kept = existing_results(folder)
    for name in kept:
        shutil.copy2(folder / name, old / name)
    try:
        (folder / "summary.json").unlink(missing_ok=True)
        for name in names:
            os.replace(aside / name, folder / name)
    except BaseException:
        for name in names:
            if name in kept:
                os.replace(old / name, folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
        raise
