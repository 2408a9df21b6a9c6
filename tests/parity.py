"""Engines against tests/naive.py: the bodies of the tests that test_engines.py and test_cuda.py share."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
from hypothesis import HealthCheck, settings

from gpuseg import arrays
from gpuseg.checks import check_image, check_mask
from gpuseg.descriptors.base import prepare
from gpuseg.engines import engine_for
from gpuseg.grid import Grid
from tests import naive, strategies
from tests.strategies import Case
from tests.tolerances import TOLERANCE, assert_scores_close

METHODS = ("direct", "fft", "box")


def cases(method="box", **limits):
    """Cases for a method. `box` takes pixels about the mean of a tile, which one hot pixel moves away from all
    others; naive.conditioning knows the mean of the image alone. `check_dark_beside` has that pixel."""
    if method == "box":
        limits["kinds"] = [kind for kind in strategies.KINDS if kind != "hot pixel"]
    return strategies.correlation_cases(**limits)


def examples(number):
    """Settings of a property-based test; an engine's fixture may outlive an example: it keeps nothing."""
    return settings(max_examples=number, suppress_health_check=[*_SLOW, HealthCheck.function_scoped_fixture])


_SLOW = (HealthCheck.too_slow, HealthCheck.filter_too_much)


@dataclass(frozen=True)
class Backend:
    """A device to compute on: moves arrays in and out around the functions of its engine."""

    device: arrays.Device

    @property
    def engine(self) -> ModuleType:
        return engine_for(self.device)

    def put(self, array):
        return None if array is None else arrays.move(np.ascontiguousarray(array), self.device)

    def prepared(self, case):
        """Pixels and valid, as the descriptors hand them to the engine."""
        image = check_image(case.image)
        if image.dtype.byteorder == ">" and self.device.kind == "cuda":
            image = image.astype(image.dtype.newbyteorder("="))  # CuPy does so itself, its stand-in refuses
        return prepare(image, check_mask(case.mask, image.shape), self.device)

    def scores(self, case, method):
        """(N, h, w) scores, missing ones NaN."""
        pixels, valid = self.prepared(case)
        shifts = np.asarray(case.translations, np.int64)
        scores = self.engine.translation_scores(pixels, valid, grid_of(case), shifts, case.patch_radius, method)
        assert str(scores.dtype) == "float32"
        assert arrays.home_of(scores) == self.device
        return arrays.to_numpy(scores)

    def filled(self, case, scores):
        """`scores` (N, h, w) filled by the engine's rule."""
        rows, cols = case.positions
        wanted = case.valid[np.ix_(rows, cols)]
        scores = self.put(np.array(scores, np.float32))
        filled = self.engine.fill_missing(scores, opposites(case.translations), self.put(wanted))
        assert arrays.home_of(filled) == self.device
        return arrays.to_numpy(filled)


def grid_of(case):
    """The grid of a case, which must be where the naive positions are."""
    if case.border == "full":
        grid = Grid.full(case.image.shape, case.stride)
    else:
        margin = [p + w for p, w in zip(case.patch_radius, case.window_radius, strict=True)]
        grid = Grid.inside(case.image.shape, case.stride, tuple(margin))
    rows, cols = case.positions
    np.testing.assert_array_equal(grid.rows, rows)
    np.testing.assert_array_equal(grid.cols, cols)
    return grid


def opposites(translations):
    """Index of the opposite of each translation, -1 where there is none."""
    index = {tuple(map(int, t)): k for k, t in enumerate(translations)}
    return np.array([index.get((-int(m), -int(n)), -1) for m, n in translations], np.int64)


def naive_scores(case):
    """What the definition gives for a case, and how far each score magnifies rounding."""
    what = (case.image, *case.positions, case.translations, case.patch_radius, case.mask)
    return naive.translation_scores(*what), naive.conditioning(*what)


def check_scores(backend, case, method, bound=TOLERANCE["score", "float32"]):
    """The engine's scores are the naive ones, as close as float32 can tell."""
    wanted, conditioning = naive_scores(case)
    assert_scores_close(backend.scores(case, method), wanted, bound * conditioning)


def check_filling(backend, case):
    """The engine fills what is missing exactly as the naive rule does."""
    rows, cols = case.positions
    scores = naive_scores(case)[0].astype(np.float32)
    wanted = naive.fill_missing(scores, case.translations, rows, cols, case.valid)
    np.testing.assert_array_equal(backend.filled(case, scores), wanted)


# --- images of which something is known ------------------------------------------------------------------


def case(image, patch_radius, translations, *, stride=3, border="full", mask=None, recipe="by hand"):
    """A case with given translations."""
    translations = np.array(translations)
    window = tuple(int(w) for w in np.abs(translations).max(0))
    return Case(recipe, image, mask, stride, border, patch_radius, window, None, translations)


def corner_cases():
    """The corners of the input space, each by its name."""
    rng = np.random.default_rng(7)
    image = rng.normal(size=(21, 26)).astype(np.float32)
    holes = strategies.build_image("lattice", (24, 19), "float32", hole="scattered nan", seed=3)
    window = naive.translations_of_window((4, 3), 20)
    every = naive.translations_of_window((2, 3), 100)
    half = np.mgrid[:24, :19][1] < 9
    lone = np.zeros((17, 23), bool)
    lone[8, 11] = True
    flat = strategies.build_image("flat areas", (31, 29), "float32")
    return {
        "window": case(image, (3, 2), window),
        "dense window, stride 1": case(image[:14, :15], (2, 3), every, stride=1),
        "window, valid border": case(image, (3, 2), window, border="valid"),
        "stride beyond the patch": case(image, (1, 2), every, stride=8),
        "stride beyond the image": case(image, (2, 2), every, stride=40),
        "radius 0 along rows": case(image, (0, 3), every),
        "radius 0": case(image, (0, 0), every),
        "zero shift alone": case(image, (2, 2), [(0, 0)]),
        "one shift": case(image, (2, 2), [(3, -2)]),
        "shifts without opposites": case(image, (2, 3), [(1, 0), (0, 4), (5, -3), (0, 0)]),
        "multiples of the stride": case(image, (2, 3), [(3, 0), (-3, 0), (6, -3), (-6, 3), (0, -6), (1, 1)]),
        "shifts beyond the image": case(image, (2, 2), [(30, 0), (0, -40), (-20, 25), (1, 1)]),
        "patch as large as the image": case(image[:11, :9], (5, 4), every),
        "one point inside": case(image[:15, :15], (5, 4), [(2, 3), (-2, -3), (0, 1)], border="valid"),
        "one row": case(image[:1], (0, 4), [(0, 2), (0, -2), (0, 5), (1, 0)]),
        "scattered nan": case(holes, (2, 3), window),
        "half plane": case(holes, (2, 3), window, mask=half),
        "one valid pixel": case(image[:17, :23], (2, 2), every, mask=~lone & (rng.random((17, 23)) < 0.3)),
        "flat areas": case(flat, (3, 3), window),
        "float64": case(image.astype(np.float64) + 1e6, (3, 2), window),
        "two values": case(image > 0, (3, 3), window),
    }


def level_30000_contrast_20():
    """uint16 counts of a lattice: 30000 +- 20, the case on which one-pass float32 sums give 3.3."""
    row, col = np.mgrid[:60, :70]
    lattice = np.cos(2 * np.pi * row / 7.3) + np.cos(2 * np.pi * (0.4 * row + col) / 8.1)
    counts = np.random.default_rng(3).poisson(30000 + 20 * lattice)
    image = np.round(30000 + 20 * lattice + 0.01 * (counts - 30000)).astype(np.uint16)
    return case(image, (8, 8), naive.translations_of_window((9, 9), 60), stride=5)


def dark_beside(bright):
    """A faint picture left of column 60 and something bright from there on; which scores are faint alone."""
    rng = np.random.default_rng(11)
    image, edge = rng.normal(size=(40, 90)), 60
    if bright == "hot pixel":
        image[20, edge] = 1e4
    else:
        image[:, edge:] *= 1000
    made = case(image, (4, 4), naive.translations_of_window((6, 6), 30), stride=3)
    _, cols = made.positions
    last = np.maximum(cols, cols + made.translations[:, 1:]) + 4
    return made, np.broadcast_to((last < edge)[:, None, :], (len(made.translations), *grid_of(made).shape))


def check_dark_beside(backend, method, bright):
    """A bright region, or one hot pixel, does not spoil the scores of patches that do not hold it."""
    made, dark = dark_beside(bright)
    wanted, conditioning = naive_scores(made)
    bound = TOLERANCE["score", "float32"] * conditioning
    got = backend.scores(made, method)
    assert_scores_close(got[dark], wanted[dark], bound[dark])


def check_high_level(backend, method):
    """Level 30000 and contrast 20 in uint16 stay below the bound of the issue."""
    made = level_30000_contrast_20()
    assert_scores_close(backend.scores(made, method), naive_scores(made)[0], TOLERANCE["score", "high level"])


def check_normalise(backend, image, valid=None):
    """Mean 0 and variance 1 over the valid pixels, 0 elsewhere, linear in the image."""
    put = backend.put(image)
    got = backend.engine.normalise(put, backend.put(valid))
    assert arrays.home_of(got) == backend.device
    assert str(got.dtype) == "float32"
    got = arrays.to_numpy(got).astype(np.float64)
    valid = np.ones(image.shape, bool) if valid is None else valid
    assert not got[~valid].any()
    # Python's own integers are exact where float64 is not
    values = np.array([int(v) if image.dtype.kind in "iu" else float(v) for v in image[valid]], object)
    centred = (values - values[0]).astype(np.float64)
    centred = centred / np.abs(centred).max()
    wanted = (centred - centred.mean()) / centred.std()
    np.testing.assert_allclose(got[valid], wanted, rtol=1e-6, atol=1e-6)
