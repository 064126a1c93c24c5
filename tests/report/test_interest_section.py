"""What a report shows of interests: which seed, and which colour is which interest."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from aqcl.dataset import Dataset, open_dataset
from aqcl.interest_tables import effect, near
from aqcl.interests import Codebook, describe_examples
from aqcl.latents import encode_rows, load_interests, load_model
from aqcl.report import interest_section
from aqcl.report.interest_section import NO_BREAK, codebooks_of, collapsed, interests_body
from aqcl.train import train
from tests.report.test_page import Outline
from tests.tiny_runs import tiny_dataset, tiny_experiment


def test_the_seed_is_told_and_colours_have_the_numbers_of_their_interests(tmp_path: Path) -> None:
    place = tiny_dataset(tmp_path)
    runs = [train(tiny_experiment(place, f"seed={k}"), tmp_path / f"{k}") for k in (3, 4)]
    dataset = open_dataset(place)
    figures: dict[str, Figure] = {}
    named = {"DIN & AQCL": runs}
    books = codebooks_of(dataset, named)
    text = Outline(interests_body(dataset, named, books, figures)).text
    rows = np.arange(len(dataset.valid))
    latent = encode_rows(load_model(runs[0], dataset), dataset.valid, rows, 50)
    sizes = np.bincount(load_interests(runs[0], dataset).nearest(latent))
    used = np.count_nonzero(sizes)
    shown = min(used, 6)
    assert f"Latents of {len(rows)} validation rows in the plane (t-SNE), seed 3. Rows" in text
    assert f"nearest to the {shown} largest of their {used} interests have colours" in text
    assert "The largest interests of DIN & AQCL, seed 3, and who has them" in text
    legend = figures["latents-0"].axes[0].get_legend()
    assert legend is not None
    largest = np.argsort(-sizes, kind="stable")[:shown]
    assert [entry.get_text() for entry in legend.get_texts()] == [str(k) for k in largest]


def test_each_interest_has_its_rows_and_each_group_a_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Dataset) -> None:
        raise AssertionError("opened the test rows")

    place = tiny_dataset(tmp_path)
    runs = [train(tiny_experiment(place, f"seed={k}"), tmp_path / f"{k}") for k in (3, 4)]
    dataset, named = open_dataset(place), {"DIN & AQCL": runs}
    monkeypatch.setattr(Dataset, "test", property(refuse))
    books = codebooks_of(dataset, named)
    text = Outline(interests_body(dataset, named, books, {})).text.replace(NO_BREAK, " ")
    for interest in books["DIN & AQCL"].interests:
        assert f"{interest.codeword}{interest.rows:,}{interest.share:.1%}" in text
        assert ", ".join(f"{name} ({count})" for name, count in interest.items) in text
    examples = describe_examples(runs[0], dataset=dataset)
    assert examples
    assert examples != describe_examples(runs[1], dataset=dataset)
    for group, one in examples.items():
        told = f"{group}{one.user}{one.clicks}{one.item}{one.score:.4f}{near(one.nearest or ())}"
        assert told + "; ".join(f"{d.item} {effect(d)}" for d in one.drivers) in text


@pytest.mark.parametrize("name", ["No click before", "Nobody"])
def test_a_report_does_without_what_there_is_none_of(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tiny_dataset(tmp_path)
    run = train(tiny_experiment(place), tmp_path / "run")
    dataset, named = open_dataset(place), {"AQCL": [run]}
    books, columns = codebooks_of(dataset, named), dataset.valid.columns
    emptied = "history_length" if name == "No click before" else "label"
    monkeypatch.setitem(columns, emptied, np.zeros_like(columns[emptied]))
    text = Outline(interests_body(dataset, named, books, {})).text
    assert "The largest interests of AQCL, seed 0, and who has them" in text
    assert ("none to leave out" in text) == (name == "No click before")
    assert ("An example of each activity group" in text) == (name == "No click before")


def test_a_picture_is_left_out_where_each_row_has_an_interest_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tiny_dataset(tmp_path)
    run = train(tiny_experiment(place), tmp_path / "run")
    own = SimpleNamespace(nearest=lambda latent: np.arange(len(latent)))
    figures: dict[str, Figure] = {}
    dataset, named = open_dataset(place), {"AQCL": [run]}
    books = codebooks_of(dataset, named)
    monkeypatch.setattr(interest_section, "load_interests", lambda run, dataset: own)
    text = Outline(interests_body(dataset, named, books, figures)).text
    assert figures == {}
    assert "The largest interests of AQCL, seed 0, and who has them" in text


@pytest.mark.parametrize(("perplexity", "told"), [(1.0, True), (12.7, True), (12.9, False)])
def test_a_codebook_whose_samples_lie_at_few_interests_is_told(
    perplexity: float, told: bool
) -> None:
    book = Codebook(rows=5000, codewords=128, used=20, perplexity=perplexity, interests=())
    lines = collapsed({"AQCL": book})
    assert len(lines) == told
    assert all(
        f"without dropout, the perplexity of its 128 interests is {perplexity:.1f}" in line
        for line in lines
    )


def test_few_rows_cannot_lie_at_many_interests() -> None:
    book = Codebook(rows=10, codewords=128, used=5, perplexity=5.0, interests=())
    assert collapsed({"AQCL": book}) == []


def test_a_method_without_a_codebook_has_none_to_tell_of(tmp_path: Path) -> None:
    place = tiny_dataset(tmp_path)
    run = train(tiny_experiment(place, regularizer={}), tmp_path / "run")
    assert codebooks_of(open_dataset(place), {"DIN": [run]}) == {}


def test_a_method_without_a_codebook_has_users_and_what_drove_their_scores(
    tmp_path: Path,
) -> None:
    place = tiny_dataset(tmp_path)
    run = train(tiny_experiment(place, "regularizer.aqcl.weight=0"), tmp_path / "run")
    dataset, named = open_dataset(place), {"DIN": [run]}
    assert codebooks_of(dataset, named) == {}
    figures: dict[str, Figure] = {}
    text = Outline(interests_body(dataset, named, {}, figures)).text.replace(NO_BREAK, " ")
    assert figures == {}
    assert "The largest interests" not in text
    assert "Nearest interests" not in text
    for group, one in describe_examples(run, dataset=dataset).items():
        drivers = "; ".join(f"{d.item} {effect(d)}" for d in one.drivers)
        assert f"{group}{one.user}{one.clicks}{one.item}{one.score:.4f}{drivers}" in text
