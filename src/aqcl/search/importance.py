"""How much each setting matters for whether a trial of a study is a good one."""

import warnings
from typing import Final

import optuna
from optuna.trial import TrialState

TARGET: Final = 0.5
"""Share of the trials, the best, whose settings are held against those of all.

The best tenth, Optuna's default, is two or three of 24 trials, and another setting than the one
that decides then comes first more often (tests/search/test_importance.py).
"""
FEWEST: Final = 16
"""Trials trained to the end, without which there are no importances: half of them is more than the
five that Optuna asks for."""


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of each parameter in what makes a trial good; empty with too few trials.

    Reference: PED-ANOVA, arXiv 2304.10255.
    """
    complete = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    if len(complete) < FEWEST or len({t.value for t in complete}) < 2:
        return {}
    # Here, for it imports scikit-learn and all of SciPy's statistics: as much as torch, in each
    # process of a search.
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    evaluator = PedAnovaImportanceEvaluator(target_quantile=TARGET)
    with warnings.catch_warnings():
        # It warns of groups of trials that are too small, which the number above rules out.
        warnings.simplefilter("ignore")
        found = get_param_importances(study, evaluator=evaluator)
    return {key: float(value) for key, value in found.items()}
