"""Starting networks: descent with weight decay, adversarial training, ADMM, and regularised spectral norms."""

from certnet.train.admm import train_admm
from certnet.train.pgd import train_pgd
from certnet.train.regularized import train_regularized
from certnet.train.regularizers import (
    Coupled,
    CoupledBound,
    MaxNorm,
    PerLayerSpectral,
    Regularizer,
    Unregularized,
)
from certnet.train.result import TrainResult
from certnet.train.sgd import train_sgd
from certnet.train.tuning import Trial, TuneResult, tune

__all__ = [
    "Coupled",
    "CoupledBound",
    "MaxNorm",
    "PerLayerSpectral",
    "Regularizer",
    "TrainResult",
    "Trial",
    "TuneResult",
    "Unregularized",
    "train_admm",
    "train_pgd",
    "train_regularized",
    "train_sgd",
    "tune",
]
