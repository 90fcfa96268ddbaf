"""Lipschitz bounds as proofs: search, verification, and the certificate that carries them."""

from __future__ import annotations

import math
import platform
import time
import warnings
from datetime import UTC, datetime

import numpy as np
import scipy
from numpy.typing import ArrayLike

from certnet._version import __version__
from certnet.certify.bounds import cheap_upper_bounds
from certnet.certify.certificate import Certificate, square_above
from certnet.certify.lower import lower_bound
from certnet.certify.search import FORMS, SearchResult, search_multipliers
from certnet.certify.verify import BoundChecker, Verdict, verify_bound
from certnet.errors import CertificateError, InvalidInputError, NotConvergedWarning
from certnet.network import ShallowNetwork, require_shallow
from certnet.validation import positive_number, whole_number

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
    InvalidInputError
        An option is unknown or out of range, or X does not fit.
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
    network = require_shallow(network)
    tol = positive_number(tol, "tol")
    max_iterations = whole_number(max_iterations, "max_iterations", least=1)
    random_state = whole_number(random_state, "random_state")
    if form not in FORMS:
        raise InvalidInputError(f"form must be one of {', '.join(map(repr, FORMS))}, got {form!r}")
    found = _find(network, solver, form, tol, max_iterations, random_state)
    checker = BoundChecker(network, found.multipliers)
    upper = checker.smallest(found.upper)
    if upper is None or square_above(upper) == math.inf:
        raise CertificateError(
            f"no bound near {found.upper:.6g} could be proved ({checker.refusal or 'the numbers are too large'}): "
            "rescale inputs or outputs, or the units, (w_j, b_j) / κ and V_:j κ, to weights of similar magnitudes"
        )
    gap = max(found.gap_of(upper), 0.0)
    reason = found.status.advice
    if found.status.ok and gap > 2.0 * tol + 1e-6:
        reason = "the weights of some units span too many orders of magnitude and were charged by their norms"
    if not found.status.ok or gap > 2.0 * tol + 1e-6:
        warnings.warn(f"the certificate holds, but {reason} (gap {gap:.1e})", NotConvergedWarning, stacklevel=2)
    below = lower_bound(network, X, random_state=random_state)
    return Certificate(
        upper=upper,
        lower=below.value,
        multipliers=found.multipliers,
        witness=below.point,
        gap=gap,
        units=network.units,
        digest=network.digest,
        shape=(network.n_inputs, network.n_hidden, network.n_outputs),
        method="own search" if solver == "auto" else f"{str(solver).upper()} {form}",
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
