"""The paper's tables and figures as one HTML page."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from aqcl.comparison import finding as comparison_finding
from aqcl.comparison import restated
from aqcl.evaluate import ALL
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
from aqcl.report.write import write_figures, write_page
from aqcl.reproduce.markdown import (
    GROUPS,
    counts_beside,
    edges,
    finding,
    finished_comparisons,
    missing_latents,
    not_run_lines,
    open_claims,
    relative,
    separations,
    tuning,
    yardstick_aucs,
)
from aqcl.reproduce.pictures import comparison_key, figure_title, figures_of
from aqcl.reproduce.results_page import read_outcomes
from aqcl.reproduce.states import FINISHED, NOT_RUN, missing_cells
from aqcl.wording import NOT_AFTER_HOLM

STYLES = {"yes": "better", "no, the opposite": "worse"}


def write_paper_page(folder: Path, out: Path, figures: Path | None = None) -> list[Path]:
    """Write the page of all outcomes in a directory, and its figures on their own if asked for."""
    outcomes = read_outcomes(folder)
    write_page(out, paper_page(outcomes))
    if figures is None:
        return []
    drawn = {name: made for outcome in outcomes for name, made in figures_of(outcome).items()}
    return write_figures(drawn, figures)


def holds_outcomes(folder: Path) -> bool:
    """Whether a directory is the `outcome` of `aqcl reproduce`."""
    return folder.is_dir() and bool(read_outcomes(folder))


def paper_page(outcomes: Sequence[Mapping[str, Any]]) -> str:
    """The page, from outcomes as `gather` made them."""
    sections = [Section("Claims of the paper", "claims", _explained(_claims(outcomes)))]
    warnings = []
    if any(outcome["quick"] for outcome in outcomes):
        warnings.append("A quick look at small data: nothing may be concluded from it.")
    for outcome in outcomes:
        drawn = figures_of(outcome)
        sections.append(Section(outcome["title"], outcome["name"], _body(outcome, drawn)))
        for facts in outcome["datasets"].values():
            if facts["note"]:
                warnings.append(f"{facts['title']}: {facts['note']}.")
        warnings += edges(outcome)
    subtitle = "Ours beside the paper's, arXiv 2109.13921"
    return render_page(
        "The paper's tables and figures", subtitle, sections, dict.fromkeys(warnings)
    )


def _explained(body: str) -> str:
    """Tables, and what it means that something is said to be "not after Holm" there."""
    return body + paragraph(NOT_AFTER_HOLM) if "not after Holm" in body else body


def _claims(outcomes: Sequence[Mapping[str, Any]]) -> str:
    found = [
        (outcome["datasets"][comparison["dataset"]]["title"], comparison["title"], claim)
        for outcome in outcomes
        for comparison in outcome["comparisons"]
        for claim in comparison["claims"]
        if claim["verdict"] != NOT_RUN
    ]
    reach = _reach(claim for _, _, claim in found)
    rows = []
    for title, setting, claim in found:
        style = STYLES.get(finding(claim), "")
        printed = claim["paper_rela_impr"]
        rows.append(
            [
                Cell(claim["text"], under=finding(claim)),
                Cell(title),
                Cell(setting),
                _bar(claim, reach, style),
                _relative(claim),
                Cell("", "") if printed is None else Cell(f"{printed:+.2f}%", printed),
                Cell(finding(claim), style=style),
            ]
        )
    headings = ["Claim", "Data", "Setting", "Difference of AUC", "#Ours", "#The paper's", "Holds"]
    caption = f"{_bars(reach)}; ours and the paper's: RelaImpr, ours with its 95% interval"
    shown = table(headings, rows, caption) if rows else ""
    left = open_claims(outcomes)
    return shown + (paragraph(left) if left else "")


def _reach(rows: Iterable[Mapping[str, Any]]) -> float:
    return reach_of((row["verdict"], row["difference_low"], row["difference_high"]) for row in rows)


def _bars(reach: float) -> str:
    return (
        f"Bars: the difference of AUC with its 95% interval, from {-reach:+.3f} to {reach:+.3f}, "
        "longer ones end in an arrow"
    )


def _bar(row: Mapping[str, Any], reach: float, style: str) -> Cell:
    ends = (row["difference"], row["difference_low"], row["difference_high"])
    return interval_bar(*ends, reach, style)


def _relative(row: Mapping[str, Any]) -> Cell:
    """Sorted by the difference of AUC, in which an improvement on chance is told."""
    difference = row["difference"]
    return Cell("", "") if difference is None else Cell(relative(row), difference)


def _body(outcome: Mapping[str, Any], drawn: Mapping[str, Figure]) -> str:
    parts = [paragraph(f"The paper: {outcome['paper_says']}")] if outcome["paper_says"] else []
    if outcome["kind"] == "counts":
        parts.append(_counts(outcome["datasets"]))
    parts.append(_latents(outcome))
    ids = {comparison_key(c, outcome): c for c in finished_comparisons(outcome)}
    for name in (name for name in drawn if name not in ids):
        title = figure_title(name, outcome)
        parts.append(figure(drawn[name], name, title, title))
    for name, comparison in ids.items():
        title = outcome["datasets"][comparison["dataset"]]["title"]
        parts.append(f"<h3>{text(title)}: {text(comparison['title'])}</h3>")
        parts.append(_comparison(comparison, outcome["seeds"]))
        if name in drawn:
            caption = "AUC with 95% intervals; the line is the base"
            parts.append(figure(drawn[name], name, caption, caption))
    parts = [_explained("".join(parts))]
    not_run = not_run_lines(outcome)
    parts += ["<h3>Not run</h3>", _list(not_run)] if not_run else []
    missing = [f for f in outcome["datasets"].values() if "missing" in f]
    parts += [paragraph(f"{f['title']}: {NOT_RUN}: {f['missing']}") for f in missing]
    parts += ["<h3>Tuning</h3>"] if outcome["studies"] else []
    for head, lines in tuning(outcome).items():
        parts += [paragraph(head), _list(lines)]
    return "".join(parts)


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>"


def _latents(outcome: Mapping[str, Any]) -> str:
    """How well interests separate latents, and own clusters; and why some have no latents."""
    missing = "".join(map(paragraph, missing_latents(outcome)))
    rows = [
        [
            *(Cell(words) for words in (title, name, how)),
            *(number(one[key], 3) for key in ("silhouette", "purity", "chance")),
        ]
        for title, name, how, one in separations(outcome)
    ]
    if not rows:
        return missing
    headings = [
        "Data", "Latents of", "Divided", "#Silhouette", "#Neighbours alike", "#By chance",
    ]  # fmt: skip
    return table(headings, rows, "How well interests separate validation rows") + missing


def _counts(datasets: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [Cell(facts["title"]), *(Cell(known, ours) for known, ours in counts_beside(facts))]
        for facts in datasets.values()
    ]
    return table(["Data", "#Users", "#Items", "#Samples"], rows, "Ours, the paper's in brackets")


def _users(group: str) -> str:
    return "all users" if group == ALL else group


def _comparison(comparison: Mapping[str, Any], seeds: int) -> str:
    found = comparison["comparison"]["rows"]
    groups = list(dict.fromkeys(row["group"] for row in found))
    reach = _reach(row for row in found if row["verdict"] != "base")
    rows = []
    for label, state in comparison["cells"].items():
        for k, group in enumerate(groups):
            if state != FINISHED:
                break
            row = next(r for r in found if (r["configuration"], r["group"]) == (label, group))
            single = row.get("single", False)
            shown = comparison_finding(row["verdict"], row["holm"], single=single)
            style = shown if shown in ("better", "worse") else ""
            paper = comparison["paper"].get(label, [])[k : k + 1]
            held = [_bar(row, reach, style), _relative(row)]
            rows.append(
                [
                    Cell(label, under=shown),
                    Cell(_users(group)),
                    number(row["auc"]),
                    number(row["auc_sd"]),
                    number(paper[0] if paper else None),
                    *(held if row["verdict"] != "base" else [Cell("", "")] * 2),
                    Cell(shown, style=style),
                ]
            )
    for name, aucs in yardstick_aucs(comparison).items():
        for group, auc in zip(GROUPS, aucs, strict=True):
            users = Cell(_users(group))
            rows.append([Cell(f"{name}, not trained"), users, number(auc), *[Cell("", "")] * 5])
    missing = [f"{label}: {state}" for label, state in missing_cells(comparison).items()]
    headings = [
        "Method",
        "Users",
        "#AUC",
        "#± sd",
        "#Paper's AUC",
        "Difference",
        "#RelaImpr",
        "Verdict",
    ]
    caption = (
        f"Mean of {seeds} seeds, against {comparison['base']}, RelaImpr with its 95% interval. "
        f"{_bars(reach)}.{restated(comparison['comparison'])}"
    )
    return table(headings, rows, caption) + (paragraph("; ".join(missing)) if missing else "")
