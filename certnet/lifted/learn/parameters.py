"""Weights and biases of a network as one vector, with a view for each: what a step of an optimiser moves."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np

from certnet.core.validation import Float
from certnet.networks.energy import LiftedEnergy

__all__ = ["Parameters"]

Network = TypeVar("Network", bound=LiftedEnergy)


@dataclass(frozen=True, eq=False)
class Parameters:
    """Views of ``flat``, in the order W_0 … W_{L−1}, b_0 … b_{L−1}, c_0 … c_{L−1}; writing to one writes to the other.

    Attributes
    ----------
    flat : ndarray, shape (p,)
    weights, biases, reconstruction_biases : tuple of L ndarrays
        Shapes as in :class:`~certnet.networks.energy.LiftedEnergy`.
    """

    flat: Float
    weights: tuple[Float, ...]
    biases: tuple[Float, ...]
    reconstruction_biases: tuple[Float, ...]

    @classmethod
    def over(cls, flat: Float, widths: tuple[int, ...]) -> Self:
        """The views of a vector for layers of these widths."""
        pairs = list(itertools.pairwise(widths))
        shapes = [(m, n) for n, m in pairs] + [(m,) for _, m in pairs] + [(n,) for n, _ in pairs]
        ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)]).tolist()
        views = [flat[a:b].reshape(shape) for (a, b), shape in zip(itertools.pairwise(ends), shapes)]
        L = len(pairs)
        return cls(flat, tuple(views[:L]), tuple(views[L : 2 * L]), tuple(views[2 * L :]))

    @classmethod
    def of(cls, net: LiftedEnergy) -> Self:
        """A copy of a network's parameters."""
        groups = (net.weights, net.biases, net.reconstruction_biases)
        return cls.over(np.concatenate([array.ravel() for group in groups for array in group]), net.widths)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles keep the views views of their ``flat``."""
        widths = (self.weights[0].shape[1], *(len(W) for W in self.weights))
        return Parameters.over, (self.flat, widths)

    @property
    def all_biases(self) -> Float:
        """The part of ``flat`` that holds b and c."""
        return self.flat[sum(W.size for W in self.weights) :]

    def network(self, like: Network, flat: Float | None = None) -> Network:
        """A network with these parameters (or with those in ``flat``), and all else of ``like``."""
        mine = self if flat is None else Parameters.over(flat, like.widths)
        return like.with_parameters(mine.weights, mine.biases, mine.reconstruction_biases)
