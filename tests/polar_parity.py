"""Polar patches and pooling against tests/naive.py: the bodies that test_polar.py and test_cuda.py share."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from gpuseg import arrays
from gpuseg.grid import Grid
from gpuseg.polar import PolarPlan, sectors_for
from gpuseg.symmetry import GlideReflection, Reflection, Rotation
from tests import naive, strategies
from tests.tolerances import TOLERANCE, assert_scores_close

TURNS = tuple(map(Rotation, (60.0, 90.0, 120.0, 180.0)))
PLANES = tuple(Reflection(18.0 * k) for k in range(10))
GLIDES = (GlideReflection(0.0, 3.0), GlideReflection(90.0, 6.25), GlideReflection(17.0, 2.5))


@dataclass(frozen=True, repr=False, eq=False)
class PolarCase:
    """One call of `polar_scores`: everything it takes."""

    recipe: str  # how the image and the mask were made
    image: np.ndarray  # (H, W), any dtype and layout
    mask: np.ndarray | None  # (H, W) bool
    radius: int
    operations: tuple
    every: int = 1  # rows and columns between pixels that are compared

    def __repr__(self):
        return f"PolarCase({self.recipe}, radius={self.radius}, operations={self.operations})"

    @property
    def plan(self):
        return PolarPlan.of(self.radius, self.operations)

    @property
    def naive_arguments(self):
        """What the functions of tests/naive.py take."""
        operations = [(each.matrix, each.shift) for each in self.operations]
        sectors = sectors_for(self.radius, self.operations)
        return self.image, operations, self.radius, sectors, self.mask, self.every

    @functools.cached_property
    def wanted(self):
        """What the definition gives, and how far it magnifies rounding; (N, h, w) each."""
        return naive.polar_scores(*self.naive_arguments), naive.polar_conditioning(*self.naive_arguments)


def some_operations():
    """Sets of operations: usual angles, and odd ones that need samples of their own."""
    angles = st.sampled_from([0.0, 17.0, 36.0, 45.0, 60.0, 90.0, 120.0, 131.7, 180.0])
    lengths = st.sampled_from([0.5, 1.0, 3.0, 6.25, 40.0])
    one = (
        angles.filter(bool).map(Rotation)
        | angles.map(lambda angle: Reflection(angle % 180))
        | st.builds(GlideReflection, angles, lengths)
    )
    return st.lists(one, min_size=1, max_size=5, unique=True).map(tuple)


@st.composite
def polar_cases(draw, max_radius=7, least=(0, 0), **limits):
    """Cases of any image, mask and operations; sides of more than 2 * `least`; `limits` of `strategies.built`."""
    recipe, image, mask = draw(strategies.built(least, **limits))
    return PolarCase(recipe, image, mask, draw(st.integers(1, max_radius)), draw(some_operations()))


def polar_scores(backend, case):
    """(N, H, W) of an engine, missing ones NaN."""
    scores = backend.engine.polar_scores(*backend.prepared(case), case.plan)
    assert str(scores.dtype) == "float32"
    assert arrays.home_of(scores) == backend.device
    return arrays.to_numpy(scores)


def check_polar(backend, case):
    """The engine's scores are the naive ones, as close as float32 pixels can tell."""
    wanted, conditioning = case.wanted
    bound = np.maximum(TOLERANCE["score", "polar naive"], TOLERANCE["score", "polar level"] * conditioning)
    got = polar_scores(backend, case)
    assert_scores_close(got[:, :: case.every, :: case.every], wanted, bound)
    assert np.nanmax(np.abs(got), initial=0) <= 1


TILES = (37, 78)
"""Shape of an image of which a tile of a GPU (8 x 32), with 12 pixels around it, is the middle."""


def by_hand(image, radius, operations, mask=None, every=1):
    """A case of a given image."""
    return PolarCase("by hand", image, mask, radius, tuple(operations), every)


def faint_beside_bright(contrast):
    """Noise of some contrast left of the middle, of contrast 1 right of it."""
    noise = np.random.default_rng(4).normal(size=TILES)
    return np.where(np.arange(TILES[1]) < 50, contrast, 1) * noise


def step(contrast, shape=(56, 90)):
    """Noise of some contrast on two levels, which differ by 1."""
    return (np.arange(shape[1]) >= shape[1] // 2) + contrast * np.random.default_rng(5).normal(size=shape)


@functools.cache
def corner_cases():
    """The corners of the input space, each by its name."""
    rng = np.random.default_rng(7)
    noise = rng.normal(size=TILES)
    row, col = np.mgrid[: TILES[0], : TILES[1]]
    hot = noise.copy()
    hot[19, 41] = 3000
    few = np.zeros(TILES, bool)
    few[3:9, 5:12] = few[17:25, 40:48] = few[20, 70] = True
    flat = np.where((row // 13 + col // 17) % 2, noise, 0.25)
    corners = 3e-5 * noise + ((row % 19 > 14) & (col % 19 > 14))
    large, wide = rng.normal(size=(64, 95)), rng.normal(size=(72, 112))
    every = (Rotation(90.0), Rotation(120.0), Reflection(18.0), *GLIDES[:2])
    return {
        "turns": by_hand(noise, 5, TURNS),
        "planes": by_hand(noise, 4, PLANES),
        "glides": by_hand(noise, 3, GLIDES),
        "all kinds": by_hand(noise, 4, (*TURNS, *PLANES[:3], *GLIDES), every=2),
        "one operation": by_hand(noise, 4, [Rotation(180.0)]),
        "samples of their own": by_hand(noise, 4, [Rotation(17.0), Reflection(11.3), Rotation(343.0)]),
        "many planes": by_hand(noise, 3, [Reflection(180.0 * k / 37) for k in range(37)], every=3),
        "thirds of a turn": by_hand(noise, 6, [Rotation(120.0), Rotation(240.0)]),
        "radius 1": by_hand(noise, 1, every),
        "hardly larger than a patch": by_hand(noise[:11, :12], 5, every),
        "smaller than a patch": by_hand(noise[:6, :9], 7, every),
        "one row": by_hand(noise[:1], 1, every),
        "one column": by_hand(noise[:, :1], 2, every),
        "two pixels": by_hand(noise[:1, :2], 1, every),
        "many tiles": by_hand(rng.normal(size=(35, 131)), 3, every, every=3),
        "a glide longer than the image": by_hand(noise, 3, [GlideReflection(0.0, 90.0), Rotation(90.0)]),
        "all masked but little": by_hand(noise, 3, every, few),
        "half masked": by_hand(noise, 4, every, col < 43),
        "half a patch masked": by_hand(noise, 1, every, row < 17),
        "scattered mask": by_hand(noise, 2, every, rng.random(TILES) < 0.97),
        "one hole": by_hand(noise, 4, every, ~((row == 19) & (col == 63))),
        "nan": by_hand(np.where(rng.random(TILES) < 0.01, np.nan, noise), 2, every),
        "hot pixel": by_hand(hot, 3, every),
        "flat areas": by_hand(flat, 3, every),
        "flat areas with holes": by_hand(flat, 2, every, rng.random(TILES) < 0.98),
        "flat but for a corner": by_hand(np.where((row < 9) & (col < 9), noise, 0.25), 3, every),
        "faint beside bright": by_hand(faint_beside_bright(1e-3), 3, every),
        "nearly flat beside bright": by_hand(faint_beside_bright(3e-5), 3, every),
        "bright corners of a faint square": by_hand(corners, 5, [Rotation(90.0), Rotation(17.0)]),
        "a glide along a step": by_hand(step(0.02), 3, [GlideReflection(0.0, 14.0)]),
        "a slope": by_hand(noise + 2.0 * col, 3, every),
        "high level": by_hand(np.round(30000 + 20 * noise).astype(np.uint16), 3, every),
        "two values": by_hand(noise > 0, 3, every),
        "a perfect lattice": by_hand(np.cos(row * np.pi / 4) + np.cos(col * np.pi / 4), 5, every),
        "a thousand sums of sums": by_hand(
            wide, 20, [GlideReflection(0.0, 0.5), GlideReflection(90.0, 0.5)], every=5
        ),
        "radius 20": by_hand(large, 20, TURNS, every=7),
        "radius 20 beyond shared memory": by_hand(
            large, 20, [PLANES[1], GlideReflection(90.0, 30.0)], every=7
        ),
        "radius 20 on 64 x 64": by_hand(large[:, :64], 20, PLANES[:4], every=5),
    }


# --- pooling ---------------------------------------------------------------------------------------------


@st.composite
def pooling_cases(draw, max_side=30):
    """Score maps with ties and missing scores, a grid, a window, how many."""
    shape = draw(st.integers(1, 3)), draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    levels = draw(st.sampled_from([1, 3, 1000]))
    scores = np.round(levels * rng.uniform(-1, 1, shape)) / levels
    scores[rng.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.9, 1.0]))] = np.nan
    radius = draw(strategies.radii(0, 9))
    n_max = draw(st.integers(1, (2 * radius[0] + 1) * (2 * radius[1] + 1)))
    stride = draw(st.integers(1, 7))
    margin = [draw(st.integers(0, (length - 1) // 2)) for length in shape[1:]]
    inside = draw(st.booleans())
    grid = Grid.inside(shape[1:], stride, tuple(margin)) if inside else Grid.full(shape[1:], stride)
    return scores.astype(np.float32), grid, radius, min(n_max, draw(st.sampled_from([1, 2, 5, 400])))


def check_pooling(backend, scores, grid, radius, n_max):
    """The engine pools exactly as the naive loop does."""
    wanted = naive.pooled(scores, grid.rows, grid.cols, radius, n_max)
    before = scores.tobytes()
    got = backend.engine.pool(backend.put(scores), grid, radius, n_max)
    assert str(got.dtype) == "float32"
    assert arrays.home_of(got) == backend.device
    np.testing.assert_array_equal(arrays.to_numpy(got), wanted)
    assert scores.tobytes() == before


def pooling_corner_cases():
    """(scores, grid, radius, n_max), each by its name."""
    rng = np.random.default_rng(2)
    scores = rng.uniform(-1, 1, (2, 33, 47)).astype(np.float32)
    ties = np.round(2 * scores) / 2
    holes = np.where(rng.random(scores.shape) < 0.4, np.nan, scores)
    full, shape = Grid.full(scores.shape[1:], 4), scores.shape[1:]
    return {
        "largest": (scores, full, (5, 5), 1),
        "every pixel": (scores, Grid.full(shape, 1), (3, 4), 2),
        "no window": (scores, Grid.full(shape, 1), (0, 0), 1),
        "one row": (scores, full, (0, 6), 4),
        "one column": (scores, full, (6, 0), 4),
        "ties": (ties, full, (3, 3), 7),
        "ties and holes": (np.where(np.isnan(holes), np.nan, ties), full, (2, 3), 20),
        "the whole window": (holes, full, (2, 2), 25),
        "beyond the image": (holes, full, (50, 60), 5),
        "more than there are": (holes[:, :3, :4], Grid.full((3, 4), 2), (3, 3), 49),
        "nothing known": (np.full_like(scores, np.nan), full, (3, 3), 2),
        "one known": (np.where(np.arange(47) == 20, holes, np.nan), full, (1, 4), 3),
        "inside": (scores, Grid.inside(shape, 5, (7, 9)), (7, 9), 3),
        "a stride beyond the image": (scores, Grid.full(shape, 100), (5, 5), 2),
        "more than a block": (rng.uniform(-1, 1, (1, 4, 600)).astype(np.float32), Grid.full((4, 600), 1), (1, 2), 2),
        "zeros of both signs": (np.where(scores > 0, np.float32(0), np.float32(-0.0)), full, (2, 2), 3),
    }  # fmt: skip
