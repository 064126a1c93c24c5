"""How time and memory of `evaluate` grow with the rows, on made predictions.

Each size runs in a process of its own. A fifth of the rows are positives, there is a user for
each eleven rows, and activities are log-normal. The number of resamples is the same for all
sizes: the 200 that `aqcl` takes above a million rows.
"""

import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.stages import KIB, run_stage, status

if TYPE_CHECKING:
    from aqcl.predictions import Predictions

SIZES = (100_000, 1_000_000)
FULL_SIZES = (*SIZES, 10_000_000)
REPLICATES = 200
THRESHOLDS = (6, 20)
SEED = 0
ROWS_PER_USER = 11
SORTS = 3
RATIOS = {
    **{f"growth.{size}": "lower" for size in FULL_SIZES[1:]},
    **{f"over_sort.{size}": "lower" for size in FULL_SIZES},
}


def measure(full: bool, work: Path) -> dict[str, Any]:
    """Time and memory of `evaluate` by number of rows."""
    return measured(FULL_SIZES if full else SIZES)


def measured(sizes: tuple[int, ...]) -> dict[str, Any]:
    """The outcome for these sizes, in ascending order."""
    found = {str(rows): _in_a_process(rows) for rows in sizes}
    return {
        "replicates": REPLICATES,
        "sizes": found,
        "growth": growth(found),
        # Which gets worse where all sizes get slower alike.
        "over_sort": {
            rows: round(now["cpu_seconds"] / now["sort_seconds"], 3) for rows, now in found.items()
        },
    }


def growth(sizes: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """CPU time per row at each size over that at the size before; 1 is linear growth."""
    pairs = itertools.pairwise(sizes.items())
    return {
        rows: round(now["cpu_microseconds_per_row"] / before["cpu_microseconds_per_row"], 3)
        for (_, before), (rows, now) in pairs
    }


def lines(outcome: Mapping[str, Any]) -> list[str]:
    """For the terminal."""
    return [
        f"  {int(rows):>11,} rows  {found['wall_seconds']:8.2f} s  cpu "
        f"{found['cpu_seconds']:8.2f} s  {found['cpu_microseconds_per_row']:7.3f} us/row  "
        f"{found['peak_anon_mib']:7.0f} MiB  {found['peak_bytes_per_row']:6.1f} B/row"
        for rows, found in outcome["sizes"].items()
    ]


def made_predictions(n_rows: int) -> "Predictions":
    """The same predictions whenever they are made; users differ in how well they are ranked."""
    import numpy as np

    from aqcl.predictions import Predictions

    stream = np.random.default_rng(SEED)
    n_users = max(1, n_rows // ROWS_PER_USER)
    user = stream.integers(n_users, size=n_rows)
    activity = stream.lognormal(1.2, 1.3, n_users).astype(np.int64)
    label = (stream.random(n_rows, dtype=np.float32) < 0.2).astype(np.int8)
    score = stream.normal(size=n_rows)
    score += label
    score += 0.3 * stream.normal(size=n_users)[user]
    # In place, so that making the predictions takes less memory than measuring them.
    np.negative(score, out=score)
    np.exp(score, out=score)
    score += 1
    np.reciprocal(score, out=score)
    item = stream.integers(100_000, size=n_rows)
    return Predictions(user, item, label, activity[user], score)


def evaluate_made(n_rows: int) -> dict[str, Any]:
    """Time and memory of one evaluation in this process."""
    from aqcl.evaluate import ALL, evaluate

    before = status(os.getpid())["RssAnon"] / KIB
    predictions = made_predictions(n_rows)
    evaluate(made_predictions(1_000), THRESHOLDS, 2)  # what is done once in a process
    wall, cpu = time.perf_counter(), time.process_time()
    found = evaluate(predictions, THRESHOLDS, REPLICATES)[ALL]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    sort = statistics.median(_sort_seconds(predictions) for _ in range(SORTS))
    return {
        "rows": n_rows,
        "users": found.users,
        "auc": found.auc,
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "cpu_microseconds_per_row": cpu / n_rows * 1e6,
        "sort_seconds": sort,
        "anon_before_mib": before,
    }


def _sort_seconds(predictions: "Predictions") -> float:
    """Of processor for putting all scores in order, which an exact AUC needs at least."""
    started = time.process_time()
    predictions.score.argsort()
    return time.process_time() - started


def _in_a_process(n_rows: int) -> dict[str, Any]:
    found, usage = run_stage(["-m", "benchmarks.evaluation", str(n_rows)])
    # Above what the libraries take; 33 of them are the predictions themselves.
    per_row = (usage.peak_anon_mib - found.pop("anon_before_mib")) * KIB**2 / n_rows
    # Its times are of the whole process, imports and the making of the predictions included.
    peaks = {key: value for key, value in usage.to_json().items() if key.endswith("_mib")}
    return {**found, **peaks, "peak_bytes_per_row": per_row}


def main(n_rows: str) -> None:
    """One size, in this process; what it found is printed as JSON."""
    sys.stdout.write(json.dumps(evaluate_made(int(n_rows))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
