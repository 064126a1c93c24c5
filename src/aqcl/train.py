"""fit(): algorithm 1 of the paper as a loop one can read."""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aqcl.alpha_learning import make_learner
from aqcl.batch import Batch
from aqcl.config import as_values
from aqcl.contracts import Facts
from aqcl.dataset import Dataset, batch_bounds, open_dataset, steps_per_epoch
from aqcl.errors import ConfigError, DataError, TrainingError, within_memory
from aqcl.evaluate import evaluate
from aqcl.experiment import Experiment, resolve
from aqcl.metrics import auc, logloss
from aqcl.objective import Moment, Objective
from aqcl.optimizers import Optimizers
from aqcl.prefetch import prefetched_if_slow
from aqcl.runs import (
    CHECKPOINT,
    CONFIG,
    LOG,
    WEIGHTS,
    Run,
    append_to_log,
    at_dataset,
    check_storable,
    is_finished,
    load_tensors,
    open_run,
    resumed,
    run_fingerprint,
    save_tensors,
    sole_trainer,
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
from aqcl.source_code import note_code
from aqcl.storage import Manifest, naming_a_full_disk

BATCHES_AHEAD = 4


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
    step_seconds: float = 0.0
    """Those of them that steps took."""
    wait_seconds: float = 0.0
    """Those of the steps that were spent waiting for a batch."""
    rows: int = 0
    """Training rows that went through the model; learning alpha adds its own passes."""
    log_bytes: int = 0
    """Length of the log that belongs to this state."""
    steps_per_epoch: int = 0
    rows_per_step: float = 0.0
    """Mean over an epoch."""
    last: dict[str, Any] = field(default_factory=dict)
    """The latest line of the log."""
    code: list[str] = field(default_factory=list)
    """States of the package's code that trained it, in the order in which they first did."""


Listener = Callable[[Progress], None]


def train(
    experiment: Experiment,
    out: Path | str,
    *,
    resume: bool = False,
    listen: Listener | None = None,
    dataset: Dataset | None = None,
) -> Run:
    """Train an experiment into a run directory and score the validation rows.

    Test rows are not read. A run that was killed continues from its latest evaluation with
    `resume` and ends as it would have uninterrupted, bit for bit on CPU. The experiment may name
    another place for the same dataset.

    Args:
        experiment: what is trained; defaults of its parts are filled in.
        out: the run directory; must not exist unless `resume`.
        resume: continue an unfinished run; a finished one is returned as it is.
        listen: called after each step.
        dataset: the experiment's dataset, if it is open already.

    Raises:
        ConfigError: settings that cannot work, or that differ from the run to be resumed.
        StorageError: a directory is damaged or in the way, another process trains the run, or the
            disk is full.
        TrainingError: the loss is no longer finite, or memory does not suffice.
    """
    out = Path(out)
    # Absolute, so that the run's own configuration repeats it from any directory.
    place = str(Path(experiment.dataset).absolute())
    experiment = resolve({**as_values(experiment), "dataset": place})
    if resume and (out / CONFIG).exists():
        experiment = resumed(out, experiment)
        if is_finished(out):
            return finished_run(experiment, out)
    dataset = dataset or open_dataset(Path(experiment.dataset))
    with within_memory():
        trainer = Trainer(experiment, dataset, out)
    if not (resume and (out / CONFIG).exists()):
        start_run(out, experiment)
    with sole_trainer(out):
        if is_finished(out):  # by a process that has just ended
            return finished_run(experiment, out)
        trainer.restore()
        with at_dataset(out, experiment), naming_a_full_disk(out), within_memory():
            trainer.fit(listen or (lambda progress: None))
            return finish(experiment, dataset, out, trainer)


def finished_run(experiment: Experiment, out: Path) -> Run:
    """A run that needs no more training.

    Raises:
        ConfigError: the experiment's dataset is not the one that the run was trained on.
    """
    run, place = open_run(out), Path(experiment.dataset)
    # It may be gone, but not be another.
    if place.exists() or experiment.dataset != run.experiment.dataset:
        check_dataset(open_dataset(place), run.manifest.source["dataset"], out)
    return run


def check_dataset(dataset: Dataset, fingerprint: str, out: Path) -> None:
    """Make sure that a dataset is the one of a run, wherever it lies.

    Raises:
        ConfigError: its fingerprint is another.
    """
    if dataset.manifest.fingerprint != fingerprint:
        raise ConfigError(
            f"dataset: {dataset.path} is not the one that {out} was started on (its fingerprint "
            "differs): prepare it as it was then or choose another --out"
        )


class Trainer:
    """The state of a run in memory: model, optimizer, progress; and the loop over it."""

    def __init__(self, experiment: Experiment, dataset: Dataset, out: Path) -> None:
        self.experiment = experiment
        self.options = experiment.train
        self.dataset = dataset
        self.out = out
        self.device = pick_device(experiment.runtime.device)
        if experiment.runtime.deterministic:  # else as the caller has it
            # What cuBLAS needs for it, read when it starts.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
        self.facts = facts_of(dataset, experiment)
        self.objective = build_objective(experiment, self.facts).to(self.device)
        check_storable(self.objective)
        self.optimizer = Optimizers(self.objective, self.objective.backbone, self.options)
        # None where alpha stays as it is given.
        self.alpha = make_learner(
            self.objective, dataset.valid, self.optimizer, self.options, experiment.seed
        )
        self.progress = Progress()
        n_rows = len(dataset.train)
        self.bounds = batch_bounds(n_rows, self.options.batch_size)
        n_steps = steps_per_epoch(n_rows, self.options.batch_size)
        self.progress.steps_per_epoch = n_steps
        self.progress.rows_per_step = n_rows / max(n_steps, 1)
        n_evaluations = min(self.options.evaluations_per_epoch, n_steps)
        cuts = np.linspace(0, n_steps, n_evaluations + 1)[1:]
        self.evaluate_after = {round(cut) for cut in cuts}
        self.logloss_sum = torch.zeros((), device=self.device)
        self.steps_summed = 0

    def fit(self, listen: Listener, stop_at: int | None = None) -> None:
        """Train until early stopping or the last epoch.

        Args:
            listen: called after each step.
            stop_at: stop sooner, with an evaluation, when so many steps have been done.
        """
        progress = self.progress
        note_code(progress.code, self.out)
        self.objective.train()
        with prefetched_if_slow(self.batches(), BATCHES_AHEAD) as batches:
            while progress.epoch < self.options.epochs and not self.over(stop_at):
                while progress.step < progress.steps_per_epoch and not self.over(stop_at):
                    started = time.perf_counter()
                    batch = next(batches)
                    progress.wait_seconds += time.perf_counter() - started
                    self.step(batch)
                    progress.step_seconds += time.perf_counter() - started
                    if progress.step in self.evaluate_after or progress.number == stop_at:
                        self.evaluate(started)
                    else:
                        progress.seconds += time.perf_counter() - started
                    listen(progress)
                if progress.step == progress.steps_per_epoch:
                    progress.epoch, progress.step = progress.epoch + 1, 0

    def batches(self) -> Iterator[Batch]:
        """The batches of all steps from where training stands now, whatever it does meanwhile."""
        first = self.progress.step
        for epoch in range(self.progress.epoch, self.options.epochs):
            yield from self.batches_of(epoch, first)
            first = 0

    def batches_of(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `first` on."""
        seed, split = self.experiment.seed, self.dataset.train
        order = split.order(seed, epoch)
        for step in range(first, self.progress.steps_per_epoch):
            rows = order[self.bounds[step] : self.bounds[step + 1]]
            yield split.batch(rows, self.options.max_history, epoch, seed)

    def exhausted(self) -> bool:
        """Whether early stopping has had enough."""
        return self.progress.evaluations_since_best >= self.options.patience

    def over(self, stop_at: int | None) -> bool:
        """Whether `fit` has come to its end before the last epoch."""
        return self.exhausted() or (stop_at is not None and self.progress.number >= stop_at)

    def step(self, batch: Batch) -> None:
        """One update of all parameters."""
        progress = self.progress
        moment = Moment(self.experiment.seed, progress.epoch, progress.step, progress.number)
        diagnose = progress.step + 1 in self.evaluate_after
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, self.options.precision == "bf16"):
            losses = self.objective(batch, moment, diagnose=diagnose)
        if not math.isfinite(float(losses.total.detach())):
            bad = [key for key, value in losses.logs.items() if not value.isfinite()]
            raise TrainingError(self._explain(f"the loss ({', '.join(bad) or 'total'})"))
        self.optimizer.zero_grad()
        losses.total.backward()
        if self.alpha is not None:
            progress.rows += self.alpha.update(batch, moment)
        self.optimizer.step()
        progress.step += 1
        progress.number += 1
        progress.rows += len(batch)
        self.logloss_sum = self.logloss_sum + losses.logs["logloss"]
        self.steps_summed += 1
        self.latest_logs = losses.logs

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
        line |= {key: float(value) for key, value in self.latest_logs.items()}
        line["logloss"] = float(self.logloss_sum) / self.steps_summed
        if self.alpha is not None:
            line |= self.alpha.log()
        line["valid_auc"] = auc(predictions.label, predictions.score)
        line["valid_logloss"] = logloss(predictions.label, predictions.score)
        self.logloss_sum, self.steps_summed = torch.zeros_like(self.logloss_sum), 0
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
        line["rows"] = progress.rows
        line["seconds"] = round(progress.seconds, 3)
        line["data_wait"] = round(progress.wait_seconds / max(progress.step_seconds, 1e-9), 4)
        # JSON has no NaN.
        line = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in line.items()}
        progress.log_bytes = append_to_log(self.out / LOG, line, progress.log_bytes)
        progress.last = line
        self.save()

    def save(self) -> None:
        """Write all that resuming needs as one file."""
        tensors = {f"model.{key}": value for key, value in self.objective.state_dict().items()}
        tensors |= dict(self.optimizer.tensors(self.objective))
        if self.alpha is not None:
            tensors |= self.alpha.tensors()
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
        check_dataset(self.dataset, state.pop("dataset"), self.out)
        self.progress = Progress(**state)
        model = {k[6:]: v for k, v in tensors.items() if k.startswith("model.")}
        self.objective.load_state_dict(model)
        self.optimizer.restore(self.objective, tensors)
        if self.alpha is not None:
            self.alpha.restore(tensors)

    def _explain(self, what: str) -> str:
        progress = self.progress
        return (
            f"{what} is not finite at epoch {progress.epoch}, step {progress.step}: lower "
            f"train.lr (now {self.options.lr}), raise train.embedding_l2 (now "
            f"{self.options.embedding_l2}), or look for extreme values in numeric columns, and "
            f"train again into another --out; {self.out} cannot go on with other settings"
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
    learned: dict[str, Any] = {}
    if trainer.alpha is not None:
        learned = {"alpha": trainer.alpha.chosen(weights), "rows": progress.rows}
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
            "code": "+".join(progress.code),
            "simulated": dataset.simulated,
            **learned,
        },
    )
    # Recording writes the manifest last of all: it is what marks the run as finished.
    metrics = evaluate(predictions, dataset.thresholds).to_json()
    return Run(out, experiment, manifest).record("valid", predictions, metrics)
