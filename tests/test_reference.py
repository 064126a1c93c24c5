"""docs/reference.md is what docs/generate.py makes of the code now."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from aqcl.backbones import BACKBONES
from aqcl.datasets import SOURCES
from aqcl.regularizers import REGULARIZERS

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "generate.py"))


def test_reference_page_is_up_to_date(generator: dict[str, Any]) -> None:
    page = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert page == generator["reference"](), "docs/reference.md is out of date: run make docs"


def test_every_part_and_command_is_on_the_page(generator: dict[str, Any]) -> None:
    page = generator["reference"]()
    parts = [*BACKBONES, *REGULARIZERS, *SOURCES]
    assert [name for name in parts if f"\n### `{name}`\n" not in page] == []
    commands = ["prepare", "train", "evaluate", "compare", "describe", "demo"]
    assert [name for name in commands if f"\n| `aqcl {name}` | " not in page] == []


def test_cells_of_tables_are_kept_apart(generator: dict[str, Any]) -> None:
    option = generator["Option"]("a.b", "x | y", "", "one | two")
    row = generator["table"]([option]).splitlines()[2]
    assert row == "| `a.b` | x \\| y | required | one \\| two |"
