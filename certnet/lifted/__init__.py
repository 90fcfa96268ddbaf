"""Lifted networks: activations that minimise a convex energy, in batches, with certified Lipschitz bounds."""

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
