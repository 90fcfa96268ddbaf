"""Activation functions with the interval that their slopes lie in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float
from certnet.networks.activation_families import FAMILIES, Family

__all__ = ["ACTIVATIONS", "Activation", "activation"]


@dataclass(frozen=True)
class Activation:
    """φ with ``low ≤ (φ(s) − φ(t)) / (s − t) ≤ high`` for all s ≠ t.

    Attributes
    ----------
    name : str
        One of :data:`ACTIVATIONS`, or "user" for slopes without a function.
    parameters : tuple of float
        Of the family: negative slope (leaky_relu), alpha (elu, celu), alpha and beta (hard_sigmoid: clip(alpha x +
        beta)), low and high (hardtanh: clip(x, low, high)), scale and alpha (selu), beta (softplus_beta: log(1 +
        exp(beta x)) / beta), the two slopes (user). Left out, they are the usual ones.
    """

    name: str
    parameters: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in (*FAMILIES, "user"):
            raise UnsupportedModelError(
                f"the activation {self.name!r} is not known: use one of {', '.join(FAMILIES)}, or give its slopes"
            )
        defaults = (0.0, 1.0) if self.name == "user" else FAMILIES[self.name].defaults
        values = tuple(float(p) for p in self.parameters) or defaults
        if len(values) != len(defaults) or not all(map(math.isfinite, values)):
            raise InvalidInputError(f"{self.name} takes {len(defaults)} finite parameter(s), got {self.parameters!r}")
        if self.name == "user" and values[0] > values[1]:
            raise InvalidInputError(f"slopes must be given as (low, high), got {values!r}")
        wrong = "" if self.name == "user" else FAMILIES[self.name].admits(*values)
        if wrong:
            raise InvalidInputError(f"{self.name}: {wrong}")
        object.__setattr__(self, "parameters", values)

    @property
    def slopes(self) -> tuple[float, float]:
        """(low, high), tight: exact for the stored parameters, or rounded outward in the last digits."""
        if self.name == "user":
            return self.parameters[0], self.parameters[1]
        return FAMILIES[self.name].slopes(*self.parameters)

    @property
    def has_values(self) -> bool:
        return self.name != "user"

    @property
    def smooth(self) -> bool:
        """Whether slopes vary between kinks, so that values and slopes are computed with rounding errors."""
        return self.has_values and FAMILIES[self.name].smooth

    @property
    def blur(self) -> float:
        """The computed φ'(z) is right to ``ε (|φ'(z)| + blur)`` where exp and the like are right to ε = 2⁻⁴⁶."""
        return self._family().blur

    @property
    def kink_doubt(self) -> float:
        """The computed pieces end within ε of this of the true kinks; 0 where kinks are compared with exactly."""
        return max(map(abs, self.kinks()), default=0.0) if self._family().rounded_kinks else 0.0

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
        """(low, high), arrays: difference quotients of φ on the intervals [left, right], rounded outward.

        Ends may be infinite. Why the extremes of φ' are where they are looked for says the top of
        :mod:`certnet.networks.activation_families`.
        """
        low, high = (np.full(left.shape, slope) for slope in self.slopes)
        if not self.has_values:
            return low, high
        left, right = (np.clip(end, -_FARTHEST, _FARTHEST) for end in (left, right))
        narrow = self._between_turns(left, right) if self.smooth else self._on_one_piece(left, right, low, high)
        known = ~(np.isnan(left) | np.isnan(right))
        return np.where(known, np.maximum(low, narrow[0]), low), np.where(known, np.minimum(high, narrow[1]), high)

    def _between_turns(self, left: Float, right: Float) -> tuple[Float, Float]:
        """The extremes of φ' at both ends and where it turns or jumps in between, with errors of 1e-12 charged."""
        ends = np.stack([self.derivative(left), self.derivative(right)])
        least, most = ends.min(axis=0), ends.max(axis=0)
        for begin, end, low, high in self._family().turns(*self.parameters):
            inside = (left < end) & (right >= begin)  # φ'(right) on a kink is not that of the piece to the left
            least = np.where(inside, np.minimum(least, low), least)
            most = np.where(inside, np.maximum(most, high), most)
        lost = 1e-12 * self.blur + 1e-300 * max(1.0, *map(abs, self.slopes))
        least = least * np.where(least >= 0.0, 1.0 - 1e-12, 1.0 + 1e-12) - lost
        most = most * np.where(most >= 0.0, 1.0 + 1e-12, 1.0 - 1e-12) + lost
        return least, most

    def _on_one_piece(self, left: Float, right: Float, low: Float, high: Float) -> tuple[Float, Float]:
        """The slope where no kink lies within, and (low, high) elsewhere."""
        one_piece = np.ones(left.shape, dtype=bool)
        margin = 1e-12 * self.kink_doubt
        for kink in self.kinks():
            one_piece &= (right <= kink - margin) | (left >= kink + margin)
        slope = self.derivative(0.5 * left + 0.5 * right)
        return np.where(one_piece, slope, low), np.where(one_piece, slope, high)

    def kinks(self) -> tuple[float, ...]:
        """Where φ is not differentiable."""
        return self._family().kinks(*self.parameters)

    def _family(self) -> Family:
        if self.name == "user":
            raise UnsupportedModelError(
                "an activation given by its slopes alone has no values: it can only be certified"
            )
        return FAMILIES[self.name]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{p:g}' for p in self.parameters)})" if self.parameters else self.name


_FARTHEST: Final = float(np.finfo(np.float64).max)

ACTIVATIONS: Final = tuple(FAMILIES)
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
