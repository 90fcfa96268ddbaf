r"""Proofs layer by layer, from the outputs back to the inputs. NumPy only.

``Q = VᵀV`` of the output layer bounds what a difference of the last hidden values becomes; pulled back through the
hidden layers by their multipliers (:mod:`certnet.proofs.forms`) it leads to Q_0 of the inputs. ``ρ I − Q_0 ⪰ 0``
proves ``L² ≤ ρ``; in the maximum norm ``ρ diag(μ) / Σ μ − Q_0 ⪰ 0`` does, for ``Σ μ_i y_i² ≤ Σ μ ‖y‖_∞²``. Where the
first layer has fewer units than inputs, ``S − X Xᵀ / ρ ⪰ 0`` is asked instead, which is the same. No matrix is larger
than a layer, the work is Σ n_k³. The multipliers are those of LipSDP (:mod:`certnet.proofs.deep`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.validation import Float
from certnet.networks.layers import Layer
from certnet.networks.network import Network
from certnet.proofs.forms import (
    FARTHEST,
    FLOOR,
    Form,
    Seen,
    before,
    before_two,
    gram,
    in_pairs,
    lost,
    sector,
)
from certnet.proofs.proof import MultiplierChecker
from certnet.proofs.rounding import U, gamma, read_numbers
from certnet.proofs.selection import live_units
from certnet.proofs.semidefinite import is_semidefinite_entrywise

__all__ = ["StorageChecker", "n_multipliers"]

_LEAST_SHARE: Final = 2.0**-64  # of the largest input weight: what any is raised by, so that none is zero
_RANGE_SLOPE: Final = 200  # sizes in 2^±200: squares of slopes do not underflow, where units would hide that again


class StorageChecker(MultiplierChecker):
    """A network of any operators and multipliers of its bending units, prepared to test many bounds.

    Parameters
    ----------
    network : Network
    multipliers : sequence of ℓ array_like
        Of every hidden layer, one positive number per unit that bends, none where its activation is linear. Those of
        units that cannot move, or move nothing, do not matter.
    weights : array_like, shape (d,), optional
        For the maximum norm: μ of the inputs, non-negative and not all zero. Only their ratios count.
    """

    def __init__(self, network: Network, multipliers: Sequence[ArrayLike], weights: ArrayLike | None = None) -> None:
        alive = live_units(network.layers)
        given = _numbers(network, multipliers, alive)
        shares = None if weights is None else _shares(weights, network.n_inputs, alive[0])
        if isinstance(given, str) or isinstance(shares, str):
            self.refusal: str | None = given if isinstance(given, str) else str(shares)
        elif all(units.any() for units in alive):  # else no input moves an output
            with np.errstate(all="ignore"):  # what overflows is refused
                found = _last(network, given, alive, shares)
            if isinstance(found, str):
                self.refusal = found
            else:
                self.proves: Callable[[float], bool] | None = found.at_most


@dataclass(frozen=True, eq=False)
class _Whole:
    """``L² ≤ ρ`` where ``ρ diag(shares) − Q_0 ⪰ 0``; shares are 1 for the Euclidean norm, else sum up to 1 at most."""

    form: Form
    shares: Float

    def at_most(self, claimed: float) -> bool:
        e, top = self.form.e, int(np.max(self.form.e))
        # in units of the steepest input: a bound of any size becomes one of order one
        e, rho = e - top, _square_below(claimed, top)
        if not 2.0**-FARTHEST < rho < 2.0**FARTHEST or np.min(e) < -FARTHEST:
            return False
        Q = np.ldexp(np.ldexp(self.form.scaled, e[:, None]), e)
        own = rho * self.shares
        # inputs with small shares are measured in units in which these are of order one
        unit = -(np.frexp(self.shares)[1].astype(np.int64) // 2)
        P, error = -np.ldexp(np.ldexp(Q, unit[:, None]), unit), np.full_like(Q, FLOOR)
        own = np.ldexp(own, 2 * unit)
        P[np.diag_indices(len(P))] += own
        error[np.diag_indices(len(P))] += gamma(8) * (own + np.abs(np.diagonal(P)))
        return is_semidefinite_entrywise(P, error)


@dataclass(frozen=True, eq=False)
class _Narrow:
    """``L² ≤ ρ`` where ``S − G / ρ ⪰ 0``, ``G = X Xᵀ``, in units 2^unit of the inputs: more inputs than units.

    S is wrong by ``wrong_S`` at most, in norm, ``G_ij`` by ``wrong_G_i wrong_G_j``.
    """

    S: Float
    G: Float
    wrong_S: float
    wrong_G: Float
    unit: int

    def at_most(self, claimed: float) -> bool:
        rho = _square_below(claimed, -self.unit)
        if not 2.0**-FARTHEST < rho < 2.0**FARTHEST:
            return False
        share = self.G / rho
        P = self.S - share
        wrong = self.wrong_G / math.sqrt(rho)
        error = np.outer(wrong, wrong) * (1.0 + gamma(16)) + 4.0 * U * (np.abs(share) + np.abs(P)) + FLOOR
        error[np.diag_indices(len(P))] += self.wrong_S
        return is_semidefinite_entrywise(P, error)


def _square_below(claimed: float, unit: int) -> float:
    """At most ``(claimed / 2^unit)²``."""
    size = float(np.ldexp(claimed, -unit))
    return size * size * (1.0 - 4.0 * U)


def _shares(weights: ArrayLike, n: int, live: NDArray[np.bool_]) -> Float | str:
    """Positive numbers of the live inputs whose sum is at most 1; a sentence where the weights are not to be used."""
    mu = read_numbers(weights, "input weight", n, "inputs")
    if isinstance(mu, str):
        return mu
    top = float(mu[live].max(initial=0.0))
    if top == 0.0 and live.any():  # where nothing lives nothing is weighed
        return "the input weights are all zero"
    # any positive weights may be used: what is rounded here makes others of them, and no false claim
    with np.errstate(under="ignore"):
        mu = np.ldexp(mu[live], -int(np.frexp(top)[1])) + _LEAST_SHARE
    return np.nextafter(mu / math.nextafter(math.fsum(mu), math.inf), 0.0)


def _numbers(
    network: Network, multipliers: Sequence[ArrayLike], alive: Sequence[NDArray[np.bool_]]
) -> list[Float] | str:
    """One vector of multipliers per hidden layer; a sentence where they are no such numbers."""
    if len(multipliers) != network.depth:
        return f"there are multipliers for {len(multipliers)} layers, the network has {network.depth} hidden layers"
    found = []
    for k, (given, layer, live) in enumerate(zip(multipliers, network.layers, alive[1:])):
        try:
            t = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            return f"the multipliers of layer {k} are not numbers"
        sizes = np.abs(layer.unit_slopes)
        sizes = sizes[sizes > 0.0]
        if not (sizes.min(initial=1.0) >= 2.0**-_RANGE_SLOPE and sizes.max(initial=1.0) <= 2.0**_RANGE_SLOPE):
            return f"a slope of layer {k} is too small or too large to be verified"
        n = n_multipliers(layer)
        if t.shape != (n,):
            return f"layer {k} has {n} units that bend and multipliers of shape {t.shape}"
        used = t[live[layer.bends]]
        if not (np.isfinite(used).all() and bool((used > 0.0).all())):
            return f"a multiplier of layer {k} is not positive and finite"
        found.append(t)
    return found


def n_multipliers(layer: Layer) -> int:
    """How many units of a layer have a multiplier: those that bend, none where the activation is linear."""
    return int(layer.bends.sum())


def _last(
    network: Network, multipliers: Sequence[Float], alive: Sequence[NDArray[np.bool_]], shares: Float | None
) -> _Whole | _Narrow | str:
    """What remains to be asked of a bound; a sentence where multipliers are too small, or numbers too large."""
    layers = [
        Seen.of(layer, here, below, T[here[layer.bends]])
        for layer, here, below, T in zip(network.layers, alive[1:], alive, multipliers)
    ]
    form = gram(network.layers[-1].operator.matrix[np.ix_(alive[-1], alive[-2])])
    if form is None:
        return "the weights of the last layer are too large or too small"
    found: Form | _Narrow | None = form
    for k, two in in_pairs([seen.shape for seen in layers]):
        if k == 0 and not two and shares is None and layers[k].narrow:
            found = _narrow(form, layers[k])
        else:
            found = before_two(form, layers[k + 1], layers[k]) if two else before(form, layers[k])
        if found is None:
            return f"the multipliers of layer {k + two} do not bound what follows it, or its numbers are too large"
        if isinstance(found, _Narrow):
            return found
        form = found
    return _Whole(form, np.ones(len(form.e)) if shares is None else shares)


def _narrow(form: Form, seen: Seen) -> _Narrow | None:
    """S and ``X Xᵀ`` of the first layer, ``X = 2 c T B``, in one unit of all inputs."""
    found = sector(form, seen)
    if found is None:
        return None
    S, T, g = found
    factor = 2.0 * seen.c * T
    exponents = (
        np.where(seen.matrix != 0.0, np.frexp(seen.matrix)[1], -(1 << 20)) + (form.e + g + np.frexp(factor)[1])[:, None]
    )
    unit = -int(exponents.max())
    if abs(unit) > 4 * FARTHEST:
        return None
    mantissa, power = np.frexp(factor)
    X = mantissa[:, None] * np.ldexp(seen.matrix, (form.e + g + power)[:, None] + unit)
    lengths = np.sqrt(np.einsum("ij,ij->i", X, X))
    wrong = lengths * math.sqrt(gamma(X.shape[1] + 16)) * (1.0 + gamma(X.shape[1] + 16)) + 2.0**-250
    return _Narrow(S, X @ X.T, lost(S, T, g), wrong, unit)
