"""A certified regressor whose weight is chosen by its error under attack on data that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.validation import check_is_fitted

from certnet.claims.certificate import Certificate
from certnet.core.errors import InvalidInputError
from certnet.core.outcome import Status
from certnet.core.validation import Float, finite_array, positive_number
from certnet.estimators.fitting import Fitted, fitting_of
from certnet.estimators.samples import known_inputs, named_columns, regression_samples
from certnet.networks.shallow import ShallowNetwork, require_shallow
from certnet.programs.objectives import mean_squared_error
from certnet.refinement import RefineResult, TraceRow
from certnet.robust.curves import adversarial_mse

__all__ = ["CertifiedRegressorCV"]


class CertifiedRegressorCV(RegressorMixin, BaseEstimator):
    r"""A :class:`CertifiedRegressor` whose weight is chosen by cross-validated adversarial error.

    For every weight and every split, a network is trained on one part of the data, refined, and attacked on the rest by
    projected gradients of radius ε; the weight of the least mean error is used for the fit on all data. All of this
    is stated in units standardised by the training part (``standardise=False``: in the data's own).

    Parameters
    ----------
    estimator, penalty, method, solver, tol, cells, standardise, prefit, time_limit, random_state, verbose
        Of :class:`CertifiedRegressor`. A prefit start has seen all of the data: its validation errors are too good, but
        the choice between weights stands.
    weights : array_like, shape (K,), optional
        Positive; by default ten between 1e-3 and 1.
    epsilon : float
        ε ≥ 0, in standardised units; 0 chooses by the clean error.
    cv : int, splitter or None
        As in scikit-learn; None is five folds.

    Attributes
    ----------
    weight_ : float
        The chosen one.
    weights_ : ndarray, shape (K,)
    cv_errors_ : ndarray, shape (K, n_splits)
        Adversarial mean squared errors.
    cv_upper_ : ndarray, shape (K, n_splits)
        Certified bounds, in the units of the errors.

    Notes
    -----
    The other attributes are those of :class:`CertifiedRegressor`, fitted with the chosen weight.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.neural_network import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> start = MLPRegressor(hidden_layer_sizes=(5,), max_iter=2000, random_state=0)
    >>> model = CertifiedRegressorCV(start, weights=[0.01, 0.1], epsilon=0.2, cv=2).fit(X[:100], y[:100])
    >>> model.weight_ in (0.01, 0.1)
    True
    """

    weight_: float
    weights_: Float
    cv_errors_: Float
    cv_upper_: Float
    estimator_: Any
    network_: ShallowNetwork
    certificate_: Certificate
    lipschitz_upper_: float
    lipschitz_lower_: float
    objective_before_: float
    objective_after_: float
    improved_: bool
    trace_: tuple[TraceRow, ...]
    refinement_: RefineResult
    _fitted: Fitted

    def __init__(
        self,
        estimator: Any = None,
        *,
        weights: ArrayLike | None = None,
        epsilon: float = 0.1,
        cv: Any = None,
        penalty: str = "lipschitz",
        method: str = "joint",
        solver: str = "auto",
        tol: float | None = None,
        cells: int = 1,
        standardise: bool = True,
        prefit: bool = False,
        time_limit: float | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.estimator = estimator
        self.weights = weights
        self.epsilon = epsilon
        self.cv = cv
        self.penalty = penalty
        self.method = method
        self.solver = solver
        self.tol = tol
        self.cells = cells
        self.standardise = standardise
        self.prefit = prefit
        self.time_limit = time_limit
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Choose the weight, then fit with it on all data; raises what :meth:`CertifiedRegressor.fit` does."""
        weights = np.geomspace(1e-3, 1.0, 10) if self.weights is None else self.weights
        grid = np.unique(finite_array(weights, "weights", ndim=(1,)))
        if grid.size == 0 or not np.all(grid > 0.0):
            raise InvalidInputError("weights must hold at least one number, all of them positive")
        epsilon = positive_number(self.epsilon, "epsilon", zero=True)
        how = fitting_of(self)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        inputs, targets = regression_samples(self, X, y, whole=how.whole)
        names = named_columns(self)
        splits = list(check_cv(self.cv).split(inputs, targets))
        self.weights_ = grid
        self.cv_errors_, self.cv_upper_ = np.empty((2, len(grid), len(splits)))
        for column, (train, test) in enumerate(splits):
            begun = how.begin(_safe_indexing(inputs, train), targets[train], names, seed)
            start = begun.network
            part, rest = (begun.data(_safe_indexing(inputs, rows), targets[rows]) for rows in (train, test))
            for row, weight in enumerate(grid):
                done = how.refine(start, *part, float(weight), seed)
                if done.status is Status.INTERRUPTED:
                    raise KeyboardInterrupt  # errors of unfinished refinements choose nothing
                self.cv_errors_[row, column] = _attacked_error(require_shallow(done.network), *rest, epsilon)
                self.cv_upper_[row, column] = done.certificate.upper
        self.weight_ = float(grid[int(np.argmin(self.cv_errors_.mean(axis=1)))])
        made = how.fit(inputs, targets, names, self.weight_, seed)
        self.__dict__.update(made.attributes())
        return self

    def predict(self, X: ArrayLike) -> Float:
        """``network_`` at every row of X (N, d), in raw units: shape (N,) for one output, else (N, m)."""
        check_is_fitted(self)
        return self._fitted.predict(known_inputs(self, X, whole=self._fitted.by_columns is not None))

    def certified_interval(self, X: ArrayLike, epsilon: float) -> tuple[Float, Float]:
        """``f(x) ∓ (L ε + rounding)``, as :meth:`CertifiedRegressor.certified_interval` gives it."""
        check_is_fitted(self)
        epsilon = positive_number(epsilon, "epsilon", zero=True)
        inputs = known_inputs(self, X, whole=self._fitted.by_columns is not None)
        return self._fitted.interval(inputs, epsilon)

    def network_for(self, fixed: Mapping[Any, Any] | None = None) -> ShallowNetwork:
        """The network in the numeric columns of X, the categorical ones held at values, such as ``{"colour": "red"}``.

        Without a pipeline that treats columns differently it is ``network_``.

        Raises
        ------
        InvalidInputError
            A name or value that the preprocessing does not take.
        UnsupportedModelError
            A categorical column has no value.
        """
        check_is_fitted(self)
        return self._fitted.at(fixed or {})


def _attacked_error(network: ShallowNetwork, X: Float, y: Float, epsilon: float) -> float:
    """Mean squared error of the network on X and y, attacked within ε where that is not 0."""
    if epsilon == 0.0:
        return mean_squared_error(network, X, y)
    return float(adversarial_mse(network, X, y, [epsilon]).adversarial[0])
