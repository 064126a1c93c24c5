"""A report of a study: what was searched, what was found, what it took."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from aqcl.config import read_toml
from aqcl.dataset import open_dataset
from aqcl.errors import AqclError, StorageError
from aqcl.experiment import resolve
from aqcl.figures import best_so_far_figure, importance_figure
from aqcl.report.alpha_section import drawn_alpha
from aqcl.report.page import Cell, Section, figure, number, paragraph, render_page, table, text
from aqcl.report.run_report import Report, title_of
from aqcl.search.alpha_figures import alpha_search_figures
from aqcl.search.files import STUDY, read_findings, value_of_winner
from aqcl.search.plan import plan_search
from aqcl.search.summary import with_learned_alpha
from aqcl.search.trials import objective_name
from aqcl.storage import Manifest
from aqcl.wording import INFEASIBLE, OF_CHANCE

FAILED: Final = "fail"
"""How a study calls the state of a trial that ended in an error."""
STATES: Final[Mapping[str, str]] = {FAILED: "failed"}
"""What a page calls states that it does not call as a study does."""


def report_study(path: Path) -> Report:
    """The report of a finished study.

    Raises:
        StorageError: it is missing, damaged or not finished.
    """
    manifest, summary = read_findings(path)
    figures: dict[str, Figure] = {}
    objective = objective_name(summary["objective"])
    sections = [
        Section("What was searched", "searched", _searched(summary)),
        Section("Best so far", "best", _best(path, summary, objective, figures)),
        Section("Alpha", "alpha", _alphas(path, manifest, summary, figures)),
        Section("Importance", "importance", _importances(summary, figures)),
        Section("Trials", "trials", _trials(summary)),
    ]
    title = f"Search of {title_of(summary['methods'], summary['dataset']['name'])}"
    subtitle = f"Study on {summary['dataset']['name']}: the best validation {objective}"
    warnings = [*summary["notes"], *_failures(summary)]
    if summary["dataset"]["simulated"]:
        warnings.append("The data is simulated: it says nothing about real users.")
    return Report(render_page(title, subtitle, sections, warnings), figures)


def _failures(summary: Mapping[str, Any]) -> list[str]:
    """A line for each method of which trials failed."""
    lines = []
    for name, method in summary["methods"].items():
        trials = method["trials"]
        failed = sum(trial["state"] == FAILED for trial in trials)
        if failed:
            lines.append(
                f"{failed} of {len(trials)} trials of {name} failed; why is told below its trials."
            )
    return lines


def _searched(summary: Mapping[str, Any]) -> str:
    rows = []
    for name, method in summary["methods"].items():
        best = method["best"]
        value, seeds = value_of_winner(best, method.get("finalists", ())) if best else (None, 0)
        space = "; ".join(f"{key}: {found}" for key, found in method["space"].items())
        found = (
            "; ".join(f"{k} = {_shown(v)}" for k, v in best["parameters"].items()) if best else ""
        )
        rows.append(
            [
                Cell(name),
                Cell(str(len(method["trials"])), len(method["trials"])),
                number(value),
                Cell(str(seeds), seeds),
                Cell(found),
                Cell(space),
                Cell(f"{method['rows']:,}", method["rows"]),
                Cell(f"{method['seconds']:,.0f}", method["seconds"]),
            ]
        )
    facts = (
        f"{summary['trials']} trials of each method, sampler {summary['sampler']}, pruning "
        f"{summary['pruning']}, seed {summary['seed']}; {summary['rows']:,} training rows and "
        f"{summary['seconds']:,.0f} seconds of training in all. Test rows were not opened."
    )
    headings = ["Method", "#Trials", "#Best", "#Seeds", "Found", "Searched", "#Rows", "#Seconds"]
    caption = "Winners, the mean of their seeds, their ranges, and what they took"
    return paragraph(facts) + table(headings, rows, caption)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _best(
    path: Path, summary: Mapping[str, Any], objective: str, figures: dict[str, Figure]
) -> str:
    how = summary.get("method", "black-box")
    if how != "black-box":
        best, course = alpha_search_figures(plan_search(read_toml(path / STUDY)), summary)
        captions = {
            "best-so-far": "The best value so far",
            "course": "What each candidate reached at each rung"
            if how == "halving"
            else "How alpha moved while the model trained",
        }
        figures |= {"best-so-far": best, "course": course}
        return "".join(figure(figures[key], key, told, told) for key, told in captions.items())
    curves = {name: method["best_so_far"] for name, method in summary["methods"].items()}
    figures["best-so-far"] = drawn = best_so_far_figure(curves, f"validation {objective}")
    caption = "The best value after each trial"
    for name, method in summary["methods"].items():
        curve = method["best_so_far"]
        empty = next((k for k, value in enumerate(curve) if value is not None), len(curve))
        if empty:
            ends = Counter(map(_end_of, method["trials"][:empty]))
            told = ", ".join(f"{count} {end}" for end, count in ends.items())
            caption += f". No value from the first {empty} trials of {name}: {told}"
    return figure(drawn, "best", caption, caption)


def _end_of(trial: Mapping[str, Any]) -> str:
    """How a trial ended, in a word; or why it cannot win."""
    state = str(trial["state"])
    return "out of bounds" if trial["feasible"] is False else STATES.get(state, state)


def _alphas(
    path: Path, manifest: Manifest, summary: Mapping[str, Any], figures: dict[str, Figure]
) -> str:
    """Alpha of each winner that has one, over the activity of the training users."""
    try:
        dataset = open_dataset(Path(summary["dataset"]["path"]), closed=("test",))
    except AqclError as error:
        return paragraph(f"The dataset of the study is not there any more: {error}")
    if dataset.manifest.fingerprint != manifest.source["dataset"]:
        return paragraph(
            "The dataset of the study is not there any more: another is in its place (its "
            "fingerprint differs), so alpha is not drawn over its users."
        )
    parts: list[str] = []
    for k, (name, method) in enumerate(summary["methods"].items()):
        if not method["best"]:
            continue
        winner = resolve(read_toml(path / method["best"]["experiment"]))
        try:
            winner = with_learned_alpha(winner, path / method["best"]["run"])
        except StorageError as error:
            parts.append(paragraph(f"Alpha of {name} is not drawn: {error}"))
            continue
        parts.append(drawn_alpha(name, f"alpha-{k}", winner, dataset, figures))
    return "".join(parts)


def _importances(summary: Mapping[str, Any], figures: dict[str, Figure]) -> str:
    parts = []
    for k, (name, method) in enumerate(summary["methods"].items()):
        if method.get("importance"):
            figures[f"importance-{k}"] = drawn = importance_figure(method["importance"])
            alt = "; ".join(f"{key} {share:.0%}" for key, share in method["importance"].items())
            parts.append(figure(drawn, f"importance-{k}", name, alt))
    if parts:
        told = "Share of each setting in what tells the better half of the trials from all"
        parts.append(paragraph(f"{told}; {OF_CHANCE}."))
    return "".join(parts)


def _finalists(name: str, method: Mapping[str, Any]) -> str:
    rows = [
        [
            Cell(str(finalist["number"]), finalist["number"]),
            number(finalist["mean"]),
            *(number(value) for value in finalist["values"]),
        ]
        for finalist in method["finalists"]
    ]
    others = range(1, len(method["finalists"][0]["values"]))
    headings = ["#Trial", "#Mean", "#Value", *(f"#Repeat {k}" for k in others)]
    return table(headings, rows, f"Finalists of {name}, trained again with other seeds")


def _trials(summary: Mapping[str, Any]) -> str:
    parts: list[str] = []
    for name, method in summary["methods"].items():
        keys = list(dict.fromkeys(k for trial in method["trials"] for k in trial["parameters"]))
        rows = []
        for trial in method["trials"]:
            mark = " *" if trial["feasible"] is False else ""
            parameters = [trial["parameters"].get(key) for key in keys]
            rows.append(
                [
                    Cell(f"{trial['number']}{mark}", trial["number"]),
                    Cell(STATES.get(trial["state"], trial["state"])),
                    number(trial["value"]),
                    *(
                        Cell(_shown(p), p if isinstance(p, int | float) else None)
                        for p in ("" if p is None else p for p in parameters)
                    ),
                    Cell(f"{trial['rows']:,}", trial["rows"]),
                    Cell(f"{trial['seconds']:,.0f}", trial["seconds"]),
                ]
            )
        headings = ["#Trial", "State", "#Value", *(f"#{key}" for key in keys), "#Rows", "#Seconds"]
        parts.append(f"<h3>{text(name)}</h3>" + table(headings, rows, f"Trials of {name}"))
        if any(trial["feasible"] is False for trial in method["trials"]):
            parts.append(paragraph(f"{INFEASIBLE}; such a trial cannot win."))
        for error in dict.fromkeys(t["error"] for t in method["trials"] if t["error"]):
            failed = [str(t["number"]) for t in method["trials"] if t["error"] == error]
            parts.append(paragraph(f"Why trial {', '.join(failed)} failed: {error}"))
        if method.get("finalists"):
            parts.append(_finalists(name, method))
    return "".join(parts)
