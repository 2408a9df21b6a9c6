"""The least work of every stage, from the shapes alone: bytes that must move, and multiply-adds.

Each function gives the `Work` of one stage. Numbers are float32 (4 bytes) unless said otherwise. What a stage
needs only once is read once, however small the caches: bytes are those of its input and its result. Its
arithmetic is that of the cheapest way known here, and `why` says which one that is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLOAT = LABEL = 4
"""Bytes of a number and of a label."""


@dataclass(frozen=True)
class Peaks:
    """What a machine can do at best.

    Parameters
    ----------
    threads : int
        Threads the figures belong to; 0 for a GPU.
    copy_bytes_per_s : float
        Bytes read plus bytes written, of a large copy.
    write_bytes_per_s : float
        Bytes written into memory that was there before.
    fresh_write_bytes_per_s : float
        The same into memory that is asked for anew, as for a result: the system hands it out page by page.
    multiply_adds_per_s : float
        In float32, of matrix products.
    """

    threads: int
    copy_bytes_per_s: float
    write_bytes_per_s: float
    fresh_write_bytes_per_s: float
    multiply_adds_per_s: float


@dataclass(frozen=True)
class Work:
    """What a stage cannot do without.

    Parameters
    ----------
    read, written : int
        Bytes.
    multiply_adds : int
        A comparison, or an addition or product alone, counts as one too.
    why : str
        The formula, with its reason.
    """

    read: int
    written: int
    multiply_adds: int
    why: str

    @property
    def moved(self) -> int:
        """Bytes read and written."""
        return self.read + self.written

    def seconds(self, peaks: Peaks) -> tuple[float, str]:
        """The least time it could take, and which of "bytes" and "arithmetic" it waits for."""
        bytes_, sums = self.moved / peaks.copy_bytes_per_s, self.multiply_adds / peaks.multiply_adds_per_s
        return (bytes_, "bytes") if bytes_ >= sums else (sums, "arithmetic")


def normalise(n_pixels: int) -> Work:
    """The image to mean 0 and variance 1."""
    return Work(
        FLOAT * n_pixels,
        FLOAT * n_pixels,
        3 * n_pixels,
        "HW read, HW written; 3 HW: each pixel is added up, squared and added up, scaled",
    )


def sums_needed(shifts: np.ndarray, stride: int) -> int:
    """Number of shifts whose box sums have to be made.

    The patches at r and r + t are those of r + t and the shift -t: where the opposite of a shift is asked for
    too and leads from grid point to grid point, one sum gives both scores.
    """
    asked = {tuple(shift) for shift in np.asarray(shifts).tolist()}
    shared = sum(
        (-d, -e) in asked and d % stride == 0 and e % stride == 0 and (d, e) > (-d, -e) for d, e in asked
    )
    return len(asked) - shared


def box_scores(n_pixels: int, n_points: int, shifts: np.ndarray, stride: int) -> Work:
    """Scores of shifts from box sums of product images; the patch does not occur."""
    n, needed = len(shifts), sums_needed(shifts, stride)
    return Work(
        FLOAT * n_pixels,
        FLOAT * n * n_points,
        needed * (n_pixels + 4 * n_points) + 3 * n * n_points,
        "HW read, N hw written; M HW + 4 M hw + 3 N hw: each product is added to its block, a running "
        "sum along each axis gains one block and loses one, a score is a difference of two products; M "
        "counts a shift and its opposite as one where both lie on the grid",
    )


def filling(n_looked_at: int, n_missing: int) -> Work:
    """Scores that the border took away."""
    return Work(
        FLOAT * n_looked_at,
        FLOAT * n_missing,
        n_looked_at,
        "every score whose patches may leave the image is read and compared, those missing are written",
    )


def polar_scores(n_pixels: int, n_operations: int, n_samples: int, n_own: int, n_pairs: int) -> Work:
    """Scores of rotations or reflections at every pixel.

    Parameters
    ----------
    n_pixels, n_operations : int
    n_samples : int
        Samples that are interpolated around each pixel.
    n_own : int
        Of them those that count for mean and norm.
    n_pairs : int
        Pairs of samples, of all operations together.
    """
    per_pixel = 4 + 8 * n_samples + 2 * n_own + 2 * n_pairs + 3 * n_operations
    return Work(
        FLOAT * n_pixels,
        FLOAT * n_operations * n_pixels,
        per_pixel * n_pixels,
        "HW read, N HW written; per pixel 4 for the spline coefficients (two recursions along each "
        "axis), 8 a sample (4 weights along the rows and 4 along the columns: its place between the "
        "pixels is its own), 2 a sample for mean and norm, 2 a pair (weight times one, times the other),"
        " 3 a score",
    )


def pooling(n_pixels: int, n_between: int, n_points: int, n_operations: int, n_max: int) -> Work:
    """The largest scores in a moving window; `n_between` is rows of the grid times columns of the image."""
    return Work(
        FLOAT * n_operations * n_pixels,
        FLOAT * n_operations * n_max * n_points,
        2 * n_max * n_operations * (n_pixels + n_between),
        "N HW read, N n_max hw written; 2 n_max N (HW + h W): a running maximum, whatever its window, "
        "compares each number twice along the columns of the image and twice along the rows that are "
        "left",
    )


def power_spectrum(shape: tuple[int, int], grid_shape: tuple[int, int], size: tuple[int, int]) -> Work:
    """Power of the half of the frequencies of windows of `size` (p, q), both odd."""
    (height, width), (h, w), (p, q) = shape, grid_shape, size
    n_features = (p * q + 1) // 2
    along_rows, along_cols = height * w * q * q, h * w * p * p * q
    return Work(
        FLOAT * height * width,
        FLOAT * n_features * h * w,
        along_rows + along_cols + 4 * n_features * h * w,
        "HW read, (p q + 1) / 2 hw written; H w q^2: each row of pixels under a column of windows times "
        "q cosines and sines, shared by all windows with this row; h w p^2 q: those times p waves along "
        "the columns, as matrix products (41 is a prime, a fast transform of it is none); 4 a power",
    )


def covariance(n_samples: int, n_features: int) -> Work:
    """Sum of the outer products of the samples, and its eigenvectors."""
    return Work(
        FLOAT * n_samples * n_features,
        8 * n_features**2,
        n_samples * n_features * (n_features + 1) // 2 + 2 * n_features**3 // 3,
        "S N read, N N written in double; S N (N + 1) / 2, the matrix being symmetric, and 2/3 N^3 to "
        "make it tridiagonal, from which the eigenvectors come",
    )


def projection(n_samples: int, n_features: int, n_components: int) -> Work:
    """Components of the samples."""
    return Work(
        FLOAT * n_samples * n_features,
        FLOAT * n_samples * n_components,
        n_samples * n_features * n_components,
        "S N read, S K written; S N K: a matrix product",
    )


def assignment(n_samples: int, n_components: int, n_clusters: int) -> Work:
    """The nearest centre of each sample."""
    return Work(
        FLOAT * n_samples * n_components,
        LABEL * n_samples,
        n_samples * n_clusters * (n_components + 1),
        "S K read, S labels written; S n (K + 1): a matrix product with the centres, and a comparison",
    )


def upsampling(n_pixels: int, n_points: int) -> Work:
    """Every pixel takes the label of its grid point."""
    return Work(LABEL * n_points, LABEL * n_pixels, 0, "hw read, HW written; nothing to compute")
