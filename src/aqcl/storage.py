"""Directories on disk that are whole or absent: atomic writes, manifests, fingerprints."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO, Literal

from aqcl import __version__
from aqcl.errors import StorageError

Format = Literal["aqcl-dataset", "aqcl-run", "aqcl-bundle", "aqcl-study"]

MANIFEST = "manifest.json"
_VERSIONS: dict[Format, int] = {
    "aqcl-dataset": 1,
    "aqcl-run": 1,
    "aqcl-bundle": 1,
    "aqcl-study": 1,
}
_MADE_BY: dict[Format, str] = {
    "aqcl-dataset": ", made by `aqcl prepare`",
    "aqcl-run": ", made by `aqcl train`",
    "aqcl-bundle": "",
    "aqcl-study": ", made by `aqcl search`",
}
PARTIAL = ".partial"
"""How the name of what is being written ends."""
_WHOLE_FILE_BYTES = 256 * 2**20
_SAMPLE_BYTES = 2**20
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Manifest:
    """What a directory holds, how it was made and of what."""

    format: Format
    fingerprint: str
    """Of the settings and sources; equal fingerprints promise equal content."""
    settings: dict[str, Any]
    source: dict[str, Any] = field(default_factory=dict)
    content: dict[str, Any] = field(default_factory=dict)
    """Facts that belong to the format, such as a dataset's schema and counts."""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """`sha256` and `size` in bytes of every other file, by relative path."""
    format_version: int = 0
    package_version: str = ""


def write_manifest(
    folder: Path, manifest: Manifest, files_at: tuple[str, ...] = ("**/*",)
) -> Manifest:
    """Checksum the files of `folder` and write its manifest; returns it completed.

    Args:
        folder: the directory.
        manifest: without `files` and versions.
        files_at: patterns of the files that belong to it; others may change later.
    """
    ours = (MANIFEST, PARTIAL)  # a killed `atomic_write` may have left a partial file
    found = {path for pattern in files_at for path in folder.glob(pattern)}
    paths = sorted(p for p in found if p.is_file() and not p.name.endswith(ours))
    files = {
        path.relative_to(folder).as_posix(): {"sha256": _sha256(path), "size": path.stat().st_size}
        for path in paths
    }
    complete = dataclasses.replace(
        manifest,
        files=files,
        format_version=_VERSIONS[manifest.format],
        package_version=__version__,
    )
    text = json.dumps(dataclasses.asdict(complete), indent=1, ensure_ascii=False, allow_nan=False)
    atomic_write(folder / MANIFEST, text + "\n")
    return complete


def read_manifest(
    path: Path,
    kind: Format,
    verify: bool = False,
    growing: tuple[str, ...] = (),
    files_at: tuple[str, ...] = ("*",),
    spare: tuple[str, ...] = (),
) -> Manifest:
    """Read the manifest of a directory and check that its files are there.

    Args:
        path: the directory.
        kind: the format it must have.
        verify: also compare the checksum of every file, not only its size.
        growing: files that are written anew before their manifest is: there, of any size.
        files_at: patterns of the files that belong to it, if the manifest may list others.
        spare: patterns of files that may have been taken away: the manifest comes without them.

    Raises:
        StorageError: missing, of another format or version, incomplete or damaged.
    """
    manifest = _parse_manifest(path, kind)
    names = [name for name in manifest.files if _is_at(name, files_at)]
    there = [name for name in names if (path / name).is_file() or not _is_at(name, spare)]
    manifest = dataclasses.replace(manifest, files={name: manifest.files[name] for name in there})
    for name, expected in manifest.files.items():
        if not (path / name).is_file():
            raise StorageError(f"{path / name}: this file is missing; make the directory again")
        if name not in growing:
            _check_content(path / name, expected, verify)
    return manifest


def _is_at(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _parse_manifest(path: Path, kind: Format) -> Manifest:
    file = path / MANIFEST
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        what = "has no manifest.json" if path.is_dir() else "is no directory"
        expected = f"expected a directory of format {kind}{_MADE_BY[kind]}"
        raise StorageError(f"{path}: {what}; {expected}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StorageError(f"{file}: not JSON: {error}; make the directory again") from None
    found = values.get("format") if isinstance(values, dict) else None
    if found != kind:
        raise StorageError(
            f"{path}: expected format {kind}{_MADE_BY[kind]}, this is {found}; give another path"
        )
    version = values.get("format_version")
    if version != _VERSIONS[kind]:
        raise StorageError(
            f"{path}: format_version {version} was written by aqcl "
            f"{values.get('package_version')}; this is aqcl {__version__}, which reads "
            f"{_VERSIONS[kind]}: make the directory again or install that version"
        )
    keys = {f.name for f in dataclasses.fields(Manifest)}
    if set(values) != keys:
        odd = ", ".join(sorted(set(values) ^ keys))
        raise StorageError(f"{file}: missing or unexpected keys: {odd}; make the directory again")
    return Manifest(**values)


def _check_content(path: Path, expected: Mapping[str, Any], verify: bool) -> None:
    size = path.stat().st_size
    if size != expected["size"]:
        raise StorageError(
            f"{path}: expected {expected['size']} bytes, got {size}: the file is damaged; "
            "make the directory again"
        )
    if verify and _sha256(path) != expected["sha256"]:
        raise StorageError(
            f"{path}: the checksum differs from the manifest's: the file was changed or is "
            "damaged; make the directory again"
        )


def fingerprint(values: Mapping[str, Any], files: Iterable[Path] = ()) -> str:
    """A hash of settings and of the content of source files.

    A file above 256 MB counts by its size, its modification time and its first and last
    megabyte; where it lies never matters.

    Raises:
        StorageError: a file cannot be read.
    """
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode())
    for file in files:
        try:
            digest.update(_identity(file).encode())
        except OSError as error:
            raise StorageError(f"{file}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def _identity(file: Path) -> str:
    status = file.stat()
    if status.st_size <= _WHOLE_FILE_BYTES:
        return _sha256(file)
    with file.open("rb") as stream:
        head = stream.read(_SAMPLE_BYTES)
        stream.seek(-_SAMPLE_BYTES, os.SEEK_END)
        ends = hashlib.sha256(head + stream.read()).hexdigest()
    return f"{status.st_size} {status.st_mtime_ns} {ends}"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def atomic_write(path: Path, data: bytes | str) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a mix."""
    with atomic_stream(path) as stream:
        stream.write(data.encode() if isinstance(data, str) else data)


def atomic_create(path: Path, data: str) -> None:
    """Write a file that is not there yet: of several processes that try, one succeeds.

    Raises:
        FileExistsError: it is there.
    """
    whole = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    atomic_write(whole, data)
    try:
        os.link(whole, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without links
        atomic_write(path, data)
    finally:
        whole.unlink()
    sync(path.parent)


@contextlib.contextmanager
def naming_a_full_disk(path: Path) -> Iterator[None]:
    """Say what could not be written for want of space; the system names no file.

    Raises:
        StorageError: the disk or the quota is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise StorageError(f"{path}: no space left to write it; free some or move it") from None


@contextlib.contextmanager
def atomic_stream(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes are the file's new content once the block ends without an error."""
    with atomic_file(path) as partial, partial.open("xb") as stream:
        yield stream


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Where to write a file that takes its place once the block ends without an error."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        yield partial
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def is_free(path: Path) -> bool:
    """Whether nothing is at a path, or a directory with nothing but what a killed write left."""
    if not path.exists():
        return True
    return path.is_dir() and all(file.name.endswith(PARTIAL) for file in path.iterdir())


def is_of_format(path: Path, kind: Format) -> bool:
    """Whether a directory, whole or damaged, says that it is of a format."""
    return bool(manifest_values(path).get("format") == kind)


def manifest_values(path: Path) -> dict[str, Any]:
    """What the manifest of a directory says, unchecked; nothing if it has none."""
    try:
        values = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def sync(path: Path) -> None:
    """Wait until a file or directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
