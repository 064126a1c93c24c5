"""The figures of a search for alpha alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from aqcl.dataset import Dataset
from aqcl.experiment import Experiment
from aqcl.figures import best_so_far_figure, rungs_figure, save, trajectory_figure
from aqcl.search.alpha_search import alpha_owner
from aqcl.search.conclusion import draw_alpha
from aqcl.search.plan import ONLY, SearchPlan


def draw_alpha_search(
    folder: Path,
    plan: SearchPlan,
    summary: Mapping[str, Any],
    winner: Experiment,
    dataset: Dataset,
) -> None:
    """Alpha, the best value over the evaluations, and the rungs or how alpha moved.

    Args:
        folder: of the figures.
        plan: of the search.
        summary: what it has found.
        winner: the experiment with the alpha that was found.
        dataset: whose users stand behind alpha.
    """
    folder.mkdir(exist_ok=True)
    best, how = alpha_search_figures(plan, summary)
    save(best, folder / "best-so-far")
    draw_alpha(folder, ONLY, winner, dataset)
    end = "rungs" if plan.options.method == "halving" else "trajectory"
    save(how, folder / f"{ONLY}-{end}")


def alpha_search_figures(plan: SearchPlan, summary: Mapping[str, Any]) -> tuple[Figure, Figure]:
    """The best value over rungs or evaluations, and what candidates reached or how alpha moved."""
    method = summary["methods"][ONLY]
    halving = plan.options.method == "halving"
    unit = "rung of a candidate" if halving else "evaluation"
    best = best_so_far_figure({ONLY: method["best_so_far"]}, "validation logloss", unit)
    if halving:
        rungs = {_named(trial): _points(trial) for trial in method["trials"] if _points(trial)}
        return best, rungs_figure(rungs, _named(method["best"]))
    return best, _trajectory(method, plan.experiment.regularizer[alpha_owner(plan.experiment)])


def _trajectory(method: Mapping[str, Any], options: Mapping[str, Any]) -> Figure:
    history = method["history"]
    names = [key for key in history[0] if key.startswith(("w1", "w2", "alpha_"))]
    labels = _labels(options) or names
    values = {
        label: [line[key] for line in history] for key, label in zip(names, labels, strict=True)
    }
    steps, kept = [line["step"] for line in history], method["best"]["best_step"]
    return trajectory_figure(steps, values, kept, log=options["alpha"] == "curve")


def _labels(options: Mapping[str, Any]) -> list[str]:
    """What the values of groups and splines stand for; empty for the curve."""
    if options["alpha"] == "groups":
        return [f"to {bound:g}x mean" for bound in options["group_bounds"]] + ["beyond"]
    if options["alpha"] == "spline":
        return [f"at {knot:g}x mean" for knot in options["spline_knots"]]
    return []


def _named(trial: Mapping[str, Any]) -> str:
    values = ", ".join(
        f"{key.rpartition('.')[2]} {value:.3g}" for key, value in trial["parameters"].items()
    )
    return f"{trial['number']}: {values}"


def _points(trial: Mapping[str, Any]) -> list[tuple[int, float]]:
    rungs = [(line["step"], line["valid_logloss"]) for line in trial["rungs"]]
    return [(step, value) for step, value in rungs if value is not None]
