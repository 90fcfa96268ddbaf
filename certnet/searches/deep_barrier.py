r"""LipSDP of a network of any depth: floating-point multipliers from an interior-point method or a generic solver.

With ``P(T, ρ)`` of :mod:`certnet.proofs.deep`, the multiplier of neuron i of layer k enters as

    ∂P/∂T_i = p_i q_iᵀ + q_i p_iᵀ,   p_i = e_i − α w_i,   q_i = e_i − β w_i

(e_i its unit vector in x_{k+1}, w_i its row of W_k in x_k). For the barrier ``t ρ − log det P`` with ``Q = P⁻¹``:

    gradient_i = −2 p_iᵀ Q q_i,   Hessian_ij = 2 (q_iᵀ Q p_j)(q_jᵀ Q p_i) + 2 (q_iᵀ Q q_j)(p_iᵀ Q p_j),

so a Newton step costs a few products of matrices of the order of the network, where a generic solver factorises
matrices of the square of that order. On the central path the duality gap is (order of P) / t. Units without inputs
leave their multipliers free, and the barrier would drive them to infinity: a small cost κ Σ T keeps them below 1 / κ,
and is charged to the gap.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from certnet.backends import cvxpy_
from certnet.core.errors import SolverError
from certnet.core.outcome import Status
from certnet.core.until import FOREVER, Until
from certnet.core.validation import Float, one_of
from certnet.networks.network import Network
from certnet.searches.path_following import Centring, centre
from certnet.searches.result import SearchResult, dual_value

__all__ = ["DEEP_FORMS", "search_deep", "solve_deep"]

DEEP_FORMS: Final = ("chordal", "dense")
"""Forms of the LMI for a generic solver."""


_BEND = 1e-4  # least width of the slopes relative to the steepest, in the search only
_COST = 1e-3  # κ
_CENTRING = Centring(near=1e-3, tolerated=0.25, shortest=1e-10)
_HUGE = 1e9  # multipliers of the scaled network beyond this are not followed


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite is refused by the checker
def search_deep(
    network: Network,
    *,
    per: str = "neuron",
    tol: float = 1e-6,
    max_iterations: int = 300,
    until: Until = FOREVER,
) -> SearchResult[tuple[Float, ...]]:
    """Minimise ρ over the multipliers by a path-following Newton method.

    Parameters
    ----------
    per : {"neuron", "layer"}
    tol : float
        Relative gap of ρ at which to stop.
    max_iterations : int
        Limit on Newton steps.
    until : Until
        Asked between centrings.
    """
    scaled, sizes, last = _scaled(network)
    barrier = _Barrier(network, scaled, per)
    n = barrier.order
    x = barrier.start()
    t, spent, status, gap = 1.0, 0, Status.MAX_ITERATIONS, float("inf")
    while spent < max_iterations:
        x, steps, centred = centre(barrier, x, t, max_iterations - spent, _CENTRING)
        spent += steps
        # short of the centre for an early t, where multipliers may run far out, a later t leads back
        gap = (n + _COST * float(np.sum(barrier.spread @ x[:-1]))) / (t * float(x[-1]))
        if gap <= tol:
            status = Status.OPTIMAL if centred else Status.INACCURATE
            break
        if (ended := until.reached) is not None:
            status = ended
            break
        # no further along the path than the tolerance asks for: rounding waits at its end
        t *= min(10.0, max(1.2 * gap / tol, 1.5))
    found = _unscaled(network, barrier.spread @ x[:-1], sizes, last)
    # off the central path, or for slopes that were bent, nothing is known of the gap
    known = status is not Status.INACCURATE and not barrier.bent
    upper = _size(x, last)
    return SearchResult(found, upper, dual_value(upper, gap) if known else 0.0, status, steps=spent)


def _unscaled(network: Network, T: Float, sizes: Float, last: float) -> tuple[Float, ...]:
    """Multipliers of the network's own layers from those of the scaled one."""
    layers = np.split(T, np.cumsum(network.widths[1:-2]))
    return tuple(layer * (last / s) ** 2 for layer, s in zip(layers, sizes))


def _size(x: Float, last: float) -> float:
    return float(np.sqrt(x[-1]) * last)


def _scaled(network: Network) -> tuple[list[Float], Float, float]:
    """Weights scaled to ``W_k · steepest slope`` of norm one, the sizes of x_1 … x_ℓ, and that of the output."""
    steepest = [max(*map(abs, phi.slopes), 1e-150) for phi in network.activations]
    norms = [max(float(np.linalg.norm(W, 2)), 1e-150) for W in network.weights]
    # x_{k+1} is measured in units of sizes[k]
    factors = [s * g for s, g in zip(norms, [*steepest, 1.0])]
    sizes: Float = np.cumprod(np.array(factors[:-1])).astype(np.float64)
    scaled = [network.weights[0] / sizes[0]]
    scaled += [W * (sizes[k] / sizes[k + 1]) for k, W in enumerate(network.weights[1:-1])]
    return [*scaled, network.weights[-1] / norms[-1]], sizes, float(norms[-1] * sizes[-1])


class _Barrier:
    """``t ρ + κ Σ T − log det P`` over (multipliers, ρ), for weights scaled by :func:`_scaled`."""

    def __init__(self, network: Network, scaled: list[Float], per: str) -> None:
        widths = network.widths[:-1]
        starts = np.cumsum([0, *widths])
        self.order, self.d = int(starts[-1]), widths[0]
        h = self.order - self.d
        self.p, self.q = np.zeros((self.order, h)), np.zeros((self.order, h))
        self.bent = False
        for k, (W, phi) in enumerate(zip(scaled[:-1], network.activations)):
            low, high = phi.slopes
            # a linear activation has no finite optimal multipliers: it is searched as if it bent a little
            bend = max(0.0, _BEND * max(abs(low), abs(high)) - (high - low))
            low, high = low - 0.5 * bend, high + 0.5 * bend
            units = slice(starts[k + 1] - self.d, starts[k + 2] - self.d)
            for matrix, slope in ((self.p, low), (self.q, high)):
                matrix[starts[k] : starts[k + 1], units] = -slope * W.T
                matrix[starts[k + 1] : starts[k + 2], units] = np.eye(widths[k + 1])
            self.bent |= bend > 0.0
        self.base = np.zeros((self.order, self.order))
        self.base[starts[-2] :, starts[-2] :] = -(scaled[-1].T @ scaled[-1])
        layer = np.repeat(np.arange(len(widths) - 1), widths[1:])
        self.spread = np.eye(h) if per == "neuron" else (layer[:, None] == np.arange(len(widths) - 1)).astype(float)

    def matrix(self, x: Float) -> Float:
        half = (self.p * (self.spread @ x[:-1])) @ self.q.T
        P = self.base + half + half.T
        P[: self.d, : self.d] += x[-1] * np.eye(self.d)
        return P

    def start(self) -> Float:
        """A strictly feasible point: multipliers growing towards the input, and a large ρ."""
        layers = self.spread.shape[1] if self.spread.shape[1] < len(self.spread) else 0
        x = np.ones(self.spread.shape[1] + 1)
        for growth in (1.0, 2.0, 4.0, 16.0, 256.0):
            depth = np.argmax(self.spread, axis=0)[::-1] if layers else np.arange(len(self.spread))[::-1]
            x[:-1] = 1.0 if growth == 1.0 else growth ** (depth / max(len(self.spread), 1))
            for rho in 2.0 * 4.0 ** np.arange(12):
                x[-1] = rho
                if self.factor(x) is not None:
                    return x
        raise SolverError("no feasible multipliers were found to start from: try method='product'")

    def factor(self, x: Float) -> Float | None:
        try:
            return np.asarray(np.linalg.cholesky(self.matrix(x)), dtype=np.float64)
        except np.linalg.LinAlgError:
            return None

    def value(self, x: Float, t: float) -> float:
        R = self.factor(x) if x.min() > 0.0 and x.max() < _HUGE else None
        if R is None:
            return float("inf")
        cost = t * float(x[-1]) + _COST * float(np.sum(self.spread @ x[:-1]))
        return cost - 2.0 * float(np.log(np.diagonal(R)).sum())

    def newton(self, x: Float, t: float) -> tuple[Float, float]:
        """The Newton step and the decrement."""
        Q = np.linalg.inv(self.matrix(x))
        Qp, Qq = Q @ self.p, Q @ self.q
        pp, qq, qp = self.p.T @ Qp, self.q.T @ Qq, self.q.T @ Qp
        to_inputs = 2.0 * np.sum(Qp[: self.d] * Qq[: self.d], axis=0)
        S = self.spread
        gradient = np.append(S.T @ (_COST - 2.0 * np.diagonal(qp)), t - float(np.trace(Q[: self.d, : self.d])))
        H = np.zeros((len(x), len(x)))
        H[:-1, :-1] = S.T @ (2.0 * (qp * qp.T + qq * pp)) @ S
        H[:-1, -1] = H[-1, :-1] = S.T @ to_inputs
        H[-1, -1] = float(np.sum(Q[: self.d, : self.d] ** 2))
        H[np.diag_indices(len(x))] *= 1.0 + 1e-12
        step = -np.linalg.solve(H, gradient)
        return step, float(-gradient @ step)

    def longest(self, step: Float) -> float:
        return 1.0


def solve_deep(
    network: Network,
    *,
    per: str = "neuron",
    solver: str = "CLARABEL",
    form: str = "chordal",
    tol: float = 1e-8,
    time_limit: float | None = None,
) -> SearchResult[tuple[Float, ...]]:
    """Minimise ρ over the multipliers by a named CVXPY solver: the second implementation.

    Parameters
    ----------
    per : {"neuron", "layer"}
    solver : {"CLARABEL", "SCS", "MOSEK"}
    form : {"chordal", "dense"}
        One semidefinite block per pair of neighbouring layers, their overlaps summing to the block tridiagonal P, or P
        as it is.
    tol : float
        The solver's tolerance.
    time_limit : float, optional
        Seconds after which the solver stops.

    Raises
    ------
    InvalidInputError
        Unknown form.
    SolverUnavailableError, SolverError
    """
    import cvxpy as cp

    one_of(form, "form", DEEP_FORMS)
    cvxpy_.require(solver)
    # layers scaled to spectral norm one: x_{k+1} is measured in units of sizes[k], T_k in their inverse square
    norms = [max(float(np.linalg.norm(W, 2)), 1e-150) for W in network.weights]
    Ws = [W / s for W, s in zip(network.weights, norms)]
    sizes = np.cumprod(norms[:-1])
    rho = cp.Variable()
    T = [cp.Variable(len(W)) if per == "neuron" else cp.Variable() * np.ones(len(W)) for W in Ws[:-1]]
    lmi = _chordal(network, Ws, T, rho) if form == "chordal" else [cp.bmat(_blocks(network, Ws, T, rho)) >> 0]
    problem = cp.Problem(cp.Minimize(rho), [*lmi, *(t >= 0 for t in T)])
    report = cvxpy_.solve(problem, solver, tol=tol, time_limit=time_limit)
    if rho.value is None or not np.isfinite(rho.value) or any(t.value is None for t in T):
        raise SolverError(f"{report.solver} gave no usable multipliers ({report.solver_status}): try another solver")
    last = norms[-1] * sizes[-1]
    found = tuple(np.maximum(t.value, 1e-9) * (last / s) ** 2 for t, s in zip(T, sizes))
    return SearchResult(found, float(np.sqrt(max(float(rho.value), 1e-12)) * last), 0.0, report.status)


def _chordal(network: Network, Ws: list[Float], T: list[Any], rho: Any) -> list[Any]:
    """P ⪰ 0 as positive semidefinite blocks of two layers each: exact, as P is block tridiagonal."""
    import cvxpy as cp

    P = _blocks(network, Ws, T, rho)
    shared = [cp.Variable((n, n), symmetric=True) for n in network.widths[1 : network.depth]]
    constraints = []
    for k in range(network.depth):
        first = P[0][0] if k == 0 else shared[k - 1]
        last = P[-1][-1] if k == network.depth - 1 else P[k + 1][k + 1] - shared[k]
        constraints.append(cp.bmat([[first, P[k][k + 1]], [P[k + 1][k], last]]) >> 0)
    return constraints


def _blocks(network: Network, Ws: list[Float], T: list[Any], rho: Any) -> list[list[Any]]:
    """P of :mod:`certnet.proofs.deep`, block by block."""
    import cvxpy as cp

    depth = network.depth
    rows: list[list[Any]] = [
        [np.zeros((network.widths[i], network.widths[j])) for j in range(depth + 1)] for i in range(depth + 1)
    ]
    blocks: list[Any] = [rho * np.eye(network.n_inputs), *(2.0 * cp.diag(t) for t in T)]
    for k, phi in enumerate(network.activations):
        low, high = phi.slopes
        if low * high != 0.0:
            blocks[k] = blocks[k] + 2.0 * low * high * (Ws[k].T @ cp.diag(T[k]) @ Ws[k])
        cross = -(low + high) * (Ws[k].T @ cp.diag(T[k]))
        rows[k][k + 1], rows[k + 1][k] = cross, cross.T
    blocks[-1] = blocks[-1] - Ws[-1].T @ Ws[-1]
    for k, block in enumerate(blocks):
        rows[k][k] = block
    return rows
