"""What has been found: outcomes of tables and figures as plain data, from whatever has finished."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from aqcl import __version__
from aqcl.assessment import assess, predictions_of
from aqcl.comparison import measure
from aqcl.dataset import open_dataset
from aqcl.evaluate import ALL, evaluate
from aqcl.reproduce.cells import (
    Cell,
    Problems,
    Scope,
    Study,
    comparisons_of,
    place_of,
    studies_of,
)
from aqcl.reproduce.figure_data import activity_of, alphas_of, latents_of
from aqcl.reproduce.jobs import job_of
from aqcl.reproduce.specs import TUNED, WHOLE, ComparisonSpec, Specs
from aqcl.reproduce.states import FINISHED, NOT_RUN
from aqcl.runs import Run, is_finished
from aqcl.yardsticks import yardstick_predictions

GROUP_NAMES = (ALL, "non-active", "slightly-active", "highly-active")
"""Of the numbers that the paper prints, in its order."""
WORDS = {"better": "yes", "worse": "no, the opposite", "no difference shown": "not shown"}
"""What a verdict on a method says of a claim for it."""


def gather(
    specs: Specs,
    scope: Scope,
    name: str,
    datasets: tuple[str, ...],
    problems: Problems,
) -> dict[str, Any]:
    """The outcome of a table or figure; cells that have not finished say so.

    Args:
        specs: of everything.
        scope: of this command.
        name: of the table or figure.
        datasets: only these; all if empty.
        problems: what could not be done.
    """
    spec = specs.experiments[name]
    chosen = [key for key in spec.datasets if not datasets or key in datasets]
    comparisons = [
        _comparison(specs, scope, comparison, dataset, cells, problems)
        for comparison, dataset, cells in comparisons_of(specs, scope, name, datasets)
    ]
    outcome: dict[str, Any] = {
        "name": name,
        "command": _command(scope, name),
        "title": spec.title,
        "kind": spec.kind,
        "paper_says": spec.paper_says,
        "quick": scope.quick,
        "seeds": scope.seeds,
        "version": __version__,
        "torch": torch.__version__,
        "datasets": {key: _dataset(specs, scope, key, problems) for key in chosen},
        "studies": _studies(studies_of(specs, scope, name, datasets)),
        "comparisons": comparisons,
    }
    makers = {"activity": activity_of, "alpha": alphas_of, "latents": latents_of}
    if spec.kind in makers:
        found = {key: makers[spec.kind](specs, scope, key) for key in chosen}
        outcome[spec.kind] = {key: value for key, value in found.items() if value is not None}
    if spec.kind == "counts":
        for key in chosen:
            place = place_of(scope, key, WHOLE)
            if specs.datasets[key].is_part and place.is_prepared:
                counts = open_dataset(place.prepared).manifest.content["counts"]
                outcome["datasets"][key]["whole_counts"] = counts
    return outcome


def _command(scope: Scope, name: str) -> str:
    """What makes this outcome, apart from where files lie."""
    trials = f" --trials {scope.trials}" if scope.trials is not None else ""
    return f"aqcl reproduce {name} --seeds {scope.seeds}{trials}{' --quick' * scope.quick}"


def _dataset(specs: Specs, scope: Scope, key: str, problems: Problems) -> dict[str, Any]:
    spec, place = specs.datasets[key], place_of(scope, key, TUNED)
    facts: dict[str, Any] = {
        "title": spec.title,
        "paper_name": spec.paper_name,
        "paper_counts": spec.paper_counts,
        "note": spec.note,
    }
    if not place.is_prepared:
        return {**facts, "missing": problems.places.get(place, "not prepared yet")}
    dataset = open_dataset(place.prepared)
    return {
        **facts,
        "fingerprint": dataset.manifest.fingerprint,
        "simulated": dataset.simulated,
        "counts": dataset.manifest.content["counts"],
        "thresholds": list(dataset.thresholds),
        "protocol": dataset.protocol,
    }


def _studies(studies: Iterable[Study]) -> dict[str, Any]:
    """What is known of studies, by data set and backbone."""
    found: dict[str, Any] = {}
    for study in studies:
        known = study.record()
        if known is not None:
            _, record = known
            whole = found.setdefault(f"{study.place.dataset}/{study.backbone}", record)
            whole["methods"] |= record["methods"]
    return found


def _comparison(
    specs: Specs,
    scope: Scope,
    spec: ComparisonSpec,
    dataset_key: str,
    cells: Sequence[Cell],
    problems: Problems,
) -> dict[str, Any]:
    runs = {cell.label: finished_runs(cell, scope.seeds) for cell in cells}
    printed = spec.paper.get(specs.datasets[dataset_key].paper_name, {})
    outcome: dict[str, Any] = {
        "id": spec.id,
        "title": spec.title,
        "dataset": dataset_key,
        "corner": spec.corner,
        "carried_over": any(cell.carried_over for cell in cells),
        "base": spec.base,
        "settings": spec.settings,
        "specification": spec.fingerprint,
        "cells": {
            cell.label: _state(cell, runs[cell.label], scope.seeds, problems) for cell in cells
        },
        "paper": {label: list(aucs) for label, aucs in printed.items()},
        "runs": [],
        "comparison": None,
        "yardsticks": {},
        "claims": [{**_named(claim), "verdict": NOT_RUN} for claim in spec.claims],
    }
    complete = {label: found for label, found in runs.items() if len(found) == scope.seeds}
    if not complete:
        return outcome
    dataset = open_dataset(cells[0].place.prepared)
    scored = {
        label: [assess(p, "test", dataset) for p in found] for label, found in complete.items()
    }
    outcome["runs"] = [_run(label, run) for label, found in scored.items() for run in found]
    predictions = predictions_of(scored, "test")
    outcome["yardsticks"] = {
        name: evaluate(found, dataset.thresholds).to_json()
        for name, found in yardstick_predictions(dataset, "test").items()
    }
    measured = measure(predictions, dataset.thresholds)
    bases = {spec.base, *(claim.base for claim in spec.claims)} & complete.keys()
    to_come = len(cells) - len(complete)
    compared = {base: measured.against(base, to_come=to_come).to_json() for base in bases}
    outcome["comparison"] = compared.get(spec.base)
    outcome["claims"] = []
    for claim in spec.claims:
        if {claim.method, claim.base} <= complete.keys():
            rows = compared[claim.base]["rows"]
            row = next(
                r for r in rows if (r["configuration"], r["group"]) == (claim.method, claim.group)
            )
            outcome["claims"].append(_claim(claim, row, outcome["paper"]))
        else:
            outcome["claims"].append({**_named(claim), "verdict": NOT_RUN})
    return outcome


def finished_runs(cell: Cell, seeds: int) -> list[Path]:
    """The run directories of a cell that have finished."""
    return [out for out in _run_directories(cell, seeds) if is_finished(out)]


def _run_directories(cell: Cell, seeds: int) -> list[Path]:
    jobs = [job_of(cell, seed) for seed in range(1, seeds + 1)]
    return [job.out for job in jobs if job is not None]


def _state(cell: Cell, found: Sequence[Path], seeds: int, problems: Problems) -> str:
    if len(found) == seeds:
        return FINISHED
    if cell.place in problems.places:
        return f"{NOT_RUN}: {problems.places[cell.place]}"
    if cell.study.winner() is None:
        return f"{NOT_RUN}: {problems.runs.get(cell.study.folder, 'not tuned yet')}"
    failed = [out for out in _run_directories(cell, seeds) if out in problems.runs]
    reasons = "".join(f"; {out.name}: {problems.runs[out]}" for out in failed)
    return f"{NOT_RUN}: {len(found)} of {seeds} seeds{reasons}"


def _run(label: str, run: Run) -> dict[str, Any]:
    content, groups = run.manifest.content, run.metrics()["test"]["groups"]
    return {
        "label": label,
        "seed": run.experiment.seed,
        "fingerprint": run.manifest.fingerprint,
        "best_step": content["best_step"],
        "seconds": content["seconds"],
        "code": content.get("code"),
        "torch": content.get("torch"),
        "auc": {group["group"]: group["auc"] for group in groups},
        "gauc": {group["group"]: group["gauc"] for group in groups},
        "logloss": {group["group"]: group["logloss"] for group in groups},
    }


def _named(claim: Any) -> dict[str, Any]:
    return {
        "text": claim.text,
        "method": claim.method,
        "base": claim.base,
        "group": claim.group,
    }


def _claim(claim: Any, row: Mapping[str, Any], paper: Mapping[str, Any]) -> dict[str, Any]:
    """Whether an interval confirms a claim; with what the paper has, where it prints numbers."""
    k = GROUP_NAMES.index(claim.group)
    printed = None
    if all(len(paper.get(name, ())) > k for name in (claim.method, claim.base)):
        ours, base = paper[claim.method][k], paper[claim.base][k]
        printed = round(((ours - 0.5) / (base - 0.5) - 1) * 100, 2)
    keys = ("difference", "rela_impr")
    numbers = {key: row[key] for name in keys for key in (name, f"{name}_low", f"{name}_high")}
    return {
        **_named(claim),
        "verdict": WORDS.get(row["verdict"], row["verdict"]),
        "holm": row["holm"],
        "single": row["single"],
        **numbers,
        "paper_rela_impr": printed,
    }
