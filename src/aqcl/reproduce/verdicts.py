"""Verdicts on claims in words: for pages, for Markdown, and in a few lines for a terminal."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aqcl.comparison import ONE_SEED_EACH
from aqcl.comparison import finding as comparison_finding
from aqcl.evaluate import ALL
from aqcl.reproduce.specs import TUNED
from aqcl.reproduce.states import NOT_RUN, missing_cells
from aqcl.significance import SIGNIFICANCE

OTHER_BASES: Final = (
    "A claim against another base than that of its comparison is corrected by Holm's method among "
    "all differences from that base: each such base has a family of its own."
)
"""How the claims that `has_other_bases` speaks of are corrected."""
KINDS: Final[Mapping[bool, str]] = {True: "claims of the paper", False: "claims of our controls"}
"""What claims are called, by whether the paper makes them."""
NO_DIFFERENCE: Final = "no difference shown"


@dataclass(frozen=True)
class Judged:
    """A claim that has a verdict, and where it stands."""

    claim: Mapping[str, Any]
    comparison: Mapping[str, Any]
    outcome: Mapping[str, Any]

    @property
    def data(self) -> str:
        """Title of the data set."""
        return str(self.outcome["datasets"][self.comparison["dataset"]]["title"])


def is_of_the_paper(comparison: Mapping[str, Any]) -> bool:
    """Whether the paper makes the claims of a comparison; else it is a control of ours.

    The paper's are those on the rows that methods are tuned on, with no settings put on them.
    """
    return comparison["corner"] == TUNED and not comparison["settings"]


def judged_claims(outcomes: Iterable[Mapping[str, Any]], *, papers: bool) -> list[Judged]:
    """The claims that have a verdict.

    Args:
        outcomes: from `gather`.
        papers: those of the paper; else those of our controls.
    """
    return [
        Judged(claim, comparison, outcome)
        for outcome in outcomes
        for comparison in outcome["comparisons"]
        for claim in comparison["claims"]
        if claim["verdict"] != NOT_RUN and is_of_the_paper(comparison) == papers
    ]


def open_claims(outcomes: Iterable[Mapping[str, Any]], *, papers: bool) -> str:
    """How many claims of a kind have no verdict yet; nothing if all have."""
    verdicts = [
        claim["verdict"]
        for outcome in outcomes
        for comparison in outcome["comparisons"]
        for claim in comparison["claims"]
        if is_of_the_paper(comparison) == papers
    ]
    count = verdicts.count(NOT_RUN)
    if not count:
        return ""
    return f"Of {len(verdicts)} {KINDS[papers]} {count} have not been run; see below."


def has_other_bases(comparisons: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a claim is made against another method than the base of its comparison."""
    return any(
        claim["base"] != comparison["base"]
        for comparison in comparisons
        for claim in comparison["claims"]
    )


def finding(claim: Mapping[str, Any]) -> str:
    """The verdict on a claim, and whether it is one of single trainings or fails the correction."""
    verdict: str = claim["verdict"]
    if verdict not in ("yes", "no, the opposite"):
        return verdict
    if claim.get("single"):
        return f"{verdict}, {ONE_SEED_EACH}"
    return verdict if holds(claim) else f"{verdict}, not after Holm"


def holds(row: Mapping[str, Any]) -> bool:
    """Whether a difference stays significant after Holm's correction for all that are compared."""
    return row["holm"] is None or row["holm"] <= SIGNIFICANCE


def row_finding(row: Mapping[str, Any]) -> str:
    """The verdict on a row of a comparison, and what it does not hold for."""
    return comparison_finding(row["verdict"], row["holm"], single=row.get("single", False))


def in_short(comparison: Mapping[str, Any]) -> str:
    """What is found over all users, in a few words.

    Args:
        comparison: one whose base has finished.
    """
    named: dict[str, list[str]] = {}
    for row in comparison["comparison"]["rows"]:
        if row["group"] == ALL and row["verdict"] != "base":
            named.setdefault(row_finding(row), []).append(row["configuration"])
    if not named:
        return f"{comparison['base']} alone has finished"
    told = [
        f"{', '.join(labels)} {shown}" for shown, labels in named.items() if shown != NO_DIFFERENCE
    ]
    if NO_DIFFERENCE in named:
        told.append(f"{NO_DIFFERENCE} for the others" if told else NO_DIFFERENCE)
    return f"over all users {'; '.join(told)}"


def relative(row: Mapping[str, Any]) -> str:
    """RelaImpr with its interval, or the difference of AUC where the base is too near chance."""
    if row["rela_impr_low"] is not None:
        interval = shown_interval(row["rela_impr_low"], row["rela_impr_high"], 2)
        return f"{row['rela_impr']:+.2f}% {interval}"
    interval = ""
    if row["difference_low"] is not None:
        interval = f" {shown_interval(row['difference_low'], row['difference_high'], 4)}"
    return f"AUC {row['difference']:+.4f}{interval}"


def shown_interval(low: float, high: float, digits: int) -> str:
    """The ends of an interval, with more digits if it excludes zero but would seem to end there.

    Args:
        low: lower end.
        high: upper end.
        digits: behind the point, at least.
    """
    from_zero = max(low, -high)
    while from_zero > 0 and round(from_zero, digits) == 0:
        digits += 1
    return f"[{low:+.{digits}f}, {high:+.{digits}f}]"


def claim_lines(comparison: Mapping[str, Any]) -> Iterator[str]:
    """One line of Markdown for each claim of a comparison."""
    for claim in comparison["claims"]:
        if claim["verdict"] == NOT_RUN:
            yield f"- {claim['text']}: {NOT_RUN}"
            continue
        printed = claim["paper_rela_impr"]
        paper = f"; paper {printed:+.2f}%" if printed is not None else ""
        what = " RelaImpr" if claim["rela_impr_low"] is not None else ""
        yield f"- {claim['text']}: **{finding(claim)}**, {relative(claim)}{what}{paper}"


def verdict_lines(outcome: Mapping[str, Any]) -> Iterator[str]:
    """Title, and for each comparison its claims or what is missing."""
    yield f"{outcome['title']}{' (a quick look)' if outcome['quick'] else ''}"
    for key, facts in outcome["datasets"].items():
        if "missing" in facts:
            yield f"  {key}: {NOT_RUN}: {facts['missing']}"
    for comparison in outcome["comparisons"]:
        missing = missing_cells(comparison)
        rest = f" ({NOT_RUN}: {', '.join(missing)})" if missing else ""
        yield f"  {comparison['dataset']}, {comparison['title']}{rest}"
        if comparison["comparison"] is not None:
            yield from (f"    {line.replace('**', '')}" for line in claim_lines(comparison))
