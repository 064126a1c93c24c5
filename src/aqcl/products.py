"""Products of large matrices by the faster of the two libraries that torch brings.

torch takes MKL for fp32, which on processors that are not Intel's computes with vectors of 256 bits
also where they have ones of 512. oneDNN takes what there is, and is up to twice as fast there.
"""

import re
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

WORTH = 2**23
"""Multiplications from which oneDNN is taken: with fewer, what is around them hides the gain."""
MULTIPLE = 64
"""Of which the sides of both matrices are then. oneDNN keeps a kernel, of megabytes, for each shape
that it meets; so there are few in a loop whose batches have any size."""
CPU_FACTS = Path("/proc/cpuinfo")
"""Where Linux says who made the processor; elsewhere torch's own products are taken."""


def is_mkl_slow() -> bool:
    """Whether MKL leaves half of each vector of this processor unused, and oneDNN is there."""
    libraries = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    if not libraries or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    try:
        facts = CPU_FACTS.read_text(encoding="utf-8")
    except OSError:
        return False
    maker = re.search(r"^vendor_id\s*:\s*(\S+)", facts, re.MULTILINE)
    has_512_bits = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return has_512_bits and maker is not None and maker[1] != "GenuineIntel"


MKL_IS_SLOW: Final = is_mkl_slow()
"""A constant, so that `torch.compile` does not ask."""


def dot(x: Float[Tensor, "N D"], y: Float[Tensor, "M D"]) -> Float[Tensor, "N M"]:
    """`x @ y.T`, for hand-written gradients: without one of its own. Transposed views do."""
    sides = (*x.shape, len(y))
    is_fast_by_onednn = (
        MKL_IS_SLOW
        and len(x) * y.numel() >= WORTH
        and all(side % MULTIPLE == 0 for side in sides)
        and x.dtype == torch.float32
        and x.device.type == "cpu"
    )
    return by_onednn(x, y) if is_fast_by_onednn else x @ y.T


def by_onednn(x: Float[Tensor, "N D"], y: Float[Tensor, "M D"]) -> Float[Tensor, "N M"]:
    """`x @ y.T` of fp32 on a CPU, with all of its vectors."""
    # On rows with gaps between them it is a thousand times slower.
    dense = y.T.contiguous().T if y.stride(0) == 1 else y.contiguous()
    product: Any = torch.ops.mkldnn._linear_pointwise
    return product(x, dense, None, "none", [], "")  # type: ignore[no-any-return]
