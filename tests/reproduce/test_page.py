"""The page of the paper's tables, from outcomes that are stored."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from aqcl.reproduce.page import paper_page
from aqcl.reproduce.results_page import read_outcomes
from aqcl.wording import NOT_AFTER_HOLM
from tests.report.test_page import Outline

STORED = Path(__file__).parents[2] / "results" / "paper"


@pytest.fixture(scope="module")
def table3() -> dict[str, Any]:
    return next(outcome for outcome in read_outcomes(STORED) if outcome["name"] == "table3")


def test_a_difference_that_fails_holm_looks_like_none_and_is_explained(
    table3: dict[str, Any],
) -> None:
    page = paper_page([table3])
    weak = re.findall(r"<td[^>]*>[a-z, ]*, not after Holm</td>", page)
    assert any("worse" in cell for cell in weak)
    assert any("no, the opposite" in cell for cell in weak)
    assert set(re.findall(r"<td[^>]*>", "".join(weak))) == {"<td>"}
    assert page.count('class="bar worse"') == page.count('<td class="worse">worse</td>')
    assert Outline(page).text.count(NOT_AFTER_HOLM) == 2  # below the claims and below the tables


def test_a_difference_that_holds_stands_out(table3: dict[str, Any]) -> None:
    strong = deepcopy(table3)
    for comparison in strong["comparisons"]:
        rows = (comparison["comparison"] or {"rows": ()})["rows"]
        for found in (*rows, *comparison["claims"]):
            if found.get("holm") is not None:
                found["holm"] = 0.01
    page = paper_page([strong])
    assert '<td class="worse">worse</td>' in page
    assert '<td class="worse">no, the opposite</td>' in page
    assert 'class="bar worse"' in page
    assert "Holm" not in page
