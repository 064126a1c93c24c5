"""What a user can get wrong ends in one message that says what to do."""

from pathlib import Path

import pytest

from tests.e2e.commands import (
    aqcl,
    fails,
    succeeds,
    write_experiment,
)
from tests.tiny_runs import tiny_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def experiment(dataset: Path) -> Path:
    return write_experiment(dataset.parent / "experiment.toml", dataset)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian", "x.toml"], ['Unknown command "trian"', 'Did you mean "train"?']),
        (["train", "x.toml", "--resum"], ["--resum", "Did you mean --resume?"]),
        (["train"], ["train", "EXPERIMENT", "requires an argument"]),
        (["prepare", "log.csv"], ["prepare", "--out", "requires an argument"]),
        (["compare"], ["at least one run directory"]),
        (["evaluate"], ["at least one run directory"]),
        (["evaluate", "x", "--split", "tset"], ['"tset"', 'Did you mean "test"?']),
        (["compare", "x", "--replicates", "many"], ['"many"', "--replicates"]),
        (["train", "missing.toml"], ["missing.toml: no such file"]),
        (["evaluate", "missing"], ["missing: is no directory"]),
        (["evaluate", "."], [".: has no manifest.json", "aqcl-run, made by `aqcl train`"]),
        (["train", "."], [".: is a directory; give a TOML file, such as experiment.toml"]),
        (["report", "x", "-o", "."], ["--out .: is a directory; give a file, such as report.html"]),
        (["prepare", "missing.csv", "-o", "x"], ["'missing.csv': no file matches"]),
        (["prepare", "x", "-o", "x", "--source", "tabel"], ["did you mean 'table'"]),
        (["prepare", "x.csv", "-o", "x", "--set", "a"], ["--set a: expected key=value"]),
        (
            ["train", "x.toml", "--set", "seed=1", "train.lr=0.1"],
            ["['train.lr=0.1']", "Each setting needs a --set of its own: --set train.lr=0.1"],
        ),
        (
            ["prepare", "-o", "x", "--set", "user_share=0.5", "split.days=4"],
            ["no file matches; check the path; a setting needs a --set of its own"],
        ),
        (["prepare", "x", "-o", "x", "--set", "source=table"], ["set its name, as source.name"]),
        (["demo", "--data", "moon"], ['"moon"', '"ta-feng", "oncold"']),
    ],
)
def test_a_mistake_is_one_message(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = fails(*arguments)
    assert all(word in message for word in words), message
    assert list(tmp_path.iterdir()) == []


def test_all_mistakes_of_an_experiment_are_told_at_once(experiment: Path, tmp_path: Path) -> None:
    wrong = {
        "train.lr=-1": "train.lr: Input should be greater than 0, got -1",
        "train.epoch=3": "train.epoch: unknown key; did you mean 'epochs'?",
        "seed=-2": "seed: Input should be greater than or equal to 0, got -2",
        "backbone.dropout=1.5": "backbone.dropout: Input should be less than 1, got 1.5",
        "regularizer.aqcl.view.mask_rate=2": (
            "regularizer.aqcl.view.mask_rate: Input should be less than 1, got 2"
        ),
        "train.monitor=acu": "train.monitor: Input should be 'auc' or 'logloss', got 'acu'",
        "fulds=[]": "fulds: unknown key; did you mean 'fields'?",
    }
    settings = [word for assignment in wrong for word in ("--set", assignment)]
    message = fails("train", experiment, "--out", tmp_path / "run", *settings)
    assert [text for text in wrong.values() if text not in message] == []
    assert len(message.splitlines()) == len(wrong)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [["train", "missing.toml"], ["trian"], ["describe", "nowhere"]])
def test_debug_shows_where_a_mistake_came_up(words: list[str]) -> None:
    outcome = aqcl(*words, "--debug")
    assert outcome.code == 2
    assert "Traceback (most recent call last)" in outcome.err


def test_what_the_system_refuses_is_a_message_too(dataset: Path, tmp_path: Path) -> None:
    experiment = write_experiment(tmp_path / "x.toml", dataset)
    (tmp_path / "file").write_text("")
    message = fails("train", experiment, "--out", tmp_path / "file" / "run")
    assert str(tmp_path / "file" / "run") in message


def test_resuming_what_is_not_there_is_told(experiment: Path, tmp_path: Path) -> None:
    place = tmp_path / "mistyped"
    command = ("train", experiment, "--out", place, "--set", "train.epochs=1", "--resume")
    told = f"{place}: no run to continue there, a new one begins"
    assert told in succeeds(*command).err
    assert told not in succeeds(*command).err
