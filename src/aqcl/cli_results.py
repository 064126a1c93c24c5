"""The commands that tell what was found: measures, comparisons, reports, the paper's tables."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from aqcl.console import Json, Split, show, show_json
from aqcl.errors import ConfigError

if TYPE_CHECKING:
    from aqcl.dataset import Dataset


def evaluate(
    *runs: Path,
    split: Split = "test",
    by: str = "user-activity",
    dataset: Path | None = None,
    as_json: Json = False,
) -> None:
    """Measure runs on a split: AUC, GAUC, logloss and calibration by activity group.

    Args:
        runs: Run directories.
        split: Which rows; predictions and metrics are kept in the run directory.
        by: Groups of rows: user-activity or item-activity, by the clicks of their user or of their
            item, or the name of a field of the dataset, by its values.
        dataset: Where the dataset of the runs lies, if it has moved; its fingerprint is checked.
        as_json: Print the metrics as JSON.
    """
    if not runs:
        raise ConfigError("aqcl evaluate needs at least one run directory, such as runs/mine")
    from aqcl.runtime import settle_threads

    settle_threads()
    from aqcl.assessment import assess_by, is_simulated

    moved = _opened(dataset)
    assessed = [assess_by(path, split, by, moved) for path in runs]
    if as_json:
        show_json(
            {
                str(run.path): {
                    "label": run.experiment.label,
                    "run_seed": run.experiment.seed,
                    "dataset": run.experiment.dataset,
                    "simulated": is_simulated(run, moved),
                    "split": split,
                    "by": by,
                    **evaluation.to_json(),
                }
                for run, evaluation in assessed
            }
        )
        return
    from aqcl.tables import evaluation_table

    for number, (run, evaluation) in enumerate(assessed):
        if number > 0:
            show("")
        show(evaluation_table(run, split, evaluation, simulated=is_simulated(run, moved)))


def compare(
    *runs: Path,
    base: str | None = None,
    split: Split = "test",
    by: str = "user-activity",
    replicates: int = 1000,
    dataset: Path | None = None,
    as_json: Json = False,
) -> None:
    """Compare runs on the same rows: AUC and RelaImpr by activity group, with intervals.

    Runs that differ only by seed are one row. Training-free yardsticks stand beside them.

    Args:
        runs: Run directories.
        base: Label of the method to compare with; the first run's by default.
        split: Which rows.
        by: Groups of rows: user-activity or item-activity, by the clicks of their user or of their
            item, or the name of a field of the dataset, by its values.
        replicates: Resamples of the users for the intervals, 100 or more.
        dataset: Where the dataset of the runs lies, if it has moved; its fingerprint is checked.
        as_json: Print the comparison as JSON.
    """
    from aqcl.runtime import settle_threads

    settle_threads()
    from aqcl.assessment import compare_runs

    result = compare_runs(runs, split, base, replicates, by, _opened(dataset))
    if as_json:
        from aqcl.wording import few_seeds

        runs_of = {label: [str(path) for path in paths] for label, paths in result.runs.items()}
        facts: dict[str, Any] = {"dataset": str(result.dataset.path), "split": split, "by": by}
        facts["runs"] = runs_of
        facts |= {"protocol": result.dataset.protocol, "yardsticks": result.yardsticks}
        facts["below_yardsticks"] = [asdict(below) for below in result.below_yardsticks()]
        facts["above_constant"] = [asdict(above) for above in result.above_constant()]
        facts["trainings"] = list(result.trainings)
        facts["few_seeds"] = few_seeds({name: len(paths) for name, paths in result.runs.items()})
        facts["simulated"] = result.dataset.simulated
        show_json({**facts, **result.comparison.to_json()})
        return
    from aqcl.tables import comparison_table

    show(comparison_table(result))


def interests(
    run: Path,
    /,
    *,
    user: str | None = None,
    top: int = 5,
    dataset: Path | None = None,
    as_json: Json = False,
) -> None:
    """Tell what the interests of a run with AQCL stand for, or what drove a score of any run.

    Args:
        run: Run directory.
        user: Id of a user: the clicks that drove a score and, with AQCL, the nearest interests.
        top: Items of each interest; interests and clicks of the user.
        dataset: Where the dataset of the run lies, if it has moved; its fingerprint is checked.
        as_json: Print all of it as JSON.
    """
    from aqcl.runtime import settle_threads

    settle_threads()
    from aqcl.interests import describe_interests, describe_user
    from aqcl.runs import open_run

    opened, moved = open_run(run), _opened(dataset)
    if user is not None:
        found = describe_user(opened, user, top, moved)
        if as_json:
            show_json(found.to_json())
            return
        from aqcl.interest_tables import user_table

        show(user_table(found))
        return
    codebook = describe_interests(opened, top, dataset=moved)
    if as_json:
        show_json(codebook.to_json())
        return
    from aqcl.interest_tables import codebook_table

    show(codebook_table(codebook))


def report(
    *paths: Path,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("report.html"),
    base: str | None = None,
    split: Split = "test",
    by: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = (),
    dataset: Path | None = None,
    figures: Path | None = None,
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML page on runs, on a study, or on the paper's tables.

    Args:
        paths: Run directories on one dataset, or one study directory, or the directory of outcomes
            that `aqcl reproduce` has written.
        out: The page.
        base: Label of the method to compare with; the first run's by default. For runs alone.
        split: Which rows of the runs. For runs alone.
        by: Groups of rows besides those by the users' activity, a section each, as compare has
            them: item-activity, or the name of a field; may be repeated. For runs alone.
        dataset: Where the dataset of the runs lies, if it has moved; its fingerprint is checked.
            For runs alone.
        figures: Directory for the figures as SVG, PNG and PDF.
        as_json: Print where everything lies as JSON.
    """
    if out.is_dir():
        raise ConfigError(
            f"--out {out}: is a directory; give a file, such as {out / 'report.html'}"
        )
    from aqcl.runtime import settle_threads

    settle_threads()
    from aqcl.report.write import Choices, write_report
    from aqcl.reproduce.page import holds_outcomes, write_paper_page

    choices = Choices(split, base, by, dataset)
    if len(paths) == 1 and holds_outcomes(paths[0]):
        choices.refuse(paths[0], "what `reproduce` made")
        written = write_paper_page(paths[0], out, figures)
    else:
        written = write_report(paths, out, choices, figures)
    if as_json:
        show_json({"page": str(out), "figures": [str(path) for path in written]})
        return
    show(f"Report: {out}")


def reproduce(
    *names: str,
    dataset: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = (),
    seeds: int | None = None,
    trials: int | None = None,
    quick: Annotated[bool, Parameter(negative=())] = False,
    workers: int | None = None,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    beauty: Annotated[
        tuple[Path, ...], Parameter(consume_multiple=True, negative=(), show_default=False)
    ] = (),
    earlier: Path | None = None,
    gather: Annotated[bool, Parameter(negative=())] = False,
    as_json: Json = False,
) -> None:
    """Make tables and figures of the paper anew, its numbers beside ours.

    What has finished is not done again: repeat the command after any interruption.

    Args:
        names: table1, table2, table3, figure2, figure4, figure5, figure6, figure7 or all.
        dataset: Only this data set: beauty, ta-feng, oncold or, for table 2 alone, ta-feng-clicked;
            repeat it for several.
        seeds: Runs of each method; 5 by default, 2 with --quick.
        trials: Trials of each method on the validation rows; 12 by default, 2 with --quick.
        quick: Small data, few trials and epochs: shows that it works, in minutes.
        workers: Processes that train, one thread each; one for each core by default.
        out: Where datasets, studies, runs and outcomes go; runs/paper by default, runs/paper-quick
            with --quick.
        beauty: File of Amazon Beauty: sequences (.txt) or reviews (.json.gz); a file of attributes
            may follow. The other data sets need none.
        earlier: Directory of outcomes made before, here or on another machine: settings found there
            are not searched again, and comparisons finished there are kept.
        gather: Train nothing; write the outcomes of what has finished.
        as_json: Print the outcomes as JSON.
    """
    from aqcl.reproduce.bar import work_bar
    from aqcl.reproduce.cells import Scope
    from aqcl.reproduce.paper import reproduce
    from aqcl.runtime import count_cores

    place = out or Path("runs/paper-quick" if quick else "runs/paper")
    files = {"beauty": beauty} if beauty else {}
    count = seeds if seeds is not None else 2 if quick else 5
    scope = Scope(place, count, trials, quick, files, earlier)
    with work_bar(quiet=as_json) as listen:
        outcomes = reproduce(
            names,
            scope,
            datasets=dataset,
            workers=count_cores() if workers is None else workers,
            train=not gather,
            listen=listen,
        )
    if as_json:
        show_json({outcome["name"]: outcome for outcome in outcomes})
        return
    from aqcl.reproduce.verdicts import verdict_lines

    for outcome in outcomes:
        for line in verdict_lines(outcome):
            show(line)
    show(f"Tables, figures and data: {place / 'outcome'}")


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

    run_demo(data, out, path, show)


def _opened(dataset: Path | None) -> "Dataset | None":
    from aqcl.dataset import open_dataset

    return None if dataset is None else open_dataset(dataset)
