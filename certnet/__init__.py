"""certnet: refine pretrained ReLU regressors by convex programs and certify their Lipschitz constants."""

import logging

from certnet._version import __version__
from certnet.certify import Certificate, certify
from certnet.data import load_dataset
from certnet.io import from_sklearn, from_torch, to_sklearn, to_torch
from certnet.network import ShallowNetwork
from certnet.restrict import RefineResult, objective, refine
from certnet.robust import PGDAttack, adversarial_mse, certified_mse

__all__ = [
    "Certificate",
    "PGDAttack",
    "RefineResult",
    "ShallowNetwork",
    "__version__",
    "adversarial_mse",
    "certified_mse",
    "certify",
    "from_sklearn",
    "from_torch",
    "load_dataset",
    "objective",
    "refine",
    "to_sklearn",
    "to_torch",
]

logging.getLogger("certnet").addHandler(logging.NullHandler())
