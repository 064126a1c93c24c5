"""One trial of a search: an ordinary run that reports its evaluations and may be stopped early."""

import dataclasses
import json
import logging
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import safetensors
from optuna.trial import TrialState

from aqcl.dataset import Dataset
from aqcl.errors import ConfigError, TrainingError
from aqcl.evaluate import ALL
from aqcl.experiment import Experiment, Monitor
from aqcl.runs import CHECKPOINT, CONFIG, LOG, WEIGHTS, Run, is_finished, remove_partial
from aqcl.scoring import pick_device
from aqcl.search.plan import CONSTRAINED, SearchPlan, with_settings, without_auxiliary_losses
from aqcl.search.study import Journal, Task
from aqcl.train import Listener, Progress, train

logger = logging.getLogger(__name__)

REPEAT_SEED: Final = 1000
"""Added to the seed of a trial for its repeats: not the next ones, which a study's winner is judged
by later."""


HOPELESS: Final = "hopeless"
"""Attribute of a trial that its pruner has given up."""


class PrunedError(Exception):
    """A trial is not worth its time."""


def run_trial(task: Task, journal: Journal, dataset: Dataset, listen: Listener) -> None:
    """Train a trial, or continue it, and write its end into the journal.

    Args:
        task: what `claim` gave; its lock is released.
        journal: of the study.
        dataset: with its test rows closed.
        listen: called after each step.

    Raises:
        AqclError: the study cannot go on. A trial has failed whose loss is no longer finite, whose
            settings form no model or whose model does not fit the device's memory, and the study
            goes on without it.
    """
    folder = journal.folder_of(task.method.name, task.slot, task.repeat)
    latest: list[Progress] = []

    def hear(progress: Progress) -> None:
        latest[:] = [progress]
        listen(progress)
        if progress.last.get("step") == progress.number:
            _report(task, journal, folder)

    try:
        state, values, facts = _train(task, journal, dataset, hear)
        facts |= _cost(folder, latest)
        with journal.locked():
            _tell(task, journal, facts, values, state)
        clean_up(folder)
    finally:
        task.release()


def _train(
    task: Task, journal: Journal, dataset: Dataset, hear: Listener
) -> tuple[TrialState, list[float], dict[str, Any]]:
    """How a trial has ended, its value if it has one, and what else is known of it."""
    plan, folder = journal.plan, journal.folder_of(task.method.name, task.slot, task.repeat)
    if folder.exists() and not (folder / CONFIG).exists():
        shutil.rmtree(folder)  # killed while it was made
    facts: dict[str, Any] = {}
    # A machine without the device cannot join the study; that is not the trial's failure.
    pick_device(task.method.experiment.runtime.device)
    try:
        # First what a killed process has trained but not reported.
        _report(task, journal, folder)
        experiment = experiment_of(task, plan)
        run = train(experiment, folder, resume=True, listen=hear, dataset=dataset)
        facts["measures"] = measures_of(run)
        facts["best_step"] = run.manifest.content["best_step"]
        return TrialState.COMPLETE, [_objective(plan, facts["measures"])], facts
    except PrunedError:
        return TrialState.PRUNED, [], facts
    except (ConfigError, TrainingError) as error:
        if isinstance(error, ConfigError) and (folder / CONFIG).exists():
            raise  # the model could be built: it is not the drawn settings that are wrong
        logger.warning("%s has failed: %s", task.title, error)
        return TrialState.FAIL, [], {**facts, "error": str(error)}


def experiment_of(task: Task, plan: SearchPlan) -> Experiment:
    """The experiment of a trial."""
    if task.is_reference:
        return without_auxiliary_losses(task.method.experiment)
    seed = task.method.experiment.seed
    if task.repeat:
        seed += REPEAT_SEED + task.repeat
    return with_settings(task.method.experiment, [*task.parameters.items(), ("seed", seed)])


def measures_of(run: Run) -> dict[str, float | None]:
    """What the objectives are made of, from the validation rows and the kept weights."""
    groups = {group["group"]: group for group in run.metrics()["valid"]["groups"]}
    measures = {"logloss": groups[ALL]["logloss"], "auc": groups[ALL]["auc"]}
    return measures | {f"auc:{name}": group["auc"] for name, group in groups.items() if name != ALL}


def objective_name(objective: str) -> str:
    """What the value of a trial is, for people."""
    measure = f"auc:{CONSTRAINED[0]}" if objective == "constrained" else objective
    return measure.replace("auc", "AUC").replace(":", ", ")


def _objective(plan: SearchPlan, measures: Mapping[str, float | None]) -> float:
    name: str = plan.options.objective
    needed = plan.measures
    for key in needed:
        if measures[key] is None:
            raise TrainingError(
                f"search.objective = '{name}': {key} is not defined on the validation rows, which "
                "need both labels among these users"
            )
    return float(measures[needed[0]] or 0.0)


def kept_values(text: str, monitor: Monitor, measure: str) -> list[float | None]:
    """The measure of the weights that were kept so far, after each evaluation of a log."""
    values: list[float | None] = []
    best = -math.inf
    kept: float | None = None
    for line in map(json.loads, text.splitlines()):
        score = line[f"valid_{monitor}"]
        current = -math.inf if score is None else score if monitor == "auc" else -score
        if current > best:
            best, kept = current, line[f"valid_{measure}"]
        values.append(kept)
    return values


def _report(task: Task, journal: Journal, folder: Path) -> None:
    """Tell the journal the evaluations that it does not have; raises if the trial is hopeless."""
    state = checkpoint_state(folder)
    if journal.plan.options.objective not in ("logloss", "auc") or not state:
        return  # evaluations do not measure it
    # Lines beyond the checkpoint are written again.
    text = (folder / LOG).read_bytes()[: state["log_bytes"]].decode()
    options = experiment_of(task, journal.plan).train
    values = kept_values(text, options.monitor, journal.plan.options.objective)
    last_step = options.epochs * state["steps_per_epoch"]
    over = state["number"] >= last_step or state["evaluations_since_best"] >= options.patience
    with journal.locked():
        trial = journal.trial(task)
        before = trial.study.get_trials(deepcopy=False)[task.number]
        for step, value in enumerate(values, start=1):
            if step not in before.intermediate_values and value is not None:
                trial.report(value, step)
        weighed = task.repeat == 0 and not over and values[-1] is not None
        # Asked again after a kill, a pruner looks at the next rung: what it said is kept.
        hopeless = weighed and (HOPELESS in before.user_attrs or trial.should_prune())
        if hopeless:
            trial.set_user_attr(HOPELESS, True)
    if hopeless:
        raise PrunedError


def _tell(
    task: Task, journal: Journal, facts: Mapping[str, Any], values: list[float], state: TrialState
) -> None:
    trial = journal.trial(task)
    for key, value in facts.items():
        trial.set_user_attr(key, value)
    if journal.plan.has_reference and state == TrialState.COMPLETE and not task.is_reference:
        (reference,) = journal.study(f"{task.method.name}/reference").trials
        _, key = journal.plan.measures
        lost = reference.user_attrs["measures"][key] - facts["measures"][key]
        if key not in trial.constraints:
            trial.set_constraint(key, lost)
    trial.study.tell(task.number, values or None, state)


def checkpoint_state(folder: Path) -> dict[str, Any]:
    """The state in a run's checkpoint without its tensors; empty if there is none."""
    if not (folder / CHECKPOINT).exists():
        return {}
    with safetensors.safe_open(folder / CHECKPOINT, framework="numpy") as file:
        state = json.loads(file.metadata()["state"])
    assert isinstance(state, dict)
    return state


def _cost(folder: Path, latest: list[Progress]) -> dict[str, Any]:
    """Training rows, steps and seconds of a trial."""
    state = dataclasses.asdict(latest[0]) if latest else checkpoint_state(folder)
    return {key: state.get(key, 0) for key in ("rows", "number", "seconds")}


def clean_up(folder: Path) -> None:
    """Remove what only a running trial needs: it would fill the disk with every trial."""
    remove_partial(folder)
    if not is_finished(folder):
        (folder / WEIGHTS).unlink(missing_ok=True)
    (folder / CHECKPOINT).unlink(missing_ok=True)
