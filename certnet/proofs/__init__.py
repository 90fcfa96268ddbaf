"""Why it is true: the checkers of every kind of proof. NumPy and the standard library only.

Importing this package registers all kinds, so that certificates find the proof that they carry. ``python -m
certnet.proofs CERTIFICATE MODEL`` checks a file and loads nothing else of certnet than core, networks and claims.
"""

from certnet.claims.certificate import Certificate
from certnet.claims.verdict import Verdict
from certnet.proofs.chain import CompositionProof, ProductProof
from certnet.proofs.deep import DeepProof
from certnet.proofs.gradients import GradientWitness
from certnet.proofs.lifted_layers import LayerwiseProof, TheoremProof
from certnet.proofs.lifted_matrix import MatrixProof
from certnet.proofs.lifted_slope import SlopeWitness
from certnet.proofs.parts import PartsProof
from certnet.proofs.regional import RegionalProof
from certnet.proofs.shallow import ShallowProof
from certnet.proofs.slopes import SlopeIntervals
from certnet.proofs.sup_norm import SupProof
from certnet.proofs.tree import TreeProof

__all__ = [
    "Certificate",
    "CompositionProof",
    "DeepProof",
    "GradientWitness",
    "LayerwiseProof",
    "MatrixProof",
    "PartsProof",
    "ProductProof",
    "RegionalProof",
    "ShallowProof",
    "SlopeIntervals",
    "SlopeWitness",
    "SupProof",
    "TheoremProof",
    "TreeProof",
    "Verdict",
]
