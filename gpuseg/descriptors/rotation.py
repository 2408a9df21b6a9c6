"""Rotational symmetry: how well the surroundings of a point map onto themselves when turned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpuseg.descriptors.polar_symmetry import PolarSymmetry, check_angles
from gpuseg.symmetry import Rotation

__all__ = ["RotationalSymmetry"]


@dataclass(frozen=True)
class RotationalSymmetry(PolarSymmetry):
    """Pearson's coefficient of circular patches with themselves turned about their centre, max-pooled.

    Scored at every pixel; of the scores in a window around every grid point the largest are kept, those of
    the centres of symmetry nearby. Tells crystals by their point symmetry, whatever their orientation
    (paper, Appendix A and Figure 5).

    Parameters
    ----------
    radius : int
        Of the patch in pixels, at least 1. Best about one to two lattice periods.
    angles : sequence of float
        In degrees, other than 0. An angle and its opposite score the same.
    pooling_radius : int or (rows, cols)
        Half size of the pooling window in pixels, best at least half a lattice period, so that every window
        holds a centre of symmetry. 0 keeps the score at the grid point itself.
    n_max : int
        How many of the largest scores in the window are kept, sorted.
    border : {"full", "valid"}
        "full" scores the whole image, where pixels outside count as masked; "valid" only positions whose
        pooling window and patches lie inside.
    sectors : int, optional
        Each ring of a patch has a multiple of so many samples, up to 360; None takes the coarsest division of
        the circle that the operations permute. `keeping` passes it on, so that scores stay what they were.

    Notes
    -----
    A patch is sampled on rings of radius 0.5, 1.5, ... pixels, about once per pixel of area, by cubic
    splines; samples count by their area r dr dtheta. Scores lie in [-1, 1]. A patch that is flat (variance
    below 1e-10 of the image's) scores 0. Samples that depend on a masked or non-finite pixel, or one outside
    the image, are left out; where less than half of the area is known on both sides the score is missing. A
    window with fewer than `n_max` scores takes those of the nearest grid point.
    """

    radius: int = 20
    angles: Any = (60, 90, 120, 180)
    pooling_radius: Any = 20
    n_max: int = 1
    border: str = "full"
    sectors: Any = None

    def scored(self) -> tuple[Rotation, ...]:
        """The rotations, in the order given.

        Returns
        -------
        tuple of Rotation

        Raises
        ------
        TypeError, ValueError
            If they make no sense.
        """
        angles = check_angles(self.angles, "angles", 360, "(60, 90, 120, 180)")
        if 0 in angles:
            raise ValueError(
                f"`angles` is {self.angles!r}; a rotation by 0 degrees tells nothing, leave it out"
            )
        return tuple(Rotation(angle) for angle in angles)
