"""What was found under another specification, on other rows or for some methods alone."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aqcl.errors import ConfigError
from aqcl.reproduce import paper
from aqcl.reproduce.cells import Scope
from aqcl.reproduce.earlier import read_earlier
from aqcl.reproduce.specs import ComparisonSpec, Specs, Variant
from aqcl.significance import holm
from tests.reproduce.specifications import SMALL_LOG, small_specs, train_in_process

pytestmark = pytest.mark.usefixtures("no_study_figures")
TABLE, DATASET = "table2", "oncold"


def with_comparison(specs: Specs, **changes: Any) -> Specs:
    """The small world with another specification of its only comparison."""
    table = specs.experiments[TABLE]
    (tuned,) = table.comparisons
    changed = replace(table, comparisons=(replace(tuned, **changes),))
    return replace(specs, experiments={**specs.experiments, TABLE: changed})


def with_source(specs: Specs, **changes: Any) -> Specs:
    """The small world on another log."""
    spec = specs.datasets[DATASET]
    changed = replace(spec, source={**spec.source, **changes})
    return replace(specs, datasets={**specs.datasets, DATASET: changed})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scope]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper, "load_specs", small_specs)
        patch.setenv("AQCL_CACHE", str(tmp_path_factory.mktemp("cache")))
        train_in_process(patch)
        scope = Scope(tmp_path_factory.mktemp("finished") / "out", seeds=1)
        paper.reproduce((TABLE,), scope, datasets=(DATASET,))
        yield scope


@pytest.fixture
def copied(finished: Scope, tmp_path: Path) -> Scope:
    shutil.copytree(finished.out, tmp_path / "out")
    return replace(finished, out=tmp_path / "out")


def outcome_of(scope: Scope) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((scope.out / "outcome" / f"{TABLE}.json").read_text())
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"backbone.dropout": 0.2}},
        {"corner": "ids-resampled"},
        {"base": "ICL"},
        {"methods": ("DIN", "AQCL")},
        {"beside": ("DIN",)},
        {"of": "DIN", "variants": (Variant("x", {"train.lr": 1.0}),)},
        {"id": "another"},
    ],
)
def test_comparisons_that_are_specified_otherwise_now_are_left_out(
    finished: Scope, changes: dict[str, Any]
) -> None:
    scope = replace(finished, earlier=finished.out / "outcome")
    before = outcome_of(finished)
    assert read_earlier(small_specs(), scope)[TABLE] == before
    found = read_earlier(with_comparison(small_specs(), **changes), scope)[TABLE]
    assert found == {**before, "comparisons": []}


def test_variants_of_one_name_are_told_apart_by_their_settings() -> None:
    made = [
        ComparisonSpec("x", "x", "DIN", variants=(Variant("weak", {"train.lr": lr}),))
        for lr in (0.1, 0.2, 0.1)
    ]
    assert made[0].fingerprint == made[2].fingerprint != made[1].fingerprint


def test_methods_that_have_not_finished_count_in_the_correction(copied: Scope) -> None:
    """A verdict does not depend on what is trained first."""
    shutil.rmtree(copied.out / f"{DATASET}-ids-frozen" / "runs" / "AQCL")
    ((outcome),) = paper.reproduce((TABLE,), copied, datasets=(DATASET,), train=False)
    ((comparison),) = outcome["comparisons"]
    assert comparison["cells"]["AQCL"].startswith("not run")
    rows = [row for row in comparison["comparison"]["rows"] if row["holm"] is not None]
    assert {row["configuration"] for row in rows} == {"ICL"}
    p_values = [row["p_value"] for row in rows]
    assert [row["holm"] for row in rows] == holm([*p_values, *[1.0] * len(rows)])[: len(rows)]


@pytest.mark.parametrize("kept", [False, True])
def test_settings_that_were_tuned_on_other_rows_are_refused(
    copied: Scope, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """Whether they were tuned here or taken from an earlier outcome."""
    place = copied.out / f"{DATASET}-ids-frozen"
    if kept:
        shutil.rmtree(place / "tuning-din")
        earlier = shutil.copytree(copied.out / "outcome", copied.out / "earlier")
        unfinished = with_comparison(small_specs(), settings={"backbone.dropout": 0.3})
        monkeypatch.setattr(paper, "load_specs", lambda: unfinished)
        paper.reproduce((TABLE,), replace(copied, earlier=earlier), datasets=(DATASET,))
        assert (place / "settings-din").exists()
    shutil.rmtree(place / "dataset")
    other = with_source(small_specs(), users=SMALL_LOG["users"] + 1)
    monkeypatch.setattr(paper, "load_specs", lambda: other)
    where = "settings-din" if kept else "tuning-din"
    with pytest.raises(ConfigError, match=rf"{where}/DIN.*: was tuned on other rows .* --out"):
        paper.reproduce((TABLE,), copied, datasets=(DATASET,))
