"""Training steps of DIN and of DIN + AQCL, in turn, in each thread setting, these in turn too.

`literal` computes the attention of the view anew, as the paper's equations do; by default the view
shares that of the first pass. Blocks and bf16 are other methods, which are there to be cheaper. The
yardstick is the arithmetic of DIN's dense layers in plain torch: DIN's time over it tells whether
DIN itself got slower, whatever the machine's mood.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqcl.runtime import keep_freed_memory
from benchmarks.data import dataset, described
from benchmarks.machine import load
from benchmarks.part import Better
from benchmarks.threads import fresh, settings

if TYPE_CHECKING:
    from aqcl.train import Trainer

BASE, YARDSTICK = "DIN", "yardstick"
METHODS: dict[str, dict[str, dict[str, Any]]] = {
    BASE: {},
    "DIN+AQCL": {"regularizers": {"aqcl": {}}},
    "DIN+AQCL literal": {"regularizers": {"aqcl": {"view": {"share_attention": False}}}},
    "DIN+AQCL blocks of 256": {"regularizers": {"aqcl": {"block_size": 256}}},
    "DIN+AQCL bf16": {"regularizers": {"aqcl": {}}, "options": {"precision": "bf16"}},
    "DIN bf16": {"options": {"precision": "bf16"}},
}
"""The regularizers of each, and its settings of `train`."""
WARM_UP_STEPS = 120
"""More than AQCL's own warm-up, so that the codebook takes part in every timed step."""
MANY = 10**6
"""Epochs: a small dataset has few steps in each."""
QUICK, FULL = (1, 5, 20), (3, 4, 40)
"""Turns of the thread settings, each in a fresh process; rounds of a turn; steps of a round."""

RATIOS: dict[str, Better] = {"settings.*.ratio.*": "lower", "settings.*.over_yardstick": "lower"}


def measure(full: bool, work: Path) -> dict[str, Any]:
    """Every setting in processes of its own, the settings in turn."""
    path = dataset(work)
    turns, rounds, steps = FULL if full else QUICK
    numbers = ["--rounds", str(rounds), "--steps", str(steps), "--warm-up", str(WARM_UP_STEPS)]
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in settings()}
    for _ in range(turns):
        for name, threads in settings().items():
            reports[name].append(fresh(["-m", "benchmarks.steps", path, *numbers], threads))
    return {
        "dataset": described(path),
        "turns": turns,
        "rounds": turns * rounds,
        "steps": steps,
        "settings": {name: summary(found) for name, found in reports.items()},
    }


def lines(outcome: dict[str, Any]) -> list[str]:
    """A table for the terminal."""
    rows = [f"  {'':26}{'ms a step':>10}{'added':>8}{'ratio':>7}{'rows/s':>10}"]
    for setting, found in outcome["settings"].items():
        rows.append(f"  {setting} (load {found['load_before']})")
        for name, step in found["step_ms"].items():
            added, ratio = found["added_ms"].get(name, 0), found["ratio"].get(name, 1)
            speed = found["rows_per_second"][name]
            rows.append(f"    {name:24}{step:10.2f}{added:8.2f}{ratio:7.2f}{speed:10,}")
        rows.append(f"    {YARDSTICK:24}{found['yardstick_ms']:10.2f}")
    return rows


def main() -> None:
    """Measure in this process, whose threads are settled, and print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", type=Path)
    for name in ("--rounds", "--steps", "--warm-up"):
        parser.add_argument(name, type=int, required=True)
    given = parser.parse_args()
    keep_freed_memory()
    found = measured(given.dataset, given.rounds, given.steps, given.warm_up)
    sys.stdout.write(json.dumps(found) + "\n")


def measured(path: Path, rounds: int, steps: int, warm_up: int) -> dict[str, Any]:
    """Milliseconds of a step of each method in each round of one process."""
    load_before = load()
    trainers = {name: make_trainer(path, **parts) for name, parts in METHODS.items()}
    runs = {name: stepper(trainer) for name, trainer in trainers.items()}
    din = trainers[BASE]
    n_rows, n_steps = len(din.dataset.train), din.progress.steps_per_epoch
    n_clicks = int(
        din.dataset.train.columns["history_length"].clip(0, 50).mean() * n_rows / n_steps
    )
    runs[YARDSTICK] = yardstick(n_rows // n_steps, n_clicks)
    for run in runs.values():
        run(warm_up)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run(steps)
            times[name].append((time.perf_counter() - started) / steps * 1e3)
    return {
        "load_before": load_before,
        "batch_size": din.options.batch_size,
        "rows": n_rows,
        "steps_per_epoch": n_steps,
        "times": times,
    }


def summary(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds of all processes of a setting, ratios within a round."""
    first = reports[0]
    n_rows, n_steps = first["rows"], first["steps_per_epoch"]
    times = {
        name: [t for found in reports for t in found["times"][name]] for name in first["times"]
    }
    step = {name: statistics.median(values) for name, values in times.items()}
    paired = {
        name: [value / base for value, base in zip(values, times[BASE], strict=True)]
        for name, values in times.items()
    }
    others = [name for name in METHODS if name != BASE]
    return {
        "load_before": max(found["load_before"] for found in reports),
        "batch_size": first["batch_size"],
        "step_ms": {name: round(step[name], 3) for name in METHODS},
        "added_ms": {name: round(step[name] - step[BASE], 3) for name in others},
        "ratio": {name: round(statistics.median(paired[name]), 3) for name in others},
        "rows_per_second": {name: round(n_rows / n_steps / step[name] * 1e3) for name in METHODS},
        "epoch_seconds": {name: round(step[name] * n_steps / 1e3, 2) for name in METHODS},
        "yardstick_ms": round(step[YARDSTICK], 3),
        "over_yardstick": round(1 / statistics.median(paired[YARDSTICK]), 3),
        "step_ms_all": {name: [round(v, 3) for v in values] for name, values in times.items()},
    }


def make_trainer(
    path: Path,
    regularizers: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
) -> "Trainer":
    """A trainer that never evaluates and never writes."""
    from aqcl.dataset import open_dataset
    from aqcl.experiment import resolve
    from aqcl.train import Trainer

    values: dict[str, Any] = {"dataset": str(path), "regularizer": regularizers or {}}
    values["train"] = {"epochs": MANY, **(options or {})}
    trainer = Trainer(resolve(values), open_dataset(path), path)
    trainer.evaluate_after = set()
    trainer.objective.train()
    return trainer


def stepper(trainer: "Trainer") -> Callable[[int], None]:
    """Trains the next steps, over the ends of epochs, with its batches cut as in `fit`."""
    batches, progress = trainer.batches(), trainer.progress

    def run(n_steps: int) -> None:
        for _ in range(n_steps):
            trainer.step(next(batches))
            if progress.step == progress.steps_per_epoch:
                progress.epoch, progress.step = progress.epoch + 1, 0

    return run


def yardstick(n_rows: int, n_clicks: int) -> Callable[[int], None]:
    """Forward and backward passes of an attention unit and a top network of DIN's sizes."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(0)
    attention = nn.Sequential(
        nn.Linear(64, 80), nn.Sigmoid(), nn.Linear(80, 40), nn.Sigmoid(), nn.Linear(40, 1)
    )
    top = nn.Sequential(nn.Linear(80, 200), nn.ReLU(), nn.Linear(200, 80), nn.ReLU())
    clicks = torch.randn(n_clicks, 64, generator=generator, requires_grad=True)
    rows = torch.randn(n_rows, 80, generator=generator, requires_grad=True)

    def run(n_steps: int) -> None:
        for _ in range(n_steps):
            (attention(clicks).sum() + top(rows).sum()).backward()

    return run


if __name__ == "__main__":
    main()
