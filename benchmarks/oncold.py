"""The simulated Oncold log in the paper's size: simulated, prepared, trained on, evaluated.

Training takes long, so that what a stage took is kept once it is done, and an interrupted training
goes on from its latest checkpoint: repeat the command until it is through. The log needs about 4 GB
of disk.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import kept
from benchmarks.feed_log import PAPER_SAMPLES, cached, disk_bytes, source
from benchmarks.growth import simulated
from benchmarks.machine import load
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
    "evaluations_per_epoch": 4,
}
"""Each evaluation writes a checkpoint: an interruption costs a quarter of the epoch at most."""
REGULARIZER: Mapping[str, Any] = {"aqcl": {"weight": 0.1, "block_size": 1024}}
THREADS = 1
SECONDS_BETWEEN_NOTES = 5.0
"""How often a running stage keeps what it took so far."""


class Stage(NamedTuple):
    """A command of its own process."""

    arguments: tuple[Any, ...]
    makes: Path
    """The file that is there once it is done."""
    continues: bool = False
    """Whether a repeated command goes on where the one before was interrupted."""


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
    settings = {"rows": n_rows, "threads": THREADS, "train": TRAIN, "regularizer": REGULARIZER}
    found = {"simulate": simulated(n_rows, work)}
    for name, stage in stages(folder, dataset, run).items():
        found[name] = measures_of(stage, folder / f"{name}.json", settings)
    return {
        **settings,
        "dataset_bytes": disk_bytes(dataset),
        "counts": json.loads((dataset / "manifest.json").read_text())["content"]["counts"],
        "stages": {name: measures for name, measures in found.items() if measures is not None},
        "training": training(run),
    }


def stages(folder: Path, dataset: Path, run: Path) -> dict[str, Stage]:
    """The commands, in their order."""
    train = (*CLI, "train", folder / "train.toml", "--out", run, "--resume", "--json")
    prepare = (*CLI, "prepare", folder / "prepare.toml", "--out", dataset, "--json")
    evaluate = (*CLI, "evaluate", run, "--split", "test", "--json")
    return {
        "prepare": Stage(prepare, dataset / "manifest.json"),
        "train": Stage(train, run / "manifest.json", continues=True),
        "evaluate": Stage(evaluate, run / "predictions-test.parquet"),
    }


def lines(outcome: Mapping[str, Any]) -> list[str]:
    """For the terminal."""
    return [
        f"  {name:<9} {used['wall_seconds']:9.1f} s  {used['cpu_seconds']:9.1f} s of processor  "
        f"{used['peak_rss_mib']:7.0f} MiB, anonymous {used['peak_anon_mib']:7.0f} MiB"
        for name, used in outcome.get("stages", {}).items()
    ]


def measures_of(stage: Stage, path: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a stage took, kept at `path`; it is run unless that is known.

    None if what it makes is there and nothing is known of it: its time would say nothing.

    Raises:
        OtherConditionsError: it was measured on another machine or with other settings.
    """
    before = kept.read(path, settings)
    if before.get("done"):
        return dict(before["measures"])
    if stage.makes.exists() and not (before and stage.continues):
        return None
    earlier = before.get("measures", {}) if stage.continues else {}
    sittings = {
        "sittings": earlier.get("sittings", 0) + 1,
        "load_before": [*earlier.get("load_before", []), load()],
    }
    noted = -SECONDS_BETWEEN_NOTES

    def note(usage: Usage, *, done: bool) -> dict[str, Any]:
        measures = {**together(earlier, usage.to_json()), **sittings}
        kept.write(path, settings, {"done": done, "measures": measures})
        return measures

    def watch(usage: Usage) -> None:
        nonlocal noted
        if usage.wall_seconds - noted >= SECONDS_BETWEEN_NOTES:
            noted = usage.wall_seconds
            note(usage, done=False)

    _, usage = run_stage(stage.arguments, {"OMP_NUM_THREADS": str(THREADS)}, watch)
    return note(usage, done=True)


def together(earlier: Mapping[str, Any], now: Mapping[str, float]) -> dict[str, float]:
    """Of two sittings of a stage: times add up, of memory the larger counts."""
    return {
        key: value + earlier.get(key, 0.0)
        if key.endswith("_seconds")
        else max(value, earlier.get(key, value))
        for key, value in now.items()
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
    """What the run itself tells of its training: its log, and the clocks of its checkpoint.

    Work that an interruption undid is in the measures of the stage and not in these.
    """
    from aqcl.search.trials import checkpoint_state

    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    keys = ("step", "rows", "seconds", "data_wait", "logloss", "valid_auc", "valid_logloss")
    state = checkpoint_state(run)
    return {
        **{key: log[-1][key] for key in keys},
        "evaluations": len(log),
        "step_seconds": round(state["step_seconds"], 3),
        "rows_per_second": round(state["rows"] / state["step_seconds"]),
    }
