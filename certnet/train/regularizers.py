r"""What training adds to the loss, or imposes after each step: the four choices of C, section 3, and his constraint.

With σ_k = ‖W_k‖₂ for all layers, the output layer included, so that ``Π_k σ_k`` bounds the Lipschitz constant of a
network whose activations have slopes in [−1, 1]:

    none                                                        Unregularized
    λ Σ_k σ_k              layers penalised one by one          PerLayerSpectral
    λ Π_k σ_k              layers coupled                       Coupled
    ‖row of W_k‖₂ ≤ limit  incoming weights of each unit        MaxNorm
    Π_k σ_k ≤ L_max        layers coupled                       CoupledBound

Source: Couellan, *The coupling effect of Lipschitz regularization in (deep) neural networks* (2021), "C" below.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, positive_number

__all__ = [
    "Constraint",
    "Coupled",
    "CoupledBound",
    "MaxNorm",
    "Penalty",
    "PerLayerSpectral",
    "Regularizer",
    "Unregularized",
    "require_regularizer",
    "spectral_norms",
]

_INSIDE = 1.0 - 1e-12  # aimed a little below the bound, so that rounding does not leave it


class Regularizer(ABC):
    """A choice of regularisation; :class:`Penalty` and :class:`Constraint` are its two kinds."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in results."""


class Penalty(Regularizer):
    """A function of the layers' spectral norms that is added to the mean squared error."""

    @abstractmethod
    def penalty(self, norms: Sequence[Any]) -> Any:
        """Its value at σ_0 … σ_ℓ, which are floats or scalars that record their gradients."""


class Constraint(Regularizer):
    """A set that the weights are brought back to after each step."""

    @abstractmethod
    def factors(self, weights: Sequence[Float]) -> tuple[Float, ...]:
        """Factors in (0, 1], broadcastable to the weights (n_{k+1}, n_k), whose products with them are in the set."""


@final
@dataclass(frozen=True)
class Unregularized(Regularizer):
    """Nothing is added ("No reg" of C)."""

    @property
    def name(self) -> str:
        return "none"


@final
@dataclass(frozen=True)
class PerLayerSpectral(Penalty):
    """``weight · Σ_k ‖W_k‖₂``: every layer is held down by itself ("Layer reg" of C).

    Parameters
    ----------
    weight : float
        λ ≥ 0.
    """

    weight: float

    def __post_init__(self) -> None:
        positive_number(self.weight, "weight", zero=True)

    @property
    def name(self) -> str:
        return "per-layer"

    def penalty(self, norms: Sequence[Any]) -> Any:
        return self.weight * sum(norms)


@final
@dataclass(frozen=True)
class Coupled(Penalty):
    """``weight · Π_k ‖W_k‖₂``: one layer may grow where another shrinks ("Lipschitz reg" of C, section 2.2).

    C divides the loss by λ instead; his λ is this weight.

    Parameters
    ----------
    weight : float
        λ ≥ 0.
    """

    weight: float

    def __post_init__(self) -> None:
        positive_number(self.weight, "weight", zero=True)

    @property
    def name(self) -> str:
        return "coupled"

    def penalty(self, norms: Sequence[Any]) -> Any:
        return self.weight * math.prod(norms)


@final
@dataclass(frozen=True)
class MaxNorm(Constraint):
    """``‖row of W_k‖₂ ≤ limit`` for the incoming weights of every unit ("MaxNorm" of C, whose limit is 10).

    Rows that are too long are shortened, which is the nearest point of the set (Srivastava et al. 2014, section 5.1).

    Parameters
    ----------
    limit : float
    """

    limit: float = 10.0

    def __post_init__(self) -> None:
        positive_number(self.limit, "limit")

    @property
    def name(self) -> str:
        return "max-norm"

    def factors(self, weights: Sequence[Float]) -> tuple[Float, ...]:
        with np.errstate(over="ignore"):
            lengths = [np.linalg.norm(W, axis=1, keepdims=True) for W in weights]
        return tuple(np.where(r > self.limit, _INSIDE * self.limit / np.maximum(r, self.limit), 1.0) for r in lengths)


@final
@dataclass(frozen=True)
class CoupledBound(Constraint):
    """``Π_k ‖W_k‖₂ ≤ bound``: the constrained form of C, section 2.2, which he leaves open as hard to project on.

    Where the product P is above the bound, all of the ℓ + 1 weight matrices are multiplied by
    ``(bound / P)^(1/(ℓ+1))``. This keeps the ratios between the layers, hence the coupling, and needs no search; it is
    a point of the set's boundary, not the nearest one.

    Parameters
    ----------
    bound : float
        L_max > 0.
    """

    bound: float

    def __post_init__(self) -> None:
        positive_number(self.bound, "bound")

    @property
    def name(self) -> str:
        return "coupled-bound"

    def factors(self, weights: Sequence[Float]) -> tuple[Float, ...]:
        with np.errstate(divide="ignore"):
            size = float(np.sum(np.log(spectral_norms(weights))))  # a sum of logarithms does not overflow
        excess = (size - math.log(self.bound)) / len(weights)
        return (np.array(_INSIDE * math.exp(-excess) if excess > 0.0 else 1.0),) * len(weights)


def spectral_norms(weights: Sequence[Float]) -> tuple[float, ...]:
    """``‖W_k‖₂`` of each weight matrix, by singular values."""
    return tuple(float(np.linalg.svd(W, compute_uv=False)[0]) for W in weights)


def require_regularizer(value: object) -> Regularizer:
    """``value`` if it is a regulariser; None stands for :class:`Unregularized`.

    Raises
    ------
    InvalidInputError
        It is something else.
    """
    if value is None:
        return Unregularized()
    if isinstance(value, Regularizer):
        return value
    raise InvalidInputError(
        f"regularizer must be Unregularized(), PerLayerSpectral(weight), Coupled(weight), MaxNorm(limit) or "
        f"CoupledBound(bound), got {value!r}"
    )
