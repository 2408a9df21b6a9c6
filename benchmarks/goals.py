"""What is asked of gpuseg, beside what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .cases import CASES, Case, Goal

OWN = {"cpu": "gpuseg", "cuda": "gpuseg cuda, resident"}
"""Whose figures count where a goal names nobody: on a GPU, image and labels stay there."""
MET = {True: "yes", False: "**no**", None: ""}


def reached(goals: tuple[Goal, ...], measured: dict[str, Any], device: str) -> list[dict[str, Any]]:
    """Each goal that was measured, with the figure and whether it is enough.

    Parameters
    ----------
    goals : tuple of Goal
    measured : dict
        A case as JSON holds it, with "rows" and "rightness".
    device : {"cpu", "cuda"}

    Returns
    -------
    list of dict
    """
    found = []
    for goal in goals:
        value = _value(goal, measured, goal.who or OWN[device])
        if value is not None:
            met = value <= goal.value if goal.kind == "at most" else value >= goal.value
            found.append({**vars(goal), "reached": value, "met": met})
    return found


def _value(goal: Goal, measured: dict[str, Any], who: str) -> float | None:
    right = measured.get("rightness", {}).get(who, {})
    if goal.kind != "ratio" and goal.stage in right:
        return right[goal.stage]
    for row in measured.get("rows", []):
        if (row["contender"], row["stage"]) == (who, goal.stage):
            return row["ratio" if goal.kind == "ratio" else "median"]
    return None


def described(goal: dict[str, Any]) -> str:
    """What it is asked of: a stage or a measure, and whose if not gpuseg's."""
    return f"{goal['stage']}, {goal['who']}" if goal.get("who") else goal["stage"]


def in_words(goal: dict[str, Any]) -> str:
    """What is asked: "at most 0.005"."""
    bound = f"{goal['value']:g}"
    return f"ratio at least {bound}" if goal["kind"] == "ratio" else f"{goal['kind']} {bound}"


def table(runs: dict[str, dict[str, Any]], only: str = "") -> str:
    """What is asked of gpuseg beside the newest figure of any run, in Markdown; else "not measured".

    Parameters
    ----------
    runs : dict
        Of JSON files, by name. Quick trials do not count.
    only : str
        The device, if not all.
    """
    head = ["| case | device | what | asked | measured | met | run |", "|---|---|---|---|---:|---|---|"]
    return "\n".join([*head, *(line for case in CASES for line in _lines(case, runs, only))])


def _lines(case: Case, runs: dict[str, dict[str, Any]], only: str) -> Iterator[str]:
    for device in [each for each in case.devices if only in ("", each)]:
        for goal in [each for each in case.goals_on(device) if not each.who]:
            found = "not measured", "", ""
            for name, run in sorted(runs.items(), key=lambda each: each[1].get("when", ""), reverse=True):
                hit = [] if run.get("quick") else _hits(case, goal, device, run)
                if hit:
                    found = f"{hit[0]['reached']:.3g}", MET[hit[0]["met"]], name
                    break
            yield f"| {case.name} | {device} | {goal.stage} | {in_words(vars(goal))} | {' | '.join(found)} |"


def _hits(case: Case, goal: Goal, device: str, run: dict[str, Any]) -> list[dict[str, Any]]:
    measured = [
        each for each in run.get("cases", []) if (each["name"], each["device"]) == (case.name, device)
    ]
    return [found for each in measured for found in reached((goal,), each, device)]
