"""Weights from before the end of a warm-up are told wherever a run is looked at."""

from pathlib import Path
from typing import Any

import pytest

from aqcl.assessment import compare_runs
from aqcl.experiment import resolve
from aqcl.report.run_report import report_runs
from aqcl.search.work import run_search
from aqcl.tables import comparison_table
from aqcl.train import train
from aqcl.warm_up import cut_off_notes, warm_up_notes, warming
from tests.alpha_searches import values_of
from tests.e2e.commands import TINY_MODEL, aqcl, write_experiment
from tests.report.test_page import Outline
from tests.searches import DIN_AND_AQCL, short_search
from tests.test_tables import shown
from tests.tiny_runs import AQCL, tiny_dataset, tiny_experiment

pytestmark = pytest.mark.usefixtures("no_study_figures")
EARLY = (
    "the best weights are of step {step}, within the warm-up of aqcl (99 steps): instance contrast "
    "alone trained them, without codebook and alpha; set regularizer.aqcl.warmup_steps well below "
    "{step}"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


def test_a_codebook_has_a_part_from_the_step_after_the_warm_up_on() -> None:
    regularizers = {
        "aqcl": {"warmup_steps": 5},
        "aqcl.regularizers.aqcl:AQCL": {"warmup_steps": 6},
        "pcl": {"warmup_steps": 7},
        "icl": {},
        "swav": {"warmup_steps": 99},  # its loss is its own from the first step on
    }
    experiment = resolve({"dataset": "d", "regularizer": regularizers})
    assert list(warming(experiment, 5)) == ["aqcl", "aqcl.regularizers.aqcl:AQCL", "pcl"]
    assert list(warming(experiment, 6)) == ["aqcl.regularizers.aqcl:AQCL", "pcl"]
    assert warming(experiment, 7) == {"pcl": "prototypes"}
    assert warming(experiment, 8) == {}


@pytest.mark.parametrize("options", [{"weight": 0.0}, {"warmup_steps": 0}])
def test_without_weight_or_warm_up_there_is_nothing_to_tell(options: dict[str, float]) -> None:
    experiment = resolve({"dataset": "d", "regularizer": {"aqcl": options}})
    assert warm_up_notes("x", experiment, [1]) == []


def test_the_seeds_of_a_method_are_told_together() -> None:
    experiment = resolve({"dataset": "d", "regularizer": {"aqcl": {"warmup_steps": 50}}})
    (note,) = warm_up_notes("DIN #2", experiment, [40, 60, 30])
    assert note.startswith("DIN #2: the best weights in 2 of 3 runs are of steps 30, 40, within")
    assert note.endswith("warmup_steps well below 30")
    assert warm_up_notes("DIN #2", experiment, [51, 60]) == []


def test_runs_that_their_epochs_ended_are_told() -> None:
    experiment = resolve({"dataset": "d", "train": {"epochs": 3}})
    assert cut_off_notes("DIN", experiment, [(8, 12), (4, 12)]) == []
    (note,) = cut_off_notes("DIN", experiment, [(8, 12), (12, 12), (12, 12)])
    assert note.startswith("DIN: the best weights in 2 of 3 runs are those of the last evaluation")
    assert note.endswith("raise train.epochs above 3")
    (note,) = cut_off_notes("DIN", experiment, [(12, 12)])
    assert note.startswith("DIN: the best weights are those of the last evaluation")


def test_a_run_that_its_epochs_ended_is_told_where_it_is_looked_at(
    data: Path, tmp_path: Path
) -> None:
    short = "--set", "train.epochs=1", "--set", "train.evaluations_per_epoch=1"
    experiment = write_experiment(tmp_path / "experiment.toml", data, TINY_MODEL)
    run = aqcl("train", experiment, "-o", tmp_path / "run", *short, "--json")
    assert run.json["best_step"] == run.json["steps"]
    assert "raise train.epochs above " in run.err
    assert "training ended while it may still have improved" in shown(
        comparison_table(compare_runs([tmp_path / "run"], replicates=100))
    ).replace("\n", " ")


def test_comparisons_and_reports_tell_it(data: Path, tmp_path: Path) -> None:
    late = train(tiny_experiment(data, "name=late"), tmp_path / "late")
    early = train(
        tiny_experiment(data, "name=early", "regularizer.aqcl.warmup_steps=99"), tmp_path / "early"
    )
    told = f"early: {EARLY.format(step=early.manifest.content['best_step'])}."
    result = compare_runs([late.path, early.path], replicates=100)
    assert [f"{note}." for note in result.trainings if "warm-up" in note] == [told]
    assert f"Warning: {told}" in " ".join(shown(comparison_table(result)).split())
    assert told in Outline(report_runs([late.path, early.path], replicates=100).html).text
    assert "warm-up" not in str(compare_runs([late.path], replicates=100).trainings)


def test_a_study_tells_it_of_its_winners(data: Path, tmp_path: Path) -> None:
    values = short_search(data, trials=2, widen=0, methods=DIN_AND_AQCL)
    values["regularizer"] = {"aqcl": {**AQCL, "warmup_steps": 99}}
    summary = run_search(values, tmp_path / "study")
    step = summary["methods"]["din+aqcl"]["best"]["best_step"]
    assert [note for note in summary["notes"] if "warm-up" in note] == [
        f"din+aqcl: {EARLY.format(step=step)}"
    ]


@pytest.mark.parametrize("change", [{"warmup_steps": 99}, {"learn_alpha": {"every": 99}}])
def test_an_alpha_that_never_moved_is_not_told_as_found(
    data: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    # 4.9 lies in the outer tenth of the range, which says nothing of an alpha that is only given.
    summary = run_search(values_of(data, "one-run", w1=4.9, **change), tmp_path / "study")
    (note,) = summary["notes"]
    assert note.startswith("alpha was not found, it is the one given: the best weights are of step")
    assert note.endswith("regularizer.aqcl.learn_alpha.every lower")


def test_the_command_line_tells_it(data: Path, tmp_path: Path) -> None:
    experiment = write_experiment(tmp_path / "experiment.toml", data, TINY_MODEL)
    warm_up = "regularizer.aqcl.warmup_steps"
    early = aqcl("train", experiment, "-o", tmp_path / "early", "--set", f"{warm_up}=99", "--json")
    told = f"din+aqcl: {EARLY.format(step=early.json['best_step'])}"
    assert f"WARNING {told}\n" in early.err
    late = aqcl("train", experiment, "-o", tmp_path / "late", "--set", f"{warm_up}=0", "--json")
    assert "warm-up" not in late.err
    compared = aqcl("compare", tmp_path / "early", "--replicates", 100, "--json")
    assert compared.json["trainings"][0] == told
