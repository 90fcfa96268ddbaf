"""Lipschitz bounds as proofs: search, verification, and the certificate that carries them."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from certnet.certification.methods import (
    AUTO,
    CLOSED_FORM,
    METHODS,
    REGIONAL,
    Method,
    Options,
    Proved,
    pick_method,
    prove,
)
from certnet.certification.provenance import each_output, made_since
from certnet.claims.certificate import Certificate
from certnet.claims.claim import NORMS, Claim, parse_output
from certnet.claims.families import identity
from certnet.claims.region import ALL, All, Ball, Box, Region, require_region
from certnet.core.errors import CertificateError, InvalidInputError, NotConvergedWarning, SolverError
from certnet.core.until import FOREVER, Until, listening
from certnet.core.validation import Float, as_inputs, finite_array, one_of, positive_number, whole_number
from certnet.networks.feedforward import require_network
from certnet.networks.network import Network
from certnet.proofs.gradients import slope_at, slope_of_chosen_at
from certnet.proofs.parts import PartsProof
from certnet.proofs.subject import Subject
from certnet.proofs.tree import TreeProof, highest_in
from certnet.searches.closed_form import cheap_upper_bounds
from certnet.searches.lower import LowerBound, lower_bound
from certnet.searches.shallow import FORMS

if TYPE_CHECKING:
    from certnet.searches.result import BranchResult

__all__ = ["certify", "certify_checked", "certify_outputs"]

_OWN = "CERTNET"
_EXACT_SECONDS = 60.0
_ELSEWHERE = 1.0 - 2.0**-42  # of a lower side: another machine sums in another order, and is to prove it as well
_FEW_INPUTS = 6
_CLOSE = 1e-2  # gap of ρ from which on no other method gives less, but for a part of that


def certify(
    network: Network,
    *,
    X: ArrayLike | None = None,
    norm: str = "l2",
    output: int | tuple[int, int] | None = None,
    region: Region = ALL,
    around: ArrayLike | None = None,
    radius: float | None = None,
    exact: bool = False,
    time_limit: float | None = None,
    should_stop: Callable[[], bool] | None = None,
    n_jobs: int = 1,
    method: str = "auto",
    solver: str = "auto",
    form: str = "arrow",
    tol: float = 1e-6,
    max_iterations: int = 2000,
    random_state: int = 0,
    device: str | None = None,
) -> Certificate:
    """Bracket the Lipschitz constant of ``network``: a proved upper bound and a proved lower one.

    The multipliers are searched in floating point; the bound that is returned is the smallest that the checker
    (:mod:`certnet.proofs`) proves from them.

    Parameters
    ----------
    network : ShallowNetwork or FeedForward
        Activations of known slopes.
    X : array_like, shape (N, d), optional
        Inputs at which gradients are taken for the lower bound, in the network's units.
    norm : {"l2", "linf"}
        Norm of the inputs; outputs are measured in l2.
    output : int or pair of int, optional
        Claim about the output i, or about the difference ``f_i − f_j`` for a pair (i, j), instead of all outputs.
    region : Box or Ball, optional
        Claim about the inputs in a :class:`certnet.Box` or a :class:`certnet.Ball` (of the norm of the inputs) only,
        in the network's units: units that cannot leave one piece of their activation there have a known slope. It says
        nothing of inputs outside. Never above the bound for all inputs; certnet's own search.
    around, radius : array_like of shape (d,) and float, optional
        Short for ``region=Ball(around, radius)``.
    exact : bool
        Go on with branch and bound until the bracket is closed to ``tol`` (``upper ≤ (1 + tol) lower``) or the time is
        up; the best bracket is kept. Dense layers, of ReLU or leaky ReLU; in a ball, or a box whose limits are all
        finite, of any activation that certnet knows the values of. Parts of the region are split at the kinks of units
        and, where it has limits, at inputs (:mod:`certnet.searches.parts`; one hidden layer in "l2":
        :mod:`certnet.searches.branch`).
    time_limit : float, optional
        Seconds after which the search ends, with the best *proved* bound so far; the proof and the lower bound come on
        top. By default none, and 60 for ``exact``. Ctrl-C ends it in the same way.
    should_stop : callable, optional
        Asked between steps: once true, the search ends likewise.
    n_jobs : int
        Processes that ``exact`` shares its parts out over, −1 for one per core; for more than one hidden layer, or
        other norms and activations than those of one tree. Where the time was not up the result is the same for any
        number.
    method : {"auto", "shallow", "neuron", "layer", "composition", "product"}
        What to prove with: "shallow" for one hidden layer; for any depth LipSDP with one multiplier per neuron or per
        layer, the best chain of bounds of layers and pairs of layers, or the product of spectral norms. "auto" is
        "shallow" for one hidden layer, else "neuron" up to some ten thousand units; beyond, or where that fails, the
        least of multipliers in closed form (one per layer), "composition" and "product". The certificate says which
        it was (``kind``). Convolutions, skips and the maximum norm at depth are for "neuron".
    solver : {"auto", "CERTNET", "CLARABEL", "SCS", "MOSEK"}
        "auto" and "CERTNET" are certnet's own search; another name solves LipSDP through CVXPY, the second
        implementation.
    form : {"arrow", "dense"}
        The LMI that a named solver is given for one hidden layer (:mod:`certnet.searches.reference_`).
    tol : float
        Relative gap of ρ at which the search stops; the tolerance of a named solver.
    max_iterations : int
        Limit of certnet's own search.
    random_state : int
        Seed of the search and of the lower bound.
    device : str, optional
        Of PyTorch ("cuda", "cuda:1", "cpu"; "auto" is the GPU where there is one): the search of "neuron" runs there,
        in float64. By default NumPy searches. The proof is NumPy's, on the CPU, in any case.

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
    MissingDependencyError
        A device is named, and PyTorch is not installed.

    Warns
    -----
    NotConvergedWarning
        The gap is above ``tol``; the bound is proved all the same.
    """
    found = _Asked(
        X=X,
        norm=norm,
        output=output,
        region=region,
        around=around,
        radius=radius,
        exact=exact,
        time_limit=time_limit,
        should_stop=should_stop,
        n_jobs=n_jobs,
        method=method,
        solver=solver,
        form=form,
        tol=tol,
        max_iterations=max_iterations,
        random_state=random_state,
        device=device,
    ).of(network)
    return found.told(stacklevel=3)


@dataclass(frozen=True, eq=False)
class _Found:
    """A certificate, and what a user should know of its search."""

    certificate: Certificate
    concern: str

    def told(self, stacklevel: int) -> Certificate:
        if self.concern:
            warnings.warn(f"the certificate holds, but {self.concern}", NotConvergedWarning, stacklevel=stacklevel)
        return self.certificate


@dataclass(frozen=True, eq=False)
class _Asked:
    """The arguments of :func:`certify`, with its defaults."""

    X: ArrayLike | None = None
    norm: str = "l2"
    output: int | tuple[int, int] | None = None
    region: Region = ALL
    around: ArrayLike | None = None
    radius: float | None = None
    exact: bool = False
    time_limit: float | None = None
    should_stop: Callable[[], bool] | None = None
    n_jobs: int = 1
    method: str = AUTO
    solver: str = AUTO
    form: str = "arrow"
    tol: float = 1e-6
    max_iterations: int = 2000
    random_state: int = 0
    device: str | None = None

    def of(self, network: Network, *, listens: bool = True) -> _Found:
        """The answer for a network; ``listens`` to Ctrl-C, unless who asks does."""
        start = time.perf_counter()
        network = require_network(network)
        known = (("form", self.form, FORMS), ("method", self.method, (AUTO, *METHODS)), ("norm", self.norm, NORMS))
        for name, value, names in known:
            one_of(value, name, names)
        options = Options(
            _solver(self.solver),
            self.form,
            positive_number(self.tol, "tol"),
            whole_number(self.max_iterations, "max_iterations", least=1),
            whole_number(self.random_state, "random_state"),
            device=self.device,
        )
        limit = None if self.time_limit is None else positive_number(self.time_limit, "time_limit")
        region = _region(network, self.region, self.around, self.radius)
        claim = Claim(network, region, self.norm, parse_output(self.output, network.n_outputs))
        data = None if self.X is None else as_inputs(self.X, network.n_inputs, network.about.inputs)
        until = Until.within(limit, self.should_stop)
        # Ctrl-C is the end of a search of certnet's own; a generic solver is stopped by it as ever
        with listening(until) if options.own and listens else nullcontext(until) as heard:
            options = replace(options, until=heard)
            exact = _Exact(limit or _EXACT_SECONDS, _processes(self.n_jobs)) if self.exact else None
            return _bracket(claim, data, self.method, options, exact, start)


@dataclass(frozen=True)
class _Exact:
    """Seconds of branch and bound, and its processes."""

    time_limit: float
    n_jobs: int


def _solver(name: str) -> str:
    """A name for certnet's own search, as a refinement calls its solver, is "auto"."""
    return AUTO if isinstance(name, str) and name.upper() == _OWN else name


def _processes(n_jobs: int) -> int:
    if type(n_jobs) is int and n_jobs == -1:
        return os.cpu_count() or 1
    return whole_number(n_jobs, "n_jobs", least=1)


def _bracket(
    claim: Claim, X: Float | None, method: str, options: Options, exact: _Exact | None, start: float
) -> _Found:
    """The certificate of a claim whose parts are checked, begun at ``start``; ``exact``: for branch and bound."""
    subject = Subject.of(claim)
    if isinstance(subject, str):
        raise InvalidInputError(subject)
    if exact is not None:
        _require_exact(subject, method)
    proved = _proved(subject, method, options)
    below = _lower_bound(subject, X, options.random_state)
    if exact is not None:
        proved, below = _closed(subject, proved, below, options, exact)
    known, region = identity(claim.network), claim.region
    certificate = Certificate(
        upper=proved.proof.raised(subject, proved.upper),
        lower=_ELSEWHERE * (slope_at(subject, below.point) if subject.charge() > 0.0 else below.value),
        multipliers=proved.proof.multipliers,
        witness=below.point,
        gap=proved.gap,
        units=known.units,
        digest=known.digest,
        shape=known.shape,
        method=proved.method,
        kind=proved.kind,
        norm=claim.norm,
        output=claim.output,
        slopes=known.slopes,
        around=region.centre if isinstance(region, Ball) else None,
        radius=region.radius if isinstance(region, Ball) else None,
        box=(region.lower, region.upper) if isinstance(region, Box) else None,
        cheaper=cheap_upper_bounds(subject.chosen, claim.norm),
        read=subject.network.about.read,
        **made_since(start),
    )
    return _Found(certificate, proved.concern)


def certify_checked(
    network: Network,
    X: Float | None = None,
    *,
    tol: float,
    random_state: int,
    region: Region = ALL,
    until: Until = FOREVER,
) -> Certificate:
    """:func:`certify` for callers inside, whose arguments are checked; no warning: the gap is in the certificate."""
    options = Options(tol=tol, random_state=random_state, until=until)
    return _bracket(Claim(network, region), X, AUTO, options, None, time.perf_counter()).certificate


def certify_outputs(
    network: Network, *, differences: bool = False, **options: Any
) -> dict[tuple[int, ...], Certificate]:
    """A certificate of each output, or of each difference of two outputs: what a classifier's margins need.

    If ``f_i(x) − f_j(x) = m`` is the smallest margin of the
    class i over the others, relative to their bounds L_ij, no perturbation of norm below ``min_j m_j / L_ij`` changes
    the class.

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
    if "output" in options:
        raise InvalidInputError("certify_outputs goes through the outputs itself: use certify(output=…) for one")

    own = _solver(options.get("solver", AUTO)) == AUTO
    asked = Until.within(None, options.pop("should_stop", None))
    # Ctrl-C ends the search at hand, and those of the outputs that are left at their first proved bound
    with listening(asked) if own else nullcontext(asked) as heard:

        def one(output: Any) -> Certificate:
            stops = heard.should_stop
            return _Asked(output=output, should_stop=stops, **options).of(network, listens=False).told(stacklevel=5)

        return each_output(require_network(network).n_outputs, differences, one)


def _region(network: Network, region: Region, around: ArrayLike | None, radius: float | None) -> Region:
    region = require_region(region, network.n_inputs)
    if around is not None or radius is not None:
        if around is None or radius is None:
            raise InvalidInputError("a bound in a ball needs both around and radius")
        if not isinstance(region, All):
            raise InvalidInputError("give region, or around and radius, not both")
        centre = finite_array(around, "around", ndim=(1,))
        if centre.shape != (network.n_inputs,):
            raise InvalidInputError(f"around has shape {centre.shape}, the network has {network.n_inputs} inputs")
        return Ball(centre, positive_number(radius, "radius", zero=True))
    return region


def _proved(subject: Subject, name: str, options: Options) -> Proved:
    """By the method that is asked for; by default also by what weights allow that LipSDP cannot cope with."""
    method = pick_method(subject, name, options)
    if method.kind == "neuron" and not subject.everywhere:
        return _proved_in_region(subject, options)
    alone = name != AUTO or not options.own or method.shallow_only
    found: Proved | None = None
    failure: Exception | None = None
    try:
        found = prove(subject, method, options)
    except (CertificateError, SolverError) as error:
        if alone:
            raise
        failure = error
    if found is not None and (alone or found.gap <= _CLOSE):
        return found
    # weights that LipSDP's floating-point search cannot cope with, or that are too many, still have other bounds
    others: tuple[Method, ...] = (CLOSED_FORM, METHODS["composition"])
    if subject.claim.norm != "l2" or subject.network.structured:
        others = ()
    elif found is not None and options.until.reached is not None:
        others = (CLOSED_FORM,)  # no time for the norms of all layers and pairs
    for other in others:
        if other is method and found is not None:
            continue
        try:
            also = prove(subject, other, options)
        except CertificateError:
            continue
        found = also if found is None or also.upper < found.upper else found
    if found is None and others:
        return prove(subject, METHODS["product"], options)
    if found is None:
        raise CertificateError(str(failure)) from failure
    return found


def _proved_in_region(subject: Subject, options: Options) -> Proved:
    """By the slopes of the region, and where that fails or leaves a gap by a bound of all inputs, if it is less."""
    found: Proved | None = None
    failure: CertificateError | None = None
    try:
        found = prove(subject, REGIONAL, options)
    except CertificateError as error:
        failure = error
    if found is not None and (found.gap <= _CLOSE or options.until.reached is not None):
        return found
    others: tuple[Method, ...] = (METHODS["neuron"],)
    if subject.claim.norm == "l2" and not subject.network.structured:
        others = (METHODS["neuron"], CLOSED_FORM, METHODS["composition"])
    for other in others:
        try:
            also = prove(subject, other, options)
        except CertificateError:
            continue
        found = also if found is None or also.upper < found.upper else found
    if found is None:
        raise CertificateError(str(failure)) from failure
    return found


def _lower_bound(subject: Subject, X: Float | None, random_state: int) -> LowerBound:
    given: dict[str, Any] = {"region": subject.claim.region, "random_state": random_state}
    if subject.claim.norm == "l2":
        return lower_bound(subject.chosen, X, **given)
    from certnet.searches.sup_norm import lower_bound_sup

    return lower_bound_sup(subject.chosen, X, **given)


def _require_exact(subject: Subject, method: str) -> None:
    """Refuse claims that branch and bound is not for."""
    network = subject.network
    bent = [phi.name not in ("relu", "leaky_relu", "identity") for phi in network.activations]
    known = all(phi.has_values for phi in network.activations) and _has_limits(subject)
    if network.structured or method not in (AUTO, "shallow", "neuron") or (any(bent) and not known):
        raise InvalidInputError(
            "exact=True is for dense layers of ReLU or leaky ReLU (in a ball or a box with finite limits also of other "
            'activations with values), with method "auto", "shallow" or "neuron"'
        )


def _has_limits(subject: Subject) -> bool:
    region = subject.claim.region
    if isinstance(region, Box):
        return bool(np.isfinite(region.lower).all() and np.isfinite(region.upper).all())
    return not subject.everywhere


def _closed(
    subject: Subject, proved: Proved, below: LowerBound, options: Options, exact: _Exact
) -> tuple[Proved, LowerBound]:
    """The bracket after branch and bound."""
    found: BranchResult
    # bisecting a few inputs beats splitting at the kinks of many units
    few = subject.network.n_inputs <= _FEW_INPUTS and _has_limits(subject)
    if proved.kind == "shallow" and subject.claim.norm == "l2" and subject.one_kink_at_zero and not few:
        from certnet.searches.branch import close_bracket

        kind = "tree"
        low, high = subject.side_slopes
        found = close_bracket(
            subject.hidden,
            low=low,
            high=high,
            lower=below.value,
            witness=below.point,
            prove=lambda x: slope_of_chosen_at(subject, x),
            region=subject.claim.region,
            highest=highest_in(subject),
            tol=options.tol,
            time_limit=exact.time_limit,
            random_state=options.random_state,
            should_stop=options.until.should_stop,
        )
    else:
        from certnet.searches.parts import close_parts

        kind = "parts"
        found = close_parts(
            subject,
            lower=below.value,
            witness=below.point,
            tol=options.tol,
            time_limit=exact.time_limit,
            should_stop=options.until.should_stop,
            n_jobs=exact.n_jobs,
            random_state=options.random_state,
        )
    below = LowerBound(found.lower, found.witness)
    upper = min(found.upper, proved.upper)
    gap = (upper / found.lower) ** 2 - 1.0 if found.lower > 0.0 else float("inf")
    concern = ""
    if upper > found.lower * (1.0 + options.tol):
        concern = f"branch and bound did not close the bracket in its time and nodes (gap {gap:.1e})"
    if found.upper >= proved.upper:
        return replace(proved, concern=concern), below
    by = f"branch and bound, {found.n_nodes} nodes"
    nodes = tuple(found.tree)
    proof = TreeProof(nodes) if kind == "tree" else PartsProof(nodes)
    return Proved(found.upper, kind, proof, gap, by, concern), below
