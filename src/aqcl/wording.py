"""Words that terminal tables and pages share."""

from collections.abc import Iterable, Mapping
from typing import Final

from aqcl.activity import GROUPS
from aqcl.assessment import RunComparison
from aqcl.comparison import Comparison, ComparisonRow
from aqcl.dataset import Dataset
from aqcl.evaluate import ALL
from aqcl.field_groups import is_unknown
from aqcl.item_groups import ITEM_GROUPS

NOT_AFTER_HOLM: Final = (
    "Not after Holm: the interval excludes zero, but of so many comparisons one in twenty does so "
    "by chance alone; corrected for that, p is above 0.05. With two or three seeds that is so of "
    "nearly all of them."
)
"""What a finding means that ends so."""
ENOUGH_SEEDS: Final = 3
"""Trainings of a method that tell a little of how much it varies."""
FLATTERED: Final[Mapping[str, str]] = {
    "train": "Training rows: the weights were fitted to them, so that AUCs are too high. Judge on "
    "test rows.",
    "valid": "Validation rows chose the weights (early stopping) and, after a search, the "
    "settings: AUCs on them are too high. Judge on test rows.",
}
"""By split, what rows that a training has seen say of a method."""
INFEASIBLE: Final = "* the AUC of highly active users is below that of trial 0"
"""Why a trial of the objective `constrained` that has this mark cannot win."""
OF_CHANCE: Final = "where nothing matters, chance alone often gives one setting more than half"
"""How to read the importances of settings."""


def dataset_name(dataset: Dataset) -> str:
    """The name of a dataset, which says once whether it is simulated."""
    marked = not dataset.simulated or "simulated" in dataset.name
    return dataset.name if marked else f"{dataset.name} (simulated)"


def improvement(row: ComparisonRow) -> str:
    """RelaImpr, or the difference of AUC where the base is no better than chance, or hardly."""
    if row.verdict == "base":
        return ""
    if row.rela_impr is not None and row.rela_impr_low is not None:
        interval = f"[{row.rela_impr_low:+.2f}, {row.rela_impr_high:+.2f}]"
        return f"{row.rela_impr:+.2f}% {interval}"
    if row.difference is not None and row.difference_low is not None:
        interval = f"[{row.difference_low:+.4f}, {row.difference_high:+.4f}]"
        return f"AUC {row.difference:+.4f} {interval}"
    return ""


def few_seeds(seeds: Mapping[str, int]) -> list[str]:
    """What a comparison of methods trained once or twice cannot tell; nothing from three seeds on.

    Args:
        seeds: of each trained method.
    """
    if min(seeds.values()) >= ENOUGH_SEEDS:
        return []
    few = ", ".join(f"{name}: {count}" for name, count in seeds.items())
    line = (
        f"Few seeds ({few}): how much a method varies from training to training is not known, and "
        "another seed may turn a verdict round; five are usual."
    )
    if list(seeds.values()).count(1) > 1:
        line += (
            " Of two equally good methods, trained once each, one comes out better or worse in a "
            "quarter to two thirds of all comparisons."
        )
    return [line]


def resampled(comparison: Comparison) -> str:
    """What the intervals of a comparison are over; a single seed has no part in them."""
    return "users and seeds" if any(row.seeds > 1 for row in comparison.rows) else "users"


def legend(result: RunComparison) -> list[str]:
    """What the columns and marks of a comparison mean, as far as they occur in it."""
    comparison = result.comparison
    lines = ["* not trained: made of counts of training clicks."] if result.yardsticks else []
    lines.append("RelaImpr: improvement of AUC - 0.5, in percent.")
    if any(improvement(row).startswith("AUC") for row in comparison.rows):
        lines.append(
            "AUC +x: difference of AUC, where the base is at or below 0.5, or too near it for a "
            "ratio."
        )
    lines.append(
        f"Interval: 95% of {comparison.replicates:,} resamples of the {resampled(comparison)}, "
        "paired on the same rows."
    )
    seeds = {len(paths) for paths in result.runs.values()}
    if min(seeds) == 1 < max(seeds):
        lines.append(
            "A method trained once, beside one trained several times, is taken to vary from "
            "training to training as that one does."
        )
    if any(row.finding.endswith("not after Holm") for row in comparison.rows):
        lines.append(NOT_AFTER_HOLM)
    if any(row.group in ITEM_GROUPS for row in comparison.rows):
        lines.append(
            "Groups are of the row's own item, by its training clicks: clicks on such items are "
            "ranked against other such items."
        )
    elif any(row.group not in (ALL, *GROUPS) for row in comparison.rows):
        lines.append(
            "Groups are of the values of a field: clicks are ranked against rows of the same group."
        )
    return lines + of_unknown(row.group for row in comparison.rows)


def of_unknown(groups: Iterable[str]) -> list[str]:
    """What a group of unknown values is, where there is one."""
    if not any(map(is_unknown, groups)):
        return []
    return [
        "Unknown: without a value, or with one that too few training rows have "
        "(vocabulary.min_count), or none."
    ]


def doubts(result: RunComparison) -> list[str]:
    """What makes a comparison worth less than it looks, whatever its intervals."""
    flattered = [FLATTERED[result.split]] if result.split in FLATTERED else []
    return [*flattered, *chance_lines(result), *below_lines(result), *constant_lines(result)]


def chance_lines(result: RunComparison) -> list[str]:
    """The trained methods that rank the rows of all users worse than chance does."""
    return [
        f"{row.configuration} ranks worse than chance: the interval of its AUC over all users, "
        f"{row.auc_low:.4f} to {row.auc_high:.4f}, lies below 0.5. Labels may be reversed, or the "
        "run broken."
        for row in result.comparison.rows
        if row.group == ALL
        and row.configuration in result.runs
        and row.auc_low is not None
        and row.auc_high is not None
        and row.auc_high < 0.5
    ]


def below_lines(result: RunComparison) -> list[str]:
    """The methods that know less than counting tells, and in which groups, a line for each."""
    groups: dict[str, list[str]] = {}
    for below in result.below_yardsticks():
        users = "all users" if below.group == ALL else below.group
        groups.setdefault(below.configuration, []).append(
            f"{users}, {below.auc:.4f} against {below.yardstick_auc:.4f} of {below.yardstick}"
        )
    return [
        f"{name} has no higher AUC than what was not trained: {'; '.join(told)}."
        for name, told in groups.items()
    ]


def constant_lines(result: RunComparison) -> list[str]:
    """The methods whose scores are poor probabilities, in one line."""
    above = result.above_constant()
    if not above:
        return []
    told = ", ".join(f"{found.configuration} {found.logloss:.4f}" for found in above)
    return [
        f"The rows' own click rate, the same for every row, has a logloss of "
        f"{above[0].constant:.4f}, no higher than {told}: rank by such scores, which AUC judges, "
        "but calibrate them before they are used as probabilities."
    ]
