"""The timed steps are training steps, and the figures belong together."""

import json
from pathlib import Path

import pytest
import torch
from benchmarks import steps
from benchmarks.part import figures

from tests.tiny_runs import tiny_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("steps"))


def test_figures_of_all_methods_belong_together(dataset: Path) -> None:
    measured = [steps.measured(dataset, rounds=rounds, steps=2, warm_up=1) for rounds in (2, 1)]
    found = steps.summary(json.loads(json.dumps(measured)))
    assert set(found["step_ms"]) == set(steps.METHODS)
    assert set(found["step_ms_all"]) == {*steps.METHODS, steps.YARDSTICK}
    assert all(len(values) == 3 for values in found["step_ms_all"].values())
    others = [name for name in steps.METHODS if name != steps.BASE]
    for name in others:
        added = found["step_ms"][name] - found["step_ms"]["DIN"]
        assert found["added_ms"][name] == pytest.approx(added, abs=2e-3)
        assert min(found["ratio"].values()) > 0
    assert found["over_yardstick"] > 0
    outcome = {"settings": {"1 thread": found}}
    compared = [path for ratio in steps.RATIOS for path, _ in figures(outcome, ratio)]
    assert compared == [
        *(f"settings.1 thread.ratio.{name}" for name in others),
        "settings.1 thread.over_yardstick",
    ]
    text = "\n".join(steps.lines(outcome))
    assert f"{found['step_ms']['DIN']:.2f}" in text


def test_steps_go_on_over_the_ends_of_epochs_as_one_run(dataset: Path) -> None:
    at_once, in_parts = (steps.make_trainer(dataset, options={"batch_size": 48}) for _ in range(2))
    per_epoch = at_once.progress.steps_per_epoch
    assert per_epoch > 2
    steps.stepper(at_once)(2 * per_epoch + 1)
    run = steps.stepper(in_parts)
    for n_steps in (1, 2 * per_epoch - 1, 1):
        run(n_steps)
    assert at_once.progress.number == in_parts.progress.number == 2 * per_epoch + 1
    assert (at_once.progress.epoch, at_once.progress.step) == (2, 1)
    states = at_once.objective.state_dict(), in_parts.objective.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_literal_form_differs_only_in_the_attention_of_the_view(dataset: Path) -> None:
    shared, literal = (
        steps.make_trainer(dataset, **steps.METHODS[name]).experiment.regularizer["aqcl"]
        for name in ("DIN+AQCL", "DIN+AQCL literal")
    )
    assert shared["view"].pop("share_attention")
    assert not literal["view"].pop("share_attention")
    assert shared == literal
