"""What a search promises: test rows stay closed, mistakes and progress are told."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aqcl.config import to_toml
from aqcl.dataset import Dataset, open_dataset
from aqcl.errors import AqclError, DataError
from aqcl.search import trials, work, workers
from aqcl.search.bar import SearchProgress
from aqcl.search.plan import plan_search
from aqcl.search.work import run_search
from aqcl.search.workers import open_closed
from tests.alpha_searches import METHODS, values_of
from tests.searches import Killed, findings
from tests.searches import short_search as search_values
from tests.tiny_runs import tiny_dataset

pytestmark = pytest.mark.usefixtures("no_study_figures")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


def test_a_mistake_that_a_worker_finds_reaches_its_search(data: Path, tmp_path: Path) -> None:
    settings = {"objective": "constrained", "space": {"train.lr": {"choices": [1e30, 1e31]}}}
    values = search_values(data, trials=2, **settings)
    values["train"]["lr"] = 1e30  # of trial 0
    work.start_study(tmp_path, plan_search(values), resume=False)
    ours, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
    workers._worker(tmp_path, str(data), theirs)
    with pytest.raises(AqclError, match="trial 0, which the others are held against, has failed"):
        workers._raise_mistakes([(multiprocessing.Process(), ours)])
    theirs.close()
    workers._raise_mistakes([(multiprocessing.Process(), ours)])  # it has ended
    ours.close()


def test_test_rows_are_closed(data: Path) -> None:
    closed = open_closed(plan_search(search_values(data)))
    with pytest.raises(DataError, match="the test rows are closed here"):
        _ = closed.test
    assert len(closed.train) > 0
    assert len(closed.valid) > 0
    assert len(open_dataset(data).test) > 0


def test_the_trainer_gets_a_dataset_with_closed_test_rows(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[tuple[str, ...]] = []

    def stop(*_: Any, dataset: Dataset, **__: Any) -> None:
        closed.append(dataset.closed)
        raise Killed

    monkeypatch.setattr(trials, "train", stop)
    with pytest.raises(Killed):
        run_search(search_values(data, trials=2), tmp_path / "study")
    assert closed == [("test",)]


AUDIT = """
import sys
opened = []
sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)
from pathlib import Path
from aqcl.config import read_toml
from aqcl.search import alpha_study, conclusion
from aqcl.search.work import run_search
from aqcl.dataset import open_dataset

conclusion.save = alpha_study.draw_alpha_search = lambda *_: None  # figures are slow
for settings, out in zip(sys.argv[1::2], sys.argv[2::2]):
    values = read_toml(Path(settings))
    folder = values["dataset"]
    count = lambda split: sum(name.startswith(f"{folder}/{split}/") for name in opened)
    opened.clear()
    run_search(values, Path(out))
    print(count("train") > 0, count("valid") > 0, count("test"), end=" ")
    open_dataset(Path(folder)).test
    print(count("test") > 0)
"""


def test_a_search_opens_no_file_of_the_test_rows(data: Path, tmp_path: Path) -> None:
    searches = [search_values(data, trials=2, widen=0)]
    searches += [values_of(data, method) for method in METHODS]
    words: list[str] = []
    for number, values in enumerate(searches):
        (tmp_path / f"{number}.toml").write_text(to_toml(values))
        words += [str(tmp_path / f"{number}.toml"), str(tmp_path / f"study{number}")]
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout == "True True 0 True\n" * 3, done.stderr


def test_progress_tells_what_runs_and_how_much_remains(data: Path, tmp_path: Path) -> None:
    heard: list[SearchProgress] = []
    run_search(search_values(data, trials=2, widen=0), tmp_path / "study", listen=heard.append)
    assert [heard[0].done, heard[0].total, heard[0].best] == [0, 2, {"best": None}]
    assert heard[0].running == "trial 0"
    assert heard[1].running == "trial 0, epoch 1"
    assert heard[-1].done == 2
    assert (
        heard[-1].best["best"] == findings(tmp_path / "study")["methods"]["best"]["best"]["value"]
    )


def test_a_study_draws_in_its_own_order_whatever_the_file_has(data: Path, tmp_path: Path) -> None:
    space = {
        "train.embedding_l2": {"low": 1e-4, "high": 1e-2, "log": True},
        "train.lr": {"low": 0.01, "high": 0.1, "log": True},
    }
    plan = plan_search(search_values(data, space=space))
    turned = plan_search(search_values(data, space=dict(reversed(space.items()))))
    assert work.start_study(tmp_path / "study", plan, resume=False) == plan
    going_on = work.start_study(tmp_path / "study", turned, resume=True)
    assert list(going_on.methods[0].space.searched) == list(space)
    assert going_on == plan
