"""The processes that tune methods and train the cells of tables and figures."""

import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aqcl.errors import TrainingError
from aqcl.reproduce import jobs, paper, work
from aqcl.reproduce.cells import Scope
from aqcl.reproduce.jobs import Job, train_job
from aqcl.reproduce.specs import Specs
from aqcl.reproduce.work import Standing
from aqcl.runs import CHECKPOINT, is_finished
from tests.e2e.commands import aqcl
from tests.reproduce.specifications import small_specs, train_in_process
from tests.tiny_runs import tiny_dataset, tiny_experiment


class Parent:
    def __init__(self, *, alive: bool) -> None:
        self.alive = alive

    def is_alive(self) -> bool:
        return self.alive


def test_a_worker_whose_command_was_killed_ends_at_its_next_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path / "run", tiny_experiment(tiny_dataset(tmp_path)))
    parent = Parent(alive=False)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: parent)

    with pytest.raises(SystemExit):
        train_job(job)
    assert (job.out / CHECKPOINT).exists()
    assert not is_finished(job.out)

    parent.alive = True
    train_job(job)
    assert is_finished(job.out)


def quick_specs() -> Specs:
    """The small world, whose log is small enough for a quick look."""
    specs = small_specs()
    oncold = replace(specs.datasets["oncold"], quick={})
    return replace(specs, datasets={"oncold": oncold})


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_in_process(monkeypatch)
    monkeypatch.setenv("AQCL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(paper, "load_specs", quick_specs)


@pytest.mark.usefixtures("in_process", "no_study_figures")
def test_a_quick_look_tunes_its_studies_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    heard: list[Standing] = []
    for module, name in ((work, "run_search"), (jobs, "train")):
        monkeypatch.setattr(module, name, _told(done, name, getattr(module, name)))
    scope = Scope(tmp_path / "out", seeds=1, quick=True)
    (outcome,) = paper.reproduce(
        ("table2",), scope, datasets=("oncold",), workers=2, listen=heard.append
    )
    assert done == ["run_search"] * 3 + ["train"] * 3
    assert set(outcome["comparisons"][0]["cells"].values()) == {"finished"}
    assert heard[0].done == 0
    assert {told.total for told in heard} == {3 * 2 + 3}
    assert heard[-1].done == heard[-1].total
    heard.clear()
    paper.reproduce(("table2",), scope, datasets=("oncold",), workers=2, listen=heard.append)
    assert not heard


def _told(done: list[str], name: str, work: Any) -> Any:
    def tell(*args: Any, **values: Any) -> Any:
        assert values.get("workers", 1) == 1
        done.append(name)
        return work(*args, **values)

    return tell


@pytest.mark.usefixtures("in_process", "no_study_figures")
@pytest.mark.parametrize("quick", [True, False])
def test_a_study_that_finds_nothing_says_so_and_others_do_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    search: Any = getattr(work, "run_search")  # noqa: B009

    def fails(values: Any, folder: Path, **rest: Any) -> Any:
        if folder.name == "AQCL":
            raise TrainingError("no trial could be trained")
        return search(values, folder, **rest)

    monkeypatch.setattr(work, "run_search", fails)
    scope = Scope(tmp_path / "out", seeds=1, trials=2, quick=quick)
    (outcome,) = paper.reproduce(("table2",), scope, datasets=("oncold",))

    cells = outcome["comparisons"][0]["cells"]
    assert cells.pop("AQCL") == "not run: no trial could be trained"
    assert set(cells.values()) == {"finished"}


def test_numbers_and_files_that_cannot_be_are_told_before_any_work(tmp_path: Path) -> None:
    missing = tmp_path / "Beauty.txt"
    for wrong, message in (
        (("--seeds", "0"), "expected 1 or more"),
        (("--trials", "-3", "--gather"), "expected 1 or more, got"),
        (("--beauty", missing), f"--beauty {missing}: no such file"),
        (("--dataset", "ta-feng-clicked"), "table1 is not made of it; table2 is"),
    ):
        told = aqcl("reproduce", "table1", *wrong, "--out", tmp_path / "paper")
        assert told.code == 2
        assert message in told.err
        assert not (tmp_path / "paper").exists()


@pytest.mark.parametrize("content", ["{", '{"name": "table1"}', '{"a": 1}', "[1]"])
def test_a_damaged_outcome_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "table1.json"
    file.write_text(content)
    for command in (
        ("report", tmp_path, "--out", tmp_path / "page.html"),
        ("reproduce", "table1", "--earlier", tmp_path, "--gather", "--out", tmp_path / "paper"),
    ):
        told = aqcl(*command)
        assert told.code == 2
        assert f"{file}: expected what `aqcl reproduce table1` writes" in told.err


@pytest.mark.usefixtures("in_process")
def test_table_1_has_all_users_where_methods_are_tuned_on_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = small_specs()
    part = replace(specs.datasets["oncold"], prepare={"user_share": 0.5})
    monkeypatch.setattr(paper, "load_specs", lambda: replace(specs, datasets={"oncold": part}))

    (outcome,) = paper.reproduce(("table1",), Scope(tmp_path / "out"), datasets=("oncold",))

    facts = outcome["datasets"]["oncold"]
    assert facts["whole_counts"]["users"] == 300
    assert 100 < facts["counts"]["users"] < 200
