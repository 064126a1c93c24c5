"""Sentences that terminal tables and pages share."""

from typing import Final

from aqcl.comparison import Comparison

NOT_AFTER_HOLM: Final = (
    "Not after Holm: the interval is beside zero, but of so many comparisons one in twenty would "
    "be by chance; corrected for that, p is above 0.05."
)
"""What a finding means that ends so."""
INFEASIBLE: Final = "* the AUC of highly active users is below that of trial 0"
"""Why a trial of the objective `constrained` that has this mark cannot win."""


def resampled(comparison: Comparison) -> str:
    """What the intervals of a comparison are over; a single seed has no part in them."""
    return "users and seeds" if any(row.seeds > 1 for row in comparison.rows) else "users"
