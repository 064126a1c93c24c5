"""Restates stored comparisons whose intervals were made before few seeds were made up for.

Use it as `python experiments/restate.py`; what it has restated, or was made since, it leaves alone.

Seeds were drawn from themselves alone, which makes an interval from five of them too narrow. The
predictions that the intervals were made of are not stored, but the AUC of each seed is. The width
of an interval is the variance of users and that of seeds; the latter is known from the AUCs, and is
put in place as `aqcl.bootstrap.resample_seeds` spreads it now. So each interval keeps its shape and
is widened about its estimate; p-values are the tails of the widened ones.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aqcl.bootstrap import seed_variance, t_quantile, t_tail
from aqcl.comparison import ComparisonRow, corrected, judge
from aqcl.evaluate import Counts
from aqcl.reproduce.gather import WORDS
from aqcl.reproduce.states import NOT_RUN
from aqcl.storage import atomic_write

RESULTS = Path(__file__).resolve().parent.parent / "results"

Floats = npt.NDArray[np.float64]
Aucs = Mapping[tuple[str, str], Floats]
"""Of each seed, by configuration and group."""


def main() -> None:
    """Restate all files that need it."""
    for file in sorted(RESULTS.rglob("*.json")):
        outcome = json.loads(file.read_text(encoding="utf-8"))
        if restate(outcome):
            text = json.dumps(outcome, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
            atomic_write(file, text.encode())
            print(file.relative_to(RESULTS))


def restate(outcome: dict[str, Any]) -> bool:
    """Restate the comparisons of an outcome in place; whether there was any to restate."""
    found = outcome.get("comparisons", {})
    if isinstance(found, list):  # of a table or figure of the paper
        old = [part for part in found if part["comparison"] and _is_old(part["comparison"])]
        for part in old:
            aucs = by_seed(
                {
                    (run["label"], run["seed"], group): auc
                    for run in part["runs"]
                    for group, auc in run["auc"].items()
                }
            )
            restate_comparison(part["comparison"], aucs)
            for claim in part["claims"]:
                restate_claim(claim, part["comparison"], aucs)
        return bool(old)
    cells = {cell: comparison for cell, comparison in found.items() if _is_old(comparison)}
    for cell, comparison in cells.items():
        aucs = by_seed(
            {
                (run["method"], run["seed"], group["group"]): group["auc"]
                for run in outcome["runs"]
                if run.get("cell", cell) == cell
                for group in run["test"]["groups"]
            }
        )
        restate_comparison(comparison, aucs)
    return bool(cells)


def _is_old(comparison: Mapping[str, Any]) -> bool:
    return "intervals" not in comparison


def by_seed(aucs: Mapping[tuple[str, int, str], float]) -> Aucs:
    """The AUCs of each configuration and group, in the order of the seeds."""
    keys = sorted(aucs)
    return {
        (label, group): np.array([aucs[k] for k in keys if (k[0], k[2]) == (label, group)])
        for label, _, group in keys
    }


def restate_comparison(comparison: dict[str, Any], aucs: Aucs) -> None:
    """Widen the rows of a comparison in place, and judge them anew."""
    rows, base = [], comparison["base"]
    for old in comparison["rows"]:
        configuration, group = old["configuration"], old["group"]
        ours, theirs = aucs[configuration, group], aucs[base, group]
        row = old | Widening.of(old, "auc", ours).applied(old, "auc")
        if configuration != base:
            widening = Widening.of(old, "difference", ours - theirs)
            row |= widening.applied(old, "difference") | widening.applied(old, "rela_impr")
            counts: Counts = {name: old[name] for name in ("rows", "users", "positives")}
            row["verdict"] = judge(row["difference_low"], row["difference_high"], counts)
            row["p_value"] = widening.p_value
        rows.append(ComparisonRow(**row))
    comparison["rows"] = [vars(row) for row in corrected(rows, ())]
    comparison["intervals"] = "restated"


def restate_claim(claim: dict[str, Any], comparison: Mapping[str, Any], aucs: Aucs) -> None:
    """Widen a claim in place; `comparison` is restated already."""
    if claim["verdict"] == NOT_RUN:
        return
    rows = {(row["configuration"], row["group"]): row for row in comparison["rows"]}
    if claim["base"] == comparison["base"]:
        row = rows[claim["method"], claim["group"]]
    else:
        gaps = aucs[claim["method"], claim["group"]] - aucs[claim["base"], claim["group"]]
        widening = Widening.of(claim, "difference", gaps)
        row = widening.applied(claim, "difference") | widening.applied(claim, "rela_impr")
        counts = rows[claim["base"], claim["group"]]
        row["verdict"] = judge(row["difference_low"], row["difference_high"], counts)
        # The other methods were not compared with this base. Holm's p is this at most.
        family = sum(row["holm"] is not None for row in comparison["rows"])
        row["holm"] = min(1.0, family * widening.p_value)
    claim |= {key: row[key] for key in claim.keys() & row.keys() - {"verdict"}}
    claim["verdict"] = WORDS.get(row["verdict"], row["verdict"])


@dataclass(frozen=True)
class Widening:
    """What becomes of an interval over users and seeds."""

    factor: float
    p_value: float

    @staticmethod
    def of(old: Mapping[str, Any], name: str, of_seeds: Floats) -> "Widening":
        """From the interval as it was, and the estimates of each seed."""
        n_seeds = len(of_seeds)
        estimate, low, high = (old[key] for key in (name, f"{name}_low", f"{name}_high"))
        if abs(of_seeds.mean() - estimate) > 1e-9:
            raise ValueError(f"{name} {estimate} is not the mean of its seeds, {of_seeds.mean()}")
        before = ((high - low) / 2 / t_quantile(math.inf)) ** 2
        drawn, seeds = float(of_seeds.var()) / n_seeds, seed_variance(of_seeds)
        after = max(before - drawn, 0.0) + seeds
        freedom = after**2 / (seeds**2 / (n_seeds - 1))
        p_value = t_tail(abs(estimate) / math.sqrt(after), freedom)
        return Widening(math.sqrt(after / before), p_value)

    def applied(self, old: Mapping[str, Any], name: str) -> dict[str, Any]:
        """An interval, wider about its estimate."""
        estimate, ends = old[name], (f"{name}_low", f"{name}_high")
        return {end: estimate + self.factor * (old[end] - estimate) for end in ends}


if __name__ == "__main__":
    main()
