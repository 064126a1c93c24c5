"""Reports of real runs and studies: what they show is what comparisons and studies say."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aqcl import comparison, yardsticks
from aqcl.assessment import RunComparison, compare_runs
from aqcl.comparison import TOO_LITTLE
from aqcl.errors import ConfigError, StorageError
from aqcl.report import study_report
from aqcl.report.page import Cell
from aqcl.report.run_report import (
    Report,
    _reach,
    _result_row,
    _results,
    report_runs,
    title_of,
)
from aqcl.report.study_report import report_study
from aqcl.report.write import Choices, write_report
from aqcl.runs import open_run
from aqcl.search.files import read_findings
from aqcl.search.work import run_search
from aqcl.train import train
from aqcl.wording import INFEASIBLE, NOT_AFTER_HOLM, OF_CHANCE, below_lines, improvement, legend
from tests.alpha_searches import values_of
from tests.report.test_page import Outline
from tests.run_directories import small_dataset
from tests.searches import DIN_AND_AQCL, short_search
from tests.tiny_runs import tiny_dataset, tiny_experiment

pytestmark = pytest.mark.usefixtures("no_study_figures")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    made: list[Path] = []
    for name, weight in (("<b>DIN</b>", 0.0), ("DIN & AQCL", 0.1)):
        for seed in (1, 2):
            experiment = tiny_experiment(data, f"regularizer.aqcl.weight={weight}", f"seed={seed}")
            made.append(folder / f"{len(made)}")
            train(replace(experiment, name=name), made[-1])
    return made


@pytest.fixture(scope="module")
def few_users_tell() -> Iterator[None]:
    """The groups of the tiny dataset are large enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "lacking", lambda **_: [])
        yield


@pytest.fixture(scope="module")
def result(runs: list[Path], few_users_tell: None) -> RunComparison:
    return compare_runs(runs, replicates=100)


@pytest.fixture(scope="module")
def report(runs: list[Path], few_users_tell: None) -> Report:
    return report_runs(runs, replicates=100)


@pytest.fixture(scope="module")
def study(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("studies") / "study"
    run_search(short_search(data, trials=3, widen=0, methods=DIN_AND_AQCL), out)
    return out


def test_what_training_took_sorts_as_numbers(report: Report, runs: list[Path]) -> None:
    seconds = [open_run(run).manifest.content["seconds"] for run in runs]
    steps = [open_run(run).manifest.content["best_step"] for run in runs]
    compared, _, _ = report.html.partition("Results by activity</h2>")
    for values, unit in ((seconds, "s"), (steps, "steps")):
        keys = re.findall(rf'data-value="([\d.]+)">[\d,]+(?: to [\d,]+)? {unit}<', compared)
        assert keys
        assert {float(key) for key in keys} <= set(map(float, values))


def test_a_report_shows_every_number_of_the_comparison(
    report: Report, result: RunComparison
) -> None:
    text = Outline(report.html).text
    for row in result.comparison.rows:
        assert row.configuration in text
        assert row.verdict in text
        if row.auc is not None:
            assert f"{row.auc:.4f}" in text
        if row.rela_impr_low is not None and row.verdict != "base":
            assert f"{row.rela_impr:+.2f}" in text


def test_a_report_tells_the_perplexity_that_sees_a_collapse(runs: list[Path]) -> None:
    text = Outline(report_runs(runs[2:], replicates=100).html).text
    found = open_run(runs[2]).log()[-1]["aqcl/nearest_perplexity"]
    assert 1 <= found <= 8
    assert f"{found:.2f}" in text
    assert "Perplexity, nearest" in text


def test_a_report_of_one_method_has_a_scale_for_its_yardsticks(runs: list[Path]) -> None:
    made = report_runs(runs[:2], replicates=100).html
    rows = compare_runs(runs[:2], replicates=100).comparison.rows
    held = [row for row in rows if row.verdict != "base" and row.difference_low is not None]
    reach = max(abs(end or 0.0) for r in held for end in (r.difference_low, r.difference_high))
    assert reach > 0.0005
    assert f"bars reach from {-reach:+.3f} to {reach:+.3f} AUC" in made
    assert made.count('<svg class="bar') == len(held)


def test_bars_are_on_the_scale_of_those_that_tell_something(result: RunComparison) -> None:
    trained = [
        row for row in result.comparison.rows if row.configuration in result.runs and row.p_value
    ]
    told = replace(trained[0], verdict="better", difference_low=0.01, difference_high=0.03)
    wide = replace(trained[0], verdict=TOO_LITTLE, difference_low=-0.2, difference_high=0.3)
    assert _reach([told, wide], result.runs) == 0.03
    assert _reach([wide], result.runs) == 0.3


def test_an_improvement_on_chance_is_told_as_a_difference(result: RunComparison) -> None:
    (row, *_) = (r for r in result.comparison.rows if r.p_value)
    near = replace(
        row,
        verdict="better",
        difference=0.05,
        difference_low=0.01,
        difference_high=0.09,
        rela_impr=234.88,
        rela_impr_low=None,
        rela_impr_high=None,
    )
    cell = _result_row(near, None, 0.1)[4]
    assert isinstance(cell, Cell)
    assert cell.text == "AUC +0.0500 [+0.0100, +0.0900]"


def test_a_page_and_a_terminal_say_the_same_of_a_comparison(
    report: Report, result: RunComparison
) -> None:
    page = Outline(report.html).text
    assert result.below_yardsticks()
    for line in (*legend(result), *below_lines(result)):
        assert line in page
    assert all(improvement(row) in page for row in result.comparison.rows)


def test_a_difference_that_fails_holm_looks_like_none_and_is_explained(
    result: RunComparison,
) -> None:
    found = {name: [open_run(path) for path in paths] for name, paths in result.runs.items()}

    def results(holm: float) -> str:
        rows = tuple(
            row if row.holm is None else replace(row, verdict="better", holm=holm)
            for row in result.comparison.rows
        )
        return _results(replace(result, comparison=replace(result.comparison, rows=rows)), found)

    assert 'class="bar better"' in results(0.01)
    assert '<td class="better">better</td>' in results(0.01)
    assert NOT_AFTER_HOLM not in results(0.01)
    assert 'class="bar better"' not in results(0.2)
    assert "<td>better, not after Holm</td>" in results(0.2)
    assert NOT_AFTER_HOLM in results(0.2)


def test_yardsticks_are_computed_once_and_have_one_name(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = replace(tiny_experiment(data), name="popularity")
    train(experiment, tmp_path / "run")
    calls: list[int] = []
    counted = yardsticks.item_cf

    def counting(*arguments: Any) -> Any:
        calls.append(1)
        return counted(*arguments)

    monkeypatch.setattr(yardsticks, "item_cf", counting)
    figure = report_runs([tmp_path / "run"], replicates=100).figures["auc-by-clicks"]
    assert len(calls) == 1
    assert "popularity (not trained)" in [text.get_text() for text in figure.axes[0].texts]


def test_a_report_is_small_and_the_same_each_time(runs: list[Path], report: Report) -> None:
    assert report.html == report_runs(runs, replicates=100).html
    assert len(report.html.encode()) < 3_000_000
    assert {"auc-by-clicks", "valid-auc", "calibration", "alpha-1"} <= report.figures.keys()


def test_a_report_warns_of_what_makes_numbers_worth_less(runs: list[Path]) -> None:
    text = Outline(report_runs(runs[:3], replicates=100).html).text
    assert "Few seeds (<b>DIN</b>: 2, DIN & AQCL: 1)" in text
    assert "different numbers of seeds" in text
    assert re.search(r"Too little to tell in the group highly-active: \d+ users of 100", text)


def test_a_report_of_one_method_warns_of_groups_that_are_too_small(runs: list[Path]) -> None:
    text = Outline(report_runs(runs[:1], replicates=100).html).text
    assert re.search(r"Too little to tell in the group highly-active: \d+ users of 100", text)
    assert re.search(r"\d+ clicks; too little to tell: \d+ users of 100", text)


def test_a_report_says_what_was_resampled_and_how_often(runs: list[Path], report: Report) -> None:
    alone, several = (
        Outline(made.html).text for made in (report_runs(runs[:1], replicates=100), report)
    )
    assert "Interval: 95% of 100 resamples of the users, paired on the same rows." in alone
    assert "95% intervals of 200 resamples of the users. Dotted" in alone
    assert "All rows are one part" in alone
    assert "users and seeds" not in alone
    assert "Interval: 95% of 100 resamples of the users and seeds, paired on the same" in several
    assert "95% intervals of 200 resamples of the users and seeds. Dotted" in several


def test_a_report_tells_settings_that_differ_and_fingerprints(
    runs: list[Path], report: Report
) -> None:
    text = Outline(report.html).text
    assert "regularizer.aqcl.weight" in text
    manifest = json.loads((runs[0] / "manifest.json").read_text())
    assert manifest["fingerprint"][:12] in text
    assert str(runs[0].parent) not in text  # no paths of this machine


def test_a_study_has_its_trials_winners_and_alpha(study: Path) -> None:
    made = report_study(study)
    text = Outline(made.html).text
    summary = json.loads((study / "study.json").read_text())
    for name, method in summary["methods"].items():
        assert name in text
        for trial in method["trials"]:
            if trial["value"] is not None:
                assert f"{trial['value']:.4f}" in text
    assert {"best-so-far", "alpha-1"} <= made.figures.keys()


def test_a_study_says_on_top_what_has_failed(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, summary = read_findings(study)
    assert "trials of din failed" not in report_study(study).html
    din = summary["methods"]["din"]
    din["best_so_far"][:2] = [None, None]
    din["trials"][0] |= {"state": "fail", "value": None, "feasible": None, "error": "too hot"}
    din["trials"][1] |= {"feasible": False}
    monkeypatch.setattr(study_report, "read_findings", lambda path: (manifest, summary))
    made = report_study(study).html
    top, _, rest = made.partition("<main")
    assert "1 of 3 trials of din failed" in top
    assert "No value from the first 2 trials of din: 1 failed, 1 out of bounds" in rest
    assert "<td>failed</td>" in rest
    assert "<td>fail</td>" not in rest
    assert "Why trial 0 failed: too hot" in rest


def test_a_study_tells_what_its_winner_reached_over_all_its_seeds(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, summary = read_findings(study)
    din, aqcl = summary["methods"].values()
    best = din["best"]
    other = (best["number"] + 1) % 3  # as good in its first seed
    din["finalists"] = [
        {"number": number, "values": [best["value"], 0.1, 0.1], "mean": mean}
        for number, mean in ((other, 0.4567), (best["number"], 0.4321))
    ]
    monkeypatch.setattr(study_report, "read_findings", lambda path: (manifest, summary))
    rows = re.findall(r"<tr>.*?</tr>", report_study(study).html)[1:3]
    told = [re.findall(r">(\d\.\d{4})</td><td[^>]*>(\d+)</td>", row)[0] for row in rows]
    assert told == [("0.4321", "3"), (f"{aqcl['best']['value']:.4f}", "1")]


def test_a_study_says_that_importances_can_be_noise(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, summary = read_findings(study)
    assert OF_CHANCE not in Outline(report_study(study).html).text
    summary["methods"]["din"]["importance"] = {"train.lr": 0.75, "train.embedding_l2": 0.25}
    monkeypatch.setattr(study_report, "read_findings", lambda path: (manifest, summary))
    made = report_study(study)
    assert "importance-0" in made.figures
    assert OF_CHANCE in Outline(made.html).text


def test_a_study_marks_trials_that_cannot_win_and_says_why_others_failed(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, summary = read_findings(study)
    summary["objective"] = "constrained"
    _, second, third = summary["methods"]["din+aqcl"]["trials"]
    second["feasible"] = False
    third |= {"state": "fail", "value": None, "feasible": None, "error": "the loss is <nan>"}
    monkeypatch.setattr(study_report, "read_findings", lambda path: (manifest, summary))

    made = report_study(study)

    text = Outline(made.html).text
    assert "the best validation AUC, non-active" in text
    assert "constrained" not in text
    assert made.figures["best-so-far"].axes[0].get_ylabel().endswith("validation AUC, non-active")
    assert f'data-value="{second["number"]}">{second["number"]} *</th>' in made.html
    assert made.html.count(" *</th>") == 1
    assert f"{INFEASIBLE}; such a trial cannot win." in text
    assert f"Why trial {third['number']} failed: the loss is <nan>" in text


def test_a_study_whose_dataset_was_prepared_anew_has_no_alpha_over_other_users(
    tmp_path: Path,
) -> None:
    data = tiny_dataset(tmp_path)
    run_search(short_search(data, trials=2, widen=0), tmp_path / "study")
    assert "alpha-0" in report_study(tmp_path / "study").figures

    shutil.rmtree(data)
    small_dataset(data)

    made = report_study(tmp_path / "study")
    assert "alpha-0" not in made.figures
    assert "another is in its place (its fingerprint differs)" in Outline(made.html).text


@pytest.mark.parametrize(
    ("method", "course"),
    [("one-run", "How alpha moved"), ("halving", "What each candidate reached at each rung")],
)
def test_a_search_for_alpha_alone_shows_how_it_went(
    data: Path, tmp_path: Path, method: str, course: str
) -> None:
    run_search(values_of(data, method), tmp_path / "study")
    made = report_study(tmp_path / "study")
    assert course in made.html
    unit = {"one-run": "evaluation", "halving": "rung of a candidate"}[method]
    assert made.figures["best-so-far"].axes[0].get_xlabel() == unit
    assert len(made.figures["course"].axes[0].get_lines()) >= 2


def test_a_title_names_a_few_methods_and_counts_many() -> None:
    assert title_of(["DIN", "AQCL", "ICL", "DMR"], "beauty") == "DIN, AQCL, ICL, DMR"
    assert title_of([str(k) for k in range(40)], "beauty") == "40 methods on beauty"


def test_mistakes_are_named(runs: list[Path], study: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs run directories"):
        write_report([], tmp_path / "r.html", Choices())
    with pytest.raises(ConfigError, match=r"--base DIN: .* is a study"):
        write_report([study], tmp_path / "r.html", Choices(base="DIN"))
    with pytest.raises(ConfigError, match=r"--split valid: .* is a study"):
        write_report([study], tmp_path / "r.html", Choices(split="valid"))
    with pytest.raises(ConfigError, match=r"--by age, item-activity: .* is a study"):
        write_report([study], tmp_path / "r.html", Choices(by=("age", "item-activity")))
    with pytest.raises(ConfigError, match=r"--dataset .*data: .* is a study"):
        write_report([study], tmp_path / "r.html", Choices(dataset=tmp_path / "data"))
    assert not (tmp_path / "r.html").exists()
    with pytest.raises(ConfigError, match="a study has a report of its own"):
        write_report([study, *runs], tmp_path / "r.html", Choices())
    (tmp_path / "begun").mkdir()
    shutil.copy(study / "study.toml", tmp_path / "begun")
    with pytest.raises(StorageError, match=r"begun: this study has not finished; .*--resume"):
        write_report([tmp_path / "begun"], tmp_path / "r.html", Choices())
    with pytest.raises(StorageError):
        write_report([tmp_path / "nothing"], tmp_path / "r.html", Choices())
    with pytest.raises(ConfigError, match="no run is called"):
        write_report(runs, tmp_path / "r.html", Choices(base="DIM"))
    assert not (tmp_path / "r.html").exists()
