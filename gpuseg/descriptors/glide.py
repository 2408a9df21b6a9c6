"""Glide reflection symmetry: how well the surroundings of a point map onto their mirror image moved along."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

from gpuseg.checks import check_image, check_mask
from gpuseg.descriptors.base import Descriptors
from gpuseg.descriptors.polar_symmetry import PolarSymmetry
from gpuseg.descriptors.reflection import plane_angles
from gpuseg.lattice import autocorrelation, period_along
from gpuseg.symmetry import GlideReflection

__all__ = ["GlideReflectionSymmetry"]


@dataclass(frozen=True)
class GlideReflectionSymmetry(PolarSymmetry):
    """Pearson's coefficient of circular patches with their mirror images a glide away, max-pooled.

    The operation is r -> M r + t' (paper, eq. 1): a reflection at a line through the centre of the patch and
    a translation t' along that line. Tells a crystal with glide lines from one of the same cell with mirrors.

    Parameters
    ----------
    radius : int
        Of the patch in pixels, at least 1. Best about one to two lattice periods.
    n_planes : int
        Number of glide lines; the k-th has the direction 180 k / n_planes degrees, counter-clockwise from the
        column axis.
    glides : "auto", float, or sequence of float
        Length of t' in pixels: one for all lines or one for each. "auto" takes half the lattice period along
        each line, found in the autocorrelation of the image, and leaves out lines along which the image has
        no period of at most twice the radius. What was found is kept by the model.
    pooling_radius, n_max, border
        As in `RotationalSymmetry`.
    angles : sequence of float, optional
        Directions of the glide lines in degrees, instead of `n_planes` evenly spaced ones.
    sectors : int, optional
        As in `RotationalSymmetry`.

    Notes
    -----
    Patches, scores and what happens to flat, masked and outer pixels are those of `RotationalSymmetry`. A
    glide of a whole lattice period scores as the reflection does.
    """

    radius: int = 20
    n_planes: int = 10
    glides: Any = "auto"
    pooling_radius: Any = 20
    n_max: int = 1
    border: str = "full"
    angles: Any = None
    sectors: Any = None

    def scored(self) -> tuple[GlideReflection, ...]:
        """The glide reflections, in the order of their directions.

        Returns
        -------
        tuple of GlideReflection

        Raises
        ------
        TypeError, ValueError
            If they make no sense, or the glides are still to be found in an image.
        """
        angles = plane_angles(self.n_planes, self.angles)
        if isinstance(self.glides, str):
            if self.glides != "auto":
                raise ValueError(f"`glides` is {self.glides!r}; 'auto' or lengths in pixels are needed")
            raise ValueError(
                "`glides` is 'auto': they depend on the image; `found_in(image)` tells which they are there"
            )
        glides = self.glides if isinstance(self.glides, tuple) else (self.glides,) * len(angles)
        if len(glides) != len(angles):
            raise ValueError(
                f"`glides` has {len(glides)} lengths for {len(angles)} lines; one for each, or one, is needed"
            )
        return tuple(
            GlideReflection(angle, _checked_glide(glide)) for angle, glide in zip(angles, glides, strict=True)
        )

    def found_in(self, image: Any, mask: Any = None) -> GlideReflectionSymmetry:
        """The same with the glides that an image suggests.

        Parameters
        ----------
        image : (H, W) array_like
        mask : (H, W) array_like of bool, optional
            True where a pixel may be used.

        Returns
        -------
        GlideReflectionSymmetry
            With lengths in `glides`, in pixels, and only those lines along which there is a period; this very
            one if its glides were given.

        Raises
        ------
        ValueError
            If the image has no period along any of the lines.
        """
        if self.glides != "auto":
            return self
        longest = 2 * self._checked()[0]
        found = autocorrelation(image, mask)
        angles = plane_angles(self.n_planes, self.angles)
        periods = {angle: period_along(found, angle, SPREAD) for angle in angles}
        glides = {angle: p / 2 for angle, p in periods.items() if p is not None and p <= longest}
        if not glides:
            raise ValueError(
                f"`glides` is 'auto', but `image` has no lattice period of at most {longest} px along any of "
                f"the {len(angles)} lines; give `glides` in pixels, other `angles`, or a larger `radius`"
            )
        return replace(self, angles=tuple(glides), glides=tuple(glides.values()))

    def transform(self, image: Any, stride: int = 5, mask: Any = None, device: Any = "auto") -> Descriptors:
        """Score every glide reflection around every grid point; see `Descriptor.transform`.

        Parameters
        ----------
        image : (H, W) array_like
        stride : int
        mask : (H, W) array_like of bool, optional
        device : {"auto", "cpu", "cuda", "cuda:i"}

        Returns
        -------
        Descriptors
            With the glides that were found as ``descriptor``, where `glides` is "auto".
        """
        if self.glides != "auto":
            return super().transform(image, stride, mask, device)
        image = check_image(image)
        found = self.found_in(image, check_mask(mask, image.shape))
        return replace(found.transform(image, stride, mask, device), descriptor=found)

    def _only(self, scored: list[Any]) -> Self:
        return replace(
            self,
            angles=tuple(each.angle for each in scored),
            sectors=self._sectors(),
            glides=tuple(each.glide for each in scored),
        )


SPREAD = 2.0
"""Largest angle in degrees between a glide line and the lattice vector whose half is its glide."""


def _checked_glide(glide: Any) -> float:
    try:
        length = float(glide)
    except (TypeError, ValueError):
        raise TypeError(f"`glides` holds {glide!r}; lengths in pixels are needed") from None
    if not math.isfinite(length) or length <= 0:
        raise ValueError(
            f"`glides` holds {glide!r}; lengths above 0 pixels are needed (a glide of 0 is a reflection)"
        )
    return length
