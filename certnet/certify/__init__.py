"""Lipschitz bounds as proofs: search, verification, and the certificate that carries them."""

from __future__ import annotations

import math
import platform
import time
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import scipy
from numpy.typing import ArrayLike

from certnet._version import __version__
from certnet.certify.bounds import cheap_upper_bounds
from certnet.certify.certificate import Certificate, digests, square_above
from certnet.certify.deep import product_norms, search_deep, solve_deep
from certnet.certify.lower import lower_bound
from certnet.certify.search import FORMS, search_multipliers
from certnet.certify.verify import BoundChecker, Verdict, verify_bound
from certnet.certify.verify_deep import DeepChecker, ProductChecker, slopes_in_ball, smallest_bound
from certnet.errors import CertificateError, InvalidInputError, NotConvergedWarning, SolverError
from certnet.feedforward import FeedForward
from certnet.network import ShallowNetwork
from certnet.validation import Float, finite_array, positive_number, whole_number

__all__ = ["Certificate", "Verdict", "certify", "cheap_upper_bounds", "verify_bound"]


METHODS = ("auto", "shallow", "neuron", "layer", "product")
_NEURON_ORDER = 600  # inputs and hidden units up to which LipSDP takes seconds


def certify(
    network: ShallowNetwork | FeedForward,
    *,
    X: ArrayLike | None = None,
    around: ArrayLike | None = None,
    radius: float | None = None,
    method: str = "auto",
    solver: str = "auto",
    form: str = "arrow",
    tol: float = 1e-6,
    max_iterations: int = 2000,
    random_state: int = 0,
) -> Certificate:
    """Bracket the l2 → l2 Lipschitz constant of ``network``: a proved upper bound and a proved lower one.

    The multipliers are searched in floating point; the bound that is returned is the smallest that the checker
    (:mod:`certnet.certify.verify`, :mod:`certnet.certify.verify_deep`) proves from them.

    Parameters
    ----------
    network : ShallowNetwork or FeedForward
        Activations of known slopes.
    X : array_like, shape (N, d), optional
        Inputs at which gradients are taken for the lower bound, in the network's units.
    around, radius : array_like of shape (d,) and float, optional
        Claim about the ball ``‖x − around‖₂ ≤ radius`` only: units that cannot leave one piece of their activation
        there have a known slope. Never above the bound for all inputs. One hidden layer, certnet's own search.
    method : {"auto", "shallow", "neuron", "layer", "product"}
        What to prove with: "shallow" for one hidden layer; for any depth LipSDP with one multiplier per neuron or per
        layer, or the product of spectral norms. "auto" is "shallow" for one hidden layer, else "neuron" up to 600
        inputs and hidden units (seconds); beyond, or where that fails, "product". The certificate says which it was
        (``kind``).
    solver : {"auto", "CLARABEL", "SCS", "MOSEK"}
        "auto" is certnet's own search; a name solves LipSDP through CVXPY, the second implementation.
    form : {"arrow", "dense"}
        The LMI that a named solver is given for one hidden layer (:mod:`certnet.certify.reference`).
    tol : float
        Relative gap of ρ at which the search stops; the tolerance of a named solver.
    max_iterations : int
        Limit of certnet's own search.
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
    network = require_network(network)
    tol = positive_number(tol, "tol")
    max_iterations = whole_number(max_iterations, "max_iterations", least=1)
    random_state = whole_number(random_state, "random_state")
    for name, value, known in (("form", form, FORMS), ("method", method, METHODS)):
        if value not in known:
            raise InvalidInputError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
    deep = FeedForward.of(network)
    kind = _kind(deep, method)
    ball = _ball(deep, kind, solver, around, radius)
    if kind == "shallow":
        proof = _prove_shallow(deep, ball, solver, form, tol, max_iterations, random_state)
    else:
        try:
            proof = _prove_deep(deep, kind, solver, tol, max_iterations)
        except (CertificateError, SolverError):
            if method != "auto" or solver != "auto":
                raise
            # weights that LipSDP's floating-point search cannot cope with still have spectral norms
            kind = "product"
            proof = _prove_deep(deep, kind, solver, tol, max_iterations)
    if proof.concern:
        warnings.warn(f"the certificate holds, but {proof.concern}", NotConvergedWarning, stacklevel=2)
    below = lower_bound(network, X, ball=ball, random_state=random_state)
    return Certificate(
        upper=proof.upper,
        lower=below.value,
        multipliers=proof.multipliers,
        witness=below.point,
        gap=proof.gap,
        units=network.units,
        digest=digests(network)[-1],
        shape=deep.widths,
        method=proof.method,
        kind=kind,
        slopes=tuple(phi.slopes for phi in deep.activations),
        around=ball[0] if ball else None,
        radius=ball[1] if ball else None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=time.perf_counter() - start,
        versions={
            "certnet": __version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "python": platform.python_version(),
        },
    )


@dataclass(frozen=True, eq=False)
class _Proof:
    """A verified bound with what proves it, the gap of the search, and what a user should know of it."""

    upper: float
    multipliers: Float | tuple[Float, ...]
    gap: float
    method: str
    concern: str = ""


def require_network(network: object) -> ShallowNetwork | FeedForward:
    """``network``, if it is one; otherwise an InvalidInputError that says how to get one."""
    if isinstance(network, ShallowNetwork | FeedForward):
        return network
    raise InvalidInputError(
        f"a ShallowNetwork or FeedForward is needed, got {type(network).__name__}: convert models with "
        "certnet.from_sklearn, from_torch or load_onnx first"
    )


def _ball(
    network: FeedForward, kind: str, solver: str, around: ArrayLike | None, radius: float | None
) -> tuple[Float, float] | None:
    if around is None and radius is None:
        return None
    if around is None or radius is None:
        raise InvalidInputError("a bound in a ball needs both around and radius")
    if kind != "shallow" or solver != "auto":
        raise InvalidInputError('a bound in a ball is for one hidden layer, with method and solver "auto"')
    centre = finite_array(around, "around", ndim=(1,))
    if centre.shape != (network.n_inputs,):
        raise InvalidInputError(f"around has shape {centre.shape}, the network has {network.n_inputs} inputs")
    return centre, positive_number(radius, "radius", zero=True)


def _kind(network: FeedForward, method: str) -> str:
    if method == "shallow" and network.depth != 1:
        raise InvalidInputError(f'method="shallow" is for one hidden layer, the network has {network.depth}')
    if method != "auto":
        return method
    if network.depth == 1:
        return "shallow"
    order = network.n_inputs + network.n_hidden
    return "neuron" if order <= _NEURON_ORDER else "product"


def _prove_shallow(
    network: FeedForward,
    ball: tuple[Float, float] | None,
    solver: str,
    form: str,
    tol: float,
    max_iterations: int,
    random_state: int,
) -> _Proof:
    layer = ShallowNetwork(network.weights[0], network.biases[0], network.weights[1], network.biases[1])
    slopes = network.activations[0].slopes
    low, high = (np.full(layer.n_hidden, slope) for slope in slopes)
    if ball:
        low, high = slopes_in_ball(network, *ball)
    if solver == "auto":
        found = search_multipliers(
            layer, low=low, high=high, tol=tol, max_iterations=max_iterations, random_state=random_state
        )
    else:
        from certnet.certify.reference import solve_lipsdp  # CVXPY is imported by those who ask for it

        if slopes != (0.0, 1.0):
            raise InvalidInputError(
                f"a named solver takes ReLU here, the activation is {network.activations[0]}: "
                'use solver="auto", or method="neuron"'
            )
        found = solve_lipsdp(layer, solver=solver, form=form, tol=min(tol, 1e-8))
    checker = BoundChecker(layer, found.multipliers, low=low, high=high)
    upper = checker.smallest(found.upper)
    if upper is None or square_above(upper) == math.inf:
        raise _unproved(found.upper, checker.refusal)
    gap = max(found.gap_of(upper), 0.0)
    concern = ""
    if not found.status.ok:
        concern = f"{found.status.advice} (gap {gap:.1e})"
    elif gap > 2.0 * tol + 1e-6:
        concern = (
            "the weights of some units span too many orders of magnitude and were charged by their norms "
            f"(gap {gap:.1e})"
        )
    method = "own search" if solver == "auto" else f"{str(solver).upper()} {form}"
    return _Proof(upper, found.multipliers, gap, method, concern)


def _prove_deep(network: FeedForward, kind: str, solver: str, tol: float, max_iterations: int) -> _Proof:
    if kind == "product":
        if solver != "auto":
            raise InvalidInputError('method="product" needs no solver: leave solver="auto"')
        norms = product_norms(network)
        product = ProductChecker(network, norms)
        if product.refusal is not None or square_above(product.product) == math.inf:
            raise _unproved(float("inf"), product.refusal)
        return _Proof(product.product, norms, math.inf, "product of spectral norms")
    if solver == "auto":
        found = search_deep(network, per=kind, tol=tol, max_iterations=max_iterations)
    else:
        found = solve_deep(network, per=kind, solver=solver, tol=min(tol, 1e-8))
    # a solver's T may miss the cone by its tolerance, where no ρ helps: each layer is then given more than the next
    for slack in (0.0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5):
        T = tuple(t * (1.0 + slack) ** (network.depth - k) for k, t in enumerate(found.multipliers))
        checker = DeepChecker(network, T)
        upper = smallest_bound(checker, found.upper)
        if upper is not None and upper <= found.upper * (1.0 + 1e-4):
            break
    if upper is None:
        raise _unproved(found.upper, checker.refusal)
    gap = (1.0 + found.gap) * (upper / found.upper) ** 2 - 1.0
    concern = "" if found.status.ok else f"{found.status.advice} (gap {gap:.1e})"
    method = "own search" if solver == "auto" else f"{str(solver).upper()} LipSDP per {kind}"
    return _Proof(upper, T, gap, method, concern)


def _unproved(guess: float, refusal: str | None) -> CertificateError:
    return CertificateError(
        f"no bound near {guess:.6g} could be proved ({refusal or 'the numbers are too large'}): "
        "rescale inputs or outputs, or the units, (w_j, b_j) / κ and V_:j κ, to weights of similar magnitudes"
    )
