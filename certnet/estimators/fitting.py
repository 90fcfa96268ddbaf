"""From data to a refined and certified network: the work that the estimators hand on, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from certnet.certification.bracket import certify_checked
from certnet.claims.certificate import Certificate
from certnet.claims.region import ALL, All, Ball, Box, Region, require_region
from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.until import FOREVER, Until
from certnet.core.validation import Float, one_of, positive_number, whole_number
from certnet.estimators.intervals import Perturbed
from certnet.estimators.limits import as_option, asked_limits, limits_behind, limits_in_numbers, proved_slopes
from certnet.estimators.preparation import Preparation, parted, takes_frames
from certnet.estimators.samples import Observed
from certnet.estimators.standardisation import N, Standardisation
from certnet.estimators.starts import (
    Start,
    is_fitted,
    read_fitted,
    require_columns,
    require_trainable,
    stand_in,
    thawed,
    trained,
)
from certnet.networks.feedforward import FeedForward
from certnet.networks.network import Network
from certnet.networks.shallow import ShallowNetwork
from certnet.programs.goal import Goal, SlopeAtMost, Weighted
from certnet.programs.loss import loss_named
from certnet.programs.objectives import PENALTIES
from certnet.proofs.slopes import SlopeIntervals
from certnet.refinement.efforts import chosen_effort
from certnet.refinement.refinement import METHODS, refine, require_solver
from certnet.refinement.result import RefineResult
from certnet.refinement.shape import ShapeLimits

__all__ = ["DEFAULT_SIZES", "Beginning", "ByColumns", "Fitted", "Fitting", "fitting_of"]

DEFAULT_SIZES: Final = (100,)
_MARGIN: Final = 0.1  # of the range of the data, on either side of the box around them

_LAST_SECONDS: Final = 10.0  # of a search in the units of the data, once the work is to stop

_OF_WEIGHTS: Final = ("shallow", "neuron", "layer", "composition", "product")  # kinds of proof without a word of biases


@dataclass(frozen=True, eq=False)
class Beginning:
    """A start and the units that its objective is stated in.

    Attributes
    ----------
    start : Start
        In the units of the data.
    units : Standardisation or None
        None where the objective is stated in the units of the data.
    prepared : Preparation or None
        What is done to the inputs before the start sees them; "the data" are then what it gives.
    limits : ShapeLimits or None
        On the slopes along the inputs of the start, in the units of the data.
    region : Region
        Where the bound is asked for, in the units of the data.
    """

    start: Start
    units: Standardisation | None
    prepared: Preparation | None = None
    limits: ShapeLimits | None = None
    region: Region = ALL

    @property
    def network(self) -> ShallowNetwork | FeedForward:
        """The start in the units of the objective."""
        return self.start.network if self.units is None else self.units.inward(self.start.network)

    @property
    def inner_limits(self) -> ShapeLimits | None:
        """The limits in the units of the objective."""
        if self.limits is None or self.units is None:
            return self.limits
        return self.limits.scaled(self.units.slope_scale)

    @property
    def inner_region(self) -> Region:
        """The region in the units of the objective."""
        return self.units.box(self.region) if isinstance(self.region, Box) and self.units is not None else self.region

    def data(self, rows: Observed) -> Observed:
        """Data in the units of the objective."""
        X = rows.X if self.prepared is None else self.prepared.inputs(rows.X)
        return Observed(*((X, rows.y) if self.units is None else self.units.data(X, rows.y)), rows.weight)


@dataclass(frozen=True, eq=False)
class ByColumns:
    """A refined network behind a preprocessing that treats columns differently.

    Attributes
    ----------
    prepared : Preparation
    inner : ShallowNetwork or FeedForward
        The network as a map of what the preprocessing gives.
    reference : ShallowNetwork or FeedForward
        The network in the user's numeric columns, at the categories of the first sample.
    certificate : Certificate
        Of ``reference``.
    """

    prepared: Preparation
    inner: Network
    reference: Network
    certificate: Certificate

    @classmethod
    def of(cls, prepared: Preparation, inner: Network, X: Any, seed: int, until: Until = FOREVER) -> ByColumns:
        """Certify ``inner`` in the numeric columns of X."""
        reference = prepared.at(inner, prepared.first(X))
        return cls(prepared, inner, reference, certify_checked(reference, tol=1e-7, random_state=seed, until=until))

    def predict(self, X: Any) -> Float:
        """The network at every row of X, in the shape of scikit-learn."""
        return self.inner.predict(self.prepared.inputs(X))

    def interval(self, X: Any, how: Perturbed) -> tuple[Float, Float]:
        """What may be predicted for perturbations of the numeric columns, the categories of every row held."""
        numbers = self.prepared.numbers(X)
        if self.prepared.folds:
            return how.interval(self.reference, self.certificate.upper, numbers)
        chosen = self.prepared.categories(X)
        ends = np.empty((2, len(numbers), self.inner.n_outputs))
        for values in dict.fromkeys(chosen):
            rows = [i for i, row in enumerate(chosen) if row is values or row == values]
            network = self.prepared.at(self.inner, dict(zip(self.prepared.columns.categorical, values)))
            found = how.rows(rows).interval(network, self._upper_of(network), numbers[rows])
            ends[:, rows] = np.reshape(found, (2, len(rows), -1))
        lower, upper = ends[..., 0] if self.inner.n_outputs == 1 else ends
        return lower, upper

    def _upper_of(self, network: Network) -> float:
        """A proved bound for the network at some categories.

        They change its biases alone, of which a proof for all inputs without branches does not speak
        (:mod:`certnet.proofs.shallow`, :mod:`certnet.proofs.deep`): it serves every network with the same weights, bit
        for bit.
        """
        same = all(map(np.array_equal, network.weights, self.reference.weights))
        if same and self.certificate.kind in _OF_WEIGHTS and self.certificate.around is None:
            return self.certificate.upper
        return certify_checked(network, tol=1e-7, random_state=0).upper


@dataclass(frozen=True, eq=False)
class Fitted:
    """A refined network with its certificate, both in raw units.

    Attributes
    ----------
    start : Start
    network : ShallowNetwork or FeedForward
    certificate : Certificate
    refinement : RefineResult
        In the units of the objective.
    slopes : SlopeIntervals or None
        The proof that limits on slopes are kept, where there are some.
    by_columns : ByColumns or None
        Of a pipeline that treats columns differently.
    everywhere : Certificate or None
        Of the network for all inputs, where ``certificate`` is of a region.
    """

    start: Start
    network: Network
    certificate: Certificate
    refinement: RefineResult
    slopes: SlopeIntervals | None = None
    by_columns: ByColumns | None = None
    everywhere: Certificate | None = None

    def attributes(self) -> dict[str, Any]:
        """What an estimator says of it, by scikit-learn's names."""
        done = self.refinement
        return {
            "estimator_": self.start.model,
            "start_choice_": self.start.choice,
            "network_": self.network,
            "certificate_": self.certificate,
            "certificate_everywhere_": self.certificate if self.everywhere is None else self.everywhere,
            "lipschitz_upper_": self.certificate.upper,
            "lipschitz_lower_": self.certificate.lower,
            "slopes_": self.slopes,
            "objective_before_": done.objective_before,
            "objective_after_": done.objective_after,
            "improved_": done.improved,
            "trace_": done.trace,
            "refinement_": done,
            "_fitted": self,
        }

    def predict(self, X: Any) -> Float:
        """The refined network at every row of X (N, d): shape (N,) for one output, else (N, m)."""
        return self.network.predict(X) if self.by_columns is None else self.by_columns.predict(X)

    def interval(self, X: Any, how: Perturbed) -> tuple[Float, Float]:
        """What may be predicted for perturbations of X; of a pipeline by columns, of its numeric ones."""
        if self.by_columns is None:
            return how.interval(self.network, (self.everywhere or self.certificate).upper, X)
        return self.by_columns.interval(X, how)

    def at(self, fixed: Mapping[Any, Any]) -> Network:
        """The network in the user's numeric columns, the categories held at the values of ``fixed``.

        Raises
        ------
        InvalidInputError
            A name or value that the preprocessing does not take, or the model has no preprocessing of columns.
        UnsupportedModelError
            A categorical column has no value.
        """
        if self.by_columns is not None:
            return self.by_columns.prepared.at(self.by_columns.inner, fixed)
        if fixed:
            raise InvalidInputError("the model encodes no column: network_ is in the data's units as it stands")
        return self.network


@dataclass(frozen=True, eq=False)
class Fitting:
    """How networks are found and refined, whatever the data, the goal and the seed are.

    Parameters
    ----------
    estimator : estimator, ShallowNetwork, FeedForward, torch module or None
    hidden_layer_sizes : int or sequence of int
        Of the start where ``estimator`` is None.
    prefit : bool
        Is ``estimator`` used as it stands?
    standardise : bool
        Is the objective stated in standardised units?
    monotonic_cst, slope_limits
        Of the columns of the data, in their units.
    region : Box, Ball, "data" or None
        Likewise.
    effort, loss, huber_threshold, penalty, method, solver, tol, cells, time_limit, verbose
        Of :func:`certnet.refinement.refine`.

    Raises
    ------
    InvalidInputError
        What :func:`certnet.refinement.refine` would refuse after the training.
    SolverUnavailableError
        The solver is not installed or has no licence.
    """

    estimator: Any
    hidden_layer_sizes: Any
    prefit: bool
    standardise: bool
    monotonic_cst: Any
    slope_limits: Any
    region: Any
    effort: str | float | None
    loss: str
    huber_threshold: float
    penalty: str
    method: str | None
    solver: str | None
    tol: float | None
    cells: int | None
    time_limit: float | None
    verbose: bool

    def __post_init__(self) -> None:
        if self.cells is not None:
            whole_number(self.cells, "cells", least=1)
        if self.tol is not None:
            positive_number(self.tol, "tol")
        if self.time_limit is not None:
            positive_number(self.time_limit, "time_limit")
        loss_named(self.loss, self.huber_threshold)
        one_of(self.penalty, "penalty", PENALTIES)
        if self.method is not None:
            one_of(self.method, "method", METHODS)
        require_solver("auto" if self.solver is None else self.solver)
        if self.effort is not None:
            chosen_effort(self.effort)
            if self.of_programs:
                names = ", ".join(self.of_programs)
                raise InvalidInputError(f"effort chooses the work itself: leave it out, or {names}")
        if self.region is not None:
            self._require_region()
        if self.sizes != DEFAULT_SIZES and self.estimator is not None:
            raise InvalidInputError(
                "hidden_layer_sizes is for the start that is trained where estimator is None: an estimator has its own"
            )

    def _require_region(self) -> None:
        if not isinstance(self.region, Box | Ball) and not (isinstance(self.region, str) and self.region == "data"):
            raise InvalidInputError(f'region must be a certnet.Box or Ball, or "data", got {self.region!r}')
        if isinstance(self.region, Ball) and self.standardise:
            raise InvalidInputError(
                "a ball in the units of X is none in standardised units: give a Box, or standardise=False"
            )
        if self.of_programs:
            raise InvalidInputError(f"region is for descents: leave it out, or {', '.join(self.of_programs)}")
        if self.whole:
            raise UnsupportedModelError(
                "region is for columns of numbers alone, without steps that treat columns differently: certify the "
                "fitted model.network_for(...) in a region instead"
            )

    def where(self, rows: Observed) -> Region:
        """The region in the units of the data: of "data" the box around the rows, a tenth of their range wider."""
        if self.region is None:
            return ALL
        if isinstance(self.region, Box | Ball):
            return require_region(self.region, rows.X.shape[1])
        return Box.around(rows.X, _MARGIN)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The widths of the hidden layers of the default start."""
        given = self.hidden_layer_sizes
        sizes = tuple(given) if np.iterable(given) and not isinstance(given, str) else (given,)
        if not sizes:
            raise InvalidInputError("hidden_layer_sizes is empty: at least one hidden layer is needed")
        return tuple(whole_number(size, "hidden_layer_sizes", least=1) for size in sizes)

    def asked(self, rows: Observed, names: Sequence[str] | None) -> ShapeLimits | None:
        """What is asked of the slopes along the columns of the data, whose names are ``names``; before any training."""
        if self.monotonic_cst is None and self.slope_limits is None:
            return None
        n_outputs = 1 if rows.y.ndim == 1 else rows.y.shape[1]
        n_inputs = rows.X.shape[1]
        if is_fitted(self.estimator, prefit=self.prefit):
            read = read_fitted(parted(self.estimator)[1] if self.whole else thawed(self.estimator))
            widths = (n_inputs, *read.widths[1:-1], n_outputs)
            weights = [np.zeros((n, m)) for m, n in pairwise(widths)]
            like = FeedForward(weights, [np.zeros(n) for n in widths[1:]], read.activations)
        else:
            if self.estimator is not None:
                require_trainable(self.estimator)
            like = stand_in(self.estimator, n_inputs, n_outputs)
        return asked_limits(like, rows.X, names, self.monotonic_cst, self.slope_limits)

    def begin(self, rows: Observed, names: Sequence[str] | None, asked: ShapeLimits | None, seed: int) -> Beginning:
        """Train the start on the rows, or read it; ``names`` are those of the columns of X, if they have any."""
        if self.whole:
            return self._begin_prepared(rows, asked, seed)
        units = Standardisation.of(rows.X, rows.y, rows.weight) if self.standardise else None
        if not is_fitted(self.estimator, prefit=self.prefit):
            where = self.where(rows)  # refused before any training
            return Beginning(self._trained(self.estimator, rows, seed), units, limits=asked, region=where)
        model = thawed(self.estimator)
        network = read_fitted(model)
        require_columns(network, rows.X, rows.y, names, getattr(model, "feature_names_in_", None))
        return Beginning(Start(model, network), units, limits=asked, region=self.where(rows))

    @property
    def whole(self) -> bool:
        """Must the estimator see the columns as the user gave them?"""
        return takes_frames(self.estimator)

    def _trained(self, estimator: Any, rows: Observed, seed: int) -> Start:
        return trained(estimator, rows, standardise=self.standardise, sizes=self.sizes, seed=seed)

    def _begin_prepared(self, rows: Observed, asked: ShapeLimits | None, seed: int) -> Beginning:
        """The same for a pipeline that treats columns differently: on what its steps give."""
        fitted = is_fitted(self.estimator, prefit=self.prefit)
        if fitted:
            steps, last = parted(self.estimator)
            start = Start(thawed(self.estimator), read_fitted(last))  # an unfitted model is told before its columns
            prepared = Preparation.of(Pipeline(steps))
        else:
            require_trainable(self.estimator)  # refused before any training
            steps, last = parted(clone(self.estimator))
            prepared = Preparation.fitted(steps, rows.X, rows.y)
        given = Observed(prepared.inputs(rows.X), rows.y, rows.weight)
        limits = None if asked is None else limits_behind(limits_in_numbers(asked, prepared), prepared, rows.X)
        if fitted:
            require_columns(start.network, given.X, given.y, None, None)
        else:
            made = self._trained(last, given, seed)
            model = Pipeline([("preprocessing", prepared.steps), ("regressor", made.model)])
            start = Start(model, made.network, made.choice)
        units = Standardisation.of(given.X, given.y, given.weight) if self.standardise else None
        return Beginning(start, units, prepared, limits)

    def refine(
        self,
        begun: Beginning,
        rows: Observed,
        goal: Goal,
        seed: int,
        should_stop: Callable[[], bool] | None = None,
    ) -> RefineResult:
        """Refine a start on rows in the units of the objective."""
        options: dict[str, Any] = {"should_stop": should_stop}
        options |= _goal_options(goal) | self._options()
        options |= {"loss": self.loss, "huber_threshold": self.huber_threshold}
        if rows.weight is not None:
            options["sample_weight"] = rows.weight
        if begun.inner_limits is not None:
            options["slope_limits"] = as_option(begun.inner_limits)
        if not isinstance(begun.region, All):
            options["region"] = begun.inner_region
        limit = self.time_limit
        return refine(
            begun.network, rows.X, rows.y, time_limit=limit, random_state=seed, verbose=self.verbose, **options
        )

    @property
    def of_programs(self) -> dict[str, Any]:
        """What is set of the options that say which programs are solved, instead of an effort."""
        given = {name: getattr(self, name) for name in ("method", "solver", "tol", "cells")}
        given["penalty"] = None if self.penalty == "lipschitz" else self.penalty
        return {name: value for name, value in given.items() if value is not None}

    def _options(self) -> dict[str, Any]:
        """Options of the refinement that the caller has set."""
        return self.of_programs | ({} if self.effort is None else {"effort": self.effort})

    def fit(
        self,
        rows: Observed,
        names: Sequence[str] | None,
        goal: Goal,
        seed: int,
        should_stop: Callable[[], bool] | None = None,
    ) -> Fitted:
        """Find the start, refine it, and fold the result back into raw units.

        ``should_stop`` ends the refinement, and soon afterwards the searches for the bounds in raw units.
        """
        until = Until.after(should_stop, _LAST_SECONDS)
        asked = self.asked(rows, names)
        begun = self.begin(rows, names, asked, seed)
        inner = begun.data(rows)
        done = self.refine(begun, inner, goal, seed, should_stop)
        # without an improvement the start itself, which has not been through the units and back
        network = done.network
        if begun.units is not None:
            raw = begun.start.network
            network = begun.units.outward(network, raw.units) if done.improved else raw
        if begun.prepared is not None:
            return self._fit_prepared(begun, begun.prepared, network, done, rows.X, asked, seed, until)
        network = _with_names(network, names)
        slopes = None if asked is None else proved_slopes(asked, network)
        if begun.units is None:
            everywhere = done.certificate_everywhere
            return Fitted(begun.start, network, done.certificate, done, slopes, everywhere=everywhere)
        found = certify_checked(network, rows.X, tol=1e-7, random_state=seed, until=until)
        if isinstance(begun.region, All):
            return Fitted(begun.start, network, found, done, slopes)
        there = certify_checked(network, rows.X, tol=1e-7, random_state=seed, region=begun.region, until=until)
        return Fitted(begun.start, network, there, done, slopes, everywhere=found)

    def _fit_prepared(
        self,
        begun: Beginning,
        prepared: Preparation,
        inner: Network,
        done: RefineResult,
        X: Any,
        asked: ShapeLimits | None,
        seed: int,
        until: Until,
    ) -> Fitted:
        """The bound in the user's columns where the steps are affine, else of what the steps give."""
        made = ByColumns.of(prepared, inner, X, seed, until)
        slopes = None if asked is None else proved_slopes(limits_in_numbers(asked, prepared), made.reference)
        if prepared.folds:
            return Fitted(begun.start, made.reference, made.certificate, done, slopes, made)
        told = prepared.described(inner)
        certificate = certify_checked(told, prepared.inputs(X), tol=1e-7, random_state=seed, until=until)
        return Fitted(begun.start, told, certificate, done, slopes, made)


def _with_names(network: N, names: Sequence[str] | None) -> N:
    """The network with the names of the columns of X for its inputs, unless it has names of its own."""
    about = network.about
    return network if names is None or about.inputs else network.described(replace(about, inputs=tuple(names)))


def _goal_options(goal: Goal) -> dict[str, Any]:
    """A goal as :func:`certnet.refinement.refine` takes it."""
    if isinstance(goal, SlopeAtMost):
        return {"target_lipschitz": goal.limit}
    return {"weight": goal.weight} if isinstance(goal, Weighted) else {"max_mse": goal.limit, "weight": goal.trial}


def fitting_of(estimator: BaseEstimator, **changes: Any) -> Fitting:
    """The fitting that the parameters of an estimator ask for; they bear the names of its fields."""
    given = estimator.get_params(deep=False) | changes
    return Fitting(**{field.name: given[field.name] for field in fields(Fitting)})
