"""Tables and figures of the paper made anew: the work, outcomes, texts and pictures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from aqcl.config import choose
from aqcl.errors import ConfigError
from aqcl.figures import save
from aqcl.reproduce.budgets import check_budgets
from aqcl.reproduce.cells import Problems, Scope, comparisons_of, needs_of
from aqcl.reproduce.earlier import (
    Outcome,
    as_specified,
    drawn_in,
    finished_in,
    merged,
    of_other_datasets,
    ordered,
    read_earlier,
)
from aqcl.reproduce.gather import gather
from aqcl.reproduce.markdown import markdown
from aqcl.reproduce.page import write_paper_page
from aqcl.reproduce.pictures import figures_of
from aqcl.reproduce.results_page import read_outcome
from aqcl.reproduce.specs import Specs, load_specs
from aqcl.reproduce.work import Listener, do_work
from aqcl.storage import atomic_write

ALL_NAMES: Final = "all"
OUTCOME: Final = "outcome"
"""Directory of outcomes below that of the runs."""


def names_of(specs: Specs, asked: Sequence[str]) -> list[str]:
    """The tables and figures that are asked for, in the order of the paper.

    Raises:
        ConfigError: one of them does not exist.
    """
    if not asked:
        raise ConfigError(f"nothing to reproduce; name {', '.join(specs.experiments)} or all")
    known = {**specs.experiments, ALL_NAMES: None}
    for name in asked:
        choose(known, name, "reproduce")
    return [name for name in specs.experiments if name in asked or ALL_NAMES in asked]


def reproduce(
    asked: Sequence[str],
    scope: Scope,
    *,
    datasets: tuple[str, ...] = (),
    workers: int = 1,
    train: bool = True,
    listen: Listener | None = None,
) -> list[dict[str, Any]]:
    """Make tables and figures of the paper; whatever has finished before is not done again.

    Args:
        asked: `table1`, ... or `all`.
        scope: how thoroughly, on which files, and where it goes.
        datasets: only these; all if empty. What the same command found here before of the others
            stays in the outcomes.
        workers: processes that train, each with one thread.
        train: whether to do the work, or only to gather what has finished.
        listen: told how far the work has come.

    Returns:
        The outcomes, which also lie in `outcome` below `scope.out`: JSON, Markdown, figures.

    Raises:
        ConfigError: a name, data set or file that does not exist, settings that differ from what
            was begun, or earlier outcomes that do not fit.
        StorageError: an outcome that lies there is damaged.
        TrainingError: a worker was killed.
    """
    specs = load_specs()
    names = names_of(specs, asked)
    _check(specs, scope, names, datasets, workers)
    earlier = read_earlier(specs, scope)
    problems = Problems()
    finished, drawn = finished_in(specs, scope, earlier), drawn_in(specs, scope, earlier)
    needs = needs_of(specs, scope, names, datasets, finished, drawn)
    check_budgets(specs, scope, needs.studies)
    if train:
        hear = listen or (lambda standing: None)
        problems = do_work(specs, scope, needs, workers, hear, earlier)
    outcomes = []
    for name in names:
        found = gather(specs, scope, name, datasets, problems)
        order = [(spec.id, key) for spec, key, _ in comparisons_of(specs, scope, name)]
        outcome = merged(found, earlier.get(name), order)
        if datasets:
            outcome = merged(outcome, _of_others(specs, scope, outcome, datasets), order)
        outcomes.append(ordered(outcome, specs.experiments[name].datasets))
    for outcome in outcomes:
        write(outcome, scope.out / OUTCOME)
    write_paper_page(scope.out / OUTCOME, scope.out / OUTCOME / "report.html")
    return outcomes


def _check(
    specs: Specs, scope: Scope, names: Sequence[str], datasets: Sequence[str], workers: int
) -> None:
    """Tell what cannot be meant, before hours of work."""
    for key in datasets:
        choose(specs.datasets, key, "dataset")
        if not any(key in specs.experiments[name].datasets for name in names):
            raise ConfigError(
                f"--dataset {key}: {', '.join(names)} is not made of it; "
                f"{', '.join(n for n, e in specs.experiments.items() if key in e.datasets)} is"
            )
    trials = 1 if scope.trials is None else scope.trials
    if min(workers, scope.seeds, trials) < 1:
        raise ConfigError(
            "workers, seeds and trials: expected 1 or more, got "
            f"{workers}, {scope.seeds}, {scope.trials}"
        )
    for key, files in (scope.files or {}).items():
        for file in files:
            if not file.is_file():
                option = specs.datasets[key].file_option
                raise ConfigError(f"{option} {file}: no such file; give the path of one")


def _of_others(
    specs: Specs, scope: Scope, outcome: Outcome, datasets: Sequence[str]
) -> Outcome | None:
    """What the same command said here before of the data sets that it is not asked of now."""
    file = _file(outcome, scope.out / OUTCOME)
    if not file.exists():
        return None
    before = as_specified(specs, read_outcome(file))
    same = before["command"] == outcome["command"]
    return of_other_datasets(before, datasets) if same else None


def _file(outcome: Outcome, folder: Path) -> Path:
    return folder / f"{outcome['name']}.json"


def write(outcome: Outcome, folder: Path) -> None:
    """Write an outcome as JSON and Markdown, and its figures as SVG, PNG and PDF."""
    name, figures = outcome["name"], figures_of(outcome)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    text = json.dumps(outcome, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write(_file(outcome, folder), text)
    for key, figure in figures.items():
        save(figure, folder / "figures" / key)
    atomic_write(folder / f"{name}.md", markdown(outcome, figures, "figures/"))
