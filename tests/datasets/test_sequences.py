"""Sequences: positions as time, ids as they are spelled, every mistake named by line."""

from pathlib import Path

import pytest

from aqcl.click_log import ClickLog
from aqcl.datasets.sequences import SequencesSettings, open_sequences
from aqcl.errors import DataError
from aqcl.schema import Field

BEAUTY = Path(__file__).parents[3] / "shared" / "data" / "amazon-beauty"


def _open(tmp_path: Path, text: str, attributes: str | None = None) -> ClickLog:
    path = tmp_path / "log.txt"
    path.write_text(text, encoding="utf-8")
    if attributes is None:
        return open_sequences(SequencesSettings(path=str(path)))
    beside = tmp_path / "attributes.json"
    beside.write_text(attributes, encoding="utf-8")
    return open_sequences(SequencesSettings(path=str(path), attributes=str(beside)))


def test_positions_count_from_zero(tmp_path: Path) -> None:
    log = _open(tmp_path, "7 3 1 3\r\n\n8\t 2 \n")

    assert log.rows.collect().rows() == [(7, 3, 0), (7, 1, 1), (7, 3, 2), (8, 2, 0)]
    assert (log.name, log.time_unit, log.fields, log.items) == ("log", "position", (), None)


def test_a_byte_order_mark_is_no_part_of_the_first_id(tmp_path: Path) -> None:
    log = _open(tmp_path, "\ufeff7 3 1\n", '\ufeff{"3": ["x"]}')

    assert log.rows.collect().rows() == [(7, 3, 0), (7, 1, 1)]
    assert log.items is not None
    assert log.items.rows() == [(3, ["x"])]


def test_ids_stay_text_if_one_is_not_an_integer(tmp_path: Path) -> None:
    rows = _open(tmp_path, "1 007 7\n2 8\n").rows.collect()

    assert rows.rows() == [(1, "007", 0), (1, "7", 1), (2, "8", 0)]


def test_attributes_of_known_items(tmp_path: Path) -> None:
    log = _open(tmp_path, "1 10 20\n", '{"20": [3, "x"], "10": [], "99": [1]}')

    assert log.fields == (Field("attributes", "categories", "item"),)
    assert log.items is not None
    assert log.items.rows() == [(20, ["3", "x"]), (10, [])]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "log.txt: the file is empty"),
        ("1 2\n\n3\n", "log.txt: line 3: user '3' has no items"),
        ("1 2\n2 2\n\n1 3\n", "log.txt: user '1' is on lines 1 and 4"),
    ],
)
def test_bad_sequences(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _open(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "attributes.json: not a JSON file"),
        ("[1]", "attributes.json: expected a JSON object"),
        ('{"2": 5}', "attributes.json: item '2': expected a list .*got 5"),
        ('{"2": [[1]]}', "attributes.json: item '2'"),
        ('{"5": [1]}', "attributes.json: none of its items is in the sequences"),
    ],
)
def test_bad_attributes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _open(tmp_path, "1 2\n", text)


def test_not_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "bytes.txt"
    path.write_bytes(b"1 \xff\n")
    with pytest.raises(DataError, match=r"bytes.txt: not a UTF-8 text file"):
        open_sequences(SequencesSettings(path=str(path)))


@pytest.mark.skipif(not BEAUTY.is_dir(), reason="the real sequences are not on this machine")
def test_amazon_beauty_has_the_counts_of_the_paper() -> None:
    log = open_sequences(
        SequencesSettings(
            path=str(BEAUTY / "Beauty.txt"),
            attributes=str(BEAUTY / "Beauty_item2attributes.json"),
        )
    )

    rows = log.rows.collect()
    assert (rows["user"].n_unique(), rows["item"].n_unique(), len(rows)) == (
        22_363,
        12_101,
        198_502,
    )
    assert rows.head(6).rows() == [(1, 1, 0), (1, 2, 1), (1, 3, 2), (1, 4, 3), (1, 5, 4), (2, 6, 0)]
    assert log.items is not None
    assert (log.items["item"].n_unique(), len(log.items)) == (12_101, 12_101)
