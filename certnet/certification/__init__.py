"""Lipschitz bounds of networks of layers as proofs: from a claim to its certificate."""

from typing import TYPE_CHECKING

from certnet.core.lazily import handed_on

if TYPE_CHECKING:
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

if not TYPE_CHECKING:  # type checkers see the imports above
    __getattr__, __dir__ = handed_on(
        __name__,
        {
            "Certificate": "certnet.proofs",
            "METHODS": "certnet.certification.methods",
            "Verdict": "certnet.claims.verdict",
            "certify": "certnet.certification.bracket",
            "certify_features": "certnet.certification.features",
            "certify_outputs": "certnet.certification.bracket",
            "cheap_upper_bounds": "certnet.searches.closed_form",
            "meaning": "certnet.claims.cards",
            "verify_bound": "certnet.proofs.shallow",
        },
    )
