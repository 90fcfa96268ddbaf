"""From a lifted network to its certificate: the bound of every method, the least one proved, and a slope below it."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.certification.provenance import each_output, made_since
from certnet.claims.certificate import Certificate
from certnet.claims.claim import Output, output_refusal
from certnet.claims.families import LIFTED, identity
from certnet.core.errors import CertificateError, InvalidInputError, NotConvergedWarning
from certnet.core.outcome import Status
from certnet.core.validation import Float, as_inputs, positive_number, whole_number
from certnet.lifted.bounds.steep import steep_slope
from certnet.networks.energy import LiftedEnergy
from certnet.proofs.lifted_layers import LayerChecker, LayerwiseProof, TheoremProof
from certnet.proofs.lifted_matrix import MatrixChecker, MatrixProof
from certnet.proofs.proof import LiftedProof
from certnet.searches.lifted_barrier import search_lifted
from certnet.searches.lifted_layers import layer_multipliers, singular_ranges, theorem_ranges
from certnet.searches.lifted_program import LiftedProgram, program_without_free_units
from certnet.searches.result import SearchResult

__all__ = ["METHODS", "lipschitz_bound", "lipschitz_bounds"]

METHODS: Final = ("sdp", "layerwise", "theorem")
"""From the tightest bound to the simplest."""
_ALMOST_ZERO = 2.0**-150  # what is asked of the checker where the search ends at 0, which it cannot prove
_SLACKS = (1e-9, 1e-8, 1e-7, 1e-6)  # of ρ, spent on making the block of the eliminated units definite
_START_SLACK = 0.2  # how far inside of the inequality the search starts


@dataclass(frozen=True, eq=False)
class _Proved:
    """A verified bound with its proof."""

    upper: float
    kind: str
    proof: LiftedProof
    method: str
    gap: float = float("inf")


def lipschitz_bound(
    net: LiftedEnergy,
    method: str = "sdp",
    *,
    output: int | tuple[int, int] | None = None,
    X: ArrayLike | None = None,
    lower: bool = True,
    tol: float = 1e-6,
    max_iterations: int = 300,
    random_state: int = 0,
) -> Certificate:
    r"""Bracket the Lipschitz constant of ``x ↦ z_L*(x)``: an upper bound and a slope below it, both proved.

    "theorem"   ``Π_k ρ_k``, ``ρ_k = (β_k^½ + β_k^−½) / 2``, or ``‖W_k‖₂`` where β_k = 0  (H, Theorem 1)
    "layerwise" ``Π_k max f_βk(r)`` over the singular values' range, ``f_β(r) = (1 + β) r / (1 + β r²)``; never more
    "sdp"       the whole network's matrix inequality, one multiplier per unit; never more than "layerwise"

    The least bound that is proved by the method that is asked for, or by a simpler one, is returned; ``kind`` says
    by which.

    Parameters
    ----------
    net : LiftedEnergy
    method : {"sdp", "layerwise", "theorem"}
    output : int or pair of int, optional
        Claim about the output i, or about ``z_i − z_j`` for a pair (i, j), instead of all outputs.
    X : array_like, shape (N, d), optional
        Inputs from which steep slopes are searched, beside random ones.
    lower : bool
        Whether to search for a slope; otherwise ``lower`` of the certificate is 0.
    tol : float
        Relative gap of the squared bound at which the search for multipliers stops.
    max_iterations : int
        Limit on its Newton steps.
    random_state : int
        Seed of the search for slopes.

    Raises
    ------
    InvalidInputError
        Unknown method, an output that the network has not, X that does not fit.
    CertificateError
        No bound could be proved: the weights overflow.

    Warns
    -----
    NotConvergedWarning
        The gap is above ``tol``; the bound is proved all the same.
    """
    start = time.perf_counter()
    tol = positive_number(tol, "tol")
    max_iterations = whole_number(max_iterations, "max_iterations", least=1)
    random_state = whole_number(random_state, "random_state")
    if method not in METHODS:
        raise InvalidInputError(f"method must be one of {', '.join(map(repr, METHODS))}, got {method!r}")
    chosen = _chosen(net, output)
    points = None if X is None else as_inputs(X, net.n_inputs)
    proofs = _proofs(net, chosen, method, tol, max_iterations)
    best = min(proofs, key=lambda proof: proof.upper)
    steep = steep_slope(net, chosen, points, random_state=random_state) if lower else None
    known = identity(net)
    return Certificate(
        upper=best.upper,
        lower=0.0 if steep is None else steep.value,
        multipliers=best.proof.multipliers,
        witness=np.zeros(net.n_inputs) if steep is None else steep.x,
        gap=best.gap,
        units=known.units,
        digest=known.digest,
        shape=known.shape,
        method=best.method,
        kind=best.kind,
        output=chosen,
        slopes=known.slopes,
        cheaper={proved.kind: proved.upper for proved in proofs if proved is not best and np.isfinite(proved.upper)},
        activations=np.zeros(net.n_units) if steep is None else steep.z,
        family=LIFTED.name,
        **made_since(start),
    )


def lipschitz_bounds(
    net: LiftedEnergy, method: str = "sdp", *, differences: bool = False, **options: Any
) -> dict[tuple[int, ...], Certificate]:
    """A certificate of each output, or of each difference ``z_i − z_j``, i < j: what a classifier's margins need.

    Raises
    ------
    InvalidInputError
        Differences of a network with one output; whatever :func:`lipschitz_bound` refuses.
    """
    if "output" in options:
        raise InvalidInputError(
            "lipschitz_bounds goes through the outputs itself: use lipschitz_bound(output=…) for one"
        )
    return each_output(
        net.n_outputs, differences, lambda output: lipschitz_bound(net, method, output=output, **options)
    )


def _chosen(net: LiftedEnergy, output: object) -> Output:
    if output is None:
        return None
    given = output if isinstance(output, tuple) else (output,)
    if not all(isinstance(i, int | np.integer) and not isinstance(i, bool) for i in given):
        raise InvalidInputError(f"output must be an index, a pair of them, or None, got {output!r}")
    chosen = tuple(int(i) for i in given)
    refusal = output_refusal(chosen, net.n_outputs)
    if refusal is not None:
        raise InvalidInputError(refusal)
    return chosen


def _proofs(net: LiftedEnergy, output: Output, method: str, tol: float, max_iterations: int) -> list[_Proved]:
    """Proofs by the method and the simpler ones."""
    proofs = [_by_layers(net, output, "theorem", theorem_ranges(net, output))]
    if method != "theorem":
        proofs.insert(0, _by_layers(net, output, "layerwise", singular_ranges(net, output)))
    if method == "sdp" and proofs[0].upper > 0.0:
        found = _by_matrix(net, output, tol, max_iterations)
        if found is not None:
            proofs.insert(0, found)
    if not any(np.isfinite(proof.upper) for proof in proofs):
        raise CertificateError("no bound could be proved: the weights are too large; rescale inputs or outputs")
    return proofs


def _by_layers(net: LiftedEnergy, output: Output, kind: str, limits: tuple[Float, ...]) -> _Proved:
    proof = (TheoremProof if kind == "theorem" else LayerwiseProof)(limits)
    product = LayerChecker(net, limits, output, theorem=kind == "theorem").product
    return _Proved(product, kind, proof, "singular values of the layers")


def _by_matrix(net: LiftedEnergy, output: Output, tol: float, max_iterations: int) -> _Proved | None:
    """The proof by the matrix inequality, where there is one."""
    try:
        with np.errstate(all="ignore"):  # what is not finite proves nothing
            program = program_without_free_units(net, output)
            found = _searched(net, program, output, tol, max_iterations)
            columns, upper = _verified(net, program, found, output)
    except (np.linalg.LinAlgError, ValueError):
        return None
    if upper is None:
        return None
    if found.status is not Status.OPTIMAL:
        warnings.warn(
            f"the bound holds, but the search for multipliers ended early: {found.status.advice}",
            NotConvergedWarning,
            stacklevel=4,
        )
    return _Proved(upper, "sdp", MatrixProof(columns), f"path-following Newton, {found.steps} steps", found.gap)


def _verified(
    net: LiftedEnergy, program: LiftedProgram, found: SearchResult[Float], output: Output
) -> tuple[tuple[Float, ...], float | None]:
    """The checker's multipliers with the least slack that its rounding lets pass, and the bound; None if none does."""
    for slack in _SLACKS:
        columns = program.multipliers(found.multipliers, found.upper**2, slack)
        upper = MatrixChecker(net, columns, output).smallest(max(found.upper, _ALMOST_ZERO))
        if upper is not None or len(program.free) == 0:
            break
    return columns, upper


def _searched(
    net: LiftedEnergy, program: LiftedProgram, output: Output, tol: float, max_iterations: int
) -> SearchResult[Float]:
    t, rho = layer_multipliers(net, singular_ranges(net), slack=_START_SLACK)
    if output is not None and len(output) == 2:  # ‖e_i − e_j‖² = 2
        t, rho = 2.0 * t, 2.0 * rho
    t = t[program.bounded]
    if len(t) == 0:  # every unit that moves has no limits: nothing is left to search for
        upper = float(np.sqrt(program.rho(t)))
        return SearchResult(t, upper, upper, Status.OPTIMAL)
    return search_lifted(program, t, rho, tol=tol, max_iterations=max_iterations)
