"""What a part of aqcl does and which options it takes, from the code itself."""

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from aqcl.config import choose
from aqcl.errors import ConfigError
from aqcl.search.files import STUDY, read_findings
from aqcl.storage import MANIFEST

Kind = Literal["backbone", "regularizer", "dataset", "train", "runtime", "search", "prepare"]
KINDS: tuple[Kind, ...] = (
    "backbone",
    "regularizer",
    "dataset",
    "train",
    "runtime",
    "search",
    "prepare",
)


@dataclass(frozen=True)
class Option:
    """One key of a configuration."""

    key: str
    type: str
    default: str
    """As TOML or JSON would write it; empty where the key is required."""
    meaning: str


@dataclass(frozen=True)
class Description:
    """A part with its options."""

    name: str
    summary: str
    options: tuple[Option, ...]
    prefix: str = ""
    """What all keys begin with, such as `backbone.`."""

    @property
    def headline(self) -> str:
        """The first paragraph, on one line."""
        return " ".join(self.summary.partition("\n\n")[0].split())

    @property
    def reference(self) -> str:
        """The papers that it is from; empty where none is named."""
        _, _, after = self.summary.partition("Reference: ")
        return " ".join(after.partition("\n\n")[0].split()).removesuffix(".")


def names(kind: Kind) -> list[str]:
    """The parts of a kind."""
    if kind == "backbone":
        from aqcl.backbones import BACKBONES

        return list(BACKBONES)
    if kind == "regularizer":
        from aqcl.regularizers import REGULARIZERS

        return list(REGULARIZERS)
    if kind == "dataset":
        from aqcl.datasets import SOURCES

        return list(SOURCES)
    return [kind]


def describe(kind: Kind, name: str | None = None) -> Description:
    """Describe a part.

    Args:
        kind: what it is.
        name: its name in the table, or an import path; not needed for `train`, `runtime`,
            `search`, `prepare`.

    Raises:
        ConfigError: there is no such part.
    """
    if kind == "dataset":
        from aqcl.datasets import SOURCES

        source = choose(SOURCES, name or "", "dataset")
        paper = f"Reference: {source.citation}" if source.citation else ""
        text = "\n\n".join(filter(None, [source.description, paper]))
        return _described(name or "", text, source.settings, "source.")
    if kind == "backbone":
        from aqcl.experiment import find_backbone

        found: Any = find_backbone(name or "")
        return _described(name or "", _text(found), found.Options, "backbone.")
    if kind == "regularizer":
        from aqcl.experiment import find_regularizer

        found = find_regularizer(name or "")
        return _described(name or "", _text(found), found.Options, f"regularizer.{_quoted(name)}.")
    return _describe_section(kind)


def _describe_section(kind: Kind) -> Description:
    if kind == "prepare":
        from aqcl.prepare.pipeline import PrepareSettings

        return _described(kind, _text(PrepareSettings), PrepareSettings, "")
    from aqcl.experiment import RuntimeOptions, TrainOptions
    from aqcl.search.space import SearchOptions

    sections = {"train": TrainOptions, "runtime": RuntimeOptions, "search": SearchOptions}
    cls: type[Any] = sections[kind]
    return _described(kind, _text(cls), cls, f"{kind}.")


def _described(name: str, summary: str, options: type[Any], prefix: str) -> Description:
    return Description(name, summary, options_of(options, prefix), prefix)


def describe_directory(path: Path) -> dict[str, Any]:
    """What a dataset, run or study directory holds, as plain values.

    Raises:
        StorageError: it is none of them, unfinished or damaged.
        ConfigError: there is no such directory.
    """
    from aqcl.dataset import open_dataset
    from aqcl.runs import CONFIG, open_run

    if not path.is_dir():
        raise ConfigError(
            f"'{path}' is neither a directory nor one of: {', '.join(KINDS)}; for example "
            "`aqcl describe backbone din`"
        )
    found: dict[str, Any]
    kind = _format_at(path)
    if kind == "aqcl-run" or (kind is None and (path / CONFIG).exists()):
        from aqcl.experiment import own_settings

        run = open_run(path)
        manifest = run.manifest
        found = {"experiment": own_settings(run.experiment), "metrics": run.metrics()}
    elif kind == "aqcl-study" or (kind is None and (path / STUDY).exists()):
        return _describe_study(path)
    else:
        dataset = open_dataset(path)
        manifest = dataset.manifest
        found = {"dates": dataset.dates()}
    return {
        "path": str(path),
        "format": manifest.format,
        "package_version": manifest.package_version,
        "fingerprint": manifest.fingerprint,
        "settings": manifest.settings,
        "source": manifest.source,
        **found,
        **manifest.content,
    }


def _format_at(path: Path) -> str | None:
    """What the manifest of a directory says that it is; None where there is none to read."""
    try:
        return str(json.loads((path / MANIFEST).read_text(encoding="utf-8"))["format"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _describe_study(path: Path) -> dict[str, Any]:
    manifest, found = read_findings(path)
    return {
        "path": str(path),
        "format": manifest.format,
        "fingerprint": manifest.fingerprint,
        "settings": manifest.settings,
        "source": manifest.source,
        **found,
    }


def options_of(cls: type[Any], prefix: str = "") -> tuple[Option, ...]:
    """The keys of a configuration class, nested ones with dotted names."""
    schema = TypeAdapter(cls).json_schema()
    # The schema knows the documentation of a class's own fields, not that of inherited ones.
    for base in cls.__mro__:
        for name, field in getattr(base, "__pydantic_fields__", {}).items():
            if field.description:
                schema["properties"][name].setdefault("description", field.description)
    return tuple(_options(schema, schema.get("$defs", {}), prefix))


def _options(schema: dict[str, Any], defs: dict[str, Any], prefix: str) -> list[Option]:
    found = []
    for key, entry in schema.get("properties", {}).items():
        target = _reference(entry, defs)
        if target is not None and "properties" in target:
            found += _options(target, defs, f"{prefix}{key}.")
            continue
        default = "" if key in schema.get("required", []) else _shown(entry.get("default", {}))
        meaning = " ".join(str(entry.get("description", "")).split())
        found.append(Option(prefix + key, _type(entry, defs), default, meaning))
    return found


def _reference(entry: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any] | None:
    path = entry.get("$ref") or next((e["$ref"] for e in entry.get("allOf", ())), None)
    return defs.get(path.rsplit("/", 1)[-1]) if path else None


def _type(entry: dict[str, Any], defs: dict[str, Any]) -> str:
    entry = _reference(entry, defs) or entry
    if "anyOf" in entry:
        kinds = (_type(one, defs) for one in entry["anyOf"] if one.get("type") != "null")
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in entry:
        return " | ".join(map(str, entry["enum"]))
    if "const" in entry:
        return str(entry["const"])
    name = {"object": "table", "array": "list", "number": "float", "string": "text"}.get(
        entry.get("type", ""), entry.get("type", "value")
    )
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    # That 64 bits hold a number is no bound of its own.
    told = {key: entry[key] for key in signs if key in entry and abs(entry[key]) < 2**63}
    bounds = [f"{signs[key]} {bound:g}" for key, bound in told.items()]
    return " ".join([name, ", ".join(bounds)]).strip()


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if value == "":
        return '""'
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(name: str | None) -> str:
    """A table's name as TOML and --set take it: an import path stands in quotes."""
    return f'"{name}"' if name and ":" in name else name or ""


def _text(cls: type[Any]) -> str:
    """What a class is for, without the arguments of its constructor."""
    paragraphs = (inspect.getdoc(cls) or "").split("\n\n")
    return "\n\n".join(text for text in paragraphs if not text.startswith("Args:"))
