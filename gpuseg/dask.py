"""Images past one machine: dask arrays in any chunks, worked on in blocks by whatever workers dask has.

`gpuseg.segment`, `gpuseg.segment_series`, `SegmentationModel.predict` and `gpuseg.Segmenter` come here by
themselves when they are given a dask array; nothing here has to be called. What is learnt is learnt at once:

1. Each pixel is read once for the mean and spread of the image and for what of it is masked.
2. Every block is scored once; the covariance of all descriptors is summed up over the blocks, so that the
   principal components are exact, and 262 144 grid points (`ENOUGH_SAMPLES`; fewer of more than 256
   operations) are drawn, from which k-means learns. An image with fewer grid points gives all of them, and
   then the labels are those of an image in memory.

Labels, certainty, components and descriptors are dask arrays, computed when they are asked for, each block
from its own pixels and a halo around it. A block follows the chunks; chunks smaller than 1024 pixels are
taken together, and those that need more than `max_memory` (`BLOCK_MEMORY`) are cut. A chunk has to fit into
the memory of a worker, unless it comes straight from a file: of one larger than 512 MB only parts are read.

Workers are those of the scheduler that dask uses: its threads, or the processes and machines of a
``dask.distributed.Client``. Workers need gpuseg installed. With ``device="auto"`` each task runs on the GPU
of its worker where there is one. For several GPUs start one worker for each with dask-cuda, for the CPU one
worker with one thread for each core::

    from dask.distributed import Client, LocalCluster
    from dask_cuda import LocalCUDACluster

    client = Client(LocalCUDACluster())  # pip install dask-cuda
    client = Client(LocalCluster(n_workers=8, threads_per_worker=1))
    labels = gpuseg.segment(dask.array.from_zarr("huge.zarr"), n_patterns=3).labels
    labels.to_zarr("labels.zarr")

A worker that dies takes nothing with it: tasks depend on pixels and small numbers only and are done again.
"""

from __future__ import annotations

import functools
import logging
import math
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuseg.arrays import Device, is_dask, namespace, to_numpy
from gpuseg.block_tasks import (
    Intensities,
    Learnt,
    Patterns,
    label_block,
    learn_block,
    look_at,
    values_of_block,
)
from gpuseg.blocks import Block, Layout, plan_blocks
from gpuseg.checks import AUTO, check_image, check_int_or_auto, check_memory
from gpuseg.clustering import check_random_state, squared_distances
from gpuseg.decomposition import PCA, check_n_components, project
from gpuseg.descriptors import Descriptors, Fusion, as_descriptor
from gpuseg.descriptors.base import DeadImageError
from gpuseg.descriptors.choice import describe
from gpuseg.grid import Grid
from gpuseg.misfit import misfit
from gpuseg.segmentation import Segmentation, SegmentationModel
from gpuseg.separability import separability
from gpuseg.sizes import resolve, wants_sizes
from gpuseg.stages import Stopwatch, check_usable, find_patterns, tally

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DaskDescriptors", "DaskSegmentation", "predict_dask", "segment_dask"]

log = logging.getLogger("gpuseg")

BLOCK_MEMORY = 512 << 20
"""Bytes that the work on a block may take, where `max_memory` does not say how many."""

ENOUGH_SAMPLES, SAMPLE_MEMORY = 1 << 18, 256 << 20
"""Grid points that k-means learns from, and bytes that their descriptors take, at most; all grid points where
an image has no more."""

MIDDLE = 1024
"""Sizes that are "auto" follow the lattice in so many rows and columns of pixels amid the image."""

TOGETHER = 8
"""What so many blocks have learnt is put together at a time."""


@dataclass(frozen=True, eq=False)
class Chunked:
    """An image in blocks.

    Parameters
    ----------
    image : (H, W) dask array
    mask : (H, W) dask array or None
    descriptor : descriptor
    layout : Layout
    blocks : list of Block
    device : {"auto", "cpu", "cuda", "cuda:i"}
    whole : Intensities
    begins : list of (h,) int64 array
        For each block, the rank of the first usable grid point of each row.
    n_usable : int
        Usable grid points of the image.
    workplace : str
        Where the workers work, e.g. "cpu" or "cuda:0".
    """

    image: Any
    mask: Any
    descriptor: Any
    layout: Layout
    blocks: list[Block]
    device: Any
    whole: Intensities
    begins: list[np.ndarray]
    n_usable: int
    workplace: str

    def call(self, function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
        """A task for a block: of the pixels around it, with arguments of its own at the end.

        Parameters
        ----------
        function : callable
            Of a region, its mask, a window, the intensities, the descriptor, the device and what follows.
        *arguments : object
            The same for all blocks.

        Returns
        -------
        callable
            Of a block and what follows `arguments`; gives a delayed object.
        """
        import dask

        task = dask.delayed(function, pure=False)
        shared = [dask.delayed(each, pure=False, traverse=False) for each in (self.descriptor, *arguments)]

        def of(block: Block, *rest: Any) -> Any:
            if block not in self._seen:
                window = self.layout.window(block)
                self._seen[block] = _part(self.image, window.region), _part(self.mask, window.region), window
            return task(*self._seen[block], self.whole, shared[0], self.device, *shared[1:], *rest)

        return of

    @functools.cached_property
    def _seen(self) -> dict[Block, tuple[Any, Any, Any]]:
        """Pixels of blocks, their masks and windows, the same for all tasks."""
        return {}

    def learn(self, look_only: bool = False, chosen: np.ndarray | None = None) -> tuple[Chunked, Learnt]:
        """Score the blocks, those again that lack something around them.

        Parameters
        ----------
        look_only : bool
            Learn nothing but what is lacking, of blocks of which that is not known yet.
        chosen : (c,) int64 array, optional
            Sorted ranks of the grid points to draw; all of them if None.

        Returns
        -------
        Chunked
            With so much around each block that nothing is lacking.
        Learnt
        """
        blocks, found = list(self.blocks), Learnt.nothing(len(self.descriptor.operations()))
        todo = [k for k, block in enumerate(blocks) if not (look_only and block.settled)]
        task = self.call(learn_block)
        while todo:
            parts = []
            for k in todo:
                rest: tuple[Any, ...] = (k,)
                if not look_only:
                    rest = (k, self.begins[k], None if chosen is None else self._drawn_from(k, chosen))
                parts.append(task(blocks[k], *rest))
            found = Learnt.all_of([found, _reduced(Learnt.all_of, parts)])
            todo = sorted(found.lacking)
            for k in todo:
                blocks[k] = replace(blocks[k], around=blocks[k].around + found.lacking[k])
            found = replace(found, lacking={})
        order = np.argsort(found.ranks)
        found = replace(found, ranks=found.ranks[order], samples=found.samples[order])
        return replace(self, blocks=[replace(block, settled=True) for block in blocks]), found

    def _drawn_from(self, index: int, chosen: np.ndarray) -> np.ndarray:
        """Of sorted ranks those that may lie in a block."""
        block, begins = self.blocks[index], self.begins[index]
        spans = zip(
            np.searchsorted(chosen, begins), np.searchsorted(chosen, begins + block.shape[1]), strict=True
        )
        return np.unique(np.concatenate([chosen[begin:end] for begin, end in spans]))

    def array(
        self, parts: Sequence[Any], name: str | None, dtype: Any, per_pixel: bool, n: int | None = None
    ) -> Any:
        """One dask array of a part of what every block gives.

        Parameters
        ----------
        parts : sequence of delayed objects
            One for each block.
        name : str or None
            Which attribute of theirs; None is the object itself.
        dtype : dtype
        per_pixel : bool
            Of the pixels, or of the grid points.
        n : int, optional
            Length of the axis before rows and columns, if there is one.

        Returns
        -------
        dask array
        """
        import dask.array

        lead = () if n is None else (n,)
        like = self.image._meta
        meta = namespace(like).empty((0,) * (2 + len(lead)), dtype=dtype)
        arrays = []
        for block, part in zip(self.blocks, parts, strict=True):
            shape = block.shape
            if per_pixel:
                cell = self.layout.cell(block)
                shape = cell[0].stop - cell[0].start, cell[1].stop - cell[1].start
            value = part if name is None else getattr(part, name)
            arrays.append(dask.array.from_delayed(value, (*lead, *shape), dtype=dtype, meta=meta))
        width = self.layout.shape[1]
        return dask.array.block([arrays[k : k + width] for k in range(0, len(arrays), width)])


@dataclass(frozen=True, eq=False)
class DaskDescriptors:
    """The local descriptors of an image in blocks: computed when asked for, and every time again.

    Parameters
    ----------
    values : (N, h, w) float32 dask array
        As in `gpuseg.Descriptors`.
    operations : tuple of N
    grid : Grid
    usable : (h, w) bool dask array, or one in memory
    descriptor : None
        Nothing had to be learnt that is not in the model.
    """

    values: Any
    operations: tuple[Any, ...]
    grid: Grid
    usable: Any
    descriptor: Any = None

    @property
    def maps(self) -> dict[Any, Any]:
        """The (h, w) map of each operation, a dask array."""
        return dict(zip(self.operations, self.values, strict=True))

    def bands(self) -> Iterator[Descriptors]:
        """The descriptors of one row of blocks after the other, in memory.

        Yields
        ------
        Descriptors
        """
        import dask

        begin = 0
        for rows in self.values.chunks[1]:
            end = begin + rows
            values, usable = dask.compute(self.values[:, begin:end, :], self.usable[begin:end, :])
            yield Descriptors(values, self.operations, self.grid.band(begin, end), usable)
            begin = end

    def samples(self) -> Any:
        """Not there: they may not fit into memory.

        Returns
        -------
        never

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(
            "the descriptors of a dask array are not in memory; those of grid points drawn from it are "
            "`segmentation.sampled`, and `segmentation.select(n)` selects operations by them"
        )

    def on(self, device: Device) -> DaskDescriptors:
        """The same: every task moves its own.

        Parameters
        ----------
        device : Device

        Returns
        -------
        DaskDescriptors
        """
        return self


@dataclass(frozen=True, eq=False, repr=False)
class DaskSegmentation(Segmentation):
    """What `gpuseg.segment` gives of a dask array.

    As a `gpuseg.Segmentation`, but ``image``, ``labels``, ``certainty``, ``components``, ``point_labels``,
    ``point_certainty`` and ``descriptors.values`` are dask arrays, not computed yet; compute several in one
    call of ``dask.compute``, and they share the work. What is a property of all grid points
    (``separability``, ``misfit``, `select`) is that of the `sampled` ones. ``area_fractions``, `to_table`,
    `compute`, `plot` and `save` compute all labels; the last three need them in memory.

    Parameters
    ----------
    image, labels, certainty, descriptors, components, point_labels, point_certainty
        As in `gpuseg.Segmentation`, but dask arrays, and `DaskDescriptors`.
    model, parameters, timings, device, evidence
        As in `gpuseg.Segmentation`.
    chunked : Chunked
        The image in blocks.
    drawn : (S, N) array, optional
        Descriptors of the grid points drawn, where they are known already.
    """

    chunked: Chunked | None = field(default=None, repr=False)
    drawn: np.ndarray | None = field(default=None, repr=False)

    @functools.cached_property
    def sampled(self) -> Descriptors:
        """Descriptors (N, 1, S) of drawn grid points, at most `ENOUGH_SAMPLES`, in one row and in memory."""
        samples = self.drawn
        if samples is None:
            assert self.chunked is not None  # one of the two is there
            samples = self.chunked.learn(chosen=_draw(self.chunked))[1].samples
        grid = Grid((1, len(samples)), 1, (0, 0), (1, len(samples)))
        values = np.ascontiguousarray(samples.T)[:, None, :]
        return Descriptors(values, self.operations, grid, np.ones(grid.shape, bool))

    @functools.cached_property
    def _sampled_components(self) -> np.ndarray:
        return project(self.sampled.samples(), self.model.mean, self.model.components)

    @functools.cached_property
    def _sampled_distances(self) -> np.ndarray:
        return squared_distances(self._sampled_components, self.model.cluster_centers)

    @functools.cached_property
    def _sampled_labels(self) -> np.ndarray:
        return np.argmin(self._sampled_distances, axis=0).astype(np.int32)[None, :]

    @functools.cached_property
    def separability(self) -> Any:
        """(N,) float32: Fisher separability of each operation among the `sampled` grid points."""
        values = self.sampled.values[:, 0, :]
        return separability(values, self._sampled_labels[0], self.n_patterns)

    @functools.cached_property
    def misfit(self) -> float:
        """Mean squared distance of the `sampled` grid points from their nearest pattern."""
        nearest = self._sampled_distances.min(axis=0)
        return misfit(self.sampled.samples(), self.model.mean, self._sampled_components, nearest)

    @functools.cached_property
    def _tally(self) -> np.ndarray:
        """(2, n): labelled pixels of each pattern, and the sum of their certainties."""
        import dask

        task = dask.delayed(tally, pure=False)
        pairs = zip(self.labels.to_delayed().ravel(), self.certainty.to_delayed().ravel(), strict=True)
        return _reduced(sum, [task(labels, sure, self.n_patterns) for labels, sure in pairs])

    def select(self, n_operations: int) -> SegmentationModel:
        """A fast model of the operations that tell the patterns apart best among the `sampled` grid points.

        Parameters
        ----------
        n_operations : int
            From 1 to the number of operations.

        Returns
        -------
        SegmentationModel
        """
        return self.model.select(n_operations, self.sampled, self._sampled_labels)

    def compute(self) -> Segmentation:
        """The same in memory, but for the descriptors, which stay as they are.

        Returns
        -------
        Segmentation
        """
        import dask

        names = ("image", "labels", "certainty", "components", "point_labels", "point_certainty")
        *found, usable = dask.compute(*(getattr(self, name) for name in names), self.descriptors.usable)
        others = ("model", "parameters", "timings", "device", "evidence")
        return Segmentation(
            **dict(zip(names, found, strict=True)),
            **{name: getattr(self, name) for name in others},
            descriptors=replace(self.descriptors, usable=usable),
        )

    def plot(self, **options: Any) -> Figure:
        """As `Segmentation.plot`; computes the image and its labels into memory.

        Parameters
        ----------
        **options

        Returns
        -------
        matplotlib.figure.Figure
        """
        return self.compute().plot(**options)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        pixel_size: float | None = None,
        unit: str | None = None,
        force: bool = False,
    ) -> Path:
        """As `Segmentation.save`; computes the image and its labels into memory.

        For what is too large write ``labels.to_zarr(...)`` and ``model.save(...)``.

        Parameters
        ----------
        folder : path
        pixel_size : float, optional
        unit : str, optional
        force : bool

        Returns
        -------
        pathlib.Path
        """
        return self.compute().save(folder, pixel_size=pixel_size, unit=unit, force=force)

    def __repr__(self) -> str:
        rows, cols = self.image.shape
        return f"<DaskSegmentation of {rows} x {cols} pixels into {self.n_patterns} patterns, not computed>"

    def _repr_png_(self) -> bytes | None:  # type: ignore[override]
        return None  # to show it would be to compute it


def segment_dask(
    image: Any,
    n_patterns: int | str = 2,
    *,
    descriptor: Any = None,
    stride: int | str = 5,
    n_components: int | float = 5,
    upsampling: bool = True,
    sort_labels_by_pattern_size: bool = True,
    random_state: Any = None,
    mask: Any = None,
    device: Any = "auto",
    max_memory: int | str | None = None,
) -> DaskSegmentation:
    """Segment a dask array; `gpuseg.segment` comes here.

    Parameters
    ----------
    image : (H, W) dask array
    n_patterns : int
        "auto" needs all of an image in memory.
    descriptor, stride, n_components, upsampling
        As in `gpuseg.segment`. What is "auto" follows the lattice in the `MIDDLE` of the image.
    sort_labels_by_pattern_size : bool
        Whether label 0 is the smallest pattern, counted in the grid points drawn.
    random_state : int, numpy.random.RandomState or None
    mask : (H, W) dask array or array_like of bool, optional
        One in memory travels to the workers with the tasks.
    device : {"auto", "cpu", "cuda", "cuda:i"}
        Of every worker.
    max_memory : int or str, optional
        Bytes that the work on one block may take; `BLOCK_MEMORY` if None.

    Returns
    -------
    DaskSegmentation
        Learnt, with labels still to be computed.

    Raises
    ------
    TypeError, ValueError, gpuseg.DeviceError
        As `gpuseg.segment`.
    """
    wanted = check_int_or_auto(n_patterns, "n_patterns", 1)
    if wanted == AUTO:
        raise ValueError(
            "`n_patterns` is 'auto', but `image` is a dask array, and their number is found in an image that "
            "is in memory; look at a part that shows all of them, as with "
            "gpuseg.suggest(image[:2048, :2048].compute()), and give the number"
        )
    stride = check_int_or_auto(stride, "stride", 1)
    check_n_components(n_components, 1, 1)
    seeds = check_random_state(random_state)
    image, mask = _checked(image, mask)
    clock = Stopwatch(Device("cpu"))
    with clock("sizes"):
        descriptor, stride, period = _found_in_the_middle(as_descriptor(descriptor), stride, image, mask)
    parameters = {
        "n_patterns": wanted,
        "descriptor": describe(descriptor),
        "stride": stride,
        "n_components": n_components.item() if isinstance(n_components, np.generic) else n_components,
        "upsampling": bool(upsampling),
        "sort_labels_by_pattern_size": bool(sort_labels_by_pattern_size),
        "random_state": int(random_state) if isinstance(random_state, int | np.integer) else None,
        **period,
    }
    with clock("first look"):
        chunked = _look(image, mask, descriptor, stride, n_components, max_memory, device)
    check_usable(chunked.n_usable, wanted)
    with clock("descriptors"):
        chunked, known, samples = _learn(chunked)
    with clock("decomposition"):
        pca = PCA(n_components).fit_moments(known)
    with clock("clustering"):
        components = pca.transform(samples)
        centers, typical = find_patterns(components, pca, wanted, sort_labels_by_pattern_size, seeds)
    model = SegmentationModel(
        descriptor=chunked.descriptor,
        stride=stride,
        mean=pca.mean_,
        components=pca.components_,
        explained_variance_ratio=pca.explained_variance_ratio_,
        cluster_centers=centers,
        upsampling=bool(upsampling),
        **typical,
    )
    return _labelled(chunked, model, parameters, clock, samples)


def predict_dask(
    model: SegmentationModel, image: Any, mask: Any = None, device: Any = "auto", max_memory: Any = None
) -> DaskSegmentation:
    """Label a dask array with the patterns of a model; `SegmentationModel.predict` comes here.

    Parameters
    ----------
    model : SegmentationModel
    image : (H, W) dask array
        Read once at once, for its mean and its masked pixels.
    mask : (H, W) dask array or array_like of bool, optional
    device : {"auto", "cpu", "cuda", "cuda:i"}
    max_memory : int or str, optional
        As in `segment_dask`.

    Returns
    -------
    DaskSegmentation

    Raises
    ------
    TypeError, ValueError, gpuseg.DeviceError
        As `gpuseg.segment`.
    """
    image, mask = _checked(image, mask)
    clock = Stopwatch(Device("cpu"))
    n_operations, n_components = model.components.shape[1], int(model.components.shape[0])
    given = len(model.descriptor.operations())
    if given != n_operations:
        raise ValueError(f"the model knows {n_operations} operations, the descriptor gave {given}")
    with clock("first look"):
        chunked = _look(image, mask, model.descriptor, model.stride, n_components, max_memory, device)
        chunked, _ = chunked.learn(look_only=True)
    return _labelled(chunked, model, model._parameters(), clock, None)


def _checked(image: Any, mask: Any) -> tuple[Any, Any]:
    """Image and mask as dask arrays that make sense."""
    import dask.array

    if any(math.isnan(side) for side in image.shape):
        raise ValueError("`image` has chunks of unknown size; image.compute_chunk_sizes() finds them")
    check_image(np.broadcast_to(np.empty((), image.dtype), image.shape))
    if mask is None:
        return image, None
    if not is_dask(mask):
        mask = to_numpy(mask)
    if mask.dtype.kind not in "biuf":
        raise TypeError(f"`mask` has dtype {mask.dtype}; bool is needed, True where a pixel is used")
    if tuple(mask.shape) != tuple(image.shape):
        raise ValueError(
            f"`mask` has shape {tuple(mask.shape)}; that of `image`, {tuple(image.shape)}, is needed"
        )
    return image, mask if is_dask(mask) else dask.array.from_array(mask, chunks=image.chunks)


def _found_in_the_middle(
    descriptor: Any, stride: Any, image: Any, mask: Any
) -> tuple[Any, int, dict[str, float | None]]:
    """Descriptor and stride without an "auto", from the middle of the image, and its lattice period."""
    if not wants_sizes(descriptor, stride) and not _looks_for_something(descriptor):
        return descriptor, stride, {}
    import dask

    spans = tuple(slice((n - min(n, MIDDLE)) // 2, (n + min(n, MIDDLE)) // 2) for n in image.shape)
    pixels, hidden = dask.compute(image[spans], None if mask is None else mask[spans])
    pixels = to_numpy(pixels)
    hidden = None if hidden is None else to_numpy(hidden) != 0
    try:
        descriptor, stride, sizes = resolve(descriptor, stride, pixels, hidden)
        if hasattr(descriptor, "found_in"):
            descriptor = descriptor.found_in(pixels, hidden)
    except ValueError as error:
        raise ValueError(
            f"what is 'auto' is looked for amid a dask array, in rows {spans[0].start} to {spans[0].stop} "
            f"and columns {spans[1].start} to {spans[1].stop}, but there {error}; give numbers"
        ) from error
    return descriptor, stride, {} if sizes is None else {"lattice_period": sizes.lattice_period}


def _looks_for_something(descriptor: Any) -> bool:
    parts = getattr(descriptor, "descriptors", ())
    return getattr(descriptor, "glides", None) == AUTO or any(map(_looks_for_something, parts))


def _look(
    image: Any, mask: Any, descriptor: Any, stride: int, n_components: Any, max_memory: Any, device: Any
) -> Chunked:
    """Read every pixel once: what has to be known of the whole before anything is scored."""
    import dask

    budget = BLOCK_MEMORY if max_memory is None else check_memory(max_memory)
    layout = plan_blocks(descriptor, image.shape, stride, image.chunks, n_components, budget)
    blocks = layout.blocks()
    task = dask.delayed(look_at, pure=False)
    cells = [layout.cell(block) for block in blocks]
    looks = [
        task(_part(image, cell), _part(mask, cell), layout.points_in_cell(block), device)
        for block, cell in zip(blocks, cells, strict=True)
    ]
    seen = dask.compute(*looks)
    whole = functools.reduce(operator.add, (each.intensities for each in seen))
    if not whole.count:
        inside = " inside `mask`" if mask is not None else ""
        raise DeadImageError(f"`image` of shape {image.shape} has no finite pixel{inside}")
    if not whole.root:
        raise DeadImageError(f"`image` of shape {image.shape} is constant; there is nothing to tell apart")
    n_invalid = np.array([each.n_invalid for each in seen]).reshape(layout.shape)
    begins, n_usable = _ranks(layout, blocks, [each.usable for each in seen])
    workplace = ", ".join(sorted({each.device for each in seen}))
    log.info("%d blocks of about %d x %d grid points, on %s", len(blocks), *blocks[0].shape, workplace)
    blocks = layout.with_room(blocks, n_invalid)
    return Chunked(image, mask, descriptor, layout, blocks, device, whole, begins, n_usable, workplace)


def _ranks(
    layout: Layout, blocks: Sequence[Block], usable: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], int]:
    """Of each row of each block the rank of its first usable grid point, row by row of the whole grid."""
    counts = np.zeros((layout.grid.shape[0], layout.shape[1]), np.int64)
    for k, (block, here) in enumerate(zip(blocks, usable, strict=True)):
        counts[slice(*block.rows), k % layout.shape[1]] = here
    ends = np.cumsum(counts.ravel()).reshape(counts.shape)
    begins = ends - counts
    found = [begins[slice(*block.rows), k % layout.shape[1]] for k, block in enumerate(blocks)]
    return found, int(ends[-1, -1])


def _draw(chunked: Chunked) -> np.ndarray | None:
    """Ranks of the grid points that are drawn, the same whatever the blocks; None for all of them."""
    n_samples = min(ENOUGH_SAMPLES, SAMPLE_MEMORY // (4 * len(chunked.descriptor.operations())))
    if chunked.n_usable <= n_samples:
        return None
    random = np.random.default_rng(0)  # of its own: the seeds of k-means are drawn as in memory
    return np.sort(random.choice(chunked.n_usable, n_samples, replace=False, shuffle=False))


def _learn(chunked: Chunked) -> tuple[Chunked, Any, np.ndarray]:
    """What there is to learn from all blocks: moments, and samples of the descriptors."""
    descriptor = chunked.descriptor
    unweighted = isinstance(descriptor, Fusion) and descriptor.weights is None
    if unweighted:  # all of one weight, and what was learnt is weighted afterwards
        equal = replace(descriptor, weights=(1.0,) * len(descriptor.descriptors))
        chunked = replace(chunked, descriptor=equal)
    chunked, learnt = chunked.learn(chosen=_draw(chunked))
    if not unweighted:
        return chunked, learnt.moments, learnt.samples
    weighted = descriptor.weighted_by(learnt.samples)
    sizes = [len(each.operations()) for each in weighted.descriptors]
    weights = np.repeat(np.array(weighted.weights, np.float32), sizes)
    assert learnt.moments is not None  # there are usable grid points
    count, mean, scatter = learnt.moments
    known = count, mean * weights, scatter * weights[:, None] * weights
    return replace(chunked, descriptor=weighted), known, learnt.samples * weights


def _labelled(
    chunked: Chunked, model: SegmentationModel, parameters: dict[str, Any], clock: Stopwatch, drawn: Any
) -> DaskSegmentation:
    """Everything that labelling gives, still to be computed."""
    patterns = Patterns(model.mean, model.components, model.cluster_centers, model.upsampling)
    label, score = chunked.call(label_block, patterns), chunked.call(values_of_block)
    parts = [label(block) for block in chunked.blocks]
    operations, grid = chunked.descriptor.operations(), chunked.layout.grid
    values = chunked.array(
        [score(block) for block in chunked.blocks], None, np.float32, False, len(operations)
    )
    here = model.upsampling
    return DaskSegmentation(
        image=chunked.image,
        labels=chunked.array(parts, "labels", np.int32, here),
        certainty=chunked.array(parts, "certainty", np.float32, here),
        descriptors=DaskDescriptors(values, operations, grid, _usable(chunked)),
        components=chunked.array(parts, "components", np.float32, False, len(model.components)),
        point_labels=chunked.array(parts, "point_labels", np.int32, False),
        point_certainty=chunked.array(parts, "point_certainty", np.float32, False),
        model=model,
        parameters=parameters,
        timings=clock.seconds,
        device=chunked.workplace,
        chunked=chunked,
        drawn=drawn,
    )


def _usable(chunked: Chunked) -> Any:
    """Which grid points lie on a valid pixel, (h, w) bool dask array."""
    grid = chunked.layout.grid
    image = grid.at_points(chunked.image)
    usable = namespace(image).isfinite(image)
    return usable if chunked.mask is None else usable & (grid.at_points(chunked.mask) != 0)


def _part(array: Any, region: tuple[slice, slice]) -> Any:
    """Some pixels as one delayed NumPy or CuPy array, None of None.

    Its tasks are those of the dask array, so that a chunk is read once for all blocks that need it; but of an
    array on disk whose chunks are too large for that each block reads its own part.
    """
    if array is None:
        return None
    on_disk = set(array.dask.layers) == {array.name, f"original-{array.name}"}
    largest = array.dtype.itemsize * math.prod(max(sizes) for sizes in array.chunks)
    return array[region].rechunk(-1).to_delayed(optimize_graph=on_disk and largest > BLOCK_MEMORY).item()


def _reduced(function: Callable[[Any], Any], parts: list[Any]) -> Any:
    """A function of a list of parts, computed a few at a time on the workers."""
    import dask

    task = dask.delayed(function, pure=False)
    while len(parts) > 1:
        parts = [task(parts[k : k + TOGETHER]) for k in range(0, len(parts), TOGETHER)]
    return dask.compute(parts[0])[0]
