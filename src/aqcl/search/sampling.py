"""New points of a search's space, drawn by Optuna from the trials so far and nothing else."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, create_trial

from aqcl.search.plan import SearchPlan
from aqcl.search.space import Choices, Dimension, Pruning, Sampler, Space
from aqcl.streams import derive_seed

STARTUP_TRIALS: Final = 8
"""Random trials before a sampler learns from them; a third of the default number."""
UNPRUNED_TRIALS: Final = 4
"""Trials that end before the median of all is worth anything."""
WARMUP_EVALUATIONS: Final = 2
"""Evaluations that every trial may have before the median prunes it."""


def draw(
    plan: SearchPlan, space: Mapping[str, BaseDistribution], before: Sequence[FrozenTrial]
) -> dict[str, Any]:
    """Parameters of a new trial; they follow from the seed and the trials before.

    No sampler outlives a draw, so a search that was killed goes on as if it had not been.

    Args:
        plan: of the search.
        space: from `distributions`.
        before: the trials so far, in the order in which they began; those that run count too.
    """
    seed = derive_seed(plan.options.seed, "search", len(before)) % 2**32
    study = optuna.create_study(
        direction="minimize" if plan.minimizes else "maximize",
        sampler=_sampler(plan.options.sampler, seed),
    )
    study.add_trials([copied(trial, space) for trial in before])
    return study.ask(dict(space)).params


def _sampler(name: Sampler, seed: int) -> BaseSampler:
    if name == "tpe":
        return TPESampler(seed=seed, multivariate=True, n_startup_trials=STARTUP_TRIALS)
    if name == "gp":
        return GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
    return RandomSampler(seed=seed)


def make_pruner(pruning: Pruning) -> BasePruner:
    """What stops hopeless trials."""
    if pruning == "median":
        # Optuna judges at this evaluation already; they count from 1.
        return MedianPruner(UNPRUNED_TRIALS, WARMUP_EVALUATIONS + 1)
    if pruning == "asha":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return NopPruner()


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The searched dimensions as Optuna has them."""
    return {key: _distribution(dimension) for key, dimension in space.searched.items()}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choices):
        # As text, so that lists can be chosen too.
        return CategoricalDistribution([json.dumps(choice) for choice in dimension.choices])
    low, high, step = dimension.low, dimension.high, dimension.step
    if dimension.integer:
        return IntDistribution(int(low), int(high), log=dimension.log, step=int(step or 1))
    return FloatDistribution(low, high, log=dimension.log, step=step)


def plain(parameters: Mapping[str, Any], searched: Mapping[str, Dimension]) -> dict[str, Any]:
    """Optuna's parameters as values of settings."""
    return {
        key: json.loads(value) if isinstance(searched[key], Choices) else value
        for key, value in parameters.items()
    }


def copied(trial: FrozenTrial, space: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """The trial as if it had been drawn from a space that has its own within."""
    copy = create_trial(
        state=trial.state,
        values=trial.values,
        params=trial.params,
        distributions=dict(space),
        user_attrs=trial.user_attrs,
        system_attrs=trial.system_attrs,
        intermediate_values=trial.intermediate_values,
    )
    copy.datetime_start, copy.datetime_complete = trial.datetime_start, trial.datetime_complete
    return copy
