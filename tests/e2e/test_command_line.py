"""train, evaluate, compare and describe as a user calls them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from aqcl.config import override, read_toml, to_toml
from aqcl.runs import open_run
from tests.e2e.commands import (
    Outcome,
    click_log,
    digest,
    fails,
    interrupted,
    succeeds,
    write_experiment,
)
from tests.tiny_runs import assert_same_run

AQCL = ("--set", "regularizer.aqcl.weight=0.1", "--set", "regularizer.aqcl.warmup_steps=4")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("command-line")


@pytest.fixture(scope="module")
def log(place: Path) -> Path:
    click_log().write_parquet(place / "log.parquet")
    return place / "log.parquet"


@pytest.fixture(scope="module")
def dataset(place: Path, log: Path) -> Path:
    succeeds("prepare", log, "--out", place / "data", "--label", "label")
    return place / "data"


@pytest.fixture(scope="module")
def experiment(place: Path, dataset: Path) -> Path:
    return write_experiment(place / "experiment.toml", dataset)


@pytest.fixture(scope="module")
def runs(place: Path, experiment: Path) -> dict[str, list[Path]]:
    """Two seeds of two methods."""
    made: dict[str, list[Path]] = {"DIN": [], "DIN+AQCL": []}
    for label, settings in (("DIN", ()), ("DIN+AQCL", AQCL)):
        for seed in (0, 1):
            out = place / f"{label}-{seed}"
            options = ("--set", f"name={label}", "--set", f"seed={seed}", *settings)
            succeeds("train", experiment, "--out", out, *options, "--json")
            made[label].append(out)
    return made


def run_paths(runs: dict[str, list[Path]]) -> list[Path]:
    return [path for paths in runs.values() for path in paths]


def test_train_leaves_a_whole_run_directory(runs: dict[str, list[Path]], dataset: Path) -> None:
    run = runs["DIN+AQCL"][0]
    assert {path.name for path in run.iterdir()} == {
        "config.toml",
        "weights.safetensors",
        "checkpoint.safetensors",
        "log.jsonl",
        "metrics.json",
        "predictions-valid.parquet",
        "manifest.json",
    }
    config = read_toml(run / "config.toml")
    assert config["dataset"] == str(dataset)
    assert config["regularizer"]["aqcl"]["weight"] == 0.1
    assert config["regularizer"]["aqcl"]["n_codewords"] == 128  # defaults are written out
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})
    assert "aqcl/value" in lines[-1]


def test_train_reports_in_json_and_in_words(experiment: Path, tmp_path: Path) -> None:
    words = succeeds("train", experiment, "--out", tmp_path / "a", "--set", "train.epochs=1")
    assert "din, seed 0, valid rows" in words.out
    assert f"Run directory: {tmp_path / 'a'}. Score its test rows with " in words.out
    assert f"`aqcl evaluate {tmp_path / 'a'}`." in words.out
    assert "epoch 1" in words.err
    arguments = ("train", experiment, "--out", tmp_path / "b", "--set", "train.epochs=1", "--json")
    made = succeeds(*arguments)
    assert made.json["run"] == str(tmp_path / "b")
    assert made.json["valid"]["groups"][0]["group"] == "all"
    assert made.json["monitor"] == "auc"
    assert "epoch" not in made.err


def test_train_has_a_place_for_runs(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--set", "name=My model/1", "--set", "seed=4", "--set", "train.epochs=1")
    made = succeeds("train", experiment, *options, "--json")
    assert made.json["run"] == "runs/My-model-1-seed4"
    assert (tmp_path / "runs" / "My-model-1-seed4" / "manifest.json").exists()


def test_a_run_repeats_from_its_own_configuration(
    runs: dict[str, list[Path]], tmp_path: Path
) -> None:
    run = runs["DIN+AQCL"][1]
    succeeds("train", run / "config.toml", "--out", tmp_path / "again", "--json")
    for name in ("weights.safetensors", "config.toml", "predictions-valid.parquet"):
        assert digest(tmp_path / "again" / name) == digest(run / name), name


def test_another_seed_is_another_model(runs: dict[str, list[Path]]) -> None:
    one, two = runs["DIN"]
    assert digest(one / "weights.safetensors") != digest(two / "weights.safetensors")


def test_a_finished_run_is_not_overwritten(runs: dict[str, list[Path]], experiment: Path) -> None:
    run = runs["DIN"][0]
    before = digest(run / "weights.safetensors")
    message = fails("train", experiment, "--out", run)
    assert message.endswith(
        "already exists; continue it with --resume or choose another --out\n".strip()
    )
    changed = ("--resume", "--set", "name=DIN", "--set", "train.lr=0.5")
    assert "train.lr: the run was started with 0.001, now it is 0.5" in fails(
        "train", experiment, "--out", run, *changed
    )
    succeeds("train", experiment, "--out", run, "--resume", "--set", "name=DIN", "--json")
    assert digest(run / "weights.safetensors") == before


def test_a_killed_run_resumes_to_the_same_weights(dataset: Path, tmp_path: Path) -> None:
    """kill -9 in the middle, once the first evaluation stands in the log."""
    values = override(
        read_toml(write_experiment(tmp_path / "base.toml", dataset)),
        ["train.epochs=4", "train.batch_size=64", "train.evaluations_per_epoch=1"],
    )
    experiment = tmp_path / "experiment.toml"
    experiment.write_text(to_toml(values))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    succeeds("train", experiment, "--out", whole, *AQCL, "--json")
    command = [sys.executable, "-c", "from aqcl.cli import main; main()"]
    arguments = ["train", str(experiment), "--out", str(killed), *AQCL, "--json"]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (killed / "checkpoint.safetensors").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL, "the run was over before it could be killed"
    assert not (killed / "manifest.json").exists()
    assert "has not finished; continue it with" in fails("evaluate", killed)
    succeeds(*arguments, "--resume")
    assert_same_run(open_run(killed), open_run(whole))


def test_an_interrupted_run_says_how_to_continue(experiment: Path, tmp_path: Path) -> None:
    run = tmp_path / "my run"
    options = ("--set", "train.epochs=500", "--set", "train.patience=500", "--json")
    outcome = interrupted(
        *("train", experiment, "--out", run, *options),
        once=(run / "checkpoint.safetensors").exists,
    )
    command = f"aqcl train '{run / 'config.toml'}' --out '{run}' --resume"
    assert outcome == Outcome(130, "", f"interrupted; continue with `{command}`\n")


def test_an_interruption_before_the_first_step_says_so(tmp_path: Path) -> None:
    outcome = interrupted("train", tmp_path / "pipe.toml", once=_waits_for(tmp_path / "pipe.toml"))
    assert outcome == Outcome(130, "", "interrupted\n")


def _waits_for(pipe: Path) -> Callable[[], bool]:
    """Whether someone reads the pipe, which never ends; it is made here."""
    os.mkfifo(pipe)

    def waits() -> bool:
        try:
            os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False
        return True

    return waits


# evaluate and compare


def test_a_long_path_stays_whole(
    runs: dict[str, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / ("long-name-" * 12) / "run"
    shutil.copytree(runs["DIN"][0], run)
    monkeypatch.setenv("COLUMNS", "80")
    assert str(run) in succeeds("evaluate", run).out.splitlines()


def test_evaluate_scores_test_rows(runs: dict[str, list[Path]]) -> None:
    run = runs["DIN"][0]
    words = succeeds("evaluate", run)
    assert words.out.startswith(f"DIN, seed 0, test rows\n{run}\n")
    assert re.search(r"^AUC +0\.\d{4}", words.out, re.MULTILINE)
    assert (run / "predictions-test.parquet").exists()
    metrics = succeeds("evaluate", *runs["DIN"], "--json").json
    assert list(metrics) == [str(path) for path in runs["DIN"]]
    groups = metrics[str(run)]["groups"]
    assert [group["group"] for group in groups] == [
        "all",
        "non-active",
        "slightly-active",
        "highly-active",
    ]
    rows = pl.read_parquet(run / "predictions-test.parquet").height
    assert groups[0]["rows"] == rows == sum(group["rows"] for group in groups[1:])


def test_evaluate_takes_another_split(runs: dict[str, list[Path]], dataset: Path) -> None:
    run = runs["DIN"][1]
    found = succeeds("evaluate", run, "--split", "valid", "--json").json[str(run)]
    measured = json.loads((run / "metrics.json").read_text())["valid"]
    assert {key: found.pop(key) for key in found.keys() - measured.keys()} == {
        "label": "DIN",
        "run_seed": 1,
        "dataset": str(dataset),
        "simulated": False,
        "split": "valid",
        "by": "user-activity",
    }
    assert found == measured


def test_training_rows_are_of_all_users_and_flatter(
    runs: dict[str, list[Path]], tmp_path: Path
) -> None:
    run, other = (shutil.copytree(runs[name][1], tmp_path / name) for name in ("DIN", "DIN+AQCL"))
    found = succeeds("evaluate", run, "--split", "train", "--json").json[str(run)]
    assert [group["group"] for group in found["groups"]] == ["all"]
    assert (
        "Training rows: the weights were fitted"
        in succeeds("evaluate", run, "--split", "train").out
    )
    compared = succeeds("compare", run, other, "--split", "train", "--json").json
    assert {row["group"] for row in compared["rows"]} == {"all"}
    succeeds("report", run, "--split", "train", "--out", tmp_path / "train.html")


def test_compare_pairs_runs_and_puts_seeds_in_one_row(runs: dict[str, list[Path]]) -> None:
    arguments = ("compare", *run_paths(runs), "--replicates", "100")
    found = succeeds(*arguments, "--json").json
    assert found["base"] == "DIN"
    assert found["runs"] == {label: [str(p) for p in paths] for label, paths in runs.items()}
    rows = {row["configuration"]: row for row in found["rows"] if row["group"] == "all"}
    assert set(rows) == {"DIN", "DIN+AQCL", *found["yardsticks"]}
    assert {label: row["seeds"] for label, row in rows.items()} == {
        "DIN": 2,
        "DIN+AQCL": 2,
        **dict.fromkeys(found["yardsticks"], 1),
    }
    assert found["yardsticks"][0] == "popularity"
    per_seed = [
        succeeds("evaluate", path, "--json").json[str(path)]["groups"][0]["auc"]
        for path in runs["DIN+AQCL"]
    ]
    assert rows["DIN+AQCL"]["auc"] == pytest.approx(sum(per_seed) / 2)
    base = rows["DIN"]["auc"]
    improvement = 100 * ((rows["DIN+AQCL"]["auc"] - 0.5) / (base - 0.5) - 1)
    assert rows["DIN+AQCL"]["rela_impr"] == pytest.approx(improvement)
    assert rows["DIN"]["verdict"] == "base"


def test_compare_prints_a_table(runs: dict[str, list[Path]]) -> None:
    arguments = ("compare", *run_paths(runs), "--replicates", "100")
    text = succeeds(*arguments).out
    assert max(map(len, text.splitlines())) <= 100
    assert text.startswith("log, test rows: against DIN\n")
    assert len(re.findall(r"^DIN\+AQCL \(2 seeds\) +0\.\d{4} ± 0\.\d{4} ", text, re.M)) == 4
    assert len(re.findall(r"^item-CF \+ popularity \* +0\.\d{4} ", text, re.M)) == 4
    assert re.search(r"^all users: \d+ rows, \d+ users, \d+ clicks$", text, re.M)
    found = succeeds(*arguments, "--json").json
    assert [line.partition(":")[0] for line in found["few_seeds"]] == ["Few seeds (DIN"]
    assert found["simulated"] is False
    told = " ".join(text.split())
    for below in found["below_yardsticks"]:
        assert f"{below['configuration']} has no higher AUC than what was not trained: " in told
        assert f"against {below['yardstick_auc']:.4f} of {below['yardstick']}" in told
    assert len(re.findall("no higher AUC than", told)) == len(
        {below["configuration"] for below in found["below_yardsticks"]}
    )


def test_compare_takes_another_base(runs: dict[str, list[Path]]) -> None:
    arguments = ("compare", *run_paths(runs), "--replicates", "100", "--base", "DIN+AQCL")
    assert succeeds(*arguments, "--json").json["base"] == "DIN+AQCL"
    assert "did you mean 'DIN'?" in fails("compare", *run_paths(runs), "--base", "DINN")


def test_compare_refuses_runs_on_other_rows(
    runs: dict[str, list[Path]], log: Path, tmp_path: Path
) -> None:
    other = ("prepare", log, "--out", tmp_path / "other", "--label", "label")
    succeeds(*other, "--set", "user_share=0.5")
    experiment = write_experiment(tmp_path / "x.toml", tmp_path / "other")
    succeeds("train", experiment, "--out", tmp_path / "run", "--set", "train.epochs=1")
    message = fails("compare", runs["DIN"][0], tmp_path / "run")
    assert "were trained on different datasets" in message


def test_runs_outlive_a_move_of_their_dataset(
    runs: dict[str, list[Path]], dataset: Path, log: Path, place: Path
) -> None:
    run, moved, page = runs["DIN+AQCL"][0], place / "moved", place / "report.html"
    other = place / "another"
    succeeds("prepare", log, "--out", other, "--label", "label", "--set", "split.kind=last-day")
    commands = (
        ("evaluate", run, "--split", "train"),
        ("evaluate", run, "--by", "item-activity"),
        ("compare", run, "--replicates", 100),
        ("interests", run),
        ("interests", run, "--user", "3"),
        ("report", run, "--out", page),
    )
    dataset.rename(moved)
    try:
        for words in commands:
            missing = fails(*words)
            assert f"{dataset}: is no directory, and {run} was trained on the dataset" in missing
            assert "name its place with --dataset" in missing
            wrong = fails(*words, "--dataset", other)
            assert f"{other}: is not the dataset that {run} was trained on" in wrong
            succeeds(*words, "--dataset", moved)
    finally:
        moved.rename(dataset)


# describe


def test_describe_takes_no_name_where_there_is_none(dataset: Path) -> None:
    for what in ("prepare", "train", dataset):
        message = fails("describe", what, "foo")
        assert message == f"describe {what}: expected no name after it, got 'foo'; leave it out"


def test_describe_shows_what_a_directory_holds(runs: dict[str, list[Path]], dataset: Path) -> None:
    text = " ".join(succeeds("describe", dataset).out.split())
    assert f"in {dataset} users 240 items" in text
    assert " groups non-active " in text
    run = runs["DIN+AQCL"][0]
    text = " ".join(succeeds("describe", run).out.split())
    assert text.startswith("run DIN+AQCL, seed 0 dataset ")
    found = succeeds("describe", run, "--json").json
    told = f"weights of step {found['best_step']:,}: AUC {found['best']:.4f} on validation rows"
    assert told in text
    assert "settings backbone.name din" in text
    assert "regularizer.aqcl" in text
    assert "all others are defaults" in text
    assert f"DIN+AQCL, seed 0, valid rows {run}" in text


def test_describe_lists_and_explains(runs: dict[str, list[Path]], dataset: Path) -> None:
    listing = succeeds("describe").out
    lines = [line.split() for line in listing.splitlines()]
    heads = {words[0]: " ".join(words) for words in lines if words}
    assert "Deep Interest Network" in heads["din"]
    assert heads["din"].endswith("arXiv 1706.06978")
    assert {"ta-feng", "oncold", "aqcl", "icl"} <= set(heads)
    names = succeeds("describe", "regularizer", "--json").json["regularizer"]
    assert {"aqcl", "icl"} <= set(names)
    text = " ".join(succeeds("describe", "regularizer", "aqcl").out.split())
    assert "n_codewords integer >= 1 128 T, the number of interests in the codebook." in text
    options = succeeds("describe", "train", "--json").json["options"]
    assert {"train.lr", "train.epochs"} <= {option["key"] for option in options}
    found = succeeds("describe", dataset, "--json").json
    assert found["counts"]["users"] == 240
    assert found["dates"]["all"] == [found["dates"]["train"][0], found["dates"]["test"][1]]
    run = succeeds("describe", runs["DIN"][0], "--json").json
    assert run["settings"] == {"seed": 0, "label": "DIN"}
    assert "did you mean 'din'" in fails("describe", "backbone", "dni")
    assert "neither a directory nor one of" in fails("describe", "backbon")
