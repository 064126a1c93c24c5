"""How far training has come, on standard error."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from aqcl import train
from aqcl.progress_lines import lines_without_terminal

FIXED_WIDTH = 64
"""Columns of a terminal that all but the label take, at most."""
SHORTEST_LABEL = 8


@contextmanager
def training_bar(
    label: str, *, quiet: bool = False, console: Console | None = None
) -> Iterator[train.Listener]:
    """Shows epoch, rate, time left in the epoch and the best validation score.

    How many epochs there will be is for early stopping to decide, so the bar is the epoch's.
    A long label is cut, so that the numbers are whole at 80 columns. Where no terminal is, a line
    for each evaluation.
    """
    console = console or Console(stderr=True)
    lines = lines_without_terminal(console, quiet=quiet)
    room = max(console.width - FIXED_WIDTH, SHORTEST_LABEL)
    name = label if len(label) <= room else f"{label[: room - 1]}…"
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=8),
        TaskProgressColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[score]}"),
        console=console,
        disable=quiet,
        refresh_per_second=4,
    )
    task = bar.add_task(name, total=None, rate="", score="")

    def listen(progress: train.Progress) -> None:
        rows = progress.number * progress.rows_per_step / max(progress.seconds, 1e-9)
        if lines is not None:
            if progress.last:
                lines.tell(progress.last["step"], f"{label}: {evaluated(progress.last, rows)}")
            return
        bar.start()  # not before: an error that precedes training stands alone
        if progress.step <= 1:
            bar.reset(task)
        score = ""
        if progress.best is not None:
            score = f"best {abs(progress.best):.4f}, {progress.evaluations_since_best} ago"
        bar.update(
            task,
            description=f"{name} epoch {progress.epoch + 1}",
            total=progress.steps_per_epoch,
            completed=progress.step,
            rate=f"{rows:,.0f} rows/s",
            score=score,
        )

    try:
        yield listen
    finally:
        if bar.live.is_started:
            bar.stop()


def evaluated(last: Mapping[str, Any], rows: float) -> str:
    """The latest evaluation in words."""
    return (
        f"epoch {last['epoch'] + 1}, step {last['step']:,}, AUC {last['valid_auc']:.4f}, "
        f"logloss {last['valid_logloss']:.4f}, {rows:,.0f} rows/s"
    )
