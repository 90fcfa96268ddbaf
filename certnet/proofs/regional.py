r"""Proofs for any depth in a region: LipSDP with the slopes that units have there. NumPy only.

A region is convex, so that a bound of the slopes that occur in it bounds L: the segment between two of its points lies
inside. A unit whose pre-activation stays on one piece of its activation has a known slope, or none at all. The proof
says the slopes that it goes by, of every unit; the checker computes the limits of pre-activations anew
(:mod:`certnet.proofs.relaxation`), and refuses slopes that do not hold all that occur. With them the multipliers of the
units that still bend are checked layer by layer (:mod:`certnet.proofs.storage`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import numpy as np

from certnet.claims.kinds import register
from certnet.core.validation import Float
from certnet.proofs.proof import Checker, LayeredProof
from certnet.proofs.regions import UnitSlopes
from certnet.proofs.storage import StorageChecker
from certnet.proofs.subject import Subject

__all__ = ["RegionalProof", "RegionalSupProof", "regional_proof"]

_PARTS: Final = 3  # of every hidden layer: multipliers of what bends, lowest and highest slopes of all


@register("feed-forward", "regional")
class RegionalProof(LayeredProof):
    """T_k, low_k and high_k of every hidden layer: multipliers (n,) of the units that bend, slopes (n_k,) of all."""

    KIND: ClassVar[str] = "regional"
    STRUCTURED: ClassVar[bool] = True

    def checker(self, subject: Subject) -> Checker | None:
        return _checker(subject, self.multipliers, None) if subject.claim.norm == "l2" else None


@register("feed-forward", "regional", "linf")
class RegionalSupProof(LayeredProof):
    """The same in the maximum norm, with the weights μ (d,) of the inputs as the last vector."""

    KIND: ClassVar[str] = "regional"
    STRUCTURED: ClassVar[bool] = True

    def checker(self, subject: Subject) -> Checker | None:
        if subject.claim.norm != "linf" or not len(self.multipliers):
            return None
        return _checker(subject, self.multipliers[:-1], self.multipliers[-1])


def regional_proof(
    multipliers: Sequence[Float], slopes: UnitSlopes, weights: Float | None = None
) -> RegionalProof | RegionalSupProof:
    """The proof of these multipliers of bending units, of slopes, and in the maximum norm of weights of the inputs."""
    parts = [part for T, (low, high) in zip(multipliers, slopes) for part in (T, low, high)]
    return RegionalProof(tuple(parts)) if weights is None else RegionalSupProof((*parts, weights))


class _Refused(Checker):
    """Numbers from which no bound follows."""

    def __init__(self, refusal: str) -> None:
        self.refusal = refusal

    def objection(self, upper: object) -> str | None:
        return self.refusal

    def smallest(self, guess: float) -> float | None:
        return None


def _checker(subject: Subject, parts: Sequence[Any], weights: Float | None) -> Checker:
    depth = subject.network.depth
    if len(parts) != _PARTS * depth:
        return _Refused(f"there are {len(parts)} vectors of multipliers and slopes, {_PARTS * depth} are needed")
    claimed = list(zip(parts[1::_PARTS], parts[2::_PARTS]))
    for k, ((low, high), (least, most)) in enumerate(zip(claimed, subject.reached)):
        if low.shape != least.shape or high.shape != least.shape:
            return _Refused(f"layer {k} has {least.size} units, and slopes of {low.size} and {high.size}")
        held = (low <= least) & (most <= high)  # NaN holds nothing
        if not held.all():
            j = int(np.argmin(held))
            return _Refused(
                f"unit {j} of layer {k} may have slopes from {least[j]:g} to {most[j]:g} in the region: the proof goes "
                f"by {low[j]:g} to {high[j]:g}"
            )
    return StorageChecker(subject.within(claimed), parts[::_PARTS], weights)
