"""The page of the paper's tables, from outcomes that are stored."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from aqcl.figures import save
from aqcl.reproduce.markdown import finished_comparisons, markdown, tuning
from aqcl.reproduce.page import paper_page
from aqcl.reproduce.pictures import activity_figure
from aqcl.reproduce.results_page import read_outcomes, results_page
from aqcl.reproduce.states import FINISHED, NOT_RUN
from aqcl.wording import NOT_AFTER_HOLM
from tests.report.test_page import Outline

STORED = Path(__file__).parents[2] / "results" / "paper"


def stored(name: str) -> dict[str, Any]:
    return next(outcome for outcome in read_outcomes(STORED) if outcome["name"] == name)


@pytest.fixture(scope="module")
def table3() -> dict[str, Any]:
    return stored("table3")


@pytest.fixture(scope="module")
def page(table3: dict[str, Any]) -> str:
    return paper_page([table3])


def without_figures(patch: pytest.MonkeyPatch, outcome: dict[str, Any]) -> str:
    """The page of an outcome whose text and tables alone are looked at."""
    patch.setattr("aqcl.reproduce.page.figures_of", lambda _: {})
    return paper_page([outcome])


def test_a_difference_that_fails_holm_looks_like_none_and_is_explained(page: str) -> None:
    weak = re.findall(r"<td[^>]*>[a-z, ]*, not after Holm</td>", page)
    assert any("worse" in cell for cell in weak)
    assert any("no, the opposite" in cell for cell in weak)
    assert set(re.findall(r"<td[^>]*>", "".join(weak))) == {"<td>"}
    assert page.count('class="bar worse"') == page.count('<td class="worse">worse</td>')
    assert Outline(page).text.count(NOT_AFTER_HOLM) == 2  # below the claims and below the tables


def test_every_verdict_of_the_table_of_claims_is_explained(table3: dict[str, Any]) -> None:
    introduction, _, claims = results_page([table3], "figures/").partition("## Claims")
    assert "| no, the opposite, not after Holm |" in claims
    assert NOT_AFTER_HOLM in introduction


def test_a_difference_that_holds_stands_out(
    table3: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    strong = deepcopy(table3)
    for comparison in strong["comparisons"]:
        rows = (comparison["comparison"] or {"rows": ()})["rows"]
        for found in (*rows, *comparison["claims"]):
            if found.get("holm") is not None:
                found["holm"] = 0.01
    page = without_figures(monkeypatch, strong)
    assert '<td class="worse">worse</td>' in page
    assert '<td class="worse">no, the opposite</td>' in page
    assert 'class="bar worse"' in page
    assert "Holm" not in page


def test_brackets_are_told_of_above_tables_that_have_some(table3: dict[str, Any]) -> None:
    bare = deepcopy(table3)
    for comparison in bare["comparisons"]:
        comparison["paper"] = {}
    told = "the paper's AUC in brackets"
    assert markdown(table3).count(told) == len(finished_comparisons(table3))
    assert told not in markdown(bare)
    marks = "bold where it excludes zero and survives Holm's correction for 4 differences, † where"
    assert markdown(bare).count(marks) == len(finished_comparisons(bare))


def test_a_base_alone_is_told_of_without_differences(table3: dict[str, Any]) -> None:
    alone = dict(deepcopy(finished_comparisons(table3)[0]), claims=[])
    rows = alone["comparison"]["rows"]
    alone["comparison"]["rows"] = [row for row in rows if row["verdict"] == "base"]
    alone["cells"] = {
        name: FINISHED if name == alone["base"] else NOT_RUN for name in alone["cells"]
    }
    text = markdown({**table3, "comparisons": [alone]})
    assert f"over {table3['seeds']} seeds; the paper's AUC in brackets." in text
    assert "Holm" not in text


def test_what_needs_no_training_stands_in_every_table_for_every_group(
    table3: dict[str, Any], page: str
) -> None:
    text = markdown(table3)
    shown = finished_comparisons(table3)
    assert shown
    for comparison in shown:
        for name, evaluation in comparison["yardsticks"].items():
            aucs = [f"{group['auc']:.4f}" for group in evaluation["groups"]]
            assert f"| {name}, not trained | {' | '.join(aucs)} |" in text
    cells = page.count('<th scope="row">popularity, not trained</th>')
    assert cells == 4 * len(shown)


def test_a_page_tells_what_was_tuned_and_warns_of_edges(table3: dict[str, Any], page: str) -> None:
    outline = Outline(page).text
    for head, lines in tuning(table3).items():
        assert head in outline
        assert all(line in outline for line in lines)
    edge = "Ta Feng, din: the penalty of AQCL lies AT THE EDGE of its range; the best may lie"
    warned, _, _ = outline.partition("Claims of the paper")
    assert edge in warned
    winners = [m for study in table3["studies"].values() for m in study["methods"].values()]
    at_edges = sum(winner["penalty"]["touches"] is not None for winner in winners)
    assert outline.count("AT THE EDGE") == 2 * at_edges  # and where their settings are told


def test_a_page_tells_relaimpr_with_its_interval_and_every_bar_its_scale(
    table3: dict[str, Any], page: str
) -> None:
    text = Outline(page).text
    for comparison in finished_comparisons(table3):
        rows = [r for r in comparison["comparison"]["rows"] if r["verdict"] != "base"]
        for row in (*rows, *(c for c in comparison["claims"] if c["verdict"] != "not run")):
            low, high = row["rela_impr_low"], row["rela_impr_high"]
            assert f"{row['rela_impr']:+.2f}% [{low:+.2f}, {high:+.2f}]" in text
        reach = max(max(-row["difference_low"], row["difference_high"]) for row in rows)
        assert f"from {-reach:+.3f} to {reach:+.3f}, longer ones end in an arrow" in text


def test_a_page_tells_how_own_clusters_separate_and_why_latents_are_missing() -> None:
    figure6 = deepcopy(stored("figure6"))
    figure6["latents"]["ta-feng"] = {"missing": "the codebook is set after 9 steps"}
    text = Outline(paper_page([figure6])).text
    assert "Ta Feng: the codebook is set after 9 steps" in text
    own = figure6["latents"]["beauty"]["separation"]["DIN"]["by its own clusters"]
    cells = (own["silhouette"], own["purity"], own["chance"])
    assert f"by its own clusters{''.join(f'{cell:.3f}' for cell in cells)}" in text


def test_the_clicks_of_users_are_told_in_full_numbers(tmp_path: Path) -> None:
    activity = {"clicks": [1, 10, 1000], "users": [5, 3, 1], "thresholds": [1, 10]}
    (file,) = save(activity_figure(activity, "cost $5 vs $6"), tmp_path / "figure", ("svg",))
    text = Outline(file.read_text()).text
    assert "1,000" in text
    assert "math" not in text
    assert "cost $5 vs $6" in text


def test_a_group_without_both_labels_has_no_auc_of_a_yardstick(
    table3: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = deepcopy(table3)
    for comparison in finished_comparisons(small):
        comparison["yardsticks"]["popularity"]["groups"][-1]["auc"] = None
    page, text = without_figures(monkeypatch, small), markdown(small)
    assert re.search(r"\| popularity, not trained \|( 0\.\d{4} \|){3} not defined \|", text)
    assert '<td>highly-active</td><td class="number" data-value=""></td>' in page
