"""PyTorch: imported on demand, and its devices by name."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from certnet.core.errors import InvalidInputError, MissingDependencyError

if TYPE_CHECKING:
    import torch

__all__ = ["gpus", "import_torch", "torch_device"]


def import_torch() -> Any:
    """The package, imported now.

    Raises
    ------
    MissingDependencyError
        PyTorch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingDependencyError('PyTorch is not installed (certnet[torch]): pip install "torch>=2.10"')
    import torch

    return torch


def gpus() -> list[str]:
    """Names of the GPUs that PyTorch can use.

    Raises
    ------
    MissingDependencyError
        PyTorch is not installed.
    """
    torch = import_torch()
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [torch.cuda.get_device_name(i) for i in range(count)]


def torch_device(name: str, *, double: bool = False) -> torch.device:
    """The device of that name; "auto" is the GPU where PyTorch has one. ``double``: one that computes in float64.

    Raises
    ------
    InvalidInputError
        The device is unknown or not there.
    """
    torch = import_torch()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device, dtype=torch.float64 if double else torch.float32).item()
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].split(". ")[0][:80]
        others = "'auto' or 'cpu'" if str(name).startswith("cuda") else "'auto', 'cpu' or 'cuda'"
        raise InvalidInputError(f"device {name!r} cannot be used ({reason}): give {others}") from error
    return device
