"""The cache directory: files that can be made again, each either whole or absent."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aqcl.errors import StorageError

CACHE_VARIABLE = "AQCL_CACHE"
"""Environment variable that names the cache directory."""


def cache_directory(setting: str | None) -> Path:
    """The directory of a setting, else of the environment, else `~/.cache/aqcl`; it is made.

    Raises:
        StorageError: it cannot be made.
    """
    path = Path(setting or os.environ.get(CACHE_VARIABLE) or "~/.cache/aqcl").expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be made a cache directory: {error.strerror or error}; set "
            f"source.cache or {CACHE_VARIABLE} to a directory that can be written"
        ) from error
    return path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling to write, which becomes `path` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
