"""Times a training step of DIN and of DIN + AQCL on a dataset, interleaved; prints and stores it.

Use it as `python experiments/speed.py runs/beauty-ids/dataset`.

Figures depend on the machine: threads, waiting policy, load and versions stand beside them, and
what counts is the ratio. Run it on an otherwise idle machine.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aqcl.train import Trainer

ROOT = Path(__file__).resolve().parent.parent
STEPS = 40
ROUNDS = 9
WARM_UP_STEPS = 120
"""More than AQCL's own warm-up, so that the codebook takes part in every timed step."""


def main() -> None:
    """Time both and write results/speed.json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "speed.json")
    arguments = parser.parse_args()
    from aqcl.runtime import settle_threads

    settle_threads(arguments.threads, "auto")
    import torch

    from aqcl import __version__
    from aqcl.dataset import open_dataset
    from aqcl.storage import atomic_write

    dataset = open_dataset(arguments.dataset)
    trainers = {
        "DIN": make_trainer(arguments.dataset, {}),
        "DIN+AQCL": make_trainer(arguments.dataset, {"aqcl": {"weight": 0.1}}),
    }
    load_before = os.getloadavg()[0]
    for trainer in trainers.values():
        milliseconds(trainer, WARM_UP_STEPS)
    times: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(ROUNDS):
        for name, trainer in trainers.items():
            times[name].append(milliseconds(trainer, STEPS))
    ratios = [b / a for a, b in zip(times["DIN"], times["DIN+AQCL"], strict=True)]
    step = {name: statistics.median(values) for name, values in times.items()}
    n_rows = len(dataset.train)
    n_steps = trainers["DIN"].progress.steps_per_epoch
    outcome = {
        "command": "python experiments/speed.py " + str(arguments.dataset),
        "version": __version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
        "load_before": round(load_before, 2),
        "rows": n_rows,
        "mean_history": round(float(dataset.train.columns["history_length"].mean()), 2),
        "batch_size": trainers["DIN"].options.batch_size,
        "step_ms": {name: round(value, 2) for name, value in step.items()},
        "step_ms_all": {name: [round(v, 2) for v in values] for name, values in times.items()},
        "epoch_seconds": {name: round(value * n_steps / 1e3, 2) for name, value in step.items()},
        "rows_per_second": {
            name: round(n_rows / n_steps / value * 1e3) for name, value in step.items()
        },
        "ratio": round(statistics.median(ratios), 3),
    }
    atomic_write(arguments.out, json.dumps(outcome, indent=1) + "\n")
    json.dump(outcome, sys.stdout, indent=1)
    sys.stdout.write("\n")


def make_trainer(dataset: Path, regularizers: dict[str, dict[str, float]]) -> "Trainer":
    """A trainer that never evaluates and never writes."""
    from aqcl.dataset import open_dataset
    from aqcl.experiment import resolve
    from aqcl.train import Trainer

    values = {"dataset": str(dataset), "regularizer": regularizers}
    trainer = Trainer(resolve(values), open_dataset(dataset), ROOT)
    trainer.evaluate_after = set()
    return trainer


def milliseconds(trainer: "Trainer", n_steps: int) -> float:
    """Mean time of a training step, batches included, over the next steps of the epoch."""
    order = trainer.dataset.train.order(0, 0)
    started = time.perf_counter()
    for _ in range(n_steps):
        at = trainer.progress.step % trainer.progress.steps_per_epoch
        trainer.step(order[trainer.bounds[at] : trainer.bounds[at + 1]])
    return (time.perf_counter() - started) / n_steps * 1e3


if __name__ == "__main__":
    main()
