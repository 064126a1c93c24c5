"""What a search for alpha alone promises: closed test rows, one process, mistakes told early."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aqcl import train as train_module
from aqcl.config import read_toml
from aqcl.dataset import Dataset, Split, open_dataset
from aqcl.errors import ConfigError, StorageError
from aqcl.file_locks import lock_file
from aqcl.search import alpha_search, alpha_study, halving, work, workers
from aqcl.search.bar import SearchProgress
from aqcl.search.plan import plan_search
from aqcl.search.work import read_study, run_search
from aqcl.train import Trainer
from tests.alpha_searches import METHODS, values_of
from tests.tiny_runs import tiny_dataset

pytestmark = pytest.mark.usefixtures("no_study_figures")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@dataclass(frozen=True)
class Watched:
    """A search, and what was seen of it."""

    out: Path
    summary: dict[str, Any]
    opened: list[Dataset]
    trained: list[Dataset]
    heard: list[SearchProgress]


@pytest.fixture(scope="module")
def watched(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Watched]:
    """A search by each method, in which whoever asks for test rows fails."""
    found = {}
    for method in METHODS:
        opened: list[Dataset] = []
        trained: list[Dataset] = []
        heard: list[SearchProgress] = []
        out = tmp_path_factory.mktemp("studies") / method
        with pytest.MonkeyPatch.context() as patch:
            _watch(patch, opened, trained)
            summary = run_search(values_of(data, method), out, listen=heard.append)
        found[method] = Watched(out, summary, opened, trained, heard)
    return found


def _watch(patch: pytest.MonkeyPatch, opened: list[Dataset], trained: list[Dataset]) -> None:
    original = Trainer.__init__

    def opening(*arguments: Any, **options: Any) -> Dataset:
        opened.append(open_dataset(*arguments, **options))
        return opened[-1]

    def training(self: Trainer, experiment: Any, dataset: Dataset, out: Path) -> None:
        trained.append(dataset)
        original(self, experiment, dataset, out)

    def forbidden(self: Dataset) -> Split:
        raise AssertionError("test rows were asked for")

    for module in (workers, alpha_search, halving, train_module):
        patch.setattr(module, "open_dataset", opening)
    patch.setattr(Trainer, "__init__", training)
    patch.setattr(Dataset, "test", property(forbidden))


@pytest.mark.parametrize("method", METHODS)
def test_the_dataset_is_opened_once(watched: dict[str, Watched], method: str) -> None:
    assert [dataset.closed for dataset in watched[method].opened] == [("test",)]


@pytest.mark.parametrize("method", METHODS)
def test_the_test_rows_are_closed_to_the_training(watched: dict[str, Watched], method: str) -> None:
    assert {dataset.closed for dataset in watched[method].trained} == {("test",)}


@pytest.mark.parametrize("method", METHODS)
def test_one_process_works_on_a_study(data: Path, tmp_path: Path, method: str) -> None:
    out, values = tmp_path / "study", values_of(data, method)
    with pytest.raises(ConfigError, match=rf"workers: expected 1 with .*'{method}'.*, got 2"):
        run_search(values, out, workers=2)
    assert not out.exists()
    work.start_study(out, plan_search(values), resume=False)
    (out / "locks").mkdir()
    lock = lock_file(out / "locks" / "study", wait=False)
    assert lock is not None
    with pytest.raises(StorageError, match="another process works on this study"):
        run_search(values, out, resume=True)


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        ("one-run", {"weight": 0.0}, "expected one with an alpha and a weight above 0, got none"),
        ("one-run", {"w1": 8.0}, r"w1: expected 0\.05 to 5\.0 with learn_alpha.enabled"),
        ("halving", {"weight": 0.0}, "expected one with an alpha and a weight above 0, got none"),
        ("halving", {"constant_alpha": 0.3}, "constant_alpha = 0.3 leaves nothing to look for"),
        ("halving", {"alpha": "groups"}, "alpha = 'groups': halving looks for w1 and w2"),
    ],
)
def test_a_search_of_nothing_leaves_nothing(
    data: Path, tmp_path: Path, method: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_search(values_of(data, method, **change), tmp_path / "study")
    values = values_of(data, method)
    values["search"] = {**values["search"], "trials": 4, "objective": "auc"}
    with pytest.raises(ConfigError) as caught:
        run_search(values, tmp_path / "study")
    assert len(str(caught.value).splitlines()) == 2
    assert not (tmp_path / "study").exists()


def test_a_budget_that_is_too_small_leaves_nothing(data: Path, tmp_path: Path) -> None:
    values = values_of(data, "halving")
    values["search"] = {"method": "halving", "halving": {"budget": 1.01}}
    with pytest.raises(ConfigError, match=r"budget = 1\.01: leaves"):
        run_search(values, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_finished_study_is_only_read_and_its_settings_are_kept(
    data: Path, watched: dict[str, Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, first = watched["halving"].out, watched["halving"].summary
    monkeypatch.setattr(work, "open_closed", lambda *_: pytest.fail("opened the dataset"))
    assert read_toml(out / "study.toml")["search"].keys() == {
        "method",
        "objective",
        "halving",
    }
    # The file that a study keeps is one to continue it with.
    kept = read_toml(out / "study.toml")
    resumed = run_search(kept, out, resume=True)
    assert resumed == read_study(out) == first
    other = values_of(data, "halving")
    other["search"] = {"method": "halving", "halving": {"n_candidates": 5}}
    with pytest.raises(ConfigError, match=r"search\.halving\.n_candidates: the study was started"):
        run_search(other, out, resume=True)


@pytest.mark.parametrize(("method", "unit"), [("one-run", "steps at most"), ("halving", "steps")])
def test_progress_counts_steps(watched: dict[str, Watched], method: str, unit: str) -> None:
    heard = watched[method].heard
    assert {progress.unit for progress in heard} == {unit}
    counts = [progress.done for progress in heard]
    assert counts == sorted(counts)
    assert counts[-1] <= heard[-1].total == (32 if method == "one-run" else 30)
    if method == "halving":
        assert counts[-1] == 30


def test_one_run_tells_the_value_of_the_weights_it_keeps_at_each_evaluation(
    watched: dict[str, Watched],
) -> None:
    heard, method = watched["one-run"].heard, watched["one-run"].summary["methods"]["best"]
    assert [progress.done for progress in heard] == [line["step"] for line in method["history"]]
    assert [progress.best["best"] for progress in heard] == method["best_so_far"]
    latest = [line["valid_logloss"] for line in method["history"]]
    assert latest != method["best_so_far"]


def test_a_value_at_the_end_of_its_range_is_told(data: Path, tmp_path: Path) -> None:
    values = values_of(data, "one-run", w1=4.9, w2=1.0)
    values["regularizer"]["aqcl"]["learn_alpha"] = {"lr": 1e-6}
    summary = run_search(values, tmp_path / "study")
    (note,) = summary["notes"]
    assert note.startswith("regularizer.aqcl.w1 = 4.9 lies in the outer tenth of 0.05 to 5")


@pytest.mark.parametrize(
    ("warm_up", "note"),
    [
        (15, r"alpha was not found, it is the one given: in 2 of 2 rungs .* well below 9, where"),
        (9, r"in 1 of 2 rungs candidates left by their order alone"),
        (3, None),
    ],
)
def test_a_halving_tells_of_rungs_in_which_alpha_did_not_act(
    data: Path, tmp_path: Path, warm_up: int, note: str | None
) -> None:
    """The first rung ends after 9 steps, the second after 15."""
    values = values_of(data, "halving", warmup_steps=warm_up)
    values["train"]["lr"] = 0.003  # slow enough for the latest logloss to be the lowest
    summary = run_search(values, tmp_path / "study")
    trials = summary["methods"]["best"]["trials"]
    first = {trial["rungs"][0]["valid_logloss"] for trial in trials}
    assert (len(first) == 1) == (note is not None)
    told = [line for line in summary["notes"] if "warm-up" in line]
    assert len(told) == (note is not None)
    assert note is None or re.match(note, told[0])


def test_an_evaluation_from_before_alpha_acts_decides_nothing(data: Path, tmp_path: Path) -> None:
    """Alpha acts from step 9 on, but the lowest logloss of all candidates is that after step 8."""
    summary = run_search(values_of(data, "halving", warmup_steps=8), tmp_path / "study")
    values = {trial["value"] for trial in summary["methods"]["best"]["trials"]}
    assert len(values) == 1
    assert summary["notes"][0].startswith("alpha was not found, it is the one given: in 2 of 2")


@pytest.mark.parametrize(("apart", "tied"), [(0.0, True), (3e-8, True), (3e-7, False)])
def test_what_differs_by_rounding_is_tied(apart: float, tied: bool) -> None:
    stayed, left = 0.6933, 0.6933 * (1 + apart)
    rung = [{"valid_logloss": loss, "kept": True} for loss in (0.69, stayed)]
    rung += [{"valid_logloss": loss, "kept": False} for loss in (left, 0.7)]
    assert alpha_study._is_tied(rung) == tied


@pytest.mark.parametrize(
    ("warm_up", "why"),
    [
        (9, r"so it is in the warm-up of aqcl \(9 steps\)"),
        (2, r"it hardly depends on alpha by step 16"),
    ],
)
def test_a_tie_is_put_down_to_the_warm_up_only_where_that_is_near(warm_up: int, why: str) -> None:
    plan = plan_search(values_of(Path("nowhere"), "halving", warmup_steps=warm_up))
    assert re.match(why, alpha_study._why_tied(plan, [{"step": 16}]))


@pytest.mark.parametrize("method", METHODS)
def test_what_a_user_has_put_beside_the_runs_stays(data: Path, tmp_path: Path, method: str) -> None:
    out, values = tmp_path / "study", values_of(data, method)
    work.start_study(out, plan_search(values), resume=False)
    notes = out / "trials" / "notes" / "mine.txt"
    notes.parent.mkdir(parents=True)
    notes.touch()
    (out / "trials" / ".DS_Store").touch()

    run_search(values, out, resume=True)

    assert notes.exists()
    assert (out / "trials" / ".DS_Store").exists()
