"""Engines against tests/naive.py: the bodies of the tests that test_engines.py and test_cuda.py share."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from gpuseg import arrays
from gpuseg.checks import check_image, check_mask
from gpuseg.clustering import KMeans
from gpuseg.decomposition import PCA
from gpuseg.descriptors.base import prepare
from gpuseg.engines import engine_for
from gpuseg.grid import Grid
from gpuseg.prediction import PatternPlan
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
        scores = self.engine.translation_scores(
            pixels, valid, grid_of(case), shifts, case.patch_radius, method
        )
        assert str(scores.dtype) == "float32"
        assert arrays.home_of(scores) == self.device
        return arrays.to_numpy(scores)

    def filled(self, case, scores, complete=(0, 0, 0, 0)):
        """`scores` (N, h, w) filled by the engine's rule, told of a rectangle that misses nothing."""
        rows, cols = case.positions
        wanted = case.valid[np.ix_(rows, cols)]
        scores = self.put(np.array(scores, np.float32))
        filled = self.engine.fill_missing(scores, opposites(case.translations), self.put(wanted), complete)
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
    got = backend.scores(case, method)
    assert_scores_close(got, wanted, bound * conditioning)
    assert np.nanmax(np.abs(got), initial=0) <= 1


def patterns_of(case, n_axes, n_centers, seed=0):
    """A plan with components and centres such as the scores of a case might have, the scores and their bounds.

    Where a score is taken from elsewhere, so is its bound.
    """
    scores, conditioning = naive_scores(case)
    rows, cols = case.positions
    masked = not case.valid.all()
    fills = masked or case.border == "full"
    if fills:
        what = case.translations, rows, cols, case.valid
        conditioning = naive.fill_missing(np.where(np.isnan(scores), np.nan, conditioning), *what)
        scores = naive.fill_missing(scores, *what)
    rng, n = np.random.default_rng(seed), len(scores)
    axes = np.linalg.qr(rng.normal(size=(n, n)))[0][: min(n_axes, n)].astype(np.float32)
    flat = scores.reshape(n, -1)
    known = np.isfinite(flat).all(0)
    mean = (flat[:, known].mean(1) if known.any() else np.zeros(n)).astype(np.float32)
    spread = 0.1 + np.abs(axes @ (np.nan_to_num(flat) - mean[:, None])).mean()
    centers = rng.normal(size=(n_centers, len(axes)), scale=spread).astype(np.float32)
    plan = PatternPlan(
        grid_of(case),
        np.asarray(case.translations, np.int64),
        case.patch_radius,
        "box",
        mean,
        axes,
        centers,
        valid=case.valid if masked else None,
        fills=fills,
    )
    return plan, scores, TOLERANCE["score", "float32"] * conditioning


def check_patterns(backend, case, n_axes=3, n_centers=3):
    """The engine's components are those of the naive scores, and its labels, but where two centres are as near."""
    plan, scores, bound = patterns_of(case, n_axes, n_centers)
    if not plan.scores_something:  # a labeller leaves these to `predict`, which refuses them
        return
    assert backend.engine.can_label(plan)
    found = backend.engine.label_points(backend.prepared(case)[0], plan)
    components, labels, certainty, misfit = (
        arrays.to_numpy(each) for each in (found.components, found.labels, found.certainty, found.misfit)
    )
    assert [str(each.dtype) for each in (labels, certainty, misfit)] == ["int32", "float32", "float32"]
    assert labels.shape == certainty.shape == misfit.shape == plan.grid.shape
    known = np.isfinite(scores).all(0)
    np.testing.assert_array_equal(labels == -1, ~known)
    np.testing.assert_array_equal(certainty[~known], 0)
    wanted = naive.patterns(scores[:, known], plan.mean, plan.axes, plan.centers)
    off = np.abs(plan.axes) @ bound[:, known] + TOLERANCE["components", "rounding"] * np.sqrt(len(scores))
    assert_scores_close(components[:, known], wanted[0], off)
    shift = np.sqrt((off**2).sum(0))  # how far a point may have gone
    away = np.sort(naive.distances(wanted[0], plan.centers), axis=0)
    apart = away[1] - away[0] > 2 * shift if len(away) > 1 else np.ones(known.sum(), bool)
    np.testing.assert_array_equal(labels[known][apart], wanted[1][apart])
    second = away[1] if len(away) > 1 else np.inf
    assert_scores_close(certainty[known], wanted[2], np.minimum(1, 3 * shift / second) + 1e-6)
    size = np.sqrt(np.maximum(wanted[3], 0)) + shift + np.sqrt((bound[:, known] ** 2).sum(0)) + 1e-3
    rest = TOLERANCE["components", "rounding"] * (1 + (wanted[0] ** 2).sum(0)) * len(scores)
    drift = np.sqrt((bound[:, known] ** 2).sum(0)) + shift
    assert_scores_close(misfit[known], wanted[3], 3 * size * drift + rest)


def check_filling(backend, case):
    """The engine fills what is missing exactly as the naive rule does."""
    rows, cols = case.positions
    scores = naive_scores(case)[0].astype(np.float32)
    wanted = naive.fill_missing(scores, case.translations, rows, cols, case.valid)
    np.testing.assert_array_equal(backend.filled(case, scores), wanted)
    np.testing.assert_array_equal(backend.filled(case, scores, whole_rectangle(scores)), wanted)


def whole_rectangle(scores):
    """First row, end, first column, end of a rectangle of grid points that miss no score."""
    known = np.isfinite(scores).all(0)
    rows = np.flatnonzero(known.any(1))
    top = bottom = rows[len(rows) // 2] if len(rows) else 0
    cols = np.flatnonzero(known[top])
    if not len(cols):
        return (0, 0, 0, 0)
    left = right = cols[len(cols) // 2]
    while left > 0 and known[top, left - 1]:
        left -= 1
    while right + 1 < known.shape[1] and known[top, right + 1]:
        right += 1
    while bottom + 1 < known.shape[0] and known[bottom + 1, left : right + 1].all():
        bottom += 1
    return int(top), int(bottom) + 1, int(left), int(right) + 1


# --- what follows the scores -----------------------------------------------------------------------------


def table_of_scores(n_samples=400):
    """(S, 9) float32 about three centres, with variances that fall from axis to axis, and a mean."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    blobs = 6 * rng.normal(size=(3, 9))[rng.choice(3, n_samples, p=[0.2, 0.5, 0.3])]
    return ((blobs + rng.normal(size=(n_samples, 9)) * 0.7 ** np.arange(9)) @ turn + 3).astype(np.float32)


def check_pca(put):
    """On a device PCA has the attributes that scikit-learn finds, signs apart, and those of the CPU."""
    from sklearn.decomposition import PCA as Reference

    samples = table_of_scores()
    device, host = PCA(5).fit(put(samples)), PCA(5).fit(samples)
    wanted = Reference(5, svd_solver="full").fit(samples.astype(np.float64))
    axes, ratio = TOLERANCE["pca", "components"], TOLERANCE["pca", "explained_variance_ratio"]
    for name in ("components_", "mean_", "explained_variance_", "explained_variance_ratio_"):
        got = getattr(device, name)
        assert type(got) is type(put(samples)), name
        assert got.dtype == getattr(host, name).dtype == np.float32
        np.testing.assert_allclose(
            arrays.to_numpy(got), getattr(host, name), rtol=axes, atol=axes, err_msg=name
        )
    components = arrays.to_numpy(device.components_)
    signs = np.sign((components * wanted.components_).sum(1, keepdims=True))
    np.testing.assert_allclose(components, signs * wanted.components_, atol=axes)
    np.testing.assert_allclose(
        arrays.to_numpy(device.explained_variance_ratio_), wanted.explained_variance_ratio_, atol=ratio
    )
    there = arrays.to_numpy(device.transform(put(samples)))
    np.testing.assert_allclose(there, host.transform(samples), atol=axes * np.abs(samples).max())
    for fraction in (0.5, 0.9):
        count = Reference(fraction, svd_solver="full").fit(samples.astype(np.float64)).n_components_
        assert PCA(fraction).fit(put(samples)).n_components_ == count


def check_kmeans(put):
    """On a device k-means finds centres as good as scikit-learn's, and the same each time."""
    from sklearn.cluster import KMeans as Reference

    samples = table_of_scores()
    wanted = Reference(3, n_init=10, tol=1e-6, random_state=0).fit(samples.astype(np.float64))
    first, second = (KMeans(3, n_init=10, random_state=0).fit(put(samples)) for _ in range(2))
    centers = arrays.to_numpy(first.cluster_centers_)
    assert first.inertia_ == pytest.approx(wanted.inertia_, rel=1e-4)
    nearest = naive.distances(wanted.cluster_centers_.T, centers).argmin(0)
    np.testing.assert_allclose(centers[nearest], wanted.cluster_centers_, atol=1e-3)
    np.testing.assert_array_equal(arrays.to_numpy(first.labels_), naive.assign(samples.T, centers))
    assert type(first.labels_) is type(put(samples))
    assert arrays.to_numpy(second.cluster_centers_).tobytes() == centers.tobytes()


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
    row, col = np.mgrid[:30, :34]
    repeats = [(0, 0), (6, 0), (-6, 0), (0, 5), (6, 5), (3, 0), (1, 2)]
    tiles = rng.normal(size=(19, 75))
    frame = np.pad(rng.normal(size=(12, 13)), 8, constant_values=0.7)
    perfect = (((row % 6) * 7 + (col % 5) * 11) % 13).astype(np.float32)
    flat = strategies.build_image("flat areas", (31, 29), "float32")
    return {
        "window": case(image, (3, 2), window),
        "dense window, stride 1": case(image[:14, :15], (2, 3), every, stride=1),
        "window, valid border": case(image, (3, 2), window, border="valid"),
        "several tiles of a GPU": case(tiles, (2, 3), every[::3], stride=2),
        "several tiles, valid": case(tiles, (2, 3), every[::3], stride=2, border="valid"),
        "more shifts than threads": case(
            tiles[:, :20], (1, 1), naive.translations_of_window((8, 8), 289), stride=7
        ),
        "stride beyond the patch": case(image, (1, 2), every, stride=8),
        "stride beyond the image": case(image, (2, 2), every, stride=40),
        "radius 0 along rows": case(image, (0, 3), every),
        "radius 0": case(image, (0, 0), every),
        "zero shift alone": case(image, (2, 2), [(0, 0)]),
        "one shift": case(image, (2, 2), [(3, -2)]),
        "shifts without opposites": case(image, (2, 3), [(1, 0), (0, 4), (5, -3), (0, 0)]),
        "multiples of the stride": case(image, (2, 3), [(3, 0), (-3, 0), (6, -3), (-6, 3), (0, -6), (1, 1)]),
        "multiples of the stride, masked": case(
            holes, (2, 3), [(3, 0), (-3, 0), (6, -3), (-6, 3), (0, -6), (0, 6), (1, 1)]
        ),
        "shifts on the grid": case(image, (2, 3), [(3, 0), (-3, 0), (6, -3), (-6, 3), (0, 0), (0, 9)]),
        "shifts half on the grid": case(image, (3, 1), [(2, 4), (-2, -4), (6, 0), (0, -2), (4, 2)], stride=4),
        "shifts on the grid, valid": case(image, (2, 3), [(3, 0), (-3, 0), (3, -3), (-3, 3)], border="valid"),
        "perfect lattice": case(perfect, (4, 4), repeats),
        "perfect lattice, valid": case(perfect, (4, 4), repeats, border="valid"),
        "shifts beyond the image": case(image, (2, 2), [(30, 0), (0, -40), (-20, 25), (1, 1)]),
        "patch as large as the image": case(image[:11, :9], (5, 4), every),
        "one point inside": case(image[:15, :15], (5, 4), [(2, 3), (-2, -3), (0, 1)], border="valid"),
        "one row": case(image[:1], (0, 4), [(0, 2), (0, -2), (0, 5), (1, 0)]),
        "scattered nan": case(holes, (2, 3), window),
        "half plane": case(holes, (2, 3), window, mask=half),
        "one valid pixel": case(image[:17, :23], (2, 2), every, mask=~lone & (rng.random((17, 23)) < 0.3)),
        "flat areas": case(flat, (3, 3), window),
        "flat frame": case(frame, (2, 2), naive.translations_of_window((2, 2), 25), stride=2),
        "flat frame with holes": case(frame, (2, 2), every, mask=rng.random(frame.shape) < 0.9),
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


def check_steps(backend, method):
    """Faint contrast on two levels: about a local mean, rounding is magnified by level / contrast only.

    About the image's mean it would be the square of that, which is what naive.conditioning allows.
    """
    image = np.random.default_rng(13).normal(size=(40, 240)) + 500.0 * (np.arange(240) >= 120)
    made = case(image, (4, 4), [(0, 0), (3, -4), (-5, 2), (6, 6)], border="valid")
    wanted, conditioning = naive_scores(made)
    far = (
        np.abs(made.positions[1] - 119.5) > 85
    )  # points whose tile in the GPU's box sums ends before the step
    assert np.median(conditioning[:, :, far]) > 1e4
    bound = TOLERANCE["score", "local mean"] * np.sqrt(conditioning)
    got = backend.scores(made, method)
    assert_scores_close(got[:, :, far], wanted[:, :, far], bound[:, :, far])


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


IMAGES = {
    "noise": np.random.default_rng(0).normal(size=(9, 7)),
    "two bands and a row": np.random.default_rng(0).normal(size=(129, 3)) + np.arange(129)[:, None],
    "float32 on a level": (np.random.default_rng(0).normal(size=(9, 7)) + 3e4).astype(np.float32),
    "huge": np.random.default_rng(0).normal(size=(9, 7)) * 1e300,
    "tiny": np.random.default_rng(0).normal(size=(9, 7)) * 1e-200,
    "float16 near its end": np.array([[65504, -65504, 60000], [1, 2, 65504]], np.float16),
    "float32 near its end": np.array([[3e38, -3e38, 1e38], [0, 1, 3e38]], np.float32),
    "uint16": np.array([[30000, 30001, 30002], [29999, 30005, 30000]], np.uint16),
    "uint8": np.array([[0, 255, 3], [255, 0, 1]], np.uint8),
    "int8": np.array([[-128, 127, 3], [100, 0, 1]], np.int8),
    "bool": np.array([[True, False, False], [True, True, True]]),
    "int64": np.array([[-(2**62), 2**62, 3], [2**62, 0, 1]], np.int64),
    "uint64": np.array([[0, 2**63 + 2**40, 3], [2**62, 0, 1]], np.uint64),
}


def check_faint_half(backend, method, contrast, bound):
    """A half of faint contrast far from the level of the other is scored as well as float32 pixels allow."""
    image = np.random.default_rng(17).normal(size=(45, 140))
    image[:, :70] = contrast * image[:, :70] - 3
    made = case(image, (3, 4), [(0, 0), (3, 5), (-3, -5), (6, 0), (0, -7), (4, 4), (-4, 6)], stride=3)
    wanted, _ = naive_scores(made)
    assert_scores_close(backend.scores(made, method), wanted, bound)
