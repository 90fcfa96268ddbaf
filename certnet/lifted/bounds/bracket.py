"""From a lifted network to its certificate: the bound of every method, the least one proved, and a slope below it."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Iterator
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
from certnet.core.validation import Float, as_inputs, one_of, positive_number, whole_number
from certnet.lifted.bounds.steep import Steep, steep_slope
from certnet.networks.energy import LiftedEnergy
from certnet.proofs.lifted_energy import selector
from certnet.proofs.lifted_layers import LayerChecker, LayerwiseProof, TheoremProof, rows_alone
from certnet.proofs.lifted_matrix import MatrixChecker, MatrixProof
from certnet.proofs.proof import LiftedProof
from certnet.searches.lifted_barrier import search_lifted
from certnet.searches.lifted_layers import layer_multipliers, singular_ranges, theorem_ranges
from certnet.searches.lifted_pairs import search_pairs
from certnet.searches.lifted_program import LiftedProgram, program_without_free_units
from certnet.searches.result import SearchResult

__all__ = ["METHODS", "lipschitz_bound", "lipschitz_bounds"]

METHODS: Final = ("sdp", "layerwise", "theorem")
"""From the tightest bound to the simplest."""
_ALMOST_ZERO = 2.0**-150  # what is asked of the checker where the search ends at 0, which it cannot prove
_SLACKS = (1e-9, 1e-8, 1e-7, 1e-6)  # of ρ, spent on making the block of the eliminated units definite
_PAIRS_TOL = 1e-3  # gap of ρ of the pairs: L to 5e-4
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
    one_of(method, "method", METHODS)
    chosen = _chosen(net, output)
    points = None if X is None else as_inputs(X, net.n_inputs)
    proofs = _proofs(net, chosen, method, tol, max_iterations)
    steep = steep_slope(net, chosen, points, random_state=random_state) if lower else None
    return _certificate(net, chosen, proofs, steep, start)


def _certificate(
    net: LiftedEnergy, chosen: Output, proofs: list[_Proved], steep: Steep | None, start: float
) -> Certificate:
    """The least bound that is proved, with the slope below it; ``start`` is when the work on it began."""
    best = min(proofs, key=lambda proof: proof.upper)
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
    net: LiftedEnergy,
    method: str = "sdp",
    *,
    differences: bool = False,
    lower: bool = True,
    X: ArrayLike | None = None,
    tol: float | None = None,
    max_iterations: int = 300,
    random_state: int = 0,
    output: None = None,
) -> dict[tuple[int, ...], Certificate]:
    """A certificate of each output, or of each difference ``z_i − z_j``, i < j: what a classifier's margins need.

    Parameters
    ----------
    net : LiftedEnergy
    method, lower, X, max_iterations, random_state
        As in :func:`lipschitz_bound`.
    differences : bool
        Of "sdp", all pairs are one search: each starts inside of the inequality of the first.
    tol : float, optional
        Relative gap of the squared bounds at which a search stops: 1e-3 for differences, whose bounds are then at most
        5e-4 above the least of their kind, and 1e-6 for outputs.
    output : None
        Every one is asked for; a word for those who look for it here.

    Raises
    ------
    InvalidInputError
        Differences of a network with one output; whatever :func:`lipschitz_bound` refuses.
    """
    if output is not None:
        raise InvalidInputError(
            "lipschitz_bounds goes through the outputs itself: use lipschitz_bound(output=…) for one"
        )
    options: dict[str, Any] = {"X": X, "max_iterations": max_iterations, "random_state": random_state, "lower": lower}
    options["tol"] = (_PAIRS_TOL if differences else 1e-6) if tol is None else tol
    if differences and method == "sdp" and net.n_outputs > 2:
        return _differences(net, **options)
    return each_output(
        net.n_outputs, differences, lambda output: lipschitz_bound(net, method, output=output, **options)
    )


def _differences(
    net: LiftedEnergy, X: ArrayLike | None, max_iterations: int, random_state: int, tol: float, *, lower: bool
) -> dict[tuple[int, ...], Certificate]:
    """The certificates of all pairs by one search; what they share, such as the layers' ranges, is made once."""
    tol, max_iterations = positive_number(tol, "tol"), whole_number(max_iterations, "max_iterations", least=1)
    random_state = whole_number(random_state, "random_state")
    points = None if X is None else as_inputs(X, net.n_inputs)
    pairs = list(itertools.combinations(range(net.n_outputs), 2))
    ranges = singular_ranges(net)
    searched = _searched_pairs(net, pairs, ranges, tol, max_iterations)
    certificates: dict[tuple[int, ...], Certificate] = {}
    for pair in pairs:
        start = time.perf_counter()
        limits = (*ranges[:-1], np.zeros(0)) if rows_alone(net, pair) else ranges
        theorem = tuple(np.zeros(0) if beta > 0.0 else limit for beta, limit in zip(net.beta, limits))
        proofs = [_by_layers(net, pair, "layerwise", limits), _by_layers(net, pair, "theorem", theorem)]
        found = next(searched, None)
        proved = None if found is None or proofs[0].upper == 0.0 else _proved_by_matrix(net, *found, pair)
        if proved is not None:
            proofs.insert(0, proved)
        _require_proved(proofs)
        steep = steep_slope(net, pair, points, random_state=random_state) if lower else None
        certificates[pair] = _certificate(net, pair, proofs, steep, start)
    return certificates


def _searched_pairs(
    net: LiftedEnergy, pairs: list[tuple[int, int]], ranges: tuple[Float, ...], tol: float, max_iterations: int
) -> Iterator[tuple[LiftedProgram, SearchResult[Float]]]:
    """The programs of the pairs with their multipliers, as far as there are any."""
    with np.errstate(all="ignore"):  # what is not finite proves nothing
        try:
            first = program_without_free_units(net, pairs[0])
            t, rho = layer_multipliers(net, ranges, slack=_START_SLACK)
        except (np.linalg.LinAlgError, ValueError):
            return
    programs = [first.of_outputs(selector(net, pair)) for pair in pairs]
    t = 2.0 * t[first.bounded]  # ‖e_i − e_j‖² = 2
    found: Iterator[SearchResult[Float]]
    if len(t) == 0:  # every unit that moves has no limits: nothing is left to search for
        uppers = (float(np.sqrt(program.rho(t))) for program in programs)
        found = (SearchResult(t, upper, upper, Status.OPTIMAL) for upper in uppers)
    else:
        found = search_pairs(programs, t, 2.0 * rho, tol=tol, max_iterations=max_iterations)
    yield from zip(programs, found)


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
    _require_proved(proofs)
    return proofs


def _require_proved(proofs: list[_Proved]) -> None:
    if not any(np.isfinite(proof.upper) for proof in proofs):
        raise CertificateError("no bound could be proved: the weights are too large; rescale inputs or outputs")


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
    except (np.linalg.LinAlgError, ValueError):
        return None
    return _proved_by_matrix(net, program, found, output)


def _proved_by_matrix(
    net: LiftedEnergy, program: LiftedProgram, found: SearchResult[Float], output: Output
) -> _Proved | None:
    """The proof that a search leads to, if the checker takes it."""
    try:
        with np.errstate(all="ignore"):
            columns, upper = _verified(net, program, found, output)
    except (np.linalg.LinAlgError, ValueError):
        return None
    if upper is None:
        return None
    if found.status is not Status.OPTIMAL:
        warnings.warn(
            f"the bound holds, but the search for multipliers ended early: {found.status.advice}",
            NotConvergedWarning,
            stacklevel=5,
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
