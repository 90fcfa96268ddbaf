r"""The certified objective of a network of any depth as a smooth function of one vector.

    J_μδ = (1/N) Σ_i φ(f_δ(x_i) − y_i) + ψ_μ(G) + shape(W)

with the fit of :mod:`certnet.refinement.fit`, the penalty of :mod:`certnet.refinement.gauge`, and what is charged for
slopes outside of limits. Where all units may be rescaled, the weights are held in unit gauge, G = W. Elsewhere (smooth
activations; biases or a first layer that are kept) the logarithms t of the multipliers are variables beside them:

    G_k = diag(e^{t_k / 2}) W_k diag(e^{−t_{k−1} / 2}),      t_{−1} = t_ℓ = 0.

Where inputs differ much in their spread, the vector holds the columns of W_0 in sizes of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from certnet.core.validation import Float
from certnet.refinement.fit import Fit
from certnet.refinement.signs import SignedWeights

__all__ = ["Charge", "Parameters", "Point", "SmoothObjective", "SmoothPenalty"]


@dataclass(frozen=True, eq=False)
class Point:
    """Weights W_k, biases b_k, and logarithms of the multipliers of the hidden layers; none of those in unit gauge."""

    weights: Sequence[Float]
    biases: Sequence[Float]
    logs: Sequence[Float] = ()

    @property
    def gauged(self) -> list[Float]:
        """Weights in unit gauge."""
        if not self.logs:
            return list(self.weights)
        roots = [np.ones(1), *(np.exp(0.5 * t) for t in self.logs), np.ones(1)]
        return [after[:, None] * W / before for W, (before, after) in zip(self.weights, pairwise(roots))]


@dataclass(frozen=True, eq=False)
class Parameters:
    """How points are laid out in a vector, and which entries stay as they are.

    Attributes
    ----------
    shapes : tuple of (n_{k+1}, n_k)
    scaled : bool
        Whether logarithms of multipliers are variables.
    keep_biases, keep_first : bool
        Whether biases, or weights and bias of the first layer, stay.
    columns : ndarray, shape (d,), or None
        The vector holds ``W_0 diag(columns)``: powers of two, so that no digit is lost.
    """

    shapes: tuple[tuple[int, int], ...]
    scaled: bool = False
    keep_biases: bool = False
    keep_first: bool = False
    columns: Float | None = None

    def pack(self, point: Point) -> Float:
        """One vector: layer by layer the rows (W, b), then the logarithms."""
        first = point.weights[0] if self.columns is None else point.weights[0] * self.columns
        return self._packed(Point([first, *point.weights[1:]], point.biases, point.logs))

    def _packed(self, point: Point) -> Float:
        layers = [np.column_stack([W, b]).ravel() for W, b in zip(point.weights, point.biases)]
        return np.concatenate([*layers, *(point.logs if self.scaled else ())])

    def unpack(self, x: Float) -> Point:
        """The point of a vector; its arrays may be views."""
        held = self._views(x)
        if self.columns is None:
            return held
        return Point([held.weights[0] / self.columns, *held.weights[1:]], held.biases, held.logs)

    def _views(self, x: Float) -> Point:
        weights, biases, logs, at = [], [], [], 0
        for n, m in self.shapes:
            both = x[at : at + n * (m + 1)].reshape(n, m + 1)
            weights.append(both[:, :-1])
            biases.append(both[:, -1])
            at += n * (m + 1)
        for n, _ in self.shapes[:-1] if self.scaled else ():
            logs.append(x[at : at + n])
            at += n
        return Point(weights, biases, logs)

    def gradient(self, point: Point) -> Float:
        """A gradient in the point as one in the vector, zero where entries stay."""
        first = point.weights[0] if self.columns is None else point.weights[0] / self.columns
        return self.free(self._packed(Point([first, *point.weights[1:]], point.biases, point.logs)))

    def free(self, x: Float) -> Float:
        """A change of the vector, zero where entries stay; may be the array itself, overwritten."""
        if self.keep_biases or self.keep_first:
            held = self._views(x)
            for k, (W, b) in enumerate(zip(held.weights, held.biases)):
                if k == 0 and self.keep_first:
                    W[:] = 0.0
                if self.keep_biases or (k == 0 and self.keep_first):
                    b[:] = 0.0
        return x


class Charge(Protocol):
    """What is charged beside fit and penalty: a value of the weights, and its gradients."""

    def __call__(self, weights: Sequence[Float]) -> tuple[float, list[Float]]: ...


class SmoothPenalty(Protocol):
    """``ψ_μ`` of weights in unit gauge, with its gradients; infinite, with none, where it is not defined."""

    def __call__(self, weights: Sequence[Float], mu: float) -> tuple[float, list[Float]]: ...


class SmoothObjective:
    """J_μδ with its gradient; remembers the best point of a stage, for an interrupt.

    Parameters
    ----------
    fit : Fit
    penalty : SmoothPenalty or None
        None charges nothing for the slope.
    parameters : Parameters
    charge : Charge or None
        Times ``factor``, which may be set at any time.
    signs : SignedWeights or None
        Of the weights, which are then squares of what the vector holds.
    """

    fit: Fit
    penalty: SmoothPenalty | None
    parameters: Parameters
    charge: Charge | None
    signs: SignedWeights | None
    reached: float
    best: Float

    def __init__(
        self,
        fit: Fit,
        penalty: SmoothPenalty | None,
        parameters: Parameters,
        charge: Charge | None = None,
        signs: SignedWeights | None = None,
    ) -> None:
        self.fit, self.penalty, self.parameters, self.charge, self.signs = fit, penalty, parameters, charge, signs
        self.factor: float = 1.0
        self.n_evaluations: int = 0
        self.begin(np.zeros(0))

    def begin(self, x: Float) -> None:
        """A new stage."""
        self.reached, self.best = np.inf, x

    def __call__(self, x: Float, mu: float, delta: float) -> tuple[float, Float]:
        """Infinite where P is not positive definite, or where numbers overflow."""
        self.n_evaluations += 1
        held, none = self.parameters.unpack(x), (np.inf, np.zeros_like(x))
        point = held if self.signs is None else Point(self.signs.weights(held.weights), held.biases, held.logs)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            value, to_W, to_logs = 0.0, list[Float](), [np.zeros(len(t)) for t in point.logs]
            if self.penalty is not None:  # first: it costs little to see that P is not positive definite
                value, to_G = self.penalty(point.gauged, mu)
                if not np.isfinite(value):
                    return none
                to_W, to_logs = _from_gauged(point, to_G) if point.logs else (to_G, to_logs)
            if self.charge is not None:
                more, to_more = self.charge(point.weights)
                value += self.factor * more
                to_more = [self.factor * b for b in to_more]
                to_W = [a + b for a, b in zip(to_W, to_more)] if to_W else to_more
            error, to_fit, to_b = self.fit(point.weights, point.biases, delta)
            value += error
            to_W = [a + b for a, b in zip(to_W, to_fit)] if to_W else to_fit
            if self.signs is not None:
                to_W = self.signs.pulled_back(held.weights, to_W)
            gradient = self.parameters.gradient(Point(to_W, to_b, to_logs))
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return none
        if value < self.reached:
            self.reached, self.best = value, x
        return value, gradient


def _from_gauged(point: Point, to_G: Sequence[Float]) -> tuple[list[Float], list[Float]]:
    """Gradients in W and t of a function of G, with its gradients in G."""
    roots = [np.ones(1), *(np.exp(0.5 * t) for t in point.logs), np.ones(1)]
    to_W = [after[:, None] * D / before for D, (before, after) in zip(to_G, pairwise(roots))]
    # ∂G_k/∂t_k = G_k / 2 along its rows, ∂G_{k+1}/∂t_k = −G_{k+1} / 2 along its columns
    products = [D * W for D, W in zip(to_W, point.weights)]
    to_logs = [0.5 * (own.sum(axis=1) - onward.sum(axis=0)) for own, onward in pairwise(products)]
    return to_W, to_logs
