"""Sentences that terminal tables and pages share."""

from typing import Final

NOT_AFTER_HOLM: Final = (
    "Not after Holm: the interval is beside zero, but of so many comparisons one in twenty would "
    "be by chance; corrected for that, p is above 0.05."
)
"""What a finding means that ends so."""
