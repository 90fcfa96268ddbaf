"""The restriction through CVXPY, by any solver that it names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import qr

from certnet.backends import cvxpy_
from certnet.core.outcome import Residuals, Status
from certnet.core.validation import Float
from certnet.programs.restriction import Restriction, Solution

__all__ = ["SolverOutcome", "build", "solve"]


@dataclass(frozen=True, eq=False)
class SolverOutcome:
    """The point (None if there is none), certnet's status, the solver's word, residuals recomputed, seconds."""

    solution: Solution | None
    status: Status
    solver_status: str
    residuals: Residuals | None
    seconds: float


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

    def apply(self, program: Restriction) -> Restriction:
        # J / τ² = mse' + (λ / σ²) ρ', or mse' + 2 λ Σ_j ‖u'_j P‖ with P of l2_map
        return replace(
            program,
            rows=(program.rows - self.centre) / self.sigma,
            targets=(program.targets - self.offset) / self.tau,
            weight=program.weight / self.sigma**2 if program.penalty == "lipschitz" else program.weight,
        )

    def limits(self, rho: float | None, fit: float | None) -> tuple[float | None, float | None]:
        """Limits on ρ and on the error, in the scaled program."""
        return (
            None if rho is None else rho * (self.sigma / self.tau) ** 2,
            None if fit is None else fit / self.tau**2,
        )

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


def solve(
    program: Restriction,
    solver: str,
    *,
    tol: float = 1e-8,
    time_limit: float | None = None,
    verbose: bool = False,
    rho_at_most: float | None = None,
    fit_at_most: float | None = None,
) -> SolverOutcome:
    """Solve the restriction with the named solver.

    With ``rho_at_most`` the error is minimised subject to ``ρ ≤ rho_at_most``, with ``fit_at_most`` ρ subject to an
    error of at most that, instead of their weighted sum; both for the Lipschitz penalty.

    Raises
    ------
    SolverUnavailableError
        The solver is unknown, not installed or has no licence.
    """
    cvxpy_.require(solver)
    scaling = _Scaling.of(program)
    scaled = scaling.apply(program)
    limits = scaling.limits(rho_at_most, None if fit_at_most is None else fit_at_most - program.spread)
    problem, variables = build(scaled, l2_map=scaling.l2_map(), limits=limits)
    report = cvxpy_.solve(problem, solver, tol=tol, time_limit=time_limit, verbose=verbose)
    U, c = variables["U"].value, variables["c"].value
    if U is None or c is None or not (np.isfinite(U).all() and np.isfinite(c).all()):
        return SolverOutcome(None, Status.SOLVER_FAILED, report.solver_status, None, report.seconds)
    if program.penalty == "lipschitz":
        U, c = _settled(scaled, U, c)
    eta = program.eta if "eta" not in variables else variables["eta"].value
    rho = None if "rho" not in variables else float(variables["rho"].value)
    solution = scaling.undo(U, c, eta, rho)
    value = _value(program, solution)
    claimed = float(problem.value) * scaling.tau**2 + program.spread if np.isfinite(problem.value) else np.nan
    if rho_at_most is not None:
        value = program.fit(solution.U, solution.c)
    if fit_at_most is not None:
        claimed, value = float(problem.value) * (scaling.tau / scaling.sigma) ** 2, float(solution.rho or 0.0)
    residuals = Residuals(program.cell_violation(solution.U), _mismatch(claimed, value))
    return SolverOutcome(solution, report.status, report.solver_status, residuals, report.seconds)


def _value(program: Restriction, solution: Solution) -> float:
    """The program's objective at a point, from the data."""
    fit = program.fit(solution.U, solution.c)
    if program.penalty == "l2":
        return fit + 2.0 * program.weight * float(np.linalg.norm(solution.U, axis=1).sum())
    return fit + program.weight * float(solution.rho or 0.0)


def _spread(values: Float, centre: Float) -> float:
    """Root mean square about the centre; one where that is only rounding of the centre."""
    spread = float(np.sqrt(np.mean((values - centre) ** 2)))
    top = float(np.abs(values).max())
    return spread if spread > 1e-14 * top else top or 1.0


def _mismatch(claimed: float, recomputed: float) -> float:
    difference = abs(claimed - recomputed) / max(abs(recomputed), 1e-300)
    return difference if np.isfinite(difference) else float("inf")


def build(
    program: Restriction,
    l2_map: Float | None = None,
    limits: tuple[float | None, float | None] = (None, None),
) -> tuple[Any, dict[str, Any]]:
    """The CVXPY problem and its variables U (k, d+1), c (m,), and for the Lipschitz penalty rho and eta (k,).

    The ℓ2 penalty is ``2 λ Σ_j ‖u_jᵀ P‖`` with ``P = l2_map`` (d+1, d+1), the identity by default. A limit on ρ or on
    the error makes the other the objective.
    """
    import cvxpy as cp

    n, d = program.rows.shape
    m, k = program.directions.shape
    extended = np.column_stack([program.rows, np.ones(n)])
    U, c = cp.Variable((k, d + 1), name="U"), cp.Variable(m, name="c")
    fit = _squared_error(program, extended, U, c)

    # rows of the cone have norm one: the cone is the same, its violation is comparable
    unit_rows = extended / np.linalg.norm(extended, axis=1, keepdims=True)
    constraints = [cp.multiply(np.where(program.patterns, 1.0, -1.0), unit_rows @ U.T) >= 0]
    variables = {"U": U, "c": c}
    if program.penalty == "l2":
        penalty = 2.0 * cp.sum(cp.norm(U if l2_map is None else U @ l2_map, 2, axis=1))
    else:
        eta = cp.Variable(k, name="eta") if program.eta is None else program.eta
        penalty = cp.Variable(name="rho")
        constraints += _lipsdp(program, U[:, :-1], eta, penalty)
        variables["rho"] = penalty
        if program.eta is None:
            variables["eta"] = eta
    rho_at_most, fit_at_most = limits
    if rho_at_most is not None:
        return cp.Problem(cp.Minimize(fit), [*constraints, penalty <= rho_at_most]), variables
    if fit_at_most is not None:
        return cp.Problem(cp.Minimize(penalty), [*constraints, fit <= fit_at_most]), variables
    return cp.Problem(cp.Minimize(fit + program.weight * penalty), constraints), variables


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
