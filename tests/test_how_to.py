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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "module", "name", "suites"),
    [
        ("backbone", "last_click", "last-click", ["test_backbones", "test_combinations"]),
        ("regularizer", "consistency", "consistency", ["test_regularizers", "test_combinations"]),
    ],
)
def test_one_file_a_test_and_a_line_are_enough(
    kind: str, module: str, name: str, suites: list[str], tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "how-to" / f"add-a-{kind}.md").read_text(encoding="utf-8")
    code = blocks(page, "python")[0]
    line, test = blocks(page, "py")
    for part in ("src", "tests", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    folder = tmp_path / "src" / "aqcl" / f"{kind}s"
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    (tmp_path / "tests" / f"{kind}s" / f"test_{module}.py").write_text(test, encoding="utf-8")
    table = (folder / "__init__.py").read_text(encoding="utf-8")
    imported, entry = filter(None, line.split("\n"))
    table = table.replace("\n\n", f"\n\n{imported}\n", 1).rstrip().removesuffix("}")
    (folder / "__init__.py").write_text(f"{table}{entry}\n}}\n", encoding="utf-8")

    files = [f"tests/contract/{suite}.py" for suite in suites]
    words = ["-q", "-p", "no:cacheprovider", "-k", f"{name} or {module}"]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *files, f"tests/{kind}s/test_{module}.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stdout
    passed = re.search(r"(\d+) passed", finished.stdout)
    assert passed
    assert int(passed[1]) > 10
