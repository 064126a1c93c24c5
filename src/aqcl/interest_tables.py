"""Interests as tables for a terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from aqcl.activity import GROUPS
from aqcl.interests import Codebook, Driver, NearInterest, UserInterests

MOST_SHOWN = 20
"""Interests that a terminal shows; JSON has them all."""


def codebook_table(codebook: Codebook) -> Group:
    """The largest interests: size, who has them, what they hold."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("interest", "rows", "share", *(g.replace("-", "-\n") for g in GROUPS)):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("items", overflow="fold")
    fields = list(codebook.interests[0].attributes) if codebook.interests else []
    for field in fields:
        table.add_column(field, overflow="fold")
    for one in codebook.interests[:MOST_SHOWN]:
        cells = [str(one.codeword), f"{one.rows:,}", f"{one.share:.1%}"]
        cells += [f"{one.activity[group]:.0%}" for group in GROUPS]
        cells += [_listed(one.items), *(_listed(one.attributes[field]) for field in fields)]
        table.add_row(*map(Text, cells))
    head = (
        f"{codebook.used} of {codebook.codewords} interests are nearest to any of "
        f"{codebook.rows:,} clicked training rows; perplexity {codebook.perplexity:.1f}."
    )
    rest = len(codebook.interests) - MOST_SHOWN
    more = [Text(f"{rest} more with --json.", style="dim")] if rest > 0 else []
    return Group(Text(head), table, *more)


def user_table(found: UserInterests) -> Group:
    """The nearest interests of a user, and the clicks behind a score."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("click")
    table.add_column("score without it", justify="right")
    table.add_column("the click")
    for driver in found.drivers:
        without = f"{found.score - driver.change:.4f}"
        table.add_row(*map(Text, (driver.item, without, effect(driver))))
    head = (
        f"User {found.user} after {found.clicks} clicks, candidate {found.item} "
        f"({'clicked' if found.clicked else 'not clicked'}): score {found.score:.4f}."
    )
    near_line = Text("The run has no codebook, and so no interests.")
    if found.nearest is not None:
        near_line = Text(f"Nearest interests (cosine): {near(found.nearest)}.")
    if not found.drivers:
        return Group(Text(head), near_line, Text("There is no click before it to leave out."))
    note = (
        "A click that lowers the score speaks against this candidate; all that are shown may do "
        "so. Each click left out alone; clicks that stand in for each other seem to matter less "
        "than they do together."
    )
    return Group(Text(head), near_line, table, Text(note))


def near(interests: Sequence[NearInterest]) -> str:
    """Interests with their cosines."""
    return ", ".join(f"{one.interest} ({one.cosine:.2f})" for one in interests)


def effect(driver: Driver) -> str:
    """What a click does to the score, in words."""
    shown = f"{abs(driver.change):.4f}"
    if not float(shown):
        return "hardly changes the score"
    return f"{'raises' if driver.change > 0 else 'lowers'} the score by {shown}"


def _listed(pairs: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in pairs)
