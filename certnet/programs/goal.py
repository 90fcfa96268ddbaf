"""What a refinement is asked for: a weighted sum, or one of the two quantities at a limit on the other."""

from __future__ import annotations

from dataclasses import dataclass

from certnet.certification import Certificate
from certnet.core.errors import InvalidInputError
from certnet.core.validation import positive_number
from certnet.networks.shallow import ShallowNetwork
from certnet.programs.objectives import PENALTIES, l2_penalty

__all__ = ["Goal"]


@dataclass(frozen=True)
class Goal:
    """The value that a refinement decreases.

    ``mse + weight · ρ`` (or the ℓ2 penalty in the place of ρ), ``mse`` among networks with a certified
    ``L ≤ target_lipschitz``, or ``ρ`` among networks with ``mse ≤ max_mse``; infinite for the others.
    """

    weight: float = 0.01
    penalty: str = "lipschitz"
    target_lipschitz: float | None = None
    max_mse: float | None = None

    @classmethod
    def of(cls, weight: float, penalty: str, target_lipschitz: float | None, max_mse: float | None) -> Goal:
        """Raises InvalidInputError for numbers out of range, an unknown penalty, or two goals at once."""
        weight = positive_number(weight, "weight", zero=True)
        if penalty not in PENALTIES:
            raise InvalidInputError(f"penalty must be one of {', '.join(map(repr, PENALTIES))}, got {penalty!r}")
        if target_lipschitz is not None:
            target_lipschitz = positive_number(target_lipschitz, "target_lipschitz", zero=True)
        if max_mse is not None:
            max_mse = positive_number(max_mse, "max_mse", zero=True)
        if target_lipschitz is not None and max_mse is not None:
            raise InvalidInputError("target_lipschitz and max_mse are two goals: give one of them")
        goal = cls(weight, penalty, target_lipschitz, max_mse)
        if goal.constrained and penalty != "lipschitz":
            raise InvalidInputError('target_lipschitz and max_mse need penalty="lipschitz"')
        return goal

    @property
    def constrained(self) -> bool:
        return self.target_lipschitz is not None or self.max_mse is not None

    def value(self, network: ShallowNetwork, mse: float, certificate: Certificate) -> float:
        """The value of a network with its recomputed error and certified bound."""
        if self.target_lipschitz is not None:
            return mse if certificate.upper <= self.target_lipschitz else float("inf")
        if self.max_mse is not None:
            return certificate.rho if mse <= self.max_mse else float("inf")
        penalty = l2_penalty(network) if self.penalty == "l2" else certificate.rho
        return mse + self.weight * penalty
