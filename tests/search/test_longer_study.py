"""A finished study that shall have more trials goes on, as if it had been begun with them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from aqcl.errors import ConfigError
from aqcl.search import work
from aqcl.search.work import read_study, run_search
from tests.searches import DIN_AND_AQCL, assert_same_study, killed_at
from tests.searches import short_search as search_values
from tests.tiny_runs import tiny_dataset

pytestmark = pytest.mark.usefixtures("no_study_figures")
SETTINGS: dict[str, Any] = {"widen": 0, "methods": DIN_AND_AQCL}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


def test_a_longer_study_is_the_one_that_was_begun_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = search_values(data, trials=4, **SETTINGS)
    whole, grown = tmp_path / "whole", tmp_path / "grown"
    run_search(longer, whole)
    run_search(search_values(data, trials=2, **SETTINGS), grown)
    had = read_study(grown)["methods"]["din"]["trials"]
    # Killed where its settings are written: the study of before may still be resumed.
    with killed_at(monkeypatch, work, "atomic_write", 0):
        run_search(longer, grown, resume=True)
    assert run_search(search_values(data, trials=2, **SETTINGS), grown, resume=True)["trials"] == 2
    # Methods keep the order in which they are searched.
    turned = {**SETTINGS, "methods": dict(reversed(DIN_AND_AQCL.items()))}
    found = run_search(search_values(data, trials=4, **turned), grown, resume=True)
    assert found["methods"]["din"]["trials"][:2] == had
    assert_same_study(grown, whole)


def test_fewer_trials_or_other_settings_are_no_longer_study(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    run_search(search_values(data, trials=3, widen=0), out)
    before = read_study(out)
    for search, told in (({"trials": 2}, "trials"), ({"trials": 4, "seed": 5}, "seed")):
        with pytest.raises(ConfigError, match=rf"search\.{told}: the study was started with"):
            run_search(search_values(data, widen=0, **search), out, resume=True)
    elsewhere = shutil.copytree(data, tmp_path / "other")
    manifest = json.loads((elsewhere / "manifest.json").read_text())
    (elsewhere / "manifest.json").write_text(json.dumps({**manifest, "fingerprint": "other"}))
    with pytest.raises(ConfigError, match="is not the one that"):
        run_search(search_values(elsewhere, trials=4, widen=0), out, resume=True)
    assert read_study(out) == before
