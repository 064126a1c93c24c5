"""Outcomes made before, here or on another machine: their settings and finished comparisons."""

from collections.abc import Mapping
from typing import Any

from aqcl.config import to_toml
from aqcl.errors import ConfigError
from aqcl.reproduce.cells import Needs, Place, Scope
from aqcl.reproduce.results_page import read_outcomes
from aqcl.reproduce.specs import Specs
from aqcl.storage import atomic_write, read_manifest

FINISHED = "finished"
KINDS = ("activity", "alpha", "latents")
"""What an outcome holds by data set besides comparisons."""

Outcome = Mapping[str, Any]


def read_earlier(scope: Scope) -> dict[str, Outcome]:
    """The earlier outcomes of a command by table or figure; none if it names no directory.

    Raises:
        ConfigError: there are none in it, or they are of other seeds or of a quick look.
    """
    if scope.earlier is None:
        return {}
    found: dict[str, Outcome] = {
        outcome["name"]: outcome for outcome in read_outcomes(scope.earlier)
    }
    if not found:
        raise ConfigError(
            f"--earlier: {scope.earlier} holds no outcome such as table2.json; name the directory "
            "`outcome` of an earlier `aqcl reproduce`"
        )
    wanted = scope.seeds, scope.quick
    for name, outcome in found.items():
        had = outcome["seeds"], outcome["quick"]
        if had != wanted:
            raise ConfigError(
                f"--earlier: {scope.earlier / name}.json was made with --seeds {had[0]}"
                f"{' --quick' * had[1]}, and this command has --seeds {wanted[0]}"
                f"{' --quick' * wanted[1]}: cells of both cannot stand in one table"
            )
    return found


def keep_settings(
    specs: Specs, needs: Needs, earlier: Mapping[str, Outcome]
) -> list[tuple[Place, str]]:
    """Write the settings that earlier studies chose, for those studies that have not begun here.

    Args:
        specs: of everything.
        needs: of the command; its data sets are prepared, as far as they can be had.
        earlier: from `read_earlier`.

    Returns:
        The studies that need not be run.

    Raises:
        ConfigError: earlier settings were chosen on other rows.
    """
    kept = []
    for place, name in needs.studies:
        study = _study(earlier, f"{place.dataset}/{name}", specs.studies.studies[name].methods)
        if study is None or place.study(name).exists() or not place.is_prepared:
            continue
        for outcome in earlier.values():
            _check_same_rows(place, outcome)
        place.kept(name).mkdir(parents=True, exist_ok=True)
        for method, found in study["methods"].items():
            settings = {**found["experiment"], "dataset": str(place.prepared)}
            atomic_write(place.kept(name) / f"{method}.toml", to_toml(settings))
        kept.append((place, name))
    return kept


def _study(earlier: Mapping[str, Outcome], key: str, methods: Mapping[str, Any]) -> Any:
    """A study of any of the outcomes that chose settings for all of these methods."""
    for outcome in earlier.values():
        study = outcome["studies"].get(key)
        if study is not None and methods.keys() <= study["methods"].keys():
            return study
    return None


def _check_same_rows(place: Place, outcome: Outcome) -> None:
    facts = outcome["datasets"].get(place.dataset, {})
    known = facts.get("fingerprint")
    here = read_manifest(place.prepared, "aqcl-dataset").fingerprint
    if known is not None and known != here:
        raise ConfigError(_other_rows(facts["title"], outcome["name"], known, here))


def _other_rows(title: str, name: str, known: str, here: str) -> str:
    return (
        f"--earlier: {title} in {name}.json has other rows than here (fingerprints {known[:12]} "
        f"and {here[:12]}): prepare it from the same file with the same version, or leave out "
        "--earlier"
    )


def merged(new: Outcome, earlier: Outcome | None, order: list[tuple[str, str]]) -> dict[str, Any]:
    """An outcome with what only an earlier one has: data sets, comparisons, studies, curves.

    A comparison is taken as a whole, from the outcome in which more of its cells have finished;
    from the new one if as many have.

    Args:
        new: of this command.
        earlier: of the same table or figure, if there is one.
        order: id and data set of all its comparisons.

    Raises:
        ConfigError: they are of different rows.
    """
    if earlier is None:
        return dict(new)
    datasets = {**earlier["datasets"]}
    for key, facts in new["datasets"].items():
        before = datasets.get(key, {}).get("fingerprint")
        here = facts.get("fingerprint")
        if before is not None and here is not None and before != here:
            raise ConfigError(_other_rows(facts["title"], new["name"], before, here))
        if before is None or here is not None:
            datasets[key] = facts
    candidates = {_key(c): c for c in earlier["comparisons"]}
    for comparison in new["comparisons"]:
        other = candidates.get(_key(comparison))
        if other is None or _finished(comparison) >= _finished(other):
            candidates[_key(comparison)] = comparison
    studies = {**earlier["studies"]}
    for key, study in new["studies"].items():
        if len(study["methods"]) >= len(studies.get(key, study)["methods"]):
            studies[key] = study
    outcome = {
        **new,
        "datasets": datasets,
        "studies": studies,
        "comparisons": [candidates[key] for key in order if key in candidates],
    }
    for kind in KINDS:
        if kind in new:
            outcome[kind] = {**earlier.get(kind, {}), **new[kind]}
    return outcome


def _key(comparison: Outcome) -> tuple[str, str]:
    return comparison["id"], comparison["dataset"]


def _finished(comparison: Outcome) -> int:
    return sum(state == FINISHED for state in comparison["cells"].values())
