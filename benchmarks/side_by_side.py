"""gpuseg's own figures of every machine side by side, one column each."""

from __future__ import annotations

from typing import Any

from . import report
from .cases import CASES
from .goals import OWN

NO_GPU = "a GPU"


def table(runs: dict[str, dict[str, Any]]) -> str:
    """Median of each stage of each case on each machine, in Markdown.

    Parameters
    ----------
    runs : dict
        Of JSON files, by name. Quick trials do not count; of several runs on a machine the newest does. On a
        GPU the image and the labels stay there.

    Returns
    -------
    str
        With a column for a GPU in any case; "" if nothing was measured at all.
    """
    machines: dict[str, None] = {}
    found: dict[tuple[str, str], dict[str, str]] = {}
    for run in sorted(runs.values(), key=lambda each: each.get("when", "")):
        for case in [] if run.get("quick") else run.get("cases", []):
            for row in case.get("rows", []):
                if row["contender"] == OWN[case["device"]]:
                    machine = report.machine_name(run, case["device"])
                    machines[machine] = None
                    found.setdefault((case["name"], row["stage"]), {})[machine] = report.amount(row)
    if not found:
        return ""
    if not any(each["device"]["usable"] for each in runs.values()):
        machines[NO_GPU] = None
    names = list(machines)
    text = [f"| case | stage | {' | '.join(names)} |", "|---|---|" + "---:|" * len(names)]
    order = {case.name: k for k, case in enumerate(CASES)}
    for name, stage in sorted(found, key=lambda key: order.get(key[0], len(order))):
        values = [found[name, stage].get(machine, "not measured") for machine in names]
        text.append(f"| {name} | {stage} | {' | '.join(values)} |")
    return "\n".join(text)
