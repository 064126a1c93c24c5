"""A search resolved and checked before anything runs: methods, their experiments, their spaces."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from aqcl.config import as_values, build, override
from aqcl.errors import ConfigError
from aqcl.experiment import Experiment, find_backbone, own_options, resolve
from aqcl.regularizers.aqcl import AQCL
from aqcl.regularizers.icl import ICL
from aqcl.search.idle import active_names, alpha_names, has_curve, idle_keys
from aqcl.search.space import (
    PENALTY,
    Range,
    SearchOptions,
    Space,
    contradictions,
    default_space,
    end_values,
    flatten,
    misplaced,
    parse_space,
    regularizer_key,
    regularizer_name,
    taken_keys,
)

CONSTRAINED: Final = ("non-active", "highly-active")
"""The group whose AUC the objective `constrained` raises, and the one whose AUC must not fall."""
FIXED: Final = {
    "dataset": "methods and trials are compared on the rows of one dataset",
    "seed": "trials have one seed; the best are trained with others by `confirm_seeds`",
    "name": "a method is called what its table is called",
}
"""Settings that no space has, and why."""
ONLY: Final = "best"
"""Name of the method where the experiment itself is searched."""


@dataclass(frozen=True)
class Method:
    """One of the methods that are searched with equal budgets."""

    name: str
    experiment: Experiment
    """Resolved, with the fixed values of the space."""
    space: Space


@dataclass(frozen=True)
class SearchPlan:
    """A search before anything runs."""

    experiment: Experiment
    options: SearchOptions
    methods: tuple[Method, ...]
    """Those of the black-box search; the others have the experiment alone."""

    @property
    def minimizes(self) -> bool:
        """Whether a lower objective is better."""
        return self.options.objective == "logloss"

    @property
    def measures(self) -> list[str]:
        """What the objective is made of, first what it raises or lowers."""
        if self.options.objective == "constrained":
            return [f"auc:{group}" for group in CONSTRAINED]
        return [self.options.objective]

    @property
    def has_reference(self) -> bool:
        """Whether trial 0 of each method is the experiment without its auxiliary losses."""
        return self.options.objective == "constrained"

    def to_values(self) -> dict[str, Any]:
        """The plain values that give this plan again."""
        takes = taken_keys(self.options.method)
        search = {key: value for key, value in as_values(self.options).items() if key in takes}
        return {**as_values(self.experiment), "search": search}


def plan_search(values: Mapping[str, Any]) -> SearchPlan:
    """Check an experiment with its table `[search]` and fill in every default.

    Raises:
        ConfigError: all problems, one line each.
    """
    rest = {key: value for key, value in values.items() if key != "search"}
    problems: list[str] = []
    experiment: Experiment | None = None
    options: SearchOptions | None = None
    try:
        experiment = resolve(rest)
        dataset = str(Path(experiment.dataset).absolute())
        experiment = replace(experiment, dataset=dataset)
    except ConfigError as error:
        problems.append(str(error))
    try:
        search = values.get("search", {})
        if not isinstance(search, Mapping):
            raise ConfigError(
                f"search: expected a table, got {search!r}; set its keys, such as "
                "search.trials = 24"
            )
        options = build(SearchOptions, search, "search")
        problems += [*misplaced(options, search), *contradictions(options)]
    except ConfigError as error:
        problems.append(str(error))
    if experiment is None or options is None:
        raise ConfigError("\n".join(problems))
    if options.method != "black-box":
        if problems:
            raise ConfigError("\n".join(problems))
        return SearchPlan(experiment, options, ())
    bare = _bare_methods(experiment, options, problems)
    if not options.space and not any(m.get("space") for m in options.methods.values()):
        options = _with_default_spaces(bare, options)
    methods = _with_spaces(bare, options, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    return SearchPlan(experiment, options, methods)


def _with_default_spaces(bare: Iterable[Method], options: SearchOptions) -> SearchOptions:
    """What is searched where nothing is said: of each method what its own regularizers have.

    What a method sets itself is not searched. A shared weight would switch a regularizer on where
    the experiment has it off.
    """
    spaces = {}
    for method in bare:
        # The paper searches the weights of both over one grid.
        names = active_names(method.experiment, AQCL, ICL)
        curves = [n for n in alpha_names(method.experiment) if has_curve(method.experiment, n)]
        own = dict(flatten(options.methods.get(method.name, {})))
        default = default_space(names, curves)
        spaces[method.name] = {key: value for key, value in default.items() if key not in own}
    if not options.methods:
        return replace(options, space=spaces.get(ONLY, {}))
    methods = {n: {**table, "space": spaces.get(n, {})} for n, table in options.methods.items()}
    return replace(options, methods=methods)


def with_settings(experiment: Experiment, settings: Iterable[tuple[str, Any]]) -> Experiment:
    """The experiment with dotted settings replaced.

    Another backbone has its own defaults in place of those of the experiment's.

    Raises:
        ConfigError: a key does not exist or a value is out of its range.
    """
    values, replaced = as_values(experiment), dict(settings)
    name = experiment.backbone["name"]
    if replaced.get("backbone.name", name) != name:
        options = {key: value for key, value in experiment.backbone.items() if key != "name"}
        values["backbone"] = {"name": name, **own_options(find_backbone(name).Options, options)}
    # A number or a text in JSON is one in TOML.
    assignments = [f"{key}={_json(key, value)}" for key, value in replaced.items()]
    return resolve(override(values, assignments))


def _json(key: str, value: object) -> str:
    try:
        return json.dumps(value)
    except TypeError:
        raise ConfigError(
            f"{key}: expected a number, text, true or false, or a list of them, got {value!r}"
        ) from None


def _bare_methods(
    experiment: Experiment, options: SearchOptions, problems: list[str]
) -> list[Method]:
    """The methods without their spaces."""
    if not options.methods:
        return [Method(ONLY, experiment, Space({}, {}))]
    made = []
    for name, table in options.methods.items():
        if fixed := FIXED.keys() & table.keys():
            problems += [
                f"search.methods.{name}.{key}: leave it out: {FIXED[key]}" for key in sorted(fixed)
            ]
            continue
        given = flatten({k: v for k, v in table.items() if k != "space"})
        if ("regularizer", {}) in given and experiment.regularizer:
            problems.append(
                f"search.methods.{name}.regularizer: an empty table leaves the experiment's "
                f"regularizers on; set the weight of each to 0, such as "
                f"{regularizer_key(next(iter(experiment.regularizer)))}.weight = 0"
            )
            continue
        # An empty table switches a regularizer on and takes nothing back of one that is there.
        changes = [("name", name)]
        changes += [
            (key, value)
            for key, value in given
            if value != {} or regularizer_name(key) not in (None, *experiment.regularizer)
        ]
        try:
            made.append(Method(name, with_settings(experiment, changes), Space({}, {})))
        except ConfigError as error:
            problems.append(_indented(f"search.methods.{name}", error))
    return made


def _with_spaces(
    bare: Iterable[Method], options: SearchOptions, problems: list[str]
) -> tuple[Method, ...]:
    made = []
    known = set[str]()
    unreadable = False
    try:
        shared = parse_space(options.space, "search.space")
    except ConfigError as error:
        problems.append(str(error))
        shared, unreadable = Space({}, {}), True
    problems += _fixed_keys(shared, "search")
    for method in bare:
        table = options.methods.get(method.name, {})
        where = f"search.methods.{method.name}" if options.methods else "search"
        overridden = [key for key, _ in flatten({k: v for k, v in table.items() if k != "space"})]
        try:
            own = parse_space(table.get("space", {}), f"{where}.space")
        except ConfigError as error:
            problems.append(str(error))
            continue
        problems += _fixed_keys(own, where)
        if unreadable:  # what it would leave a method is not known
            continue
        having = {*method.experiment.regularizer, *_regularizers_in(own)}
        if not options.methods:  # what is searched is what there is
            having |= _regularizers_in(shared)
        known |= having
        problem_count = len(problems)
        space = own.on_top_of(_applicable(shared, own, method.experiment, overridden, having))
        experiment = _with_fixed(method.experiment, space.fixed, where, problems)
        idle = idle_keys(experiment, space.searched)
        problems += [
            f"{where}.space.{key}: does nothing in {method.name}, where {why}; leave it out"
            for key, why in idle.items()
            if key in own.searched
        ]
        complete = _checked(Method(method.name, experiment, space.without(idle)), where, problems)
        if len(problems) == problem_count:
            made.append(complete)
    problems += [
        f"search.space.{key}: no method has this regularizer; switch it on in those that shall, as "
        f"search.methods.NAME.{regularizer_key(name)} = {{}}"
        for key in (*shared.searched, *shared.fixed)
        if (name := regularizer_name(key)) is not None and name not in known
    ]
    return tuple(made)


def _regularizers_in(space: Space) -> set[str]:
    """The regularizers whose options a space sets or searches."""
    names = map(regularizer_name, (*space.searched, *space.fixed))
    return {name for name in names if name is not None}


def _fixed_keys(space: Space, where: str) -> list[str]:
    return [
        f"{where}.space.{key}: leave it out: {why}"
        for key, why in FIXED.items()
        if key in space.searched or key in space.fixed
    ]


def _applicable(
    shared: Space, own: Space, experiment: Experiment, overridden: Iterable[str], having: Set[str]
) -> Space:
    """What of the shared space a method has: not what it sets, nor a regularizer that is off."""
    taken = set(overridden)
    of_shared = (shared.searched.keys() | shared.fixed.keys()) - taken
    given = of_shared | own.searched.keys() | own.fixed.keys()

    def applies(key: str) -> bool:
        if key in taken:
            return False
        name = regularizer_name(key)
        if name is None:
            return True
        table = experiment.regularizer.get(name)
        if table is None:
            return name in having
        return bool(table["weight"] > 0) or f"{regularizer_key(name)}.weight" in given

    return Space(
        {key: value for key, value in shared.searched.items() if applies(key)},
        {key: value for key, value in shared.fixed.items() if applies(key)},
    )


def _with_fixed(
    experiment: Experiment, fixed: Mapping[str, Any], where: str, problems: list[str]
) -> Experiment:
    """The experiment with the fixed values of a space, all set at once: some need each other."""
    try:
        return with_settings(experiment, fixed.items())
    except ConfigError as error:
        wrong = {key: found for key in fixed if (found := _refusal(experiment, key, fixed[key]))}
        if len(wrong) == 1:
            ((key, found),) = wrong.items()
            advice = _choices_meant(experiment, key, fixed[key])
            problems.append(_indented(f"{where}.space.{key}", found) + advice)
        else:
            problems.append(_indented(f"{where}.space", error))
        return experiment


def _choices_meant(experiment: Experiment, key: str, value: object) -> str:
    """What to write where a list was refused and the setting can have each of its members."""
    members = value if isinstance(value, list) else []
    if not members or any(_refusal(experiment, key, member) for member in members):
        return ""
    return f"; a list is one fixed value: to search its members, write {{ choices = {value} }}"


def _checked(method: Method, where: str, problems: list[str]) -> Method:
    """The method once every end of its space has been tried."""
    experiment, found = method.experiment, len(problems)
    searched = dict(method.space.searched)
    for key, dimension in searched.items():
        if isinstance(dimension, Range) and _is_whole(experiment, key, dimension):
            whole = all(float(v).is_integer() for v in (dimension.low, dimension.high))
            if not whole or not float(dimension.step or 1).is_integer():
                problems.append(f"{where}.space.{key}: expected whole numbers")
                continue
            searched[key] = replace(dimension, integer=True)
        refused = (_refusal(experiment, key, value) for value in end_values(searched[key]))
        error = next(filter(None, refused), None)
        if error is not None:
            problems.append(_indented(f"{where}.space.{key}", error))
    if not searched and len(problems) == found:
        problems.append(
            f"{where}.space: nothing is left to search for {method.name}; give a range such as "
            f'"{PENALTY}" = {{ low = 1e-6, high = 0.1, log = true }}'
        )
    return Method(method.name, experiment, Space(searched, dict(method.space.fixed)))


def _is_whole(experiment: Experiment, key: str, dimension: Range) -> bool:
    """Whether a key takes whole numbers: its value now is one, or it takes no fraction."""
    value = dict(flatten(as_values(experiment))).get(key)
    if value is not None:
        return type(value) is int
    low, width = dimension.low, dimension.high - dimension.low
    between = low + min(0.5, width / 2)
    return not _refusal(experiment, key, low) and bool(_refusal(experiment, key, between))


def _refusal(experiment: Experiment, key: str, value: object) -> ConfigError | None:
    """Why a setting cannot have a value; None where it can."""
    try:
        with_settings(experiment, [(key, value)])
    except ConfigError as error:
        return error
    return None


def _indented(where: str, error: ConfigError) -> str:
    return "\n".join(f"{where}: {line}" for line in str(error).splitlines())


def without_auxiliary_losses(experiment: Experiment) -> Experiment:
    """The experiment that an auxiliary loss is held against: the same without any."""
    return dataclasses.replace(experiment, regularizer={})
