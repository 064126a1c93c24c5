"""Which state of this package's code made something: between releases many have one version."""

import hashlib
from functools import cache
from pathlib import Path


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
