"""The dataset of a study: one and the same, wherever it lies."""

import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import pytest

from aqcl.config import read_toml, to_toml
from aqcl.errors import ConfigError
from aqcl.runs import is_finished
from aqcl.search import trials, work, workers
from aqcl.search.bar import SearchProgress
from aqcl.search.work import read_study, run_search
from tests.alpha_searches import values_of
from tests.searches import DIN_AND_AQCL, Killed, draw_no_study_figures, findings, killed_at
from tests.searches import short_search as search_values
from tests.tiny_runs import tiny_dataset

SETTINGS: dict[str, Any] = {"trials": 3, "widen": 0, "methods": DIN_AND_AQCL}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def _figures_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_no_study_figures(monkeypatch)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study that an interrupted one must equal."""
    out = tmp_path_factory.mktemp("studies") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        draw_no_study_figures(patch)
        run_search(search_values(data, **SETTINGS), out)
    return out


def test_another_dataset_does_not_resume_a_study(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path)
    values = search_values(data, trials=2)

    def kill(progress: SearchProgress) -> None:
        raise Killed

    with pytest.raises(Killed):
        run_search(values, tmp_path / "study", listen=kill)
    manifest = json.loads((data / "manifest.json").read_text())
    (data / "manifest.json").write_text(json.dumps({**manifest, "fingerprint": "other"}))
    with pytest.raises(ConfigError, match=r"dataset: .*its fingerprint differs"):
        run_search(values, tmp_path / "study", resume=True)
    other = data.rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"elsewhere is not the one that .*fingerprint differs"):
        run_search(search_values(other, trials=2), tmp_path / "study", resume=True)
    assert read_toml(tmp_path / "study" / "study.toml")["dataset"] == str(data)


def test_a_study_whose_dataset_has_moved_ends_as_if_it_had_not_been_interrupted(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, moved, out = tiny_dataset(tmp_path), tmp_path / "elsewhere", tmp_path / "study"
    with killed_at(monkeypatch, trials, "_tell", 2):
        run_search(search_values(first, **SETTINGS), out)
    first.rename(moved)

    run_search(search_values(moved, **SETTINGS), out, resume=True)

    assert findings(out)["methods"] == findings(whole)["methods"]
    assert read_toml(out / "study.toml")["dataset"] == str(moved)


def test_workers_find_a_dataset_that_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, moved, out = tiny_dataset(tmp_path), tmp_path / "elsewhere", tmp_path / "study"
    settings = {"trials": 3, "widen": 0}
    with killed_at(monkeypatch, trials, "_tell", 0):
        run_search(search_values(first, **settings), out)
    first.rename(moved)

    found = run_search(search_values(moved, **settings), out, workers=2, resume=True)

    assert found["finished"]


def test_a_worker_keeps_the_place_of_its_own_machine(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "study"
    with killed_at(monkeypatch, trials, "_tell", 0):
        run_search(search_values(data, trials=2, widen=0), out)
    joined = {**read_toml(out / "study.toml"), "dataset": str(tmp_path / "of another machine")}
    (out / "study.toml").write_text(to_toml(joined))
    ours, theirs = multiprocessing.Pipe(duplex=False)

    workers._worker(out, str(data), theirs)

    assert not ours.poll()
    assert [is_finished(trial) for trial in (out / "trials").iterdir()] == [True, True]


@pytest.mark.parametrize("method", ["one-run", "halving"])
def test_an_alpha_search_goes_on_with_its_own_dataset_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    out = tmp_path / "study"
    other = shutil.copytree(data, tmp_path / "other")
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "fingerprint": "other"}))
    with killed_at(monkeypatch, work, "run_alpha_search", 0):
        run_search(values_of(data, method), out)

    with pytest.raises(ConfigError, match=r"other is not the one that .*fingerprint differs"):
        run_search(values_of(other, method), out, resume=True)
    assert read_toml(out / "study.toml")["dataset"] == str(data)


def test_a_finished_study_is_not_one_of_other_data(whole: Path, tmp_path: Path) -> None:
    dataset = read_toml(whole / "study.toml")["dataset"]
    copy = shutil.copytree(dataset, tmp_path / "copy")
    values = search_values(copy, **SETTINGS)
    assert run_search(values, whole, resume=True) == read_study(whole)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "fingerprint": "other"}))
    with pytest.raises(ConfigError, match=r"copy is not the one that .*fingerprint differs"):
        run_search(values, whole, resume=True)
