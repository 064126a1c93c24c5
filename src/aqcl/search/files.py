"""The files of a study directory that others read."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from aqcl.errors import StorageError, command
from aqcl.storage import MANIFEST, Manifest, read_manifest

STUDY: Final = "study.toml"
"""The resolved settings of a study."""
FINDINGS: Final = "study.json"
"""What a study has found."""


def read_findings(path: Path) -> tuple[Manifest, dict[str, Any]]:
    """The manifest of a finished study, and what it has found.

    Raises:
        StorageError: it is missing, unfinished or damaged.
    """
    if not (path / MANIFEST).exists() and (path / STUDY).exists():
        again = command("aqcl", "search", path / STUDY, "--out", path, "--resume")
        raise StorageError(f"{path}: this study has not finished; continue it with `{again}`")
    manifest = read_manifest(path, "aqcl-study")
    found = json.loads((path / FINDINGS).read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return manifest, found


def value_of_winner(
    best: Mapping[str, Any], finalists: Iterable[Mapping[str, Any]]
) -> tuple[float, int]:
    """What a method has won with, and of how many seeds that is the mean.

    Args:
        best: the `value` of the winner's first seed, and its `number`; without a number the value
            tells which of the finalists it is.
        finalists: trials that were trained with several seeds: `number`, `values` and `mean`.
    """
    for finalist in finalists:
        if "number" in best:
            won = finalist["number"] == best["number"]
        else:
            won = finalist["values"][0] == best["value"]
        if won and finalist["mean"] is not None:
            return float(finalist["mean"]), len(finalist["values"])
    return float(best["value"]), 1
