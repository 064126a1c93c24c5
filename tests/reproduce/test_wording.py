"""What tables and figures say in words."""

import pytest

from aqcl.comparison import restated
from aqcl.reproduce.markdown import SEPARATION, _cell, latents_parts, tuning_lines
from aqcl.reproduce.pictures import figure_title
from aqcl.reproduce.verdicts import claim_lines, finding, in_short, relative, shown_interval


@pytest.mark.parametrize(
    ("verdict", "holm", "shown"),
    [
        ("yes", 0.01, "yes"),
        ("yes", 0.2, "yes, not after Holm"),
        ("no, the opposite", 0.2, "no, the opposite, not after Holm"),
        ("not shown", 0.9, "not shown"),
        ("not run", None, "not run"),
    ],
)
def test_a_claim_says_whether_it_survives_the_correction(
    verdict: str, holm: float | None, shown: str
) -> None:
    assert finding({"verdict": verdict, "holm": holm}) == shown


def test_a_claim_of_single_trainings_says_so() -> None:
    for holm in (0.01, 0.2):
        found = finding({"verdict": "yes", "holm": holm, "single": True})
        assert found == "yes, one seed each"
    assert finding({"verdict": "not shown", "holm": 0.9, "single": True}) == "not shown"


def test_a_difference_is_told_where_the_base_is_near_chance() -> None:
    ends = {"difference": -0.02, "difference_low": -0.03, "difference_high": -0.01}
    row = {"auc": 0.5, "auc_sd": None, "verdict": "worse", "holm": 0.01, **ends}
    for improvement in (None, -5.2):
        near = {**row, "rela_impr": improvement, "rela_impr_low": None, "rela_impr_high": None}
        assert relative(near) == "AUC -0.0200 [-0.0300, -0.0100]"
        assert _cell(near, []) == "0.5000; **AUC -0.0200 [-0.0300, -0.0100]**"
    far = {**row, "rela_impr": -5.2, "rela_impr_low": -7.0, "rela_impr_high": -3.4}
    assert relative(far) == "-5.20% [-7.00, -3.40]"


def test_a_claim_names_the_measure_in_which_it_is_told() -> None:
    claim = {
        "text": "A improves B",
        "verdict": "not shown",
        "holm": 0.3,
        "difference": 0.0043,
        "difference_low": -0.001,
        "difference_high": 0.0096,
        "rela_impr": 21.3,
        "rela_impr_low": None,
        "rela_impr_high": None,
        "paper_rela_impr": 3.54,
    }
    told = "- A improves B: **not shown**, "
    (near,) = claim_lines({"claims": [claim]})
    assert near == f"{told}AUC +0.0043 [-0.0010, +0.0096]; paper +3.54%"
    (far,) = claim_lines({"claims": [claim | {"rela_impr_low": -5.0, "rela_impr_high": 48.0}]})
    assert far == f"{told}+21.30% [-5.00, +48.00] RelaImpr; paper +3.54%"


@pytest.mark.parametrize("means", [(0.70, 0.71), (0.71, 0.70)])
def test_a_winner_is_told_by_its_own_mean_whether_high_or_low_is_good(
    means: tuple[float, float],
) -> None:
    finalists = [{"values": [v, v], "mean": m} for v, m in zip((0.6, 0.8), means, strict=True)]
    method = {"valid": 0.8, "parameters": {}, "penalty": None, "finalists": finalists}
    study = {"trials": 2, "confirm": 2, "confirm_seeds": 1, "objective": "auc"}
    outcome = {
        "datasets": {"d": {"title": "D"}},
        "studies": {"d/din": study | {"methods": {"DIN": method}}},
    }
    text = tuning_lines(outcome)
    assert f"DIN {means[1]:.4f}" in text
    assert "the best 2 with 1 more seeds" in text
    assert "DIN 0.8000" in tuning_lines(
        {**outcome, "studies": {"d/din": study | {"methods": {"DIN": method | {"finalists": []}}}}}
    )


def test_a_penalty_at_the_edge_is_told_beside_it() -> None:
    method = {
        "valid": 0.8,
        "parameters": {"train.embedding_l2": 0.001, "regularizer.aqcl.w2": 3.3},
        "penalty": {"inside": False},
        "finalists": [],
    }
    study = {"trials": 2, "objective": "auc", "methods": {"AQCL": method}}
    text = tuning_lines({"datasets": {"d": {"title": "D"}}, "studies": {"d/din": study}})
    assert "AQCL 0.8000 (embedding_l2 0.001 AT THE EDGE of its range, w2 3.3)" in text
    assert "best validation auc:" in text


def test_figures_are_named_for_those_who_read_of_them() -> None:
    outcome = {
        "name": "figure5",
        "title": "Figure 5: alpha",
        "datasets": {"ta-feng": {"title": "Ta Feng"}},
        "comparisons": [{"dataset": "ta-feng", "id": "constant", "title": "a constant alpha"}],
    }
    assert figure_title("figure5-alpha", outcome) == "Figure 5: alpha"
    assert figure_title("figure5-ta-feng", outcome) == "Figure 5: alpha, Ta Feng"
    compared = figure_title("figure5-ta-feng-constant", outcome)
    assert compared == "AUC with 95% intervals on Ta Feng: a constant alpha"


def test_intervals_that_were_widened_afterwards_say_so() -> None:
    assert restated({"rows": []}) == ""
    assert restated({"rows": [], "intervals": "widened"}) == ""
    assert "afterwards" in restated({"rows": [], "intervals": "restated"})


def test_a_data_set_without_interests_leaves_the_numbers_of_the_others() -> None:
    one = {"silhouette": 0.1, "purity": 0.25, "chance": 0.0625}
    outcome = {
        "datasets": {"a": {"title": "A"}, "b": {"title": "B"}},
        "latents": {"a": {"missing": "too short"}, "b": {"separation": {"DIN": {"by x": one}}}},
    }
    table, explained, missing = latents_parts(outcome)
    assert explained == SEPARATION
    assert "| B | DIN | by x | +0.100 | 0.250 | 0.062 |" in table
    assert missing == "A: too short"


@pytest.mark.parametrize(
    ("low", "high", "digits", "shown"),
    [
        (-0.0854, -0.00003, 4, "[-0.08540, -0.00003]"),
        (0.000004, 0.02, 4, "[+0.000004, +0.020000]"),
        (0.004, 12.5, 2, "[+0.004, +12.500]"),
        (-0.0854, 0.00003, 4, "[-0.0854, +0.0000]"),
        (-0.00003, 0.02, 4, "[-0.0000, +0.0200]"),
        (0.0, 0.02, 4, "[+0.0000, +0.0200]"),
        (-0.0854, -0.0001, 4, "[-0.0854, -0.0001]"),
    ],
)
def test_an_interval_that_excludes_zero_does_not_seem_to_end_there(
    low: float, high: float, digits: int, shown: str
) -> None:
    assert shown_interval(low, high, digits) == shown


def test_an_end_near_zero_is_told_in_either_measure() -> None:
    row = {"difference": -0.04, "difference_low": -0.0854, "difference_high": -0.00003}
    near = row | {"rela_impr": None, "rela_impr_low": None}
    assert relative(near) == "AUC -0.0400 [-0.08540, -0.00003]"
    far = row | {"rela_impr": -9.0, "rela_impr_low": -18.0, "rela_impr_high": -0.002}
    assert relative(far) == "-9.00% [-18.000, -0.002]"


def test_a_comparison_is_told_in_short_by_who_differs_over_all_users() -> None:
    def row(name: str, verdict: str, holm: float, group: str = "all") -> dict[str, object]:
        return {"configuration": name, "group": group, "verdict": verdict, "holm": holm}

    base = row("DIN", "base", 1.0)
    same = [row(name, "no difference shown", 0.9) for name in "AB"]
    for rows, told in (
        ([], "DIN alone has finished"),
        (same, "over all users no difference shown"),
        ([row("C", "better", 0.01)], "over all users C better"),
        (
            [*same, row("C", "worse", 0.01), row("D", "worse", 0.01), row("E", "better", 0.2)],
            "over all users C, D worse; E better, not after Holm; "
            "no difference shown for the others",
        ),
        ([*same, row("A", "worse", 0.01, "non-active")], "over all users no difference shown"),
    ):
        assert in_short({"base": "DIN", "comparison": {"rows": [base, *rows]}}) == told
