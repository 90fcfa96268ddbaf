"""Starting networks: descent with weight decay, adversarial training, ADMM, and regularised spectral norms.

And classifiers that can be certified, by a penalty on an estimate of their Lipschitz bound that fits in any loop.
"""

from certnet.train.admm import train_admm
from certnet.train.classifier_ import train_classifier
from certnet.train.penalty_ import LipschitzPenalty, lipschitz_estimate
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
    "LipschitzPenalty",
    "MaxNorm",
    "PerLayerSpectral",
    "Regularizer",
    "TrainResult",
    "Trial",
    "TuneResult",
    "Unregularized",
    "lipschitz_estimate",
    "train_admm",
    "train_classifier",
    "train_pgd",
    "train_regularized",
    "train_sgd",
    "tune",
]
