"""Outcomes as Markdown: the paper's numbers beside ours, and whether its claims hold."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from aqcl.comparison import restated
from aqcl.evaluate import ALL
from aqcl.latents import NEIGHBOURS
from aqcl.reproduce.pictures import comparison_key, figure_caption, figure_title
from aqcl.reproduce.provenance import made_by, rows_told
from aqcl.reproduce.states import FINISHED, NOT_RUN, finished_cells
from aqcl.reproduce.verdicts import (
    OTHER_BASES,
    claim_lines,
    finding,
    has_other_bases,
    holds,
    judged_claims,
    open_claims,
    relative,
)
from aqcl.search.files import value_of_winner
from aqcl.search.space import PENALTY

GROUPS = (ALL, "non-active", "slightly-active", "highly-active")
SEPARATION: Final = (
    "By interests of AQCL: rows are alike whose latents of AQCL lie nearest to the same codeword, "
    "for the latents of DIN too. By its own clusters: k-means makes as many groups of the latents "
    "themselves, which shows what a division made for them alone would reach. Neighbours alike: "
    f"the share that is alike of the {NEIGHBOURS} nearest other rows, by cosine; by chance: that "
    "share if groups were dealt out at random. Silhouette: 1 for tight groups far apart, 0 for "
    "none, negative where rows lie nearer to other groups than to their own."
)
"""How to read the table of how well interests separate latents."""


def markdown(outcome: Mapping[str, Any], figures: Iterable[str] = (), folder: str = "") -> str:
    """The whole text of a table or figure.

    Args:
        outcome: from `gather`.
        figures: names of its figures, without ending.
        folder: where they lie, as the text shall name it.
    """
    names = list(figures)
    parts = [f"## {outcome['title']}"]
    if outcome["quick"]:
        parts.append(
            "**A quick look: small data, few trials and epochs. It shows that everything "
            "works, not which method is better.**"
        )
    if outcome["paper_says"]:
        parts.append(f"The paper: {outcome['paper_says']}")
    if outcome["kind"] == "counts":
        parts.append(counts_table(outcome["datasets"]))
    if has_other_bases(finished_comparisons(outcome)):
        parts.append(OTHER_BASES)
    compared = {comparison_key(comparison, outcome) for comparison in outcome["comparisons"]}
    for name in (name for name in names if name not in compared):
        parts += [_image(name, outcome, folder), figure_caption(name, outcome)]
    parts += latents_parts(outcome)
    for comparison in finished_comparisons(outcome):
        parts += comparison_parts(comparison, outcome)
        name = comparison_key(comparison, outcome)
        parts += [_image(name, outcome, folder)] if name in names else []
    missing = not_run_lines(outcome)
    if missing:
        parts.append("\n".join(["Not run:", "", *(f"- {line}" for line in missing)]))
    parts.append(tuning_lines(outcome))
    parts += [f"*{d['title']}*: {d['note']}." for d in outcome["datasets"].values() if d["note"]]
    parts += [
        f"*{d['title']}*: {NOT_RUN}: {d['missing']}"
        for d in outcome["datasets"].values()
        if "missing" in d
    ]
    parts.append(made_by(outcome))
    return "\n\n".join(part for part in parts if part) + "\n"


def tuning_lines(outcome: Mapping[str, Any]) -> str:
    """What each study chose on the validation rows, and whether its penalty lies at an edge."""
    return "\n\n".join(
        "\n".join([head, "", *(f"- {line}" for line in lines)])
        for head, lines in tuning(outcome).items()
    )


def tuning(outcome: Mapping[str, Any]) -> dict[str, list[str]]:
    """A line for each study, below a head that tells how it was tuned."""
    found: dict[str, list[str]] = {}
    for key, study in outcome["studies"].items():
        chosen = []
        for name, method in study["methods"].items():
            settings = ", ".join(
                f"{setting.rpartition('.')[2]} {value:.3g}"
                f"{' AT THE EDGE of its range' if setting == PENALTY and _at_edge(method) else ''}"
                for setting, value in method["parameters"].items()
            )
            value, _ = value_of_winner(
                {**method, "value": method["valid"]}, method.get("finalists", ())
            )
            chosen.append(f"{name} {value:.4f} ({settings})")
        if chosen:
            line = f"{_study_title(key, outcome)}: {'; '.join(chosen)}"
            found.setdefault(_budget(study), []).append(line)
    return found


def edges(outcome: Mapping[str, Any]) -> list[str]:
    """A line for each winner whose penalty lies at an edge of its range."""
    return [
        f"{_study_title(key, outcome)}: the penalty of {name} lies AT THE EDGE of its range; the "
        "best may lie beyond."
        for key, study in outcome["studies"].items()
        for name, method in study["methods"].items()
        if _at_edge(method)
    ]


def _at_edge(method: Mapping[str, Any]) -> bool:
    return method["penalty"] is not None and not method["penalty"]["inside"]


def _study_title(key: str, outcome: Mapping[str, Any]) -> str:
    dataset, _, backbone = key.partition("/")
    return f"{outcome['datasets'][dataset]['title']}, {backbone}"


def _budget(study: Mapping[str, Any]) -> str:
    tuned, objective = f"Tuned in {study['trials']} trials of each method", study["objective"]
    if not study.get("confirm"):
        return f"{tuned}; best validation {objective}:"
    return (
        f"{tuned}, the best {study['confirm']} with {study['confirm_seeds']} more seeds; mean "
        f"validation {objective} of the winner's seeds:"
    )


def _image(name: str, outcome: Mapping[str, Any], folder: str) -> str:
    return f"![{figure_title(name, outcome)}]({folder}{name}.svg)"


def counts_table(datasets: Mapping[str, Mapping[str, Any]]) -> str:
    """Users, items and samples, the paper's beside ours."""
    lines = ["| data set | users (paper) | items (paper) | samples (paper) |", "|---|---|---|---|"]
    for title, counts in counts_beside(datasets):
        lines.append(f"| {title} | {' | '.join(known for known, _ in counts)} |")
    return "\n".join(lines)


def counts_beside(
    datasets: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, list[tuple[str, int | None]]]]:
    """Users, items and samples: ours with the paper's in brackets, and ours if known.

    Where methods are tuned on some of the users, all of them have a row of their own.
    """
    found = []
    for facts in datasets.values():
        of = [(facts["title"], facts.get("counts", {}))]
        if "whole_counts" in facts:
            of = [(f"{facts['title']}, part", of[0][1]), (facts["title"], facts["whole_counts"])]
        for title, ours in of:
            beside = []
            for key, name in (("users", "users"), ("items", "items"), ("rows", "samples")):
                known = f"{ours[key]:,}" if key in ours else NOT_RUN
                beside.append((f"{known} ({facts['paper_counts'][name]:,})", ours.get(key)))
            found.append((title, beside))
    return found


def latents_parts(outcome: Mapping[str, Any]) -> list[str]:
    """How well interests separate latents, in numbers."""
    lines = [
        f"| {title} | {name} | {how} | {one['silhouette']:+.3f} "
        f"| {one['purity']:.3f} | {one['chance']:.3f} |"
        for title, name, how, one in separations(outcome)
    ]
    if not lines:
        return missing_latents(outcome)
    head = "| data | latents of | divided | silhouette | neighbours alike | by chance |"
    table = "\n".join([head, "|---|---|---|---|---|---|", *lines])
    return [table, SEPARATION, *missing_latents(outcome)]


def separations(outcome: Mapping[str, Any]) -> list[tuple[str, str, str, Mapping[str, float]]]:
    """Data set, whose latents, how they are divided, and how well that separates them."""
    return [
        (outcome["datasets"][key]["title"], name, how, one)
        for key, found in outcome.get("latents", {}).items()
        for name, measured in found.get("separation", {}).items()
        for how, one in measured.items()
    ]


def missing_latents(outcome: Mapping[str, Any]) -> list[str]:
    """Why a data set has no latents, a line for each."""
    return [
        f"{outcome['datasets'][key]['title']}: {found['missing']}"
        for key, found in outcome.get("latents", {}).items()
        if "missing" in found
    ]


def finished_comparisons(outcome: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those of which the base and perhaps more has finished."""
    return [c for c in outcome["comparisons"] if c["comparison"] is not None]


def not_run_lines(outcome: Mapping[str, Any]) -> list[str]:
    """A line for each comparison that has no result yet, with what is missing."""
    lines = []
    for comparison in outcome["comparisons"]:
        if comparison["comparison"] is None:
            named: dict[str, list[str]] = {}
            for label, state in comparison["cells"].items():
                named.setdefault(state.removeprefix(f"{NOT_RUN}: "), []).append(label)
            title = outcome["datasets"][comparison["dataset"]]["title"]
            states = "; ".join(f"{', '.join(labels)}: {state}" for state, labels in named.items())
            lines.append(f"{title}, {comparison['title']} ({states})")
    return lines


def comparison_parts(comparison: Mapping[str, Any], outcome: Mapping[str, Any]) -> list[str]:
    """Heading, table and claims of one comparison."""
    facts = outcome["datasets"][comparison["dataset"]]
    kind = ", simulated data" if facts.get("simulated") else ""
    return [
        f"### {facts['title']}{kind}: {comparison['title']}",
        _table(comparison, outcome["seeds"]),
        rows_told(comparison, outcome),
        "\n".join(claim_lines(comparison)),
    ]


def _table(comparison: Mapping[str, Any], seeds: int) -> str:
    rows = {(r["configuration"], r["group"]): r for r in comparison["comparison"]["rows"]}
    counts = {group: rows[comparison["base"], group]["users"] for group in GROUPS}
    heads = [f"{group} ({counts[group]:,} users)" for group in GROUPS]
    printed = any(comparison["paper"].get(label) for label in finished_cells(comparison))
    brackets = "; the paper's AUC in brackets" if printed else ""
    judged = {r["group"] for r in rows.values() if r["holm"] is not None}
    family = (len(comparison["cells"]) - 1) * len(judged)
    differences = (
        f"; RelaImpr over {comparison['base']} with its paired 95% interval over users and seeds, "
        f"bold where it excludes zero and survives Holm's correction for {family} differences, † "
        "where it excludes zero and does not"
    )
    lines = [
        f"AUC ± standard deviation over {seeds} seeds{differences if judged else ''}{brackets}."
        f"{restated(comparison['comparison'])}",
        "",
        f"| method | {' | '.join(heads)} |",
        "|---|" + "---|" * len(heads),
    ]
    for label, state in comparison["cells"].items():
        if state != FINISHED:
            lines.append(f"| {label} | {state} |" + " |" * (len(heads) - 1))
            continue
        paper = comparison["paper"].get(label, [])
        cells = [_cell(rows[label, group], paper[k : k + 1]) for k, group in enumerate(GROUPS)]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    for name, aucs in yardstick_aucs(comparison).items():
        cells = [f"{auc:.4f}" if auc is not None else "not defined" for auc in aucs]
        lines.append(f"| {name}, not trained | {' | '.join(cells)} |")
    return "\n".join(lines)


def yardstick_aucs(comparison: Mapping[str, Any]) -> dict[str, list[float | None]]:
    """What needs no training on the same rows: an AUC for each of the groups."""
    found = {}
    for name, evaluation in comparison["yardsticks"].items():
        aucs = {group["group"]: group["auc"] for group in evaluation["groups"]}
        found[name] = [aucs[group] for group in GROUPS]
    return found


def _cell(row: Mapping[str, Any], paper: list[float]) -> str:
    if row["auc"] is None:
        return "not defined"
    text = f"{row['auc']:.4f}" + (f" ± {row['auc_sd']:.4f}" if row["auc_sd"] is not None else "")
    if row["verdict"] != "base" and row["difference"] is not None:
        shown = relative(row)
        if row["verdict"] in ("better", "worse"):
            shown = f"**{shown}**" if holds(row) else f"{shown}†"
        text += f"; {shown}"
    return text + (f" [paper {paper[0]:.4f}]" if paper else "")


def claims_parts(outcomes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every claim that has a verdict: the paper's, and those of our own controls."""
    outcomes = list(outcomes)
    found = []
    for papers, heading in ((True, "Claims of the paper"), (False, "Claims of our controls")):
        table, left = _claims_table(outcomes, papers), open_claims(outcomes, papers=papers)
        found += [f"## {heading}", table, left] if table or left else []
    if has_other_bases(comparison for o in outcomes for comparison in o["comparisons"]):
        found.append(OTHER_BASES)
    return [part for part in found if part]


def _claims_table(outcomes: Iterable[Mapping[str, Any]], papers: bool) -> str:
    """The claims of a kind; those of controls without a column for numbers of the paper."""
    rows = []
    for judged in judged_claims(outcomes, papers=papers):
        claim, where = judged.claim, f"{judged.data}, {judged.comparison['title']}"
        printed = claim["paper_rela_impr"]
        paper = [f"{printed:+.2f}%" if printed is not None else "-"] if papers else []
        rows.append([claim["text"], where, relative(claim), *paper, finding(claim)])
    if not rows:
        return ""
    heads = ["claim", "data, setting", "ours", *(["the paper"] if papers else []), "holds"]
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])
