"""Synthetic images of crystals with their truth: lattices, grains, columns, noise, and ready-made scenes.

An image is built in small steps, each of which can be used alone::

    labels = label_voronoi((512, 512), n_grains=5, random_state=0)          # which pixel is which grain
    phases = [hexagonal(14).rotated(angle) for angle in (0, 12, 24, 36, 48)]  # what each grain is made of
    scene = image_of_grains(labels, phases, counts=3, random_state=0)       # .image, .truth

or in one call: `bicrystal`, `twin_bands`, `polycrystal`, `three_phases`, `amorphous_inclusion`,
`precipitates`, `film_in_vacuum`.

Positions, vectors and shifts are (row, col) in pixels, (0, 0) the centre of the first pixel. Angles are in
degrees, counter-clockwise from the column axis as one sees the image (rows run downwards). The same
`random_state` gives the same image, and the same grains whatever the dose and the noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

RandomState = int | np.random.Generator | None

REACH_IN_SIGMA = 5.0
"""A Gaussian column is summed out to this many sigma, where it has fallen to 4e-6 of its peak."""

CHUNK = 1 << 21
"""Pixels of columns rendered at a time; bounds the working memory to some 50 MB."""


# ---- phases: what a grain is made of -----------------------------------------------------------------------


class Phase(Protocol):
    """What a region of an image is made of: anything with columns and a background level."""

    @property
    def background(self) -> float:
        """Level between the columns."""

    @property
    def spacing(self) -> float:
        """Distance of neighbouring columns in pixels; inf without columns."""

    def columns(
        self, shape: tuple[int, int], margin: float, random_state: RandomState = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions (n, 2) and heights (n,) of columns that fill an image and `margin` pixels around it."""


@dataclass(frozen=True)
class Lattice:
    """A two-dimensional crystal: two lattice vectors and a motif of columns.

    Parameters
    ----------
    a, b : (row, col) of float
        Lattice vectors in pixels, not parallel.
    motif : sequence of (u, v), default one column at the origin
        Columns of the unit cell at ``u a + v b``, fractional coordinates.
    weights : sequence of float, optional
        Peak height of each column of the motif, positive; 1 for all where not given.
    background : float, default 0.1
        Level between the columns, in the units of `weights`, not negative.
    name : str
        Used in descriptions.

    Raises
    ------
    ValueError
        Parallel or zero vectors, an empty motif, more or fewer weights than columns, a weight not above zero.
    """

    a: tuple[float, float]
    b: tuple[float, float]
    motif: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    weights: tuple[float, ...] = ()
    background: float = 0.1
    name: str = "lattice"

    def __post_init__(self) -> None:
        a, b = _pair("a", self.a), _pair("b", self.b)
        motif = tuple(_pair("motif", uv) for uv in self.motif)
        weights = tuple(float(w) for w in self.weights) or (1.0,) * len(motif)
        area, longest = abs(a[0] * b[1] - a[1] * b[0]), max(math.hypot(*a), math.hypot(*b))
        if not area > 1e-6 * longest**2:
            raise ValueError(
                f"`a` = {a} and `b` = {b} are parallel or zero; two independent vectors are needed"
            )
        if not motif:
            raise ValueError("`motif` is empty; give at least one column, e.g. [(0, 0)]")
        if len(weights) != len(motif):
            raise ValueError(
                f"`weights` has {len(weights)} entries; one for each of the {len(motif)} columns is needed"
            )
        for weight in weights:
            _number("weights", weight, above=0)
        _number("background", self.background, least=0)
        for key, value in (("a", a), ("b", b), ("motif", motif), ("weights", weights)):
            object.__setattr__(self, key, value)

    @property
    def angle(self) -> float:
        """Direction of `a` in degrees, counter-clockwise from the column axis."""
        return math.degrees(math.atan2(-self.a[0], self.a[1]))

    @property
    def cell_area(self) -> float:
        """Area of the unit cell in square pixels."""
        return abs(self.a[0] * self.b[1] - self.a[1] * self.b[0])

    @property
    def spacing(self) -> float:
        """Distance of the two nearest columns in pixels (for vectors that are not extremely skew)."""
        steps = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)], float)
        motif = np.array(self.motif)
        between = (steps[:, None, None] + motif[None, :, None] - motif[None, None, :]).reshape(-1, 2)
        distance = np.hypot(*(between @ np.array([self.a, self.b])).T)
        return float(distance[distance > 1e-9].min())

    def rotated(self, angle: float) -> Lattice:
        """The lattice turned counter-clockwise by `angle` degrees."""
        return replace(self, a=rotate_vector(self.a, angle), b=rotate_vector(self.b, angle))

    def scaled(self, factor: float) -> Lattice:
        """The lattice with every distance multiplied by `factor` > 0."""
        _number("factor", factor, above=0)
        return replace(
            self,
            a=(self.a[0] * factor, self.a[1] * factor),
            b=(self.b[0] * factor, self.b[1] * factor),
        )

    def positions(
        self, shape: tuple[int, int], *, origin: tuple[float, float] = (0.0, 0.0), margin: float = 0.0
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Columns inside an image, or at most `margin` pixels outside.

        Parameters
        ----------
        shape : (H, W)
            Of the image in pixels.
        origin : (row, col), default (0, 0)
            Where a lattice point lies.
        margin : float, default 0
            In pixels; negative to stay away from the border.

        Returns
        -------
        positions : (n, 2) float64
            (row, col) of each column.
        heights : (n,) float64
            Its weight.
        """
        shape, vectors = _shape(shape), np.array([self.a, self.b])
        low, high = np.array([-margin, -margin]), np.array(shape) - 1 + margin
        corners = np.array([(r, c) for r in (low[0], high[0]) for c in (low[1], high[1])])
        cells = (corners - origin) @ np.linalg.inv(vectors)
        first, last = np.floor(cells.min(0)).astype(int) - 1, np.ceil(cells.max(0)).astype(int) + 1
        i, j = np.mgrid[first[0] : last[0] + 1, first[1] : last[1] + 1]
        fractional = np.stack([i.ravel(), j.ravel()], 1)[:, None] + np.array(self.motif)
        found = (fractional @ vectors + origin).reshape(-1, 2)
        heights = np.tile(self.weights, i.size)
        inside = ((found >= low) & (found <= high)).all(1)
        return found[inside], heights[inside]

    def columns(
        self, shape: tuple[int, int], margin: float, random_state: RandomState = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`positions` with the origin at a random place in the unit cell."""
        u, v = np.random.default_rng(random_state).random(2)
        origin = (u * self.a[0] + v * self.b[0], u * self.a[1] + v * self.b[1])
        return self.positions(shape, origin=origin, margin=margin)

    def __str__(self) -> str:
        return f"{self.name} (a = {math.hypot(*self.a):.4g} px at {self.angle:.4g} degrees)"


@dataclass(frozen=True)
class Amorphous:
    """Columns at random places, as dense as a hexagonal lattice of that period, none closer than half of it.

    Parameters
    ----------
    period : float
        In pixels, positive.
    weight : float, default 1
        Peak height of a column, positive.
    background : float, default 0.1
        Level between the columns, not negative.
    """

    period: float
    weight: float = 1.0
    background: float = 0.1

    def __post_init__(self) -> None:
        _number("period", self.period, above=0)
        _number("weight", self.weight, above=0)
        _number("background", self.background, least=0)

    @property
    def spacing(self) -> float:
        """The period of the hexagonal lattice of the same density, in pixels."""
        return self.period

    def columns(
        self, shape: tuple[int, int], margin: float, random_state: RandomState = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Random positions (n, 2) and heights (n,) that fill an image and `margin` pixels around it."""
        rng = np.random.default_rng(random_state)
        sides = np.array(_shape(shape)) - 1 + 2 * margin
        # Matern's hard-core process of type II: of two points closer than d the later one goes. Of a density
        # q there remains (1 - exp(-q pi d^2)) / (pi d^2); solved here for q, given a hexagonal lattice's.
        disc = math.pi * (self.period / 2) ** 2
        wanted = 2 / math.sqrt(3) / self.period**2
        drawn = -math.log(1 - wanted * disc) / disc
        found = rng.random((rng.poisson(drawn * sides.prod()), 2)) * sides - margin
        earlier, later = _close_pairs(found, self.period / 2)
        keep = np.ones(len(found), bool)
        keep[later[earlier < later]] = False
        found = found[keep]
        return found, np.full(len(found), float(self.weight))

    def __str__(self) -> str:
        return f"amorphous (period {self.period:.4g} px)"


@dataclass(frozen=True)
class Vacuum:
    """No columns; `background` (default 0.02, not negative) is all there is."""

    background: float = 0.02

    def __post_init__(self) -> None:
        _number("background", self.background, least=0)

    @property
    def spacing(self) -> float:
        """inf: there are no columns."""
        return math.inf

    def columns(
        self, shape: tuple[int, int], margin: float, random_state: RandomState = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """No positions (0, 2), no heights (0,)."""
        return np.empty((0, 2)), np.empty(0)

    def __str__(self) -> str:
        return "vacuum"


def square(period: float, **options: Any) -> Lattice:
    """One column in a square cell (p4mm).

    Parameters
    ----------
    period : float
        Side of the cell, in pixels, above 0.
    **options
        Those of `Lattice`, e.g. `background`.

    Returns
    -------
    Lattice
    """
    return rectangular(period, period, **{"name": "square", **options})


def rectangular(width: float, height: float, **options: Any) -> Lattice:
    """One column in a rectangular cell (p2mm).

    Parameters
    ----------
    width, height : float
        Cell along the columns and along the rows, in pixels, above 0.
    **options
        Those of `Lattice`, e.g. `background`.

    Returns
    -------
    Lattice
    """
    width, height = _number("width", width, above=0), _number("height", height, above=0)
    return Lattice((0.0, width), (-height, 0.0), **{"name": "rectangular", **options})


def centred(width: float, height: float, **options: Any) -> Lattice:
    """Columns at the corners and in the centre of a rectangle (c2mm); fcc [110]: width = height / sqrt(2).

    Parameters
    ----------
    width, height : float
        Cell along the columns and along the rows, in pixels, above 0.
    **options
        Those of `Lattice`, e.g. `background`.

    Returns
    -------
    Lattice
    """
    return rectangular(width, height, **{"motif": ((0, 0), (0.5, 0.5)), "name": "centred", **options})


def oblique(length_a: float, length_b: float, angle: float, **options: Any) -> Lattice:
    """One column in an oblique cell (p2).

    Parameters
    ----------
    length_a, length_b : float
        Lengths of the two lattice vectors in pixels, above 0; `a` points along the columns.
    angle : float
        From `a` to `b`, in degrees, counter-clockwise.
    **options
        Those of `Lattice`, e.g. `background`.

    Returns
    -------
    Lattice
    """
    a = (0.0, _number("length_a", length_a, above=0))
    b = rotate_vector((0.0, _number("length_b", length_b, above=0)), angle)
    return Lattice(a, b, **{"name": "oblique", **options})


def hexagonal(period: float, **options: Any) -> Lattice:
    """Close packing (p6mm), one row of neighbours along the columns.

    Parameters
    ----------
    period : float
        Distance of neighbours, in pixels, above 0.
    **options
        Those of `Lattice`, e.g. `background`.

    Returns
    -------
    Lattice
    """
    return oblique(period, period, 60, **{"name": "hexagonal", **options})


def honeycomb(period: float, **options: Any) -> Lattice:
    """Graphene: two columns in a hexagonal cell (p6mm), period / sqrt(3) apart.

    Parameters
    ----------
    period : float
        Side of the cell, in pixels, above 0.
    **options
        Those of `Lattice`, e.g. `background`.

    Returns
    -------
    Lattice
    """
    return hexagonal(period, **{"motif": ((1 / 3, 1 / 3), (2 / 3, 2 / 3)), "name": "honeycomb", **options})


def kagome(period: float, **options: Any) -> Lattice:
    """Corner-sharing triangles: three columns in a hexagonal cell (p6mm), period / 2 apart.

    Parameters
    ----------
    period : float
        Side of the cell, in pixels, above 0.
    **options
        Those of `Lattice`, e.g. `background`.

    Returns
    -------
    Lattice
    """
    return hexagonal(period, **{"motif": ((0.5, 0), (0, 0.5), (0.5, 0.5)), "name": "kagome", **options})


def perovskite(period: float, **options: Any) -> Lattice:
    """Perovskite along [001]: bright columns at the corners of a square, a faint one in its centre (p4mm).

    Parameters
    ----------
    period : float
        Side of the cell, in pixels, above 0.
    **options
        Those of `Lattice`, e.g. `background`.

    Returns
    -------
    Lattice
    """
    motif = {"motif": ((0, 0), (0.5, 0.5)), "weights": (1.0, 0.5), "name": "perovskite"}
    return square(period, **{**motif, **options})


def pm_crystal(width: float, height: float, **options: Any) -> Lattice:
    """Vertical mirror lines and no other symmetry (pm): two unequal pairs of columns.

    Parameters
    ----------
    width, height : float
        Cell along the columns and along the rows, in pixels, above 0.
    **options
        Those of `Lattice`, e.g. `background`.

    Returns
    -------
    Lattice
    """
    motif = ((0.17, 0.1), (-0.17, 0.1), (0.33, 0.55), (-0.33, 0.55))
    return rectangular(
        width, height, **{"motif": motif, "weights": (1, 1, 0.5, 0.5), "name": "pm", **options}
    )


def pg_crystal(width: float, height: float, **options: Any) -> Lattice:
    """Vertical glide lines and no other symmetry (pg): a column at (u, v) has its twin at (-u, v + 1/2).

    Parameters
    ----------
    width, height : float
        Cell along the columns and along the rows, in pixels, above 0.
    **options
        Those of `Lattice`, e.g. `background`.

    Returns
    -------
    Lattice
    """
    motif = ((0.17, 0.1), (-0.17, 0.6), (0.36, 0.32), (-0.36, 0.82))
    return rectangular(
        width, height, **{"motif": motif, "weights": (1, 1, 0.5, 0.5), "name": "pg", **options}
    )


def rotate_vector(vector: tuple[float, float], angle: float) -> tuple[float, float]:
    """A vector turned counter-clockwise, as seen in the image.

    Parameters
    ----------
    vector : (row, col) of float
    angle : float
        In degrees.

    Returns
    -------
    (row, col) of float
    """
    row, col = vector
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return row * cos - col * sin, col * cos + row * sin


# ---- label maps: which pixel is which grain ----------------------------------------------------------------


def label_halves(shape: tuple[int, int], *, angle: float = 75.0, offset: float = 0.0) -> NDArray[np.int32]:
    """Two grains and a straight boundary.

    Parameters
    ----------
    shape : (H, W)
        In pixels.
    angle : float, default 75
        Direction of the boundary in degrees. Label 1 lies on its right as one looks along it.
    offset : float, default 0
        Distance of the boundary from the image's centre in pixels, positive into label 1.

    Returns
    -------
    (H, W) int32, 0 or 1
    """
    return (_distance_along(_shape(shape), angle - 90) > offset).astype(np.int32)


def label_bands(shape: tuple[int, int], n_bands: int, *, angle: float = 90.0) -> NDArray[np.int32]:
    """Parallel bands of equal width, one label each.

    Parameters
    ----------
    shape : (H, W)
        In pixels.
    n_bands : int
        At least 1.
    angle : float, default 90
        Direction of the boundaries in degrees: 90 gives bands side by side, 0 bands on top of each other.

    Returns
    -------
    (H, W) int32
        0 ... n_bands - 1, from left to right (for 0 degrees from top to bottom).
    """
    n_bands = _integer("n_bands", n_bands, least=1)
    along = _distance_along(_shape(shape), angle - 90)
    low, high = along.min(), along.max()
    share = (along - low) / max(high - low, 1e-9)
    return np.minimum((share * n_bands).astype(np.int32), n_bands - 1)


def label_discs(shape: tuple[int, int], centers: ArrayLike, radii: ArrayLike) -> NDArray[np.int32]:
    """Discs in a matrix: label 0 outside, k + 1 in disc k; where discs overlap the last one wins.

    Parameters
    ----------
    shape : (H, W)
        In pixels.
    centers : (n, 2)
        (row, col) of the centres, inside the image or not.
    radii : float or (n,)
        In pixels, positive.

    Returns
    -------
    (H, W) int32, 0 ... n
    """
    shape = _shape(shape)
    points = np.asarray(centers, float)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"`centers` has shape {points.shape}; (n, 2) is needed, a (row, col) for each disc")
    labels = np.zeros(shape, np.int32)
    for k, ((row, col), radius) in enumerate(zip(points, np.broadcast_to(radii, len(points)), strict=True)):
        _number("radii", float(radius), above=0)
        labels[_squared_distance(shape, row, col) <= radius**2] = k + 1
    return labels


def label_voronoi(
    shape: tuple[int, int], n_grains: int, *, random_state: RandomState = None
) -> NDArray[np.int32]:
    """Grains as the Voronoi cells of random points that keep away from each other.

    Parameters
    ----------
    shape : (H, W)
        In pixels.
    n_grains : int
        From 1 to the number of pixels; every grain has at least one pixel.
    random_state : int, Generator or None
        Same number, same grains.

    Returns
    -------
    (H, W) int32, 0 ... n_grains - 1
    """
    shape = _shape(shape)
    n_grains = _integer("n_grains", n_grains, least=1)
    size = shape[0] * shape[1]
    if n_grains > size:
        raise ValueError(f"`n_grains` is {n_grains}; an image of {shape} has room for at most {size}")
    rng = np.random.default_rng(random_state)
    pool = rng.choice(size, min(size, 3 * n_grains), replace=False)
    rows, cols = np.unravel_index(pool, shape)
    seed, to_nearest_seed = 0, np.full(len(pool), np.inf)
    nearest, labels = np.full(shape, np.inf, np.float32), np.zeros(shape, np.int32)
    for k in range(n_grains):
        distance = _squared_distance(shape, rows[seed], cols[seed])
        labels[distance < nearest] = k
        nearest = np.minimum(nearest, distance)
        to_nearest_seed = np.minimum(to_nearest_seed, (rows - rows[seed]) ** 2 + (cols - cols[seed]) ** 2)
        seed = int(to_nearest_seed.argmax())
    return labels


# ---- columns -----------------------------------------------------------------------------------------------


def columns_of_grains(
    labels: NDArray[np.integer],
    phases: Sequence[Phase],
    *,
    margin: float = 0.0,
    min_distance: float = 0.0,
    random_state: RandomState = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int32]]:
    """The columns of every grain that lie inside that grain.

    Parameters
    ----------
    labels : (H, W) int
        Grain of each pixel, 0 ... len(phases) - 1.
    phases : sequence of Phase
        What each grain is made of: `Lattice`, `Amorphous`, `Vacuum`.
    margin : float, default 0
        Columns this far outside the image are given too (their tails reach inside); they belong to the grain
        of the nearest pixel.
    min_distance : float, default 0
        Of two columns of different grains closer than this (pixels), that of the larger label is left out.
    random_state : int, Generator or None
        Decides the origin of every lattice.

    Returns
    -------
    positions : (n, 2) float64
        (row, col) in pixels.
    heights : (n,) float64
        Peak height of each column.
    grains : (n,) int32
        The label each column belongs to.
    """
    labels = _labels(labels, len(phases))
    _number("min_distance", min_distance, least=0)
    streams = np.random.default_rng(random_state).spawn(len(phases))
    parts = []
    for k, (phase, stream) in enumerate(zip(phases, streams, strict=True)):
        positions, heights = phase.columns(labels.shape, margin, stream)
        row, col = (np.rint(positions).astype(int).clip(0, np.array(labels.shape) - 1)).T
        here = labels[row, col] == k
        parts.append((positions[here], heights[here], np.full(here.sum(), k, np.int32)))
    positions, heights, grains = (np.concatenate(part) for part in zip(*parts, strict=True))
    if min_distance > 0:
        first, second = _close_pairs(positions, min_distance)
        keep = np.ones(len(positions), bool)
        keep[second[grains[first] < grains[second]]] = False
        positions, heights, grains = positions[keep], heights[keep], grains[keep]
    return positions, heights, grains


def gaussian_columns(
    shape: tuple[int, int], positions: ArrayLike, heights: ArrayLike = 1.0, *, sigma: float
) -> NDArray[np.float32]:
    """Sum of round Gaussians, ``height * exp(-distance**2 / (2 sigma**2))``, at the centre of every pixel.

    Positions are exact, not rounded to pixels; each Gaussian is cut off at 5 sigma (4e-6 of its height) along
    either axis. Its sum over the pixels is ``2 pi sigma**2 height`` for sigma of about 0.7 pixels and more.

    Parameters
    ----------
    shape : (H, W)
        In pixels.
    positions : (n, 2)
        (row, col), inside the image or not.
    heights : float or (n,), default 1
        Of the peaks.
    sigma : float
        Width in pixels, positive.

    Returns
    -------
    (H, W) float32
    """
    shape, sigma = _shape(shape), _number("sigma", sigma, above=0)
    points = np.asarray(positions, float)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(
            f"`positions` has shape {points.shape}; (n, 2) is needed, a (row, col) for each column"
        )
    tall = np.broadcast_to(np.asarray(heights, float), len(points))
    reach = math.ceil(REACH_IN_SIGMA * sigma)
    nearest = np.rint(points).astype(int)
    seen = ((nearest >= -reach) & (nearest < np.array(shape) + reach)).all(1)
    points, tall, nearest = points[seen], tall[seen], nearest[seen]
    window = np.arange(-reach, reach + 1)
    rows, cols = shape[0] + 4 * reach, shape[1] + 4 * reach  # room for the whole of the outermost columns
    canvas = np.zeros(rows * cols)
    step = max(1, CHUNK // len(window) ** 2)
    for start in range(0, len(points), step):
        part = slice(start, start + step)
        off_centre = window + (nearest[part] - points[part])[..., None]  # (n, 2, s)
        profile = np.exp(-0.5 * (off_centre / sigma) ** 2)
        spots = (tall[part, None] * profile[:, 0])[:, :, None] * profile[:, 1][:, None, :]
        at = nearest[part] + 2 * reach
        index = ((at[:, :1] + window) * cols)[:, :, None] + (at[:, 1:] + window)[:, None, :]
        canvas += np.bincount(index.ravel(), spots.ravel(), minlength=canvas.size)
    inside = canvas.reshape(rows, cols)[2 * reach : rows - 2 * reach, 2 * reach : cols - 2 * reach]
    return inside.astype(np.float32)


# ---- the microscope: gradient, scan, dose ------------------------------------------------------------------


def intensity_gradient(image: ArrayLike, strength: float, *, angle: float = 0.0) -> NDArray[np.float32]:
    """The image times a linear ramp, as from a wedge-shaped specimen.

    Parameters
    ----------
    image : (H, W)
        Real numbers.
    strength : float
        From 0 (no change) to 2: the ramp runs from 1 - strength / 2 to 1 + strength / 2 across the image.
    angle : float, default 0
        Direction in which it gets brighter, in degrees.

    Returns
    -------
    (H, W) float32
    """
    picture = _picture(image)
    _number("strength", strength, least=0, most=2)
    along = _distance_along(picture.shape, angle)
    return (picture * (1 + strength * along / max(np.ptp(along), 1e-9))).astype(np.float32)


def scan_jitter(image: ArrayLike, jitter: float, *, random_state: RandomState = None) -> NDArray[np.float32]:
    """Every row displaced along itself by a random amount, as by vibrations during a scan.

    Parameters
    ----------
    image : (H, W)
        Before the dose: the rows are interpolated linearly and end in their last value.
    jitter : float
        Standard deviation of the displacement in pixels, not negative.
    random_state : int, Generator or None
        Same number, same displacements.

    Returns
    -------
    (H, W) float32
    """
    picture = _picture(image)
    _number("jitter", jitter, least=0)
    height, width = picture.shape
    moved = jitter * np.random.default_rng(random_state).standard_normal((height, 1))
    col = (np.arange(width) + moved).clip(0, width - 1)
    left = np.floor(col).astype(int)
    right = np.minimum(left + 1, width - 1)
    share = col - left
    taken = (1 - share) * np.take_along_axis(picture, left, 1) + share * np.take_along_axis(picture, right, 1)
    return taken.astype(np.float32)


def poisson_dose(image: ArrayLike, counts: float, *, random_state: RandomState = None) -> NDArray[np.float32]:
    """Counted electrons: the image scaled to a mean of `counts` per pixel, every pixel a Poisson number.

    Parameters
    ----------
    image : (H, W)
        Expected intensity, not negative and not all zero.
    counts : float
        Mean counts per pixel over the image, positive.
    random_state : int, Generator or None
        Same number, same noise.

    Returns
    -------
    (H, W) float32
        Whole numbers.
    """
    picture = _picture(image)
    _number("counts", counts, above=0)
    if picture.min() < 0 or not picture.max() > 0:
        raise ValueError(
            f"`image` runs from {picture.min():g} to {picture.max():g}; an expected intensity is nowhere "
            "negative and somewhere positive: subtract or clip first"
        )
    expected = picture * (counts / picture.mean())
    return np.random.default_rng(random_state).poisson(expected).astype(np.float32)


def line_offsets(image: ArrayLike, offset: float, *, random_state: RandomState = None) -> NDArray[np.float32]:
    """A random level added to every row, as by a drifting amplifier; apply it after the dose.

    Parameters
    ----------
    image : (H, W)
        Real numbers.
    offset : float
        Standard deviation of the levels in units of the image's mean, not negative.
    random_state : int, Generator or None
        Same number, same levels.

    Returns
    -------
    (H, W) float32
    """
    picture = _picture(image)
    _number("offset", offset, least=0)
    levels = np.random.default_rng(random_state).standard_normal((picture.shape[0], 1))
    return (picture + offset * picture.mean() * levels).astype(np.float32)


# ---- whole scenes ------------------------------------------------------------------------------------------


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
    labels = _labels(labels, len(phases))
    spacing = min(phase.spacing for phase in phases)
    if sigma is None:
        sigma = 0.2 * spacing if math.isfinite(spacing) else 1.0
    _number("sigma", sigma, above=0)
    _number("displacement", displacement, least=0)
    structure, thermal, scan, dose, lines = np.random.default_rng(random_state).spawn(5)
    positions, heights, _ = columns_of_grains(
        labels, phases, margin=REACH_IN_SIGMA * sigma, min_distance=min_distance, random_state=structure
    )
    empty = _nearest_columns(positions, vacancies)
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
    imaging = {"min_distance": 0.6 * period, "description": _join("bicrystal", grains), **imaging}
    labels = label_halves(shape, angle=boundary_angle)
    return image_of_grains(labels, grains, counts=counts, random_state=random_state, **imaging)


@dataclass(frozen=True)
class BoundaryMovie:
    """A series of images of two grains whose boundary moves; frames are made when asked for.

    ``movie[i]`` is frame i as a `SyntheticImage`, always the same one; iterating gives all of them, with one
    in memory at a time. The crystals stand still: a grain grows by columns of its own lattice. Made by
    `boundary_movie`, which describes the parameters.
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
        title = _join(f"boundary at {offset:+.4g} px", self.phases)
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
    n_frames = _integer("n_frames", n_frames, least=1)
    for name, number in (("speed", speed), ("boundary_angle", boundary_angle), ("start", start or 0.0)):
        _number(name, number)
    if counts is not None:
        _number("counts", counts, above=0)
    grains = (hexagonal(period).rotated(rotation), hexagonal(period).rotated(rotation + misorientation))
    return BoundaryMovie(
        shape=_shape(shape),
        n_frames=n_frames,
        phases=grains,
        min_distance=0.6 * period,
        boundary_angle=float(boundary_angle),
        speed=float(speed),
        start=-0.5 * speed * (n_frames - 1) if start is None else float(start),
        counts=counts,
        seed=int(np.random.default_rng(random_state).integers(2**63)),
    )


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
    n_grains = _integer("n_grains", n_grains, least=1)
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
    imaging = {"min_distance": 0.6 * period, "description": _join("three phases", grains), **imaging}
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
    width = _number("width", width, above=0)
    place, rest = np.random.default_rng(random_state).spawn(2)
    along = _distance_along(_shape(shape), boundary_angle - 90) + 2 * width * place.random()
    labels = (np.floor(along / width) % 2).astype(np.int32)
    crystal = centred(period, math.sqrt(2) * period, name="fcc")
    to_plane = math.degrees(math.atan(math.sqrt(2)))  # from the face diagonal to the trace of (111)
    grains = [crystal.rotated(boundary_angle - to_plane), crystal.rotated(boundary_angle + to_plane)]
    imaging = {"min_distance": 0.5 * period, "description": _join("twin bands", grains), **imaging}
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
    shape = _shape(shape)
    places, rest = np.random.default_rng(random_state).spawn(2)
    labels = label_halves(shape, angle=80, offset=0.08 * min(shape) * (places.random() - 0.5))
    center = (0.5 + 0.1 * (places.random(2) - 0.5)) * shape
    labels = np.where(label_discs(shape, [center], 0.22 * min(shape)) > 0, 2, labels).astype(np.int32)
    phases: list[Phase] = [hexagonal(period).rotated(10), square(period).rotated(-5), Amorphous(period)]
    imaging = {
        "min_distance": 0.6 * period,
        "description": _join("amorphous inclusion", phases),
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
    shape, n_precipitates = _shape(shape), _integer("n_precipitates", n_precipitates, least=1)
    places, rest = np.random.default_rng(random_state).spawn(2)
    radii = min(shape) * places.uniform(0.1, 0.16, n_precipitates)
    centers = places.uniform(0.15, 0.85, (n_precipitates, 2)) * shape
    labels = (label_discs(shape, centers, radii) > 0).astype(np.int32)
    grains = [hexagonal(period).rotated(10), square(period).rotated(25)]
    imaging = {"min_distance": 0.6 * period, "description": _join("precipitates", grains), **imaging}
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
    imaging = {"min_distance": 0.4 * period, "description": _join("film in vacuum", layers), **imaging}
    labels = label_bands(shape, 3, angle=-4)
    return image_of_grains(labels, layers, counts=counts, random_state=random_state, **imaging)


# ---- geometry and checks -----------------------------------------------------------------------------------


def _close_pairs(points: NDArray[np.float64], distance: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All ordered pairs (i, j), i != j, of points closer than `distance`; cells of that size, so time ~ n."""
    if not len(points):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    cells = np.floor((points - points.min(0)) / distance).astype(np.int64) + 1
    width = int(cells[:, 1].max()) + 2
    keys = cells[:, 0] * width + cells[:, 1]
    order = np.argsort(keys)
    ordered = keys[order]
    pairs = []
    for step in (d_row * width + d_col for d_row in (-1, 0, 1) for d_col in (-1, 0, 1)):
        start, stop = (
            np.searchsorted(ordered, keys + step),
            np.searchsorted(ordered, keys + step, side="right"),
        )
        number = stop - start
        i = np.repeat(np.arange(len(points)), number)
        within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        j = order[np.repeat(start, number) + within]
        close = (i != j) & (((points[i] - points[j]) ** 2).sum(1) < distance**2)
        pairs.append((i[close], j[close]))
    first, second = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return first, second


def _nearest_columns(positions: NDArray[np.float64], places: ArrayLike | None) -> NDArray[np.intp]:
    """Numbers of the columns nearest to the places, each once."""
    points = np.empty((0, 2)) if places is None else np.asarray(places, float)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(
            f"`vacancies` has shape {points.shape}; finite (n, 2) is needed, a (row, col) for each column"
        )
    if not len(positions) and len(points):
        raise ValueError("`vacancies` are wanted where no phase has columns")
    nearest = [int(((positions - point) ** 2).sum(1).argmin()) for point in points]
    return np.unique(np.array(nearest, np.intp))


def _distance_along(shape: tuple[int, int], angle: float) -> NDArray[np.float64]:
    """Distance of each pixel from the image's centre along a direction (degrees), (H, W)."""
    _number("angle", angle)
    d_row, d_col = rotate_vector((0.0, 1.0), angle)
    rows = (np.arange(shape[0]) - (shape[0] - 1) / 2) * d_row
    cols = (np.arange(shape[1]) - (shape[1] - 1) / 2) * d_col
    return np.add.outer(rows, cols)


def _squared_distance(shape: tuple[int, int], row: float, col: float) -> NDArray[np.float32]:
    """Squared distance of each pixel from a point, (H, W)."""
    distance = np.add.outer((np.arange(shape[0]) - row) ** 2.0, (np.arange(shape[1]) - col) ** 2.0)
    return distance.astype(np.float32)


def _join(title: str, phases: Sequence[Phase]) -> str:
    return f"{title}: " + ", ".join(str(phase) for phase in phases)


def _number(
    name: str,
    value: float,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    most: float = math.inf,
) -> float:
    """A finite number in its range, or an error that says which was wanted."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"`{name}` is {value!r} ({type(value).__name__}); a number is needed")
    if not (math.isfinite(value) and value > above and least <= value <= most):
        wanted = ["a finite number"]
        wanted += [f"above {above:g}"] if above > -math.inf else []
        wanted += [f"of at least {least:g}"] if least > -math.inf else []
        wanted += [f"of at most {most:g}"] if most < math.inf else []
        raise ValueError(f"`{name}` is {value!r}; {' '.join(wanted)} is needed")
    return float(value)


def _integer(name: str, value: int, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"`{name}` is {value!r} ({type(value).__name__}); an integer is needed")
    if value < least:
        raise ValueError(f"`{name}` is {value}; at least {least} is needed")
    return int(value)


def _pair(name: str, value: Sequence[float]) -> tuple[float, float]:
    if np.shape(value) != (2,):
        raise ValueError(f"`{name}` is {value!r}; two numbers are needed")
    return _number(name, value[0]), _number(name, value[1])


def _shape(shape: tuple[int, ...]) -> tuple[int, int]:
    if np.ndim(shape) != 1 or len(shape) != 2:
        raise ValueError(f"`shape` is {shape!r}; (rows, columns) is needed, e.g. (512, 512)")
    return _integer("shape", shape[0], least=1), _integer("shape", shape[1], least=1)


def _labels(labels: ArrayLike, n_phases: int) -> NDArray[np.int32]:
    grains = np.asarray(labels)
    if grains.ndim != 2 or not grains.size:
        raise ValueError(f"`labels` has shape {grains.shape}; a label for each pixel, (H, W), is needed")
    if grains.dtype.kind not in "iu":
        raise TypeError(f"`labels` is {grains.dtype}; integers are needed, 0 for the first phase")
    if grains.min() < 0 or grains.max() >= n_phases:
        raise ValueError(
            f"`labels` run from {grains.min()} to {grains.max()} but there are {n_phases} phases; "
            f"labels from 0 to {n_phases - 1} are needed, or more phases"
        )
    return grains.astype(np.int32)


def _picture(image: ArrayLike) -> NDArray[np.float64]:
    picture = np.asarray(image)
    if picture.ndim != 2 or not picture.size:
        raise ValueError(f"`image` has shape {picture.shape}; (H, W) is needed")
    if picture.dtype.kind not in "biuf":
        raise TypeError(f"`image` is {picture.dtype}; real numbers are needed")
    if not np.isfinite(picture).all():
        raise ValueError("`image` holds NaN or infinite pixels; finite numbers are needed")
    return picture.astype(np.float64)
