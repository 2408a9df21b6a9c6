"""An image in blocks of grid points: how it is cut, and the work on one block wherever it is done.

A block is scored from the pixels around it alone, its `Window`. What it needs of the rest of the image are a
few numbers: mean and spread of all pixels (`Intensities`). Grid points and their positions are those of the
whole image, so every score and label is that of the whole, however it was cut.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpuseg.arrays import Device, home_of, move, namespace, resolve_device, to_numpy
from gpuseg.clustering import certainty, squared_distances
from gpuseg.decomposition import Moments, moments, project, together
from gpuseg.descriptors.base import Ready, Score, usable_points, valid_pixels
from gpuseg.descriptors.filling import NOWHERE
from gpuseg.engines import engine_for
from gpuseg.grid import Grid
from gpuseg.large import (
    BYTES_PER_COMPONENT,
    BYTES_PER_PIXEL,
    BYTES_PER_POINT,
    BYTES_PER_SCORE,
    MANY_COMPONENTS,
    MemoryPlan,
    within_memory,
)

__all__ = [
    "Block",
    "Intensities",
    "Labelled",
    "Layout",
    "Learnt",
    "Patterns",
    "Seen",
    "Window",
    "label_block",
    "learn_block",
    "look_at",
    "plan_blocks",
    "tally_block",
    "values_of_block",
]

LEAST_SIDE = 1024
"""Pixels: chunks that are smaller are worked on together. The work on fewer is not worth a task."""

Span = tuple[int, int]


@dataclass(frozen=True)
class Intensities:
    """Mean and spread of pixels, such that those of several parts can be put together.

    Parameters
    ----------
    count : int
        Number of valid pixels.
    level : float
        One of them.
    offset : float
        Their mean less the level: nothing of a small contrast on a high level is lost.
    root : float
        Root of the sum of the squares of what they differ from the mean by.
    """

    count: int = 0
    level: float = 0.0
    offset: float = 0.0
    root: float = 0.0

    @classmethod
    def of(cls, image: Any, valid: Any) -> Intensities:
        """Those of a part of an image.

        Parameters
        ----------
        image : (H, W) array
        valid : (H, W) bool array or None

        Returns
        -------
        Intensities
        """
        xp = namespace(image)
        values = xp.reshape(image, (-1,)) if valid is None else image[valid]
        if values.shape[0] == 0:
            return cls()
        centred = xp.astype(values, xp.float64)
        level = float(centred[0])
        centred = centred - level
        offset = float(xp.mean(centred))
        centred = centred - offset
        largest = float(xp.max(xp.abs(centred)))
        root = 0.0
        if largest > 0:  # or the squares might leave the range of a double
            centred = centred / largest
            root = largest * math.sqrt(float(xp.sum(centred * centred)))
        return cls(int(values.shape[0]), level, offset, root)

    def __add__(self, other: Intensities) -> Intensities:
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        apart = other.level - self.level + other.offset - self.offset
        between = math.sqrt(self.count * (other.count / count)) * apart
        root = math.hypot(self.root, other.root, between)
        return Intensities(count, self.level, self.offset + apart * (other.count / count), root)

    @property
    def spread(self) -> float:
        """Standard deviation."""
        return self.root / math.sqrt(self.count)

    def normalise(self, image: Any, valid: Any) -> Any:
        """A part of the image as the engines want it.

        Parameters
        ----------
        image : (H, W) array
        valid : (H, W) bool array or None

        Returns
        -------
        (H, W) float32 array
            As the engines' ``normalise`` gives of the whole.
        """
        xp = namespace(image)
        centred = xp.astype(image, xp.float64)
        if valid is not None:
            centred = xp.where(valid, centred, xp.asarray(self.level, dtype=xp.float64))
        pixels = xp.astype((centred - self.level - self.offset) / self.spread, xp.float32)
        return pixels if valid is None else xp.where(valid, pixels, xp.zeros_like(pixels))


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
        """(h, w): distance of each grid point from the nearest one beyond, inf if there is none."""
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
        rows, cols = (self.grid.cells(axis)[list(ends)] for axis, ends in enumerate(self.ends))
        return rows, cols

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
            slice(*self.grid.cells(axis)[list(span)].tolist())
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


# --- the work on a block: runs on a worker, with pixels and small things ------------------------------------


@dataclass(frozen=True)
class Seen:
    """What a first look at the cell of a block tells.

    Parameters
    ----------
    intensities : Intensities
    n_invalid : int
        Pixels that are masked or not finite.
    usable : (h,) int64 array
        Usable grid points in each row of the block.
    device : str
        Where further work will be done.
    """

    intensities: Intensities
    n_invalid: int
    usable: np.ndarray
    device: str


@dataclass(frozen=True)
class Learnt:
    """What can be learnt from one or more blocks.

    Parameters
    ----------
    lacking : dict of int to int
        Blocks from which nothing was learnt yet -> rows and columns of grid points still needed around them.
    moments : Moments or None
        Of the values of the others' usable grid points; None where there are none.
    ranks : (s,) int64 array
        Which of the image's usable grid points were drawn from these blocks.
    samples : (s, N) float32 array
        Their values.
    """

    lacking: dict[int, int]
    moments: Moments | None
    ranks: np.ndarray
    samples: np.ndarray

    @classmethod
    def nothing(cls, n_values: int, lacking: dict[int, int] | None = None) -> Learnt:
        """From no block, or only that something is lacking.

        Parameters
        ----------
        n_values : int
            N.
        lacking : dict of int to int, optional

        Returns
        -------
        Learnt
        """
        return cls(lacking or {}, None, np.empty(0, np.int64), np.empty((0, n_values), np.float32))

    @classmethod
    def all_of(cls, parts: Sequence[Learnt]) -> Learnt:
        """What several have learnt.

        Parameters
        ----------
        parts : sequence of Learnt
            At least one.

        Returns
        -------
        Learnt
        """
        known = [each.moments for each in parts if each.moments is not None]
        return cls(
            {index: steps for each in parts for index, steps in each.lacking.items()},
            functools.reduce(together, known) if known else None,
            np.concatenate([each.ranks for each in parts]),
            np.concatenate([each.samples for each in parts]),
        )


@dataclass(frozen=True)
class Patterns:
    """What labelling needs of a model.

    Parameters
    ----------
    mean : (N,) float32 array
    components : (K, N) float32 array
    centers : (n, K) float32 array
    upsampling : bool
    """

    mean: np.ndarray
    components: np.ndarray
    centers: np.ndarray
    upsampling: bool


@dataclass(frozen=True)
class Labelled:
    """What `gpuseg.Segmentation` holds, of a block; arrays live where its pixels do."""

    labels: Any
    certainty: Any
    components: Any
    point_labels: Any
    point_certainty: Any


def look_at(image: Any, mask: Any, points: Grid, device: Any) -> Seen:
    """A first look at a block.

    Parameters
    ----------
    image, mask : (H, W) array, and bool array or None
        Its cell.
    points : Grid
        Its grid points in the cell.
    device : {"auto", "cpu", "cuda", "cuda:i"}

    Returns
    -------
    Seen
    """
    where = resolve_device(device, image)
    valid = _valid(image, mask)
    usable = usable_points(image, valid, points)
    counts = to_numpy(namespace(usable).count_nonzero(usable, axis=1)).astype(np.int64)
    found = Intensities.of(image, valid)
    return Seen(found, math.prod(image.shape) - found.count, counts, str(where))


def learn_block(
    image: Any,
    mask: Any,
    window: Window,
    whole: Intensities,
    descriptor: Any,
    device: Any,
    index: int,
    begins: np.ndarray | None = None,
    chosen: np.ndarray | None = None,
) -> Learnt:
    """Score a block and say what can be learnt from it.

    Parameters
    ----------
    image, mask : (H, W) array, and bool array or None
        The region of the window.
    window : Window
    whole : Intensities
        Of all the image.
    descriptor : descriptor
    device : {"auto", "cpu", "cuda", "cuda:i"}
    index : int
        Number of the block.
    begins : (h,) int64 array, optional
        Rank of the first usable grid point of each row of the block among those of the image. Without it
        nothing is learnt but whether something is lacking.
    chosen : (c,) int64 array, optional
        Sorted ranks of the grid points that are drawn; all of them if None.

    Returns
    -------
    Learnt
    """
    where = resolve_device(device, image)
    with where.current:
        values, usable, lacking = _score(image, mask, window, whole, descriptor, where)
        inner = usable[window.inner]
        if lacking or begins is None or not bool(namespace(inner).any(inner)):
            return Learnt.nothing(values.shape[0], {index: lacking} if lacking else None)
        samples = values[(slice(None), *window.inner)][:, inner].T
        n, mean, scatter = moments(samples)
        here = to_numpy(inner)
        ranks = (begins[:, None] + np.cumsum(here, axis=1) - 1)[here]
        drawn = slice(None) if chosen is None else np.flatnonzero(np.isin(ranks, chosen, assume_unique=True))
        return Learnt({}, (n, to_numpy(mean), to_numpy(scatter)), ranks[drawn], to_numpy(samples)[drawn])


def label_block(
    image: Any,
    mask: Any,
    window: Window,
    whole: Intensities,
    descriptor: Any,
    device: Any,
    patterns: Patterns,
) -> Labelled:
    """Label a block.

    Parameters
    ----------
    image, mask, window, whole, descriptor, device
        As in `learn_block`.
    patterns : Patterns

    Returns
    -------
    Labelled
    """
    where, home = resolve_device(device, image), home_of(image)
    with where.current:
        values, _, _ = _score(image, mask, window, whole, descriptor, where)
        xp, shape = namespace(values), window.grid.shape
        mean, axes, centers = (
            move(each, where) for each in (patterns.mean, patterns.components, patterns.centers)
        )
        components = project(xp.reshape(values, (values.shape[0], -1)).T, mean, axes)
        distances = squared_distances(components, centers)
        known = xp.reshape(xp.all(xp.isfinite(components), axis=1), shape)
        points = xp.reshape(xp.astype(xp.argmin(distances, axis=0), xp.int32), shape)
        points = xp.where(known, points, -xp.ones_like(points))
        sure = xp.reshape(certainty(distances), shape)
        sure = xp.where(known, sure, xp.zeros_like(sure))
        labels, shown = points[window.inner], sure[window.inner]
        valid = _valid(move(image, where), None if mask is None else move(mask, where))
        if patterns.upsampling:
            labels = window.grid.upsample(window.grid.nearest_known(points))[window.cell]
            shown = window.grid.upsample(sure)[window.cell]
        if valid is not None:
            valid = valid[window.cell] if patterns.upsampling else window.grid.at_points(valid)[window.inner]
            labels = xp.where(valid, labels, -xp.ones_like(labels))
            shown = xp.where(valid, shown, xp.zeros_like(shown))
        found = xp.reshape(components.T, (-1, *shape))[(slice(None), *window.inner)]
        parts = (labels, shown, found, points[window.inner], sure[window.inner])
        return Labelled(*(move(xp.asarray(each, copy=True), home) for each in parts))


def values_of_block(
    image: Any, mask: Any, window: Window, whole: Intensities, descriptor: Any, device: Any
) -> Any:
    """The descriptors of a block.

    Parameters
    ----------
    image, mask, window, whole, descriptor, device
        As in `learn_block`.

    Returns
    -------
    (N, h, w) float32 array
        Where the pixels live.
    """
    where = resolve_device(device, image)
    with where.current:
        values, _, _ = _score(image, mask, window, whole, descriptor, where)
        inner = values[(slice(None), *window.inner)]
        return move(namespace(values).asarray(inner, copy=True), home_of(image))


def tally_block(labels: Any, certainty: Any, n_patterns: int) -> np.ndarray:
    """Labelled pixels of each pattern, and the sum of their certainties.

    Parameters
    ----------
    labels, certainty : (H, W) arrays
    n_patterns : int

    Returns
    -------
    (2, n) float64 array
    """
    labels, sure = to_numpy(labels), to_numpy(certainty)
    known = labels >= 0
    weights = (None, sure[known].astype(np.float64))
    return np.stack([np.bincount(labels[known], each, minlength=n_patterns) for each in weights]).astype(
        float
    )


def _valid(image: Any, mask: Any) -> Any:
    if mask is not None and mask.dtype.kind != "b":
        mask = mask != 0
    return valid_pixels(image, mask)


def _score(
    image: Any, mask: Any, window: Window, whole: Intensities, descriptor: Any, where: Device
) -> tuple[Any, Any, int]:
    """Values (N, h, w) of a window, its usable grid points, and how many more around it are lacking."""
    image = move(image, where)
    valid = _valid(image, None if mask is None else move(mask, where))
    xp = namespace(image)
    usable = usable_points(image, valid, window.grid)
    all_of_it = not any(window.beyond)
    if valid is not None and not bool(xp.any(valid)) and not all_of_it:
        n = len(descriptor.operations())
        return xp.full((n, *window.grid.shape), xp.nan, dtype=xp.float32), usable, 0
    pixels = whole.normalise(image, valid)
    ready = Ready(image, pixels, valid, where, whole.spread, filling=all_of_it)
    whole_window = MemoryPlan(window.grid, window.grid.shape[0], 0, 0)
    scorer = descriptor.scorer(ready, window.grid)
    values = within_memory(
        lambda plan: _in_bands(scorer, whole_window if plan is None else plan), whole_window
    )
    if all_of_it or not bool(xp.any(xp.isnan(values))):
        return values, usable, 0
    lacking = _lacking(to_numpy(xp.isnan(values)), to_numpy(usable), valid, window)
    opposite = np.full(values.shape[0], -1, np.int64)  # these were looked at already
    return engine_for(where).fill_missing(values, opposite, usable, NOWHERE), usable, lacking


def _in_bands(scorer: Score, plan: MemoryPlan) -> Any:
    """Values (N, h, w), some rows of grid points at a time."""
    if plan.n_bands == 1:
        return scorer(plan.grid)
    values: Any = None
    for begin in range(0, plan.grid.shape[0], plan.rows):
        end = min(begin + plan.rows, plan.grid.shape[0])
        found = scorer(plan.grid.band(begin, end))
        if values is None:
            values = namespace(found).empty((found.shape[0], *plan.grid.shape), dtype=found.dtype)
        values[:, begin:end, :] = found
    return values


def _lacking(missing: np.ndarray, usable: np.ndarray, valid: Any, window: Window) -> int:
    """Rows and columns of grid points still needed around a window, 0 if what it shows is that of the whole.

    What fills a place may come from beyond unless something inside is nearer than all that lies beyond.

    Parameters
    ----------
    missing : (N, h, w) bool array
    usable : (h, w) bool array
    valid : (H, W) bool array or None
        Pixels of the region.
    window : Window
    """
    room, lacking, ring = window.room(), 0, 0
    unknown = missing.any(axis=0) & ~usable
    if valid is not None and unknown.any():  # these get no label, but valid pixels nearby do
        steps = _steps(unknown)
        valid = to_numpy(valid)[window.cell]
        short = window.grid.upsample(steps - room + 1)[window.cell][valid].max(initial=0.0)
        near = window.grid.upsample(steps)[window.cell][valid].max(initial=0.0)
        lacking, ring = _whole(short, window), _whole(near, window)
    rows, cols = window.inner
    wanted = np.zeros_like(usable)
    wanted[max(0, rows.start - ring) : rows.stop + ring, max(0, cols.start - ring) : cols.stop + ring] = True
    wanted &= usable
    looked_at = set()
    for gaps in missing:
        if not (gaps & wanted).any() or gaps.tobytes() in looked_at:
            continue
        looked_at.add(gaps.tobytes())
        short = (_steps(gaps) - room + 1)[gaps & wanted].max()
        lacking = max(lacking, _whole(short, window))
    return lacking


def _whole(steps: float, window: Window) -> int:
    """Steps as a whole number; where nothing is known, as many as the window has."""
    return max(0, math.ceil(steps)) if math.isfinite(steps) else max(window.grid.shape)


def _steps(missing: np.ndarray) -> np.ndarray:
    """Distance of every grid point from the nearest one that is there."""
    from scipy import ndimage

    if missing.all():
        return np.full(missing.shape, np.inf)
    return ndimage.distance_transform_edt(missing)
