"""The main job on real data: prepare, train DIN with and without AQCL, compare."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.text import Text

from aqcl.assessment import compare_runs
from aqcl.comparison import ComparisonRow
from aqcl.dataset import Dataset
from aqcl.evaluate import ALL
from aqcl.experiment import resolve
from aqcl.prepare.source import prepare_source
from aqcl.progress import training_bar
from aqcl.tables import comparison_table
from aqcl.train import train

DATA: dict[str, dict[str, Any]] = {
    "ta-feng": {"source": {"name": "ta-feng"}, "user_share": 0.2},
    "oncold": {"source": {"name": "oncold", "users": 20_000, "items": 2_000, "samples": 400_000}},
}
"""What each demo prepares; `user_share` keeps it within minutes on two cores."""

TRAINING: dict[str, Any] = {
    "epochs": 12,
    "evaluations_per_epoch": 1,
    "patience": 2,
}
METHODS: dict[str, dict[str, Any]] = {
    "DIN": {},
    "DIN+AQCL": {"aqcl": {"w1": 0.3}},
}
"""Regularizers of each method, in the order of training; the first is the base."""

Say = Callable[[Any], None]


def run_demo(data: Literal["ta-feng", "oncold"], out: Path, path: Path | None, say: Say) -> None:
    """Run the demo and print what it does; finished parts are not done again.

    Args:
        data: key of `DATA`.
        out: directory for the dataset and the runs.
        path: a Ta Feng file to read instead of fetching it.
        say: prints text or a table.

    Raises:
        AqclError: the data cannot be had, or `out` holds something else.
    """
    values = {**DATA[data], "source": dict(DATA[data]["source"])}
    if path is not None:
        values["source"]["path"] = str(path)
    say(f"Preparing {data} ...")
    dataset = prepare_source(values, out / data)
    say(Text(summary(dataset)))
    paths = []
    for name, regularizers in METHODS.items():
        experiment = resolve(
            {
                "dataset": str(dataset.path),
                "name": name,
                "regularizer": regularizers,
                "train": TRAINING,
            }
        )
        place = out / "runs" / f"{data}-{name.lower()}"
        with training_bar(name) as listen:
            run = train(experiment, place, resume=True, listen=listen)
        say(f"{name}: trained in {run.manifest.content['seconds']:.0f} s")
        paths.append(run.path)
    result = compare_runs(paths)
    say(comparison_table(result))
    say(Text(verdict(result.comparison.rows, *METHODS)))
    say("Run directories:")
    for run_path in paths:
        say(f"  {run_path}")


def summary(dataset: Dataset) -> str:
    """What was prepared, in a few lines."""
    counts = dataset.manifest.content["counts"]
    kind = "SIMULATED data" if dataset.simulated else "real data"
    lines = [
        f"{dataset.name} ({kind}): {counts['users']:,} users, {counts['items']:,} items, "
        f"{counts['clicks']:,} clicks; {counts['splits']['train']['rows']:,} training rows.",
        *dataset.notes,
    ]
    return "\n".join(lines)


def verdict(rows: Sequence[ComparisonRow], base: str, target: str) -> str:
    """One sentence on the comparison over all users, and what it does not show."""
    everyone = {row.configuration: row for row in rows if row.group == ALL}
    row = everyone[target]
    words = {
        "better": "better: the interval lies above zero",
        "worse": "worse: the interval lies below zero",
    }
    found = (
        f"RelaImpr {row.rela_impr:+.2f}%"
        if row.rela_impr is not None
        else (f"no RelaImpr, as {base} is at or below chance (AUC {everyone[base].auc or 0:.4f})")
    )
    if row.rela_impr_low is not None and row.rela_impr_high is not None:
        found += f" [{row.rela_impr_low:+.2f}%, {row.rela_impr_high:+.2f}%]"
    return (
        f"{target} against {base}, all users: {found}, {words.get(row.verdict, row.verdict)}.\n"
        "One seed and untuned settings show how it works, not which method is better; "
        "results/ holds tuned comparisons over several seeds."
    )
