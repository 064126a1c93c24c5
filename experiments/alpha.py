"""Searches alpha in several ways, and trains afresh with what each found and with constants.

Use it as `python experiments/alpha.py experiments/beauty-alpha.toml --workers 2`.

Searches read validation rows alone and have one process each; then every alpha is trained with
fresh seeds, which are compared on test rows. Finished searches and runs are kept and killed ones
resumed, so the command can be repeated until it is through; `--gather` does none of the work and
takes what is finished. The outcome is written to `results/<name of the specification>.json`;
`python experiments/render.py` puts it into docs/alpha.md.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from run import ROOT, Job, dataset_facts, prepare_dataset, run_facts, train_all, write_results

if TYPE_CHECKING:
    from aqcl.dataset import Dataset
    from aqcl.experiment import Experiment


@dataclass(frozen=True)
class Search:
    """One search for alpha."""

    name: str
    out: Path
    values: dict[str, Any]
    """The experiment with its table `search`."""


def main() -> None:
    """Search, train the final runs, write the outcome."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("specification", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gather", action="store_true")
    arguments = parser.parse_args()
    # Workers share the cores: one thread each. Read when torch is imported.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    from aqcl.config import read_toml

    spec = read_toml(arguments.specification)
    dataset = prepare_dataset(spec)
    searches = searches_of(spec, dataset)
    if not arguments.gather:
        search_all(searches, arguments.workers)
    finished = [search for search in searches if is_searched(search)]
    finals = final_runs(spec, dataset, finished)
    if not arguments.gather:
        train_all([job for jobs in finals.values() for job in jobs], arguments.workers)
    command = shlex.join(["python", "experiments/alpha.py", str(arguments.specification)])
    write_outcome(spec, arguments.specification.stem, command, finished, finals)


def searches_of(spec: Mapping[str, Any], dataset: Path) -> list[Search]:
    """The searches of a specification, all else equal."""
    from aqcl.config import override

    found = []
    for entry in spec["searches"]:
        values = {**spec["experiment"], "dataset": str(dataset), "seed": spec["search_seed"]}
        dotted = [f"{k}={json.dumps(v)}" for k, v in entry.get("settings", {}).items()]
        values = {**override(values, dotted), "name": entry["name"], "search": entry["search"]}
        out = ROOT / spec["out"] / "searches" / entry["name"]
        found.append(Search(entry["name"], out, values))
    return found


def search_all(searches: list[Search], workers: int) -> None:
    """Search what is not searched yet, several at a time."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(search_one, search): search for search in searches}
        for done, future in enumerate(as_completed(futures), start=1):
            name = futures[future].name
            print(f"{done}/{len(searches)} {name} {future.result():.5f}", file=sys.stderr)


def search_one(search: Search) -> float:
    """Search, or take a study as it is if it has finished; returns the best validation logloss."""
    import torch

    from aqcl.search import run_search

    torch.set_num_threads(1)
    summary = run_search(search.values, search.out, resume=True)
    return float(summary["methods"]["best"]["best"]["value"])


def is_searched(search: Search) -> bool:
    """Whether a search has come to its end."""
    from aqcl.storage import MANIFEST

    return (search.out / MANIFEST).exists()


def final_runs(
    spec: Mapping[str, Any], dataset: Path, searches: list[Search]
) -> dict[str, list[Job]]:
    """Fresh seeds of each constant, of the curve as it is given, and of what was searched."""
    from aqcl.config import read_toml

    given = {**spec["experiment"], "dataset": str(dataset)}
    arms: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
        constant_name(value): (given, (f"regularizer.aqcl.constant_alpha={value}",))
        for value in spec["constants"]
    }
    arms[spec["given"]] = (given, ())
    arms |= {search.name: (read_toml(search.out / "best.toml"), ()) for search in searches}
    return {
        name: [
            Job(
                out=ROOT / spec["out"] / "final" / name / f"seed{seed}",
                assignments=(*assignments, f"seed={seed}", f"name={json.dumps(name)}"),
                settings=settings,
            )
            for seed in spec["final_seeds"]
        ]
        for name, (settings, assignments) in arms.items()
    }


def all_arms(spec: Mapping[str, Any]) -> list[str]:
    """Every alpha of a specification by name."""
    constants = [constant_name(value) for value in spec["constants"]]
    return [*constants, spec["given"], *(entry["name"] for entry in spec["searches"])]


def constant_name(value: float) -> str:
    """How the arm with a constant alpha is called."""
    return f"alpha {value:g}"


def write_outcome(
    spec: Mapping[str, Any],
    name: str,
    command: str,
    searches: list[Search],
    finals: Mapping[str, list[Job]],
) -> None:
    """Score the test rows of the final runs, compare them, write the results as data.

    An arm counts once all of its runs have finished; the others are named.

    Raises:
        SystemExit: the arm that the others are compared with has not.
    """
    import optuna
    import torch

    from aqcl import __version__
    from aqcl.assessment import assess
    from aqcl.comparison import compare
    from aqcl.config import as_values
    from aqcl.dataset import open_dataset
    from aqcl.runs import is_finished

    dataset = open_dataset(ROOT / spec["out"] / "dataset")
    complete = {
        arm: jobs for arm, jobs in finals.items() if all(is_finished(job.out) for job in jobs)
    }
    if spec["base"] not in complete:
        sys.exit(f"not all runs of '{spec['base']}' have finished, which others are compared with")
    runs = {arm: [assess(job.out, "test") for job in jobs] for arm, jobs in complete.items()}
    predictions = {arm: [run.predictions("test") for run in cell] for arm, cell in runs.items()}
    comparisons = {"test": compare(predictions, spec["base"], dataset.thresholds).to_json()}
    forms = spec.get("forms_base")
    if forms in predictions:
        names = [s.name for s in searches if s.values["search"]["method"] == "one-run"]
        learned = {name: predictions[name] for name in names if name in predictions}
        comparisons["forms"] = compare(learned, forms, dataset.thresholds).to_json()
    outcome = {
        "command": command,
        "version": __version__,
        "versions": {"torch": torch.__version__, "optuna": optuna.__version__},
        "specification": dict(spec),
        **dataset_facts(dataset),
        "searches": {search.name: search_facts(search) for search in searches},
        "not_run": [arm for arm in all_arms(spec) if arm not in complete],
        "winners": {
            arm: {**as_values(cell[0].experiment), "dataset": f"{spec['out']}/dataset"}
            for arm, cell in runs.items()
        },
        "train_alpha": {
            arm: round(mean_alpha(cell[0].experiment, dataset), 6) for arm, cell in runs.items()
        },
        "runs": [
            {
                "method": arm,
                **run_facts(run),
                "rows": run.log()[-1]["rows"],
                "valid": run.metrics()["valid"]["groups"][0],
            }
            for arm, cell in runs.items()
            for run in cell
        ],
        "comparisons": comparisons,
    }
    write_results(name, outcome)


def mean_alpha(experiment: "Experiment", dataset: "Dataset") -> float:
    """Mean over the training rows of the experiment's alpha."""
    import torch

    from aqcl.search.summary import shapes_of

    (shape,) = shapes_of(experiment).values()
    clicks = torch.from_numpy(dataset.train.columns["history_length"].astype("float64"))
    return float(shape.of(clicks, dataset.mean_activity).mean())


def search_facts(search: Search) -> dict[str, Any]:
    """What a search cost and has found."""
    from aqcl.search import read_study

    summary = read_study(search.out)
    method = summary["methods"]["best"]
    facts = {key: summary[key] for key in ("method", "rows", "seconds", "elapsed_seconds", "notes")}
    facts |= {key: method[key] for key in ("space", "best_so_far", "importance")}
    best = method["best"]
    facts["states"] = [trial["state"] for trial in method["trials"]]
    facts["best"] = {key: best[key] for key in ("value", "parameters", "measures", "alpha")}
    return facts


if __name__ == "__main__":
    main()
