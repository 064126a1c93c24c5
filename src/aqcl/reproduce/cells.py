"""Which datasets, studies and runs a table or figure needs, and where each of them lies."""

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aqcl.config import read_toml
from aqcl.errors import ConfigError
from aqcl.experiment import Experiment, resolve
from aqcl.reproduce.specs import CORNERS, TUNED, WHOLE, ComparisonSpec, Specs
from aqcl.search.files import FINDINGS
from aqcl.storage import MANIFEST, read_manifest

BUDGET = ("trials", "confirm", "confirm_seeds", "objective", "pruning")
"""How the winner of each method in a study is found, as its options and its outcome have it."""


@dataclass(frozen=True)
class Scope:
    """What a user asked for: how thoroughly, on which files, and where it goes."""

    out: Path
    """Datasets, studies and runs; shared by all tables and figures."""
    seeds: int = 5
    """Runs of each cell, with the seeds 1, 2, ...; tuning has seed 0."""
    trials: int | None = None
    """Trials of each method in its study; the specification's if None."""
    quick: bool = False
    """Small data, few trials, few epochs: to see it work."""
    files: Mapping[str, tuple[Path, ...]] | None = None
    """Files of data sets by key, the log first and then its attributes."""
    earlier: Path | None = None
    """Outcomes made before, from which settings and finished comparisons are taken."""


@dataclass(frozen=True)
class Place:
    """A data set with certain fields and negatives."""

    dataset: str
    corner: str
    folder: Path

    @property
    def prepared(self) -> Path:
        """The dataset directory."""
        return self.folder / "dataset"

    @property
    def fingerprint(self) -> str:
        """Of what is there."""
        return read_manifest(self.prepared, "aqcl-dataset").fingerprint

    @property
    def is_prepared(self) -> bool:
        """Whether it is there."""
        return (self.prepared / MANIFEST).exists()


@dataclass(frozen=True)
class Problems:
    """What could not be done, and why."""

    places: Mapping[Place, str] = field(default_factory=dict)
    """Data sets that could not be had."""
    runs: Mapping[Path, str] = field(default_factory=dict)
    """Trainings and studies that came to nothing, by their directories."""


@dataclass(frozen=True)
class Study:
    """The trials that find the settings of a method on a data set."""

    place: Place
    backbone: str
    """Its key in the specification."""
    method: str

    @property
    def folder(self) -> Path:
        """The study directory."""
        return self.place.folder / f"tuning-{self.backbone}" / self.method

    @property
    def kept(self) -> Path:
        """Where the record of an earlier study lies, if that stands in for this one."""
        return self.place.folder / f"settings-{self.backbone}" / f"{self.method}.json"

    def findings(self) -> tuple[Path, dict[str, Any]] | None:
        """What was found here, and the study directory; None before the trials have ended."""
        # Studies of all methods of a backbone together, as they were once, lie a level higher.
        for folder in (self.folder, self.folder.parent):
            file = folder / FINDINGS
            if file.exists():
                found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
                method = found["methods"].get(self.method)
                if method is not None and method["ended"] and method["best"]:
                    return folder, found
        return None

    def record(self) -> tuple[Path, dict[str, Any]] | None:
        """What outcomes say of it and where that is known from; None before its trials have ended.

        The fingerprint of its dataset, if that is known, its budget, and under `methods` what was
        found for the method, with its settings.
        """
        if self.kept.exists():
            return self.kept, json.loads(self.kept.read_text(encoding="utf-8"))
        found = self.findings()
        if found is None:
            return None
        folder, summary = found
        method = summary["methods"][self.method]
        best = method["best"]
        return folder, {
            "dataset": _dataset_of(folder),
            **{part: summary[part] for part in (*BUDGET, "seed")},
            "methods": {
                self.method: {
                    "number": best["number"],
                    "valid": best["value"],
                    "finalists": method["finalists"],
                    "parameters": best["parameters"],
                    "penalty": best["penalty"],
                    "space": method["space"],
                    "rows": method["rows"],
                    "seconds": method["seconds"],
                    "experiment": _without_place(read_toml(folder / best["experiment"])),
                }
            },
        }

    def winner(self) -> Experiment | None:
        """The settings that an earlier study chose or this one; None before its trials end."""
        known = self.record()
        if known is None:
            return None
        settings = known[1]["methods"][self.method]["experiment"]
        return resolve({**settings, "dataset": str(self.place.prepared)})


def _dataset_of(study: Path) -> str | None:
    """The fingerprint of the dataset of a study; None where the last word of it was not written."""
    if not (study / MANIFEST).exists():
        return None
    return str(read_manifest(study, "aqcl-study", files_at=()).source["dataset"])


def _without_place(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """All settings, apart from where the dataset lies."""
    return {key: value for key, value in experiment.items() if key != "dataset"}


@dataclass(frozen=True)
class Cell:
    """A method with certain settings, to be trained with several seeds."""

    place: Place
    study: Study
    """What finds its settings."""
    label: str
    settings: tuple[tuple[str, Any], ...]
    """On top of the method's winner, by dotted key."""

    @property
    def carried_over(self) -> bool:
        """Whether its settings were tuned on other rows."""
        return self.place != self.study.place


def place_of(scope: Scope, dataset: str, corner: str) -> Place:
    """Where a data set and what is trained on it lies."""
    return Place(dataset, corner, (scope.out / f"{dataset}-{corner}").absolute())


def prepare_values(specs: Specs, scope: Scope, place: Place) -> dict[str, Any]:
    """The settings of `prepare` for a place.

    Raises:
        ConfigError: the data set needs a file that was not named, or one too many was.
    """
    spec = specs.datasets[place.dataset]
    values: dict[str, Any] = {"source": spec.source, **spec.prepare}
    corner = CORNERS[place.corner]
    values |= {key: value for key, value in corner.items() if key != "negatives"}
    if scope.quick:
        values |= spec.quick
    observed = spec.source["name"] == "oncold"  # its labels are impressions: nothing is drawn
    if not observed:
        values["negatives"] = {**values.get("negatives", {}), **corner["negatives"]}
    paths = (scope.files or {}).get(place.dataset, ())
    if spec.file_option is not None and not paths:
        raise ConfigError(
            f"{spec.title}: no data; name its file with {spec.file_option} FILE: sequences "
            "(.txt) or the reviews (.json.gz)"
        )
    if len(paths) > 2:
        raise ConfigError(
            f"{spec.file_option}: expected a log and perhaps a file of attributes, got "
            f"{len(paths)} files: {', '.join(map(str, paths))}"
        )
    if paths:
        # Ids alone are the same data whether attributes are there or not.
        has_fields = "fields" not in corner
        if has_fields and len(paths) == 1:
            raise ConfigError(
                f"{spec.title}: no attributes; name their file after the log, as "
                f"{spec.file_option} {paths[0].name} ATTRIBUTES"
            )
        values["source"] = _with_files(values["source"], paths if has_fields else paths[:1])
    return values


def _with_files(source: Mapping[str, Any], paths: tuple[Path, ...]) -> dict[str, Any]:
    log, *attributes = (str(path.expanduser().absolute()) for path in paths)
    made = {**source, "path": log}
    if source["name"] == "sequences" and not log.endswith(".txt"):
        made = {"name": "amazon", "path": log}
    if attributes:
        key = "attributes" if made["name"] == "sequences" else "meta"
        made[key] = attributes[0]
    return made


def study_values(specs: Specs, scope: Scope, study: Study) -> dict[str, Any]:
    """The settings of `run_search` for a study."""
    common, tuned = specs.studies, specs.studies.studies[study.backbone]
    methods = {study.method: tuned.methods[study.method]}
    return {
        "dataset": str(study.place.prepared),
        **_tuning(specs, scope, study.place.dataset, "experiment", common.experiment),
        "backbone": tuned.backbone,
        "search": {**search_options(specs, scope, study.place.dataset), "methods": methods},
    }


def search_options(specs: Specs, scope: Scope, dataset: str) -> dict[str, Any]:
    """What all studies on a data set have in common, the number of trials among it."""
    search = _tuning(specs, scope, dataset, "search", specs.studies.search)
    return search if scope.trials is None else {**search, "trials": scope.trials}


def _tuning(
    specs: Specs,
    scope: Scope,
    dataset: str,
    table: Literal["experiment", "search"],
    shared: Mapping[str, Any],
) -> dict[str, Any]:
    """What all data sets share, the data set's own over it, and a quick look's over both."""
    values = {**shared}
    own = specs.datasets[dataset].tuning
    for changes in (own, specs.studies.quick) if scope.quick else (own,):
        values = _merged(values, getattr(changes, table))
    return values


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in changes.items():
        old = merged.get(key)
        nested = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(old, value) if nested else value  # type: ignore[arg-type]
    return merged


def study_of(specs: Specs, place: Place, method: str) -> Study:
    """The study of a method on a data set."""
    return Study(place, specs.studies.backbone_of(method), method)


def cells_of(specs: Specs, scope: Scope, comparison: ComparisonSpec, dataset: str) -> list[Cell]:
    """The cells of a comparison on one data set."""
    place, tuned = place_of(scope, dataset, comparison.corner), place_of(scope, dataset, TUNED)
    shared = tuple(comparison.settings.items())
    listed = [(name, name, shared) for name in (*comparison.methods, *comparison.beside)]
    for variant in comparison.variants:
        assert comparison.of is not None
        own = (*shared, *variant.settings.items())
        listed.append((comparison.of, variant.name, own))
    return [
        Cell(place, study_of(specs, tuned, method), label, own) for method, label, own in listed
    ]


def comparisons_of(
    specs: Specs, scope: Scope, name: str, datasets: tuple[str, ...] = ()
) -> Iterator[tuple[ComparisonSpec, str, list[Cell]]]:
    """Each comparison of a table or figure with its data set and its cells."""
    experiment = specs.experiments[name]
    for comparison in experiment.comparisons:
        for dataset in comparison.datasets or experiment.datasets:
            if not datasets or dataset in datasets:
                yield comparison, dataset, cells_of(specs, scope, comparison, dataset)


@dataclass(frozen=True)
class Needs:
    """What tables and figures need, each thing once."""

    places: tuple[Place, ...]
    studies: tuple[Study, ...]
    cells: Mapping[Cell, int]
    """With how many seeds each is trained."""


def needs_of(
    specs: Specs,
    scope: Scope,
    names: Iterable[str],
    datasets: tuple[str, ...],
    finished: Mapping[tuple[str, str, str], Container[str]],
    drawn: Container[tuple[str, str]] = (),
) -> Needs:
    """Everything that several tables and figures need.

    Args:
        specs: of everything.
        scope: of this command.
        names: of tables and figures.
        datasets: only these; all if empty.
        finished: labels of cells that need not be trained, by table or figure, id and data set of
            their comparison; it is left out if all of them are there.
        drawn: tables or figures with data sets whose curves or latents are there.
    """
    places: dict[Place, None] = {}
    studies: dict[Study, None] = {}
    cells: dict[Cell, int] = {}
    for name in names:
        spec = specs.experiments[name]
        for key in (k for k in spec.datasets if not datasets or k in datasets):
            tuned = place_of(scope, key, TUNED)
            places[tuned] = None
            if spec.kind == "counts" and specs.datasets[key].is_part and not scope.quick:
                places[place_of(scope, key, WHOLE)] = None
            if (name, key) in drawn:
                continue
            for method in spec.tunes:
                studies[study_of(specs, tuned, method)] = None
            for method in spec.trains:
                cells.setdefault(tuned_cell(specs, tuned, method), 1)
        for comparison, key, found in comparisons_of(specs, scope, name, datasets):
            done = finished.get((name, comparison.id, key), ())
            if not all(cell.label in done for cell in found):
                cells |= dict.fromkeys(found, scope.seeds)
    for cell in cells:
        places |= {cell.study.place: None, cell.place: None}
        studies[cell.study] = None
    return Needs(tuple(places), tuple(studies), cells)


def studies_of(
    specs: Specs, scope: Scope, name: str, datasets: tuple[str, ...] = ()
) -> list[Study]:
    """The studies behind a table or figure."""
    needs = needs_of(specs, scope, (name,), datasets, {})
    return list(needs.studies)


def tuned_cell(specs: Specs, place: Place, method: str) -> Cell:
    """A method at its best settings, on the rows that it was tuned on."""
    return Cell(place, study_of(specs, place, method), method, ())
