"""Results as text: one line per row while it runs, JSON to keep, Markdown to show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import goals, gpu, learning, questions, roofline, studies
from .goals import MET
from .timing import Row, digits

BUSY = 0.25
"""Load per core before a run, above which its times are not to be trusted."""


def row_to_json(row: Row) -> dict[str, Any]:
    """A row as plain data."""
    return {
        "stage": row.stage,
        "contender": row.contender,
        "unit": row.unit,
        "median": row.median,
        "least": min(row.values),
        "largest": max(row.values),
        "values": list(row.values),
        "baseline": row.baseline,
        "ratio": row.ratio,
        "ratio_band": row.ratio_band,
    }


def write(path: str | Path, results: dict[str, Any]) -> None:
    """Write the results as JSON."""
    Path(path).write_text(json.dumps(results, indent=1, default=float) + "\n")


def line(row: dict[str, Any]) -> str:
    """A row for the terminal."""
    who = f"  {row['stage']:<40} {row['contender']:<24}"
    return f"{who} {amount(row):>10}  {_spread(row):>20}  {_ratio(row)}"


def table(results: dict[str, Any]) -> str:
    """The Markdown tables of a JSON file: of all that was measured in one run."""
    every = cases, rooflines, curves, accuracy, steps, trials
    parts = [heading(results), *(part(results) for part in every)]
    return "\n\n".join(part for part in parts if part)


def cases(results: dict[str, Any]) -> str:
    """The timed cases, how right they were, and their goals; "" where there are none."""
    found = results.get("cases", [])
    if not found:
        return ""
    text = [
        "| case | device | stage | who | median | min to max | faster than baseline (band) |",
        "|---|---|---|---|---:|---:|---|",
    ]
    for case in found:
        name = f"{case['name']} ({case.get('picture') or '{size}x{size}'.format(**case)})"
        if "not_measured" in case:
            text.append(f"| {name} | {case['device']} | | | not measured | | {case['not_measured']} |")
        for other, reason in case.get("absent", {}).items():
            text.append(f"| {name} | {case['device']} | | {other} | not measured | | {reason} |")
        for row in case.get("rows", []):
            who = f"| {name} | {case['device']} | {row['stage']} | {row['contender']}"
            text.append(f"{who} | {amount(row)} | {_spread(row)} | {_ratio(row)} |")
    return "\n".join([*text, *_rightness(results), *_goals(results), "", learning.verdict(found)]).rstrip()


def rooflines(results: dict[str, Any]) -> str:
    """The stages beside the machine's limits; "" where there are none."""
    return roofline.table(results) if results.get("roofline") else ""


def curves(results: dict[str, Any]) -> str:
    """The studies; "" where there are none."""
    text = []
    for study in results.get("studies", []):
        title = f"{study['name']} on {study['device']}"
        if "not_measured" in study:
            text.append(f"{title}: not measured ({study['not_measured']}).")
            continue
        fitted = f" {studies.exponent_in_words(study).capitalize()}." if study["exponent"] else ""
        text += [f"{title}: {study['what']}.{fitted}", studies.table({"": study})]
    return "\n\n".join(text)


def heading(results: dict[str, Any]) -> str:
    """The machine, the versions, and a warning where the run was a trial or the machine was busy."""
    busy = results["machine"].get("load_before")
    warnings = []
    if results.get("quick"):
        warnings.append("**A quick trial on small pictures, not to be quoted.**")
    if busy is not None and busy > BUSY * results["machine"]["cores"]:
        warnings.append(f"**Noisy: the machine was busy (load {busy:.1f} before the run).**")
    return " ".join([_machine(results), *warnings])


def _machine(results: dict[str, Any]) -> str:
    machine, device = results["machine"], results["device"]
    gpus = ", ".join(gpu["name"] for gpu in device["devices"]) or f"no GPU ({device['reason']})"
    packages = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    reference = results.get("pystem", {})
    other = ", ".join(f"{name} {number}" for name, number in reference.items()) or "not there"
    rounds = f" {results['rounds']} rounds." if "rounds" in results else ""
    return (
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gb']:.0f} GB, {gpus}."
        f"{_pools(machine)}{rounds} gpuseg's environment: {packages}. pystem's: {other}."
    )


def _pools(machine: dict[str, Any]) -> str:
    pools = machine.get("thread_pools", [])
    return f" Libraries with threads: {', '.join(pools)}." if pools else ""


def machine_name(results: dict[str, Any], device: str) -> str:
    """What a device of a run is, in few words."""
    if device.startswith("cuda"):
        return ", ".join(gpu["name"] for gpu in results["device"]["devices"]) or "a GPU"
    return f"{results['machine']['cores']} cores of {results['machine']['processor']}"


def steps(results: dict[str, Any]) -> str:
    """What was run on a GPU, one process each; "" where it was not asked."""
    return gpu.table(results["steps"]) if results.get("steps") else ""


def trials(results: dict[str, Any]) -> str:
    """What was tried on a GPU; "" where it was not asked."""
    return questions.table(results["questions"]) if results.get("questions") else ""


def _rightness(results: dict[str, Any]) -> list[str]:
    lines = [
        f"| {case['name']} | {case['device']} | {who} | {measure} | {_number(value)} |"
        for case in results.get("cases", [])
        for who, measures in case.get("rightness", {}).items()
        for measure, value in measures.items()
    ]
    head = ["", "How right, in the same run:", ""]
    head += ["| case | device | who | measure | value |", "|---|---|---|---|---:|"]
    return head + lines if lines else []


def _goals(results: dict[str, Any]) -> list[str]:
    lines = [
        f"| {case['name']} | {case['device']} | {goals.described(goal)} | {goals.in_words(goal)} | "
        f"{goal['reached']:.3g} | {MET[goal['met']]} |"
        for case in results.get("cases", [])
        for goal in case.get("goals", [])
    ]
    head = ["", "| case | device | what | wanted | reached | met |", "|---|---|---|---|---:|---|"]
    return head + lines if lines else []


def accuracy(results: dict[str, Any]) -> str:
    """How right both packages are; "" where it was not asked."""
    lines = [
        f"| {row['case']} | {row['measure']} | {_number(row['gpuseg'])} | {_number(row['pystem'])} "
        f"| {row['wanted']} | {MET[row['met']]} |"
        for row in results.get("accuracy", [])
    ]
    head = ["| case | measure | gpuseg | pystem | wanted | met |", "|---|---|---:|---:|---|---|"]
    return "\n".join(head + lines) if lines else ""


def amount(row: dict[str, Any]) -> str:
    """The median with its unit."""
    return f"{_scaled(row['median'], row)} {_unit(row)}"


def _spread(row: dict[str, Any]) -> str:
    return f"{_scaled(row['least'], row)} to {_scaled(row['largest'], row)}"


def _ratio(row: dict[str, Any]) -> str:
    if row["ratio"] is None:
        return ""
    low, high = row["ratio_band"]
    return f"{digits(row['ratio'])} x {row['baseline']} ({digits(low)} to {digits(high)})"


def _unit(row: dict[str, Any]) -> str:
    return "ms" if row["unit"] == "s" and row["median"] < 1 else row["unit"]


def _scaled(value: float, row: dict[str, Any]) -> str:
    return digits(value * 1000 if _unit(row) == "ms" else value)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1e}" if 0 < abs(value) < 1e-2 else f"{value:.4f}"
