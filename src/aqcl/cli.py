"""The command line: thin commands that import what they need when they run."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from aqcl.errors import AqclError, ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType


USER_ERROR = 2
"""Exit code of a user's mistake."""
INTERRUPTED = 130
"""Exit code after Ctrl-C."""
PIPED_WIDTH = 100
"""Columns of output that goes to no terminal, unless the environment says COLUMNS."""

app = App(
    name="aqcl",
    help="CTR prediction with auto-quantized contrastive learning, for users with few clicks. "
    "Errors are one message with exit code 2; --debug shows where they come from.",
    version_flags=["--version"],
)

Set = Annotated[
    tuple[str, ...],
    Parameter(name="--set", negative=(), help="Override a setting, such as train.lr=0.01."),
]
Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON for machines.")]
Split = Literal["train", "valid", "test"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake ends with exit code 2 and one message."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(message)s"
    )
    logging.getLogger("aqcl").setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells every font
    try:
        app(words, exit_on_error=False, print_error=False, result_action="return_none")
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (AqclError, CycloptsError, OSError) as error:
        if debug:
            traceback.print_exc()
        else:
            sys.stderr.write(f"error: {error}\n")
        raise SystemExit(USER_ERROR) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(INTERRUPTED) from None


@app.command
def prepare(
    *inputs: Path,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    source: str | None = None,
    user: str | None = None,
    item: str | None = None,
    timestamp: str | None = None,
    label: str | None = None,
    overrides: Set = (),
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    as_json: Json = False,
) -> None:
    """Turn a raw click log into a dataset directory.

    `aqcl prepare clicks.parquet --out data/mine --user uid --item sku --timestamp ts` reads a
    table; `aqcl prepare settings.toml --out data/mine` takes everything from a file with the
    tables [source], [split], [negatives] and [vocabulary]. `aqcl describe dataset` lists the
    sources and `aqcl describe prepare` the other settings.

    Args:
        inputs: Files of the log (`*` matches names), or one TOML file with settings.
        out: Directory to write. If it holds this very dataset already, nothing is done.
        source: Kind of data: table, sequences, amazon, ta-feng or oncold.
        user: Column of user ids of a table.
        item: Column of item ids of a table.
        timestamp: Column of times of a table.
        label: Column of labels of a table; without it every row is a click.
        overrides: Override a setting, such as negatives.beta=0.75 or
            source.user_columns.age=categorical.
        overwrite: Replace another dataset that lies at `out`.
        as_json: Print what was made as JSON.
    """
    from aqcl.config import override
    from aqcl.preparation import prepare_source, settings_of

    columns = {"user": user, "item": item, "timestamp": timestamp, "label": label}
    values = override(settings_of(inputs, source, columns), overrides)
    manifest = prepare_source(values, out, overwrite=overwrite).manifest
    if as_json:
        facts = {"dataset": str(out), "fingerprint": manifest.fingerprint}
        _print_json({**facts, **manifest.content})
        return
    from aqcl.tables import dataset_table

    _print(dataset_table(out, manifest.content))


@app.command
def train(
    experiment: Path,
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    overrides: Set = (),
    resume: Annotated[bool, Parameter(negative=())] = False,
    as_json: Json = False,
) -> None:
    """Train a model into a run directory; never reads test rows.

    Args:
        experiment: TOML file with dataset, backbone, regularizers and training settings. The
            config.toml of a run repeats that run.
        out: Run directory; by default runs/<label>-seed<seed>.
        overrides: Override a setting, such as backbone.dropout=0.1 or seed=3.
        resume: Continue the run in `out` from its latest evaluation.
        as_json: Print the outcome as JSON.
    """
    from aqcl.config import override, read_toml
    from aqcl.runtime import settle_threads

    values = override(read_toml(experiment), overrides)
    values.pop("search", None)  # for `aqcl search`, which takes the same file
    runtime = values.get("runtime", {})
    if isinstance(runtime, dict):
        settle_threads(runtime.get("threads", 0), runtime.get("wait_policy", "auto"))
    from aqcl.experiment import resolve
    from aqcl.progress import training_bar
    from aqcl.train import train

    resolved = resolve(values)
    label = resolved.label.replace("/", "-").replace(" ", "-")
    place = out or Path("runs") / f"{label}-seed{resolved.seed}"
    with training_bar(resolved.label, quiet=as_json) as listen:
        run = train(resolved, place, resume=resume, listen=listen)
    if as_json:
        summary = {"run": str(run.path), **run.manifest.content, "valid": run.metrics()["valid"]}
        _print_json(summary)
        return
    from aqcl.tables import evaluation_table

    _print(evaluation_table(run, "valid"))
    _print(f"Run directory: {run.path}. Score its test rows with `aqcl evaluate {run.path}`.")


@app.command
def search(
    experiment: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    trials: int | None = None,
    workers: int = 1,
    overrides: Set = (),
    resume: Annotated[bool, Parameter(negative=())] = False,
    as_json: Json = False,
) -> None:
    """Search the settings of an experiment on its validation rows; never opens test rows.

    The winner of each method is written as a file for `aqcl train`.

    Args:
        experiment: TOML file of an experiment, with a table [search]; `aqcl describe search` lists
            its settings. Without the table, the paper's space is searched.
        out: Study directory. `aqcl describe` tells what it holds.
        trials: Trainings of each method; short for --set search.trials.
        workers: Processes on this machine; several have one thread each.
        overrides: Override a setting, such as search.objective=auc or train.epochs=20.
        resume: Continue the study in `out`, or join it from another machine.
        as_json: Print what was found as JSON.
    """
    from aqcl.config import override, read_toml
    from aqcl.runtime import settle_threads

    short = () if trials is None else (f"search.trials={trials}",)
    values = override(read_toml(experiment), (*overrides, *short))
    runtime = values.get("runtime", {})
    if isinstance(runtime, dict):
        settle_threads(runtime.get("threads", 0), runtime.get("wait_policy", "auto"))
    from aqcl.search import run_search
    from aqcl.study_bar import study_bar

    with study_bar(quiet=as_json) as listen:
        summary = run_search(values, out, workers=workers, resume=resume, listen=listen)
    if as_json:
        _print_json({"study": str(out), **summary})
        return
    from aqcl.tables import study_table

    _print(study_table(out, summary))


@app.command
def evaluate(*runs: Path, split: Split = "test", as_json: Json = False) -> None:
    """Measure runs on a split: AUC, GAUC, logloss and calibration by activity group.

    Args:
        runs: Run directories.
        split: Which rows; predictions and metrics are kept in the run directory.
        as_json: Print the metrics as JSON.
    """
    if not runs:
        raise ConfigError("aqcl evaluate needs at least one run directory, such as runs/mine")
    from aqcl.runtime import settle_threads

    settle_threads()
    from aqcl.assessment import assess

    assessed = [assess(path, split) for path in runs]
    if as_json:
        _print_json({str(run.path): run.metrics()[split] for run in assessed})
        return
    from aqcl.tables import evaluation_table

    for run in assessed:
        _print(evaluation_table(run, split))


@app.command
def compare(
    *runs: Path,
    base: str | None = None,
    split: Split = "test",
    replicates: int = 1000,
    as_json: Json = False,
) -> None:
    """Compare runs on the same rows: AUC and RelaImpr by activity group, with intervals.

    Runs that differ only by seed are one row. Training-free yardsticks stand beside them.

    Args:
        runs: Run directories.
        base: Label of the method to compare with; the first run's by default.
        split: Which rows.
        replicates: Resamples of the users for the intervals.
        as_json: Print the comparison as JSON.
    """
    from aqcl.runtime import settle_threads

    settle_threads()
    from aqcl.assessment import compare_runs

    result = compare_runs(runs, split, base, replicates)
    if as_json:
        runs_of = {label: [str(path) for path in paths] for label, paths in result.runs.items()}
        facts: dict[str, Any] = {"dataset": str(result.dataset.path), "split": split}
        facts["runs"] = runs_of
        facts |= {"protocol": result.dataset.protocol, "yardsticks": result.yardsticks}
        facts["below_yardsticks"] = [asdict(below) for below in result.below_yardsticks()]
        _print_json({**facts, **result.comparison.to_json()})
        return
    from aqcl.tables import comparison_table

    _print(comparison_table(result))


@app.command
def describe(what: str | None = None, name: str | None = None, /, *, as_json: Json = False) -> None:
    """Explain a part and its options, or what a dataset, run or study directory holds.

    Args:
        what: backbone, regularizer, dataset, train, runtime, search, prepare, or a directory.
        name: Which one; without it all are listed.
        as_json: Print JSON.
    """
    from aqcl.describe import KINDS, describe, describe_directory, names

    kind = next((known for known in KINDS if known == what), None)
    if what is None:
        listing = {known: names(known) for known in KINDS}
    elif kind is None:
        _print_json(describe_directory(Path(what)))
        return
    elif name is None and names(kind) != [kind]:
        listing = {kind: names(kind)}
    else:
        found = describe(kind, name)
        if as_json:
            _print_json(asdict(found))
            return
        from aqcl.tables import options_table

        _print(options_table(found))
        return
    if as_json:
        _print_json(listing)
        return
    from aqcl.tables import parts_table

    for known in KINDS:
        if listing.get(known, [known]) != [known]:
            _print(parts_table(known, [describe(known, part) for part in listing[known]]))
    if what is None:
        _print("`aqcl describe` also explains train, runtime, search, prepare, and any directory.")


@app.command
def reproduce(
    *names: str,
    dataset: tuple[str, ...] = (),
    seeds: int | None = None,
    trials: int | None = None,
    quick: Annotated[bool, Parameter(negative=())] = False,
    workers: int = 1,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    beauty: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = (),
    gather: Annotated[bool, Parameter(negative=())] = False,
    as_json: Json = False,
) -> None:
    """Make tables and figures of the paper anew, its numbers beside ours.

    What has finished is not done again: repeat the command after any interruption.

    Args:
        names: table1, table2, table3, figure2, figure4, figure5, figure6, figure7 or all.
        dataset: Only these data sets: beauty, ta-feng, oncold.
        seeds: Runs of each method; 5 by default, 2 with --quick.
        trials: Trials of each method on the validation rows; 12 by default, 2 with --quick.
        quick: Small data, few trials and epochs: shows that it works, in minutes.
        workers: Processes that train, one thread each.
        out: Where datasets, studies, runs and outcomes go; runs/paper by default, runs/paper-quick
            with --quick.
        beauty: File of Amazon Beauty: sequences (.txt) or reviews (.json.gz); a file of attributes
            may follow. The other data sets need none.
        gather: Train nothing; write the outcomes of what has finished.
        as_json: Print the outcomes as JSON.
    """
    from aqcl.reproduce.bar import work_bar
    from aqcl.reproduce.cells import Scope
    from aqcl.reproduce.paper import reproduce

    place = out or Path("runs/paper-quick" if quick else "runs/paper")
    files = {"beauty": beauty} if beauty else {}
    scope = Scope(place, seeds or (2 if quick else 5), trials, quick, files)
    with work_bar(quiet=as_json) as listen:
        outcomes = reproduce(
            names, scope, datasets=dataset, workers=workers, train=not gather, listen=listen
        )
    if as_json:
        _print_json({outcome["name"]: outcome for outcome in outcomes})
        return
    from aqcl.reproduce.verdicts import verdict_lines

    for outcome in outcomes:
        for line in verdict_lines(outcome):
            _print(line)
    _print(f"Tables, figures and data: {place / 'outcome'}")


@app.command
def demo(
    *,
    data: Literal["ta-feng", "oncold"] = "ta-feng",
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("demo"),
    path: Path | None = None,
) -> None:
    """Prepare a data set, train DIN with and without AQCL, compare them by activity group.

    Args:
        data: ta-feng is fetched once; oncold is simulated and needs no network.
        out: Where the dataset and the runs go; a repeated demo continues there.
        path: A Ta Feng file that you have, in place of fetching it.
    """
    from aqcl.runtime import settle_threads

    settle_threads()
    from aqcl.demo import run_demo

    run_demo(data, out, path, _print)


def _print(what: "RenderableType") -> None:
    from rich.console import Console

    fixed = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(width=None if fixed else PIPED_WIDTH, markup=False, emoji=False)
    # Paths and commands stay whole, so that they can be copied.
    console.print(what, soft_wrap=isinstance(what, str), crop=False)


def _print_json(values: object) -> None:
    sys.stdout.write(json.dumps(values, indent=1, ensure_ascii=False, default=str) + "\n")
