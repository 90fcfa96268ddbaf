r"""LipSDP through CVXPY, in the dense form of the source and in an arrow form: the second implementation.

Dense (Y (2b)), in diagonal T > 0 and ρ::

    [ ρ I_d    −Wᵀ T    ]
    [ −T W     2T − VᵀV ]  ⪰ 0

Arrow, in η = 1 / diag(T) and ρ, linear in W too::

    [ ρ I_d    Wᵀ          ½ Wᵀ Vᵀ             ]
    [ W        2 diag(η)   0                   ]  ⪰ 0
    [ ½ V W    0           I − ½ V diag(η) Vᵀ  ]
"""

from __future__ import annotations

import numpy as np

from certnet.backends import cvxpy_
from certnet.core.errors import InvalidInputError, SolverError
from certnet.core.validation import Float, finite_array, one_of
from certnet.networks.hidden import HiddenLayer
from certnet.searches.result import SearchResult
from certnet.searches.shallow import FORMS, balance, closed_form

__all__ = ["lipsdp_rho", "solve_lipsdp"]


def lipsdp_rho(network: HiddenLayer, T: Float) -> float:
    """The smallest ρ that is feasible with the multipliers T (h,) > 0, by Woodbury's formula.

    ``ρ(T) = λ_max( ½ Wᵀ T W + ¼ Wᵀ Vᵀ K⁻¹ V W )``, ``K = I − ½ V T⁻¹ Vᵀ``; infinite where K is not positive definite.
    """
    T = finite_array(T, "T", ndim=(1,))
    if T.shape != (network.n_hidden,) or not np.all(T > 0.0):
        raise InvalidInputError(f"T must hold {network.n_hidden} positive numbers, one per hidden unit")
    W, V = network.W, network.V
    K = np.eye(network.n_outputs) - 0.5 * (V / T) @ V.T
    if np.linalg.eigvalsh(K)[0] <= 0.0:
        return float("inf")
    G = V @ W
    return float(np.linalg.eigvalsh(0.5 * (W.T * T) @ W + 0.25 * G.T @ np.linalg.solve(K, G))[-1])


def solve_lipsdp(
    network: HiddenLayer,
    *,
    solver: str = "CLARABEL",
    form: str = "arrow",
    tol: float = 1e-9,
    time_limit: float | None = None,
) -> SearchResult[Float]:
    """Multipliers from a generic SDP solver, named.

    The value below them is the solver's own objective: the gap says how far the verified bound is from what the solver
    claims, and is not a duality gap.

    Parameters
    ----------
    solver : {"CLARABEL", "SCS", "MOSEK"}
    form : {"arrow", "dense"}
    tol : float
        The solver's tolerance.
    time_limit : float, optional
        Seconds after which the solver stops.

    Raises
    ------
    InvalidInputError
        Unknown form.
    SolverUnavailableError
        The solver cannot be used here.
    SolverError
        It gave no usable multipliers.
    """
    import cvxpy as cp

    one_of(form, "form", FORMS)
    cvxpy_.require(solver)
    multipliers = np.zeros(network.n_hidden)
    balanced = balance(network.W, network.V)  # the solvers' tolerances are absolute
    if balanced is None:
        return SearchResult(multipliers, 0.0, 0.0, cvxpy_.Status.OPTIMAL)
    W, V = balanced.W, balanced.V
    h, d = W.shape
    m = V.shape[0]
    rho = cp.Variable()
    if form == "dense":
        T = cp.Variable(h)
        block = cp.bmat([[rho * np.eye(d), -(W.T @ cp.diag(T))], [-(cp.diag(T) @ W), 2 * cp.diag(T) - V.T @ V]])
        problem = cp.Problem(cp.Minimize(rho), [block >> 0])
    else:
        eta = cp.Variable(h)
        G = 0.5 * V @ W
        block = cp.bmat(
            [
                [rho * np.eye(d), W.T, G.T],
                [W, 2 * cp.diag(eta), np.zeros((h, m))],
                [G, np.zeros((m, h)), np.eye(m) - 0.5 * V @ cp.diag(eta) @ V.T],
            ]
        )
        problem = cp.Problem(cp.Minimize(rho), [block >> 0])
    # T of the dense form, 1 / η of the arrow; t = T / L are the checker's
    report = cvxpy_.solve(problem, solver, tol=tol, time_limit=time_limit)
    if rho.value is None or rho.value <= 0.0:
        raise SolverError(f"{report.solver} gave no usable multipliers ({report.solver_status}): try another solver")
    found = np.asarray(T.value if form == "dense" else 1.0 / np.maximum(eta.value, 1e-12))
    lipschitz = float(np.sqrt(rho.value))
    t = np.maximum(found, 1e-12) / lipschitz
    multipliers[balanced.kept] = balanced.multipliers(t)
    return SearchResult(multipliers, balanced.size(closed_form(W, V, t)), balanced.size(lipschitz), report.status)
