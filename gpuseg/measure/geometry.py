"""Regions and the boundaries between patterns."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpuseg.arrays import namespace, to_numpy
from gpuseg.checks import check_int
from gpuseg.measure.inputs import Scale, check_scale, labels_of, stride_of, where_measured
from gpuseg.measure.lengths import lengths_between, numbered, outlines
from gpuseg.measure.table import Table

__all__ = ["boundaries", "label_regions", "regions"]

PROPERTIES = ("label", "area", "centroid", "bbox", "equivalent_diameter_area")


def label_regions(segmentation: Any, *, connectivity: int = 1, min_size: int = 1) -> Any:
    """Number the connected regions of each pattern.

    Parameters
    ----------
    segmentation : Segmentation or (H, W) array_like of int
        0, 1, ... = patterns, -1 = masked. An array of a GPU is numbered there where cuCIM is installed.
    connectivity : {1, 2}
        1: pixels that share a side belong together; 2: also those that share a corner, and then two regions
        can cross each other.
    min_size : int
        Smaller regions (pixels) get no number.

    Returns
    -------
    (H, W) int32 array
        1 ... n in the order of their first pixels, 0 where there is no region.

    Raises
    ------
    TypeError, ValueError
        For labels or a parameter that make no sense.
    ImportError
        Without scikit-image (``pip install 'gpuseg[measure]'``).
    """
    return _number_regions(labels_of(segmentation), connectivity, min_size)[0]


def regions(
    segmentation: Any,
    *,
    pixel_size: float | None = None,
    unit: str | None = None,
    connectivity: int = 1,
    min_size: int = 1,
    stride: int | None = None,
) -> Table:
    """Measure every connected region.

    Parameters
    ----------
    segmentation : Segmentation or (H, W) array_like of int
        0, 1, ... = patterns, -1 = masked: no region. Measured on its GPU where cuCIM is installed, else by
        scikit-image.
    pixel_size : float, optional
        Length of a pixel in `unit`.
    unit : str, optional
        "nm" if only the size is given.
    connectivity, min_size
        As in `label_regions`, whose numbers the regions have.
    stride : int, optional
        Distance in pixels of the points at which the labels were found; known for a `Segmentation`, 1 for
        plain labels. Perimeters do not count the stairs of that size which upsampling makes.

    Returns
    -------
    Table
        A row for each region: ``region``, ``pattern``, ``touches_border`` (of the image), and with the ending
        _px and, for calibrated pixels, with that of the unit: ``area``, ``perimeter``,
        ``equivalent_diameter`` (of the disc of that area), ``centroid_row``, ``centroid_col``. Positions
        count from the centre of the first pixel. No row if all is masked.

    Raises
    ------
    TypeError, ValueError
        For labels or a parameter that make no sense.
    ImportError
        Without scikit-image (``pip install 'gpuseg[measure]'``).

    Notes
    -----
    The perimeter is found as in `boundaries`, parts along the border of the image and along masked pixels
    included.
    """
    scale = check_scale(pixel_size, unit)
    labels = labels_of(segmentation)
    step = stride_of(segmentation, stride)
    names, pattern = _number_regions(labels, connectivity, min_size)
    names, module = where_measured(names)
    if len(pattern) == 1:  # no region, of which not every module knows the properties
        names, module = where_measured(to_numpy(names))
    found = module.regionprops_table(names, properties=PROPERTIES)
    # cuCIM gives columns of its GPU
    return _region_table({k: to_numpy(column) for k, column in found.items()}, pattern, names, step, scale)


def _region_table(
    found: dict[str, np.ndarray], pattern: np.ndarray, names: Any, stride: int, scale: Scale
) -> Table:
    number = found["label"].astype(np.int64)
    top, left, bottom, right = (found[f"bbox-{k}"] for k in range(4))
    height, width = names.shape
    touches = (top == 0) | (left == 0) | (bottom == height) | (right == width)
    lengths = outlines(to_numpy(names), stride)
    columns = {"region": number, "pattern": pattern[number], "touches_border": touches}
    columns |= scale.columns("area", found["area"].astype(np.int64), 2)
    columns |= scale.columns("perimeter", lengths[number - 1])
    columns |= scale.columns("equivalent_diameter", found["equivalent_diameter_area"].astype(np.float64))
    columns |= scale.columns("centroid_row", found["centroid-0"].astype(np.float64))
    columns |= scale.columns("centroid_col", found["centroid-1"].astype(np.float64))
    return Table(columns)


def _number_regions(labels: Any, connectivity: int, min_size: int) -> tuple[Any, np.ndarray]:
    """The map of numbers, and the pattern (n + 1,) of each number, -1 of 0."""
    connectivity = check_int(connectivity, "connectivity", 1, 2)
    min_size = check_int(min_size, "min_size", 1)
    labels, module = where_measured(labels)
    xp = namespace(labels)
    names = xp.asarray(module.label(labels + 1, background=0, connectivity=connectivity))
    sizes = xp.bincount(xp.reshape(names, (-1,)))
    keep = sizes >= min_size
    keep[0] = False
    renamed = xp.astype(xp.where(keep, xp.cumulative_sum(xp.astype(keep, xp.int64)), 0), xp.int32)
    names = renamed[names]
    pattern = xp.full(int(renamed.max()) + 1, -1, dtype=xp.int32)
    pattern[xp.reshape(names, (-1,))] = xp.reshape(labels, (-1,))  # equal within a region: any pixel will do
    pattern[0] = -1
    return names, to_numpy(pattern)


def boundaries(
    segmentation: Any,
    *,
    pixel_size: float | None = None,
    unit: str | None = None,
    stride: int | None = None,
) -> Table:
    """Measure the boundary between each two patterns.

    Parameters
    ----------
    segmentation : Segmentation or (H, W) array_like of int
        0, 1, ... = patterns, -1 = masked: where a pattern ends at masked pixels or at the border of the
        image, there is no boundary.
    pixel_size, unit : float and str, optional
        As in `regions`.
    stride : int, optional
        As in `regions`.

    Returns
    -------
    Table
        A row for each two patterns that meet: ``pattern_a`` < ``pattern_b``, ``length_px`` and, for
        calibrated pixels, such as ``length_nm``.

    Raises
    ------
    TypeError, ValueError
        For labels or a parameter that make no sense.

    Notes
    -----
    Counting pixel sides makes a boundary at 45 degrees 1.41 times too long. Here the crossings with lines of
    eight directions are counted (Cauchy and Crofton; e.g. J. Ohser and F. Mücklich, *Statistical Analysis of
    Microstructures*, Wiley 2000): without bias over all directions, for a straight line off by -1.5 to +1.3 %
    with its direction (-1.4 % along the rows and columns), for a disc by less than 1 %.
    """
    scale = check_scale(pixel_size, unit)
    labels, names = numbered(to_numpy(labels_of(segmentation)))
    lengths = np.triu(lengths_between(labels, stride_of(segmentation, stride)), 1)
    first, second = np.nonzero(lengths)
    columns = {"pattern_a": names[first], "pattern_b": names[second]}
    return Table(columns | scale.columns("length", lengths[first, second]))
