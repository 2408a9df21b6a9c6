"""How times are taken: interleaved, with a warm-up, and judged by ratios of medians with their band."""

from __future__ import annotations

import gc
import hashlib
import math
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from gpuseg.engines.cpu import n_threads

Stages = dict[str, float]
Result = TypeVar("Result")
Item = TypeVar("Item")
PAUSE = 0.05
"""Seconds between two runs: threads of the one that just ended stop spinning before the next begins."""

AWAKE = 0.05
"""Seconds that every core is then kept busy: a virtual one that idled may be missing for 10 ms."""

ENOUGH = 0.2
"""Seconds of a round: who is faster does the work several times, and their median is the round's value."""

FIRST = ", the first after a pause"
"""What the first of these took is a stage of its own, called so: caches are cold, and cores may be asleep."""


def wake_cores() -> None:
    """Keep every core busy for a moment, so that none has to be fetched back while something is timed."""
    until = time.perf_counter() + AWAKE
    block = bytes(1 << 20)

    def spin(_: int) -> None:
        while time.perf_counter() < until:
            hashlib.sha1(block, usedforsecurity=False)  # without the interpreter's lock

    with ThreadPoolExecutor(n_threads()) as pool:
        list(pool.map(spin, range(n_threads())))


@dataclass(frozen=True)
class Contender:
    """Who does the work of a case.

    Attributes
    ----------
    name : str
    run : callable
        Does the work once and returns stage -> seconds (or MB).
    rightness : callable or None
        How right the last result was: measure -> value.
    """

    name: str
    run: Callable[[], Stages]
    rightness: Callable[[], dict[str, float]] | None = None


@dataclass(frozen=True)
class Absent:
    """Who would take part in a case, and why not."""

    name: str
    reason: str


@dataclass(frozen=True)
class Row:
    """One stage of one contender: its value in every round, and what they say."""

    stage: str
    contender: str
    values: tuple[float, ...]
    unit: str = "s"
    baseline: str | None = None
    ratio: float | None = None
    ratio_band: tuple[float, float] | None = None

    @property
    def median(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.values)


def interleave(contenders: list[Contender], rounds: int, warm_ups: int = 1) -> dict[str, list[Stages]]:
    """Let the contenders run in turns, in alternating order: A B, B A, A B, ...

    A drift of the machine (heat, a neighbour) then falls on all of them alike. Who needs less than `ENOUGH`
    runs more than once in a round, as often as its last warm-up tells.

    Returns
    -------
    contender's name -> its stages in each round, in the order of the rounds. Warm-up rounds are not in it.
    """
    results: dict[str, list[Stages]] = {contender.name: [] for contender in contenders}
    times = dict.fromkeys(results, 1)
    for turn in range(-warm_ups, rounds):
        for contender in contenders if turn % 2 == 0 else contenders[::-1]:
            gc.collect()
            time.sleep(PAUSE)
            wake_cores()
            if turn >= 0:
                results[contender.name].append(_round(contender, times[contender.name]))
            else:
                contender.run()  # compiles, reads, fills caches
                spent, _ = seconds(contender.run)
                times[contender.name] = math.ceil(ENOUGH / max(spent, 1e-3))
    return results


def _round(contender: Contender, times: int) -> Stages:
    """The median stages of so many runs in a row, and what the first took where there are more."""
    runs = [contender.run() for _ in range(times)]
    stages = {stage: statistics.median(each[stage] for each in runs) for stage in runs[0]}
    if times > 1:
        whole = next(iter(stages))
        stages[whole + FIRST] = runs[0][whole]
    return stages


def interleave_points(items: list[Item], timed: Callable[[Item], float], rounds: int) -> list[list[float]]:
    """Time some items in turns, forth and back, as `interleave` does, after a round that is not counted.

    Returns
    -------
    list of list of float
        For each item its seconds in every round.
    """
    found: list[list[float]] = [[] for _ in items]
    for turn in range(-1, rounds):
        order = range(len(items)) if turn % 2 == 0 else range(len(items) - 1, -1, -1)
        for k in order:
            gc.collect()
            spent = timed(items[k])
            if turn >= 0:
                found[k].append(spent)
    return found


def rows(results: dict[str, list[Stages]], baseline: str | None, unit: str = "s") -> list[Row]:
    """What the rounds say, one row per stage and contender.

    `ratio` is median(baseline) / median(contender): how many times faster than the baseline. `ratio_band` is
    the least and the largest such ratio within one round.
    """
    reference = results[baseline] if baseline else []
    stages = dict.fromkeys(stage for rounds in results.values() for stage in rounds[0])

    def of_reference(stage: str) -> str:
        known = reference[0] if reference else {}
        return stage if stage in known else stage.removesuffix(FIRST)  # it ran once: each was the first

    table = []
    for stage in stages:
        for name, rounds in results.items():
            if stage not in rounds[0]:
                continue
            values = tuple(each[stage] for each in rounds)
            if name == baseline or not reference or of_reference(stage) not in reference[0]:
                table.append(Row(stage, name, values, unit))
                continue
            base = [each[of_reference(stage)] for each in reference]
            ratios = [b / v for b, v in zip(base, values, strict=True)]
            ratio = statistics.median(base) / statistics.median(values)
            table.append(Row(stage, name, values, unit, baseline, ratio, (min(ratios), max(ratios))))
    return table


def seconds(work: Callable[[], Result]) -> tuple[float, Result]:
    """Wall seconds of one call, and what it returned."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def digits(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def in_ms(timed: dict[str, Any]) -> str:
    """The median and the band of what was timed, with its "median" and "values" in seconds."""
    least, most = min(timed["values"]), max(timed["values"])
    return f"{digits(timed['median'] * 1e3)} ({digits(least * 1e3)} to {digits(most * 1e3)})"
