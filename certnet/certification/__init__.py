"""Lipschitz bounds of networks of layers as proofs: from a claim to its certificate."""

from certnet.certification.bracket import certify, certify_outputs
from certnet.certification.features import certify_features
from certnet.certification.methods import METHODS
from certnet.claims.cards import meaning
from certnet.claims.certificate import Certificate
from certnet.claims.verdict import Verdict
from certnet.proofs.shallow import verify_bound
from certnet.searches.closed_form import cheap_upper_bounds

__all__ = [
    "METHODS",
    "Certificate",
    "Verdict",
    "certify",
    "certify_features",
    "certify_outputs",
    "cheap_upper_bounds",
    "meaning",
    "verify_bound",
]
