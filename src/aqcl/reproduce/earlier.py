"""Outcomes made before, here or on another machine: their settings and finished comparisons."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aqcl.errors import ConfigError
from aqcl.reproduce.budgets import differences
from aqcl.reproduce.cells import BUDGET, Needs, Place, Scope, Study, search_options
from aqcl.reproduce.results_page import read_outcomes
from aqcl.reproduce.specs import Specs
from aqcl.reproduce.states import finished_cells
from aqcl.storage import atomic_write

ACTIVITY = "activity"
"""What needs no study."""
KINDS = (ACTIVITY, "alpha", "latents")
"""What an outcome holds by data set besides comparisons."""
Outcome = Mapping[str, Any]


def read_earlier(specs: Specs, scope: Scope) -> dict[str, Outcome]:
    """The earlier outcomes of a command by table or figure; none if it names no directory.

    Comparisons that had other methods, settings or rows than are specified now are left out.

    Raises:
        ConfigError: there are none in it, or they are of other seeds, of another budget of trials
            or of a quick look.
    """
    if scope.earlier is None:
        return {}
    found: dict[str, Outcome] = {
        outcome["name"]: as_specified(specs, outcome) for outcome in read_outcomes(scope.earlier)
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
        for key, study in outcome["studies"].items():
            trials = search_options(specs, scope, key.partition("/")[0])["trials"]
            if study["trials"] != trials:
                raise ConfigError(
                    f"--earlier: {scope.earlier / name}.json tuned {key} with {study['trials']} "
                    f"trials, and this command has {trials}: methods in one table must have equal "
                    "budgets"
                )
    return found


def as_specified(specs: Specs, outcome: Outcome) -> Outcome:
    """An outcome without comparisons that had other methods or settings than are specified now."""
    now = {spec.id: spec for spec in specs.experiments[outcome["name"]].comparisons}
    same = [
        comparison
        for comparison in outcome["comparisons"]
        if (spec := now.get(comparison["id"])) is not None
        and comparison.get("specification") == spec.fingerprint
    ]
    return {**outcome, "comparisons": same}


def finished_in(
    specs: Specs, scope: Scope, earlier: Mapping[str, Outcome]
) -> dict[tuple[str, str, str], list[str]]:
    """Labels of finished cells, by table or figure, id and data set of their comparison.

    Those whose winner was found in another way than this command would find it are left out.
    """
    return {
        (name, *_key(comparison)): finished_cells(comparison)
        for name, outcome in earlier.items()
        for comparison in outcome["comparisons"]
        if _as_now(specs, scope, outcome, comparison["dataset"])
    }


def drawn_in(specs: Specs, scope: Scope, earlier: Mapping[str, Outcome]) -> set[tuple[str, str]]:
    """Tables and figures with the data sets whose curves or latents are there.

    Those whose winner was found in another way than this command would find it are left out.
    """
    drawn = set()
    for name, outcome in earlier.items():
        for kind in KINDS:
            for key, found in outcome.get(kind, {}).items():
                has_winner = kind == ACTIVITY or bool(_studies_on(outcome, key))
                if has_winner and _is_whole(found) and _as_now(specs, scope, outcome, key):
                    drawn.add((name, key))
    return drawn


def _as_now(specs: Specs, scope: Scope, outcome: Outcome, dataset: str) -> bool:
    """Whether all winners on a data set were found as this command would find them."""
    studies = _studies_on(outcome, dataset).items()
    return not any(differences(specs, scope, dataset, name, study) for name, study in studies)


def _is_whole(found: Outcome) -> bool:
    """Whether curves have the trials behind them, and latents are there."""
    return "missing" not in found and found.get("trials") != []


def keep_settings(specs: Specs, scope: Scope, needs: Needs, earlier: Mapping[str, Outcome]) -> None:
    """Write what earlier studies found, for those studies that have not begun here.

    A study that looked for its winner in another way than this command would is passed over.
    One that has begun here goes on; where it has chosen other settings than the earlier one, cells
    of both cannot stand in one table.

    Args:
        specs: of everything.
        scope: of the command.
        needs: of the command; its data sets are prepared, as far as they can be had.
        earlier: from `read_earlier`.

    Raises:
        ConfigError: an earlier outcome is of other rows or settings.
    """
    for study in needs.studies:
        if not study.place.is_prepared:
            continue
        for outcome in earlier.values():
            _check_same_rows(study.place, outcome)
        here = study.record()
        for outcome in earlier.values():
            known = outcome["studies"].get(f"{study.place.dataset}/{study.backbone}")
            if known is None or study.method not in known["methods"]:
                continue
            known = {**known, "methods": {study.method: known["methods"][study.method]}}
            if differences(specs, scope, study.place.dataset, study.backbone, known):
                continue
            if here is not None:
                _check_same_settings(study, here, outcome, known)
            elif not study.folder.exists():
                study.kept.parent.mkdir(parents=True, exist_ok=True)
                known["dataset"] = study.place.fingerprint
                text = json.dumps(known, indent=1, ensure_ascii=False)
                atomic_write(study.kept, text + "\n")
                break


def _check_same_rows(place: Place, outcome: Outcome) -> None:
    facts = outcome["datasets"].get(place.dataset, {})
    known = facts.get("fingerprint")
    here = place.fingerprint
    if known is not None and known != here:
        raise ConfigError(_other_rows(facts["title"], outcome["name"], known, here))


def _check_same_settings(
    study: Study, here: tuple[Path, Outcome], outcome: Outcome, known: Outcome
) -> None:
    place, found = here
    if _settings(found).get(study.method) != _settings(known).get(study.method):
        title = outcome["datasets"][study.place.dataset]["title"]
        raise ConfigError(
            f"--earlier: {outcome['name']}.json has other settings of {study.method} on {title} "
            f"than {place}: cells of both cannot stand in one table; choose another --out, or "
            "leave out --earlier"
        )


def _settings(study: Outcome) -> dict[str, Any]:
    """What a study has chosen for each method."""
    return {name: method["experiment"] for name, method in study["methods"].items()}


def _other_rows(title: str, name: str, known: str, here: str) -> str:
    return (
        f"--earlier: {title} in {name}.json has other rows than here (fingerprints {known[:12]} "
        f"and {here[:12]}): prepare it from the same file with the same version, or leave out "
        "--earlier"
    )


def merged(new: Outcome, earlier: Outcome | None, order: list[tuple[str, str]]) -> dict[str, Any]:
    """An outcome with what only an earlier one has: data sets, comparisons, studies, curves.

    A comparison is taken as a whole, from the outcome in which more of its cells have finished;
    from the new one if as many have. Studies are joined; where both have one whose winners were
    found in another way, all of its data set comes from the outcome with more finished cells on it.

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
    for dataset in _clashes(new, earlier):
        if _count_finished(new, dataset) < _count_finished(earlier, dataset):
            new = _without(new, dataset)
        else:
            earlier = _without(earlier, dataset)
    candidates = {_key(c): c for c in earlier["comparisons"]}
    for comparison in new["comparisons"]:
        other = candidates.get(_key(comparison))
        if other is None or len(finished_cells(comparison)) >= len(finished_cells(other)):
            candidates[_key(comparison)] = comparison
    studies = {**earlier["studies"]}
    for key, study in new["studies"].items():
        before = studies.get(key, study)
        studies[key] = {**study, "methods": {**before["methods"], **study["methods"]}}
    outcome = {
        **new,
        "datasets": datasets,
        "studies": studies,
        "comparisons": [candidates[key] for key in order if key in candidates],
    }
    for kind in KINDS:
        if kind in new:
            before = earlier.get(kind, {})
            here = {k: made for k, made in new[kind].items() if k not in before or _is_whole(made)}
            outcome[kind] = {**before, **here}
    return outcome


def ordered(outcome: Outcome, datasets: Sequence[str]) -> dict[str, Any]:
    """An outcome whose data sets stand in that order: each has one colour in all figures."""
    found = {**outcome}
    for part in ("datasets", *KINDS):
        if part in outcome:
            keys = [key for key in datasets if key in outcome[part]]
            keys += [key for key in outcome[part] if key not in datasets]
            found[part] = {key: outcome[part][key] for key in keys}
    return found


def of_other_datasets(outcome: Outcome, datasets: Sequence[str]) -> Outcome:
    """What an outcome holds of all data sets but these."""
    for dataset in datasets:
        outcome = _without(outcome, dataset)
    facts = {key: found for key, found in outcome["datasets"].items() if key not in datasets}
    return {**outcome, "datasets": facts}


def _budget(study: Outcome) -> tuple[Any, ...]:
    return tuple(study.get(key) for key in BUDGET)


def _studies_on(outcome: Outcome, dataset: str) -> dict[str, Outcome]:
    """By backbone."""
    split = [(key.partition("/"), study) for key, study in outcome["studies"].items()]
    return {backbone: study for (of, _, backbone), study in split if of == dataset}


def _clashes(new: Outcome, earlier: Outcome) -> list[str]:
    """Data sets on which both tuned the same backbone in different ways, or to different ends."""
    shared = new["studies"].keys() & earlier["studies"].keys()
    return sorted(
        {
            key.partition("/")[0]
            for key in shared
            if _differ(new["studies"][key], earlier["studies"][key])
        }
    )


def _differ(one: Outcome, other: Outcome) -> bool:
    """Whether two studies were made in different ways or chose different settings."""
    ours, theirs = _settings(one), _settings(other)
    both = ours.keys() & theirs.keys()
    return _budget(one) != _budget(other) or any(ours[name] != theirs[name] for name in both)


def _count_finished(outcome: Outcome, dataset: str) -> int:
    return sum(len(finished_cells(c)) for c in outcome["comparisons"] if c["dataset"] == dataset)


def _without(outcome: Outcome, dataset: str) -> dict[str, Any]:
    """All but what was found on a data set; the facts of the data set itself stay."""
    kept = {
        **outcome,
        "comparisons": [c for c in outcome["comparisons"] if c["dataset"] != dataset],
        "studies": {
            key: study
            for key, study in outcome["studies"].items()
            if not key.startswith(f"{dataset}/")
        },
    }
    for kind in KINDS:
        if kind in outcome:
            kept[kind] = {key: found for key, found in outcome[kind].items() if key != dataset}
    return kept


def _key(comparison: Outcome) -> tuple[str, str]:
    return comparison["id"], comparison["dataset"]
