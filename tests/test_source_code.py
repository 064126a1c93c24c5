"""The fingerprint of the code: the same for the same files, another after any change."""

from pathlib import Path

import pytest

from aqcl import source_code
from aqcl.source_code import code_fingerprint, fingerprint_of


def test_any_change_of_the_code_gives_another_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    files = {"a.py": "x = 1\n", "part/b.py": ""}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = [fingerprint_of(tmp_path)]
    (tmp_path / "notes.txt").write_text("no code\n")
    assert fingerprint_of(tmp_path) == found[0]

    (tmp_path / "a.py").write_text("x = 2\n")
    found.append(fingerprint_of(tmp_path))
    (tmp_path / "a.py").rename(tmp_path / "part" / "a.py")
    found.append(fingerprint_of(tmp_path))
    (tmp_path / "part" / "b.py").unlink()
    found.append(fingerprint_of(tmp_path))

    assert len(set(found)) == len(found)
    assert all(len(one) == 12 for one in found)


def test_this_package_has_one() -> None:
    assert code_fingerprint() == fingerprint_of(Path(__file__).parents[1] / "src" / "aqcl")


def test_a_run_knows_all_states_of_the_code_that_trained_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known: list[str] = []
    for code, told in (("one", 0), ("one", 0), ("two", 1)):
        monkeypatch.setattr(source_code, "code_fingerprint", lambda code=code: code)
        source_code.note_code(known, Path("run"))
        assert len(caplog.messages) == told
    assert known == ["one", "two"]
    assert "run was trained by another state of the code before (one, now two)" in caplog.text
