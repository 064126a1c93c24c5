"""AQCL and ICL attached to models that know nothing of aqcl."""

import copy
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import aqcl
from aqcl.errors import ConfigError
from aqcl.regularizers.aqcl import AQCLOptions
from aqcl.regularizers.icl import ICLOptions
from aqcl.views import ViewOptions
from tests.foreign_model import OPTIONS, ROWS, activity, batch, make, step


def test_gradients_reach_the_model_and_the_projector() -> None:
    model, attachment = make(options=AQCLOptions(n_codewords=4, top_k=2, warmup_steps=0))
    output, term = step(attachment)
    assert output["logit"].shape == (ROWS,)
    (term.value + term.own).backward()
    trained = [*attachment.named_parameters(), *model.tables.named_parameters()]
    trained += model.dnn.named_parameters()
    for name, parameter in trained:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert model.head.weight.grad is None


@pytest.mark.parametrize("options", [OPTIONS, ICLOptions(dim=8)], ids=["aqcl", "icl"])
def test_training_lowers_the_loss(options: AQCLOptions | ICLOptions) -> None:
    model, attachment = make(options=options)
    optimizer = torch.optim.Adam([*model.parameters(), *attachment.parameters()], lr=0.01)
    values = []
    for _ in range(40):
        output, term = step(attachment)
        labels = torch.ones_like(output["logit"])
        logloss = F.binary_cross_entropy_with_logits(output["logit"], labels)
        optimizer.zero_grad()
        (logloss + attachment.weight * 10 * term.value + term.own).backward()
        optimizer.step()
        values.append(term.value.item())
    # AQCL's own loss starts when the warm-up of two steps is over.
    assert sum(values[-5:]) < 0.9 * sum(values[3:8])


def test_the_output_is_that_of_the_model_alone() -> None:
    model, attachment = make()
    alone = copy.deepcopy(model)
    torch.manual_seed(5)
    output, _ = step(attachment)
    torch.manual_seed(5)
    assert torch.equal(output["logit"], alone(batch())["logit"])


def test_running_statistics_are_those_of_a_plain_forward() -> None:
    model, attachment = make()
    alone = copy.deepcopy(model)
    step(attachment)
    alone(batch())
    for (name, ours), plain in zip(model.named_buffers(), alone.buffers(), strict=True):
        assert torch.equal(ours, plain), name
    assert int(model.get_buffer("dnn.1.num_batches_tracked")) == 1
    assert all(m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm1d))


def test_without_the_attachment_the_model_is_as_before() -> None:
    model, attachment = make()
    alone = copy.deepcopy(model)
    keys = list(model.state_dict())
    step(attachment)
    attachment.detach()
    alone(batch())
    assert list(model.state_dict()) == keys
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    model.eval(), alone.eval()
    assert torch.equal(model(batch())["logit"], alone(batch())["logit"])
    with pytest.raises(ConfigError, match="detached"):
        step(attachment)


def test_hooks_are_gone_when_the_model_fails() -> None:
    model, attachment = make()
    with pytest.raises(KeyError):
        attachment({"item": batch()["item"]}, activity=activity())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_the_model_is_no_part_of_the_attachment() -> None:
    model, attachment = make()
    ours = {id(p) for p in attachment.parameters()}
    assert ours
    assert ours.isdisjoint(map(id, model.parameters()))
    assert not any("dnn" in key or "tables" in key for key in attachment.state_dict())


def test_views_follow_the_seed_and_change_with_each_call() -> None:
    values = []
    for seed in (1, 1, 2):
        _, attachment = make(dropout=0.0, seed=seed)
        values.append([step(attachment)[1].value.item() for _ in range(2)])
    assert values[0] == values[1]
    assert values[0] != values[2]
    assert values[0][0] != values[0][1]


def test_how_often_one_validates_changes_nothing_later() -> None:
    after = []
    for validations in (0, 2):
        model, attachment = make(dropout=0.0)
        step(attachment)
        model.eval()
        attachment.eval()
        for _ in range(validations):
            step(attachment)
        model.train()
        attachment.train()
        after.append((step(attachment)[1].value, attachment.state_dict()))
    assert torch.equal(after[0][0], after[1][0])
    assert all(torch.equal(value, after[1][1][key]) for key, value in after[0][1].items())


def test_a_resumed_attachment_goes_on_with_the_same_views() -> None:
    model, attachment = make(dropout=0.0)
    step(attachment)
    again = make(dropout=0.0)[1]
    again.load_state_dict(attachment.state_dict())
    assert torch.equal(step(attachment)[1].value, step(again)[1].value)
    assert int(attachment.passes) == 2
    assert model.training


def test_arguments_go_to_the_model() -> None:
    _, attachment = make()
    torch.manual_seed(1)
    once, _ = attachment(batch(), activity=activity())
    torch.manual_seed(1)
    twice, _ = attachment(batch(), scale=2.0, activity=activity())
    torch.testing.assert_close(twice["logit"], 2 * once["logit"])


class Gated(nn.Module):
    """A model with arguments that are called as those of an attachment."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(20, 4), nn.Linear(4, 1)
        self.seen: list[Tensor | None] = []

    def forward(self, item: Tensor, activity: Tensor | None = None) -> Tensor:
        self.seen.append(activity)
        return cast(Tensor, self.head(self.table(item)))


def test_an_argument_of_the_model_is_not_taken_from_it_in_silence() -> None:
    model, item, gate = Gated(), torch.arange(ROWS) % 20, torch.ones(ROWS)
    attachment = aqcl.attach(
        model, latent="input:head", embeddings=["table"], mean_activity=3.0, options=OPTIONS
    )
    with pytest.raises(ConfigError, match=r"activity: the model takes .* position, as number 2"):
        attachment(item, activity=activity())
    attachment(item, gate, activity=activity())
    assert all(seen is gate for seen in model.seen)
    assert len(model.seen) == 2

    class ByKeyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = model.table, model.head

        def forward(self, item: Tensor, *, activity: Tensor | None = None) -> Tensor:
            return cast(Tensor, self.head(self.table(item)))

    with pytest.raises(ConfigError, match=r"activity: .* by keyword alone"):
        aqcl.attach(ByKeyword(), latent="input:head", embeddings=["table"], options=ICLOptions())


def test_frozen_tables_may_be_named() -> None:
    model, attachment = make()
    model.item.weight.requires_grad_(False)
    assert step(attachment)[1].value.isfinite()


@pytest.mark.parametrize("latent", ["output:1", "input:2"])
def test_a_layer_that_works_in_place_does_not_change_the_latent(latent: str) -> None:
    read = []
    for inplace in (False, True):
        torch.manual_seed(0)
        table, linear, head = nn.Embedding(20, 8), nn.Linear(8, 6), nn.Linear(6, 1)
        model = nn.Sequential(table, linear, nn.ReLU(inplace), head)
        attachment = aqcl.attach(
            model,
            latent=latent,
            latent_dim=6 if "2" in latent else None,
            embeddings=["0"],
            options=ICLOptions(dim=8),
        )
        read.append(attachment(torch.arange(20))[1].value)
    assert torch.equal(*read)


def test_running_statistics_of_instances_are_those_of_a_plain_forward() -> None:
    def model() -> nn.Sequential:
        torch.manual_seed(0)
        norm = nn.InstanceNorm1d(3, track_running_stats=True)
        return nn.Sequential(nn.Embedding(20, 8), norm, nn.Flatten(), nn.Linear(24, 1))

    ours, plain = model(), model()
    attachment = aqcl.attach(ours, latent="input:3", embeddings=["0"], options=ICLOptions(dim=8))
    item = torch.arange(18).reshape(6, 3)
    attachment(item)
    plain(item)
    assert all(map(torch.equal, ours.buffers(), plain.buffers()))


def test_a_width_that_a_module_does_not_tell_is_given() -> None:
    attachment = make(latent="output:dnn", latent_dim=6)[1]
    assert step(attachment)[1].value.isfinite()
    with pytest.raises(ConfigError, match=r"latent_dim = 6"):
        step(make(latent="output:dnn", latent_dim=5)[1])


def test_models_of_another_precision_are_served() -> None:
    model, attachment = make()
    model.double()
    assert step(attachment)[1].value.dtype == torch.float32


def test_diagnostics_come_when_they_are_asked_for() -> None:
    _, attachment = make(options=AQCLOptions(n_codewords=4, top_k=2, warmup_steps=0))
    told = [
        attachment(batch(), activity=activity(), diagnose=diagnose)[1].logs
        for diagnose in (False, True)
    ]
    assert set(told[0]) < set(told[1])


def test_groups_spare_false_negatives() -> None:
    options = AQCLOptions(false_negatives="user", warmup_steps=2)
    values = []
    for groups in (torch.arange(ROWS), torch.arange(ROWS) // 2):
        _, attachment = make(dropout=0.0, options=options)
        _, term = attachment(batch(), activity=activity(), groups=groups)
        values.append(term.value.item())
    assert values[1] < values[0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"latent": "input:haed"}, "did you mean 'head'"),
        ({"latent": "head"}, "expected 'input:MODULE' or 'output:MODULE'"),
        ({"latent": "output:dnn"}, "a Sequential does not tell its width: give latent_dim"),
        ({"latent_dim": 7}, "is 6 wide"),
        ({"embeddings": ["tables.itm"]}, "embeddings = 'tables.itm' .* 'tables.item'"),
        ({"history": ["table.item"]}, "history = 'table.item' .* 'tables.item'"),
        ({"history": ["tables.item#0"]}, "counted from 1"),
        ({"embeddings": [], "history": []}, "both empty"),
        ({"embeddings": "wide"}, r"embeddings: expected a list of names, got 'wide'; .*\['wide'\]"),
        ({"history": "wide"}, "history: expected a list of names"),
        ({"mean_activity": None}, "mean_activity is missing"),
        ({"mean_activity": 0.0}, "mean_activity: expected .* above 0, got 0.0"),
        ({"options": AQCLOptions(readout=True)}, "readout = true"),
        ({"history": [], "options": ICLOptions(view=ViewOptions(bit_rate=0.0))}, "has the rate 0"),
        ({"embeddings": [], "options": ICLOptions(view=ViewOptions(mask_rate=0.0))}, "the rate 0"),
    ],
)
def test_mistakes_are_named_when_attaching(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"latent": "input:unused"}, "'unused' was called 0 times"),
        ({"latent": "output:tables.item", "latent_dim": 4}, "was called 2 times"),
        ({"embeddings": ["unused"]}, "'unused' was not called"),
        ({"history": ["tables.item#3"]}, r"called only 2 time"),
        ({"embeddings": ["wide"], "history": []}, "'wide': none of their outputs leads to latent"),
        ({"history": ["tables.user"]}, r"none of its outputs was of the shape \(B, L, d\)"),
    ],
)
def test_mistakes_are_named_at_the_first_call(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        step(make(**changed)[1])


@pytest.mark.parametrize("wrong", [None, torch.zeros(ROWS, 1), torch.zeros(ROWS - 1)])
def test_activity_must_fit_the_batch(wrong: Tensor | None) -> None:
    _, attachment = make()
    with pytest.raises(ConfigError, match=rf"activity: expected shape \({ROWS},\)"):
        attachment(batch(), activity=wrong)


def test_a_latent_of_another_shape_is_refused() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3))
    attachment = aqcl.attach(model, latent="output:1", embeddings=["0"], options=ICLOptions())
    with pytest.raises(ConfigError, match=r"expected floats of shape \(B, D\), got \(2, 6, 3\)"):
        attachment(torch.zeros(2, 6, dtype=torch.int64))


def test_a_module_that_gives_no_tensor_is_refused() -> None:
    class Pair(nn.Embedding):
        def forward(self, input: Tensor) -> Any:
            return (super().forward(input),)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = Pair(5, 4), nn.Linear(4, 3)

        def forward(self, ids: Tensor) -> Any:
            return self.head(self.table(ids)[0])

    attachment = aqcl.attach(
        Model(), latent="input:head", embeddings=["table"], options=ICLOptions()
    )
    with pytest.raises(ConfigError, match="'table' gave a tuple"):
        attachment(torch.zeros(6, dtype=torch.int64))


def test_the_function_is_found_however_often_it_is_asked_for() -> None:
    assert aqcl.attach is aqcl.attach
    assert callable(aqcl.attach)
