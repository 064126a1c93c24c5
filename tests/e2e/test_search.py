"""`aqcl search` as a user calls it: one command, several processes, kills, tables and JSON."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aqcl.describe import describe
from tests.e2e.commands import Outcome, click_log, fails, interrupted, succeeds, write_experiment
from tests.tiny_runs import tiny_dataset

MODEL = """
[backbone]
name = "din"
embedding_dim = 4
attention_sizes = [6]
sizes = [12, 8]
[train]
epochs = 1
batch_size = 48
lr = 0.03
evaluations_per_epoch = 4
[runtime]
threads = 1
"""
METHODS = """
[search]
trials = 3
widen = 0
[search.methods.din]
[search.methods."din+aqcl".regularizer.aqcl]
weight = 0.1
n_codewords = 8
top_k = 2
dim = 8
hidden_dim = 8
warmup_steps = 3
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def experiment(dataset: Path) -> Path:
    return write_experiment(dataset.parent / "experiment.toml", dataset, MODEL + METHODS)


@pytest.fixture(scope="module")
def study(dataset: Path, experiment: Path) -> Path:
    out = dataset.parent / "study"
    text = succeeds("search", experiment, "--out", out).out
    (dataset.parent / "printed.txt").write_text(text)
    return out


def test_a_search_prints_trials_winners_and_alpha(study: Path) -> None:
    lines = [
        " ".join(line.split()) for line in (study.parent / "printed.txt").read_text().splitlines()
    ]
    text = " ".join(lines)
    for name in ("din", "din+aqcl"):
        assert any(line.startswith(f"{name}: 3 complete; ") for line in lines)
        assert f"`aqcl train {study / f'{name}.toml'}`" in text
    assert "trial logloss embedding_l2 w1 w2" in lines  # the method sets its weight
    assert "Alpha of aqcl: 1.000 at 0 clicks, " in text
    assert " at 10x mean clicks." in text
    assert "objective: logloss on validation rows, of the weights that train.monitor kept." in text
    assert "Test rows are unread." in text
    assert max(map(len, lines)) <= 200


def test_a_search_prints_json_and_describe_tells_the_same(study: Path, experiment: Path) -> None:
    told = succeeds("search", experiment, "--out", study, "--resume", "--json").json
    assert told.pop("study") == str(study)
    assert told == json.loads((study / "study.json").read_text())
    described = succeeds("describe", study, "--json").json
    assert described["format"] == "aqcl-study"
    assert described["methods"] == told["methods"]
    assert described["settings"]["trials"] == 3
    assert "Test rows are unread" in succeeds("search", experiment, "-o", study, "--resume").out


def test_a_winner_trains_and_evaluates_as_it_is(study: Path, tmp_path: Path) -> None:
    best = json.loads((study / "study.json").read_text())["methods"]["din+aqcl"]["best"]
    run = tmp_path / "run"
    told = succeeds("train", study / "din+aqcl.toml", "--out", run, "--json").json
    assert told["valid"]["groups"][0]["logloss"] == best["value"]
    succeeds("evaluate", run)
    # A trial is a run too, and scoring its test rows does not damage the study.
    succeeds("evaluate", study / best["run"])
    assert "Winner: trial " in succeeds("describe", study).out


def test_the_file_of_a_search_is_one_for_train_too(experiment: Path, tmp_path: Path) -> None:
    succeeds("train", experiment, "--out", tmp_path / "run", "--json")
    assert "[search]" not in (tmp_path / "run" / "config.toml").read_text()


def test_mistakes_are_told_before_anything_runs(experiment: Path, tmp_path: Path) -> None:
    wrong = ("--set", "search.trails=3", "--set", "train.lr=-1")
    message = fails("search", experiment, "--out", tmp_path / "study", *wrong)
    assert "search.trails: unknown key; did you mean 'trials'" in message
    assert "train.lr" in message
    message = fails("search", experiment, "--out", tmp_path / "study", "--trials", 1)
    assert "search.trials: " in message
    assert not (tmp_path / "study").exists()


def test_an_existing_study_needs_resume_and_the_same_settings(
    study: Path, experiment: Path
) -> None:
    assert "continue a study with --resume" in fails("search", experiment, "--out", study)
    message = fails("search", experiment, "--out", study, "--resume", "--set", "search.seed=5")
    assert "search.seed: the study was started with 0, now it is 5" in message


def test_a_finished_study_has_more_trials_when_asked(
    study: Path, experiment: Path, tmp_path: Path
) -> None:
    longer = shutil.copytree(study, tmp_path / "study")
    more = ("search", experiment, "--out", longer, "--resume", "--trials", 4, "--json")
    methods = succeeds(*more).json["methods"]
    assert [len(method["trials"]) for method in methods.values()] == [4, 4]


def test_a_constrained_search_on_users_of_all_groups(tmp_path: Path) -> None:
    click_log().write_parquet(tmp_path / "log.parquet")
    succeeds("prepare", tmp_path / "log.parquet", "-o", tmp_path / "data", "--label", "label")
    file = write_experiment(tmp_path / "x.toml", tmp_path / "data", MODEL.replace("48", "512"))
    settings = ("--set", "search.objective=constrained", "--set", "regularizer.aqcl.warmup_steps=2")
    outcome = succeeds("search", file, "-o", tmp_path / "study", "--trials", 2, "--json", *settings)
    trials = outcome.json["methods"]["best"]["trials"]
    assert [trial["reference"] for trial in trials] == [True, False]
    lost = trials[0]["measures"]["auc:highly-active"] - trials[1]["measures"]["auc:highly-active"]
    assert trials[1]["feasible"] == (lost <= 0)


def until(found: Callable[[], Any]) -> Any:
    """What is found once there is something."""
    deadline = time.monotonic() + 60
    while not (seen := found()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return seen


def begun_trials(out: Path) -> list[Path]:
    return [file.parent for file in out.glob("trials/*/*/checkpoint.safetensors")]


def kill_a_worker_in_a_trial(out: Path) -> tuple[Path, int]:
    """Kill one of two workers in a trial; returns its settings, and when they were written.

    The other is stopped meanwhile, so that the trial is not its own.
    """
    children = until(lambda: len(found := multiprocessing.active_children()) == 2 and found)
    other, victim = (child.pid for child in children)
    os.kill(other, signal.SIGSTOP)
    try:
        while True:
            until(lambda: begun_trials(out))
            os.kill(victim, signal.SIGSTOP)
            time.sleep(0.05)  # until it has stopped
            if trials := begun_trials(out):
                break
            os.kill(victim, signal.SIGCONT)  # it has just ended
        os.kill(victim, signal.SIGKILL)
        (trial,) = trials
        return trial / "config.toml", (trial / "config.toml").stat().st_mtime_ns
    finally:
        os.kill(other, signal.SIGCONT)


def test_an_interrupted_search_says_how_to_continue(experiment: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    options = ("--workers", "2", "--set", "search.trials=50", "--json")
    outcome = interrupted(
        *("search", experiment, "--out", out, *options),
        once=lambda: bool(begun_trials(out)),
    )
    command = f"aqcl search {out / 'study.toml'} --out {out} --resume --workers 2"
    assert outcome == Outcome(130, "", f"interrupted; continue with `{command}`\n")


def test_two_workers_of_which_one_is_killed(experiment: Path, tmp_path: Path) -> None:
    """The other takes up its trial; every trial ends, with parameters of its own."""
    out = tmp_path / "study"
    words = ("--workers", 2, "--json", "--trials", 4)
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_a_worker_in_a_trial, out)
        told: dict[str, Any] = succeeds("search", experiment, "--out", out, *words).json
        settings, written = killing.result()
    assert settings.stat().st_mtime_ns == written  # the same run, not a new one
    for method in told["methods"].values():
        assert [trial["number"] for trial in method["trials"]] == [0, 1, 2, 3]
        assert {trial["state"] for trial in method["trials"]} == {"complete"}
        values = [trial["parameters"]["train.embedding_l2"] for trial in method["trials"]]
        assert len(set(values)) == 4
    assert told == {"study": str(out), **json.loads((out / "study.json").read_text())}
    assert multiprocessing.active_children() == []


ALPHA = """
[regularizer.aqcl]
n_codewords = 8
top_k = 2
dim = 8
hidden_dim = 8
warmup_steps = 2
[search]
method = "halving"
halving = { n_candidates = 4, training_epochs = 4 }
"""


def test_alpha_alone_is_searched_by_halving_or_in_one_run(dataset: Path, tmp_path: Path) -> None:
    model = MODEL.replace("epochs = 1", "epochs = 4")
    file = write_experiment(tmp_path / "x.toml", dataset, model + ALPHA)
    text = " ".join(succeeds("search", file, "--out", tmp_path / "halving").out.split())
    assert text.startswith("halving: 2 complete, 2 pruned; ") or "2 pruned, 2 complete; " in text
    assert "Rungs: 4 candidates to step 9, 2 candidates to step 15." in text
    assert f"`aqcl train {tmp_path / 'halving' / 'best.toml'}`" in text
    told = succeeds("train", tmp_path / "halving" / "best.toml", "-o", tmp_path / "run", "--json")
    assert told.json["steps"] > 0
    file = write_experiment(tmp_path / "y.toml", dataset, (model + ALPHA).partition("[search]")[0])
    words = ("--set", "search.method=one-run", "--json")
    found = succeeds("search", file, "--out", tmp_path / "one-run", *words).json
    assert found["method"] == "one-run"
    assert found == {
        "study": str(tmp_path / "one-run"),
        **json.loads((tmp_path / "one-run" / "study.json").read_text()),
    }
    message = fails("search", file, "--out", tmp_path / "no", *words[:2], "--trials", 3)
    assert message.startswith("search.trials: the method one-run has no such setting")
    message = fails("search", file, "--out", tmp_path / "no", *words[:2], "--workers", 2)
    assert message.startswith("workers: expected 1")


def test_the_options_of_a_search_are_described() -> None:
    options = {option.key: option for option in describe("search").options}
    assert options["search.trials"].default == "24"
    assert options["search.sampler"].type == "tpe | gp | random"
    assert "search.space" in options
    lines = succeeds("describe", "search").out.splitlines()
    assert "Keys under search, such as --set search.method=..." in lines
    assert any(line.startswith("trials  ") for line in lines)
