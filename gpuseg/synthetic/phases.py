"""What a grain is made of: lattices, amorphous matter, vacuum."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpuseg.synthetic._geometry import close_pairs, rotate_vector
from gpuseg.synthetic._inputs import RandomState, check_number, check_pair, check_shape


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
        """Columns that fill an image and its surroundings.

        Parameters
        ----------
        shape : (H, W)
            Of the image in pixels.
        margin : float
            Columns this far outside are given too, in pixels.
        random_state : int, Generator or None

        Returns
        -------
        positions : (n, 2) float64
            (row, col) of each column.
        heights : (n,) float64
        """


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
        a, b = check_pair("a", self.a), check_pair("b", self.b)
        motif = tuple(check_pair("motif", uv) for uv in self.motif)
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
            check_number("weights", weight, above=0)
        check_number("background", self.background, least=0)
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
        """The lattice turned counter-clockwise.

        Parameters
        ----------
        angle : float
            In degrees.

        Returns
        -------
        Lattice
        """
        return replace(self, a=rotate_vector(self.a, angle), b=rotate_vector(self.b, angle))

    def scaled(self, factor: float) -> Lattice:
        """The lattice with every distance multiplied.

        Parameters
        ----------
        factor : float
            Above 0.

        Returns
        -------
        Lattice
        """
        check_number("factor", factor, above=0)
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
        shape, vectors = check_shape(shape), np.array([self.a, self.b])
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
        """`positions` with the origin at a random place in the unit cell.

        Parameters
        ----------
        shape : (H, W)
            Of the image in pixels.
        margin : float
            Columns this far outside are given too, in pixels.
        random_state : int, Generator or None
            Decides the place.

        Returns
        -------
        positions : (n, 2) float64
            (row, col) of each column.
        heights : (n,) float64
        """
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
        check_number("period", self.period, above=0)
        check_number("weight", self.weight, above=0)
        check_number("background", self.background, least=0)

    @property
    def spacing(self) -> float:
        """The period of the hexagonal lattice of the same density, in pixels."""
        return self.period

    def columns(
        self, shape: tuple[int, int], margin: float, random_state: RandomState = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Random columns that fill an image and its surroundings.

        Parameters
        ----------
        shape : (H, W)
            Of the image in pixels.
        margin : float
            Columns this far outside are given too, in pixels.
        random_state : int, Generator or None
            Decides where they are.

        Returns
        -------
        positions : (n, 2) float64
            (row, col) of each column.
        heights : (n,) float64
        """
        rng = np.random.default_rng(random_state)
        sides = np.array(check_shape(shape)) - 1 + 2 * margin
        # Matern's hard-core process of type II: of two points closer than d the later one goes. Of a density
        # q there remains (1 - exp(-q pi d^2)) / (pi d^2); solved here for q, given a hexagonal lattice's.
        disc = math.pi * (self.period / 2) ** 2
        wanted = 2 / math.sqrt(3) / self.period**2
        drawn = -math.log(1 - wanted * disc) / disc
        found = rng.random((rng.poisson(drawn * sides.prod()), 2)) * sides - margin
        earlier, later = close_pairs(found, self.period / 2)
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
        check_number("background", self.background, least=0)

    @property
    def spacing(self) -> float:
        """inf: there are no columns."""
        return math.inf

    def columns(
        self, shape: tuple[int, int], margin: float, random_state: RandomState = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """None: positions (0, 2) and heights (0,).

        Parameters
        ----------
        shape : (H, W)
            Of the image in pixels.
        margin : float
            Columns this far outside are given too, in pixels.
        random_state : int, Generator or None

        Returns
        -------
        positions : (n, 2) float64
            (row, col) of each column.
        heights : (n,) float64
        """
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
    width, height = check_number("width", width, above=0), check_number("height", height, above=0)
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
    a = (0.0, check_number("length_a", length_a, above=0))
    b = rotate_vector((0.0, check_number("length_b", length_b, above=0)), angle)
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
