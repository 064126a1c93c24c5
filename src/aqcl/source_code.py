"""Which state of this package's code made something: between releases many have one version."""

import hashlib
import logging
from functools import cache
from pathlib import Path

logger = logging.getLogger(__name__)


@cache
def code_fingerprint() -> str:
    """The fingerprint of this package, as it was when a process asked first."""
    return fingerprint_of(Path(__file__).parent)


def fingerprint_of(package: Path) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of a package's Python files and their names.

    Args:
        package: its folder.
    """
    found = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        text = path.read_bytes()
        found.update(f"{path.relative_to(package).as_posix()}\0{len(text)}\0".encode())
        found.update(text)
    return found.hexdigest()[:12]


def note_code(known: list[str], run: Path) -> None:
    """Add the state of the code to those that have trained a run, and tell if there were others.

    Args:
        known: those, in their order; changed in place.
        run: its directory.
    """
    code = code_fingerprint()
    if code in known:
        return
    if known:
        logger.warning(
            "%s was trained by another state of the code before (%s, now %s): it may be the run of "
            "neither",
            run,
            known[-1],
            code,
        )
    known.append(code)
