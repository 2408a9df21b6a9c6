"""Pictures of a result: people look before they read.

`overlay` paints labels over an image with NumPy alone. The `plot_*` functions each draw one thing into a
matplotlib axes and return the axes; `summary` puts the most telling ones into one figure. Axes count pixels,
rows downwards.
"""

from __future__ import annotations

import colorsys
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "overlay",
    "palette",
    "plot_area_fractions",
    "plot_boundary_position",
    "plot_certainty",
    "plot_clusters",
    "plot_component",
    "plot_defects",
    "plot_descriptor",
    "plot_evidence",
    "plot_explained_variance",
    "plot_image",
    "plot_labels",
    "plot_local_correlation",
    "plot_overlay",
    "plot_separability",
    "plot_separability_against_variance",
    "png",
    "summary",
]  # fmt: skip

# Okabe and Ito's colours, which colour-blind readers tell apart, in the order that keeps the first few most
# unlike.
OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00", "#999999")

# Percentiles that become black and white: a few hot or dead pixels must not darken the rest.
STRETCH = (0.5, 99.5)

# Grey levels and scattered points are chosen from about this many values; more change nothing the eye can
# see.
SAMPLE = 65536
SCATTERED = 4000

MASKED_GREY = 0.85


# --- the overlay: arrays in, array out ----------------------------------------------------------------------


def palette(n_patterns: int) -> np.ndarray:
    """The colours of the patterns.

    Parameters
    ----------
    n_patterns : int
        Any number; the first eight are Okabe and Ito's, which colour-blind readers tell apart.

    Returns
    -------
    (n_patterns, 3) array of uint8
        RGB.
    """
    colours = [bytes.fromhex(code[1:]) for code in OKABE_ITO[:n_patterns]]
    for k in range(len(colours), n_patterns):  # the golden ratio spreads any number of hues evenly
        hue = colorsys.hsv_to_rgb(k * 0.6180339887 % 1.0, 0.65, 0.6 + 0.35 * (k % 2))
        colours.append(bytes(round(255 * value) for value in hue))
    return np.array([list(each) for each in colours], np.uint8).reshape(n_patterns, 3)


def overlay(image: Any, labels: Any, alpha: float = 0.4) -> np.ndarray:
    """Labels painted over an image.

    Parameters
    ----------
    image : (H, W) array
        Any real numbers; NaN and infinity are drawn black. The contrast is stretched between the 0.5 and 99.5
        % percentiles.
    labels : (H, W) array of int
        0, 1, ... = patterns, negative = masked: left grey.
    alpha : float
        Share of the colour, 0 = only the image, 1 = only the labels.

    Returns
    -------
    (H, W, 3) array of uint8
        RGB, with white lines where two patterns meet.

    Raises
    ------
    ValueError
        If the shapes differ or `alpha` is not in [0, 1].
    """
    image, labels = _numpy(image), _numpy(labels)
    if image.ndim != 2 or image.shape != labels.shape:
        raise ValueError(f"`image` has shape {image.shape} and `labels` {labels.shape}; both must be (H, W)")
    if not 0 <= alpha <= 1:
        raise ValueError(f"`alpha` is {alpha}; a share of the colour from 0 to 1 is wanted")
    if not image.size:
        return np.zeros((*image.shape, 3), np.uint8)
    n_patterns = max(int(labels.max()) + 1, 0)
    levels = np.arange(256, dtype=np.float32)[:, None]
    # One table for all: row 0 is plain grey (masked), row k + 1 pattern k, the last one white (boundaries).
    table = np.empty((n_patterns + 2, 256, 3), np.uint8)
    table[0] = levels
    for k, colour in enumerate(palette(n_patterns)):
        table[k + 1] = np.round((1 - alpha) * levels + alpha * colour)
    table[-1] = 255
    row = np.maximum(labels, -1).astype(np.int32) + 1
    row[_boundaries(labels)] = n_patterns + 1
    return table.reshape(-1, 3).take(row * 256 + _grey(image), axis=0)


def _grey(image: np.ndarray) -> np.ndarray:
    """(H, W) uint8: the image with its contrast stretched; without contrast, and at NaN, 0."""
    values = image.astype(np.float32)
    sample = values.ravel()[:: max(1, values.size // SAMPLE)]
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, STRETCH) if sample.size else (0.0, 0.0)
    if not high > low:
        return np.zeros(image.shape, np.uint8)
    values = np.clip((values - np.float32(low)) * np.float32(255 / (high - low)), 0, 255)
    return np.nan_to_num(values, copy=False, nan=0.0).astype(np.uint8)


def _boundaries(labels: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels with another pattern beside them; two pixels wide, never against masked pixels."""
    edge = np.zeros(labels.shape, bool)
    for here, there in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        meet = (labels[here] != labels[there]) & (labels[here] >= 0) & (labels[there] >= 0)
        edge[here] |= meet
        edge[there] |= meet
    return edge


# --- one thing into one axes --------------------------------------------------------------------------------


def plot_image(
    segmentation: Any, ax: Axes | None = None, *, pixel_size: float | None = None, unit: str | None = None
) -> Axes:
    """The image in grey.

    Parameters
    ----------
    segmentation : Segmentation or (H, W) array
        Anything with an `image` will do.
    ax : matplotlib axes, optional
        Where to draw; a new figure if None.
    pixel_size, unit : float and str, optional
        Length of a pixel ("nm" if no unit is given): draws a scale bar.

    Returns
    -------
    matplotlib axes
    """
    ax = _axes(ax)
    grey = _grey(_array(segmentation, "image"))
    ax.imshow(grey, cmap="gray", vmin=0, vmax=255)
    return _finish(ax, "image", pixel_size, unit, grey.shape)


def plot_overlay(
    segmentation: Any,
    ax: Axes | None = None,
    *,
    alpha: float = 0.4,
    pixel_size: float | None = None,
    unit: str | None = None,
) -> Axes:
    """Labels painted over the image, with a legend.

    Parameters
    ----------
    segmentation : Segmentation
        Anything with `image` and `labels` will do.
    ax : matplotlib axes, optional
        As in `plot_image`.
    alpha : float
        Share of the colour, from 0 to 1.
    pixel_size, unit
        As in `plot_image`.

    Returns
    -------
    matplotlib axes
    """
    ax = _axes(ax)
    image, labels = _array(segmentation, "image"), _on_image(segmentation, "labels")
    ax.imshow(overlay(image, labels, alpha))
    _legend(ax, labels)
    return _finish(ax, "patterns over the image", pixel_size, unit, image.shape)


def plot_labels(
    segmentation: Any, ax: Axes | None = None, *, pixel_size: float | None = None, unit: str | None = None
) -> Axes:
    """The patterns in their colours, masked pixels light grey.

    Parameters
    ----------
    segmentation : Segmentation or (H, W) array of int
        Anything with `labels` will do.
    ax, pixel_size, unit
        As in `plot_image`.

    Returns
    -------
    matplotlib axes
    """
    ax = _axes(ax)
    labels = _on_image(segmentation, "labels")
    colours = np.vstack(
        [np.full((1, 3), round(255 * MASKED_GREY), np.uint8), palette(max(int(labels.max()) + 1, 0))]
    )
    ax.imshow(colours[np.maximum(labels, -1) + 1], interpolation="nearest")
    _legend(ax, labels)
    return _finish(ax, "patterns", pixel_size, unit, labels.shape)


def plot_certainty(
    segmentation: Any, ax: Axes | None = None, *, pixel_size: float | None = None, unit: str | None = None
) -> Axes:
    """How certain each label is: low along boundaries, and inside a region at defects.

    Parameters
    ----------
    segmentation : Segmentation or (H, W) array
        Anything with `certainty` will do.
    ax, pixel_size, unit
        As in `plot_image`.

    Returns
    -------
    matplotlib axes
    """
    ax = _axes(ax)
    certainty = _on_image(segmentation, "certainty")
    if hasattr(segmentation, "labels"):
        certainty = np.where(_on_image(segmentation, "labels") < 0, np.nan, certainty)
    shown = _map(ax, certainty, cmap="magma", vmin=0, vmax=1)
    _colour_bar(ax, shown, "certainty")
    return _finish(ax, "certainty", pixel_size, unit, certainty.shape)


def plot_separability(segmentation: Any, ax: Axes | None = None) -> Axes:
    """Fisher separability of every operation (paper, eq. 4): bright = this operation tells the patterns
    apart.

    Parameters
    ----------
    segmentation : Segmentation
        Anything with `separability` and `operations` will do. Translations become a map over the shift
        window, other operations a bar each; of very many the 12 that separate best, in order.
    ax : matplotlib axes, optional
        Where to draw; a new figure if None.

    Returns
    -------
    matplotlib axes
    """
    ax = _axes(ax)
    separability = _array(segmentation, "separability")
    if not _are_translations(segmentation.operations):
        heights = np.nan_to_num(separability)
        shown = np.arange(heights.size)
        if heights.size > MANY_BARS:
            shown = np.argsort(-heights, kind="stable")[:MANY_BARS]
        ax.barh([str(segmentation.operations[k]) for k in shown], heights[shown], color=OKABE_ITO[5])
        ax.invert_yaxis()
        ax.set(title="separability", xlabel="separability")
        return ax
    finite = separability[np.isfinite(separability)]
    shown = _shift_map(
        ax, segmentation.operations, separability, cmap="viridis", vmin=0, vmax=finite.max(initial=0) or 1
    )
    _colour_bar(ax, shown, "separability")
    ax.set_title("separability of each translation")
    return ax


MANY_BARS = 12
"""More bars than that cannot be read, nor their names drawn in reasonable time."""


def plot_local_correlation(source: Any, pixel: tuple[int, int], ax: Axes | None = None) -> Axes:
    """The local correlation map at one pixel: the scores of its grid point over the shift window (paper, eq.
    3).

    Parameters
    ----------
    source : Segmentation or Descriptors
        Its operations must be translations.
    pixel : (row, col)
        A pixel of the image; the nearest grid point is taken.
    ax : matplotlib axes, optional
        Where to draw; a new figure if None.

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ValueError
        If the pixel lies outside the image or the operations are no translations.
    """
    descriptors = getattr(source, "descriptors", source)
    if not _are_translations(descriptors.operations):
        raise ValueError(
            f"`source` scores {descriptors.operations[0]}; "
            "translations are wanted, e.g. of LocalCorrelationMap"
        )
    (row, col), (height, width) = pixel, descriptors.grid.image_shape
    if not (0 <= row < height and 0 <= col < width):
        raise ValueError(
            f"`pixel` is {pixel}; a (row, col) inside the image of shape {(height, width)} is wanted"
        )
    near = [
        int(np.abs(_numpy(at) - here).argmin())
        for at, here in zip((descriptors.grid.rows, descriptors.grid.cols), pixel, strict=True)
    ]
    ax = _axes(ax)
    scores = _numpy(descriptors.values[:, near[0], near[1]])
    shown = _shift_map(ax, descriptors.operations, scores, cmap="RdBu_r", vmin=-1, vmax=1)
    _colour_bar(ax, shown, "symmetry score")
    ax.set_title(f"local correlation map at ({row}, {col})")
    return ax


def plot_explained_variance(segmentation: Any, ax: Axes | None = None) -> Axes:
    """Share of the variance that each principal component explains, and their sum.

    Parameters
    ----------
    segmentation : Segmentation or (K,) array
        Anything with `explained_variance_ratio` will do.
    ax : matplotlib axes, optional
        Where to draw; a new figure if None.

    Returns
    -------
    matplotlib axes
    """
    ax = _axes(ax)
    ratio = 100 * _array(segmentation, "explained_variance_ratio")
    numbers = np.arange(1, len(ratio) + 1)
    ax.bar(numbers, ratio, color=OKABE_ITO[1], label="each")
    ax.plot(numbers, np.cumsum(ratio), "o-", color=OKABE_ITO[6], ms=4, label="together")
    ax.set(
        title="explained variance",
        xlabel="principal component",
        ylabel="share of the variance (%)",
        ylim=(0, 105),
    )
    ax.set_xticks(numbers[:: 1 + len(numbers) // 10])
    ax.legend(frameon=False, loc="center right")
    return ax


def plot_evidence(source: Any, ax: Axes | None = None) -> Axes:
    """Why there are so many patterns: how deep the valleys between them are, and whether they fill regions.

    Parameters
    ----------
    source : Evidence, Segmentation or Suggestion
        What ``n_patterns="auto"`` gave.
    ax : matplotlib axes, optional
        Where to draw; a new figure if None.

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ValueError
        If the number of patterns was given, so that there is no evidence.
    """
    evidence = getattr(source, "evidence", source)
    if evidence is None:
        raise ValueError("there is no evidence for a number that was given; segment with n_patterns='auto'")
    ax = _axes(ax)
    curves = (
        ("valley between two patterns, least", evidence.valley, evidence.valley_needed, OKABE_ITO[5]),
        ("share inside a region, least", evidence.region, evidence.region_needed, OKABE_ITO[6]),
    )
    for name, values, needed, colour in curves:
        ax.plot(evidence.candidates, values, "o-", color=colour, ms=5, label=name)
        ax.axhline(needed, color=colour, lw=1, ls=":")
    ax.axvline(evidence.n_patterns, color="0.6", lw=6, alpha=0.4, zorder=0, label="chosen")
    last = max([2, *evidence.candidates])
    ax.set(
        title=f"number of patterns: {evidence.n_patterns}",
        xlabel="number of patterns (dotted: needed)",
        ylabel="share",
        xlim=(0.5, last + 0.5),
        ylim=(-0.02, 1.05),
    )
    ax.set_xticks(range(1, last + 1))
    ax.legend(frameon=False)
    return ax


def plot_component(segmentation: Any, component: int = 0, ax: Axes | None = None) -> Axes:
    """One principal component over the image.

    Parameters
    ----------
    segmentation : Segmentation
        Anything with `components` and `grid` will do.
    component : int
        Number of the component, from 0.
    ax : matplotlib axes, optional
        Where to draw; a new figure if None.

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ValueError
        If there is no such component.
    """
    components = _array(segmentation, "components")
    if not 0 <= component < len(components):
        raise ValueError(f"`component` is {component}; 0 to {len(components) - 1} is wanted")
    ax = _axes(ax)
    values = components[component]
    finite = values[np.isfinite(values)]
    bound = np.abs(finite).max(initial=0) or 1
    shown = _map(ax, values, segmentation.grid, cmap="RdBu_r", vmin=-bound, vmax=bound)
    _colour_bar(ax, shown, "component")
    return _finish(ax, f"principal component {component + 1}")


def plot_descriptor(source: Any, operation: Any = 0, ax: Axes | None = None) -> Axes:
    """The symmetry score of one operation over the image.

    Parameters
    ----------
    source : Segmentation or Descriptors
        The scores.
    operation : int or operation
        One of `source.operations` such as ``Translation(0, 14)``, or its number.
    ax : matplotlib axes, optional
        Where to draw; a new figure if None.

    Returns
    -------
    matplotlib axes

    Raises
    ------
    ValueError
        If it is not among the operations.
    """
    descriptors = getattr(source, "descriptors", source)
    operations = list(descriptors.operations)
    number = (
        operation
        if isinstance(operation, int)
        else operations.index(operation)
        if operation in operations
        else -1
    )
    if not 0 <= number < len(operations):
        raise ValueError(
            f"`operation` is {operation}; one of the {len(operations)} is wanted, or its number: "
            f"0 = {operations[0]} ..."
        )
    ax = _axes(ax)
    values = _numpy(descriptors.values[number])
    scores = len(operations) > 0 and np.nanmin(values, initial=0) >= -1 and np.nanmax(values, initial=0) <= 1
    limits = {"vmin": -1, "vmax": 1, "cmap": "RdBu_r"} if scores else {"cmap": "viridis"}
    _colour_bar(ax, _map(ax, values, descriptors.grid, **limits), "symmetry score" if scores else "value")
    return _finish(ax, str(operations[number]))


def plot_clusters(segmentation: Any, ax: Axes | None = None) -> Axes:
    """The grid points in the plane of the first two principal components, coloured by pattern, with the
    centres.

    Parameters
    ----------
    segmentation : Segmentation
        Anything with `components`, `labels`, `grid` and `cluster_centers` will do.
    ax : matplotlib axes, optional
        Where to draw; a new figure if None.

    Returns
    -------
    matplotlib axes
    """
    ax = _axes(ax)
    components, centers = _array(segmentation, "components"), _array(segmentation, "cluster_centers")
    labels = _array(segmentation, "labels")
    if labels.shape != components.shape[1:]:
        labels = labels[np.ix_(_numpy(segmentation.grid.rows), _numpy(segmentation.grid.cols))]
    second = min(1, len(components) - 1)
    x, y, label = components[0].ravel(), components[second].ravel(), labels.ravel()
    chosen = np.flatnonzero((label >= 0) & np.isfinite(x) & np.isfinite(y))
    chosen = np.random.default_rng(0).permutation(chosen)[:SCATTERED]
    ax.scatter(
        x[chosen], y[chosen], c=palette(len(centers))[label[chosen]] / 255, s=3, linewidths=0, rasterized=True
    )
    ax.scatter(
        centers[:, 0], centers[:, second], c=palette(len(centers)) / 255, s=70, marker="X", edgecolors="black"
    )
    ax.set(title="clusters", xlabel="principal component 1", ylabel=f"principal component {second + 1}")
    return ax


def plot_separability_against_variance(segmentation: Any, ax: Axes | None = None) -> Axes:
    """Separability of every operation against its variance over the image.

    Operations that vary much without separating anything respond to noise or to gradients; the best are top
    right.

    Parameters
    ----------
    segmentation : Segmentation
        Anything with `separability`, `operations` and `descriptors` will do.
    ax : matplotlib axes, optional
        Where to draw; a new figure if None.

    Returns
    -------
    matplotlib axes
    """
    ax = _axes(ax)
    values = _numpy(segmentation.descriptors.values).reshape(len(segmentation.operations), -1)
    separability = _array(segmentation, "separability")
    finite = np.isfinite(values)
    count = np.maximum(finite.sum(axis=1), 1)
    mean = np.sum(values, axis=1, where=finite, dtype=np.float64) / count
    variance = np.sum((values - mean[:, None]) ** 2, axis=1, where=finite) / count
    ax.scatter(variance, separability, s=14, color=OKABE_ITO[5], alpha=0.8, linewidths=0)
    if np.isfinite(separability).any():
        best = int(np.nanargmax(separability))
        left = variance[best] < (variance.min() + variance.max()) / 2
        place: dict[str, Any] = {"xytext": (6 if left else -6, 0), "textcoords": "offset points"}
        place |= {"ha": "left" if left else "right", "va": "center", "fontsize": "small"}
        ax.annotate(str(segmentation.operations[best]), (variance[best], separability[best]), **place)
    ax.set(title="which operations separate", xlabel="variance of the score", ylabel="separability")
    return ax


# --- figures ------------------------------------------------------------------------------------------------


def plot_defects(
    segmentation: Any,
    defects: Any,
    ax: Axes | None = None,
    *,
    pixel_size: float | None = None,
    unit: str | None = None,
) -> Axes:
    """The image with a circle around each defect, in the colour of the pattern it lies in.

    Parameters
    ----------
    segmentation : Segmentation or (H, W) array
        Anything with an `image` will do.
    defects : gpuseg.measure.Table
        What `gpuseg.measure.defects` found.
    ax, pixel_size, unit
        As in `plot_image`.

    Returns
    -------
    matplotlib axes
    """
    from matplotlib.patches import Circle

    ax = plot_image(segmentation, ax, pixel_size=pixel_size, unit=unit)
    colours = palette(max((row["pattern"] for row in defects), default=-1) + 1) / 255
    for row in defects:
        place = row["centroid_col_px"], row["centroid_row_px"]
        radius = 1.5 * math.sqrt(row["area_px"] / math.pi)
        ax.add_patch(Circle(place, radius, fill=False, lw=1.5, edgecolor=colours[row["pattern"]]))
    ax.set_title(f"{len(defects)} defects")
    return ax


def plot_area_fractions(motion: Any, ax: Axes | None = None) -> Axes:
    """Share of each pattern over a series; gaps at dead frames.

    Parameters
    ----------
    motion : gpuseg.measure.Motion
        What `gpuseg.measure.series` measured.
    ax : matplotlib axes, optional
        As in `plot_image`.

    Returns
    -------
    matplotlib axes
    """
    ax = _axes(ax)
    columns = motion.frames.columns
    names = [name for name in columns if name.startswith("area_fraction_")]
    time, label = _times(columns)
    for name, colour in zip(names, palette(len(names)) / 255, strict=True):
        pattern = name.removeprefix("area_fraction_")
        ax.plot(time, 100 * columns[name], color=colour, label=f"pattern {pattern}")
    if names:
        ax.legend(fontsize="small")
    ax.set(
        title="area of the patterns", xlabel=label, ylabel="share of the labelled pixels (%)", ylim=(0, 100)
    )
    return ax


def plot_boundary_position(motion: Any, ax: Axes | None = None) -> Axes:
    """Position of the boundary over a series, with the straight line of its mean speed.

    Parameters
    ----------
    motion : gpuseg.measure.Motion
        What `gpuseg.measure.series` measured; frames left out of the fit are drawn hollow.
    ax : matplotlib axes, optional
        As in `plot_image`.

    Returns
    -------
    matplotlib axes
    """
    ax = _axes(ax)
    columns, unit = motion.frames.columns, motion.speed_unit.partition("_per_")[0]
    position, used = columns[f"boundary_position_{unit}"], columns["used"]
    time, label = _times(columns)
    ax.plot(time[used], position[used], "o", color="black", ms=3)
    ax.plot(time[~used], position[~used], "o", color="black", mfc="none", ms=3)
    if math.isfinite(motion.speed):
        speed = f"{motion.speed:.4g} {motion.speed_unit.replace('_per_', '/')}"
        line = motion.start + motion.speed * time
        ax.plot(time, line, color=np.array(palette(1)[0]) / 255, label=speed)
        ax.legend(fontsize="small")
    ax.set(title="position of the boundary", xlabel=label, ylabel=f"from the centre ({unit})")
    return ax


def _times(columns: Any) -> tuple[np.ndarray, str]:
    """The time of each frame where it is known, else its number, with a label for the axis."""
    name = next((name for name in columns if name.startswith("time_")), "frame")
    return columns[name], "frame" if name == "frame" else f"time ({name.removeprefix('time_')})"


def summary(
    segmentation: Any,
    *,
    pixel_size: float | None = None,
    unit: str | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Image, overlay, certainty, separability, clusters and explained variance in one figure.

    Parameters
    ----------
    segmentation : Segmentation
        The result.
    pixel_size, unit : float and str, optional
        Length of a pixel ("nm" if no unit is given): draws scale bars.
    figure : matplotlib figure, optional
        Where to draw; a new one of pyplot if None.

    Returns
    -------
    matplotlib figure
    """
    if figure is None:
        from matplotlib import pyplot

        figure = pyplot.figure(figsize=(11.5, 7.2), layout="constrained")
    panels = figure.subplots(2, 3)
    calibration: dict[str, Any] = {"pixel_size": pixel_size, "unit": unit}
    plot_image(segmentation, panels[0, 0], **calibration)
    plot_overlay(segmentation, panels[0, 1], **calibration)
    plot_certainty(segmentation, panels[0, 2], **calibration)
    plot_separability(segmentation, panels[1, 0])
    plot_clusters(segmentation, panels[1, 1])
    plot_explained_variance(segmentation, panels[1, 2])
    for panel in panels[1, 1:]:
        panel.set_box_aspect(1)
    return figure


def png(segmentation: Any, *, dpi: float = 90) -> bytes:
    """The summary as a PNG file in memory, as Jupyter shows it.

    Parameters
    ----------
    segmentation : Segmentation
        The result.
    dpi : float
        Dots per inch; the figure is 11.5 inches wide.

    Returns
    -------
    bytes
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 7.2), layout="constrained")  # not pyplot's: no window, nothing to close
    FigureCanvasAgg(figure)
    summary(segmentation, figure=figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


# --- helpers ------------------------------------------------------------------------------------------------


def _numpy(values: Any) -> np.ndarray:
    from gpuseg.arrays import to_numpy

    return np.asarray(to_numpy(values))


def _array(source: Any, name: str) -> np.ndarray:
    """`source.name`, or `source` itself if it is a plain array."""
    return _numpy(getattr(source, name, source))


def _on_image(segmentation: Any, name: str) -> np.ndarray:
    """(H, W) labels or certainty, also of a result that was not upsampled."""
    values = _array(segmentation, name)
    image = getattr(segmentation, "image", None)
    if image is None or tuple(image.shape) == values.shape:
        return values
    return _numpy(segmentation.grid.upsample(values))


def _are_translations(operations: Any) -> bool:
    return all(hasattr(each, "d_row") and hasattr(each, "d_col") for each in operations)


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(layout="constrained")[1]


def _map(ax: Axes, values: np.ndarray, grid: Any = None, **style: Any) -> Any:
    """Draw values of all pixels, or of the grid points each as large as the stride."""
    ax.set_facecolor(str(MASKED_GREY))
    if grid is None:
        return ax.imshow(values, **style)
    rows, cols, half = _numpy(grid.rows), _numpy(grid.cols), grid.stride / 2
    extent = (cols[0] - half, cols[-1] + half, rows[-1] + half, rows[0] - half)
    return ax.imshow(values, extent=extent, interpolation="nearest", **style)


def _shift_map(ax: Axes, translations: Any, values: np.ndarray, **style: Any) -> Any:
    """Draw one value for each translation at its place in the shift window; places without one stay grey."""
    d_rows, row = np.unique([each.d_row for each in translations], return_inverse=True)
    d_cols, col = np.unique([each.d_col for each in translations], return_inverse=True)
    plane = np.full((len(d_rows), len(d_cols)), np.nan)
    plane[row, col] = values
    ax.set_facecolor(str(MASKED_GREY))
    shown = ax.pcolormesh(_edges(d_cols), _edges(d_rows), np.ma.masked_invalid(plane), **style)
    ax.invert_yaxis()
    ax.set_aspect("equal")
    ax.set(xlabel="shift along the columns (px)", ylabel="shift along the rows (px)")
    return shown


def _edges(centres: np.ndarray) -> np.ndarray:
    """Borders of cells around sorted centres, half-way between neighbours."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middles = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middles[0]], middles, [2 * centres[-1] - middles[-1]]])


def _colour_bar(ax: Axes, shown: Any, label: str) -> None:
    ax.figure.colorbar(shown, ax=ax, label=label, fraction=0.046, pad=0.03)


def _legend(ax: Axes, labels: np.ndarray) -> None:
    """Colour and area of each pattern; left out beyond eight, where it would hide the picture."""
    from matplotlib.patches import Patch

    counts = np.bincount(labels[labels >= 0].ravel())
    if 0 < len(counts) <= len(OKABE_ITO):
        colours = palette(len(counts)) / 255
        handles = [
            Patch(color=colours[k], label=f"pattern {k}: {n / counts.sum():.1%}")
            for k, n in enumerate(counts)
        ]
        ax.legend(handles=handles, loc="upper right", fontsize="small", framealpha=0.85)


def _finish(
    ax: Axes,
    title: str,
    pixel_size: float | None = None,
    unit: str | None = None,
    shape: tuple[int, ...] = (),
) -> Axes:
    ax.set(title=title, xlabel="column (px)", ylabel="row (px)")
    if pixel_size is not None:
        _scale_bar(ax, shape[1], pixel_size, unit or "nm")
    return ax


def _scale_bar(ax: Axes, width: int, pixel_size: float, unit: str) -> None:
    """A bar of 1, 2 or 5 x 10^k units, at most a quarter of the image long, in the lower left corner."""
    longest = width * pixel_size / 4
    decade = 10.0 ** math.floor(math.log10(longest))
    length = max(step * decade for step in (1, 2, 5) if step * decade <= longest)
    left, right = 0.05, 0.05 + length / pixel_size / width
    line: dict[str, Any] = {"color": "white", "lw": 4, "solid_capstyle": "butt"}
    ax.plot([left, right], [0.06, 0.06], transform=ax.transAxes, path_effects=_outline(6), **line)
    place: dict[str, Any] = {"ha": "center", "va": "bottom", "color": "white", "path_effects": _outline(2.5)}
    ax.text((left + right) / 2, 0.085, f"{length:g} {unit}", transform=ax.transAxes, **place)


def _outline(width: float) -> list[Any]:
    """Black around white: readable on any image."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="black")]
