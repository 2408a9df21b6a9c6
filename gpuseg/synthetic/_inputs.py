"""What the makers of images share: checks of their arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

RandomState = int | np.random.Generator | None


def check_number(
    name: str,
    value: float,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    most: float = math.inf,
) -> float:
    """A finite number in its range, or an error that says which was wanted."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"`{name}` is {value!r} ({type(value).__name__}); a number is needed")
    if not (math.isfinite(value) and value > above and least <= value <= most):
        wanted = ["a finite number"]
        wanted += [f"above {above:g}"] if above > -math.inf else []
        wanted += [f"of at least {least:g}"] if least > -math.inf else []
        wanted += [f"of at most {most:g}"] if most < math.inf else []
        raise ValueError(f"`{name}` is {value!r}; {' '.join(wanted)} is needed")
    return float(value)


def check_integer(name: str, value: int, *, least: int) -> int:
    """A whole number of at least so much."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"`{name}` is {value!r} ({type(value).__name__}); an integer is needed")
    if value < least:
        raise ValueError(f"`{name}` is {value}; at least {least} is needed")
    return int(value)


def check_pair(name: str, value: Sequence[float]) -> tuple[float, float]:
    """Two finite numbers."""
    if np.shape(value) != (2,):
        raise ValueError(f"`{name}` is {value!r}; two numbers are needed")
    return check_number(name, value[0]), check_number(name, value[1])


def check_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """(rows, columns), each at least 1."""
    if np.ndim(shape) != 1 or len(shape) != 2:
        raise ValueError(f"`shape` is {shape!r}; (rows, columns) is needed, e.g. (512, 512)")
    return check_integer("shape", shape[0], least=1), check_integer("shape", shape[1], least=1)


def check_labels(labels: ArrayLike, n_phases: int) -> NDArray[np.int32]:
    """A label of a phase for each pixel, as int32."""
    grains = np.asarray(labels)
    if grains.ndim != 2 or not grains.size:
        raise ValueError(f"`labels` has shape {grains.shape}; a label for each pixel, (H, W), is needed")
    if grains.dtype.kind not in "iu":
        raise TypeError(f"`labels` is {grains.dtype}; integers are needed, 0 for the first phase")
    if grains.min() < 0 or grains.max() >= n_phases:
        raise ValueError(
            f"`labels` run from {grains.min()} to {grains.max()} but there are {n_phases} phases; "
            f"labels from 0 to {n_phases - 1} are needed, or more phases"
        )
    return grains.astype(np.int32)


def check_picture(image: ArrayLike) -> NDArray[np.float64]:
    """Finite real numbers (H, W), as float64."""
    picture = np.asarray(image)
    if picture.ndim != 2 or not picture.size:
        raise ValueError(f"`image` has shape {picture.shape}; (H, W) is needed")
    if picture.dtype.kind not in "biuf":
        raise TypeError(f"`image` is {picture.dtype}; real numbers are needed")
    if not np.isfinite(picture).all():
        raise ValueError("`image` holds NaN or infinite pixels; finite numbers are needed")
    return picture.astype(np.float64)
