"""The page of the paper's tables, from outcomes that are stored."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from aqcl.reproduce.markdown import counts_table, finished_comparisons, markdown, tuning
from aqcl.reproduce.page import _claims_reach, paper_page
from aqcl.reproduce.provenance import made_by, rows_told
from aqcl.reproduce.results_page import read_outcomes, results_page
from aqcl.reproduce.states import FINISHED, NOT_RUN
from aqcl.reproduce.verdicts import OTHER_BASES, in_short, is_of_the_paper
from aqcl.wording import NOT_AFTER_HOLM
from tests.report.test_page import Outline

STORED = Path(__file__).parents[2] / "results" / "paper"


def stored(name: str) -> dict[str, Any]:
    return next(outcome for outcome in read_outcomes(STORED) if outcome["name"] == name)


@pytest.fixture(scope="module")
def table3() -> dict[str, Any]:
    """The stored outcome, with one difference that fails Holm's correction, whatever it holds."""
    outcome = deepcopy(stored("table3"))
    comparison = finished_comparisons(outcome)[0]
    rows = comparison["comparison"]["rows"]
    row = next(row for row in rows if row["verdict"] != "base")
    row |= {"verdict": "worse", "holm": 0.2, "single": False}
    comparison["claims"][0] |= {"verdict": "no, the opposite", "holm": 0.2, "single": False}
    return outcome


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
    # Coloured are what holds: rows of tables, and claims.
    held = sum(
        page.count(f'<td class="worse">{told}</td>') for told in ("worse", "no, the opposite")
    )
    assert page.count('class="bar worse"') == held
    assert Outline(page).text.count(NOT_AFTER_HOLM) == 2  # below the claims and below the tables


def test_every_verdict_of_the_table_of_claims_is_explained(table3: dict[str, Any]) -> None:
    introduction, _, claims = results_page([table3], "figures/").partition("## Claims of the")
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
    printed = [comparison for comparison in finished_comparisons(table3) if comparison["paper"]]
    assert markdown(table3).count(told) == len(printed) > 0
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
    rows = re.findall(r'<tr><th scope="row">popularity</th>(.*?)</tr>', page)
    assert len(rows) == len(shown)
    for row, comparison in zip(rows, shown, strict=True):
        groups = comparison["yardsticks"]["popularity"]["groups"]
        assert Outline(row).text == "".join(f"{group['auc']:.4f}" for group in groups)


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


def test_a_group_without_both_labels_has_no_auc_of_a_yardstick(
    table3: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = deepcopy(table3)
    for comparison in finished_comparisons(small):
        comparison["yardsticks"]["popularity"]["groups"][-1]["auc"] = None
    page, text = without_figures(monkeypatch, small), markdown(small)
    assert re.search(r"\| popularity, not trained \|( 0\.\d{4} \|){3} not defined \|", text)
    rows = re.findall(r'<th scope="row">popularity</th>.*?</tr>', page)
    assert rows
    assert all(row.endswith('<td class="number" data-value=""></td></tr>') for row in rows)


def test_the_paper_claims_what_is_compared_as_it_was_tuned() -> None:
    compared = [c for outcome in read_outcomes(STORED) for c in outcome["comparisons"]]
    of_the_paper = {comparison["id"] for comparison in compared if is_of_the_paper(comparison)}
    assert of_the_paper == {
        "tuned", "wide-deep", "deepfm", "din", "constant", "dim", "weight", "interests",
    }  # fmt: skip
    assert {comparison["id"] for comparison in compared if comparison["paper"]} < of_the_paper


def test_our_controls_stand_in_a_table_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    table2 = stored("table2")
    page = without_figures(monkeypatch, table2)
    papers, controls = (
        re.findall(rf'<section id="{key}".*?</section>', page, re.DOTALL)[0]
        for key in ("claims", "controls")
    )
    assert "each method at its best settings" in papers
    assert "at the fixed penalty" not in papers
    assert "The paper&#x27;s" in papers
    assert "at the fixed penalty" in controls
    assert "each method at its best settings" not in controls
    assert "The paper&#x27;s" not in controls
    text = results_page([table2], "figures/")
    papers, _, controls = text.partition("## Claims of our controls")
    assert "| claim | data, setting | ours | the paper | holds |\n|---|---|---|---|---|\n" in papers
    assert "at the fixed penalty" not in papers
    assert controls.startswith("\n\n| claim | data, setting | ours | holds |\n|---|---|---|---|\n")
    assert controls.partition("## Table 2")[0].count("of our controls") == 1  # how many are open


def test_claims_against_other_bases_are_told_of_where_there_are_some(
    table3: dict[str, Any], page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure5 = stored("figure5")
    assert OTHER_BASES in Outline(without_figures(monkeypatch, figure5)).text
    assert OTHER_BASES in markdown(figure5)
    claims, _, _ = results_page([figure5], "figures/").partition("## Figure 5")
    assert OTHER_BASES in claims
    assert OTHER_BASES not in Outline(page).text
    assert OTHER_BASES not in results_page([table3], "figures/")


def test_an_outlier_does_not_set_the_scale_of_the_bars_of_claims() -> None:
    def claim(end: float, verdict: str = "not shown") -> dict[str, Any]:
        return {"difference_low": -end, "difference_high": end / 2, "verdict": verdict}

    usual = [claim(0.01)] * 18
    assert _claims_reach([*usual, claim(0.5)]) == pytest.approx(0.01)
    assert _claims_reach([*usual, *[claim(0.5, "too little to tell")] * 9]) == 0.01
    assert _claims_reach([{"difference_low": None, "verdict": "not shown"}]) == 0.0


def test_a_column_for_the_papers_auc_stands_where_the_paper_prints_some(
    table3: dict[str, Any], page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = deepcopy(table3)
    for comparison in bare["comparisons"]:
        comparison["paper"] = {}
    heading = "Paper's AUC"
    printed = [comparison for comparison in finished_comparisons(table3) if comparison["paper"]]
    assert Outline(page).text.count(heading) == len(printed) > 0
    assert heading not in Outline(without_figures(monkeypatch, bare)).text


def test_long_tables_are_folded_below_a_line_that_tells_what_is_found(
    table3: dict[str, Any], page: str
) -> None:
    folded = re.findall(r"<details><summary>(.*?)</summary>(.*?)</details>", page, re.DOTALL)
    shown = finished_comparisons(table3)
    assert len(folded) == len(shown) == page.count("<details")
    for (summary, inside), comparison in zip(folded, shown, strict=True):
        title = table3["datasets"][comparison["dataset"]]["title"]
        found = in_short(comparison)
        assert Outline(summary).text == f"{title}: {comparison['title']}: {found}"
        assert inside.count("<table") == 2
    claims = {is_of_the_paper(comparison) for comparison in shown}  # a table for each kind
    unfolded = re.sub("<details>.*?</details>", "", page, flags=re.DOTALL)
    assert unfolded.count("<table") == len(claims) == 2


def test_contents_and_claims_link_to_the_comparisons(table3: dict[str, Any], page: str) -> None:
    outline = Outline(page)
    ids = outline.ids()
    assert len(ids) == len(set(ids))
    links = [str(a["href"]).removeprefix("#") for tag, a in outline.tags if tag == "a"]
    assert set(links) <= set(ids)
    for comparison in finished_comparisons(table3):
        key = f"table3-{comparison['dataset']}-{comparison['id']}"
        assert links.count(key) == 1 + len(comparison["claims"])
        assert f'<h3 id="{key}">' in page


def test_rows_protocol_and_code_stand_with_each_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table2 = stored("table2")
    text, page = markdown(table2), Outline(without_figures(monkeypatch, table2)).text
    for comparison in finished_comparisons(table2):
        told = rows_told(comparison, table2)
        assert told in text
        assert told in page
    by_key = {(c["dataset"], c["id"]): rows_told(c, table2) for c in finished_comparisons(table2)}
    tuned = by_key["beauty", "tuned"]
    assert tuned.startswith("Ids alone; protocol: split last-interaction, ties order,")
    assert "beta 0.0, train_items all, ratio 1, train frozen," in tuned
    assert "all: 44,726 (22,363); non-active, up to 6 clicks: 28,126 (14,063); " in tuned
    assert "highly-active, above 13: " in tuned
    fresh = by_key["beauty", "attributes-resampled"]
    assert fresh.startswith("Ids and attributes; protocol: ")
    assert "train resampled," in fresh
    assert "train_items clicked," in by_key["ta-feng", "clicked"]
    assert "beta" not in by_key["oncold", "tuned"]
    assert made_by(table2) in page
    assert table2["datasets"]["beauty"]["fingerprint"][:12] in made_by(table2)


def test_several_states_of_the_code_are_told(table3: dict[str, Any]) -> None:
    runs = [{"code": "one"}, {"code": "two"}, {"code": None}]
    comparison = {**finished_comparisons(table3)[0], "runs": runs}
    told = rows_told(comparison, table3)
    assert "trained: one, two, one not recorded; where these differ" in told


def test_all_users_stand_beside_the_part_that_methods_are_tuned_on() -> None:
    counts = {"users": 10, "items": 5, "rows": 20}
    facts = {
        "title": "Ta Feng",
        "paper_counts": {"users": 40, "items": 6, "samples": 90},
        "counts": counts,
    }
    assert counts_table({"a": facts}).splitlines()[2:] == [
        "| Ta Feng | 10 (40) | 5 (6) | 20 (90) |"
    ]
    both = {**facts, "whole_counts": {"users": 40, "items": 6, "rows": 90}}
    assert counts_table({"a": both}).splitlines()[2:] == [
        "| Ta Feng, part | 10 (40) | 5 (6) | 20 (90) |",
        "| Ta Feng | 40 (40) | 6 (6) | 90 (90) |",
    ]
