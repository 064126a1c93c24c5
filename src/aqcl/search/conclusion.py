"""The end of a study: its figures, and the manifest that marks it as finished."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from matplotlib.figure import Figure

from aqcl.dataset import Dataset
from aqcl.errors import TrainingError
from aqcl.experiment import Experiment
from aqcl.figures import alpha_figure, best_so_far_figure, importance_figure, save
from aqcl.search.plan import SearchPlan
from aqcl.search.standing import Standing
from aqcl.search.study import JOURNAL, Journal
from aqcl.search.summary import shapes_of, winner_of, with_learned_alpha, write_summary
from aqcl.search.trials import clean_up, objective_name
from aqcl.storage import Manifest, fingerprint, write_manifest

FIGURES: Final = "figures"


def conclude(journal: Journal, standing: Standing, dataset: Dataset) -> dict[str, Any]:
    """Write what a finished study has found, its figures and manifest; the caller holds the lock.

    Raises:
        TrainingError: no trial of any method was trained to its end.
    """
    if all(standing.best(method.name) is None for method in standing.plan.methods):
        trials = [record.trial for name in standing.records for record in standing.trainings(name)]
        errors = [t.user_attrs["error"] for t in trials if "error" in t.user_attrs]
        last = errors[-1] if errors else "no error was told"
        raise TrainingError(f"{journal.folder}: all trials have failed; the last: {last}")
    summary = write_summary(journal, standing, dataset)
    for method in standing.plan.methods:
        for record in standing.trainings(method.name):
            clean_up(journal.folder_of(method.name, record.slot, record.repeat))
    draw_figures(journal.folder / FIGURES, standing, summary, dataset)
    content = {"journal": JOURNAL, "methods": list(summary["methods"])}
    seal(journal.folder, standing.plan, dataset, content)
    return summary


def seal(out: Path, plan: SearchPlan, dataset: Dataset, content: dict[str, Any]) -> None:
    """Write the manifest of a study, which marks it as finished."""
    values = plan.to_values()
    source = {"dataset": dataset.manifest.fingerprint, "name": dataset.name}
    manifest = Manifest(
        format="aqcl-study",
        fingerprint=fingerprint({"study": {**values, "dataset": ""}, **source}),
        settings=values["search"],
        source=source,
        content=content,
    )
    # The runs of trials are not listed: `aqcl evaluate` may add to them.
    write_manifest(out, manifest, files_at=("*",))


def draw_figures(
    folder: Path, standing: Standing, summary: dict[str, Any], dataset: Dataset
) -> None:
    """Best values over the trials; of each method its importances and alpha."""
    folder.mkdir(exist_ok=True)
    curves = {name: method["best_so_far"] for name, method in summary["methods"].items()}
    objective = f"validation {objective_name(summary['objective'])}"
    save(best_so_far_figure(curves, objective), folder / "best-so-far")
    for method in standing.plan.methods:
        importance = summary["methods"][method.name]["importance"]
        if importance:
            save(importance_figure(importance), folder / f"{method.name}-importance")
        best = standing.best(method.name)
        winner = method.experiment
        if best is not None:
            run = folder.parent / summary["methods"][method.name]["best"]["run"]
            winner = with_learned_alpha(winner_of(method, best), run)
        draw_alpha(folder, method.name, winner, dataset)


def draw_alpha(folder: Path, method: str, winner: Experiment, dataset: Dataset) -> None:
    """The alpha of each regularizer that has one, before the histogram of the activities."""
    for number, (name, made) in enumerate(alpha_pictures(winner, dataset).items()):
        end = "alpha" if number == 0 else f"alpha-{number + 1}"
        made.axes[0].set_title(f"{name} in {method}", loc="left")
        save(made, folder / f"{method}-{end}")


def alpha_pictures(experiment: Experiment, dataset: Dataset) -> dict[str, Figure]:
    """Alpha over the activity of the training users, by the regularizer that has it."""
    shapes, mean = shapes_of(experiment), dataset.mean_activity
    if not shapes:
        return {}
    activity = clicks_per_user(dataset)
    grid = torch.linspace(0, max(5 * mean, float(np.quantile(activity, 0.99))), 401)
    return {
        name: alpha_figure(grid.numpy(), shape.of(grid, mean).numpy(), activity, mean)
        for name, shape in shapes.items()
    }


def clicks_per_user(dataset: Dataset) -> np.ndarray:
    """Training clicks of each user who has any."""
    clicked = dataset.train.columns["label"] == 1
    counts = np.bincount(dataset.train.columns["user"][clicked])
    return np.asarray(counts[counts > 0])
