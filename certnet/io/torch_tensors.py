"""Tensors of PyTorch as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from certnet.backends.torch_ import import_torch
from certnet.core.errors import UnsupportedModelError
from certnet.core.validation import Float
from certnet.io.affine import MAX_ENTRIES

if TYPE_CHECKING:
    import torch

__all__ = ["array_of"]


def array_of(tensor: torch.Tensor, name: str) -> Float:
    """A float64 copy of a real tensor, on whatever device, dense or sparse; exact for all floating types of PyTorch.

    Raises
    ------
    UnsupportedModelError
        The tensor has no values (meta device), is complex, integer or quantised, or is too large.
    """
    torch = import_torch()
    if tensor.device.type == "meta":
        raise UnsupportedModelError(f"{name} is on the meta device and has no values: load the weights first")
    if tensor.is_quantized or not tensor.dtype.is_floating_point:
        raise UnsupportedModelError(
            f"{name} has dtype {tensor.dtype}: real floating-point weights are needed; dequantise or convert them"
        )
    if tensor.numel() > MAX_ENTRIES:
        raise UnsupportedModelError(f"{name} has {tensor.numel()} entries, more than {MAX_ENTRIES}")
    dense = tensor.detach()
    if dense.layout is not torch.strided:
        dense = dense.to_dense()
    return np.array(dense.cpu().to(torch.float64).numpy(force=True))
