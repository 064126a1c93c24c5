"""A run that goes on: the order of its parts, and what killed sessions have left."""

from pathlib import Path

import pytest

from aqcl.config import read_toml
from aqcl.runs import CHECKPOINT, CONFIG, WEIGHTS, remove_partial
from aqcl.train import Progress, train
from tests.tiny_runs import AQCL, ICL, assert_same_run, tiny_dataset, tiny_experiment


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


def interrupt(progress: Progress) -> None:
    if progress.number == 5:
        raise KeyboardInterrupt


def test_regularizers_named_in_another_order_keep_their_weights(data: Path, tmp_path: Path) -> None:
    first = tiny_experiment(data, regularizer={"aqcl": AQCL, "icl": ICL})
    turned = tiny_experiment(data, regularizer={"icl": ICL, "aqcl": AQCL})
    whole = train(first, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(first, tmp_path / "run", listen=interrupt)

    run = train(turned, tmp_path / "run", resume=True)

    assert_same_run(run, whole)
    assert list(read_toml(tmp_path / "run" / CONFIG)["regularizer"]) == ["aqcl", "icl"]
    assert list(run.experiment.regularizer) == ["aqcl", "icl"]


def test_what_killed_sessions_left_half_written_goes(data: Path, tmp_path: Path) -> None:
    experiment, out = tiny_experiment(data), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(experiment, out, listen=interrupt)
    left = [out / f".{name}.12345678.partial" for name in (WEIGHTS, CHECKPOINT)]
    users = [out / ".notes.partial", out / f".{WEIGHTS}.mine"]
    for file in (*left, *users):
        file.touch()

    train(experiment, out, resume=True)

    assert not any(file.exists() for file in left)
    assert all(file.exists() for file in users)
    remove_partial(tmp_path / "nowhere")


def test_a_run_names_all_states_of_the_code_that_trained_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny_experiment(data)
    monkeypatch.setattr("aqcl.source_code.code_fingerprint", lambda: "before")
    with pytest.raises(KeyboardInterrupt):
        train(experiment, tmp_path / "run", listen=interrupt)
    monkeypatch.setattr("aqcl.source_code.code_fingerprint", lambda: "after")

    run = train(experiment, tmp_path / "run", resume=True)

    assert run.manifest.content["code"] == "before+after"
