"""What numbers of a table or figure are of: rows, protocol, and what made them."""

from collections.abc import Mapping
from typing import Any

from aqcl.activity import GROUPS
from aqcl.evaluate import ALL
from aqcl.reproduce.specs import CORNERS

SHOWN = 12
"""Characters of a fingerprint."""


def rows_told(comparison: Mapping[str, Any], outcome: Mapping[str, Any]) -> str:
    """Fields, protocol, test rows of each group, and the state of the code of the runs.

    Args:
        comparison: one that has a result.
        outcome: that it is of.
    """
    corner = CORNERS[comparison["corner"]]
    protocol = dict(outcome["datasets"][comparison["dataset"]].get("protocol", {}))
    if protocol.get("labels") == "sampled":
        protocol |= corner.get("negatives", {})
    fields = "Ids alone" if "fields" in corner else "Ids and attributes"
    told = ", ".join(f"{key} {value}" for key, value in protocol.items())
    found = comparison["comparison"]
    low, high = found["thresholds"]
    of_groups = (f"up to {low:,} clicks", f"up to {high:,}", f"above {high:,}")
    bounds = {ALL: "", **{name: f", {b}" for name, b in zip(GROUPS, of_groups, strict=True)}}
    rows = {r["group"]: r for r in found["rows"] if r["configuration"] == comparison["base"]}
    counts = "; ".join(
        f"{name}{bounds[name]}: {row['rows']:,} ({row['positives']:,})"
        for name, row in rows.items()
    )
    return f"{fields}; protocol: {told}. Test rows (clicks), {counts}. {_code_told(comparison)}"


def _code_told(comparison: Mapping[str, Any]) -> str:
    known = dict.fromkeys(run.get("code") or "one not recorded" for run in comparison["runs"])
    if len(known) == 1:
        return f"State of the code that trained: {next(iter(known))}."
    return (
        f"States of the code that trained: {', '.join(known)}; where these differ, so may the last "
        "digits of sums."
    )


def made_by(outcome: Mapping[str, Any]) -> str:
    """The command, the versions, and the fingerprints of the data sets."""
    prints = "; ".join(
        f"{facts['title']} {facts['fingerprint'][:SHOWN]}"
        for facts in outcome["datasets"].values()
        if "fingerprint" in facts
    )
    return (
        f"Made by: {outcome['command']}; last gathered by aqcl {outcome['version']} with torch "
        f"{outcome['torch']}. Fingerprints of the data sets: {prints or 'none is there yet'}."
    )
