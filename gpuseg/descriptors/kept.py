"""Some of the operations of a descriptor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpuseg.arrays import namespace
from gpuseg.descriptors.base import Descriptors, Ready, Score
from gpuseg.grid import Grid

__all__ = ["Kept"]


@dataclass(frozen=True)
class Kept:
    """A descriptor of which only some maps are kept, where it cannot leave the others out itself.

    What `SegmentationModel.select` makes of, for example, a power spectrum: PCA and labels are faster then,
    the spectrum itself is not.

    Parameters
    ----------
    descriptor : descriptor
    indices : sequence of int
        Places in ``descriptor.operations()``, in the order in which they are wanted.
    """

    descriptor: Any
    indices: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "indices", tuple(int(k) for k in self.indices))

    def operations(self) -> tuple[Any, ...]:
        """Those that are kept.

        Returns
        -------
        tuple

        Raises
        ------
        ValueError
            If the descriptor has fewer.
        """
        return self._chosen(self.descriptor.operations())

    def grid(self, image_shape: tuple[int, int], stride: int) -> Grid:
        """The positions that are looked at.

        Parameters
        ----------
        image_shape : (H, W) of int
        stride : int

        Returns
        -------
        Grid
        """
        return self.descriptor.grid(image_shape, stride)

    def halo(self) -> tuple[int, int]:
        """How far from a grid point pixels are looked at.

        Returns
        -------
        (rows, cols) of int
        """
        return self.descriptor.halo()

    def keeping(self, indices: Sequence[int]) -> Kept:
        """Still fewer of them.

        Parameters
        ----------
        indices : sequence of int
            Places in `operations`.

        Returns
        -------
        Kept
        """
        return Kept(self.descriptor, tuple(self.indices[k] for k in indices))

    def transform(self, image: Any, stride: int = 5, mask: Any = None, device: Any = "auto") -> Descriptors:
        """The kept values at every grid point; see ``descriptor.transform``.

        Parameters
        ----------
        image : (H, W) array_like
        stride : int
        mask : (H, W) array_like of bool, optional
        device : {"auto", "cpu", "cuda", "cuda:i"}

        Returns
        -------
        Descriptors
        """
        found = self.descriptor.transform(image, stride, mask, device)
        xp = namespace(found.values)
        chosen = xp.asarray(np.array(self.indices, np.int64), device=found.values.device)
        learnt = None if found.descriptor is None else Kept(found.descriptor, self.indices)
        values = xp.take(found.values, chosen, axis=0)
        return replace(found, values=values, operations=self._chosen(found.operations), descriptor=learnt)

    def scorer(self, ready: Ready, grid: Grid) -> Score:
        """What scores an image, some rows of grid points at a time; see `Descriptor.scorer`.

        Parameters
        ----------
        ready : Ready
        grid : Grid

        Returns
        -------
        callable
        """
        of_all = self.descriptor.scorer(ready, grid)
        chosen = namespace(ready.pixels).asarray(np.array(self.indices, np.int64), device=ready.pixels.device)
        return lambda band: namespace(ready.pixels).take(of_all(band), chosen, axis=0)

    def _chosen(self, operations: tuple[Any, ...]) -> tuple[Any, ...]:
        if not all(0 <= k < len(operations) for k in self.indices):
            raise ValueError(
                f"`indices` is {self.indices}; places among {len(operations)} operations are needed"
            )
        return tuple(operations[k] for k in self.indices)
