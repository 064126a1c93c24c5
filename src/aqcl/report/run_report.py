"""A report of runs: how they compare, for whom, and what they were."""

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from aqcl.activity import GROUPS
from aqcl.assessment import RunComparison, compare_runs, dataset_of
from aqcl.comparison import TOO_LITTLE, Comparison, ComparisonRow, lacking
from aqcl.dataset import Dataset
from aqcl.evaluate import ALL, Evaluation, auc_by_activity, evaluate
from aqcl.group_table import members
from aqcl.report.alpha_section import alpha_body
from aqcl.report.charts import (
    activity_edges,
    by_activity_figure,
    calibration_figure,
    curves_figure,
    cut_sentence,
)
from aqcl.report.interest_section import codebooks_of, collapsed, interests_body
from aqcl.report.methods_section import compared_body, settings_body
from aqcl.report.page import (
    Cell,
    Section,
    figure,
    interval_bar,
    number,
    paragraph,
    reach_of,
    render_page,
    table,
    text,
)
from aqcl.row_groups import USER_ACTIVITY, check_by, groups_by
from aqcl.runs import Run, open_run
from aqcl.splits import SplitName
from aqcl.wording import (
    below_lines,
    dataset_name,
    doubts,
    few_seeds,
    improvement,
    legend,
    resampled,
)

CURVE_REPLICATES = 200
"""Resamples of the users behind each curve over the clicks."""

MOST_NAMED = 4
"""Methods that a title names."""


@dataclass(frozen=True)
class Report:
    """A page, and its figures on their own."""

    html: str
    figures: dict[str, Figure]


def report_runs(
    paths: Sequence[Path],
    split: SplitName = "test",
    base: str | None = None,
    replicates: int = 1000,
    dataset: Dataset | None = None,
    by: Sequence[str] = (),
) -> Report:
    """The report of runs on one dataset; those that differ only by seed are one method.

    Args:
        paths: run directories.
        split: which rows; those not scored yet are scored.
        base: label of the method that the others are held against; the first by default.
        replicates: resamples of the users, 100 or more.
        dataset: of the runs, if it is open already or has moved.
        by: what rows are grouped by besides the users' activity, a section each: `item-activity` or
            the name of a field.

    Raises:
        ConfigError: no run, none is called `base`, or the dataset has no such field.
        DataError: the runs were trained on different datasets.
        StorageError: a run or its dataset is missing, damaged, or not the one it was trained on.
    """
    more = [name for name in dict.fromkeys(by) if name != USER_ACTIVITY]
    for name in more:
        check_by(name, dataset_of(open_run(paths[0]), dataset))
    result = compare_runs(paths, split, base, replicates, dataset=dataset)
    runs = {name: [open_run(path) for path in found] for name, found in result.runs.items()}
    books = codebooks_of(result.dataset, runs)
    figures: dict[str, Figure] = {}
    sections = [
        Section("What was compared", "compared", compared_body(result, runs)),
        Section("Results by activity", "results", _results(result, runs)),
        *(
            Section(
                f"Results by {name}",
                f"results-{number}",
                _results_by(
                    name, compare_runs(paths, split, base, replicates, name, dataset), result
                ),
            )
            for number, name in enumerate(more, start=1)
        ),
        Section("By number of clicks", "clicks", _by_activity(result, runs, figures)),
        Section("Training", "training", _training(runs, figures)),
        Section("Calibration", "calibration", _calibration(result, figures)),
        Section("Alpha and codebook", "alpha", alpha_body(result.dataset, runs, figures)),
        Section(
            "Interests and what drives scores",
            "interests",
            interests_body(result.dataset, runs, books, figures),
        ),
        Section("Settings", "settings", settings_body(runs)),
    ]
    title = title_of(runs, result.dataset.name)
    warnings = [*_warnings(result, runs), *collapsed(books)]
    return Report(render_page(title, _subtitle(result), sections, warnings), figures)


def _subtitle(result: RunComparison) -> str:
    return f"{dataset_name(result.dataset)}, {result.split} rows, against {result.comparison.base}"


def title_of(methods: Collection[str], dataset: str) -> str:
    """The names of the methods; of many, how many they are, lest the title fills the page."""
    if len(methods) > MOST_NAMED:
        return f"{len(methods)} methods on {dataset}"
    return ", ".join(methods)


def _warnings(result: RunComparison, runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """What makes the numbers worth less than they look."""
    lines = []
    if result.dataset.simulated:
        lines.append("The data is simulated: it says nothing about real users.")
    lines += [f"{note}." for note in result.trainings]
    lines += doubts(result)
    seeds = {name: len(found) for name, found in runs.items()}
    lines += few_seeds(seeds)
    if len(set(seeds.values())) > 1:
        lines.append("The methods have different numbers of seeds.")
    # Yardsticks too: of a single method, the base, no other row is judged.
    small = {row.group: row for row in result.comparison.rows if row.verdict == TOO_LITTLE}
    lines += [
        f"Too little to tell in the group {group}: {_lacking(row)}." for group, row in small.items()
    ]
    return lines


def _lacking(row: ComparisonRow) -> str:
    """Why nothing can be told of a group.

    Args:
        row: one of the group, with the verdict that it is too small.
    """
    lacks = lacking(rows=row.rows, users=row.users, positives=row.positives)
    return ", ".join(lacks) or "AUC without an interval"


def _results(result: RunComparison, runs: Mapping[str, Sequence[Run]]) -> str:
    """A table for each group; differences as bars on one scale."""
    comparison = result.comparison
    reach = _reach(comparison.rows, runs)
    measures = {
        name: [Evaluation.from_json(run.metrics()[result.split]) for run in found]
        for name, found in runs.items()
    }
    facts = (
        f"Mean over the seeds. Difference and RelaImpr are against {comparison.base}; bars reach "
        f"from {-reach:+.3f} to {reach:+.3f} AUC in all tables; longer ones end in an arrow."
    )
    return paragraph(facts) + _listed(legend(result)) + _group_tables(comparison, measures, reach)


def _results_by(by: str, result: RunComparison, main: RunComparison) -> str:
    """Tables of other groups of rows; what the main ones tell already is not told again."""
    compared = result.predictions
    first = compared[result.comparison.base][0]
    thresholds, masks = groups_by(by, first, result.dataset, result.split)
    measures = {
        name: [evaluate(found, thresholds, 0, masks=masks) for found in compared[name]]
        for name in result.runs
    }
    rows = tuple(row for row in result.comparison.rows if row.group != ALL)
    reach = _reach(rows, result.runs)
    facts = f"As above; bars reach from {-reach:+.3f} to {reach:+.3f} AUC here."
    others = replace(result, comparison=replace(result.comparison, rows=rows))
    told = legend(main)
    # Other doubts are of all users, and stand on top of the page.
    new = below_lines(others) + [line for line in legend(others) if line not in told]
    return paragraph(facts) + _listed(new) + _group_tables(others.comparison, measures, reach)


def _listed(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if lines else ""


def _group_tables(
    comparison: Comparison, measures: Mapping[str, Sequence[Evaluation]], reach: float
) -> str:
    """A table for each group."""
    headings = ["Method", "#AUC", "#±\N{NO-BREAK SPACE}sd", "Difference", "#RelaImpr"]
    # GAUC is of whole users: groups of their rows have none.
    measured = [group for found in measures.values() for one in found for group in one.groups]
    shown = {row.group for row in comparison.rows}
    has_gauc = any(one.gauc is not None for one in measured if one.group in shown)
    headings += ["#GAUC"] if has_gauc else []
    headings += ["#Logloss", "Verdict"]
    parts = []
    for group in dict.fromkeys(row.group for row in comparison.rows):
        rows = [row for row in comparison.rows if row.group == group]
        title = "All users" if group == ALL else members(group, comparison.thresholds)
        if group in GROUPS:
            title = f"{group} users"
        head = rows[0]
        parts.append(f"<h3>{text(title[0].upper() + title[1:])}</h3>")
        caption = f"{head.rows:,} rows, {head.users:,} users, {head.positives:,} clicks"
        caption += next(
            (f"; too little to tell: {_lacking(row)}" for row in rows if row.verdict == TOO_LITTLE),
            "",
        )
        cells = [
            _result_row(row, measures.get(row.configuration), reach, has_gauc=has_gauc)
            for row in rows
        ]
        parts.append(table(headings, cells, caption))
    return "".join(parts)


def _reach(rows: Sequence[ComparisonRow], trained: Container[str]) -> float:
    """What half a bar stands for: the farthest end of an interval of the trained methods.

    Where the base alone was trained, that of the yardsticks, which else would widen the scale.
    """
    others = [row for row in rows if row.verdict != "base"]
    shown = [row for row in others if row.configuration in trained] or others
    return reach_of((row.verdict, row.difference_low, row.difference_high) for row in shown)


def _result_row(
    row: ComparisonRow,
    evaluations: Sequence[Evaluation] | None,
    reach: float,
    *,
    has_gauc: bool = True,
) -> list[Cell | str]:
    style = row.finding if row.finding in ("better", "worse") else ""
    name = row.configuration if evaluations else f"{row.configuration} *"
    bar = Cell("", "")
    if row.verdict != "base":
        bar = interval_bar(row.difference, row.difference_low, row.difference_high, reach, style)
    found = [e[row.group] for e in evaluations or ()]
    shown = improvement(row)
    return [
        Cell(name, under=row.finding),
        number(row.auc),
        number(row.auc_sd),
        bar,
        # By the difference, so that rows sort alike in percent and in AUC.
        Cell(shown, row.difference if shown else ""),
        *([number(_mean([group.gauc for group in found]))] if has_gauc else []),
        number(_mean([group.logloss for group in found])),
        Cell(row.finding, style=style),
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _by_activity(
    result: RunComparison, runs: Mapping[str, Sequence[Run]], figures: dict[str, Figure]
) -> str:
    predictions = result.predictions
    edges = activity_edges(predictions[result.comparison.base][0])
    curves = {name: auc_by_activity(predictions[name], edges, CURVE_REPLICATES) for name in runs}
    # Their intervals are not shown.
    yardsticks = {name: auc_by_activity(predictions[name], edges, 2) for name in result.yardsticks}
    figures["auc-by-clicks"] = drawn = by_activity_figure(curves, yardsticks)
    ends = {n: (c[0].auc, c[-1].auc) for n, c in curves.items()}
    alt = "; ".join(
        f"{name}: AUC {low:.3f} for the fewest clicks, {high:.3f} for the most"
        for name, (low, high) in ends.items()
        if low is not None and high is not None
    )
    sentences = [
        "AUC of the rows whose user had so many clicks before; mean over the seeds, with 95% "
        f"intervals of {CURVE_REPLICATES} resamples of the {resampled(result.comparison)}.",
        "Dotted: not trained." if yardsticks else "",
        cut_sentence(curves, yardsticks),
        "All rows are one part: two would not have as much each as a verdict needs."
        if len(edges) == 1
        else "",
    ]
    return figure(drawn, "clicks", " ".join(filter(None, sentences)), alt)


def _training(runs: Mapping[str, Sequence[Run]], figures: dict[str, Figure]) -> str:
    parts = []
    measures = (("valid_auc", "validation AUC"), ("valid_logloss", "validation logloss"))
    for key, label in measures:
        curves = {
            name: {
                str(run.path): [
                    (line["rows"], line[key]) for line in run.log() if line.get(key) is not None
                ]
                for run in found
            }
            for name, found in runs.items()
        }
        if not any(points for run in curves.values() for points in run.values()):
            continue
        figures[key.replace("_", "-")] = drawn = curves_figure(curves, "training rows", label)
        caption = f"{label} during training, a line for each seed"
        parts.append(figure(drawn, key, caption, caption))
    return "".join(parts)


def _calibration(result: RunComparison, figures: dict[str, Figure]) -> str:
    trained = {name: result.predictions[name] for name in result.runs}
    figures["calibration"] = drawn = calibration_figure(trained)
    caption = (
        "Ten parts of equally many rows, by prediction; mean over the seeds. On the dotted line "
        "predictions are the share of clicks. Labels with drawn negatives are calibrated to the "
        "drawing, not to a live feed."
    )
    return figure(drawn, "calibration", caption, "Predicted against observed share of clicks")
