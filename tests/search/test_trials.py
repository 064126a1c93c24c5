"""One trial: what it reports, what it leaves, how it ends."""

import json
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from aqcl.dataset import Dataset, open_dataset
from aqcl.errors import ConfigError
from aqcl.runs import CHECKPOINT, CONFIG, LOG, METRICS, WEIGHTS, is_finished, open_run
from aqcl.search import trials
from aqcl.search.plan import plan_search
from aqcl.search.sampling import UNPRUNED_TRIALS
from aqcl.search.standing import Standing
from aqcl.search.study import Journal, Task
from aqcl.search.trials import clean_up, kept_values, measures_of, run_trial
from aqcl.train import Progress, train
from tests.searches import Killed, end, search_values
from tests.tiny_runs import tiny_dataset, tiny_experiment


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("data")), closed=("test",))


def study(folder: Path, dataset: Dataset, **search: Any) -> Journal:
    return Journal(folder, plan_search(search_values(dataset.path, **search)))


def begin(journal: Journal) -> Task:
    task = journal.claim()
    assert isinstance(task, Task)
    return task


def run(journal: Journal, dataset: Dataset) -> Any:
    """Run the next trial; returns it as the journal has it."""
    task = begin(journal)
    run_trial(task, journal, dataset, lambda progress: None)
    return journal.study(task.study).trials[task.number]


def log(*lines: tuple[float | None, float | None]) -> str:
    return "\n".join(json.dumps({"valid_auc": auc, "valid_logloss": loss}) for auc, loss in lines)


def test_the_value_of_an_evaluation_is_that_of_the_weights_kept_so_far() -> None:
    text = log((0.5, 0.7), (0.6, 0.8), (0.55, 0.6), (None, None), (0.6, 0.5), (0.7, 0.4))
    assert kept_values(text, "auc", "logloss") == [0.7, 0.8, 0.8, 0.8, 0.8, 0.4]
    assert kept_values(text, "logloss", "logloss") == [0.7, 0.7, 0.6, 0.6, 0.5, 0.4]
    assert kept_values(text, "logloss", "auc") == [0.5, 0.5, 0.55, 0.55, 0.6, 0.7]
    assert kept_values("", "auc", "auc") == []


def test_a_trial_is_a_run_whose_kept_weights_are_measured(dataset: Dataset, tmp_path: Path) -> None:
    journal = study(tmp_path, dataset)
    trial = run(journal, dataset)
    folder = journal.folder_of("best", 0)
    made = open_run(folder)
    groups = {group["group"]: group for group in made.metrics()["valid"]["groups"]}
    assert trial.state == TrialState.COMPLETE
    assert trial.value == groups["all"]["logloss"]
    assert trial.user_attrs["measures"]["auc:non-active"] == groups["non-active"]["auc"]
    assert measures_of(made) == trial.user_attrs["measures"]
    # The last report is the value that the trial gets: pruning compares like with like.
    assert trial.intermediate_values[max(trial.intermediate_values)] == pytest.approx(trial.value)
    assert len(trial.intermediate_values) == len(made.log())
    assert trial.user_attrs["number"] == made.manifest.content["steps"]
    assert trial.user_attrs["rows"] == len(dataset.train) * 2
    assert not (folder / CHECKPOINT).exists()
    assert all((folder / name).exists() for name in (CONFIG, LOG, METRICS, WEIGHTS))
    searched = {key: trial.params[key] for key in ("train.embedding_l2", "regularizer.aqcl.w1")}
    assert made.experiment.train.embedding_l2 == searched["train.embedding_l2"]
    assert made.experiment.regularizer["aqcl"]["w1"] == searched["regularizer.aqcl.w1"]


@pytest.mark.parametrize("objective", ["auc", "auc:non-active"])
def test_other_objectives(dataset: Dataset, tmp_path: Path, objective: str) -> None:
    trial = run(study(tmp_path, dataset, objective=objective), dataset)
    assert trial.value == trial.user_attrs["measures"][objective]
    assert bool(trial.intermediate_values) == (objective == "auc")


def test_a_constrained_trial_is_held_against_trial_0(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The other groups of the tiny dataset are too small.
    monkeypatch.setattr("aqcl.search.plan.CONSTRAINED", ("non-active", "non-active"))
    journal = study(tmp_path, dataset, objective="constrained", trials=2, widen=0)
    reference, trial = run(journal, dataset), run(journal, dataset)
    key = "auc:non-active"
    lost = reference.user_attrs["measures"][key] - trial.user_attrs["measures"][key]
    assert trial.constraints == {key: lost}
    assert reference.constraints == {}
    assert trial.value == trial.user_attrs["measures"]["auc:non-active"]
    assert open_run(journal.folder_of("best", 0)).experiment.regularizer == {}


def end_good_trials(journal: Journal) -> None:
    """As many as the median needs: it stops whatever is worse from the third evaluation on."""
    for _ in range(UNPRUNED_TRIALS):
        task = begin(journal)
        with journal.locked():
            for number in range(1, 5):
                journal.trial(task).report(0.01, number)
        end(journal, task, 0.01)


SLOW: dict[str, Any] = {"train.lr": {"choices": [1e-7, 2e-7]}}


def test_a_hopeless_trial_is_stopped(dataset: Dataset, tmp_path: Path) -> None:
    journal = study(tmp_path, dataset, space=SLOW, trials=6, widen=0, pruning="median")
    end_good_trials(journal)
    pruned = run(journal, dataset)
    folder = journal.folder_of("best", UNPRUNED_TRIALS)
    assert pruned.state == TrialState.PRUNED
    assert 0 < pruned.user_attrs["rows"] < len(dataset.train) * 2
    assert "measures" not in pruned.user_attrs
    assert (folder / LOG).exists()
    assert not is_finished(folder)
    assert not (folder / WEIGHTS).exists()
    assert not (folder / CHECKPOINT).exists()


def test_a_trial_that_has_ended_anyway_is_not_stopped(dataset: Dataset, tmp_path: Path) -> None:
    space = SLOW | {"train.epochs": 3, "train.evaluations_per_epoch": 1}
    journal = study(tmp_path, dataset, space=space, trials=6, widen=0, pruning="median")
    end_good_trials(journal)
    task = begin(journal)
    run_trial(task, journal, dataset, lambda progress: None)
    trial = journal.study(task.study).trials[task.number]
    assert journal.trial(task).should_prune()  # what was said after its third and last evaluation
    assert trial.state == TrialState.COMPLETE
    assert trial.user_attrs["rows"] == len(dataset.train) * 3


def test_a_training_that_explodes_is_a_failed_trial(dataset: Dataset, tmp_path: Path) -> None:
    space = {"train.lr": {"choices": [1e30, 1e31]}}
    journal = study(tmp_path, dataset, space=space, trials=2)
    trial = run(journal, dataset)
    assert trial.state == TrialState.FAIL
    assert "is not finite" in trial.user_attrs["error"]
    assert begin(journal).slot == 1


def test_a_group_without_both_labels_is_named(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(run: Any) -> dict[str, float | None]:
        return {**dict.fromkeys(measures_of(run)), "logloss": 0.5}

    monkeypatch.setattr(trials, "measures_of", nothing)
    trial = run(study(tmp_path, dataset, objective="auc:non-active"), dataset)
    assert trial.state == TrialState.FAIL
    assert "auc:non-active is not defined on the validation rows" in trial.user_attrs["error"]


@pytest.fixture(scope="module")
def whole(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The trial that every killed one must equal."""
    return run(study(tmp_path_factory.mktemp("whole"), dataset), dataset)


@pytest.mark.parametrize("number", [1, 4, 6, 12, 16])
def test_a_killed_trial_continues_from_its_checkpoint(
    dataset: Dataset, whole: Any, tmp_path: Path, number: int
) -> None:
    journal = study(tmp_path / "killed", dataset)
    task = begin(journal)

    def kill(progress: Progress) -> None:
        if progress.number == number:
            raise Killed

    with pytest.raises(Killed):
        run_trial(task, journal, dataset, kill)

    steps: list[int] = []
    task = begin(journal)
    run_trial(task, journal, dataset, lambda progress: steps.append(progress.number))
    again = journal.study(task.study).trials[task.number]
    assert task.slot == 0
    assert steps[:1] == ([] if number == 16 else [number // 4 * 4 + 1])
    assert again.params == whole.params
    assert again.value == whole.value
    assert again.intermediate_values == whole.intermediate_values
    assert again.user_attrs["rows"] == whole.user_attrs["rows"]


def test_a_mistake_beside_the_drawn_settings_is_not_the_trials_failure(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = study(tmp_path, dataset)

    def no_device(name: str) -> None:
        raise ConfigError(f"runtime.device = '{name}': not here")

    def kill(progress: Progress) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(trials, "pick_device", no_device)
        with pytest.raises(ConfigError, match="not here"):
            run(journal, dataset)
    with pytest.raises(Killed):
        run_trial(begin(journal), journal, dataset, kill)
    config = journal.folder_of("best", 0) / CONFIG
    text = config.read_text()
    config.write_text(text.replace("seed = 0", "seed = 1"))
    with pytest.raises(ConfigError, match="seed: the run was started with 1"):
        run(journal, dataset)
    config.write_text(text)
    assert run(journal, dataset).state == TrialState.COMPLETE


def test_a_run_that_was_killed_while_it_was_made_is_made_again(
    dataset: Dataset, tmp_path: Path
) -> None:
    journal = study(tmp_path, dataset)
    folder = journal.folder_of("best", 0)
    folder.mkdir(parents=True)
    (folder / ".config.toml.1234.partial").write_text("da")
    assert run(journal, dataset).state == TrialState.COMPLETE
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith(".")) == []


def test_what_only_a_running_trial_needs_goes_and_may_be_gone(
    dataset: Dataset, tmp_path: Path
) -> None:
    made = train(tiny_experiment(dataset.path), tmp_path / "run")
    for _ in range(2):
        clean_up(made.path)
        assert not (made.path / CHECKPOINT).exists()
        assert open_run(made.path).weights().keys() == made.weights().keys()


def test_a_study_that_is_over_gives_no_more_trials(dataset: Dataset, tmp_path: Path) -> None:
    journal = study(tmp_path, dataset, trials=2, widen=0)
    for _ in range(2):
        run(journal, dataset)
    over = journal.claim()
    assert isinstance(over, Standing)
    assert over.is_over
