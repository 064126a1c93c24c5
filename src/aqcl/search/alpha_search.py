"""Alpha found in about the time of one training, and what every way of finding it returns."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aqcl.config import as_values, build
from aqcl.dataset import Dataset, open_dataset
from aqcl.errors import ConfigError, StorageError
from aqcl.experiment import Experiment, find_regularizer, resolve
from aqcl.regularizers.aqcl import AQCL, AQCLOptions
from aqcl.runs import LOG
from aqcl.train import Listener, train


@dataclass(frozen=True)
class AlphaOutcome:
    """An alpha that was found, and what finding it took."""

    options: dict[str, Any]
    """Options for the table of the regularizer, to train with afresh."""
    value: float
    """The validation logloss that speaks for it: of the kept weights, or the winner's lowest."""
    rows: int
    """Training rows that went through the model, those for the gradient of alpha included."""
    seconds: float
    """Time spent training and evaluating."""
    history: list[dict[str, Any]]
    """What happened, in order, as plain values."""
    moved: bool = True
    """Whether alpha is another than at the start of the search."""


def learn_alpha(
    experiment: Experiment,
    out: Path,
    *,
    listen: Listener | None = None,
    dataset: Dataset | None = None,
) -> AlphaOutcome:
    """Learn alpha during one training, from the values that the experiment has.

    The run is an ordinary one in every other way; a killed one is continued by the same call.
    Test rows are closed.

    Args:
        experiment: a resolved experiment with the regularizer `aqcl`.
        out: the run directory.
        listen: called after each step.
        dataset: the experiment's dataset, if it is open already.

    Raises:
        ConfigError: the experiment has no alpha, a constant one, or differs from the run in `out`.
        StorageError: `out` holds something else, or a finished run without its log.
        TrainingError: the loss is no longer finite.
    """
    name, learner = alpha_owner(experiment), with_learning(experiment)
    dataset = dataset or open_dataset(Path(learner.dataset), closed=("test",))
    run = train(learner, out, resume=True, listen=listen, dataset=dataset)
    content, log = run.manifest.content, run.log()
    if not log:
        raise StorageError(
            f"{out / LOG}: expected the log of the run, which tells how alpha moved, it is "
            "missing; bring it back or choose another --out"
        )
    value = next(line["valid_logloss"] for line in log if line["step"] == content["best_step"])
    history = [
        {
            key.removeprefix(f"{name}/"): line[key]
            for key in line
            if key in ("step", "rows", "valid_auc", "valid_logloss") or _is_alpha(key, name)
        }
        for line in log
    ]
    given = build(AQCLOptions, experiment.regularizer[name], f"regularizer.{name}").shape()
    return AlphaOutcome(
        options=content["alpha"],
        value=value,
        rows=content["rows"],
        seconds=content["seconds"],
        history=history,
        # As the run tells an alpha that has made no step.
        moved=content["alpha"] != given.moved(given.free()).options(),
    )


def _is_alpha(key: str, name: str) -> bool:
    return key.startswith((f"{name}/w1", f"{name}/w2", f"{name}/alpha_"))


def alpha_owner(experiment: Experiment) -> str:
    """The name of the regularizer whose alpha is looked for.

    Raises:
        ConfigError: there is none, or there are several, or its alpha is a constant.
    """
    owners = [
        name
        for name, options in experiment.regularizer.items()
        if find_regularizer(name) is AQCL and options["weight"] > 0
    ]
    if len(owners) != 1:
        raise ConfigError(
            f"regularizer: expected one with an alpha and a weight above 0, got "
            f"{', '.join(owners) or 'none'}; add a table [regularizer.aqcl]"
        )
    constant = experiment.regularizer[owners[0]].get("constant_alpha")
    if constant is not None:
        raise ConfigError(
            f"regularizer.{owners[0]}.constant_alpha = {constant} leaves nothing to look for: "
            "leave it out"
        )
    return owners[0]


def with_learning(experiment: Experiment) -> Experiment:
    """The experiment whose training learns alpha.

    Raises:
        ConfigError: it has no alpha that can be learned.
    """
    name = alpha_owner(experiment)
    learning = {**experiment.regularizer[name]["learn_alpha"], "enabled": True}
    return with_options(experiment, name, learn_alpha=learning)


def with_options(experiment: Experiment, name: str, **options: Any) -> Experiment:
    """The experiment with some options of one regularizer replaced, its dataset by full path."""
    values = as_values(experiment)
    values["regularizer"][name] |= options
    changed = resolve(values)
    return replace(changed, dataset=str(Path(changed.dataset).absolute()))
