"""The verdicts on the paper's claims in a few lines for a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from aqcl.reproduce.markdown import claims
from aqcl.reproduce.states import NOT_RUN, missing_cells


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
            yield from (f"    {line}" for line in claims(comparison).replace("**", "").splitlines())
