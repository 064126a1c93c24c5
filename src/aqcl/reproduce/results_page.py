"""All outcomes as one Markdown page: verdicts first, then every table and figure."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from aqcl.errors import StorageError
from aqcl.reproduce.markdown import claims_parts, markdown
from aqcl.reproduce.pictures import figures_of
from aqcl.reproduce.specs import load_specs
from aqcl.wording import NOT_AFTER_HOLM

INTRODUCTION: Final = f"""# The paper's tables and figures

What `aqcl reproduce` found, beside what the paper prints
([arXiv 2109.13921](https://arxiv.org/abs/2109.13921)). The paper does not say how its negatives
were drawn or how its baseline was tuned, so its AUCs and ours cannot be compared as numbers;
whether one method is above another can. How to make this page:
[reproduce](how-to/reproduce.md); what a number means: [protocol](protocol.md).

A claim is *yes* where the 95% interval of the difference lies above zero, *no, the opposite* where
it lies below, and *not shown* where it includes zero.

{NOT_AFTER_HOLM}"""

PARTS: Final = {"name", "title", "kind", "quick", "seeds", "datasets", "studies", "comparisons"}
"""What every outcome has."""


def read_outcomes(folder: Path) -> list[dict[str, Any]]:
    """The outcomes in a directory, in the order of the paper.

    Raises:
        StorageError: a file that has the name of one is none.
    """
    files = [folder / f"{name}.json" for name in load_specs().experiments]
    return [read_outcome(file) for file in files if file.exists()]


def read_outcome(file: Path) -> dict[str, Any]:
    """The outcome of a table or figure, as `gather` made it.

    Raises:
        StorageError: the file holds something else.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        whole = found["name"] == file.stem and found.keys() >= PARTS
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise StorageError(
            f"{file}: expected what `aqcl reproduce {file.stem}` writes, got something else: the "
            "file is damaged or another's; remove it and repeat the command, which trains nothing "
            "twice"
        )
    return dict(found)


def results_page(outcomes: Iterable[Mapping[str, Any]], figures: str, reading: str = "") -> str:
    """The page.

    Args:
        outcomes: as `gather` made them.
        figures: where their figures lie, as the page shall name it.
        reading: Markdown by those who looked at the numbers, above them.
    """
    outcomes = list(outcomes)
    parts = [INTRODUCTION, *filter(None, [reading.strip()]), *claims_parts(outcomes)]
    parts += [markdown(outcome, figures_of(outcome), figures).rstrip("\n") for outcome in outcomes]
    return "\n\n".join(parts) + "\n"
