"""What stands on top of a report of runs: its subtitle and the warnings."""

from dataclasses import replace

from aqcl.assessment import RunComparison
from aqcl.evaluate import ALL
from aqcl.report.run_report import _subtitle, _warnings
from tests.test_tables import comparison, row


def warnings_of(result: RunComparison) -> list[str]:
    return _warnings(result, {name: [] for name in result.runs})


def test_a_report_warns_of_what_ranks_worse_than_chance() -> None:
    low = row("X", ALL, auc=0.35, auc_low=0.3, auc_high=0.4)
    rows = [row("DIN", ALL, verdict="base"), low, replace(low, configuration="popularity")]
    told = [w for w in warnings_of(comparison(*rows, runs=("DIN", "X"))) if "than chance" in w]
    assert [line.partition(" ranks")[0] for line in told] == ["X"]


def test_a_report_of_validation_rows_says_that_they_flatter() -> None:
    result = comparison(row("DIN", ALL, verdict="base"))
    said = "Judge on test rows."
    assert not any(said in line for line in warnings_of(result))
    assert any(said in line for line in warnings_of(replace(result, split="valid")))


def test_a_subtitle_says_once_that_data_is_simulated() -> None:
    for name in ("oncold (simulated)", "log"):
        result = comparison(row("DIN", ALL), simulated=True, name=name)
        assert _subtitle(result).count("simulated") == 1
    assert _subtitle(comparison(row("DIN", ALL))) == "log, test rows, against DIN"
