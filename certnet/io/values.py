"""A value of a graph."""

from __future__ import annotations

from dataclasses import dataclass, field

from certnet.core.validation import Float
from certnet.networks.activations import Activation
from certnet.networks.layers import LinearOperator

__all__ = ["Value"]


@dataclass(frozen=True, eq=False)
class Value:
    """The input, ``Σ_i A_i x_i + b``, or φ of a value; made by :class:`~certnet.io.graphs.Graph`.

    Attributes
    ----------
    number : int
        Of its graph's values, in the order in which they were made.
    size : int
    terms : tuple of pairs (x_i, A_i)
        None for the input; one with the identity for φ.
    bias : ndarray, shape (size,), or None for zeros
    phi : Activation or None
    parts : tuple of Value
        Whose entries this value is, one after another; empty for any other.
    kept : bool
        To be computed as soon as it can be, and carried from then on.
    """

    number: int
    size: int
    terms: tuple[tuple[Value, LinearOperator], ...] = field(default=(), repr=False)
    bias: Float | None = field(default=None, repr=False)
    phi: Activation | None = None
    parts: tuple[Value, ...] = field(default=(), repr=False)
    kept: bool = False

    @property
    def linear(self) -> bool:
        return self.phi is None and bool(self.terms)
