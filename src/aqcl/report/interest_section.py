"""What the codewords of runs stand for, and what drives scores, as a part of their report."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
from matplotlib.figure import Figure

from aqcl.activity import GROUPS
from aqcl.dataset import Dataset
from aqcl.errors import ConfigError
from aqcl.figures import COLORS, latents_figure
from aqcl.interest_tables import effect, near
from aqcl.interests import Codebook, Driver, UserInterests, describe_examples, describe_interests
from aqcl.latents import choose_rows, encode_rows, load_interests, load_model, separation, tsne
from aqcl.report.page import Cell, figure, number, paragraph, table, text
from aqcl.runs import Run

MOST_POINTS = 1500
"""Validation rows that the picture shows."""
MOST_INTERESTS = 20
"""Interests that the table shows, the largest first."""
NO_BREAK = "\N{NO-BREAK SPACE}"
"""In what is told of a user: with a line for each word a row would be as high as a phone."""
SMALL_PART = 0.1
"""Of the codewords, below which the perplexity says that they have collapsed."""


def codebooks_of(dataset: Dataset, runs: Mapping[str, Sequence[Run]]) -> dict[str, Codebook]:
    """The codebook of the first seed of each method that has one.

    Args:
        dataset: of the runs.
        runs: by method.
    """
    books = {}
    for name, found in runs.items():
        # Without a codebook, or with one that is not yet set, there is nothing to tell.
        with suppress(ConfigError):
            books[name] = describe_interests(found[0], dataset=dataset)
    return books


def collapsed(books: Mapping[str, Codebook]) -> list[str]:
    """A line for each method whose samples lie at a small part of its interests.

    Args:
        books: by method.
    """
    return [
        f"The codebook of {name} has collapsed: over {book.rows:,} clicked training rows, without "
        f"dropout, the perplexity of its {book.codewords} interests is {book.perplexity:.1f}."
        for name, book in books.items()
        if book.perplexity < SMALL_PART * min(book.codewords, book.rows)
    ]


def interests_body(
    dataset: Dataset,
    runs: Mapping[str, Sequence[Run]],
    books: Mapping[str, Codebook],
    figures: dict[str, Figure],
) -> str:
    """Example users of each method; latents and the largest interests of one with a codebook.

    Test rows are not read.

    Args:
        dataset: of the runs.
        runs: by method; the first seed is looked at.
        books: their codebooks.
        figures: the pictures are added.
    """
    parts = []
    for k, (name, found) in enumerate(runs.items()):
        run = found[0]
        of = f"{name}, seed {run.experiment.seed}"
        told = _examples(describe_examples(run, dataset=dataset), of)
        if name in books:
            largest = _largest(books[name], of)
            told = f"{_latents(dataset, run, f'latents-{k}', figures)}{largest}{told}"
        parts += [f"<h3>{text(name)}</h3>", told] if told else []
    return "".join(parts)


def _latents(dataset: Dataset, run: Run, key: str, figures: dict[str, Figure]) -> str:
    """Where validation rows lie by their interest, if that is near or far from others."""
    rows = choose_rows(np.arange(len(dataset.valid)), MOST_POINTS)
    max_history = run.experiment.train.max_history
    latent = encode_rows(load_model(run, dataset), dataset.valid, rows, max_history)
    nearest = load_interests(run, dataset).nearest(latent)
    used = len(np.unique(nearest))
    if not 1 < used < len(rows):
        return ""
    measured = separation(latent, nearest)
    figures[key] = drawn = latents_figure({"": tsne(latent)}, nearest, legend=True)
    caption = (
        f"Latents of {len(rows):,} validation rows in the plane (t-SNE), seed "
        f"{run.experiment.seed}. Rows nearest to the {min(used, len(COLORS))} largest of their "
        f"{used} interests have colours, the others are grey. Of a row's nearest others "
        f"{measured.purity:.0%} have the same interest, {measured.chance:.0%} would by chance; "
        f"silhouette {measured.silhouette:+.3f}."
    )
    return figure(drawn, key, caption, caption)


def _largest(book: Codebook, of: str) -> str:
    """The largest interests of a method and seed."""
    fields = list(book.interests[0].attributes) if book.interests else []
    rows = []
    for one in book.interests[:MOST_INTERESTS]:
        share = Cell(f"{one.share:.1%}", one.share)
        mix = [number(100 * one.activity[group], 0) for group in GROUPS]
        held = [one.items, *(one.attributes[field] for field in fields)]
        listed = [Cell(", ".join(f"{name} ({count})" for name, count in pairs)) for pairs in held]
        size = Cell(f"{one.rows:,}", one.rows)
        rows.append([Cell(str(one.codeword), one.codeword), size, share, *mix, *listed])
    facts = (
        f"{book.used} of {book.codewords} interests are nearest to any of {book.rows:,} clicked "
        f"training rows, without dropout; perplexity {book.perplexity:.1f}."
    )
    mixes = [f"#{group} %" for group in GROUPS]
    headings = ["#Interest", "#Rows", "#Share", *mixes, "Items", *fields]
    caption = f"The largest interests of {of}, and who has them"
    return paragraph(facts) + table(headings, rows, caption)


def _examples(found: Mapping[str, UserInterests], of: str) -> str:
    """A user of each activity group: nearest interests, and the clicks that drove a score.

    Args:
        found: by group.
        of: method and seed that scores them.
    """
    has_interests = any(one.nearest is not None for one in found.values())
    rows = [
        [
            Cell(group),
            Cell(one.user),
            Cell(str(one.clicks), one.clicks),
            Cell(one.item),
            number(one.score),
            *([Cell(near(one.nearest or ()).replace(" (", f"{NO_BREAK}("))] * has_interests),
            Cell("; ".join(map(_told, one.drivers)) or "none to leave out"),
        ]
        for group, one in found.items()
    ]
    headings = ["Group", "User", "#Clicks", "Clicked item", "#Score"]
    headings += ["Nearest interests (cosine)"] * has_interests
    caption = (
        f"An example of each activity group, {of}: the user with the median number of clicks "
        "before the latest validation click. Clicks behind the score are left out one at a "
        "time; one that lowers it speaks against the item, and all that are shown may do so."
    )
    return table([*headings, "Clicks behind the score"], rows, caption) if rows else ""


def _told(driver: Driver) -> str:
    # The name of an item may be long, and so may break.
    return f"{driver.item} {effect(driver).replace(' ', NO_BREAK)}"
