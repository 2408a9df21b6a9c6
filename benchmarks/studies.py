"""How time and accuracy depend on one thing at a time: sizes, numbers of operations, stride, frames, threads.

Each study runs the same call at several values of x. Where a power law is expected, its exponent is fitted to
the medians. "accuracy" is the adjusted Rand index against the known grains.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import numpy as np

import gpuseg
from gpuseg import arrays
from gpuseg.decomposition import PCA
from gpuseg.engines import cpu, engine_for
from gpuseg.grid import Grid

from . import truth
from .contenders import wait
from .images import bicrystal
from .timing import in_ms, interleave_points, seconds

RADIUS = 20
FAINT = 0.1
"""Counts per pixel of the studies of accuracy: so few that it depends on what is asked."""


@dataclass(frozen=True)
class Point:
    """One value of x: what is timed there, and how right its result is."""

    x: float
    run: Callable[[], Any]
    accuracy: Callable[[Any], float] | None = None


@dataclass(frozen=True)
class Study:
    """A question about one variable.

    Parameters
    ----------
    name, what : str
        The name to choose it by, and one line of explanation.
    x : str
        What varies, with its unit.
    points : callable
        Of (device, quick): the points.
    expected : float, optional
        The exponent that the design promises.
    figure : str
        The figure of the paper that is redone, if any.
    """

    name: str
    what: str
    x: str
    points: Callable[[str, bool], list[Point]]
    expected: float | None = None
    figure: str = ""
    devices: tuple[str, ...] = ("cpu", "cuda")


def _scores(image: np.ndarray, device: str, stride: int = 5, **options: Any) -> Callable[[], Any]:
    """The scores of translations by box sums."""
    sizes = {"patch_radius": RADIUS, "window_radius": RADIUS, **options}
    descriptor = gpuseg.LocalCorrelationMap(method="box", **sizes)
    there = arrays.move(image, arrays.resolve_device(device))

    def run() -> Any:
        found = descriptor.transform(there, stride=stride, device=device)
        wait(found.values)
        return found

    return run


def _sides(quick: bool) -> tuple[int, ...]:
    return (64, 128) if quick else (256, 512, 1024, 2048, 4096)


def _side(quick: bool) -> int:
    return 128 if quick else 1024


def _pixels(device: str, quick: bool) -> list[Point]:
    return [Point(n * n, _scores(bicrystal(n, dose=3.0)[0], device)) for n in _sides(quick)]


def _whole(device: str, quick: bool) -> list[Point]:
    return [Point(n * n, _segment(bicrystal(n, dose=3.0)[0], device)) for n in _sides(quick)]


def _translations(device: str, quick: bool) -> list[Point]:
    image = bicrystal(_side(quick), dose=3.0)[0]
    asked = (9, 25, 81) if quick else (25, 81, 196, 441, 1681)
    return [Point(n, _scores(image, device, max_num_points=n)) for n in asked]


def _patches(device: str, quick: bool) -> list[Point]:
    image = bicrystal(_side(quick), dose=3.0)[0]
    radii = (5, 10) if quick else (5, 10, 20, 40)
    return [Point((2 * r + 1) ** 2, _scores(image, device, patch_radius=r)) for r in radii]


def _dense_patches(device: str, quick: bool) -> list[Point]:
    """The same grid points for every patch: those around which the largest lies inside."""
    side, radii = (128, (5, 10)) if quick else (512, (5, 10, 20, 40))
    where = arrays.resolve_device(device)
    engine = engine_for(where)
    shifts = np.array([(t.d_row, t.d_col) for t in gpuseg.LocalCorrelationMap(RADIUS, RADIUS).operations()])
    grid = Grid.inside((side, side), 1, (RADIUS + radii[-1],) * 2)
    with where.current:
        pixels = engine.normalise(arrays.move(bicrystal(side, dose=3.0)[0], where), None)

    def score(r: int) -> Callable[[], Any]:
        def run() -> None:
            with where.current:
                wait(engine.translation_scores(pixels, None, grid, shifts, (r, r), "box"))

        return run

    return [Point((2 * r + 1) ** 2, score(r)) for r in radii]


def _strides(device: str, quick: bool) -> list[Point]:
    image = bicrystal(_side(quick), dose=3.0)[0]
    return [
        Point(s, _scores(image, device, stride=s, border="valid"))
        for s in ((4, 8) if quick else (1, 2, 4, 5, 8, 10))
    ]


def _frames(device: str, quick: bool) -> list[Point]:
    side = 128 if quick else 512
    model = _segment(bicrystal(side, dose=3.0)[0], device, max_num_points=441)().select(50)
    images = [bicrystal(side, dose=3.0, seed=1 + k)[0] for k in range(4)]

    def label(n: int) -> Callable[[], Any]:
        frames = list(itertools.islice(itertools.cycle(images), n))
        return lambda: gpuseg.segment_series(frames, model=model, device=device)

    return [Point(n, label(n)) for n in ((1, 2, 4) if quick else (1, 2, 4, 8, 16, 32, 64))]


def _threads(device: str, quick: bool) -> list[Point]:
    return _by_threads(_scores(bicrystal(_side(quick), dose=3.0)[0], device, max_num_points=441))


def _segment_threads(device: str, quick: bool) -> list[Point]:
    return _by_threads(_segment(bicrystal(_side(quick), dose=3.0)[0], device, max_num_points=441))


def _blas_threads(device: str, quick: bool) -> list[Point]:
    """Matrix products for the most part, whose library has threads of its own."""
    image = bicrystal(_side(quick), dose=3.0)[0]

    def run() -> Any:
        samples = gpuseg.PowerSpectrum(RADIUS).transform(image, stride=5, device=device).samples()
        return PCA(5).fit(samples).transform(samples)

    return _by_threads(run)


def _by_threads(run: Callable[[], Any]) -> list[Point]:
    most = cpu.n_threads()
    numbers = sorted({1, *(2**k for k in range(1, most.bit_length()) if 2**k <= most), most})
    return [Point(n, _on_threads(n, run)) for n in numbers]


def _on_threads(n: int, run: Callable[[], Any]) -> Callable[[], Any]:
    def limited() -> Any:
        with _variable("NUMBA_NUM_THREADS", str(n)):
            return run()

    return limited


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name) if before is None else os.environ.update({name: before})


def _segment(
    image: np.ndarray, device: str, max_num_points: int = 100, stride: int = 5
) -> Callable[[], gpuseg.Segmentation]:
    descriptor = gpuseg.LocalCorrelationMap(RADIUS, RADIUS, max_num_points)
    return lambda: gpuseg.segment(
        image, 2, descriptor=descriptor, stride=stride, random_state=0, device=device
    )


def _rand(grains: np.ndarray) -> Callable[[Any], float]:
    return lambda result: truth.adjusted_rand(grains, arrays.to_numpy(result.labels))


def _operations(device: str, quick: bool) -> list[Point]:
    """The paper's Figure 7: learnt from a frame with all translations, another labelled with some."""
    side, most = (128, 81) if quick else (1024, 1681)
    learnt = _segment(bicrystal(side, dose=FAINT)[0], device, most)()
    image, grains = bicrystal(side, dose=FAINT, seed=1)
    asked = (1, 9, 81) if quick else (1, 5, 10, 20, 50, 100, 200, 500, 1681)

    def predict(n: int) -> Callable[[], Any]:
        model = learnt.model if n == most else learnt.select(n)
        return lambda: model.predict(image, device=device)

    return [Point(n, predict(n), _rand(grains)) for n in asked]


def _accuracy_of_strides(device: str, quick: bool) -> list[Point]:
    """The paper's Figure C.1: the same picture segmented with another stride."""
    image, grains = bicrystal(256 if quick else 512, dose=FAINT)
    asked = (4, 8) if quick else (1, 2, 3, 5, 8, 10, 15, 20, 30)
    return [Point(s, _segment(image, device, stride=s), _rand(grains)) for s in asked]


STUDIES = (
    Study("pixels", "scores of 81 translations, stride 5", "pixels", _pixels, 1.0),
    Study("segment-pixels", "`segment` with all defaults", "pixels", _whole, 1.0),
    Study("translations", "scores at every 5th pixel, 1024x1024", "translations", _translations, 1.0),
    Study("patch", "scores of 81 translations, stride 5, 1024x1024", "pixels of a patch", _patches, 0.0),
    Study(
        "patch-dense",
        "box scores of 81 translations at every pixel whose largest patch lies inside, 512x512",
        "pixels of a patch",
        _dense_patches,
        0.0,
    ),
    Study("stride", "scores of 81 translations, 1024x1024", "stride in pixels", _strides),
    Study(
        "series-frames",
        "`segment_series` of 512x512, a model of the best 50 of 441 translations",
        "frames",
        _frames,
        1.0,
    ),
    Study(
        "threads",
        "scores of 441 translations, stride 5, 1024x1024",
        "threads",
        _threads,
        -1.0,
        devices=("cpu",),
    ),
    Study(
        "threads-segment",
        "`segment` with 441 translations, stride 5, 1024x1024",
        "threads",
        _segment_threads,
        -1.0,
        devices=("cpu",),
    ),
    Study(
        "threads-blas",
        "841 powers at every 5th pixel of 1024x1024 and their 5 principal components: matrix products",
        "threads",
        _blas_threads,
        -1.0,
        devices=("cpu",),
    ),
    Study(
        "operations",
        "a frame labelled with the best of 1681 translations, learnt from another; 0.1 counts per pixel",
        "selected operations",
        _operations,
        figure="Figure 7",
    ),
    Study(
        "stride-accuracy",
        "`segment` with 81 translations, 512x512; 0.1 counts per pixel",
        "stride in pixels",
        _accuracy_of_strides,
        figure="Figure C.1",
    ),
)


def chosen(patterns: list[str]) -> list[Study]:
    """The studies whose name matches one of the shell patterns; all of them for no pattern."""
    return [study for study in STUDIES if not patterns or any(fnmatch(study.name, p) for p in patterns)]


def measure(study: Study, device: str, rounds: int, quick: bool) -> dict[str, Any]:
    """One study on one device, as JSON can hold it."""
    points = study.points(device, quick)
    results: dict[float, Any] = {}
    busy: dict[float, list[float]] = {point.x: [] for point in points}

    def timed(point: Point) -> float:
        before = time.process_time()
        spent, result = seconds(point.run)
        busy[point.x].append((time.process_time() - before) / spent)
        if point.accuracy is not None:
            results[point.x] = point.accuracy(result)
        return spent

    times = interleave_points(points, timed, rounds)
    found = [
        {
            "x": point.x,
            "values": values,
            "median": statistics.median(values),
            "accuracy": results.get(point.x),
            "busy_cores": statistics.median(busy[point.x][1:]) if study.devices == ("cpu",) else None,
        }
        for point, values in zip(points, times, strict=True)
    ]
    return {
        "name": study.name,
        "device": device,
        "what": study.what,
        "x": study.x,
        "figure": study.figure,
        "expected": study.expected,
        "exponent": None if study.expected is None else exponent(found),
        "points": found,
    }


def exponent(points: list[dict[str, Any]]) -> dict[str, float] | None:
    """b of time = a x^b, by least squares of the logarithms of the medians; and the last step's alone."""
    if len(points) < 2:
        return None
    x, y = (np.log([point[name] for point in points]) for name in ("x", "median"))
    return {"fitted": float(np.polyfit(x, y, 1)[0]), "last": float((y[-1] - y[-2]) / (x[-1] - x[-2]))}


def lines(study: dict[str, Any]) -> Iterator[str]:
    """A study for the terminal."""
    for point in study["points"]:
        right = "" if point["accuracy"] is None else f"   adjusted Rand index {point['accuracy']:.3f}"
        busy = "" if point["busy_cores"] is None else f"   {point['busy_cores']:.2f} cores busy"
        yield f"  {point['x']:>10g} {study['x']:<20} {point['median'] * 1e3:9.2f} ms{right}{busy}"
    if study["exponent"]:
        yield f"  {exponent_in_words(study)}"


def exponent_in_words(study: dict[str, Any]) -> str:
    """What was fitted, beside what is promised."""
    found = study["exponent"]
    return (
        f"time goes with the power {found['fitted']:.2f} of the {study['x']} "
        f"({found['last']:.2f} between the last two; {study['expected']:g} is promised)"
    )


COLUMNS = (("accuracy", "adjusted Rand index", ".3f"), ("busy_cores", "cores busy", ".2f"))
"""What a point may have beside its time."""


def table(measured: dict[str, dict[str, Any]]) -> str:
    """Runs of a study side by side in Markdown.

    Parameters
    ----------
    measured : dict
        Name of the machine -> the study there.
    """
    head, columns = [next(iter(measured.values()))["x"]], []
    for label, study in measured.items():
        points = {point["x"]: point for point in study["points"]}
        head.append(f"{label}: ms (min to max)".removeprefix(": "))
        columns.append({x: in_ms(point) for x, point in points.items()})
        for key, title, digits in COLUMNS:
            if any(point.get(key) is not None for point in points.values()):
                head.append(title)
                columns.append({x: f"{point[key]:{digits}}" for x, point in points.items()})
    text = [f"| {' | '.join(head)} |", "|" + "---:|" * len(head)]
    for x in sorted({x for column in columns for x in column}):
        text.append(f"| {x:g} | {' | '.join(column.get(x, '') for column in columns)} |")
    return "\n".join(text)
