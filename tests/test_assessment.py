import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

from aqcl import predictions, storage
from aqcl.assessment import assess, compare_runs, dataset_of, group_by_configuration
from aqcl.dataset import Dataset, Split
from aqcl.errors import ConfigError, DataError, StorageError
from aqcl.evaluate import ALL
from aqcl.runs import WEIGHTS, Run, open_run, start_run
from aqcl.splits import SplitName
from aqcl.storage import atomic_stream, read_manifest
from aqcl.train import train
from aqcl.wording import legend
from tests.run_directories import paths, scored_run, small_dataset
from tests.searches import Killed
from tests.tiny_runs import tiny_dataset, tiny_experiment


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("assessment") / "data")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("trained")
    experiment = tiny_experiment(tiny_dataset(folder), regularizer={}, train={"epochs": 1})
    return train(experiment, folder / "run")


def test_runs_that_differ_by_seed_alone_are_one_configuration(
    dataset: Dataset, tmp_path: Path
) -> None:
    runs = [scored_run(tmp_path / f"r{s}", dataset, name="DIN", seed=s) for s in (2, 0, 1)]
    groups = group_by_configuration(runs)
    assert [run.experiment.seed for run in groups["DIN"]] == [0, 1, 2]
    assert len(groups) == 1


def test_where_and_under_which_name_a_run_ran_is_no_setting(
    dataset: Dataset, tmp_path: Path
) -> None:
    one = scored_run(tmp_path / "one", dataset, name="DIN", seed=0, runtime={"threads": 1})
    two = scored_run(tmp_path / "two", dataset, name="DIN", seed=1, runtime={"threads": 2})
    assert list(group_by_configuration([one, two])) == ["DIN"]


def test_one_label_for_different_settings_is_told_apart(dataset: Dataset, tmp_path: Path) -> None:
    settings = [{"seed": s, "train": {"lr": lr}} for lr in (0.1, 0.2, 0.3) for s in (0, 1)]
    runs = [
        scored_run(tmp_path / f"r{k}", dataset, name="DIN", **one)  # type: ignore[arg-type]
        for k, one in enumerate(settings)
    ]
    groups = group_by_configuration(runs)
    assert list(groups) == ["DIN", "DIN #2", "DIN #3"]
    assert [run.experiment.train.lr for run in groups["DIN #2"]] == [0.2, 0.2]


def test_a_doubled_seed_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    runs = [scored_run(tmp_path / name, dataset, name="DIN", seed=3) for name in ("a", "b")]
    with pytest.raises(
        DataError, match=r"a and .*b are the same configuration with the same seed 3"
    ):
        compare_runs(paths(runs))
    with pytest.raises(DataError, match="give each run once"):
        compare_runs([runs[0].path, runs[0].path])


def test_runs_on_different_datasets_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    other = small_dataset(tmp_path / "other", shift=1)
    one, two = scored_run(tmp_path / "one", dataset), scored_run(tmp_path / "two", other)
    with pytest.raises(DataError, match=r"one and .*two were trained on different datasets"):
        compare_runs([one.path, two.path])


def test_a_dataset_replaced_under_a_run_is_refused(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data")
    run = scored_run(tmp_path / "run", dataset)
    dataset.path.rename(tmp_path / "old")
    small_dataset(tmp_path / "data", shift=1)
    for action in (lambda: dataset_of(run), lambda: compare_runs([run.path])):
        with pytest.raises(StorageError, match=r"data: is not the dataset that .*run was trained"):
            action()
    with pytest.raises(StorageError, match="is not the dataset"):
        assess(run.path, "valid")


def test_another_dataset_is_refused_also_where_the_split_was_scored(
    dataset: Dataset, tmp_path: Path
) -> None:
    run = scored_run(tmp_path / "run", dataset)
    other = small_dataset(tmp_path / "other", shift=1)
    with pytest.raises(StorageError, match=r"other: is not the dataset that .*run was trained"):
        assess(run.path, "test", other)


def test_a_scored_split_is_not_scored_again(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data")
    run = scored_run(tmp_path / "run", dataset)
    dataset.path.rename(tmp_path / "old")
    assert assess(run.path, "test").metrics() == run.metrics()


def test_a_run_trained_on_cuda_is_scored_where_there_is_none(
    trained: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    elsewhere = dataclasses.replace(trained.experiment.runtime, device="cuda:1")
    experiment = dataclasses.replace(trained.experiment, runtime=elsewhere)
    start_run(tmp_path / "run", experiment)
    shutil.copy(trained.path / WEIGHTS, tmp_path / "run")
    Run(tmp_path / "run", experiment, trained.manifest).record(
        "valid", trained.predictions("valid"), {}
    )
    shutil.copytree(trained.path, tmp_path / "here")
    caplog.set_level("INFO")
    scores = assess(tmp_path / "run", "test").predictions("test").score
    np.testing.assert_array_equal(
        scores, assess(tmp_path / "here", "test").predictions("test").score
    )
    assert "runtime.device = 'cuda:1' is not here: scored on cpu" in caplog.text


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_only_the_split_that_is_scored_is_opened(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: SplitName
) -> None:
    path = tmp_path / "run"
    start_run(path, trained.experiment)
    shutil.copy(trained.path / WEIGHTS, path)
    Run(path, trained.experiment, trained.manifest).record("none", trained.predictions("valid"), {})
    dataset = dataset_of(trained)
    rows = len(getattr(dataset, split))

    def closed(_: Dataset) -> Split:
        raise AssertionError("another split was opened")

    for other in {"train", "valid", "test"} - {split}:
        monkeypatch.setattr(Dataset, other, property(closed))
    assert len(assess(path, split, dataset).predictions(split)) == rows


@pytest.mark.parametrize("name", ["metrics.json", "predictions-train.parquet", "manifest.json"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_run_killed_while_it_is_scored_is_completed_by_the_next(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, before: bool
) -> None:
    path, whole = tmp_path / "run", tmp_path / "whole"
    for copy in (path, whole):
        shutil.copytree(trained.path, copy)

    @contextmanager
    def killing(file: Path) -> Iterator[BinaryIO]:
        if file.name == name and before:
            raise Killed
        with atomic_stream(file) as stream:
            yield stream
        if file.name == name:
            raise Killed

    with monkeypatch.context() as patch:
        for module in (predictions, storage):
            patch.setattr(module, "atomic_stream", killing)
        with pytest.raises(Killed):
            assess(path, "train")
    open_run(path)
    # Another split in between must not make the killed one look whole.
    assess(path, "test")
    measured = assess(whole, "train").metrics()["train"]
    assert assess(path, "train").metrics()["train"] == measured
    assert read_manifest(path, "aqcl-run", verify=True).files.keys() >= {name} - {"manifest.json"}


def test_an_unfinished_run_is_refused_with_the_command_that_continues_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text('dataset = "x"\n')
    with pytest.raises(StorageError, match=r"has not finished; continue it .*--resume"):
        compare_runs([tmp_path / "run"])


def test_the_base_is_the_first_run_unless_named(dataset: Dataset, tmp_path: Path) -> None:
    one = scored_run(tmp_path / "one", dataset, name="one")
    two = scored_run(tmp_path / "two", dataset, name="two", train={"lr": 0.1})
    runs = paths([one, two])
    assert compare_runs(runs, replicates=100).comparison.base == "one"
    assert compare_runs(runs, base="two", replicates=100).comparison.base == "two"
    with pytest.raises(ConfigError, match=r"base: no run is called 'twoo'; did you mean 'two'\?"):
        compare_runs(runs, base="twoo")


@pytest.mark.parametrize("replicates", [99, 1, 0, -1])
def test_intervals_need_resamples(replicates: int, dataset: Dataset, tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", dataset)
    with pytest.raises(ConfigError, match=f"replicates: expected 100 or more, got {replicates}:"):
        compare_runs([run.path], replicates=replicates)


def test_nothing_cannot_be_compared() -> None:
    with pytest.raises(ConfigError, match="at least one run directory"):
        compare_runs([])


def test_yardsticks_stand_beside_the_runs(dataset: Dataset, tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", dataset, name="DIN")
    result = compare_runs([run.path], replicates=100)
    assert result.yardsticks == ("popularity", "item-CF", "item-CF + popularity", "click rate")
    everyone = [row.configuration for row in result.comparison.rows if row.group == ALL]
    assert everyone == ["DIN", *result.yardsticks]
    assert result.runs == {"DIN": (run.path,)}


def test_a_run_may_be_called_what_a_yardstick_is_called(dataset: Dataset, tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", dataset, quality=30.0, name="popularity")
    result = compare_runs([run.path], replicates=100)
    assert "popularity (not trained)" in result.yardsticks
    aucs = {row.configuration: row.auc for row in result.comparison.rows if row.group == ALL}
    assert aucs["popularity"] == 1.0
    assert aucs["popularity (not trained)"] != 1.0


def test_runs_below_the_best_yardstick_are_named_for_each_group(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data", n_users=200)
    bad = scored_run(tmp_path / "bad", dataset, quality=-9.0, name="bad")
    good = scored_run(tmp_path / "good", dataset, quality=9.0, name="good", train={"lr": 0.1})
    result = compare_runs([bad.path, good.path], replicates=100)
    rows = {(row.configuration, row.group): row for row in result.comparison.rows}
    told = [row.group for row in rows.values() if row.configuration == "good" and row.p_value]
    assert [below.group for below in result.below_yardsticks()] == told
    assert told[0] == ALL
    for below in result.below_yardsticks():
        aucs = {name: rows[name, below.group].auc or 0.0 for name in ("bad", *result.yardsticks)}
        best = max(result.yardsticks, key=aucs.__getitem__)
        wanted = ("bad", below.group, aucs["bad"], best, aucs[best])
        assert dataclasses.astuple(below) == wanted


def test_the_legend_tells_where_a_single_training_is_taken_to_vary(
    dataset: Dataset, tmp_path: Path
) -> None:
    several = [scored_run(tmp_path / f"r{s}", dataset, name="DIN", seed=s) for s in (0, 1)]
    one = scored_run(tmp_path / "one", dataset, name="one", train={"lr": 0.1})
    other = scored_run(tmp_path / "other", dataset, name="other", train={"lr": 0.2})
    for compared, told in (([*several, one], True), ([one, other], False), (several, False)):
        lines = legend(compare_runs(paths(compared), replicates=100))
        assert any("A method trained once" in line for line in lines) == told
