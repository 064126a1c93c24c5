"""How long a quick look at all of the paper's tables and figures takes, from the raw data.

Everything else is done by `aqcl reproduce all --quick`: data sets prepared, methods tuned and
trained, tables and figures written. Data that has no copy yet is fetched or simulated before.
Amazon Beauty needs a file, and is left out.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.part import Better
from benchmarks.stages import run_stage

RATIOS: dict[str, Better] = {}
"""Once measured, it is not measured again by a quick check."""
COMMAND = ("reproduce", "all", "--quick")


def measure(full: bool, work: Path) -> dict[str, Any]:
    """Time and memory of the whole command; nothing unless `full`."""
    if not full:
        return {"skipped": "takes minutes: --full"}
    out = work / "reproduction"
    shutil.rmtree(out, ignore_errors=True)  # what is there would not be done again
    cli = ("-c", "from aqcl.cli import main; main()")
    found, usage = run_stage([*cli, *COMMAND, "--out", out, "--json"])
    return {"command": f"aqcl {' '.join(COMMAND)}", **usage.to_json(), **cells(found)}


def cells(outcomes: Mapping[str, Any]) -> dict[str, int]:
    """How many cells of comparisons there are, and how many of them have finished."""
    states = [
        state
        for outcome in outcomes.values()
        for comparison in outcome["comparisons"]
        for state in comparison["cells"].values()
    ]
    return {"cells": len(states), "finished": states.count("finished")}


def lines(outcome: Mapping[str, Any]) -> list[str]:
    """For the terminal."""
    return [
        f"  {outcome['command']}: {outcome['wall_seconds'] / 60:.1f} min, "
        f"{outcome['peak_anon_mib']:.0f} MiB, {outcome['finished']} of {outcome['cells']} cells"
    ]
