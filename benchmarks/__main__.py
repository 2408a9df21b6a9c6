"""``python -m benchmarks``: the speed of gpuseg beside pystem; also ``accuracy``, ``table`` and ``list``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import goals, report
from .cases import CASES, chosen
from .pystem_client import DEFAULT_FOLDER, Pystem, PystemError

DEVICES = ("cpu", "cuda")
RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).with_name("page")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    top.set_defaults(work=speed)
    _speed_options(top)
    works = top.add_subparsers(title="other work")
    right = works.add_parser("accuracy", help="how right both are: golden numbers, real images, dose")
    right.set_defaults(work=accuracy)
    right.add_argument("--shared", type=folder, metavar="FOLDER", help="folder with golden/ and data/")
    right.add_argument("--device", default="cpu", help="where gpuseg works (default: cpu)")
    right.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    _pystem_option(right)
    rapids = works.add_parser("cuml", help="PCA and k-means on a GPU: gpuseg's own beside cuML's")
    rapids.set_defaults(work=speed, case=["learning-*"])
    _run_options(rapids, rounds=5)
    _pystem_option(rapids)
    rapids.set_defaults(device="cuda")
    roof = works.add_parser("roofline", help="how near each stage comes to the machine's own limits")
    roof.set_defaults(work=roofline)
    roof.add_argument("--size", type=positive, default=1024, help="side of the image (default: 1024)")
    _run_options(roof, rounds=5)
    curves = works.add_parser("studies", help="time and accuracy against one variable at a time")
    curves.set_defaults(work=studies)
    curves.add_argument(
        "--study", type=study, action="append", default=[], metavar="GLOB", help="only these; repeatable"
    )
    _run_options(curves, rounds=3)
    tries = works.add_parser("questions", help="on a GPU: constants, shares and choices of the kernels")
    tries.set_defaults(work=questions)
    _run_options(tries, rounds=5)
    every = works.add_parser("gpu", help="everything worth knowing of a GPU, in order of importance")
    every.set_defaults(work=gpu)
    every.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where everything goes")
    every.add_argument(
        "--step", action="append", default=[], metavar="GLOB", help="only these steps; repeatable"
    )
    every.add_argument("--minutes", type=positive, default=20, help="for all of it (default: 20)")
    every.add_argument("--quick", action="store_true", help="small pictures: does it all run?")
    show = works.add_parser("table", help="Markdown tables of JSON files made by --json")
    show.set_defaults(work=table)
    show.add_argument("files", type=results_file, nargs="+", metavar="FILE.json")
    one = works.add_parser("report", help="one page with figures from JSON files of any machines")
    one.set_defaults(work=page)
    one.add_argument(
        "files", type=results_file, nargs="*", metavar="FILE.json", help="default: all of benchmarks/results"
    )
    one.add_argument(
        "--out", type=Path, default=PAGE, metavar="FOLDER", help="where report.md and its figures go"
    )
    names = works.add_parser("list", help="the cases, with what each asks")
    names.set_defaults(work=list_cases)
    return top


def _run_options(command: argparse.ArgumentParser, rounds: int) -> None:
    command.add_argument(
        "--rounds", type=positive, default=rounds, help=f"timed rounds after the warm-up (default: {rounds})"
    )
    command.add_argument("--device", choices=DEVICES, help="only this device (default: both)")
    command.add_argument("--quick", action="store_true", help="small pictures, 2 rounds: does it all run?")
    command.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")


def _pystem_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--pystem",
        type=Path,
        metavar="FOLDER",
        default=Path(os.environ.get("PYSTEM_ENV", DEFAULT_FOLDER)),
        help="environment made by benchmarks/pystem_env.sh (default: $PYSTEM_ENV, else .venv-pystem)",
    )


def _speed_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--case",
        type=pattern,
        action="append",
        default=[],
        metavar="GLOB",
        help="only these cases; repeatable",
    )
    _run_options(command, rounds=7)
    _pystem_option(command)


def positive(text: str) -> int:
    """A number of rounds."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def pattern(text: str) -> str:
    """A shell pattern that some case matches."""
    if not chosen([text]):
        names = ", ".join(case.name for case in CASES)
        raise argparse.ArgumentTypeError(f"no case is called {text!r}; there are: {names}")
    return text


def study(text: str) -> str:
    """A shell pattern that some study matches."""
    from .studies import STUDIES, chosen

    if not chosen([text]):
        names = ", ".join(each.name for each in STUDIES)
        raise argparse.ArgumentTypeError(f"no study is called {text!r}; there are: {names}")
    return text


def results_file(text: str) -> Path:
    """A file that ``--json`` made."""
    try:
        found = json.loads(Path(text).read_text())
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read as JSON: {error}") from None
    if not isinstance(found, dict) or not {"machine", "device", "versions"} <= found.keys():
        raise argparse.ArgumentTypeError(
            f"{text!r} holds no run; make one: python -m benchmarks --json {text}"
        )
    return Path(text)


def folder(text: str) -> Path:
    """A folder that is there."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no folder")
    return Path(text)


@contextmanager
def reference(folder: Path) -> Iterator[Pystem | None]:
    """A live pystem, or None with a word on standard error where it is not installed."""
    try:
        pystem = Pystem(folder)
    except PystemError as error:
        print(f"pystem is not measured: {error}", file=sys.stderr)
        yield None
        return
    with pystem:
        yield pystem


def preamble(pystem: Pystem | None) -> dict[str, Any]:
    """What every JSON file begins with: versions, machine and device."""
    from . import machine

    here = machine.describe()
    if here["load_before"] is not None and here["load_before"] > report.BUSY * here["cores"]:
        print(f"the machine is busy (load {here['load_before']:.2f}): times will be poor", file=sys.stderr)
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": machine.versions(),
        "pystem": pystem.versions if pystem else {},
        "machine": here,
        "device": machine.device(),
    }


def speed(options: argparse.Namespace) -> int:
    """Time the chosen cases on the devices there are; 1 if one of them broke off."""
    from . import learning
    from .speed import measure

    rounds = 2 if options.quick else options.rounds
    broken = False
    with reference(options.pystem) as pystem:
        results = {**preamble(pystem), "rounds": rounds, "quick": options.quick, "cases": []}
        for case in chosen(options.case):
            for device in case.devices:
                if options.device not in (None, device):
                    continue
                try:
                    found = measure(case, device, pystem, rounds, results, options.quick)
                except Exception as error:  # the other cases are still wanted
                    traceback.print_exc()
                    broken = True
                    reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                    found = {"name": case.name, "device": device, "picture": "?", "not_measured": reason}
                results["cases"].append(found)
                keep(results, options.json)
    print(learning.verdict(results["cases"]), end="")
    return int(broken)


def roofline(options: argparse.Namespace) -> int:
    """Measure every stage beside what the machine could do."""
    from . import roofline as stages

    size, rounds = (128, 2) if options.quick else (options.size, options.rounds)
    results = {**preamble(None), "rounds": rounds, "quick": options.quick, "roofline": []}
    devices = (options.device,) if options.device else DEVICES
    for row in stages.measure(devices, size, rounds, options.quick):
        results["roofline"].append(row)
        print(stages.line(row), flush=True)
        keep(results, options.json)
    return 0


def studies(options: argparse.Namespace) -> int:
    """Measure the chosen studies on the devices there are."""
    from . import studies as curves

    rounds = 1 if options.quick else options.rounds
    results = {**preamble(None), "rounds": rounds, "quick": options.quick, "studies": []}
    for each in curves.chosen(options.study):
        for device in each.devices:
            if options.device not in (None, device):
                continue
            print(f"{each.name} on {device}: {each.what}", flush=True)
            if device == "cuda" and not results["device"]["usable"]:
                reason = results["device"]["reason"]
                print(f"  not measured: {reason}")
                results["studies"].append({"name": each.name, "device": device, "not_measured": reason})
                continue
            found = curves.measure(each, device, rounds, options.quick)
            results["studies"].append(found)
            print("\n".join(curves.lines(found)), flush=True)
            keep(results, options.json)
    return 0


def questions(options: argparse.Namespace) -> int:
    """Try what can only be tried on a GPU; 2 where there is none."""
    from gpuseg import arrays

    from . import questions as asked

    if not _gpu_is_there():
        return 2
    size, radius, rounds = (128, 8, 2) if options.quick else (1024, 20, options.rounds)
    results = {**preamble(None), "rounds": rounds, "quick": options.quick, "questions": []}
    for row in asked.measure(asked.Bench(size, radius, arrays.resolve_device("cuda")), rounds):
        results["questions"].append(row)
        print(asked.line(row), flush=True)
        keep(results, options.json)
    return 0


def gpu(options: argparse.Namespace) -> int:
    """Run every step; 1 if one of them did not pass, 2 where there is no GPU."""
    from . import gpu as everything

    if not _gpu_is_there():
        return 2
    out = options.out.resolve()
    plan = everything.chosen(everything.steps(out, options.quick), options.step)
    if not plan:
        print(f"no step is called {options.step}; there are: {everything.names()}", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    results = {**preamble(None), "quick": options.quick, "steps": []}

    def each(found: list[dict[str, Any]]) -> None:
        results["steps"] = found
        report.write(out / "gpu.json", results)

    found = everything.run(plan, out, 60.0 * options.minutes, each)
    runs = {path.stem: json.loads(path.read_text()) for path in sorted(out.glob("*.json"))}
    text = "\n\n".join([report.heading(results), everything.table(found), goals.table(runs, "cuda")])
    (out / "summary.md").write_text(text + "\n")
    print(text)
    return int(any(row["outcome"] != "passed" for row in found))


def _gpu_is_there() -> bool:
    from gpuseg import arrays

    usable, reason = arrays.gpu_status()
    if not usable:
        print(f"no GPU can be used: {reason}", file=sys.stderr)
    return usable


def accuracy(options: argparse.Namespace) -> int:
    """Measure how right gpuseg and pystem are."""
    from . import accuracy as figures

    with reference(options.pystem) as pystem:
        results = {**preamble(pystem), "gpuseg_device": options.device, "accuracy": []}
        for row in figures.rows(options.shared, pystem, options.device):
            results["accuracy"].append(vars(row))
            beside = "" if row.pystem is None else f"   pystem {row.pystem:.4g}"
            met = {True: "   met", False: "   NOT MET", None: ""}[row.met]
            print(f"{row.case}: {row.measure} {row.gpuseg:.4g}{beside}   {row.wanted}{met}", flush=True)
            keep(results, options.json)
    return 0


def keep(results: dict[str, Any], path: Path | None) -> None:
    """Write what there is so far, if a file is wanted: a run that breaks off keeps its finished cases."""
    if path is not None:
        report.write(path, results)


def table(options: argparse.Namespace) -> int:
    """Print Markdown."""
    print("\n\n".join(report.table(json.loads(path.read_text())) for path in options.files))
    return 0


def page(options: argparse.Namespace) -> int:
    """Write the page; 2 if there is nothing to write it from."""
    from . import page as pages

    files = options.files or sorted(RESULTS.glob("*.json"))
    if not files:
        print(f"no JSON file is given and {RESULTS} holds none; make one with --json", file=sys.stderr)
        return 2
    runs = {path.stem: json.loads(path.read_text()) for path in files}
    print(f"wrote {pages.write(runs, options.out)}")
    return 0


def list_cases(options: argparse.Namespace) -> int:
    """Print the cases."""
    for case in CASES:
        print(f"{case.name:<20} {case.what}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 2 for arguments that make no sense."""
    options = parser().parse_args(arguments)
    return options.work(options)


if __name__ == "__main__":
    sys.exit(main())
