"""Finished runs scored on a split of their dataset, and compared with each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Final

from aqcl.comparison import TOO_LITTLE, Comparison, compare
from aqcl.config import did_you_mean
from aqcl.dataset import Dataset, Split, open_dataset
from aqcl.errors import ConfigError, DataError, StorageError
from aqcl.evaluate import ALL, Evaluation, evaluate
from aqcl.experiment import method_settings
from aqcl.metrics import constant_logloss
from aqcl.predictions import Predictions
from aqcl.row_groups import USER_ACTIVITY, check_by, groups_by
from aqcl.runs import Run, open_run
from aqcl.scoring import facts_of, load_backbone, score, scoring_device
from aqcl.splits import SplitName
from aqcl.warm_up import training_notes
from aqcl.yardsticks import yardstick_predictions

FEWEST_REPLICATES: Final = 100
"""Resamples, of which 2.5% on either side are two or three."""


def assess(path: Path | str, split: SplitName = "test", dataset: Dataset | None = None) -> Run:
    """Score a split with the weights of a run, unless that was done; returns the run.

    Args:
        path: the run directory; predictions and metrics are added to it.
        split: what to score. Nothing else in aqcl shows test rows to a model.
        dataset: the run's dataset, if it is open already or has moved. Without it, a split that was
            scored needs no dataset.

    Raises:
        StorageError: the run or its dataset is missing, damaged, or not the one it was trained on.
    """
    run = open_run(path)
    if dataset is not None:
        _checked(run, dataset)
    if run.has_predictions(split):
        return run
    dataset = dataset or dataset_of(run)
    experiment = run.experiment
    device = scoring_device(experiment.runtime.device)
    backbone = load_backbone(experiment, facts_of(dataset, experiment), run.weights()).to(device)
    rows: Split = getattr(dataset, split)
    predictions = score(backbone, rows, experiment.train.max_history, device)
    thresholds, masks = groups_by(USER_ACTIVITY, predictions, dataset, split)
    found = evaluate(predictions, thresholds, masks=masks)
    return run.record(split, predictions, found.to_json())


def assess_by(
    path: Path | str, split: SplitName, by: str, dataset: Dataset | None = None
) -> tuple[Run, Evaluation]:
    """Score a run, unless that was done, and measure it by groups of rows.

    Args:
        path: the run directory.
        split: what to score.
        by: what rows are grouped by: `user-activity`, `item-activity` or the name of a field.
        dataset: the run's dataset, if it is open already or has moved.

    Raises:
        ConfigError: the dataset has no such field.
        StorageError: the run or its dataset is missing, damaged, or not the one it was trained on.
    """
    if by == USER_ACTIVITY:
        run = assess(path, split, dataset)
        return run, Evaluation.from_json(run.metrics()[split])
    dataset = dataset_of(open_run(path), dataset)
    check_by(by, dataset)
    run = assess(path, split, dataset)
    predictions = run.predictions(split)
    thresholds, masks = groups_by(by, predictions, dataset, split)
    return run, evaluate(predictions, thresholds, masks=masks)


def dataset_of(run: Run, dataset: Dataset | None = None) -> Dataset:
    """The dataset that a run was trained on.

    Args:
        run: the run.
        dataset: the dataset, if it is open already or has moved; else it is opened where it lay.

    Raises:
        StorageError: it is not there, or another one is in its place.
    """
    if dataset is not None:
        return _checked(run, dataset)
    place = Path(run.experiment.dataset)
    if not place.is_dir():
        raise StorageError(
            f"{place}: is no directory, and {run.path} was trained on the dataset there: if that "
            "lies elsewhere now, name its place with --dataset, else prepare it again"
        )
    return _checked(run, open_dataset(place))


def is_simulated(run: Run, dataset: Dataset | None = None) -> bool:
    """Whether the dataset of a run is known to be simulated.

    Older runs do not say so themselves; of these, one whose dataset has moved is not known.

    Args:
        run: the run.
        dataset: its dataset, if it is open already or has moved.
    """
    if "simulated" in run.manifest.content:
        return bool(run.manifest.content["simulated"])
    try:
        return dataset_of(run, dataset).simulated
    except StorageError:
        return False


def _checked(run: Run, dataset: Dataset) -> Dataset:
    if dataset.manifest.fingerprint != run.manifest.source["dataset"]:
        raise StorageError(
            f"{dataset.path}: is not the dataset that {run.path} was trained on (its fingerprint "
            "differs): prepare it again with the settings it had then"
        )
    return dataset


@dataclass(frozen=True)
class BelowYardstick:
    """A trained configuration whose AUC on a group a yardstick exceeds."""

    configuration: str
    group: str
    auc: float
    yardstick: str
    """The best of them."""
    yardstick_auc: float


@dataclass(frozen=True)
class AboveConstant:
    """A trained configuration whose probabilities are worse than the rows' own click rate."""

    configuration: str
    logloss: float
    constant: float
    """The logloss of that rate for each row."""


@dataclass(frozen=True)
class RunComparison:
    """A comparison with what one must know to read it."""

    comparison: Comparison
    dataset: Dataset
    split: SplitName
    runs: dict[str, tuple[Path, ...]]
    """The runs of each configuration, one for each seed."""
    yardsticks: tuple[str, ...]
    """Configurations that were not trained."""
    trainings: tuple[str, ...] = ()
    """What is known of runs whose weights are of a warm-up, or of their last evaluation."""
    predictions: Mapping[str, Sequence[Predictions]] = field(
        default_factory=dict, repr=False, compare=False
    )
    """Of each configuration, those that were not trained too, what was compared: one a seed."""
    loglosses: Mapping[str, float] = field(default_factory=dict)
    """Of each trained configuration over all users, the mean of its seeds."""

    def below_yardsticks(self) -> tuple[BelowYardstick, ...]:
        """The configurations that know less than the best yardstick of a group.

        A group of too little to tell tells nothing of this either.
        """
        found = []
        for name in self.runs:
            for group, aucs in self._aucs_by_group().items():
                known = [yardstick for yardstick in self.yardsticks if yardstick in aucs]
                best = max(known, key=aucs.__getitem__, default=name)
                if name in aucs and aucs[name] < aucs[best]:
                    found.append(BelowYardstick(name, group, aucs[name], best, aucs[best]))
        return tuple(found)

    def above_constant(self) -> tuple[AboveConstant, ...]:
        """The configurations that one probability for all rows beats in logloss, over all users.

        Empty where negatives were drawn: there the labels' rate is made up, and probabilities too.
        """
        if self.dataset.protocol["labels"] != "impressions":
            return ()
        everyone = next(row for row in self.comparison.rows if row.group == ALL)
        constant = constant_logloss(everyone.positives, everyone.rows)
        return tuple(
            AboveConstant(name, found, constant)
            for name, found in self.loglosses.items()
            if found >= constant
        )

    def _aucs_by_group(self) -> dict[str, dict[str, float]]:
        rows = self.comparison.rows
        small = {row.group for row in rows if row.verdict == TOO_LITTLE}
        found: dict[str, dict[str, float]] = {}
        for row in rows:
            if row.group not in small and row.auc is not None:
                found.setdefault(row.group, {})[row.configuration] = row.auc
        return found


def compare_runs(
    paths: Sequence[Path | str],
    split: SplitName = "test",
    base: str | None = None,
    replicates: int = 1000,
    by: str = USER_ACTIVITY,
    dataset: Dataset | None = None,
) -> RunComparison:
    """Compare runs on the same rows; runs that differ only by seed are one configuration.

    Runs that have not scored the split yet do so now. Training-free yardsticks stand in the same
    comparison, so that nobody mistakes popularity for learning.

    Args:
        paths: run directories.
        split: which rows.
        base: label of the configuration to compare with; the first run's if not given.
        replicates: resamples of the users, 100 or more.
        by: what rows are grouped by: `user-activity`, `item-activity` or the name of a field.
        dataset: of the runs, if it is open already or has moved.

    Raises:
        ConfigError: no run is given, none is called `base`, `replicates` is below 100, or the
            dataset has no such field.
        DataError: the runs were trained on different datasets, or a seed stands twice.
        StorageError: a run or its dataset is missing, damaged, or not the one it was trained on.
    """
    if not paths:
        raise ConfigError("a comparison needs at least one run directory, such as runs/mine")
    if replicates < FEWEST_REPLICATES:
        raise ConfigError(
            f"replicates: expected {FEWEST_REPLICATES} or more, got {replicates}: fewer resamples "
            "give no interval of 95%"
        )
    opened = [open_run(path) for path in paths]
    fingerprints = {run.manifest.source["dataset"]: run for run in opened}
    if len(fingerprints) > 1:
        first, second, *_ = fingerprints.values()
        raise DataError(
            f"{first.path} and {second.path} were trained on different datasets "
            f"({first.experiment.dataset}, {second.experiment.dataset}): only runs on the same "
            "rows can be compared; where the datasets differ in fields or training negatives "
            "alone, compare the scores (docs/how-to/use-scores.md)"
        )
    dataset = dataset_of(opened[0], dataset)
    check_by(by, dataset)
    configurations = group_by_configuration(opened)
    base = base or next(iter(configurations))
    if base not in configurations:
        raise ConfigError(f"base: no run is called '{base}'; {did_you_mean(base, configurations)}")
    scored = {
        label: [assess(run.path, split, dataset) for run in runs]
        for label, runs in configurations.items()
    }
    predictions = predictions_of(scored, split)
    # A run may be called what a yardstick is called.
    yardsticks = {
        name if name not in predictions else f"{name} (not trained)": found
        for name, found in yardstick_predictions(dataset, split).items()
    }
    predictions |= {name: [found] for name, found in yardsticks.items()}
    thresholds, masks = groups_by(by, predictions[base][0], dataset, split)
    return RunComparison(
        compare(predictions, base, thresholds, replicates, masks, tuple(yardsticks)),
        dataset,
        split,
        {label: tuple(run.path for run in runs) for label, runs in configurations.items()},
        tuple(yardsticks),
        tuple(
            note
            for label, runs in configurations.items()
            for note in training_notes(
                label, runs[0].experiment, [run.manifest.content for run in runs]
            )
        ),
        predictions,
        {label: _mean_logloss(runs, split) for label, runs in scored.items()},
    )


def _mean_logloss(runs: Sequence[Run], split: SplitName) -> float:
    found = [Evaluation.from_json(run.metrics()[split])[ALL].logloss for run in runs]
    return fmean(value for value in found if value is not None)


def predictions_of(
    configurations: Mapping[str, Sequence[Run]], split: SplitName
) -> dict[str, list[Predictions]]:
    """The predictions of runs that have scored a split; columns that they share are held once."""
    predictions: dict[str, list[Predictions]] = {}
    first: Predictions | None = None
    for label, runs in configurations.items():
        for run in runs:
            found = run.predictions(split)
            first = found if first is None else first
            predictions.setdefault(label, []).append(found.sharing(first))
    return predictions


def group_by_configuration(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by label; different settings under one label are told apart by a number.

    Raises:
        DataError: two runs of one configuration have the same seed.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        settings = method_settings(run.experiment)
        label, number = run.experiment.label, 1
        while label in groups and method_settings(groups[label][0].experiment) != settings:
            number += 1
            label = f"{run.experiment.label} #{number}"
        group = groups.setdefault(label, [])
        twin = next((r for r in group if r.experiment.seed == run.experiment.seed), None)
        if twin is not None:
            raise DataError(
                f"{twin.path} and {run.path} are the same configuration with the same seed "
                f"{run.experiment.seed}: give each run once, or train it with another seed"
            )
        group.append(run)
    for group in groups.values():
        group.sort(key=lambda run: run.experiment.seed)
    return groups
