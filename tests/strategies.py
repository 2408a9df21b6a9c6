"""Hypothesis strategies: images and cases that microscopes, cameras and array libraries really hand over.

A case is drawn from a few small numbers (kind, shape, seed, ...), so that a failing one shrinks to something
that can be read, and its repr says how to make it again: `build_image("lattice", (31, 24), "uint16", ...)`.
"""

from dataclasses import dataclass

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tests import naive

MAX_SIDE = 48

KINDS = ("noise", "lattice", "flat areas", "hot pixel", "high level")
DTYPES = (
    "float32",
    "float64",
    "float16",
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int16",
    "int32",
    "int64",
    ">f4",
    ">f8",
    ">u2",
)
LAYOUTS = ("C", "Fortran", "reversed", "every second", "read-only")
MASKS = ("none", "half plane", "disc", "scattered")
HOLES = ("none", "one nan", "nan row", "scattered nan", "inf", "-inf")


@dataclass(frozen=True, repr=False, eq=False)
class Case:
    """One call of a translation descriptor: everything it takes, and where its grid points are."""

    recipe: str  # how the image and the mask were made
    image: np.ndarray  # (H, W), any dtype and layout
    mask: np.ndarray | None  # (H, W) bool
    stride: int
    border: str  # "full" | "valid"
    patch_radius: tuple[int, int]
    window_radius: tuple[int, int]  # of the shift window; for given translations the largest |shift|
    max_num_points: int | None  # None: the translations are given
    translations: np.ndarray  # (N, 2)

    @property
    def positions(self):
        """Rows and columns of the grid points."""
        margins = [p + w if self.border == "valid" else None for p, w in zip(*self._radii, strict=True)]
        rows, cols = (
            naive.grid_positions(length, self.stride, margin)
            for length, margin in zip(self.image.shape, margins, strict=True)
        )
        return rows, cols

    @property
    def valid(self):
        """Pixels that count, (H, W) bool."""
        return naive.valid_pixels(self.image, self.mask)

    @property
    def _radii(self):
        return self.patch_radius, self.window_radius

    def __repr__(self):
        given = self.max_num_points is None
        shifts = (
            f"translations={self.translations.tolist()}"
            if given
            else f"window_radius={self.window_radius}, max_num_points={self.max_num_points}"
        )
        return (
            f"Case({self.recipe}, stride={self.stride}, border={self.border!r}, "
            f"patch_radius={self.patch_radius}, {shifts})"
        )


def pattern(kind, shape, rng):
    """Values of the order of 1, float64: the picture before it gets a dtype."""
    noise = rng.normal(size=shape)
    row, col = np.mgrid[: shape[0], : shape[1]]
    lattice = np.cos(2 * np.pi * row / 5.3) + np.cos(2 * np.pi * (0.3 * row + col) / 6.1) + 0.1 * noise
    if kind == "lattice":
        return lattice
    if kind == "flat areas":
        return np.where((row // 9 + col // 11) % 2, lattice, 0.25)
    if kind == "hot pixel":
        noise.flat[rng.integers(noise.size)] = 2000
    return noise


def cast(values, kind, dtype):
    """`values` at a level and gain that fit the dtype."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return values > np.median(values)
    if kind == "high level":
        values = 30000 + 20 * values
    elif dtype.kind in "ui":
        values = 100 + 20 * values
    if dtype.kind in "ui":
        info = np.iinfo(dtype)
        values = np.round(values).clip(info.min, min(info.max, 2**50))
    return values.astype(dtype)


def lay_out(image, layout):
    """The same numbers in another memory layout."""
    if layout == "Fortran":
        return np.asfortranarray(image)
    if layout == "reversed":
        return np.ascontiguousarray(image[::-1, ::-1])[::-1, ::-1]
    if layout == "every second":
        wide = np.zeros((2 * image.shape[0], 2 * image.shape[1]), image.dtype)
        wide[::2, 1::2] = image
        return wide[::2, 1::2]
    if layout == "read-only":
        image = image.copy()
        image.flags.writeable = False
    return image


def punch(image, hole, rng):
    """NaN or inf into a floating image."""
    image = image.copy()
    if hole == "nan row":
        image[rng.integers(image.shape[0])] = np.nan
    elif hole == "scattered nan":
        image[rng.random(image.shape) < 0.1] = np.nan
    elif hole != "none":
        image.flat[rng.integers(image.size)] = float(hole.removeprefix("one "))
    return image


def build_image(kind, shape, dtype, layout="C", hole="none", seed=0):
    """The image of a recipe."""
    rng = np.random.default_rng(seed)
    image = punch(cast(pattern(kind, shape, rng), kind, dtype), hole, rng)
    return lay_out(image, layout)


def build_mask(kind, shape, seed=0):
    """The mask of a recipe, True where pixels count; None for "none"."""
    row, col = np.mgrid[: shape[0], : shape[1]]
    if kind == "none":
        return None
    if kind == "half plane":
        return row + 2 * col < shape[0] / 2 + shape[1]
    if kind == "disc":
        return (row - shape[0] / 2) ** 2 + (col - shape[1] / 2) ** 2 < (max(shape) / 2.2) ** 2
    return np.random.default_rng(seed).random(shape) < 0.85


@st.composite
def recipes(
    draw, min_shape=(1, 1), max_side=MAX_SIDE, kinds=KINDS, dtypes=DTYPES, layouts=LAYOUTS, holes=HOLES
):
    """Arguments of `build_image`: a dtype that can hold the kind, holes in floating images only."""
    kind = draw(st.sampled_from(kinds))
    small = ("bool", "uint8", "float16") + (("int16",) if kind == "high level" else ())
    narrow = kind in ("high level", "hot pixel")
    dtype = draw(st.sampled_from([d for d in dtypes if not (narrow and d in small)]))
    return {
        "kind": kind,
        "shape": tuple(draw(st.integers(low, max(low, max_side))) for low in min_shape),
        "dtype": dtype,
        "layout": draw(st.sampled_from(layouts)),
        "hole": draw(st.sampled_from(holes)) if np.dtype(dtype).kind == "f" else "none",
        "seed": draw(st.integers(0, 999)),
    }


def images(**limits):
    """Images (H, W) alone; `limits` as of `recipes`."""
    return recipes(**limits).map(lambda recipe: build_image(**recipe))


def radii(low, high):
    """(rows, cols) half sizes."""
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def built(draw, reach, masks=MASKS, **limits):
    """(recipe, image, mask) with at least 2 * reach + 1 pixels a side and something to see in them."""
    recipe = draw(recipes(min_shape=tuple(2 * r + 1 for r in reach), **limits))
    image = build_image(**recipe)
    mask_kind = draw(st.sampled_from(masks))
    mask = build_mask(mask_kind, image.shape, recipe["seed"])
    seen = np.asarray(image, np.float64)[naive.valid_pixels(image, mask)]
    assume(seen.size > 1 and np.ptp(seen) > 0)
    text = ", ".join(f"{key}={value!r}" for key, value in recipe.items())
    return f"build_image({text}), mask={mask_kind!r}", image, mask


@st.composite
def local_correlation_cases(draw, borders=("full", "valid"), max_patch=4, max_window=5, **limits):
    """Cases of `LocalCorrelationMap`; `limits` as of `built`, e.g. dtypes=("float32",), holes=("none",)."""
    border = draw(st.sampled_from(borders))
    patch, window = draw(radii(0, max_patch)), draw(radii(0, max_window))
    reach = tuple(p + w * (border == "valid") for p, w in zip(patch, window, strict=True))
    recipe, image, mask = draw(built(reach, **limits))
    points = draw(st.integers(1, 40))
    translations = naive.translations_of_window(window, points)
    stride = draw(st.integers(1, 12))
    return Case(recipe, image, mask, stride, border, patch, window, points, translations)


@st.composite
def preselected_cases(draw, borders=("full", "valid"), max_patch=4, max_shift=6, **limits):
    """Cases of `PreselectedTranslations`: 1 to 8 different translations."""
    border = draw(st.sampled_from(borders))
    patch = draw(radii(0, max_patch))
    shift = st.tuples(st.integers(-max_shift, max_shift), st.integers(-max_shift, max_shift))
    translations = np.array(draw(st.lists(shift, min_size=1, max_size=8, unique=True)))
    window = tuple(int(w) for w in np.abs(translations).max(0))
    reach = tuple(p + w * (border == "valid") for p, w in zip(patch, window, strict=True))
    recipe, image, mask = draw(built(reach, **limits))
    stride = draw(st.integers(1, 12))
    return Case(recipe, image, mask, stride, border, patch, window, None, translations)


def correlation_cases(**limits):
    """Both kinds of translation cases."""
    return local_correlation_cases(**limits) | preselected_cases(**limits)


@st.composite
def feature_tables(draw, max_features=12, max_points=60):
    """Values (N, S) float64 with S > N, as PCA, k-means and separability take them."""
    features = draw(st.integers(1, max_features))
    points = draw(st.integers(features + 1, max_points))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    blobs = rng.normal(size=(features, 3))[:, rng.integers(3, size=points)]
    return 3 * blobs + rng.normal(size=(features, points))
