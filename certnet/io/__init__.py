"""Networks from and to scikit-learn, PyTorch and ONNX, and from files."""

from typing import TYPE_CHECKING, Any

from certnet.io.models import SUFFIXES, WITHOUT_UNITS, load_model, save_model
from certnet.io.onnx_ import load_onnx, save_onnx
from certnet.io.torch_ import from_torch, load_torch, save_torch, to_torch

if TYPE_CHECKING:
    from certnet.io.sklearn_ import from_sklearn, to_sklearn

__all__ = [
    "SUFFIXES",
    "WITHOUT_UNITS",
    "from_sklearn",
    "from_torch",
    "load_model",
    "load_onnx",
    "load_torch",
    "save_model",
    "save_onnx",
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
