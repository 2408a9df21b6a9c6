"""Images of any size in bounded memory: grid rows are worked on in bands, with the labels of the whole."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeVar

from gpuseg.arrays import Device, free_memory, is_out_of_memory, move, release_memory, resolve_device
from gpuseg.checks import check_memory
from gpuseg.descriptors.base import Descriptors, Ready, count_usable, usable_points
from gpuseg.grid import Grid

__all__ = ["BandedDescriptors", "MemoryPlan", "describe_image", "plan_memory", "within_memory"]

log = logging.getLogger("gpuseg")

CPU = Device("cpu")

SHARE = 0.5
"""Of the free memory is used where `max_memory` does not say how much."""

# Fitted to the peak memory of `segment` on the CPU: the image and labels; a grid point with its clustering,
# and each component of it.
BYTES_PER_PIXEL, BYTES_PER_POINT, BYTES_PER_COMPONENT = 16, 20, 8

BYTES_PER_SCORE, BYTES_PER_SCORE_OF_BAND = 8, 12
"""Scores, and a copy without the grid points that are masked; in a band also rows around it from which
missing scores are filled in."""

BYTES_PER_PIXEL_ON_GPU, BYTES_MORE_PER_SCORE_ON_GPU = 52, 4
"""The same for a GPU, from the arrays that the stand-in of the tests counts: planes of the image in double,
of which some are alive at once; where in a column the nearest scores are, and samples less their mean."""

MANY_COMPONENTS = 20
"""Where `n_components` is a share of the variance, so many are reckoned with."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class MemoryPlan:
    """How much of an image's descriptors is in memory at once.

    Parameters
    ----------
    grid : Grid
        All of it.
    rows : int
        Rows of grid points of a band.
    expected : int
        Bytes that the work takes at its peak, beside what Python and its libraries take.
    budget : int
        Bytes it may take.
    least : int
        Bytes that a band of one row would take.
    """

    grid: Grid
    rows: int
    expected: int
    budget: int
    least: int = 0

    @property
    def n_bands(self) -> int:
        """Number of bands; 1 is the whole image at once."""
        return -(-self.grid.shape[0] // self.rows)

    def __str__(self) -> str:
        how = "the whole image at once"
        if self.n_bands > 1:
            how = f"in {self.n_bands} bands of {self.rows} rows of grid points"
        return f"about {_megabytes(self.expected)} of {_megabytes(self.budget)}, {how}"


@dataclass(frozen=True)
class BandedDescriptors:
    """The local descriptors of an image too large to have all of them in memory: some rows when asked for.

    Parameters
    ----------
    descriptor : descriptor
        What describes this and further images alike.
    operations : tuple of N
    grid : Grid
    usable : (h, w) bool array
        As in `gpuseg.descriptors.Descriptors`.
    rows : int
        Rows of grid points of a band.
    ready : Ready
        The image.
    home : Device
        Where the descriptors of a band live.
    """

    descriptor: Any
    operations: tuple[Any, ...]
    grid: Grid
    usable: Any
    rows: int
    ready: Ready
    home: Device

    def bands(self) -> Iterator[Descriptors]:
        """The descriptors of one band after the other, each computed when it is its turn.

        Yields
        ------
        Descriptors
            Of the rows of the grid from above to below.
        """
        where = self.ready.device
        with where.current:
            scorer = self.descriptor.scorer(self.ready, self.grid)
        for begin in range(0, self.grid.shape[0], self.rows):
            band = self.grid.band(begin, min(begin + self.rows, self.grid.shape[0]))
            with where.current:
                usable = usable_points(self.ready.pixels, self.ready.valid, band)
                described = Descriptors(scorer(band), self.operations, band, usable).on(self.home)
            yield described

    @functools.cached_property
    def n_usable(self) -> int:
        """How many grid points patterns are learnt from."""
        return count_usable(self.usable)

    @property
    def values(self) -> NoReturn:
        """Not there: see `bands`."""
        raise ValueError(self._too_large("values"))

    @property
    def maps(self) -> NoReturn:
        """Not there: see `bands`."""
        raise ValueError(self._too_large("maps"))

    def samples(self) -> NoReturn:
        """Not there: see `bands`.

        Returns
        -------
        never

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(self._too_large("samples"))

    def on(self, device: Device) -> BandedDescriptors:
        """The same with bands that live on another device.

        Parameters
        ----------
        device : Device

        Returns
        -------
        BandedDescriptors
        """
        return replace(self, usable=move(self.usable, device), home=device)

    def _too_large(self, what: str) -> str:
        size = 4 * len(self.operations) * self.grid.size
        return (
            f"the {what} of the descriptors would take {_megabytes(size)} and were worked on in bands of "
            f"{self.rows} rows; take them band by band from `descriptors.bands()`, or segment again with a "
            "larger `max_memory`, `stride`, or fewer operations"
        )


def plan_memory(
    descriptor: Any,
    image_shape: tuple[int, int],
    stride: int,
    n_components: int | float = 5,
    max_memory: int | str | None = None,
    device: Any = "auto",
) -> MemoryPlan | None:
    """How an image is worked on within a budget of memory.

    Parameters
    ----------
    descriptor : descriptor
    image_shape : (H, W) of int
    stride : int
    n_components : int or float
    max_memory : int, str or None
        Bytes, such as 4 * 10**9 or "4GB"; None is half of the memory that is free on the device.
    device : {"auto", "cpu", "cuda", "cuda:i"} or Device

    Returns
    -------
    MemoryPlan or None
        None for a descriptor that cannot say how many operations it has.

    Raises
    ------
    TypeError
        If `max_memory` is given and too small for a descriptor that cannot be worked on in bands.
    ValueError
        If `max_memory` is no size, or too small for a single row of grid points.
    """
    given, where = None if max_memory is None else check_memory(max_memory), resolve_device(device)
    if not _can(descriptor, "operations", "grid"):
        return None
    budget = int(SHARE * free_memory(where)) if given is None else given
    n_operations = len(descriptor.operations())
    grid = descriptor.grid(image_shape, stride)
    k = min(n_operations, int(n_components) if n_components >= 1 else MANY_COMPONENTS)
    pixels, height = image_shape[0] * image_shape[1], grid.shape[0]
    on_gpu = where.kind != "cpu"
    fixed = (BYTES_PER_PIXEL_ON_GPU if on_gpu else BYTES_PER_PIXEL) * pixels
    fixed += (BYTES_PER_POINT + BYTES_PER_COMPONENT * k) * grid.size

    def expected(rows: int) -> int:
        per_score = BYTES_PER_SCORE if rows == height else BYTES_PER_SCORE_OF_BAND
        per_score += BYTES_MORE_PER_SCORE_ON_GPU if on_gpu else 0
        band = grid.band(0, rows)
        beside = descriptor.working_bytes(band) if hasattr(descriptor, "working_bytes") else 0
        return fixed + per_score * n_operations * band.size + beside

    if expected(height) <= budget or not _can(descriptor, "scorer"):
        if expected(height) > budget and given is not None:
            raise TypeError(
                f"`max_memory` is {_megabytes(given)}, {_megabytes(expected(height))} are needed, and "
                f"{type(descriptor).__name__} cannot be worked on in bands, for want of a method `scorer`"
            )
        return MemoryPlan(grid, max(height, 1), expected(height), budget, expected(min(1, height)))
    rows = _most(expected, height, budget)
    if rows == 0 and given is not None:
        raise ValueError(
            f"`max_memory` is {_megabytes(given)}; at least {_megabytes(expected(1))} are needed for an "
            f"image of {image_shape[0]} x {image_shape[1]} pixels; a larger `stride` needs less"
        )
    return MemoryPlan(grid, max(rows, 1), expected(max(rows, 1)), budget, expected(1))


def _can(descriptor: Any, *methods: str) -> bool:
    """Whether a descriptor has these methods, and all that it is made of."""
    parts = getattr(descriptor, "descriptors", ()) or (getattr(descriptor, "descriptor", None),)
    return all(hasattr(descriptor, name) for name in methods) and all(
        part is None or _can(part, *methods) for part in parts
    )


def _most(expected: Callable[[int], int], height: int, budget: int) -> int:
    """The largest number of rows within the budget, in bands of nearly equal height; 0 if none is."""
    low, high = 0, height
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if expected(middle) <= budget else (low, middle)
    return -(-height // -(-height // low)) if low else 0


def describe_image(
    descriptor: Any, image: Any, stride: int, mask: Any, where: Device, plan: MemoryPlan | None
) -> Any:
    """The descriptors of an image, all of them or band by band as planned.

    Parameters
    ----------
    descriptor : descriptor
    image : (H, W) array
        Checked.
    stride : int
    mask : (H, W) bool array or None
    where : Device
    plan : MemoryPlan or None
        None is all of them at once.

    Returns
    -------
    Descriptors or BandedDescriptors
        On the device.
    """
    mask = None if mask is None else move(mask, where)
    if plan is None or plan.n_bands == 1:
        return descriptor.transform(move(image, where), stride=stride, mask=mask, device=where)
    log.info("memory: %s", plan)
    ready, grid = Ready.of(image, mask, where), descriptor.grid(tuple(image.shape), stride)
    if hasattr(descriptor, "weighted"):
        descriptor = descriptor.weighted(ready, grid, plan.rows)
    usable = usable_points(ready.pixels, ready.valid, grid)
    return BandedDescriptors(descriptor, descriptor.operations(), grid, usable, plan.rows, ready, where)


def within_memory(
    run: Callable[[MemoryPlan | None], Result], plan: MemoryPlan | None, where: Device = CPU
) -> Result:
    """Do some work; where memory does not suffice for it, again in smaller bands.

    Parameters
    ----------
    run : callable
        Of a plan; may be called several times.
    plan : MemoryPlan or None
    where : Device
        Whose memory it is; what was kept of it for later is given back before each further try.

    Returns
    -------
    object
        What `run` gives.

    Raises
    ------
    MemoryError
        If memory does not even suffice for a band of one row of grid points.
    """
    while True:
        try:
            return run(plan)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if plan is None:
                what = "the descriptors, of which all are needed at once, do not fit"
                raise _too_little(what, where, error) from error
            if plan.rows == 1:
                needed = f"for which about {_megabytes(plan.least)} are needed,"
                what = f"not even one row of grid points at a time fits, {needed}"
                raise _too_little(what, where, error) from error
        release_memory(where)  # here, where the failed try with its arrays is forgotten
        plan = replace(plan, rows=-(-plan.rows // 2))
        log.warning("out of memory: again in %d bands of %d rows", plan.n_bands, plan.rows)


@contextmanager
def memory_is_told(what: str, where: Device) -> Iterator[None]:
    """A context in which an error for want of memory says what did not fit, and what to do.

    Parameters
    ----------
    what : str
        What is done, e.g. "looking for glides".
    where : Device

    Raises
    ------
    MemoryError
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise _too_little(f"{what} does not fit", where, error) from error


def _too_little(what: str, where: Device, error: Exception) -> MemoryError:
    other = "" if where.kind == "cpu" else ", or device='cpu'"
    return MemoryError(
        f"{what} into the memory of {where}, of which {_megabytes(free_memory(where))} are free ({error}); "
        f"use a larger `stride`, fewer operations, a part of the image{other}"
    )


def _megabytes(size: int) -> str:
    if size < 2**20:
        return f"{size / 2**10:.0f} KB"
    return f"{size / 2**20:.0f} MB" if size < 2**31 else f"{size / 2**30:.1f} GB"
