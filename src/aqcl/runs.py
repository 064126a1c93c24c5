"""A run directory: configuration, weights, state for resuming, log, metrics, predictions."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from aqcl.config import as_values, read_toml, to_toml
from aqcl.errors import ConfigError, StorageError, command
from aqcl.experiment import Experiment, resolve
from aqcl.file_locks import lock_file
from aqcl.predictions import Predictions, read_predictions
from aqcl.storage import (
    PARTIAL,
    Manifest,
    atomic_create,
    atomic_file,
    atomic_write,
    fingerprint,
    is_free,
    read_manifest,
    write_manifest,
)

CONFIG = "config.toml"
WEIGHTS = "weights.safetensors"
CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
METRICS = "metrics.json"
SPARE_FILES = (CHECKPOINT, LOG, "predictions-*.parquet")
"""What a finished run can do without: predictions are made again, and the rest tells its past."""
RUN_FILES = (CONFIG, WEIGHTS, METRICS, *SPARE_FILES)
"""What a run is made of; whatever else lies in its directory is the user's."""


def predictions_file(split: str) -> str:
    """Name of the file that holds the predictions of a split."""
    return f"predictions-{split}.parquet"


@dataclass(frozen=True)
class Run:
    """A finished run on disk."""

    path: Path
    experiment: Experiment = field(repr=False)
    manifest: Manifest = field(repr=False)

    def weights(self) -> dict[str, Tensor]:
        """The best weights: `backbone.*`, and `regularizers.*` which serving does not need."""
        return safetensors.torch.load_file(self.path / WEIGHTS)

    def log(self) -> list[dict[str, Any]]:
        """One entry for each evaluation; none where the file was taken away."""
        if not (self.path / LOG).exists():
            return []
        return [json.loads(line) for line in (self.path / LOG).read_text().splitlines()]

    def metrics(self) -> dict[str, Any]:
        """What `train` and `evaluate` measured, by split.

        Raises:
            StorageError: the file is damaged.
        """
        file = self.path / METRICS
        try:
            values = json.loads(file.read_text())
        except ValueError as error:
            raise StorageError(f"{file}: not JSON: {error}; make the directory again") from None
        assert isinstance(values, dict)
        return values

    def has_predictions(self, split: str) -> bool:
        """Whether a split was scored and all of it recorded."""
        return predictions_file(split) in self.manifest.files and split in self.metrics()

    def predictions(self, split: str) -> Predictions:
        """Scores of a split."""
        return read_predictions(self.path / predictions_file(split))

    def record(self, split: str, predictions: Predictions, metrics: Mapping[str, Any]) -> "Run":
        """Add the predictions and metrics of a split; returns the run as it is then.

        Killed anywhere, it leaves a run that opens, and that does not have the split yet: the
        manifest names the predictions last, after their metrics.
        """
        known = self.metrics() if (self.path / METRICS).exists() else {}
        text = json.dumps({**known, split: dict(metrics)}, indent=1) + "\n"
        atomic_write(self.path / METRICS, text)
        predictions.write(self.path / predictions_file(split))
        return Run(self.path, self.experiment, write_manifest(self.path, self.manifest, RUN_FILES))


def is_finished(path: Path) -> bool:
    """Whether a run directory holds a finished run."""
    return (path / "manifest.json").exists()


def open_run(path: Path | str) -> Run:
    """Open a finished run.

    Raises:
        StorageError: it is missing, unfinished or damaged.
    """
    path = Path(path)
    if not is_finished(path) and (path / CONFIG).exists():
        again = command("aqcl", "train", path / CONFIG, "--out", path, "--resume")
        raise StorageError(f"{path}: this run has not finished; continue it with `{again}`")
    manifest = read_manifest(
        path, "aqcl-run", growing=(METRICS,), files_at=RUN_FILES, spare=SPARE_FILES
    )
    return Run(path, resolve(read_toml(path / CONFIG)), manifest)


def not_a_repeat(config: Path, experiment: Experiment) -> str | None:
    """Why training by the configuration of a finished run does not repeat it, if so.

    Args:
        config: the file that the experiment is from.
        experiment: as it will be trained.
    """
    if config.name != CONFIG:
        return None
    try:
        before = open_run(config.parent).manifest.source["dataset"]
        now = read_manifest(Path(experiment.dataset), "aqcl-dataset").fingerprint
    except StorageError:
        return None  # of no run; or training will tell what is wrong with the dataset
    if before == now:
        return None
    return (
        f"{config}: {experiment.dataset} is not the dataset that this run was trained on (its "
        "fingerprint differs): the new run does not repeat it, and cannot be compared with it"
    )


def start_run(path: Path, experiment: Experiment) -> None:
    """Make a run directory that holds only its configuration.

    Raises:
        StorageError: the directory holds something already.
    """
    if not (path / CONFIG).exists() and not is_free(path):
        raise StorageError(f"{path}: holds files and no run: choose another --out")
    path.mkdir(parents=True, exist_ok=True)
    try:
        atomic_create(path / CONFIG, to_toml(as_values(experiment)))
    except FileExistsError:
        raise StorageError(
            f"{path}: already exists; continue it with --resume or choose another --out"
        ) from None


@contextmanager
def sole_trainer(path: Path) -> Iterator[None]:
    """Keep other processes from training into a run directory; a disk without locks cannot.

    Raises:
        StorageError: one does so already.
    """
    has_locks, lock = True, None
    try:
        lock = lock_file(path / CONFIG, wait=False)
    except StorageError:
        has_locks = False
    if has_locks and lock is None:
        raise StorageError(
            f"{path}: another process trains this run; wait for its end or choose another --out"
        )
    try:
        if lock is not None:
            remove_partial(path)
        yield
    finally:
        if lock is not None:
            os.close(lock)


def remove_partial(path: Path) -> None:
    """Remove what killed trainings of a run have left half written; nobody may train it now."""
    for name in (WEIGHTS, CHECKPOINT):
        for left in path.glob(f".{name}.*{PARTIAL}"):
            left.unlink(missing_ok=True)


@contextmanager
def at_dataset(path: Path, experiment: Experiment) -> Iterator[None]:
    """Let a run's configuration name the place where its dataset lies now, for the sole trainer.

    Raises:
        StorageError: another process has begun to train the run.
    """
    if read_toml(path / CONFIG)["dataset"] == experiment.dataset:
        yield
        return
    atomic_write(path / CONFIG, to_toml(as_values(experiment)))
    with sole_trainer(path):  # the lock before is that of the file which was replaced
        yield


def resumed(path: Path, experiment: Experiment) -> Experiment:
    """The experiment of a run that was begun, as it goes on: its dataset where that lies now.

    Its parts are in the order of then, which numbers their weights.

    Raises:
        ConfigError: a setting differs; names each.
    """
    check_same_experiment(path, experiment)
    now = {"dataset": experiment.dataset, "runtime": as_values(experiment)["runtime"]}
    return resolve({**read_toml(path / CONFIG), **now})


def check_same_experiment(path: Path, experiment: Experiment) -> None:
    """Make sure that a run directory was started with this experiment.

    The dataset may have moved: its fingerprint tells whether it is the same.

    Raises:
        ConfigError: a setting differs; names each.
    """
    # Resolved again: a setting that is younger than the run has its default.
    before = as_values(resolve(read_toml(path / CONFIG)))
    now = as_values(experiment)
    lines = differences(before, {**now, "dataset": before["dataset"]}, "run")
    if lines:
        lines.append(f"{path}: resume with the same settings or choose another --out")
        raise ConfigError("\n".join(lines))


def differences(before: Mapping[str, Any], now: Mapping[str, Any], what: str) -> list[str]:
    """Settings that keep something from being continued, one line each.

    Args:
        before: resolved values that it was started with.
        now: resolved values that it shall be continued with.
        what: `run` or `study`.
    """
    begun, wanted = _flat(before), _flat(now)
    return [
        f"{key}: the {what} was started with {begun.get(key)!r}, now it is {wanted.get(key)!r}"
        for key in sorted(begun.keys() | wanted.keys())
        # How idle threads wait changes no number.
        if begun.get(key) != wanted.get(key) and key != "runtime.wait_policy"
    ]


def run_fingerprint(experiment: Experiment, dataset_fingerprint: str) -> str:
    """Equal for runs that compute the same numbers."""
    values = as_values(experiment)
    for key in ("dataset", "name", "runtime"):
        values.pop(key, None)
    return fingerprint({"experiment": values, "dataset": dataset_fingerprint})


def append_to_log(path: Path, line: Mapping[str, Any], at: int) -> int:
    """Write a line at byte `at` of a log and nothing behind it; returns the log's new length.

    Lines beyond the checkpoint are of a session that was killed: written again here. When it
    returns the line is on the disk, where the checkpoint that counts it must find it.

    Raises:
        StorageError: the log is shorter than `at`.
    """
    text = (json.dumps(dict(line)) + "\n").encode()
    with path.open("r+b" if path.exists() else "wb") as file:
        length = file.seek(0, os.SEEK_END)
        if length < at:
            raise StorageError(
                f"{path}: expected at least the {at} bytes that the checkpoint counts, got {length}"
                ": lines of it are lost; train again into another --out"
            )
        file.truncate(at)
        file.seek(at)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return at + len(text)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def check_storable(module: nn.Module) -> None:
    """Make sure that what `save_tensors` writes of a module can be loaded into it again.

    Raises:
        ConfigError: a parameter or buffer has several elements in one place of memory.
    """
    for name, tensor in module.state_dict().items():
        if not isinstance(tensor, Tensor) or is_lazy(tensor):
            continue
        if any(n > 1 and step == 0 for n, step in zip(tensor.shape, tensor.stride(), strict=True)):
            raise ConfigError(
                f"{name}: expected a tensor of its own memory, got an expanded one, whose elements "
                "share it, so that no value can be loaded into them; make it with `.clone()`"
            )


def save_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and a JSON state as one file, atomically; each on its own, if tied or not."""
    contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    known = set[int]()
    for key, value in contiguous.items():
        place = value.untyped_storage().data_ptr()
        contiguous[key] = value.clone() if place in known else value
        known.add(place)
    metadata = {"state": json.dumps(dict(state))}
    try:
        with atomic_file(path) as partial:
            # Not `save`, which holds the file twice: tables may fill half of the memory.
            safetensors.torch.save_file(contiguous, partial, metadata)
    except safetensors.SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from None


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The inverse of `save_tensors`.

    Raises:
        StorageError: the file is missing or damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            state = json.loads(file.metadata()["state"])
    except (OSError, safetensors.SafetensorError, KeyError, TypeError) as error:
        raise StorageError(f"{path}: not a readable checkpoint: {error}") from None
    return tensors, state
