"""One page of everything measured: Markdown and figures, from the JSON files of runs on any machines.

Nothing is measured here and no figure stands on the page that is in no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import goals, report, side_by_side, studies

Runs = dict[str, dict[str, Any]]
"""Name of a file -> what it holds."""

SECTIONS: tuple[tuple[str, str, Callable[[dict[str, Any]], str]], ...] = (
    ("Against other packages", "Ratios of medians, with their band over the rounds.", report.cases),
    (
        "Against the machine's own limits",
        "The limit of a stage is the time its bytes take at the speed of a large copy, or its multiply-adds "
        "at the rate of matrix products, whichever is longer; both were measured in the same run.",
        report.rooflines,
    ),
    ("How right", "Beside pySTEM where it was there.", report.accuracy),
    (
        "Checked on a GPU",
        "Each step is a process with a time limit; compute-sanitizer watches every kernel.",
        report.steps,
    ),
    ("Tried on a GPU", "The numbers are those of the questions in benchmarks/README.md.", report.trials),
)
WIDTH, HEIGHT, DPI = 6.0, 3.8, 110


def write(runs: Runs, folder: Path) -> Path:
    """Write ``report.md`` and its figures.

    Parameters
    ----------
    runs : dict
        Of JSON files, by name.
    folder : Path
        Is made if it is not there.

    Returns
    -------
    Path
        Of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = ["# gpuseg measured", *_machines(runs)]
    text += ["## Asked and measured", "The newest run that has the figure.", goals.table(runs)]
    beside = side_by_side.table(runs) or "Not measured."
    text += ["## CPU and GPU side by side", "Medians; on a GPU, image and labels stay there.", beside]
    for title, intro, part in SECTIONS:
        found = [f"**{name}**\n\n{part(run)}" for name, run in runs.items() if part(run)]
        text += [f"## {title}", intro, *(found or ["Not measured."])]
        if part is report.rooflines and found:
            text += _reached(runs, folder)
    text += _curves(runs, folder)
    path = folder / "report.md"
    path.write_text("\n\n".join(text) + "\n")
    return path


def _machines(runs: Runs) -> Iterator[str]:
    yield "Made by `python -m benchmarks report` from the files below; every figure comes from one of them."
    yield "\n".join(f"- **{name}**: {report.heading(run)}" for name, run in runs.items())
    if not any(run["device"]["usable"] for run in runs.values()):
        yield "On a GPU: not measured; no file comes from a machine with one."


def _reached(runs: Runs, folder: Path) -> Iterator[str]:
    """A bar for each stage of each run: the share of the limit."""
    for name, run in runs.items():
        rows = [row for row in run.get("roofline", []) if "reached" in row]
        if not rows:
            continue
        figure, axes = _figure(0.28 * len(rows) + 1)
        labels = [f"{row['stage']}, {row['device']}, {row['shapes']}" for row in rows]
        colours = ["C0" if row["bound"] == "bytes" else "C1" for row in rows]
        axes.barh(range(len(rows)), [row["reached"] for row in rows], color=colours)
        axes.set_yticks(range(len(rows)), labels, fontsize=6)
        axes.invert_yaxis()
        figure.supxlabel(
            "share of the limit that was reached; limit by bytes (blue) or arithmetic (orange)", size=8
        )
        yield _saved(figure, folder, f"roofline-{name}", f"Share of the machine's limit, {name}")


def _curves(runs: Runs, folder: Path) -> Iterator[str]:
    """Every study with a figure and a table that hold the curves of all machines side by side."""
    yield "## One thing at a time"
    measured_too = (study["name"] for run in runs.values() for study in run.get("studies", []))
    for name in dict.fromkeys([*(study.name for study in studies.STUDIES), *measured_too]):
        found = {
            f"{report.machine_name(run, study['device'])} ({file})": study
            for file, run in runs.items()
            for study in run.get("studies", [])
            if study["name"] == name
        }
        measured = {label: study for label, study in found.items() if "points" in study}
        devices = {study["device"].partition(":")[0] for study in measured.values()}
        wanted = [study.devices for study in studies.STUDIES if study.name == name]
        if measured:
            yield from _study(name, measured, folder)
        else:
            yield f"### {name}\n\nNot measured."
        if measured and "cuda" in (wanted[0] if wanted else ()) and "cuda" not in devices:
            yield "On a GPU: not measured."


def _study(name: str, measured: dict[str, dict[str, Any]], folder: Path) -> Iterator[str]:
    first = next(iter(measured.values()))
    redone = f" The paper's {first['figure']} redone." if first["figure"] else ""
    yield f"### {name}\n\n{first['what'][0].upper()}{first['what'][1:]}.{redone}"
    yield _saved(_curve(measured), folder, f"study-{name}", f"{name}: time against {first['x']}")
    exponents = {label: study for label, study in measured.items() if study["exponent"]}
    fitted = [f"- {label}: {studies.exponent_in_words(study)}." for label, study in exponents.items()]
    yield "\n".join([*fitted, "", studies.table(measured)]).strip()


def _curve(measured: dict[str, dict[str, Any]]) -> Any:
    """Time against x, logarithmic; beside it accuracy, where it was measured."""
    figure, axes = _figure(HEIGHT)
    right = None
    for k, (label, study) in enumerate(measured.items()):
        points = study["points"]
        x = [point["x"] for point in points]
        axes.loglog(x, [point["median"] * 1e3 for point in points], "o-", color=f"C{k}", label=label)
        axes.fill_between(
            x, *([pick(p["values"]) * 1e3 for p in points] for pick in (min, max)), color=f"C{k}", alpha=0.2
        )
        if points[0]["accuracy"] is not None:
            right = right or axes.twinx()
            right.plot(x, [point["accuracy"] for point in points], "s--", color=f"C{k}", mfc="none")
            right.set_ylabel("adjusted Rand index (dashed)")
    axes.set_xlabel(study["x"])
    axes.set_ylabel("ms")
    axes.legend(fontsize=6, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.3)  # above the curves
    return figure


def _figure(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure((WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _saved(figure: Any, folder: Path, name: str, what: str) -> str:
    """Markdown that shows the figure."""
    figure.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
    return f"![{what}]({name}.png)"
