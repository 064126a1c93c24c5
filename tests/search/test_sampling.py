"""Points of a space follow from the seed and the trials before, and lie in the space."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, TrialState, create_trial

from aqcl.search.plan import SearchPlan, plan_search
from aqcl.search.sampling import (
    STARTUP_TRIALS,
    UNPRUNED_TRIALS,
    WARMUP_EVALUATIONS,
    copied,
    distributions,
    draw,
    make_pruner,
    plain,
)
from aqcl.search.space import Choices, Range, Space
from tests.searches import search_values

SPACE = Space(
    {
        "a": Range(low=1e-4, high=1, log=True),
        "b": Range(low=1, high=9, integer=True),
        "c": Choices(choices=([8], [16, 8], "x")),
    },
    {},
)


def planned(**search: Any) -> SearchPlan:
    return plan_search(search_values(Path("nowhere"), **search))


def trials(plan: SearchPlan, count: int) -> list[FrozenTrial]:
    """Trials drawn one after the other, with a value that prefers a small `a`."""
    made: list[FrozenTrial] = []
    space = distributions(SPACE)
    for _ in range(count):
        values = draw(plan, space, made)
        trial = create_trial(params=values, distributions=space, value=values["a"])
        made.append(trial)
    return made


def parameters(found: list[FrozenTrial]) -> list[dict[str, Any]]:
    return [trial.params for trial in found]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_draws_follow_from_the_seed_and_lie_in_the_space(sampler: str) -> None:
    plan = planned(sampler=sampler, seed=3)
    first = parameters(trials(plan, STARTUP_TRIALS + 3))
    assert first == parameters(trials(plan, STARTUP_TRIALS + 3))
    other = parameters(trials(planned(sampler=sampler, seed=4), STARTUP_TRIALS + 3))
    assert all(mine != theirs for mine, theirs in zip(first, other, strict=True))
    assert len({repr(values) for values in first}) == len(first)
    for values in first:
        assert 1e-4 <= values["a"] <= 1
        assert values["b"] in range(1, 10)
        assert plain(values, SPACE.searched)["c"] in ([8], [16, 8], "x")


def test_a_gaussian_process_learns_where_the_best_lies() -> None:
    plan = planned(sampler="gp")
    before = trials(plan, STARTUP_TRIALS)
    space = distributions(SPACE)
    found = draw(plan, space, before)
    assert found["a"] < 1e-3  # of four decades
    assert found == draw(plan, space, before)


def test_a_sampler_that_learns_depends_on_the_values() -> None:
    plan, space = planned(), distributions(SPACE)
    before = trials(plan, STARTUP_TRIALS + 4)
    turned = [
        create_trial(params=t.params, distributions=space, value=-t.params["a"]) for t in before
    ]
    assert draw(plan, space, before) != draw(plan, space, turned)


def test_trials_that_run_count(tmp_path: Path) -> None:
    plan, space = planned(), distributions(SPACE)
    first = draw(plan, space, [])
    running = create_trial(state=TrialState.RUNNING, params=first, distributions=space)
    assert draw(plan, space, [running]) != first


def test_dimensions_become_distributions() -> None:
    space = Space(
        {
            "step": Range(low=0, high=0.9, step=0.3),
            "whole": Range(low=2, high=8, step=3, integer=True),
            "log": Range(low=1, high=8, log=True, integer=True),
            "choice": Choices(choices=(0.5, [1, 2])),
        },
        {},
    )
    assert distributions(space) == {
        "step": FloatDistribution(0, 0.9, step=0.3),
        "whole": IntDistribution(2, 8, step=3),
        "log": IntDistribution(1, 8, log=True),
        "choice": CategoricalDistribution(["0.5", "[1, 2]"]),
    }


def test_a_copy_lies_in_the_wider_space_and_keeps_all_else() -> None:
    narrow: dict[str, BaseDistribution] = {"a": FloatDistribution(0.1, 1, log=True)}
    wide = {"a": FloatDistribution(0.1, 10, log=True)}
    trial = create_trial(
        params={"a": 0.5},
        distributions=narrow,
        value=2.0,
        user_attrs={"rows": 3},
        constraints={"auc": 0.5},
        intermediate_values={1: 3.0},
    )
    copy = copied(trial, wide)
    assert copy.distributions == wide
    assert (copy.params, copy.value, copy.user_attrs) == ({"a": 0.5}, 2.0, {"rows": 3})
    assert copy.constraints == {"auc": 0.5}
    assert copy.intermediate_values == {1: 3.0}
    assert copy.datetime_start == trial.datetime_start
    assert copy.datetime_complete == trial.datetime_complete


def test_pruners_by_name() -> None:
    assert isinstance(make_pruner("median"), MedianPruner)
    assert isinstance(make_pruner("asha"), SuccessiveHalvingPruner)
    assert isinstance(make_pruner("none"), NopPruner)


def test_the_median_judges_from_the_third_evaluation_on() -> None:
    study = optuna.create_study(direction="minimize", pruner=make_pruner("median"))
    for _ in range(UNPRUNED_TRIALS):
        good = dict.fromkeys(range(1, 6), 0.1)
        study.add_trial(create_trial(value=0.1, intermediate_values=good))
    bad = study.ask()
    judged = []
    for number in range(1, 5):
        bad.report(0.9, number)
        judged.append(bad.should_prune())
    assert judged == [False] * WARMUP_EVALUATIONS + [True, True]
