"""Small files of rows, and what is read from them."""

from pathlib import Path
from typing import Any

import polars as pl

from aqcl.click_log import ClickLog
from aqcl.config import build
from aqcl.datasets.table import TableSettings, open_table
from aqcl.prepare.attributes import training_values
from aqcl.schema import Side

LARGEST = 2**63 - 1


def open_log(path: Path | list[Path] | str, **values: Any) -> ClickLog:
    paths = [str(p) for p in path] if isinstance(path, list) else str(path)
    return open_table(build(TableSettings, {"path": paths, **values}, "source"))


def latest_values(log: ClickLog, side: Side, *names: str) -> list[tuple[Any, ...]]:
    """The latest values of each entity, where every row trains."""
    assert log.described is not None
    rows = log.described.collect()
    ends = pl.DataFrame({"user": rows["user"].unique(), "held_out_from": LARGEST})
    table = rows.select(side).unique().sort(side)
    for name in names:
        values = training_values(rows.lazy(), side, name, ends, table[side]).table
        assert values is not None
        table = table.join(values, on=side, how="left", maintain_order="left")
    return table.rows()


def csv_file(tmp_path: Path, text: str, name: str = "log.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def parquet_file(tmp_path: Path, name: str = "log.parquet", **columns: Any) -> Path:
    path = tmp_path / name
    standard = {"user": [1, 2], "item": ["a", "b"], "timestamp": [10, 20]}
    pl.DataFrame({**standard, **columns}).write_parquet(path)
    return path
