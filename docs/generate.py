"""Writes docs/reference.md from the code: every command and every setting.

`python docs/generate.py` rewrites the page, with `--check` it only compares and exits with 1 if
the page is out of date.
"""

import argparse
import dataclasses
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path

import docstring_parser

from aqcl.cli import app
from aqcl.describe import Description, Option, describe, names, options_of
from aqcl.experiment import Experiment

PAGE = Path(__file__).parent / "reference.md"
INTRODUCTION = """# Reference

Made from the code by `make docs`; do not edit. `aqcl describe` prints the same in a terminal, also
for parts of your own: `aqcl describe regularizer my_package.losses:MyLoss`.

A setting stands in a TOML file, `[train]` above `lr = 0.01`, or on the command line,
`--set train.lr=0.01`. A key that does not exist is an error that names the nearest one, and so is
a value out of its range. A key without a default is required.

Options of a command stand anywhere behind it. With `--debug` it tells more while it works and shows
where an error came from; `aqcl --version` tells the version.
"""


def main() -> None:
    """Rewrite or compare the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    page = reference()
    if not parser.parse_args().check:
        PAGE.write_text(page, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        sys.exit("docs/reference.md is out of date: run make docs")


def reference() -> str:
    """The whole page."""
    parts = [
        INTRODUCTION,
        "## Commands\n",
        commands(),
        "## Training: the file for `aqcl train`\n",
        table(top_level()),
        *(section("###", describe(kind)) for kind in ("train", "runtime", "search")),
        "## Backbones\n",
        *(section("###", describe("backbone", name)) for name in names("backbone")),
        "## Regularizers\n",
        *(section("###", describe("regularizer", name)) for name in names("regularizer")),
        "## Preparing: `aqcl prepare`\n",
        describe("prepare").summary + "\n",
        table(describe("prepare").options),
        "## Sources of data\n",
        *(section("###", describe("dataset", name)) for name in names("dataset")),
    ]
    return "\n".join(parts)


def top_level() -> list[Option]:
    """The keys of an experiment outside its tables, defaults as the class makes them."""
    defaults = {}
    for field in dataclasses.fields(Experiment):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory()
    return [
        dataclasses.replace(option, default=toml_value(defaults[option.key]))
        if defaults.get(option.key) is not None
        else option
        for option in options_of(Experiment)
        if "." not in option.key
    ]


def toml_value(value: object) -> str:
    """A default as one would write it."""
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items())
        return "{ " + inner + " }" if inner else "{}"
    return f'"{value}"' if isinstance(value, str) else str(value)


def commands() -> str:
    """Every command with its arguments and options, as its own help has them."""
    known = [name for name in app if not name.startswith("-") and app[name].default_command]
    return "\n".join(map(command, known))


def command(name: str) -> str:
    """A command: what it does, and what it takes."""
    found = docstring_parser.parse(inspect.getdoc(app[name].default_command) or "")
    meanings = {one.arg_name: one.description or "" for one in found.params}
    lines = ["| option | default | meaning |", "| --- | --- | --- |"]
    for argument in app[name].assemble_argument_collection():
        field = argument.field_info
        default = "required" if field.required else f"`{field.default}`"
        # A switch, and what may be left out, has none to tell.
        if not field.required and field.default in (field.empty, None, False, ()):
            default = ""
        meaning = " ".join(meanings[field.name].split())
        options = ", ".join(f"`{one}`" for one in argument.names)
        lines.append(f"| {options} | {default} | {meaning} |")
    about = filter(None, (found.short_description, found.long_description))
    return "\n\n".join([f"### `aqcl {name}`", *about, "\n".join(lines)]) + "\n"


def section(level: str, part: Description) -> str:
    """A part with its options; what its constructor takes is for readers of the code."""
    paragraphs = part.summary.split("\n\n")
    summary = "\n\n".join(p for p in paragraphs if not p.startswith("Args:"))
    return f"{level} `{part.name}`\n\n{summary}\n\n{table(part.options)}"


def table(options: Iterable[Option]) -> str:
    """Options as a Markdown table."""
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for option in options:
        default = f"`{option.default}`" if option.default else "required"
        cells = (f"`{option.key}`", option.type, default, option.meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
