"""CSV and Parquet files, found by name and scanned."""

import codecs
import glob
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from aqcl.config import did_you_mean
from aqcl.errors import DataError, command

PARQUET = (".parquet", ".pq")
_LINES = 250_000
"""Of a text file that are in memory at once."""
_HEADER_LINES = 100
"""That a header takes at most."""
_SHOWN, _MOST_SHOWN = 80, 500
"""Characters of a line, and of what polars says, that a message holds."""
_NO_ROWS = pl.DataFrame(schema={"number": pl.UInt32, "begins": pl.Boolean, "n": pl.Int64})
CSV = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".csv.zst")
_DELIMITERS = {"\t": r"\t", ";": ";", "|": "|", ",": ","}
"""Characters between columns, and how each is spelled in a shell."""


@dataclass(frozen=True)
class LogFile:
    """A file that can be read in a stream."""

    path: Path
    frame: pl.LazyFrame
    types: pl.DataFrame
    """No rows, only the names and types of the columns."""
    is_text: bool
    """Whether the values are only spelled (CSV) and not typed (Parquet)."""

    def select(self, wanted: Mapping[str, str]) -> "LogFile":
        """Only the wanted columns, those of a dictionary type as text.

        Args:
            wanted: how a user names another column in the place of each.

        Raises:
            DataError: the file lacks one.
        """
        for name, advice in wanted.items():
            if name not in self.types.columns:
                fix = self._delimiter_advice() or advice
                known = did_you_mean(name, self.types.columns)
                raise DataError(f"{self.path}: column '{name}' is missing; {fix}; {known}")
        coded = [name for name in wanted if self.types.schema[name] in (pl.Categorical, pl.Enum)]
        frame = self.frame.select(list(wanted)).with_columns(pl.col(coded).cast(pl.String))
        return LogFile(self.path, frame, _types(frame), self.is_text)

    def typed(self, kinds: Mapping[str, Any]) -> "LogFile":
        """The same with a type for columns without any value: one of those, or text."""
        empty = [name for name, dtype in self.types.schema.items() if dtype == pl.Null]
        frame = self.frame.with_columns(
            pl.col(name).cast(kinds.get(name, pl.String())) for name in empty
        )
        return LogFile(self.path, frame, _types(frame), self.is_text) if empty else self

    def _delimiter_advice(self) -> str:
        """What to set where the header is one column that another delimiter would cut."""
        names = self.types.columns
        if not self.is_text or len(names) != 1:
            return ""
        found = [name for character, name in _DELIMITERS.items() if character in names[0]]
        return f"set the delimiter with --set 'source.delimiter={found[0]}'" if found else ""


def find_files(path: str | list[str]) -> list[Path]:
    """The files that paths or patterns name, in order, each once, however it is spelled.

    Raises:
        DataError: a pattern that matches nothing, or a directory.
    """
    found: dict[Path, Path] = {}
    for pattern in [path] if isinstance(path, str) else path:
        expanded = Path(pattern).expanduser()
        matches = [expanded] if expanded.exists() else _matches(str(expanded))
        if not matches:
            advice = "; a setting needs a --set of its own" if "=" in pattern else ""
            raise DataError(f"source.path = '{pattern}': no file matches; check the path{advice}")
        for match in matches:
            found.setdefault(match.resolve(), match)
    if not found:
        raise DataError("source.path is an empty list; give at least one file")
    for match in found.values():
        if match.is_dir():
            raise DataError(f"{match} is a directory; give its files, as {match}/*.parquet")
    return list(found.values())


def _matches(pattern: str) -> list[Path]:
    return [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever polars raises on a damaged file into an error that names it."""
    try:
        yield
    except pl.exceptions.NoDataError:
        raise DataError(f"{path}: the file is empty; a header and rows are expected") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        found = cause(error)
        if path.name.lower().endswith(CSV) and "invalid utf8" in found:
            with path.open("rb") as file:
                wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
            found = "utf-16" if wide else "latin1"
            raise DataError(
                f"{path}: expected UTF-8 text, got bytes of another encoding; write it anew, such "
                f"as with `{command('iconv', '-f', found, '-t', 'utf-8', path)} > "
                f"{command(path.with_name(f'utf8-{path.name}'))}`"
            ) from error
        raise DataError(f"{path}: cannot be read, is it whole? {found}") from error


def cause(error: BaseException) -> str:
    """What polars found, without its advice on settings that are not those of aqcl."""
    found, _, advice = str(error).partition("\n\n")
    _, _, origin = advice.partition("Original error: ")
    told = ": ".join(filter(None, [found, origin.strip("`")]))
    return told if len(told) <= _MOST_SHOWN else f"{told[:_MOST_SHOWN]} ..."


def open_file(path: Path, delimiter: str, quote: str) -> LogFile:
    """Scan one file; the values of a CSV file are all text, null where empty.

    Args:
        path: of the file.
        delimiter: between the values of a CSV file.
        quote: around such values; empty if a quote is a character as any other.

    Raises:
        DataError: not a whole CSV or Parquet file.
    """
    name = path.name.lower()
    if not name.endswith((*PARQUET, *CSV)):
        raise DataError(f"{path}: the name must end in one of {', '.join((*PARQUET, *CSV))}")
    is_text = name.endswith(CSV)
    with reading(path):
        if is_text:
            names = _header(path, delimiter, quote)
            _check_names(path, names)
            _check_lines(path, delimiter, quote, names)
            frame = pl.scan_csv(
                path, glob=False, infer_schema=False, separator=delimiter, quote_char=quote or None
            )
            frame = frame.with_columns(pl.all().replace("", None))
        else:
            frame = pl.scan_parquet(path, glob=False)
        return LogFile(path, frame, _types(frame), is_text)


def _check_names(path: Path, names: list[str | None]) -> None:
    """Refuse a header with a name twice: only the first of such columns could be asked for."""
    for name in filter(None, names):
        if names.count(name) > 1:
            raise DataError(
                f"{path}: {names.count(name)} columns have the name '{name}'; rename or remove "
                "all but one in the header"
            )


def _header(path: Path, delimiter: str, quote: str) -> list[str | None]:
    """The names of the columns; no more of the file is read, so that its checks come first.

    Raises:
        DataError: the lines end in a way that makes all of them the header.
    """
    lines = pl.scan_lines(path, glob=False).head(_HEADER_LINES).collect().to_series()
    if len(lines) and "\r" in lines[0].rstrip("\r"):
        raise DataError(
            f"{path}: expected lines to end with a line feed, got carriage returns alone; write it "
            f"anew, such as with tr '\\r' '\\n' < {path.name} > lines-{path.name}"
        )
    whole = lines != ""
    if quote:  # a quoted name may hold line ends
        whole &= lines.str.count_matches(quote, literal=True).cum_sum() % 2 == 0
    header = pl.read_csv(
        "\n".join(lines[: (whole.arg_max() or 0) + 1]).encode(),
        infer_schema=False,
        separator=delimiter,
        quote_char=quote or None,
        has_header=False,
        n_rows=1,
    )
    return [name for row in header.rows() for name in row]


def _check_lines(path: Path, delimiter: str, quote: str, names: list[str | None]) -> None:
    """Refuse lines that polars repairs in silence, each in its own way, and those it refuses.

    It fills up a line that ends before the last column, and it joins lines where a quote within a
    value is not doubled. A blank line is left to the checks of values; one within a quoted value
    is part of it, and a row is all lines that its quoted values reach over.
    """
    most = len(names)
    least = max((place for place, name in enumerate(names, start=1) if name), default=0)
    inside, begun = False, _NO_ROWS
    lines = pl.scan_lines(path, glob=False, row_index_name="number", row_index_offset=1)
    for batch in lines.collect_batches(chunk_size=_LINES, engine="streaming"):
        bare = batch.with_columns(bare="line", begins=True)
        if quote:
            bare, inside = _without_quoted(path, batch, delimiter, inside)
        parts = bare.filter((pl.col("line") != "") | ~pl.col("begins")).select(
            "number",
            "begins",
            n=pl.col("bare").str.count_matches(delimiter, literal=True).cast(int),
        )
        rows = pl.concat([begun, parts])
        if not rows["begins"].all():
            row = pl.col("begins").cum_sum()
            of_row = [pl.col("number", "begins").first(), pl.col("n").sum()]
            rows = rows.group_by(row.alias("row"), maintain_order=True).agg(of_row).drop("row")
        begun = rows.tail(1) if inside else _NO_ROWS
        counted = rows.head(len(rows) - len(begun)).select("number", n=pl.col("n") + 1)
        # A header of one column has another delimiter, which is told later.
        other = counted.filter((pl.col("n") < least) | ((pl.col("n") > most) & (most > 1)))
        if len(other):
            number, found = other.row(0)
            advice = (
                "write each, if only as nothing between two delimiters"
                if found < least
                else f"put a value that holds {delimiter!r} in quotes"
            )
            expected = f"expected {least if found < least else most} values, as the header"
            raise DataError(f"{path}: line {number}: {expected}, got {found}; {advice}")
    if inside:
        raise DataError(
            f"{path}: line {begun['number'][0]}: a quote opens a value here that is never closed; "
            "close it, or set source.quote = '' if the file puts no value in quotes"
        )


def _without_quoted(
    path: Path, batch: pl.DataFrame, delimiter: str, inside: bool
) -> tuple[pl.DataFrame, bool]:
    """The lines, each also without its quoted values, as column `bare`, and whether a row begins.

    Args:
        path: of the file.
        batch: columns `number` and `line`.
        delimiter: between values.
        inside: whether the first line begins within a quoted value.

    Returns:
        The lines, and whether the last one ends within a quoted value.

    Raises:
        DataError: a quote that neither opens nor closes a value and is not doubled within one.
    """
    end = pl.escape_regex(delimiter)
    quoted = r'"(?:[^"]|"")*"'
    value = rf'(?:{quoted}|[^"{end}][^{end}]*|)'
    closed = rf"^(?:{value}{end})*{value}$"
    left_open = rf'^(?:{value}{end})*"(?:[^"]|"")*$'
    line = pl.col("line").str.strip_prefix("\ufeff")
    quotes = line.str.count_matches('"', literal=True)
    marked = batch.with_columns(quotes=quotes, after=(quotes.cum_sum() + int(inside)) % 2 == 1)
    marked = marked.with_columns(before=pl.col("after").shift(1, fill_value=inside))
    # The rest of a value from a line above is as a value that begins here.
    line = pl.when("before").then(pl.concat_str(pl.lit('"'), line)).otherwise(line)
    good = pl.when("after").then(line.str.contains(left_open)).otherwise(line.str.contains(closed))
    bad = marked.filter(pl.col("quotes") > 0).filter(~good)
    if len(bad):
        number, came = bad.select("number", "line").row(0)
        raise DataError(
            f"{path}: line {number}: expected a value that holds a quote to stand in quotes, with "
            f'each quote within it doubled, as "5"" tv", got {came[:_SHOWN]}; write it so, or '
            "set source.quote = '' if the file puts no value in quotes"
        )
    line = pl.when("after").then(pl.concat_str(line, pl.lit('"'))).otherwise(line)
    bare = line.str.replace_all(rf"(^|{end}){quoted}", "$1")
    lines = marked.select("number", "line", bare=bare, begins=~pl.col("before"))
    return lines, bool(marked["after"].last())


def with_same_types(files: list[LogFile]) -> list[LogFile]:
    """The files with the same kind of values in each column; one without any value takes part.

    Raises:
        DataError: the first column that has values of two kinds.
    """
    first: dict[str, tuple[LogFile, Any]] = {}
    for file in files:
        for name, dtype in file.types.schema.items():
            if dtype == pl.Null:
                continue
            other, known = first.setdefault(name, (file, dtype))
            if _family(file.types, name) != _family(other.types, name):
                raise DataError(
                    f"{file.path}: column '{name}' has type {dtype}, but {known} in {other.path}; "
                    "all files must agree"
                )
    kinds = {name: dtype for name, (_, dtype) in first.items()}
    return [file.typed(kinds) for file in files]


def _types(frame: pl.LazyFrame) -> pl.DataFrame:
    return pl.DataFrame(schema=frame.collect_schema())


def _family(types: pl.DataFrame, name: str) -> str:
    dtype = types.schema[name]
    if dtype.is_integer():
        return "integer"
    return "float" if dtype.is_float() else str(dtype.base_type())
