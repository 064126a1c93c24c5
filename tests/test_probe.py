"""How the view of a model that is not ours is perturbed."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import aqcl
from aqcl.errors import ConfigError
from aqcl.probe import End, kept_steps
from aqcl.regularizers.aqcl import AQCLOptions
from aqcl.regularizers.icl import ICLOptions
from aqcl.views import ViewOptions
from tests.foreign_model import ROWS, STEPS, WIDTH, activity, batch, make, outputs_of


def test_the_view_is_normalised_by_its_own_batch() -> None:
    model, attachment = make()
    _, view = outputs_of(attachment, model.dnn[2])
    torch.testing.assert_close(view.mean(0), torch.zeros(16), atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_a_lazy_layer_does_not_tell_its_width_before_its_first_call() -> None:
    lazy = nn.LazyLinear(3)
    end = End("input", "head", lazy)
    with pytest.raises(ConfigError, match="a LazyLinear does not tell its width: give latent_dim"):
        end.width(None)
    assert end.width(5) == 5
    assert End("output", "head", lazy).width(None) == 3
    lazy(torch.zeros(2, 5))
    assert end.width(None) == 5


def test_each_call_of_a_shared_table_loses_bits_of_its_own() -> None:
    model, attachment = make(history=[])
    with torch.no_grad():
        model.item.weight.fill_(1.0)
    x = batch()
    x["history"] = x["item"][:, None].expand(ROWS, STEPS)
    primary, view = outputs_of(attachment, model.dnn, lambda: attachment(x, activity=activity()))
    assert torch.all(primary[:, : 2 * WIDTH] == 1)
    candidate, pooled = view[:, :WIDTH], view[:, WIDTH : 2 * WIDTH]
    dropped = candidate == 0
    assert 0.02 < dropped.float().mean() < 0.25
    torch.testing.assert_close(candidate[~dropped], torch.full_like(candidate[~dropped], 1 / 0.9))
    # A bit is lost by one of five clicks in 41% of all cases, also where the candidate lost it.
    assert 0.3 < (pooled < 0.99).float().mean() < 0.52
    assert torch.all(pooled[dropped] > 0.2)


def masked_view(**changed: Any) -> tuple[Tensor, Tensor]:
    """Candidate and pooled clicks of a view whose vectors are all one and lose no bits."""
    view = ViewOptions(mask_rate=0.9, bit_rate=0.0)
    model, attachment = make(options=AQCLOptions(view=view, warmup_steps=2), **changed)
    with torch.no_grad():
        model.item.weight[1:] = 1.0
    _, seen = outputs_of(attachment, model.dnn)
    return seen[:, :WIDTH], seen[:, WIDTH : 2 * WIDTH]


@pytest.mark.parametrize("history", ["tables.item", "tables.item#2"])
def test_clicks_are_masked_whole_and_one_real_one_is_left(history: str) -> None:
    candidate, pooled = masked_view(history=[history])
    kept = pooled * STEPS
    assert torch.all(candidate == 1)
    torch.testing.assert_close(kept, kept.round())
    assert torch.all(kept >= 1)
    real = (batch()["history"] > 0).sum(1)
    assert torch.all(kept[:, 0] <= real)
    assert kept[:, 0].mean() < 0.6 * real.float().mean()


def test_kept_steps_have_the_rate_and_never_only_padding() -> None:
    vectors = torch.ones(2000, 4, 2)
    vectors[:, 2:] = 0
    draw = torch.rand(2000, 4, generator=torch.Generator().manual_seed(0))
    keep = kept_steps(vectors, draw, draw >= 0.5)
    assert keep[:, :2].any(1).all()
    # Of two clicks the view keeps 1.25 on average: both with 1/4, one with the rest.
    assert abs(keep[:, :2].float().sum(1).mean().item() - 1.25) < 0.05
    assert abs(keep[:, 0].float().mean().item() - 0.625) < 0.05
    assert abs(keep[:, 2:].float().mean().item() - 0.5) < 0.05


class TwoTables(nn.Module):
    """Mean pools of two tables, of one history or of two, with and without padding."""

    def __init__(self, paddings: tuple[int | None, int | None] = (None, None)) -> None:
        super().__init__()
        self.first, self.second = (nn.Embedding(9, 2, padding_idx=p) for p in paddings)
        self.dnn = nn.Linear(4, 3)

    def forward(self, ids: Tensor, other: Tensor) -> Tensor:
        clicks = torch.cat([self.first(ids), self.second(other)], 2)
        return self.pooled(clicks)

    def pooled(self, clicks: Tensor) -> Tensor:
        self.clicks = clicks
        hidden: Tensor = self.dnn(clicks.mean(1))
        return hidden

    def kept(self, ids: Tensor, other: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        """Which steps of a view are not zero, in each table."""
        options = ICLOptions(view=ViewOptions(mask_rate=rate, bit_rate=0.0))
        history = ["first", "second"]
        aqcl.attach(self, latent="output:dnn", embeddings=[], history=history, options=options)(
            ids, other
        )
        kept = self.clicks != 0
        return kept[:, :, 0], kept[:, :, 2]


@pytest.mark.parametrize("paddings", [(None, None), (0, 0), (0, None)])
def test_tables_of_a_click_lose_the_same_steps(paddings: tuple[int | None, int | None]) -> None:
    random = torch.Generator().manual_seed(0)
    lengths = torch.arange(200)[:, None] % 7
    ids = torch.randint(1, 9, (200, 6), generator=random) * (torch.arange(6) < lengths)

    first, second = TwoTables(paddings).kept(ids, ids, rate=0.7)

    clicks = ids > 0 if 0 in paddings else torch.ones_like(ids, dtype=torch.bool)
    assert 0.2 < first[clicks].float().mean() < 0.6
    assert torch.equal(first[clicks], second[clicks])


def test_each_history_of_one_length_keeps_a_click_of_its_own() -> None:
    """One has its padding behind, the other before."""
    random = torch.Generator().manual_seed(0)
    ids, lengths = torch.randint(1, 9, (200, 6), generator=random), torch.arange(200)[:, None] % 7
    behind, before = ids * (torch.arange(6) < lengths), ids * (torch.arange(6) >= 6 - lengths)

    kept = TwoTables((0, 0)).kept(behind, before, rate=0.9)

    for steps in kept:
        assert torch.equal(steps.any(1), lengths[:, 0] > 0)
        assert steps.sum() < 0.7 * lengths.sum()
