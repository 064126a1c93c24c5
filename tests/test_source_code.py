"""The fingerprint of the code: the same for the same files, another after any change."""

from pathlib import Path

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
