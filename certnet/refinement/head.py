r"""The last two layers of a deep network as one hidden layer, restricted to its cell: polish and local gap.

Increments of ``x_{k+1} = φ_k(W_k x_k + b_k)`` with multipliers T_k of P(T, ρ) (:mod:`certnet.proofs.deep`) obey, by
block Schur complements from the input, with slopes [α, β], c = α + β and a = α β of layer k,

    D_0 = ρ I,   E_k = D_k + 2 a W_kᵀ T_k W_k,   D_{k+1} = 2 T_k − c² T_k W_k E_k⁻¹ W_kᵀ T_k ≻ 0,

    δx_{ℓ−1}ᵀ D_{ℓ−1} δx_{ℓ−1} ≤ ρ ‖δx_0‖².

With ``H = D_{ℓ−1} / ρ = F Fᵀ`` the features ``z = Fᵀ x_{ℓ−1}(x)`` are thus 1-Lipschitz in x, and a bound of a network
of one hidden layer ``V relu(A z + b) + c`` is one of the whole, in which ``W_{ℓ−1} = A Fᵀ``. The joint restriction
(:mod:`certnet.programs.restriction`) on (z, y) minimises over (A, b, ‖V_:j‖, c) and the multipliers of the last hidden
layer; those below are kept in proportion to ρ. With the multipliers of LipSDP the network itself is a point of it
that has its own objective.

All is scaled by √T, so that the D_k are near 2 I (unit gauge); the factor below is that of the scaled matrix.

A program in d features couples its units by d (d + 1) / 2 rows, and its cost grows like d⁵. Where that is too much, it
is restricted to weights ``A = A' Qᵀ`` in a subspace: the one in which the network's own pre-activations lie up to a
small part, and then the directions in which the fit pulls most. The lower bound is computed for the program in all
features, from the small one's dual point: what the subspace loses shows in the gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import UnsupportedModelError
from certnet.core.outcome import Status
from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork
from certnet.programs.goal import FitAtMost, Goal, SlopeAtMost, Weighted
from certnet.programs.loss import SQUARED, Loss
from certnet.programs.penalties import LipschitzPenalty
from certnet.programs.restriction import Restriction, Samples, Solution, network_from, whole_cell
from certnet.searches.vectors import multipliers_with_slack, search_vectors, tightest
from certnet.solvers.dual_bound import lower_bound
from certnet.solvers.estimate import Size, own_estimate
from certnet.solvers.own import OwnSolver
from certnet.solvers.solved import Solved, Solver
from certnet.solvers.watch import UNWATCHED, Watch

__all__ = ["Polished", "head_is_relu", "polish_head"]

_SLACKS: Final = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_FAINT: Final = 1e-3  # size in unit gauge of units that multipliers say nothing about: a millionth of the bound
_RANK: Final = 1e-6  # of the largest: singular values of the features below it are directions without data
_FAITHFUL: Final = 0.02  # of the root mean square error: what a subspace may lose of the pre-activations
_TOO_COARSE: Final = 0.05  # of the same: from which on the program is not worth its time
_SECONDS: Final = 3.0  # that a program may take, by estimate
_PROGRAMS: Final = 5.0  # that a limit on the fit takes
_UNDER: Final = 1.0 - 1e-7  # of a limit on L: what the certificate's search may lose
_NO_LIMIT: Final = 2.0**300  # limits on L above it have squares that no solver can work with, and bind nowhere
_ASIDE: Final = tuple(10.0 ** (-0.25 * k) for k in range(2, 25))  # of the trace of P: what lies across the subspace
_EVENLY: Final = 0.1  # of that: alike in all directions


@dataclass(frozen=True, eq=False)
class Polished:
    """What a restriction of the last two layers gave.

    Attributes
    ----------
    network : FeedForward
        With other weights in the last two layers; the very input where the program gave nothing better.
    solved : Solved
        Value, bound from below, gap, status and residuals of the program in all features, its point in the program's
        coordinates. The value is the goal's objective with the ρ that the program proves, in floating point: a
        certificate of ``network`` is for others to make.
    n_features, n_directions : int
        Features of the head, and in how many directions of them its weights were free.
    """

    network: FeedForward
    solved: Solved
    n_features: int
    n_directions: int

    @property
    def value(self) -> float:
        """The objective of the program's point."""
        return self.solved.value

    @property
    def gap(self) -> float:
        """``(value − lower) / value``: nothing is better by more with the patterns of the last hidden layer, the
        directions of its output weights, every layer below, and the multipliers there (in proportion to ρ) kept.

        NaN where nothing bounds the optimum, as for a limit on the fit in fewer directions than there are features.
        """
        return self.solved.gap

    @property
    def status(self) -> Status:
        return self.solved.status


def head_is_relu(network: FeedForward) -> bool:
    """Whether :func:`polish_head` is for the network: dense layers, ReLU or leaky ReLU below, ReLU in the last."""
    if network.structured or network.activations[-1].name != "relu":
        return False
    return all(phi.name in ("relu", "leaky_relu") and phi.slopes[0] != phi.slopes[1] for phi in network.activations)


def polish_head(
    network: FeedForward,
    X: Float,
    y: Float,
    goal: Goal,
    *,
    multipliers: Sequence[Float],
    watch: Watch = UNWATCHED,
    solver: Solver | None = None,
    sample_weight: ArrayLike | None = None,
    loss: Loss = SQUARED,
    seconds: float = _SECONDS,
) -> Polished:
    r"""Restrict the last two layers of a network to their cell, everything below kept.

    Parameters
    ----------
    network : FeedForward
        ReLU or leaky ReLU layers, the last hidden one ReLU; any number of outputs. With one hidden layer it is the
        joint restriction itself.
    X, y : ndarray, shapes (N, d), (N, m)
        Checked at the door, in the network's units.
    goal : Goal
        Of the whole network: a weight, a limit on L or one on the fit.
    multipliers : sequence of ndarray, shape (n_k,)
        Of every hidden layer, as :func:`certnet.searches.vectors.search_vectors` gives them. Those of the last are not
        used. Where they prove nothing, others are looked for.
    watch : Watch
    solver : Solver, optional
        By default the own one, to a gap of 1e-4.
    sample_weight : array_like, shape (N,), optional
    loss : Loss
    seconds : float
        What the program may take, by the estimate of :mod:`certnet.solvers.estimate`: it bounds the directions in
        which weights are free. Where the network's own need more, nothing is solved. Not used for one hidden layer.

    Raises
    ------
    UnsupportedModelError
        Another activation, skips or convolutions.
    KeyboardInterrupt
        Ctrl-C, or an onlooker's.
    """
    if not head_is_relu(network):
        raise UnsupportedModelError(
            f"{network!r}: a restriction of the last two layers is for layers given by matrices, ReLU or leaky ReLU "
            "below and ReLU in the last hidden one"
        )
    samples = Samples.of(X, y, sample_weight, loss)
    metric = _metric(network, multipliers)
    if metric is None:
        failed = Solved(None, Status.SOLVER_FAILED, "no multipliers of the lower layers prove a bound")
        return Polished(network, failed, network.widths[-3], 0)
    head = _Head.of(network, samples, metric)
    allowed = min(seconds, watch.left) / (_PROGRAMS if isinstance(goal, FitAtMost) else 1.0)
    Q = head.subspace(allowed) if network.depth > 1 else np.eye(network.n_inputs)
    if isinstance(Q, _TooWide):
        return Polished(network, Solved(None, Status.NOT_IMPROVED, str(Q)), len(metric.factor), 0)
    program, start = head.within(Q, _kept_under(goal), loss)
    solved = (solver or OwnSolver(1e-4)).solve(program, start=start, watch=watch)
    solution = solved.solution
    if solution is None:
        return Polished(network, solved, *Q.shape)
    if len(Q) > Q.shape[1]:
        solved = _in_all_features(solved, replace(program, rows=head.features), Q)
    better = solved.value < head.value(goal, loss)
    return Polished(head.rebuilt(program.directions, solution, Q) if better else network, solved, *Q.shape)


def _kept_under(goal: Goal) -> Goal:
    """The goal of the program: a limit on L less what a certificate's search may lose, or none where it binds not."""
    if not isinstance(goal, SlopeAtMost):
        return goal
    limit = goal.limit * _UNDER
    return SlopeAtMost(limit) if limit < _NO_LIMIT else Weighted(0.0)


# ---------------------------------------------------------------------------------------------- the layers below


@dataclass(frozen=True, eq=False)
class _Metric:
    """``‖δz‖ ≤ ‖δx‖`` for the features ``z = factorᵀ x_{ℓ−1}``; ``inverse factor = I``.

    ``rho`` is what the multipliers given prove of the network as it is; infinite where they prove nothing.
    """

    factor: Float
    inverse: Float
    rho: float


def _metric(network: FeedForward, multipliers: Sequence[Float]) -> _Metric | None:
    """Of the first of several choices of multipliers for which every D_k is positive definite; None if there is none.

    The network's own, with more and more slack; those of its lower layers with all units of x_{ℓ−1} as outputs.
    """
    if network.depth == 1:
        own = tightest(network, multipliers)
        return _Metric(np.eye(network.n_inputs), np.eye(network.n_inputs), own * own)
    lower, own = _below(network), float("inf")
    for subject, T, slack in _choices(network, lower, multipliers):
        L = tightest(subject, T)
        rho = L * L * (1.0 + slack)
        own = min(own, rho) if subject is network else own
        if not np.isfinite(rho):
            continue
        if rho == 0.0 and subject is lower:  # features that do not move: anything proves it
            return _Metric(np.eye(lower.n_outputs), np.eye(lower.n_outputs), own)
        factored = _factored(lower, T[: lower.depth], rho) if rho > 0.0 else None
        if factored is not None:
            return _Metric(*factored, own)
    return None


def _below(network: FeedForward) -> FeedForward:
    """x_{ℓ−1} as the output."""
    n = network.widths[-3]
    return FeedForward(
        [*network.weights[:-2], np.eye(n)], [*network.biases[:-2], np.zeros(n)], network.activations[:-1]
    )


def _choices(
    network: FeedForward, lower: FeedForward, multipliers: Sequence[Float]
) -> Iterator[tuple[FeedForward, Sequence[Float], float]]:
    for slack in _SLACKS:
        yield network, multipliers_with_slack(multipliers, slack), slack
    found = search_vectors(lower).multipliers
    for slack in _SLACKS:
        yield lower, multipliers_with_slack(found, slack), slack


def _factored(lower: FeedForward, multipliers: Sequence[Float], rho: float) -> tuple[Float, Float] | None:
    """F and its inverse, ``F Fᵀ = D_{ℓ−1} / ρ``; None where some D_k is not positive definite."""
    D, root = rho * np.eye(lower.n_inputs), np.ones(lower.n_inputs)
    for W, T, (low, high) in zip(lower.weights, multipliers, lower.slopes):
        # W_k in unit gauge; units without a multiplier are given one at which they are faint
        W = W / root
        size = np.sqrt(np.maximum(np.einsum("ij,ji->i", W, np.linalg.solve(D, W.T)), 0.0))
        faint = np.divide(_FAINT, size, out=np.ones_like(size), where=size > 0.0)
        root = np.where(T > 0.0, np.sqrt(np.maximum(T, 0.0)), faint)
        W = root[:, None] * W
        E = D + 2.0 * low * high * (W.T @ W)
        D = 2.0 * np.eye(len(W)) - (low + high) ** 2 * (W @ np.linalg.solve(E, W.T))
        D = 0.5 * (D + D.T)
        if not (np.isfinite(D).all() and np.linalg.eigvalsh(D)[0] > 1e-12):
            return None
    e, V = np.linalg.eigh(D / rho)
    return root[:, None] * (V * np.sqrt(e)), (V / np.sqrt(e)).T / root


# ---------------------------------------------------------------------------------------------------- the last two


@dataclass(frozen=True)
class _TooWide:
    """Why no program is solved."""

    directions: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"the last two layers use {self.directions} directions of their features, and a program in them takes "
            f"about {self.seconds:.2g} s: allow more"
        )


def _affordable(size: Size, seconds: float, most: int) -> int:
    """The most features, up to ``most``, with which a program stays within so many seconds."""
    d = most
    while d > 0 and own_estimate(replace(size, inputs=d)).seconds > seconds:
        d -= 1
    return d


@dataclass(frozen=True, eq=False)
class _Head:
    """The last two layers on the features.

    Attributes
    ----------
    network : FeedForward
        The whole.
    samples : Samples
        Of its inputs.
    metric : _Metric
    features : ndarray, shape (n, d)
        ``z = Fᵀ x_{ℓ−1}`` at the samples.
    weights : ndarray, shape (h, d)
        ``A = W_{ℓ−1} F⁻ᵀ``.
    hidden : ndarray, shape (n, h)
        Pre-activations of the last hidden layer.
    """

    network: FeedForward
    samples: Samples
    metric: _Metric
    features: Float
    weights: Float
    hidden: Float

    @classmethod
    def of(cls, network: FeedForward, samples: Samples, metric: _Metric) -> _Head:
        x = samples.rows
        for layer in network.layers[:-2]:
            x = layer(x)
        W, b = network.weights[-2], network.biases[-2]
        return cls(network, samples, metric, x @ metric.factor, W @ metric.inverse.T, x @ W.T + b)

    def value(self, goal: Goal, loss: Loss) -> float:
        """The network's own objective, with the bound that the metric's multipliers prove; infinite beyond a limit."""
        fit, rho = loss.value(self._residual(), self.samples.shares) + self.samples.spread, self.metric.rho
        known = np.isfinite(rho) and goal.met(fit, float(np.sqrt(rho)))
        return goal.objective(fit, rho) if known else float("inf")

    def _residual(self) -> Float:
        outputs = np.maximum(self.hidden, 0.0) @ self.network.weights[-1].T + self.network.biases[-1]
        return np.asarray(outputs - self.samples.targets)

    def subspace(self, seconds: float) -> Float | _TooWide:
        """Orthonormal directions (d, r) of the features in which the head's weights are free."""
        shares, V = self.samples.shares, self.network.weights[-1]
        active = self.hidden >= 0.0
        root = np.sqrt(shares)[:, None]
        centred = (self.features - shares @ self.features) * root
        _, singular, right = np.linalg.svd(centred, full_matrices=False)
        rank = int(np.sum(singular > _RANK * singular.max(initial=0.0)))
        whole = right[: max(rank, 1)].T  # one at least, though it be without data
        size = Size(len(shares), 1, int(active.any(axis=0).sum()), len(V))
        most = _affordable(size, seconds, whole.shape[1])
        if whole.shape[1] <= most:
            return whole
        # the fewest combinations of units that give nearly all of the pre-activations, by their weight in the outputs
        used = (np.linalg.norm(V, axis=0) * np.sqrt(shares @ active))[:, None]
        left, singular, _ = np.linalg.svd(used * (self.weights @ centred.T), full_matrices=False)
        lost = np.sqrt(np.cumsum(singular[::-1] ** 2)[::-1])
        residual = self._residual()
        error = np.sqrt(shares @ np.sum(residual**2, axis=1))
        least, needed = (int(np.sum(lost > part * error)) for part in (_TOO_COARSE, _FAITHFUL))
        if least > most:
            return _TooWide(least, own_estimate(replace(size, inputs=least)).seconds)
        basis = np.linalg.qr((used * self.weights).T @ left[:, : min(needed, most)])[0]
        # what is left of the room: where the fit pulls most
        pull = (((shares[:, None] * residual) @ V) * active).T @ (centred / root)
        pull -= (pull @ basis) @ basis.T
        more = np.linalg.svd(pull, full_matrices=False)[2][: most - basis.shape[1]]
        return np.asarray(np.linalg.qr(np.column_stack([basis, more.T]))[0])

    def within(self, Q: Float, goal: Goal, loss: Loss) -> tuple[Restriction, tuple[Float, Float]]:
        """The restriction to weights ``A' Qᵀ``, and the network's own point there: its weights' part in the span."""
        samples, net = self.samples, self.network
        A = self.weights @ Q
        b = net.biases[-2] + (self.weights - A @ Q.T) @ (samples.shares @ self.features)
        cell = whole_cell(ShallowNetwork(A, b, net.weights[-1], net.biases[-1]))
        program = Restriction(
            rows := self.features @ Q,
            samples.shares,
            samples.targets,
            samples.spread,
            cell.patterns(rows),
            cell.directions,
            LipschitzPenalty(),
            goal,
            loss,
        )
        return program, cell.point

    def rebuilt(self, directions: Float, solution: Solution, Q: Float) -> FeedForward:
        """The whole network with the head of a solution: ``W_{ℓ−1} = A Qᵀ Fᵀ``."""
        net, new = self.network, network_from(solution, directions, self.network.units)
        weights = [*net.weights[:-2], new.W @ (self.metric.factor @ Q).T, new.V]
        return net.with_parameters(weights, [*net.biases[:-2], new.b, new.c], net.units).described(net.about)


def _in_all_features(solved: Solved, program: Restriction, Q: Float) -> Solved:
    """The same with the lower bound of ``program``, in all features, from the dual point in the directions Q.

    Y_0 is zero across them, and P has the shape of what the y_j there ask for, ``(Σ_j y_j y_jᵀ)^{½}``: the multiple of
    it that serves best.
    """
    dual = solved.dual
    if dual is None or dual.corner is None or dual.output is None or not np.isfinite(solved.value):
        return replace(solved, lower=float("-inf"), gap=float("nan"), dual=None)
    across = np.eye(len(Q)) - Q @ Q.T
    corner, trace = Q @ dual.corner @ Q.T, float(np.trace(dual.corner))
    # y_j across the directions is half the pull there
    residual = dual.residual - program.shares @ dual.residual
    cone = np.where(program.patterns, -dual.cone, dual.cone)
    pull = program.loss.gradient(residual, program.shares) @ program.directions * program.patterns + cone
    y = 0.5 * (pull.T @ program.rows) @ across
    _, singular, right = np.linalg.svd(y, full_matrices=False)
    shape = (right.T * singular) @ right
    size = float(np.trace(shape))
    shape = _EVENLY * across / float(np.trace(across)) + ((1.0 - _EVENLY) / size * shape if size > 0.0 else 0.0)
    lower = float("-inf")
    for share in _ASIDE:
        moved = replace(dual, corner=corner + share * trace * shape, output=Q @ dual.output, units=None)
        lower = max(lower, lower_bound(program, moved))
    return replace(solved, lower=lower, gap=(solved.value - lower) / max(solved.value, 1e-300), dual=None)
