"""What is counted is what the operations do, and a disturbed measurement is refused."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks import roofline, step_work
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aqcl import contrastive
from aqcl.layers import MLP

SHAPE = step_work.Shape(
    rows=64,
    clicks=100,
    width=4,
    inputs=24,
    attention=(8, 5),
    top=(16, 8),
    users=50,
    items=60,
    dense=500,
    projector=(6, 6, 7),
    # As the rows a multiple of products.MULTIPLE: only the necessary work is counted.
    codewords=64,
)


def counted(step: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def test_the_products_of_the_top_network_are_counted() -> None:
    network = MLP(SHAPE.inputs, SHAPE.top, "relu")
    inputs = torch.randn(SHAPE.rows, SHAPE.inputs, requires_grad=True)

    one_pass = counted(lambda: network(inputs).sum().backward())

    without = step_work.step_work(
        step_work.Shape(**{**vars(SHAPE), "codewords": 0, "projector": ()})
    )
    assert without["top: products"].flops == one_pass
    assert step_work.step_work(SHAPE)["top: products"].flops == 2 * one_pass


def test_the_products_of_the_contrast_are_counted() -> None:
    dim = SHAPE.projector[-1]
    z, view = (torch.randn(SHAPE.rows, dim, requires_grad=True) for _ in range(2))
    codebook, alpha = torch.randn(SHAPE.codewords, dim), torch.rand(SHAPE.rows)
    options: dict[str, Any] = {"top_k": 3, "instance_temperature": 0.1, "cluster_temperature": 0.1}

    found = counted(lambda: contrastive.aqcl(z, view, codebook, alpha, **options).sum().backward())

    assert step_work.contrast(SHAPE).flops == found


def test_the_products_of_the_codebook_are_counted() -> None:
    z = torch.randn(SHAPE.rows, SHAPE.projector[-1])
    codebook = nn.Parameter(torch.randn(SHAPE.codewords, SHAPE.projector[-1]))

    found = counted(lambda: (z @ codebook.T).sum().backward())

    assert step_work.codebook(SHAPE).flops == found


def test_a_disturbed_measurement_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.machine_rates.predict", lambda *arguments: 1e-3)
    rates: Any = SimpleNamespace(linears={})
    measured = {"attention unit": {"ms": 9.5, "operations": 1.0, "gradients": 1.0}}

    table = roofline._table({}, rates, measured, 0.010)

    assert table["profiler_ms"] == -0.5
    with pytest.raises(roofline.DisturbedError, match=r"a step took 20\.0 ms, but 9\.5 ms"):
        roofline._table({}, rates, measured, 0.020)


@pytest.mark.parametrize("n_disturbed", [0, roofline.ATTEMPTS - 1, roofline.ATTEMPTS])
def test_a_disturbed_measurement_is_repeated(n_disturbed: int) -> None:
    attempts: list[int] = []

    def measure() -> dict[str, Any]:
        attempts.append(len(attempts))
        if len(attempts) <= n_disturbed:
            raise roofline.DisturbedError
        return {"attempt": len(attempts)}

    if n_disturbed < roofline.ATTEMPTS:
        assert roofline.undisturbed(measure) == {"attempt": n_disturbed + 1}
    else:
        with pytest.raises(roofline.DisturbedError):
            roofline.undisturbed(measure)
        assert len(attempts) == roofline.ATTEMPTS
