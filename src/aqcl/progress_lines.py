"""Progress for output that no terminal shows, such as the log file of a night's work."""

import time
from datetime import timedelta

from rich.console import Console


class ProgressLines:
    """Prints a line each time something has ended, in place of a bar that moves."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._ended: object = None

    def tell(self, ended: object, text: str) -> None:
        """Print the time since the start and a text, unless nothing has ended since the last one.

        Args:
            ended: how much has ended so far, in any form that can be compared.
            text: of the line.
        """
        if ended == self._ended:
            return
        self._ended = ended
        elapsed = timedelta(seconds=round(time.monotonic() - self._started))
        self._console.print(
            f"{elapsed}  {text}", markup=False, highlight=False, emoji=False, soft_wrap=True
        )


def lines_without_terminal(console: Console, *, quiet: bool) -> ProgressLines | None:
    """Lines for a console that is no terminal; None where a bar is shown, or nothing at all."""
    return None if console.is_terminal or quiet else ProgressLines(console)
