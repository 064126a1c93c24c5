"""Augmentations: what they mask and zero, how often, and what they leave alone."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aqcl.batch import Embedded
from aqcl.config import build
from aqcl.errors import ConfigError
from aqcl.views import ViewOptions, augment, drop_bits, mask_history
from tests.model_inputs import LENGTHS, make_embedded

STANDARD_ERRORS = 5


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kept_per_row(masked: Embedded) -> list[int]:
    assert masked.keep is not None
    kept = torch.bincount(masked.segment[masked.keep], minlength=len(masked.offsets) - 1)
    return [int(count) for count in kept]


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=8),
    st.sampled_from([0.1, 0.5, 0.99]),
    st.integers(0, 2**32 - 1),
)
def test_no_row_loses_all_its_clicks(lengths: list[int], rate: float, seed: int) -> None:
    masked = mask_history(make_embedded(lengths), rate, seeded(seed))

    for kept, length in zip(kept_per_row(masked), lengths, strict=True):
        assert min(length, 1) <= kept <= length


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_clicks_are_masked_at_the_rate_wherever_they_stand(rate: float) -> None:
    n_rows, length = 2000, 20
    masked = mask_history(make_embedded([length] * n_rows, dim=1), rate, seeded())
    assert masked.keep is not None

    by_position = masked.keep.view(n_rows, length).double().mean(0)

    error = STANDARD_ERRORS * math.sqrt(rate * (1 - rate) / n_rows)
    expected = torch.full((length,), 1 - rate, dtype=torch.float64)
    torch.testing.assert_close(by_position, expected, rtol=0, atol=error)


def test_the_click_that_is_spared_is_any_of_the_row() -> None:
    n_rows, length = 3000, 3
    masked = mask_history(make_embedded([length] * n_rows, dim=1), 0.999, seeded())
    assert masked.keep is not None

    by_position = masked.keep.view(n_rows, length).double().mean(0)

    error = STANDARD_ERRORS * math.sqrt(2 / 9 / n_rows)
    assert by_position.tolist() == pytest.approx([1 / 3] * 3, abs=error + 0.001)


def test_masking_changes_nothing_but_what_is_kept() -> None:
    embedded = make_embedded()

    masked = mask_history(embedded, 0.5, seeded())

    assert masked.keep is not None
    assert not masked.keep.all()
    assert dataclasses.replace(masked, keep=None) == embedded
    assert mask_history(embedded, 0.0, seeded()) is embedded


def test_masking_twice_still_leaves_a_click() -> None:
    embedded = make_embedded([4] * 50)

    once = mask_history(embedded, 0.6, seeded(0))
    twice = mask_history(once, 0.6, seeded(1))

    counts = zip(kept_per_row(twice), kept_per_row(once), strict=True)
    assert all(1 <= after <= before for after, before in counts)
    assert sum(kept_per_row(twice)) < sum(kept_per_row(once))


def test_taking_masked_clicks_out() -> None:
    embedded = dataclasses.replace(make_embedded(), scores=torch.arange(11.0))
    keep = torch.tensor([True, False, True, False, True, True, False, True, True, False, False])
    masked = dataclasses.replace(embedded, keep=keep)

    left = masked.without_masked()

    # Rows of lengths 0, 3, 1, 0, 5, 2, 0 keep 0, 2, 0, 0, 4, 0, 0 clicks.
    assert left.keep is None
    assert left.offsets.tolist() == [0, 0, 2, 2, 2, 6, 6, 6]
    assert left.segment.tolist() == [1, 1, 4, 4, 4, 4]
    assert left.scores is not None
    assert left.scores.tolist() == [0, 2, 4, 5, 7, 8]
    assert torch.equal(left.history, embedded.history[keep])
    for name in ("user", "item", "context", "activity", "linear"):
        assert getattr(left, name) is getattr(embedded, name)
    assert embedded.without_masked() is embedded


@settings(max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_histories_stay_in_one_piece(lengths: list[int], seed: int) -> None:
    view = mask_history(make_embedded(lengths), 0.5, seeded(seed)).without_masked()

    counts = torch.bincount(view.segment, minlength=len(lengths))
    assert view.offsets.dtype == torch.int64
    assert view.offsets.diff().tolist() == counts.tolist()
    assert int(view.offsets[0]) == 0
    assert int(view.offsets[-1]) == len(view.history) == len(view.segment)
    assert view.segment.tolist() == sorted(view.segment.tolist())


def test_dropped_bits_are_unbiased() -> None:
    embedded = make_embedded([2], dim=60_000)
    rate = 0.3

    dropped = drop_bits(embedded, rate, seeded())

    for name in ("user", "item", "context", "history"):
        ratio = getattr(dropped, name) / getattr(embedded, name)
        zeroed = ratio == 0
        torch.testing.assert_close(
            ratio[~zeroed], torch.full_like(ratio[~zeroed], 1 / (1 - rate)), rtol=1e-5, atol=0
        )
        error = STANDARD_ERRORS * math.sqrt(rate * (1 - rate) / ratio.numel())
        assert float(zeroed.double().mean()) == pytest.approx(rate, abs=error)
        assert float(ratio.double().mean()) == pytest.approx(1.0, abs=error / (1 - rate))
    assert dropped.linear is embedded.linear
    assert drop_bits(embedded, 0.0, seeded()) is embedded


def test_a_view_masks_then_zeroes() -> None:
    embedded = dataclasses.replace(make_embedded([30, 0, 30]), scores=torch.arange(60.0))

    view = augment(embedded, ViewOptions(mask_rate=0.5, bit_rate=0.5), seeded())

    assert view.keep is None
    assert 2 <= len(view.history) < 60
    assert (view.item == 0).any()
    assert not (view.item == 0).all()
    assert view.item.shape == embedded.item.shape
    assert torch.equal(view.activity, embedded.activity)
    assert view.activity.tolist() == [30.0, 0.0, 30.0]
    assert view.scores is not None
    kept = view.scores.long()
    surviving = view.history != 0
    torch.testing.assert_close(view.history[surviving], 2 * embedded.history[kept][surviving])
    assert torch.equal(view.segment, embedded.segment[kept])


def test_the_candidate_is_never_masked() -> None:
    embedded = make_embedded()

    view = augment(embedded, ViewOptions(mask_rate=0.9, bit_rate=0.0), seeded())

    for name in ("user", "item", "context"):
        assert getattr(view, name) is getattr(embedded, name)
    assert len(view.history) < len(embedded.history)


@pytest.mark.parametrize("share", [True, False])
def test_a_view_may_have_attention_of_its_own(share: bool) -> None:
    embedded = dataclasses.replace(make_embedded(), scores=torch.ones(sum(LENGTHS)))

    view = augment(embedded, ViewOptions(share_attention=share), seeded())

    assert (view.scores is not None) == share


def test_views_follow_their_generator() -> None:
    embedded = make_embedded([9] * 9)
    first, again, other = (augment(embedded, ViewOptions(), seeded(seed)) for seed in (0, 0, 1))

    for name in ("user", "item", "context", "history", "segment"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.user, other.user)


def test_views_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()

    augment(make_embedded(), ViewOptions(), seeded())

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("key", ["mask_rate", "bit_rate"])
@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates_are_below_one(key: str, rate: float) -> None:
    with pytest.raises(ConfigError, match=f"view.{key}: .*got {rate}"):
        build(ViewOptions, {key: rate}, "view")
