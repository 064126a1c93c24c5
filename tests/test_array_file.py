"""Arrays written in pieces are the files that NumPy writes at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aqcl.array_file import ArrayFile


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.float32, np.uint64, np.bool_])
@pytest.mark.parametrize("lengths", [[0], [3], [0, 5, 0, 100_000], [1] * 12])
def test_pieces_are_as_one_array(tmp_path: Path, dtype: Any, lengths: list[int]) -> None:
    array = (np.arange(sum(lengths)) % 100).astype(dtype)
    np.save(tmp_path / "whole.npy", array)
    with ArrayFile(tmp_path / "pieces.npy") as file:
        for piece in np.split(array, np.cumsum(lengths)[:-1]):
            file.append(piece)

    assert (tmp_path / "pieces.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_every_other_element_is_written_too(tmp_path: Path) -> None:
    with ArrayFile(tmp_path / "a.npy") as file:
        file.append(np.arange(10)[::2])

    assert np.load(tmp_path / "a.npy").tolist() == [0, 2, 4, 6, 8]


def test_an_error_closes_the_file_and_keeps_its_own_message(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="mine"), ArrayFile(tmp_path / "a.npy"):
        raise KeyError("mine")


def test_pieces_of_another_type_are_a_mistake_of_ours(tmp_path: Path) -> None:
    with ArrayFile(tmp_path / "a.npy") as file:
        file.append(np.zeros(2, dtype=np.int32))
        for other in (np.zeros(2, dtype=np.int64), np.zeros((2, 1), dtype=np.int32)):
            with pytest.raises(AssertionError):
                file.append(other)
