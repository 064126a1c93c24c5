"""What a stage took, kept in a work folder for the same machine, code and settings."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, versions


class OtherConditionsError(RuntimeError):
    """What is kept was measured under other conditions."""


def read(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `write` kept under these settings on this machine by this code; empty if nothing.

    Raises:
        OtherConditionsError: it was kept under other ones.
    """
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    before, now = found.pop("conditions", {}), _conditions(settings)
    for key, value in now.items():
        if before.get(key) != value:
            raise OtherConditionsError(
                f"{path}: measured with {key} {before.get(key)}, now {value}: remove "
                f"{path.parent} or give another --work"
            )
    return found


def write(path: Path, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Keep facts with what they were measured under; a reader sees the old or the new ones."""
    from aqcl.storage import atomic_write

    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps({"conditions": _conditions(settings), **facts}) + "\n")


def _conditions(settings: Mapping[str, Any]) -> dict[str, Any]:
    from aqcl.source_code import code_fingerprint

    # Settings as they are when they are read again: JSON has no tuples.
    return {
        "machine": describe()["fingerprint"],
        "code": code_fingerprint(),
        "versions": versions(),
        "settings": json.loads(json.dumps(settings)),
    }
