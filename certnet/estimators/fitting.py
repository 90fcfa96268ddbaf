"""From data to a refined and certified network: the work that the estimators hand on, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sklearn.base import BaseEstimator

from certnet.certification import certify
from certnet.claims.certificate import Certificate
from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, positive_number, whole_number
from certnet.estimators.standardisation import Standardisation
from certnet.estimators.starts import is_fitted, read_fitted, require_columns, thawed, trained
from certnet.networks.shallow import ShallowNetwork
from certnet.programs.objectives import PENALTIES
from certnet.refinement.refinement import METHODS, RefineResult, refine, require_solver

__all__ = ["Beginning", "Fitted", "Fitting", "fitting_of"]


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
    """

    model: Any
    raw: ShallowNetwork
    units: Standardisation | None

    @property
    def network(self) -> ShallowNetwork:
        """The start in the units of the objective."""
        return self.raw if self.units is None else self.units.inward(self.raw)

    def data(self, X: Float, y: Float) -> tuple[Float, Float]:
        """Data in the units of the objective."""
        return (X, y) if self.units is None else self.units.data(X, y)


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
    """

    model: Any
    network: ShallowNetwork
    certificate: Certificate
    refinement: RefineResult

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
        }


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

    def begin(self, X: Float, y: Float, names: Sequence[str] | None, seed: int) -> Beginning:
        """Train the start on X (N, d) and y, or read it; ``names`` are those of the columns of X, if they have any."""
        units = Standardisation.of(X, y) if self.standardise else None
        if not is_fitted(self.estimator, prefit=self.prefit):
            return Beginning(*trained(self.estimator, X, y, standardise=self.standardise, seed=seed), units)
        model = thawed(self.estimator)
        network = read_fitted(model)
        require_columns(network, X, y, names, getattr(model, "feature_names_in_", None))
        return Beginning(model, network, units)

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

    def fit(self, X: Float, y: Float, names: Sequence[str] | None, weight: float, seed: int) -> Fitted:
        """Find the start, refine it, and fold the result back into raw units."""
        begun = self.begin(X, y, names, seed)
        done = self.refine(begun.network, *begun.data(X, y), weight, seed)
        if begun.units is None:
            return Fitted(begun.model, done.network, done.certificate, done)
        # without an improvement the start itself, which has not been through the units and back
        network = begun.units.outward(done.network, begun.raw.units) if done.improved else begun.raw
        return Fitted(begun.model, network, certify(network, X=X, tol=1e-7, random_state=seed), done)


def fitting_of(estimator: BaseEstimator) -> Fitting:
    """The fitting that the parameters of an estimator ask for; they bear the names of its fields."""
    given = estimator.get_params(deep=False)
    return Fitting(**{field.name: given[field.name] for field in fields(Fitting)})
