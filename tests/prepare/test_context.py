"""Sums of files are rounded as NumPy rounds them; scales are those of the numbers in memory."""

from pathlib import Path

import numpy as np
import pytest

from aqcl.prepare.context import sum_of_file


@pytest.mark.parametrize("size", [0, 1, 7, 128, 129, 1000, 1024, 5001, 65_537, 300_007])
@pytest.mark.parametrize("piece", [128, 1000, 4096])
def test_a_sum_in_pieces_is_numpys_to_the_last_bit(tmp_path: Path, size: int, piece: int) -> None:
    numbers = np.random.default_rng(size).lognormal(0, 6, size)
    numbers.tofile(tmp_path / "numbers")

    assert sum_of_file(tmp_path / "numbers", lambda part: part, piece) == numbers.sum()
    centred = (numbers - 3.3) ** 2
    assert sum_of_file(tmp_path / "numbers", lambda part: (part - 3.3) ** 2, piece) == centred.sum()
    if size > 100_000:  # so the test can fail: another order of adding gives another sum
        assert float(np.cumsum(numbers)[-1]) != numbers.sum()


def test_only_pieces_are_in_memory(tmp_path: Path) -> None:
    np.ones(10_000).tofile(tmp_path / "numbers")
    sizes: list[int] = []

    def note(part: np.ndarray) -> np.ndarray:
        sizes.append(len(part))
        return part

    assert sum_of_file(tmp_path / "numbers", note, piece=512) == 10_000
    assert max(sizes) <= 512
    assert sum(sizes) == 10_000
