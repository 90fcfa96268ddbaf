r"""What a program charges beside the error: the certified slope, or the size of the weights.

    Lipschitz   ρ(W, η) = λ_max( ½ Wᵀ diag(1/η) W + ¼ Wᵀ Vᵀ K⁻¹ V W ),   K = I − ½ V diag(η) Vᵀ ≻ 0
    ℓ2          2 Σ_j ‖u_j‖₂, which is ‖W‖_F² + ‖b‖² + ‖V‖_F² of the network with balanced units              (Y (6))

ρ at the best η is the square of the best LipSDP bound of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final

import numpy as np

from certnet.core.validation import Float, one_of
from certnet.networks.network import Network
from certnet.networks.shallow import ShallowNetwork, require_shallow

__all__ = ["PENALTIES", "LipschitzPenalty", "NormPenalty", "Penalty", "certified_rho", "l2_penalty", "penalty_named"]


@dataclass(frozen=True, eq=False)
class LipschitzPenalty:
    """ρ, with η a variable, or fixed as in the alternating method.

    Attributes
    ----------
    eta : ndarray, shape (k,), or None
        η of the patterns where it is fixed.
    """

    name: ClassVar[str] = "lipschitz"
    free_biases: ClassVar[bool] = True
    """Whether biases cost nothing by themselves."""
    certified: ClassVar[bool] = True
    """Whether it takes a certificate to tell a network's."""

    eta: Float | None = None

    @property
    def uses_idle_units(self) -> bool:
        """Whether a unit that is active at no sample can still lower the penalty."""
        return self.eta is not None

    def at_rest(self, k: int) -> tuple[Float, float]:
        """η (k,) and ρ of weights zero."""
        return np.full(k, 1.0 / max(1, k)) if self.eta is None else self.eta, 0.0

    def at(self, directions: Float, U: Float, eta: Float | None) -> float:
        """ρ at weights U (k, d + 1) and η (k,)."""
        return certified_rho(directions, U, eta)

    def of(self, network: Network, rho: float) -> float:
        """That of a network whose certificate says ``L² ≤ rho``."""
        return rho


@dataclass(frozen=True)
class NormPenalty:
    """``2 Σ_j ‖u_j‖``."""

    name: ClassVar[str] = "l2"
    free_biases: ClassVar[bool] = False
    certified: ClassVar[bool] = False
    uses_idle_units: ClassVar[bool] = False
    eta: ClassVar[None] = None

    def at_rest(self, k: int) -> tuple[None, None]:
        """There is neither η nor ρ."""
        return None, None

    def at(self, directions: Float, U: Float, eta: Float | None) -> float:
        """That of weights U (k, d + 1)."""
        return 2.0 * float(np.linalg.norm(U, axis=1).sum())

    def of(self, network: Network, rho: float) -> float:
        """``‖W‖_F² + ‖b‖² + ‖V‖_F²`` of a network."""
        return l2_penalty(require_shallow(network))


Penalty = LipschitzPenalty | NormPenalty

_KINDS: Final[Mapping[str, type[Penalty]]] = MappingProxyType(
    {kind.name: kind for kind in (LipschitzPenalty, NormPenalty)}
)

PENALTIES: Final = tuple(_KINDS)
"""Public names of the penalties."""


def penalty_named(name: str) -> Penalty:
    """The penalty of that name.

    Raises
    ------
    InvalidInputError
        There is none.
    """
    return _KINDS[one_of(name, "penalty", PENALTIES)]()


def l2_penalty(network: ShallowNetwork) -> float:
    """``‖W‖_F² + ‖b‖² + ‖V‖_F²``."""
    return float(np.sum(network.W**2) + np.sum(network.b**2) + np.sum(network.V**2))


def certified_rho(directions: Float, U: Float, eta: Float | None) -> float:
    """The least ρ that the matrix inequality allows at weights U (k, d + 1) and η (k,); infinite where there is none.

    ``directions`` are V (m, k).
    """
    if eta is None:
        return float("inf")
    V, W = directions, U[:, :-1]
    # K = I − ½ V diag(η) Vᵀ has to be positive definite, and η positive where a unit has weights
    K = np.eye(len(V)) - 0.5 * (V * eta) @ V.T
    used = np.any(W != 0.0, axis=1)
    if np.linalg.eigvalsh(K)[0] <= 0.0 or (eta[used] <= 0.0).any():
        return float("inf")
    # ½ Wᵀ diag(1/η) W + ¼ (V W)ᵀ K⁻¹ (V W)
    N = 0.5 * (W[used].T / eta[used]) @ W[used] + 0.25 * (V @ W).T @ np.linalg.solve(K, V @ W)
    return max(0.0, float(np.linalg.eigvalsh(0.5 * (N + N.T))[-1]))
