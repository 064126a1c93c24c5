"""Where a search stands, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from aqcl.progress_lines import lines_without_terminal
from aqcl.search.standing import Standing


@dataclass(frozen=True)
class SearchProgress:
    """What a terminal shows of a search."""

    done: int
    """Trials that have ended, of all methods; steps where alpha is searched in one training."""
    total: int
    """Of them, as far as is known."""
    best: dict[str, float | None]
    """Of each method."""
    running: str = ""
    """What this process trains."""
    unit: str = "trials"
    """What is counted."""


Listener = Callable[[SearchProgress], None]


def progress_of(standing: Standing, running: str = "") -> SearchProgress:
    """What a terminal shows of a standing."""
    records = [record for name in standing.records for record in standing.trainings(name)]
    best = {}
    for name in standing.records:
        winner = standing.best(name)
        best[name] = winner.trial.value if winner else None
    return SearchProgress(
        done=sum(record.trial.state.is_finished() for record in records),
        total=standing.total,
        best=best,
        running=running,
    )


@contextmanager
def study_bar(*, quiet: bool = False, console: Console | None = None) -> Iterator[Listener]:
    """Shows trials done and remaining, the best so far of each method, and what is trained.

    The only method is not named. As a bar, or where no terminal is, as a line for each trial that
    has ended.
    """
    console = console or Console(stderr=True)
    lines = lines_without_terminal(console, quiet=quiet)
    bar = Progress(
        TextColumn("{task.completed}/{task.total} {task.fields[unit]}"),
        BarColumn(bar_width=16),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        disable=quiet,
        refresh_per_second=2,
    )
    task = bar.add_task("", total=None, unit="trials")

    def listen(progress: SearchProgress) -> None:
        several = len(progress.best) > 1
        best = ", ".join(
            f"{name} {value:.4f}" if several else f"{value:.4f}"
            for name, value in progress.best.items()
            if value is not None
        )
        words = [f"best: {best}" if best else "", progress.running]
        if lines is not None:
            count = f"{progress.done}/{progress.total} {progress.unit}"
            lines.tell(progress.done, "; ".join(filter(None, [count, *words])))
            return
        bar.start()  # not before: an error that precedes the first trial stands alone
        bar.update(
            task,
            total=progress.total,
            completed=progress.done,
            unit=progress.unit,
            description="; ".join(filter(None, words)),
        )

    try:
        yield listen
    finally:
        if bar.live.is_started:
            bar.stop()
