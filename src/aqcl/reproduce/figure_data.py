"""What figures show besides comparisons, as plain data: activity and curves of alpha."""

import json
from typing import Any

import numpy as np

from aqcl.dataset import open_dataset
from aqcl.describe import FINDINGS
from aqcl.reproduce.cells import Scope, place_of, tuned_cell, winner_of
from aqcl.reproduce.specs import TUNED, Specs
from aqcl.storage import MANIFEST

SEARCHED = ("regularizer.aqcl.w1", "regularizer.aqcl.w2")


def activity_of(specs: Specs, scope: Scope, key: str) -> dict[str, Any] | None:
    """How many users have how many clicks at their first test row, by which they are grouped.

    None where the data is not prepared.
    """
    place = place_of(scope, key, TUNED)
    if not (place.prepared / MANIFEST).exists():
        return None
    dataset = open_dataset(place.prepared)
    columns = dataset.test.columns
    _, first = np.unique(columns["user"], return_index=True)
    clicks, users = np.unique(columns["history_length"][first], return_counts=True)
    return {
        "clicks": clicks.tolist(),
        "users": users.tolist(),
        "thresholds": list(dataset.thresholds),
    }


def alphas_of(specs: Specs, scope: Scope, key: str) -> dict[str, Any] | None:
    """The w1 and w2 that the study of AQCL met and chose; None before it has ended."""
    place = place_of(scope, key, TUNED)
    cell = tuned_cell(specs, place, "AQCL")
    if winner_of(cell) is None:
        return None
    findings = place.study(cell.study) / FINDINGS
    table = json.loads(findings.read_text(encoding="utf-8"))["methods"]["AQCL"]
    trials = [
        {"w1": w1, "w2": w2, "valid": trial["value"]}
        for trial in table["trials"]
        if trial["value"] is not None
        for w1, w2 in [tuple(trial["parameters"][name] for name in SEARCHED)]
    ]
    w1, w2 = (table["best"]["parameters"][name] for name in SEARCHED)
    return {"w1": w1, "w2": w2, "trials": trials}
