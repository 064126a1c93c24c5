"""How fast this machine does what a training step is made of, each measured at the step's sizes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aqcl.products import MKL_IS_SLOW, by_onednn
from benchmarks.step_work import FLOAT, Linear, Shape, Work

ROUNDS = 7
ROUND_SECONDS = 0.004
LARGE = 64 * 2**20
"""Bytes of a copy that no cache holds."""
CHAIN = 200
"""Operations on one number, for what an operation costs beside its work."""


@dataclass(frozen=True)
class Rates:
    """Seconds for each unit of work."""

    linears: Mapping[Linear, float]
    """Seconds of the three products of a layer, each by the library that is faster here, whether a
    step uses it for this product or not."""
    linears_by_torch: Mapping[Linear, float]
    """By the library that torch takes of itself."""
    moved_byte: float
    """Bytes read or written, in operations as large as a hidden layer of the attention unit."""
    streamed_byte: float
    """The same, in operations as large as the tables."""
    large_byte: float
    """The same, in operations that no cache holds."""
    sigmoid: float
    exponential: float
    word: float
    uniform: float
    gathered: float
    scattered: float
    forward: float
    """An operation that autograd records, on one number."""
    backward: float
    """Its gradient."""

    def to_json(self) -> dict[str, Any]:
        """In the units that people use."""
        flops = sum(layer.flops for layer in self.linears)
        return {
            "gemm_gflops": round(flops / sum(self.linears.values()) / 1e9, 1),
            "gemm_gflops_by_torch": round(flops / sum(self.linears_by_torch.values()) / 1e9, 1),
            "gemm_gflops_by_shape": {
                f"{layer.n_rows} x {layer.n_in} x {layer.n_out}": round(
                    layer.flops / seconds / 1e9, 1
                )
                for layer, seconds in self.linears.items()
            },
            "copy_gb_per_second": round(1e-9 / self.moved_byte, 1),
            "table_gb_per_second": round(1e-9 / self.streamed_byte, 1),
            "memory_gb_per_second": round(1e-9 / self.large_byte, 1),
            "sigmoid_millions_per_second": round(1e-6 / self.sigmoid),
            "exp_millions_per_second": round(1e-6 / self.exponential),
            "random_words_millions_per_second": round(1e-6 / self.word),
            "random_floats_millions_per_second": round(1e-6 / self.uniform),
            "gather_millions_of_floats_per_second": round(1e-6 / self.gathered),
            "scatter_millions_of_floats_per_second": round(1e-6 / self.scattered),
            "operation_microseconds": round(self.forward * 1e6, 2),
            "gradient_microseconds": round(self.backward * 1e6, 2),
        }


def predict(work: Work, rates: Rates, n_operations: float, n_gradients: float) -> float:
    """Seconds that an item would take if it ran at the machine's rates, one thing at a time."""
    return (
        sum(rates.linears[layer] for layer in work.linears)
        + work.passes * FLOAT * rates.moved_byte
        + work.streamed * FLOAT * rates.streamed_byte
        + work.sigmoids * rates.sigmoid
        + work.exponentials * rates.exponential
        + work.words * rates.word
        + work.uniforms * rates.uniform
        + work.gathered * rates.gathered
        + work.scattered * rates.scattered
        + n_operations * rates.forward
        + n_gradients * rates.backward
    )


def measure_rates(shape: Shape, works: Mapping[str, Work]) -> Rates:
    """Rates at the sizes of a step."""
    clicks, hidden = round(shape.clicks), shape.attention[0]
    activations = torch.rand(clicks, hidden)
    keys = shape.rows + max(shape.codewords, 1)
    similarities = torch.rand(shape.rows, keys)
    table = torch.rand(shape.users + shape.items, shape.width)
    ids = torch.randint(len(table), (clicks,))
    rows = torch.rand(clicks, shape.width)
    words = torch.empty(shape.rows * shape.top[0] // 4, dtype=torch.int64)
    layers = sorted({layer for work in works.values() for layer in work.linears})
    by_torch = {layer: _product_seconds(layer, torch_product) for layer in layers}
    fastest = by_torch
    if MKL_IS_SLOW:
        fastest = {
            layer: list(map(min, by_torch[layer], _product_seconds(layer, by_onednn)))
            for layer in layers
        }
    return Rates(
        linears={layer: sum(found) for layer, found in fastest.items()},
        linears_by_torch={layer: sum(found) for layer, found in by_torch.items()},
        moved_byte=_copy_seconds(activations),
        streamed_byte=_copy_seconds(table),
        large_byte=_copy_seconds(torch.rand(LARGE // FLOAT)),
        sigmoid=seconds(lambda: torch.sigmoid(activations)) / activations.numel(),
        exponential=seconds(lambda: similarities.softmax(1)) / similarities.numel(),
        word=seconds(lambda: words.random_(-(2**63), None)) / len(words),
        uniform=seconds(lambda: torch.rand(clicks)) / clicks,
        gathered=seconds(lambda: table.index_select(0, ids)) / rows.numel(),
        scattered=seconds(lambda: table.index_add_(0, ids, rows)) / rows.numel(),
        **_operation_seconds(),
    )


def seconds(run: Callable[[], Any]) -> float:
    """The least time of a call over rounds of several: what the machine can do."""
    run()
    started = time.perf_counter()
    run()
    each = max(time.perf_counter() - started, 1e-7)
    n_calls = max(1, int(ROUND_SECONDS / each))
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(n_calls):
            run()
        best = min(best, (time.perf_counter() - started) / n_calls)
    return best


def _product_seconds(layer: Linear, product: Callable[[Tensor, Tensor], Tensor]) -> list[float]:
    """Of each product of a layer: its output, the gradient by the weights and that by the input."""
    inputs, weight = torch.rand(layer.n_rows, layer.n_in), torch.rand(layer.n_out, layer.n_in)
    gradient = torch.rand(layer.n_rows, layer.n_out)
    operands = ((inputs, weight), (gradient.T, inputs.T), (gradient, weight.T))
    return [seconds(partial(product, x, y)) for x, y in operands[: layer.n_products]]


def torch_product(x: Tensor, y: Tensor) -> Tensor:
    """`x @ y.T` as torch multiplies."""
    return x @ y.T


def _copy_seconds(like: Tensor) -> float:
    out = torch.empty_like(like)
    return seconds(lambda: out.copy_(like)) / (2 * like.numel() * FLOAT)


def _operation_seconds() -> dict[str, float]:
    """What an operation costs beside its work, forward and backward."""
    one = torch.ones(1, requires_grad=True)

    def forward() -> Tensor:
        value = one
        for _ in range(CHAIN):
            value = value * 1.0
        return value

    with_graph = seconds(forward)
    both = seconds(lambda: forward().backward())
    return {"forward": with_graph / CHAIN, "backward": max(both - with_graph, 0.0) / CHAIN}
