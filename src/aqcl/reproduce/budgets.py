"""Whether winners known from before were looked for as studies look for them now."""

from collections.abc import Iterable, Mapping
from typing import Any

from aqcl.errors import ConfigError
from aqcl.reproduce.cells import BUDGET, Scope, Study, place_of, search_options, study_values
from aqcl.reproduce.specs import TUNED, Specs
from aqcl.search.space import flatten, parse_space, shown


def differences(
    specs: Specs, scope: Scope, dataset: str, backbone: str, found: Mapping[str, Any]
) -> list[str]:
    """What the study of a method, or of several, had otherwise than it would have now.

    Args:
        specs: of everything.
        scope: of the command.
        dataset: key of the data set that it was on.
        backbone: key of the backbone.
        found: its record, as outcomes have it.

    Returns:
        Such as "trials 12, now 20": its budget, the settings of all its trainings, and the ranges
        of its parameters where the record has them. Empty if it was made as now.
    """
    options = search_options(specs, scope, dataset)
    told = _changed({key: found.get(key) for key in BUDGET}, options)
    place = place_of(scope, dataset, TUNED)
    known = specs.studies.studies[backbone].methods if backbone in specs.studies.studies else {}
    for name, method in found["methods"].items():
        if name not in known:
            continue
        now = study_values(specs, scope, Study(place, backbone, name))
        settings = dict(flatten({"train": now.get("train", {})}))
        trained = dict(flatten(method["experiment"]))
        told += _changed({key: trained[key] for key in settings if key in trained}, settings)
        told += _changed(method.get("space", {}), _ranges(now["search"], name))
    return list(dict.fromkeys(told))


def _changed(had: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [f"{key} {had[key]}, now {now.get(key)}" for key in had if had[key] != now.get(key)]


def _ranges(search: Mapping[str, Any], method: str) -> dict[str, str]:
    """What a method is searched in, each range or choice in a few words, as records have them."""
    spaces = search["space"], search["methods"][method].get("space", {})
    return {
        key: shown(dimension)
        for space in spaces
        for key, dimension in parse_space(space, "search.space").searched.items()
    }


def check_budgets(specs: Specs, scope: Scope, studies: Iterable[Study]) -> None:
    """Make sure that winners known here were looked for as this command would.

    Raises:
        ConfigError: one was not.
    """
    for study in studies:
        known = study.record()
        if known is None:
            continue
        place, found = known
        told = differences(specs, scope, study.place.dataset, study.backbone, found)
        if told:
            raise ConfigError(
                f"{place}: {study.method} was tuned with {'; '.join(told)}: methods in one table "
                "must have equal budgets; choose another --out, or go back to what was"
            )
