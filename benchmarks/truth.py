"""What right means here: scores from the definition in float64, labels against the known grains."""

from __future__ import annotations

import numpy as np


def score_error(
    image: np.ndarray,
    values: np.ndarray,
    translations: np.ndarray,
    grid: tuple[np.ndarray, np.ndarray],
    patch_radius: tuple[int, int],
    n_points: int = 40,
) -> float:
    """Largest |score - definition in float64| over some grid points, all translations.

    Parameters
    ----------
    image : (H, W) array
    values : (N, h, w) array
        The scores of translations[k] at the grid points.
    translations : (N, 2) int array
        (d_row, d_col) in pixels.
    grid : (rows (h,), cols (w,))
        Pixel positions of the grid points.
    patch_radius : (rows, cols)
    n_points : int
        How many grid points to try, drawn (seeded) from those whose patches and shifts lie inside the image.

    Returns
    -------
    float, NaN if any of the scores is NaN.
    """
    rows, cols = (
        np.flatnonzero((positions >= margin) & (positions < size - margin))
        for positions, size, margin in zip(
            grid, image.shape, np.asarray(patch_radius) + np.abs(translations).max(axis=0), strict=True
        )
    )
    rng = np.random.default_rng(0)
    errors = []
    for i, j in zip(rng.choice(rows, n_points), rng.choice(cols, n_points), strict=True):
        expected = _scores_at(image, grid[0][i], grid[1][j], translations, patch_radius)
        errors.append(np.abs(values[:, i, j] - expected).max())
    return float(np.max(errors))


def _scores_at(
    image: np.ndarray, row: int, col: int, translations: np.ndarray, patch_radius: tuple[int, int]
) -> np.ndarray:
    """Pearson's coefficient of the patch at one pixel with the patches at all translations, in float64."""
    reach = np.abs(translations).max(axis=0)
    cut = image[
        row - patch_radius[0] - reach[0] : row + patch_radius[0] + reach[0] + 1,
        col - patch_radius[1] - reach[1] : col + patch_radius[1] + reach[1] + 1,
    ].astype(np.float64)
    patches = np.lib.stride_tricks.sliding_window_view(cut, tuple(2 * r + 1 for r in patch_radius))
    here = patches[reach[0], reach[1]]
    there = patches[reach[0] + translations[:, 0], reach[1] + translations[:, 1]]
    here = here - here.mean()
    there = there - there.mean((1, 2), keepdims=True)
    return (there * here).sum((1, 2)) / np.sqrt((there**2).sum((1, 2)) * (here**2).sum())


def half_spectrum(radius: tuple[int, int]) -> list[tuple[int, int]]:
    """Frequencies (k_row, k_col) of the features of `gpuseg.PowerSpectrum`, in periods per window."""
    same = [(k, m) for k in range(radius[0] + 1) for m in range(radius[1] + 1)]
    return same + [(-k, m) for k in range(1, radius[0] + 1) for m in range(1, radius[1] + 1)]


def whole_spectrum(radius: tuple[int, int]) -> list[tuple[int, int]]:
    """Frequencies of a discrete Fourier transform, in its own order."""
    sizes = [2 * r + 1 for r in radius]
    return [(k, m) for k in range(sizes[0]) for m in range(sizes[1])]


def power_error(
    image: np.ndarray,
    values: np.ndarray,
    frequencies: list[tuple[int, int]],
    grid: tuple[np.ndarray, np.ndarray],
    radius: tuple[int, int],
    n_points: int = 40,
) -> float:
    """Largest |log(1 + power) - definition in float64| over some grid points, all frequencies.

    Parameters
    ----------
    image : (H, W) array
    values : (N, h, w) array
    frequencies : list of N (k_row, k_col)
    grid : (rows (h,), cols (w,))
    radius : (rows, cols)
        Half size of the window.
    n_points : int
        How many grid points to try, drawn (seeded) from those whose windows lie inside the image.

    Returns
    -------
    float
    """
    rows, cols = (
        np.flatnonzero((positions >= margin) & (positions < size - margin))
        for positions, size, margin in zip(grid, image.shape, radius, strict=True)
    )
    rng = np.random.default_rng(0)
    weight = np.sqrt(np.outer(*(np.hanning(2 * r + 1) for r in radius)))
    k, m = np.array(frequencies).T
    errors = []
    for i, j in zip(rng.choice(rows, n_points), rng.choice(cols, n_points), strict=True):
        row, col = grid[0][i], grid[1][j]
        window = image[row - radius[0] : row + radius[0] + 1, col - radius[1] : col + radius[1] + 1]
        window = window.astype(np.float64)
        power = np.abs(np.fft.fft2((window - window.mean()) * weight)) ** 2
        errors.append(np.abs(values[:, i, j] - np.log1p(power[k, m])).max())
    return float(np.max(errors))


def adjusted_rand(truth: np.ndarray, labels: np.ndarray) -> float:
    """Adjusted Rand index over all pixels: 1 for the same partition, about 0 for a random one."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(truth.ravel(), labels.ravel()))


def fraction_right(regions: np.ndarray, labels: np.ndarray, not_scored: int = 255) -> float:
    """Fraction of the scored pixels right, after matching labels to regions (Hungarian)."""
    from scipy.optimize import linear_sum_assignment

    scored = regions != not_scored
    _, region = np.unique(regions[scored], return_inverse=True)
    _, label = np.unique(labels[scored], return_inverse=True)
    counts = np.zeros((region.max() + 1, label.max() + 1), np.int64)
    np.add.at(counts, (region, label), 1)
    return float(counts[linear_sum_assignment(-counts)].sum() / scored.sum())
