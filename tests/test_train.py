"""Training: it learns, stops, keeps the best, repeats bit for bit, and explains itself."""

import itertools
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aqcl import dataset as dataset_module
from aqcl import train as train_module
from aqcl.batch import Batch
from aqcl.dataset import Dataset, Split, open_dataset
from aqcl.errors import ConfigError, TrainingError
from aqcl.evaluate import Evaluation
from aqcl.experiment import Experiment
from aqcl.metrics import auc, logloss
from aqcl.runs import CHECKPOINT, LOG, Run, is_finished, load_tensors
from aqcl.scoring import build_backbone, facts_of, load_backbone, pick_device, score
from aqcl.source_code import code_fingerprint
from aqcl.train import Progress, Trainer, build_objective, train
from tests.tiny_runs import (
    AQCL,
    ICL,
    assert_same_run,
    tiny_dataset,
    tiny_experiment,
    untimed,
)

CPU = torch.device("cpu")
REGULARIZERS: list[dict[str, Any]] = [{}, {"icl": ICL}, {"aqcl": AQCL}, {"aqcl": AQCL, "icl": ICL}]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def experiment(data: Path) -> Experiment:
    return tiny_experiment(data)


@pytest.fixture(scope="module")
def whole(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that every interrupted one must equal."""
    return train(experiment, tmp_path_factory.mktemp("runs") / "whole")


def test_training_learns(data: Path, tmp_path: Path) -> None:
    run = train(tiny_experiment(data, "train.epochs=7", "train.patience=99"), tmp_path / "run")

    log = run.log()
    assert len(log) == 14
    assert log[0]["logloss"] == pytest.approx(math.log(2), abs=0.02)
    assert log[-1]["logloss"] < 0.8 * log[0]["logloss"]
    assert run.manifest.content["best"] > 0.75
    assert run.manifest.content["code"] == code_fingerprint()
    everybody = Evaluation.from_json(run.metrics()["valid"])["all"]
    assert everybody.auc == run.manifest.content["best"]


def test_a_line_of_the_log_tells_where_the_run_is(whole: Run) -> None:
    lines = whole.log()
    steps_per_epoch = lines[-1]["step"] // 2

    assert [line["epoch"] for line in lines] == [0, 0, 1, 1]
    assert [line["step"] for line in lines] == [
        round(steps_per_epoch / 2),
        steps_per_epoch,
        steps_per_epoch + round(steps_per_epoch / 2),
        2 * steps_per_epoch,
    ]
    for line in lines:
        assert {"logloss", "valid_auc", "valid_logloss", "seconds", "aqcl/value"} <= line.keys()
    codebook = ("codebook", "nearest_perplexity", "perplexity", "dead_codewords")
    assert {f"aqcl/{key}" for key in codebook} <= lines[-1].keys()
    assert all(0 <= line["data_wait"] <= 1 for line in lines)
    assert [line["seconds"] for line in lines] == sorted(line["seconds"] for line in lines)


def test_the_logged_logloss_is_the_mean_over_the_steps_since_the_last_line(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: list[float] = []
    original = Trainer.step

    def watched(self: Trainer, batch: Batch) -> None:
        original(self, batch)
        values.append(float(self.latest_logs["logloss"]))

    monkeypatch.setattr(Trainer, "step", watched)

    log = train(experiment, tmp_path / "run").log()

    starts = [0, *(line["step"] for line in log)]
    for line, (start, stop) in zip(log, itertools.pairwise(starts), strict=True):
        assert line["logloss"] == pytest.approx(sum(values[start:stop]) / (stop - start))


@pytest.mark.parametrize("monitor", ["auc", "logloss"])
def test_early_stopping_keeps_the_best_weights(data: Path, tmp_path: Path, monitor: str) -> None:
    experiment = tiny_experiment(
        data, f"train.monitor={monitor}", "train.epochs=50", "train.patience=3", "train.lr=0.05"
    )

    run = train(experiment, tmp_path / "run")

    scores = [line[f"valid_{monitor}"] for line in run.log()]
    best = max(scores) if monitor == "auc" else min(scores)
    place = scores.index(best)
    assert len(scores) < 100
    assert len(scores) - 1 - place == 3
    content = run.manifest.content
    assert content["best"] == (best if monitor == "auc" else -best)
    assert content["best_step"] == run.log()[place]["step"]
    assert content["steps"] == run.log()[-1]["step"]
    predictions = run.predictions("valid")
    measure = auc if monitor == "auc" else logloss
    assert measure(predictions.label, predictions.score) == best
    latest, _ = load_tensors(run.path / CHECKPOINT)
    assert not torch.equal(
        run.weights()["backbone.head.weight"], latest["model.backbone.head.weight"]
    )


def test_the_weights_on_disk_give_the_predictions_on_disk(whole: Run) -> None:
    dataset = open_dataset(Path(whole.experiment.dataset))
    backbone = load_backbone(whole.experiment, facts_of(dataset, whole.experiment), whole.weights())

    again = score(backbone, dataset.valid, whole.experiment.train.max_history, CPU)

    predictions = whole.predictions("valid")
    for column in ("user", "item", "label", "activity", "score"):
        assert np.array_equal(getattr(predictions, column), getattr(again, column))
    assert np.array_equal(predictions.label, dataset.valid.columns["label"])


@pytest.mark.parametrize("training", [True, False])
def test_scoring_leaves_the_mode_as_it_was(whole: Run, training: bool) -> None:
    dataset = open_dataset(Path(whole.experiment.dataset))
    backbone = build_backbone(whole.experiment, facts_of(dataset, whole.experiment))
    backbone.train(training)

    score(backbone, dataset.valid, 50, CPU)

    assert backbone.training == training


def test_the_same_settings_give_the_same_bytes(
    experiment: Experiment, whole: Run, tmp_path: Path
) -> None:
    torch.manual_seed(77)  # the state that a caller leaves behind does not matter

    assert_same_run(train(experiment, tmp_path / "again"), whole)


def test_another_seed_gives_another_run(data: Path, whole: Run, tmp_path: Path) -> None:
    other = train(tiny_experiment(data, "seed=1"), tmp_path / "other")

    assert untimed(other) != untimed(whole)
    assert other.manifest.fingerprint != whole.manifest.fingerprint


@pytest.mark.parametrize("evaluations", [1, 1000])
def test_a_loss_that_is_not_finite_stops_the_run_with_an_explanation(
    data: Path, tmp_path: Path, evaluations: int
) -> None:
    experiment = tiny_experiment(
        data, "train.lr=1e30", f"train.evaluations_per_epoch={evaluations}", regularizer={}
    )

    with pytest.raises(
        TrainingError, match=r"not finite at epoch 0, step \d+: lower train\.lr \(now 1e\+30\)"
    ):
        train(experiment, tmp_path / "run")

    assert not is_finished(tmp_path / "run")


def test_the_explanation_names_the_part_and_what_can_be_done(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.step

    def poisoned(self: Trainer, batch: Batch) -> None:
        if self.progress.number == 5:
            with torch.no_grad():
                self.objective.get_parameter("regularizers.0.projector.0.weight").fill_(math.nan)
        original(self, batch)

    monkeypatch.setattr(Trainer, "step", poisoned)

    with pytest.raises(
        TrainingError, match=r"loss \(aqcl/value.*step 5.*train again into another --out"
    ):
        train(experiment, tmp_path / "run")


def test_a_score_that_is_never_a_number_is_explained(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "auc", lambda *_: math.nan)

    with pytest.raises(TrainingError, match=r"train\.monitor = 'auc' was never a number"):
        train(experiment, tmp_path / "run")

    for line in (tmp_path / "run" / LOG).read_text().splitlines():
        values = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert values["valid_auc"] is None


def test_a_score_that_is_not_a_number_is_never_the_best(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([math.nan, 0.4, math.nan, 0.3])
    monkeypatch.setattr(train_module, "auc", lambda *_: next(scores))

    content = train(experiment, tmp_path / "run").manifest.content

    assert (content["best"], content["best_step"]) == (0.4, 8)


def test_training_never_reads_the_test_rows(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    original = dataset_module._map

    def watched(path: Path) -> Any:
        opened.append(path)
        return original(path)

    def forbidden(self: Dataset) -> Split:
        raise AssertionError("test rows were asked for")

    monkeypatch.setattr(Dataset, "test", property(forbidden))
    monkeypatch.setattr(dataset_module, "_map", watched)

    run = train(experiment, tmp_path / "run")

    assert {path.parent.name for path in opened} >= {"train", "valid"}
    assert not [path for path in opened if "test" in path.relative_to(experiment.dataset).parts]
    assert not run.has_predictions("test")
    assert run.metrics().keys() == {"valid"}


def test_regularizers_share_initial_weights_and_batches(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = facts_of(open_dataset(data), tiny_experiment(data))
    original, seen = Split.batch, list[list[int]]()

    def watched(self: Split, rows: Any, *arguments: Any) -> Any:
        if self.name == "train":
            seen.append(rows.tolist())
        return original(self, rows, *arguments)

    monkeypatch.setattr(Split, "batch", watched)
    states, orders = [], []
    for number, regularizer in enumerate(REGULARIZERS):
        experiment = tiny_experiment(data, regularizer=regularizer)
        states.append(build_objective(experiment, facts).backbone.state_dict())
        seen.clear()
        train(experiment, tmp_path / str(number))
        orders.append(list(seen))

    assert all(order == orders[0] for order in orders)
    assert sorted(itertools.chain(*orders[0][:8])) == list(range(len(open_dataset(data).train)))
    for state in states[1:]:
        assert all(torch.equal(state[key], states[0][key]) for key in states[0])


def test_a_regularizer_does_not_shift_the_initial_weights_of_another(data: Path) -> None:
    facts = facts_of(open_dataset(data), tiny_experiment(data))
    alone = build_objective(tiny_experiment(data, regularizer={"icl": ICL}), facts)
    both = build_objective(tiny_experiment(data, regularizer=REGULARIZERS[-1]), facts)

    mine, theirs = alone.regularizers[0].state_dict(), both.regularizers[1].state_dict()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_the_embedding_penalty_is_the_gradient_of_half_the_sum_of_squares(
    data: Path, tmp_path: Path
) -> None:
    gradients = []
    for strength in (0.0, 0.5):
        experiment = tiny_experiment(data, f"train.embedding_l2={strength}", "train.lr=1e-9")
        trainer = Trainer(experiment, open_dataset(data), tmp_path / str(strength))
        before = {n: p.detach().clone() for n, p in trainer.objective.named_parameters()}
        trainer.step(trainer.dataset.train.batch(np.arange(64), 50))
        named = trainer.objective.named_parameters()
        gradients.append({n: p.grad for n, p in named if p.grad is not None})

    plain, penalised = gradients
    for name, gradient in plain.items():
        tables = ("user_table", "item_table")
        extra = 0.5 * before[name] if name.endswith(tables) else torch.zeros_like(before[name])
        torch.testing.assert_close(penalised[name], gradient + extra)
    assert {name.rpartition(".")[2] for name in plain} >= {"user_table", "item_table"}


def test_every_step_is_listened_to(data: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int, int]] = []

    def listen(progress: Progress) -> None:
        seen.append((progress.epoch, progress.step, progress.number, progress.steps_per_epoch))

    train(tiny_experiment(data), tmp_path / "run", listen=listen)

    expected = [(epoch, step, epoch * 8 + step, 8) for epoch in (0, 1) for step in range(1, 9)]
    assert seen == expected


@pytest.mark.parametrize(("asked", "expected"), [(1, [8]), (3, [3, 5, 8]), (99, [*range(1, 9)])])
def test_evaluations_are_spread_over_an_epoch(
    data: Path, tmp_path: Path, asked: int, expected: list[int]
) -> None:
    experiment = tiny_experiment(
        data,
        f"train.evaluations_per_epoch={asked}",
        "train.epochs=1",
        "train.patience=99",
        regularizer={},
    )

    log = train(experiment, tmp_path / "run").log()

    assert [line["step"] for line in log] == expected


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", r"runtime\.device = 'gpu': expected cpu, cuda, cuda:N or auto"),
        ("mps", r"runtime\.device = 'mps': expected cpu, cuda, cuda:N or auto"),
        ("meta", r"runtime\.device = 'meta': expected cpu, cuda, cuda:N or auto"),
        ("cuda", r"runtime\.device = 'cuda': torch finds no CUDA device"),
        ("cuda:1", r"runtime\.device = 'cuda:1': torch finds no CUDA device"),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(ConfigError, match=message):
        train(tiny_experiment(data, f"runtime.device={device}"), tmp_path / "run")

    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [(True, "false", True), (False, "false", False), (False, "true", True)],
)
def test_deterministic_kernels_are_asked_for_and_never_given_up(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: bool,
    asked: str,
    after: bool,
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is put back after the test
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    as_it_was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before)
    try:
        experiment = tiny_experiment(data, f"runtime.deterministic={asked}")
        Trainer(experiment, open_dataset(data), tmp_path / "run")
        assert torch.are_deterministic_algorithms_enabled() == after
    finally:
        torch.use_deterministic_algorithms(as_it_was)
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == (asked == "true")


def test_a_cuda_device_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert [pick_device(name).index for name in ("cuda", "cuda:1")] == [None, 1]
    message = r"runtime\.device = 'cuda:2': torch finds no CUDA device beyond cuda:1 here; use cpu"
    with pytest.raises(ConfigError, match=message):
        pick_device("cuda:2")


def test_an_unknown_field_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fields: price not in .*its fields are: none"):
        train(tiny_experiment(data, fields=["price"]), tmp_path / "run")
