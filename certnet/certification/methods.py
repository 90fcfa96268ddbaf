"""From a subject to the smallest bound that its checker proves: the methods, what they are for, what they say.

Searches are loaded when a method runs: what one hidden layer needs is loaded in half of the time of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np

from certnet.claims.certificate import square_above
from certnet.core.errors import CertificateError, CertnetError, InvalidInputError
from certnet.core.outcome import Status
from certnet.core.until import FOREVER, Until
from certnet.core.validation import Float
from certnet.networks.network import Network
from certnet.proofs.chain import ChainChecker, CompositionProof, ProductProof
from certnet.proofs.deep import DeepProof, DeepSupProof
from certnet.proofs.proof import LayeredProof
from certnet.proofs.regional import regional_proof
from certnet.proofs.regions import slopes_within
from certnet.proofs.shallow import BoundChecker, ShallowProof
from certnet.proofs.subject import Subject
from certnet.proofs.sup_norm import SupChecker, SupProof
from certnet.searches.chain import compose, product_norms
from certnet.searches.result import SearchResult
from certnet.searches.shallow import search_multipliers

__all__ = ["AUTO", "CLOSED_FORM", "METHODS", "REGIONAL", "Method", "Options", "Proved", "pick_method", "prove"]

AUTO: Final = "auto"
_LIPSDP_WORK: Final = 1e11  # n³ summed over the layers, up to which LipSDP takes some minutes at most
_CLOSED_FORM_WORK: Final = 2e12  # the same for multipliers in closed form
_EASE: Final = 1e-3  # of the tolerance of ρ, that a bound in a region is raised by before it is tried
_ROOM: Final = 1e-10  # that limits of units are widened by, of their size: a proof holds wherever sums are rounded


@dataclass(frozen=True)
class Options:
    """How to search; see :func:`certnet.certification.bracket.certify`."""

    solver: str = AUTO
    form: str = "arrow"
    tol: float = 1e-6
    max_iterations: int = 2000
    random_state: int = 0
    until: Until = FOREVER
    device: str | None = None

    @property
    def own(self) -> bool:
        """certnet's own search, or a solver that is named?"""
        return self.solver == AUTO


@dataclass(frozen=True, eq=False)
class Proved:
    """A verified bound with its proof, the gap of the search, and what a user should know of it.

    ``upper`` is of the subject's network: the charge of the claim is on top (:meth:`LayeredProof.raised`).
    """

    upper: float
    kind: str
    proof: LayeredProof
    gap: float
    method: str
    concern: str = ""


@dataclass(frozen=True)
class Method:
    """A way to a proof.

    Attributes
    ----------
    kind : str
        The name of the method and of the kind of its proofs.
    search : callable
        From a subject and options to a bound that is proved, in the l2 norm.
    sup_search : callable or None
        The same in the maximum norm.
    shallow_only : bool
        For one hidden layer only.
    solvers : bool
        Can a generic solver be named in the place of certnet's own search?
    structured : bool
        Is it for convolutions and units that are carried, too?
    devices : bool
        Can its own search run on a device of PyTorch?
    """

    kind: str
    search: Callable[[Subject, Options], Proved]
    sup_search: Callable[[Subject, Options], Proved] | None = None
    shallow_only: bool = False
    solvers: bool = False
    structured: bool = False
    devices: bool = False


def prove(subject: Subject, method: Method, options: Options) -> Proved:
    """The smallest bound of the subject's network that numbers of this kind prove.

    Raises
    ------
    CertificateError
        No bound could be proved.
    SolverUnavailableError, SolverError
    """
    search = method.search if subject.claim.norm == "l2" else method.sup_search
    if search is None:
        raise InvalidInputError(f'method="{method.kind}" is for the l2 norm')
    try:
        with np.errstate(all="ignore"):  # what overflows is refused by the checker
            return search(subject, options)
    except (np.linalg.LinAlgError, ValueError, ArithmeticError) as error:  # for NaN, infinities, what overflows
        if isinstance(error, CertnetError):
            raise
        raise _unproved(math.inf, "the search overflowed") from error


def pick_method(subject: Subject, name: str, options: Options) -> Method:
    """The method of a name; "auto" takes LipSDP per neuron up to some ten thousand units.

    Raises
    ------
    InvalidInputError
        The method or the named solver is not for this claim.
    """
    network = subject.network
    shallow = network.depth == 1 and not network.structured
    if subject.claim.norm == "linf" and subject.chosen.n_outputs > 1:
        shallow = False
    method = METHODS[_automatic(network, shallow) if name == AUTO else name]
    if method.shallow_only and not shallow:
        raise InvalidInputError(
            f'method="{method.kind}" is for one hidden layer of dense weights (in the maximum norm with one output)'
        )
    if not subject.everywhere and not (options.own and method.kind in ("shallow", "neuron")):
        raise InvalidInputError('a region is for method "auto", "shallow" or "neuron" and solver "auto"')
    if subject.claim.norm == "linf" and (method.sup_search is None or not options.own):
        raise InvalidInputError('norm="linf" is for method "auto", "shallow" or "neuron" and solver "auto"')
    if network.structured and not (method.structured and options.own):
        raise InvalidInputError('convolutions and skips are for method "auto" or "neuron" and solver "auto"')
    if not (method.solvers or options.own):
        raise InvalidInputError(f'method="{method.kind}" needs no solver: leave solver="auto"')
    if options.device is not None and not (method.devices and options.own):
        asked = f"solver {options.solver}" if not options.own else f'method="{method.kind}"'
        raise InvalidInputError(
            f'device={options.device!r} is for method="neuron" with solver="auto", this is {asked}: '
            'leave device out, or give method="neuron"'
        )
    if method.shallow_only and not options.own and network.slopes[0] != (0.0, 1.0):
        raise InvalidInputError(
            f"a named solver takes ReLU here, the activation is {network.activations[0]}: "
            'use solver="auto", or method="neuron"'
        )
    return method


def _automatic(network: Network, shallow: bool) -> str:
    if shallow:
        return "shallow"
    return "neuron" if network.structured or _work(network) <= _LIPSDP_WORK else "composition"


def _work(network: Network) -> float:
    """Multiplications that a proof layer by layer takes, up to a small factor."""
    first, low, high = network.widths[1], *network.slopes[0]
    # a form of the inputs is needed where the slopes of the first layer do not begin or end at zero
    inputs = float(network.n_inputs) ** 3 if low * high != 0.0 else float(network.n_inputs) * first**2
    return inputs + sum(float(n) ** 3 for n in network.widths[1:-1])


# --------------------------------------------------------------------------------------------------------- the methods


def _shallow(subject: Subject, options: Options) -> Proved:
    layer = subject.hidden
    low, high = subject.slopes
    if options.own:
        found = search_multipliers(
            layer,
            low=low,
            high=high,
            tol=options.tol,
            max_iterations=options.max_iterations,
            random_state=options.random_state,
            until=options.until,
        )
        method = "own search"
    else:
        from certnet.searches.reference_ import solve_lipsdp  # CVXPY is imported by those who ask for it

        found = solve_lipsdp(layer, solver=options.solver, form=options.form, tol=min(options.tol, 1e-8))
        method = f"{str(options.solver).upper()} {options.form}"
    proof = ShallowProof(found.multipliers)
    checker = BoundChecker(layer, proof.multipliers, low=low, high=high)
    upper = _settled(subject, proof, checker.smallest(found.upper), found.upper, checker.refusal)
    gap = max(found.gap_of(upper), 0.0)
    return Proved(upper, "shallow", proof, gap, method, _concern(found.status, gap, options))


def _sup(subject: Subject, options: Options) -> Proved:
    from certnet.searches.sup_norm import search_sup

    layer = subject.hidden
    low, high = subject.slopes
    found = search_sup(
        layer,
        low=low,
        high=high,
        tol=options.tol,
        max_iterations=options.max_iterations,
        random_state=options.random_state,
        until=options.until,
    )
    proof = SupProof((found.multipliers, np.asarray(found.input_weights)))
    checker = SupChecker(layer, *proof.multipliers, low=low, high=high)
    upper = _settled(subject, proof, checker.smallest(found.upper), found.upper, checker.refusal)
    gap = max(found.gap_of(upper), 0.0)
    return Proved(upper, "shallow", proof, gap, "own search", _concern(found.status, gap, options))


def _concern(status: Status, gap: float, options: Options) -> str:
    if not status.ok:
        return f"{status.advice} (gap {gap:.1e})"
    if gap > 2.0 * options.tol + 1e-6:
        return (
            "the weights of some units span too many orders of magnitude and were charged by their norms "
            f"(gap {gap:.1e})"
        )
    return ""


def _composition(subject: Subject, options: Options) -> Proved:
    numbers = compose(subject.chosen, tol=options.tol, max_iterations=options.max_iterations, until=options.until)
    checker, proof = ChainChecker(subject.chosen, numbers), CompositionProof(numbers)
    upper = _settled(subject, proof, checker.product, checker.product, checker.refusal)
    return Proved(upper, "composition", proof, math.inf, "chain of bounds of layers and pairs of layers")


def _product(subject: Subject, options: Options) -> Proved:
    numbers = product_norms(subject.chosen)
    checker, proof = ChainChecker(subject.chosen, numbers, pairs=False), ProductProof(numbers)
    upper = _settled(subject, proof, checker.product, checker.product, checker.refusal)
    return Proved(upper, "product", proof, math.inf, "product of spectral norms")


def _deep(subject: Subject, options: Options, *, per: str) -> Proved:
    from certnet.searches.deep_barrier import search_deep, solve_deep
    from certnet.searches.vectors import search_vectors

    network = subject.folded
    method = "own search"
    if options.own and per == "neuron":
        found = search_vectors(
            network,
            norm=subject.claim.norm,
            tol=0.99 * options.tol,  # the proof adds a little
            max_iterations=options.max_iterations,
            random_state=options.random_state,
            until=options.until,
            device=options.device,
        )
    elif options.own:
        found = search_deep(
            network, per=per, tol=options.tol, max_iterations=options.max_iterations, until=options.until
        )
    else:
        found = solve_deep(network, per=per, solver=options.solver, tol=min(options.tol, 1e-8))
        method = f"{str(options.solver).upper()} LipSDP per {per}"
    measured = options.own and per == "neuron"
    upper, proof = _loosened(subject, network, _everywhere, found, options.tol, measured=measured)
    gap = found.gap_of(upper)
    concern = "" if found.status.ok else f"{found.status.advice} (gap {gap:.1e})"
    return Proved(upper, per, proof, gap, method, concern)


def _everywhere(T: Sequence[Float], weights: Float | None) -> LayeredProof:
    return DeepProof(tuple(T)) if weights is None else DeepSupProof((*T, weights))


def _loosened(
    subject: Subject,
    network: Network,
    proof_of: Callable[[Sequence[Float], Float | None], LayeredProof],
    found: SearchResult[tuple[Float, ...]],
    tol: float,
    *,
    measured: bool = False,
) -> tuple[float, LayeredProof]:
    """The least bound that the multipliers prove with as much slack as it takes.

    T may miss the cone by the tolerance of its search, where no ρ helps: each layer is then given more than the next.
    ``network`` is what was searched, ``proof_of`` makes a proof of its multipliers; ``measured`` tells that
    ``found.upper`` is the bound of these very multipliers.
    """
    from certnet.searches.vectors import multipliers_with_slack, tightest

    weights = found.input_weights
    best: tuple[float, LayeredProof] | None = None
    refusal: str | None = None
    for slack in (0.0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5):
        T = multipliers_with_slack(found.multipliers, slack)
        proof = proof_of(T, weights)
        checker = proof.checker(subject)
        if checker is None:
            break
        refusal = checker.refusal
        with np.errstate(all="ignore"):  # what overflows is refused by the checker
            guess = found.upper if slack == 0.0 and measured else min(found.upper, tightest(network, T, weights))
        proved = checker.smallest(guess)
        if proved is not None and (best is None or proved < best[0]):
            best = proved, proof
        if proved is not None and proved <= found.upper * (1.0 + max(1e-9, 0.25 * tol)):
            break
    upper = _settled(subject, proof, None if best is None else best[0], found.upper, None if best else refusal)
    return upper, proof if best is None else best[1]


def _closed_form(subject: Subject, options: Options) -> Proved:
    """By multipliers that need no search, one number per layer."""
    from certnet.searches.closed_form_layers import layer_multipliers

    network = subject.folded
    found = layer_multipliers(network) if _work(network) <= _CLOSED_FORM_WORK else None
    if found is None:
        raise _unproved(math.inf, "there are no multipliers in closed form")
    multipliers, bound = found
    result = SearchResult(multipliers, bound * (1.0 + 1e-12), 0.0, Status.OPTIMAL)
    upper, proof = _loosened(subject, network, _everywhere, result, 1e-6)
    return Proved(upper, "layer", proof, math.inf, "multipliers in closed form, one per layer")


def _settled(subject: Subject, proof: LayeredProof, upper: float | None, guess: float, refusal: str | None) -> float:
    """``upper``, if it is a bound whose square is one too."""
    if upper is not None and refusal is None and math.isfinite(square_above(proof.raised(subject, upper))):
        return upper
    raise _unproved(guess, refusal)


def _unproved(guess: float, refusal: str | None) -> CertificateError:
    return CertificateError(
        f"no bound near {guess:.6g} could be proved ({refusal or 'the numbers are too large'}): "
        "rescale inputs or outputs, or the units, (w_j, b_j) / κ and V_:j κ, to weights of similar magnitudes"
    )


def _regional(subject: Subject, options: Options) -> Proved:
    """By LipSDP with the slopes that units have in the region."""
    from certnet.searches.vectors import search_vectors

    slopes = slopes_within(subject.claim.region, subject.network, subject.claim.norm, room=_ROOM)
    network = subject.within(slopes)
    found = search_vectors(
        network,
        norm=subject.claim.norm,
        tol=0.99 * options.tol,
        max_iterations=options.max_iterations,
        random_state=options.random_state,
        until=options.until,
        device=options.device,
    )
    # a small part of the tolerance: the first bound that is tried is then proved, more often than not
    found = replace(found, upper=found.upper * (1.0 + _EASE * options.tol))

    def proof_of(T: Sequence[Float], weights: Float | None) -> LayeredProof:
        return regional_proof(T, slopes, weights)

    upper, proof = _loosened(subject, network, proof_of, found, options.tol, measured=True)
    concern = "" if found.status.ok else f"{found.status.advice} (gap {found.gap_of(upper):.1e})"
    return Proved(upper, "regional", proof, found.gap_of(upper), "own search", concern)


_neuron = partial(_deep, per="neuron")
REGIONAL: Final = Method("regional", _regional, _regional, structured=True, devices=True)
"""What takes the place of "neuron" in a region."""

CLOSED_FORM: Final = Method("layer", _closed_form)
"""What is left where a search takes too long, beside chains."""

METHODS: Final[Mapping[str, Method]] = MappingProxyType(
    {
        method.kind: method
        for method in (
            Method("shallow", _shallow, _sup, shallow_only=True, solvers=True),
            Method("neuron", _neuron, _neuron, solvers=True, structured=True, devices=True),
            Method("layer", partial(_deep, per="layer"), solvers=True),
            Method("composition", _composition),
            Method("product", _product),
        )
    }
)
"""The methods by name."""
