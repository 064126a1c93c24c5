"""The documentation agrees with the code: the reference page, names, links, the module map."""

import importlib
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aqcl.backbones import BACKBONES
from aqcl.datasets import SOURCES
from aqcl.regularizers import REGULARIZERS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
MODULES = {p.stem for p in (ROOT / "src" / "aqcl").iterdir() if p.suffix == ".py" or p.is_dir()}


def named(text: str) -> set[str]:
    """What stands in back quotes."""
    return set(re.findall(r"`([^`\n]+)`", text))


def anchor(heading: str) -> str:
    """The name under which a heading can be linked to."""
    return re.sub(r"[^\w\s-]", "", heading.lower()).strip().replace(" ", "-")


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
    commands = ["prepare", "train", "search", "evaluate", "compare", "describe"]
    commands += ["interests", "report", "reproduce", "demo"]
    assert [name for name in commands if f"\n### `aqcl {name}`\n" not in page] == []


def test_options_of_commands_stand_with_their_defaults_and_meanings(
    generator: dict[str, Any],
) -> None:
    compare = generator["command"]("compare").splitlines()
    told = "Resamples of the users for the intervals, 100 or more."
    assert f"| `--replicates` | `1000` | {told} |" in compare
    prepare = generator["command"]("prepare").splitlines()
    assert any(
        line.startswith("| `--out`, `-o` | required | Directory to write.") for line in prepare
    )
    assert any(line.startswith("| `--overwrite` |  | Replace another dataset") for line in prepare)


def test_only_the_dataset_of_an_experiment_is_required(generator: dict[str, Any]) -> None:
    defaults = {option.key: option.default for option in generator["top_level"]()}
    assert [key for key, default in defaults.items() if not default] == ["dataset"]
    assert defaults["backbone"] == '{ name = "din" }'


def test_cells_of_tables_are_kept_apart(generator: dict[str, Any]) -> None:
    option = generator["Option"]("a.b", "x | y", "", "one | two")
    row = generator["table"]([option]).splitlines()[2]
    assert row == "| `a.b` | x \\| y | required | one \\| two |"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, heading = target.partition("#")
        linked = (page.parent / name) if name else page
        assert linked.exists(), target
        if heading:
            lines = linked.read_text(encoding="utf-8").splitlines()
            assert heading in {anchor(line.lstrip("#")) for line in lines if line[:1] == "#"}


def test_the_module_map_is_complete() -> None:
    table = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## Modules")[2]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    mapped = set().union(*map(named, rows))
    assert mapped == MODULES - {"__init__", "__pycache__", "py"}


@pytest.mark.parametrize("package", ["datasets", "prepare", "reproduce", "report", "search"])
def test_the_module_map_names_the_modules_of_a_package(package: str) -> None:
    table = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## Modules")[2]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    (row,) = (row for row in rows if package in named(row.split("|")[1]))
    modules = {path.stem for path in (ROOT / "src" / "aqcl" / package).glob("*.py")}
    assert modules - {"__init__"} <= named(row)


def test_the_readme_names_every_part() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## What is there")[2].partition("\n## ")[0]
    written = re.sub(r"[^a-z0-9]", "", section.lower())
    keys = [*BACKBONES, *REGULARIZERS, *SOURCES]
    assert [key for key in keys if key.replace("-", "") not in written] == []


def test_the_index_of_experiments_is_complete() -> None:
    index = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    files = [
        path.name for path in (ROOT / "experiments").iterdir() if path.suffix in (".py", ".toml")
    ]
    results = [f"results/{path.name}" for path in (ROOT / "results").iterdir()]
    same = {f"results/{name.removesuffix('.toml')}.json" for name in files}
    assert [name for name in files if f"`{name}`" not in index] == []
    assert [name for name in results if name not in index and name not in same] == []


def test_every_function_in_the_table_of_equations_exists() -> None:
    page = (DOCS / "method.md").read_text(encoding="utf-8")
    table = page.partition("## Equation to function")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| eq.")]
    assert len(rows) == 9
    assert [row for row in rows if not any("." in name for name in named(row))] == []
    names = {name for name in named(table) if "." in name and "/" not in name}
    assert len(names) > 15
    for name in names:
        found: Any = importlib.import_module("aqcl")
        for part in name.split("."):
            if not hasattr(found, part):
                found = importlib.import_module(f"{found.__name__}.{part}")
            else:
                found = getattr(found, part)
        assert callable(found), name


def test_public_names_come_without_importing_torch_first() -> None:
    program = (
        "import sys, aqcl; assert 'torch' not in sys.modules; "
        "[getattr(aqcl, name) for name in aqcl.__all__]; assert 'torch' in sys.modules; "
        "assert aqcl.AQCL(latent_dim=4, mean_activity=1.0).codebook.shape == (128, 64)"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_other_names_are_refused() -> None:
    aqcl: Any = importlib.import_module("aqcl")
    with pytest.raises(AttributeError, match="no attribute 'AQCLoss'"):
        _ = aqcl.AQCLoss


SHELL = [
    (page, line)
    for page in PAGES
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for line in map(str.strip, block.replace("\\\n", " ").splitlines())
    if line.startswith("aqcl ") and "--help" not in line
]


@pytest.mark.parametrize(("page", "line"), SHELL, ids=lambda part: str(part)[-40:])
def test_commands_on_pages_have_the_options_that_they_show(page: Path, line: str) -> None:
    from aqcl.cli import app

    words = shlex.split(line, comments=True)[1:]
    app.parse_args(words, exit_on_error=False, print_error=False)
