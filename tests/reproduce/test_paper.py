"""Tables and figures from end to end on a tiny simulated log."""

import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aqcl.config import as_values, build
from aqcl.datasets import SOURCES
from aqcl.errors import ConfigError, StorageError, TrainingError
from aqcl.reproduce import gather, jobs, paper, work
from aqcl.reproduce.cells import (
    Problems,
    Scope,
    comparisons_of,
    needs_of,
    place_of,
    prepare_values,
    study_of,
    tuned_cell,
)
from aqcl.reproduce.gather import finished_runs
from aqcl.reproduce.specs import TUNED, load_specs
from aqcl.reproduce.work import Standing
from aqcl.train import train
from tests.reproduce.specifications import InProcess, small_specs, train_in_process

pytestmark = pytest.mark.usefixtures("no_study_figures")
SEEDS = 2


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper, "load_specs", small_specs)
        patch.setenv("AQCL_CACHE", str(tmp_path_factory.mktemp("cache")))
        train_in_process(patch)
        yield Scope(tmp_path_factory.mktemp("paper"), SEEDS)


@pytest.fixture(scope="module")
def told() -> list[Standing]:
    return []


@pytest.fixture(scope="module")
def outcomes(world: Scope, told: list[Standing]) -> dict[str, Any]:
    names = ("table1", "table2", "figure2", "figure4", "figure5")
    made = paper.reproduce(names, world, datasets=("oncold",), listen=told.append)
    return {outcome["name"]: outcome for outcome in made}


def test_a_table_has_every_cell_with_its_runs(outcomes: dict[str, Any]) -> None:
    (comparison,) = outcomes["table2"]["comparisons"]
    assert comparison["cells"] == dict.fromkeys(("DIN", "ICL", "AQCL"), "finished")
    assert [(run["label"], run["seed"]) for run in comparison["runs"]] == [
        (label, seed) for label in ("DIN", "ICL", "AQCL") for seed in (1, 2)
    ]


def test_the_table_follows_from_the_runs(outcomes: dict[str, Any]) -> None:
    (comparison,) = outcomes["table2"]["comparisons"]
    for row in comparison["comparison"]["rows"]:
        runs = [r for r in comparison["runs"] if r["label"] == row["configuration"]]
        aucs = [run["auc"][row["group"]] for run in runs]
        assert row["auc"] == pytest.approx(np.mean(aucs), abs=1e-12)
        assert row["auc_sd"] == pytest.approx(np.std(aucs, ddof=1), abs=1e-12)


def test_claims_stand_beside_the_papers_numbers(outcomes: dict[str, Any]) -> None:
    (comparison,) = outcomes["table2"]["comparisons"]
    claims = {claim["text"]: claim for claim in comparison["claims"]}
    above = claims["AQCL is above DIN"]
    assert above["paper_rela_impr"] == pytest.approx(3.46)
    rows = comparison["comparison"]["rows"]
    row = next(r for r in rows if (r["configuration"], r["group"]) == ("AQCL", "all"))
    assert above["difference"] == row["difference"]
    over = claims["AQCL is above ICL"]
    icl = next(r for r in rows if (r["configuration"], r["group"]) == ("ICL", "all"))
    assert over["difference"] == pytest.approx(row["auc"] - icl["auc"], abs=1e-12)


def test_everything_is_written_as_data_text_and_pictures(
    outcomes: dict[str, Any], world: Scope
) -> None:
    folder = world.out / "outcome"
    for name, outcome in outcomes.items():
        assert json.loads((folder / f"{name}.json").read_text()) == json.loads(json.dumps(outcome))
        text = (folder / f"{name}.md").read_text()
        assert outcome["title"] in text
        for line in text.splitlines():
            if line.startswith("!["):
                picture = folder / line.rpartition("](")[2].rstrip(")")
                assert picture.stat().st_size > 1000
    pictures = {path.name for path in (folder / "figures").iterdir()}
    assert {"figure2-oncold.svg", "figure4-alpha.svg", "figure5-oncold-constant.png"} <= pictures
    assert "908,400" in (folder / "table1.md").read_text()


def test_tables_share_runs_and_a_second_time_nothing_is_trained(
    outcomes: dict[str, Any], world: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, figure = outcomes["table2"]["comparisons"][0], outcomes["figure5"]["comparisons"][0]
    aqcl = [r["fingerprint"] for r in table["runs"] if r["label"] == "AQCL"]
    curve = [r["fingerprint"] for r in figure["runs"] if r["label"] == "searched curve"]
    assert aqcl == curve
    zero = [r["fingerprint"] for r in figure["runs"] if r["label"] == "alpha 0"]
    assert not set(zero) & set(curve)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is left to do")

    monkeypatch.setattr(work, "ProcessPoolExecutor", refuse)
    monkeypatch.setattr(work, "run_search", refuse)
    again = paper.reproduce(("table2", "figure5"), world, datasets=("oncold",))
    assert json.dumps(again[0]) == json.dumps(outcomes["table2"])


def test_the_listener_hears_every_trial_and_run(
    outcomes: dict[str, Any], told: list[Standing]
) -> None:
    last = told[-1]
    # 3 methods x 2 trials, both trained with 2 more seeds; 3 methods and one constant alpha x 2
    # seeds.
    assert (last.done, last.total) == (6 + 12 + 8, 6 + 12 + 8)
    assert all(standing.done <= standing.total for standing in told)


def test_runs_of_a_method_follow_its_study_and_no_other_is_waited_for(
    outcomes: dict[str, Any], told: list[Standing]
) -> None:
    steps = [f"{s.what.split()[0]} {s.what.split()[1].rstrip(',')}" for s in told]
    firsts = [step for step in dict.fromkeys(steps) if not step.startswith("training")]
    order = [
        f"{what} {method}" for method in ("DIN", "ICL", "AQCL") for what in ("tuning", "trained")
    ]
    assert firsts == order


def test_a_figure_trains_no_more_methods_and_seeds_than_it_draws(world: Scope) -> None:
    specs = small_specs()
    needs = needs_of(specs, replace(world, seeds=5), ("figure6",), ("oncold",), {})
    assert {study.method for study in needs.studies} == {"DIN", "AQCL"}
    assert {cell.label: seeds for cell, seeds in needs.cells.items()} == {"DIN": 1, "AQCL": 1}
    both = needs_of(specs, replace(world, seeds=5), ("table2", "figure6"), ("oncold",), {})
    assert {cell.label: seeds for cell, seeds in both.cells.items()} == {
        "DIN": 5,
        "ICL": 5,
        "AQCL": 5,
    }


def test_methods_of_unequal_budgets_do_not_stand_in_one_table(
    outcomes: dict[str, Any], world: Scope
) -> None:
    for trains in (True, False):
        with pytest.raises(ConfigError, match=r"DIN was tuned with trials 2, now 3: .*equal budg"):
            paper.reproduce(
                ("table2",), replace(world, trials=3), datasets=("oncold",), train=trains
            )


def test_a_study_of_several_methods_still_counts(
    outcomes: dict[str, Any], world: Scope, tmp_path: Path
) -> None:
    """As they were once: in the directory of their backbone."""
    study = study_of(small_specs(), place_of(world, "oncold", TUNED), "ICL")
    copy = study_of(small_specs(), place_of(Scope(tmp_path), "oncold", TUNED), "ICL")
    shutil.copytree(study.folder, copy.folder.parent)
    winner = study.winner()
    assert winner is not None
    assert copy.winner() == replace(winner, dataset=str(copy.place.prepared))
    assert study_of(small_specs(), copy.place, "AQCL").winner() is None


def test_a_killed_worker_is_told_even_if_it_was_idle(
    outcomes: dict[str, Any], world: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(ProcessPoolExecutor):
        def submit(self, *_: Any, **__: Any) -> Any:
            raise BrokenProcessPool

    copy = copy_without_a_run(world, tmp_path / "paper")
    monkeypatch.setattr(work, "ProcessPoolExecutor", Broken)
    with pytest.raises(TrainingError, match="a worker was killed"):
        paper.reproduce(("table2",), copy, datasets=("oncold",))


def copy_without_a_run(world: Scope, out: Path) -> Scope:
    """The same work, but for the second run of ICL."""
    copy = Scope(out, SEEDS)
    shutil.copytree(world.out, copy.out)
    cell = tuned_cell(small_specs(), place_of(copy, "oncold", TUNED), "ICL")
    shutil.rmtree(finished_runs(cell, SEEDS)[1])
    return copy


def test_a_run_that_diverges_leaves_the_others_and_is_told(
    outcomes: dict[str, Any], world: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_without_a_run(world, tmp_path / "paper")
    shutil.rmtree(
        finished_runs(tuned_cell(small_specs(), place_of(copy, "oncold", TUNED), "AQCL"), SEEDS)[0]
    )

    def diverge(experiment: Any, *args: Any, **options: Any) -> Any:
        if experiment.name == "ICL":
            raise TrainingError("the loss is no longer finite")
        return train(experiment, *args, **options)

    monkeypatch.setattr(jobs, "train", diverge)
    (outcome,) = paper.reproduce(("table2",), copy, datasets=("oncold",))
    reason = "not run: 1 of 2 seeds; seed2: the loss is no longer finite"
    assert outcome["comparisons"][0]["cells"] == {
        "DIN": "finished",
        "ICL": reason,
        "AQCL": "finished",
    }
    assert reason in (copy.out / "outcome" / "table2.md").read_text()


def test_an_interrupted_command_begins_no_other_run(
    outcomes: dict[str, Any], world: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, begun = Scope(tmp_path / "paper", seeds=SEEDS + 3), list[Any]()
    shutil.copytree(world.out, copy.out)

    class Counting(InProcess):
        def submit(self, *args: Any, **options: Any) -> Any:
            begun.append(args)
            return super().submit(*args, **options)

    def interrupt(standing: Standing) -> None:
        if standing.what.startswith("trained"):
            raise KeyboardInterrupt

    monkeypatch.setattr(work, "ProcessPoolExecutor", Counting)
    with pytest.raises(KeyboardInterrupt):
        paper.reproduce(("table2",), copy, datasets=("oncold",), workers=2, listen=interrupt)
    assert len(begun) == 2


def test_a_cell_without_all_of_its_seeds_is_not_run(
    outcomes: dict[str, Any], world: Scope, tmp_path: Path
) -> None:
    copy = copy_without_a_run(world, tmp_path / "paper")
    (outcome,) = paper.reproduce(("table2",), copy, datasets=("oncold",), train=False)
    (comparison,) = outcome["comparisons"]
    assert comparison["cells"]["ICL"] == "not run: 1 of 2 seeds"
    shown = {row["configuration"] for row in comparison["comparison"]["rows"]}
    assert shown == {"DIN", "AQCL"}
    assert {c["verdict"] for c in comparison["claims"] if c["base"] == "ICL"} == {"not run"}
    assert "not run: 1 of 2 seeds" in (copy.out / "outcome" / "table2.md").read_text()


def test_a_data_set_without_its_file_is_not_run_and_says_why(
    world: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "load_specs", load_specs)
    (outcome,) = paper.reproduce(("table1",), world, datasets=("beauty",))
    assert "--beauty FILE" in outcome["datasets"]["beauty"]["missing"]
    assert "--beauty FILE" in (world.out / "outcome" / "table1.md").read_text()


def test_a_prepared_data_set_from_another_file_is_an_error_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "load_specs", load_specs)
    for name in ("a", "b"):
        lines = [f"{user} " + " ".join(str(user % 3 + k) for k in range(6)) for user in range(30)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    first, second = (
        Scope(tmp_path / "paper", files={"beauty": (tmp_path / f"{name}.txt",)}) for name in "ab"
    )
    paper.reproduce(("table1",), first, datasets=("beauty",))
    with pytest.raises(StorageError, match="another"):
        paper.reproduce(("table1",), second, datasets=("beauty",))
    with pytest.raises(ConfigError, match="--beauty FILE"):
        paper.reproduce(("table1",), Scope(tmp_path / "paper"), datasets=("beauty",))


@pytest.mark.parametrize("names", [("b.txt", "b_attributes.json"), ("b.json.gz", "meta.json.gz")])
def test_files_of_both_kinds_are_settings_of_their_source(
    names: tuple[str, str], tmp_path: Path
) -> None:
    specs = load_specs()
    files = {"beauty": tuple(tmp_path / name for name in names)}
    scope = Scope(tmp_path / "paper", files=files)
    place = place_of(scope, "beauty", "attributes-frozen")
    source = dict(prepare_values(specs, scope, place)["source"])
    settings = build(SOURCES[source.pop("name")].settings, source, "source")
    assert {str(tmp_path / name) for name in names} <= set(as_values(settings).values())


def test_ids_are_the_same_data_with_attributes_and_without_and_attributes_need_their_file(
    tmp_path: Path,
) -> None:
    specs = load_specs()
    log, attributes = tmp_path / "b.txt", tmp_path / "b_attributes.json"

    def values(corner: str, *files: Path) -> dict[str, Any]:
        scope = Scope(tmp_path / "paper", files={"beauty": files})
        return prepare_values(specs, scope, place_of(scope, "beauty", corner))

    assert values(TUNED, log) == values(TUNED, log, attributes)
    with pytest.raises(ConfigError, match=r"no attributes; .*--beauty b\.txt ATTRIBUTES"):
        values("attributes-frozen", log)
    with pytest.raises(ConfigError, match=r"--beauty: .*got 3 files"):
        values(TUNED, log, attributes, attributes)


@pytest.mark.parametrize("name", ["tuned", "attributes"])
def test_a_comparison_whose_data_cannot_be_had_is_not_run_and_says_why(
    tmp_path: Path, name: str
) -> None:
    scope = Scope(tmp_path)
    (comparison, _, cells), *_ = (
        found
        for found in comparisons_of(load_specs(), scope, "table2", ("beauty",))
        if found[0].id == name
    )
    problems = Problems({cells[0].place: "no file"})
    made = gather._comparison(load_specs(), scope, comparison, "beauty", cells, problems)
    assert made["cells"] == {cell.label: "not run: no file" for cell in cells}


def test_one_data_set_after_the_other_gives_what_both_at_once_do(
    world: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = small_specs()
    twin = replace(specs.datasets["oncold"], title="Twin")
    figure = replace(specs.experiments["figure2"], datasets=("oncold", "twin"))
    specs = replace(
        specs,
        datasets={**specs.datasets, "twin": twin},
        experiments={**specs.experiments, "figure2": figure},
    )
    monkeypatch.setattr(paper, "load_specs", lambda: specs)
    (both,) = paper.reproduce(("figure2",), Scope(tmp_path / "both"))
    assert both["activity"].keys() == {"oncold", "twin"}

    for key in ("oncold", "twin", "oncold"):
        paper.reproduce(("figure2",), Scope(tmp_path / "each"), datasets=(key,))
    assert json.loads((tmp_path / "each" / "outcome" / "figure2.json").read_text()) == both

    # Other seeds make another table.
    other = Scope(tmp_path / "each", seeds=3)
    (alone,) = paper.reproduce(("figure2",), other, datasets=("twin",))
    assert alone["activity"].keys() == {"twin"}


def test_an_outcome_says_what_made_it(outcomes: dict[str, Any]) -> None:
    table = outcomes["table2"]
    assert table["command"] == f"aqcl reproduce table2 --seeds {SEEDS}"
    methods = table["studies"]["oncold/din"]["methods"]
    for name, method in methods.items():
        assert method["experiment"]["name"] == name
        penalty = method["experiment"]["train"]["embedding_l2"]
        assert penalty == method["parameters"]["train.embedding_l2"]
        assert method["number"] in {finalist["number"] for finalist in method["finalists"]}


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ((), {}, "nothing to reproduce"),
        (("table4",), {}, "did you mean 'table"),
        (("table2",), {"datasets": ("oncolt",)}, "did you mean 'oncold'"),
        (("table2",), {"workers": 0}, "expected 1 or more"),
    ],
)
def test_mistakes_are_named(
    world: Scope, names: tuple[str, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        paper.reproduce(names, world, **options)
