"""Sizes from the lattice: what "auto" means for the radii of a descriptor and for the stride."""

from __future__ import annotations

import dataclasses
import logging
import math
from dataclasses import dataclass
from typing import Any

from gpuseg.arrays import home_of
from gpuseg.checks import AUTO
from gpuseg.descriptors.base import prepare
from gpuseg.lattice import LatticeVector, autocorrelation
from gpuseg.symmetry import translations_in_window

__all__ = ["Sizes", "is_auto", "resolve", "sizes_of", "wants_sizes"]

log = logging.getLogger("gpuseg")

PERIODS, MOST_PERIODS = 1.25, 3.0
"""Lattice periods in a patch radius: so many where noise is no matter, at most so many where it is.

Measured on synthetic crystals of 8 to 18 pixels: from 1 to 1.5 periods the error hardly changes, half a
period is sharper at an amorphous boundary and worse at others.
"""

QUIET = 3.2
"""A patch radius in pixels times the height of the lattice's peak, its share in the variance of the image, is
at least this: the noise of a score falls with the side of the patch."""

WINDOW_PERIODS, MOST_WINDOW_PERIODS = 1.25, 2.0
"""The shift window is as many periods as the patch, at most so many."""

LOPSIDED = 0.3
"""A grid of translations that ends a whole step short on one side costs as much as a window so much off."""

STRIDES = 4
"""Grid points per lattice period, at least."""

MOST_POINTS = 1 << 17
"""Grid points that are scored at most; the stride of a fine lattice in a large image is larger for it."""

LARGEST = 1 / 4
"""Of the shorter side of the image: no radius is larger."""

RADII = ("patch_radius", "window_radius", "radius", "pooling_radius")
"""Parameters of descriptors that may be "auto"."""

DEFAULTS = {**dict.fromkeys(RADII, 20), "stride": 5}
"""What "auto" is where there is no lattice."""


@dataclass(frozen=True)
class Sizes:
    """What the lattice of an image suggests.

    Parameters
    ----------
    patch_radius, window_radius, stride : int
        In pixels.
    lattice_period : float or None
        In pixels; None without a lattice, and then the sizes are the defaults 20, 20 and 5, the radii at
        most a quarter of the shorter side.
    reasons : tuple of str
        One sentence for each choice.
    """

    patch_radius: int
    window_radius: int
    stride: int
    lattice_period: float | None
    reasons: tuple[str, ...]


def sizes_of(image: Any, mask: Any = None) -> Sizes:
    """Sizes that suit the lattice of an image.

    Parameters
    ----------
    image : (H, W) array
        NumPy or CuPy.
    mask : (H, W) bool array, optional
        True where a pixel may be used.

    Returns
    -------
    Sizes
    """
    vectors = autocorrelation(image, mask).vectors
    if not vectors:
        largest = _largest(tuple(image.shape))
        patch, window = (min(DEFAULTS[name], largest) for name in ("patch_radius", "window_radius"))
        stride = DEFAULTS["stride"]
        small = "the defaults" if patch == DEFAULTS["patch_radius"] else "the defaults of so small an image"
        why = f"no lattice was found: {small}, patch and window radius {patch}, stride {stride}"
        return Sizes(patch, window, stride, None, (why,))
    return _from_lattice(vectors[0], tuple(image.shape))


def _largest(shape: tuple[int, ...]) -> int:
    return max(1, int(LARGEST * min(shape)))


def _from_lattice(vector: LatticeVector, shape: tuple[int, ...]) -> Sizes:
    period, largest = vector.length, _largest(shape)
    periods = min(max(PERIODS, QUIET / (max(vector.height, 1e-3) * period)), MOST_PERIODS)
    patch = min(max(1, round(periods * period)), largest)
    window = min(max(1, round(min(max(periods, WINDOW_PERIODS), MOST_WINDOW_PERIODS) * period)), largest)
    fine, coarse = (
        max(1, min(int(period / STRIDES), DEFAULTS["stride"])),
        math.ceil(math.sqrt(math.prod(shape) / MOST_POINTS)),
    )
    stride = max(fine, coarse)
    noisy = "" if periods == PERIODS else f", enlarged for noise (the lattice is {vector.height:.0%} of it)"
    return Sizes(
        patch,
        window,
        stride,
        period,
        (
            f"lattice period {period:.1f} px: highest, shortest peak of the autocorrelation that comes again",
            f"patch radius {patch}: {patch / period:.3g} periods{noisy}",
            f"window radius about {window}: {window / period:.3g} periods",
            f"stride {stride}: "
            + (
                f"a quarter of the period, at most {DEFAULTS['stride']}"
                if fine >= coarse
                else f"at most {MOST_POINTS} grid points"
            ),
        ),
    )


def resolve(descriptor: Any, stride: Any, image: Any, mask: Any = None) -> tuple[Any, Any, Sizes | None]:
    """A descriptor and a stride with numbers for every "auto".

    Parameters
    ----------
    descriptor : descriptor
    stride : int or "auto"
    image : (H, W) array
        Whose lattice decides; not looked at where nothing is "auto".
    mask : (H, W) bool array, optional

    Returns
    -------
    descriptor
        The same where it has no "auto".
    stride : int
    sizes : Sizes or None
        What was chosen from; None where nothing was "auto".
    """
    if not wants_sizes(descriptor, stride):
        return descriptor, stride, None
    prepare(image, mask, home_of(image))  # what cannot be scored is an error, and not without a lattice
    sizes = sizes_of(image, mask)
    log.log(logging.INFO if sizes.lattice_period else logging.WARNING, "%s", "; ".join(sizes.reasons))
    return _filled(descriptor, sizes), sizes.stride if is_auto(stride) else stride, sizes


def wants_sizes(descriptor: Any, stride: Any) -> bool:
    """Whether a radius of a descriptor or the stride is "auto".

    Parameters
    ----------
    descriptor : descriptor
    stride : int or "auto"

    Returns
    -------
    bool
    """
    return is_auto(stride) or _has_auto(descriptor)


def is_auto(value: Any) -> bool:
    """Whether a value is the word "auto".

    Parameters
    ----------
    value : object

    Returns
    -------
    bool
    """
    return isinstance(value, str) and value == AUTO


def _parts(descriptor: Any) -> tuple[Any, ...]:
    """The descriptors that are fused, none for a single one."""
    return tuple(getattr(descriptor, "descriptors", ()))


def _auto_fields(descriptor: Any) -> list[str]:
    return [name for name in RADII if is_auto(getattr(descriptor, name, None))]


def _has_auto(descriptor: Any) -> bool:
    return bool(_auto_fields(descriptor)) or any(_has_auto(part) for part in _parts(descriptor))


def _filled(descriptor: Any, sizes: Sizes) -> Any:
    parts = _parts(descriptor)
    if parts:
        return dataclasses.replace(descriptor, descriptors=tuple(_filled(part, sizes) for part in parts))
    fields = _auto_fields(descriptor)
    return dataclasses.replace(descriptor, **{name: _radius(name, descriptor, sizes) for name in fields})


def _radius(name: str, descriptor: Any, sizes: Sizes) -> int:
    if sizes.lattice_period is None:
        return sizes.window_radius if name == "window_radius" else sizes.patch_radius
    if name == "pooling_radius":  # wherever it stands, a centre of symmetry lies in it
        return max(1, round(sizes.lattice_period))
    if name == "window_radius":
        most = getattr(descriptor, "max_num_points", None)
        # a window of pixels is what is compared; a window of shifts is how far
        return sizes.patch_radius if most is None else _even_steps(sizes.window_radius, most)
    return sizes.patch_radius


def _even_steps(window: int, max_num_points: int) -> int:
    """The window radius nearby whose grid of translations is least lopsided."""

    def price(radius: int) -> float:
        shifts = translations_in_window((0, radius), math.isqrt(max(1, int(max_num_points))))
        short = 0.0
        if len(shifts) > 1:
            short = (radius - shifts[-1].d_col) / (shifts[1].d_col - shifts[0].d_col)
        return LOPSIDED * short + abs(radius - window) / window

    return min(range(max(1, round(0.8 * window)), round(1.2 * window) + 1), key=price)
