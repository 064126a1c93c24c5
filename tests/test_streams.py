import numpy as np

from aqcl.streams import derive_seed, numpy_stream


def test_every_part_of_the_address_changes_the_seed() -> None:
    seeds = {
        derive_seed(0, "view"),
        derive_seed(1, "view"),
        derive_seed(0, "order"),
        derive_seed(0, "view", epoch=1),
        derive_seed(0, "view", epoch=0, step=1),
    }
    assert len(seeds) == 5


def test_seeds_are_the_same_everywhere_and_fit_a_signed_word() -> None:
    assert derive_seed(0, "view") == 130_071_377_465_750_318
    assert all(0 <= derive_seed(s, "order", 3, 9) < 2**63 for s in range(100))


def test_numpy_streams_repeat() -> None:
    first = numpy_stream(3, "order", 2).permutation(10)
    np.testing.assert_array_equal(first, numpy_stream(3, "order", 2).permutation(10))
