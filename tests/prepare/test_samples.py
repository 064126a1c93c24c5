"""Samples see the past alone, negatives are legal, ids are known from training."""

import collections
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aqcl.schema import FIRST_ID
from aqcl.splits import SPLITS
from tests.click_logs import (
    SPLIT_SETTINGS,
    TEST_FROM,
    VALID_FROM,
    Row,
    Sample,
    prepared,
    random_rows,
    samples_by_user,
    simple_rows,
)


def _expected(rows: list[Row], kind: str, ties: str) -> dict[str, dict[str, list[Sample]]]:
    """Split and history of each row by reading the promises literally: split, user, samples."""
    result: dict[str, dict[str, list[Sample]]] = {
        name: collections.defaultdict(list) for name in SPLITS
    }
    for user in {row[0] for row in rows}:
        own = sorted((row for row in rows if row[0] == user), key=lambda row: row[2])
        one_by_one = (kind, ties) == ("last-interaction", "order")
        moments = list(range(len(own))) if one_by_one else [r[2] for r in own]
        distinct = sorted(set(moments))
        for place, (_, item, time, label) in enumerate(own):
            if kind in ("last-days", "time"):
                name = SPLITS[(time >= VALID_FROM) + (time >= TEST_FROM)]
            elif moments[place] == distinct[-1] and len(distinct) >= 2:
                name = "test"
            elif moments[place] in distinct[-2:-1] and len(distinct) >= 3:
                name = "valid"
            else:
                name = "train"
            before = [r for r in own if r[2] < time] if ties == "exclude" else own[:place]
            history = tuple(r[1] for r in before if r[3] == 1)
            result[name][user].append((item, time, label, history))
    return result


@settings(max_examples=60)
@given(
    random_rows(), st.sampled_from(sorted(SPLIT_SETTINGS)), st.sampled_from(["exclude", "order"])
)
def test_impressions_get_the_split_and_history_that_were_promised(
    rows: list[Row], kind: str, ties: str
) -> None:
    values = {"split": {"kind": kind, "ties": ties, **SPLIT_SETTINGS[kind]}}
    with tempfile.TemporaryDirectory() as folder:
        dataset = prepared(Path(folder) / "out", rows, values)
        expected = _expected(rows, kind, ties)
        for split in (dataset.train, dataset.valid, dataset.test):
            assert samples_by_user(dataset, split) == expected[split.name]


@settings(max_examples=60)
@given(
    random_rows(),
    st.sampled_from(sorted(SPLIT_SETTINGS)),
    st.sampled_from(["exclude", "order"]),
    st.integers(1, 3),
    st.sampled_from(["train", "all"]),
    st.sampled_from(["clicked", "all"]),
)
def test_clicks_get_negatives_that_are_legal_and_share_their_past(
    rows: list[Row], kind: str, ties: str, ratio: int, exclude: str, train_items: str
) -> None:
    clicks = [(*row[:3], 1) for row in rows]
    values = {
        "split": {"kind": kind, "ties": ties, **SPLIT_SETTINGS[kind]},
        "negatives": {"ratio": ratio, "exclude": exclude, "train_items": train_items},
    }
    expected = _expected(clicks, kind, ties)
    everything = {row[1] for row in clicks}
    in_train = {item for own in expected["train"].values() for item, *_ in own}
    if train_items == "clicked":
        # Else nobody has a negative to train with.
        of_users = [{item for item, *_ in own} for own in expected["train"].values() if own]
        assume(any(own < in_train for own in of_users))
    clicked: dict[str, set[str]] = collections.defaultdict(set)
    for name in SPLITS:
        for user, own in expected[name].items():
            clicked[user] |= {item for item, *_ in own}
    with tempfile.TemporaryDirectory() as folder:
        dataset = prepared(Path(folder) / "out", [row[:3] for row in clicks], values)
        for split in (dataset.train, dataset.valid, dataset.test):
            found = samples_by_user(dataset, split)
            pool = in_train if (split.name, train_items) == ("train", "clicked") else everything
            for user, own in found.items():
                banned = clicked[user]
                if split.name == "train" and exclude == "train":
                    banned = {item for item, *_ in expected["train"][user]}
                n_drawn = ratio if pool - banned else 0
                assert [s for s in own if s[2] == 1] == expected[split.name][user]
                for place, (item, time, label, history) in enumerate(own):
                    assert label == (place % (n_drawn + 1) == 0)
                    if not label:
                        assert item in pool - banned
                        assert (time, history) == own[place - 1][1::2]
            assert found.keys() == {u for u, own in expected[split.name].items() if own}


@settings(max_examples=20)
@given(random_rows(), st.integers(1, 3))
def test_known_ids_are_those_with_enough_training_rows(rows: list[Row], min_count: int) -> None:
    values = {
        "split": {"kind": "time", **SPLIT_SETTINGS["time"]},
        "vocabulary": {"min_count": min_count},
    }
    train = [row for row in rows if row[2] < VALID_FROM]
    counts = {
        name: collections.Counter(row[k] for row in train)
        for k, name in enumerate(("user", "item"))
    }
    known = {
        name: {v for v, n in count.items() if n >= min_count} for name, count in counts.items()
    }
    assume(all(known.values()))
    with tempfile.TemporaryDirectory() as folder:
        dataset = prepared(Path(folder) / "out", rows, values)
        schema = dataset.schema
        sizes = {
            "user": (schema.n_users, schema.n_user_entities),
            "item": (schema.n_items, schema.n_item_entities),
        }
        for place, (name, (n_known, n_entities)) in enumerate(sizes.items()):
            vocabulary = dataset.vocabularies[name]
            assert set(vocabulary.decode(np.arange(FIRST_ID, n_known))) == known[name]
            assert set(vocabulary.values) == {row[place] for row in rows}
            assert (vocabulary.size_known, vocabulary.size) == (n_known, n_entities)
        clicks = collections.Counter(row[1] for row in train if row[3] == 1)
        raw = dataset.vocabularies["item"].values
        assert dataset.item_count.tolist() == [0, 0, *(clicks[item] for item in raw)]


@pytest.mark.parametrize("train", ["frozen", "resampled"])
def test_training_negatives_are_items_that_training_rows_click(tmp_path: Path, train: str) -> None:
    """Items of later rows alone would teach that an unknown item is never clicked."""
    old = [(f"u{u}", f"old{(u + n) % 7}", n) for u in range(30) for n in range(4)]
    new = [(f"u{u}", f"new{u % 20}", time) for u in range(30) for time in (VALID_FROM, TEST_FROM)]
    split = {"kind": "time", **SPLIT_SETTINGS["time"]}

    def unknown(train_items: str) -> tuple[float, float]:
        """Shares of the unknown among negatives that a model is trained on, and of test rows."""
        negatives = {"train": train, "train_items": train_items}
        out = tmp_path / train_items
        dataset = prepared(out, [*old, *new], {"split": split, "negatives": negatives})
        batch = dataset.train.batch(np.arange(len(dataset.train)), 5, epoch=3)
        drawn = batch.item[batch.label == 0]
        share = float((drawn >= dataset.schema.n_items).float().mean())
        shares = dataset.manifest.content["unknown_items"]
        if train == "frozen":
            assert shares["train"]["negatives"] == pytest.approx(share)
        return share, shares["test"]["negatives"]

    in_train, in_test = unknown("clicked")
    assert in_train == 0
    assert in_test > 0.5
    assert unknown("all")[0] > 0.5


def test_valid_and_test_draw_apart(tmp_path: Path) -> None:
    dataset = prepared(tmp_path / "out", simple_rows(n_users=50, n_items=40, n_each=3))

    drawn = [s.columns["item"][s.columns["label"] == 0] for s in (dataset.valid, dataset.test)]

    assert (drawn[0] == drawn[1]).mean() < 0.2


def test_thresholds_count_each_user_once_by_the_first_test_row(tmp_path: Path) -> None:
    """Ten test users of activity 1 to 10, the last with more test rows than all others."""
    rows = [(f"u{n}", f"i{k}", k - n) for n in range(1, 11) for k in range(n)]
    rows += [(f"u{n}", "tested", 10) for n in range(1, 11)]
    rows += [("u10", f"i{k}", 11 + k) for k in range(30)]
    values = {"split": {"kind": "time", "valid_from": -1, "test_from": 10}}

    assert prepared(tmp_path / "out", rows, values).thresholds == (6, 9)


def test_a_user_who_clicked_everything_has_positives_alone(tmp_path: Path) -> None:
    rows = [*[("all", f"i{k}", k) for k in range(9)], *simple_rows()]

    dataset = prepared(tmp_path / "out", rows)

    assert dataset.manifest.content["users_without_negative"] == 1
    assert [label for _, _, label, _ in samples_by_user(dataset, dataset.test)["all"]] == [1]
    assert 0 in [label for _, _, label, _ in samples_by_user(dataset, dataset.train)["all"]]


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_negatives_follow_popularity_and_include_items_unseen_in_train(
    tmp_path: Path, beta: float
) -> None:
    rows = [(user, "hit" if user % 2 else "miss", 0) for user in range(4000)]
    rows += [(-1, "new", time) for time in range(3)]
    rows += [(user, "hit", time) for user in range(-100, -1) for time in range(3)]

    dataset = prepared(tmp_path / "out", rows, {"negatives": {"beta": beta}})

    items = dataset.vocabularies["item"]
    hit, miss, new = items.encode(pl.Series(["hit", "miss", "new"]))
    train = dataset.train.columns
    drawn = train["item"][train["label"] == 0]
    of_missers = np.isin(
        train["user"][train["label"] == 0],
        dataset.vocabularies["user"].encode(pl.Series(range(0, 4000, 2))),
    )
    counts = np.array([dataset.item_count[hit], dataset.item_count[new]])
    weights = (counts + 1.0) ** beta
    assert miss not in drawn[of_missers]
    share = (drawn[of_missers] == hit).mean()
    assert share == pytest.approx(weights[0] / weights.sum(), abs=0.04)


def test_the_seed_changes_the_negatives_and_nothing_else(tmp_path: Path) -> None:
    files = [
        prepared(
            tmp_path / str(seed), simple_rows(20), {"negatives": {"seed": seed}}
        ).manifest.files
        for seed in (0, 1)
    ]
    changed = {name for name in files[0] if files[0][name] != files[1][name]}

    assert {"train/item.npy"} <= changed <= {f"{name}/item.npy" for name in SPLITS}
