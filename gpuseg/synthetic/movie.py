"""A movie: two grains and a boundary that moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gpuseg.synthetic._inputs import RandomState, check_integer, check_number, check_shape
from gpuseg.synthetic.grains import label_halves
from gpuseg.synthetic.imaging import poisson_dose
from gpuseg.synthetic.phases import Phase, hexagonal
from gpuseg.synthetic.scenes import SyntheticImage, image_of_grains, in_words


@dataclass(frozen=True)
class BoundaryMovie:
    """A series of images of two grains whose boundary moves; frames are made when asked for.

    ``movie[i]`` is frame i as a `SyntheticImage`, always the same one; iterating gives all of them, with one
    in memory at a time. The crystals stand still: a grain grows by columns of its own lattice.
    `boundary_movie` makes one of hexagonal grains.

    Parameters
    ----------
    shape : (H, W)
        In pixels.
    n_frames : int
    phases : (Phase, Phase)
        What the two grains are made of.
    min_distance : float
        As in `columns_of_grains`, in pixels.
    boundary_angle : float
        Direction of the boundary in degrees, counter-clockwise from the column axis.
    speed : float
        Pixels per frame across the boundary, positive if grain 0 grows.
    start : float
        Distance of the boundary from the image's centre in the first frame, in pixels.
    counts : float or None
        Mean counts per pixel of each frame; None for no noise.
    seed : int
        Of the places of the columns and of the noise.
    """

    shape: tuple[int, int]
    n_frames: int
    phases: tuple[Phase, Phase] = field(repr=False)
    min_distance: float
    boundary_angle: float
    speed: float
    start: float
    counts: float | None
    seed: int = field(repr=False)

    @property
    def boundary(self) -> NDArray[np.float64]:
        """(n_frames,) distance of the boundary from the image's centre in pixels, positive into grain 1."""
        return self.start + self.speed * np.arange(self.n_frames, dtype=np.float64)

    def __len__(self) -> int:
        return self.n_frames

    def __getitem__(self, index: int) -> SyntheticImage:
        if not -self.n_frames <= index < self.n_frames:
            raise IndexError(
                f"frame {index} is asked for; the movie has {self.n_frames}, 0 to {self.n_frames - 1}"
            )
        index %= self.n_frames
        offset = float(self.boundary[index])
        labels = label_halves(self.shape, angle=self.boundary_angle, offset=offset)
        title = in_words(f"boundary at {offset:+.4g} px", self.phases)
        scene = image_of_grains(
            labels, self.phases, min_distance=self.min_distance, description=title, random_state=self.seed
        )
        if self.counts is None:
            return scene
        noise = np.random.default_rng((self.seed, index))
        dosed = poisson_dose(scene.image, self.counts, random_state=noise)
        return replace(scene, image=dosed, description=f"{title}; {self.counts:g} counts per pixel")

    def __iter__(self) -> Iterator[SyntheticImage]:
        return (self[index] for index in range(self.n_frames))


def boundary_movie(
    shape: tuple[int, int] = (300, 400),
    n_frames: int = 50,
    *,
    period: float = 14.0,
    misorientation: float = 14.0,
    rotation: float = 7.0,
    boundary_angle: float = 90.0,
    speed: float = 1.0,
    start: float | None = None,
    counts: float | None = 20.0,
    random_state: RandomState = None,
) -> BoundaryMovie:
    """Two hexagonal grains and a boundary that moves at constant speed, as a series of images.

    Parameters
    ----------
    shape : (H, W), default (300, 400)
        In pixels.
    n_frames : int, default 50
        At least 1.
    period, misorientation, rotation, boundary_angle
        As in `bicrystal`; the angle of a boundary is 90 degrees here, so it moves along the columns.
    speed : float, default 1
        Pixels per frame across the boundary, positive if the left grain (truth 0) grows.
    start : float, optional
        Distance of the boundary from the image's centre in the first frame, in pixels; half of the way before
        the centre where not given, so that the boundary passes the centre half-way.
    counts : float or None, default 20
        Mean counts per pixel of each frame, with its own noise; None for no noise.
    random_state : int, Generator or None
        Same number, same movie.

    Returns
    -------
    BoundaryMovie
        ``movie[i].image``, ``movie[i].truth`` and ``movie.boundary``, the true positions.

    Raises
    ------
    ValueError, TypeError
        For a parameter that makes no sense.

    Examples
    --------
    >>> movie = boundary_movie((60, 80), n_frames=3, speed=2, random_state=0)
    >>> movie.boundary.tolist(), movie[2].image.shape
    ([-2.0, 0.0, 2.0], (60, 80))
    """
    n_frames = check_integer("n_frames", n_frames, least=1)
    for name, number in (("speed", speed), ("boundary_angle", boundary_angle), ("start", start or 0.0)):
        check_number(name, number)
    if counts is not None:
        check_number("counts", counts, above=0)
    grains = (hexagonal(period).rotated(rotation), hexagonal(period).rotated(rotation + misorientation))
    return BoundaryMovie(
        shape=check_shape(shape),
        n_frames=n_frames,
        phases=grains,
        min_distance=0.6 * period,
        boundary_angle=float(boundary_angle),
        speed=float(speed),
        start=-0.5 * speed * (n_frames - 1) if start is None else float(start),
        counts=counts,
        seed=int(np.random.default_rng(random_state).integers(2**63)),
    )
