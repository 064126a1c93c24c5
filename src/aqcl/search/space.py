"""What a search may vary: ranges and choices of dotted keys, and when a range was too narrow."""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import Field as Bounds

from aqcl.alpha_shapes import W1_RANGE, W2_RANGE, HalvingOptions
from aqcl.config import build, settings
from aqcl.errors import ConfigError

Sampler = Literal["tpe", "gp", "random"]
Pruning = Literal["median", "asha", "none"]
Objective = Literal[
    "logloss", "auc", "auc:non-active", "auc:slightly-active", "auc:highly-active", "constrained"
]
Side = Literal["low", "high"]
Method = Literal["black-box", "one-run", "halving"]

PENALTY: Final = "train.embedding_l2"
"""The key whose winning value must lie inside its range."""
EDGE: Final = 0.1
"""Share of a range, at either end, in which a winner counts as touching the end."""
FACTOR: Final = 10.0
"""By how much a range that was touched is widened."""
PENALTY_RANGE: Final = (1e-6, 1e-1)
"""Where the penalty is looked for first."""
WEIGHTS: Final = (0.01, 0.05, 0.1)
"""Where the weight of the auxiliary loss is looked for, as in the paper."""
LONGEST_WHOLE: Final = 1e15
"""From here on whole numbers are shown by their magnitude, too."""
RESERVED: Final = ("study", "trials", "figures", "locks")
"""Names in a study directory that no method can have."""
SPECIFICATION: Final = frozenset({"low", "high", "log", "step", "choices"})
"""A table with one of these keys is a range or choices; any other holds further keys."""


@settings
class SearchOptions:
    """How settings are searched; the table `[search]` of an experiment."""

    method: Method = "black-box"
    """`black-box`: every trial is a training, of any settings. For alpha alone, by validation
    logloss: `one-run` learns it during one training, as `learn_alpha` of the regularizer says, and
    `halving` has many short trainings of which the better half goes on."""
    halving: HalvingOptions = field(default_factory=HalvingOptions)
    """How the method `halving` spends its budget."""
    trials: Annotated[int, Bounds(ge=2)] = 24
    """Trainings of each method."""
    sampler: Sampler = "tpe"
    """`tpe` models good and bad trials, `gp` all of them by a Gaussian process, `random` none."""
    pruning: Pruning = "none"
    """How trials of `tpe` and `random` are stopped early: by the `median` of the others at the same
    evaluation, by successive halving (`asha`), or not at all (`none`). A strong penalty learns
    slowly and ends best: what stops trials by their first evaluations favours weak ones."""
    seed: Annotated[int, Bounds(ge=0)] = 0
    """Of the sampler; that of the trainings is the experiment's."""
    objective: Objective = "logloss"
    """What is best on the validation rows, with the weights that `train.monitor` kept: the lowest
    `logloss`, the highest `auc`, that of one group (`auc:non-active`), or `constrained`: the
    highest of non-active users while that of highly active users is no lower than without the
    auxiliary losses, which trial 0 measures."""
    confirm: Annotated[int, Bounds(ge=0)] = 0
    """How many of the best trials of each method are trained again with other seeds; the one with
    the best mean wins. With 0 the best trial wins, which may owe it to its seed."""
    confirm_seeds: Annotated[int, Bounds(ge=1)] = 2
    """Further trainings of each of them."""
    widen: Annotated[int, Bounds(ge=0)] = 2
    """How often the range of `train.embedding_l2` is widened by a factor of 10, where a winner lies
    in the outer tenth of it."""
    widen_trials: Annotated[int, Bounds(ge=1)] = 8
    """Further trainings of each method when the range was widened."""
    space: dict[str, Any] = field(default_factory=dict)
    """A table for each key: `{low, high, log, step}`, `{choices = [...]}`, or a fixed value. By
    default `train.embedding_l2`, with AQCL and ICL the paper's `weight`, and `w1` and `w2` where
    alpha is the curve. Other regularizers need a space of their own."""
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    """A table for each method that is searched: settings on top of the experiment, and a `space` of
    its own on top of the shared one. Without any, the experiment itself is searched."""


@settings
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    """The lowest."""
    high: float
    """The highest."""
    log: bool = False
    """Whether the logarithm is searched evenly."""
    step: float | None = None
    """Only `low` and whole steps above it; `high` is the last of them once the range is parsed."""
    integer: bool = False
    """Whether only whole numbers count; follows from the key."""


@settings
class Choices:
    """One of several values."""

    choices: tuple[Any, ...]
    """The values."""


Dimension = Range | Choices


@dataclass(frozen=True)
class Space:
    """The dimensions by dotted key, and values that are set without being searched."""

    searched: dict[str, Dimension]
    fixed: dict[str, Any]

    def on_top_of(self, shared: "Space") -> "Space":
        """The shared space, with what stands here in its place."""
        keys = self.searched.keys() | self.fixed.keys()
        searched = {k: v for k, v in shared.searched.items() if k not in keys} | self.searched
        fixed = {k: v for k, v in shared.fixed.items() if k not in keys} | self.fixed
        return Space(searched, fixed)

    def without(self, keys: Collection[str]) -> "Space":
        """The same without these keys among those that are searched."""
        return Space({k: v for k, v in self.searched.items() if k not in keys}, self.fixed)


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested tables as dotted keys, as `override` reads them.

    A range, choices and an empty table, which may switch a regularizer on, stay one value.
    """
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        key = prefix + (f'"{name}"' if ":" in name and '"' not in name else name)
        nested = isinstance(value, Mapping) and value and not SPECIFICATION & value.keys()
        flat += flatten(value, f"{key}.") if nested else [(key, value)]
    return flat


def parse_space(values: object, where: str) -> Space:
    """Read the table of a space.

    Args:
        values: dotted keys, or nested tables, of ranges, choices and fixed values, as a file has
            them.
        where: dotted prefix named in errors.

    Raises:
        ConfigError: all that is wrong, one line each; what is given is no table.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{where}: expected a table of ranges and choices, got {values!r}; set its keys, such "
            f'as {where}."{PENALTY}" = {{ low = 1e-6, high = 0.1, log = true }}'
        )
    searched: dict[str, Dimension] = {}
    fixed: dict[str, Any] = {}
    problems = []
    for key, value in flatten(values):
        path = f"{where}.{key}"
        if key in searched or key in fixed:
            problems.append(f"{path}: stands twice, once with dots and once as a table; keep one")
        elif not isinstance(value, Mapping):
            fixed[key] = value
        else:
            try:
                searched[key] = _dimension(value, path)
            except ConfigError as error:
                problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return Space(searched, fixed)


def _dimension(value: Mapping[str, Any], path: str) -> Dimension:
    if "choices" in value:
        found = build(Choices, value, path)
        tables = [choice for choice in found.choices if isinstance(choice, Mapping)]
        if tables:
            raise ConfigError(
                f"{path}.choices: expected numbers, texts or lists, got the table "
                f"{dict(tables[0])}; a table cannot be a choice: give choices of its keys, as "
                f"{path}.KEY = {{ choices = [...] }}"
            )
        unique = {repr(choice) for choice in found.choices}
        if len(unique) < max(len(found.choices), 2):
            raise ConfigError(
                f"{path}.choices: expected two or more different values, got "
                f"{list(found.choices)}; a fixed value needs no table"
            )
        return found
    if "integer" in value:
        raise ConfigError(f"{path}.integer: leave it out: it follows from the setting")
    made = build(Range, value, path)
    if made.low >= made.high:
        raise ConfigError(f"{path}: expected low < high, got {made.low:g} and {made.high:g}")
    if made.log and made.low <= 0:
        raise ConfigError(f"{path}: log = true needs low > 0, got {made.low:g}")
    if made.step is None:
        return made
    if made.log or made.step <= 0 or (last := _last_step(made, made.step)) <= made.low:
        raise ConfigError(
            f"{path}.step: expected more than 0, no more than high - low, and not with log = true, "
            f"got {made.step:g}"
        )
    return replace(made, high=last)


def _last_step(dimension: Range, step: float) -> float:
    """The highest value that whole steps reach: nothing beyond it is ever drawn."""
    low, high, width = (Decimal(str(v)) for v in (dimension.low, dimension.high, step))
    return float(low + (high - low) // width * width)


def end_values(dimension: Dimension) -> tuple[Any, ...]:
    """The values by which a dimension is checked: its ends, or all choices."""
    if isinstance(dimension, Choices):
        return dimension.choices
    ends = (dimension.low, dimension.high)
    return tuple(map(int, ends)) if dimension.integer else ends


def shown(dimension: Dimension) -> str:
    """A dimension in a few words."""
    if isinstance(dimension, Choices):
        return ", ".join(map(str, dimension.choices))
    return f"{number_text(dimension.low)} to {number_text(dimension.high)}"


def number_text(value: int | float, digits: int = 3) -> str:
    """A number to a few digits, a whole one with all of its own: no batch size is 4.1e+03."""
    whole = float(value).is_integer() and abs(value) < LONGEST_WHOLE
    return f"{value:.0f}" if whole else f"{value:.{digits}g}"


def touched_side(dimension: Dimension, value: float) -> Side | None:
    """The end of a range that a value touches: it lies in the outer tenth, or beyond.

    0 is no such end: a setting can be no lower.
    """
    if isinstance(dimension, Choices):
        numbers = sorted(choice for choice in dimension.choices if not isinstance(choice, str))
        if value <= numbers[0]:
            return "low" if numbers[0] > 0 else None
        return "high" if value >= numbers[-1] else None
    low, high = dimension.low, dimension.high
    if dimension.log:
        low, high, value = math.log(low), math.log(high), math.log(max(value, 1e-300))
    share = (value - low) / (high - low)
    # The outer tenth is meant as it is written: 10^-1.5 is 0.1 from the end of [10^-6, 10^-1] but
    # for rounding.
    if share < EDGE - 1e-12:
        return "low" if dimension.low > 0 else None
    return "high" if share > 1 - EDGE + 1e-12 else None


def touched_ends(searched: Mapping[str, Dimension], parameters: Mapping[str, Any]) -> list[str]:
    """Settings at an end of what was tried, the penalty apart: a remark on each.

    Of two choices, and of what is not a number, none is an end.

    Args:
        searched: the dimensions by dotted key.
        parameters: of a winner, by dotted key.
    """
    found = []
    for key, value in parameters.items():
        dimension = searched.get(key)
        number = type(value) in (int, float)
        if key == PENALTY or not number or dimension is None or not _has_ends(dimension):
            continue
        side = touched_side(dimension, float(value))
        if side is not None:
            ranged = isinstance(dimension, Range)
            where = "lies in the outer tenth" if ranged else f"is the {side}est"
            found.append(
                f"{key} = {number_text(value)} {where} of {shown(dimension)}: the best may be "
                "beyond it"
            )
    return found


def _has_ends(dimension: Dimension) -> bool:
    if isinstance(dimension, Range):
        return True
    numbers = [choice for choice in dimension.choices if type(choice) in (int, float)]
    return len(numbers) == len(dimension.choices) > 2


def widened(dimension: Dimension, sides: Iterable[Side]) -> Dimension | None:
    """The range ten times as far on some sides; None where there is nothing beyond.

    Choices, ranges with steps and whole numbers are the user's own grid, and 0 is the lowest value
    that a penalty can have: these stay as they are.
    """
    if isinstance(dimension, Choices) or dimension.step is not None or dimension.integer:
        return None
    made = dimension
    for side in sides:
        if side == "low":
            made = replace(made, low=made.low / FACTOR)
        else:
            made = replace(made, high=made.high * FACTOR)
    return None if made == dimension else made


def taken_keys(method: Method) -> frozenset[str]:
    """The keys of `[search]` that a method takes."""
    if method == "black-box":
        return frozenset(entry.name for entry in fields(SearchOptions)) - {"halving"}
    return frozenset({"method", "objective", *(["halving"] if method == "halving" else [])})


def misplaced(options: SearchOptions, given: Iterable[str]) -> list[str]:
    """Keys that the method does not take, one line each.

    Args:
        options: of the search.
        given: the keys that were set.
    """
    takes = taken_keys(options.method)
    problems = [
        f"search.{key}: the method {options.method} has no such setting; leave it out or take "
        f'search.method = "{"halving" if key == "halving" else "black-box"}"'
        for key in given
        if key not in takes
    ]
    if options.method != "black-box" and options.objective != "logloss":
        problems.append(
            f"search.objective = '{options.objective}': the method {options.method} lowers the "
            'validation logloss; leave it out or take search.method = "black-box"'
        )
    return problems


def contradictions(options: SearchOptions) -> list[str]:
    """What does not go together, one line each."""
    problems = []
    logged = options.objective in ("logloss", "auc")
    if options.pruning in ("median", "asha") and not logged:
        problems.append(
            f"search.pruning = '{options.pruning}': evaluations measure logloss and auc alone, and "
            f"the objective is {options.objective}; leave it out"
        )
    if options.pruning in ("median", "asha") and options.sampler == "gp":
        problems.append(
            f"search.pruning = '{options.pruning}': the sampler gp learns from whole trials alone; "
            "leave it out or take the sampler tpe"
        )
    if options.confirm and options.objective == "constrained":
        problems.append(
            f"search.confirm = {options.confirm}: the objective constrained holds every trial "
            "against trial 0, which has one seed; leave it out"
        )
    for name in options.methods:
        if not re.fullmatch(r"\w[\w.+-]*", name) or name in RESERVED:
            problems.append(
                f"search.methods.{name}: a method's name is a file's name: letters, digits, "
                f"_, ., + and -, and not {', '.join(RESERVED)}"
            )
    return problems


def default_space(regularizers: Iterable[str], curves: Collection[str]) -> dict[str, Any]:
    """What is searched if nothing is said: the penalty, and with AQCL what the paper searches.

    Args:
        regularizers: names of those whose weight the paper searches.
        curves: names of those whose alpha is the curve, which has `w1` and `w2`.
    """
    space: dict[str, Any] = {PENALTY: _log_range(PENALTY_RANGE)}
    for name in dict.fromkeys(regularizers):
        prefix = regularizer_key(name)
        if name in curves:
            space[f"{prefix}.w1"] = _log_range(W1_RANGE)
            space[f"{prefix}.w2"] = _log_range(W2_RANGE)
        space[f"{prefix}.weight"] = {"choices": list(WEIGHTS)}
    return space


def regularizer_key(name: str) -> str:
    """The dotted key of a regularizer's table; an import path stands in quotes."""
    return f'regularizer."{name}"' if ":" in name else f"regularizer.{name}"


def regularizer_name(key: str) -> str | None:
    """The regularizer below whose table a dotted key lies; None for other keys."""
    if not key.startswith("regularizer."):
        return None
    rest = key.removeprefix("regularizer.")
    return rest.split('"')[1] if rest.startswith('"') else rest.partition(".")[0]


def _log_range(bounds: tuple[float, float]) -> dict[str, Any]:
    return {"low": bounds[0], "high": bounds[1], "log": True}
