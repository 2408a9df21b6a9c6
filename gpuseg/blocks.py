"""An image in blocks of grid points: how it is cut, and what of it each block needs.

Grid points and their positions are those of the whole image, however it is cut.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpuseg.grid import Grid
from gpuseg.large import (
    BYTES_PER_COMPONENT,
    BYTES_PER_PIXEL,
    BYTES_PER_POINT,
    BYTES_PER_SCORE,
    MANY_COMPONENTS,
)

__all__ = ["Block", "Layout", "Window", "plan_blocks"]

LEAST_SIDE = 1024
"""Pixels: chunks that are smaller are worked on together. The work on fewer is not worth a task."""

Span = tuple[int, int]


@dataclass(frozen=True)
class Block:
    """Some neighbouring grid points.

    Parameters
    ----------
    rows, cols : (int, int)
        First row or column of grid points, and the one after the last.
    around : int
        So many rows and columns of grid points around them are scored too, from which what is missing is
        filled in.
    settled : bool
        Whether it is known that so many do.
    """

    rows: Span
    cols: Span
    around: int = 0
    settled: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Number of grid points along the rows and the columns."""
        return self.rows[1] - self.rows[0], self.cols[1] - self.cols[0]


@dataclass(frozen=True)
class Window:
    """A block with what lies around it, seen from its first pixel.

    Parameters
    ----------
    region : (slice, slice)
        Its pixels in the whole image.
    grid : Grid
        The block's grid points and those around; the region is its image.
    inner : (slice, slice)
        The block's own among them.
    cell : (slice, slice)
        Pixels of the region that take their labels from the block.
    beyond : (bool, bool, bool, bool)
        Whether there are further grid points above, below, to the left and to the right.
    """

    region: tuple[slice, slice]
    grid: Grid
    inner: tuple[slice, slice]
    cell: tuple[slice, slice]
    beyond: tuple[bool, bool, bool, bool]

    def room(self) -> np.ndarray:
        """How far from each grid point the nearest one beyond lies.

        Returns
        -------
        (h, w) float64 array
            In steps of the grid; inf if there is none.
        """
        h, w = self.grid.shape
        row, col = np.arange(h)[:, None], np.arange(w)[None, :]
        steps = np.full((h, w), np.inf)
        for there, distance in zip(self.beyond, (row + 1, h - row, col + 1, w - col), strict=True):
            if there:
                steps = np.minimum(steps, distance)
        return steps


@dataclass(frozen=True)
class Layout:
    """How the grid of an image is cut into blocks.

    Parameters
    ----------
    grid : Grid
        All of it.
    halo : (rows, cols) of int
        How far from a grid point its scores look.
    ends : (tuple of int, tuple of int)
        Rows and columns of grid points at which blocks begin, and those after the last.
    """

    grid: Grid
    halo: tuple[int, int]
    ends: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of blocks along the rows and the columns."""
        return len(self.ends[0]) - 1, len(self.ends[1]) - 1

    def blocks(self) -> list[Block]:
        """All blocks, row by row.

        Returns
        -------
        list of Block
        """
        rows, cols = (list(itertools.pairwise(ends)) for ends in self.ends)
        return [Block(row, col) for row, col in itertools.product(rows, cols)]

    def with_room(self, blocks: Sequence[Block], n_invalid: np.ndarray) -> list[Block]:
        """Blocks with as much around them as they are likely to need.

        Where no pixel is masked that is certain: scores are missing along the border of the image only, and a
        grid point one halo away from it has all of them.

        Parameters
        ----------
        blocks : sequence of Block
        n_invalid : (rows, cols) int array
            Masked pixels in the cell of each.

        Returns
        -------
        list of Block
        """
        found = []
        steps = [-(-halo // self.grid.stride) + 1 for halo in self.halo]
        enough = all(n > 2 * s for n, s in zip(self.grid.shape, steps, strict=True))
        around = math.ceil(math.hypot(*steps))
        for block in blocks:
            inside = all(
                span[0] >= s and span[1] <= n - s
                for span, s, n in zip((block.rows, block.cols), steps, self.grid.shape, strict=True)
            )
            clean = replace(block, around=0 if inside else around, settled=inside or enough)
            region = self.window(clean).region
            places = [
                slice(
                    int(np.searchsorted(ends, span.start, "right")) - 1, int(np.searchsorted(ends, span.stop))
                )
                for ends, span in zip(self._edges, region, strict=True)
            ]
            if n_invalid[places[0], places[1]].any():
                clean = replace(clean, around=max(clean.around, around // 2), settled=False)
            found.append(clean)
        return found

    @functools.cached_property
    def _edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels at which cells of blocks begin, and the ends of the image."""
        rows, cols = (self._cells[axis][list(ends)] for axis, ends in enumerate(self.ends))
        return rows, cols

    @functools.cached_property
    def _cells(self) -> tuple[np.ndarray, np.ndarray]:
        return self.grid.cells(0), self.grid.cells(1)

    def cell(self, block: Block) -> tuple[slice, slice]:
        """The pixels that are nearest to a block; together they are the image.

        Parameters
        ----------
        block : Block

        Returns
        -------
        (slice, slice)
        """
        row, col = (
            slice(*self._cells[axis][list(span)].tolist())
            for axis, span in enumerate((block.rows, block.cols))
        )
        return row, col

    def points_in_cell(self, block: Block) -> Grid:
        """The grid points of a block, seen from the first pixel of its cell.

        Parameters
        ----------
        block : Block

        Returns
        -------
        Grid
        """
        cell = self.cell(block)
        return self._seen_from(cell, block.rows, block.cols)

    def window(self, block: Block) -> Window:
        """A block with what lies around it.

        Parameters
        ----------
        block : Block

        Returns
        -------
        Window
        """
        cell, h, w = self.cell(block), *self.grid.shape
        rows = max(0, block.rows[0] - block.around), min(h, block.rows[1] + block.around)
        cols = max(0, block.cols[0] - block.around), min(w, block.cols[1] + block.around)
        region = []
        for axis, span in enumerate((rows, cols)):
            first, stride = self.grid.first[axis], self.grid.stride
            begin = first + stride * span[0] - self.halo[axis]
            end = first + stride * (span[1] - 1) + self.halo[axis] + 1
            begin, end = min(begin, cell[axis].start), max(end, cell[axis].stop)
            region.append(slice(max(begin, 0), min(end, self.grid.image_shape[axis])))
        inner = (
            slice(block.rows[0] - rows[0], block.rows[1] - rows[0]),
            slice(block.cols[0] - cols[0], block.cols[1] - cols[0]),
        )
        here = tuple(slice(c.start - r.start, c.stop - r.start) for c, r in zip(cell, region, strict=True))
        return Window(
            (region[0], region[1]),
            self._seen_from((region[0], region[1]), rows, cols),
            inner,
            (here[0], here[1]),
            (rows[0] > 0, rows[1] < h, cols[0] > 0, cols[1] < w),
        )

    def _seen_from(self, region: tuple[slice, slice], rows: Span, cols: Span) -> Grid:
        grid = self.grid
        first = (
            grid.first[0] + grid.stride * rows[0] - region[0].start,
            grid.first[1] + grid.stride * cols[0] - region[1].start,
        )
        shape = region[0].stop - region[0].start, region[1].stop - region[1].start
        return Grid(shape, grid.stride, first, (rows[1] - rows[0], cols[1] - cols[0]))


def plan_blocks(
    descriptor: Any,
    image_shape: tuple[int, int],
    stride: int,
    chunks: tuple[Sequence[int], Sequence[int]],
    n_components: int | float,
    budget: int,
) -> Layout:
    """Cut an image into blocks that follow its chunks: small ones together, large ones in parts.

    Parameters
    ----------
    descriptor : descriptor
        With ``operations``, ``grid``, ``halo`` and ``scorer``.
    image_shape : (H, W) of int
    stride : int
    chunks : (sequence of int, sequence of int)
        Pixels of the chunks along the rows and the columns.
    n_components : int or float
    budget : int
        Bytes that the work on a block may take.

    Returns
    -------
    Layout

    Raises
    ------
    TypeError
        If the descriptor cannot be worked on in blocks.
    ValueError
        If the budget does not suffice for a single grid point.
    """
    _check(descriptor)
    grid, halo = descriptor.grid(image_shape, stride), descriptor.halo()
    n = len(descriptor.operations())
    k = min(n, int(n_components) if n_components >= 1 else MANY_COMPONENTS)

    def expected(side: int) -> int:
        shape = min(side, grid.shape[0]), min(side, grid.shape[1])
        pixels = [(s - 1) * stride + 2 * h + 1 for s, h in zip(shape, halo, strict=True)]
        part = Grid((pixels[0], pixels[1]), stride, halo, shape)
        beside = descriptor.working_bytes(part) if hasattr(descriptor, "working_bytes") else 0
        per_point = BYTES_PER_SCORE * n + BYTES_PER_POINT + BYTES_PER_COMPONENT * k
        return BYTES_PER_PIXEL * math.prod(pixels) + per_point * part.size + beside

    if expected(1) > budget:
        raise ValueError(
            f"`max_memory` is {budget / 2**10:.0f} KB; at least {expected(1) / 2**10:.0f} KB are needed for "
            "a block of one grid point with what lies around it"
        )
    low, high = 1, max(grid.shape) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if expected(middle) <= budget else (low, middle)
    ends = tuple(_ends(chunks[axis], grid.cells(axis), low) for axis in (0, 1))
    return Layout(grid, halo, (ends[0], ends[1]))


def _check(descriptor: Any) -> None:
    for part in (*getattr(descriptor, "descriptors", ()), getattr(descriptor, "descriptor", None)):
        if part is not None:
            _check(part)
    for method in ("operations", "grid", "scorer", "halo"):
        if not hasattr(descriptor, method):
            raise TypeError(
                f"{type(descriptor).__name__} cannot be worked on in blocks, for want of a method "
                f"`{method}`; use a descriptor of gpuseg, or an image that is in memory"
            )


def _ends(chunks: Sequence[int], cells: np.ndarray, most: int) -> tuple[int, ...]:
    """Where blocks of at most so many grid points begin and end along an axis."""
    last = len(cells) - 1
    ends, begin = [0], 0
    for edge in itertools.accumulate(chunks):
        at = last if edge >= cells[-1] else int(np.searchsorted(cells, edge))
        if at > ends[-1] and (edge - begin >= LEAST_SIDE or at == last):
            if at == last and edge - begin < LEAST_SIDE and len(ends) > 1:
                del ends[-1]  # the rest goes with the one before
            ends.append(at)
            begin = edge
    cut = [0]
    for begin, end in itertools.pairwise(ends):
        parts = -(-(end - begin) // most)
        cut += np.linspace(begin, end, parts + 1).round().astype(int).tolist()[1:]
    return tuple(cut)
