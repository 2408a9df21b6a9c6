"""The definitions, in float64 and NumPy alone: what every engine is compared with.

Nothing here is fast, and nothing here imports gpuseg: each function is short enough to be believed at sight.
"The paper" is Wang et al., Microsc. Microanal. 27 (2021), doi 10.1017/S1431927621012770.
Arrays are (row, col); scores are (N, h, w): operation, grid row, grid column; NaN is a missing score.
"""

import numpy as np

FLAT_VARIANCE = 1e-10  # a patch is flat below this share of the image's variance


def valid_pixels(image, mask=None):
    """Pixels that may contribute: finite and not masked; (H, W) bool."""
    finite = np.isfinite(np.asarray(image, np.float64))
    return finite if mask is None else finite & np.asarray(mask, bool)


def patches(image, rows, cols, patch_radius):
    """The patches centred on rows x cols, NaN outside the image: (h, w, 2 p_row + 1, 2 p_col + 1)."""
    row = np.add.outer(rows, np.arange(-patch_radius[0], patch_radius[0] + 1))[:, None, :, None]
    col = np.add.outer(cols, np.arange(-patch_radius[1], patch_radius[1] + 1))[None, :, None, :]
    inside = (row >= 0) & (row < image.shape[0]) & (col >= 0) & (col < image.shape[1])
    return np.where(inside, image[row.clip(0, image.shape[0] - 1), col.clip(0, image.shape[1] - 1)], np.nan)


def moments(a, b):
    """Number, means, variances, covariance of patches (..., p, q) over the pixels finite in both."""
    both = np.isfinite(a) & np.isfinite(b)
    n = both.sum((-2, -1))

    def mean(x):
        return np.where(both, x, 0).sum((-2, -1)) / np.maximum(n, 1)

    mean_a, mean_b = mean(a), mean(b)
    a, b = a - mean_a[..., None, None], b - mean_b[..., None, None]
    return n, mean_a, mean_b, mean(a * a), mean(b * b), mean(a * b)


def centred(image, mask=None):
    """The image less one of its pixels' value (an exact 0 keeps a flat image flat), NaN where invalid."""
    image, valid = np.asarray(image, np.float64), valid_pixels(image, mask)
    return np.where(valid, image - image.flat[valid.argmax()], np.nan)


def pearson(a, b, flat_variance):
    """Pearson's coefficient of stacks of patches (..., p, q) over the pixels finite in both (paper, eq. 2).

    NaN where fewer than half of the pixels are, 0 where either patch varies by no more than `flat_variance`.
    """
    n, _, _, var_a, var_b, cov = moments(a, b)
    flat = (var_a <= flat_variance) | (var_b <= flat_variance)
    r = np.where(flat, 0, cov / np.sqrt(np.where(flat, 1, var_a * var_b)))
    return np.where(2 * n < a.shape[-2] * a.shape[-1], np.nan, r.clip(-1, 1))


def translation_scores(image, rows, cols, translations, patch_radius, mask=None):
    """Local correlation map (paper, eq. 3): each patch against the one (d_row, d_col) away; (N, h, w)."""
    image, rows, cols = centred(image, mask), np.asarray(rows), np.asarray(cols)
    values = image[np.isfinite(image)]
    flat_variance = FLAT_VARIANCE * values.var() if values.size else 0
    here = patches(image, rows, cols, patch_radius)
    scores = np.empty((len(translations), len(rows), len(cols)))
    for k, (d_row, d_col) in enumerate(translations):
        there = patches(image, rows + d_row, cols + d_col, patch_radius)
        scores[k] = pearson(here, there, flat_variance)
        if (d_row, d_col) == (0, 0):
            scores[k][scores[k] > 0.5] = 1  # exactly; flat stays 0, missing stays NaN
    return scores


def conditioning(image, rows, cols, translations, patch_radius, mask=None):
    """How far a score magnifies rounding: mean square about the image's mean over variance; (N, h, w), >= 1.

    That of the worse patch of the two; 1 where a patch is exactly constant, for its score must be exactly 0.
    """
    image, rows, cols = centred(image, mask), np.asarray(rows), np.asarray(cols)
    values = image[np.isfinite(image)]
    image, tiny = (image - values.mean(), 1e-20 * values.var()) if values.size else (image, 0)
    worst = np.ones((len(translations), len(rows), len(cols)))
    for k, (d_row, d_col) in enumerate(translations):
        here, there = (patches(image, rows + m, cols + n, patch_radius) for m, n in ((0, 0), (d_row, d_col)))
        _, mean_a, mean_b, var_a, var_b, _ = moments(here, there)
        for mean, var in ((mean_a, var_a), (mean_b, var_b)):
            varies = var > tiny
            worst[k] = np.maximum(worst[k], 1 + np.where(varies, mean**2 / np.where(varies, var, 1), 0))
    return worst


def fill_missing(scores, translations, rows, cols, valid):
    """Scores of the opposite translation, then of the nearest grid point, where they are missing.

    `valid` is (H, W): on invalid pixels, what the opposite step leaves missing stays missing.
    """
    index = {tuple(map(int, t)): k for k, t in enumerate(translations)}
    opposite = [index.get((-int(d_row), -int(d_col)), k) for k, (d_row, d_col) in enumerate(translations)]
    scores = np.where(np.isnan(scores), scores[opposite], scores)
    filled = scores.copy()
    for k, i, j in np.argwhere(np.isnan(scores) & valid[np.ix_(rows, cols)]):
        distance = np.add.outer((rows - rows[i]) ** 2, (cols - cols[j]) ** 2)
        distance = np.where(np.isnan(scores[k]), np.inf, distance)
        nearest = scores[k].flat[
            distance.argmin()
        ]  # of equals argmin takes the first row, then the first column
        filled[k, i, j] = nearest if np.isfinite(distance).any() else 0
    return filled


def grid_positions(length, stride, margin=None):
    """Positions along one axis: centred on the whole image, or `margin` pixels away from its ends."""
    if margin is None:
        return np.arange(((length - 1) % stride) // 2, length, stride)
    return np.arange(margin, length - margin, stride)


def translations_of_window(window_radius, max_num_points):
    """The densest uniform grid of <= `max_num_points` translations in the shift window; (N, 2), row-major."""
    w_row, w_col = window_radius
    step = 1
    while (2 * w_row // step + 1) * (2 * w_col // step + 1) > max_num_points:
        step += 1
    return np.array([(m, n) for m in range(-w_row, w_row + 1, step) for n in range(-w_col, w_col + 1, step)])


def pca(values, n_components):
    """Components (K, N), explained variance ratio (K,), scores (K, S) of values (N, S); signs are free."""
    centred = np.asarray(values, np.float64) - np.mean(values, axis=1, keepdims=True, dtype=np.float64)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    components = left[:, :n_components].T
    return components, (singular**2 / (singular**2).sum())[:n_components], components @ centred


def separability(values, labels):
    """Fisher separability of each row of values (N, S) between patterns (paper, eq. 4); labels >= 0 count.

    0 where the patterns' means agree, inf where only the means differ.
    """
    values, labels = np.asarray(values, np.float64)[:, labels >= 0], labels[labels >= 0]
    values = values - values[:, :1]  # an exact 0 keeps a constant constant
    classes = [values[:, labels == k] for k in np.unique(labels)]
    between = sum(c.shape[1] * (c.mean(1) - values.mean(1)) ** 2 for c in classes)
    within = sum(c.shape[1] * c.var(1) for c in classes)
    return np.where(within > 0, between / np.where(within > 0, within, 1), np.where(between > 0, np.inf, 0))


def distances(scores, centers):
    """Euclidean distances (n, S) of points (K, S) to centres (n, K)."""
    scores, centers = np.asarray(scores, np.float64), np.asarray(centers, np.float64)
    return np.array([np.sqrt(((scores.T - center) ** 2).sum(1)) for center in centers])


def assign(scores, centers):
    """The nearest centre (n, K) of each point (K, S), the first of equals; (S,)."""
    return distances(scores, centers).argmin(0)


def patterns(scores, mean, axes, centers):
    """Of scores (N, S): components (K, S), nearest centre, certainty 1 - d_1 / d_2, squared distance to it (S,).

    The distance is that of all scores: of what the components leave out, too.
    """
    apart = np.asarray(scores, np.float64) - np.asarray(mean, np.float64)[:, None]
    components = np.asarray(axes, np.float64) @ apart
    away = np.sort(distances(components, centers), axis=0)
    second = away[1] if len(away) > 1 else np.full(len(away[0]), np.inf)
    sure = np.where(second > 0, 1 - away[0] / np.where(second > 0, second, 1), 0)
    misfit = (apart**2).sum(0) - (components**2).sum(0) + away[0] ** 2
    return components, assign(components, centers), sure, misfit


def inertia(scores, centers):
    """What k-means minimises: the sum of squared distances to the nearest centre."""
    return (distances(scores, centers).min(0) ** 2).sum()


def lloyd(samples, centers, max_iter, threshold):
    """Centres, and the number of iterations, from (S, K) samples and (n, K) centres; an empty cluster stays."""
    samples, centers = np.asarray(samples, float), np.array(centers, float)
    n_iter, moved = 0, np.inf
    while n_iter < max_iter and moved > threshold:
        nearest = assign(samples.T, centers)
        before = centers.copy()
        for k in range(len(centers)):
            if (nearest == k).any():
                centers[k] = samples[nearest == k].mean(0)
        n_iter, moved = n_iter + 1, ((centers - before) ** 2).sum()
    return centers, n_iter


def nearest_upsampling(labels, rows, cols, shape):
    """Every pixel takes the label of its nearest grid point, the first row and column of equals; (H, W)."""
    upsampled = np.empty(shape, np.asarray(labels).dtype)
    for y, x in np.ndindex(*shape):
        upsampled[y, x] = labels[np.abs(rows - y).argmin()][np.abs(cols - x).argmin()]
    return upsampled


def windows(image, rows, cols, radius, mask=None):
    """Around rows x cols: pixels (NaN where invalid) and the same less their mean, 0 where invalid; missing.

    In the image's own unit, about its mean. A window that is flat is 0 everywhere.
    """
    image = centred(image, mask)
    image = image - np.nanmean(image)
    pixels = patches(image, np.asarray(rows), np.asarray(cols), radius)
    valid = np.isfinite(pixels)
    n = valid.sum((-2, -1), keepdims=True)
    mean = np.where(valid, pixels, 0).sum((-2, -1), keepdims=True) / np.maximum(n, 1)
    values = np.where(valid, pixels - mean, 0)
    variance = (values**2).sum((-2, -1), keepdims=True) / np.maximum(n, 1)
    values = np.where(variance <= FLAT_VARIANCE * np.nanvar(image), 0, values)
    return pixels, values, (2 * n < valid[0, 0].size)[..., 0, 0]


def frequencies(radius):
    """(k_row, k_col) of half a spectrum, in the order of the values."""
    same = [(k, m) for k in range(radius[0] + 1) for m in range(radius[1] + 1)]
    return same + [(-k, m) for k in range(1, radius[0] + 1) for m in range(1, radius[1] + 1)]


def power_spectrum(image, rows, cols, radius, mask=None):
    """Squared modulus of the Fourier transform of the windows times the root of a Hann window; (N, h, w)."""
    _, values, missing = windows(image, rows, cols, radius, mask)
    hann = [np.hanning(2 * r + 1) if r else np.ones(1) for r in radius]
    power = np.abs(np.fft.fft2(values * np.sqrt(np.outer(*hann)))) ** 2
    return np.array([np.where(missing, np.nan, power[:, :, k, m]) for k, m in frequencies(radius)])


def scaled_patches(image, rows, cols, radius, mask=None):
    """The windows with mean 0 and variance 1 over their valid pixels, row by row; (N, h, w)."""
    pixels, values, missing = windows(image, rows, cols, radius, mask)
    n = np.maximum(np.isfinite(pixels).sum((-2, -1)), 1)
    spread = np.sqrt((values**2).sum((-2, -1)) / n)
    values = values / np.where(spread > 0, spread, 1)[..., None, None]
    return np.where(missing, np.nan, np.moveaxis(values.reshape(*missing.shape, -1), -1, 0))


def histogram(image, rows, cols, radius, n_bins, mask=None):
    """Densities of the intensities in bins from -3 to 3 standard deviations, then roots of moments; (N, h, w)."""
    pixels, values, missing = windows(image, rows, cols, radius, mask)
    spread = centred(image, mask)
    spread = np.sqrt(np.nanvar(spread))
    edges = np.linspace(-3, 3, n_bins + 1)
    result = np.full((n_bins + 4, *missing.shape), np.nan)
    for i, j in np.argwhere(~missing):
        valid = np.isfinite(pixels[i, j])
        x, c = pixels[i, j][valid] / spread, values[i, j][valid] / spread
        counts = np.bincount(np.searchsorted(edges[1:-1], x, side="right"), minlength=n_bins)
        result[:n_bins, i, j] = counts / counts.sum() / (6 / n_bins)
        result[n_bins:, i, j] = (
            x.mean(),
            np.sqrt((c**2).mean()),
            np.cbrt((c**3).mean()),
            (c**4).mean() ** 0.25,
        )
    return result


def spline_coefficients(image):
    """Cubic B-spline coefficients of an image that is mirrored at its outermost pixels (d c b | a b c d | c b a)."""
    coefficients = np.asarray(image, np.float64)
    for axis, n in enumerate(coefficients.shape):
        system = (4 * np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1)) / 6
        if n > 1:
            system[0, 1] = system[-1, -2] = 2 / 6
        solved = np.linalg.solve(system if n > 1 else np.eye(1), np.moveaxis(coefficients, axis, 0))
        coefficients = np.moveaxis(solved, 0, axis)
    return coefficients


def b_spline(x):
    """The cubic B-spline."""
    x = np.abs(x)
    return np.where(x < 1, 2 / 3 - x**2 + x**3 / 2, np.where(x < 2, (2 - x) ** 3 / 6, 0))


def interpolate(coefficients, row, col):
    """Values at any positions; NaN where a coefficient that counts is NaN or outside."""
    height, width = coefficients.shape
    value = 0
    for i, weight_row in spline_pixels(row):
        for j, weight_col in spline_pixels(col):
            inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
            pixel = np.where(inside, coefficients[i.clip(0, height - 1), j.clip(0, width - 1)], np.nan)
            weight = weight_row * weight_col
            value = value + np.where(weight > 1e-20, weight * pixel, 0)  # exactly two away counts nothing
    return value


def spline_pixels(position):
    """The four pixels along an axis that a value at a position is made from, and their weights."""
    position = np.round(position, 9)
    nearest = np.floor(position).astype(int)
    return [(nearest + k, b_spline(position - nearest - k)) for k in range(-1, 3)]


def polar_samples(radius, sectors):
    """Positions (M, 2) about the centre and areas (M,) of a patch: rings a pixel apart, n samples on each.

    n is the multiple of `sectors`, at least that, for which they are nearest to a pixel apart.
    """
    positions, areas = [], []
    for ring in np.arange(radius) + 0.5:
        n = sectors * max(1, round(2 * np.pi * ring / sectors))
        for k in range(n):
            theta = 2 * np.pi * k / n
            positions.append((-ring * np.sin(theta), ring * np.cos(theta)))
            areas.append(ring / n)
    return np.array(positions), np.array(areas) / np.sum(areas)


def polar_scores(image, operations, radius, sectors, mask=None, every=1):
    """Score of each operation (2 x 2 matrix, shift): Pearson's coefficient, weighted by area; (N, h, w).

    Between f(r + q) and f(r + M q + t) over the samples q of the patch that are known on both sides, at pixels r
    `every` so many rows and columns. NaN where they are less than half of the patch, 0 where one side is flat.
    """
    image, known = without_mean(image, mask)
    flat_variance = FLAT_VARIANCE * image[known].var()
    scores = []
    for total, var_a, var_b, cov in polar_moments(image, known, operations, radius, sectors, every):
        flat = (var_a <= flat_variance) | (var_b <= flat_variance)
        r = np.where(flat, 0, cov / np.sqrt(np.where(flat, 1, var_a * var_b)))
        scores.append(np.where(total < 0.5 - 1e-9, np.nan, r.clip(-1, 1)))
    return np.array(scores)


def without_mean(image, mask):
    """The image about its mean, 0 where invalid, and which pixels are valid."""
    known = valid_pixels(image, mask)
    image = centred(image, mask)
    return np.where(known, image - image[known].mean(), 0), known


def polar_moments(image, known, operations, radius, sectors, every=1):
    """For each operation `weighted_moments` of the samples and of those they are compared with."""
    coefficients = np.where(known, spline_coefficients(image), np.nan)
    positions, areas = polar_samples(radius, sectors)
    row, col = np.ogrid[: image.shape[0] : every, : image.shape[1] : every]
    row, col = row[..., None], col[..., None]
    here = interpolate(coefficients, row + positions[:, 0], col + positions[:, 1])
    for matrix, shift in operations:
        targets = positions @ np.asarray(matrix).T + shift
        there = interpolate(coefficients, row + targets[:, 0], col + targets[:, 1])
        yield weighted_moments(here, there, areas)


def weighted_moments(a, b, weights):
    """Weight, variances and covariance over the last axis, of what is finite in both."""
    weights = np.where(np.isfinite(a) & np.isfinite(b), weights, 0)
    total = weights.sum(-1)
    share = weights / np.where(total > 0, total, 1)[..., None]
    a, b = np.where(share > 0, a, 0), np.where(share > 0, b, 0)
    a, b = a - (share * a).sum(-1, keepdims=True), b - (share * b).sum(-1, keepdims=True)
    return total, *((share * x).sum(-1) for x in (a * a, b * b, a * b))


def polar_conditioning(image, operations, radius, sectors, mask=None, every=1):
    """How far a polar score magnifies the rounding of pixels: their level over the contrast; (N, h, w), >= 1.

    The level is the largest pixel, from the image's mean, that any sample is interpolated from; the contrast the
    standard deviation of the worse of both sides. 1 where a side is exactly constant: it must score exactly 0.
    """
    image, known = without_mean(image, mask)
    worst = []
    moments = polar_moments(image, known, operations, radius, sectors, every)
    for (_, shift), (_, var_a, var_b, _) in zip(operations, moments, strict=True):
        reach = radius + int(np.ceil(np.hypot(*shift))) + 6  # beyond, splines have all but died away
        level = largest_within(np.abs(image), reach)[::every, ::every]
        varies = np.minimum(var_a, var_b) > 1e-20 * image[known].var()
        contrast = np.sqrt(np.where(varies, np.minimum(var_a, var_b), 1))
        worst.append(np.maximum(1, np.where(varies, level / contrast, 1)))
    return np.array(worst)


def largest_within(image, reach):
    """The largest pixel of the square of half size `reach` about each pixel."""
    for axis in (0, 1):
        lines = np.moveaxis(image, axis, 0)
        ends = [(max(i - reach, 0), i + reach + 1) for i in range(len(lines))]
        image = np.moveaxis(np.array([lines[begin:end].max(0) for begin, end in ends]), 0, axis)
    return image


def pooled(scores, rows, cols, radius, n_max):
    """The `n_max` largest known scores in the window around each grid point, largest first; (N * n_max, h, w)."""
    found = np.full((len(scores), n_max, len(rows), len(cols)), np.nan)
    for k, score in enumerate(scores):
        for i, row in enumerate(rows):
            for j, col in enumerate(cols):
                window = score[
                    max(row - radius[0], 0) : row + radius[0] + 1,
                    max(col - radius[1], 0) : col + radius[1] + 1,
                ]
                best = np.sort(window[np.isfinite(window)])[::-1][:n_max]
                found[k, : len(best), i, j] = best
    return found.reshape(-1, len(rows), len(cols))
