"""The demo on simulated data, which needs no network, made small."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aqcl import demo
from aqcl.config import read_toml
from aqcl.demo import verdict
from aqcl.experiment import resolve
from tests.e2e.commands import Outcome, aqcl, succeeds
from tests.test_tables import row

SIZES = {"users": 300, "items": 60, "samples": 4_000}
ROOT = Path(__file__).parents[2]
TRAINING = {"epochs": 1, "evaluations_per_epoch": 1, "batch_size": 256}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = {"name": "oncold", "cache": str(tmp_path_factory.getbasetemp() / "cache"), **SIZES}
    small = replace(demo.DEMOS["oncold"], prepare={"source": source})
    monkeypatch.setitem(demo.DEMOS, "oncold", small)
    monkeypatch.setattr(demo, "TRAINING", TRAINING)
    # Tests have one thread, and a run names how many it had.
    monkeypatch.setattr("aqcl.runtime.settle_threads", lambda *_: None)


def lines_of(outcome: Outcome) -> list[str]:
    return [" ".join(line.split()) for line in outcome.out.splitlines()]


def test_the_demo_prepares_trains_and_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = succeeds("demo", "--data", "oncold")
    assert "SIMULATED data" in first.out
    assert re.search(r"300 users, 60 items, [\d,]+ clicks; [\d,]+ training rows", first.out)
    lines = lines_of(first)
    groups = ("all users:", "non-active,", "slightly-active,", "highly-active,")
    assert all(sum(line.startswith(group) for line in lines) == 1 for group in groups)
    assert sum(line.startswith("DIN+AQCL 0.") for line in lines) == 4
    said = " ".join(first.out.split()).partition("DIN+AQCL against DIN, all users, ")[2]
    assert re.match(
        r"in this pair of .*?(chance in users|no difference shown|too little to tell)", said
    )
    assert "Settings: not tuned. One seed of each shows how it works" in said
    runs = [Path("demo/runs/oncold-din"), Path("demo/runs/oncold-din+aqcl")]
    for run in runs:
        assert str(run) in lines
        assert (run / "predictions-test.parquet").exists()

    # Done again, everything is there already and nothing changes.
    marks = [(run / name).stat() for run in runs for name in ("weights.safetensors", "log.jsonl")]
    again = succeeds("demo", "--data", "oncold")
    assert lines_of(again) == lines
    assert "epoch" not in again.err
    assert "is already prepared" in again.err
    assert marks == [
        (run / name).stat() for run in runs for name in ("weights.safetensors", "log.jsonl")
    ]
    table = "\n".join(lines)
    compared = lines_of(succeeds("compare", *runs))
    assert "\n".join(compared[: compared.index("")]) in table


def test_measures_of_simulated_data_say_so_even_where_the_dataset_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    succeeds("demo", "--data", "oncold")
    run = Path("demo/runs/oncold-din")
    title = "DIN, seed 0, test rows"
    assert lines_of(succeeds("evaluate", run))[0] == f"{title}, simulated data"
    trained = lines_of(succeeds("train", run / "config.toml", "--out", "again"))
    assert trained[0] == "DIN, seed 0, valid rows, simulated data"
    dataset = Path(read_toml(run / "config.toml")["dataset"])
    dataset.rename("moved")
    assert lines_of(succeeds("evaluate", run))[0] == f"{title}, simulated data"
    told = lines_of(succeeds("evaluate", run, "--dataset", "moved"))
    assert told[0] == f"{title}, simulated data"


def test_the_tuned_demo_has_the_settings_that_its_study_chose() -> None:
    """Rounded to two digits; what is in a table of the results is what a user sees at work."""
    table = json.loads((ROOT / "results" / "paper" / "table2.json").read_text())
    compared = {(c["id"], c["dataset"]): c for c in table["comparisons"]}["tuned", "ta-feng"]
    above = next(c for c in compared["claims"] if (c["method"], c["base"]) == ("AQCL", "DIN"))
    assert above["verdict"] == "not shown"
    assert "five seeds show no difference" in demo.DEMOS["ta-feng"].settings
    studied = table["studies"]["ta-feng/din"]["methods"]
    for name, method in {"DIN": "DIN", "DIN+AQCL": "AQCL"}.items():
        values = demo.DEMOS["ta-feng"].methods[name]
        chosen = resolve({"dataset": "x", **studied[method]["experiment"]})
        made = resolve({"dataset": "x", **values})
        assert made.train.embedding_l2 == pytest.approx(chosen.train.embedding_l2, rel=0.06)
        assert made.backbone["dropout"] == chosen.backbone["dropout"]
        assert made.regularizer.keys() == chosen.regularizer.keys()
        for key in ("weight", "w1", "w2") if made.regularizer else ():
            ours, theirs = (e.regularizer["aqcl"][key] for e in (made, chosen))
            assert ours == pytest.approx(theirs, rel=0.06)


def test_a_file_of_the_users_own_is_for_real_data(tmp_path: Path) -> None:
    outcome = aqcl("demo", "--data", "ta-feng", "--path", tmp_path / "none.csv", "-o", tmp_path)
    assert outcome.code == 2
    assert "none.csv" in outcome.err


@pytest.mark.parametrize(
    ("impr", "low", "high", "given", "words"),
    [
        (2.5, 1.0, 4.0, "better", "RelaImpr +2.50% [+1.00%, +4.00%]. The interval covers"),
        (-2.5, -4.0, -1.0, "worse", "RelaImpr -2.50% [-4.00%, -1.00%]. The interval covers"),
        (2.5, -1.0, 4.0, "no difference shown", "+2.50% [-1.00%, +4.00%], no difference shown."),
        (None, None, None, "no difference shown", "DIN is at or below chance (AUC 0.4900)"),
        (2.5, None, None, "too little to tell", "+2.50%, too little to tell."),
    ],
)
def test_the_verdict_says_what_the_interval_gives(
    impr: float | None, low: float | None, high: float | None, given: Any, words: str
) -> None:
    rows = [
        row("DIN", "all", verdict="base", auc=0.49),
        row(
            "DIN+AQCL",
            "all",
            rela_impr=impr,
            rela_impr_low=low,
            rela_impr_high=high,
            verdict=given,
        ),
    ]
    text = verdict(rows, "DIN", "DIN+AQCL")
    assert words in " ".join(text.split())
