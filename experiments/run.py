"""Runs a comparison of methods: a grid on validation for each, then fresh seeds on test.

Use it as `python experiments/run.py experiments/beauty-ids.toml --workers 2`.

Every run is a run directory below `out` of the specification; finished ones are kept and killed
ones resumed, so the command can be repeated until it is through. The outcome is written to
`results/<name of the specification>.json`.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aqcl.dataset import Dataset
    from aqcl.runs import Run

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Job:
    """One training run."""

    out: Path
    assignments: tuple[str, ...]
    """Dotted settings on top of the method's."""
    settings: dict[str, Any]


def main() -> None:
    """Tune, train the final runs, write the outcome."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("specification", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    # Workers share the cores: their idle threads must sleep. Read when torch is imported.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    from aqcl.config import read_toml

    spec = read_toml(arguments.specification)
    dataset = prepare_dataset(spec)
    tuning = {method["name"]: list(grid(spec, method, dataset)) for method in spec["methods"]}
    # A method with one setting has nothing to tune.
    train_all([job for jobs in tuning.values() if len(jobs) > 1 for job in jobs], arguments.workers)
    contenders = {name: shortlist(spec, jobs) for name, jobs in tuning.items()}
    confirming = [job for cells in contenders.values() for cell in cells for job in cell[1:]]
    train_all(confirming, arguments.workers)
    winners = {name: winner(cells) for name, cells in contenders.items()}
    finals = dict(final_cells(spec, winners))
    train_all([job for cell in finals.values() for job in cell], arguments.workers)
    command = shlex.join(["python", "experiments/run.py", str(arguments.specification)])
    write_outcome(spec, arguments.specification.stem, command, tuning, contenders, finals)


def prepare_dataset(spec: Mapping[str, Any]) -> Path:
    """The dataset directory of the specification, made if it is not there."""
    from aqcl.prepare import prepare_source

    source = dict(spec["source"])
    if "path" in source:
        source["path"] = str((ROOT / source["path"]).resolve())
    values = {**spec["prepare"], "source": source}
    return prepare_source(values, ROOT / spec["out"] / "dataset").path


def grid(spec: Mapping[str, Any], method: Mapping[str, Any], dataset: Path) -> Iterator[Job]:
    """The tuning runs of a method: each penalty, of its own grid if it has one, and option."""
    for penalty in method.get("grid", spec["penalty"].get("grid")):
        for number, options in enumerate(method["options"]):
            settings = {**spec["experiment"], **method["settings"], "dataset": str(dataset)}
            settings |= {"name": method["name"], "seed": spec["tuning_seed"]}
            assignments = [f"{spec['penalty']['key']}={penalty}"]
            assignments += [f"{key}={value}" for key, value in options.items()]
            out = ROOT / spec["out"] / "tuning" / method["name"] / f"{penalty:g}-{number}"
            yield Job(out, tuple(assignments), settings)


def final_cells(
    spec: Mapping[str, Any], winners: Mapping[str, Job]
) -> Iterator[tuple[tuple[str, str], list[Job]]]:
    """Fresh seeds of each method's winner, and at the fixed penalties with all else equal."""
    for name, winner in winners.items():
        for label in ("best", *(f"{penalty:g}" for penalty in spec["penalty"]["fixed"])):
            jobs = []
            for seed in spec["final_seeds"]:
                extra = [f"seed={seed}", f"name={name} ({label})"]
                if label != "best":
                    extra.append(f"{spec['penalty']['key']}={label}")
                    extra += [f"{k}={v}" for k, v in spec["penalty"]["fixed_settings"].items()]
                out = ROOT / spec["out"] / "final" / name / label / f"seed{seed}"
                jobs.append(Job(out, (*winner.assignments, *extra), winner.settings))
            yield (name, label), jobs


def train_all(jobs: list[Job], workers: int) -> None:
    """Train what is not trained yet, several runs at a time."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(train_one, job): job for job in jobs}
        for done, future in enumerate(as_completed(futures), start=1):
            out = futures[future].out.relative_to(ROOT)
            print(f"{done}/{len(jobs)} {out} {future.result():.4f}", file=sys.stderr, flush=True)


def train_one(job: Job) -> float:
    """Train a run, or take it as it is if it has finished; returns its validation score."""
    import torch

    from aqcl.config import override
    from aqcl.experiment import resolve
    from aqcl.train import train

    experiment = resolve(override(job.settings, job.assignments))
    torch.set_num_threads(experiment.runtime.threads or os.cpu_count() or 1)
    return float(train(experiment, job.out, resume=True).manifest.content["best"])


def shortlist(spec: Mapping[str, Any], jobs: list[Job]) -> list[list[Job]]:
    """The best settings of a grid, each with the runs of other seeds that `confirm` asks for."""
    if len(jobs) == 1:
        return [jobs]

    confirm = spec.get("confirm", {"best": 1, "seeds": []})
    found = sorted(jobs, key=lambda job: mean_valid([job]), reverse=True)[: confirm["best"]]
    return [[job, *(with_seed(job, seed) for seed in confirm["seeds"])] for job in found]


def with_seed(job: Job, seed: int) -> Job:
    """The same settings with another seed."""
    out = job.out.with_name(f"{job.out.name}-seed{seed}")
    return Job(out, (*job.assignments, f"seed={seed}"), job.settings)


def winner(cells: list[list[Job]]) -> Job:
    """The settings with the best mean validation score, or the only ones, trained or not."""
    return (cells[0] if len(cells) == 1 else max(cells, key=mean_valid))[0]


def mean_valid(jobs: list[Job]) -> float:
    """The mean validation score of trained runs."""
    from aqcl.runs import open_run

    return sum(float(open_run(job.out).manifest.content["best"]) for job in jobs) / len(jobs)


def write_outcome(
    spec: Mapping[str, Any],
    name: str,
    command: str,
    tuning: Mapping[str, list[Job]],
    contenders: Mapping[str, list[list[Job]]],
    finals: Mapping[tuple[str, str], list[Job]],
) -> None:
    """Score the test rows of the final runs, compare the methods, write the results as data."""
    from aqcl import __version__
    from aqcl.assessment import assess
    from aqcl.comparison import compare
    from aqcl.config import as_values
    from aqcl.dataset import open_dataset
    from aqcl.runs import open_run

    dataset = open_dataset(ROOT / spec["out"] / "dataset")
    runs = {key: [assess(job.out, "test") for job in jobs] for key, jobs in finals.items()}
    comparisons = {}
    for label in ("best", *(f"{penalty:g}" for penalty in spec["penalty"]["fixed"])):
        predictions = {
            method: [run.predictions("test") for run in cell]
            for (method, cell_label), cell in runs.items()
            if cell_label == label
        }
        comparisons[label] = compare(predictions, spec["base"], dataset.thresholds).to_json()
    outcome = {
        "command": command,
        "version": __version__,
        "specification": dict(spec),
        **dataset_facts(dataset),
        "tuning": {
            method: [
                {
                    "settings": list(job.assignments),
                    "valid": open_run(job.out).manifest.content["best"],
                    "seconds": open_run(job.out).manifest.content["seconds"],
                }
                for job in jobs
            ]
            for method, jobs in tuning.items()
            if len(jobs) > 1
        },
        "confirmed": {
            method: [
                {
                    "settings": list(cell[0].assignments),
                    "seeds": len(cell),
                    "valid": mean_valid(cell),
                }
                for cell in cells
            ]
            for method, cells in contenders.items()
            if any(len(cell) > 1 for cell in cells)
        },
        "winners": {
            method: {**as_values(cell[0].experiment), "dataset": f"{spec['out']}/dataset"}
            for (method, label), cell in runs.items()
            if label == "best"
        },
        "runs": [
            {"method": method, "cell": label, **run_facts(run)}
            for (method, label), cell in runs.items()
            for run in cell
        ],
        "comparisons": comparisons,
    }
    write_results(name, outcome)


def dataset_facts(dataset: "Dataset") -> dict[str, Any]:
    """What the numbers were measured on, and what needs no training there."""
    from aqcl.evaluate import evaluate
    from aqcl.yardsticks import yardstick_predictions

    return {
        "dataset": {
            "fingerprint": dataset.manifest.fingerprint,
            "protocol": dataset.protocol,
            "counts": dataset.manifest.content["counts"],
        },
        "yardsticks": {
            name: evaluate(predictions, dataset.thresholds).to_json()
            for name, predictions in yardstick_predictions(dataset, "test").items()
        },
    }


def run_facts(run: "Run") -> dict[str, Any]:
    """A run of the outcome."""
    content = run.manifest.content
    facts = {"seed": run.experiment.seed, "fingerprint": run.manifest.fingerprint}
    facts |= {key: content[key] for key in ("best_step", "seconds", "threads", "torch")}
    return facts | {"test": run.metrics()["test"]}


def write_results(name: str, outcome: Mapping[str, Any]) -> None:
    """Write an outcome as results/<name>.json."""
    from aqcl.storage import atomic_write

    out = ROOT / "results" / f"{name}.json"
    out.parent.mkdir(exist_ok=True)
    atomic_write(out, json.dumps(outcome, indent=1) + "\n")
    print(out.relative_to(ROOT))


if __name__ == "__main__":
    main()
