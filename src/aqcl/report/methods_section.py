"""What the methods of a report are: dataset, trainings and settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from aqcl.assessment import RunComparison
from aqcl.config import as_values, to_toml
from aqcl.experiment import method_settings
from aqcl.report.page import Cell, paragraph, table, text
from aqcl.runs import Run

MOST_TOLD: Final = 4
"""Differences of a method from the first that are told before the table of all."""


def compared_body(result: RunComparison, runs: Mapping[str, Sequence[Run]]) -> str:
    """The dataset, and what each method is and took.

    Args:
        result: of the comparison.
        runs: by method.
    """
    dataset = result.dataset
    counts = dataset.manifest.content["counts"]
    protocol = ", ".join(f"{key} {value}" for key, value in _flat(dataset.protocol))
    told = _differences(runs)
    rows = [
        [
            Cell(name),
            Cell(str(len(found)), len(found)),
            _spread([run.manifest.content["seconds"] for run in found], "s"),
            _spread([run.manifest.content["best_step"] for run in found], "steps"),
            *([Cell(told[name])] if told else []),
        ]
        for name, found in runs.items()
    ]
    notes = "".join(paragraph(f"{note[0].upper()}{note[1:]}.") for note in dataset.notes)
    facts = (
        f"{dataset.name}: {counts['users']:,} users, {counts['items']:,} items, "
        f"{counts['clicks']:,} clicks; {counts['splits'][result.split]['rows']:,} {result.split} "
        f"rows. Protocol: {protocol}. Fingerprint of the dataset: "
        f"{dataset.manifest.fingerprint[:16]}."
    )
    headings = ["Method", "#Seeds", "Training", "Best weights after"]
    headings += [f"Differs from {next(iter(runs))} in"] if told else []
    caption = "Methods, seeds, and what their training took"
    return paragraph(facts) + notes + table(headings, rows, caption)


def _differences(runs: Mapping[str, Sequence[Run]]) -> dict[str, str]:
    """In which settings each method differs from the first, in short; empty if none does."""
    values = _settings_of(runs)
    first = next(iter(values.values()))
    told = {name: _difference(first, other) for name, other in values.items()}
    return told if any(told.values()) else {}


def _difference(first: Mapping[str, str], other: Mapping[str, str]) -> str:
    """What the other has that the first has not; a table that one of them lacks, as a whole."""
    tables: dict[str, str] = {}
    keys = []
    for key in dict.fromkeys([*first, *other]):
        owner = key.rpartition(".")[0]
        if not _has_table(first, owner):
            tables[owner] = f"with {owner}"
        elif not _has_table(other, owner):
            tables[owner] = f"without {owner}"
        elif first.get(key) != other.get(key):
            keys.append(f"{key} = {other[key]}" if key in other else f"without {key}")
    # A table goes with those that hold it.
    outer = [
        told for name, told in tables.items() if not name.startswith(tuple(f"{t}." for t in tables))
    ]
    found = [*outer, *keys]
    more = [f"{len(found) - MOST_TOLD} more"] if len(found) > MOST_TOLD else []
    return "; ".join(found[:MOST_TOLD] + more)


def _has_table(settings: Mapping[str, str], table: str) -> bool:
    return not table or any(key.startswith(f"{table}.") for key in settings)


def _settings_of(runs: Mapping[str, Sequence[Run]]) -> dict[str, dict[str, str]]:
    """What decides the numbers of each method: the settings of its first run, by dotted key."""
    return {
        name: {key: str(value) for key, value in _flat(method_settings(found[0].experiment))}
        for name, found in runs.items()
    }


def _flat(values: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(values, Mapping):
        return [(prefix or "is", values)]
    found = []
    for key, value in values.items():
        found += _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _spread(values: Sequence[float | int], unit: str) -> Cell:
    """The least and the most; sorted by the least."""
    low, high = f"{min(values):,.0f}", f"{max(values):,.0f}"
    return Cell(f"{low} {unit}" if low == high else f"{low} to {high} {unit}", min(values))


def settings_body(runs: Mapping[str, Sequence[Run]]) -> str:
    """The settings of the first run of each method; what differs among the methods on top.

    Args:
        runs: by method.
    """
    values = _settings_of(runs)
    keys = sorted({key for found in values.values() for key in found})
    differing = [key for key in keys if len({found.get(key) for found in values.values()}) > 1]
    rows = [
        [Cell(key), *(Cell(found.get(key, "")) for found in values.values())] for key in differing
    ]
    parts = []
    if rows:
        parts.append(table(["Setting", *values], rows, "Where the methods differ"))
    for name, found in runs.items():
        first = found[0]
        seeds = ", ".join(str(run.experiment.seed) for run in found)
        prints = ", ".join(run.manifest.fingerprint[:12] for run in found)
        content = first.manifest.content
        versions = f"torch {content['torch']}, {content['threads']} threads"
        if "code" in content:
            versions += f", code of aqcl {content['code']}"
        parts.append(
            f"<details><summary>{text(name)}</summary>"
            f'<p class="small">Seeds {text(seeds)}; fingerprints {text(prints)}; '
            f"{text(versions)}</p>"
            f"<pre>{text(to_toml(_portable(first)))}</pre></details>"
        )
    return "".join(parts)


def _portable(run: Run) -> dict[str, Any]:
    """Settings without where things lay."""
    values = as_values(run.experiment)
    values["dataset"] = Path(values["dataset"]).name
    return values
