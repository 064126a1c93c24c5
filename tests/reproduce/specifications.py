"""A small world to reproduce: a simulated log, three methods, seconds instead of hours."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any

import pytest

from aqcl.reproduce import work
from aqcl.reproduce.specs import Specs, Tuning, load_specs

SMALL_LOG: dict[str, Any] = {"name": "oncold", "users": 300, "items": 60, "samples": 4000}


def small_specs() -> Specs:
    """The package's experiments on a tiny log, with three methods in one study."""
    specs = load_specs()
    oncold = replace(specs.datasets["oncold"], source=SMALL_LOG, tuning=Tuning())
    din = specs.studies.studies["din"]
    kept = {name: din.methods[name] for name in ("DIN", "ICL", "AQCL")}
    study = replace(din, methods=kept)
    train = {"epochs": 1, "evaluations_per_epoch": 1, "batch_size": 256}
    studies = replace(
        specs.studies,
        experiment={"train": train, "runtime": {"threads": 1}},
        search={**specs.studies.search, "trials": 2, "widen": 0},
        studies={"din": study},
    )
    tuned = specs.experiments["table2"].comparisons[0]
    table2 = replace(
        specs.experiments["table2"],
        comparisons=(
            replace(
                tuned,
                methods=("DIN", "ICL", "AQCL"),
                claims=tuple(c for c in tuned.claims if {c.method, c.base} <= kept.keys()),
            ),
        ),
    )
    figure5 = specs.experiments["figure5"]
    constant = figure5.comparisons[0]
    figure5 = replace(
        figure5,
        comparisons=(
            replace(
                constant,
                datasets=("oncold",),
                variants=constant.variants[:2],
                claims=constant.claims[:1],
            ),
        ),
    )
    experiments = {**specs.experiments, "table2": table2, "figure5": figure5}
    return replace(specs, datasets={"oncold": oncold}, studies=studies, experiments=experiments)


class InProcess(Executor):
    """Does all work at once in this process: another takes seconds to start."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def train_in_process(patch: pytest.MonkeyPatch) -> None:
    """Cells are trained in this process, whose environment is put back afterwards."""
    patch.setattr(work, "ProcessPoolExecutor", InProcess)
    patch.setenv("OMP_NUM_THREADS", "1")
    patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
