"""certnet: refine pretrained networks of any depth, certify their Lipschitz constants, and lifted networks."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from certnet._version import __version__

if TYPE_CHECKING:
    from certnet.certification import certify, certify_features, certify_outputs
    from certnet.claims.region import Ball, Box
    from certnet.core.errors import CertnetError
    from certnet.data import load_dataset
    from certnet.estimators import CertifiedRegressor, CertifiedRegressorCV
    from certnet.io import from_sklearn, from_torch, load_onnx, save_onnx, to_sklearn, to_torch
    from certnet.networks.feedforward import FeedForward
    from certnet.networks.pruning import pruned
    from certnet.networks.shallow import ShallowNetwork
    from certnet.programs.floor import objective_floor
    from certnet.programs.objectives import objective
    from certnet.proofs import Certificate
    from certnet.proofs.slopes import SlopeIntervals
    from certnet.refinement import RefineResult, refine, refine_path
    from certnet.robust import PGDAttack, adversarial_mse, certified_mse, certified_radius, prediction_intervals
    from certnet.rows import rows_of

__all__ = [
    "Ball",
    "Box",
    "Certificate",
    "CertifiedRegressor",
    "CertifiedRegressorCV",
    "CertnetError",
    "FeedForward",
    "PGDAttack",
    "RefineResult",
    "ShallowNetwork",
    "SlopeIntervals",
    "__version__",
    "adversarial_mse",
    "certified_mse",
    "certified_radius",
    "certify",
    "certify_features",
    "certify_outputs",
    "from_sklearn",
    "from_torch",
    "load_dataset",
    "load_onnx",
    "objective",
    "objective_floor",
    "prediction_intervals",
    "pruned",
    "refine",
    "refine_path",
    "rows_of",
    "save_onnx",
    "to_sklearn",
    "to_torch",
]

# where the public names live; imported on first use, so that what needs one of them loads nothing else
_HOMES = {
    "Ball": "claims.region",
    "Box": "claims.region",
    "Certificate": "proofs",  # which registers the kinds of proof that a file may hold
    "CertifiedRegressor": "estimators",
    "CertifiedRegressorCV": "estimators",
    "CertnetError": "core.errors",
    "FeedForward": "networks.feedforward",
    "PGDAttack": "robust",
    "RefineResult": "refinement",
    "ShallowNetwork": "networks.shallow",
    "SlopeIntervals": "proofs.slopes",
    "adversarial_mse": "robust",
    "certified_mse": "robust",
    "certified_radius": "robust",
    "certify": "certification",
    "certify_features": "certification",
    "certify_outputs": "certification",
    "from_sklearn": "io",
    "from_torch": "io",
    "load_dataset": "data",
    "load_onnx": "io",
    "objective": "programs.objectives",
    "objective_floor": "programs.floor",
    "prediction_intervals": "robust",
    "pruned": "networks.pruning",
    "refine": "refinement",
    "refine_path": "refinement",
    "rows_of": "rows",
    "save_onnx": "io",
    "to_sklearn": "io",
    "to_torch": "io",
}
_SUBPACKAGES = (
    *("data", "demo", "errors", "estimators", "io", "lifted"),
    *("plot", "refinement", "robust", "study", "train"),
)

logging.getLogger("certnet").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
