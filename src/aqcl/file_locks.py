"""Files locked by one process at a time, and files of lines that several append to."""

import fcntl
import os
from pathlib import Path

from aqcl.errors import StorageError


def lock_file(path: Path, *, wait: bool) -> int | None:
    """Lock a file, which is made if it is not there, until its descriptor is closed.

    The system closes it when the process ends in any way.

    Args:
        path: the file.
        wait: until another process lets go of it.

    Returns:
        The descriptor; None where another process has the lock and we do not wait.

    Raises:
        StorageError: the disk has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        raise StorageError(
            f"{path}: cannot be locked: {error.strerror}; a study needs a disk with file locks"
        ) from None
    return descriptor


def complete_lines(path: Path) -> None:
    """Drop the half line that a process left which was killed while it wrote."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 2**16, 0))
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
