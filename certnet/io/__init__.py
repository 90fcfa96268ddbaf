"""Networks from and to scikit-learn and PyTorch, and from files."""

from typing import TYPE_CHECKING, Any

from certnet.io.models import TORCH_SUFFIXES, load_model, save_model
from certnet.io.torch_ import from_torch, load_torch, save_torch, to_torch

if TYPE_CHECKING:
    from certnet.io.sklearn_ import from_sklearn, to_sklearn

__all__ = [
    "TORCH_SUFFIXES",
    "from_sklearn",
    "from_torch",
    "load_model",
    "load_torch",
    "save_model",
    "save_torch",
    "to_sklearn",
    "to_torch",
]


def __getattr__(name: str) -> Any:
    # on first use: importing scikit-learn takes longer than reading and certifying most models
    if name not in ("from_sklearn", "to_sklearn"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from certnet.io import sklearn_

    return getattr(sklearn_, name)
