"""The measures of groups of rows as a table for a terminal, in the way that fits its width."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from aqcl.activity import GROUPS
from aqcl.evaluate import Evaluation, GroupEvaluation
from aqcl.item_groups import ITEM_GROUPS

_ENDLESS: Final = 10_000  # characters, to measure what a table would take
CONSTANT: Final = "constant's logloss"
"""What the measure is called that a group's own click rate has, for each of its rows."""
_LESS_WIDE: Final = {"predicted/observed": "pred./\nobs.", "AUC": "AUC\n95% interval"}


@dataclass(frozen=True)
class GroupTable:
    """A column for each group, or a line for each where so many columns would be cut."""

    evaluation: Evaluation

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        columns = self._columns()
        needed = console.measure(columns, options=options.update(max_width=_ENDLESS)).maximum
        yield columns if needed <= options.max_width else self._lines()

    def _columns(self) -> Table:
        names = [group.group for group in self.evaluation.groups]
        clicks = [click_range(name, self.evaluation.thresholds) for name in names]
        table = simple_table()
        table.add_column("", no_wrap=True)
        for name, second in zip(names, clicks, strict=True):
            heading = f"{name}\n{second}" if any(clicks) else name
            table.add_column(Text(heading), justify="right", no_wrap=True)
        measures = [_measures(group) for group in self.evaluation.groups]
        for key in measures[0]:
            values = (found[key] for found in measures)
            table.add_row(key, *values, style="bold" if key == "AUC" else "")
        return table

    def _lines(self) -> Table:
        measures = [_measures(group) for group in self.evaluation.groups]
        for found in measures:
            del found[CONSTANT]  # too wide beside the others
        for key in ("GAUC", "logloss", "ECE", "predicted/observed"):
            if all(found[key] == "-" for found in measures[1:]):  # of all rows at most
                for found in measures:
                    del found[key]
        table = simple_table()
        table.add_column("", overflow="fold")
        intervals = [found.pop("95% interval") for found in measures]
        for key in measures[0]:
            table.add_column(_LESS_WIDE.get(key, key), justify="right", no_wrap=True)
        for group, found, interval in zip(self.evaluation.groups, measures, intervals, strict=True):
            auc = Text.assemble((found["AUC"], "bold"), "\n", interval)
            cells = [auc if key == "AUC" else value for key, value in found.items()]
            table.add_row(Text(members(group.group, self.evaluation.thresholds)), *cells)
        return table


def _measures(group: GroupEvaluation) -> dict[str, str]:
    """What was measured on a group, as it is shown."""
    return {
        "rows": f"{group.rows:,}",
        "users": f"{group.users:,}",
        "clicks": f"{group.positives:,}",
        "AUC": number(group.auc),
        "95% interval": _span(group.auc_low, group.auc_high),
        "GAUC": number(group.gauc),
        "logloss": number(group.logloss),
        CONSTANT: number(group.constant_logloss),
        "ECE": number(group.calibration_error),
        "predicted/observed": number(group.predicted_observed_ratio, digits=3),
    }


def members(group: str, thresholds: tuple[int, int] | None) -> str:
    """The name of a group, and the clicks that make one a member."""
    return ", ".join(filter(None, (group, click_range(group, thresholds))))


def click_range(group: str, thresholds: tuple[int, int] | None) -> str:
    """The clicks that make a user, or an item, a member of a group; nothing for other groups."""
    if thresholds is None:
        return ""
    low, high = thresholds
    bounds = dict(zip(GROUPS, ((0, low), (low + 1, high), (high + 1, None)), strict=True))
    items = ((0, 0), (1, low), (low + 1, high), (high + 1, None))
    bounds |= zip(ITEM_GROUPS, items, strict=True)
    if group not in bounds:
        return ""
    first, last = bounds[group]
    if last is None:
        return f"{first}+ clicks"
    if first >= last:
        return "nobody" if first > last else f"{first} click{'' if first == 1 else 's'}"
    return f"{first} to {last} clicks"


def simple_table() -> Table:
    """A table with a line below its headings and no others."""
    return Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)


def number(value: float | None, digits: int = 4) -> str:
    """A number, a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def _span(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.4f}-{high:.4f}"
