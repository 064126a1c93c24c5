"""The paper's tables and figures as one HTML page."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from aqcl.comparison import TOO_LITTLE, restated
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
    SEPARATION,
    counts_beside,
    edges,
    finished_comparisons,
    missing_latents,
    not_run_lines,
    separations,
    tuning,
    yardstick_aucs,
)
from aqcl.reproduce.pictures import comparison_key, figure_caption, figure_title, figures_of
from aqcl.reproduce.provenance import made_by, rows_told
from aqcl.reproduce.results_page import read_outcomes
from aqcl.reproduce.states import NOT_RUN, finished_cells, missing_cells
from aqcl.reproduce.verdicts import (
    KINDS,
    OTHER_BASES,
    Judged,
    finding,
    has_other_bases,
    in_short,
    judged_claims,
    open_claims,
    relative,
    row_finding,
)
from aqcl.wording import NOT_AFTER_HOLM

STYLES = {"yes": "better", "no, the opposite": "worse"}
CLAIMS_REACH: Final = 0.9
"""Quantile of the intervals' far ends that bars of claims reach, lest an outlier hides the rest."""


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
    sections = [
        Section("Claims of the paper", "claims", _claims(outcomes, papers=True)),
        Section("Claims of our controls", "controls", _claims(outcomes, papers=False)),
    ]
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


def _claims(outcomes: Sequence[Mapping[str, Any]], *, papers: bool) -> str:
    """The claims of the paper, or those of our controls, for which the paper has no numbers."""
    found = judged_claims(outcomes, papers=papers)
    left = open_claims(outcomes, papers=papers)
    parts = [_claims_table(found, papers=papers)] if found else []
    if has_other_bases(judged.comparison for judged in found):
        parts.append(paragraph(OTHER_BASES))
    parts = [_explained("".join(parts))]
    return "".join([*parts, paragraph(left)] if left else parts)


def _claims_table(found: Sequence[Judged], *, papers: bool) -> str:
    reach = _claims_reach(judged.claim for judged in found)
    rows = []
    for judged in found:
        claim, shown = judged.claim, finding(judged.claim)
        style, printed = STYLES.get(shown, ""), claim["paper_rela_impr"]
        paper = Cell("", "") if printed is None else Cell(f"{printed:+.2f}%", printed)
        rows.append(
            [
                Cell(claim["text"], under=f"{judged.data}: {shown}"),
                Cell(judged.data),
                _bar(claim, reach, style),
                _relative(claim),
                *([paper] if papers else []),
                Cell(shown, style=style),
                _setting(judged),
            ]
        )
    headings = ["Claim", "Data", "Difference of AUC", "#Ours"]
    headings += [*(["#The paper's"] if papers else []), "Holds", "Setting"]
    both = "ours and the paper's: RelaImpr, ours" if papers else "ours: RelaImpr"
    kind = KINDS[papers]
    kind = kind[0].upper() + kind[1:]
    caption = f"{kind}. {_bars(reach)}; {both} with its 95% interval"
    return table(headings, rows, caption, aside=("Data",))


def _setting(judged: Judged) -> Cell:
    """What was compared, with a link to where it is told in full."""
    title = judged.comparison["title"]
    if judged.comparison["comparison"] is None:
        return Cell(title)
    return Cell(title, markup=_link(judged.comparison, judged.outcome, title))


def _link(comparison: Mapping[str, Any], outcome: Mapping[str, Any], words: str) -> str:
    return f'<a href="#{text(comparison_key(comparison, outcome))}">{text(words)}</a>'


def _claims_reach(claims: Iterable[Mapping[str, Any]]) -> float:
    """What half the width of bars of claims stands for; an interval beyond it has an arrow."""
    ends = [
        max(-claim["difference_low"], claim["difference_high"])
        for claim in claims
        if claim["difference_low"] is not None and claim["verdict"] != TOO_LITTLE
    ]
    return float(np.quantile(ends, CLAIMS_REACH)) if ends else 0.0


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
    finished = finished_comparisons(outcome)
    ids = {comparison_key(comparison, outcome) for comparison in finished}
    for name in (name for name in drawn if name not in ids):
        parts.append(_figure(drawn, name, outcome))
    parts.append(_contents(finished, outcome))
    parts += [_part(comparison, outcome, drawn) for comparison in finished]
    parts = [_explained("".join(parts))]
    not_run = not_run_lines(outcome)
    parts += ["<h3>Not run</h3>", _list(not_run)] if not_run else []
    missing = [f for f in outcome["datasets"].values() if "missing" in f]
    parts += [paragraph(f"{f['title']}: {NOT_RUN}: {f['missing']}") for f in missing]
    parts += ["<h3>Tuning</h3>"] if outcome["studies"] else []
    for head, lines in tuning(outcome).items():
        parts += [paragraph(head), _list(lines)]
    return "".join([*parts, paragraph(made_by(outcome))])


def _figure(drawn: Mapping[str, Figure], name: str, outcome: Mapping[str, Any]) -> str:
    return figure(drawn[name], name, figure_caption(name, outcome), alt=figure_title(name, outcome))


def _contents(finished: Sequence[Mapping[str, Any]], outcome: Mapping[str, Any]) -> str:
    """Links to the comparisons of a table; nothing where there are fewer than two."""
    if len(finished) < 2:
        return ""
    links = [
        f"<li>{_link(comparison, outcome, _title(comparison, outcome))}</li>"
        for comparison in finished
    ]
    return (
        f'<nav aria-label="Comparisons of {text(outcome["title"])}"><ul>{"".join(links)}</ul></nav>'
    )


def _title(comparison: Mapping[str, Any], outcome: Mapping[str, Any]) -> str:
    return f"{outcome['datasets'][comparison['dataset']]['title']}: {comparison['title']}"


def _part(
    comparison: Mapping[str, Any], outcome: Mapping[str, Any], drawn: Mapping[str, Figure]
) -> str:
    """A comparison: figure, what is missing, and the numbers behind a line that sums them up."""
    name, title = comparison_key(comparison, outcome), _title(comparison, outcome)
    missing = [f"{label}: {state}" for label, state in missing_cells(comparison).items()]
    return "".join(
        [
            f'<h3 id="{text(name)}">{text(title)}</h3>',
            _figure(drawn, name, outcome) if name in drawn else "",
            paragraph("; ".join(missing)) if missing else "",
            f"<details><summary>{text(title)}: {text(in_short(comparison))}</summary>",
            _comparison(comparison, outcome["seeds"], title),
            paragraph(rows_told(comparison, outcome)),
            _yardsticks(comparison, title),
            "</details>",
        ]
    )


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
    separated = table(headings, rows, "How well interests separate validation rows")
    return separated + paragraph(SEPARATION) + missing


def _counts(datasets: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [Cell(title), *(Cell(known, ours) for known, ours in counts)]
        for title, counts in counts_beside(datasets)
    ]
    return table(["Data", "#Users", "#Items", "#Samples"], rows, "Ours, the paper's in brackets")


def _users(group: str) -> str:
    return "all users" if group == ALL else group


def _comparison(comparison: Mapping[str, Any], seeds: int, title: str) -> str:
    found = comparison["comparison"]["rows"]
    groups = list(dict.fromkeys(row["group"] for row in found))
    finished = finished_cells(comparison)
    printed = any(comparison["paper"].get(label) for label in finished)
    reach = _reach(row for row in found if row["verdict"] != "base")
    rows = []
    for label in finished:
        for k, group in enumerate(groups):
            row = next(r for r in found if (r["configuration"], r["group"]) == (label, group))
            shown = row_finding(row)
            style = shown if shown in ("better", "worse") else ""
            paper = comparison["paper"].get(label, [])[k : k + 1]
            held = [_bar(row, reach, style), _relative(row)]
            rows.append(
                [
                    Cell(label, under=f"{_users(group)}: {shown}"),
                    Cell(_users(group)),
                    number(row["auc"]),
                    number(row["auc_sd"]),
                    *([number(paper[0] if paper else None)] if printed else []),
                    *(held if row["verdict"] != "base" else [Cell("", "")] * 2),
                    Cell(shown, style=style),
                ]
            )
    headings = ["Method", "Users", "#AUC", "#± sd"]
    headings += ["#Paper's AUC"] if printed else []
    headings += ["Difference", "#RelaImpr", "Verdict"]
    caption = (
        f"{title}. Mean of {seeds} seeds, against {comparison['base']}, RelaImpr with its 95% "
        "interval. "
        f"{_bars(reach)}.{restated(comparison['comparison'])}"
    )
    return table(headings, rows, caption, aside=("Users", "#± sd"))


def _yardsticks(comparison: Mapping[str, Any], title: str) -> str:
    """What counting alone reaches on the same rows, a row for each way of it."""
    rows = [[Cell(name), *map(number, aucs)] for name, aucs in yardstick_aucs(comparison).items()]
    headings = ["Not trained", *(f"#{_users(group)}" for group in GROUPS)]
    caption = f"{title}. AUC of what needs no training, on the same rows"
    return table(headings, rows, caption) if rows else ""
