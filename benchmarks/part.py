"""What a part of the suite is, and which there are."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
RESULTS = ROOT / "results" / "benchmarks"
WORK = ROOT / "runs" / "benchmarks"
"""Data that is made once, and the environments of other libraries."""
QUICK = Path("runs", "benchmarks", "quick")
"""Records of a quick look, below the project's folder."""

PARTS = (
    "steps", "peers", "roofline", "optimizers", "growth", "oncold", "evaluation", "reproduction",
)  # fmt: skip
"""In the order in which they run; one without a module is not there yet."""

Better = Literal["higher", "lower"]


class Part(Protocol):
    """A module of this folder; it may also have `lines(outcome) -> list[str]` for the terminal."""

    RATIOS: Mapping[str, Better]
    """Figures that check.py compares: dotted paths into the outcome, where `*` is any key, and
    which direction is better. Only ratios of times measured in turn can be compared."""

    def measure(self, full: bool, work: Path) -> dict[str, Any]:
        """Measure; plain JSON values.

        Args:
            full: as many rounds and sizes as a published figure needs, or a few.
            work: a folder that stays, for data that is made once.
        """


class Figure(NamedTuple):
    """A number of an outcome."""

    path: str
    value: float


def available() -> list[str]:
    """The names of the parts that are there."""
    return [name for name in PARTS if (FOLDER / f"{name}.py").exists()]


def load(name: str) -> Part:
    """The module of a part."""
    return cast(Part, importlib.import_module(f"benchmarks.{name}"))


def figures(outcome: Any, pattern: str) -> list[Figure]:
    """The numbers at a dotted path in which `*` stands for any key; none where it leads nowhere."""
    found = {"": outcome}
    for key in pattern.split("."):
        found = {
            f"{path}.{name}" if path else name: value
            for path, values in found.items()
            if isinstance(values, dict)
            for name, value in values.items()
            if key in ("*", name)
        }
    return [
        Figure(path, float(value))
        for path, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
