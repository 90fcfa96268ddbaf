"""Projected gradient ascent on the squared residual of a regression network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, as_samples, positive_number
from certnet.networks.feedforward import require_network
from certnet.networks.network import Network
from certnet.robust.balls import Ball, admissible, ball_of
from certnet.robust.residuals import block_rows, padded_blocks

__all__ = ["PGDAttack"]

_FIRST_STEP: Final = 1.0
_LAST_STEP: Final = 0.01


@dataclass(frozen=True)
class PGDAttack:
    r"""``max ‖f(x_i + δ_i) − y_i‖²`` subject to ``‖δ_i‖ ≤ ε``, for every sample, from several starts.

    A step is ``δ ← Π(δ + α ε u)`` with u the steepest direction of the norm: ``g/‖g‖_2`` for l2, ``sign(g)`` for
    l∞ (Madry et al., ICLR 2018, section 2.1). With several outputs ``g = Jᵀ r`` is the gradient of ½‖r‖². With one
    output every start climbs both ``r`` and ``−r``: the worst ``|r|`` is at the end of one of the two, and neither
    stalls where r = 0. On a kink J is that of the piece to the right. Where g = 0 (all units inactive) the step
    follows a random direction, drawn once per sample and start.

    The network may have any depth, any activations that have values, skips and convolutions: ``Jᵀ r`` is a product
    layer by layer, so a step costs two passes, whatever the number of outputs.

    What is found is a lower bound of the worst case, never a certificate.

    Parameters
    ----------
    norm : {"l2", "linf"}
        Norm of the perturbation of one sample.
    n_steps : int
        Steps per start.
    n_restarts : int
        Starts per sample: δ = 0 first, then points drawn uniformly from the ball.
    step_size : float, optional
        Constant step α relative to ε. By default α falls geometrically from 1 to 0.01, so that the ball is
        crossed early and a kink is met closely; a single step is then the fast gradient method.
    random_state : int
        Seed of the starts.

    Raises
    ------
    InvalidInputError
        An unknown norm, a count below 1, a step that is not positive, a negative seed.

    Examples
    --------
    >>> import numpy as np
    >>> from certnet import ShallowNetwork
    >>> net = ShallowNetwork(W=[[3.0, 4.0]], b=[10.0], V=[1.0], c=0.0)
    >>> PGDAttack(norm="linf").perturb(net, [[0.0, 0.0]], [0.0], epsilon=0.5)
    array([[0.5, 0.5]])
    """

    norm: str = "l2"
    n_steps: int = 20
    n_restarts: int = 3
    step_size: float | None = None
    random_state: int = 0

    def __post_init__(self) -> None:
        ball_of(self.norm)
        _check_integer(self.n_steps, "n_steps", least=1)
        _check_integer(self.n_restarts, "n_restarts", least=1)
        _check_integer(self.random_state, "random_state", least=0)
        if self.step_size is not None:
            positive_number(self.step_size, "step_size")

    def perturb(self, net: Network, X: ArrayLike, y: ArrayLike, epsilon: float) -> Float:
        """The worst inputs found: the best of all steps of all starts, δ = 0 included.

        The squared residual is therefore never below the clean one, and ``‖X_adv − X‖ ≤ ε`` holds for the
        difference as computed in float64. A row depends on the rows before it only through the seed's sequence,
        and not on the rows after it. Memory beside X is bounded by blocks of at most 256 samples.

        Parameters
        ----------
        net : ShallowNetwork or FeedForward
        X : array_like, shape (N, d)
        y : array_like, shape (N,) or (N, m)
        epsilon : float
            Radius ε ≥ 0 in the units of the inputs.

        Returns
        -------
        ndarray, shape (N, d)

        Raises
        ------
        InvalidInputError
            Wrong shapes, NaN or infinite entries, a radius that is negative, NaN or so large that f overflows.
        UnsupportedModelError
            An activation that is given by its slopes alone, and has no values.
        """
        net = require_network(net)
        inputs, targets = as_samples(X, y, net.n_inputs, net.n_outputs, net.about.inputs)
        radius = positive_number(epsilon, "epsilon", zero=True)
        if radius == 0.0:
            return inputs
        generators = np.random.default_rng(self.random_state).spawn(self.n_restarts)
        worst = np.empty_like(inputs)
        for where, X_block, Y_block in padded_blocks(inputs, targets, block_rows(net)):
            worst[where] = self._worst(net, X_block, Y_block, radius, generators)[: where.stop - where.start]
        return worst

    def _worst(
        self, net: Network, X: Float, Y: Float, radius: float, generators: Sequence[np.random.Generator]
    ) -> Float:
        ball = ball_of(self.norm)
        best, best_loss = X.copy(), _loss_and_gradient(net, X, Y, None)[0]
        for k, generator in enumerate(generators):
            drawn = ball.sample(generator, *X.shape)
            start = np.zeros_like(X) if k == 0 else drawn
            for sign in (1.0, -1.0) if net.n_outputs == 1 else (None,):
                for Z, loss in self._climb(net, X, Y, radius, start, ball.steepest(drawn), sign):
                    better = loss > best_loss
                    best[better], best_loss[better] = Z[better], loss[better]
        return best

    def _climb(
        self,
        net: Network,
        X: Float,
        Y: Float,
        radius: float,
        u: Float,
        fallback: Float,
        sign: float | None,
    ) -> Iterator[tuple[Float, Float]]:
        """Points and losses of one ascent; ``u`` is δ/ε and ``fallback`` the direction where the gradient is 0."""
        ball = ball_of(self.norm)
        Z, u = admissible(ball, X, u, radius)
        loss, gradient = _loss_and_gradient(net, Z, Y, sign)
        yield Z, loss
        for step in self._steps():
            u = ball.project(u + step * _direction(ball, gradient, fallback))
            Z, u = admissible(ball, X, u, radius)
            loss, gradient = _loss_and_gradient(net, Z, Y, sign)
            yield Z, loss

    def _steps(self) -> Float:
        if self.step_size is not None:
            return np.full(self.n_steps, float(self.step_size))
        return np.geomspace(_FIRST_STEP, _LAST_STEP, self.n_steps)


def _direction(ball: Ball, gradient: Float, fallback: Float) -> Float:
    flat = ~gradient.any(axis=1, keepdims=True)
    return np.where(flat, fallback, ball.steepest(gradient))


def _loss_and_gradient(net: Network, Z: Float, Y: Float, sign: float | None) -> tuple[Float, Float]:
    """``‖r‖²`` (n,) and the gradient (n, d) of ``sign · r`` (one output), or of ``½‖r‖²`` where sign is None."""
    with np.errstate(over="ignore", invalid="ignore"):
        x, slopes = Z, []
        for layer in net.layers[:-1]:
            z = layer.preactivations(x)
            slopes.append(layer.derivative(z))
            x = layer.activated(z)
        R = net.layers[-1](x) - Y
        loss = np.einsum("nm,nm->n", R, R)
        pull = R if sign is None else np.full_like(R, sign)
        # Jᵀ pull, from the outputs to the inputs
        gradient = net.layers[-1].operator.adjoint(pull)
        for layer, slope in zip(net.layers[-2::-1], slopes[::-1]):
            gradient = layer.operator.adjoint(gradient * slope)
    if not (np.isfinite(loss).all() and np.isfinite(gradient).all()):
        raise InvalidInputError(
            "the network's squared residual overflows within the radius: use a smaller epsilon, or rescale the data"
        )
    return loss, gradient


def _check_integer(value: object, name: str, *, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise InvalidInputError(f"{name} must be an integer of at least {least}, got {value!r}")
