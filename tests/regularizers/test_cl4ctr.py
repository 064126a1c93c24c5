"""CL4CTR: encoder and all three terms against slow NumPy, and what its views are made of."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Generator, Tensor

from aqcl.backbones.din import DIN
from aqcl.contracts import Step
from aqcl.embeddings import field_vectors
from aqcl.layers import dropout_mask
from aqcl.objective import Objective
from aqcl.regularizers.cl4ctr import (
    CL4CTR,
    CL4CTROptions,
    feature_alignment,
    field_uniformity,
)
from aqcl.schema import Schema
from tests.model_inputs import (
    LENGTHS,
    SCHEMAS,
    WITH_FIELDS,
    make_backbone,
    make_batch,
    make_facts,
    small_options,
)
from tests.objectives import make_step

Array = npt.NDArray[np.float64]


def make_cl4ctr(
    schema: Schema = WITH_FIELDS, lengths: tuple[int, ...] = LENGTHS, **options: Any
) -> tuple[CL4CTR, Step]:
    facts = make_facts(schema)
    module, backbone = make_backbone(DIN, facts)
    regularizer = CL4CTR.create(facts, backbone, small_options(CL4CTR, **options))
    return regularizer, make_step(Objective(module, {}), make_batch(schema, lengths))


def random_fields(n_samples: int = 5, n_fields: int = 3, dim: int = 4) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(n_samples, n_fields, dim, generator=random, dtype=torch.float64)


def layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    centred = x - x.mean(1, keepdims=True)
    scaled: Array = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    return scaled * weight + bias


def slow_encoder(x: Array, state: dict[str, Array], n_layers: int) -> Array:
    """A transformer of one head over the fields of one sample: attend, add, normalise; network."""
    for number in range(n_layers):

        def part(name: str, number: int = number) -> Array:
            return state[f"encoder.layers.{number}.{name}"]

        mixed = x @ part("self_attn.in_proj_weight").T + part("self_attn.in_proj_bias")
        query, key, value = np.split(mixed, 3, axis=1)
        attended = np.zeros_like(x)
        for i in range(len(x)):
            scores = [math.exp(query[i] @ key[j] / math.sqrt(x.shape[1])) for j in range(len(x))]
            attended[i] = sum(s * v for s, v in zip(scores, value, strict=True)) / sum(scores)
        attended = attended @ part("self_attn.out_proj.weight").T + part("self_attn.out_proj.bias")
        x = layer_norm(x + attended, part("norm1.weight"), part("norm1.bias"))
        hidden = np.maximum(x @ part("linear1.weight").T + part("linear1.bias"), 0.0)
        hidden = hidden @ part("linear2.weight").T + part("linear2.bias")
        x = layer_norm(x + hidden, part("norm2.weight"), part("norm2.bias"))
    return x


def slow_contrast(first: Array, second: Array, state: dict[str, Array], n_layers: int) -> float:
    """Each sample on its own: |first(FI(view)) - second(FI(other view))|^2."""
    total = 0.0
    for view, other in zip(first, second, strict=True):
        h = slow_encoder(view, state, n_layers).reshape(-1)
        g = slow_encoder(other, state, n_layers).reshape(-1)
        h = state["first.weight"] @ h + state["first.bias"]
        g = state["second.weight"] @ g + state["second.bias"]
        total += float(((h - g) ** 2).sum())
    return total / len(first)


def slow_alignment(fields: Array) -> float:
    terms = [
        float(((fields[i, f] - fields[j, f]) ** 2).sum())
        for i in range(len(fields))
        for j in range(i + 1, len(fields))
        for f in range(fields.shape[1])
    ]
    return sum(terms) / len(terms)


def slow_uniformity(fields: Array) -> float:
    terms = [
        float(a @ b) / (math.sqrt(a @ a) * math.sqrt(b @ b) + 1e-4)
        for sample in fields
        for a in sample
        for b in sample
    ]
    return sum(terms) / len(terms)


def test_all_terms_equal_slow_loops() -> None:
    options = CL4CTROptions(
        contrast_weight=0.7, field_weight=0.3, mask_rate=0.4, encoder_dropout=0.0, hidden_dim=6
    )
    torch.manual_seed(0)
    module = CL4CTR(3, 4, options).double()
    for parameter in module.parameters():  # all layers start as copies of one
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    fields = random_fields()

    term = module(fields, Generator().manual_seed(3))

    again = Generator().manual_seed(3)
    views = [(fields * dropout_mask(fields, 0.4, again)).numpy() for _ in range(2)]
    state = {name: value.numpy() for name, value in module.state_dict().items()}
    contrast = slow_contrast(views[0], views[1], state, 3)
    alignment, uniformity = slow_alignment(fields.numpy()), slow_uniformity(fields.numpy())
    assert float(term.logs["contrast"]) == pytest.approx(contrast, rel=1e-9)
    assert float(term.logs["alignment"]) == pytest.approx(alignment, rel=1e-9)
    assert float(term.logs["uniformity"]) == pytest.approx(uniformity, rel=1e-9)
    expected = 0.7 * contrast + 0.3 * (alignment + uniformity)
    assert float(term.value.detach()) == pytest.approx(expected, rel=1e-9)
    assert float(term.own) == 0


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_fields_are_user_candidate_mean_click_and_context(schema: Schema) -> None:
    regularizer, step = make_cl4ctr(schema)
    embedded = step.embedded

    fields = field_vectors(embedded, embedded.user)

    n_item = embedded.item.shape[1]
    user, item, history, context = fields.split(
        [embedded.user.shape[1], n_item, n_item, embedded.context.shape[1]], dim=1
    )
    assert torch.equal(user, embedded.user)
    assert torch.equal(item, embedded.item)
    assert torch.equal(context, embedded.context)
    start, stop = step.batch.offsets[4:6].tolist()
    torch.testing.assert_close(history[4], embedded.history[start:stop].mean(0))
    assert not history[0].any()
    assert regularizer.first.in_features == fields[0].numel()


def test_the_step_uses_its_own_stream() -> None:
    regularizer, step = make_cl4ctr(encoder_dropout=0.0)
    expected = regularizer(
        field_vectors(step.embedded, step.embedded.user), Generator().manual_seed(0)
    )

    term = regularizer.loss(step)

    assert torch.equal(term.value, expected.value)
    other = regularizer(
        field_vectors(step.embedded, step.embedded.user), Generator().manual_seed(1)
    )
    assert not torch.equal(term.value, other.value)


def test_both_views_are_masked_differently() -> None:
    regularizer, step = make_cl4ctr(encoder_dropout=0.0)
    regularizer.second.load_state_dict(regularizer.first.state_dict())
    fields = field_vectors(step.embedded, step.embedded.user)

    masked = float(regularizer(fields, step.generator).logs["contrast"])

    assert masked > 1e-3
    regularizer, step = make_cl4ctr(encoder_dropout=0.0, mask_rate=0.0)
    regularizer.second.load_state_dict(regularizer.first.state_dict())
    assert float(regularizer(fields, step.generator).logs["contrast"]) < 1e-10


def test_equal_samples_are_aligned_and_orthogonal_fields_are_apart() -> None:
    fields = torch.eye(4)[None].expand(6, 4, 4)

    assert float(feature_alignment(fields)) == 0
    assert float(field_uniformity(fields)) == pytest.approx(1 / 4, rel=1e-3)
    assert float(field_uniformity(torch.ones(6, 4, 4))) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0), (3,)], ids=str)
def test_small_batches_and_empty_histories_have_finite_gradients(lengths: tuple[int, ...]) -> None:
    regularizer, step = make_cl4ctr(lengths=lengths)

    value = regularizer.loss(step).value
    value.backward()

    assert value.isfinite()
    assert lengths or float(value.detach()) == 0
    for table in step.backbone.embedding_tables():
        assert table.grad is not None
        assert table.grad.isfinite().all()
