"""Lifted networks: activations that minimise a convex energy, in batches, with certified Lipschitz bounds."""

from typing import TYPE_CHECKING

from certnet.core.lazily import handed_on

if TYPE_CHECKING:
    from certnet.lifted.bounds import LiftedCertificate
    from certnet.lifted.estimators import LiftedClassifier, LiftedDensity, LiftedRegressor
    from certnet.lifted.inference import Inference, infer
    from certnet.lifted.learn import Objective, Trained, Training, initial_network, linear_fraction, train
    from certnet.lifted.network import LiftedNetwork

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

if not TYPE_CHECKING:  # type checkers see the imports above
    __getattr__, __dir__ = handed_on(
        __name__,
        {
            "Inference": "certnet.lifted.inference",
            "LiftedCertificate": "certnet.lifted.bounds",
            "LiftedClassifier": "certnet.lifted.estimators",
            "LiftedDensity": "certnet.lifted.estimators",
            "LiftedNetwork": "certnet.lifted.network",
            "LiftedRegressor": "certnet.lifted.estimators",
            "Objective": "certnet.lifted.learn",
            "Trained": "certnet.lifted.learn",
            "Training": "certnet.lifted.learn",
            "infer": "certnet.lifted.inference",
            "initial_network": "certnet.lifted.learn",
            "linear_fraction": "certnet.lifted.learn",
            "train": "certnet.lifted.learn",
        },
    )
