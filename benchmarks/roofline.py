"""What a training step should take and what it takes, item by item.

The work of each item is counted from the actual batches, the machine's rates are measured at the
same sizes, and the profiler tells what each item of real steps took.
"""

import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqcl.runtime import BRIEF_SPIN, keep_freed_memory
from benchmarks.data import dataset, described
from benchmarks.part import Better
from benchmarks.stages import run_stage
from benchmarks.threads import Threads, variables

if TYPE_CHECKING:
    from aqcl.batch import Batch
    from aqcl.train import Trainer
    from benchmarks.step_work import Shape

MODELS: Mapping[str, dict[str, Any]] = {"DIN": {}, "DIN+AQCL": {"aqcl": {}}}
THREADS = (1, 2)
WARM_UP_STEPS = 120
"""More than AQCL's own warm-up, so that the codebook takes part in every timed step."""
ROUND = 10
"""Steps between two looks at the clock."""
LEAST_PROFILED = 0.9
"""Of an undisturbed step, what its items must sum to."""
ATTEMPTS = 5
"""How often a model is measured before a disturbed machine is given up."""
RATIOS: dict[str, Better] = {"threads.*.*.measured_over_predicted": "lower"}


class DisturbedError(RuntimeError):
    """Something else ran while a model was measured."""


def measure(full: bool, work: Path) -> dict[str, Any]:
    """Predicted and measured items for each number of threads that there are cores for."""
    rounds = 30 if full else 8
    path = dataset(work)
    cores = len(os.sched_getaffinity(0))
    found: dict[str, Any] = {}
    for threads in (count for count in THREADS if count <= cores):
        arguments: list[str | Path] = ["-m", "benchmarks.roofline", path, str(rounds)]
        outcome, _ = run_stage(arguments, variables(Threads(threads, "PASSIVE", BRIEF_SPIN)))
        found[str(threads)] = outcome
    return {"dataset": described(path), "threads": found}


def lines(outcome: Mapping[str, Any]) -> list[str]:
    """For the terminal."""
    shown = []
    for threads, models in outcome["threads"].items():
        for model, found in models.items():
            shown.append(f"  {model}, {threads} threads: {found['step_ms']} ms a step")
            shown += [
                f"    {name:<26} {item['predicted_ms']:8.3f} {item['measured_ms']:8.3f} ms"
                for name, item in found["items"].items()
            ]
    return shown


def account(path: Path, rounds: int) -> dict[str, Any]:
    """Rates, and both models' items, in this process and its threads."""
    outcome: dict[str, Any] = {}
    for model, regularizers in MODELS.items():
        trainer = _trainer(path, regularizers)
        count = min(WARM_UP_STEPS, trainer.progress.steps_per_epoch)
        batches = [b for b, _ in zip(trainer.batches_of(0), range(count), strict=False)]
        for number in range(WARM_UP_STEPS):
            trainer.step(batches[number % len(batches)])
        shape = shape_of(trainer, batches)
        outcome[model] = {
            "shape": asdict(shape),
            "batch_ms": round(_batch_seconds(trainer) * 1e3, 4),
            **undisturbed(partial(_measured, trainer, batches, shape, rounds)),
        }
    return outcome


def undisturbed(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What is measured at the first attempt at which nothing else runs.

    Raises:
        DisturbedError: there is none among `ATTEMPTS`.
    """
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(DisturbedError):
            return measure()
    return measure()


def _measured(
    trainer: "Trainer", batches: Sequence["Batch"], shape: "Shape", rounds: int
) -> dict[str, Any]:
    """Step, rates and profile of a model, one right after the other."""
    from benchmarks.machine_rates import measure_rates
    from benchmarks.step_profile import profiled
    from benchmarks.step_work import step_work

    step = _step_seconds(trainer, batches, rounds)
    works = step_work(shape)
    rates = measure_rates(shape, works)
    measured = profiled(trainer, batches[: 2 * rounds])
    return {"rates": rates.to_json(), **_table(works, rates, measured, step)}


def _table(works: Any, rates: Any, measured: Any, step: float) -> dict[str, Any]:
    """The items of a model and their sums; all in milliseconds."""
    from benchmarks.machine_rates import predict
    from benchmarks.step_work import Work

    items = {}
    for name in dict.fromkeys([*works, *measured]):
        work = works.get(name, Work())
        found = measured.get(name, {"ms": 0.0, "operations": 0.0, "gradients": 0.0})
        n_operations, n_gradients = found["operations"], found["gradients"]
        predicted = predict(work, rates, n_operations, n_gradients) * 1e3
        products = sum(rates.linears[layer] for layer in work.linears) * 1e3
        items[name] = {
            "flops": work.flops,
            "bytes": round(work.bytes),
            "operations": n_operations + n_gradients,
            "products_ms": round(products, 4),
            "overhead_ms": round(predict(Work(), rates, n_operations, n_gradients) * 1e3, 4),
            "predicted_ms": round(predicted, 4),
            "measured_ms": round(found["ms"], 4),
        }
    predicted_ms = sum(item["predicted_ms"] for item in items.values())
    profiled_ms = sum(item["measured_ms"] for item in items.values())
    if profiled_ms < LEAST_PROFILED * step * 1e3:
        raise DisturbedError(
            f"a step took {step * 1e3:.1f} ms, but {profiled_ms:.1f} ms while it was profiled, "
            "which only makes it slower: the machine was busy; measure again"
        )
    return {
        "items": items,
        "step_ms": round(step * 1e3, 4),
        "predicted_ms": round(predicted_ms, 4),
        # What the items sum to beyond an undisturbed step: the profiler, and what else then ran.
        "profiler_ms": round(profiled_ms - step * 1e3, 4),
        "measured_over_predicted": round(step * 1e3 / predicted_ms, 4),
    }


def shape_of(trainer: "Trainer", batches: Sequence["Batch"]) -> "Shape":
    """The sizes of a step, from the model and from the batches as they are."""
    from benchmarks.step_work import Shape

    backbone: Any = trainer.objective.backbone
    options, tables = backbone.options, backbone.embeddings
    table_floats = tables.user_table.numel() + tables.item_table.numel()
    contrast: dict[str, Any] = {}
    for regularizer in trainer.objective.regularizers:
        found: Any = regularizer
        contrast = {
            "projector": (found.options.hidden_dim, found.options.hidden_dim, found.options.dim),
            "codewords": found.options.n_codewords,
            "iterations": found.options.sinkhorn_iterations,
            "kept": 1.0 - found.options.view.mask_rate,
        }
    return Shape(
        rows=round(statistics.mean(len(batch) for batch in batches)),
        clicks=round(statistics.mean(len(batch.history) for batch in batches), 1),
        width=tables.item_width,
        inputs=tables.user_width + 3 * tables.item_width + tables.context_width,
        attention=tuple(options.attention_sizes),
        top=tuple(options.sizes),
        users=len(tables.user_table),
        items=len(tables.item_table),
        dense=sum(p.numel() for p in trainer.objective.parameters()) - table_floats,
        **contrast,
    )


def _trainer(path: Path, regularizers: dict[str, Any]) -> "Trainer":
    """A trainer that never evaluates and never writes."""
    from aqcl.dataset import open_dataset
    from aqcl.experiment import resolve
    from aqcl.train import Trainer

    # Ids alone, as the counts assume.
    values = {"dataset": str(path), "fields": [], "regularizer": regularizers}
    trainer = Trainer(resolve(values), open_dataset(path), path)
    trainer.evaluate_after = set()
    trainer.objective.train()
    return trainer


def _step_seconds(trainer: "Trainer", batches: Sequence["Batch"], rounds: int) -> float:
    """Median over rounds; the batches are cut already."""
    times = []
    for number in range(rounds):
        started = time.perf_counter()
        for k in range(ROUND):
            trainer.step(batches[(number * ROUND + k) % len(batches)])
        times.append((time.perf_counter() - started) / ROUND)
    return statistics.median(times)


def _batch_seconds(trainer: "Trainer") -> float:
    """Median time of cutting a batch, which a thread does ahead of the steps where it is long."""
    times, batches = [], trainer.batches_of(0)
    next(batches)
    for _ in range(min(30, trainer.progress.steps_per_epoch - 1)):
        started = time.perf_counter()
        next(batches)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main(path: str, rounds: str) -> None:
    """One number of threads, in this process."""
    keep_freed_memory()
    sys.stdout.write(json.dumps(account(Path(path), int(rounds))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
