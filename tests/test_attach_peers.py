"""What the page on attaching says of other libraries is what results/ holds."""

import json
from typing import Any

import pytest

from tests.test_experiments import ROOT, load_script


@pytest.fixture(scope="module")
def stored() -> Any:
    return json.loads((ROOT / "results" / "attach.json").read_text(encoding="utf-8"))


def test_the_page_holds_the_table_of_the_results(stored: Any) -> None:
    page = (ROOT / "docs" / "how-to" / "attach.md").read_text(encoding="utf-8")
    assert load_script("attach_peers").render(page, stored) == page
    assert page.count("| Wide & Deep |") == len(stored)


def test_every_library_was_tried_with_every_model(stored: Any) -> None:
    assert set(stored) == set(load_script("attach_peers").LIBRARIES)
    for outcome in stored.values():
        assert [model["model"] for model in outcome["models"]] == ["Wide & Deep", "DeepFM", "DIN"]
        for model in outcome["models"]:
            assert model["bit_equal"]
            assert 0 < model["parameters_reached"] <= model["parameters"]
            assert model["loss_after"] < model["loss_before"]
