"""The command line: thin commands that import what they need when they run."""

import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from aqcl import cli_results
from aqcl.console import Json, Set, continued_by, show, show_json
from aqcl.errors import AqclError, ConfigError, command

logger = logging.getLogger(__name__)

USER_ERROR = 2
"""Exit code of a user's mistake."""
INTERRUPTED = 130
"""Exit code after Ctrl-C."""

app = App(
    name="aqcl",
    help="CTR prediction with auto-quantized contrastive learning, for users with few clicks. "
    "Errors are one message with exit code 2; --debug shows where they come from.",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # it would end without a word
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake ends with exit code 2 and one message."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a sign that it cannot write is no error
        sys.stdout.reconfigure(errors="replace")
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(message)s"
    )
    logging.getLogger("aqcl").setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells every font
    try:
        app(words, exit_on_error=False, print_error=False, result_action="return_none")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (AqclError, CycloptsError, OSError) as error:
        if debug:
            traceback.print_exc()
        else:
            sys.stderr.write(f"error: {error}{_advice(error)}\n")
        raise SystemExit(USER_ERROR) from None
    except KeyboardInterrupt as interrupt:
        sys.stderr.write("; ".join(["interrupted", *map(str, interrupt.args)]) + "\n")
        raise SystemExit(INTERRUPTED) from None


def _advice(error: Exception) -> str:
    """What puts right a mistake that the parser of the command line knows too little about."""
    unused = (error.unused_tokens or []) if isinstance(error, UnusedCliTokensError) else []
    settings = " ".join(f"--set {word}" for word in unused if "=" in word)
    return f" Each setting needs a --set of its own: {settings}" if settings else ""


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
        label: Column of labels of a table. A log of clicks alone has none.
        overrides: Override a setting, such as negatives.beta=0.75 or
            source.user_columns.age=categorical; repeat it for each setting.
        overwrite: Replace another dataset that lies at --out.
        as_json: Print what was made as JSON.
    """
    from aqcl.config import override
    from aqcl.prepare.source import prepare_source, settings_of

    columns = {"user": user, "item": item, "timestamp": timestamp, "label": label}
    values = override(settings_of(inputs, source, columns), overrides)
    dataset = prepare_source(values, out, overwrite=overwrite)
    manifest = dataset.manifest
    if as_json:
        facts = {"dataset": str(out), "fingerprint": manifest.fingerprint}
        show_json({**facts, "dates": dataset.dates(), **manifest.content})
        return
    from aqcl.tables import dataset_table

    show(dataset_table(out, manifest.content, dataset.dates()))


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
        out: Run directory; by default runs/LABEL-seedN.
        overrides: Override a setting, such as backbone.dropout=0.1 or seed=3; repeat it for each
            setting.
        resume: Continue the run in --out from its latest evaluation. If its dataset has moved, say
            where to with --set dataset=...
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
    from aqcl.runs import CONFIG, not_a_repeat
    from aqcl.train import train
    from aqcl.warm_up import training_notes

    resolved = resolve(values)
    label = resolved.label.replace("/", "-").replace(" ", "-")
    place = out or Path("runs") / f"{label}-seed{resolved.seed}"
    if resume and not (place / CONFIG).exists():
        logger.info("%s: no run to continue there, a new one begins", place)
    if difference := not_a_repeat(experiment, resolved):
        logger.warning(difference)
    again = command("aqcl", "train", place / CONFIG, "--out", place, "--resume")
    bar = training_bar(resolved.label, quiet=as_json)
    with continued_by(again, place / CONFIG), bar as listen:
        run = train(resolved, place, resume=resume, listen=listen)
    for note in training_notes(resolved.label, resolved, [run.manifest.content]):
        logger.warning(note)
    if as_json:
        summary = {"run": str(run.path), **run.manifest.content, "valid": run.metrics()["valid"]}
        show_json(summary)
        return
    from aqcl.assessment import is_simulated
    from aqcl.tables import evaluation_table

    show(evaluation_table(run, "valid", simulated=is_simulated(run)))
    judge = command("aqcl", "evaluate", run.path)
    show(f"Run directory: {run.path}. Score its test rows with `{judge}`.")


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
        overrides: Override a setting, such as search.objective=auc or train.epochs=20; repeat it
            for each setting.
        resume: Continue the study in --out, or join it from another machine.
        as_json: Print what was found as JSON.
    """
    from aqcl.config import override, read_toml
    from aqcl.runtime import settle_threads

    short = () if trials is None else (f"search.trials={trials}",)
    values = override(read_toml(experiment), (*overrides, *short))
    runtime = values.get("runtime", {})
    if isinstance(runtime, dict):
        settle_threads(runtime.get("threads", 0), runtime.get("wait_policy", "auto"))
    from aqcl.search.bar import study_bar
    from aqcl.search.files import STUDY
    from aqcl.search.work import run_search

    several = ("--workers", workers) if workers > 1 else ()
    again = command("aqcl", "search", out / STUDY, "--out", out, "--resume", *several)
    with continued_by(again, out / STUDY), study_bar(quiet=as_json) as listen:
        summary = run_search(values, out, workers=workers, resume=resume, listen=listen)
    if as_json:
        show_json({"study": str(out), **summary})
        return
    from aqcl.tables import study_table

    show(study_table(out, summary))


@app.command
def describe(what: str | None = None, name: str | None = None, /, *, as_json: Json = False) -> None:
    """Explain a part and its options, or what a dataset, run or study directory holds.

    Args:
        what: backbone, regularizer, dataset, train, runtime, search, prepare, or a directory.
        name: Which one; without it all are listed.
        as_json: Print JSON.
    """
    from aqcl.describe import KINDS, describe, names

    kind = next((known for known in KINDS if known == what), None)
    is_whole = names(kind) == [kind] if kind else what is not None and Path(what).is_dir()
    if name is not None and is_whole:
        raise ConfigError(f"describe {what}: expected no name after it, got '{name}'; leave it out")
    if what is None:
        listing = {known: names(known) for known in KINDS}
    elif kind is None:
        _describe_directory(Path(what), as_json=as_json)
        return
    elif name is None and names(kind) != [kind]:
        listing = {kind: names(kind)}
    else:
        found = describe(kind, name)
        if as_json:
            show_json(asdict(found))
            return
        from aqcl.tables import options_table

        show(options_table(found))
        return
    if as_json:
        show_json(listing)
        return
    from aqcl.tables import parts_table

    for known in KINDS:
        if listing.get(known, [known]) != [known]:
            show(parts_table(known, [describe(known, part) for part in listing[known]]))
    if what is None:
        show("`aqcl describe` also explains train, runtime, search, prepare, and any directory.")


def _describe_directory(path: Path, *, as_json: bool) -> None:
    from aqcl.describe import describe_directory

    found = describe_directory(path)
    if as_json:
        show_json(found)
        return
    from aqcl.assessment import is_simulated
    from aqcl.runs import open_run
    from aqcl.tables import dataset_table, run_table, study_table

    if found["format"] == "aqcl-dataset":
        show(dataset_table(path, found, found["dates"]))
    elif found["format"] == "aqcl-run":
        run = open_run(path)
        show(run_table(run, simulated=is_simulated(run)))
    else:
        show(study_table(path, found))


for _command in (
    cli_results.evaluate,
    cli_results.compare,
    cli_results.interests,
    cli_results.report,
    cli_results.reproduce,
    cli_results.demo,
):
    app.command(_command)
