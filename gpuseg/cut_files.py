"""Files that end in the middle: what lies before the cut can still be read."""

from __future__ import annotations

import functools
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gpuseg import io
from gpuseg.io import ReadError

__all__ = ["archive_members", "blocks", "cut_tiff", "tiff_pages"]

Walk = Callable[[], Iterator[Any]]


def blocks(file: Any, length: int, shape: tuple[int, ...], number: np.dtype, path: Path) -> Iterator[Any]:
    """Frames that lie one after the other in an open file.

    Parameters
    ----------
    file : file
        At the first of them.
    length : int
        How many there should be.
    shape : (H, W)
    number : numpy.dtype
    path : path
        For the message.

    Yields
    ------
    (H, W) array

    Raises
    ------
    ReadError
        Where the file ends within a frame.
    """
    size = math.prod(shape) * number.itemsize
    for k in range(length):
        block = file.read(size)
        if len(block) < size:
            raise ReadError(f"'{path}' ends within frame {k} of {length}; copy or export it again")
        yield np.frombuffer(block, number).reshape(shape)


# --- TIFF ---------------------------------------------------------------------------------------------------


def cut_tiff(path: Path) -> tuple[Walk, int] | None:
    """The frames of a TIFF stack that ends before the last that it promises, if it is such a file.

    In a stack that ImageJ or tifffile wrote, all pixels lie in one block behind the first page; the other
    pages stand at the end and are lost with it. In others every page names the next.

    Parameters
    ----------
    path : path

    Returns
    -------
    walk : callable
        Gives an iterator, which raises `ReadError` at the cut.
    length : int
        Number of frames promised.
    None
        If the file is whole.
    """
    import tifffile

    with io.broken_files_are_read_errors(path), tifffile.TiffFile(path) as tif:
        page, listed = tif.pages[0], len(tif.pages)
        promised, following = _promised(tif), _place_after_the_last_page(tif)
        begin, number, shape = page.dataoffsets[0], np.dtype(tif.byteorder + page.dtype.char), page.shape
        in_a_block = listed == 1 and page.compression == 1 and page.photometric == 1
    size = math.prod(shape) * number.itemsize
    if in_a_block:  # what lies between the first page and the next are frames
        promised = max(promised, (following - begin) // size)
    if len(shape) != 2 or (promised <= listed and not following):
        return None
    if in_a_block and not following and path.stat().st_size >= begin + promised * size:
        return None  # one page stands for all

    def walk() -> Iterator[Any]:
        if in_a_block and promised > 1:
            with path.open("rb") as file:
                file.seek(begin)
                yield from blocks(file, promised, shape, number, path)
            return
        yield from tiff_pages(path)
        of = f" of {promised}" if promised > listed else ""
        raise ReadError(f"'{path}' ends before frame {listed}{of}; copy or export it again")

    return walk, max(promised, listed)


def tiff_pages(path: Path) -> Iterator[Any]:
    """The pages of a TIFF file, one after the other.

    Parameters
    ----------
    path : path

    Yields
    ------
    (H, W) array
    """
    import tifffile

    with tifffile.TiffFile(path) as tif:
        for page in tif.pages:
            with io.broken_files_are_read_errors(path):
                frame = io.grey(path, io.tiff_page(path, page))
            yield frame


def _promised(tif: Any) -> int:
    """Number of frames that the first page tells of, in the words of tifffile, ImageJ or OME; 1 if none."""
    shaped: Any = tif.shaped_metadata[0].get("shape", ()) if tif.shaped_metadata else ()
    if len(shaped) == 3:
        return int(shaped[0])
    if tif.is_ome:
        from xml.etree import ElementTree

        pixels = next(ElementTree.fromstring(tif.ome_metadata).iterfind(".//{*}Pixels"), None)
        elsewhere = "FileName=" in tif.ome_metadata  # the frames are spread over several files
        if pixels is not None and not elsewhere:
            return math.prod(int(pixels.get(f"Size{axis}", "1")) for axis in "ZCT")
    return int((tif.imagej_metadata or {}).get("images", 1))


def _place_after_the_last_page(tif: Any) -> int:
    """Where the last page that can be found says that the next one is; 0 if it says that there is none."""
    layout, file = tif.tiff, tif.filehandle
    order: Any = "little" if tif.byteorder == "<" else "big"
    place = tif.pages[-1].offset
    file.seek(place)
    tags = int.from_bytes(file.read(layout.tagnosize), order)
    file.seek(place + layout.tagnosize + tags * layout.tagsize)
    following = file.read(layout.offsetsize)
    # a page that is cut before it says so goes on, too
    return int.from_bytes(following, order) if len(following) == layout.offsetsize else file.size


# --- .npz ---------------------------------------------------------------------------------------------------

_LOCAL = struct.Struct("<4s5H3I2H")  # what stands before every member of an archive
_IN_THE_EXTRA = 2**32 - 1


def archive_members(path: Path) -> dict[str, Callable[[], Any]]:
    """The members of an .npz file: the table of contents is its end, and without it they are searched for.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict of str to callable
        Name without .npy -> function that opens it for reading from its beginning.

    Raises
    ------
    zipfile.BadZipFile
        If it is no such file at all.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        found = dict(_search(path))
        if not found:
            raise
        return found

    def opener(name: str) -> Callable[[], Any]:
        def open_member() -> Any:
            with zipfile.ZipFile(path) as archive:
                return archive.open(name)

        return open_member

    return {name.removesuffix(".npy"): opener(name) for name in names}


def _search(path: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Members of an archive from its beginning, the last of which may be cut."""
    with path.open("rb") as file:
        while len(head := file.read(_LOCAL.size)) == _LOCAL.size and head[:4] == b"PK\3\4":
            *_, method, _, _, _, size, _, name_size, extra_size = _LOCAL.unpack(head)
            name, extra = file.read(name_size).decode("utf-8", "replace"), file.read(extra_size)
            if size == _IN_THE_EXTRA and len(extra) >= 20:
                (size,) = struct.unpack_from("<Q", extra, 12)
            begin = file.tell()
            if method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                yield name.removesuffix(".npy"), functools.partial(_Member, path, begin, method)
            if not size:  # not known before the end of the member, which was not reached
                return
            file.seek(begin + size)


class _Member:
    """A member of an archive without a table of contents, as far as it goes."""

    def __init__(self, path: Path, begin: int, method: int) -> None:
        self._file = path.open("rb")
        self._file.seek(begin)
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS) if method == zipfile.ZIP_DEFLATED else None
        self._rest = b""

    def read(self, size: int) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while have < size and (part := self._file.read(2**20)):
            parts.append(part if self._inflate is None else self._inflate.decompress(part))
            have += len(parts[-1])
        content = b"".join(parts)
        self._rest = content[size:]
        return content[:size]

    def __enter__(self) -> _Member:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
