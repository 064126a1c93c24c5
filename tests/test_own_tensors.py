"""Backbones of one's own whose tensors share memory: kept where they can be, refused where not."""

from pathlib import Path
from typing import Any

import pytest
import torch

from aqcl.backbones.din import DIN
from aqcl.errors import ConfigError
from aqcl.train import train
from tests.tiny_runs import assert_same_run, tiny_dataset, tiny_experiment

TIED, EXPANDED = "tests.test_own_tensors:TiedDIN", "tests.test_own_tensors:ExpandedDIN"


class TiedDIN(DIN):
    """One table under two names."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.item_again = self.embeddings.item_table


class ExpandedDIN(DIN):
    """A buffer whose elements are one number in memory."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.register_buffer("prior", torch.ones(1).expand(8))


def test_tied_weights_are_kept_and_resumed(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path)
    tied = tiny_experiment(data, f"backbone.name={TIED}", "train.epochs=2")
    whole = train(tied, tmp_path / "whole")

    class Killed(BaseException):
        pass

    def kill(progress: Any) -> None:
        if progress.number == progress.steps_per_epoch + 1:
            raise Killed

    with pytest.raises(Killed):
        train(tied, tmp_path / "again", listen=kill)
    assert_same_run(train(tied, tmp_path / "again", resume=True), whole)
    weights = whole.weights()
    tables = weights["backbone.item_again"], weights["backbone.embeddings.item_table"]
    assert torch.equal(*tables)


def test_a_tensor_that_cannot_be_loaded_is_refused_before_training(tmp_path: Path) -> None:
    expanded = tiny_experiment(tiny_dataset(tmp_path), f"backbone.name={EXPANDED}")
    with pytest.raises(ConfigError, match=r"backbone\.prior: .* expanded one, .*\.clone\(\)"):
        train(expanded, tmp_path / "run")
    assert not (tmp_path / "run").exists()
