"""How time and memory of each stage grow with the rows of the simulated Oncold log.

Each stage runs in a process of its own on logs of growing size. What stays constant is seen as a
falling, what grows faster than the log as a rising time per row. Training and the trials of a
search are some hundred steps, from which whole epochs are computed.
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import kept
from benchmarks.feed_log import PAPER_SAMPLES, cached, disk_bytes, source
from benchmarks.part import Better
from benchmarks.stages import run_stage

SIZES = (100_000, 1_000_000, 10_000_000)
STAGES = ("simulate", "prepare", "train", "evaluate", "search")
"""In their order; each is a function of that name in `WORKERS`."""
WARM_UP_STEPS = 120
"""More than AQCL's own warm-up, so that the codebook takes part in every timed step."""
STEPS = 200
RATIOS: dict[str, Better] = {f"ratios.{stage}.{SIZES[-1]}": "lower" for stage in STAGES[1:]}


def measure(full: bool, work: Path) -> dict[str, Any]:
    """Time and memory of each stage by number of rows."""
    return measured((*SIZES, PAPER_SAMPLES) if full else SIZES, STEPS, work)


def measured(sizes: tuple[int, ...], n_steps: int, work: Path) -> dict[str, Any]:
    """The outcome for these sizes, in ascending order, and that many timed steps."""
    found = {str(rows): _stages(rows, n_steps, work) for rows in sizes}
    return {"steps": n_steps, "sizes": found, "ratios": growth_ratios(found)}


def growth_ratios(sizes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Time per row at each size over that at the size before, by stage; 1 is linear growth."""
    ratios: dict[str, dict[str, float]] = {}
    for before, now in itertools.pairwise(sizes):
        for stage, found in sizes[now].items():
            earlier = sizes[before].get(stage, {}).get("microseconds_per_row")
            later = found.get("microseconds_per_row")
            if earlier and later:
                ratios.setdefault(stage, {})[now] = round(later / earlier, 3)
    return ratios


def lines(outcome: Mapping[str, Any]) -> list[str]:
    """For the terminal."""
    return [
        f"  {int(rows):>11,} rows  {stage:<9} {found['seconds']:9.2f} s  "
        f"{found['microseconds_per_row']:8.3f} us/row  {found['peak_rss_mib']:8.0f} MiB"
        for rows, stages in outcome["sizes"].items()
        for stage, found in stages.items()
    ]


def _stages(n_rows: int, n_steps: int, work: Path) -> dict[str, Any]:
    found = {}
    for stage in STAGES:
        if stage == "simulate":
            measures = simulated(n_rows, work)
        else:
            measures = _stage(stage, n_rows, n_steps, work)
        if measures is not None:
            found[stage] = measures
    return found


def simulated(n_rows: int, work: Path) -> dict[str, Any] | None:
    """What simulating the log took, kept as the log itself is.

    None where the log was there before: its time would say nothing.
    """
    path = work / f"growth-{n_rows}" / "simulate.json"
    settings = source(n_rows, Path())
    measures = kept.read(path, settings).get("measures")
    if measures is None:
        measures = _stage("simulate", n_rows, 0, work)
        if not measures.pop("made"):
            return None
        kept.write(path, settings, {"measures": measures})
    assert isinstance(measures, dict)
    return measures


def _stage(stage: str, n_rows: int, n_steps: int, work: Path) -> dict[str, Any]:
    """A stage in a process of its own: what it tells, and what it took."""
    (work / f"growth-{n_rows}").mkdir(parents=True, exist_ok=True)
    numbers = [str(n_rows), str(n_steps)]
    outcome, usage = run_stage(["-m", "benchmarks.growth", stage, *numbers, work])
    rows = outcome.pop("rows", n_rows)
    per_row = round(outcome["seconds"] / rows * 1e6, 4)
    return {"rows": rows, "microseconds_per_row": per_row, **outcome, **usage.to_json()}


def simulate_log(n_rows: int, n_steps: int, work: Path) -> dict[str, Any]:
    """Make the log, unless it is there."""
    from aqcl.config import build
    from aqcl.datasets.oncold import OncoldSettings, open_oncold

    settings = {key: v for key, v in source(n_rows, cached(work)).items() if key != "name"}
    before, started = disk_bytes(cached(work)), time.perf_counter()
    open_oncold(build(OncoldSettings, settings, "source"))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "made": disk_bytes(cached(work)) > before}


def prepare_log(n_rows: int, n_steps: int, work: Path) -> dict[str, Any]:
    """From the log to a dataset directory, whose size on disk is told too."""
    from aqcl.prepare import prepare_source

    out = _dataset(n_rows, work)
    started = time.perf_counter()
    dataset = prepare_source({"source": source(n_rows, cached(work))}, out, overwrite=True)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "disk_bytes": disk_bytes(out),
        "users": dataset.schema.n_users,
        "items": dataset.schema.n_items,
        "mean_activity": round(dataset.mean_activity, 3),
    }


class EnoughError(Exception):
    """The steps that were to be timed are done."""


def train_steps(n_rows: int, n_steps: int, work: Path) -> dict[str, Any]:
    """Some steps of DIN+AQCL, and an epoch computed from them; nothing is evaluated."""
    from aqcl.dataset import open_dataset
    from aqcl.experiment import resolve
    from aqcl.train import Progress, Trainer

    path = _dataset(n_rows, work)
    values = {"dataset": str(path), "regularizer": {"aqcl": {}}}
    experiment = resolve({**values, "train": {"optimizer": "lazy_adam"}})
    started = time.perf_counter()
    trainer = Trainer(experiment, open_dataset(path), work)
    trainer.evaluate_after = set()
    seen: dict[int, tuple[float, float]] = {}

    def listen(progress: Progress) -> None:
        seen[progress.number] = (progress.step_seconds, progress.wait_seconds)
        if progress.number == WARM_UP_STEPS + n_steps:
            raise EnoughError

    try:
        trainer.fit(listen)
    except EnoughError:
        whole = time.perf_counter() - started
    before, after = seen[WARM_UP_STEPS], seen[WARM_UP_STEPS + n_steps]
    step = (after[0] - before[0]) / n_steps
    progress = trainer.progress
    return {
        # Per row of training: what an epoch takes, and not these steps.
        "rows": len(trainer.dataset.train),
        "seconds": step * progress.steps_per_epoch + seen[1][1],
        "seconds_of_stage": whole,
        "first_batch_seconds": seen[1][1],
        "step_ms": step * 1e3,
        "rows_per_second": progress.rows_per_step / step,
        "data_wait": (after[1] - before[1]) / (after[0] - before[0]),
        "steps_per_epoch": progress.steps_per_epoch,
        "optimizer": experiment.train.optimizer,
    }


def evaluate_test(n_rows: int, n_steps: int, work: Path) -> dict[str, Any]:
    """Score the test rows with initial weights and measure the scores; all sizes alike."""
    import torch

    from aqcl.dataset import open_dataset
    from aqcl.evaluate import evaluate
    from aqcl.experiment import resolve
    from aqcl.scoring import build_backbone, facts_of, score
    from benchmarks.evaluation import REPLICATES

    experiment = resolve({"dataset": str(_dataset(n_rows, work))})
    dataset = open_dataset(Path(experiment.dataset))
    backbone = build_backbone(experiment, facts_of(dataset, experiment))
    started = time.perf_counter()
    limit = experiment.train.max_history
    predictions = score(backbone, dataset.test, limit, torch.device("cpu"))
    scored = time.perf_counter()
    evaluate(predictions, dataset.thresholds, REPLICATES).to_json()
    ended = time.perf_counter()
    return {
        "rows": len(dataset.test),
        "seconds": ended - started,
        "score_seconds": scored - started,
        "evaluate_seconds": ended - scored,
    }


def search_settings(n_rows: int, n_steps: int, work: Path) -> dict[str, Any]:
    """A search of two trials, each with as many steps as training is timed for."""
    from benchmarks.growth_search import search

    path = _dataset(n_rows, work)
    return search(path, WARM_UP_STEPS, n_steps, path.parent)


WORKERS: Mapping[str, Callable[[int, int, Path], dict[str, Any]]] = {
    "simulate": simulate_log,
    "prepare": prepare_log,
    "train": train_steps,
    "evaluate": evaluate_test,
    "search": search_settings,
}


def _dataset(n_rows: int, work: Path) -> Path:
    return work / f"growth-{n_rows}" / "dataset"


def main(stage: str, n_rows: str, n_steps: str, work: str) -> None:
    """One stage, in this process; what it found is printed as JSON."""
    from aqcl.runtime import settle_threads

    settle_threads(int(os.environ.get("OMP_NUM_THREADS", "0")), "passive")
    found = WORKERS[stage](int(n_rows), int(n_steps), Path(work))
    numbers = {k: round(v, 5) if isinstance(v, float) else v for k, v in found.items()}
    sys.stdout.write(json.dumps(numbers) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
