"""Networks from and to scikit-learn and PyTorch, and from files."""

from certnet.io.models import TORCH_SUFFIXES, load_model, save_model
from certnet.io.sklearn_ import from_sklearn, to_sklearn
from certnet.io.torch_ import from_torch, load_torch, save_torch, to_torch

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
