"""Lipschitz bounds as proofs: search, verification, and the certificate that carries them."""

from __future__ import annotations

import functools
import platform
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike

from certnet._version import __version__
from certnet.certification.proving import Options, Proof, pick_kind, prove
from certnet.claims.cards import meaning
from certnet.claims.certificate import Certificate, digests
from certnet.claims.claim import NORMS, Claim
from certnet.core.errors import CertificateError, InvalidInputError, NotConvergedWarning, SolverError
from certnet.core.validation import Float, finite_array, positive_number, whole_number
from certnet.networks.feedforward import FeedForward, require_network
from certnet.networks.shallow import ShallowNetwork
from certnet.proofs.selection import parse_output
from certnet.proofs.shallow import Verdict, verify_bound
from certnet.searches.branch import close_bracket
from certnet.searches.closed_form import cheap_upper_bounds
from certnet.searches.lower import LowerBound, lower_bound
from certnet.searches.shallow import FORMS
from certnet.searches.sup_norm import lower_bound_sup

__all__ = ["Certificate", "Verdict", "certify", "certify_outputs", "cheap_upper_bounds", "meaning", "verify_bound"]


METHODS = ("auto", "shallow", "neuron", "layer", "composition", "product")
_NEURON_ORDER = 600  # inputs and hidden units up to which LipSDP takes seconds


def certify(
    network: ShallowNetwork | FeedForward,
    *,
    X: ArrayLike | None = None,
    norm: str = "l2",
    output: int | tuple[int, int] | None = None,
    around: ArrayLike | None = None,
    radius: float | None = None,
    exact: bool = False,
    time_limit: float = 60.0,
    method: str = "auto",
    solver: str = "auto",
    form: str = "arrow",
    tol: float = 1e-6,
    max_iterations: int = 2000,
    random_state: int = 0,
) -> Certificate:
    """Bracket the Lipschitz constant of ``network``: a proved upper bound and a proved lower one.

    The multipliers are searched in floating point; the bound that is returned is the smallest that the checker
    (:mod:`certnet.claims.claim` and the ``verify`` modules) proves from them.

    Parameters
    ----------
    network : ShallowNetwork or FeedForward
        Activations of known slopes.
    X : array_like, shape (N, d), optional
        Inputs at which gradients are taken for the lower bound, in the network's units.
    norm : {"l2", "linf"}
        Norm of the inputs. "linf" is for one hidden layer and one output.
    output : int or pair of int, optional
        Claim about the output i, or about the difference ``f_i − f_j`` for a pair (i, j), instead of all outputs.
    around, radius : array_like of shape (d,) and float, optional
        Claim about the ball ``‖x − around‖ ≤ radius`` only: units that cannot leave one piece of their activation
        there have a known slope. Never above the bound for all inputs. One hidden layer, certnet's own search.
    exact : bool
        Go on with branch and bound over activation patterns until the bracket is closed to ``tol`` or the time is up;
        the best bracket is kept. One hidden layer of ReLU or leaky ReLU, "l2".
    time_limit : float
        Seconds for ``exact``.
    method : {"auto", "shallow", "neuron", "layer", "composition", "product"}
        What to prove with: "shallow" for one hidden layer; for any depth LipSDP with one multiplier per neuron or per
        layer, the best chain of bounds of layers and pairs of layers, or the product of spectral norms. "auto" is
        "shallow" for one hidden layer, else "neuron" up to 600 inputs and hidden units (seconds); beyond, or where that
        fails, "composition". The certificate says which it was (``kind``).
    solver : {"auto", "CLARABEL", "SCS", "MOSEK"}
        "auto" is certnet's own search; a name solves LipSDP through CVXPY, the second implementation.
    form : {"arrow", "dense"}
        The LMI that a named solver is given for one hidden layer (:mod:`certnet.searches.reference_`).
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
        An option is unknown or out of range, does not fit the network, or X does not.
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
    time_limit = positive_number(time_limit, "time_limit")
    max_iterations = whole_number(max_iterations, "max_iterations", least=1)
    random_state = whole_number(random_state, "random_state")
    for name, value, known in (("form", form, FORMS), ("method", method, METHODS), ("norm", norm, NORMS)):
        if value not in known:
            raise InvalidInputError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
    deep = FeedForward.of(network)
    claim = Claim(deep, norm, parse_output(output, deep.n_outputs), *_ball(deep, around, radius))
    refusal = claim.refusal()
    if refusal is not None:
        raise InvalidInputError(refusal)
    kind = pick_kind(claim, method, solver, _NEURON_ORDER)
    options = Options(solver, form, tol, max_iterations, random_state)
    proof = _prove(claim, kind, options, strict=method != "auto" or solver != "auto")
    below = _lower_bound(claim, X, random_state)
    if exact:
        proof, below = _closed(claim, proof, below, tol, time_limit, random_state)
    if proof.concern:
        warnings.warn(f"the certificate holds, but {proof.concern}", NotConvergedWarning, stacklevel=2)
    return Certificate(
        upper=claim.raised(proof.upper, proof.kind),
        lower=claim.slope_at(below.point) if claim.charge() > 0.0 else below.value,
        multipliers=proof.multipliers,
        witness=below.point,
        gap=proof.gap,
        units=network.units,
        digest=digests(network)[-1],
        shape=deep.widths,
        method=proof.method,
        kind=proof.kind,
        norm=norm,
        output=claim.output,
        slopes=tuple(phi.slopes for phi in deep.activations),
        around=claim.around,
        radius=claim.radius,
        cheaper=cheap_upper_bounds(claim.chosen, norm),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=time.perf_counter() - start,
        versions=_versions(),
    )


def certify_outputs(
    network: ShallowNetwork | FeedForward, *, differences: bool = False, **options: Any
) -> dict[tuple[int, ...], Certificate]:
    """A certificate of each output, or of each difference of two outputs: what a classifier's margins need.

    If ``f_i(x) − f_j(x) = m`` is the smallest margin of the class i over the others, relative to their bounds L_ij,
    no perturbation of norm below ``min_j m_j / L_ij`` changes the class.

    Parameters
    ----------
    network : ShallowNetwork or FeedForward
    differences : bool
        Differences ``f_i − f_j`` for i < j instead of the outputs themselves; that of ``f_j − f_i`` is the same.
    **options
        Of :func:`certify`, except ``output``.

    Returns
    -------
    dict
        From ``(i,)`` or ``(i, j)`` to the certificate.

    Raises
    ------
    InvalidInputError
        Differences of a network with one output; whatever :func:`certify` refuses.
    """
    return dict(_each_output(network, differences, options))


def _each_output(
    network: ShallowNetwork | FeedForward, differences: bool, options: dict[str, Any]
) -> Iterator[tuple[tuple[int, ...], Certificate]]:
    if "output" in options:
        raise InvalidInputError("certify_outputs goes through the outputs itself: use certify(output=…) for one")
    n = require_network(network).n_outputs
    if differences and n == 1:
        raise InvalidInputError("the network has one output: there are no differences of outputs")
    for chosen in combinations(range(n), 2 if differences else 1):
        yield chosen, certify(network, output=chosen, **options)  # type: ignore[arg-type]


def _ball(
    network: FeedForward, around: ArrayLike | None, radius: float | None
) -> tuple[Float, float] | tuple[None, None]:
    if around is None and radius is None:
        return None, None
    if around is None or radius is None:
        raise InvalidInputError("a bound in a ball needs both around and radius")
    centre = finite_array(around, "around", ndim=(1,))
    if centre.shape != (network.n_inputs,):
        raise InvalidInputError(f"around has shape {centre.shape}, the network has {network.n_inputs} inputs")
    return centre, positive_number(radius, "radius", zero=True)


def _prove(claim: Claim, kind: str, options: Options, *, strict: bool) -> Proof:
    try:
        return prove(claim, kind, options)
    except (CertificateError, SolverError):
        if strict or kind == "shallow":
            raise
    # weights that LipSDP's floating-point search cannot cope with still have spectral norms
    try:
        return prove(claim, "composition", options)
    except CertificateError:
        return prove(claim, "product", options)


def _lower_bound(claim: Claim, X: ArrayLike | None, random_state: int) -> LowerBound:
    ball = None if claim.around is None or claim.radius is None else (claim.around, claim.radius)
    if claim.norm == "linf":
        return lower_bound_sup(claim.chosen, X, ball=ball, random_state=random_state)
    relu = claim.network.depth == 1 and claim.network.activations[0].name == "relu"
    return lower_bound(claim.layer if relu else claim.chosen, X, ball=ball, random_state=random_state)


def _closed(
    claim: Claim, proof: Proof, below: LowerBound, tol: float, time_limit: float, random_state: int
) -> tuple[Proof, LowerBound]:
    """The bracket after branch and bound."""
    if proof.kind != "shallow" or claim.norm != "l2" or not claim.one_kink_at_zero:
        raise InvalidInputError("exact=True is for one hidden layer of ReLU or leaky ReLU, in the l2 norm")
    low, high = claim.side_slopes()
    found = close_bracket(
        claim.layer,
        low=low,
        high=high,
        lower=below.value,
        witness=below.point,
        prove=claim.chosen_slope_at,
        tol=tol,
        time_limit=time_limit,
        random_state=random_state,
    )
    if found.upper >= proof.upper:
        return replace(proof, concern=""), below
    gap = (found.upper / found.lower) ** 2 - 1.0 if found.lower > 0.0 else float("inf")
    concern = ""
    if not found.closed:
        concern = f"branch and bound did not close the bracket in its time and nodes (gap {gap:.1e})"
        if claim.around is not None:
            concern = f"the bracket in the ball is not closed: cells are cut off for all inputs only (gap {gap:.1e})"
    tree = Proof(found.upper, "tree", tuple(found.tree), gap, f"branch and bound, {found.n_nodes} nodes", concern)
    return tree, LowerBound(found.lower, found.witness)


@functools.cache
def _versions() -> dict[str, str]:
    return {
        "certnet": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }
