"""Trials that a pruner has given up."""

from pathlib import Path
from typing import Any

import pytest

from aqcl.search import trials
from aqcl.search.work import run_search
from tests.searches import assert_same_study, killed_at
from tests.searches import short_search as search_values
from tests.tiny_runs import tiny_dataset

pytestmark = pytest.mark.usefixtures("no_study_figures")


def test_a_trial_killed_when_it_was_given_up_stays_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {"train.lr": {"low": 1e-4, "high": 0.1, "log": True}}
    settings: dict[str, Any] = {"trials": 6, "widen": 0, "sampler": "random", "space": space}
    data = tiny_dataset(tmp_path)
    values = search_values(data, pruning="asha", objective="auc", **settings)
    whole = run_search(values, tmp_path / "whole")
    states = [trial["state"] for trial in whole["methods"]["best"]["trials"]]
    assert states.count("pruned") > 1

    # Each trial is killed once when it is over, and taken up again.
    for call in (0, 1, 1, 1, 1, 1):
        with killed_at(monkeypatch, trials, "_cost", call):
            run_search(values, tmp_path / "killed", resume=(tmp_path / "killed").exists())
    run_search(values, tmp_path / "killed", resume=True)
    assert_same_study(tmp_path / "killed", tmp_path / "whole")
