"""What options can be, for those that take one of a few words: the shell shows them, completes them, refuses others.

They are written out here, since ``--help`` must not load the modules that know them; a test compares the two.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

__all__ = [
    "BoxSolver",
    "CertifyMethod",
    "DecimalPoint",
    "Each",
    "Effort",
    "Form",
    "KeptPart",
    "LiftedMethod",
    "Loss",
    "Norm",
    "Objective",
    "Optimizer",
    "PartOf",
    "Penalty",
    "RefineMethod",
    "Schedule",
    "SolverName",
    "Units",
    "WorkersOf",
]

Norm = Literal["l2", "linf"]
CertifyMethod = Literal["auto", "shallow", "neuron", "layer", "composition", "product", "intervals", "multipliers"]
SolverName = Literal["auto", "CERTNET", "CLARABEL", "SCS", "MOSEK"]
Form = Literal["arrow", "dense"]
Each = Literal["outputs", "differences"]
Units = Literal["model", "standardised", "table"]
RefineMethod = Literal["joint", "alternating"]
Effort = Literal["quick", "default", "thorough"]
Penalty = Literal["lipschitz", "l2"]
Loss = Literal["squared", "huber"]
DecimalPoint = Literal[".", ","]
PartOf = Literal["train", "test"]
LiftedMethod = Literal["sdp", "layerwise", "theorem"]
BoxSolver = Literal["coordinate_descent", "reference", "admm", "osqp", "daqp", "proxqp", "clarabel"]
Objective = Literal["contrastive", "lifted", "unsupervised"]
Optimizer = Literal["sgd", "adam"]
Schedule = Literal["constant", "linear", "cosine"]
WorkersOf = Literal["loky", "dask"]


class KeptPart(StrEnum):
    """Of ``--keep``, which may be repeated: typer takes no list of literals."""

    BIASES = "biases"
    FIRST_LAYER = "first-layer"
