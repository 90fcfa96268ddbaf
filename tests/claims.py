"""Claims and proofs as tests state them: a ball by its two numbers, a proof by the name of its kind."""

from __future__ import annotations

from typing import Any

from certnet.claims.claim import Claim
from certnet.claims.kinds import frozen, proof_of
from certnet.claims.region import region_of
from certnet.claims.verdict import Verdict
from certnet.networks.network import Network
from certnet.proofs.subject import Subject


def claimed(network: Network, norm: Any = "l2", output: Any = None, around: Any = None, radius: Any = None) -> Claim:
    return Claim(network, region_of(around, radius), norm, output)


def holds(claim: Claim, kind: Any, multipliers: Any, upper: Any) -> Verdict:
    """Do multipliers of a kind prove the bound?"""
    return proof_of("feed-forward", kind, claim.norm, frozen(multipliers)).check(claim, upper)


def slopes(claim: Claim) -> Any:
    """Slopes (low, high) of the units of one hidden layer in the claim's region."""
    subject = Subject.of(claim)
    assert isinstance(subject, Subject), subject
    return subject.slopes
