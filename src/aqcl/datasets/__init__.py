"""Where click logs come from: one source per file, and the table of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aqcl.click_log import ClickLog
from aqcl.config import build, choose
from aqcl.datasets import amazon, oncold, sequences, ta_feng, table


@dataclass(frozen=True)
class Source:
    """A kind of data that can be read as a click log."""

    settings: type[Any]
    """Its configuration class."""
    open: Callable[[Any], ClickLog]
    """Makes a click log of its settings."""
    files: Callable[[Any], list[Path]]
    """The files that settings name, for a fingerprint; what is pinned or simulated has none."""
    description: str
    citation: str = ""


SOURCES: dict[str, Source] = {
    "table": Source(
        table.TableSettings,
        table.open_table,
        table.table_files,
        "any log in CSV or Parquet, columns mapped by name",
    ),
    "sequences": Source(
        sequences.SequencesSettings,
        sequences.open_sequences,
        sequences.sequences_files,
        "a text file with a line `user item item ...` for each user",
    ),
    "amazon": Source(
        amazon.AmazonSettings,
        amazon.open_amazon,
        amazon.amazon_files,
        "Amazon reviews of 2014, any category",
        amazon.CITATION,
    ),
    "ta-feng": Source(
        ta_feng.TaFengSettings,
        ta_feng.open_ta_feng,
        ta_feng.ta_feng_files,
        "Ta Feng grocery transactions, fetched on first use",
        ta_feng.CITATION,
    ),
    "oncold": Source(
        oncold.OncoldSettings,
        oncold.open_oncold,
        oncold.oncold_files,
        "simulated feed of impressions in place of the paper's private log",
        oncold.CITATION,
    ),
}


def open_source(name: str, values: Mapping[str, Any]) -> ClickLog:
    """Open a source by its name in `SOURCES` and its settings as plain values.

    Raises:
        ConfigError: an unknown name, or a setting that is unknown, missing or out of range.
        DataError: data that cannot be read.
    """
    source = choose(SOURCES, name, where="source")
    return source.open(build(source.settings, values, where="source"))


def source_files(name: str, values: Mapping[str, Any]) -> list[Path]:
    """The files that a source would read, for the fingerprint of what is made of them.

    Raises:
        ConfigError: an unknown name, or a setting that is unknown, missing or out of range.
        DataError: files that are not there.
    """
    source = choose(SOURCES, name, where="source")
    return source.files(build(source.settings, values, where="source"))
