"""A study whose one method finds alpha in about the time of one training."""

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aqcl import __version__
from aqcl.alpha_shapes import LOGIT_LIMIT, W1_RANGE, W2_RANGE
from aqcl.config import as_values, to_toml
from aqcl.dataset import Dataset, steps_per_epoch
from aqcl.experiment import Experiment
from aqcl.runs import CONFIG, LOG, open_run
from aqcl.search.alpha_figures import draw_alpha_search
from aqcl.search.alpha_search import (
    AlphaOutcome,
    alpha_owner,
    learn_alpha,
    with_learning,
    with_options,
)
from aqcl.search.bar import Listener, SearchProgress
from aqcl.search.conclusion import FIGURES, seal
from aqcl.search.halving import WARM, candidate_name, halve_alpha, plan_halving
from aqcl.search.plan import ONLY, SearchPlan
from aqcl.search.space import Range, regularizer_key, shown, touched_ends
from aqcl.search.summary import alpha_values, dataset_facts, write_findings
from aqcl.search.trials import clean_up, kept_values, measures_of
from aqcl.storage import atomic_write
from aqcl.train import Progress

TRIALS: Final = "trials"
ROUNDING: Final = 2.0**-24
"""Of fp32: validation loglosses that differ by a smaller part of them do so by rounding."""
RUN: Final = "0000"
"""Directory of the one run."""
HOW: Final = {
    "one-run": {"sampler": "gradient", "pruning": "none"},
    "halving": {"sampler": "sobol", "pruning": "halving"},
}
"""Where each method takes points from, and how it ends trials early."""


@dataclass(frozen=True)
class Found:
    """An alpha, and the trainings that led to it."""

    outcome: AlphaOutcome
    trials: list[dict[str, Any]]
    winner: int
    """Its number."""
    best_so_far: list[float | None]
    """Over the evaluations."""
    start_rows: int = 0
    """Training rows that several trials share."""


def check_alpha_search(plan: SearchPlan, dataset: Dataset) -> None:
    """Find what cannot work before anything is written.

    Raises:
        ConfigError: the experiment has no alpha to look for, or the budget is too small.
    """
    if plan.options.method == "one-run":
        with_learning(plan.experiment)
    else:
        plan_halving(plan.experiment, plan.options.halving, dataset)


def run_alpha_search(
    plan: SearchPlan, dataset: Dataset, out: Path, listen: Listener
) -> dict[str, Any]:
    """Find alpha by one run or by halving, and write the study; a killed one continues.

    Args:
        plan: checked, with one of these methods.
        dataset: with its test rows closed.
        out: the study directory.
        listen: called at each step.

    Returns:
        What stands in `study.json`.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    for folder in _runs(out):
        if not (folder / CONFIG).exists():
            shutil.rmtree(folder)  # killed while it was made
    search = _learned if plan.options.method == "one-run" else _halved
    return _conclude(plan, dataset, out, search(plan, dataset, out, listen))


def _learned(plan: SearchPlan, dataset: Dataset, out: Path, listen: Listener) -> Found:
    """By the gradient of the validation loss, during one training."""
    experiment, folder = plan.experiment, out / TRIALS / RUN
    options = experiment.train
    n_steps = options.epochs * steps_per_epoch(len(dataset.train), options.batch_size)

    def hear(progress: Progress) -> None:
        if progress.last.get("step") == progress.number:
            best = {ONLY: kept_loglosses()[-1]}
            running = f"one run, epoch {progress.epoch + 1}"
            listen(SearchProgress(progress.number, n_steps, best, running, unit="steps at most"))

    def kept_loglosses() -> list[float | None]:
        text = (folder / LOG).read_text(encoding="utf-8")
        return kept_values(text, options.monitor, "logloss")

    outcome = learn_alpha(experiment, folder, listen=hear, dataset=dataset)
    run = open_run(folder)
    curve = kept_loglosses()
    trial = _trial(0, outcome.value, f"{TRIALS}/{RUN}") | {
        "parameters": parameters_of(experiment, outcome.options),
        "measures": measures_of(run),
        "evaluations": curve,
        "steps": run.manifest.content["steps"],
        "best_step": run.manifest.content["best_step"],
        "rows": outcome.rows,
        "seconds": outcome.seconds,
    }
    return Found(outcome, [trial], 0, curve)


def _halved(plan: SearchPlan, dataset: Dataset, out: Path, listen: Listener) -> Found:
    """By many short trainings, of which the better half goes on."""
    experiment, options = plan.experiment, plan.options.halving
    steps = plan_halving(experiment, options, dataset)
    done = 0

    def hear(progress: Progress) -> None:
        nonlocal done
        if progress.last.get("step") == progress.number:
            done = _steps_done(out / TRIALS, steps.warm)
            running = f"halving {options.n_candidates} candidates, at step {progress.number}"
            listen(SearchProgress(done, steps.steps, {ONLY: None}, running, unit="steps"))

    outcome = halve_alpha(experiment, out / TRIALS, options, listen=hear, dataset=dataset)
    for line in outcome.history:
        # JSON has no infinity: what was never a number is not known.
        line["valid_logloss"] = _known(line["valid_logloss"])
    trials = [
        _candidate(number, experiment, outcome, out / TRIALS)
        for number in range(options.n_candidates)
    ]
    winner = next(t["number"] for t in trials if t["rungs"][-1]["kept"])
    curve: list[float | None] = []
    for line in outcome.history:
        known = [v for v in (*curve[-1:], line["valid_logloss"]) if v is not None]
        curve.append(min(known) if known else None)
    start_rows = outcome.rows - sum(trial["rows"] for trial in trials)
    return Found(outcome, trials, winner, curve, start_rows)


def _candidate(
    number: int, experiment: Experiment, outcome: AlphaOutcome, folder: Path
) -> dict[str, Any]:
    """A candidate of the halving as a trial."""
    run = candidate_name(number)
    rungs = [line for line in outcome.history if line["run"] == run]
    last, n_rungs = rungs[-1], outcome.history[-1]["rung"]
    value = last["valid_logloss"]
    own_seconds = _last_line(folder / run)["seconds"] - _last_line(folder / WARM)["seconds"]
    shape = {"w1": last["w1"], "w2": last["w2"]}
    return _trial(number, value, f"{TRIALS}/{run}") | {
        "state": "complete" if last["rung"] == n_rungs else "pruned",
        "parameters": parameters_of(experiment, shape),
        "measures": {"logloss": value},
        "evaluations": [line["valid_logloss"] for line in rungs],
        "steps": last["step"],
        "rows": last["rows"],
        "seconds": round(own_seconds, 3),
        "rungs": [
            {key: line[key] for key in ("rung", "step", "rows", "valid_logloss", "kept")}
            for line in rungs
        ],
    }


def _trial(number: int, value: float | None, run: str) -> dict[str, Any]:
    """What stands of every trial in a study."""
    trial = {"number": number, "repeat": 0, "state": "complete", "reference": False, "value": value}
    return trial | {"feasible": True, "best_step": None, "error": None, "run": run}


def parameters_of(experiment: Experiment, options: Mapping[str, Any]) -> dict[str, Any]:
    """The values of alpha among a regularizer's options, by dotted key."""
    prefix = regularizer_key(alpha_owner(experiment))
    return {f"{prefix}.{key}": value for key, value in options.items() if key != "alpha"}


def _space(experiment: Experiment) -> dict[str, Range]:
    """Where alpha is looked for, by dotted key."""
    shape = experiment.regularizer[alpha_owner(experiment)]["alpha"]
    if shape == "curve":
        found = {"w1": Range(*W1_RANGE, log=True), "w2": Range(*W2_RANGE, log=True)}
    else:
        lowest = 1 / (1 + math.exp(LOGIT_LIMIT))
        key = "group_values" if shape == "groups" else "spline_values"
        found = {key: Range(lowest, 1 - lowest)}
    return parameters_of(experiment, found)


def _conclude(plan: SearchPlan, dataset: Dataset, out: Path, found: Found) -> dict[str, Any]:
    """Write what was found, the winner's experiment, the figures and last the manifest."""
    name, outcome = alpha_owner(plan.experiment), found.outcome
    learning = {**plan.experiment.regularizer[name]["learn_alpha"], "enabled": False}
    winner = with_options(plan.experiment, name, learn_alpha=learning, **outcome.options)
    atomic_write(out / f"{ONLY}.toml", to_toml(as_values(winner)))
    summary = _summary(plan, dataset, found, winner)
    write_findings(out, summary)
    draw_alpha_search(out / FIGURES, plan, summary, winner, dataset)
    seal(out, plan, dataset, {"methods": [ONLY]})
    # Last of all: a halving that is killed before it is sealed continues from these.
    for folder in _runs(out):
        clean_up(folder)
    return summary


def _runs(out: Path) -> list[Path]:
    """The run directories of a study; whatever else lies beside them is the user's."""
    names = (RUN, WARM, candidate_name("*"))
    return [folder for name in names for folder in (out / TRIALS).glob(name) if folder.is_dir()]


def _summary(
    plan: SearchPlan, dataset: Dataset, found: Found, winner: Experiment
) -> dict[str, Any]:
    """The same as of other studies, as far as it applies."""
    outcome, space = found.outcome, _space(plan.experiment)
    cost = {"rows": outcome.rows, "seconds": round(outcome.seconds, 3)}
    best = found.trials[found.winner] | {
        "penalty": None,
        "ends": touched_ends(space, found.trials[found.winner]["parameters"]),
        "alpha": alpha_values(winner, dataset.mean_activity),
        "experiment": f"{ONLY}.toml",
    }
    method = {
        "label": plan.experiment.label,
        "ended": True,
        "space": {key: shown(dimension) for key, dimension in space.items()},
        **cost,
        "start_rows": found.start_rows,
        "best": best,
        "best_so_far": found.best_so_far,
        "importance": {},
        "trials": found.trials,
        "repeats": [],
        "finalists": [],
        "history": outcome.history,
    }
    return {
        "finished": True,
        "package_version": __version__,
        "dataset": dataset_facts(dataset),
        "method": plan.options.method,
        "objective": plan.options.objective,
        "minimizes": plan.minimizes,
        **HOW[plan.options.method],
        "seed": plan.experiment.seed,
        "trials": len(found.trials),
        "confirm": 0,
        "confirm_seeds": 0,
        **cost,
        "notes": _notes(plan, outcome, best),
        "methods": {ONLY: method},
    }


def _notes(
    plan: SearchPlan,
    outcome: AlphaOutcome,
    best: Mapping[str, Any],
) -> list[str]:
    """What a reader must know of the alpha that was found."""
    if not outcome.moved:
        return [_unmoved(plan, best)]
    remarks: list[str] = best["ends"]
    if plan.options.method != "halving":
        return remarks
    n_rungs = outcome.history[-1]["rung"]
    rungs = [[r for r in outcome.history if r["rung"] == n + 1] for n in range(n_rungs)]
    tied = [rung for rung in rungs if _is_tied(rung)]
    if not tied:
        return remarks
    cause = (
        f"in {len(tied)} of {n_rungs} rungs candidates left by their order alone, with the same "
        f"validation logloss but for rounding as one that stayed: {_why_tied(plan, tied[0])}"
    )
    if len(tied) == n_rungs and best["number"] == 0:
        return [f"alpha was not found, it is the one given: {cause}"]
    return [cause, *remarks]


def _why_tied(plan: SearchPlan, rung: list[dict[str, Any]]) -> str:
    """What made the first rung that told no candidates apart do so, and what to change."""
    name, end = alpha_owner(plan.experiment), rung[0]["step"]
    warm_up = plan.experiment.regularizer[name]["warmup_steps"]
    if 2 * warm_up >= end:
        return (
            f"so it is in the warm-up of {name} ({warm_up} steps) or just behind it, before alpha "
            f"acts; set {regularizer_key(name)}.warmup_steps well below {end}, where the rung ended"
        )
    return (
        f"it hardly depends on alpha by step {end}, where the rung ended, though alpha acts from "
        f"step {warm_up} on; raise search.halving.budget or lower search.halving.n_candidates, so "
        "that rungs are longer"
    )


def _is_tied(rung: list[dict[str, Any]]) -> bool:
    """Whether the last candidate that stayed after a rung was no better than the first that left.

    An evaluation from before alpha acts is the same for all, and may be the lowest of several; one
    of a few steps behind it differs by rounding.
    """
    left = min((line["valid_logloss"] for line in rung if not line["kept"]), default=math.inf)
    stayed = max(line["valid_logloss"] for line in rung if line["kept"])
    return math.isclose(left, stayed, rel_tol=ROUNDING)


def _unmoved(plan: SearchPlan, best: Mapping[str, Any]) -> str:
    """That the alpha of the one run is the one it was given, and how to have one found."""
    name = alpha_owner(plan.experiment)
    options, key = plan.experiment.regularizer[name], regularizer_key(name)
    return (
        f"alpha was not found, it is the one given: the best weights are of step "
        f"{best['best_step']}, and alpha moves every {options['learn_alpha']['every']} steps after "
        f"a warm-up of {options['warmup_steps']}; set {key}.warmup_steps or "
        f"{key}.learn_alpha.every lower"
    )


def _steps_done(folder: Path, warm: int) -> int:
    """Steps of all branches so far; each candidate's log begins with that of the start."""
    lines = {path.parent.name: _last_line(path.parent) for path in folder.glob(f"*/{LOG}")}
    return sum(line["step"] - (name != WARM) * warm for name, line in lines.items())


def _last_line(folder: Path) -> dict[str, Any]:
    """The last line of a run's log; of a start without steps, zeros."""
    file = folder / LOG
    if not file.exists():
        return {"step": 0, "seconds": 0.0}
    line = json.loads(file.read_text(encoding="utf-8").splitlines()[-1])
    assert isinstance(line, dict)
    return line


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
