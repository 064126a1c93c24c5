"""A run that was interrupted or killed, wherever it was, ends as if it had not been."""

import contextlib
import dataclasses
import errno
import fcntl
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aqcl import train as train_module
from aqcl.dataset import open_dataset
from aqcl.errors import ConfigError, StorageError
from aqcl.experiment import Experiment
from aqcl.runs import (
    CHECKPOINT,
    CONFIG,
    LOG,
    Run,
    is_finished,
    load_tensors,
    open_run,
    save_tensors,
    sole_trainer,
)
from aqcl.train import Progress, Trainer, train
from tests.searches import Killed
from tests.tiny_runs import assert_same_run, tiny_dataset, tiny_experiment


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def experiment(data: Path) -> Experiment:
    return tiny_experiment(data)


@pytest.fixture(scope="module")
def whole(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that every interrupted one must equal."""
    return train(experiment, tmp_path_factory.mktemp("runs") / "whole")


def resumed(experiment: Experiment, out: Path) -> Run:
    assert not is_finished(out)
    with pytest.raises(StorageError, match=r"has not finished; continue it with .*--resume"):
        open_run(out)
    return train(experiment, out, resume=True)


# The run has 8 steps per epoch and evaluates after 4.
@pytest.mark.parametrize("number", [1, 4, 5, 8, 12, 16])
def test_a_run_interrupted_after_a_step_ends_as_if_it_had_not_been(
    experiment: Experiment, whole: Run, tmp_path: Path, number: int
) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.number == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(experiment, tmp_path / "run", listen=interrupt)

    assert_same_run(resumed(experiment, tmp_path / "run"), whole)


@pytest.mark.parametrize("optimizer", ["lazy_adam", "rowwise_adagrad"])
def test_a_run_with_a_rowwise_optimizer_ends_as_if_not_interrupted(
    data: Path, whole: Run, tmp_path: Path, optimizer: str
) -> None:
    experiment = tiny_experiment(data, f"train.optimizer={optimizer}")
    uninterrupted = train(experiment, tmp_path / "whole")
    start(experiment, tmp_path / "run", number=10)

    assert_same_run(resumed(experiment, tmp_path / "run"), uninterrupted)

    tensors, _ = load_tensors(tmp_path / "run" / CHECKPOINT)
    state = {key for key in tensors if key.startswith(f"{optimizer}.")}
    pieces = {"lazy_adam": ["exp_avg", "exp_avg_sq", "step"], "rowwise_adagrad": ["sum"]}[optimizer]
    tables = ("backbone.embeddings.item_table", "backbone.embeddings.user_table")
    assert state == {f"{optimizer}.{piece}.{table}" for piece in pieces for table in tables}
    adam = {key for key in tensors if key.startswith("adam.") and key.endswith(tables)}
    assert not adam
    key = "backbone.embeddings.user_table"
    assert not torch.equal(uninterrupted.weights()[key], whole.weights()[key])


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", [0, 1, 2, 6])
def test_a_run_killed_while_it_writes_ends_as_if_it_had_not_been(
    experiment: Experiment,
    whole: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: int,
    written: bool,
) -> None:
    """Before or after each file of tensors: the weights of 3 records and 4 checkpoints."""
    original, calls = save_tensors, itertools.count()

    def killing(path: Path, *arguments: Any) -> None:
        last = next(calls) == call
        if written or not last:
            original(path, *arguments)
        if last:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "save_tensors", killing)
        with pytest.raises(Killed):
            train(experiment, tmp_path / "run")

    assert_same_run(resumed(experiment, tmp_path / "run"), whole)


@contextlib.contextmanager
def killed_where(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, last: Callable[..., bool]
) -> Iterator[None]:
    """The process ends when a function is called with arguments of which `last` is true."""
    original = getattr(module, name)

    def killing(*arguments: Any) -> Any:
        if last(*arguments):
            raise Killed
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, killing)
        with pytest.raises(Killed):
            yield


def test_a_run_killed_again_and_again_at_its_end_can_be_finished(
    experiment: Experiment, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its kept weights are loaded, scored and measured, and before each of its last files."""
    steps: list[int] = []

    def trained(*_: object) -> bool:
        return 16 in steps  # before that, evaluations are scored

    def places(ending: str) -> Callable[[Path, Path], bool]:
        return lambda _, target: target.name.endswith(ending)

    ends: list[tuple[Any, str, Callable[..., bool]]] = [
        (train_module, "load_backbone", trained),
        (train_module, "score", trained),
        (train_module, "evaluate", trained),
        (Path, "replace", places(".parquet")),
        (Path, "replace", places("metrics.json")),
        (Path, "replace", places("manifest.json")),
    ]
    for module, name, last in ends:
        with killed_where(monkeypatch, module, name, last):
            train(
                experiment, tmp_path / "run", resume=True, listen=lambda p: steps.append(p.number)
            )
        assert not is_finished(tmp_path / "run")

    assert steps == list(range(1, 17))  # none was trained twice
    assert_same_run(resumed(experiment, tmp_path / "run"), whole)


def test_a_finished_run_is_returned_as_it_is(
    experiment: Experiment, whole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "fit", lambda *_: pytest.fail("trained again"))

    again = train(experiment, whole.path, resume=True)

    assert again.manifest == whole.manifest


def test_a_run_that_was_never_started_may_be_resumed(
    experiment: Experiment, whole: Run, tmp_path: Path
) -> None:
    assert_same_run(train(experiment, tmp_path / "run", resume=True), whole)


def start(experiment: Experiment, out: Path, number: int = 5) -> None:
    """Leave an unfinished run behind."""

    def interrupt(progress: Progress) -> None:
        if progress.number == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(experiment, out, listen=interrupt)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.lr=0.5", r"train\.lr: the run was started with 0\.03, now it is 0\.5"),
        ("seed=3", r"seed: the run was started with 0, now it is 3"),
        (
            "regularizer.aqcl.view.mask_rate=0.5",
            r"regularizer\.aqcl\.view\.mask_rate: .*0\.3.*0\.5",
        ),
        ("backbone.user_id=false", r"backbone\.user_id: .*True.*False"),
        ("runtime.threads=2", r"runtime\.threads: .*1.*2"),
    ],
)
def test_resuming_with_other_settings_is_refused(
    data: Path, whole: Run, setting: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        train(tiny_experiment(data, setting), whole.path, resume=True)

    assert len(str(caught.value).splitlines()) == 2
    assert "resume with the same settings or choose another --out" in str(caught.value)


def test_a_run_from_before_a_setting_ends_as_if_it_had_not_been(
    experiment: Experiment, whole: Run, tmp_path: Path
) -> None:
    start(experiment, tmp_path / "run")
    file = tmp_path / "run" / CONFIG
    lines = file.read_text().splitlines()
    older = [line for line in lines if not line.startswith("precision")]
    assert len(older) == len(lines) - 1
    file.write_text("\n".join(older))

    run = resumed(experiment, tmp_path / "run")

    assert run.manifest.fingerprint == whole.manifest.fingerprint
    assert all(torch.equal(run.weights()[key], value) for key, value in whole.weights().items())


def test_waiting_otherwise_is_the_same_run(data: Path, whole: Run) -> None:
    experiment = tiny_experiment(data, "runtime.wait_policy=passive")

    assert train(experiment, whole.path, resume=True).manifest == whole.manifest


def test_a_run_whose_dataset_has_moved_ends_as_if_it_had_not_been_interrupted(
    whole: Run, tmp_path: Path
) -> None:
    first, moved = tiny_dataset(tmp_path), tmp_path / "elsewhere"
    start(tiny_experiment(first), tmp_path / "run")
    first.rename(moved)

    run = resumed(tiny_experiment(moved), tmp_path / "run")

    assert run.manifest.fingerprint == whole.manifest.fingerprint
    assert all(torch.equal(run.weights()[key], value) for key, value in whole.weights().items())
    assert open_run(run.path).experiment.dataset == str(moved)


def test_a_run_whose_dataset_has_moved_is_trained_by_one_process(tmp_path: Path) -> None:
    first, moved = tiny_dataset(tmp_path), tmp_path / "elsewhere"
    start(tiny_experiment(first), tmp_path / "run")
    first.rename(moved)

    def begin_again(_: Progress) -> None:
        train(tiny_experiment(moved), tmp_path / "run", resume=True)

    with pytest.raises(StorageError, match="another process trains this run; wait for its end"):
        train(tiny_experiment(moved), tmp_path / "run", resume=True, listen=begin_again)


def test_a_finished_run_is_not_one_of_other_data(whole: Run, tmp_path: Path) -> None:
    moved = shutil.copytree(whole.experiment.dataset, tmp_path / "elsewhere")
    experiment = tiny_experiment(moved)

    assert train(experiment, whole.path, resume=True).manifest == whole.manifest

    manifest = json.loads((moved / "manifest.json").read_text())
    (moved / "manifest.json").write_text(json.dumps({**manifest, "fingerprint": "other"}))
    with pytest.raises(ConfigError, match=r"elsewhere is not the one that .* was started on"):
        train(experiment, whole.path, resume=True)


def test_resuming_on_other_data_is_refused(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path)
    experiment = tiny_experiment(data)
    start(experiment, tmp_path / "run")
    manifest = json.loads((data / "manifest.json").read_text())
    (data / "manifest.json").write_text(json.dumps({**manifest, "fingerprint": "other"}))

    with pytest.raises(ConfigError, match=r"dataset: .*is not the one that .* was started on"):
        train(experiment, tmp_path / "run", resume=True)


def test_a_second_run_into_one_directory_is_refused(
    experiment: Experiment, whole: Run, tmp_path: Path
) -> None:
    start(experiment, tmp_path / "run")

    for out in (whole.path, tmp_path / "run"):
        with pytest.raises(StorageError, match="already exists; continue it with --resume"):
            train(experiment, out)


def test_what_a_killed_session_logged_after_its_checkpoint_is_dropped(
    experiment: Experiment, whole: Run, tmp_path: Path
) -> None:
    start(experiment, tmp_path / "run", number=15)
    with (tmp_path / "run" / LOG).open("a") as log:
        log.write('{"epoch": 1, "step": 16, "more": "' + 999 * "a long line " + '"}\n{"half')

    assert_same_run(resumed(experiment, tmp_path / "run"), whole)


def test_a_damaged_checkpoint_is_named(experiment: Experiment, tmp_path: Path) -> None:
    start(experiment, tmp_path / "run")
    file = tmp_path / "run" / CHECKPOINT
    file.write_bytes(file.read_bytes()[:1000])

    with pytest.raises(StorageError, match=r"checkpoint\.safetensors: not a readable checkpoint"):
        train(experiment, tmp_path / "run", resume=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_cuda(data: Path, tmp_path: Path) -> None:
    experiment = tiny_experiment(data, "runtime.device=cuda")
    start(experiment, tmp_path / "run")

    assert train(experiment, tmp_path / "run", resume=True).manifest.content["best"] > 0.5


@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam", "rowwise_adagrad"])
def test_the_optimizer_is_restored_as_torch_would(
    data: Path, tmp_path: Path, optimizer: str
) -> None:
    """Each piece of state lies where the optimizer puts it, on the device of the parameter."""
    experiment = tiny_experiment(data, f"train.optimizer={optimizer}")
    trainer = Trainer(experiment, open_dataset(data), tmp_path)
    for _ in range(5):
        trainer.step(trainer.dataset.train.batch(np.arange(64), 50))
    trainer.save()
    again = Trainer(experiment, open_dataset(data), tmp_path)

    again.restore()

    assert dataclasses.asdict(again.progress) == dataclasses.asdict(trainer.progress)
    assert trainer.optimizer.parts.keys() == again.optimizer.parts.keys()
    for part, made in trainer.optimizer.parts.items():
        remade = again.optimizer.parts[part]
        pairs = zip(made.param_groups[0]["params"], remade.param_groups[0]["params"], strict=True)
        for mine, theirs in pairs:
            state, other = made.state[mine], remade.state[theirs]
            assert state.keys() == other.keys()
            for key, value in state.items():
                assert type(value) is type(other[key])
                if isinstance(value, int):
                    assert value == other[key] == 5
                    continue
                assert value.device == other[key].device
                assert value.dtype == other[key].dtype
                assert torch.equal(value, other[key])


def test_two_processes_do_not_train_one_run(experiment: Experiment, tmp_path: Path) -> None:
    def begin_again(_: Progress) -> None:
        train(experiment, tmp_path / "run", resume=True)

    with pytest.raises(StorageError, match="another process trains this run; wait for its end"):
        train(experiment, tmp_path / "run", listen=begin_again)

    train(experiment, tmp_path / "run", resume=True)


def test_a_run_that_another_process_has_just_ended_is_returned(
    experiment: Experiment, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(path: Path) -> contextlib.AbstractContextManager[None]:
        shutil.copytree(whole.path, path, dirs_exist_ok=True)
        return sole_trainer(path)

    monkeypatch.setattr(train_module, "sole_trainer", end)
    steps: list[Progress] = []

    assert_same_run(train(experiment, tmp_path / "run", listen=steps.append), whole)
    assert not steps


def test_a_disk_without_locks_is_trained_on(
    experiment: Experiment, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)

    assert_same_run(train(experiment, tmp_path / "run"), whole)
