"""Reports written to disk: of runs or of a study, by what the directories hold."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from aqcl.dataset import open_dataset
from aqcl.errors import ConfigError
from aqcl.figures import save
from aqcl.report.run_report import report_runs
from aqcl.report.study_report import report_study
from aqcl.search.files import STUDY
from aqcl.splits import SplitName
from aqcl.storage import atomic_write


def write_report(
    paths: Sequence[Path],
    out: Path,
    *,
    split: SplitName = "test",
    base: str | None = None,
    dataset: Path | None = None,
    figures: Path | None = None,
) -> list[Path]:
    """Write the page, and the figures on their own if a directory is given.

    Args:
        paths: run directories on one dataset, or one study directory.
        out: the page; replaced if it is there.
        split: which rows of the runs.
        base: label of the method that the others are held against.
        dataset: of the runs, where it does not lie any more where they were trained on it.
        figures: directory for SVG, PNG and PDF.

    Returns:
        The files of figures.

    Raises:
        ConfigError: nothing to report on, runs and studies mixed, or rows, a base or a dataset
            for a study.
        DataError: runs on different datasets.
        StorageError: something is missing, damaged or unfinished.
    """
    if not paths:
        raise ConfigError("aqcl report needs run directories, or one study directory")
    studies = [path for path in paths if (path / STUDY).exists()]
    if studies and len(paths) > 1:
        raise ConfigError(
            f"{studies[0]}: a study has a report of its own; give it alone, or run directories"
        )
    if studies:
        refuse_choices(studies[0], "a study", split, base, dataset)
        made = report_study(studies[0])
    else:
        moved = open_dataset(dataset) if dataset is not None else None
        made = report_runs(paths, split, base, dataset=moved)
    write_page(out, made.html)
    return write_figures(made.figures, figures) if figures is not None else []


def refuse_choices(
    path: Path, what: str, split: SplitName, base: str | None, dataset: Path | None
) -> None:
    """Make sure that nothing was chosen that only a report of runs can heed.

    Raises:
        ConfigError: it was.
    """
    rows = split if split != "test" else None
    for option, given in (("--base", base), ("--split", rows), ("--dataset", dataset)):
        if given is not None:
            raise ConfigError(
                f"{option} {given}: {path} is {what}, whose report is as it was made; leave the "
                "option out or name run directories"
            )


def write_page(out: Path, html: str) -> None:
    """Write a page, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, html)


def write_figures(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write figures by name; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    return [file for name, drawn in figures.items() for file in save(drawn, folder / name)]
