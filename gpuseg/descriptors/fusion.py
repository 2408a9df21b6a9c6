"""Several descriptors of the same grid points as one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpuseg.arrays import home_of, move, namespace, resolve_device, to_numpy
from gpuseg.checks import check_image, check_int, check_mask
from gpuseg.descriptors.base import Descriptors, Ready, Score, usable_points
from gpuseg.engines import engine_for
from gpuseg.grid import Grid
from gpuseg.symmetry import Part

__all__ = ["Fusion"]


@dataclass(frozen=True)
class Fusion:
    """Several descriptors of the same grid points, one block of values after the other, each of equal weight.

    What `gpuseg.segment` makes of a list of descriptors.

    Parameters
    ----------
    descriptors : sequence of descriptors
        At least one.
    weights : sequence of float, optional
        Factor of each block. None scales each so that its own first principal component has the variance 1,
        whatever the number of its values and their unit: no block alone decides what is principal in all of
        them (multiple factor analysis). A model keeps the weights of the image it was fitted on.

    Notes
    -----
    The blocks are centred by the principal component analysis, which subtracts the mean of every value. A
    block that is the same at all grid points has the weight 0. The sum of all variances would be another
    measure of a block; it counts the noise of its many values, and drowns a power spectrum in a correlation
    map. The variance is that of at most 4096 usable grid points, evenly spaced.
    """

    descriptors: Any
    weights: Any = None

    def __post_init__(self) -> None:
        for name in ("descriptors", "weights"):  # tuples, so that it compares and cannot change
            value = getattr(self, name)
            if isinstance(value, list | np.ndarray):
                object.__setattr__(self, name, tuple(value))

    def operations(self) -> tuple[Part, ...]:
        """Those of the first descriptor, then those of the second, ...

        Returns
        -------
        tuple of Part

        Raises
        ------
        TypeError, ValueError
            For a parameter that makes no sense.
        """
        return tuple(
            Part(block, operation)
            for block, descriptor in enumerate(self._checked())
            for operation in descriptor.operations()
        )

    def grid(self, image_shape: tuple[int, int], stride: int) -> Grid:
        """The positions that are looked at.

        Parameters
        ----------
        image_shape : (H, W) of int
        stride : int

        Returns
        -------
        Grid

        Raises
        ------
        ValueError
            If the descriptors look at different ones.
        """
        grids = [descriptor.grid(image_shape, stride) for descriptor in self._checked()]
        for k, grid in enumerate(grids):
            if grid != grids[0]:
                raise ValueError(
                    f"`descriptor` is a list of which number {k} has {grid.shape} grid points from "
                    f"{grid.first} on, number 0 has {grids[0].shape} from {grids[0].first} on; the same "
                    "are needed, as border='full' gives"
                )
        return grids[0]

    def halo(self) -> tuple[int, int]:
        """How far from a grid point pixels are looked at by any of the descriptors.

        Returns
        -------
        (rows, cols) of int
        """
        halos = [descriptor.halo() for descriptor in self._checked()]
        return max(rows for rows, _ in halos), max(cols for _, cols in halos)

    def found_in(self, image: Any, mask: Any = None) -> Fusion:
        """The same with what its descriptors look for in an image, such as the lengths of glides.

        Parameters
        ----------
        image : (H, W) array_like
        mask : (H, W) array_like of bool, optional

        Returns
        -------
        Fusion
            This very one if none of them looks for anything.
        """
        looking = [hasattr(each, "found_in") for each in self._checked()]
        if not any(looking):
            return self
        found = (
            each.found_in(image, mask) if looks else each
            for each, looks in zip(self.descriptors, looking, strict=True)
        )
        return replace(self, descriptors=tuple(found))

    def transform(self, image: Any, stride: int = 5, mask: Any = None, device: Any = "auto") -> Descriptors:
        """All values at every grid point.

        Parameters
        ----------
        image : (H, W) array_like
        stride : int
            Distance of grid points in pixels.
        mask : (H, W) array_like of bool, optional
            True where a pixel may be used.
        device : {"auto", "cpu", "cuda", "cuda:i"}

        Returns
        -------
        Descriptors
            With values (N, h, w) float32 that live where `image` lives, and as ``descriptor`` this one with
            its weights.

        Raises
        ------
        TypeError, ValueError, gpuseg.DeviceError
            As `gpuseg.LocalCorrelationMap.transform`.
        """
        image = check_image(image)
        mask = check_mask(mask, image.shape)
        found = self.found_in(image, mask)
        operations = found.operations()
        grid = self.grid(image.shape, check_int(stride, "stride", 1))
        where = resolve_device(device, image)
        with where.current:
            there = move(image, where)
            hidden = None if mask is None else move(mask, where)
            xp = namespace(there)
            values = xp.empty((len(operations), *grid.shape), dtype=xp.float32)
            weights, begin = [], 0
            for k, descriptor in enumerate(found.descriptors):
                block = descriptor.transform(there, stride, hidden, where)
                weights.append(
                    _weight(_some(block.samples())) if self.weights is None else float(self.weights[k])
                )
                end = begin + len(block.operations)
                values[begin:end] = block.values * np.float32(weights[k])
                begin = end
        learnt = replace(found, weights=tuple(weights))
        return Descriptors(values, operations, grid, block.usable, learnt).on(home_of(image))

    def scorer(self, ready: Ready, grid: Grid) -> Score:
        """What scores an image, some rows of grid points at a time; see `Descriptor.scorer`.

        Parameters
        ----------
        ready : Ready
        grid : Grid

        Returns
        -------
        callable

        Raises
        ------
        ValueError
            If the weights are still to be learnt, with `weighted`.
        """
        if self.weights is None:
            raise ValueError("`weights` is None; `weighted` learns them from an image")
        blocks = [
            (each.scorer(ready, grid), len(each.operations()), np.float32(weight))
            for each, weight in zip(self._checked(), self.weights, strict=True)
        ]
        n = sum(count for _, count, _ in blocks)

        def score(band: Grid) -> Any:
            values, begin = namespace(ready.pixels).empty((n, *band.shape), dtype=np.float32), 0
            for scorer, count, weight in blocks:
                values[begin : begin + count] = scorer(band) * weight
                begin += count
            return values

        return score

    def weighted(self, ready: Ready, grid: Grid, rows: int) -> Fusion:
        """The same with the weights that an image gives its blocks, worked on some rows at a time.

        Parameters
        ----------
        ready : Ready
        grid : Grid
        rows : int
            Rows of grid points of which the values are in memory at once.

        Returns
        -------
        Fusion
            This very one if its weights were given.
        """
        if self.weights is not None:
            return self
        usable = np.flatnonzero(to_numpy(usable_points(ready.pixels, ready.valid, grid)).ravel())
        chosen = usable[:: _sample_step(len(usable))]
        weights = []
        for descriptor in self._checked():
            scorer, parts = descriptor.scorer(ready, grid), []
            for begin in range(0, grid.shape[0], rows):
                band = grid.band(begin, min(begin + rows, grid.shape[0]))
                first = begin * grid.shape[1]
                here = chosen[(chosen >= first) & (chosen < first + band.size)] - first
                if here.size:
                    values = scorer(band)
                    xp = namespace(values)
                    index = xp.asarray(here, device=values.device)
                    parts.append(xp.take(xp.reshape(values, (values.shape[0], -1)), index, axis=1))
            weights.append(_weight(namespace(*parts).concat(parts, axis=1).T) if parts else 0.0)
        return replace(self, weights=tuple(weights))

    def weighted_by(self, samples: Any) -> Fusion:
        """The same with the weights that some grid points give its blocks.

        Parameters
        ----------
        samples : (S, N) float32 array
            Values of all blocks, with the weights 1, at grid points drawn from the image.

        Returns
        -------
        Fusion
        """
        ends = np.cumsum([len(each.operations()) for each in self._checked()]).tolist()
        parts = itertools.pairwise([0, *ends])
        return replace(self, weights=tuple(_weight(_some(samples[:, begin:end])) for begin, end in parts))

    def working_bytes(self, band: Grid) -> int:
        """Memory that scoring takes beside its values: a block before it is scaled.

        Parameters
        ----------
        band : Grid

        Returns
        -------
        int
        """
        return max(
            8 * len(each.operations()) * band.size
            + (each.working_bytes(band) if hasattr(each, "working_bytes") else 0)
            for each in self._checked()
        )

    def _checked(self) -> tuple[Any, ...]:
        if not isinstance(self.descriptors, tuple) or not self.descriptors:
            raise ValueError(f"`descriptor` is {self.descriptors!r}; at least one descriptor is needed")
        if self.weights is not None:
            if len(self.weights) != len(self.descriptors):
                raise ValueError(
                    f"`weights` has {len(self.weights)} entries; one for each of the "
                    f"{len(self.descriptors)} descriptors is needed"
                )
            if not all(np.isfinite(weight) and weight >= 0 for weight in self.weights):
                raise ValueError(f"`weights` is {self.weights!r}; finite numbers of at least 0 are needed")
        return self.descriptors


def _sample_step(n_samples: int) -> int:
    return max(1, -(-n_samples // ENOUGH_SAMPLES))


def _some(samples: Any) -> Any:
    """Evenly spaced rows of a table of samples."""
    return namespace(samples).asarray(samples[:: _sample_step(samples.shape[0]), :], copy=True)


def _weight(samples: Any) -> float:
    """One over the root of the largest principal variance of some values (S, N), 0 if nothing varies."""
    xp, engine = namespace(samples), engine_for(home_of(samples))
    centred = samples - xp.mean(samples, axis=0)[None, :]
    deviation = xp.sqrt(xp.mean(centred * centred, axis=0))
    if not bool(xp.any(deviation > 0)):
        return 0.0
    # power iteration; its error is second order in that of the axis, so few rounds do
    axis = deviation
    if not float(xp.sum(xp.abs(centred @ axis))) > ROUNDING * float(xp.sum(xp.abs(centred) @ xp.abs(axis))):
        axis = centred[int(xp.argmax(xp.sum(centred * centred, axis=1))), :]  # what rises where others fall
    with engine.one_blas_thread():
        for _ in range(ROUNDS):
            axis = axis / xp.sqrt(xp.sum(axis * axis))
            axis = (centred @ axis) @ centred / centred.shape[0]
        return float(xp.sum(axis * axis)) ** -0.25


ENOUGH_SAMPLES = 1 << 12
"""Grid points from which the spread of a block is found, evenly spaced."""

ROUNDING = 1e-4
"""Of its terms: a projection that is no larger is nothing but their rounding."""

ROUNDS = 30
