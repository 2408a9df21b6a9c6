"""Cases measured: who takes part, how fast each is, how right, and whether that is what was asked."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from gpuseg import arrays

from . import goals, report
from .cases import Case
from .pystem_client import Pystem
from .timing import Absent, Contender

MEMORY = ("memory", "series-memory", "large-memory")
"""Works whose rows are MB and no seconds."""
WHOLE_PROCESS = ("cli", "first-call", "import", "memory")
SERIES = ("series", "series-memory")


def measure(
    case: Case, device: str, pystem: Pystem | None, rounds: int, run: dict[str, Any], quick: bool
) -> dict[str, Any]:
    """One case on one device: rows, rightness of the results and goals; or why it was not measured."""
    size = case.quick_size if quick else case.size
    picture = case.picture or f"{size}x{size}"
    found: dict[str, Any] = {"name": case.name, "device": device, "picture": picture, "what": case.what}
    print(f"{case.name} on {device}, {picture}: {case.what}", flush=True)
    if device == "cuda" and not run["device"]["usable"]:
        print(f"  not measured: {run['device']['reason']}")
        return {**found, "not_measured": run["device"]["reason"]}
    from . import images, timing

    scene = images.bicrystal(size, dose=3.0)
    with tempfile.TemporaryDirectory(prefix="gpuseg-bench-") as folder:
        asked, baseline = _people(case, device, scene, pystem, Path(folder), quick)
        people = [person for person in asked if isinstance(person, Contender)]
        found["absent"] = {person.name: person.reason for person in asked if isinstance(person, Absent)}
        for name, reason in found["absent"].items():
            print(f"  {name} is not measured: {reason}", file=sys.stderr)
        unit = "MB" if case.work in MEMORY else "s"
        once = case.work == "large-memory"  # minutes, and the same every time
        values = timing.interleave(people, 1 if once else rounds, 0 if once else 1)
        rows = timing.rows(values, baseline, unit)
    found["rows"] = [report.row_to_json(row) for row in rows]
    for row in found["rows"]:
        print(report.line(row), flush=True)
    found["rightness"] = {person.name: person.rightness() for person in people if person.rightness}
    if case.work == "dense":
        _add_shares(found, people, case, device, size, quick)
    for who, measures in found["rightness"].items():
        print("  " + ", ".join(f"{measure} of {who}: {value:.3g}" for measure, value in measures.items()))
    if case.work in ("descriptors", "dense") and case.descriptor == "translations" and device == "cpu":
        found["limit_seconds"] = limit(case, size, run)
        print(f"  the machine's own limit for box: {found['limit_seconds'] * 1000:.2f} ms")
    found["goals"] = [] if quick else goals.reached(case.goals_on(device), found, device)
    return found


def _add_shares(
    found: dict[str, Any], people: list[Contender], case: Case, device: str, size: int, quick: bool
) -> None:
    """How near to the speed of the memory the scores of every pixel come, as a measure of each contender."""
    from . import contenders, dense, machine

    where = arrays.resolve_device(device)
    peaks = machine.peaks(where, quick)
    medians = {row["contender"]: row["median"] for row in found["rows"]}
    for person in people:
        if isinstance(person.run, contenders.Gpuseg):
            descriptor, spent = person.run.descriptor, medians[person.name]
            found["rightness"][person.name] |= dense.shares(descriptor, case.stride, size, spent, peaks)


def _people(
    case: Case, device: str, scene: Any, pystem: Pystem | None, folder: Path, quick: bool
) -> tuple[list[Contender | Absent], str | None]:
    """Who takes part in a case, and the name of the baseline."""
    from . import (
        contenders,
        dense,
        large,
        learning,
        predict,
        process,
        scipy_maps,
        series,
        symmetry_maps,
        zernike,
    )

    if case.work in WHOLE_PROCESS:
        return process.contenders(case, scene[0], device, folder), None
    if case.work in SERIES:
        return series.contenders(case, device, folder, quick), None
    if case.work == "large-memory":
        return large.contenders(case, scene[0], folder), None
    if case.work == "predict":
        return predict.contenders(case, device, scene[0].shape[0])
    if case.work == "learning-first-call":
        return learning.first_calls(device), None
    if case.work == "dense-symmetry":
        return symmetry_maps.own(device, scene), None
    own = {
        "dense": dense.contenders,
        "zernike": zernike.contenders,
        "maps": scipy_maps.contenders,
        "learning": learning.contenders,
    }
    if case.work in own:
        return own[case.work](case, device, scene)
    return contenders.contenders(case, device, scene, pystem)


def limit(case: Case, size: int, run: dict[str, Any]) -> float:
    """What the machine could do at best in a case of descriptors."""
    from . import contenders, work

    descriptor = contenders.descriptor_of(case, "box")
    shifts = np.array([(t.d_row, t.d_col) for t in descriptor.operations()])
    copies, rate = run["machine"]["copy_gb_per_s"] * 1e9, run["machine"]["multiply_adds_per_s"]
    least = work.box_scores(size**2, descriptor.grid((size, size), case.stride).size, shifts, case.stride)
    return least.seconds(work.Peaks(run["machine"]["cores"], copies, copies, copies, rate))[0]
