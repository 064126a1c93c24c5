"""Target attention is the plain network; self-attention sees only the clicks it may."""

import pytest
import torch
from torch import nn

from aqcl.attention import SelfAttentionBlock, TargetAttention, check_heads
from aqcl.errors import ConfigError
from aqcl.layers import Activation
from tests.model_inputs import make_batch

ACTIVATIONS: list[Activation] = ["dice", "relu", "prelu", "sigmoid", "leaky_relu"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(6,), (6, 4), (6, 4, 3)])
def test_factored_attention_is_the_plain_network(name: Activation, sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    attention = TargetAttention(5, sizes, name).double()
    batch = make_batch()
    candidate = torch.randn(len(batch), 5, generator=seeded(1), dtype=torch.float64)
    clicks = torch.randn(len(batch.segment), 5, generator=seeded(2), dtype=torch.float64)
    own = candidate[batch.segment]
    inputs = torch.cat([own, clicks, own - clicks, own * clicks], dim=1)
    plain = nn.Sequential(attention.first, attention.first_activation, attention.rest)

    scores = attention(candidate, clicks, batch.segment)

    torch.testing.assert_close(scores, attention.last(plain(inputs)).squeeze(1))


@pytest.mark.parametrize("lengths", [(2, 0, 3, 1), (0, 0), (0, 4, 0)], ids=str)
@pytest.mark.parametrize("sizes", [(6,), (6, 4), (6, 4, 3)])
def test_the_unit_of_sigmoids_has_the_gradient_of_the_plain_network(
    sizes: tuple[int, ...], lengths: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    attention = TargetAttention(5, sizes, "sigmoid").double()
    batch = make_batch(lengths=lengths)
    candidate = torch.randn(len(batch), 5, generator=seeded(1), dtype=torch.float64)
    clicks = torch.randn(len(batch.segment), 5, generator=seeded(2), dtype=torch.float64)
    weight = torch.randn(len(batch.segment), generator=seeded(3), dtype=torch.float64)
    tensors = [candidate.requires_grad_(), clicks.requires_grad_(), *attention.parameters()]

    scores = attention(candidate, clicks, batch.segment)
    own = candidate[batch.segment]
    inputs = torch.cat([own, clicks, own - clicks, own * clicks], dim=1)
    plain = nn.Sequential(attention.first, attention.first_activation, attention.rest)
    expected = attention.last(plain(inputs)).squeeze(1)

    ours = torch.autograd.grad((weight * scores).sum(), tensors, retain_graph=True)
    theirs = torch.autograd.grad((weight * expected).sum(), tensors)
    torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(ours, theirs)
    # A second backward pass through the same graph finds everything as it was.
    again = torch.autograd.grad((weight * scores).sum(), tensors)
    torch.testing.assert_close(again, ours, rtol=0, atol=0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_unit_stays_in_fp32_under_autocast(name: Activation) -> None:
    torch.manual_seed(0)
    attention = TargetAttention(8, (16, 8), name)
    batch = make_batch()
    candidate = torch.randn(len(batch), 8, generator=seeded(1))
    clicks = torch.randn(len(batch.segment), 8, generator=seeded(2))

    exact = attention(candidate, clicks, batch.segment)
    with torch.autocast("cpu", torch.bfloat16):
        same = attention(candidate, clicks, batch.segment)

    torch.testing.assert_close(same, exact, rtol=0, atol=0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_attention_over_no_clicks_at_all(name: Activation) -> None:
    attention = TargetAttention(5, (4,), name)

    scores = attention(torch.ones(2, 5), torch.ones(0, 5), torch.zeros(0, dtype=torch.int64))

    assert scores.shape == (0,)


def make_block(dropout: float = 0.0) -> SelfAttentionBlock:
    torch.manual_seed(0)
    return SelfAttentionBlock(6, 2, 5, dropout).double()


@pytest.mark.parametrize("causal", [True, False])
def test_self_attention_is_its_equation(causal: bool) -> None:
    block = make_block()
    clicks = torch.randn(2, 4, 6, generator=seeded(), dtype=torch.float64)
    mask = torch.tensor([[True, True, True, False], [True, True, True, True]])

    after = block(clicks, mask, causal=causal)

    for row, count in enumerate((3, 4)):
        own = clicks[row, :count]
        query, key, value = block.query_key_value(block.attention_norm(own)).chunk(3, dim=1)
        heads = []
        for head in (slice(0, 3), slice(3, 6)):
            scores = query[:, head] @ key[:, head].T / 3**0.5
            if causal:
                later = torch.ones(count, count).triu(1).bool()
                scores = scores.masked_fill(later, -torch.inf)
            heads.append(scores.softmax(1) @ value[:, head])
        expected = own + block.mix(torch.cat(heads, dim=1))
        expected = expected + block.network(block.network_norm(expected))
        torch.testing.assert_close(after[row, :count], expected)


def test_self_attention_over_no_clicks_is_finite() -> None:
    block = make_block(0.5)
    clicks = torch.zeros(2, 3, 6, dtype=torch.float64, requires_grad=True)

    after = block(clicks, torch.zeros(2, 3, dtype=torch.bool), causal=True)
    after.sum().backward()

    assert after.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())


def test_heads_must_divide_the_width() -> None:
    check_heads("backbone.n_heads", 3, 6)
    message = r"backbone.n_heads = 4 must divide the width 6 of a click.*backbone.embedding_dim"
    with pytest.raises(ConfigError, match=message):
        check_heads("backbone.n_heads", 4, 6)
