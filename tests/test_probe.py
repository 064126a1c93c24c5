"""How the view of a model that is not ours is perturbed."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import aqcl
from aqcl.probe import kept_steps
from aqcl.regularizers.aqcl import AQCLOptions
from aqcl.regularizers.icl import ICLOptions
from aqcl.views import ViewOptions
from tests.foreign_model import ROWS, STEPS, WIDTH, activity, batch, make, outputs_of


def test_the_view_is_normalised_by_its_own_batch() -> None:
    model, attachment = make()
    _, view = outputs_of(attachment, model.dnn[2])
    torch.testing.assert_close(view.mean(0), torch.zeros(16), atol=1e-5, rtol=0)


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
    keep = kept_steps(vectors, 0.5, torch.Generator().manual_seed(0))
    assert keep[:, :2].any(1).all()
    # Of two clicks the view keeps 1.25 on average: both with 1/4, one with the rest.
    assert abs(keep[:, :2].float().sum(1).mean().item() - 1.25) < 0.05
    assert abs(keep[:, 0].float().mean().item() - 0.625) < 0.05
    assert abs(keep[:, 2:].float().mean().item() - 0.5) < 0.05


def test_tables_of_a_click_lose_the_same_steps() -> None:
    class TwoTables(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.item, self.kind = nn.Embedding(9, 2), nn.Embedding(9, 2)
            self.dnn = nn.Linear(4, 3)

        def forward(self, ids: Tensor) -> Tensor:
            clicks = torch.cat([self.item(ids), self.kind(ids)], 2)
            return self.pooled(clicks)

        def pooled(self, clicks: Tensor) -> Tensor:
            self.clicks = clicks
            hidden: Tensor = self.dnn(clicks.mean(1))
            return hidden

    model = TwoTables()
    options = ICLOptions(view=ViewOptions(mask_rate=0.5, bit_rate=0.0))
    attachment = aqcl.attach(
        model, latent="output:dnn", embeddings=[], history=["item", "kind"], options=options
    )
    attachment(torch.randint(0, 9, (16, 6)))
    zero = model.clicks == 0
    assert 0.2 < zero.float().mean() < 0.8
    assert torch.equal(zero[:, :, :2], zero[:, :, 2:])
