"""What cannot work in a search, found before anything of the study is written."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from aqcl.activity import GROUPS, user_groups
from aqcl.dataset import Dataset
from aqcl.errors import ConfigError, TrainingError, within_memory
from aqcl.experiment import Experiment
from aqcl.schema import FIRST_ID
from aqcl.scoring import facts_of, pick_device
from aqcl.search.idle import idle_keys
from aqcl.search.plan import ONLY, Method, SearchPlan, with_settings
from aqcl.search.space import Space, end_values, parse_space
from aqcl.train import build_objective

FEW: Final = FIRST_ID + 2
"""Users and items of a model that is built only to see whether it can be."""


def check_alpha_keys(plan: SearchPlan) -> None:
    """Find ranges of `w1` and `w2` that no method reads.

    Raises:
        ConfigError: all of them, one line each.
    """
    shared = parse_space(plan.options.space, "search.space").searched
    read, unread = set[str](), set[str]()
    for method in plan.methods:
        read |= method.space.searched.keys()
        unread |= idle_keys(method.experiment, {**shared, **method.space.searched}).keys()
    problems = [
        f"search.space: {key} does nothing where alpha is not the curve; leave it out, or set "
        f'{key[:-3]}.alpha = "curve" and no constant_alpha'
        for key in shared
        if key.endswith((".w1", ".w2")) and key in unread - read
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def check_objective(plan: SearchPlan, dataset: Dataset) -> None:
    """Make sure that the validation rows have clicks and others wherever an AUC is asked for.

    Raises:
        ConfigError: trainings would end without a value to judge them by.
    """
    columns = dataset.valid.columns
    clicked = columns["label"] == 1
    groups = user_groups(columns["user"], columns["history_length"], dataset.thresholds)
    experiments = [method.experiment for method in plan.methods] or [plan.experiment]
    monitored = [experiment.train.monitor for experiment in experiments]
    for measure in dict.fromkeys([*monitored, *plan.measures]):
        if measure == "logloss":
            continue
        name = measure.removeprefix("auc:")
        rows = clicked[groups == GROUPS.index(name)] if name in GROUPS else clicked
        if not 0 < np.count_nonzero(rows) < len(rows):
            whose = f"{name} users" if name in GROUPS else "all users"
            key = "train.monitor" if measure in monitored else "search.objective"
            raise ConfigError(
                f"{key}: no AUC of {whose}: {len(rows)} validation rows of {dataset.path} are "
                f"theirs, {np.count_nonzero(rows)} of them clicks, and both labels are needed; "
                "choose another one, or a split with more validation rows"
            )


def check_models(plan: SearchPlan, dataset: Dataset) -> None:
    """Build a model of each method at every end of its space, before anything is written.

    Raises:
        ConfigError: all settings that form no model, one line each.
    """
    problems = []
    for method in plan.methods or [Method(ONLY, plan.experiment, Space({}, {}))]:
        pick_device(method.experiment.runtime.device)
        where = f"search.methods.{method.name}" if plan.options.methods else "search"
        error = _misfit(method, dataset, {})
        if error is not None:
            problems.append(error if where == "search" else f"{where}: {error}")
            continue
        for key, dimension in method.space.searched.items():
            for value in end_values(dimension):
                error = _misfit(method, dataset, {key: value})
                if error is not None:
                    problems.append(f"{where}.space.{key}: {value} fits no model: {error}")
    if problems:
        raise ConfigError("\n".join(problems))


def _misfit(method: Method, dataset: Dataset, settings: Mapping[str, Any]) -> str | None:
    """Why no model has these settings; None where one has."""
    ends = {key: end_values(dimension) for key, dimension in method.space.searched.items()}
    lowest, highest = ({key: values[at] for key, values in ends.items()} for at in (0, -1))
    # Whether a value fits may depend on what is drawn beside it.
    errors = []
    for others in ({}, lowest, highest):
        try:
            with within_memory():
                _build_small(method.experiment, {**others, **settings}.items(), dataset)
        except (ConfigError, TrainingError) as error:
            errors.append(str(error))
        else:
            return None
    return errors[0]


def _build_small(
    experiment: Experiment, settings: Iterable[tuple[str, Any]], dataset: Dataset
) -> None:
    """Build a model of few users and items: whether it can be built does not depend on how many.

    Tables of millions of them would be made again for every end of a space.
    """
    experiment = with_settings(experiment, settings)
    facts = facts_of(dataset, experiment)
    sizes = ("n_users", "n_items", "n_user_entities", "n_item_entities")
    few = {size: min(getattr(facts.schema, size), FEW) for size in sizes}
    schema = dataclasses.replace(facts.schema, **few)
    attributes = {name: table[:FEW] for name, table in facts.attributes.items()}
    build_objective(experiment, dataclasses.replace(facts, schema=schema, attributes=attributes))
