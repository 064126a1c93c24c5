"""Alpha learned during training: when it moves, what it leaves alone, resuming, the report."""

import copy
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from aqcl.alpha_learning import AlphaLearner, HeldOutLoss, make_learner
from aqcl.attachment import make_loss
from aqcl.batch import Batch
from aqcl.config import build
from aqcl.dataset import Dataset, Split, open_dataset
from aqcl.errors import ConfigError
from aqcl.experiment import Experiment, Optimizer
from aqcl.objective import Moment
from aqcl.regularizers import aqcl
from aqcl.regularizers.aqcl import AQCLOptions
from aqcl.runs import CHECKPOINT, Run, load_tensors
from aqcl.scoring import facts_of, load_backbone, score
from aqcl.train import Progress, Trainer, train
from tests.tiny_runs import AQCL, assert_same_run, tiny_dataset, tiny_experiment, untimed

LEARNING = {"enabled": True, "every": 2, "lr": 0.1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


def learning(data: Path, *assignments: str, **changes: Any) -> Experiment:
    table = {**AQCL, "learn_alpha": LEARNING, **changes}
    return tiny_experiment(data, *assignments, regularizer={"aqcl": table})


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(learning(data), tmp_path_factory.mktemp("runs") / "whole")


def test_a_line_of_the_log_has_the_present_values(whole: Run) -> None:
    lines = whole.log()
    checkpoint, _ = load_tensors(whole.path / CHECKPOINT)

    assert all({"aqcl/w1", "aqcl/w2"} <= line.keys() for line in lines)
    # Steps 1 to 3 are the warm-up; 4 is the first multiple of `every` after them.
    assert len({line["aqcl/w1"] for line in lines}) == 4
    assert lines[0]["aqcl/w1"] != 1
    free = checkpoint["model.regularizers.0.free_alpha"]
    assert free.exp().tolist() == [lines[-1]["aqcl/w1"], lines[-1]["aqcl/w2"]]


@pytest.mark.parametrize(
    ("alpha", "keys"),
    [
        ("curve", {"w1", "w2"}),
        ("groups", {"group_values"}),
        ("spline", {"spline_values"}),
    ],
)
def test_the_finished_run_names_options_to_train_afresh(
    data: Path, tmp_path: Path, alpha: str, keys: set[str]
) -> None:
    run = train(learning(data, alpha=alpha), tmp_path / "run")

    content = run.manifest.content
    best = next(line for line in run.log() if line["step"] == content["best_step"])
    assert content["alpha"].keys() == {"alpha", *keys}
    given = build(AQCLOptions, content["alpha"]).shape()
    learned = {key: best[f"aqcl/{key}"] for key in given.named()}
    assert given.named() == pytest.approx(learned, rel=1e-14)
    assert given != build(AQCLOptions, {"alpha": alpha}).shape()


def test_the_rows_of_every_pass_are_counted(data: Path, whole: Run, tmp_path: Path) -> None:
    dataset = open_dataset(data)
    n_rows, size = len(dataset.train), min(48, len(dataset.valid))
    plain = train(tiny_experiment(data), tmp_path / "plain")
    bounds = np.arange(9) * n_rows // 8
    batches = np.diff(bounds)

    assert plain.log()[-1]["rows"] == 2 * n_rows
    assert "alpha" not in plain.manifest.content
    # The second step of the first epoch is warm-up.
    extra = sum(2 * int(b) + size for b in [*batches[3::2], *batches[1::2]])
    assert whole.manifest.content["rows"] == 2 * n_rows + extra == whole.log()[-1]["rows"]


def test_until_alpha_moves_a_run_is_as_without_learning(data: Path, tmp_path: Path) -> None:
    never = train(learning(data, "regularizer.aqcl.learn_alpha.every=999"), tmp_path / "never")
    free = np.exp(np.log([1.0, 1.0]))
    plain = train(tiny_experiment(data), tmp_path / "plain")

    assert [never.log()[-1][f"aqcl/{key}"] for key in ("w1", "w2")] == free.tolist()
    drop = {"aqcl/w1", "aqcl/w2"}
    mine = [{k: v for k, v in line.items() if k not in drop} for line in untimed(never)]
    for line, other in zip(mine, untimed(plain), strict=True):
        assert line.keys() == other.keys()
        timeless = [key for key in line if key != "data_wait"]
        assert [line[k] for k in timeless] == pytest.approx([other[k] for k in timeless], rel=1e-3)


@pytest.mark.parametrize("stop_at", [4, 8, 12])
def test_a_killed_run_ends_as_an_uninterrupted_one(
    data: Path, whole: Run, tmp_path: Path, stop_at: int
) -> None:
    def kill(progress: Progress) -> None:
        if progress.number == stop_at + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(learning(data), tmp_path / "run", listen=kill)
    checkpoint, _ = load_tensors(tmp_path / "run" / CHECKPOINT)
    assert {"alpha.step", "alpha.exp_avg", "alpha.exp_avg_sq"} <= checkpoint.keys()

    assert_same_run(train(learning(data), tmp_path / "run", resume=True), whole)


def test_a_gradient_leaves_model_gradients_and_streams_alone(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(learning(data), open_dataset(data), tmp_path)
    trainer.objective.train()
    steps = list(trainer.batches_of(0))
    for batch in steps[:4]:
        trainer.step(batch)
    assert trainer.alpha is not None
    now = Moment(0, 0, 3, 3)
    before = {name: value.clone() for name, value in trainer.objective.state_dict().items()}
    named = dict(trainer.objective.named_parameters())
    grads = {n: p.grad.clone() for n, p in named.items() if p.grad is not None}
    held_out = trainer.dataset.valid.batch(np.arange(20), 50)

    first, again = (trainer.alpha.gradient(steps[3], now, held_out) for _ in range(2))

    assert torch.equal(first, again)
    assert first.any()
    after = trainer.objective.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    kept = {n: p.grad for n, p in named.items() if p.grad is not None}
    assert kept.keys() == grads.keys() != set()
    assert all(torch.equal(kept[name], grads[name]) for name in grads)
    assert all(module.training for module in trainer.objective.modules())


def slope_of_real_updates(trainer: Trainer, batch: Batch, now: Moment, held_out: Batch) -> Any:
    """What whole updates at neighbouring alphas, momentum included, do to the held-out loss."""
    slopes = []
    for place in range(2):
        losses = []
        for shift in (0.05, -0.05):
            objective, optimizer = copy.deepcopy((trainer.objective, trainer.optimizer))
            module = objective.regularizers[0]
            assert isinstance(module, aqcl.AQCL)
            assert module.free_alpha is not None
            module.free_alpha[place] += shift
            optimizer.zero_grad()
            objective(batch, now).total.backward()
            optimizer.step()
            losses.append(HeldOutLoss(objective).eval()(held_out).item())
        slopes.append((losses[0] - losses[1]) / 0.1)
    return slopes


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_the_gradient_has_direction_and_size_of_what_real_updates_do(
    data: Path, tmp_path: Path, optimizer: str
) -> None:
    """At several steps of a run; one learning rate for all weights is off in size."""
    settings = (f"train.optimizer={optimizer}", "train.epochs=8")
    never = "regularizer.aqcl.learn_alpha.every=999"
    trainer = Trainer(learning(data, *settings, never), open_dataset(data), tmp_path)
    trainer.objective.train()
    assert trainer.alpha is not None
    held_out = trainer.dataset.valid.batch(np.arange(len(trainer.dataset.valid)), 50)
    found, true = [], []
    for number, batch in enumerate(trainer.batches()):
        if number >= 24 and number % 5 == 0:
            now = Moment(0, trainer.progress.epoch, trainer.progress.step, number)
            trainer.optimizer.zero_grad()
            trainer.objective(batch, now).total.backward()
            found.append(trainer.alpha.gradient(batch, now, held_out).tolist())
            true.append(slope_of_real_updates(trainer, batch, now, held_out))
        trainer.step(batch)

    ours, truth = np.array(found), np.array(true)
    size, true_size = np.linalg.norm(ours), np.linalg.norm(truth)
    large = np.abs(truth) > np.abs(truth).mean()
    assert len(truth) == 8
    assert 0.6 < size / true_size < 1.6
    assert (ours * truth).sum() / (size * true_size) > 0.7
    assert (np.sign(ours) == np.sign(truth))[large].mean() > 0.8


def test_the_step_goes_down_the_gradient_and_stays_in_range(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(learning(data, w1=4.9), open_dataset(data), tmp_path)
    trainer.objective.train()
    found = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    monkeypatch.setattr(AlphaLearner, "gradient", lambda *_: found)
    w2 = []
    for batch in trainer.batches_of(0):
        trainer.step(batch)
        assert trainer.alpha is not None
        w2.append(trainer.alpha.log()["aqcl/w2"])

    assert trainer.alpha is not None
    assert trainer.alpha.log()["aqcl/w1"] == pytest.approx(5.0, rel=1e-14)
    # Warm-up, then a step of 0.1 in log w2 at every second step.
    assert w2[:3] == [1, 1, 1]
    assert w2[3] == w2[4] == pytest.approx(np.exp(-0.1), rel=1e-6)
    assert w2[-1] == pytest.approx(np.exp(-0.3), rel=1e-6)


def test_a_gradient_that_is_no_number_moves_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad = torch.tensor([np.nan, 1.0], dtype=torch.float64)
    monkeypatch.setattr(AlphaLearner, "gradient", lambda *_: bad)

    log = train(learning(data), tmp_path / "run").log()

    assert {(line["aqcl/w1"], line["aqcl/w2"]) for line in log} == {(1.0, 1.0)}
    assert "gradient is not finite at step 3" in caplog.text


def test_the_test_rows_are_never_read(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(self: Dataset) -> Split:
        raise AssertionError("test rows were asked for")

    monkeypatch.setattr(Dataset, "test", property(forbidden))

    assert not train(learning(data), tmp_path / "run").has_predictions("test")


@pytest.mark.parametrize("optimizer", ["lazy_adam", "rowwise_adagrad"])
def test_tables_with_sparse_gradients_are_followed_too(
    data: Path, tmp_path: Path, optimizer: str
) -> None:
    log = train(learning(data, f"train.optimizer={optimizer}"), tmp_path / "run").log()

    assert len({line["aqcl/w1"] for line in log}) == 4


def test_a_served_readout_has_the_alpha_of_the_kept_weights(data: Path, tmp_path: Path) -> None:
    run = train(learning(data, readout=True), tmp_path / "run")
    dataset = open_dataset(data)

    model = load_backbone(run.experiment, facts_of(dataset, run.experiment), run.weights())

    again = score(model, dataset.valid, 50, torch.device("cpu"))
    assert np.array_equal(again.score, run.predictions("valid").score)


def test_only_one_alpha_is_learned(data: Path, tmp_path: Path) -> None:
    table = {**AQCL, "learn_alpha": LEARNING}
    both = {"aqcl": table, "aqcl.regularizers.aqcl:AQCL": table}

    with pytest.raises(ConfigError, match=r"learn_alpha.enabled = true in aqcl, .*: one"):
        train(tiny_experiment(data, regularizer=both), tmp_path / "run")


def test_without_learning_there_is_no_learner(data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(data)
    off: list[dict[str, Any]] = [{"learn_alpha": {}}, {"weight": 0.0}]
    for number, changes in enumerate(off):
        trainer = Trainer(learning(data, **changes), dataset, tmp_path / str(number))
        learner = make_learner(
            trainer.objective, dataset.valid, trainer.optimizer, trainer.options, 0
        )
        assert learner is None


def test_an_attachment_cannot_learn_alpha() -> None:
    options = build(AQCLOptions, {"learn_alpha": {"enabled": True}})

    with pytest.raises(ConfigError, match=r"learn_alpha.*needs validation rows"):
        make_loss(4, 3.0, options)
    assert isinstance(make_loss(4, 3.0, AQCLOptions()), aqcl.AQCL)


def test_another_directory_repeats_the_run(data: Path, whole: Run, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    again = train(learning(tmp_path / "data"), tmp_path / "run")

    assert again.manifest.content["alpha"] == whole.manifest.content["alpha"]
