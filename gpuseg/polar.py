"""Circular patches in polar coordinates: where they are sampled, and which samples an operation compares.

The positions are the same around every pixel, so the cubic splines through them have constant weights, and
an operation of which the sampling is symmetric compares samples of one and the same patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["BATCH", "MOST_SECTORS", "SPLINE_ROWS", "PolarPlan", "ring_sizes", "samples_of", "sectors_for"]

BATCH = 32
"""Largest number of samples that are held at a time while their products are summed."""

SPLINE_ROWS = 32
"""So many rows further a pixel has no share in the coefficients of a cubic spline: 0.27 ** 32 is 6e-19."""

SECTORS = 4
"""Quarter turns and flips of the image permute the samples of every ring, so they only permute the scores."""

MOST_SECTORS = 360
"""Finest division of the circle that is tried before an operation gets samples of its own."""

SAME = 1e-7
"""Positions closer than this, in pixels, are one."""


@dataclass(frozen=True, eq=False)
class PolarPlan:
    """What is sampled around every pixel, and which products of samples make up each score.

    Samples are interpolated, and their products summed, batch by batch: samples `batch_samples[k]` to
    `batch_samples[k + 1]` and pairs `batch_pairs[k]` to `batch_pairs[k + 1]` belong to batch k.

    Parameters
    ----------
    corners : (S, 2) int32
        (row, col) of the first of the 4 x 4 pixels that a sample is interpolated from, from the centre.
    splines : (S, 2, 4) float64
        Weights of their rows and columns.
    own_weight : (S,) float64
        Area of the sample where it belongs to the patch itself and has not occurred before, else 0; sums
        to 1.
    pairs : (P, 3) int32
        Operation, place of a sample of the patch in its batch, place of what it is compared with; sorted by
        operation within a batch.
    pair_weight : (P,) float64
        Area of the pair; sums to 1 for each operation.
    batch_samples, batch_pairs : (B + 1,) int32
    kinds : (N,) int32
        How the two sides of an operation are related; one of `SAME_PATCH`, `INVOLUTION`, `OTHER_PATCH`.
    reach : int
        Largest distance of a row or column that is needed, in pixels.
    """

    corners: np.ndarray
    splines: np.ndarray
    own_weight: np.ndarray
    pairs: np.ndarray
    pair_weight: np.ndarray
    batch_samples: np.ndarray
    batch_pairs: np.ndarray
    kinds: np.ndarray
    reach: int

    @classmethod
    def of(cls, radius: int, operations: Sequence[Any], sectors: int | None = None) -> PolarPlan:
        """The plan for some operations.

        Parameters
        ----------
        radius : int
            Of the patch in pixels.
        operations : sequence of Rotation, Reflection or GlideReflection
        sectors : int, optional
            Each ring has a multiple of so many samples; `sectors_for` if None.

        Returns
        -------
        PolarPlan
        """
        positions, area = samples_of(radius, sectors or sectors_for(radius, operations))
        known, pairs, weights, kinds = _pairs(positions, area, operations)
        chunks = _batches(pairs, len(known))
        corners, splines = _splines(known)
        members = np.concatenate([members for members, _ in chunks])
        first = np.unique(members, return_index=True)[1]
        own = np.zeros(len(members))
        own[first] = np.concatenate([area, np.zeros(len(known) - len(area))])[members[first]]
        order = np.concatenate([chosen for _, chosen in chunks])
        local = np.concatenate([_local(pairs[chosen], members) for members, chosen in chunks])
        reach = int(max(-corners.min(), corners.max() + 3))
        return cls(
            corners[members],
            splines[members],
            own,
            local.astype(np.int32),
            weights[order],
            _ends([len(members) for members, _ in chunks]),
            _ends([len(chosen) for _, chosen in chunks]),
            kinds,
            reach,
        )


SAME_PATCH = 0
"""The operation permutes the samples of the patch: mean and norm of both sides are the same."""
INVOLUTION = 1
"""So it does, and twice it is the identity: a pair stands for both orders of its samples."""
OTHER_PATCH = 2
"""The other side has samples, mean and norm of its own."""


def ring_sizes(radius: int, sectors: int) -> np.ndarray:
    """Number of samples on each ring of a patch: about one per pixel of area.

    Parameters
    ----------
    radius : int
    sectors : int
        The numbers are multiples of it.

    Returns
    -------
    (radius,) int64
        Of the rings of radius 0.5, 1.5, ... pixels.
    """
    length = 2 * np.pi * (np.arange(radius) + 0.5)
    return sectors * np.maximum(np.rint(length / sectors), 1).astype(np.int64)


def samples_of(radius: int, sectors: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples of a circular patch, ring by ring, each ring from the column axis on counter-clockwise.

    Parameters
    ----------
    radius : int
        In pixels.
    sectors : int
        A turn by 360 / sectors degrees, or a reflection at the column axis, permutes the samples.

    Returns
    -------
    positions : (M, 2) float64
        (row, col) from the centre.
    area : (M,) float64
        r dr dtheta, as a share of the patch.
    """
    sizes = ring_sizes(radius, sectors)
    rings = np.repeat(np.arange(radius) + 0.5, sizes)
    theta = np.concatenate([2 * np.pi / n * np.arange(n) for n in sizes])
    area = rings / np.repeat(sizes, sizes)
    return rings[:, None] * np.stack([-np.sin(theta), np.cos(theta)], 1), area / area.sum()


def sectors_for(radius: int, operations: Sequence[Any]) -> int:
    """The division of the circle that makes the operations cheapest: they permute it, or need own samples.

    Parameters
    ----------
    radius : int
        Of the patch in pixels.
    operations : sequence of Rotation, Reflection or GlideReflection

    Returns
    -------
    int
        A multiple of `SECTORS`, at most `MOST_SECTORS`.
    """
    turns = np.array([_turn(each) for each in operations if not each.shift.any()])
    for sectors in range(SECTORS, MOST_SECTORS + 1, SECTORS):
        steps = turns * sectors
        if (np.abs(steps - np.rint(steps)) < 1e-9).all():
            own = ring_sizes(radius, SECTORS).sum() * (1 + turns.size)
            return sectors if ring_sizes(radius, sectors).sum() <= own else SECTORS
    return SECTORS


def _turn(operation: Any) -> float:
    """By which share of the circle the angles of the samples move, apart from their order."""
    matrix = operation.matrix
    return float(np.arctan2(matrix[1, 0] * np.sign(np.linalg.det(matrix)), matrix[1, 1]) / (2 * np.pi))


def _pairs(
    positions: np.ndarray, area: np.ndarray, operations: Sequence[Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All samples, the pairs (operation, sample, sample) of all operations, their areas, and kinds."""
    places = {_key(each): k for k, each in enumerate(positions)}
    known, pairs, weights, kinds = list(positions), [], [], []
    here = np.arange(len(positions))
    for k, operation in enumerate(operations):
        there = []
        for each in positions @ operation.matrix.T + operation.shift:
            key = _key(each)
            if key not in places:
                places[key] = len(known)
                known.append(each)
            there.append(places[key])
        other = np.array(there)
        permutes = other.max() < len(positions)
        if permutes and (other[other] == here).all():
            kept, kind, area_of_pair = here <= other, INVOLUTION, np.where(here < other, 2, 1) * area
        else:
            kept, kind, area_of_pair = here >= 0, SAME_PATCH if permutes else OTHER_PATCH, area
        pairs.append(np.stack([np.full(len(here), k), here, other], 1)[kept])
        weights.append(area_of_pair[kept])
        kinds.append(kind)
    return np.array(known), np.concatenate(pairs), np.concatenate(weights), np.array(kinds, np.int32)


def _key(position: np.ndarray) -> tuple[int, int]:
    row, col = np.rint(position / SAME)
    return int(row), int(col)


def _batches(pairs: np.ndarray, n_samples: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Samples and pairs of each batch: what the operations carry into each other, cut where too many."""
    orbit = _orbits(pairs[:, 1:], n_samples)
    # of a large orbit, pairs between two halves of a batch stand together
    block = _rank_in(orbit)[pairs[:, 1:]] // (BATCH // 2)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], block.max(1), block.min(1), orbit[pairs[:, 1]]))
    chunks: list[tuple[np.ndarray, np.ndarray]] = []
    members: dict[int, None] = {}
    chosen: list[int] = []

    def close() -> None:
        if chosen:
            rows = np.array(chosen)
            rows = rows[np.argsort(pairs[rows, 0], kind="stable")]
            chunks.append((np.array(sorted(members)), rows))
        members.clear()
        chosen.clear()

    last = -1
    for row in order.tolist():
        _, one, other = pairs[row].tolist()
        new = {one, other} - members.keys()
        if orbit[one] != last or len(members) + len(new) > BATCH:
            close()
        last = orbit[one]
        members.update(dict.fromkeys((one, other)))
        chosen.append(row)
    close()
    return chunks


def _orbits(edges: np.ndarray, n_samples: int) -> np.ndarray:
    """Number of the connected part that each sample belongs to."""
    orbit = np.arange(n_samples)
    while True:  # the least number spreads, doubling its way
        least = np.minimum(orbit[edges[:, 0]], orbit[edges[:, 1]])
        spread = orbit.copy()
        np.minimum.at(spread, edges[:, 0], least)
        np.minimum.at(spread, edges[:, 1], least)
        spread = spread[spread]
        if (spread == orbit).all():
            return orbit
        orbit = spread


def _rank_in(orbit: np.ndarray) -> np.ndarray:
    """Place of each sample among those of its orbit."""
    order = np.argsort(orbit, kind="stable")
    first = np.searchsorted(orbit[order], orbit)
    rank = np.empty_like(orbit)
    rank[order] = np.arange(len(orbit))
    return rank - first


def _local(pairs: np.ndarray, members: np.ndarray) -> np.ndarray:
    return np.stack([pairs[:, 0], *(np.searchsorted(members, pairs[:, side]) for side in (1, 2))], 1)


def _ends(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def _splines(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First pixel (S, 2) and cubic B-spline weights (S, 2, 4) of positions (S, 2)."""
    first = np.floor(positions + SAME)
    t = np.maximum(positions - first, 0)
    t[t < SAME] = 0  # or the sample would need a fourth pixel with a weight of next to nothing
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 1 + 3 * (t + t**2 - t**3), t**3], -1) / 6
    return (first - 1).astype(np.int32), weights
