import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from aqcl import contrastive, products
from aqcl.products import dot

SHAPES = (509, 509, 127)
"""Samples, views and codewords."""
needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"
)


@pytest.fixture
def slow_mkl(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor with wide vectors that MKL does not use."""
    monkeypatch.setattr(products, "MKL_IS_SLOW", True)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def operands(kind: str) -> tuple[Tensor, Tensor]:
    """An x and a y of many rows, in a layout that gradients have."""
    x, y = drawn(704, 64), drawn(384, 64, seed=1)
    match kind:
        case "transposed":
            return drawn(64, 704).T, drawn(64, 384, seed=1).T
        case "rows with gaps":
            return drawn(704, 66)[:, :64], drawn(384, 66, seed=1)[:, 2:]
        case "columns with gaps":
            return drawn(64, 707)[:, :704].T, drawn(64, 387, seed=1)[:, 3:].T
        case "one row for all":
            return x[:1].expand(704, 64), y[:1].expand(384, 64)
        case "one column for all":
            return x[:, :1].expand(704, 64), y[:, :1].expand(384, 64)
        case _:
            return x, y


@needs_onednn
@pytest.mark.usefixtures("slow_mkl")
@pytest.mark.parametrize(
    "kind",
    [
        "plain",
        "transposed",
        "rows with gaps",
        "columns with gaps",
        "one row for all",
        "one column for all",
    ],
)
def test_both_libraries_agree_whatever_the_layout(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = operands(kind)
    taken = Mock(wraps=products.by_onednn)
    monkeypatch.setattr(products, "by_onednn", taken)

    expected = (x.double() @ y.double().T).float()
    torch.testing.assert_close(dot(x, y), expected, rtol=1e-5, atol=1e-4)
    assert taken.call_count == 1


@pytest.mark.usefixtures("slow_mkl")
@pytest.mark.parametrize("why", ["small", "fp64", "odd", "quick enough"])
def test_elsewhere_torchs_own_product_is_taken(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "by_onednn", lambda x, y: pytest.fail("oneDNN was taken"))
    n_rows = {"small": 64, "odd": 705}.get(why, 704)
    x, y = drawn(n_rows, 64), drawn(384, 64, seed=1)
    if why == "fp64":
        x, y = x.double(), y.double()

    if why == "quick enough":
        monkeypatch.setattr(products, "MKL_IS_SLOW", False)

    assert torch.equal(dot(x, y), x @ y.T)


def contrast(*, learns_codebook: bool) -> list[Tensor]:
    """AQCL of a batch that is large enough for oneDNN, and its gradients."""
    inputs = [drawn(n_rows, 64, seed=n).requires_grad_() for n, n_rows in enumerate(SHAPES)]
    z, view, codebook = inputs
    loss = contrastive.aqcl(
        z,
        view,
        codebook if learns_codebook else codebook.detach(),
        torch.linspace(0, 1, len(z)),
        top_k=5,
        instance_temperature=0.2,
        cluster_temperature=0.2,
    )
    # A sum: gradients of a mean would be smaller than what a comparison calls close.
    return [loss, *torch.autograd.grad(loss.sum(), inputs[: 2 + learns_codebook])]


@needs_onednn
@pytest.mark.parametrize("learns_codebook", [False, True])
def test_the_contrast_and_its_gradient_are_those_of_torchs_products(
    learns_codebook: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = Mock(wraps=products.by_onednn)
    monkeypatch.setattr(products, "by_onednn", taken)
    monkeypatch.setattr(products, "MKL_IS_SLOW", True)
    fast = contrast(learns_codebook=learns_codebook)
    assert taken.call_count == 3

    monkeypatch.setattr(products, "MKL_IS_SLOW", False)
    plain = contrast(learns_codebook=learns_codebook)

    assert taken.call_count == 3
    torch.testing.assert_close(fast, plain)


COMPILED = """
import torch
from aqcl import contrastive, products

def loss_of(z, view, codebook):
    alpha = torch.linspace(0, 1, len(z))
    return contrastive.aqcl(
        z, view, codebook, alpha, top_k=5, instance_temperature=0.2, cluster_temperature=0.2
    )

inputs = [torch.randn(n_rows, 64, requires_grad=True) for n_rows in (509, 509, 127)]
for products.MKL_IS_SLOW in {False, torch.backends.mkldnn.is_available()}:
    torch.compiler.reset()
    compiled = torch.compile(loss_of, backend="aot_eager", fullgraph=True)
    values = compiled(*inputs), loss_of(*inputs)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value.sum(), inputs) for value in values))
"""
"""Apart from the tests, whose checks of types break a graph."""


def test_the_contrast_compiles_as_one_graph_and_stays_what_it_is() -> None:
    subprocess.run([sys.executable, "-c", COMPILED], check=True)


@pytest.mark.parametrize(
    ("maker", "capability", "expected"),
    [
        ("AuthenticAMD", "AVX512", True),
        ("AuthenticAMD", "AVX2", False),
        ("GenuineIntel", "AVX512", False),
        (None, "AVX512", False),
    ],
)
def test_mkl_is_slow_on_wide_processors_of_other_makers(
    maker: str | None,
    capability: str,
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facts = tmp_path / "cpuinfo"
    if maker is not None:
        facts.write_text(f"processor\t: 0\nvendor_id\t: {maker}\n")
    monkeypatch.setattr(products, "CPU_FACTS", facts)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    for library in (torch.backends.mkl, torch.backends.mkldnn):
        monkeypatch.setattr(library, "is_available", lambda: True)

    assert products.is_mkl_slow() is expected


@pytest.mark.parametrize("library", ["mkl", "mkldnn"])
def test_without_either_library_there_is_nothing_to_choose(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getattr(torch.backends, library), "is_available", lambda: False)

    assert not products.is_mkl_slow()
