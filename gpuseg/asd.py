"""High-speed AFM movies (.asd): a header, then the frames of one or two channels, little-endian throughout.

Versions 1 and 2 of the format begin alike. Every frame is a header of its own and a row-major plane of signed
16-bit converter levels; the frames of the second channel follow those of the first. The old version 0 is
refused: its public descriptions contradict each other.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["Channel", "read_channels"]

_TOPOGRAPHY = "topography"
_KINDS = {0x5054: _TOPOGRAPHY, 0x5245: "error", 0x4850: "phase"}  # the letters TP, ER, PH

_BEGINNING = struct.Struct("<16i")  # of the header; what it says of the instrument is passed over

_LARGEST_SIDE = 2**16  # pixels; a header that says more is none


@dataclass(frozen=True)
class Channel:
    """One channel of a movie.

    Parameters
    ----------
    name : str
        "topography", "error" or "phase".
    shape : (T, H, W)
        As the header promises; the file may end before.
    pixel : (row, column) of float
        Size of a pixel in nm.
    load : callable
        Frame number -> (H, W) float32 array in converter levels, of a topography so that high is positive.
        Raises EOFError where the file ends before the end of the frame.
    """

    name: str
    shape: tuple[int, int, int]
    pixel: tuple[float, float]
    load: Callable[[int], np.ndarray]


def read_channels(path: Path) -> list[Channel]:
    """The channels of an .asd file; no frame is read before it is asked for.

    Parameters
    ----------
    path : path

    Returns
    -------
    list of Channel
        One or two.

    Raises
    ------
    ValueError
        If the header is no such header.
    """
    header = _read_header(path)
    kinds = [kind for kind in header.kinds if kind]
    if not kinds or not all(kind in _KINDS for kind in kinds):
        raise ValueError(f"its channels are of the kinds {kinds}; one or two of {list(_KINDS)} are wanted")
    length, height, width = header.shape
    if not (0 < height <= _LARGEST_SIDE and 0 < width <= _LARGEST_SIDE and length > 0):
        raise ValueError(f"its header tells of {length} frames of {height} x {width} pixels")
    if header.size < _BEGINNING.size or header.frame_header_size < 0:
        raise ValueError(f"its header says that it has {header.size} bytes")
    pixel = (header.ranges[0] / height, header.ranges[1] / width)
    return [
        Channel(_KINDS[kind], header.shape, pixel, functools.partial(_load, path, header, n, _KINDS[kind]))
        for n, kind in enumerate(kinds)
    ]


class _Header(NamedTuple):
    kinds: tuple[int, int]
    size: int
    frame_header_size: int
    shape: tuple[int, int, int]
    ranges: tuple[int, int]  # rows, columns; nm


def _read_header(path: Path) -> _Header:
    with path.open("rb") as file:
        head = file.read(_BEGINNING.size)
    if len(head) < _BEGINNING.size:
        raise ValueError(f"it ends after {len(head)} bytes, within the header")
    f = _BEGINNING.unpack(head)
    if f[0] not in (1, 2):
        raise ValueError(f"its version, the first number, is {f[0]}; 1 or 2 is wanted: export it as TIFF")
    return _Header((f[6], f[7]), f[1], f[2], (f[9], f[13], f[12]), (f[15], f[14]))


def _load(path: Path, header: _Header, channel: int, name: str, k: int) -> np.ndarray:
    length, height, width = header.shape
    size = height * width * 2
    with path.open("rb") as file:
        file.seek(header.size + (channel * length + k) * (header.frame_header_size + size))
        content = file.read(header.frame_header_size + size)[header.frame_header_size :]
    if len(content) < size:
        raise EOFError(f"it ends within frame {k} of {length} of its {name}")
    levels = np.frombuffer(content, "<i2").reshape(height, width).astype(np.float32)
    # the converter's level falls as the surface rises
    return -levels if name == _TOPOGRAPHY else levels
