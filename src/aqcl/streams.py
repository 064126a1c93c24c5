"""Random streams that are derived, never carried.

Each stream is seeded from (run seed, purpose, epoch, step), so a resumed run needs no generator
state and one part that draws more numbers cannot shift another's.
"""

import zlib
from typing import Literal

import numpy as np

Purpose = Literal[
    "backbone init",
    "regularizer init",
    "primary pass",
    "view",
    "alpha",
    "negatives",
    "order",
    "bootstrap",
    "subset",
    "simulator",
    "search",
]


def derive_seed(seed: int, purpose: Purpose, epoch: int = 0, step: int = 0) -> int:
    """The seed, in [0, 2^63), of one stream."""
    words = [seed, zlib.crc32(purpose.encode()), epoch, step]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def numpy_stream(seed: int, purpose: Purpose, epoch: int = 0) -> np.random.Generator:
    """A NumPy generator on one stream."""
    return np.random.default_rng(derive_seed(seed, purpose, epoch))
