"""Reflection symmetry: how well the surroundings of a point map onto their mirror image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpuseg.checks import check_int
from gpuseg.descriptors.polar_symmetry import PolarSymmetry, check_angles
from gpuseg.symmetry import Reflection

__all__ = ["ReflectionSymmetry", "plane_angles"]


@dataclass(frozen=True)
class ReflectionSymmetry(PolarSymmetry):
    """Pearson's coefficient of circular patches with their mirror images, max-pooled.

    The mirror lines run through the centre of the patch in evenly spaced directions, so grains of different
    orientation are told apart by the lines at which they are symmetric (paper, Appendix A and Figure 5).

    Parameters
    ----------
    radius : int
        Of the patch in pixels, at least 1. Best about one to two lattice periods.
    n_planes : int
        Number of mirror lines; the k-th has the direction 180 k / n_planes degrees, counter-clockwise from
        the column axis.
    pooling_radius, n_max, border
        As in `RotationalSymmetry`.
    angles : sequence of float, optional
        Directions of the mirror lines in degrees, instead of `n_planes` evenly spaced ones.
    sectors : int, optional
        As in `RotationalSymmetry`.

    Notes
    -----
    Patches, scores and what happens to flat, masked and outer pixels are those of `RotationalSymmetry`.
    """

    radius: int = 20
    n_planes: int = 10
    pooling_radius: Any = 20
    n_max: int = 1
    border: str = "full"
    angles: Any = None
    sectors: Any = None

    def scored(self) -> tuple[Reflection, ...]:
        """The reflections, in the order of their directions.

        Returns
        -------
        tuple of Reflection

        Raises
        ------
        TypeError, ValueError
            If they make no sense.
        """
        return tuple(Reflection(angle) for angle in plane_angles(self.n_planes, self.angles))


def plane_angles(n_planes: Any, angles: Any) -> tuple[float, ...]:
    """Directions of mirror lines.

    Parameters
    ----------
    n_planes : int
    angles : sequence of float, optional
        Count instead if given.

    Returns
    -------
    tuple of float
        In degrees, in [0, 180).

    Raises
    ------
    TypeError, ValueError
    """
    if angles is not None:
        return check_angles(angles, "angles", 180, "(0, 45, 90, 135)")
    count = check_int(n_planes, "n_planes", 1)
    return tuple(180 * k / count for k in range(count))
