"""Promises about the project as a whole: its text, its layout, its version, its documentation."""

import importlib.metadata
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

import aqcl

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = [page for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))] if page.exists()]

MAX_LINES = 400
VAGUE_NAMES = {"util", "utils", "helper", "helpers", "common", "misc", "base", "manager"}
# The lookbehind spares relative paths and addresses, such as docs/work/ or example.org/home/.
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.~-])/(?:work|root|home|Users|mnt|opt|tmp)/\w",
    "a package index": r"\b(?:test\.)?pypi\.org|pythonhosted\.org|download\.pytorch\.org",
    "a tracker number": r"(?i)\b(?:issue|ticket|pr|pull request)\s*#\d+",
}


def tracked_files() -> list[Path]:
    """The files that git tracks or would track, so that a new file is checked before its commit."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = [git, "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def forbidden_in(text: str) -> list[str]:
    return [
        f"line {number}: {what}: {match.group()!r}"
        for number, line in enumerate(text.splitlines(), start=1)
        for what, pattern in FORBIDDEN.items()
        if (match := re.search(pattern, line))
    ]


def notes_in(source: str) -> list[str]:
    """The text of each NOTE[DIFF], which runs to the end of its comment block or paragraph."""
    notes: list[str] = []
    lines = source.splitlines()
    for start, first in enumerate(lines):
        before, mark, text = first.partition("NOTE[DIFF]:")
        if not mark:
            continue
        words = [text]
        for line in lines[start + 1 :]:
            comment = line.strip().startswith("#")
            if ("#" in before) != comment or '"""' in words[-1] or not line.strip(" #"):
                break
            words.append(line.strip().lstrip("#"))
        notes.append(" ".join(" ".join(words).split('"""')[0].split()))
    return notes


def items_in(page: str) -> list[tuple[str, str]]:
    """Module and text of each list item of the page of deviations."""
    found = re.findall(r"^- `([\w.]+)`:(.*(?:\n[ ]+\S.*)*)", page, re.MULTILINE)
    return [(module, " ".join(text.split())) for module, text in found]


def python_blocks(page: str) -> str:
    """The Python blocks of a page as one program, each line at its line number in the page."""
    kept, inside = [], False
    for line in page.splitlines():
        if inside and line.startswith("```"):
            inside = False
        kept.append(line if inside else "")
        inside = inside or line.rstrip() == "```python"
    return "\n".join(kept)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def test_text_speaks_of_the_project_alone() -> None:
    problems = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not text
        problems += [f"{path.relative_to(ROOT)}, {found}" for found in forbidden_in(text)]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    "parts",
    [
        ("see ", "/ho", "me/me/data.csv"),
        ('"', "/wo", "rk/main"),
        ("https://py", "pi.org/simple"),
        ("fixes issue ", "#12"),
    ],
    ids="".join,
)
def test_forbidden_text_is_found(parts: tuple[str, ...]) -> None:
    assert len(forbidden_in("fine\n" + "".join(parts))) == 1


@pytest.mark.parametrize(
    "text", ["docs/work/notes.md", "https://example.org/home/x", "open an issue", "a user session"]
)
def test_ordinary_text_is_not_forbidden(text: str) -> None:
    assert forbidden_in(text) == []


def test_file_names_say_what_the_file_holds() -> None:
    vague = [
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if path.suffix == ".py" and VAGUE_NAMES & set(path.stem.lower().split("_"))
    ]
    assert vague == [], f"name each after the one idea it holds: {vague}"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_source_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_every_deviation_is_listed() -> None:
    noted = {
        (module_name(path), note)
        for path in SOURCES
        for note in notes_in(path.read_text(encoding="utf-8"))
    }
    listed = set(items_in((ROOT / "docs" / "deviations.md").read_text(encoding="utf-8")))
    add = [f"add     - `{module}`: {note}" for module, note in sorted(noted - listed)]
    remove = [f"remove  - `{module}`: {note}" for module, note in sorted(listed - noted)]
    assert add + remove == [], "docs/deviations.md differs:\n" + "\n".join(add + remove)


def test_notes_end_with_their_comment_or_paragraph() -> None:
    source = '''
    """Words.

    NOTE[DIFF]: one
    two.

    More words.
    """
    # NOTE[DIFF]: three
    # four.
    x = 1  # NOTE[DIFF]: five.
    y = 2
    # NOTE[DIFF]: six.
    #
    # Seven.
    """NOTE[DIFF]: eight."""
    z = 3
    """NOTE[DIFF]: nine
    ten."""
    z = 3
    '''
    assert notes_in(source) == ["one two.", "three four.", "five.", "six.", "eight.", "nine ten."]


def test_items_may_be_wrapped() -> None:
    page = "# Title\n\n- `aqcl.a`: one\n  two.\n- `aqcl.b`: three\n\nWords.\n"
    assert items_in(page) == [("aqcl.a", "one two."), ("aqcl.b", "three")]


def test_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "src/aqcl/__init__.py"
    quoted = f'"{aqcl.__version__}"'
    holders = [p for p in SOURCES if quoted in p.read_text(encoding="utf-8")]
    assert holders == [ROOT / "src" / "aqcl" / "__init__.py"]
    assert importlib.metadata.version("aqcl") == aqcl.__version__


def test_constraints_pin_every_dependency() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([\w.-]+)==[\w.]+$", pins.replace("_", "-").lower(), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(name for extra in extras for name in extra)]
    names = {re.split(r"[^\w-]", name.lower(), maxsplit=1)[0] for name in wanted} - {"aqcl"}
    assert names <= pinned, f"pin in constraints.txt: {sorted(names - pinned)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_documented_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run in order, in one namespace and an empty directory."""
    program = python_blocks(page.read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    exec(compile(program, str(page), "exec"), {"__name__": "__main__"})


def test_python_blocks_keep_their_line_numbers() -> None:
    page = "# Title\n```python\na = 1\n```\n```sh\nrm x\n```\n```python\nb = a\n```\n"
    assert python_blocks(page).split("\n") == ["", "", "a = 1", "", "", "", "", "", "b = a", ""]
