"""What the microscope adds: gradient, scan, dose."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpuseg.synthetic._geometry import distance_along
from gpuseg.synthetic._inputs import RandomState, check_number, check_picture


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
    picture = check_picture(image)
    check_number("strength", strength, least=0, most=2)
    along = distance_along(picture.shape, angle)
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
    picture = check_picture(image)
    check_number("jitter", jitter, least=0)
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
    picture = check_picture(image)
    check_number("counts", counts, above=0)
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
    picture = check_picture(image)
    check_number("offset", offset, least=0)
    levels = np.random.default_rng(random_state).standard_normal((picture.shape[0], 1))
    return (picture + offset * picture.mean() * levels).astype(np.float32)
