"""A report by other groups of rows than those of the users' activity."""

from pathlib import Path

import pytest

from aqcl import comparison
from aqcl.assessment import compare_runs
from aqcl.errors import ConfigError
from aqcl.evaluate import ALL
from aqcl.item_groups import ITEM_GROUPS
from aqcl.report.run_report import report_runs
from aqcl.report.write import Choices, write_report
from aqcl.train import train
from aqcl.wording import legend
from tests.e2e.commands import fails, succeeds
from tests.report.test_page import Outline
from tests.tiny_runs import tiny_dataset, tiny_experiment

BY = "item-activity"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    data, found = tiny_dataset(folder), []
    for name, weight in (("DIN", 0.0), ("AQCL", 0.1)):
        settings = (f"regularizer.aqcl.weight={weight}", f"name={name}", "train.epochs=1")
        found.append(train(tiny_experiment(data, *settings), folder / name).path)
    return found


@pytest.fixture
def section(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> str:
    """The part of a page by the items' clicks, where every group is large enough."""
    monkeypatch.setattr(comparison, "lacking", lambda **_: [])
    html = report_runs(runs, replicates=100, by=(BY, "user-activity", BY)).html
    _, found, rest = html.partition(f"Results by {BY}</h2>")
    assert found
    assert f"Results by {BY}</h2>" not in rest
    assert "Results by user-activity" not in html
    return rest.partition("<h2")[0]


def test_other_groups_have_the_numbers_of_their_comparison(section: str, runs: list[Path]) -> None:
    text = Outline(section).text
    result = compare_runs(runs, by=BY, replicates=100)
    rows = [row for row in result.comparison.rows if row.group != ALL]
    assert {row.group for row in rows} == set(ITEM_GROUPS)
    assert "All users" not in text
    for row in rows:
        caption = f"{row.rows:,} rows, {row.users:,} users, {row.positives:,} clicks"
        assert caption in text
        if row.auc is not None:
            assert f"{row.auc:.4f}" in text


def test_other_groups_tell_what_they_are_and_nothing_twice(section: str, runs: list[Path]) -> None:
    text = Outline(section).text
    assert "Groups are of the row's own item" in text
    for line in legend(compare_runs(runs, replicates=100)):
        assert line not in text


def test_other_groups_have_no_column_of_what_whole_users_have(
    section: str, runs: list[Path]
) -> None:
    assert "GAUC" not in section
    assert "Logloss" in section
    main = report_runs(runs, replicates=100).html
    assert "GAUC" in main


def test_other_groups_repeat_nothing_of_all_users(section: str, runs: list[Path]) -> None:
    told = compare_runs(runs, by=BY, replicates=100).below_yardsticks()
    assert {ALL} < {below.group for below in told}
    text = Outline(section).text
    assert "has no higher AUC" in text
    assert "all users" not in text


def test_an_unknown_group_is_refused_before_anything_is_scored(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aqcl.report.run_report.compare_runs", None)
    with pytest.raises(ConfigError, match="did you mean 'item-activity'"):
        write_report(runs, tmp_path / "r.html", Choices(by=("item-actvity",)))
    assert not (tmp_path / "r.html").exists()


def test_groups_are_named_on_the_command_line(runs: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    succeeds("report", *runs, "--by", BY, "--out", page)
    assert f"Results by {BY}" in page.read_text(encoding="utf-8")
    assert "by: expected user-activity" in fails("report", *runs, "--by", "nothing", "--out", page)
