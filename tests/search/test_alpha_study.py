"""Alpha searched by one run and by halving: the study they leave, killed or not."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aqcl.config import read_toml, to_toml
from aqcl.describe import describe_directory
from aqcl.errors import StorageError
from aqcl.experiment import resolve
from aqcl.runs import open_run
from aqcl.search import alpha_study, work
from aqcl.search.bar import SearchProgress
from aqcl.search.plan import plan_search
from aqcl.search.work import read_study, run_search
from aqcl.train import Trainer, train
from tests.alpha_searches import METHODS, assert_same_search, values_of
from tests.searches import Killed, draw_no_study_figures, killed_at
from tests.tiny_runs import tiny_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def wholes(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of each method."""
    folder = tmp_path_factory.mktemp("studies")
    for method in METHODS:
        run_search(values_of(data, method), folder / method)
    return folder


@pytest.fixture(scope="module")
def black_box(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The summary of a search of another kind."""
    values = values_of(data, "one-run") | {"search": {"trials": 2}}
    with pytest.MonkeyPatch.context() as patch:
        draw_no_study_figures(patch)
        return run_search(values, tmp_path_factory.mktemp("black-box") / "study")


@pytest.fixture(autouse=True)
def _figures_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the fixture `wholes`, which is made before this one, draws its figures."""
    draw_no_study_figures(monkeypatch)


@pytest.mark.parametrize("method", METHODS)
def test_the_summary_has_the_shape_of_a_black_box_study(
    black_box: dict[str, Any], wholes: Path, method: str
) -> None:
    mine, other = read_study(wholes / method), black_box
    assert other.keys() == mine.keys()
    ours, theirs = mine["methods"]["best"], other["methods"]["best"]
    assert theirs.keys() <= ours.keys()
    assert theirs["best"].keys() <= ours["best"].keys()
    for trial in ours["trials"]:
        assert theirs["trials"][0].keys() <= trial.keys()
    assert (mine["method"], mine["objective"], mine["minimizes"]) == (method, "logloss", True)
    assert describe_directory(wholes / method)["methods"] == mine["methods"]


@pytest.mark.parametrize("method", METHODS)
def test_the_winner_is_an_experiment_that_trains(wholes: Path, tmp_path: Path, method: str) -> None:
    best = read_study(wholes / method)["methods"]["best"]["best"]
    winner = resolve(read_toml(wholes / method / "best.toml"))
    options = winner.regularizer["aqcl"]
    assert not options["learn_alpha"]["enabled"]
    assert best["parameters"] == {
        "regularizer.aqcl.w1": options["w1"],
        "regularizer.aqcl.w2": options["w2"],
    }
    assert options["w1"] != 1
    at_mean = best["alpha"]["aqcl"]["mean"]
    assert at_mean == pytest.approx(np.exp(-options["w1"]))
    assert "alpha" not in train(winner, tmp_path / "run").manifest.content


def test_one_run_tells_its_evaluations(wholes: Path) -> None:
    method = read_study(wholes / "one-run")["methods"]["best"]
    (trial,) = method["trials"]
    run = open_run(wholes / "one-run" / trial["run"])
    assert not (run.path / "checkpoint.safetensors").exists()
    assert trial["rows"] == method["rows"] == run.log()[-1]["rows"] > 4 * len(run.log())
    assert trial["value"] == run.metrics()["valid"]["groups"][0]["logloss"]
    assert trial["value"] == method["best_so_far"][-1] == method["best"]["value"]
    assert len(method["best_so_far"]) == len(method["history"]) == len(run.log())
    assert trial["best_step"] in [line["step"] for line in method["history"]]


def test_halving_tells_the_rungs_of_each_candidate(wholes: Path) -> None:
    method = read_study(wholes / "halving")["methods"]["best"]
    assert [trial["number"] for trial in method["trials"]] == [0, 1, 2, 3]
    assert sorted(len(trial["rungs"]) for trial in method["trials"]) == [1, 1, 2, 2]
    for trial in method["trials"]:
        assert trial["state"] == ("complete" if len(trial["rungs"]) == 2 else "pruned")
        assert trial["value"] == trial["rungs"][-1]["valid_logloss"]
        assert trial["rows"] == trial["rungs"][-1]["rows"]
        assert {p.name for p in (wholes / "halving" / trial["run"]).iterdir()} == {
            "config.toml",
            "log.jsonl",
        }
    # The winner is the best of all: whoever stays is better than whoever leaves.
    assert method["best"]["value"] == min(trial["value"] for trial in method["trials"])
    assert method["best_so_far"][-1] == method["best"]["value"]
    assert method["best_so_far"] == sorted(method["best_so_far"], reverse=True)
    assert method["start_rows"] > 0
    assert method["rows"] == method["start_rows"] + sum(t["rows"] for t in method["trials"])


def test_figures_of_both(wholes: Path) -> None:
    own = {"one-run": "best-trajectory", "halving": "best-rungs"}
    for method, figure in own.items():
        names = {path.stem for path in (wholes / method / "figures").iterdir()}
        assert names == {"best-so-far", "best-alpha", figure}
    text = (wholes / "one-run" / "figures" / "best-alpha.svg").read_text()
    assert "share of users with a training click" in text


@pytest.mark.parametrize(("alpha", "size"), [("groups", 3), ("spline", 5)])
def test_other_shapes_are_learned_in_one_run(
    data: Path, tmp_path: Path, alpha: str, size: int
) -> None:
    values = values_of(data, "one-run", alpha=alpha)
    run_search(values | {"train": {**values["train"], "epochs": 2}}, tmp_path / "study")
    best = read_study(tmp_path / "study")["methods"]["best"]["best"]
    options = resolve(read_toml(tmp_path / "study" / "best.toml")).regularizer["aqcl"]
    ((key, found),) = best["parameters"].items()
    assert key == f"regularizer.aqcl.{'group' if alpha == 'groups' else alpha}_values"
    assert list(options[key.rpartition(".")[2]]) == found
    assert (options["alpha"], len(found)) == (alpha, size)


SCRIPT = """
import sys, time
from pathlib import Path
import torch
from aqcl.config import read_toml
from aqcl.search.work import run_search

torch.set_num_threads(1)
def listen(progress):
    if progress.done >= int(sys.argv[3]):
        print(progress.done, flush=True)
        time.sleep(60)

run_search(read_toml(Path(sys.argv[1])), Path(sys.argv[2]), listen=listen)
"""


def test_a_search_that_was_really_killed_ends_as_if_it_had_not_been(
    data: Path, wholes: Path, tmp_path: Path
) -> None:
    method, done = "one-run", 14
    (tmp_path / "x.toml").write_text(to_toml(values_of(data, method)))
    words = [str(tmp_path / "x.toml"), str(tmp_path / "study"), str(done)]
    command = [sys.executable, "-c", SCRIPT, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) >= done
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(StorageError, match=r"this study has not finished; continue it with"):
        describe_directory(tmp_path / "study")
    run_search(values_of(data, method), tmp_path / "study", resume=True)
    assert_same_search(tmp_path / "study", wholes / method)


@pytest.mark.parametrize("done", [5, 14, 27])
def test_a_halving_killed_anywhere_ends_as_if_it_had_not_been(
    data: Path, wholes: Path, tmp_path: Path, done: int
) -> None:
    def kill(progress: SearchProgress) -> None:
        if progress.done >= done:
            raise Killed

    with pytest.raises(Killed):
        run_search(values_of(data, "halving"), tmp_path / "study", listen=kill)
    with pytest.raises(StorageError, match=r"this study has not finished; continue it with"):
        describe_directory(tmp_path / "study")
    run_search(values_of(data, "halving"), tmp_path / "study", resume=True)
    assert_same_search(tmp_path / "study", wholes / "halving")


@pytest.mark.parametrize("method", METHODS)
def test_a_search_killed_at_its_end_trains_nothing_again(
    data: Path, wholes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def forbidden(self: Trainer, batch: object) -> None:
        raise AssertionError("a step was trained again")

    values, out = values_of(data, method), tmp_path / "study"
    for name in ("write_findings", "seal", "clean_up"):
        with killed_at(monkeypatch, alpha_study, name, 0):
            run_search(values, out, resume=out.exists())
        monkeypatch.setattr(Trainer, "step", forbidden)
    run_search(values, out, resume=True)
    assert_same_search(out, wholes / method)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_killed_while_it_was_made_is_made_again(
    data: Path, wholes: Path, tmp_path: Path, method: str
) -> None:
    out = tmp_path / "study"
    work.start_study(out, plan_search(values_of(data, method)), resume=False)
    for run in ("0000", "warm"):
        (out / "trials" / run).mkdir(parents=True)
        (out / "trials" / run / "config.toml.partial").write_text("half")
    run_search(values_of(data, method), out, resume=True)
    assert_same_search(out, wholes / method)
