"""What has to be tried on a GPU to be known: constants of the launchers, shares of the time, choices.

The numbers are those of the list of GPU questions in README.md.
"""

from __future__ import annotations

import importlib
import importlib.util
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import gpuseg
from gpuseg import arrays
from gpuseg.clustering import KMeans
from gpuseg.decomposition import PCA
from gpuseg.engines import engine_for

from .contenders import wait
from .images import bicrystal
from .timing import in_ms, interleave_points, seconds

N_SAMPLES = 42025
"""Grid points of 1024x1024 at stride 5."""
FEATURES = (81, 289, 441, 841, 1681)
"""Sizes of the eigenproblems; as many samples and one, so that little else takes time."""


@dataclass(frozen=True)
class Trial:
    """One way to do the work of a question.

    Parameters
    ----------
    question : str
        With its number in README.md.
    variant : str
    run : callable
        Does it once; what it returns is waited for.
    constant : (str, object) or None
        A constant of the launchers and its value meanwhile.
    """

    question: str
    variant: str
    run: Callable[[], Any]
    constant: tuple[str, Any] | None = None


SWEEPS: dict[str, tuple[Any, ...]] = {
    # the first that fits into shared memory is taken
    "TILES": tuple((tile, (8, 32)) for tile in ((16, 128), (16, 64), (16, 32), (32, 32), (8, 16), (4, 32))),
    "ENOUGH_BLOCKS": (512, 1024, 2048, 4096, 8192, 16384),
    "SCRATCH_BYTES": tuple(n << 20 for n in (8, 16, 32, 64, 128, 256)),
    "ITERATIONS_AT_A_TIME": (1, 2, 5, 10, 50, 300),
    "EIGENPROBLEMS_ON_HOST": (0, 1 << 20),
    "PREDICT_TILES": (((8, 16),), ((4, 8),), ((1, 8),)),
    "ENOUGH_TILES": (128, 256, 512, 1024, 2048),
}


@dataclass(frozen=True)
class Bench:
    """The picture on the device, and calls on it."""

    size: int
    radius: int
    where: arrays.Device

    def picture(self, faint: bool = False) -> Any:
        """The image; with half of it a thousand times fainter."""
        image = bicrystal(self.size, dose=3.0)[0]
        if faint:
            image = np.where(np.arange(self.size) < self.size // 2, image, 1e-3 * image)
        return arrays.move(np.ascontiguousarray(image, np.float32), self.where)

    def transform(self, descriptor: Any, stride: int = 5, faint: bool = False) -> Callable[[], Any]:
        """A descriptor's values."""
        image = self.picture(faint)
        return lambda: descriptor.transform(image, stride=stride, device=self.where).values

    def translations(self, n: int, **options: Any) -> Any:
        """Local correlation maps."""
        return gpuseg.LocalCorrelationMap(self.radius, self.radius, n, **options)

    def turns(self, **options: Any) -> Any:
        """Rotations."""
        return gpuseg.RotationalSymmetry(radius=self.radius, pooling_radius=self.radius, **options)


def trials(bench: Bench) -> Iterator[Trial]:
    """All of them."""
    yield from _box(bench)
    yield from _methods(bench)
    yield from _polar(bench)
    yield from _learning(bench)
    yield from _moves(bench)


def _sweep(question: str, constant: str, run: Callable[[], Any]) -> Iterator[Trial]:
    if _home(constant) is not None:
        for value in SWEEPS[constant]:
            yield Trial(question, f"{constant} = {value}", run, (constant, value))


def _home(constant: str) -> Any:
    """The module of launchers that has a constant of this name, None if there is none any more."""
    names = ("gpuseg.engines.cuda", "gpuseg.engines._cuda_predict")
    modules = [importlib.import_module(name) for name in names if importlib.util.find_spec(name)]
    return next((module for module in modules if hasattr(module, constant)), None)


def _box(bench: Bench) -> Iterator[Trial]:
    question = "4, border of the box sums"
    for border in ("full", "valid"):
        for stride, n in ((5, 81), (1, 196)):
            run = bench.transform(bench.translations(n, method="box", border=border), stride)
            yield Trial(question, f"{n} translations, stride {stride}, {border}", run)
    for constant in ("TILES", "ENOUGH_BLOCKS"):
        for stride in (5, 1):
            run = bench.transform(bench.translations(81, method="box"), stride)
            yield from _sweep(f"4, {constant} at stride {stride}", constant, run)


def _methods(bench: Bench) -> Iterator[Trial]:
    for stride in (5, 20, 40):
        for n in (9, 81, 441):
            for method in ("box", "direct", "fft"):
                run = bench.transform(bench.translations(n, method=method), stride)
                yield Trial(f"5, {n} translations at stride {stride}", method, run)


def _polar(bench: Bench) -> Iterator[Trial]:
    mirrors = gpuseg.ReflectionSymmetry(radius=bench.radius, pooling_radius=bench.radius)
    yield Trial("7, polar patches", "4 turns", bench.transform(bench.turns()))
    yield Trial("7, polar patches", "4 turns, valid", bench.transform(bench.turns(border="valid")))
    yield Trial("7, polar patches", "4 turns, half of it faint", bench.transform(bench.turns(), faint=True))
    yield Trial("7, polar patches", "10 mirrors", bench.transform(mirrors))
    yield from _sweep("7, SCRATCH_BYTES", "SCRATCH_BYTES", bench.transform(bench.turns()))
    yield from _pooling(bench)


def _pooling(bench: Bench) -> Iterator[Trial]:
    engine, size = engine_for(bench.where), bench.size
    scores = arrays.namespace(bench.picture()).ones((4, size, size), dtype=np.float32)
    for stride in (5, 1):
        for n_max in (1, 3, 100):
            grid = bench.turns().grid((size, size), stride)

            def pool(grid: Any = grid, n_max: int = n_max) -> Any:
                return engine.pool(scores, grid, (bench.radius, bench.radius), n_max)

            yield Trial("8, pooling", f"n_max {n_max}, stride {stride}", pool)


def _learning(bench: Bench) -> Iterator[Trial]:
    blobs = np.random.default_rng(0).normal(size=(N_SAMPLES, 5)).astype(np.float32)
    blobs[::2] += 3
    samples = arrays.move(blobs, bench.where)

    def cluster() -> Any:
        return KMeans(4, random_state=0).fit(samples).labels_

    yield from _sweep("10, k-means between looks at convergence", "ITERATIONS_AT_A_TIME", cluster)
    for n in FEATURES:
        table = arrays.move(np.random.default_rng(0).normal(size=(n + 1, n)).astype(np.float32), bench.where)

        def decompose(table: Any = table) -> Any:
            return PCA(5).fit(table).explained_variance_

        yield from _sweep(f"10, PCA of {n} features", "EIGENPROBLEMS_ON_HOST", decompose)


def _moves(bench: Bench) -> Iterator[Trial]:
    there = bench.picture()
    here = arrays.to_numpy(there)
    yield Trial("2, transfers", "image to the device", lambda: arrays.move(here, bench.where))
    yield Trial("2, transfers", "as many bytes back", lambda: arrays.to_numpy(there))

    def fit() -> gpuseg.Segmentation:
        return gpuseg.segment(there, 2, descriptor=bench.translations(81), random_state=0)

    model = fit().model
    yield Trial("2, from image to labels", "fit", lambda: fit().labels)
    yield Trial("2, from image to labels", "predict", lambda: model.predict(there).labels)
    yield Trial("2, from image to labels", "labeller", _labelled(model, there))
    for constant in ("PREDICT_TILES", "ENOUGH_TILES"):
        for value in SWEEPS.get(constant, ()) if _home(constant) else ():
            run = _labelled(model, there)
            yield Trial(f"12, {constant}", f"{constant} = {value}", run, (constant, value))


def _labelled(model: Any, image: Any) -> Callable[[], Any]:
    """Labels by a labeller that is made at the first call: it plans with the constants of then."""
    made: list[Any] = []

    def run() -> Any:
        if not made:
            made.append(model.labeller(image.shape, device=arrays.home_of(image)))
        return made[0](image)

    return run


def measure(bench: Bench, rounds: int) -> Iterator[dict[str, Any]]:
    """The trials of a question in turns, one question after the other.

    Yields
    ------
    dict
        As JSON can hold it: question, variant, and its seconds or why it failed.
    """
    asked: dict[str, list[Trial]] = {}
    for trial in trials(bench):
        asked.setdefault(trial.question, []).append(trial)
    for question, ways in asked.items():
        expected: list[np.ndarray] = []
        failed = {trial.variant: _failure(trial, expected) for trial in ways}
        able = [trial for trial in ways if not failed[trial.variant]]
        times = iter(interleave_points(able, _timed, rounds))
        for trial in ways:
            row = {"question": question, "variant": trial.variant}
            if failed[trial.variant]:
                yield {**row, "not_measured": failed[trial.variant]}
            else:
                values = next(times)
                yield {**row, "values": values, "median": statistics.median(values)}


def _failure(trial: Trial, expected: list[np.ndarray]) -> str:
    """Why a trial cannot be measured, "" if it can; the values of a sweep are those of its first."""
    try:
        with _constant(trial.constant):
            got = arrays.to_numpy(trial.run())
        if trial.constant is not None:
            expected.append(got)
            if not np.allclose(got, expected[0], atol=1e-4, equal_nan=True):
                return "the result is wrong"
    except Exception as error:  # a tile that does not fit, say: the other variants are still wanted
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def _timed(trial: Trial) -> float:
    with _constant(trial.constant):
        return seconds(lambda: wait(trial.run()))[0]


@contextmanager
def _constant(change: tuple[str, Any] | None) -> Iterator[None]:
    if change is None:
        yield
        return
    name, value = change
    module = _home(name)
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def line(row: dict[str, Any]) -> str:
    """A row for the terminal."""
    return f"  {row['question']:<44} {row['variant']:<32} {_found(row)}"


def _found(row: dict[str, Any]) -> str:
    return f"not measured: {row['not_measured']}" if "not_measured" in row else in_ms(row)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    head = ["| question | variant | ms (min to max) |", "|---|---|---:|"]
    return "\n".join([*head, *(f"| {row['question']} | {row['variant']} | {_found(row)} |" for row in rows)])
