"""A certified regressor whose weight is chosen by its error under attack on data that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from certnet.claims.certificate import Certificate
from certnet.claims.region import Ball, Box
from certnet.core.errors import InvalidInputError
from certnet.core.outcome import Status
from certnet.core.validation import Float, finite_array, one_of, positive_number
from certnet.estimators.choice import StartChoice
from certnet.estimators.fitting import DEFAULT_SIZES, Fitted, Fitting, fitting_of
from certnet.estimators.intervals import Perturbed
from certnet.estimators.samples import Observed, known_inputs, named_columns, regression_samples
from certnet.io.sklearn_bases import BaseEstimator, RegressorMixin
from certnet.networks.network import Network
from certnet.programs.goal import Goal, SlopeAtMost, Weighted
from certnet.proofs.slopes import SlopeIntervals
from certnet.refinement import RefineResult, TraceRow
from certnet.refinement.shape import ShapeLimits
from certnet.robust.attacks import PGDAttack
from certnet.robust.residuals import squared_residuals

__all__ = ["CertifiedRegressorCV"]

RULES: Final = ("best", "one_se")


class CertifiedRegressorCV(RegressorMixin, BaseEstimator):
    r"""A :class:`CertifiedRegressor` whose weight, or limit on L, is chosen by cross-validated adversarial error.

    For every split, a start is found on one part of the data as :class:`CertifiedRegressor` finds it, its weight decay
    and stopping chosen within that part. For every weight it is refined, and attacked on the rest by projected
    gradients of radius ε; the weight that the mean errors speak for is used for the fit on all data. All of this is
    stated in units standardised by the training part (``standardise=False``: in the data's own).

    Parameters
    ----------
    estimator, hidden_layer_sizes, effort, monotonic_cst, slope_limits, region, loss, huber_threshold
        Of :class:`CertifiedRegressor`. A prefit start has seen all of the data: its validation errors are too good, but
        the choice between weights stands.
    penalty, method, solver, tol, cells, standardise, prefit, time_limit, random_state, verbose
        Of the same.
    weights : array_like, shape (K,), optional
        Positive; by default seven between 1e-3 and 1.
    targets : array_like, shape (K,), optional
        Limits on the certified L to choose from instead of weights, in the units of ``target_lipschitz``.
    epsilon : float
        ε ≥ 0, in standardised units; 0 chooses by the clean error.
    rule : {"best", "one_se"}
        The weight of the least mean error, or the largest one (the smallest limit) whose mean error is at most one
        standard error of the splits above the least.
    cv : int, splitter or None
        As in scikit-learn; None is five folds.
    cv_effort : {"quick", "default", "thorough"} or float, optional
        Effort of the refinements in the splits, by default "quick"; ``effort`` is that of the fit on all data. Where
        ``method`` or another option says which programs are solved, they are so in the splits, too.

    Attributes
    ----------
    weight_, target_lipschitz_ : float or None
        The chosen one; the other is None.
    weights_, targets_ : ndarray of shape (K,), or None
        What it was chosen from, increasing.
    cv_errors_ : ndarray, shape (K, n_splits)
        Adversarial mean squared errors, weighted where samples are.
    cv_upper_ : ndarray, shape (K, n_splits)
        Certified bounds, in the units of the errors.

    Notes
    -----
    The other attributes are those of :class:`CertifiedRegressor`, fitted with the chosen weight or limit.

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

    weight_: float | None
    target_lipschitz_: float | None
    weights_: Float | None
    targets_: Float | None
    cv_errors_: Float
    cv_upper_: Float
    estimator_: Any
    start_choice_: StartChoice | None
    network_: Network
    certificate_: Certificate
    certificate_everywhere_: Certificate
    lipschitz_upper_: float
    lipschitz_lower_: float
    slopes_: SlopeIntervals | None
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
        hidden_layer_sizes: int | Sequence[int] = DEFAULT_SIZES,
        weights: ArrayLike | None = None,
        targets: ArrayLike | None = None,
        epsilon: float = 0.1,
        rule: str = "best",
        cv: Any = None,
        cv_effort: str | float | None = None,
        effort: str | float | None = None,
        monotonic_cst: ArrayLike | Mapping[str, int] | None = None,
        slope_limits: Mapping[str | int, tuple[float, float]] | None = None,
        region: Box | Ball | str | None = None,
        loss: str = "squared",
        huber_threshold: float = 1.0,
        penalty: str = "lipschitz",
        method: str | None = None,
        solver: str | None = None,
        tol: float | None = None,
        cells: int | None = None,
        standardise: bool = True,
        prefit: bool = False,
        time_limit: float | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.estimator = estimator
        self.hidden_layer_sizes = hidden_layer_sizes
        self.weights = weights
        self.targets = targets
        self.epsilon = epsilon
        self.rule = rule
        self.cv = cv
        self.cv_effort = cv_effort
        self.effort = effort
        self.monotonic_cst = monotonic_cst
        self.slope_limits = slope_limits
        self.region = region
        self.loss = loss
        self.huber_threshold = huber_threshold
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

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Choose the weight or the limit, then fit with it on all data.

        Takes and raises what :meth:`CertifiedRegressor.fit` does; ``sample_weight`` also weighs the errors.
        """
        grid, goals = self._grid()
        epsilon = positive_number(self.epsilon, "epsilon", zero=True)
        one_of(self.rule, "rule", RULES)
        how = fitting_of(self)
        quick = (
            how if how.of_programs and self.cv_effort is None else fitting_of(self, effort=self.cv_effort or "quick")
        )
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        rows = regression_samples(self, X, y, sample_weight, whole=how.whole)
        names = named_columns(self)
        asked = how.asked(rows.counted("all rows"), names)
        splits = list(check_cv(self.cv).split(rows.X, rows.y))
        self.cv_errors_, self.cv_upper_ = np.empty((2, len(grid), len(splits)))
        for column, (train, test) in enumerate(splits):
            parts = [
                rows.at(part).counted(f"the {what} part of split {column}")
                for part, what in ((train, "training"), (test, "test"))
            ]
            measured = _measured(quick, parts[0], parts[1], names, asked, goals, epsilon, seed)
            self.cv_errors_[:, column], self.cv_upper_[:, column] = measured
        best = self._chosen(goals)
        limited = self.targets is not None
        self.weights_, self.targets_ = (None, grid) if limited else (grid, None)
        self.weight_, self.target_lipschitz_ = (None, float(grid[best])) if limited else (float(grid[best]), None)
        made = how.fit(rows.counted("all rows"), names, goals[best], seed)
        self.__dict__.update(made.attributes())
        return self

    def _grid(self) -> tuple[Float, list[Goal]]:
        """The numbers to choose from, increasing, and the goals that they stand for."""
        if self.weights is not None and self.targets is not None:
            raise InvalidInputError("weights and targets are two grids: give one of them")
        name, given = ("weights", self.weights) if self.targets is None else ("targets", self.targets)
        grid = np.unique(finite_array(np.geomspace(1e-3, 1.0, 7) if given is None else given, name, ndim=(1,)))
        if grid.size == 0 or not np.all(grid > 0.0):
            raise InvalidInputError(f"{name} must hold at least one number, all of them positive")
        kind = Weighted if self.targets is None else SlopeAtMost
        return grid, [kind(float(value)) for value in grid]

    def _chosen(self, goals: Sequence[Goal]) -> int:
        """The goal that the errors speak for."""
        means = self.cv_errors_.mean(axis=1)
        best = int(np.argmin(means))
        n_splits = self.cv_errors_.shape[1]
        if self.rule == "best" or n_splits < 2:
            return best
        spread = self.cv_errors_[best].std(ddof=1) / np.sqrt(n_splits)
        near = np.flatnonzero(means <= means[best] + spread)
        # the flattest: the largest weight, or the smallest limit
        return int(near[-1] if isinstance(goals[0], Weighted) else near[0])

    def predict(self, X: ArrayLike) -> Float:
        """``network_`` at every row of X (N, d), in raw units: shape (N,) for one output, else (N, m)."""
        check_is_fitted(self)
        return self._fitted.predict(known_inputs(self, X, whole=self._fitted.by_columns is not None))

    def certified_interval(
        self, X: ArrayLike, epsilon: float | None = None, *, box: ArrayLike | None = None, relaxed: bool = True
    ) -> tuple[Float, Float]:
        """``f(x) ∓ (L ε + rounding)``, or less, as :meth:`CertifiedRegressor.certified_interval` gives it."""
        check_is_fitted(self)
        how = Perturbed.of(epsilon, box, relaxed)
        return self._fitted.interval(known_inputs(self, X, whole=self._fitted.by_columns is not None), how)

    def network_for(self, fixed: Mapping[Any, Any] | None = None) -> Network:
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


def _measured(
    how: Fitting,
    train: Observed,
    test: Observed,
    names: Sequence[str] | None,
    asked: ShapeLimits | None,
    goals: Sequence[Goal],
    epsilon: float,
    seed: int,
) -> tuple[list[float], list[float]]:
    """Of every goal, the attacked error on ``test`` of one start refined on ``train``, and the certified bound."""
    begun = how.begin(train, names, asked, seed)
    part, rest = begun.data(train), begun.data(test)
    errors, uppers = [], []
    for goal in goals:
        done = how.refine(begun, part, goal, seed)
        if done.status is Status.INTERRUPTED:
            raise KeyboardInterrupt  # errors of unfinished refinements choose nothing
        errors.append(_attacked_error(done.network, rest, epsilon))
        uppers.append(done.certificate.upper)
    return errors, uppers


def _attacked_error(network: Network, rows: Observed, epsilon: float) -> float:
    """Weighted mean squared error of the network on rows that are attacked within ε where that is not 0."""
    worst = squared_residuals(network, rows.X, rows.y)
    if epsilon > 0.0:
        attacked = PGDAttack().perturb(network, rows.X, rows.y, epsilon)
        worst = np.maximum(worst, squared_residuals(network, attacked, rows.y))
    return float(np.average(worst, weights=rows.weight))
