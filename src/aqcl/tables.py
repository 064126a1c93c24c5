"""Results as tables for a terminal, made to be read at 100 columns.

Text that users chose, such as labels and paths, is never read as markup.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aqcl.activity import GROUPS
from aqcl.assessment import RunComparison
from aqcl.comparison import ComparisonRow, lacking
from aqcl.describe import Description
from aqcl.errors import command
from aqcl.evaluate import ALL, Evaluation
from aqcl.experiment import method_settings, own_settings
from aqcl.group_table import GroupTable, click_range, members, number, simple_table
from aqcl.runs import Run, open_run
from aqcl.schema import FIRST_ID
from aqcl.search.space import flatten, number_text
from aqcl.search.trials import objective_name
from aqcl.wording import (
    FLATTERED,
    INFEASIBLE,
    OF_CHANCE,
    dataset_name,
    doubts,
    few_seeds,
    improvement,
    legend,
    of_unknown,
)


def comparison_table(result: RunComparison) -> Group:
    """A block for each activity group, a row for each configuration, and how to read them."""
    comparison = result.comparison
    lines = [_comparison_cells(row, result) for row in comparison.rows]
    several = any(row.seeds > 1 for row in comparison.rows)
    headings = ("method", "AUC ± sd" if several else "AUC", "RelaImpr [95% interval]", "verdict")
    widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
    title = f"{dataset_name(result.dataset)}, {result.split} rows: against {comparison.base}"
    parts: list[RenderableType] = [Text(title, style="bold underline")]
    for group in dict.fromkeys(row.group for row in comparison.rows):
        numbers = [k for k, row in enumerate(comparison.rows) if row.group == group]
        parts += [Text(), _group_heading(comparison.rows[numbers[0]], comparison.thresholds)]
        table = simple_table()
        table.add_column(headings[0], overflow="fold")
        table.add_column(headings[1], justify="right", width=widths[1])
        table.add_column(headings[2], width=widths[2])
        table.add_column(headings[3])
        for k in numbers:
            style = {"better": "green", "worse": "red"}.get(comparison.rows[k].finding, "")
            table.add_row(*map(Text, lines[k]), style=style)
        parts.append(table)
    return Group(*parts, Text(), *_told_apart(result), *map(Text, _reading(result)))


def _told_apart(result: RunComparison) -> list[Text]:
    """The runs of labels that only a number tells apart, and the settings in which they differ."""
    lines = []
    for name in result.runs:
        alike = [k for k in result.runs if re.fullmatch(rf"{re.escape(name)}( #\d+)?", k)]
        experiments = {k: open_run(result.runs[k][0]).experiment for k in alike if len(alike) > 1}
        found = {k: dict(flatten(method_settings(one))) for k, one in experiments.items()}
        keys = sorted({key for settings in found.values() for key in settings})
        differ = [k for k in keys if len({repr(one.get(k)) for one in found.values()}) > 1]
        for label, settings in found.items():
            paths = ", ".join(map(str, result.runs[label]))
            lines.append(Text(f"{label}: {paths}", no_wrap=True, overflow="ignore"))
            told = [f"{k} = {json.dumps(settings[k])}" for k in differ if k in settings]
            lines.append(Text(f"  {', '.join(told)}"))
    return lines


def _group_heading(row: ComparisonRow, thresholds: tuple[int, int] | None) -> Text:
    name = "all users" if row.group == ALL else members(row.group, thresholds)
    counts = f": {row.rows:,} rows, {row.users:,} users, {row.positives:,} clicks"
    return Text.assemble((name, "bold"), counts)


def _comparison_cells(row: ComparisonRow, result: RunComparison) -> tuple[str, str, str, str]:
    name = row.configuration
    if name in result.yardsticks:
        name += " *"
    elif row.seeds > 1:
        name += f" ({row.seeds} seeds)"
    auc = number(row.auc) + (f" ± {row.auc_sd:.4f}" if row.auc_sd is not None else "")
    return name, auc, improvement(row) or "-", row.finding


def _reading(result: RunComparison) -> list[str]:
    """What stands below a comparison: what makes it worth less, and what the columns are."""
    lines = [*doubts(result), *(f"Warning: {note}." for note in result.trainings)]
    seeds = {row.configuration: row.seeds for row in result.comparison.rows}
    lines += few_seeds({name: seeds[name] for name in result.runs})
    lines += legend(result)
    lines.append(f"Protocol: {_listed(result.dataset.protocol)}.")
    return lines + [f"Note: {note}." for note in result.dataset.notes]


def evaluation_table(
    run: Run, split: str, evaluation: Evaluation | None = None, *, simulated: bool = False
) -> Group:
    """Every metric of a run on a split, a column for each group, or a line where they are many.

    Args:
        run: the run.
        split: which rows.
        evaluation: the metrics; those by the users' activity, which the run keeps, by default.
        simulated: whether the rows are known to be simulated, which the title then says.
    """
    evaluation = evaluation or Evaluation.from_json(run.metrics()[split])
    groups = evaluation.groups
    kind = ", simulated data" if simulated else ""
    title = f"{run.experiment.label}, seed {run.experiment.seed}, {split} rows{kind}"
    place = Text(str(run.path), style="dim", no_wrap=True, overflow="ignore")
    few = [
        f"{group.group} ({', '.join(lacks)})"
        for group in groups
        if (lacks := lacking(rows=group.rows, users=group.users, positives=group.positives))
    ]
    note = [Text(FLATTERED[split])] if split in FLATTERED else []
    note += [Text(f"Too little to tell: {'; '.join(few)}.")] if few else []
    note += map(Text, of_unknown(group.group for group in groups))
    return Group(Text(title, style="bold"), place, GroupTable(evaluation), *note)


def options_table(description: Description) -> Group:
    """What a part is, and its options; what all keys begin with is said once."""
    title = [Text(description.name, style="bold"), Text(description.summary), Text()]
    if not description.options:
        return Group(*title, Text("It has no options."))
    prefix = description.prefix
    keys = [option.key.removeprefix(prefix) for option in description.options]
    table = simple_table()
    # Long meanings must not break the keys.
    table.add_column("key", overflow="fold", min_width=min(max(map(len, keys)), WIDEST_KEY))
    table.add_column("type", overflow="fold", max_width=WIDEST_TYPE)
    table.add_column("default", overflow="fold", max_width=WIDEST_TYPE)
    table.add_column("meaning")
    for key, option in zip(keys, description.options, strict=True):
        table.add_row(*map(Text, (key, option.type, option.default or "required", option.meaning)))
    first = description.options[0].key
    where = f"Keys under {prefix[:-1]}, such as --set {first}=..." if prefix else ""
    return Group(*title, Text(where), table)


def parts_table(kind: str, parts: Sequence[Description]) -> Group:
    """The parts of a kind, a line each, with the papers that they are from."""
    table = simple_table()
    table.add_column(kind, no_wrap=True)
    table.add_column("what")
    table.add_column("reference", style="dim")
    for part in parts:
        table.add_row(*map(Text, (part.name, part.headline, part.reference)))
    more = f"`aqcl describe {kind} {parts[0].name}` lists the options of one."
    return Group(table, Text(more, style="dim"), Text())


def dataset_table(
    path: Path, content: Mapping[str, Any], dates: Mapping[str, tuple[str, str]]
) -> Table:
    """What a dataset directory holds, from the content of its manifest.

    Args:
        path: the directory.
        content: of its manifest.
        dates: the first and the last, of `all` rows and of each split; nothing for a log of none.
    """
    counts = content["counts"]
    low, high = content["activity_thresholds"]
    groups = ", ".join(f"{group} {click_range(group, (low, high))}" for group in GROUPS)
    facts = [
        ("dataset", f"{content['name']} in {path}"),
        *((key, f"{counts[key]:,}") for key in ("users", "items", "clicks")),
        *([("dates", f"{' to '.join(dates['all'])} (UTC)")] if dates else []),
        ("clicks per user", f"{content['mean_activity']:.2f} in training, on average"),
    ]
    for split, sizes in counts["splits"].items():
        text = f"{sizes['rows']:,} rows, {sizes['positives']:,} clicks, {sizes['users']:,} users"
        days = f", {' to '.join(dates[split])}" if dates else ""
        facts.append((split, text + days))
    facts.append(("groups", groups))
    for field in content["schema"]["fields"]:
        is_number = field["kind"] == "numeric"
        n_values = field["size"] - FIRST_ID
        size = "numeric" if is_number else f"{field['kind']}, {n_values:,} values"
        facts.append((f"{field['side']} field", f"{field['name']} ({size})"))
    facts.append(("protocol", _listed(content["protocol"])))
    if content["simulated"]:
        facts.append(("SIMULATED", "these are not observations"))
    facts += [("note", note) for note in content["notes"]]
    return _facts(facts)


def run_table(run: Run, *, simulated: bool = False) -> Group:
    """What a run directory holds: how it was trained, and every metric of what it has scored.

    Args:
        run: the run.
        simulated: whether its rows are known to be simulated.
    """
    experiment, made, facts = run.experiment, run.manifest, run.manifest.content
    settings = flatten(own_settings(experiment))
    own = [key if value == {} else f"{key} {_setting(value)}" for key, value in settings]
    measured = f"{objective_name(facts['monitor'])} {number(facts['best'])} on validation rows"
    table = _facts(
        [
            ("run", f"{experiment.label}, seed {experiment.seed}"),
            ("dataset", f"{made.source['name']} in {experiment.dataset}"),
            ("settings", f"{', '.join(own)}; all others are defaults"),
            ("trained", f"{facts['steps']:,} steps in {facts['seconds']:,.0f} s"),
            ("weights", f"of step {facts['best_step']:,}: {measured}"),
            ("versions", f"aqcl {made.package_version}, torch {facts['torch']}"),
        ]
    )
    scored = [evaluation_table(run, split, simulated=simulated) for split in run.metrics()]
    return Group(table, *(part for found in scored for part in (Text(), found)))


def _facts(facts: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in facts:
        table.add_row(Text(name, style="bold"), Text(value))
    return table


WIDEST_KEY = 28
"""Columns that the longest key of an option has for sure."""
WIDEST_TYPE = 14
"""Columns of a type or a default; the meaning, whose words must be whole, has the rest."""
N_BEST_TRIALS = 5
"""Trials of each method that a terminal shows, and the winner where it is none of them."""


def study_table(path: Path, summary: Mapping[str, Any]) -> Group:
    """The best trials of each method, what mattered, the winner's alpha, and remarks."""
    objective = summary["objective"]
    parts: list[RenderableType] = []
    for name, method in summary["methods"].items():
        counts = Counter(trial["state"] for trial in method["trials"])
        states = ", ".join(f"{count} {state}" for state, count in counts.items())
        cost = f"{method['rows']:,} training rows, {method['seconds']:,.0f} s"
        how = summary.get("method", "black-box")
        named = [name] if len(summary["methods"]) > 1 else []
        named += [how] if how != "black-box" else []
        heading = f"{', '.join(named)}: {states}" if named else states
        parts.append(Text(f"{heading}; {cost}", style="bold underline"))
        parts.append(_best_trials(method, objective, minimizes=summary["minimizes"]))
        parts += [Text(line) for line in _findings(method)]
        if method["best"] is not None:
            again = command("aqcl", "train", path / method["best"]["experiment"])
            winner = f"Winner: trial {method['best']['number']}; `{again}`."
            parts.append(Text(winner, no_wrap=True, overflow="ignore"))
        parts.append(Text())
    parts += [Text(f"Note: {note}.", style="yellow") for note in summary["notes"]]
    trained = summary.get("method", "black-box") == "black-box"
    weights = ", of the weights that train.monitor kept" if trained else ""
    last = (
        f"Study directory: {path}; objective: {objective} on validation rows{weights}. Test rows "
        "are unread."
    )
    return Group(*parts, Text(last, no_wrap=True, overflow="ignore"))


def _best_trials(method: Mapping[str, Any], objective: str, *, minimizes: bool) -> Table:
    """Those that may win first; a winner by the mean of several seeds may be none of the best."""
    sign, winner = (1 if minimizes else -1), (method["best"] or {}).get("number")
    ended = [trial for trial in method["trials"] if trial["value"] is not None]
    ranked = sorted(ended, key=lambda t: (not t["feasible"], sign * t["value"], t["number"]))
    rows = [t for k, t in enumerate(ranked) if k < N_BEST_TRIALS or t["number"] == winner]
    keys = list(method["space"])
    table = simple_table()
    table.add_column("trial", justify="right")
    table.add_column(objective_name(objective))
    for key in keys:
        table.add_column(Text(key.rpartition(".")[2]), justify="right")
    for trial in rows:
        values = trial["parameters"]
        shown = [_setting(values.get(k, "-")) for k in keys]
        mark = "" if trial["feasible"] else " *"
        style = "bold" if trial["number"] == winner else ""
        number = f"{trial['number']}{mark}"
        table.add_row(*map(Text, (number, f"{trial['value']:.5f}", *shown)), style=style)
    return table


def _setting(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_setting, value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number_text(value, 4)
    return str(value)


def _findings(method: Mapping[str, Any]) -> list[str]:
    lines = []
    if any(trial["feasible"] is False for trial in method["trials"]):
        lines.append(INFEASIBLE)
    if method["importance"]:
        shares = ", ".join(f"{key} {share:.0%}" for key, share in method["importance"].items())
        lines.append(f"Importance: {shares}; {OF_CHANCE}.")
    steps = {rung["rung"]: rung["step"] for t in method["trials"] for rung in t.get("rungs", ())}
    if steps:
        counts = Counter(rung["rung"] for t in method["trials"] for rung in t["rungs"])
        told = ", ".join(f"{counts[n]} candidates to step {step}" for n, step in steps.items())
        lines.append(f"Rungs: {told}.")
    if method.get("finalists"):
        told = "; ".join(f"trial {f['number']} {number(f['mean'], 5)}" for f in method["finalists"])
        lines.append(f"Means with other seeds too: {told}.")
    best = method["best"]
    if best is None:
        return [*lines, "No trial was trained to its end."]
    for name, values in best["alpha"].items():
        at = ", ".join(f"{value:.3f} at {where} clicks" for where, value in values.items())
        lines.append(f"Alpha of {name}: {at}.")
    if best["penalty"] is not None and best["penalty"]["inside"]:
        lines.append(f"The penalty lies inside its range, {best['penalty']['range']}.")
    return lines


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
