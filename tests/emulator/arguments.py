"""The arguments of a launch, checked against the kernel's parameters and laid out as CUDA takes them.

The compiler describes each parameter by a code: a kind and a size in bytes as in NumPy (``f4``, ``i8``,
``u1``, ``b1``; ``V8`` for a structure of 8 bytes), with ``*`` before it for a pointer and ``*c`` for one to
const.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np


def pack(kernel: str, parameters: Sequence[str], arguments: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The array of pointers that a launch takes, and what must live as long as it.

    Parameters
    ----------
    kernel : str
        The kernel's name, for the errors.
    parameters : sequence of str
        The codes of its parameters.
    arguments : sequence
        NumPy arrays travel as pointers, NumPy scalars by their type, a Python int as 64-bit integer, a float
        as double: what ``cupy.RawKernel`` does with CuPy arrays.

    Returns
    -------
    pointers : ctypes array of c_void_p
    alive : list

    Raises
    ------
    TypeError
        If there are too many or too few arguments, or one does not have its parameter's type. CUDA checks
        neither and reads whatever bytes it finds.
    ValueError
        If an array is not C-contiguous, has a foreign byte order, or is read-only and the kernel may write.
    """
    if len(arguments) != len(parameters):
        raise TypeError(
            f"kernel {kernel} has {len(parameters)} parameters, {len(arguments)} arguments were given"
        )
    pointers = (ctypes.c_void_p * len(arguments))()
    alive = []
    for position, (code, argument) in enumerate(zip(parameters, arguments, strict=True)):
        where = f"argument {position} of kernel {kernel}"
        if isinstance(argument, np.ndarray):
            cell: Any = _array_cell(where, code, argument)
        else:
            cell = _scalar_cell(where, code, argument)
        alive.append(cell)
        pointers[position] = ctypes.addressof(cell)
    return pointers, alive


def _array_cell(where: str, code: str, array: np.ndarray) -> ctypes.c_void_p:
    if not code.startswith("*"):
        raise TypeError(f"{where} is an array, the kernel wants {_words(code)}")
    if not array.flags.c_contiguous:
        raise ValueError(
            f"{where} is not C-contiguous (strides {array.strides}); pass ascontiguousarray of it"
        )
    if not array.dtype.isnative:
        raise ValueError(f"{where} has the byte order {array.dtype.str!r}; pass it in the machine's own")
    constant = code.startswith("*c")
    if not (constant or array.flags.writeable):
        raise ValueError(f"{where} is read-only, but the kernel's parameter is not a pointer to const")
    pointed = code.removeprefix("*").removeprefix("c")
    if not _may_point_to(pointed, array.dtype):
        raise TypeError(
            f"{where} is an array of {array.dtype}, the kernel wants a pointer to {_words(pointed)}"
        )
    return ctypes.c_void_p(array.ctypes.data)


def _may_point_to(pointed: str, dtype: np.dtype) -> bool:
    kind, size = pointed[0], int(pointed[1:])
    if kind == "V":  # a structure such as float2: an array of complex64, or of float32 with an axis of 2
        return dtype.itemsize % size == 0 or size % dtype.itemsize == 0
    if pointed == "u1" and dtype.kind == "b":  # CUDA code takes masks as unsigned char
        return True
    return dtype.kind == kind and dtype.itemsize == size


def _scalar_cell(where: str, code: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, np.generic | int | float):
        raise TypeError(
            f"{where} is a {type(value).__name__}; an array, a NumPy scalar, an int or a float is needed"
        )
    wide = np.int64 if isinstance(value, int) else np.float64
    scalar = value if isinstance(value, np.generic) else wide(value)
    given = f"{scalar.dtype.kind}{scalar.dtype.itemsize}"
    if given != code and not (code[0] == "V" and code[1:] == given[1:]):
        hint = "" if isinstance(value, np.generic) else f"; a Python {type(value).__name__} travels as 64 bit"
        raise TypeError(f"{where} is {value!r} ({_words(given)}{hint}), the kernel wants {_words(code)}")
    return ctypes.create_string_buffer(scalar.tobytes(), scalar.dtype.itemsize)


def _words(code: str) -> str:
    if code.startswith("*"):
        return f"a pointer to {_words(code.removeprefix('*').removeprefix('c'))}"
    if code[0] == "V":
        return f"a structure of {code[1:]} bytes"
    return str(np.dtype(code.replace("b1", "?")))
