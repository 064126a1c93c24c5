"""Reports written to disk: of runs or of a study, by what the directories hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Choices:
    """What only a report of runs can heed."""

    split: SplitName = "test"
    """Which rows."""
    base: str | None = None
    """Label of the method that the others are held against."""
    by: Sequence[str] = ()
    """What rows are grouped by besides the users' activity."""
    dataset: Path | None = None
    """Of the runs, where it does not lie any more where they were trained on it."""

    def refuse(self, path: Path, what: str) -> None:
        """Make sure that nothing was chosen.

        Args:
            path: of what the report is.
            what: it is.

        Raises:
            ConfigError: something was.
        """
        given = {
            "--split": self.split if self.split != "test" else None,
            "--base": self.base,
            "--by": ", ".join(self.by) or None,
            "--dataset": self.dataset,
        }
        for option, value in given.items():
            if value is not None:
                raise ConfigError(
                    f"{option} {value}: {path} is {what}, whose report is as it was made; leave "
                    "the option out or name run directories"
                )


def write_report(
    paths: Sequence[Path], out: Path, choices: Choices, figures: Path | None = None
) -> list[Path]:
    """Write the page, and the figures on their own if a directory is given.

    Args:
        paths: run directories on one dataset, or one study directory.
        out: the page; replaced if it is there.
        choices: for runs.
        figures: directory for SVG, PNG and PDF.

    Returns:
        The files of figures.

    Raises:
        ConfigError: nothing to report on, runs and studies mixed, choices for a study, or ones that
            the runs do not have.
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
        choices.refuse(studies[0], "a study")
        made = report_study(studies[0])
    else:
        moved = open_dataset(choices.dataset) if choices.dataset is not None else None
        made = report_runs(paths, choices.split, choices.base, dataset=moved, by=choices.by)
    write_page(out, made.html)
    return write_figures(made.figures, figures) if figures is not None else []


def write_page(out: Path, html: str) -> None:
    """Write a page, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, html)


def write_figures(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write figures by name; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    return [file for name, drawn in figures.items() for file in save(drawn, folder / name)]
