"""From a lifted network to its certificate: the bound of every method, the least one proved, and a slope below it."""

from __future__ import annotations

import functools
import platform
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from typing import Any, Final

import numpy as np
import scipy
from numpy.typing import ArrayLike

from certnet._version import __version__
from certnet.core.errors import CertificateError, InvalidInputError, NotConvergedWarning
from certnet.core.outcome import Status
from certnet.core.validation import Float, as_inputs, positive_number, whole_number
from certnet.lifted.bounds.certificate import KINDS, LiftedCertificate
from certnet.lifted.bounds.steep import steep_slope
from certnet.networks.energy import LiftedEnergy
from certnet.proofs.lifted_layers import LayerChecker
from certnet.proofs.lifted_matrix import MatrixChecker, Output, output_refusal
from certnet.searches.lifted_barrier import Found, search_multipliers
from certnet.searches.lifted_layers import layer_limits, layer_multipliers, theorem_limits
from certnet.searches.lifted_program import Reduced, reduce_program

__all__ = ["METHODS", "lipschitz_bound", "lipschitz_bounds"]

METHODS: Final = KINDS
_ALMOST_ZERO = 2.0**-150  # what is asked of the checker where the search ends at 0, which it cannot prove
_SLACKS = (1e-9, 1e-8, 1e-7, 1e-6)  # of ρ, spent on making the block of the eliminated units definite
_START_SLACK = 0.2  # how far inside of the inequality the search starts


@dataclass(frozen=True, eq=False)
class _Proof:
    upper: float
    kind: str
    multipliers: tuple[Float, ...]
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
) -> LiftedCertificate:
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
    return LiftedCertificate(
        upper=best.upper,
        lower=0.0 if steep is None else steep.value,
        kind=best.kind,
        multipliers=best.multipliers,
        witness=np.zeros(net.n_inputs) if steep is None else steep.x,
        activations=np.zeros(net.n_units) if steep is None else steep.z,
        digest=net.digest,
        shape=net.widths,
        method=best.method,
        output=chosen,
        gap=best.gap,
        cheaper={proof.kind: proof.upper for proof in proofs if proof is not best and np.isfinite(proof.upper)},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=time.perf_counter() - start,
        versions=_versions(),
    )


def lipschitz_bounds(
    net: LiftedEnergy, method: str = "sdp", *, differences: bool = False, **options: Any
) -> dict[tuple[int, ...], LiftedCertificate]:
    """A certificate of each output, or of each difference ``z_i − z_j``, i < j: what a classifier's margins need.

    Raises
    ------
    InvalidInputError
        Differences of a network with one output; whatever :func:`lipschitz_bound` refuses.
    """
    return dict(_each_output(net, method, differences, options))


def _each_output(
    net: LiftedEnergy, method: str, differences: bool, options: dict[str, Any]
) -> Iterator[tuple[tuple[int, ...], LiftedCertificate]]:
    if "output" in options:
        raise InvalidInputError(
            "lipschitz_bounds goes through the outputs itself: use lipschitz_bound(output=…) for one"
        )
    if differences and net.n_outputs == 1:
        raise InvalidInputError("the network has one output: there are no differences of outputs")
    for chosen in combinations(range(net.n_outputs), 2 if differences else 1):
        asked = chosen[0] if len(chosen) == 1 else (chosen[0], chosen[1])
        yield chosen, lipschitz_bound(net, method, output=asked, **options)


def _chosen(net: LiftedEnergy, output: object) -> Output:
    if output is None:
        return None
    given = output if isinstance(output, tuple) else (output,)
    if not all(isinstance(i, int | np.integer) and not isinstance(i, bool) for i in given):
        raise InvalidInputError(f"output must be an index, a pair of them, or None, got {output!r}")
    chosen = tuple(int(i) for i in given)
    refusal = output_refusal(net, chosen)
    if refusal is not None:
        raise InvalidInputError(refusal)
    return chosen


def _proofs(net: LiftedEnergy, output: Output, method: str, tol: float, max_iterations: int) -> list[_Proof]:
    """Proofs by the method and the simpler ones."""
    proofs = [_by_layers(net, output, "theorem", theorem_limits(net, output))]
    if method != "theorem":
        proofs.insert(0, _by_layers(net, output, "layerwise", layer_limits(net, output)))
    if method == "sdp" and proofs[0].upper > 0.0:
        found = _by_matrix(net, output, tol, max_iterations)
        if found is not None:
            proofs.insert(0, found)
    if not any(np.isfinite(proof.upper) for proof in proofs):
        raise CertificateError("no bound could be proved: the weights are too large; rescale inputs or outputs")
    return proofs


def _by_layers(net: LiftedEnergy, output: Output, kind: str, limits: tuple[Float, ...]) -> _Proof:
    product = LayerChecker(net, limits, output, theorem=kind == "theorem").product
    return _Proof(product, kind, limits, "singular values of the layers")


def _by_matrix(net: LiftedEnergy, output: Output, tol: float, max_iterations: int) -> _Proof | None:
    """The proof by the matrix inequality, where there is one."""
    try:
        with np.errstate(all="ignore"):  # what is not finite proves nothing
            program = reduce_program(net, output)
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
    return _Proof(upper, "sdp", columns, f"path-following Newton, {found.steps} steps", found.gap)


def _verified(
    net: LiftedEnergy, program: Reduced, found: Found, output: Output
) -> tuple[tuple[Float, ...], float | None]:
    """The checker's multipliers with the least slack that its rounding lets pass, and the bound; None if none does."""
    for slack in _SLACKS:
        columns = program.multipliers(found.t, found.rho, slack)
        upper = MatrixChecker(net, columns, output).smallest(max(float(np.sqrt(found.rho)), _ALMOST_ZERO))
        if upper is not None or len(program.free) == 0:
            break
    return columns, upper


def _searched(net: LiftedEnergy, program: Reduced, output: Output, tol: float, max_iterations: int) -> Found:
    t, rho = layer_multipliers(net, layer_limits(net), slack=_START_SLACK)
    if output is not None and len(output) == 2:  # ‖e_i − e_j‖² = 2
        t, rho = 2.0 * t, 2.0 * rho
    t = t[program.bounded]
    if len(t) == 0:  # every unit that moves has no limits: nothing is left to search for
        return Found(t, program.rho(t), 0.0, 0, Status.OPTIMAL)
    return search_multipliers(program, t, rho, tol=tol, max_iterations=max_iterations)


@functools.cache
def _versions() -> dict[str, str]:
    return {
        "certnet": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }
