"""Checks of arguments: each says the name, what came, what was wanted."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from gpuseg.arrays import ingest, namespace

__all__ = [
    "AUTO",
    "check_choice",
    "check_flag",
    "check_image",
    "check_int",
    "check_int_or_auto",
    "check_mask",
    "check_memory",
    "check_radius",
]

AUTO = "auto"
"""The word for what gpuseg is to choose itself."""

UNITS = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


def check_int(value: Any, name: str, minimum: int, maximum: int | None = None) -> int:
    """A whole number in a range.

    Parameters
    ----------
    value : object
    name : str
        Name of the argument, for the error.
    minimum : int
    maximum : int, optional

    Returns
    -------
    int

    Raises
    ------
    TypeError, ValueError
    """
    wanted = f"a whole number of at least {minimum}" + ("" if maximum is None else f" and at most {maximum}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` is {value!r}; {wanted} is needed") from None
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` is {value!r}; {wanted} is needed")
    if number < minimum or (maximum is not None and number > maximum):
        raise ValueError(f"`{name}` is {number}; {wanted} is needed")
    return number


def check_int_or_auto(value: Any, name: str, minimum: int) -> Any:
    """A whole number of at least `minimum`, or the word "auto".

    Parameters
    ----------
    value : object
    name : str
        Name of the argument, for the error.
    minimum : int

    Returns
    -------
    int or "auto"

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(value, str):
        return check_int(value, name, minimum)
    if value != AUTO:
        raise TypeError(f"`{name}` is {value!r}; a whole number of at least {minimum} or 'auto' is needed")
    return AUTO


def check_radius(value: Any, name: str) -> tuple[int, int]:
    """A half size in pixels, one for both axes or (rows, columns).

    Parameters
    ----------
    value : int or (int, int)
    name : str

    Returns
    -------
    (rows, cols) of int, each at least 0

    Raises
    ------
    TypeError, ValueError
    """
    if isinstance(value, str):
        hint = ", or 'auto' in gpuseg.segment; gpuseg.suggest(image) tells what that is"
        raise TypeError(f"`{name}` is {value!r}; a whole number of pixels is needed{hint}")
    pair = value if isinstance(value, tuple | list | np.ndarray) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"`{name}` is {value!r}; one number of pixels or a pair (rows, columns) is needed")
    return check_int(pair[0], name, 0), check_int(pair[1], name, 0)


def check_memory(value: Any) -> int:
    """A number of bytes.

    Parameters
    ----------
    value : int or str
        Such as 10**8, "100000000", "100MB" or "2GB".

    Returns
    -------
    int

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(value, str):
        return check_int(value, "max_memory", 1)
    text = value.strip().upper()
    try:
        size = float(text) if text.isdecimal() else float(text[:-2]) * UNITS[text[-2:]]
    except (KeyError, ValueError):
        size = math.nan
    if not 1 <= size < math.inf:
        raise ValueError(f"`max_memory` is {value!r}; bytes or a text such as '128MB' or '2GB' is needed")
    return int(size)


def check_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    """One of a few names.

    Parameters
    ----------
    value : object
    name : str
    choices : tuple of str

    Returns
    -------
    str

    Raises
    ------
    ValueError
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` is {value!r}; one of {', '.join(map(repr, choices))} is needed")
    return value


def check_flag(value: Any, name: str) -> bool:
    """Yes or no.

    Parameters
    ----------
    value : object
    name : str

    Returns
    -------
    bool

    Raises
    ------
    TypeError
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` is {value!r}; True or False is needed")
    return bool(value)


def check_image(image: Any) -> Any:
    """One picture with something in it, as a NumPy or CuPy array.

    Parameters
    ----------
    image : (H, W) array_like of real numbers
        Any integer, floating or boolean type, byte order and memory layout.

    Returns
    -------
    (H, W) numpy.ndarray or cupy.ndarray

    Raises
    ------
    TypeError
        If it holds anything but real numbers.
    ValueError
        If it is not two-dimensional or has no pixel.
    """
    array = ingest(image)
    if array.dtype.kind not in "biuf":
        hint = "; take its modulus, np.abs(image), or its phase" if array.dtype.kind == "c" else ""
        raise TypeError(f"`image` has dtype {array.dtype}; real numbers are needed{hint}")
    if array.ndim != 2:
        hint = ""
        if array.ndim == 3:
            hint = (
                "; for a series segment one frame, image[0], for a colour picture one channel, image[..., 0]"
            )
        raise ValueError(f"`image` has shape {array.shape}; two axes (rows, columns) are needed{hint}")
    if array.size == 0:
        raise ValueError(f"`image` has shape {array.shape}, which holds no pixel")
    return array


def check_mask(mask: Any, shape: tuple[int, int]) -> Any:
    """A mask of an image: True (or not 0) where a pixel may be used.

    Parameters
    ----------
    mask : (H, W) array_like of bool or numbers, optional
    shape : (H, W) of int
        Shape of the image.

    Returns
    -------
    (H, W) bool array or None

    Raises
    ------
    TypeError, ValueError
    """
    if mask is None:
        return None
    array = ingest(mask)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"`mask` has dtype {array.dtype}; bool is needed, True where a pixel is used")
    if tuple(array.shape) != tuple(shape):
        raise ValueError(f"`mask` has shape {tuple(array.shape)}; that of `image`, {tuple(shape)}, is needed")
    xp = namespace(array)
    used = array if array.dtype.kind == "b" else array != 0
    if not bool(xp.any(used)):
        raise ValueError("`mask` is False everywhere; it is True where a pixel is to be used")
    return used
