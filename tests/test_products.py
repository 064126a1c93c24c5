from pathlib import Path

import pytest
import torch
from torch import Tensor

from aqcl import contrastive, products
from aqcl.products import dot

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"
)


@pytest.fixture
def slow_mkl(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor with wide vectors that MKL does not use."""
    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def operands(kind: str) -> tuple[Tensor, Tensor]:
    """An x and a y of many rows, in a layout that gradients have."""
    x, y = drawn(700, 48), drawn(400, 48, seed=1)
    match kind:
        case "transposed":
            return drawn(48, 700).T, drawn(48, 400, seed=1).T
        case "rows with gaps":
            return drawn(700, 50)[:, :48], drawn(400, 50, seed=1)[:, 2:]
        case "columns with gaps":
            return drawn(48, 704)[:, :700].T, drawn(48, 404, seed=1)[:, :400].T
        case "one row for all":
            return x[:1].expand(700, 48), y[:1].expand(400, 48)
        case "one column for all":
            return x[:, :1].expand(700, 48), y[:, :1].expand(400, 48)
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
def test_both_libraries_agree_whatever_the_layout(kind: str) -> None:
    x, y = operands(kind)
    assert len(x) * y.numel() >= products.WORTH  # so that it is oneDNN's

    expected = (x.double() @ y.double().T).float()
    torch.testing.assert_close(dot(x, y), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("slow_mkl")
@pytest.mark.parametrize("why", ["small", "fp64", "quick enough"])
def test_elsewhere_torchs_own_product_is_taken(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "by_onednn", lambda x, y: pytest.fail("oneDNN was taken"))
    n_rows = 20 if why == "small" else 700
    x, y = drawn(n_rows, 48), drawn(400, 48, seed=1)
    if why == "fp64":
        x, y = x.double(), y.double()

    if why == "quick enough":
        monkeypatch.setattr(products, "mkl_is_slow", lambda: False)

    assert torch.equal(dot(x, y), x @ y.T)


@needs_onednn
def test_the_contrast_and_its_gradient_are_those_of_torchs_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n_samples, n_codewords = 509, 128  # no multiple of what rows of the matrix are aligned to
    z, view, codebook = drawn(n_samples, 64), drawn(n_samples, 64, seed=1), drawn(n_codewords, 64)
    alpha = torch.linspace(0, 1, n_samples)

    def contrast(*, mkl_is_slow: bool) -> list[Tensor]:
        monkeypatch.setattr(products, "mkl_is_slow", lambda: mkl_is_slow)
        inputs = [t.clone().requires_grad_() for t in (z, view, codebook)]
        loss = contrastive.aqcl(
            inputs[0],
            inputs[1],
            inputs[2],
            alpha,
            top_k=5,
            instance_temperature=0.2,
            cluster_temperature=0.2,
        )
        return [loss, *torch.autograd.grad(loss.mean(), inputs)]

    assert len(z) * (len(view) + n_codewords) * z.shape[1] >= products.WORTH
    torch.testing.assert_close(contrast(mkl_is_slow=True), contrast(mkl_is_slow=False))


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

    assert products.mkl_is_slow.__wrapped__() is expected
