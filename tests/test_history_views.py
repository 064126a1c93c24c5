"""Views of the history alone: what is cropped, masked and reordered, and how often."""

import dataclasses
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aqcl.batch import Embedded
from aqcl.config import build
from aqcl.errors import ConfigError
from aqcl.views import HistoryViewOptions, augment_history, crop_history, history_alone
from tests.model_inputs import make_embedded

STANDARD_ERRORS = 5


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(lengths: list[int]) -> Embedded:
    """Samples whose clicks carry their number as score, which tells where they went."""
    return dataclasses.replace(make_embedded(lengths), scores=torch.arange(sum(lengths)).float())


def clicks_by_row(view: Embedded) -> list[list[int]]:
    """The numbers of the clicks of each row, once their vectors are seen to be the right ones."""
    assert view.scores is not None
    numbers = view.scores.long().tolist()
    return [numbers[a:b] for a, b in itertools.pairwise(view.offsets.tolist())]


def only_reordering(share: float) -> HistoryViewOptions:
    """Crops that keep all, masks that as good as never take a click out."""
    return HistoryViewOptions(crop_share=1.0, mask_rate=1e-12, reorder_share=share)


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 8), min_size=0, max_size=8),
    st.sampled_from([0.05, 0.5, 0.6, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_a_crop_is_a_block_of_at_least_one_click(
    lengths: list[int], share: float, seed: int
) -> None:
    embedded = numbered(lengths)

    view = crop_history(embedded, share, seeded(seed)).without_masked()

    kept = clicks_by_row(view)
    rows = clicks_by_row(embedded)
    assert [len(own) for own in kept] == [min(n, max(1, math.floor(share * n))) for n in lengths]
    for own, row in zip(kept, rows, strict=True):
        assert own == [number for number in row if own[0] <= number <= own[-1]]
    assert torch.equal(view.history, embedded.history[[n for own in kept for n in own]])


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 8), min_size=0, max_size=8),
    st.sampled_from([0.05, 0.5, 0.6, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_a_reordering_permutes_a_block(lengths: list[int], share: float, seed: int) -> None:
    embedded = numbered(lengths)

    view = augment_history(embedded, only_reordering(share), seeded(seed))

    assert torch.equal(view.offsets, embedded.offsets)
    assert torch.equal(view.segment, embedded.segment)
    after, before = clicks_by_row(view), clicks_by_row(embedded)
    for own, row in zip(after, before, strict=True):
        assert sorted(own) == row
        moved = [place for place, number in enumerate(own) if number != row[place]]
        if moved:
            assert moved[-1] - moved[0] < math.floor(share * len(row))
    assert torch.equal(view.history, embedded.history[[n for own in after for n in own]])


def test_blocks_begin_anywhere_and_have_the_sizes_of_the_paper() -> None:
    """The paper's example: of seven clicks, 0.6 are four."""
    n_rows, length = 4000, 7
    view = crop_history(make_embedded([length] * n_rows, dim=1), 0.6, seeded())
    assert view.keep is not None

    kept = view.keep.view(n_rows, length)

    assert set(kept.sum(1).tolist()) == {4}
    begins = kept.long().argmax(1).bincount(minlength=4).double() / n_rows
    error = STANDARD_ERRORS * math.sqrt(3 / 16 / n_rows)
    assert begins.tolist() == pytest.approx([1 / 4] * 4, abs=error)


def test_all_orders_are_as_likely() -> None:
    n_rows = 6000
    view = augment_history(numbered([3] * n_rows), only_reordering(1.0), seeded())

    orders = [tuple(number % 3 for number in own) for own in clicks_by_row(view)]

    # A third of the rows draws the operation, and each of the six orders is a sixth of them.
    error = STANDARD_ERRORS * math.sqrt(17 / 324 / n_rows)
    counts = [orders.count(order) / n_rows for order in set(orders) - {(0, 1, 2)}]
    assert counts == pytest.approx([1 / 18] * 5, abs=error)


def test_each_row_draws_its_own_operation() -> None:
    n_rows, length = 3000, 10
    embedded = numbered([length] * n_rows)
    options = HistoryViewOptions(crop_share=0.4, mask_rate=0.5, reorder_share=0.8)

    view = augment_history(embedded, options, seeded())

    rows = clicks_by_row(view)
    crops = [own for own in rows if len(own) == 4 and own[-1] - own[0] == 3]
    orders = [own for own in rows if own != sorted(own)]
    masks = [own for own in rows if len(own) < length and own[-1] - own[0] >= len(own)]
    assert all(len(own) == length for own in orders)
    error = STANDARD_ERRORS * math.sqrt(2 / 9 / n_rows)
    # Few masks leave a block, and few reorderings of eight clicks change nothing.
    for found in (crops, orders, masks):
        assert len(found) / n_rows == pytest.approx(1 / 3, abs=error + 0.015)
    numbers = [number for own in rows for number in own]
    assert torch.equal(view.history, embedded.history[numbers])
    assert torch.equal(view.segment, embedded.segment[numbers])


@settings(max_examples=40)
@given(st.lists(st.integers(0, 6), min_size=0, max_size=8), st.integers(0, 2**32 - 1))
def test_views_of_the_history_are_legal_and_leave_the_rest(lengths: list[int], seed: int) -> None:
    embedded = numbered(lengths)

    view = augment_history(embedded, HistoryViewOptions(mask_rate=0.9), seeded(seed))

    assert view.keep is None
    for own, row in zip(clicks_by_row(view), clicks_by_row(embedded), strict=True):
        assert min(len(row), 1) <= len(own) <= len(row)
        assert set(own) <= set(row)
    assert view.segment.tolist() == sorted(view.segment.tolist())
    for name in ("user", "item", "context", "activity", "linear"):
        assert getattr(view, name) is getattr(embedded, name)


def test_views_of_the_history_start_from_what_is_left() -> None:
    keep = torch.tensor([True, False] * 10)
    masked = dataclasses.replace(numbered([20]), keep=keep)

    for view in (
        crop_history(masked, 0.5, seeded()).without_masked(),
        augment_history(masked, HistoryViewOptions(), seeded()),
    ):
        assert all(number % 2 == 0 for number in clicks_by_row(view)[0])


def test_clicks_alone_show_nothing_else() -> None:
    embedded = numbered([4, 2])
    alone = history_alone(embedded)
    assert alone.history is embedded.history
    assert alone.scores is None
    assert embedded.activity.any()
    for hidden in (alone.user, alone.item, alone.context, alone.activity):
        assert not hidden.any()


@pytest.mark.parametrize(("key", "value"), [("crop_share", 0), ("mask_rate", 1), ("mask_rate", 0)])
def test_shares_of_the_history_are_in_range(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"view.{key}: .*got {value}"):
        build(HistoryViewOptions, {key: value}, "view")
