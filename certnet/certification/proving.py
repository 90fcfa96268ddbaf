"""From a claim to the smallest bound that its checker proves: the searches, and what to say of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from certnet.claims.certificate import square_above
from certnet.claims.claim import Claim, Multipliers
from certnet.core.errors import CertificateError, CertnetError, InvalidInputError
from certnet.core.outcome import Status
from certnet.proofs.chain import ChainChecker
from certnet.proofs.deep import DeepChecker, smallest_bound
from certnet.proofs.shallow import BoundChecker
from certnet.proofs.sup_norm import SupChecker
from certnet.searches.chain import compose, product_norms
from certnet.searches.deep_barrier import search_deep, solve_deep, tightest
from certnet.searches.shallow import search_multipliers
from certnet.searches.sup_norm import search_sup

__all__ = ["Options", "Proof", "pick_kind", "prove"]


@dataclass(frozen=True)
class Options:
    """How to search; see :func:`certnet.certification.certify`."""

    solver: str = "auto"
    form: str = "arrow"
    tol: float = 1e-6
    max_iterations: int = 2000
    random_state: int = 0


@dataclass(frozen=True, eq=False)
class Proof:
    """A verified bound with what proves it, the gap of the search, and what a user should know of it."""

    upper: float
    kind: str
    multipliers: Multipliers
    gap: float
    method: str
    concern: str = ""


def prove(claim: Claim, kind: str, options: Options) -> Proof:
    """The smallest bound of the chosen network that multipliers of this kind prove; the claim's charge is on top.

    Raises
    ------
    CertificateError
        No bound could be proved.
    SolverUnavailableError, SolverError
    """
    try:
        with np.errstate(all="ignore"):  # what overflows is refused by the checker
            if kind in ("composition", "product"):
                return _chain(claim, kind, options)
            if kind in ("neuron", "layer"):
                return _deep(claim, kind, options)
            return _shallow(claim, options) if claim.norm == "l2" else _sup(claim, options)
    except (np.linalg.LinAlgError, ValueError) as error:  # NumPy's and SciPy's words for NaN and infinities
        if isinstance(error, CertnetError):
            raise
        raise _unproved(math.inf, "the search overflowed") from error


def _shallow(claim: Claim, options: Options) -> Proof:
    layer = claim.layer
    low, high = claim.slopes()
    if options.solver == "auto":
        found = search_multipliers(
            layer,
            low=low,
            high=high,
            tol=options.tol,
            max_iterations=options.max_iterations,
            random_state=options.random_state,
        )
        method = "own search"
    else:
        from certnet.searches.reference_ import solve_lipsdp  # CVXPY is imported by those who ask for it

        found = solve_lipsdp(layer, solver=options.solver, form=options.form, tol=min(options.tol, 1e-8))
        method = f"{str(options.solver).upper()} {options.form}"
    checker = BoundChecker(layer, found.multipliers, low=low, high=high)
    upper = _settled(claim, "shallow", checker.smallest(found.upper), found.upper, checker.refusal)
    gap = max(found.gap_of(upper), 0.0)
    return Proof(upper, "shallow", found.multipliers, gap, method, _concern(found.status, gap, options))


def _sup(claim: Claim, options: Options) -> Proof:
    layer = claim.layer
    low, high = claim.slopes()
    found = search_sup(
        layer,
        low=low,
        high=high,
        tol=options.tol,
        max_iterations=options.max_iterations,
        random_state=options.random_state,
    )
    checker = SupChecker(layer, found.multipliers, found.input_weights, low=low, high=high)
    upper = _settled(claim, "shallow", checker.smallest(found.upper), found.upper, checker.refusal)
    gap = max(found.gap_of(upper), 0.0)
    multipliers = (found.multipliers, found.input_weights)
    return Proof(upper, "shallow", multipliers, gap, "own search", _concern(found.status, gap, options))


def _concern(status: Status, gap: float, options: Options) -> str:
    if not status.ok:
        return f"{status.advice} (gap {gap:.1e})"
    if gap > 2.0 * options.tol + 1e-6:
        return (
            "the weights of some units span too many orders of magnitude and were charged by their norms "
            f"(gap {gap:.1e})"
        )
    return ""


def _chain(claim: Claim, kind: str, options: Options) -> Proof:
    network = claim.chosen
    if kind == "composition":
        numbers = compose(network, tol=options.tol, max_iterations=options.max_iterations)
        method = "chain of bounds of layers and pairs of layers"
    else:
        numbers = product_norms(network)
        method = "product of spectral norms"
    checker = ChainChecker(network, numbers, pairs=kind == "composition")
    upper = _settled(claim, kind, checker.product, checker.product, checker.refusal)
    return Proof(upper, kind, numbers, math.inf, method)


def _deep(claim: Claim, kind: str, options: Options) -> Proof:
    network = claim.network_for(kind)
    if options.solver == "auto":
        found = search_deep(network, per=kind, tol=options.tol, max_iterations=options.max_iterations)
        method = "own search"
    else:
        found = solve_deep(network, per=kind, solver=options.solver, tol=min(options.tol, 1e-8))
        method = f"{str(options.solver).upper()} LipSDP per {kind}"
    # a solver's T may miss the cone by its tolerance, where no ρ helps: each layer is then given more than the next
    for slack in (0.0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5):
        T = tuple(t * (1.0 + slack) ** (network.depth - k) for k, t in enumerate(found.multipliers))
        checker = DeepChecker(network, T)
        with np.errstate(all="ignore"):  # what overflows is refused by the checker
            guess = min(found.upper, tightest(network, T))
        proved = smallest_bound(checker, guess)
        if proved is not None and proved <= found.upper * (1.0 + 1e-4):
            break
    upper = _settled(claim, kind, proved, found.upper, checker.refusal)
    gap = (1.0 + found.gap) * (upper / found.upper) ** 2 - 1.0
    concern = "" if found.status.ok else f"{found.status.advice} (gap {gap:.1e})"
    return Proof(upper, kind, T, gap, method, concern)


def _settled(claim: Claim, kind: str, upper: float | None, guess: float, refusal: str | None) -> float:
    """``upper``, if it is a bound whose square is one too."""
    if upper is not None and refusal is None and math.isfinite(square_above(claim.raised(upper, kind))):
        return upper
    raise _unproved(guess, refusal)


def _unproved(guess: float, refusal: str | None) -> CertificateError:
    return CertificateError(
        f"no bound near {guess:.6g} could be proved ({refusal or 'the numbers are too large'}): "
        "rescale inputs or outputs, or the units, (w_j, b_j) / κ and V_:j κ, to weights of similar magnitudes"
    )


def pick_kind(claim: Claim, method: str, solver: str, most: int) -> str:
    """The kind of multipliers for ``method``; "auto" takes LipSDP per neuron up to ``most`` inputs and units.

    Raises
    ------
    InvalidInputError
        The method or the named solver is not for this claim.
    """
    depth = claim.network.depth
    if method == "shallow" and depth != 1:
        raise InvalidInputError(f'method="shallow" is for one hidden layer, the network has {depth}')
    order = claim.network.n_inputs + claim.network.n_hidden
    automatic = "shallow" if depth == 1 else "neuron" if order <= most else "composition"
    kind = automatic if method == "auto" else method
    special = [
        text for text, is_so in (("a ball", claim.around is not None), ('norm="linf"', claim.norm == "linf")) if is_so
    ]
    if special and (kind != "shallow" or solver != "auto"):
        raise InvalidInputError(f'{special[0]} is for one hidden layer, with method and solver "auto"')
    if kind in ("composition", "product") and solver != "auto":
        raise InvalidInputError(f'method="{kind}" needs no solver: leave solver="auto"')
    if kind == "shallow" and solver != "auto" and claim.network.activations[0].slopes != (0.0, 1.0):
        raise InvalidInputError(
            f"a named solver takes ReLU here, the activation is {claim.network.activations[0]}: "
            'use solver="auto", or method="neuron"'
        )
    return kind
