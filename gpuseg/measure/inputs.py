"""What the measuring functions take: labels of any kind, lengths in any unit."""

from __future__ import annotations

import math
import numbers
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from gpuseg.arrays import home_of, ingest, namespace, to_numpy
from gpuseg.checks import check_int

__all__ = ["Scale", "check_labels", "check_scale", "labels_of", "measuring_module", "stride_of"]

ASCII_UNITS = {"µm": "um", "μm": "um", "Å": "angstrom"}


def labels_of(segmentation: Any) -> Any:
    """The labels of every pixel of the image.

    Parameters
    ----------
    segmentation : Segmentation, FrameSegmentation, or (H, W) array_like of int
        Anything with `labels` will do. Labels of the grid points are given to the pixels.

    Returns
    -------
    (H, W) array of int, NumPy or CuPy

    Raises
    ------
    TypeError, ValueError
    """
    labels = check_labels(getattr(segmentation, "labels", segmentation))
    grid = getattr(segmentation, "grid", None)
    if grid is not None and tuple(labels.shape) == grid.shape != grid.image_shape:
        return grid.upsample(labels)
    return labels


def check_labels(labels: Any, name: str = "labels") -> Any:
    """Labels of an image.

    Parameters
    ----------
    labels : (H, W) array_like of int
        0, 1, ... = patterns, -1 = masked.
    name : str
        For the error.

    Returns
    -------
    (H, W) array of int, NumPy or CuPy

    Raises
    ------
    TypeError, ValueError
    """
    array = ingest(labels)
    wanted = "a Segmentation or (H, W) integers, 0, 1, ... = patterns, -1 = masked, is needed"
    if array.dtype.kind not in "iu":
        raise TypeError(f"`{name}` is {type(labels).__name__} of {array.dtype}; {wanted}")
    if array.ndim != 2 or not array.size:
        hint = "; gpuseg.measure.series takes a series" if array.ndim == 3 else ""
        raise ValueError(f"`{name}` has shape {tuple(array.shape)}; {wanted}{hint}")
    lowest, highest = int(array.min()), int(array.max())
    if lowest < -1 or highest > np.iinfo(np.uint16).max:
        raise ValueError(f"`{name}` runs from {lowest} to {highest}; {wanted}")
    return namespace(array).astype(array, np.int32)


def stride_of(segmentation: Any, stride: int | None) -> int:
    """Distance in pixels of the points at which the labels were found.

    Parameters
    ----------
    segmentation : Segmentation or labels
    stride : int or None
        As it was given; None is that of the segmentation, 1 where there is none.

    Returns
    -------
    int

    Raises
    ------
    TypeError, ValueError
    """
    if stride is not None:
        return check_int(stride, "stride", 1)
    grid = getattr(segmentation, "grid", None)
    return 1 if grid is None else int(grid.stride)


def measuring_module(array: Any) -> ModuleType | None:
    """The `measure` module of scikit-image, or of cuCIM for an array on a GPU where cuCIM is installed.

    Parameters
    ----------
    array : array

    Returns
    -------
    module or None
        None where the array is on a GPU without cuCIM: the caller moves it to the host and asks again.

    Raises
    ------
    ImportError
        If scikit-image is needed and not installed.
    """
    if home_of(array).kind == "cuda":
        try:
            from cucim.skimage import measure
        except ImportError:
            return None
        return measure
    try:
        from skimage import measure
    except ImportError as error:
        raise ImportError("measuring regions needs scikit-image: `pip install 'gpuseg[measure]'`") from error
    return measure


def where_measured(array: Any) -> tuple[Any, ModuleType]:
    """An array where it can be measured, and the module that does it.

    Parameters
    ----------
    array : array

    Returns
    -------
    array : array
        Moved to the host only from a GPU without cuCIM.
    module
    """
    module = measuring_module(array)
    if module is None:
        array = to_numpy(array)
        module = measuring_module(array)
    assert module is not None  # on the host it is there or has raised
    return array, module


@dataclass(frozen=True)
class Scale:
    """How long a pixel is: makes columns in pixels and in the unit.

    Parameters
    ----------
    pixel_size : float or None
    unit : str
        As it stands in names of columns.
    """

    pixel_size: float | None
    unit: str

    def columns(self, name: str, pixels: np.ndarray, power: int = 1) -> dict[str, np.ndarray]:
        """A quantity in pixels and, where the pixel size is known, in the unit.

        Parameters
        ----------
        name : str
        pixels : (n,) array
        power : int
            1 for lengths, 2 for areas.

        Returns
        -------
        dict of str to (n,) array
        """
        found = {f"{name}_px": pixels}
        if self.pixel_size is not None:
            found[f"{name}_{self.unit}{power if power > 1 else ''}"] = pixels * self.pixel_size**power
        return found


def check_scale(pixel_size: Any, unit: Any) -> Scale:
    """A pixel size and its unit.

    Parameters
    ----------
    pixel_size : float or None
    unit : str or None
        "nm" if only the size is given.

    Returns
    -------
    Scale

    Raises
    ------
    TypeError, ValueError
    """
    if pixel_size is None:
        if unit is not None:
            raise ValueError(f"`unit` is {unit!r}, but `pixel_size` is not given; both are needed, or none")
        return Scale(None, "px")
    size = check_positive(pixel_size, "pixel_size")
    unit = "nm" if unit is None else unit
    if not isinstance(unit, str):
        raise TypeError(f"`unit` is {unit!r}; a name such as 'nm' is needed")
    plain = ASCII_UNITS.get(unit.strip(), unit.strip())
    if not re.fullmatch(r"[^\W\d]\w*", plain):
        raise ValueError(f"`unit` is {unit!r}; a name such as 'nm', 'um' or 'angstrom' is needed")
    return Scale(size, plain)


def check_positive(value: Any, name: str) -> float:
    """A positive finite number.

    Parameters
    ----------
    value : object
    name : str

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` is {value!r}; a positive number is needed")
    if not 0 < float(value) < math.inf:
        raise ValueError(f"`{name}` is {value!r}; a positive number is needed")
    return float(value)
