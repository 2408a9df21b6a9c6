"""Whole scenes: an image and all that is true about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpuseg.synthetic._geometry import distance_along
from gpuseg.synthetic._inputs import RandomState, check_integer, check_labels, check_number, check_shape
from gpuseg.synthetic.columns import REACH_IN_SIGMA, columns_of_grains, gaussian_columns, nearest_columns
from gpuseg.synthetic.grains import label_bands, label_discs, label_halves, label_voronoi
from gpuseg.synthetic.imaging import intensity_gradient, line_offsets, poisson_dose, scan_jitter
from gpuseg.synthetic.phases import Amorphous, Phase, Vacuum, centred, hexagonal, perovskite, square


@dataclass(frozen=True, eq=False)
class SyntheticImage:
    """An image and all that is true about it.

    Attributes
    ----------
    image : (H, W) float32
        Counts per pixel, or intensity in units of the columns' height where no dose was asked for.
    truth : (H, W) int32
        Grain of each pixel, 0 ... len(phases) - 1.
    description : str
        One line in words.
    phases : tuple of Phase
        What each grain is made of; ``phases[k]`` belongs to label k.
    positions : (n, 2) float64
        (row, col) of every column, also those just outside the image whose tails are seen.
    vacancies : (n, 2) float64
        (row, col) of the columns that were left out.
    """

    image: NDArray[np.float32] = field(repr=False)
    truth: NDArray[np.int32] = field(repr=False)
    description: str = ""
    phases: tuple[Phase, ...] = field(default=(), repr=False)
    positions: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)), repr=False)
    vacancies: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)), repr=False)

    @property
    def n_patterns(self) -> int:
        """Number of different labels in `truth`."""
        return len(np.unique(self.truth))


def image_of_grains(
    labels: NDArray[np.integer],
    phases: Sequence[Phase],
    *,
    sigma: float | None = None,
    counts: float | None = None,
    min_distance: float = 0.0,
    displacement: float = 0.0,
    gradient: float = 0.0,
    gradient_angle: float = 0.0,
    jitter: float = 0.0,
    offset: float = 0.0,
    vacancies: ArrayLike | None = None,
    description: str = "",
    random_state: RandomState = None,
) -> SyntheticImage:
    """The image of a map of grains, as a scanning microscope counts it.

    The steps, in this order: `columns_of_grains`, `gaussian_columns` plus each grain's background,
    `intensity_gradient`, `scan_jitter`, `poisson_dose`, `line_offsets`. Each random step has its own stream
    of random numbers: another dose leaves the grains where they are.

    Parameters
    ----------
    labels : (H, W) int
        Grain of each pixel, 0 ... len(phases) - 1; it becomes the truth.
    phases : sequence of Phase
        What each grain is made of: `Lattice`, `Amorphous`, `Vacuum`.
    sigma : float, optional
        Width of the columns in pixels; 0.2 of the smallest spacing of columns where not given.
    counts : float, optional
        Mean counts per pixel; no noise where not given.
    min_distance : float, default 0
        Smallest distance in pixels of columns of different grains.
    displacement : float, default 0
        Random displacement of every column in pixels (standard deviation along each axis).
    gradient, gradient_angle : float, default 0
        Strength (0 to 2) and direction (degrees) of a brightness ramp.
    jitter : float, default 0
        Standard deviation in pixels of the displacement of scan lines.
    offset : float, default 0
        Standard deviation of the level of scan lines, in units of the mean.
    vacancies : (n, 2), optional
        (row, col) at each of which the nearest column is left out.
    description : str
        Kept in the result; made from the phases where empty.
    random_state : int, Generator or None
        Same number, same image.

    Returns
    -------
    SyntheticImage

    Raises
    ------
    ValueError
        A label without a phase, a negative or non-finite parameter.
    TypeError
        Labels that are not integers.
    """
    labels = check_labels(labels, len(phases))
    spacing = min(phase.spacing for phase in phases)
    if sigma is None:
        sigma = 0.2 * spacing if math.isfinite(spacing) else 1.0
    check_number("sigma", sigma, above=0)
    check_number("displacement", displacement, least=0)
    structure, thermal, scan, dose, lines = np.random.default_rng(random_state).spawn(5)
    positions, heights, _ = columns_of_grains(
        labels, phases, margin=REACH_IN_SIGMA * sigma, min_distance=min_distance, random_state=structure
    )
    empty = nearest_columns(positions, vacancies)
    left_out, positions = positions[empty], np.delete(positions, empty, axis=0)
    heights = np.delete(heights, empty)
    positions = positions + displacement * thermal.standard_normal(positions.shape)
    image = gaussian_columns(labels.shape, positions, heights, sigma=sigma)
    image += np.array([phase.background for phase in phases], np.float32)[labels]
    image = intensity_gradient(image, gradient, angle=gradient_angle) if gradient else image
    image = scan_jitter(image, jitter, random_state=scan) if jitter else image
    image = image if counts is None else poisson_dose(image, counts, random_state=dose)
    image = line_offsets(image, offset, random_state=lines) if offset else image
    if not description:
        description = ", ".join(str(phase) for phase in phases)
    dosed = "no noise" if counts is None else f"{counts:g} counts per pixel"
    return SyntheticImage(image, labels, f"{description}; {dosed}", tuple(phases), positions, left_out)


def bicrystal(
    shape: tuple[int, int] = (512, 512),
    *,
    period: float = 14.0,
    misorientation: float = 14.0,
    rotation: float = 7.0,
    boundary_angle: float = 75.0,
    counts: float | None = 20.0,
    random_state: RandomState = None,
    **imaging: Any,
) -> SyntheticImage:
    """Two hexagonal grains, turned against each other, that meet at a straight tilted boundary.

    Parameters
    ----------
    shape : (H, W), default (512, 512)
        In pixels.
    period : float, default 14
        Distance of neighbouring columns in pixels.
    misorientation : float, default 14
        Angle between the grains in degrees (0 and 60 are one crystal).
    rotation : float, default 7
        Orientation of the left grain in degrees.
    boundary_angle : float, default 75
        Direction of the boundary in degrees.
    counts : float or None, default 20
        Mean counts per pixel; None for no noise.
    random_state : int, Generator or None
        Same number, same image.
    **imaging
        More of the options of `image_of_grains`, e.g. `gradient`, `jitter`, `sigma`.

    Returns
    -------
    SyntheticImage
        With truth 0 on the left and 1 on the right.

    Examples
    --------
    >>> scene = bicrystal((256, 256), counts=3, random_state=0)
    >>> scene.image.shape, scene.n_patterns
    ((256, 256), 2)
    """
    grains = [hexagonal(period).rotated(rotation), hexagonal(period).rotated(rotation + misorientation)]
    imaging = {"min_distance": 0.6 * period, "description": in_words("bicrystal", grains), **imaging}
    labels = label_halves(shape, angle=boundary_angle)
    return image_of_grains(labels, grains, counts=counts, random_state=random_state, **imaging)


def polycrystal(
    shape: tuple[int, int] = (512, 512),
    *,
    n_grains: int = 5,
    period: float = 14.0,
    counts: float | None = 20.0,
    random_state: RandomState = None,
    **imaging: Any,
) -> SyntheticImage:
    """Voronoi grains of one hexagonal crystal whose orientations differ by 60 / n_grains degrees at least.

    Parameters
    ----------
    shape : (H, W), default (512, 512)
        In pixels.
    n_grains : int, default 5
        At least 1; each has its own label.
    period : float, default 14
        Distance of neighbouring columns in pixels.
    counts : float or None, default 20
        Mean counts per pixel; None for no noise.
    random_state : int, Generator or None
        Same number, same image.
    **imaging
        More of the options of `image_of_grains`.

    Returns
    -------
    SyntheticImage
    """
    n_grains = check_integer("n_grains", n_grains, least=1)
    cells, angles, rest = np.random.default_rng(random_state).spawn(3)
    labels = label_voronoi(shape, n_grains, random_state=cells)
    first = 60 * angles.random()
    orientations = first + 60 / n_grains * angles.permutation(n_grains)
    grains = [hexagonal(period).rotated(float(angle)) for angle in orientations]
    imaging = {"min_distance": 0.6 * period, "description": f"polycrystal of {n_grains} grains", **imaging}
    return image_of_grains(labels, grains, counts=counts, random_state=rest, **imaging)


def three_phases(
    shape: tuple[int, int] = (512, 512),
    *,
    period: float = 14.0,
    counts: float | None = 20.0,
    random_state: RandomState = None,
    **imaging: Any,
) -> SyntheticImage:
    """Three crystals side by side: hexagonal, square and a rectangular one with a faint second column.

    Parameters
    ----------
    shape : (H, W), default (512, 512)
        In pixels.
    period : float, default 14
        Lattice parameter of the first two in pixels; the third is 1.2 by 1.6 periods.
    counts : float or None, default 20
        Mean counts per pixel; None for no noise.
    random_state : int, Generator or None
        Same number, same image.
    **imaging
        More of the options of `image_of_grains`.

    Returns
    -------
    SyntheticImage
        With truth 0, 1, 2 from left to right.
    """
    third = centred(1.2 * period, 1.6 * period, weights=(1.0, 0.6))
    grains = [hexagonal(period).rotated(10), square(period).rotated(-5), third.rotated(20)]
    imaging = {"min_distance": 0.6 * period, "description": in_words("three phases", grains), **imaging}
    labels = label_bands(shape, 3, angle=80)
    return image_of_grains(labels, grains, counts=counts, random_state=random_state, **imaging)


def twin_bands(
    shape: tuple[int, int] = (512, 512),
    *,
    width: float = 90.0,
    period: float = 14.0,
    boundary_angle: float = 30.0,
    counts: float | None = 20.0,
    random_state: RandomState = None,
    **imaging: Any,
) -> SyntheticImage:
    """Parallel bands of an fcc crystal along [110] and of its (111) twin, in turn.

    Every second band is the same crystal; bands meet without regard to their planes of columns.

    Parameters
    ----------
    shape : (H, W), default (512, 512)
        In pixels.
    width : float, default 90
        Of a band in pixels, above 0; where the first one begins is random.
    period : float, default 14
        Shortest lattice vector along the cube's face diagonal in pixels; that of the lattice is 0.87 of it.
    boundary_angle : float, default 30
        Direction of the twin planes in degrees.
    counts : float or None, default 20
        Mean counts per pixel; None for no noise.
    random_state : int, Generator or None
        Same number, same image.
    **imaging
        More of the options of `image_of_grains`.

    Returns
    -------
    SyntheticImage
        With truth 0 and 1 in turn.
    """
    width = check_number("width", width, above=0)
    place, rest = np.random.default_rng(random_state).spawn(2)
    along = distance_along(check_shape(shape), boundary_angle - 90) + 2 * width * place.random()
    labels = (np.floor(along / width) % 2).astype(np.int32)
    crystal = centred(period, math.sqrt(2) * period, name="fcc")
    to_plane = math.degrees(math.atan(math.sqrt(2)))  # from the face diagonal to the trace of (111)
    grains = [crystal.rotated(boundary_angle - to_plane), crystal.rotated(boundary_angle + to_plane)]
    imaging = {"min_distance": 0.5 * period, "description": in_words("twin bands", grains), **imaging}
    return image_of_grains(labels, grains, counts=counts, random_state=rest, **imaging)


def amorphous_inclusion(
    shape: tuple[int, int] = (512, 512),
    *,
    period: float = 14.0,
    counts: float | None = 20.0,
    random_state: RandomState = None,
    **imaging: Any,
) -> SyntheticImage:
    """A hexagonal and a square crystal side by side, and an amorphous disc on their boundary.

    Parameters
    ----------
    shape : (H, W), default (512, 512)
        In pixels.
    period : float, default 14
        Lattice parameter of both crystals in pixels; the disc has the density of the hexagonal one.
    counts : float or None, default 20
        Mean counts per pixel; None for no noise.
    random_state : int, Generator or None
        Same number, same image.
    **imaging
        More of the options of `image_of_grains`.

    Returns
    -------
    SyntheticImage
        With truth 0 on the left, 1 on the right and 2 in the disc, whose radius is 0.22 of the shorter side.
    """
    shape = check_shape(shape)
    places, rest = np.random.default_rng(random_state).spawn(2)
    labels = label_halves(shape, angle=80, offset=0.08 * min(shape) * (places.random() - 0.5))
    center = (0.5 + 0.1 * (places.random(2) - 0.5)) * shape
    labels = np.where(label_discs(shape, [center], 0.22 * min(shape)) > 0, 2, labels).astype(np.int32)
    phases: list[Phase] = [hexagonal(period).rotated(10), square(period).rotated(-5), Amorphous(period)]
    imaging = {
        "min_distance": 0.6 * period,
        "description": in_words("amorphous inclusion", phases),
        **imaging,
    }
    return image_of_grains(labels, phases, counts=counts, random_state=rest, **imaging)


def precipitates(
    shape: tuple[int, int] = (512, 512),
    *,
    n_precipitates: int = 4,
    period: float = 14.0,
    counts: float | None = 20.0,
    random_state: RandomState = None,
    **imaging: Any,
) -> SyntheticImage:
    """Round square-lattice particles, all of one orientation, in a hexagonal matrix.

    Parameters
    ----------
    shape : (H, W), default (512, 512)
        In pixels.
    n_precipitates : int, default 4
        At least 1. Their radii are 0.1 to 0.16 of the shorter side; where two overlap they are one.
    period : float, default 14
        Lattice parameter of both crystals in pixels.
    counts : float or None, default 20
        Mean counts per pixel; None for no noise.
    random_state : int, Generator or None
        Same number, same image.
    **imaging
        More of the options of `image_of_grains`.

    Returns
    -------
    SyntheticImage
        With truth 0 in the matrix and 1 in the particles.
    """
    shape, n_precipitates = check_shape(shape), check_integer("n_precipitates", n_precipitates, least=1)
    places, rest = np.random.default_rng(random_state).spawn(2)
    radii = min(shape) * places.uniform(0.1, 0.16, n_precipitates)
    centers = places.uniform(0.15, 0.85, (n_precipitates, 2)) * shape
    labels = (label_discs(shape, centers, radii) > 0).astype(np.int32)
    grains = [hexagonal(period).rotated(10), square(period).rotated(25)]
    imaging = {"min_distance": 0.6 * period, "description": in_words("precipitates", grains), **imaging}
    return image_of_grains(labels, grains, counts=counts, random_state=rest, **imaging)


def film_in_vacuum(
    shape: tuple[int, int] = (512, 512),
    *,
    period: float = 14.0,
    counts: float | None = 20.0,
    random_state: RandomState = None,
    **imaging: Any,
) -> SyntheticImage:
    """From top to bottom: vacuum, an amorphous layer, a perovskite crystal.

    Parameters
    ----------
    shape : (H, W), default (512, 512)
        In pixels.
    period : float, default 14
        Lattice parameter of the crystal in pixels; the amorphous layer has its density of columns.
    counts : float or None, default 20
        Mean counts per pixel over the whole image, vacuum included; None for no noise.
    random_state : int, Generator or None
        Same number, same image.
    **imaging
        More of the options of `image_of_grains`.

    Returns
    -------
    SyntheticImage
        With truth 0 (vacuum), 1 (amorphous), 2 (crystal) from top to bottom.
    """
    crystal = perovskite(period).rotated(8)
    layers: list[Phase] = [Vacuum(), Amorphous(period / 1.3, weight=0.6), crystal]
    imaging = {"min_distance": 0.4 * period, "description": in_words("film in vacuum", layers), **imaging}
    labels = label_bands(shape, 3, angle=-4)
    return image_of_grains(labels, layers, counts=counts, random_state=random_state, **imaging)


def in_words(title: str, phases: Sequence[Phase]) -> str:
    """What a scene shows, in one line."""
    return f"{title}: " + ", ".join(str(phase) for phase in phases)
