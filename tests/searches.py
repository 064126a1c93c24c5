"""Searches of tiny runs, and what two equal studies have in common."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from aqcl.search import alpha_study, conclusion
from aqcl.search.plan import plan_search
from aqcl.search.study import Journal, Task
from tests.tiny_runs import VALUES

TIMES = ("seconds",)
DIN_AND_AQCL = {"din": {"regularizer": {"aqcl": {"weight": 0.0}}}, "din+aqcl": {}}


def search_values(dataset: Path, **search: Any) -> dict[str, Any]:
    """The tiny experiment with a table `search`."""
    return {"dataset": str(dataset), **VALUES, "search": search}


def short_search(dataset: Path, **search: Any) -> dict[str, Any]:
    """The same with short runs: one epoch with four evaluations."""
    values = search_values(dataset, **search)
    return values | {"train": {**values["train"], "epochs": 1, "evaluations_per_epoch": 4}}


class Killed(BaseException):
    """The end of a process at some point, as seen from within."""


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, call: int) -> Iterator[None]:
    """The process ends when a function is called for the time with this number, from 0."""
    original, calls = getattr(module, name), []

    def killing(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == call + 1:
            raise Killed
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, killing)
        with pytest.raises(Killed):
            yield


def draw_no_study_figures(patch: pytest.MonkeyPatch) -> None:
    """The figures of studies, which take half a second each, are empty or not there."""
    patch.setattr(conclusion, "save", lambda _, path: Path(f"{path}.svg").touch())
    patch.setattr(alpha_study, "draw_alpha_search", lambda *_: None)


def untimed(value: Any) -> Any:
    """Plain values without durations."""
    if isinstance(value, dict):
        return {key: untimed(item) for key, item in value.items() if key not in TIMES}
    return [untimed(item) for item in value] if isinstance(value, list) else value


def findings(study: Path) -> Any:
    """What stands in study.json, without durations."""
    return untimed(json.loads((study / "study.json").read_text()))


def assert_same_study(mine: Path, other: Path) -> None:
    """The same trials, winners and predictions."""
    assert findings(mine) == findings(other)
    names = [
        path.relative_to(other)
        for pattern in ("*.toml", "trials/**/*.toml", "trials/**/*.parquet")
        for path in sorted(other.glob(pattern))
    ]
    assert len(names) > 5
    for name in names:
        assert (mine / name).read_bytes() == (other / name).read_bytes(), name


def journal(folder: Path, **search: Any) -> Journal:
    """Of a study without a dataset, whose trials a test ends itself."""
    return Journal(folder, plan_search(search_values(Path("nowhere"), **search)))


def claimed(opened: Journal) -> Task:
    """The next trial."""
    task = opened.claim()
    assert isinstance(task, Task)
    return task


def end(opened: Journal, task: Task, value: float | None = None, lost: float | None = None) -> None:
    """A trial that has ended, with a value or pruned."""
    with opened.locked():
        trial = opened.trial(task)
        if lost is not None:
            trial.set_constraint("auc", lost)
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        trial.study.tell(task.number, value, state)
    task.release()
