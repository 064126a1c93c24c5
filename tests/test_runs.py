"""Run directories: what they hold, what they refuse, and tensors that survive the disk."""

import errno
import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.stages import KIB, status

from aqcl.config import as_values, read_toml
from aqcl.errors import ConfigError, StorageError
from aqcl.experiment import resolve
from aqcl.predictions import Predictions
from aqcl.runs import (
    CONFIG,
    METRICS,
    Run,
    append_to_log,
    check_same_experiment,
    is_finished,
    load_tensors,
    open_run,
    predictions_file,
    run_fingerprint,
    save_tensors,
    start_run,
)
from aqcl.storage import Manifest, write_manifest
from tests.searches import Killed

EXPERIMENT = resolve({"dataset": "d", "fields": ["a"], "regularizer": {"icl": {}}})
MANIFEST = Manifest(format="aqcl-run", fingerprint="f", settings={"seed": 0})


def raise_killed(_: int) -> None:
    raise Killed


def some_predictions(score: float = 0.25) -> Predictions:
    return Predictions(
        user=np.array([2, 3]),
        item=np.array([4, 5]),
        label=np.array([0, 1]),
        activity=np.array([0, 7]),
        score=np.array([score, 0.75]),
    )


def finished(path: Path) -> Run:
    start_run(path, EXPERIMENT)
    return Run(path, EXPERIMENT, MANIFEST).record("valid", some_predictions(), {"auc": 1.0})


def test_a_started_run_holds_its_configuration_alone(tmp_path: Path) -> None:
    start_run(tmp_path / "new" / "run", EXPERIMENT)

    assert [p.name for p in (tmp_path / "new" / "run").iterdir()] == [CONFIG]
    assert not is_finished(tmp_path / "new" / "run")


def test_an_empty_directory_may_become_a_run(tmp_path: Path) -> None:
    start_run(tmp_path, EXPERIMENT)

    assert (tmp_path / CONFIG).exists()


def test_a_place_that_is_taken_is_refused(tmp_path: Path) -> None:
    start_run(tmp_path, EXPERIMENT)

    with pytest.raises(StorageError, match="already exists; continue it with --resume or"):
        start_run(tmp_path, EXPERIMENT)


def test_of_two_that_start_a_run_at_once_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def late(source: Path, path: Path) -> None:
        path.write_text("the other's")
        real(source, path)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(StorageError, match="already exists; continue it with --resume or"):
        start_run(tmp_path, EXPERIMENT)
    assert [path.name for path in tmp_path.iterdir()] == [CONFIG]
    assert (tmp_path / CONFIG).read_text() == "the other's"


def test_a_disk_without_links_takes_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", without)
    start_run(tmp_path, EXPERIMENT)
    assert [path.name for path in tmp_path.iterdir()] == [CONFIG]
    assert read_toml(tmp_path / CONFIG)["dataset"] == EXPERIMENT.dataset


def test_a_place_without_a_run_is_not_to_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(StorageError, match="holds files and no run: choose another --out"):
            start_run(taken, EXPERIMENT)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_killed_while_its_first_file_was_written_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        # Nothing cleans up after a kill.
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        patch.setattr(os, "fsync", raise_killed)
        with pytest.raises(Killed):
            start_run(tmp_path, EXPERIMENT)
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]

    start_run(tmp_path, EXPERIMENT)

    assert (tmp_path / CONFIG).exists()


def test_a_finished_run_is_opened_as_it_was_recorded(tmp_path: Path) -> None:
    recorded = finished(tmp_path / "run")

    opened = open_run(tmp_path / "run")

    assert opened == recorded
    assert opened.experiment == EXPERIMENT
    assert opened.metrics() == {"valid": {"auc": 1.0}}
    assert opened.predictions("valid").score.tolist() == [0.25, 0.75]
    assert set(opened.manifest.files) == {CONFIG, METRICS, predictions_file("valid")}


def test_what_a_user_puts_beside_a_run_is_no_part_of_it(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    (run.path / "test.txt").write_text("")  # as `aqcl evaluate RUN > RUN/test.txt` does first

    run.record("test", some_predictions(), {"auc": 0.5})
    (run.path / "test.txt").write_text("AUC 0.5")

    assert open_run(run.path).has_predictions("test")
    # Runs were once written with all that lay there.
    write_manifest(run.path, run.manifest)
    (run.path / "test.txt").unlink()
    assert set(open_run(run.path).manifest.files) == {
        CONFIG,
        METRICS,
        *map(predictions_file, ("valid", "test")),
    }


def test_splits_are_recorded_beside_each_other(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    assert not run.has_predictions("test")

    run = run.record("test", some_predictions(0.5), {"auc": 0.5})

    assert run.has_predictions("test")
    assert run.metrics() == {"valid": {"auc": 1.0}, "test": {"auc": 0.5}}
    assert open_run(run.path).predictions("test").score.tolist() == [0.5, 0.75]
    assert open_run(run.path).manifest.settings == {"seed": 0}


def test_the_log_is_read_line_by_line(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    (run.path / "log.jsonl").write_text('{"step": 1}\n{"step": 2, "valid_auc": null}\n')

    assert run.log() == [{"step": 1}, {"step": 2, "valid_auc": None}]


def test_a_line_replaces_what_is_beyond_the_checkpoint(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    first = append_to_log(log, {"step": 1}, 0)
    append_to_log(log, {"step": 2, "of a killed": "session"}, first)

    end = append_to_log(log, {"step": 2}, first)

    assert log.read_text() == '{"step": 1}\n{"step": 2}\n'
    assert log.stat().st_size == end


def test_a_line_is_on_the_disk_before_the_checkpoint_counts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, synced = tmp_path / "log.jsonl", []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(log.read_text()))

    append_to_log(log, {"step": 1}, 0)

    assert synced == ['{"step": 1}\n']


@pytest.mark.parametrize("content", ["", '{"step": 1}\n'])
def test_a_log_that_has_lost_lines_is_refused(tmp_path: Path, content: str) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(content)

    with pytest.raises(StorageError, match=r"log.jsonl: expected at least the 100 bytes"):
        append_to_log(log, {"step": 9}, 100)
    assert log.read_text() == content


def test_an_unfinished_run_is_not_opened(tmp_path: Path) -> None:
    run = tmp_path / "a run"
    start_run(run, EXPERIMENT)

    command = f"`aqcl train '{run / 'config.toml'}' --out '{run}' --resume`"
    with pytest.raises(StorageError, match=f"has not finished; continue it with {command}$"):
        open_run(run)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / METRICS).unlink(), "metrics.json: this file is missing"),
        (lambda run: (run / METRICS).write_text("{"), "metrics.json: not JSON"),
        (lambda run: (run / CONFIG).write_text("{}"), "config.toml: expected .* bytes, got 2"),
        (lambda run: (run / "manifest.json").write_text("{"), "manifest.json: not JSON"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: object, message: str) -> None:
    run = finished(tmp_path / "run")
    assert callable(damage)
    damage(run.path)

    with pytest.raises(StorageError, match=message):
        open_run(run.path).metrics()


def test_what_is_no_run_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no manifest"):
        open_run(tmp_path)


def test_every_setting_that_differs_is_named(tmp_path: Path) -> None:
    start_run(tmp_path / "run", EXPERIMENT)
    check_same_experiment(tmp_path / "run", EXPERIMENT)
    other = resolve(
        {
            "dataset": "e",
            "regularizer": {"aqcl": {}},
            "train": {"lr": 0.5},
            "runtime": {"wait_policy": "passive"},
        }
    )

    with pytest.raises(ConfigError) as caught:
        check_same_experiment(tmp_path / "run", other)

    lines = str(caught.value).splitlines()
    named = {line.split(":")[0] for line in lines[:-1]}
    assert {"fields", "train.lr", "regularizer.aqcl.w1"} <= named
    assert {"regularizer.icl.temperature"} <= named
    assert not {"dataset", "runtime.wait_policy"} & named
    assert "train.lr: the run was started with 0.001, now it is 0.5" in lines
    assert lines[-1].endswith("resume with the same settings or choose another --out")


def test_a_run_from_before_a_setting_goes_on_with_its_default(tmp_path: Path) -> None:
    start_run(tmp_path / "run", EXPERIMENT)
    file = tmp_path / "run" / CONFIG
    lines = file.read_text().splitlines()
    older = [line for line in lines if not line.startswith(("precision", "table_lr", "share_"))]
    assert len(older) < len(lines) - 2
    file.write_text("\n".join(older))
    check_same_experiment(tmp_path / "run", EXPERIMENT)
    other = resolve({**as_values(EXPERIMENT), "train": {"precision": "bf16"}})

    with pytest.raises(ConfigError, match="precision: the run was started with 'fp32', now it is"):
        check_same_experiment(tmp_path / "run", other)


def test_fingerprints_tell_what_was_computed_apart() -> None:
    def fingerprint(dataset_fingerprint: str = "f", **changes: object) -> str:
        return run_fingerprint(resolve({"dataset": "d", **changes}), dataset_fingerprint)

    assert fingerprint(name="a") == fingerprint()
    assert fingerprint(dataset="moved") == fingerprint()
    assert fingerprint(runtime={"threads": 3}) == fingerprint()
    assert fingerprint("g") != fingerprint()
    assert fingerprint(seed=1) != fingerprint()
    assert fingerprint(train={"lr": 0.5}) != fingerprint()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool])
def test_tensors_survive_the_disk(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {
        "a.b": torch.arange(6).reshape(2, 3).to(dtype),
        "scalar": torch.tensor(3).to(dtype),
        "turned": torch.arange(6).reshape(2, 3).to(dtype).T,
        "empty": torch.zeros(0, 4).to(dtype),
    }
    state = {"step": 3, "best": None, "last": {"größe": 0.1 + 0.2}}

    save_tensors(tmp_path / "file", tensors, state)
    read, read_state = load_tensors(tmp_path / "file")

    assert read.keys() == tensors.keys()
    for key, value in tensors.items():
        assert read[key].dtype == dtype
        assert torch.equal(read[key], value)
    assert read_state == state


def test_parameters_are_saved_without_their_gradient(tmp_path: Path) -> None:
    save_tensors(tmp_path / "file", {"w": torch.nn.Parameter(torch.ones(2))}, {})

    assert not load_tensors(tmp_path / "file")[0]["w"].requires_grad


def test_tensors_are_not_copied_on_their_way_to_the_disk(tmp_path: Path) -> None:
    """Tables may fill half of the memory."""
    tensors, mebibytes = {"a": torch.ones(2**24), "b": torch.ones(2**24)}, 128
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    except OSError:
        pytest.skip("this system does not tell peaks")
    before = status(os.getpid())["VmHWM"]

    save_tensors(tmp_path / "file", tensors, {})

    assert (status(os.getpid())["VmHWM"] - before) / KIB < mebibytes / 4


def test_a_disk_that_has_no_room_for_tensors_is_told_as_the_system_does(tmp_path: Path) -> None:
    save_tensors(tmp_path / "file", {"w": torch.ones(2)}, {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            save_tensors(tmp_path / "file", {"w": torch.ones(2**16)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert len(load_tensors(tmp_path / "file")[0]["w"]) == 2


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff" * 100])
def test_unreadable_tensors_are_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)

    with pytest.raises(StorageError, match="file: not a readable checkpoint"):
        load_tensors(tmp_path / "file")


def test_metrics_are_json(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")

    text = (run.path / METRICS).read_text()

    assert json.loads(text) == {"valid": {"auc": 1.0}}
