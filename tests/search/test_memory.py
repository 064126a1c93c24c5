"""What does not fit into memory fails its trial alone."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from aqcl.objective import Objective
from aqcl.search.work import run_search
from aqcl.train import build_objective
from tests.searches import short_search as search_values
from tests.tiny_runs import tiny_dataset

pytestmark = pytest.mark.usefixtures("no_study_figures")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
        MemoryError(),
    ],
)
def test_a_trial_that_does_not_fit_the_memory_fails_alone(
    error: Exception, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wide(*arguments: Any) -> Objective:
        if not tried:
            tried.append(True)
            raise error
        return build_objective(*arguments)

    tried = list[bool]()
    monkeypatch.setattr(importlib.import_module("aqcl.train"), "build_objective", wide)
    found = run_search(search_values(data, trials=2, widen=0), tmp_path / "study")
    first, second = found["methods"]["best"]["trials"]
    assert (first["state"], second["state"]) == ("fail", "complete")
    assert first["error"].startswith("the model or its training does not fit into memory (")
