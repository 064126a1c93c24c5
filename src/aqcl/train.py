"""fit(): algorithm 1 of the paper as a loop one can read."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aqcl.contracts import Backbone, Facts
from aqcl.dataset import Dataset, batch_bounds, open_dataset
from aqcl.errors import ConfigError, DataError, TrainingError
from aqcl.evaluate import evaluate
from aqcl.experiment import Experiment
from aqcl.metrics import auc, logloss
from aqcl.objective import Moment, Objective
from aqcl.runs import (
    CHECKPOINT,
    CONFIG,
    LOG,
    WEIGHTS,
    Run,
    check_same_experiment,
    is_finished,
    load_tensors,
    open_run,
    run_fingerprint,
    save_tensors,
    start_run,
)
from aqcl.scoring import (
    build_backbone,
    build_regularizer,
    facts_of,
    load_backbone,
    pick_device,
    score,
)
from aqcl.storage import Manifest


@dataclass
class Progress:
    """Where training stands: all of its state that is not a tensor."""

    epoch: int = 0
    step: int = 0
    """Next step within the epoch."""
    number: int = 0
    """Steps done."""
    best: float | None = None
    """Best validation score so far, higher is better."""
    best_number: int = 0
    """Steps done when it was reached."""
    evaluations_since_best: int = 0
    seconds: float = 0.0
    """Time spent training and evaluating, over all sessions."""
    log_bytes: int = 0
    """Length of the log that belongs to this state."""
    steps_per_epoch: int = 0
    rows_per_step: float = 0.0
    """Mean over an epoch."""
    last: dict[str, Any] = field(default_factory=dict)
    """The latest line of the log."""


Listener = Callable[[Progress], None]


def train(
    experiment: Experiment, out: Path, *, resume: bool = False, listen: Listener | None = None
) -> Run:
    """Train an experiment into a run directory and score the validation rows.

    Test rows are not read. A run that was killed continues from its latest evaluation with
    `resume` and ends as it would have uninterrupted, bit for bit on CPU.

    Args:
        experiment: a resolved experiment.
        out: the run directory; must not exist unless `resume`.
        resume: continue an unfinished run; a finished one is returned as it is.
        listen: called after each step.

    Raises:
        ConfigError: settings that cannot work, or that differ from the run to be resumed.
        StorageError: a directory is damaged or in the way.
        TrainingError: the loss is no longer finite.
    """
    # Absolute, so that the run's own configuration repeats it from any directory.
    experiment = replace(experiment, dataset=str(Path(experiment.dataset).absolute()))
    if resume and (out / CONFIG).exists():
        check_same_experiment(out, experiment)
        if is_finished(out):
            return open_run(out)
    dataset = open_dataset(Path(experiment.dataset))
    trainer = Trainer(experiment, dataset, out)
    if resume and (out / CONFIG).exists():
        trainer.restore()
    else:
        start_run(out, experiment)
    trainer.fit(listen or (lambda progress: None))
    return finish(experiment, dataset, out, trainer)


class Trainer:
    """The state of a run in memory: model, optimizer, progress; and the loop over it."""

    def __init__(self, experiment: Experiment, dataset: Dataset, out: Path) -> None:
        self.experiment = experiment
        self.options = experiment.train
        self.dataset = dataset
        self.out = out
        self.device = pick_device(experiment.runtime.device)
        torch.use_deterministic_algorithms(experiment.runtime.deterministic)
        self.facts = facts_of(dataset, experiment)
        self.objective = build_objective(experiment, self.facts).to(self.device)
        self.optimizer = torch.optim.Adam(
            self.objective.parameters(), lr=self.options.lr, fused=True
        )
        self.progress = Progress()
        n_rows = len(dataset.train)
        self.bounds = batch_bounds(n_rows, self.options.batch_size)
        self.progress.steps_per_epoch = len(self.bounds) - 1
        self.progress.rows_per_step = n_rows / max(len(self.bounds) - 1, 1)
        n_evaluations = min(self.options.evaluations_per_epoch, len(self.bounds) - 1)
        cuts = np.linspace(0, len(self.bounds) - 1, n_evaluations + 1)[1:]
        self.evaluate_after = {round(cut) for cut in cuts}
        self.sums: dict[str, Tensor] = {}
        self.steps_summed = 0

    def fit(self, listen: Listener) -> None:
        """Train until early stopping or the last epoch."""
        progress = self.progress
        while progress.epoch < self.options.epochs and not self.exhausted():
            order = self.dataset.train.order(self.experiment.seed, progress.epoch)
            while progress.step < progress.steps_per_epoch and not self.exhausted():
                started = time.perf_counter()
                first, last = self.bounds[progress.step], self.bounds[progress.step + 1]
                self.step(order[first:last])
                if progress.step in self.evaluate_after:
                    self.evaluate(started)
                else:
                    progress.seconds += time.perf_counter() - started
                listen(progress)
            if progress.step == progress.steps_per_epoch:
                progress.epoch, progress.step = progress.epoch + 1, 0

    def exhausted(self) -> bool:
        """Whether early stopping has had enough."""
        return self.progress.evaluations_since_best >= self.options.patience

    def step(self, rows: np.ndarray) -> None:
        """One update of all parameters."""
        progress = self.progress
        batch = self.dataset.train.batch(
            rows, self.options.max_history, progress.epoch, self.experiment.seed
        )
        moment = Moment(self.experiment.seed, progress.epoch, progress.step, progress.number)
        diagnose = progress.step + 1 in self.evaluate_after
        self.objective.train()
        losses = self.objective(batch.to(self.device), moment, diagnose=diagnose)
        if not math.isfinite(float(losses.total.detach())):
            bad = [key for key, value in losses.logs.items() if not value.isfinite()]
            raise TrainingError(self._explain(f"the loss ({', '.join(bad) or 'total'})"))
        self.optimizer.zero_grad()
        losses.total.backward()
        self.add_embedding_penalty()
        self.optimizer.step()
        progress.step += 1
        progress.number += 1
        for key, value in losses.logs.items():
            self.sums[key] = self.sums.get(key, torch.zeros_like(value)) + value
        self.steps_summed += 1
        self.latest_logs = losses.logs

    def add_embedding_penalty(self) -> None:
        """Gradient of (lambda / 2) * sum of squares over the whole of each embedding table.

        Reference: arXiv 2109.13921, section 5.2.2 ("L2 regularization weight for the embedding").
        """
        strength = self.options.embedding_l2
        backbone = self.objective.backbone
        assert isinstance(backbone, Backbone)
        for table in backbone.embedding_tables():
            if strength > 0 and table.grad is not None:
                table.grad.add_(table.detach(), alpha=strength)

    def evaluate(self, started: float) -> None:
        """Score the validation rows, log, keep the best weights, write a checkpoint."""
        progress, options = self.progress, self.options
        try:
            predictions = score(
                self.objective.model(), self.dataset.valid, options.max_history, self.device
            )
        except DataError:
            # The update after the last finite loss was not finite.
            raise TrainingError(self._explain("a validation score")) from None
        line: dict[str, Any] = {"epoch": progress.epoch, "step": progress.number}
        line |= {key: float(value) / self.steps_summed for key, value in self.sums.items()}
        line |= {key: float(value) for key, value in self.latest_logs.items() if "/" in key}
        line["valid_auc"] = auc(predictions.label, predictions.score)
        line["valid_logloss"] = logloss(predictions.label, predictions.score)
        self.sums, self.steps_summed = {}, 0
        current = line["valid_auc"] if options.monitor == "auc" else -line["valid_logloss"]
        # A score that is not a number is never a new best.
        improved = math.isfinite(current) and (progress.best is None or current > progress.best)
        if improved:
            progress.best, progress.best_number = current, progress.number
            progress.evaluations_since_best = 0
            save_tensors(self.out / WEIGHTS, self.objective.state_dict(), {})
        else:
            progress.evaluations_since_best += 1
        progress.seconds += time.perf_counter() - started
        line["seconds"] = round(progress.seconds, 3)
        # JSON has no NaN.
        line = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in line.items()}
        self._append(line)
        progress.last = line
        self.save()

    def _append(self, line: dict[str, Any]) -> None:
        text = json.dumps(line) + "\n"
        with (self.out / LOG).open("r+b" if (self.out / LOG).exists() else "wb") as file:
            # Lines beyond the checkpoint are of a session that was killed: written again here.
            file.truncate(self.progress.log_bytes)
            file.seek(self.progress.log_bytes)
            file.write(text.encode())
        self.progress.log_bytes += len(text.encode())

    def save(self) -> None:
        """Write all that resuming needs as one file."""
        tensors = {f"model.{key}": value for key, value in self.objective.state_dict().items()}
        for name, parameter in self.objective.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value
        state = {**asdict(self.progress), "dataset": self.dataset.manifest.fingerprint}
        save_tensors(self.out / CHECKPOINT, tensors, state)

    def restore(self) -> None:
        """Take over the latest checkpoint; none means that the run starts from its beginning.

        Raises:
            ConfigError: the dataset is not the one that the run was started on.
        """
        if not (self.out / CHECKPOINT).exists():
            return
        tensors, state = load_tensors(self.out / CHECKPOINT)
        if state.pop("dataset") != self.dataset.manifest.fingerprint:
            raise ConfigError(
                f"dataset: {self.dataset.path} is not the one that {self.out} was started on (its "
                "fingerprint differs): prepare it as it was then or choose another --out"
            )
        self.progress = Progress(**state)
        model = {k[6:]: v for k, v in tensors.items() if k.startswith("model.")}
        self.objective.load_state_dict(model)
        for name, parameter in self.objective.named_parameters():
            for key in ("step", "exp_avg", "exp_avg_sq"):
                value = tensors.get(f"adam.{key}.{name}")
                if value is not None:
                    self.optimizer.state[parameter][key] = value.to(self.device)

    def _explain(self, what: str) -> str:
        progress = self.progress
        kept = (
            f"; the best weights so far are kept in {self.out}" if progress.best is not None else ""
        )
        return (
            f"{what} is not finite at epoch {progress.epoch}, step {progress.step}: lower "
            f"train.lr (now {self.options.lr}), raise train.embedding_l2 (now "
            f"{self.options.embedding_l2}), or look for extreme values in numeric columns{kept}"
        )


def build_objective(experiment: Experiment, facts: Facts) -> Objective:
    """Backbone and regularizers with the seed's initial weights."""
    backbone = build_backbone(experiment, facts)
    regularizers = {
        name: build_regularizer(experiment, name, facts, backbone)
        for name in experiment.regularizer
    }
    return Objective(backbone, regularizers)


def finish(experiment: Experiment, dataset: Dataset, out: Path, trainer: Trainer) -> Run:
    """Restore the best weights, score the validation rows with them, seal the directory.

    Raises:
        TrainingError: no evaluation ever gave a number.
    """
    if not (out / WEIGHTS).exists():
        raise TrainingError(
            f"train.monitor = '{experiment.train.monitor}' was never a number on the validation "
            "rows: they need both labels; see `aqcl describe dataset`"
        )
    weights, _ = load_tensors(out / WEIGHTS)
    backbone = load_backbone(experiment, trainer.facts, weights).to(trainer.device)
    predictions = score(backbone, dataset.valid, experiment.train.max_history, trainer.device)
    progress = trainer.progress
    manifest = Manifest(
        format="aqcl-run",
        fingerprint=run_fingerprint(experiment, dataset.manifest.fingerprint),
        settings={"seed": experiment.seed, "label": experiment.label},
        source={"dataset": dataset.manifest.fingerprint, "name": dataset.name},
        content={
            "steps": progress.number,
            "best_step": progress.best_number,
            "best": progress.best,
            "monitor": experiment.train.monitor,
            "seconds": round(progress.seconds, 3),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
    )
    # Recording writes the manifest last of all: it is what marks the run as finished.
    metrics = evaluate(predictions, dataset.thresholds).to_json()
    return Run(out, experiment, manifest).record("valid", predictions, metrics)
