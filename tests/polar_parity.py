"""Polar patches and pooling against tests/naive.py: what test_polar.py and test_cuda.py share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from gpuseg import arrays
from gpuseg.polar import PolarPlan, sectors_for
from gpuseg.symmetry import GlideReflection, Reflection, Rotation
from tests import naive, strategies
from tests.tolerances import TOLERANCE, assert_scores_close

USUAL = tuple(map(Rotation, (60.0, 90.0, 120.0, 180.0)))
PLANES = tuple(Reflection(18.0 * k) for k in range(10))
SMALL_RADIUS = 7


@dataclass(frozen=True, repr=False, eq=False)
class PolarCase:
    """One call of `polar_scores`."""

    recipe: str
    image: np.ndarray
    mask: np.ndarray | None
    radius: int
    operations: tuple

    def __repr__(self):
        return f"PolarCase({self.recipe}, radius={self.radius}, operations={self.operations})"

    @property
    def plan(self):
        return PolarPlan.of(self.radius, self.operations)

    @property
    def naive_arguments(self):
        operations = [(each.matrix, each.shift) for each in self.operations]
        return self.image, operations, self.radius, sectors_for(self.radius, self.operations), self.mask


def operations():
    """Sets of operations: usual angles, and odd ones that need samples of their own."""
    angle = st.sampled_from([0.0, 17.0, 36.0, 45.0, 60.0, 90.0, 120.0, 131.7, 180.0])
    some = (
        angle.filter(bool).map(Rotation)
        | angle.map(lambda a: Reflection(a % 180))
        | st.builds(GlideReflection, angle, st.sampled_from([0.5, 1.0, 3.0, 6.25, 40.0]))
    )
    return st.lists(some, min_size=1, max_size=5, unique=True).map(tuple)


@st.composite
def polar_cases(draw, max_radius=SMALL_RADIUS, **limits):
    """Cases of any image, mask and operations; `limits` as of `strategies.built`."""
    recipe, image, mask = draw(strategies.built((0, 0), **limits))
    return PolarCase(recipe, image, mask, draw(st.integers(1, max_radius)), draw(operations()))


def polar_scores(backend, case):
    """(N, H, W) of an engine."""
    scores = backend.engine.polar_scores(*backend.prepared(case), case.plan)
    assert str(scores.dtype) == "float32"
    assert arrays.home_of(scores) == backend.device
    return arrays.to_numpy(scores)
