"""What a study has found: its trials, winners, importances and curves, as data."""

import json
from pathlib import Path
from typing import Any, Final

import torch
from optuna.trial import TrialState

from aqcl import __version__
from aqcl.alpha_shapes import AlphaShape
from aqcl.config import as_values, build, to_toml
from aqcl.dataset import Dataset
from aqcl.errors import StorageError
from aqcl.experiment import Experiment
from aqcl.metrics import constant_logloss
from aqcl.regularizers.aqcl import AQCLOptions
from aqcl.search.alpha_search import with_options
from aqcl.search.files import FINDINGS
from aqcl.search.idle import alpha_names
from aqcl.search.importance import importances
from aqcl.search.plan import (
    Method,
    with_settings,
    without_auxiliary_losses,
)
from aqcl.search.space import PENALTY, shown, touched_ends, touched_side
from aqcl.search.standing import Record, Standing
from aqcl.search.study import Journal
from aqcl.storage import MANIFEST, atomic_write
from aqcl.warm_up import warm_up_notes

ACTIVITIES: Final = {"0": 0.0, "mean": 1.0, "10x mean": 10.0}
"""Where alpha is told, in multiples of the mean activity."""


def summarize(journal: Journal, standing: Standing, dataset: Dataset) -> dict[str, Any]:
    """All that is known of a study, as plain values; the caller holds the lock."""
    plan = standing.plan
    methods = {m.name: _method_summary(journal, standing, m, dataset) for m in plan.methods}
    return {
        "finished": standing.is_over,
        "package_version": __version__,
        "dataset": dataset_facts(dataset),
        "method": plan.options.method,
        "objective": plan.options.objective,
        "minimizes": plan.minimizes,
        "sampler": plan.options.sampler,
        "pruning": plan.options.pruning,
        "seed": plan.options.seed,
        "trials": standing.target,
        "confirm": plan.options.confirm,
        "confirm_seeds": plan.options.confirm_seeds,
        "rows": sum(method["rows"] for method in methods.values()),
        "seconds": round(sum(method["seconds"] for method in methods.values()), 3),
        "notes": [
            *standing.notes,
            *_remarks(methods),
            *_constant_remarks(methods, plan.options.objective, dataset),
            *_warm_up_remarks(standing),
        ],
        "methods": methods,
    }


def dataset_facts(dataset: Dataset) -> dict[str, Any]:
    """Where the rows of a study are from."""
    return {"path": str(dataset.path), "name": dataset.name, "simulated": dataset.simulated}


def _method_summary(
    journal: Journal, standing: Standing, method: Method, dataset: Dataset
) -> dict[str, Any]:
    records = standing.records[method.name]
    best = standing.best(method.name)
    trials = [_trial_row(journal, method, record) for record in records]
    repeats = [_trial_row(journal, method, record) for record in standing.repeats[method.name]]
    summary: dict[str, Any] = {
        "label": method.experiment.label,
        "ended": standing.has_ended(method.name),
        "space": {key: shown(dimension) for key, dimension in method.space.searched.items()},
        "rows": sum(row["rows"] for row in (*trials, *repeats)),
        "seconds": round(sum(row["seconds"] for row in (*trials, *repeats)), 3),
        "best": None,
        "best_so_far": _best_so_far(standing, method.name),
        "importance": importances(journal.study(f"{method.name}/{standing.round}")),
        "trials": trials,
        "repeats": repeats,
        "finalists": [_finalist(standing, method, r) for r in standing.finalists(method.name)],
    }
    if best is not None:
        winner = winner_of(method, best)
        trained = with_learned_alpha(winner, journal.folder_of(method.name, best.slot))
        summary["best"] = {
            **_trial_row(journal, method, best),
            "penalty": _penalty(method, winner),
            "ends": touched_ends(method.space.searched, best.parameters),
            "alpha": alpha_values(trained, dataset.mean_activity),
            "experiment": f"{method.name}.toml",
        }
    return summary


def _finalist(standing: Standing, method: Method, record: Record) -> dict[str, Any]:
    values = standing.values(method.name, record)
    return {"number": record.slot, "values": values, "mean": standing.mean(method.name, record)}


def winner_of(method: Method, best: Record) -> Experiment:
    """The experiment of a method's best trial."""
    if best.is_reference:
        return without_auxiliary_losses(method.experiment)
    return with_settings(method.experiment, best.parameters.items())


def _trial_row(journal: Journal, method: Method, record: Record) -> dict[str, Any]:
    trial, facts = record.trial, record.trial.user_attrs
    complete = trial.state == TrialState.COMPLETE
    return {
        "number": record.slot,
        "repeat": record.repeat,
        "state": trial.state.name.lower(),
        "reference": record.is_reference,
        "value": trial.value if complete else None,
        "feasible": record.is_candidate if complete else None,
        "parameters": record.parameters,
        "measures": facts.get("measures", {}),
        "evaluations": [v for _, v in sorted(trial.intermediate_values.items())],
        "steps": facts.get("number", 0),
        "best_step": facts.get("best_step"),
        "rows": facts.get("rows", 0),
        "seconds": round(facts.get("seconds", 0.0), 3),
        "error": facts.get("error"),
        "run": str(
            journal.folder_of(method.name, record.slot, record.repeat).relative_to(journal.folder)
        ),
    }


def _best_so_far(standing: Standing, method: str) -> list[float | None]:
    """The best value after each trial, in the order in which they began."""
    curve: list[float | None] = []
    for record in standing.records[method]:
        value = record.trial.value if record.is_candidate else None
        known = [v for v in (*curve[-1:], value) if v is not None]
        pick = min if standing.plan.minimizes else max
        curve.append(pick(known) if known else None)
    return curve


def _penalty(method: Method, winner: Experiment) -> dict[str, Any] | None:
    """Whether the winner's penalty lies inside its range; None where it was not searched."""
    dimension = method.space.searched.get(PENALTY)
    if dimension is None:
        return None
    value = winner.train.embedding_l2
    side = touched_side(dimension, value)
    return {"value": value, "range": shown(dimension), "inside": side is None, "touches": side}


def _remarks(methods: dict[str, Any]) -> list[str]:
    """What a reader must know of the winners."""
    notes = []
    for name, method in methods.items():
        best, finalists = method["best"], method["finalists"]
        auc = None if best is None else best["measures"].get("auc")
        if auc is not None and auc <= 0.5:
            notes.append(
                f"{name}: the best trial ranks the validation rows no better than chance, AUC "
                f"{auc:.4f}: what won means nothing"
            )
        all_out = bool(finalists) and all(f["mean"] is None for f in finalists)
        if method["ended"] and all_out:
            winner = "no other trial" if best is None else "the best of the other trials, one seed,"
            notes.append(f"{name}: every finalist failed with another seed; {winner} has won")
        if best is None:
            if method["ended"] and not all_out:
                notes.append(f"{name}: no trial was trained to its end")
            continue
        if best["reference"]:
            notes.append(f"{name}: no trial is better than trial 0, without auxiliary losses")
        penalty = best["penalty"]
        if method["ended"] and penalty is not None and not penalty["inside"]:
            notes.append(
                f"{name}: the penalty that won, {penalty['value']:.3g}, touches the "
                f"{penalty['touches']} end of {penalty['range']}: the best may lie beyond, and a "
                "comparison with this winner is not fair yet"
            )
        if method["ended"]:
            notes += [f"{name}: {end}" for end in best["ends"]]
    return notes


def _constant_remarks(methods: dict[str, Any], objective: str, dataset: Dataset) -> list[str]:
    """Which methods were searched by a logloss that no trial brought below that of a constant."""
    if objective != "logloss" or dataset.protocol["labels"] != "impressions":
        return []
    sizes = dataset.manifest.content["counts"]["splits"]["valid"]
    constant = constant_logloss(sizes["positives"], sizes["rows"])
    return [
        f"{name}: no trial has a logloss below {constant:.4f}, that of the validation rows' own "
        f"click rate for each of them; the best has {method['best']['value']:.4f}: what won says "
        'little, search.objective = "auc" judges how it ranks'
        for name, method in methods.items()
        if method["best"] is not None and method["best"]["value"] >= constant
    ]


def _warm_up_remarks(standing: Standing) -> list[str]:
    """Which winners' weights are from before the end of a warm-up."""
    notes = []
    for method in standing.plan.methods:
        best = standing.best(method.name)
        if best is not None:
            steps = [best.trial.user_attrs["best_step"]]
            notes += warm_up_notes(method.name, winner_of(method, best), steps)
    return notes


def shapes_of(experiment: Experiment) -> dict[str, AlphaShape]:
    """Alpha of each regularizer that has one."""
    shapes = {}
    for name in alpha_names(experiment):
        options = build(AQCLOptions, experiment.regularizer[name], f"regularizer.{name}")
        constant = options.constant_alpha
        shapes[name] = options.shape() if constant is None else AlphaShape("groups", (constant,))
    return shapes


def with_learned_alpha(experiment: Experiment, run: Path) -> Experiment:
    """The experiment of a run with the alpha of its weights in place of the one it began with.

    Args:
        experiment: of the run; one that learns no alpha is returned as it is.
        run: its directory.

    Raises:
        StorageError: the experiment learns alpha, and the run is not there.
    """
    tables = experiment.regularizer
    learns = [k for k in alpha_names(experiment) if tables[k]["learn_alpha"]["enabled"]]
    if not learns:
        return experiment
    try:
        # Not `open_run`: another process may be taking the checkpoint out of the directory.
        manifest = json.loads((run / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StorageError(
            f"{run / MANIFEST}: expected the run that learned alpha, it is missing or has not "
            "finished; bring the directory back or train it again"
        ) from None
    return with_options(experiment, learns[0], **manifest["content"]["alpha"])


def alpha_values(experiment: Experiment, mean_activity: float) -> dict[str, dict[str, float]]:
    """Alpha of each regularizer that has one, at a few activities."""
    activity = torch.tensor([times * mean_activity for times in ACTIVITIES.values()])
    return {
        name: dict(zip(ACTIVITIES, shape.of(activity, mean_activity).tolist(), strict=True))
        for name, shape in shapes_of(experiment).items()
    }


def write_summary(journal: Journal, standing: Standing, dataset: Dataset) -> dict[str, Any]:
    """Write study.json and the experiment of each winner; the caller holds the lock."""
    summary = summarize(journal, standing, dataset)
    for method in standing.plan.methods:
        best, file = standing.best(method.name), journal.folder / f"{method.name}.toml"
        if best is None:
            file.unlink(missing_ok=True)  # of a finalist that has failed since
        else:
            atomic_write(file, to_toml(as_values(winner_of(method, best))))
    write_findings(journal.folder, summary)
    return summary


def write_findings(out: Path, summary: dict[str, Any]) -> None:
    """Write study.json."""
    text = json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write(out / FINDINGS, text)
