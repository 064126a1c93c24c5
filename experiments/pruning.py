"""What stopping trials early would have cost: a study of whole trials replayed under the median.

`python experiments/pruning.py runs/paper/beauty-ids-frozen/tuning-din/DIN --method DIN` writes
`results/pruning.json`: the settings and validation curve of every trial, and for several numbers of
evaluations that each trial may have before it is judged, which trial would have won.
"""

import argparse
import json
import shlex
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

from aqcl import __version__
from aqcl.search.sampling import UNPRUNED_TRIALS
from aqcl.storage import atomic_write

ROOT = Path(__file__).resolve().parent.parent
WARM_UPS = (2, 6, 10, 16)
"""Evaluations that every trial may have before it is judged."""


def main() -> None:
    """Replay a study and write the outcome."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--method", required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "pruning.json")
    arguments = parser.parse_args()
    study = json.loads((arguments.study / "study.json").read_text(encoding="utf-8"))
    trials = []
    for trial in study["methods"][arguments.method]["trials"]:
        log = (arguments.study / trial["run"] / "log.jsonl").read_text().splitlines()
        curve = [round(json.loads(line)["valid_auc"], 6) for line in log]
        trials.append({"parameters": trial["parameters"], "valid_auc": curve})
    curves = [trial["valid_auc"] for trial in trials]
    outcome = {
        "command": shlex.join(
            ["python", "experiments/pruning.py", str(arguments.study), "--method", arguments.method]
        ),
        "version": __version__,
        "dataset": study["dataset"]["name"],
        "method": arguments.method,
        "unpruned_trials": UNPRUNED_TRIALS,
        "whole": replay(curves, warm_up=max(map(len, curves))),
        "median": {str(warm_up): replay(curves, warm_up) for warm_up in WARM_UPS},
        "trials": trials,
    }
    atomic_write(arguments.out, json.dumps(outcome, indent=1) + "\n")
    print(json.dumps({key: outcome[key] for key in ("whole", "median")}, indent=1))


def replay(curves: Sequence[Sequence[float]], warm_up: int) -> dict[str, Any]:
    """The best of the trials that the median of those that ended, at the same evaluation, spares.

    As `pruning = "median"` of a search has it.

    Args:
        curves: validation AUC of each whole trial at its evaluations, in the order of the study.
        warm_up: evaluations before a trial is judged.
    """
    ended: list[list[float]] = []
    evaluations = 0
    for curve in curves:
        # A trial reports the weights that it keeps, and is not judged where it ends anyway.
        best = list(accumulate(curve, max))
        length = len(best)
        for k in range(warm_up, len(best) - 1):
            others = [other[k] for other in ended if len(other) > k]
            if len(ended) >= UNPRUNED_TRIALS and others and best[k] < median(others):
                length = k + 1
                break
        if length == len(best):
            ended.append(best)
        evaluations += length
    return {
        "best_valid_auc": max(best[-1] for best in ended),
        "trials_ended": len(ended),
        "evaluations": evaluations,
    }


if __name__ == "__main__":
    main()
