"""From a source's settings to a dataset directory, made once for the same settings and files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from aqcl.click_log import ClickLog
from aqcl.config import as_values, build, check_keys, choose, read_toml
from aqcl.dataset import Dataset, open_dataset
from aqcl.datasets import SOURCES, source_files
from aqcl.errors import ConfigError
from aqcl.prepare.pipeline import Origin, PrepareSettings, merge_protocol, prepare
from aqcl.storage import fingerprint

FILES: Final = frozenset({"path", "attributes", "meta", "directory"})
"""Settings of sources that say where files lie."""
CACHES: Final = frozenset({"cache"})
"""Settings of sources that say where what is fetched or simulated lies."""


def settings_of(
    inputs: Sequence[Path], source: str | None, columns: Mapping[str, str | None]
) -> dict[str, Any]:
    """The settings of `prepare_source` from what a command line gives.

    Args:
        inputs: files of a log, or one TOML file with settings.
        source: name of the source; another than the file's drops the settings of the file's.
        columns: roles such as `user` and the column of each, None where it is not given.

    Raises:
        ConfigError: the TOML file cannot be read, or stands among other files.
    """
    toml = [path for path in inputs if path.suffix == ".toml"]
    if toml and len(inputs) > 1:
        raise ConfigError(f"{toml[0]}: a file of settings stands alone; name the log's files in it")
    values = read_toml(toml[0]) if toml else {}
    table = _source_table(values)
    if source is not None and table.get("name", source) != source:
        table = {}
    table = {**table, **{role: column for role, column in columns.items() if column is not None}}
    table["name"] = source or table.get("name", "table")
    if inputs and not toml:
        paths = [str(path) for path in inputs]
        table["path"] = paths[0] if len(paths) == 1 else paths
    return {**values, "source": table}


def prepare_source(
    values: Mapping[str, Any], out: Path | str, *, overwrite: bool = False
) -> Dataset:
    """Open a source and prepare it, unless `out` holds this very dataset already.

    Args:
        values: `source` (its `name` and settings) and the settings of `prepare`.
        out: the dataset directory.
        overwrite: replace another dataset that lies at `out`.

    Raises:
        ConfigError: a setting that is unknown, missing or out of range.
        DataError: data that cannot be read or split.
        StorageError: `out` holds something else or cannot be written.
    """
    out = Path(out)
    table = _source_table(values)
    settings = {key: value for key, value in values.items() if key != "source"}
    _check_settings(settings)
    name = table.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"source.name: expected the name of a source, got {name!r}")
    source = choose(SOURCES, name, "source.name")
    config = build(source.settings, table, "source")
    resolved = {"name": name, **as_values(config)}
    log = source.open(config)
    origin = Origin(fingerprint(_placeless(resolved, log), source_files(name, table)), resolved)
    prepare(log, merge_protocol(log, settings), out, origin=origin, overwrite=overwrite)
    return open_dataset(out)


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Tell mistakes before a long log is read; what a split lacks, which it completes, later.

    Raises:
        ConfigError: an unknown key or a bad value.
    """
    check_keys(PrepareSettings, settings)
    build(PrepareSettings, {key: value for key, value in settings.items() if key != "split"})


def _placeless(resolved: Mapping[str, Any], log: ClickLog) -> dict[str, Any]:
    """Settings of a source without where its files lie, so that a copy elsewhere is the same data.

    What the files hold is in the fingerprint by itself; the log may be named after one of them.
    The order of columns is the order of a model's fields, but a hash of settings does not see it.
    """
    given = {key for key in FILES & resolved.keys() if resolved[key] is not None}
    named = {"log": log.name} if given else {}
    caches = dict.fromkeys(CACHES & resolved.keys())
    orders = {
        f"order of {key}": list(value)
        for key, value in resolved.items()
        if isinstance(value, Mapping) and list(value) != sorted(value)
    }
    return {**resolved, **caches, **dict.fromkeys(given, True), **named, **orders}


def _source_table(values: Mapping[str, Any]) -> dict[str, Any]:
    table = values.get("source", {})
    if not isinstance(table, Mapping):
        raise ConfigError(
            f"source: expected a table with a name, got {table!r}; set its name, as source.name"
        )
    return dict(table)
