"""From data to a refined and certified network: the work that the estimators hand on, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from certnet.certification import certify
from certnet.certification.bracket import certify_checked
from certnet.claims.certificate import Certificate
from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, positive_number, whole_number
from certnet.estimators.intervals import interval_about
from certnet.estimators.preparation import Preparation, parted, takes_frames
from certnet.estimators.standardisation import Standardisation
from certnet.estimators.starts import is_fitted, read_fitted, require_columns, require_trainable, thawed, trained
from certnet.networks.shallow import ShallowNetwork, require_shallow
from certnet.programs.objectives import PENALTIES
from certnet.refinement.refinement import METHODS, RefineResult, refine, require_solver

__all__ = ["Beginning", "ByColumns", "Fitted", "Fitting", "fitting_of"]


@dataclass(frozen=True, eq=False)
class Beginning:
    """A start and the units that its objective is stated in.

    Attributes
    ----------
    model : estimator, ShallowNetwork or torch module
        What the start was read from.
    raw : ShallowNetwork
        The start in the units of the data.
    units : Standardisation or None
        None where the objective is stated in the units of the data.
    prepared : Preparation or None
        What is done to the inputs before the start sees them; "the data" are then what it gives.
    """

    model: Any
    raw: ShallowNetwork
    units: Standardisation | None
    prepared: Preparation | None = None

    @property
    def network(self) -> ShallowNetwork:
        """The start in the units of the objective."""
        return self.raw if self.units is None else self.units.inward(self.raw)

    def data(self, X: Any, y: Float) -> tuple[Float, Float]:
        """Data in the units of the objective."""
        if self.prepared is not None:
            X = self.prepared.inputs(X)
        return (X, y) if self.units is None else self.units.data(X, y)


@dataclass(frozen=True, eq=False)
class ByColumns:
    """A refined network behind a preprocessing that treats columns differently.

    Attributes
    ----------
    prepared : Preparation
    inner : ShallowNetwork
        The network as a map of what the preprocessing gives.
    reference : ShallowNetwork
        The network in the user's numeric columns, at the categories of the first sample.
    certificate : Certificate
        Of ``reference``.
    """

    prepared: Preparation
    inner: ShallowNetwork
    reference: ShallowNetwork
    certificate: Certificate

    @classmethod
    def of(cls, prepared: Preparation, inner: ShallowNetwork, X: Any, seed: int) -> ByColumns:
        """Certify ``inner`` in the numeric columns of X."""
        first = dict(zip(prepared.columns.categorical, prepared.categories(X)[0])) if not prepared.folds else {}
        reference = prepared.at(inner, first)
        return cls(prepared, inner, reference, certify_checked(reference, tol=1e-7, random_state=seed))

    def predict(self, X: Any) -> Float:
        """The network at every row of X, in the shape of scikit-learn."""
        return self.inner.predict(self.prepared.inputs(X))

    def interval(self, X: Any, epsilon: float) -> tuple[Float, Float]:
        """``f(x) ∓ (L ε + rounding)`` for perturbations of the numeric columns, the categories of every row held."""
        numbers = self.prepared.numbers(X)
        if self.prepared.folds:
            return interval_about(self.reference, self.certificate.upper, numbers, epsilon)
        chosen = self.prepared.categories(X)
        ends = np.empty((2, len(numbers), self.inner.n_outputs))
        for values in dict.fromkeys(chosen):
            rows = [i for i, row in enumerate(chosen) if row is values or row == values]
            network = self.prepared.at(self.inner, dict(zip(self.prepared.columns.categorical, values)))
            found = interval_about(network, self._upper_of(network), numbers[rows], epsilon)
            ends[:, rows] = np.reshape(found, (2, len(rows), -1))
        lower, upper = ends[..., 0] if self.inner.n_outputs == 1 else ends
        return lower, upper

    def _upper_of(self, network: ShallowNetwork) -> float:
        """A proved bound for the network at some categories.

        They change its biases alone, of which a proof by multipliers for all inputs does not speak
        (:mod:`certnet.proofs.shallow`): it serves every network with the same W and V, bit for bit.
        """
        same = np.array_equal(network.W, self.reference.W) and np.array_equal(network.V, self.reference.V)
        if same and self.certificate.kind == "shallow" and self.certificate.around is None:
            return self.certificate.upper
        return certify_checked(network, tol=1e-7, random_state=0).upper


@dataclass(frozen=True, eq=False)
class Fitted:
    """A refined network with its certificate, both in raw units.

    Attributes
    ----------
    model : estimator, ShallowNetwork or torch module
        The start.
    network : ShallowNetwork
    certificate : Certificate
    refinement : RefineResult
        In the units of the objective.
    by_columns : ByColumns or None
        Of a pipeline that treats columns differently.
    """

    model: Any
    network: ShallowNetwork
    certificate: Certificate
    refinement: RefineResult
    by_columns: ByColumns | None = None

    def attributes(self) -> dict[str, Any]:
        """What an estimator says of it, by scikit-learn's names."""
        done = self.refinement
        return {
            "estimator_": self.model,
            "network_": self.network,
            "certificate_": self.certificate,
            "lipschitz_upper_": self.certificate.upper,
            "lipschitz_lower_": self.certificate.lower,
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

    def interval(self, X: Any, epsilon: float) -> tuple[Float, Float]:
        """``f(x) ∓ (L ε + rounding)``; of a pipeline that treats columns differently, in its numeric columns."""
        if self.by_columns is None:
            return interval_about(self.network, self.certificate.upper, X, epsilon)
        return self.by_columns.interval(X, epsilon)

    def at(self, fixed: Mapping[Any, Any]) -> ShallowNetwork:
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
    """How networks are found and refined, whatever the data, the weight and the seed are.

    Parameters
    ----------
    estimator : estimator, ShallowNetwork, torch module or None
    prefit : bool
        Is ``estimator`` used as it stands?
    standardise : bool
        Is the objective stated in standardised units?
    penalty, method, solver, tol, cells, time_limit, verbose
        Of :func:`certnet.refinement.refine`.

    Raises
    ------
    InvalidInputError
        What :func:`certnet.refinement.refine` would refuse after the training.
    SolverUnavailableError
        The solver is not installed or has no licence.
    """

    estimator: Any
    prefit: bool
    standardise: bool
    penalty: str
    method: str
    solver: str
    tol: float | None
    cells: int
    time_limit: float | None
    verbose: bool

    def __post_init__(self) -> None:
        whole_number(self.cells, "cells", least=1)
        if self.tol is not None:
            positive_number(self.tol, "tol")
        if self.time_limit is not None:
            positive_number(self.time_limit, "time_limit")
        for name, value, known in (("penalty", self.penalty, PENALTIES), ("method", self.method, METHODS)):
            if value not in known:
                raise InvalidInputError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        require_solver(self.solver)

    def begin(self, X: Any, y: Float, names: Sequence[str] | None, seed: int) -> Beginning:
        """Train the start on X (N, d) and y, or read it; ``names`` are those of the columns of X, if they have any."""
        if self.whole:
            return self._begin_prepared(X, y, seed)
        units = Standardisation.of(X, y) if self.standardise else None
        if not is_fitted(self.estimator, prefit=self.prefit):
            return Beginning(*trained(self.estimator, X, y, standardise=self.standardise, seed=seed), units)
        model = thawed(self.estimator)
        network = read_fitted(model)
        require_columns(network, X, y, names, getattr(model, "feature_names_in_", None))
        return Beginning(model, network, units)

    @property
    def whole(self) -> bool:
        """Must the estimator see the columns as the user gave them?"""
        return takes_frames(self.estimator)

    def _begin_prepared(self, X: Any, y: Float, seed: int) -> Beginning:
        """The same for a pipeline that treats columns differently: on what its steps give."""
        if is_fitted(self.estimator, prefit=self.prefit):
            steps, last = parted(self.estimator)
            network = read_fitted(last)  # before the columns: an unfitted model is told as such
            prepared = Preparation.of(Pipeline(steps))
            inputs = prepared.inputs(X)
            require_columns(network, inputs, y, None, None)
            model = thawed(self.estimator)
        else:
            require_trainable(self.estimator)  # refused before any training
            steps, last = parted(clone(self.estimator))
            prepared = Preparation.fitted(steps, X, y)
            inputs = prepared.inputs(X)
            regressor, network = trained(last, inputs, y, standardise=self.standardise, seed=seed)
            model = Pipeline([("preprocessing", prepared.steps), ("regressor", regressor)])
        units = Standardisation.of(inputs, y) if self.standardise else None
        return Beginning(model, network, units, prepared)

    def refine(self, start: ShallowNetwork, X: Float, y: Float, weight: float, seed: int) -> RefineResult:
        """Refine a start; everything in the units of the objective."""
        return refine(
            start,
            X,
            y,
            weight,
            penalty=self.penalty,
            method=self.method,
            solver=self.solver,
            tol=self.tol,
            cells=self.cells,
            time_limit=self.time_limit,
            random_state=seed,
            verbose=self.verbose,
        )

    def fit(self, X: Any, y: Float, names: Sequence[str] | None, weight: float, seed: int) -> Fitted:
        """Find the start, refine it, and fold the result back into raw units."""
        begun = self.begin(X, y, names, seed)
        done = self.refine(begun.network, *begun.data(X, y), weight, seed)
        if begun.units is None:
            network = require_shallow(done.network)
        else:
            # without an improvement the start itself, which has not been through the units and back
            network = begun.raw
            if done.improved:
                network = begun.units.outward(require_shallow(done.network), begun.raw.units)
        if begun.prepared is not None:
            return self._fit_prepared(begun, begun.prepared, network, done, X, seed)
        if begun.units is None:
            return Fitted(begun.model, network, done.certificate, done)
        return Fitted(begun.model, network, certify(network, X=X, tol=1e-7, random_state=seed), done)

    def _fit_prepared(
        self, begun: Beginning, prepared: Preparation, inner: ShallowNetwork, done: RefineResult, X: Any, seed: int
    ) -> Fitted:
        """The bound in the user's columns where the steps are affine, else of what the steps give."""
        made = ByColumns.of(prepared, inner, X, seed)
        if prepared.folds:
            return Fitted(begun.model, made.reference, made.certificate, done, made)
        told = prepared.described(inner)
        certificate = certify_checked(told, prepared.inputs(X), tol=1e-7, random_state=seed)
        return Fitted(begun.model, told, certificate, done, made)


def fitting_of(estimator: BaseEstimator) -> Fitting:
    """The fitting that the parameters of an estimator ask for; they bear the names of its fields."""
    given = estimator.get_params(deep=False)
    return Fitting(**{field.name: given[field.name] for field in fields(Fitting)})
