"""The shuffled order of an epoch: held in memory, or computed where the rows are too many."""

import numpy as np
import numpy.typing as npt

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

IN_MEMORY = 2**24
"""The most rows whose order is held, in at most 64 MiB."""
ROUNDS = 6


class ComputedOrder:
    """A random permutation of 0 .. n - 1, each part of which is computed when it is asked for.

    A number passes through rounds, each a bijection of the numbers of as many bits as n has: times
    an odd number, plus another, then an exclusive or with its own upper half. What comes out at n
    or above passes again until it is below ("cycle-walking": Black and Rogaway, Ciphers with
    Arbitrary Finite Domains, 2002), which takes at most twice the work on average.
    """

    def __init__(self, n: int, generator: np.random.Generator) -> None:
        self.n = n
        bits = max(2, (n - 1).bit_length())
        self.mask = np.uint64(2**bits - 1)
        self.shift = np.uint64((bits + 1) // 2)
        drawn = generator.integers(2**bits, size=(2, ROUNDS), dtype=np.uint64)
        self.factors, self.summands = drawn[0] | np.uint64(1), drawn[1]

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, part: slice) -> Int64s:
        """The rows of that part of the epoch."""
        rows = self._pass(np.arange(*part.indices(self.n), dtype=np.uint64))
        while len(outside := np.flatnonzero(rows >= self.n)):
            rows[outside] = self._pass(rows[outside])
        return rows.astype(np.int64)

    def _pass(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        for factor, summand in zip(self.factors, self.summands, strict=True):
            numbers = (numbers * factor + summand) & self.mask
            numbers ^= numbers >> self.shift
        return numbers


Order = Int32s | ComputedOrder
"""A slice of either is an array of row numbers."""


def shuffled(n: int, generator: np.random.Generator) -> Order:
    """A random order of 0 .. n - 1.

    Up to `IN_MEMORY` rows it is that of the generator's `permutation`, in a half of its bytes.
    """
    if n > IN_MEMORY:
        return ComputedOrder(n, generator)
    rows = np.arange(n, dtype=np.int32)
    generator.shuffle(rows)
    return rows
