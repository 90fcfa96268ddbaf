"""How differences travel through a network: linear maps, and units whose slope lies in an interval.

For two inputs let p_k and z_k be the differences of pre-activations and of activations of layer k. Biases do not enter:

    p_k = B_k z_{k−1},    |z_kj − c_kj p_kj| ≤ w_kj |p_kj|,    c = ½ (low + high),  w = ½ (high − low),  z_0 the input's

and V z_K is the difference of the outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from certnet.core.validation import Float
from certnet.networks.network import Network

__all__ = ["Increments", "increments_of"]


@dataclass(frozen=True, eq=False)
class Increments:
    """Maps B_1 … B_K (n_k, n_{k−1}) and V (m, n_K), and the slopes' centres and half-widths, K vectors (n_k,) each."""

    maps: tuple[Float, ...]
    output: Float
    centre: tuple[Float, ...]
    width: tuple[Float, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """n_0, …, n_K."""
        return (self.maps[0].shape[1], *(len(B) for B in self.maps))


def increments_of(network: Network) -> Increments:
    """Of a network of layers whose units share the slopes of their layer."""
    low, high = zip(*network.slopes)
    centre = tuple(np.full(n, 0.5 * (a + b)) for n, a, b in zip(network.widths[1:-1], low, high))
    width = tuple(np.full(n, 0.5 * (b - a)) for n, a, b in zip(network.widths[1:-1], low, high))
    return Increments(network.weights[:-1], network.weights[-1], centre, width)
