"""The paper-sized log at a size that takes seconds: kept stage by stage, interrupted, continued."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks import kept, machine, oncold
from benchmarks.oncold import Stage, measures_of
from benchmarks.stages import Usage, run_stage

from tests.e2e.commands import succeeds

SETTINGS = {"rows": 10, "sizes": (1, 2)}


def printing(text: str) -> tuple[str, str]:
    return ("-c", f"print({json.dumps(text)!r})")


def only_training_apart(arguments: Any, environment: Any, watch: Any) -> Any:
    """What a command prints and takes; all but training run in this process, which is quicker."""
    if "train" in arguments:
        return run_stage(arguments, environment, watch)
    return succeeds(*arguments[len(oncold.CLI) :]).json, Usage(wall_seconds=1.0)


@pytest.mark.slow
def test_an_interrupted_training_goes_on_and_what_is_done_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "oncold-60000" / "run" / "checkpoint.safetensors"

    def interrupted(arguments: Any, environment: Any, watch: Any) -> Any:
        def look(usage: Any) -> None:
            watch(usage)
            if checkpoint.exists():
                raise KeyboardInterrupt

        return only_training_apart(arguments, environment, look)

    monkeypatch.setattr(oncold, "run_stage", interrupted)
    with pytest.raises(KeyboardInterrupt):
        oncold.measured(60_000, tmp_path)
    half = json.loads((tmp_path / "oncold-60000" / "train.json").read_text())
    assert not half["done"]

    monkeypatch.setattr(oncold, "run_stage", only_training_apart)
    outcome = oncold.measured(60_000, tmp_path)

    stages, training = outcome["stages"], outcome["training"]
    assert list(stages) == ["simulate", "prepare", "train", "evaluate"]
    assert stages["train"]["sittings"] == len(stages["train"]["load_before"]) == 2
    assert stages["train"]["wall_seconds"] > half["measures"]["wall_seconds"]
    assert stages["prepare"]["sittings"] == stages["evaluate"]["sittings"] == 1
    assert all(stages[name]["peak_rss_mib"] > 10 for name in ("simulate", "train"))
    # Every row once: what the interruption undid is not counted twice.
    assert training["rows"] == outcome["counts"]["splits"]["train"]["rows"]
    assert training["evaluations"] == oncold.TRAIN["evaluations_per_epoch"]
    assert 0 < training["step_seconds"] < training["seconds"]
    assert len(oncold.lines(outcome)) == 4

    def refuse(*arguments: Any) -> Any:
        raise AssertionError("a stage that was done ran again")

    monkeypatch.setattr(oncold, "run_stage", refuse)
    assert oncold.measured(60_000, tmp_path) == outcome


def test_sittings_of_a_stage_that_continues_add_up(tmp_path: Path) -> None:
    path, stage = tmp_path / "train.json", Stage(printing("{}"), tmp_path / "made", continues=True)
    earlier = {"wall_seconds": 5.0, "peak_rss_mib": 9e6, "sittings": 2, "load_before": [0.1, 0.2]}
    kept.write(path, SETTINGS, {"done": False, "measures": earlier})
    stage.makes.touch()  # killed when all was done, but before that was noted

    found = measures_of(stage, path, SETTINGS)

    assert found is not None
    assert found["wall_seconds"] > 5.0
    assert found["peak_rss_mib"] == 9e6
    assert found["sittings"] == 3
    assert found["load_before"][:2] == [0.1, 0.2]
    assert measures_of(stage, path, SETTINGS) == found


def test_a_stage_that_begins_anew_counts_its_last_sitting(tmp_path: Path) -> None:
    path, stage = tmp_path / "prepare.json", Stage(printing("{}"), tmp_path / "made")
    earlier = {"wall_seconds": 5e6, "sittings": 1, "load_before": [9.0]}
    kept.write(path, SETTINGS, {"done": False, "measures": earlier})

    found = measures_of(stage, path, SETTINGS)

    assert found is not None
    assert found["wall_seconds"] < 5e6
    assert found["sittings"] == len(found["load_before"]) == 1


@pytest.mark.parametrize("continues", [True, False])
def test_what_was_made_without_being_measured_is_not_told(tmp_path: Path, continues: bool) -> None:
    stage = Stage(("-c", "raise SystemExit('ran')"), tmp_path / "made", continues)
    stage.makes.touch()

    assert measures_of(stage, tmp_path / "stage.json", SETTINGS) is None
    assert not (tmp_path / "stage.json").exists()


@pytest.mark.parametrize("changed", ["machine", "settings"])
def test_measures_of_other_conditions_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    path, stage = tmp_path / "prepare.json", Stage(printing("{}"), tmp_path / "made")
    measures_of(stage, path, SETTINGS)
    settings = {**SETTINGS, "rows": 11} if changed == "settings" else SETTINGS
    if changed == "machine":
        other = {**machine.describe(), "fingerprint": "another"}
        monkeypatch.setattr(kept, "describe", lambda: other)

    with pytest.raises(kept.OtherConditionsError, match=f"with {changed} .* give another --work"):
        measures_of(stage, path, settings)


def test_the_paper_sized_log_is_left_to_full_runs(tmp_path: Path) -> None:
    assert "skipped" in oncold.measure(False, tmp_path)
    assert not list(tmp_path.iterdir())
