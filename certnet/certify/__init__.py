"""Lipschitz bounds as proofs: search, verification, and the certificate that carries them."""

from __future__ import annotations

import platform
import time
import warnings
from datetime import UTC, datetime

import numpy as np
import scipy
from numpy.typing import ArrayLike

from certnet._version import __version__
from certnet.certify.bounds import cheap_upper_bounds
from certnet.certify.certificate import Certificate
from certnet.certify.lower import lower_bound
from certnet.certify.search import SearchResult, search_multipliers
from certnet.certify.verify import BoundChecker, Verdict, verify_bound
from certnet.errors import CertificateError, NotConvergedWarning
from certnet.network import ShallowNetwork
from certnet.validation import positive_number

__all__ = ["Certificate", "Verdict", "certify", "cheap_upper_bounds", "verify_bound"]


def certify(
    network: ShallowNetwork,
    *,
    X: ArrayLike | None = None,
    solver: str = "auto",
    form: str = "arrow",
    tol: float = 1e-6,
    max_iterations: int = 2000,
    random_state: int = 0,
) -> Certificate:
    """Bracket the l2 → l2 Lipschitz constant of ``network``: a proved upper bound and a proved lower one.

    The multipliers are searched in floating point; the bound that is returned is the smallest that the checker
    (:mod:`certnet.certify.verify`) proves from them.

    Parameters
    ----------
    network : ShallowNetwork
    X : array_like, shape (N, d), optional
        Inputs at which gradients are taken for the lower bound, in the network's units.
    solver : {"auto", "CLARABEL", "SCS", "MOSEK"}
        "auto" is certnet's own search; the others solve LipSDP through CVXPY.
    form : {"arrow", "dense"}
        The LMI that a CVXPY solver is given (:mod:`certnet.certify.reference`).
    tol : float
        Relative gap of ρ at which the search stops.
    max_iterations : int
        Limit of the search.
    random_state : int
        Seed of the search and of the lower bound.

    Returns
    -------
    Certificate

    Raises
    ------
    CertificateError
        No bound could be proved: the weights span too many orders of magnitude.
    SolverUnavailableError, SolverError
        A named solver cannot be used, or gave nothing.

    Warns
    -----
    NotConvergedWarning
        The gap is above ``tol``; the bound is proved all the same.
    """
    start = time.perf_counter()
    tol = positive_number(tol, "tol")
    found = _find(network, solver, form, tol, max_iterations, random_state)
    if not found.status.ok:
        warnings.warn(
            f"the certificate holds, but {found.status.advice} (gap {found.gap:.1e})", NotConvergedWarning, stacklevel=2
        )
    checker = BoundChecker(network, found.multipliers)
    upper = checker.smallest(found.upper)
    if upper is None:
        raise CertificateError(
            f"no bound near {found.upper:.6g} could be proved ({checker.refusal or 'rounding errors are too large'}): "
            "rescale the units, (w_j, b_j) / κ and V_:j κ, so that their weights have similar magnitudes"
        )
    below = lower_bound(network, X, random_state=random_state)
    return Certificate(
        upper=upper,
        lower=below.value,
        multipliers=found.multipliers,
        witness=below.point,
        gap=max(found.gap, 0.0),
        units=network.units,
        digest=network.digest,
        shape=(network.n_inputs, network.n_hidden, network.n_outputs),
        method="own search" if solver == "auto" else f"{solver.upper()} {form}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=time.perf_counter() - start,
        versions={
            "certnet": __version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "python": platform.python_version(),
        },
    )


def _find(
    network: ShallowNetwork, solver: str, form: str, tol: float, max_iterations: int, random_state: int
) -> SearchResult:
    if solver == "auto":
        return search_multipliers(network, tol=tol, max_iterations=max_iterations, random_state=random_state)
    from certnet.certify.reference import solve_lipsdp  # CVXPY is imported by those who ask for it

    return solve_lipsdp(network, solver=solver, form=form, tol=min(tol, 1e-8))
