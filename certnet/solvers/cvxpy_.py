"""The restriction through CVXPY, by any solver that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from scipy.linalg import qr

from certnet.backends import cvxpy_
from certnet.core.errors import SolverUnavailableError
from certnet.core.outcome import Residuals, Status
from certnet.core.validation import Float
from certnet.programs.goal import FitAtMost, Goal, SlopeAtMost, Weighted
from certnet.programs.loss import Huber, Loss, Squared
from certnet.programs.penalties import LipschitzPenalty, NormPenalty, Penalty
from certnet.programs.restriction import Restriction, Solution
from certnet.programs.slopes import SlopeLimits
from certnet.solvers.estimate import Size, conic_estimate, unfit
from certnet.solvers.flattest import flattened
from certnet.solvers.solved import Point, Solved
from certnet.solvers.watch import UNWATCHED, Watch

__all__ = ["ConicSolver", "build"]

_AS_GOOD = 4e-6  # relative, that fits may differ by where a limit on the slope is slack
_UNNOTICED = 1.0  # seconds beyond the time that nobody minds


@dataclass(frozen=True)
class ConicSolver:
    """A solver of CVXPY.

    Attributes
    ----------
    name : str
        Of :data:`certnet.backends.cvxpy_.SOLVERS`.
    tol : float
        The solver's own tolerance.
    verbose : bool
        Whether it writes its log.
    margin : float
        Relative to a limit on the fit: what the solver may miss it by, and therefore is kept away from it.
    patience : float
        Seconds: programs that are likely to take longer are not begun.
    """

    name: str
    tol: float = 1e-8
    verbose: bool = False
    margin: float = 1e-6
    patience: float = 3600.0

    def objection(self, program: Restriction, seconds: float = np.inf) -> str | None:
        """See :class:`~certnet.solvers.solved.Solver`."""
        return unfit(self.name, Size.of(program), conic_estimate, min(seconds, self.patience))

    def solve(self, program: Restriction, *, start: Point | None = None, watch: Watch = UNWATCHED) -> Solved:
        """Solve the restriction; ``start`` is of no use, and of ``watch`` only the deadline.

        Raises
        ------
        SolverUnavailableError
            The solver is unknown, not installed or has no licence, or the program does not fit into the memory or
            would take longer than ``patience``.
        """
        cvxpy_.require(self.name)
        objection = self.objection(program)
        if objection is not None:
            raise SolverUnavailableError(objection)
        if conic_estimate(Size.of(program)).setup > watch.left + _UNNOTICED:  # which no limit of the solver's ends
            return Solved(None, Status.TIME_LIMIT, self.objection(program, watch.left) or "no time is left")
        return flattened(program, self._once(program, watch), partial(self._once, watch=watch), _AS_GOOD)

    def _once(self, program: Restriction, watch: Watch) -> Solved:
        """What the solver gives, whatever limits are slack."""
        limit = watch.left if np.isfinite(watch.deadline) else None
        # the program in units of its data, a limit on the fit less the margin
        scaling = _Scaling.of(program)
        scaled = scaling.apply(program, self.margin)
        problem, variables = build(scaled, l2_map=scaling.l2_map())
        report = cvxpy_.solve(problem, self.name, tol=self.tol, time_limit=limit, verbose=self.verbose)
        U, c = variables["U"].value, variables["c"].value
        if U is None or c is None or not (np.isfinite(U).all() and np.isfinite(c).all()):
            return Solved(None, Status.SOLVER_FAILED, report.solver_status, seconds=report.seconds)
        if program.penalty.free_biases:
            U, c = _settled(scaled, U, c)
        eta = program.penalty.eta if "eta" not in variables else variables["eta"].value
        rho = None if "rho" not in variables else float(variables["rho"].value)
        solution = scaling.undo(U, c, eta, rho)
        if program.slopes is not None:
            solution = replace(solution, U=program.slopes.within(program.directions, solution.U))
        # what the solver claims, and the same from the data (with the solver's own ρ)
        value = program.goal.objective(program.fit(solution.U, solution.c), _charged(program, solution))
        claimed = scaling.objective(float(problem.value), program)
        residuals = Residuals(program.cell_violation(solution.U), _mismatch(claimed, value))
        return Solved(solution, report.status, report.solver_status, residuals, report.seconds, value)


@dataclass(frozen=True, eq=False)
class _Scaling:
    """Centred inputs over one common scale (one, so that the l2 norm keeps its meaning) and centred, scaled targets."""

    centre: Float
    sigma: float
    offset: Float
    tau: float

    @classmethod
    def of(cls, program: Restriction) -> _Scaling:
        centre = program.shares @ program.rows
        offset = program.shares @ program.targets
        return cls(centre, _spread(program.rows, centre), offset, _spread(program.targets, offset))

    def apply(self, program: Restriction, margin: float) -> Restriction:
        """The scaled program."""
        return replace(
            program,
            rows=(program.rows - self.centre) / self.sigma,
            targets=(program.targets - self.offset) / self.tau,
            goal=self._goal(program, margin),
            loss=program.loss.per(self.tau),
            slopes=None if program.slopes is None else program.slopes.times(self.sigma / self.tau),
        )

    def _goal(self, program: Restriction, margin: float) -> Goal:
        goal = program.goal
        if isinstance(goal, SlopeAtMost):
            return SlopeAtMost(goal.limit * (self.sigma / self.tau))
        if isinstance(goal, FitAtMost):
            return replace(goal, limit=(goal.limit * (1.0 - margin) - program.spread) / self.tau**2)
        # J / τ² = mse' + (λ / σ²) ρ', or mse' + 2 λ Σ_j ‖u'_j P‖ with P of l2_map
        return Weighted(goal.weight / self.sigma**2) if isinstance(program.penalty, LipschitzPenalty) else goal

    def objective(self, value: float, program: Restriction) -> float:
        """The data's objective, where that of the scaled program is ``value``; NaN where it is not finite."""
        if not np.isfinite(value):
            return float("nan")
        if isinstance(program.goal, FitAtMost):
            return value * (self.tau / self.sigma) ** 2
        return value * self.tau**2 + program.spread

    def l2_map(self) -> Float:
        """P with ``u'ᵀ P = uᵀ / τ²``: what the ℓ2 penalty of the scaled objective measures."""
        d = len(self.centre)
        P = np.eye(d + 1)
        P[:d, :d] /= self.sigma
        P[:d, d] = -self.centre / self.sigma
        return P / self.tau

    def undo(self, U: Float, c: Float, eta: Float | None, rho: float | None) -> Solution:
        W = U[:, :-1] * (self.tau / self.sigma)
        b = U[:, -1] * self.tau - W @ self.centre
        scale = (self.tau / self.sigma) ** 2
        return Solution(np.column_stack([W, b]), c * self.tau + self.offset, eta, None if rho is None else rho * scale)


def _charged(program: Restriction, solution: Solution) -> float:
    """The penalty at a point: the solver's own ρ, or what the weights give."""
    if solution.rho is not None:
        return solution.rho
    return program.penalty.at(program.directions, solution.U, solution.eta)


def _spread(values: Float, centre: Float) -> float:
    """Root mean square about the centre; one where that is only rounding of the centre."""
    spread = float(np.sqrt(np.mean((values - centre) ** 2)))
    top = float(np.abs(values).max())
    return spread if spread > 1e-14 * top else top or 1.0


def _mismatch(claimed: float, recomputed: float) -> float:
    difference = abs(claimed - recomputed) / max(abs(recomputed), 1e-300)
    return difference if np.isfinite(difference) else float("inf")


def build(program: Restriction, l2_map: Float | None = None) -> tuple[Any, dict[str, Any]]:
    """The CVXPY problem and its variables U (k, d+1), c (m,), and for the Lipschitz penalty rho and eta (k,).

    The ℓ2 penalty is ``2 λ Σ_j ‖u_jᵀ P‖`` with ``P = l2_map`` (d+1, d+1), the identity by default. A limit on ρ or on
    the error makes the other the objective.
    """
    import cvxpy as cp

    n, d = program.rows.shape
    m, k = program.directions.shape
    extended = np.column_stack([program.rows, np.ones(n)])
    U, c = cp.Variable((k, d + 1), name="U"), cp.Variable(m, name="c")
    fit = _FITS[type(program.loss)](program, extended, U, c)
    # rows of the cone have norm one: the cone is the same, its violation is comparable
    unit_rows = extended / np.linalg.norm(extended, axis=1, keepdims=True)
    constraints = [cp.multiply(np.where(program.patterns, 1.0, -1.0), unit_rows @ U.T) >= 0]
    if program.slopes is not None:
        constraints += _limited_slopes(program, U, program.slopes)
    penalty, more, variables = _FORMS[type(program.penalty)](program, U, l2_map)
    constraints += more
    goal, variables = program.goal, {"U": U, "c": c, **variables}
    if isinstance(goal, SlopeAtMost):
        return cp.Problem(cp.Minimize(fit), [*constraints, penalty <= goal.rho]), variables
    if isinstance(goal, FitAtMost):
        return cp.Problem(cp.Minimize(penalty), [*constraints, fit <= goal.limit]), variables
    return cp.Problem(cp.Minimize(fit + goal.weight * penalty), constraints), variables


def _limited_slopes(program: Restriction, U: Any, limits: SlopeLimits) -> list[Any]:
    """``Σ_j max(±s_j u_ji, 0)`` within the limits; signs where these are zero."""
    import cvxpy as cp

    slopes = cp.multiply(program.directions[0][:, None], U[:, :-1])
    constraints = []
    for side, limit in ((1.0, limits.upper), (-1.0, -limits.lower)):
        for i in np.flatnonzero(np.isfinite(limit)):
            one = side * slopes[:, int(i)]
            constraints.append(one <= 0 if limit[i] == 0.0 else cp.sum(cp.pos(one)) <= limit[i])
    return constraints


def _norms(program: Restriction, U: Any, l2_map: Float | None) -> tuple[Any, list[Any], dict[str, Any]]:
    """``2 Σ_j ‖u_jᵀ P‖``."""
    import cvxpy as cp

    return 2.0 * cp.sum(cp.norm(U if l2_map is None else U @ l2_map, 2, axis=1)), [], {}


def _slope(program: Restriction, U: Any, l2_map: Float | None) -> tuple[Any, list[Any], dict[str, Any]]:
    """ρ, a variable, under the matrix inequality; η is one too unless it is fixed."""
    import cvxpy as cp

    fixed, rho = program.penalty.eta, cp.Variable(name="rho")
    eta = cp.Variable(program.directions.shape[1], name="eta") if fixed is None else fixed
    variables = {"rho": rho, "eta": eta} if fixed is None else {"rho": rho}
    return rho, _lipsdp(program, U[:, :-1], eta, rho), variables


_Form = Callable[[Restriction, Any, Float | None], tuple[Any, list[Any], dict[str, Any]]]
_FORMS: Final[Mapping[type[Penalty], _Form]] = MappingProxyType({LipschitzPenalty: _slope, NormPenalty: _norms})
"""Every penalty in CVXPY's words: an expression, constraints and variables."""


def _settled(program: Restriction, U: Float, c: Float) -> tuple[Float, Float]:
    """The same point with moderate biases, where the Lipschitz penalty leaves them undetermined.

    On the samples, the bias of a unit that is always active trades against c, and that of a unit that is never active
    has no effect: both are brought as close to zero as their cell allows. A solver may leave them anywhere.
    """
    U, c = U.copy(), c.copy()
    always, never = program.patterns.all(axis=0), ~program.patterns.any(axis=0)
    z = program.rows @ U[:, :-1].T
    biases = np.minimum(U[:, -1], np.maximum(0.0, -z.min(axis=0)))
    c += program.directions[:, always] @ (U[always, -1] - biases[always])
    U[always, -1] = biases[always]
    U[never] = 0.0
    return U, c


def _squared_error(program: Restriction, extended: Float, U: Any, c: Any) -> Any:
    """``Σ_i share_i ‖Σ_j V_:j D_ij x̃_iᵀ u_j + c − target_i‖²``, reduced by QR where that makes it smaller."""
    import cvxpy as cp

    n, width = extended.shape
    m, k = program.directions.shape
    root = np.sqrt(program.shares)
    A = (program.patterns[:, :, None] * extended[:, None, :] * root[:, None, None]).reshape(n, k * width)
    stacked = np.zeros((m * n, k * width + m + 1))
    for o in range(m):
        rows = slice(o * n, (o + 1) * n)
        stacked[rows, : k * width] = A * np.repeat(program.directions[o], width)
        stacked[rows, k * width + o] = root
        stacked[rows, -1] = root * program.targets[:, o]
    if len(stacked) > stacked.shape[1]:
        stacked = qr(stacked, mode="r", check_finite=False)[0][: stacked.shape[1]]
    x = cp.hstack([cp.reshape(U, (k * width,), order="C"), c])
    return cp.sum_squares(stacked[:, :-1] @ x - stacked[:, -1])


def _huber_error(program: Restriction, extended: Float, U: Any, c: Any) -> Any:
    """``Σ_i share_i Σ_o φ(…)`` of the same residuals."""
    import cvxpy as cp

    active = cp.multiply(program.patterns.astype(float), extended @ U.T)
    outputs = active @ program.directions.T + np.ones((len(extended), 1)) @ cp.reshape(c, (1, c.size), order="C")
    threshold = program.loss.threshold if isinstance(program.loss, Huber) else np.inf
    return cp.sum(cp.multiply(program.shares[:, None], cp.huber(outputs - program.targets, threshold)))


_FITS: Final[Mapping[type[Loss], Callable[[Restriction, Float, Any, Any], Any]]] = MappingProxyType(
    {Squared: _squared_error, Huber: _huber_error}
)


def _lipsdp(program: Restriction, W: Any, eta: Any, rho: Any) -> list[Any]:
    """The arrow LMI as one semidefinite block per unit and one for the outputs, their d×d corners summing to ρ I."""
    import cvxpy as cp

    m, k = program.directions.shape
    d = W.shape[1]
    V = program.directions
    corners = [cp.Variable((d, d), symmetric=True) for _ in range(k + 1)]
    blocks = []
    for j in range(k):
        w = cp.reshape(W[j], (d, 1), order="C")
        blocks.append(cp.bmat([[corners[j], w], [w.T, cp.reshape(2.0 * eta[j], (1, 1), order="C")]]) >> 0)
    G = 0.5 * (V @ W)
    K = np.eye(m) - 0.5 * V @ cp.diag(eta) @ V.T
    blocks.append(cp.bmat([[corners[k], G.T], [G, K]]) >> 0)
    blocks.append(sum(corners[1:], start=corners[0]) == rho * np.eye(d))
    return blocks
