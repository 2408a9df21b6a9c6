"""The work on one block of an image, wherever it is done: of the pixels around it and a few numbers.

What a block needs of the rest of the image are the mean and the spread of all pixels (`Intensities`). So
every score and label is that of the whole, however it was cut into blocks (`gpuseg.blocks`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuseg.arrays import Device, home_of, move, namespace, resolve_device, to_numpy
from gpuseg.blocks import Window
from gpuseg.decomposition import Moments, moments, project, together
from gpuseg.descriptors.base import Ready, Score, usable_points, valid_pixels
from gpuseg.descriptors.filling import NOWHERE
from gpuseg.engines import engine_for
from gpuseg.grid import Grid
from gpuseg.large import MemoryPlan, within_memory
from gpuseg.stages import label_components, shown_labels

__all__ = [
    "Intensities",
    "Labelled",
    "Learnt",
    "Patterns",
    "Seen",
    "label_block",
    "learn_block",
    "look_at",
    "values_of_block",
]


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
        points, sure = label_components(components, centers, window.grid, complete=False)
        valid = _valid(move(image, where), None if mask is None else move(mask, where))
        labels, shown = shown_labels(window.grid, points, sure, valid, patterns.upsampling, complete=False)
        own = window.cell if patterns.upsampling else window.inner
        found = xp.reshape(components.T, (-1, *shape))[(slice(None), *window.inner)]
        parts = (labels[own], shown[own], found, points[window.inner], sure[window.inner])
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
