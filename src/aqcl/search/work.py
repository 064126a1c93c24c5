"""Settings searched on the validation rows, by processes on one machine or on several."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from aqcl.config import read_toml, to_toml
from aqcl.dataset import Dataset
from aqcl.errors import ConfigError, StorageError
from aqcl.file_locks import lock_file
from aqcl.runs import differences
from aqcl.search.alpha_study import check_alpha_search, run_alpha_search
from aqcl.search.bar import Listener
from aqcl.search.checks import check_alpha_keys, check_models, check_objective
from aqcl.search.conclusion import conclude
from aqcl.search.files import STUDY, read_findings
from aqcl.search.plan import SearchPlan, plan_search
from aqcl.search.study import LOCKS, Journal
from aqcl.search.workers import open_closed, run_together, run_trials
from aqcl.storage import MANIFEST, atomic_write, is_free

DATASET: Final = "dataset"
"""File beside the locks: the fingerprint of the dataset that a study was started on."""


def run_search(
    values: Mapping[str, Any],
    out: Path | str,
    *,
    workers: int = 1,
    resume: bool = False,
    listen: Listener | None = None,
) -> dict[str, Any]:
    """Search the settings of an experiment into a study directory; test rows are never opened.

    A search that was killed continues with `resume`; with one worker it ends as it would have
    uninterrupted. Any number of machines may join a study on a disk they share, with `resume`. A
    finished one goes on if it shall have more `trials` than it had.

    Args:
        values: an experiment as plain values, with a table `search`.
        out: the study directory; must not exist unless `resume`.
        workers: processes here; several have one thread each.
        resume: continue or join a study; a finished one of as many trials is returned as it is.
            Its dataset may lie elsewhere now.
        listen: called now and then.

    Returns:
        What stands in `study.json`.

    Raises:
        ConfigError: settings that cannot work, or that differ from the study to be resumed.
        StorageError: a directory is damaged or in the way.
        TrainingError: no trial could be trained.
    """
    out = Path(out)
    if workers < 1:
        raise ConfigError(f"workers: expected 1 or more, got {workers}")
    plan = plan_search(values)
    alone = plan.options.method != "black-box"
    if alone and workers > 1:
        raise ConfigError(
            f"workers: expected 1 with search.method = '{plan.options.method}', which is one "
            f"training after the other, got {workers}"
        )
    is_longer = resume and asks_for_more(out, plan)
    if resume and (out / MANIFEST).exists() and not is_longer:
        start_study(out, plan, resume=True)
        manifest, found = read_findings(out)
        if read_toml(out / STUDY)["dataset"] != plan.experiment.dataset:
            check_dataset(out, open_closed(plan), manifest.source["dataset"])
        return found
    # Before anything is written: settings that cannot work leave nothing behind.
    dataset = open_closed(plan)
    if alone:
        check_alpha_search(plan, dataset)
    if not (out / STUDY).exists():
        check_alpha_keys(plan)
        check_objective(plan, dataset)
        check_models(plan, dataset)
    if is_longer:
        reopen(out, plan, dataset)
    plan = start_study(out, plan, resume=resume)
    keep_dataset(out, dataset)
    hear = listen or (lambda progress: None)
    if alone:
        return run_alone(plan, dataset, out, hear)
    return run_black_box(plan, dataset, out, workers, hear)


def run_alone(plan: SearchPlan, dataset: Dataset, out: Path, listen: Listener) -> dict[str, Any]:
    """Find alpha by this process alone; returns the summary.

    Raises:
        StorageError: another one works on the study.
    """
    lock = lock_file(out / LOCKS / "study", wait=False)
    if lock is None:
        raise StorageError(
            f"{out}: another process works on this study, and the method {plan.options.method} "
            "has one alone; wait for it or choose another --out"
        )
    try:
        if (out / MANIFEST).exists():  # it has just ended
            return read_study(out)
        follow_dataset(out, plan)
        return run_alpha_search(plan, dataset, out, listen)
    finally:
        os.close(lock)


def run_black_box(
    plan: SearchPlan, dataset: Dataset, out: Path, workers: int, listen: Listener
) -> dict[str, Any]:
    """Find the best settings of each method by whole trainings; returns the summary."""
    journal = Journal(out, plan)
    with journal.locked():
        follow_dataset(out, plan)
    if workers == 1:
        run_trials(journal, dataset, listen)
    else:
        run_together(journal, workers, listen)
    with journal.locked():
        if (out / MANIFEST).exists():  # another machine was faster
            return read_study(out)
        return conclude(journal, journal.standing(), dataset)


def start_study(out: Path, plan: SearchPlan, *, resume: bool) -> SearchPlan:
    """Make a study directory, or check that it is one of this plan.

    The dataset may have moved: its fingerprint tells whether it is the same.

    Returns:
        The plan as the study has it: settings are drawn in the order in which it lists them.

    Raises:
        ConfigError: it was started with other settings; names each.
        StorageError: it holds something else, or is there and shall not be resumed.
    """
    file = out / STUDY
    values = plan.to_values()
    if file.exists() and resume:
        # Resolved again: a setting that is younger than the study has its default.
        before = plan_search(read_toml(file)).to_values()
        lines = differences(before, {**values, "dataset": before["dataset"]}, "study")
        if lines:
            lines.append(f"{out}: resume with the same settings or choose another --out")
            raise ConfigError("\n".join(lines))
        return plan_search({**before, "dataset": values["dataset"]})
    if file.exists():
        raise StorageError(
            f"{out}: already exists; continue a study with --resume or choose another --out"
        )
    if not is_free(out):
        raise StorageError(f"{out}: holds files and no study: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    atomic_write(file, to_toml(values))
    return plan


def asks_for_more(out: Path, plan: SearchPlan) -> bool:
    """Whether a plan is that of a finished study, but for more trials of the method `black-box`.

    Raises:
        ConfigError: its ranges were widened after the trials that it had.
    """
    if not (out / MANIFEST).exists() or not (out / STUDY).exists():
        return False
    before = plan_search(read_toml(out / STUDY))
    had, wanted = before.options.trials, plan.options.trials
    values = before.to_values()
    values = {**values, "dataset": "", "search": {**values["search"], "trials": wanted}}
    same = not differences(values, {**plan.to_values(), "dataset": ""}, "study")
    if wanted <= had or not same or plan.options.method != "black-box":
        return False
    if read_study(out)["trials"] > had:
        raise ConfigError(
            f"search.trials: {out} widened its ranges after {had} trials of each method, so that "
            f"{wanted} would not be those of one study: choose another --out"
        )
    return True


def reopen(out: Path, plan: SearchPlan, dataset: Dataset) -> None:
    """Let a finished study have more trials.

    Raises:
        ConfigError: the dataset is not that of the study.
    """
    lock = lock_file(out / LOCKS / "study", wait=True)
    assert lock is not None
    try:
        if (out / MANIFEST).exists():  # another machine was not faster
            check_dataset(out, dataset, read_findings(out)[0].source["dataset"])
            before = plan_search(read_toml(out / STUDY)).to_values()  # settings in their order
            before["search"]["trials"] = plan.options.trials
            # First the manifest, which the file of settings must not contradict.
            (out / MANIFEST).unlink()
            atomic_write(out / STUDY, to_toml(before))
    finally:
        os.close(lock)


def keep_dataset(out: Path, dataset: Dataset) -> None:
    """Make sure that all trials of a study are trained on one dataset.

    Raises:
        ConfigError: the study was started on another.
    """
    (out / LOCKS).mkdir(exist_ok=True)
    known = out / LOCKS / DATASET
    if not known.exists():
        atomic_write(known, dataset.manifest.fingerprint)
    check_dataset(out, dataset, known.read_text(encoding="utf-8"))


def follow_dataset(out: Path, plan: SearchPlan) -> None:
    """Let a study name the place where its dataset lies now; the caller holds its lock."""
    moved = read_toml(out / STUDY)["dataset"] != plan.experiment.dataset
    if moved and not (out / MANIFEST).exists():
        atomic_write(out / STUDY, to_toml(plan.to_values()))


def check_dataset(out: Path, dataset: Dataset, fingerprint: str) -> None:
    """Make sure that a dataset is the one of a study, wherever it lies.

    Raises:
        ConfigError: it is another.
    """
    if dataset.manifest.fingerprint != fingerprint:
        raise ConfigError(
            f"dataset: {dataset.path} is not the one that {out} was started on (its fingerprint "
            "differs): prepare it as it was then or choose another --out"
        )


def read_study(out: Path | str) -> dict[str, Any]:
    """What a finished study has found.

    Raises:
        StorageError: it is missing, unfinished or damaged.
    """
    return read_findings(Path(out))[1]
