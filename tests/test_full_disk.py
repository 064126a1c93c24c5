"""A disk that fills up while a run is trained."""

import errno
import re
from pathlib import Path
from typing import Any

import pytest

from aqcl import train as train_module
from aqcl.errors import StorageError
from aqcl.train import train
from tests.tiny_runs import assert_same_run, tiny_dataset, tiny_experiment


def test_a_full_disk_is_named_and_the_run_resumes_once_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, out = tiny_experiment(tiny_dataset(tmp_path)), tmp_path / "run"

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "save_tensors", full)
        with pytest.raises(StorageError, match=rf"^{re.escape(str(out))}: no space left to write"):
            train(experiment, out)
    assert_same_run(train(experiment, out, resume=True), train(experiment, tmp_path / "whole"))
