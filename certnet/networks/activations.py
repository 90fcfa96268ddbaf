"""Activation functions with the interval that their slopes lie in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float

__all__ = ["ACTIVATIONS", "Activation", "activation"]


@dataclass(frozen=True)
class Activation:
    """φ with ``low ≤ (φ(s) − φ(t)) / (s − t) ≤ high`` for all s ≠ t.

    Attributes
    ----------
    name : str
        One of :data:`ACTIVATIONS`, or "user" for slopes without a function.
    parameters : tuple of float
        Of the family: negative slope (leaky_relu), alpha (elu), alpha and beta (hard_sigmoid: clip(alpha x + beta)),
        the two slopes (user).
    """

    name: str
    parameters: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in (*_FAMILIES, "user"):
            raise UnsupportedModelError(
                f"the activation {self.name!r} is not known: use one of {', '.join(_FAMILIES)}, or give its slopes"
            )
        defaults = (0.0, 1.0) if self.name == "user" else _FAMILIES[self.name].defaults
        values = tuple(float(p) for p in self.parameters) or defaults
        if len(values) != len(defaults) or not all(map(math.isfinite, values)):
            raise InvalidInputError(f"{self.name} takes {len(defaults)} finite parameter(s), got {self.parameters!r}")
        if self.name == "user" and values[0] > values[1]:
            raise InvalidInputError(f"slopes must be given as (low, high), got {values!r}")
        if self.name in ("elu", "hard_sigmoid") and values[0] < 0.0:
            raise InvalidInputError(f"alpha of {self.name} must not be negative, got {values[0]!r}")
        object.__setattr__(self, "parameters", values)

    @property
    def slopes(self) -> tuple[float, float]:
        """(low, high), tight; exact for the stored parameters."""
        if self.name == "user":
            return self.parameters[0], self.parameters[1]
        return _FAMILIES[self.name].slopes(*self.parameters)

    @property
    def has_values(self) -> bool:
        return self.name != "user"

    @property
    def smooth(self) -> bool:
        """Whether values come from exp, tanh or log1p rather than from comparisons and products."""
        return self.has_values and _FAMILIES[self.name].smooth

    def __call__(self, z: Float) -> Float:
        """φ(z), elementwise."""
        return self._family().value(z, *self.parameters)

    def derivative(self, z: Float) -> Float:
        """φ'(z), elementwise; on a kink that of the piece to the right."""
        return self._family().derivative(z, *self.parameters)

    @property
    def curvature(self) -> float:
        """A bound on ``|φ''|`` away from kinks."""
        return self._family().curvature(*self.parameters)

    def slopes_between(self, left: Float, right: Float) -> tuple[Float, Float]:
        """(low, high), arrays: difference quotients of φ on the intervals [left, right], rounded outward."""
        low, high = (np.full(left.shape, slope) for slope in self.slopes)
        if not self.has_values:
            return low, high
        edges = [kink + side * (1e-12 * abs(kink)) for kink in self.kinks() for side in (-1.0, 1.0)]
        one_piece = np.ones(left.shape, dtype=bool)
        for below, above in zip(edges[::2], edges[1::2]):
            one_piece &= (right <= below) | (left >= above)
        if self.smooth:
            # φ' is monotone on either side of zero, where tanh and sigmoid are steepest
            ends = np.stack([self.derivative(left), self.derivative(right)])
            across = (left < 0.0) & (right > 0.0)
            peak = np.where(across, self.derivative(np.zeros_like(left)), 0.0)
            narrow_low = ends.min(axis=0) * (1.0 - 1e-12) - 1e-300
            narrow_high = np.maximum(ends.max(axis=0), peak) * (1.0 + 1e-12) + 1e-300
        else:
            narrow_low = narrow_high = self.derivative(0.5 * left + 0.5 * right)
        low = np.where(one_piece, np.maximum(low, narrow_low), low)
        high = np.where(one_piece, np.minimum(high, narrow_high), high)
        return low, high

    def kinks(self) -> tuple[float, ...]:
        """Where φ is not differentiable."""
        return self._family().kinks(*self.parameters)

    def _family(self) -> _Family:
        if self.name == "user":
            raise UnsupportedModelError(
                "an activation given by its slopes alone has no values: it can only be certified"
            )
        return _FAMILIES[self.name]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{p:g}' for p in self.parameters)})" if self.parameters else self.name


@dataclass(frozen=True)
class _Family:
    value: Callable[..., Float]
    derivative: Callable[..., Float]
    slopes: Callable[..., tuple[float, float]]
    curvature: Callable[..., float] = lambda *_: 0.0
    kinks: Callable[..., tuple[float, ...]] = lambda *_: ()
    defaults: tuple[float, ...] = ()
    smooth: bool = False


def _sigmoid(z: Float) -> Float:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0.0, 1.0, e) / (1.0 + e)


def _hard_kinks(alpha: float, beta: float) -> tuple[float, ...]:
    return () if alpha == 0.0 else (-beta / alpha, (1.0 - beta) / alpha)


_FAMILIES: Final[dict[str, _Family]] = {
    "relu": _Family(
        value=lambda z: np.maximum(z, 0.0),
        derivative=lambda z: (z >= 0.0).astype(np.float64),
        slopes=lambda: (0.0, 1.0),
        kinks=lambda: (0.0,),
    ),
    "leaky_relu": _Family(
        value=lambda z, a: np.where(z >= 0.0, z, a * z),
        derivative=lambda z, a: np.where(z >= 0.0, 1.0, a),
        slopes=lambda a: (min(a, 1.0), max(a, 1.0)),
        kinks=lambda a: (0.0,),
        defaults=(0.01,),
    ),
    "identity": _Family(value=lambda z: z, derivative=lambda z: np.ones_like(z), slopes=lambda: (1.0, 1.0)),
    "tanh": _Family(
        value=np.tanh,
        derivative=lambda z: 1.0 / np.cosh(np.clip(z, -350.0, 350.0)) ** 2,
        slopes=lambda: (0.0, 1.0),
        curvature=lambda: 0.77,  # 4 / (3 √3)
        smooth=True,
    ),
    "sigmoid": _Family(
        value=_sigmoid,
        derivative=lambda z: _sigmoid(z) * _sigmoid(-z),
        slopes=lambda: (0.0, 0.25),
        curvature=lambda: 0.1,  # 1 / (6 √3)
        smooth=True,
    ),
    "softplus": _Family(
        value=lambda z: np.logaddexp(z, 0.0),
        derivative=_sigmoid,
        slopes=lambda: (0.0, 1.0),
        curvature=lambda: 0.25,
        smooth=True,
    ),
    "elu": _Family(
        value=lambda z, a: np.where(z >= 0.0, z, a * np.expm1(np.minimum(z, 0.0))),
        derivative=lambda z, a: np.where(z >= 0.0, 1.0, a * np.exp(np.minimum(z, 0.0))),
        slopes=lambda a: (0.0, max(a, 1.0)),
        curvature=lambda a: a,
        kinks=lambda a: () if a == 1.0 else (0.0,),
        defaults=(1.0,),
        smooth=True,
    ),
    "hard_sigmoid": _Family(
        value=lambda z, a, b: np.clip(a * z + b, 0.0, 1.0),
        derivative=lambda z, a, b: np.where((a * z + b >= 0.0) & (a * z + b < 1.0), a, 0.0),
        slopes=lambda a, b: (0.0, a),
        kinks=_hard_kinks,
        defaults=(0.2, 0.5),
    ),
}

ACTIVATIONS: Final = tuple(_FAMILIES)
"""Names of the activation functions that are known, with their slopes."""


def activation(spec: str | Activation | tuple[float, float]) -> Activation:
    """An :class:`Activation` from its name, from itself, or from a pair of slopes (low, high).

    Raises
    ------
    UnsupportedModelError
        Unknown name; the message lists the known ones.
    InvalidInputError
        Slopes that are not two finite numbers in order.
    """
    if isinstance(spec, Activation):
        return spec
    if isinstance(spec, str):
        return Activation(spec)
    try:
        low, high = (float(s) for s in spec)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"an activation is a name or a pair of slopes (low, high), got {spec!r}") from error
    return Activation("user", (low, high))
