"""The specifications of experiments/alpha.py are valid, and the page says what results/ holds."""

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from aqcl.config import build, read_toml, to_toml
from aqcl.dataset import open_dataset
from aqcl.experiment import Experiment, resolve
from aqcl.prepare.pipeline import PrepareSettings
from aqcl.search.alpha_search import alpha_owner
from aqcl.search.plan import plan_search
from tests.test_experiments import ROOT, load_script
from tests.tiny_runs import tiny_dataset, tiny_experiment

SPECIFICATIONS = sorted(
    path for path in (ROOT / "experiments").glob("*.toml") if "searches" in read_toml(path)
)


@pytest.fixture(scope="module")
def alpha() -> ModuleType:
    return load_script("alpha")


def found(out: Path, experiment: Experiment, w1: float) -> None:
    """A winner where a search writes it."""
    table = {**experiment.regularizer["aqcl"], "w1": w1}
    values = {"dataset": "data", "regularizer": {"aqcl": table}}
    out.mkdir(parents=True)
    (out / "best.toml").write_text(to_toml(values))


@pytest.mark.parametrize("path", SPECIFICATIONS, ids=lambda path: path.stem)
def test_all_searches_and_runs_differ_in_alpha_alone(
    alpha: ModuleType, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = read_toml(path)
    build(PrepareSettings, spec["prepare"])
    assert spec["search_seed"] not in spec["final_seeds"]
    monkeypatch.setattr(alpha, "ROOT", tmp_path)
    searches = alpha.searches_of(spec, tmp_path)
    plans = {search.name: plan_search(search.values) for search in searches}
    assert spec["base"] in plans
    assert {plan.options.method for plan in plans.values()} == {"black-box", "one-run", "halving"}
    given = plans["one-run"].experiment
    for search in searches:
        plan = plans[search.name]
        assert alpha_owner(plan.experiment) == "aqcl"
        assert plan.experiment.runtime.threads == 1
        assert (plan.experiment.train, plan.experiment.backbone) == (given.train, given.backbone)
        keys = {key for method in plan.methods for key in method.space.searched}
        assert keys <= {"regularizer.aqcl.w1", "regularizer.aqcl.w2"}
        found(search.out, plan.experiment, w1=0.125)
        assert not alpha.is_searched(search)  # its winner may still change
        (search.out / "manifest.json").touch()
        assert alpha.is_searched(search)
    cells = alpha.final_runs(spec, tmp_path, searches)
    assert list(cells) == alpha.all_arms(spec)
    assert len(cells) == len(spec["constants"]) + 1 + len(searches)
    assert len({job.out for jobs in cells.values() for job in jobs}) == 5 * len(cells)


def test_a_final_run_has_the_alpha_that_was_found(
    alpha: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aqcl.config import override

    spec = read_toml(ROOT / "experiments" / "beauty-alpha.toml")
    monkeypatch.setattr(alpha, "ROOT", tmp_path)
    searches = alpha.searches_of(spec, tmp_path)
    for search in searches:
        found(search.out, plan_search(search.values).experiment, w1=0.125)
    cells = alpha.final_runs(spec, tmp_path, searches)
    resolved = {
        arm: resolve(override(jobs[1].settings, jobs[1].assignments)) for arm, jobs in cells.items()
    }
    assert {experiment.seed for experiment in resolved.values()} == {2}
    assert [experiment.label for experiment in resolved.values()] == list(cells)
    tables = {arm: experiment.regularizer["aqcl"] for arm, experiment in resolved.items()}
    assert tables["alpha 0.3"]["constant_alpha"] == 0.3
    assert tables["curve as given"]["w1"] == spec["experiment"]["regularizer"]["aqcl"]["w1"]
    assert tables["halving"]["w1"] == 0.125
    assert tables["groups, one-run"]["alpha"] == "groups"
    assert not tables["one-run"]["learn_alpha"]["enabled"]


def test_alpha_is_averaged_over_the_training_rows(alpha: ModuleType, tmp_path: Path) -> None:
    dataset = open_dataset(tiny_dataset(tmp_path))
    clicks = dataset.train.columns["history_length"]
    curve = tiny_experiment(dataset.path, "regularizer.aqcl.w1=0.5", "regularizer.aqcl.w2=2")
    expected = np.exp(-0.5 * (clicks / dataset.mean_activity) ** 2).mean()
    assert alpha.mean_alpha(curve, dataset) == pytest.approx(expected)
    constant = tiny_experiment(dataset.path, "regularizer.aqcl.constant_alpha=0.3")
    assert alpha.mean_alpha(constant, dataset) == pytest.approx(0.3)


def test_the_page_holds_the_results() -> None:
    page = (ROOT / "docs" / "alpha.md").read_text(encoding="utf-8")
    assert load_script("render").render(page) == page


def test_what_was_found_quotes_numbers_that_stand_in_the_tables() -> None:
    page = (ROOT / "docs" / "alpha.md").read_text(encoding="utf-8")
    found, _, tables = page.partition("## What was found")[2].partition("<!-- results:")
    quoted = re.findall(r"\d\.\d{4}", found)
    assert quoted
    assert [number for number in quoted if number not in tables] == []


def test_the_page_tells_what_a_halving_cost_with_its_winner() -> None:
    load_script("render")  # finds its neighbours
    page = load_script("alpha_page")
    costs = [
        1 + page.trainings(json.loads((ROOT / "results" / name).read_text("utf-8")), "halving")
        for name in ("beauty-alpha.json", "ta-feng-alpha.json")
    ]
    text = " ".join((ROOT / "docs" / "alpha.md").read_text(encoding="utf-8").split())
    assert "its winner it cost {:.2f} and {:.2f} trainings".format(*costs) in text


def outcome() -> dict[str, Any]:
    """A small outcome: one constant, the given curve, two searches."""
    aucs = {"alpha 0.3": 0.70, "given": 0.71, "black-box": 0.72, "one-run": 0.73}
    rows = []
    for group in ("all", "non-active"):
        for arm, auc in aucs.items():
            gap = auc - aucs["black-box"]
            row = {"configuration": arm, "group": group, "auc": auc, "auc_sd": 0.001}
            row |= {"difference": gap, "difference_low": gap - 0.01, "difference_high": gap + 0.01}
            rows.append(row | {"verdict": "base" if arm == "black-box" else "no difference shown"})
    tables = {arm: {"w1": 0.5} for arm in aucs} | {"alpha 0.3": {"constant_alpha": 0.3}}
    search = {"seconds": 60.0, "notes": [], "best": {"value": 0.6, "parameters": {"a.w1": 0.5}}}
    return {
        "command": "python experiments/alpha.py experiments/beauty-alpha.toml",
        "specification": {
            "base": "black-box", "final_seeds": [1, 2], "constants": [0.3], "given": "given"
        },
        "winners": {
            arm: {"dataset": "data", "regularizer": {"aqcl": table}}
            for arm, table in tables.items()
        },
        "train_alpha": dict.fromkeys(aucs, 0.625),
        "searches": {
            "black-box": {**search, "rows": 1200},
            "one-run": {**search, "rows": 130, "notes": ["w1 lies at an end"]},
        },
        "runs": [
            {"method": arm, "rows": 90 + 20 * k, "valid": {"logloss": 0.5 + k / 10}}
            for arm in aucs
            for k in range(2)
        ],
        "comparisons": {"test": {"rows": rows}},
        "not_run": [],
    }  # fmt: skip


def test_rendering_shows_quality_and_cost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    render = load_script("render")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "beauty-alpha.json").write_text(json.dumps(outcome()))
    monkeypatch.setattr(render, "ROOT", tmp_path)
    monkeypatch.setattr(render, "ALPHA", tmp_path / "alpha.md")
    start, end = "<!-- results:beauty-alpha -->", "<!-- /results:beauty-alpha -->"
    text = render.render(f"x\n{start}\nold\n{end}\ny")
    assert text.startswith(f"x\n{start}\n`python experiments/alpha.py ")
    assert text.endswith(f"{end}\ny")
    description = (
        "![Test AUC of constants beside the searched curve: alpha 0.3 0.7000. Test AUC of each "
        "search over its cost in trainings: black-box 0.7200 at 12.00; one-run 0.7300 at 1.30.]"
    )
    assert f"\n{description}(figures/beauty-alpha.svg)\n" in text
    assert "| alpha 0.3 | 0.300 | 0.300 | 0.625 | 0.7000 ± 0.0010 | -0.0200 [-0.0300, " in text
    assert "| black-box | 1.000 | 0.607 | 0.625 | 0.7200 ± 0.0010 | - | base |" in text
    assert "| given (w1 0.5, w2 1) | 1.000 | 0.607 | " in text
    assert "| not searched: given (w1 0.5, w2 1) | 0 | 0 | 0 |  |  | 0.55000 ± 0.07071 |" in text
    assert "One training is 100 rows" in text
    assert "| black-box | 1,200 | 12.00 | 60 | w1 0.5 | 0.60000 | 0.55000 ± 0.07071 |" in text
    assert "| one-run | 130 | 1.30 | 60 |" in text
    assert "one-run: w1 lies at an end." in text
    render.draw_alphas()
    svg = (tmp_path / "figures" / "beauty-alpha.svg").read_text()
    assert all(words in svg for words in ("constant alpha", "one-run", "curve of"))
    assert not (tmp_path / "figures" / "beauty-alpha.png").exists()


def test_other_forms_stand_against_the_learned_curve() -> None:
    load_script("render")  # finds its neighbours
    page = load_script("alpha_page")
    results = outcome()
    assert page.forms_lines(results) == []
    rows = [
        {**row, "configuration": name, "verdict": verdict}
        for row in results["comparisons"]["test"]["rows"]
        if row["configuration"] == "one-run"
        for name, verdict in (("one-run", "base"), ("spline, one-run", "worse"))
    ]
    results["comparisons"]["forms"] = {"base": "one-run", "rows": rows}
    lines = page.forms_lines(results)
    assert sum(line.startswith("| spline, one-run |") for line in lines) == 2
    assert not any(line.startswith("| one-run |") for line in lines)
    assert lines[-1].endswith("| worse |")
    assert lines == page.block(results, "x.svg").splitlines()[-len(lines) - 2 : -2]


def test_arms_that_have_not_finished_are_named_and_left_out() -> None:
    load_script("render")  # finds its neighbours
    page = load_script("alpha_page")
    results = outcome()
    for arm in ("alpha 0.3", "given", "one-run"):
        del results["winners"][arm]
    results["runs"] = [run for run in results["runs"] if run["method"] == "black-box"]
    rows = results["comparisons"]["test"]["rows"]
    rows[:] = [row for row in rows if row["configuration"] == "black-box"]
    results["not_run"] = ["alpha 0.3", "given", "one-run"]
    text = page.block(results, "x.svg")
    assert (
        "![Test AUC of each search over its cost in trainings: black-box 0.7200 at 12.00.]" in text
    )
    assert "Not run with fresh seeds: alpha 0.3, given, one-run." in text
    assert "| one-run | 130 | 1.30 | 60 | w1 0.5 | 0.60000 | not run |" in text
    assert "| not searched: given | 0 | 0 | 0 |  |  | not run |" in text
    (panel,) = page.picture(results).axes
    assert len(panel.containers) == 1


def test_the_figure_has_a_point_for_each_arm() -> None:
    load_script("render")  # finds its neighbours
    left, right = load_script("alpha_page").picture(outcome()).axes
    points = [[float(line.get_xdata()[0]) for line in bars.lines[:1]] for bars in left.containers]
    assert points == [[0.3]]
    points = [[round(float(bars.lines[0].get_xdata()[0]), 6)] for bars in right.containers]
    assert points == [[12.0], [1.3]]
    ((low, high),) = [bars.lines[2][0].get_segments()[0][:, 1] for bars in left.containers]
    assert (low, high) == pytest.approx((0.69, 0.71))
