"""The simulated Oncold log in the paper's size: simulated, prepared, trained on, evaluated.

Training takes long, so that each stage is kept once it is done and an interrupted one goes on where
it was: repeat the command until it is through. The log needs about 4 GB of disk.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.feed_log import PAPER_SAMPLES, cached, disk_bytes, source
from benchmarks.part import Better
from benchmarks.stages import Usage, run_stage

RATIOS: dict[str, Better] = {}
"""Once measured, it is not measured again by a quick check."""
CLI = ("-c", "from aqcl.cli import main; main()")
TRAIN: Mapping[str, Any] = {
    "epochs": 1,
    "batch_size": 4096,
    "optimizer": "lazy_adam",
    "embedding_l2": 0.003,
    "max_history": 20,
    "evaluations_per_epoch": 1,
}
REGULARIZER: Mapping[str, Any] = {"aqcl": {"weight": 0.1, "block_size": 1024}}
THREADS = 1


def measure(full: bool, work: Path) -> dict[str, Any]:
    """Time and memory of each stage of the paper-sized log; nothing unless `full`."""
    if not full:
        return {"skipped": "takes an hour: --full"}
    return measured(PAPER_SAMPLES, work)


def measured(n_rows: int, work: Path) -> dict[str, Any]:
    """The outcome for a log of that many samples."""
    folder = work / f"oncold-{n_rows}"
    folder.mkdir(parents=True, exist_ok=True)
    dataset, run = folder / "dataset", folder / "run"
    write_configs(folder, dataset, n_rows, work)
    stages = {
        "simulate": ("-m", "benchmarks.growth", "simulate", str(n_rows), "0", work),
        "prepare": (*CLI, "prepare", folder / "prepare.toml", "--out", dataset, "--json"),
        "train": (*CLI, "train", folder / "train.toml", "--out", run, "--resume", "--json"),
        "evaluate": (*CLI, "evaluate", run, "--split", "test", "--json"),
    }
    found = {name: kept(folder / f"{name}.json", arguments) for name, arguments in stages.items()}
    found = {name: usage for name, usage in found.items() if usage is not None}
    return {
        "rows": n_rows,
        "threads": THREADS,
        "train": dict(TRAIN),
        "regularizer": dict(REGULARIZER),
        "dataset_bytes": disk_bytes(dataset),
        "counts": json.loads((dataset / "manifest.json").read_text())["content"]["counts"],
        "stages": found,
        "training": training(run),
    }


def lines(outcome: Mapping[str, Any]) -> list[str]:
    """For the terminal."""
    return [
        f"  {name:<9} {used['wall_seconds']:9.1f} s  {used['cpu_seconds']:9.1f} s of processor  "
        f"{used['peak_rss_mib']:7.0f} MiB, anonymous {used['peak_anon_mib']:7.0f} MiB"
        for name, used in outcome.get("stages", {}).items()
    ]


def kept(path: Path, arguments: tuple[Any, ...]) -> dict[str, float] | None:
    """What a stage took, run unless it has been; an interrupted one keeps what it took so far.

    None if what it makes was there already: its time would say nothing.
    """
    before = json.loads(path.read_text()) if path.exists() else {}
    if before.get("done"):
        return dict(before["usage"])
    earlier = before.get("usage", {})

    def keep(usage: Usage, *, done: bool) -> dict[str, float]:
        now = together(earlier, usage.to_json())
        path.write_text(json.dumps({"done": done, "usage": now}))
        return now

    environment = {"OMP_NUM_THREADS": str(THREADS)}
    said, usage = run_stage(arguments, environment, lambda now: keep(now, done=False))
    if isinstance(said, dict) and not said.get("made", True):
        path.unlink(missing_ok=True)
        return None
    return keep(usage, done=True)


def together(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Of two sessions of a stage: times add up, of memory the larger counts."""
    return {
        key: value + one.get(key, 0.0)
        if key.endswith("_seconds")
        else max(value, one.get(key, value))
        for key, value in other.items()
    }


def write_configs(folder: Path, dataset: Path, n_rows: int, work: Path) -> None:
    """The TOML files that the command line is given."""
    import tomli_w

    experiment = {
        "dataset": str(dataset),
        "backbone": {"name": "din"},
        "regularizer": REGULARIZER,
        "train": TRAIN,
        "runtime": {"threads": THREADS},
    }
    prepare = {"source": source(n_rows, cached(work))}
    (folder / "prepare.toml").write_text(tomli_w.dumps(prepare))
    (folder / "train.toml").write_text(tomli_w.dumps(experiment))


def training(run: Path) -> dict[str, Any]:
    """The last line of the training log: rows, seconds, the share of waiting for data."""
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    keys = ("step", "rows", "seconds", "data_wait", "logloss", "valid_auc", "valid_logloss")
    return {key: last[key] for key in keys}
