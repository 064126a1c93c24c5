"""The files of a study directory that others read."""

import json
from pathlib import Path
from typing import Any, Final

from aqcl.errors import StorageError
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
        raise StorageError(
            f"{path}: this study has not finished; continue it with "
            f"`aqcl search {path / STUDY} --out {path} --resume`"
        )
    manifest = read_manifest(path, "aqcl-study")
    found = json.loads((path / FINDINGS).read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return manifest, found
