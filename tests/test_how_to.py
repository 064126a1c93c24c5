"""The recipes for a new backbone and a new regularizer work as they are written."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a language, those inside lists included."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", page, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(text) for _, text in found]


def follow(kind: str, module: str, root: Path) -> Path:
    """Add what a page says to a copy of the tree; returns the test that it gives."""
    page = (ROOT / "docs" / "how-to" / f"add-a-{kind}.md").read_text(encoding="utf-8")
    code = blocks(page, "python")[0]
    line, text = blocks(page, "py")
    folder, test = (
        root / "src" / "aqcl" / f"{kind}s",
        Path("tests", f"{kind}s", f"test_{module}.py"),
    )
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    (root / test).write_text(text, encoding="utf-8")
    table = (folder / "__init__.py").read_text(encoding="utf-8")
    imported, entry = filter(None, line.split("\n"))
    table = table.replace("\n\n", f"\n\n{imported}\n", 1).rstrip().removesuffix("}")
    (folder / "__init__.py").write_text(f"{table}{entry}\n}}\n", encoding="utf-8")
    return test


@pytest.mark.slow
def test_one_file_a_test_and_a_line_are_enough(tmp_path: Path) -> None:
    for part in ("src", "tests", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    tests = [follow("backbone", "last_click", tmp_path)]
    tests += [follow("regularizer", "consistency", tmp_path)]

    suites = ("backbones", "regularizers", "combinations")
    files = [*tests, *(Path("tests", "contract", f"test_{suite}.py") for suite in suites)]
    words = ["-v", "-p", "no:cacheprovider", "-k", "last-click or last_click or consistency"]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *files],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stdout
    passed = re.findall(r"^(\S+) PASSED", finished.stdout, re.MULTILINE)
    for test, name in zip(tests, ("last-click", "consistency"), strict=True):
        assert any(line.startswith(f"{test}::") for line in passed)
        assert sum("/contract/" in line and name in line for line in passed) > 10
