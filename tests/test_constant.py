"""Probabilities that are worse than the rows' own click rate for each of them: told as such."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aqcl.assessment import RunComparison, compare_runs
from aqcl.dataset import Dataset
from aqcl.evaluate import ALL, evaluate
from aqcl.metrics import constant_logloss, logloss
from aqcl.predictions import Predictions
from aqcl.report.run_report import _warnings
from aqcl.search.work import run_search
from aqcl.tables import comparison_table, evaluation_table
from aqcl.wording import constant_lines
from tests.run_directories import scored_run, small_dataset
from tests.searches import draw_no_study_figures, search_values
from tests.test_tables import comparison, row, shown

RATE = "The rows' own click rate, the same for every row, has a logloss of"


@pytest.mark.parametrize(("positives", "rows"), [(0, 3), (3, 3), (1, 2), (13, 400)])
def test_it_is_the_logloss_of_the_rate_and_of_no_other_constant(positives: int, rows: int) -> None:
    label = np.arange(rows) < positives
    found = constant_logloss(positives, rows)
    rate = positives / rows
    assert found == pytest.approx(logloss(label, np.full(rows, rate)), abs=1e-6)
    for other in (rate + 0.01, rate - 0.01):
        if 0 <= other <= 1:
            assert found < logloss(label, np.full(rows, other))


def test_no_rows_have_none() -> None:
    assert np.isnan(constant_logloss(0, 0))


def test_each_group_is_held_against_its_own_rate() -> None:
    label = np.tile([1, 0, 0, 0], 100)
    columns: dict[str, Any] = {"user": np.arange(400), "item": np.zeros(400, int), "label": label}
    activity = np.repeat([0, 5], 200)
    made = Predictions(**columns, activity=activity, score=np.where(label == 1, 0.9, 0.1))
    found = evaluate(made, (3, 8), 10)
    assert found[ALL].constant_logloss == pytest.approx(constant_logloss(1, 4))
    assert found["highly-active"].constant_logloss is None  # nobody is
    ranks = evaluate(dataclasses.replace(made, is_probability=False), (3, 8), 10)
    assert ranks[ALL].constant_logloss is None


def with_loglosses(protocol: str = "impressions", **loglosses: float) -> RunComparison:
    rows = [row(name, ALL, rows=1000, positives=100) for name in loglosses]
    made = comparison(*rows, runs=tuple(loglosses), protocol={"labels": protocol})
    return dataclasses.replace(made, loglosses=loglosses)


def test_those_above_are_told_in_one_line() -> None:
    constant = f"{constant_logloss(100, 1000):.4f}"  # 0.3251
    poor = with_loglosses(DIN=0.4, AQCL=0.31, ICL=0.3252)
    (line,) = constant_lines(poor)
    assert line.startswith(f"{RATE} {constant}, no higher than DIN 0.4000, ICL 0.3252: ")
    assert line in " ".join(shown(comparison_table(poor)).split())
    assert constant_lines(with_loglosses(DIN=0.32)) == []


def test_a_rate_that_was_drawn_is_no_yardstick() -> None:
    assert constant_lines(with_loglosses("sampled", DIN=0.4)) == []


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("constant") / "data")


def test_runs_are_compared_by_the_mean_of_their_seeds(dataset: Dataset, tmp_path: Path) -> None:
    runs = [scored_run(tmp_path / f"r{s}", dataset, name="DIN", seed=s) for s in (0, 1)]
    result = compare_runs([run.path for run in runs], replicates=100)
    each = [logloss(p.label, p.score) for p in (run.predictions("test") for run in runs)]
    assert result.loglosses == {"DIN": pytest.approx(sum(each) / 2)}
    # Their noise has a deviation of 1, which makes them too sure.
    (above,) = result.above_constant()
    everyone = result.comparison.rows[0]
    assert above.constant == constant_logloss(everyone.positives, everyone.rows)
    assert above.constant <= above.logloss == result.loglosses["DIN"]
    assert any(RATE in line for line in _warnings(result, {"DIN": runs}))


def test_an_evaluation_has_both_below_each_other(dataset: Dataset, tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", dataset, name="DIN")
    everyone = run.metrics()["test"]["groups"][0]
    lines = [line.split() for line in shown(evaluation_table(run, "test")).splitlines()]
    at = next(k for k, words in enumerate(lines) if words[:1] == ["logloss"])
    assert lines[at][1] == f"{everyone['logloss']:.4f}"
    constant = constant_logloss(everyone["positives"], everyone["rows"])
    assert lines[at + 1][:3] == ["constant's", "logloss", f"{constant:.4f}"]


def test_a_study_tells_that_no_trial_is_below(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_no_study_figures(monkeypatch)
    values = search_values(dataset.path, trials=2, widen=0)
    # An epoch at this rate gets nowhere near the rate of clicks, which is a third.
    values["train"] = {**values["train"], "epochs": 1, "lr": 1e-6}
    summary = run_search(values, tmp_path / "study")
    best = summary["methods"]["best"]["best"]["value"]
    (note,) = [text for text in summary["notes"] if "own click rate" in text]
    assert f"; the best has {best:.4f}: " in note
    by_auc = {**values, "search": {**values["search"], "objective": "auc"}}
    notes = run_search(by_auc, tmp_path / "by-auc")["notes"]
    assert not any("own click rate" in text for text in notes)
