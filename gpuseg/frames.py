"""Series of frames from wherever they are: arrays, iterators, files, folders; one in memory at a time."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gpuseg import io
from gpuseg.arrays import is_dask
from gpuseg.checks import check_int
from gpuseg.cut_files import archive_members, blocks, cut_tiff, tiff_pages
from gpuseg.io import ReadError

__all__ = ["Frames", "open_frames", "read_mask"]

PICTURES = (
    *io.TIFF_TYPES,
    *io.PICTURE_TYPES,
    ".npy",
    ".sxm",
    ".dm3",
    ".dm4",
    ".emd",
    ".ser",
    ".mrc",
    ".hspy",
)


@dataclass(frozen=True, eq=False)
class Frames:
    """A series that can be walked through.

    Iterating gives one frame (H, W) after the other; a frame that cannot be read alone, such as one broken
    file of a folder, is given as the `ReadError` that tells why. Made by `open_frames`.

    Parameters
    ----------
    name : str
        Where the frames come from.
    walk : callable
        Gives a new iterator.
    length : int or None
        Number of frames, where it is known.
    once : bool
        Whether the frames can be walked through only once.
    pixel_size, unit : float and str, optional
        Length of a pixel.
    chunked : (T, H, W) dask array, optional
        The frames themselves, where they are one.
    """

    name: str
    walk: Callable[[], Iterator[Any]]
    length: int | None = None
    once: bool = False
    pixel_size: float | None = None
    unit: str | None = None
    chunked: Any = None

    def __iter__(self) -> Iterator[Any]:
        return self.walk()

    def binned(self, factor: int) -> Frames:
        """The frames averaged over squares of `factor` pixels; see `gpuseg.io.Image.binned`.

        Parameters
        ----------
        factor : int
            At least 1; 1 changes nothing.

        Returns
        -------
        Frames

        Raises
        ------
        TypeError, ValueError
        """
        if check_int(factor, "bin", 1) == 1:
            return self

        def walk() -> Iterator[Any]:
            for frame in self.walk():
                is_frame = not isinstance(frame, ReadError)
                yield io.Image(np.asarray(frame), None, None, "").binned(factor).data if is_frame else frame

        size = None if self.pixel_size is None else self.pixel_size * factor
        return replace(self, walk=walk, pixel_size=size, chunked=None)


def open_frames(source: Any, *, dataset: str | int | None = None) -> Frames:
    """Anything that holds a series of frames.

    Parameters
    ----------
    source : path, (T, H, W) array, list or iterator of (H, W) arrays, or Frames
        A path is a folder of images (in the order of their names, numbers as numbers), a TIFF stack, .npy,
        .npz, .zarr (where zarr is installed), or another file that `gpuseg.io.read_image` reads. An iterator
        is walked through once.
    dataset : str or int, optional
        Name or number of the stack in a file with several.

    Returns
    -------
    Frames

    Raises
    ------
    FileNotFoundError
    ReadError
        For a file or folder without a series.
    TypeError, ValueError
        For something else than the above.
    """
    if isinstance(source, Frames):
        return source
    if isinstance(source, str | os.PathLike):
        return _of_path(Path(source), dataset)
    if dataset is not None:
        raise ValueError(f"`dataset` is {dataset!r}, but `frames` is no file; None is needed")
    if hasattr(source, "shape"):
        return _of_array(source, "array", chunked=source if is_dask(source) else None)
    if isinstance(source, list | tuple):
        return Frames("list", lambda: iter(source), len(source))
    if isinstance(source, Iterator):
        return Frames("iterator", lambda: source, once=True)
    if isinstance(source, Iterable):
        return Frames(
            type(source).__name__,
            lambda: iter(source),
            len(source) if hasattr(source, "__len__") else None,  # type: ignore[arg-type]
        )
    raise TypeError(
        f"`frames` is {type(source).__name__}; "
        "an array (T, H, W), an iterator of frames, a file or a folder is needed"
    )


def read_mask(path: Path, bin_factor: int = 1) -> np.ndarray:
    """Which pixels may be used, from a picture for all frames or a stack with one for each.

    Parameters
    ----------
    path : path
        0 is masked.
    bin_factor : int
        As in `Frames.binned`; a pixel is used where all it is made of are.

    Returns
    -------
    (H, W) or (T, H, W) bool array

    Raises
    ------
    FileNotFoundError, ReadError, ValueError
    """

    def used(data: Any) -> np.ndarray:
        if isinstance(data, ReadError):
            raise data
        return io.Image(np.asarray(data) != 0, None, None, "").binned(bin_factor).data == 1

    try:
        frames = open_frames(path)
    except ReadError:  # no stack; what is wrong with it if it is no picture either is told below
        return used(io.read_image(path).data)
    return np.stack([used(frame) for frame in frames])


def _of_array(array: Any, name: str, **known: Any) -> Frames:
    shape = tuple(array.shape)
    if len(shape) != 3:
        hint = "; for one frame use gpuseg.segment" if len(shape) == 2 else ""
        raise ValueError(f"`frames` has shape {shape}; (T, H, W) is needed{hint}")
    return Frames(name, lambda: (array[k] for k in range(shape[0])), shape[0], **known)


def _of_path(path: Path, dataset: str | int | None) -> Frames:
    suffix = path.suffix.lower()
    if suffix == ".zarr":
        return _of_zarr(path, dataset)
    if path.is_dir() and suffix != ".zspy":
        return _of_folder(path)
    io.check_file(path)
    if suffix in io.TIFF_TYPES:
        return _of_tiff(path, dataset)
    if suffix in (".npy", ".npz"):
        return _of_numpy(path, dataset)
    length, load, pixel_size, unit = io.open_stack(path, dataset)
    return Frames(str(path), lambda: map(load, range(length)), length, pixel_size=pixel_size, unit=unit)


def _of_folder(folder: Path) -> Frames:
    files = sorted((each for each in folder.iterdir() if each.suffix.lower() in PICTURES), key=_natural)
    if not files:
        raise ReadError(f"'{folder}' holds no image; a folder with one image file per frame is wanted")

    def load(file: Path) -> Any:
        try:
            return io.read_image(file).data
        except (ReadError, OSError) as error:  # the other files may be whole
            return error if isinstance(error, ReadError) else ReadError(str(error))

    first = next((each for each in map(_calibrated, files) if each is not None), None)
    known = {"pixel_size": first.pixel_size, "unit": first.unit} if first else {}
    return Frames(str(folder), lambda: map(load, files), len(files), **known)  # type: ignore[arg-type]


def _calibrated(file: Path) -> io.Image | None:
    try:
        return io.read_image(file)
    except (ReadError, OSError):
        return None


def _natural(file: Path) -> list[tuple[int, str]]:
    """Names in the order of their numbers: frame_2 before frame_10."""
    parts = re.split(r"(\d+)", file.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _of_tiff(path: Path, dataset: str | int | None) -> Frames:
    cut = cut_tiff(path)
    if cut is not None:
        return Frames(str(path), *cut)
    pages = _alike_pages(path) if dataset is None else 0
    if pages:
        return Frames(str(path), lambda: tiff_pages(path), pages)
    length, load, pixel_size, unit = io.open_stack(path, dataset)

    def walk() -> Iterator[Any]:
        import tifffile

        with tifffile.TiffFile(path) as tif:
            series = next((each for each in tif.series if math.prod(each.shape[:-2]) == length), None)
            offset = None if series is None else series.dataoffset
            if series is None or series.ndim != 3 or len(series.pages) != length:
                yield from map(load, range(length))
                return
            if offset is None or series.keyframe.photometric != 1:
                for page in series.pages:
                    with io.broken_files_are_read_errors(path):
                        frame = io.grey(path, io.tiff_page(path, page))
                    yield frame
                return
            # one block of pixels: each frame is read from its place, without a look at its page
            number = np.dtype(tif.byteorder + series.dtype.char)
            with path.open("rb") as file:
                file.seek(offset)
                yield from blocks(file, length, series.shape[1:], number, path)

    return Frames(str(path), walk, length, pixel_size=pixel_size, unit=unit)


def _alike_pages(path: Path) -> int:
    """Number of pictures in a file of several of the same kind, written one by one; 0 of other files."""
    import tifffile

    with io.broken_files_are_read_errors(path), tifffile.TiffFile(path) as tif:
        kinds = {(each.shape, each.dtype) for each in tif.series}
        pictures = len(tif.series) == len(tif.pages) > 1 and tif.series[0].ndim == 2
    return len(tif.pages) if pictures and len(kinds) == 1 else 0


def _of_numpy(path: Path, dataset: str | int | None) -> Frames:
    """.npy and .npz, frame by frame, compressed or not."""
    member = _chosen_member(path, dataset) if path.suffix.lower() == ".npz" else None
    with _numpy_stream(path, member) as file, io.broken_files_are_read_errors(path):
        shape, fortran, number = _numpy_header(file)
    if len(shape) != 3 or fortran or number.hasobject:
        length, load = io.open_stack(path, member if member else dataset)[:2]
        return Frames(str(path), lambda: map(load, range(length)), length)

    def walk() -> Iterator[Any]:
        with _numpy_stream(path, member) as file:
            _numpy_header(file)
            yield from blocks(file, shape[0], shape[1:], number, path)

    return Frames(str(path), walk, shape[0])


def _chosen_member(path: Path, dataset: str | int | None) -> str:
    """The name of the one stack in an .npz file, or of that which is wanted."""
    shapes = {}
    with io.broken_files_are_read_errors(path):
        for name, open_member in archive_members(path).items():
            with open_member() as file:
                shapes[name] = _numpy_header(file)[0]
    stacks = [name for name, shape in shapes.items() if len(shape) == 3]
    if dataset is None and len(stacks) == 1:
        return stacks[0]
    if str(dataset) in stacks:
        return str(dataset)
    if str(dataset).isdecimal() and int(str(dataset)) < len(stacks):
        return stacks[int(str(dataset))]
    listed = "; ".join(f"{k} = '{name}' {shapes[name]}" for k, name in enumerate(stacks)) or "none"
    given = "" if dataset is None else f" and `dataset` is {dataset!r}"
    raise ReadError(f"'{path}' holds {len(stacks)} stacks{given}; choose one with `dataset`: {listed}")


def _numpy_stream(path: Path, member: str | None) -> Any:
    return path.open("rb") if member is None else archive_members(path)[member]()


def _numpy_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _of_zarr(path: Path, dataset: str | int | None) -> Frames:
    if not path.exists():
        raise FileNotFoundError(f"'{path}' does not exist; a .zarr folder is wanted")
    try:
        import zarr
    except ImportError as error:
        raise ReadError(f"'{path}' needs the package zarr; `pip install zarr`") from error
    with io.broken_files_are_read_errors(path):
        found = zarr.open(str(path), mode="r")
        arrays = {"": found} if hasattr(found, "shape") else dict(found.arrays())
    stacks = {name: array for name, array in arrays.items() if len(array.shape) == 3}
    if dataset is not None:
        stacks = {name: array for name, array in stacks.items() if name == str(dataset)}
    if len(stacks) != 1:
        listed = ", ".join(f"'{name}' {array.shape}" for name, array in arrays.items()) or "nothing"
        raise ReadError(f"'{path}' holds {listed}; one array (T, H, W) is wanted, choose with `dataset`")
    return _of_array(next(iter(stacks.values())), str(path))
