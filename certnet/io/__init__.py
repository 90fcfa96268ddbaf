"""Networks from and to scikit-learn, PyTorch and ONNX, and from files."""

from typing import TYPE_CHECKING

from certnet.core.lazily import handed_on

if TYPE_CHECKING:
    from certnet.io.models import SUFFIXES, WITHOUT_UNITS, load_model, save_model
    from certnet.io.onnx_ import load_onnx, save_onnx
    from certnet.io.sklearn_ import from_sklearn, to_sklearn
    from certnet.io.torch_ import from_torch, load_torch, save_torch, to_torch

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

if not TYPE_CHECKING:  # type checkers see the imports above
    __getattr__, __dir__ = handed_on(
        __name__,
        {
            "SUFFIXES": "certnet.io.models",
            "WITHOUT_UNITS": "certnet.io.models",
            "from_sklearn": "certnet.io.sklearn_",
            "from_torch": "certnet.io.torch_",
            "load_model": "certnet.io.models",
            "load_onnx": "certnet.io.onnx_",
            "load_torch": "certnet.io.torch_",
            "save_model": "certnet.io.models",
            "save_onnx": "certnet.io.onnx_",
            "save_torch": "certnet.io.torch_",
            "to_sklearn": "certnet.io.sklearn_",
            "to_torch": "certnet.io.torch_",
        },
    )
