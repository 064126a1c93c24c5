"""How far the work for tables and figures has come, on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from aqcl.progress_lines import lines_without_terminal
from aqcl.reproduce.work import Listener, Standing


@contextmanager
def work_bar(*, quiet: bool = False, console: Console | None = None) -> Iterator[Listener]:
    """Shows trials and runs done and remaining, the time left at this pace, and what is done.

    As a bar, or where no terminal is, as a line for each trial or run that has ended.
    """
    console = console or Console(stderr=True)
    lines = lines_without_terminal(console, quiet=quiet)
    bar = Progress(
        TextColumn("{task.completed}/{task.total} trials and runs"),
        BarColumn(bar_width=16),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.description}", markup=False),
        console=console,
        disable=quiet,
        refresh_per_second=2,
    )
    task = bar.add_task("", total=None, left="")

    def listen(standing: Standing) -> None:
        left = time_left(standing.seconds_left)
        if lines is not None:
            count = f"{standing.done}/{standing.total} trials and runs"
            lines.tell(standing.done, "; ".join(filter(None, [count, left, standing.what])))
            return
        bar.start()  # not before: an error that precedes the work stands alone
        bar.update(
            task,
            total=standing.total,
            completed=standing.done,
            description=standing.what,
            left=left,
        )

    try:
        yield listen
    finally:
        if bar.live.is_started:
            bar.stop()


def time_left(seconds: float | None) -> str:
    """A duration in words; nothing where it is not known."""
    if seconds is None:
        return ""
    minutes = round(seconds / 60)
    return (
        f"{minutes // 60} h {minutes % 60:02d} min left" if minutes >= 60 else f"{minutes} min left"
    )
