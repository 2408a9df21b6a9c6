"""Another channel of the same scan, summed or averaged over patterns or regions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpuseg.arrays import ingest, to_numpy
from gpuseg.checks import check_choice, check_memory
from gpuseg.measure.geometry import label_regions
from gpuseg.measure.inputs import labels_of

__all__ = ["accumulate"]


def accumulate(
    segmentation: Any,
    data: Any,
    how: str = "sum",
    by: str = "pattern",
    *,
    connectivity: int = 1,
    min_size: int = 1,
    max_memory: int | str = "128MB",
) -> np.ndarray:
    """Sum or mean of another channel over every pattern or region.

    Parameters
    ----------
    segmentation : Segmentation or (H, W) array_like of int
        0, 1, ... = patterns, -1 = masked: counts nowhere.
    data : (H, W, ...) array
        One number, spectrum, diffraction pattern or whatever per pixel, real or complex. Anything with a
        `shape` that can be cut by rows and columns is read part by part: NumPy arrays and memory maps, h5py,
        zarr and dask arrays, CuPy arrays.
    how : {"sum", "mean"}
    by : {"pattern", "region"}
        Regions are those of `label_regions`.
    connectivity, min_size
        As in `label_regions`; only for regions.
    max_memory : int or str
        Bytes, such as 10**8 or "128MB", that a part of `data` and its copies may take; at least one pixel is
        read.

    Returns
    -------
    (n, ...) float64 or complex128 array, on the host
        Of pattern k in row k; of region i in row i - 1. An empty pattern has the sum 0 and the mean NaN. NaN
        in `data` stays NaN in its pattern.

    Raises
    ------
    TypeError, ValueError
        For labels, data or a parameter that make no sense.
    ImportError
        For regions without scikit-image (``pip install 'gpuseg[measure]'``).

    Examples
    --------
    >>> import numpy as np
    >>> accumulate(np.array([[0, 0], [1, -1]]), np.array([[1, 2], [3, 4]]), "mean").tolist()
    [1.5, 3.0]
    """
    how, by = check_choice(how, "how", ("sum", "mean")), check_choice(by, "by", ("pattern", "region"))
    budget = check_memory(max_memory)
    labels = to_numpy(labels_of(segmentation))
    data = _check_data(data, labels.shape)
    n = max(int(getattr(segmentation, "n_patterns", 0)), int(labels.max()) + 1)
    if by == "region":
        labels = to_numpy(label_regions(labels, connectivity=connectivity, min_size=min_size)) - 1
        n = int(labels.max()) + 1
    sums = np.zeros((n, *data.shape[2:]), np.complex128 if data.dtype.kind == "c" else np.float64)
    # what is read, its pixels in the order of their labels, and those as the sums' type
    pixel = max(1, math.prod(data.shape[2:]) * (2 * data.dtype.itemsize + sums.itemsize))
    for part in _parts(labels.shape, pixel, budget):
        _add(sums, labels[part], to_numpy(data[part]))
    if how == "sum":
        return sums
    counts = np.bincount(labels[labels >= 0], minlength=n).reshape(-1, *[1] * (sums.ndim - 1))
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def _check_data(data: Any, shape: tuple[int, ...]) -> Any:
    lazy = hasattr(data, "shape") and hasattr(data, "dtype") and not hasattr(data, "__dlpack_device__")
    data = data if lazy else ingest(data)  # what is in memory; torch has dtypes of its own
    if np.dtype(data.dtype).kind not in "biufc":
        raise TypeError(f"`data` has dtype {data.dtype}; numbers are needed")
    if tuple(data.shape[:2]) != shape:
        raise ValueError(f"`data` has shape {tuple(data.shape)}; {shape} as the labels, then any, is needed")
    return data


def _parts(shape: tuple[int, ...], pixel: int, budget: int) -> list[tuple[slice, slice]]:
    """Blocks of rows, or of columns of one row, that stay within the budget; `pixel` in bytes."""
    height, width = shape
    rows, cols = max(1, budget // (pixel * width)), width
    if pixel * width > budget:
        cols = max(1, budget // pixel)
    return [
        (slice(row, row + rows), slice(col, col + cols))
        for row in range(0, height, rows)
        for col in range(0, width, cols)
    ]


def _add(sums: np.ndarray, labels: np.ndarray, block: np.ndarray) -> None:
    """Add the pixels of a block to the sums of their labels."""
    flat = labels.ravel()
    order = np.argsort(flat, kind="stable")[np.count_nonzero(flat < 0) :]
    if not order.size:
        return
    names, starts = np.unique(flat[order], return_index=True)
    pixels = block.reshape(-1, *sums.shape[1:])[order]
    sums[names] += np.add.reduceat(pixels, starts, axis=0, dtype=sums.dtype)
