"""The roofline: how near to the machine's own limits each stage of gpuseg comes, on the CPU or on a GPU.

The stages are those of the library, called through the engine of the device; what each cannot do without
is in `work`, what the machine can do in `machine.peaks`, measured in the same run.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import gpuseg
from gpuseg import arrays
from gpuseg.clustering import assign
from gpuseg.decomposition import PCA
from gpuseg.engines import engine_for
from gpuseg.grid import Grid
from gpuseg.polar import PolarPlan

from . import machine, work
from .images import bicrystal
from .timing import digits, in_ms, seconds
from .work import Peaks, Work

RADIUS = (20, 20)
TRANSLATIONS = ((100, 5), (1681, 5), (196, 1))
"""`max_num_points` and stride: 81 translations, all of the window, and 196 at every pixel."""
LEARNT_FROM = (100, 196)
"""`max_num_points` of the scores that the stages after them are given."""
N_COMPONENTS, N_PATTERNS = 5, 2


@dataclass(frozen=True)
class Stage:
    """A stage with its input at hand.

    Parameters
    ----------
    name, shapes : str
    work : Work
    run : callable
        Does the stage once, given what `prepare` made.
    prepare : callable, optional
        Makes what the stage uses up, outside the clock.
    """

    name: str
    shapes: str
    work: Work
    run: Callable[[Any], Any]
    prepare: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Missing:
    """A stage that this device's engine does not have."""

    name: str
    reason: str


def rows(where: arrays.Device, peaks: Peaks, size: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Every stage measured, one by one.

    Parameters
    ----------
    where : Device
    peaks : Peaks
        Of this device, from the same run.
    size : int
        Side of the image in pixels.
    rounds : int
        Timed runs of each stage, after one that is not timed.

    Yields
    ------
    dict
        As JSON can hold it: the stage, its work, its seconds, the limit, and the share of it reached.
    """
    for stage in _stages(where, size):
        if isinstance(stage, Missing):
            yield {"stage": stage.name, "device": str(where), "not_measured": stage.reason}
            continue
        values = [_once(stage, where) for _ in range(rounds + 1)][1:]
        yield {"device": str(where), **_judged(stage, values, peaks)}


def _once(stage: Stage, where: arrays.Device) -> float:
    given = stage.prepare() if stage.prepare else None
    where.synchronize()

    def run() -> None:
        stage.run(given)
        where.synchronize()

    return seconds(run)[0]


def _judged(stage: Stage, values: list[float], peaks: Peaks) -> dict[str, Any]:
    limit, bound = stage.work.seconds(peaks)
    median = statistics.median(values)
    return {
        "stage": stage.name,
        "shapes": stage.shapes,
        **asdict(stage.work),
        "values": values,
        "median": median,
        "limit": limit,
        "bound": bound,
        "reached": limit / median,
        "write_share": stage.work.written / median / peaks.write_bytes_per_s,
    }


def _stages(where: arrays.Device, size: int) -> Iterator[Stage | Missing]:
    image = arrays.move(bicrystal(size, dose=3.0)[0], where)
    engine = engine_for(where)
    yield Stage(
        "normalise", f"{size}x{size}", work.normalise(size**2), lambda _: engine.normalise(image, None)
    )
    pixels = engine.normalise(image, None)
    for max_num_points, stride in TRANSLATIONS:
        yield from _of_translations(where, pixels, max_num_points, stride)
    rotation = gpuseg.RotationalSymmetry(radius=RADIUS[0], pooling_radius=RADIUS[0])
    reflection = gpuseg.ReflectionSymmetry(radius=RADIUS[0], pooling_radius=RADIUS[0])
    for name, descriptor in (("rotation", rotation), ("reflection", reflection)):
        yield from _of_polar(where, pixels, name, descriptor)
    yield _of_spectrum(where, image)


def _of_translations(where: arrays.Device, pixels: Any, max_num_points: int, stride: int) -> Iterator[Stage]:
    """Scores of translations, filling, and for some of them what comes after."""
    engine, size = engine_for(where), pixels.shape[0]
    descriptor = gpuseg.LocalCorrelationMap(RADIUS, RADIUS, max_num_points)
    grid = descriptor.grid(pixels.shape, stride)
    shifts = np.array([(t.d_row, t.d_col) for t in descriptor.operations()], np.int64)
    shapes = f"{size}x{size}, {len(shifts)} translations, stride {stride}"

    def score(_: Any = None) -> Any:
        return engine.translation_scores(pixels, None, grid, shifts, RADIUS, "box")

    yield Stage("box scores", shapes, work.box_scores(size**2, grid.size, shifts, stride), score)
    scores = score()
    yield _of_filling(where, scores, grid, shifts, shapes)
    if max_num_points in LEARNT_FROM:
        values = descriptor.transform(pixels, stride=stride, device=where.kind)
        yield from _of_learning(values.samples(), grid, where)


def _of_filling(where: arrays.Device, scores: Any, grid: Grid, shifts: np.ndarray, shapes: str) -> Stage:
    xp = arrays.namespace(scores)
    place = {tuple(shift): k for k, shift in enumerate(shifts.tolist())}
    opposite = np.array([place.get((-d, -e), -1) for d, e in shifts.tolist()], np.int64)
    wanted = xp.ones(grid.shape, dtype=xp.bool)
    margin = np.abs(shifts).max(axis=0) + RADIUS
    complete: list[int] = []
    for axis, positions in enumerate((grid.rows, grid.cols)):
        ends = margin[axis], max(grid.image_shape[axis] - margin[axis], margin[axis])
        complete += np.searchsorted(positions, ends).tolist()
    inside = (complete[1] - complete[0]) * (complete[3] - complete[2])
    missing = int(xp.sum(xp.isnan(scores)))
    return Stage(
        "filling",
        shapes,
        work.filling(len(shifts) * (grid.size - inside), missing),
        lambda copy: engine_for(where).fill_missing(copy, opposite, wanted, tuple(complete)),
        lambda: xp.asarray(scores, copy=True),
    )


def _of_learning(samples: Any, grid: Grid, where: arrays.Device) -> Iterator[Stage]:
    """From descriptors to labels."""
    n_samples, n_features = samples.shape
    shapes = f"{n_samples} samples of {n_features}"
    yield Stage(
        "covariance",
        shapes,
        work.covariance(n_samples, n_features),
        lambda _: PCA(N_COMPONENTS).fit(samples),
    )
    pca = PCA(N_COMPONENTS).fit(samples)
    yield Stage(
        "projection",
        shapes,
        work.projection(n_samples, n_features, N_COMPONENTS),
        lambda _: pca.transform(samples),
    )
    components = pca.transform(samples)
    centers = components[: N_PATTERNS * 7 : 7, :]
    yield Stage(
        "k-means assignment",
        f"{n_samples} samples of {N_COMPONENTS}, {N_PATTERNS} centres",
        work.assignment(n_samples, N_COMPONENTS, N_PATTERNS),
        lambda _: assign(components, centers),
    )
    labels = arrays.namespace(samples).reshape(assign(components, centers), grid.shape)
    height, width = grid.image_shape
    yield Stage(
        "upsampling",
        f"{height}x{width}, stride {grid.stride}",
        work.upsampling(height * width, grid.size),
        lambda _: grid.upsample(labels),
    )


def _of_polar(where: arrays.Device, pixels: Any, name: str, descriptor: Any) -> Iterator[Stage | Missing]:
    engine, size = engine_for(where), pixels.shape[0]
    for function in ("polar_scores", "pool"):
        if not hasattr(engine, function):
            yield Missing(f"{function} ({name})", f"{engine.__name__} has no `{function}`")
            return
    operations = descriptor.scored()
    plan = PolarPlan.of(RADIUS[0], operations)
    shapes = f"{size}x{size}, {len(operations)} operations"
    counts = len(plan.corners), int(np.count_nonzero(plan.own_weight)), len(plan.pairs)
    least = work.polar_scores(size**2, len(operations), *counts)
    yield Stage(f"polar scores ({name})", shapes, least, lambda _: engine.polar_scores(pixels, None, plan))
    scores = engine.polar_scores(pixels, None, plan)
    grid = descriptor.grid(pixels.shape, 5)
    yield Stage(
        f"pooling ({name})",
        f"{shapes}, window {2 * RADIUS[0] + 1}, stride 5",
        work.pooling(size**2, grid.shape[0] * size, grid.size, len(operations), 1),
        lambda _: engine.pool(scores, grid, RADIUS, 1),
    )


def _of_spectrum(where: arrays.Device, image: Any) -> Stage:
    descriptor = gpuseg.PowerSpectrum(window_radius=RADIUS)
    grid = descriptor.grid(image.shape, 5)
    size = 2 * RADIUS[0] + 1, 2 * RADIUS[1] + 1
    return Stage(
        "power spectrum",
        f"{image.shape[0]}x{image.shape[1]}, windows {size[0]}x{size[1]}, stride 5",
        work.power_spectrum(image.shape, grid.shape, size),
        lambda _: descriptor.transform(image, stride=5, device=where.kind),
    )


def measure(devices: tuple[str, ...], size: int, rounds: int, quick: bool) -> Iterator[dict[str, Any]]:
    """The peaks of each device, then its stages; or why it was not measured.

    Yields
    ------
    dict
        With "peaks" in the first one of a device, else as `rows` gives them.
    """
    for kind in devices:
        usable, reason = (True, "") if kind == "cpu" else arrays.gpu_status()
        if not usable:
            yield {"stage": "all", "device": kind, "not_measured": reason}
            continue
        where = arrays.resolve_device(kind)
        with where.current:
            peaks = machine.peaks(where, quick)
            yield {"device": str(where), "peaks": asdict(peaks)}
            yield from rows(where, peaks, size, rounds)


def line(row: dict[str, Any]) -> str:
    """A row for the terminal."""
    if "peaks" in row:
        return _peaks_in_words(row)
    if "not_measured" in row:
        return f"{row['stage']} on {row['device']}: not measured ({row['not_measured']})"
    return (
        f"  {row['stage']:<26} {row['median'] * 1e3:8.2f} ms, limit {row['limit'] * 1e3:8.2f} ms by "
        f"{row['bound']:<10} {row['reached']:6.1%}   {row['shapes']}"
    )


def table(results: dict[str, Any]) -> str:
    """Markdown of the rows of a JSON file: a table for each device, and the formulas."""
    found = results["roofline"]
    text: list[str] = []
    for device in dict.fromkeys(row["device"] for row in found):
        here = [row for row in found if row["device"] == device]
        text += [_peaks_in_words(row) for row in here if "peaks" in row]
        text += ["", *_stage_table([row for row in here if "shapes" in row]), ""]
        text += [line(row) + "." for row in here if "not_measured" in row]
    reasons = {row["stage"].split(" (")[0]: row["why"] for row in found if "why" in row}
    text += ["", "What each stage cannot do without:", ""]
    return "\n".join([*text, *(f"- {stage}: {why}." for stage, why in reasons.items())])


def _stage_table(here: list[dict[str, Any]]) -> list[str]:
    if not here:
        return []
    head = [
        "| stage | shapes | MB | 10^6 multiply-adds | limit, ms | by | measured, ms (min to max) | reached |",
        "|---|---|---:|---:|---:|---|---:|---:|",
    ]
    return head + [
        f"| {row['stage']} | {row['shapes']} | {(row['read'] + row['written']) / 1e6:.1f} | "
        f"{row['multiply_adds'] / 1e6:.0f} | {digits(row['limit'] * 1e3)} | {row['bound']} | "
        f"{in_ms(row)} | "
        f"{row['reached']:.1%} |"
        for row in here
    ]


def _peaks_in_words(row: dict[str, Any]) -> str:
    peaks = row["peaks"]
    on = f"{peaks['threads']} threads" if peaks["threads"] else "the GPU"
    copies, writes, fresh = (peaks[f"{name}_bytes_per_s"] / 1e9 for name in ("copy", "write", "fresh_write"))
    return (
        f"{row['device']}, {on}: copies {copies:.1f} GB/s (read and written), writes {writes:.1f} GB/s, "
        f"to new memory {fresh:.1f} GB/s; {peaks['multiply_adds_per_s'] / 1e9:.0f} thousand million float32 "
        "multiply-adds a second."
    )
