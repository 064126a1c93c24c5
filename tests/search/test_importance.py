"""Importances of settings: how many trials they need, and whether they name the right one."""

import math

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import create_trial

from aqcl.search.importance import FEWEST, TARGET, importances

SPACE: dict[str, BaseDistribution] = {
    "l2": FloatDistribution(1e-6, 1e-1, log=True),
    "w1": FloatDistribution(0.05, 5, log=True),
    "w2": FloatDistribution(0.2, 5, log=True),
    "weight": CategoricalDistribution(["0.01", "0.05", "0.1"]),
}


def study_of(n_trials: int, seed: int) -> optuna.Study:
    """Random trials whose value is best near a penalty of 0.01, but for noise."""
    stream = np.random.default_rng(seed)
    study = optuna.create_study(direction="maximize")
    for _ in range(n_trials):
        power = stream.uniform(-6, -1)
        drawn = {
            "l2": 10**power,
            "w1": 0.05 * 100 ** stream.random(),
            "w2": 0.2 * 25 ** stream.random(),
            "weight": ("0.01", "0.05", "0.1")[stream.integers(3)],
        }
        value = -(((power + 2) / 1.5) ** 2) + 0.5 * stream.normal()
        study.add_trial(create_trial(params=drawn, distributions=SPACE, value=value))
    return study


def test_importances_need_five_trials_among_the_best() -> None:
    assert math.ceil(TARGET * FEWEST) >= 5
    assert importances(study_of(FEWEST - 1, 0)) == {}
    found = importances(study_of(FEWEST, 0))
    assert found.keys() == SPACE.keys()
    assert math.isclose(sum(found.values()), 1)


def test_the_setting_that_decides_comes_first_after_the_default_number_of_trials() -> None:
    """With the best tenth, two or three trials, another one did in 5 of 30."""
    first = [next(iter(importances(study_of(24, seed)))) for seed in range(30)]
    assert first.count("l2") >= 29


def test_values_that_are_all_the_same_tell_nothing() -> None:
    study = optuna.create_study()
    for trial in study_of(FEWEST, 0).trials:
        study.add_trial(create_trial(params=trial.params, distributions=SPACE, value=0.5))
    assert importances(study) == {}
