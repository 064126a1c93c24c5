"""The recipes for new parts and for scores of new requests work as they are written."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
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


@pytest.mark.parametrize("kind", ["backbone", "dataset", "regularizer"])
def test_a_module_of_a_page_passes_the_checks_of_the_package(kind: str, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / f"add-a-{kind}.md").read_text(encoding="utf-8")
    module = tmp_path / "src" / "aqcl" / "mine.py"
    module.parent.mkdir(parents=True)
    module.write_text(blocks(page, "python")[0], encoding="utf-8")
    settings = ("--config", ROOT / "pyproject.toml", "--no-cache")
    for check in (("check",), ("format", "--diff")):
        words = [sys.executable, "-m", "ruff", *check, *settings, module]
        found = subprocess.run(words, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr


def test_a_request_scores_as_the_same_test_row_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "how-to" / "use-scores.md").read_text(encoding="utf-8")
    settings = '"train": {"epochs": 1}'
    assert settings in page
    # Scores that differ, and histories that are cut.
    page = page.replace(settings, '"train": {"epochs": 4, "lr": 0.01, "max_history": 5}')
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec("\n".join(blocks(page, "python")), found)
    test, names = found["dataset"].test, found["names"]
    lengths = test.columns["history_length"]
    longest, shortest = int(lengths.argmax()), int(lengths.argmin())
    assert lengths[longest] > 5 > lengths[shortest] == 0
    for row in (longest, shortest):
        batch = test.batch(np.array([row]), max_history=1000)
        ids = {"user": batch.user, "item": batch.item, "position": batch.context["position"]}
        raw = {name: str(names[name].decode(id_.numpy())[0]) for name, id_ in ids.items()}
        clicks = [str(item) for item in names["item"].decode(batch.history.numpy())]

        scores = found["score"](raw["user"], [raw["item"], "new"], clicks, position=raw["position"])

        assert scores[0] == pytest.approx(found["run"].predictions("test").score[row], abs=1e-6)
        assert scores[1] != pytest.approx(scores[0], abs=1e-4)
