"""A directory that takes the place of another of its kind: the old one or the new, never a mix."""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from aqcl.errors import StorageError
from aqcl.storage import (
    MANIFEST,
    PARTIAL,
    Format,
    is_of_format,
    manifest_values,
    naming_a_full_disk,
    read_manifest,
    sync,
)

_OLD = f".old{PARTIAL}"


@contextlib.contextmanager
def write_directory(
    out: Path, kind: Format, is_ready: Callable[[], bool] = lambda: False
) -> Iterator[Path]:
    """A new directory beside `out` that takes its place when the block ends without an error.

    The directory must get a manifest before the end. After an error, nothing is left; what a
    killed process left is removed by the next write to the same place.

    Args:
        out: where the directory shall be; an existing one is replaced if it is of this format.
        kind: the format that is written.
        is_ready: asked at the end, when another process may have been faster; if it is so, what
            lies at `out` stays there.

    Raises:
        StorageError: `out` holds something else, or its place cannot be written.
    """
    out = out.resolve()
    if _is_within(out) or os.path.ismount(out):
        raise StorageError(
            f"{out}: is the current directory, above it or a mount point, which cannot be "
            "replaced; give a directory within it"
        )
    _check_replaceable(out, kind)
    folder = out.with_name(f".{out.name}.{secrets.token_hex(4)}{PARTIAL}")
    lock = _claim(folder, out)
    try:
        with naming_a_full_disk(out):
            yield folder
            read_manifest(folder, kind)
            for path in (*folder.rglob("*"), folder):
                sync(path)
            if not is_ready():
                _check_replaceable(out, kind)  # again: much may have been put there meanwhile
                _put_in_place(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _is_within(folder: Path) -> bool:
    """Whether the current directory is a directory or in it."""
    try:
        return Path.cwd().is_relative_to(folder)
    except FileNotFoundError:  # it was removed
        return False


def _check_replaceable(out: Path, kind: Format) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not is_of_format(out, kind):
        raise StorageError(
            f"{out}: exists and is not of format {kind}, so it is not replaced; "
            "choose another path or remove it"
        )
    own = {MANIFEST, *manifest_values(out).get("files", ())}
    for path in sorted(out.rglob("*")):
        kept = path.is_symlink() or not path.is_dir()
        if kept and path.relative_to(out).as_posix() not in own and path.suffix != PARTIAL:
            raise StorageError(
                f"{path}: does not belong to the {kind} that lies there and would go with it; move "
                "it elsewhere or choose another path"
            )


def _claim(folder: Path, out: Path) -> int:
    """Make `folder` and lock it, so that a later writer knows whether its owner still lives."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for stale in out.parent.glob(f".{_literal(out.name)}.*{PARTIAL}"):
            _settle_if_abandoned(stale, out)
        folder.mkdir()
        return _lock(folder)
    except OSError as error:
        raise StorageError(f"{out}: cannot be written: {error.strerror}") from None


def _literal(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _lock(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _settle_if_abandoned(folder: Path, out: Path) -> None:
    """Remove what a killed process left; what it had moved out of the way goes back."""
    with contextlib.suppress(OSError):  # locked: another process is writing it
        descriptor = _lock(folder)
        try:
            if folder.name.endswith(_OLD) and not out.exists():
                folder.rename(out)
            else:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _put_in_place(folder: Path, out: Path) -> None:
    old = folder.with_name(f"{folder.name}{_OLD}")
    with contextlib.ExitStack() as stack:
        if out.exists():
            # No other writer shall take it for abandoned; one that has just put it there holds it.
            with contextlib.suppress(OSError):
                stack.callback(os.close, _lock(out))
            out.rename(old)
        try:
            folder.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
        sync(out.parent)
        shutil.rmtree(old, ignore_errors=True)
