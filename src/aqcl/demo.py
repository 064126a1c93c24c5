"""The main job on real data: prepare, train DIN with and without AQCL, compare."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

TRAINING: dict[str, Any] = {"epochs": 15}
"""Of all methods."""


@dataclass(frozen=True)
class Demo:
    """A data set and the methods that are compared on it."""

    prepare: dict[str, Any]
    """Settings of `prepare`."""
    methods: dict[str, dict[str, Any]]
    """Settings of each method, in the order of training; the first is the base."""
    settings: str
    """Where the settings of the methods come from."""


DEMOS = {
    # A fifth of the users keeps it within minutes on two cores. Ids alone, as in the paper: with
    # attributes other settings are best.
    "ta-feng": Demo(
        prepare={"source": {"name": "ta-feng"}, "user_share": 0.2, "fields": []},
        methods={
            "DIN": {"train": {"embedding_l2": 0.006}},
            "DIN+AQCL": {
                "train": {"embedding_l2": 0.001},
                "regularizer": {"aqcl": {"weight": 0.1, "w1": 0.125, "w2": 3.3}},
            },
        },
        settings="tuned alike on a quarter of the users, where five seeds show no difference",
    ),
    "oncold": Demo(
        prepare={"source": {"name": "oncold", "users": 20_000, "items": 2_000, "samples": 400_000}},
        methods={"DIN": {}, "DIN+AQCL": {"regularizer": {"aqcl": {"w1": 0.3}}}},
        settings="not tuned",
    ),
}

Say = Callable[[Any], None]


def run_demo(data: Literal["ta-feng", "oncold"], out: Path, path: Path | None, say: Say) -> None:
    """Run the demo and print what it does; finished parts are not done again.

    Args:
        data: key of `DEMOS`.
        out: directory for the dataset and the runs.
        path: a Ta Feng file to read instead of fetching it.
        say: prints text or a table.

    Raises:
        AqclError: the data cannot be had, or `out` holds something else.
    """
    demo = DEMOS[data]
    values = demo.prepare
    if path is not None:
        values = {**values, "source": {**values["source"], "path": str(path)}}
    say(f"Preparing {data} ...")
    dataset = prepare_source(values, out / data)
    say(Text(summary(dataset)))
    paths = []
    for name, settings in demo.methods.items():
        training = {**TRAINING, **settings.get("train", {})}
        experiment = resolve(
            {"dataset": str(dataset.path), "name": name, **settings, "train": training}
        )
        place = out / "runs" / f"{data}-{name.lower()}"
        with training_bar(name) as listen:
            run = train(experiment, place, resume=True, listen=listen)
        say(f"{name}: trained in {run.manifest.content['seconds']:.0f} s")
        paths.append(run.path)
    result = compare_runs(paths)
    say(comparison_table(result))
    say(Text(verdict(result.comparison.rows, *demo.methods)))
    say(
        Text(
            f"Settings: {demo.settings}. One seed of each shows how it works and not which is "
            "better; docs/results.md has tuned comparisons over several seeds."
        )
    )
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
    """What two trainings say of all users, and what they do not."""
    everyone = {row.configuration: row for row in rows if row.group == ALL}
    row = everyone[target]
    found = (
        f"RelaImpr {row.rela_impr:+.2f}%"
        if row.rela_impr is not None
        else (f"no RelaImpr, as {base} is at or below chance (AUC {everyone[base].auc or 0:.4f})")
    )
    if row.rela_impr_low is not None and row.rela_impr_high is not None:
        found += f" [{row.rela_impr_low:+.2f}%, {row.rela_impr_high:+.2f}%]"
    judged = row.verdict in ("better", "worse")
    limit = (
        ". The interval covers chance in users and not in training: another seed may turn it round."
    )
    end = limit if judged else f", {row.verdict}."
    return f"{target} against {base}, all users, in this pair of trainings: {found}{end}"
