"""Whether the weights that a run keeps are of a regularizer's warm-up, or of its very last step."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aqcl.experiment import Experiment, find_regularizer
from aqcl.regularizers.aqcl import AQCL
from aqcl.regularizers.pcl import PCL

UNUSED: Final = {AQCL: "codebook and alpha", PCL: "prototypes"}
"""What these regularizers, which begin with instance contrast alone, do not use until later."""


def warming(experiment: Experiment, step: int) -> dict[str, str]:
    """The active regularizers in whose warm-up a run still is after so many steps.

    Returns:
        By name, what each of them has not used yet.
    """
    return {
        name: unused
        for name, options in experiment.regularizer.items()
        for kind, unused in UNUSED.items()
        if issubclass(find_regularizer(name), kind)
        and options["weight"] > 0
        and step <= options["warmup_steps"]
    }


def warm_up_notes(label: str, experiment: Experiment, best_steps: Sequence[int]) -> list[str]:
    """What a reader must know of runs that kept weights from a warm-up; nothing of others.

    Args:
        label: what the runs are called.
        experiment: theirs; they differ by seed alone.
        best_steps: for each run the steps done when its weights were kept.
    """
    early = [(step, warming(experiment, step)) for step in sorted(best_steps)]
    notes = []
    for name, options in experiment.regularizer.items():
        steps = [step for step, found in early if name in found]
        if not steps:
            continue
        unused = early[0][1][name]
        where = "" if len(best_steps) == 1 else f" in {len(steps)} of {len(best_steps)} runs"
        told = f"step{'s' * (len(steps) > 1)} {', '.join(map(str, steps))}"
        notes.append(
            f"{label}: the best weights{where} are of {told}, within the warm-up of "
            f"{name} ({options['warmup_steps']} steps): instance contrast alone trained them, "
            f"without {unused}; set regularizer.{name}.warmup_steps well below {steps[0]}"
        )
    return notes


def cut_off_notes(
    label: str, experiment: Experiment, steps: Sequence[tuple[int, int]]
) -> list[str]:
    """What a reader must know of runs that were best at their last evaluation; nothing of others.

    Args:
        label: what the runs are called.
        experiment: theirs; they differ by seed alone.
        steps: for each run those done when its weights were kept, and all of them.
    """
    n_cut = sum(kept == done for kept, done in steps)
    if not n_cut:
        return []
    where = "" if len(steps) == 1 else f" in {n_cut} of {len(steps)} runs"
    return [
        f"{label}: the best weights{where} are those of the last evaluation: training ended while "
        f"it may still have improved; raise train.epochs above {experiment.train.epochs}"
    ]


def training_notes(
    label: str, experiment: Experiment, found: Sequence[Mapping[str, Any]]
) -> list[str]:
    """All that makes the kept weights of finished runs doubtful.

    Args:
        label: what the runs are called.
        experiment: theirs; they differ by seed alone.
        found: for each run its `best_step` and its `steps`, as its manifest has them.
    """
    kept = [run["best_step"] for run in found]
    ends = [run["steps"] for run in found]
    return [
        *warm_up_notes(label, experiment, kept),
        *cut_off_notes(label, experiment, list(zip(kept, ends, strict=True))),
    ]
