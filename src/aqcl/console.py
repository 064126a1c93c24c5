"""What the commands share: types of their options, and how they print."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from rich.console import RenderableType

PIPED_WIDTH = 100
"""Columns of output that goes to no terminal, unless the environment says COLUMNS."""

Set = Annotated[tuple[str, ...], Parameter(name="--set", negative=(), show_default=False)]
Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON for machines.")]
Split = Literal["train", "valid", "test"]


@contextmanager
def continued_by(command: str, settings: Path) -> Iterator[None]:
    """An interruption inside says which command continues, once its file of settings is there."""
    try:
        yield
    except KeyboardInterrupt:
        if settings.exists():
            raise KeyboardInterrupt(f"continue with `{command}`") from None
        raise


def show(what: "RenderableType") -> None:
    """Print text or a table; paths and commands stay whole, so that they can be copied."""
    from rich.console import Console

    fixed = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(width=None if fixed else PIPED_WIDTH, markup=False, emoji=False)
    with console.capture() as captured:  # writing by itself it ends with code 1 at a closed pipe
        console.print(what, soft_wrap=isinstance(what, str), crop=False)
    sys.stdout.write(captured.get())


def show_json(values: object) -> None:
    """Print JSON."""
    sys.stdout.write(json.dumps(values, indent=1, ensure_ascii=False, default=str) + "\n")
