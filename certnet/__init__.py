"""certnet: refine pretrained ReLU regressors by convex programs, certify Lipschitz constants, and lifted networks."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from certnet._version import __version__

# eager: a function that bears its subpackage's name must be bound after the subpackage is
from certnet.certify import Certificate, certify, certify_outputs
from certnet.errors import CertnetError
from certnet.feedforward import FeedForward
from certnet.network import ShallowNetwork

if TYPE_CHECKING:
    from certnet.data import load_dataset
    from certnet.estimators import CertifiedRegressor, CertifiedRegressorCV
    from certnet.io import from_sklearn, from_torch, load_onnx, save_onnx, to_sklearn, to_torch
    from certnet.restrict import RefineResult, objective, objective_floor, refine, refine_path
    from certnet.robust import PGDAttack, adversarial_mse, certified_mse

__all__ = [
    "Certificate",
    "CertifiedRegressor",
    "CertifiedRegressorCV",
    "CertnetError",
    "FeedForward",
    "PGDAttack",
    "RefineResult",
    "ShallowNetwork",
    "__version__",
    "adversarial_mse",
    "certified_mse",
    "certify",
    "certify_outputs",
    "from_sklearn",
    "from_torch",
    "load_dataset",
    "load_onnx",
    "objective",
    "objective_floor",
    "refine",
    "refine_path",
    "save_onnx",
    "to_sklearn",
    "to_torch",
]

# where the other public names live; imported on first use: scikit-learn alone takes longer than a certificate
_HOMES = {
    "CertifiedRegressor": "estimators",
    "CertifiedRegressorCV": "estimators",
    "PGDAttack": "robust",
    "RefineResult": "restrict",
    "adversarial_mse": "robust",
    "certified_mse": "robust",
    "from_sklearn": "io",
    "from_torch": "io",
    "load_dataset": "data",
    "load_onnx": "io",
    "save_onnx": "io",
    "objective": "restrict",
    "objective_floor": "restrict",
    "refine": "restrict",
    "refine_path": "restrict",
    "to_sklearn": "io",
    "to_torch": "io",
}

logging.getLogger("certnet").addHandler(logging.NullHandler())


_SUBPACKAGES = ("data", "demo", "estimators", "io", "lifted", "plot", "restrict", "robust", "study", "train")


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
