"""Alpha by successive halving: many short trainings from one checkpoint, the better half goes on.

Each candidate has a run directory of its own, and what comes next follows from their logs, so the
same call continues a search that was killed.
"""

import json
import logging
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from torch.quasirandom import SobolEngine

from aqcl.alpha_shapes import W1_RANGE, W2_RANGE, HalvingOptions
from aqcl.config import as_values, to_toml
from aqcl.dataset import Dataset, open_dataset, steps_per_epoch
from aqcl.errors import ConfigError, TrainingError
from aqcl.experiment import Experiment
from aqcl.runs import CHECKPOINT, CONFIG, LOG, WEIGHTS, check_same_experiment, start_run
from aqcl.search.alpha_search import AlphaOutcome, alpha_owner, with_options
from aqcl.storage import atomic_write
from aqcl.streams import derive_seed
from aqcl.train import Listener, Trainer

logger = logging.getLogger(__name__)

WARM: Final = "warm"
"""Directory of the common start."""


def candidate_name(number: int | str) -> str:
    """The name of a candidate's run directory."""
    return f"candidate-{number}"


@dataclass(frozen=True)
class Plan:
    """How many steps everything takes."""

    warm: int
    """Steps of the common start."""
    rungs: tuple[tuple[int, int], ...]
    """Candidates in each rung, and further steps of each of them."""

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.warm + sum(n_candidates * steps for n_candidates, steps in self.rungs)


def make_plan(options: HalvingOptions, epochs: int, steps_per_epoch: int) -> Plan:
    """Spend what the budget leaves beside one training: the same on each rung.

    Args:
        options: of the search.
        epochs: most epochs of a training.
        steps_per_epoch: steps of one of them.

    Raises:
        ConfigError: the budget does not reach for one step of each candidate, or is more than a
            candidate can be trained for.
    """
    training = min(options.training_epochs, epochs) * steps_per_epoch
    total = int((options.budget - 1) * training)
    warm = int(options.warm_share * min(total, training))
    counts = [options.n_candidates]
    while counts[-1] > 2:
        counts.append(-(-counts[-1] // 2))
    rungs = tuple((n, (total - warm) // (len(counts) * n)) for n in counts)
    if rungs[0][1] < 1:
        raise ConfigError(
            f"budget = {options.budget}: leaves {total} steps, too few for {len(counts)} rungs of "
            f"{options.n_candidates} candidates; raise budget or training_epochs, or lower "
            "n_candidates"
        )
    longest, most = warm + sum(steps for _, steps in rungs), epochs * steps_per_epoch
    if longest > most:
        raise ConfigError(
            f"budget = {options.budget}: the last candidates would take {longest} steps, and a "
            f"training has {most} at most; lower budget or raise train.epochs"
        )
    return Plan(warm, rungs)


def plan_halving(experiment: Experiment, options: HalvingOptions, dataset: Dataset) -> Plan:
    """Check that there is a curve to look for, and plan its search.

    Raises:
        ConfigError: there is none, or the budget is too small.
    """
    name = alpha_owner(experiment)
    shape = experiment.regularizer[name]["alpha"]
    if shape != "curve":
        raise ConfigError(
            f"regularizer.{name}.alpha = '{shape}': halving looks for w1 and w2 of the curve; "
            "learn the values of other shapes during training"
        )
    n_steps = steps_per_epoch(len(dataset.train), experiment.train.batch_size)
    return make_plan(options, experiment.train.epochs, n_steps)


def candidates(first: tuple[float, float], count: int, seed: int) -> list[tuple[float, float]]:
    """Points (w1, w2): the first as given, the others a scrambled Sobol sequence of their logs."""
    sobol = SobolEngine(2, scramble=True, seed=derive_seed(seed, "alpha") % 2**31)
    points = [first]
    for unit in sobol.draw(count - 1).tolist():
        w1, w2 = (
            low * (high / low) ** share
            for share, (low, high) in zip(unit, (W1_RANGE, W2_RANGE), strict=True)
        )
        points.append((w1, w2))
    return points


def halve_alpha(
    experiment: Experiment,
    out: Path,
    options: HalvingOptions | None = None,
    *,
    listen: Listener | None = None,
    dataset: Dataset | None = None,
) -> AlphaOutcome:
    """Find w1 and w2 of the curve by successive halving.

    All candidates start from one checkpoint and see the same batches, views and dropout. After
    each rung the half with the lowest validation logloss since the common start stays. The final
    model is not among them: train it with the outcome's options, for which the budget has room.
    Test rows are not read.

    Args:
        experiment: a resolved experiment with the regularizer `aqcl`.
        out: directory of the search; a search that was killed continues.
        options: of the search.
        listen: called after each step of any candidate.
        dataset: the experiment's dataset, if it is open already.

    Raises:
        ConfigError: the experiment has no curve to look for, the budget is too small, or `out`
            belongs to another search.
        TrainingError: the loss is no longer finite.

    Reference: arXiv 1502.07943, algorithm 1.
    """
    options = options or HalvingOptions()
    name = alpha_owner(experiment)
    table = experiment.regularizer[name]
    start = _searching(experiment, name)
    dataset = dataset or open_dataset(Path(start.dataset), closed=("test",))
    plan = plan_halving(start, options, dataset)
    hear = listen or (lambda progress: None)
    own = (table["w1"], table["w2"])
    warm = Branch(start, out / WARM, *own)
    _open(warm, None)
    _advance(warm, dataset, plan.warm, hear)
    branches = [
        Branch(with_options(start, name, w1=w1, w2=w2), out / candidate_name(number), w1, w2)
        for number, (w1, w2) in enumerate(candidates(own, options.n_candidates, start.seed))
    ]
    for branch in branches:
        _open(branch, warm)
    winner, history = _halve(branches, plan, dataset, hear)
    spent = [warm, *branches]
    return AlphaOutcome(
        options={"alpha": "curve", "w1": winner.w1, "w2": winner.w2},
        value=winner.value,
        rows=sum(branch.rows for branch in spent),
        seconds=sum(branch.seconds for branch in spent),
        history=history,
    )


@dataclass
class Branch:
    """The training of one candidate, in a run directory that is never finished."""

    experiment: Experiment
    folder: Path
    w1: float
    w2: float
    parent: "Branch | None" = None
    steps: int = 0
    """Steps done at the end of its latest rung, those of the common start included."""
    rows: int = 0
    """Training rows of its own, without the common start, and so for what follows."""
    seconds: float = 0.0
    value: float = math.inf
    """The lowest validation logloss."""


def _searching(experiment: Experiment, name: str) -> Experiment:
    """The experiment with a given alpha, and stopped by nothing but the budget."""
    learning = {**experiment.regularizer[name]["learn_alpha"], "enabled": False}
    start = with_options(experiment, name, learn_alpha=learning)
    return replace(start, train=replace(start.train, patience=sys.maxsize))


def _open(branch: Branch, parent: Branch | None) -> None:
    """Make the directory, with the parent's state, unless it is there already."""
    folder = branch.folder
    branch.parent = parent
    if not (folder / CONFIG).exists():
        if parent is None or not (parent.folder / CHECKPOINT).exists():
            start_run(folder, branch.experiment)
            return
        folder.mkdir(parents=True, exist_ok=True)
        for file in (WEIGHTS, LOG, CHECKPOINT):
            if (parent.folder / file).exists():
                atomic_write(folder / file, (parent.folder / file).read_bytes())
        # Last of all: it says that the state is whole.
        atomic_write(folder / CONFIG, to_toml(as_values(branch.experiment)))
    check_same_experiment(folder, branch.experiment)


def _advance(branch: Branch, dataset: Dataset, stop_at: int, listen: Listener) -> None:
    """Train a branch until it has done so many steps; one that has them is only read."""
    trainer = Trainer(branch.experiment, dataset, branch.folder)
    trainer.restore()
    trainer.fit(listen, stop_at)
    if not trainer.progress.number:
        return  # no common start
    parent = branch.parent or Branch(branch.experiment, branch.folder, branch.w1, branch.w2)
    # From the log and not from the trainer: before a kill it may have gone on to later rungs.
    lines = [json.loads(text) for text in (branch.folder / LOG).read_text().splitlines()]
    own = [line for line in lines if parent.steps < line["step"] <= stop_at]
    branch.steps = own[-1]["step"]
    branch.rows = own[-1]["rows"] - parent.rows
    branch.seconds = own[-1]["seconds"] - parent.seconds
    values = (line["valid_logloss"] for line in own)
    branch.value = min((value for value in values if value is not None), default=math.inf)


def _halve(
    branches: list[Branch], plan: Plan, dataset: Dataset, listen: Listener
) -> tuple[Branch, list[dict[str, Any]]]:
    """The winner, and what each candidate reached in each rung."""
    staying, history, stop_at = branches, list[dict[str, Any]](), plan.warm
    for number, (_, steps) in enumerate(plan.rungs):
        stop_at += steps
        for branch in staying:
            _advance(branch, dataset, stop_at, listen)
        ranked = sorted(staying, key=lambda branch: branch.value)
        n_kept = plan.rungs[number + 1][0] if number + 1 < len(plan.rungs) else 1
        kept = ranked[:n_kept]
        for branch in staying:
            line = {"run": branch.folder.name, "rung": number + 1, "step": branch.steps}
            line |= {"w1": branch.w1, "w2": branch.w2}
            line |= {"valid_logloss": branch.value, "rows": branch.rows, "kept": branch in kept}
            history.append(line)
            logger.info("%s", line)
        # In their first order, so that what is trained next does not depend on near ties.
        staying = [branch for branch in staying if branch in kept]
    if not math.isfinite(staying[0].value):
        raise TrainingError(
            f"{staying[0].folder}: the validation logloss was never a number: the validation rows "
            "need both labels; see `aqcl describe dataset`"
        )
    return staying[0], history
