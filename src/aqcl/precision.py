"""Products in a lower precision, for hand-written gradients, which autocast does not reach."""

from collections.abc import Callable

import torch
from torch import Tensor


def in_autocast(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """`function(*tensors)` with autocast off and the tensors cast as it asks for.

    Outside of autocast this is the plain call. The result has the type of the first tensor.
    """
    kind, dtype = tensors[0].device.type, tensors[0].dtype
    if not torch.is_autocast_enabled(kind):
        return function(*tensors)
    lower = torch.get_autocast_dtype(kind)
    with torch.autocast(kind, enabled=False):
        return function(*(tensor.to(lower) for tensor in tensors)).to(dtype)
