"""Whole searches of tiny runs: equal budgets, widening, resuming, test rows that stay closed."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aqcl.config import read_toml, to_toml
from aqcl.describe import describe_directory
from aqcl.errors import ConfigError, StorageError, TrainingError
from aqcl.experiment import resolve
from aqcl.search import conclusion, sampling, trials, work, workers
from aqcl.search.bar import SearchProgress
from aqcl.search.plan import plan_search
from aqcl.search.study import JOURNAL, Journal
from aqcl.search.work import read_study, run_search, start_study
from aqcl.search.workers import open_closed
from aqcl.train import train
from tests.searches import (
    DIN_AND_AQCL,
    assert_same_study,
    draw_no_study_figures,
    killed_at,
)
from tests.searches import short_search as search_values
from tests.tiny_runs import tiny_dataset

SETTINGS: dict[str, Any] = {"trials": 4, "widen": 0, "methods": DIN_AND_AQCL}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study that every interrupted one must equal."""
    out = tmp_path_factory.mktemp("studies") / "whole"
    run_search(search_values(data, **SETTINGS), out)
    return out


@pytest.fixture(autouse=True)
def _figures_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the fixture `whole`, which is made before this one, draws its figures."""
    draw_no_study_figures(monkeypatch)


def test_several_methods_have_equal_budgets_and_each_a_winner(data: Path, whole: Path) -> None:
    summary = read_study(whole)
    assert summary["finished"]
    for name, method in summary["methods"].items():
        assert len(method["trials"]) == SETTINGS["trials"]
        assert method["rows"] == sum(trial["rows"] for trial in method["trials"]) > 0
        complete = [t for t in method["trials"] if t["state"] == "complete"]
        best = min(complete, key=lambda trial: trial["value"])
        assert (method["best"]["number"], method["best"]["value"]) == (
            best["number"],
            best["value"],
        )
        assert method["best_so_far"][-1] == best["value"]
        assert method["best_so_far"] == sorted(method["best_so_far"], reverse=True)
        assert (whole / best["run"] / "metrics.json").exists()
        experiment = resolve(read_toml(whole / f"{name}.toml"))
        assert experiment.label == name
        assert experiment.train.embedding_l2 == best["parameters"]["train.embedding_l2"]
    din, aqcl = (summary["methods"][name]["trials"] for name in DIN_AND_AQCL)
    shared = "train.embedding_l2"
    assert din[0]["parameters"][shared] == aqcl[0]["parameters"][shared]
    assert summary["rows"] == sum(method["rows"] for method in summary["methods"].values())
    alpha = summary["methods"]["din+aqcl"]["best"]["alpha"]["aqcl"]
    assert alpha["0"] == 1 > alpha["mean"] > alpha["10x mean"] > 0
    assert summary["methods"]["din"]["best"]["alpha"] == {}


def test_a_winner_is_trained_as_it_is(whole: Path, tmp_path: Path) -> None:
    best = read_study(whole)["methods"]["din+aqcl"]["best"]
    run = train(resolve(read_toml(whole / "din+aqcl.toml")), tmp_path / "run")
    groups = run.metrics()["valid"]["groups"]
    assert groups[0]["logloss"] == best["value"]


def test_figures_of_a_study(whole: Path) -> None:
    names = {path.name for path in (whole / "figures").iterdir()}
    assert names == {
        f"{figure}.{ending}"
        for figure in ("best-so-far", "din+aqcl-alpha")
        for ending in ("svg", "png", "pdf")
    }


def test_a_finished_study_is_returned_at_once(
    data: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "open_closed", lambda *_: pytest.fail("opened the dataset"))
    values = search_values(data, **SETTINGS)
    assert run_search(values, whole, resume=True) == read_study(whole)
    assert describe_directory(whole)["methods"] == read_study(whole)["methods"]


def test_a_process_that_looks_at_a_finished_study_leaves_it_whole(
    data: Path, tmp_path: Path
) -> None:
    values, out = search_values(data, trials=2, widen=0), tmp_path / "study"
    joined: list[Journal] = []

    def join(progress: SearchProgress) -> None:
        if not joined:
            joined.append(Journal(out, plan_search(values)))

    run_search(values, out, listen=join)
    size = (out / JOURNAL).stat().st_size
    work.run_black_box(joined[0].plan, open_closed(joined[0].plan), out, 1, lambda progress: None)
    workers.run_trials(joined[0], open_closed(joined[0].plan), lambda progress: None)
    assert (out / JOURNAL).stat().st_size == size
    assert read_study(out)["finished"]


def test_other_settings_do_not_resume_a_study(data: Path, whole: Path) -> None:
    other = search_values(data, **{**SETTINGS, "seed": 3, "trials": 7})
    with pytest.raises(ConfigError) as caught:
        run_search(other, whole, resume=True)
    lines = str(caught.value).splitlines()
    assert lines[:2] == [
        "search.seed: the study was started with 0, now it is 3",
        "search.trials: the study was started with 4, now it is 7",
    ]
    with pytest.raises(StorageError, match="continue a study with --resume"):
        run_search(search_values(data, **SETTINGS), whole)


def test_a_directory_without_a_study_is_not_to_be_resumed(data: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("of a run")
    plan = plan_search(search_values(data))

    for resume in (False, True):
        with pytest.raises(StorageError, match="holds files and no study: choose another --out"):
            start_study(tmp_path, plan, resume=resume)


def test_what_a_killed_write_left_is_no_obstacle(data: Path, tmp_path: Path) -> None:
    (tmp_path / ".study.toml.0123abcd.partial").touch()

    start_study(tmp_path, plan_search(search_values(data)), resume=False)

    assert (tmp_path / "study.toml").exists()


def test_a_search_of_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        run_search(search_values(tmp_path / "nowhere"), tmp_path / "study")
    with pytest.raises(ConfigError, match="workers: expected 1 or more, got 0"):
        run_search(search_values(tmp_path / "nowhere"), tmp_path / "study", workers=0)
    assert not (tmp_path / "study").exists()


def test_a_study_that_another_machine_has_sealed_is_left_whole(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, out, ended = search_values(data, trials=2, widen=0), tmp_path / "study", list[int]()

    def refuse(*_: Any) -> None:
        pytest.fail("wrote into a sealed study")

    def be_late(task: Any, *arguments: Any) -> None:
        trials.run_trial(task, *arguments)
        ended.append(task.slot)
        if len(ended) == 2:  # another machine ends the study between this one's two looks
            plan = plan_search(values)
            work.run_black_box(plan, open_closed(plan), out, 1, lambda progress: None)
            monkeypatch.setattr(workers, "write_summary", refuse)

    monkeypatch.setattr(workers, "run_trial", be_late)
    assert run_search(values, out)["finished"]


def test_a_search_killed_anywhere_ends_as_if_it_had_not_been(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a trial that was not told, while the summary is written, and before the manifest."""
    values, out = search_values(data, **SETTINGS), tmp_path / "study"
    ends: list[tuple[Any, str, int]] = [
        (trials, "_tell", 1),
        (workers, "write_summary", 0),
        (conclusion, "write_manifest", 0),
    ]
    for module, name, call in ends:
        with killed_at(monkeypatch, module, name, call):
            run_search(values, out, resume=out.exists())
        with pytest.raises(StorageError, match=r"this study has not finished; continue it with"):
            describe_directory(out)
    run_search(values, out, resume=True)
    assert_same_study(out, whole)


def test_a_search_by_gaussian_processes_is_whole_and_goes_on_after_a_kill(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "STARTUP_TRIALS", 2)  # of four, so that two are learned
    values = search_values(data, trials=4, widen=0, sampler="gp")
    found = run_search(values, tmp_path / "whole")["methods"]["best"]
    assert [trial["state"] for trial in found["trials"]] == ["complete"] * 4
    points = [trial["parameters"] for trial in found["trials"]]
    assert all(mine != other for mine in points for other in points if mine is not other)
    with killed_at(monkeypatch, trials, "_tell", 3):
        run_search(values, tmp_path / "study")
    run_search(values, tmp_path / "study", resume=True)
    assert_same_study(tmp_path / "study", tmp_path / "whole")


SCRIPT = """
import sys, time
from pathlib import Path
import torch
from aqcl.config import read_toml
from aqcl.search.work import run_search

torch.set_num_threads(1)
seen = []
def listen(progress):
    seen.append(progress.running)
    if "epoch" in progress.running and "trial 3" in progress.running:
        print(progress.running, flush=True)
        time.sleep(60)

run_search(read_toml(Path(sys.argv[1])), Path(sys.argv[2]), listen=listen)
"""


def test_a_search_that_was_really_killed_ends_as_if_it_had_not_been(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    """Killed at an evaluation in the middle of a trial, which continues from its checkpoint."""
    (tmp_path / "x.toml").write_text(to_toml(search_values(data, **SETTINGS)))
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "x.toml"), str(tmp_path / "study")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "din, trial 3, epoch 1\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    folder = tmp_path / "study" / "trials" / "din" / "0003"
    assert (folder / "checkpoint.safetensors").exists()
    started = (folder / "config.toml").stat().st_mtime_ns
    run_search(search_values(data, **SETTINGS), tmp_path / "study", resume=True)
    # The same run, not a new one.
    assert (folder / "config.toml").stat().st_mtime_ns == started
    assert_same_study(tmp_path / "study", whole)


def test_a_study_widens_its_penalty_and_says_so(data: Path, tmp_path: Path) -> None:
    narrow = {"train.embedding_l2": {"low": 1e-12, "high": 1.001e-12, "log": True}}
    settings = {"trials": 4, "widen": 1, "widen_trials": 2, "space": narrow, "seed": 4}
    settings |= {"sampler": "random", "objective": "auc"}
    summary = run_search(search_values(data, **settings), tmp_path / "study")
    method = summary["methods"]["best"]
    penalty = method["best"]["penalty"]
    assert summary["trials"] == len(method["trials"]) == 6
    # Of this seed: the first trial wins, since such penalties change nothing.
    widened, touching = summary["notes"]
    assert "widened by a factor of 10 on the high side, 2 more trials" in widened
    assert (penalty["inside"], penalty["touches"]) == (False, "low")
    assert "touches the low end of 1e-12 to 1e-11" in touching
    with pytest.raises(ConfigError, match="widened its ranges after 4 trials of each method"):
        run_search(
            search_values(data, **{**settings, "trials": 6}), tmp_path / "study", resume=True
        )


def test_choices_at_their_end_are_told_plainly(data: Path, tmp_path: Path) -> None:
    space = {"train.embedding_l2": {"choices": [1e-9, 2e-9]}}
    summary = run_search(search_values(data, trials=2, space=space), tmp_path / "study")
    (note,) = summary["notes"]
    assert "touches the" in note
    assert not summary["methods"]["best"]["best"]["penalty"]["inside"]


def test_a_penalty_of_zero_can_be_no_lower(data: Path, tmp_path: Path) -> None:
    space = {"train.embedding_l2": {"choices": [0, 1e-3]}}
    summary = run_search(search_values(data, trials=2, space=space), tmp_path / "study")
    assert summary["methods"]["best"]["best"]["penalty"]["value"] == 0  # this seed draws it twice
    assert summary["methods"]["best"]["best"]["penalty"]["inside"]
    assert summary["notes"] == []


def test_a_constrained_search_may_end_with_trial_0(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aqcl.search.plan.CONSTRAINED", ("non-active", "non-active"))
    space = {"regularizer.aqcl.weight": {"choices": [50.0, 90.0]}, "train.lr": 1e-7}
    values = search_values(data, trials=3, objective="constrained", space=space)
    summary = run_search(values, tmp_path / "study")
    method = summary["methods"]["best"]
    assert [trial["reference"] for trial in method["trials"]] == [True, False, False]
    candidates = [trial for trial in method["trials"] if trial["feasible"]]
    assert method["best"]["value"] == max(trial["value"] for trial in candidates)
    experiment = resolve(read_toml(tmp_path / "study" / "best.toml"))
    assert method["best"]["reference"]
    assert experiment.regularizer == {}
    assert any("no trial is better than trial 0" in note for note in summary["notes"])


def test_importances_of_a_longer_study(data: Path, tmp_path: Path) -> None:
    space: dict[str, Any] = {"train.lr": {"choices": [0.03, 1e-6]}}
    space["train.embedding_l2"] = {"low": 0.0, "high": 1e-6}
    values = search_values(data, trials=16, space=space, sampler="random") | {"regularizer": {}}
    summary = run_search(values, tmp_path / "study")
    importance = summary["methods"]["best"]["importance"]
    assert importance.keys() == {"train.lr", "train.embedding_l2"}
    assert sum(importance.values()) == pytest.approx(1)
    assert (tmp_path / "study" / "figures" / "best-importance.svg").exists()


def test_a_search_whose_trials_all_fail_says_why(data: Path, tmp_path: Path) -> None:
    space = {"train.lr": {"choices": [1e30, 1e31]}}
    with pytest.raises(TrainingError, match=r"all trials have failed; the last: .*not finite"):
        run_search(search_values(data, trials=2, space=space), tmp_path / "study")


def autoint(data: Path, **search: Any) -> dict[str, Any]:
    """A search of a backbone whose heads, two of them, must share the width of an embedding."""
    values = search_values(data, **{"trials": 4, "widen": 0, **search}) | {"regularizer": {}}
    return values | {"backbone": {"name": "autoint", "sizes": [4]}}


def test_a_trial_whose_settings_form_no_model_fails_alone(data: Path, tmp_path: Path) -> None:
    space = {"backbone.embedding_dim": {"low": 2, "high": 8}}
    values = autoint(data, space=space, seed=1)
    summary = run_search(values, tmp_path / "study")
    trials = summary["methods"]["best"]["trials"]
    widths = [trial["parameters"]["backbone.embedding_dim"] for trial in trials]
    assert {width % 2 for width in widths} == {0, 1}
    for width, trial in zip(widths, trials, strict=True):
        if width % 2:
            assert trial["state"] == "fail"
            assert f"must divide backbone.embedding_dim = {width}" in trial["error"]
        else:
            assert trial["state"] == "complete"
    assert run_search(values, tmp_path / "study", resume=True) == summary


def test_a_search_whose_trials_all_form_no_model_says_why(data: Path, tmp_path: Path) -> None:
    space = {"backbone.embedding_dim": {"low": 30, "high": 60}}
    values = autoint(data, space=space, trials=2)
    values["backbone"]["n_heads"] = 30
    with pytest.raises(TrainingError, match=r"all trials have failed; the last: .*must divide"):
        run_search(values, tmp_path / "study")


def test_what_forms_no_model_leaves_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    ends = {"backbone.embedding_dim": {"choices": [8, 15]}}
    wrong: list[tuple[dict[str, Any], str]] = [
        (search_values(data) | {"fields": ["brnad"]}, "^fields: brnad not in"),
        (search_values(data, method="one-run") | {"fields": ["brnad"]}, "^fields: brnad not in"),
        (
            search_values(data, methods={"a": {}, "b": {"fields": ["brnad"]}}),
            r"^search\.methods\.b: fields: brnad not in",
        ),
        (search_values(data) | {"runtime": {"device": "cuda:99x"}}, "expected cpu, cuda"),
        (search_values(data) | {"regularizer": {"clcrec": {}}}, "needs item attributes"),
        (
            autoint(data, space=ends),
            r"^search\.space\.backbone\.embedding_dim: 15 fits no model: backbone\.n_heads = 2",
        ),
    ]
    for values, message in wrong:
        with pytest.raises(ConfigError, match=message):
            run_search(values, out)
        assert not out.exists()


def test_models_of_a_study_that_has_begun_are_not_tried_again(data: Path, tmp_path: Path) -> None:
    space = {"backbone.embedding_dim": {"choices": [4, 5]}}
    values = autoint(data, space=space)
    start_study(tmp_path / "study", plan_search(values), resume=False)
    found = run_search(values, tmp_path / "study", resume=True)
    assert {t["state"] for t in found["methods"]["best"]["trials"]} == {"complete", "fail"}
