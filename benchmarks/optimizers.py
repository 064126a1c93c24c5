"""DIN's training step against the number of users, for each optimizer of the tables.

The batches are made, so that tables of any size can be tried: what differs between the sizes is the
number of users alone.
"""

import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqcl.runtime import keep_freed_memory
from benchmarks.part import Better
from benchmarks.stages import KIB, run_stage, status
from benchmarks.threads import SETTINGS, variables

if TYPE_CHECKING:
    from aqcl.batch import Batch

OPTIMIZERS = ("adam", "lazy_adam", "rowwise_adagrad")
USERS = (100_000, 1_000_000, 10_000_000)
N_ITEMS, BATCH_SIZE, MEAN_HISTORY, MAX_HISTORY = 100_000, 1024, 10, 50
N_BATCHES = 16
WARM_UP_STEPS = 3
QUICK, FULL = (1, 20), (3, 40)
"""Rounds, in which each optimizer and size has its turn, and steps of each."""
MOST_DENSE_STEPS = 10
"""A step of dense Adam over the largest table takes half a second."""
THREADS = "1 thread"
RATIOS: dict[str, Better] = {"growth.lazy_adam": "lower", "growth.rowwise_adagrad": "lower"}


def measure(full: bool, work: Path) -> dict[str, Any]:
    """Step time and memory by optimizer and number of users, each in a process of its own."""
    return measured(USERS, *(FULL if full else QUICK), work)


def measured(sizes: tuple[int, ...], n_rounds: int, n_steps: int, work: Path) -> dict[str, Any]:
    """The outcome for these numbers of users, in ascending order."""
    turns: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for _ in range(n_rounds):
        for name, users in itertools.product(OPTIMIZERS, sizes):
            steps = min(n_steps, MOST_DENSE_STEPS) if name == "adam" else n_steps
            numbers = [str(users), str(steps)]
            arguments: list[str | Path] = ["-m", "benchmarks.optimizers", name, *numbers, work]
            timed_steps, usage = run_stage(arguments, variables(SETTINGS[THREADS]))
            by_users = turns.setdefault(name, {})
            by_users.setdefault(str(users), []).append({**timed_steps, **usage.to_json()})
    found = {
        name: {users: medians(of_turns) for users, of_turns in by_users.items()}
        for name, by_users in turns.items()
    }
    first, last = str(sizes[0]), str(sizes[-1])
    return {
        "threads": THREADS,
        "rounds": n_rounds,
        "items": N_ITEMS,
        "batch_size": BATCH_SIZE,
        "mean_history": MEAN_HISTORY,
        "optimizers": found,
        # 1: a step takes as long with the most users as with the fewest.
        "growth": {
            name: round(statistics.median(slowdowns(by_users[first], by_users[last])), 3)
            for name, by_users in turns.items()
        },
    }


def medians(turns: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Of each measure over the turns, and the step times of all."""
    found = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
    return {**found, "step_ms_all": [turn["step_ms"] for turn in turns]}


def slowdowns(
    few: Sequence[Mapping[str, float]], many: Sequence[Mapping[str, float]]
) -> list[float]:
    """A step with the most users over one with the fewest, in each round."""
    return [b["step_ms"] / a["step_ms"] for a, b in zip(few, many, strict=True)]


def lines(outcome: Mapping[str, Any]) -> list[str]:
    """For the terminal."""
    return [
        f"  {name:<16}{int(users):>12,} users {found['step_ms']:9.2f} ms a step "
        f"{found['held_anon_mib']:8.0f} MiB, {found['peak_anon_mib']:.0f} at a checkpoint"
        for name, by_users in outcome["optimizers"].items()
        for users, found in by_users.items()
    ]


def timed(name: str, n_users: int, n_steps: int, work: Path) -> dict[str, float]:
    """Median step time of DIN with tables of that size, and the memory that training holds.

    A checkpoint is written at the end, which is when the process has its peak.
    """
    import torch

    from aqcl.backbones.din import DIN, DINOptions
    from aqcl.contracts import Facts
    from aqcl.experiment import TrainOptions
    from aqcl.objective import Moment, Objective
    from aqcl.optimizers import Optimizers
    from aqcl.runs import save_tensors
    from aqcl.schema import Schema

    schema = Schema(n_users, N_ITEMS, n_user_entities=n_users, n_item_entities=N_ITEMS, fields=())
    torch.manual_seed(0)
    model = DIN.create(Facts(schema, {}, float(MEAN_HISTORY), MAX_HISTORY), DINOptions())
    objective = Objective(model, {}).train()
    options = {"optimizer": name}
    optimizer = Optimizers(objective, model, TrainOptions(**options))  # type: ignore[arg-type]
    batches = list(made_batches(n_users))
    seconds = []
    for number in range(WARM_UP_STEPS + n_steps):
        started = time.perf_counter()
        losses = objective(batches[number % len(batches)], Moment(0, 0, number, number))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    held = status(os.getpid())["RssAnon"] / KIB
    tensors = {**objective.state_dict(), **dict(optimizer.tensors(objective))}
    with tempfile.TemporaryDirectory(dir=work) as folder:
        save_tensors(Path(folder) / "checkpoint.safetensors", tensors, {})
    step = statistics.median(seconds[WARM_UP_STEPS:])
    return {"step_ms": round(step * 1e3, 3), "held_anon_mib": round(held, 1), "steps": n_steps}


def made_batches(n_users: int) -> Iterator["Batch"]:
    """Batches of random users; a few items are in many histories, as in real logs."""
    import numpy as np
    import torch

    from aqcl.batch import Batch

    random = np.random.default_rng(0)

    def items(count: int) -> torch.Tensor:
        drawn = 2 + random.random(count) ** 3 * (N_ITEMS - 2)
        return torch.from_numpy(drawn.astype(np.int64))

    for _ in range(N_BATCHES):
        length = np.minimum(random.poisson(MEAN_HISTORY, BATCH_SIZE), MAX_HISTORY)
        offsets = np.concatenate([[0], np.cumsum(length)])
        label = (random.random(BATCH_SIZE) < 0.5).astype(np.float32)
        yield Batch(
            user=torch.from_numpy(random.integers(2, n_users, BATCH_SIZE)),
            item=items(BATCH_SIZE),
            label=torch.from_numpy(label),
            activity=torch.from_numpy(length.astype(np.float32)),
            history=items(int(offsets[-1])),
            offsets=torch.from_numpy(offsets),
            segment=torch.from_numpy(np.repeat(np.arange(BATCH_SIZE), length)),
            context={},
        )


def main(name: str, n_users: str, n_steps: str, work: str) -> None:
    """One optimizer and size, in this process; what it found is printed as JSON."""
    keep_freed_memory()
    sys.stdout.write(json.dumps(timed(name, int(n_users), int(n_steps), Path(work))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
