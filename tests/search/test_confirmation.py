"""The best trials of a search are trained again with other seeds, and the best mean wins."""

from pathlib import Path
from typing import Any

import pytest

from aqcl.config import read_toml
from aqcl.console import show
from aqcl.errors import ConfigError, TrainingError
from aqcl.experiment import Experiment, resolve
from aqcl.report.study_report import report_study
from aqcl.runs import Run, open_run
from aqcl.search import trials
from aqcl.search.files import STUDY
from aqcl.search.plan import ONLY, plan_search
from aqcl.search.standing import Standing
from aqcl.search.study import Journal, Task
from aqcl.search.work import read_study, run_search, start_study
from aqcl.tables import study_table
from aqcl.train import train
from tests.searches import assert_same_study, claimed, end, journal, killed_at
from tests.searches import short_search as search_values
from tests.tiny_runs import tiny_dataset

pytestmark = pytest.mark.usefixtures("no_study_figures")
L2 = "train.embedding_l2"
SETTINGS: dict[str, Any] = {"trials": 3, "widen": 0, "confirm": 2, "confirm_seeds": 2}


def finish(opened: Journal, values: list[float | None]) -> list[tuple[int, int]]:
    """Claim and end trials with these values; returns which they were."""
    done = []
    for value in values:
        task = claimed(opened)
        done.append((task.slot, task.repeat))
        end(opened, task, value)
    return done


def test_finalists_are_trained_with_other_seeds_and_the_best_mean_wins(tmp_path: Path) -> None:
    opened = journal(
        tmp_path, trials=4, widen=0, confirm=2, confirm_seeds=2, objective="auc", pruning="median"
    )
    first = finish(opened, [0.70, 0.80, None, 0.79])
    with opened.locked():
        before = opened.standing()
    assert not before.is_over
    assert not before.has_ended(ONLY)
    best = before.best(ONLY)
    assert best is not None
    assert best.slot == 1  # as long as nothing else is known
    assert before.total == 4 + 2 * 2
    # All finalists once before any twice; the trials that were pruned or worse are none.
    again = finish(opened, [0.70, 0.78, 0.71, 0.77])
    assert first == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert again == [(1, 1), (3, 1), (1, 2), (3, 2)]
    over = opened.claim()
    assert isinstance(over, Standing)
    assert over.is_over
    best = over.best(ONLY)
    assert best is not None
    assert best.slot == 3
    assert over.values(ONLY, best) == [0.79, 0.78, 0.77]
    assert over.mean(ONLY, best) == pytest.approx(0.78)


def test_no_setting_is_a_finalist_twice(tmp_path: Path) -> None:
    """One seed gives copies of a setting the same value, and a lucky one would fill the final."""
    key, lucky = "backbone.dropout", 0.1
    space = {key: {"choices": [lucky, 0.2, 0.3]}}
    opened = journal(
        tmp_path, trials=12, space=space, confirm=2, confirm_seeds=1, widen=0, objective="auc"
    )
    drawn: dict[int, float] = {}
    final: list[float] = []
    while isinstance(task := opened.claim(), Task):
        setting = task.parameters[key]
        drawn[task.slot] = setting
        value = {lucky: 0.80, 0.2: 0.79, 0.3: 0.78}[setting]
        if task.repeat:
            final.append(setting)
            value = 0.70 if setting == lucky else value
        end(opened, task, value)
    assert len(drawn) > len(set(drawn.values())) == 3
    assert sorted(final) == [lucky, 0.2]
    assert isinstance(task, Standing)
    best = task.best(ONLY)
    assert best is not None
    assert best.parameters == {key: 0.2}


def test_a_finalist_that_fails_with_another_seed_is_out(tmp_path: Path) -> None:
    opened = journal(tmp_path, trials=2, widen=0, confirm=2, confirm_seeds=1)
    assert finish(opened, [0.5, 0.6, None, 0.6]) == [(0, 0), (1, 0), (0, 1), (1, 1)]
    over = opened.claim()
    assert isinstance(over, Standing)
    best = over.best(ONLY)
    assert best is not None
    assert best.slot == 1  # the lower logloss of trial 0 was luck
    assert over.mean(ONLY, over.records[ONLY][0]) is None


def test_where_all_finalists_fail_with_another_seed_another_trial_wins(tmp_path: Path) -> None:
    opened = journal(tmp_path, trials=3, widen=0, confirm=1, confirm_seeds=1)
    finish(opened, [0.6, 0.5, 0.7, None])
    over = opened.claim()
    assert isinstance(over, Standing)
    assert over.is_over
    best = over.best(ONLY)
    assert best is not None
    assert best.slot == 0
    # Where every trial was a finalist, none has won.
    opened = journal(tmp_path / "all", trials=2, widen=0, confirm=2, confirm_seeds=1)
    finish(opened, [0.6, 0.5, None, None])
    over = opened.claim()
    assert isinstance(over, Standing)
    assert over.is_over
    assert over.best(ONLY) is None


@pytest.mark.parametrize("confirm", [1, 3])
def test_a_study_tells_that_all_its_finalists_have_failed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, confirm: int
) -> None:
    def fail_with_another_seed(experiment: Experiment, *args: Any, **options: Any) -> Run:
        if experiment.seed:
            raise TrainingError("the loss is not finite")
        return train(experiment, *args, **options)

    monkeypatch.setattr(trials, "train", fail_with_another_seed)
    values = search_values(data, **{**SETTINGS, "confirm": confirm, "confirm_seeds": 1})
    if confirm == 3:
        with pytest.raises(TrainingError, match="the last: the loss is not finite"):
            run_search(values, tmp_path / "study")
        return
    summary = run_search(values, tmp_path / "study")
    method = summary["methods"][ONLY]
    ranking = sorted(method["trials"], key=lambda trial: trial["value"])
    assert method["best"]["number"] == ranking[1]["number"]
    assert (
        f"{ONLY}: every finalist failed with another seed; the best of the other trials, one seed, "
        "has won"
    ) in summary["notes"]


def test_an_abandoned_repeat_goes_to_the_next_process(tmp_path: Path) -> None:
    mine, theirs = (
        journal(tmp_path, trials=2, widen=0, confirm=1, confirm_seeds=2) for _ in range(2)
    )
    finish(mine, [0.5, 0.6])
    first, second = claimed(mine), claimed(theirs)
    assert [(t.slot, t.repeat) for t in (first, second)] == [(0, 1), (0, 2)]
    first.release()  # as the system does when its process is killed
    again = claimed(theirs)
    assert (again.slot, again.repeat, again.parameters) == (0, 1, first.parameters)


@pytest.mark.parametrize("touches", [True, False])
def test_ranges_are_widened_before_finalists_are_trained_again(
    tmp_path: Path, touches: bool
) -> None:
    space = {L2: {"low": 0.1, "high": 1, "log": True}}
    settings = {"widen": 1, "widen_trials": 2, "confirm": 1, "confirm_seeds": 1, "seed": 4}
    opened = journal(tmp_path, trials=3, space=space, **settings)
    tasks = [claimed(opened) for _ in range(3)]
    penalties = [task.parameters[L2] for task in tasks]
    inner = min(penalties, key=lambda penalty: abs(penalty - 10**-0.5))
    best = max(penalties) if touches else inner
    assert max(penalties) > 10**-0.1  # of this seed
    assert 10**-0.9 < inner < 10**-0.1
    for task in tasks:
        end(opened, task, -float(task.parameters[L2] == best))
    following = claimed(opened)
    expected = (3, 0) if touches else (penalties.index(best), 1)
    with opened.locked():
        # Three trials and a repeat, and two trials more of a wider range.
        assert opened.standing().total == (6 if touches else 4)
    assert (following.slot, following.repeat) == expected


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("studies") / "whole"
    run_search(search_values(data, **SETTINGS), out)
    return out


def test_a_search_tells_the_means_and_takes_the_best(whole: Path) -> None:
    method = read_study(whole)["methods"][ONLY]
    complete = [trial for trial in method["trials"] if trial["state"] == "complete"]
    ranking = sorted(complete, key=lambda trial: trial["value"])
    assert [f["number"] for f in method["finalists"]] == [t["number"] for t in ranking[:2]]
    assert [(r["number"], r["repeat"]) for r in method["repeats"]] == [
        (trial["number"], repeat) for repeat in (1, 2) for trial in ranking[:2]
    ]
    for finalist in method["finalists"]:
        again = [r["value"] for r in method["repeats"] if r["number"] == finalist["number"]]
        first = method["trials"][finalist["number"]]["value"]
        assert finalist["values"] == [first, *again]
        assert len(set(finalist["values"])) == 3  # the seeds differ
        assert finalist["mean"] == pytest.approx(sum(finalist["values"]) / 3)
    winner = min(method["finalists"], key=lambda finalist: finalist["mean"])
    assert method["best"]["number"] == winner["number"]
    assert method["rows"] == sum(t["rows"] for t in (*method["trials"], *method["repeats"]))
    # The winner's file has the seed of the experiment, its repeats have others.
    assert resolve(read_toml(whole / "best.toml")).seed == 0
    seeds = {open_run(whole / repeat["run"]).experiment.seed for repeat in method["repeats"]}
    assert seeds == {1001, 1002}


def test_the_terminal_and_the_report_show_the_means(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = read_study(whole)
    show(study_table(whole, summary))
    printed = " ".join(capsys.readouterr().out.split())
    page = report_study(whole).html
    for finalist in summary["methods"][ONLY]["finalists"]:
        assert f"trial {finalist['number']} {finalist['mean']:.5f}" in printed
        assert f"{finalist['mean']:.4f}" in page
    assert "trained again with other seeds" in page


@pytest.mark.parametrize(("name", "call"), [("train", 4), ("_tell", 5)])
def test_a_search_killed_among_the_repeats_ends_as_if_it_had_not_been(
    data: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    call: int,
) -> None:
    values = search_values(data, **SETTINGS)
    with killed_at(monkeypatch, trials, name, call):
        run_search(values, tmp_path / "study")
    run_search(values, tmp_path / "study", resume=True)
    assert_same_study(tmp_path / "study", whole)


def test_a_study_from_before_a_setting_goes_on_with_its_default(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    plan = plan_search(search_values(data, trials=2, widen=0))
    start_study(out, plan, resume=False)
    file = out / STUDY
    lines = file.read_text().splitlines()
    older = [line for line in lines if not line.startswith("confirm")]
    assert len(older) == len(lines) - 2
    file.write_text("\n".join(older))
    start_study(out, plan, resume=True)
    other = plan_search(search_values(data, trials=2, widen=0, confirm=1))
    with pytest.raises(ConfigError, match=r"search\.confirm: the study was started with 0, now it"):
        start_study(out, other, resume=True)
