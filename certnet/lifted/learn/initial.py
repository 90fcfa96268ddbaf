"""Networks to start learning from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, whole_number
from certnet.lifted.network import LiftedNetwork
from certnet.networks.energy import Unit

__all__ = ["initial_network"]


def initial_network(
    widths: Sequence[int],
    *,
    beta: float | Sequence[float] = 1.0,
    gamma: float = 1.0,
    units: Unit | Sequence[Unit] = "relu",
    orthogonal: bool = False,
    random_state: int | np.random.Generator | None = None,
) -> LiftedNetwork:
    r"""Weights from N(0, s_k / n_k), biases zero.

    ``s_k = 1`` where ``β_k > 0`` or the units have no lower limit: the singular values of W_k are then about one, where
    the layer passes most (Høier and Zach 2020, section 3.1). ``s_k = 2`` for one-sided units without reconstruction
    (He et al. 2015). The papers draw from a normal distribution and do not state its variance.

    Parameters
    ----------
    widths : sequence of int
        n_0 (inputs), n_1 … n_L (outputs).
    beta, gamma, units
        Of :class:`~certnet.networks.energy.LiftedEnergy`.
    orthogonal : bool
        All singular values of a W_k equal to ``√s_k``: with β_k = 1 these layers pass most of what they receive,
        and deep networks need it.
    random_state : int, Generator or None

    Raises
    ------
    InvalidInputError
        Fewer than two widths, one below 1, or what :class:`~certnet.networks.energy.LiftedEnergy` refuses.
    """
    if len(widths) < 2:
        raise InvalidInputError(f"widths is {tuple(widths)}: the inputs and at least one layer are needed")
    sizes = [whole_number(n, f"widths[{k}]", least=1) for k, n in enumerate(widths)]
    rng = np.random.default_rng(random_state)
    pairs = list(itertools.pairwise(sizes))
    shape = LiftedNetwork([np.zeros((m, n)) for n, m in pairs], beta=beta, gamma=gamma, units=units)
    weights = []
    for (n, m), b, low in zip(pairs, shape.beta, shape.lower):
        spread = 2.0 if b == 0.0 and np.isfinite(low).any() else 1.0
        drawn = rng.standard_normal((m, n))
        weights.append(np.sqrt(spread) * _rotation(drawn) if orthogonal else np.sqrt(spread / n) * drawn)
    return shape.with_parameters(weights, shape.biases, shape.reconstruction_biases)


def _rotation(drawn: Float) -> Float:
    """The matrix with orthonormal rows, or columns, that is nearest to the one that was drawn."""
    left, _, right = np.linalg.svd(drawn, full_matrices=False)
    return np.asarray(left @ right)
