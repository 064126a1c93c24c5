"""Directories are whole or absent, and say what is wrong with them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aqcl import storage
from aqcl.directories import write_directory
from aqcl.errors import StorageError
from aqcl.storage import (
    Manifest,
    atomic_write,
    fingerprint,
    read_manifest,
    write_manifest,
)

PLAIN = Manifest(format="aqcl-dataset", fingerprint="f", settings={"a": 1}, content={"n": 2})


@pytest.fixture(scope="module", autouse=True)
def _durable(no_fsync: Callable[[int], None]) -> Iterator[None]:
    """Files reach the disk, as they do outside the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", no_fsync)
        yield


def _write(out: Path, text: str = "text") -> Manifest:
    with write_directory(out, "aqcl-dataset") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "data.txt").write_text(text)
        return write_manifest(folder, PLAIN)


def test_manifest_survives_the_disk(tmp_path: Path) -> None:
    written = _write(tmp_path / "out")

    assert read_manifest(tmp_path / "out", "aqcl-dataset", verify=True) == written
    assert (written.settings, written.content, written.fingerprint) == ({"a": 1}, {"n": 2}, "f")
    assert list(written.files) == ["inner/data.txt"]
    assert written.files["inner/data.txt"]["size"] == 4
    assert written.format_version == 1


def test_parents_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    _write(tmp_path / "new" / "parent" / "out")

    assert [p.name for p in (tmp_path / "new" / "parent").iterdir()] == ["out"]


def test_a_manifest_skips_the_remains_of_a_killed_write(tmp_path: Path) -> None:
    (tmp_path / ".log.jsonl.1234.partial").write_text("half")
    (tmp_path / "log.jsonl").write_text("whole")

    assert list(write_manifest(tmp_path, PLAIN).files) == ["log.jsonl"]


def test_everything_is_on_the_disk_before_it_is_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, bool] = {}

    def note(descriptor: int) -> None:
        synced[os.fstat(descriptor).st_ino] = (tmp_path / "out").exists()

    monkeypatch.setattr(os, "fsync", note)
    _write(tmp_path / "out")

    out = tmp_path / "out"
    before = [out, *out.rglob("*")]
    assert [synced[path.stat().st_ino] for path in before] == [False] * 4
    assert synced[tmp_path.stat().st_ino]  # the rename itself


def test_an_error_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    _write(tmp_path / "out", "old")

    def fail() -> None:
        with write_directory(tmp_path / "out", "aqcl-dataset") as folder:
            (folder / "data.txt").write_text("new")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "inner" / "data.txt").read_text() == "old"


def test_what_was_moved_out_of_the_way_by_a_killed_process_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "out", "old")
    renames = []
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        renames.append(path)
        if len(renames) == 2:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            _write(tmp_path / "out", "new")
    assert not (tmp_path / "out").exists()
    with pytest.raises(RuntimeError), write_directory(tmp_path / "out", "aqcl-dataset"):
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "inner" / "data.txt").read_text() == "old"


def test_a_directory_without_manifest_is_not_put_in_place(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"has no manifest\.json"),
        write_directory(tmp_path / "out", "aqcl-dataset") as folder,
    ):
        (folder / "data.txt").write_text("text")
    assert not list(tmp_path.iterdir())


def test_an_older_one_of_the_same_kind_is_replaced_whole(tmp_path: Path) -> None:
    _write(tmp_path / "out", "old")
    (tmp_path / "out" / ".data.txt.1234.partial").touch()  # of a killed write

    _write(tmp_path / "out", "new")

    assert (tmp_path / "out" / "inner" / "data.txt").read_text() == "new"
    assert not (tmp_path / "out" / ".data.txt.1234.partial").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("place", ["clicks.csv", "inner/notes.txt", "runs/din/config.toml"])
def test_what_a_user_has_put_there_keeps_a_directory_from_being_replaced(
    tmp_path: Path, place: str
) -> None:
    out = tmp_path / "out"
    _write(out, "old")
    precious = out / place
    precious.parent.mkdir(parents=True, exist_ok=True)
    precious.write_text("the only copy")

    with pytest.raises(StorageError, match=f"{place}: does not belong to the aqcl-dataset"):
        _write(out, "new")

    assert precious.read_text() == "the only copy"
    assert (out / "inner" / "data.txt").read_text() == "old"


def test_nor_is_it_replaced_where_something_was_put_meanwhile(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _write(out, "old")

    def write() -> None:
        with write_directory(out, "aqcl-dataset") as folder:
            write_manifest(folder, PLAIN)
            (out / "late").touch()

    with pytest.raises(StorageError, match="late: does not belong"):
        write()
    assert (out / "late").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"format": "aqcl-run"}', None])
def test_anything_else_is_not_replaced(tmp_path: Path, content: str | None) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").touch()
    if content is not None:
        (out / "manifest.json").write_text(content)

    with pytest.raises(StorageError, match="not of format aqcl-dataset"):
        _write(out)
    assert (out / "precious").exists()


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")

    with pytest.raises(StorageError, match="choose another path"):
        _write(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("inside", [".", "deeper"])
def test_where_one_stands_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    out = tmp_path / "out"
    (out / inside).mkdir(parents=True)
    monkeypatch.chdir(out / inside)
    message = "is the current directory, above it or a mount point"
    with pytest.raises(StorageError, match=message), write_directory(out, "aqcl-dataset"):
        pass
    assert out.is_dir()


def test_a_mount_point_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.ismount", lambda path: path == tmp_path / "out")
    with pytest.raises(StorageError, match=r"out: is the .* or a mount point"):
        _write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_current_directory_that_was_removed_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    _write(tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").exists()
    monkeypatch.undo()  # before the current directory is asked for again


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match=r"file/out: cannot be written"):
        _write(tmp_path / "file" / "out")


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    out = tmp_path / "a [b]*"  # the name is no pattern
    script = (
        "import os, pathlib, signal, sys\n"
        "from aqcl.directories import write_directory\n"
        "with write_directory(pathlib.Path(sys.argv[1]), 'aqcl-dataset') as folder:\n"
        "    (folder / 'data').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    source = str(Path(storage.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script, str(out)],
        env={**os.environ, "PYTHONPATH": source},
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert len(list(tmp_path.iterdir())) == 1

    _write(out)

    assert list(tmp_path.iterdir()) == [out]


def test_a_directory_being_written_is_left_alone_by_another_writer(tmp_path: Path) -> None:
    with write_directory(tmp_path / "out", "aqcl-dataset") as folder:
        _write(tmp_path / "out", "other")
        assert folder.is_dir()
        (folder / "data.txt").write_text("mine")
        write_manifest(folder, PLAIN)
    assert (tmp_path / "out" / "data.txt").read_text() == "mine"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "out")
    (tmp_path / "out" / "inner" / "data.txt").unlink()

    with pytest.raises(StorageError, match=r"inner/data\.txt: this file is missing"):
        read_manifest(tmp_path / "out", "aqcl-dataset")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "out")
    (tmp_path / "out" / "inner" / "data.txt").write_text("tex")

    with pytest.raises(StorageError, match=r"inner/data\.txt: expected 4 bytes, got 3"):
        read_manifest(tmp_path / "out", "aqcl-dataset")


def test_a_changed_file_is_found_only_by_its_checksum(tmp_path: Path) -> None:
    _write(tmp_path / "out")
    (tmp_path / "out" / "inner" / "data.txt").write_text("next")

    read_manifest(tmp_path / "out", "aqcl-dataset")
    with pytest.raises(StorageError, match=r"inner/data\.txt: the checksum differs"):
        read_manifest(tmp_path / "out", "aqcl-dataset", verify=True)


def _edit(path: Path, **values: object) -> None:
    file = path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_another_format_or_version_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "out")

    with pytest.raises(StorageError, match="aqcl-run, made by `aqcl train`, this is aqcl-dataset"):
        read_manifest(tmp_path / "out", "aqcl-run")
    _edit(tmp_path / "out", format_version=2, package_version="9.9")
    with pytest.raises(StorageError, match=r"format_version 2 was written by aqcl 9\.9"):
        read_manifest(tmp_path / "out", "aqcl-dataset")


def test_odd_manifests_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "out")
    _edit(tmp_path / "out", surprise=1)
    with pytest.raises(StorageError, match="unexpected keys: surprise"):
        read_manifest(tmp_path / "out", "aqcl-dataset")
    (tmp_path / "out" / "manifest.json").write_text("{")
    with pytest.raises(StorageError, match="not JSON"):
        read_manifest(tmp_path / "out", "aqcl-dataset")
    with pytest.raises(StorageError, match="nowhere: is no directory"):
        read_manifest(tmp_path / "nowhere", "aqcl-dataset")


def test_atomic_write_replaces_or_leaves_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic_write(tmp_path / "file", "grüße")
    atomic_write(tmp_path / "file", b"\x00\xff")
    assert (tmp_path / "file").read_bytes() == b"\x00\xff"

    def refuse(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="no"):
        atomic_write(tmp_path / "file", "half")
    assert (tmp_path / "file").read_bytes() == b"\x00\xff"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_fingerprint_follows_settings_and_content_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("same")
    second.write_text("same")
    one = fingerprint({"x": 1, "y": [2]}, [first])

    assert one == fingerprint({"y": [2], "x": 1}, [second])
    assert one != fingerprint({"x": 2, "y": [2]}, [first])
    assert one != fingerprint({"x": 1, "y": [2]}, [first, second])
    second.write_text("else")
    assert one != fingerprint({"x": 1, "y": [2]}, [second])
    with pytest.raises(StorageError, match="missing: cannot be read"):
        fingerprint({}, [tmp_path / "missing"])


def test_fingerprint_of_a_large_file_sees_both_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_WHOLE_FILE_BYTES", 10)
    monkeypatch.setattr(storage, "_SAMPLE_BYTES", 4)
    file = tmp_path / "large"
    prints = set()
    for text in ("0123456789abcd", "x123456789abcd", "0123456789abcx", "0123456789abcde"):
        file.write_text(text)
        os.utime(file, ns=(1, 1))
        prints.add(fingerprint({}, [file]))
    os.utime(file, ns=(2, 2))
    prints.add(fingerprint({}, [file]))
    assert len(prints) == 5
