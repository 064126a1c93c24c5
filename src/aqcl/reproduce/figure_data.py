"""What figures show besides comparisons, as plain data: activity, curves of alpha, latents."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from aqcl.dataset import open_dataset
from aqcl.errors import ConfigError
from aqcl.latents import (
    choose_rows,
    clusters,
    encode_rows,
    load_interests,
    load_model,
    separation,
    tsne,
)
from aqcl.reproduce.cells import Scope, place_of, study_of, tuned_cell
from aqcl.reproduce.jobs import job_of
from aqcl.reproduce.pictures import FIRST_SEED
from aqcl.reproduce.specs import TUNED, Specs
from aqcl.runs import is_finished, open_run

MOST_LATENTS = 3000
"""Rows of figure 6."""
SEARCHED = ("regularizer.aqcl.w1", "regularizer.aqcl.w2")


def activity_of(specs: Specs, scope: Scope, key: str) -> dict[str, Any] | None:
    """How many users have how many clicks at their first test row, by which they are grouped.

    None where the data is not prepared.
    """
    place = place_of(scope, key, TUNED)
    if not place.is_prepared:
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
    """The w1 and w2 that the study of AQCL met and chose; None before it has ended.

    An earlier study that stands in for it has left those that it chose alone.
    """
    study = study_of(specs, place_of(scope, key, TUNED), "AQCL")
    known, found = study.record(), study.findings()
    if known is None:
        return None
    table = known[1]["methods"][study.method]
    trials = found[1]["methods"][study.method]["trials"] if found else []
    met = [
        {**_searched(trial), "valid": trial["value"]}
        for trial in trials
        if trial["value"] is not None
    ]
    return {**_searched(table), "trials": met}


def _searched(found: Mapping[str, Any]) -> dict[str, Any]:
    """`w1` and `w2` of a trial or a winner."""
    return {key.rpartition(".")[2]: found["parameters"][key] for key in SEARCHED}


def latents_of(specs: Specs, scope: Scope, key: str) -> dict[str, Any] | None:
    """Latents of DIN and of AQCL in the plane, with AQCL's interest of each row.

    Validation rows; the first seed of each. None before both have been trained.
    """
    place = place_of(scope, key, TUNED)
    jobs = {
        name: job_of(tuned_cell(specs, place, name), seed=FIRST_SEED) for name in ("DIN", "AQCL")
    }
    folders = {name: job.out for name, job in jobs.items() if job and is_finished(job.out)}
    if len(folders) < len(jobs):
        return None
    dataset = open_dataset(place.prepared)
    rows = choose_rows(np.arange(len(dataset.valid)), MOST_LATENTS)
    runs = {name: open_run(folder) for name, folder in folders.items()}
    latent = {
        name: encode_rows(
            load_model(run, dataset), dataset.valid, rows, run.experiment.train.max_history
        )
        for name, run in runs.items()
    }
    try:
        interest = load_interests(runs["AQCL"], dataset).nearest(latent["AQCL"])
        separated = {
            name: {
                "by interests of AQCL": asdict(separation(found, interest)),
                "by its own clusters": asdict(
                    separation(found, clusters(found, len(np.unique(interest))))
                ),
            }
            for name, found in latent.items()
        }
    except ConfigError as error:  # a quick look may be too short for a codebook
        return {"missing": str(error).removeprefix(f"{runs['AQCL'].path}: ")}
    return {
        "rows": len(rows),
        "interest": interest.tolist(),
        "points": {name: tsne(found).round(2).tolist() for name, found in latent.items()},
        "separation": separated,
    }
