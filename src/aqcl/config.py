"""Strict typed configuration: TOML files, dotted overrides, did-you-mean errors.

A configuration is a frozen pydantic dataclass; every default stands in the class and nowhere
else. Unknown keys and values out of range are errors, and all problems are reported at once.
"""

import dataclasses
import difflib
import functools
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, dataclass_transform

import tomli_w
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from aqcl.errors import ConfigError

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def settings(cls: type[T]) -> type[T]:
    """Decorator for a configuration class; a field's documentation stands under the field.

    One made by hand with an unknown key or a bad value is a `ConfigError`, as one made by `build`.
    """
    strict = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    made: Any = dataclass(frozen=True, config=strict)(cls)
    validate = made.__init__

    @functools.wraps(validate)
    def init(self: T, *args: Any, **values: Any) -> None:
        try:
            validate(self, *args, **values)
        except ValidationError as error:
            raise _told(made, error, "") from None

    made.__init__ = init
    return cast(type[T], made)


def options_of(cls: type[T], options: T | None) -> T:
    """Settings that a caller in Python has made, or the defaults.

    Raises:
        ConfigError: an object of another class.
    """
    if options is not None and not isinstance(options, cls):
        raise ConfigError(
            f"options: expected {cls.__name__}, got {type(options).__name__}; make them as "
            f"{cls.__name__}(...)"
        )
    return cls() if options is None else options


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The known words, the nearest first if one is near: the last sentence of an error."""
    names = sorted(known)
    hint = _nearest(word, names)
    return f"{f'{hint} ' if hint else ''}known: {', '.join(names)}"


def _nearest(word: str, names: Iterable[str]) -> str:
    """A question for the nearest of them; empty if none is near."""
    near = difflib.get_close_matches(word, list(names), n=1)
    return f"did you mean '{near[0]}'?" if near else ""


def choose(table: Mapping[str, T], name: str, where: str) -> T:
    """Look a name up in a table of backbones, regularizers, sources...

    Raises:
        ConfigError: the name is not in the table.
    """
    if name not in table:
        raise ConfigError(f"{where} = '{name}' does not exist; {did_you_mean(name, table)}")
    return table[name]


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Make a configuration object from plain values.

    Args:
        cls: a class decorated with `settings`.
        values: keys and values as read from TOML.
        where: dotted prefix named in errors, such as `backbone`.

    Raises:
        ConfigError: every unknown key, missing key and bad value, one line each.
    """
    try:
        made = TypeAdapter(cls).validate_python(dict(values))
    except ValidationError as error:
        raise _told(cls, error, where) from None
    if lines := list(_bools_as_numbers(values, made, where)):
        raise ConfigError("\n".join(lines))
    return made


def check_keys(cls: type[Any], values: Mapping[str, Any], where: str = "") -> None:
    """Check each key on its own, where rules between keys wait for keys that are added later.

    Args:
        cls: a class decorated with `settings`.
        values: keys and values as read from TOML.
        where: dotted prefix named in errors.

    Raises:
        ConfigError: every unknown key and bad value, one line each.
    """
    try:
        TypeAdapter(cls).validate_python(dict(values))
    except ValidationError as error:
        found = [dict(one) for one in error.errors() if one["type"] != "value_error"]
        if found:
            raise ConfigError("\n".join(_problem(cls, one, where) for one in found)) from None


def _bools_as_numbers(given: Any, made: Any, path: str) -> Iterator[str]:
    """Where pydantic took true for 1 or false for 0, one line each."""
    if isinstance(given, Mapping) and dataclasses.is_dataclass(made):
        for key, value in given.items():
            yield from _bools_as_numbers(value, getattr(made, key), f"{path}.{key}".lstrip("."))
    elif isinstance(given, list) and isinstance(made, tuple):
        for number, pair in enumerate(zip(given, made, strict=True)):
            yield from _bools_as_numbers(*pair, f"{path}.{number}")
    elif isinstance(given, bool) and not isinstance(made, bool):
        yield f"{path}: expected a number, got {given}"


def _told(cls: type[Any], error: ValidationError, where: str) -> ConfigError:
    """What is wrong, one line each."""
    return ConfigError("\n".join(_problem(cls, dict(found), where) for found in error.errors()))


def _problem(cls: type[Any], detail: dict[str, Any], where: str) -> str:
    path = ".".join(str(part) for part in (*filter(None, [where]), *detail["loc"]))
    key = str(detail["loc"][-1]) if detail["loc"] else ""
    if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = did_you_mean(key, _fields_at(cls, detail["loc"][:-1]))
        # A key of that very name in another table, before one that is alike in this.
        others = [name for name in _paths(cls) if name.rpartition(".")[2] == key]
        if others:
            known = f"did you mean '{'.'.join(filter(None, [where, others[0]]))}'?"
        return f"{path}: unknown key; {known}"
    if detail["type"] in ("missing", "missing_argument"):
        return f"{path}: this key is required; set it in the file or with --set {path}=..."
    if detail["type"] in ("dict_type", "dataclass_type"):
        return (
            f"{path}: expected a table, got {detail['input']!r}; set its keys, as {path}.KEY = ..."
        )
    if detail["type"] == "value_error":  # of a check of ours, which says all there is to say
        return f"{path}: {detail['ctx']['error']}" if path else str(detail["ctx"]["error"])
    if detail["type"] in ("list_type", "tuple_type"):
        quoted = f'--set \'{path}=["a", "b"]\''
        return f"{path}: expected a list, got {detail['input']!r}; quote it for a shell: {quoted}"
    hint = ""
    if detail["type"] == "literal_error":
        hint = _nearest(str(detail["input"]), re.findall("'([^']*)'", detail["ctx"]["expected"]))
    return "; ".join(filter(None, [f"{path}: {detail['msg']}, got {detail['input']!r}", hint]))


def _fields_at(cls: Any, loc: Iterable[Any]) -> list[str]:
    """Names of the fields of the configuration class found by walking `loc` down from `cls`."""
    for part in loc:
        field = getattr(cls, "__dataclass_fields__", {}).get(part)
        cls = getattr(field, "type", None)
    return [f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []


def _paths(cls: Any) -> Iterator[str]:
    """Dotted names of the fields of a configuration class, tables before what is in them."""
    for field in dataclasses.fields(cls):
        yield field.name
        if dataclasses.is_dataclass(field.type):
            yield from (f"{field.name}.{name}" for name in _paths(field.type))


def as_values(config: Any) -> dict[str, Any]:
    """The plain values of a configuration, ready for TOML or JSON; `None` is left out."""
    plain = TypeAdapter(type(config)).dump_python(config, mode="json")
    cleaned = _without_none(plain)
    assert isinstance(cleaned, dict)
    return cleaned


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: the file is missing or is not TOML; the message names line and column.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(
            f"{path}: is a directory; give a TOML file, such as experiment.toml"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None


def to_toml(values: Mapping[str, Any]) -> str:
    """Plain values as TOML text."""
    return tomli_w.dumps(dict(values))


def override(values: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Apply `a.b=value` assignments; each value is TOML, or a bare string.

    Raises:
        ConfigError: an assignment without `=`, or one that goes through a plain value.
    """
    result = _copied(values)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set {assignment}: expected key=value, such as train.lr=0.001")
        *parents, last = _parse_key(path.strip())
        target = result
        for part in parents:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise ConfigError(f"--set {assignment}: '{part}' is a value, not a table")
        target[last] = _parse_value(text.strip())
    return result


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _parse_key(text: str) -> list[str]:
    """The parts of a dotted key; a part with dots of its own stands in quotes, as in TOML."""
    try:
        table: Any = tomllib.loads(f"{text} = 0")
    except tomllib.TOMLDecodeError:
        return text.split(".")
    parts = []
    while isinstance(table, dict):
        ((part, table),) = table.items()
        parts.append(part)
    return parts


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
