"""Lifted networks: activations that minimise a convex energy, in batches, with certified Lipschitz bounds."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from certnet.lifted.bounds import LiftedCertificate
from certnet.lifted.inference import Inference, infer
from certnet.lifted.learn import Objective, Trained, Training, initial_network, linear_fraction, train
from certnet.lifted.network import LiftedNetwork

if TYPE_CHECKING:
    from certnet.lifted.estimators import LiftedClassifier, LiftedDensity, LiftedRegressor

__all__ = [
    "Inference",
    "LiftedCertificate",
    "LiftedClassifier",
    "LiftedDensity",
    "LiftedNetwork",
    "LiftedRegressor",
    "Objective",
    "Trained",
    "Training",
    "infer",
    "initial_network",
    "linear_fraction",
    "train",
]

_ESTIMATORS = ("LiftedClassifier", "LiftedDensity", "LiftedRegressor")


def __getattr__(name: str) -> Any:
    """The estimators, imported on first use, as scikit-learn is with them."""
    if name not in _ESTIMATORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.estimators"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
