"""What the codewords of runs stand for, as a part of their report."""

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
    """Latents, the largest interests and example users of each method that has a codebook.

    Test rows are not read.

    Args:
        dataset: of the runs.
        runs: by method; the first seed is looked at.
        books: their codebooks.
        figures: the pictures are added.
    """
    parts = []
    for k, (name, found) in enumerate(runs.items()):
        if name not in books:
            continue
        interests = load_interests(found[0], dataset)
        rows = choose_rows(np.arange(len(dataset.valid)), MOST_POINTS)
        max_history = found[0].experiment.train.max_history
        latent = encode_rows(load_model(found[0], dataset), dataset.valid, rows, max_history)
        nearest = interests.nearest(latent)
        seed = found[0].experiment.seed
        parts.append(f"<h3>{text(name)}</h3>")
        used = len(np.unique(nearest))
        if 1 < used < len(rows):  # else nothing is near or far from another of its interest
            measured = separation(latent, nearest)
            figures[f"latents-{k}"] = drawn = latents_figure(
                {"": tsne(latent)}, nearest, legend=True
            )
            caption = (
                f"Latents of {len(rows):,} validation rows in the plane (t-SNE), seed {seed}. Rows "
                f"nearest to the {min(used, len(COLORS))} largest of their {used} interests have "
                "colours, the others are grey. Of a row's nearest others "
                f"{measured.purity:.0%} have the same interest, {measured.chance:.0%} would by "
                f"chance; silhouette {measured.silhouette:+.3f}."
            )
            parts.append(figure(drawn, f"latents-{k}", caption, caption))
        parts.append(_largest(books[name], seed))
        parts.append(_examples(describe_examples(found[0], dataset=dataset), seed))
    return "".join(parts)


def _largest(book: Codebook, seed: int) -> str:
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
    caption = f"The largest interests, and who has them, seed {seed}"
    return paragraph(facts) + table(headings, rows, caption)


def _examples(found: Mapping[str, UserInterests], seed: int) -> str:
    """A user of each activity group: nearest interests, and the clicks that drove a score."""
    rows = [
        [
            Cell(group),
            Cell(one.user),
            Cell(str(one.clicks), one.clicks),
            Cell(one.item),
            number(one.score),
            Cell(near(one.nearest or ()).replace(" (", f"{NO_BREAK}(")),
            Cell("; ".join(map(_told, one.drivers)) or "none to leave out"),
        ]
        for group, one in found.items()
    ]
    headings = ["Group", "User", "#Clicks", "Clicked item", "#Score", "Nearest interests (cosine)"]
    caption = (
        f"An example of each activity group, seed {seed}: the user with the median number of "
        "clicks before the latest validation click. Clicks behind the score are left out one at a "
        "time; one that lowers it speaks against the item, and all that are shown may do so."
    )
    return table([*headings, "Clicks behind the score"], rows, caption) if rows else ""


def _told(driver: Driver) -> str:
    # The name of an item may be long, and so may break.
    return f"{driver.item} {effect(driver).replace(' ', NO_BREAK)}"
