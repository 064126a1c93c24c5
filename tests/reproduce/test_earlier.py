"""Outcomes of an earlier command, perhaps of another machine, in a later one."""

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aqcl.errors import ConfigError
from aqcl.reproduce import paper, work
from aqcl.reproduce.cells import Scope, place_of, study_of
from aqcl.reproduce.earlier import finished_in, merged, ordered, read_earlier
from aqcl.reproduce.jobs import jobs_of
from aqcl.reproduce.specs import TUNED, Specs
from aqcl.search import run_search
from tests.reproduce.specifications import SMALL_LOG, small_specs, train_in_process

pytestmark = pytest.mark.usefixtures("no_study_figures")
NAMES = ("table2", "figure4")
DATASETS = ("oncold",)


def one_seed_specs() -> Specs:
    """The small world without confirmation of its winners."""
    specs = small_specs()
    search = {**specs.studies.search, "confirm": 0}
    return replace(specs, studies=replace(specs.studies, search=search))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper, "load_specs", one_seed_specs)
        patch.setenv("AQCL_CACHE", str(tmp_path_factory.mktemp("cache")))
        train_in_process(patch)
        yield


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, cache: None) -> Scope:
    """What an earlier command has made: the table and the curve, with one seed."""
    scope = Scope(tmp_path_factory.mktemp("first"), seeds=1)
    paper.reproduce(NAMES, scope, datasets=DATASETS)
    return scope


def outcome_of(scope: Scope, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((scope.out / "outcome" / f"{name}.json").read_text())
    return found


@pytest.fixture
def later(first: Scope, tmp_path: Path) -> Scope:
    return Scope(tmp_path / "later", seeds=1, earlier=first.out / "outcome")


def test_gathering_in_an_empty_place_keeps_all_that_was_finished(
    first: Scope, later: Scope
) -> None:
    made = paper.reproduce(NAMES, later, datasets=DATASETS, train=False)
    for outcome in made:
        before = outcome_of(first, outcome["name"])
        assert json.loads(json.dumps(outcome)) == before
    assert outcome_of(later, "table2") == outcome_of(first, "table2")


def settings_of(outcome: dict[str, Any]) -> dict[str, Any]:
    """What was chosen for each method of the study."""
    methods = outcome["studies"]["oncold/din"]["methods"]
    return {name: method["experiment"] for name, method in methods.items()}


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("this has been done")


@pytest.fixture
def partly(first: Scope, tmp_path: Path) -> Scope:
    """After a command that was stopped before ICL was tuned."""
    before = outcome_of(first, "table2")
    before["comparisons"][0]["cells"]["ICL"] = "not run: not tuned yet"
    del before["studies"]["oncold/din"]["methods"]["ICL"]
    folder = tmp_path / "stopped"
    folder.mkdir()
    (folder / "table2.json").write_text(json.dumps(before))
    return Scope(tmp_path / "later", seeds=1, earlier=folder)


def test_what_has_finished_is_not_trained_again(
    first: Scope, later: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "run_search", refuse)
    trained = []

    def only_note(self: Any, cells: Any) -> None:
        trained.extend(jobs_of(cells))
        self.cells.clear()

    monkeypatch.setattr(work._Work, "_train", only_note)
    paper.reproduce(("table2",), later, datasets=DATASETS)
    assert not trained
    # Cells that the earlier command did not have are trained with its settings.
    paper.reproduce(("table2", "figure5"), later, datasets=DATASETS)
    assert {job.experiment.name for job in trained} == {"AQCL", "AQCL, constant_alpha=0.0"}
    penalty = settings_of(outcome_of(first, "table2"))["AQCL"]["train"]["embedding_l2"]
    assert {job.experiment.train.embedding_l2 for job in trained} == {penalty}


def test_only_the_methods_that_are_left_are_tuned_and_known_settings_give_the_same_runs(
    first: Scope, partly: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []

    def spy(values: Any, *args: Any, **options: Any) -> Any:
        searched.append(list(values["search"]["methods"]))
        return run_search(values, *args, **options)

    monkeypatch.setattr(work, "run_search", spy)
    monkeypatch.setattr(work, "ProcessPoolExecutor", ProcessPoolExecutor)  # as a command does
    (table,) = paper.reproduce(("table2",), partly, datasets=DATASETS)
    assert searched == [["ICL"]]
    before = outcome_of(first, "table2")
    (new,), (old,) = table["comparisons"], before["comparisons"]
    seconds = {"seconds": 0}
    assert [run | seconds for run in new["runs"]] == [run | seconds for run in old["runs"]]
    assert new["comparison"] == old["comparison"]
    assert settings_of(table) == settings_of(before)
    # Done again: nothing is left, and the study that was begun for one method goes on as such.
    assert paper.reproduce(("table2",), partly, datasets=DATASETS) == [table]


def after(first: Scope, name: str, tmp_path: Path) -> Scope:
    """A later command that knows one outcome of the earlier alone."""
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / f"{name}.json").write_text(json.dumps(outcome_of(first, name)))
    return Scope(tmp_path / "later", seeds=1, earlier=folder)


def test_a_figure_of_a_study_is_drawn_from_a_table_that_has_it(
    first: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "run_search", refuse)
    later, table = after(first, "table2", tmp_path), outcome_of(first, "table2")
    (figure,) = paper.reproduce(("figure4",), later, datasets=DATASETS)
    known = table["studies"]["oncold/din"]["methods"]["AQCL"]
    searched = {name: known["parameters"][f"regularizer.aqcl.{name}"] for name in ("w1", "w2")}
    assert figure["alpha"]["oncold"] == {**searched, "trials": []}
    assert figure["studies"]["oncold/din"]["methods"] == {"AQCL": known}


def test_trials_of_a_figure_made_before_are_kept(
    first: Scope, later: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "run_search", refuse)
    (figure,) = paper.reproduce(("figure4",), later, datasets=DATASETS)
    assert figure["alpha"] == outcome_of(first, "figure4")["alpha"]
    assert len(figure["alpha"]["oncold"]["trials"]) == 2


def test_a_figure_of_another_budget_is_refused(first: Scope, tmp_path: Path) -> None:
    later = after(first, "figure4", tmp_path)
    with pytest.raises(ConfigError, match=r"figure4\.json tuned oncold/din with 2 trials"):
        paper.reproduce(("figure4",), replace(later, trials=3), datasets=DATASETS)


def test_settings_that_were_not_confirmed_with_as_many_seeds_are_passed_over(
    partly: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert partly.earlier is not None
    file = partly.earlier / "table2.json"
    before = json.loads(file.read_text())
    before["studies"]["oncold/din"]["confirm"] = 3
    file.write_text(json.dumps(before))
    monkeypatch.setattr(work, "run_search", refuse)
    with pytest.raises(AssertionError, match="this has been done"):
        paper.reproduce(("table2",), partly, datasets=DATASETS)


@pytest.mark.parametrize(
    ("part", "told"), [("experiment", "train.patience"), ("search", "train.embedding_l2")]
)
def test_winners_of_other_ranges_or_ends_of_training_are_passed_over(
    first: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, told: str
) -> None:
    specs = one_seed_specs()
    had = getattr(specs.studies, part)
    changed: dict[str, Any] = {
        "experiment": {**had, "train": {**had.get("train", {}), "patience": 7}},
        "search": {**had, "space": {**had.get("space", {}), told: {"low": 1e-7, "high": 1.0}}},
    }[part]
    own: dict[str, Any] = {part: changed}
    studies = replace(specs.studies, **own)
    monkeypatch.setattr(paper, "load_specs", lambda: replace(specs, studies=studies))
    with pytest.raises(ConfigError, match=rf"DIN was tuned with {told} .*, now .*equal budgets"):
        paper.reproduce(("table2",), first, datasets=DATASETS, train=False)
    later = after(first, "table2", tmp_path)
    (kept,) = paper.reproduce(("table2",), later, datasets=DATASETS, train=False)
    assert set(kept["comparisons"][0]["cells"].values()) == {"finished"}
    monkeypatch.setattr(work, "run_search", refuse)
    with pytest.raises(AssertionError, match="this has been done"):
        paper.reproduce(("table2",), later, datasets=DATASETS)


def test_settings_of_another_budget_are_refused(first: Scope, later: Scope) -> None:
    with pytest.raises(
        ConfigError, match=r"tuned oncold/din with 2 trials, and this command has 3"
    ):
        paper.reproduce(("table2",), replace(later, trials=3), datasets=DATASETS)


def test_settings_once_taken_keep_their_budget(first: Scope, tmp_path: Path) -> None:
    later = after(first, "table2", tmp_path)
    paper.reproduce(("figure4",), later, datasets=DATASETS)
    alone = replace(later, earlier=None)
    with pytest.raises(ConfigError, match=r"AQCL\.json: AQCL was tuned with trials 2, now 3: .*eq"):
        paper.reproduce(("figure4",), replace(alone, trials=3), datasets=DATASETS, train=False)
    assert paper.reproduce(("figure4",), alone, datasets=DATASETS, train=False)


def test_a_study_that_has_begun_here_goes_on(first: Scope, later: Scope) -> None:
    study = study_of(one_seed_specs(), place_of(later, "oncold", TUNED), "AQCL")
    alone = replace(later, earlier=None)
    paper.reproduce(("figure4",), alone, datasets=DATASETS)
    assert study.folder.exists()
    paper.reproduce(("figure4",), later, datasets=DATASETS)
    assert not study.kept.exists()


def test_settings_of_other_rows_are_refused(
    first: Scope, later: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = one_seed_specs()
    other = replace(specs.datasets["oncold"], source={**SMALL_LOG, "users": 310})
    monkeypatch.setattr(paper, "load_specs", lambda: replace(specs, datasets={"oncold": other}))
    with pytest.raises(ConfigError, match=r"other rows than here.*leave out --earlier"):
        paper.reproduce(("table2",), later, datasets=DATASETS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 2}, "was made with --seeds 1, and this command has --seeds 2"),
        ({"quick": True}, "and this command has --seeds 1 --quick"),
    ],
)
def test_other_seeds_or_a_quick_look_are_refused(
    later: Scope, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        paper.reproduce(("table2",), replace(later, **changes))


def test_a_directory_without_outcomes_is_refused(later: Scope, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no outcome such as table2\.json"):
        paper.reproduce(("table2",), replace(later, earlier=tmp_path))


def comparison(identity: str, dataset: str, **cells: str) -> dict[str, Any]:
    return {"id": identity, "dataset": dataset, "cells": cells}


def outcome(*comparisons: dict[str, Any], **changes: Any) -> dict[str, Any]:
    keys = {c["dataset"] for c in comparisons}
    datasets = {key: {"title": key, "fingerprint": f"{key} rows"} for key in keys}
    made = {"name": "t", "datasets": datasets, "studies": {}, "comparisons": list(comparisons)}
    return made | changes


ORDER = [("a", "x"), ("a", "y"), ("b", "x")]


def test_of_two_comparisons_the_one_with_more_finished_cells_is_kept() -> None:
    half, whole = (comparison("a", "x", p="finished", q=q) for q in ("not run", "finished"))
    newer = deepcopy(whole) | {"title": "newer"}
    assert merged(outcome(half), outcome(whole), ORDER)["comparisons"] == [whole]
    assert merged(outcome(whole), outcome(half), ORDER)["comparisons"] == [whole]
    assert merged(outcome(newer), outcome(whole), ORDER)["comparisons"] == [newer]


def test_comparisons_stand_in_order_and_forgotten_ones_are_left_out() -> None:
    late, early = comparison("b", "x", p="finished"), comparison("a", "y", p="finished")
    gone = comparison("gone", "x", p="finished")
    made = merged(outcome(late), outcome(early, gone), ORDER)
    assert made["comparisons"] == [early, late]
    assert made["datasets"].keys() == {"x", "y"}


def test_a_data_set_that_is_missing_here_keeps_its_facts() -> None:
    before = outcome(comparison("a", "x", p="finished"))
    here = outcome(comparison("a", "x", p="not run"), datasets={"x": {"title": "x", "missing": ""}})
    assert merged(here, before, ORDER)["datasets"] == before["datasets"]


def test_curves_and_latents_of_other_data_sets_are_kept() -> None:
    curves = [{"w1": number, "trials": [{}]} for number in range(4)]
    before = outcome(comparison("a", "x"), alpha={"x": curves[1], "y": curves[2]})
    here = outcome(comparison("a", "x"), alpha={"x": curves[3]})
    assert merged(here, before, ORDER)["alpha"] == {"x": curves[3], "y": curves[2]}
    without_trials = outcome(comparison("a", "x"), alpha={"x": {"w1": 3, "trials": []}})
    assert merged(without_trials, before, ORDER)["alpha"] == before["alpha"]


def study(trials: int, *names: str, penalty: float = 0.1) -> dict[str, Any]:
    found = {"of": trials, "experiment": {"penalty": penalty}}
    return {"trials": trials, "methods": dict.fromkeys(names, found)}


def test_methods_of_one_study_are_gathered() -> None:
    here, before = (outcome(studies={"x/din": study(12, name)}) for name in ("AQCL", "DIN"))
    assert merged(here, before, ORDER)["studies"] == {"x/din": study(12, "DIN", "AQCL")}


@pytest.mark.parametrize(("here", "expected"), [("not run", 12), ("finished", 6)])
def test_of_a_data_set_tuned_in_two_ways_only_one_is_kept(here: str, expected: int) -> None:
    """With the comparison that has more finished cells come its study and its curve."""

    def made(trials: int, q: str) -> dict[str, Any]:
        tuned = comparison("a", "x", p="finished", q=q) | {"of": trials}
        other = comparison("a", "y", p="finished") | {"of": trials}
        studies = {"x/din": study(trials, "DIN")}
        curve = {"w1": trials}
        return outcome(tuned, other, studies=studies, alpha={"x": curve, "y": curve})

    both = merged(made(6, here), made(12, "finished"), ORDER)
    assert [c["of"] for c in both["comparisons"]] == [expected, 6]
    assert both["studies"] == {"x/din": study(expected, "DIN")}
    assert both["alpha"] == {"x": {"w1": expected}, "y": {"w1": 6}}
    assert both["datasets"].keys() == {"x", "y"}


@pytest.mark.parametrize(("here", "expected"), [("not run", 0.2), ("finished", 0.1)])
def test_of_two_winners_of_one_method_only_one_is_kept(here: str, expected: float) -> None:
    def made(penalty: float, q: str) -> dict[str, Any]:
        tuned = comparison("a", "x", p="finished", q=q) | {"penalty": penalty}
        return outcome(tuned, studies={"x/din": study(12, "DIN", penalty=penalty)})

    both = merged(made(0.1, here), made(0.2, "finished"), ORDER)
    assert [c["penalty"] for c in both["comparisons"]] == [expected]
    assert both["studies"] == {"x/din": study(12, "DIN", penalty=expected)}


def test_another_winner_than_that_of_earlier_cells_is_refused(
    first: Scope, later: Scope, tmp_path: Path
) -> None:
    before = outcome_of(first, "table2")
    kept = study_of(one_seed_specs(), place_of(later, "oncold", TUNED), "AQCL").kept
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps(before["studies"]["oncold/din"]))
    before["studies"]["oncold/din"]["methods"]["AQCL"]["experiment"]["seed"] = 7
    before["comparisons"][0]["cells"]["AQCL"] = "not run: not trained yet"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "table2.json").write_text(json.dumps(before))
    message = (
        r"table2\.json has other settings of AQCL on Oncold .* than .*AQCL\.json: cells of both"
    )
    with pytest.raises(ConfigError, match=message):
        paper.reproduce(("table2",), replace(later, earlier=tmp_path / "other"), datasets=DATASETS)


def test_cells_whose_winner_was_found_in_another_way_have_not_finished(
    first: Scope, later: Scope
) -> None:
    specs = one_seed_specs()
    earlier = read_earlier(specs, later)
    assert any(finished_in(specs, later, earlier).values())
    otherwise = deepcopy(earlier)
    for one in otherwise.values():
        for tuned in one["studies"].values():
            tuned["confirm"] = 3
    assert not any(finished_in(specs, later, otherwise).values())


def test_comparisons_of_different_rows_do_not_stand_in_one_table() -> None:
    here = outcome(comparison("a", "x", p="finished"))
    before = deepcopy(here)
    before["datasets"]["x"]["fingerprint"] = "other rows"
    with pytest.raises(ConfigError, match=r"x in t\.json has other rows"):
        merged(here, before, ORDER)


def test_data_sets_stand_in_one_order_whatever_was_made_first() -> None:
    found = ordered(
        {"name": "x", "datasets": {"c": 1, "old": 2, "a": 3}, "alpha": {"c": 4, "a": 5}},
        ("a", "b", "c"),
    )
    assert list(found["datasets"].items()) == [("a", 3), ("c", 1), ("old", 2)]
    assert list(found["alpha"]) == ["a", "c"]
    assert found["name"] == "x"
