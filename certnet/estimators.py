"""The scikit-learn face: train or take a regressor, refine it, certify it, predict with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import check_cv
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from certnet.certification import certify
from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.outcome import Status
from certnet.core.validation import Float, finite_array, positive_number, whole_number
from certnet.io.sklearn_ import from_sklearn
from certnet.io.torch_ import from_torch
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork
from certnet.programs.objectives import PENALTIES, mean_squared_error
from certnet.refinement.refinement import METHODS, RefineResult, refine, require_solver
from certnet.robust.curves import adversarial_mse

__all__ = ["CertifiedRegressor", "CertifiedRegressorCV"]


class CertifiedRegressor(RegressorMixin, BaseEstimator):
    r"""A one-hidden-layer ReLU regressor, refined by a convex program, with a proved Lipschitz bound.

    ``fit`` starts from a trained network and minimises, over the network's activation cell
    (:func:`certnet.refinement.refinement`),

        J(f) = (1/N) Σ_i ‖f(z_i) − t_i‖² + weight · ρ,    z = (x − x_mean) / x_std,   t = (y − y_mean) / y_std

    with ρ ≥ L² certified; mean and standard deviation (divisor N) are those of every column of the ``X`` and ``y``
    given to ``fit``, and a constant column keeps scale 1. Thus ``weight`` means the same whatever the data are
    measured in. The refined network is then folded back: everything that the fitted estimator says of the network,
    its bound included, is in the units of the ``X`` and ``y`` given to ``fit`` (*raw* units); only the objective
    values and the refinement's own record are in standardised units.

    Parameters
    ----------
    estimator : estimator, ShallowNetwork or torch module, optional
        What training starts from. None: an ``MLPRegressor`` with 100 hidden units. An ``MLPRegressor`` with one
        hidden layer and ReLU, or one within ``Pipeline`` and ``TransformedTargetRegressor`` with ``StandardScaler``:
        a clone of it is trained, on standardised data, with its own ``random_state``. A ``ShallowNetwork``, or a
        fitted model inside ``sklearn.frozen.FrozenEstimator``: used as it stands, see ``prefit``.
    weight : float, default 0.01
        λ ≥ 0: explained variance given up per squared standardised Lipschitz constant. With ``standardise=False``,
        in units of mean squared error per squared Lipschitz constant of the data as given.
    penalty : {"lipschitz", "l2"}
        ρ, or ``‖W‖_F² + ‖b‖² + ‖V‖_F²`` of the standardised network in its place.
    method : {"joint", "alternating"}
        See :func:`certnet.refinement.refinement`.
    solver : {"auto", "CERTNET", "CLARABEL", "SCS", "MOSEK"}
        Solver of the convex programs; "auto" is certnet's own, with Clarabel where it fails.
    tol : float, optional
        See :func:`certnet.refinement.refinement`.
    cells : int
        Activation cells that may be visited, 1 for the start's own; see :func:`certnet.refinement.refinement`.
    standardise : bool
        False trains and refines on the data as they are: all units are raw, and ``weight`` depends on them.
    prefit : bool
        Use ``estimator`` as it stands: a fitted scikit-learn model of the kinds above, which predicts raw ``y`` from
        raw ``X``, a ``ShallowNetwork``, or an ``nn.Sequential(Linear, ReLU, Linear)`` of torch. It is read, not
        changed, and the data given to ``fit`` only refine it. Cloning unfits scikit-learn models: for
        ``GridSearchCV`` and ``cross_val_score`` pass ``FrozenEstimator(model)`` instead, which needs no ``prefit``.
    time_limit : float, optional
        Seconds for the refinement (training is not counted).
    random_state : int, RandomState or None
        Seed of the default estimator's training and of the certificates' searches.
    verbose : bool
        Print the solver's own log.

    Attributes
    ----------
    network_ : ShallowNetwork
        The refined network in raw units (a ``ShallowNetwork`` that was given keeps its own label of units). Where
        ``improved_`` is false it is the start itself.
    certificate_ : Certificate
        Of ``network_``, in raw units: ``certificate_.check(network_)`` proves it again.
    lipschitz_upper_, lipschitz_lower_ : float
        ``lower ≤ L ≤ upper`` for the l2 → l2 Lipschitz constant of ``network_``, in units of y per unit of X.
    objective_before_, objective_after_ : float
        J of start and result, recomputed with certified ρ; the second is never above the first.
    improved_ : bool
    trace_ : tuple of TraceRow
        What the refinement tried, in the units of J.
    refinement_ : RefineResult
        The refinement itself, in the units of J: with its certificates in standardised units.
    estimator_ : estimator, ShallowNetwork or torch module
        The start. Trained here, it is a pipeline that scales, and predicts in raw units.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where ``X`` has column names.

    Notes
    -----
    Several outputs are supported: L then bounds the l2 norm of all of them together. Sample weights and sparse inputs
    are not supported. What the training says (``ConvergenceWarning``) and what the refinement says
    (:class:`~certnet.core.errors.NotConvergedWarning`) is passed on.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.neural_network import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> start = MLPRegressor(hidden_layer_sizes=(5,), max_iter=2000, random_state=0)
    >>> model = CertifiedRegressor(start, weight=0.01).fit(X[:100], y[:100])
    >>> bool(model.certificate_.check(model.network_))
    True
    """

    network_: ShallowNetwork

    def __init__(
        self,
        estimator: Any = None,
        *,
        weight: float = 0.01,
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
        self.weight = weight
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
        """Train the start (unless it is fitted), refine it on X (N, d) and y (N,) or (N, m), and certify the result.

        Raises
        ------
        ValueError, TypeError
            scikit-learn's own, for X and y: NaN or infinite, not numeric, lengths that differ, fewer than two samples;
            sparse.
        InvalidInputError
            Unknown or impossible parameters, refused before any training; or data that do not fit a prefit model.
        UnsupportedModelError
            ``estimator`` is of a kind that certnet does not read or has not one hidden layer with ReLU, or is prefit
            and not fitted.
        SolverUnavailableError
            The solver is not installed or has no licence; raised before any training.
        """
        self._check_parameters(self.weight)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return self._fit(*self._data(X, y), self.weight, seed)

    def _data(self, X: ArrayLike, y: ArrayLike) -> tuple[Float, Float]:
        inputs, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=2)
        targets = finite_array(y, "y", ndim=(1, 2))
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = column_or_1d(targets, warn=True)  # as scikit-learn's own MLPRegressor does
        return inputs, targets

    def _fit(self, inputs: Float, targets: Float, weight: float, seed: int) -> Self:
        units = _Standardisation.of(inputs, targets) if self.standardise else None
        start = self._start(inputs, targets, seed)
        if units:
            done = self._refine(units.inward(start), *units.data(inputs, targets), weight, seed)
            # without an improvement the start itself, which has not been through the units and back
            self.network_ = units.outward(done.network, start.units) if done.improved else start
            self.certificate_ = certify(self.network_, X=inputs, tol=1e-7, random_state=seed)
        else:
            done = self._refine(start, inputs, targets, weight, seed)
            self.network_, self.certificate_ = done.network, done.certificate
        self.lipschitz_upper_, self.lipschitz_lower_ = self.certificate_.upper, self.certificate_.lower
        self.objective_before_, self.objective_after_ = done.objective_before, done.objective_after
        self.improved_, self.trace_, self.refinement_ = done.improved, done.trace, done
        return self

    def predict(self, X: ArrayLike) -> Float:
        """``network_`` at every row of X (N, d), in raw units: shape (N,) for one output, else (N, m)."""
        check_is_fitted(self)
        return self.network_.predict(validate_data(self, X, dtype=np.float64, reset=False))

    def certified_interval(self, X: ArrayLike, epsilon: float) -> tuple[Float, Float]:
        """``f(x) ∓ (L ε + rounding)``, which holds ``f(x + δ)`` for every perturbation with ``‖δ‖₂ ≤ ε``.

        f is the real-arithmetic network with the stored weights, L its certified bound; the rounding errors of the
        computed ``f(x)`` are charged to the interval. It speaks of the model's output, not of the noise in y.

        Parameters
        ----------
        X : array_like, shape (N, d)
        epsilon : float
            ε ≥ 0, an l2 distance in the units of X: where its columns have different units, so has ε.

        Returns
        -------
        lower, upper : ndarray, shape (N,) or (N, m)
            In the units of y. With several outputs, L bounds them together and so each of them.

        Raises
        ------
        InvalidInputError
            ``epsilon`` is negative, infinite or not a number.
        """
        check_is_fitted(self)
        epsilon = positive_number(epsilon, "epsilon", zero=True)
        inputs = validate_data(self, X, dtype=np.float64, reset=False)
        centre = self.network_.predict(inputs)
        radius = np.nextafter(self.lipschitz_upper_ * epsilon, np.inf) if epsilon else 0.0
        radius = np.nextafter(radius + _rounding(self.network_, inputs).reshape(centre.shape), np.inf)
        return np.nextafter(centre - radius, -np.inf), np.nextafter(centre + radius, np.inf)

    def _check_parameters(self, weight: float) -> None:
        """What :func:`refine` would refuse after the training, refused before it."""
        positive_number(weight, "weight", zero=True)
        whole_number(self.cells, "cells", least=1)
        if self.tol is not None:
            positive_number(self.tol, "tol")
        if self.time_limit is not None:
            positive_number(self.time_limit, "time_limit")
        for name, value, known in (("penalty", self.penalty, PENALTIES), ("method", self.method, METHODS)):
            if value not in known:
                raise InvalidInputError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        require_solver(self.solver)

    def _start(self, X: Float, y: Float, seed: int) -> ShallowNetwork:
        """The network to refine, in raw units; sets ``estimator_``."""
        frozen = isinstance(self.estimator, FrozenEstimator)
        if self.prefit or frozen or isinstance(self.estimator, ShallowNetwork | FeedForward):
            self.estimator_ = self.estimator.estimator if frozen else self.estimator
            network = _read(self.estimator_)
            self._check_columns(network, y)
            return network
        self.estimator_ = self._unfitted(seed).fit(X, y)
        return _shallow(from_sklearn(self.estimator_, units="raw"))

    def _unfitted(self, seed: int) -> Any:
        """The estimator to train, within the standardisation that the objective is stated in."""
        if self.estimator is not None and not isinstance(self.estimator, BaseEstimator):
            raise InvalidInputError(
                f"estimator is {_kind(self.estimator)}, which cannot be trained here: pass a scikit-learn estimator, "
                "or prefit=True for a fitted model"
            )
        if self.estimator is None:
            # scikit-learn's limit of 200 epochs is too low for small data sets
            inner = MLPRegressor(hidden_layer_sizes=(100,), max_iter=5000, random_state=seed)
        else:
            inner = clone(self.estimator)
        if not self.standardise:
            return inner
        return make_pipeline(StandardScaler(), TransformedTargetRegressor(inner, transformer=StandardScaler()))

    def _check_columns(self, network: ShallowNetwork, y: Float) -> None:
        """A prefit network has the inputs and outputs of the data, and the same names where both have names."""
        outputs = 1 if y.ndim == 1 else y.shape[1]
        for name, found, needed, kind in (
            ("X", self.n_features_in_, network.n_inputs, "inputs"),
            ("y", outputs, network.n_outputs, "output(s)"),
        ):
            if found != needed:
                raise InvalidInputError(f"{name} has {found} columns, the prefit estimator has {needed} {kind}")
        theirs, mine = (getattr(model, "feature_names_in_", None) for model in (self.estimator_, self))
        if theirs is not None and mine is not None and list(theirs) != list(mine):
            raise InvalidInputError(
                f"X has the columns {', '.join(mine)}, the prefit estimator was fitted on {', '.join(theirs)}: "
                "give the same columns in the same order"
            )

    def _refine(self, start: ShallowNetwork, X: Float, y: Float, weight: float, seed: int) -> RefineResult:
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


class CertifiedRegressorCV(CertifiedRegressor):
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
        # not by super().__init__, which would set a weight
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

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Choose the weight, then fit with it on all data; raises what :meth:`CertifiedRegressor.fit` does."""
        weights = np.geomspace(1e-3, 1.0, 10) if self.weights is None else self.weights
        grid = np.unique(finite_array(weights, "weights", ndim=(1,)))
        if grid.size == 0 or not np.all(grid > 0.0):
            raise InvalidInputError("weights must hold at least one number, all of them positive")
        epsilon = positive_number(self.epsilon, "epsilon", zero=True)
        self._check_parameters(float(grid[0]))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        inputs, targets = self._data(X, y)
        splits = list(check_cv(self.cv).split(inputs, targets))
        self.weights_ = grid
        self.cv_errors_, self.cv_upper_ = np.empty((2, len(grid), len(splits)))
        for column, (train, test) in enumerate(splits):
            units = _Standardisation.of(inputs[train], targets[train]) if self.standardise else None
            start = self._start(inputs[train], targets[train], seed)
            part, rest = (inputs[train], targets[train]), (inputs[test], targets[test])
            if units:
                start, part, rest = units.inward(start), units.data(*part), units.data(*rest)
            for row, weight in enumerate(grid):
                done = self._refine(start, *part, float(weight), seed)
                if done.status is Status.INTERRUPTED:
                    raise KeyboardInterrupt  # errors of unfinished refinements choose nothing
                curve = adversarial_mse(done.network, *rest, [epsilon]) if epsilon else None
                clean = mean_squared_error(done.network, *rest)
                self.cv_errors_[row, column] = clean if curve is None else curve.adversarial[0]
                self.cv_upper_[row, column] = done.certificate.upper
        self.weight_ = float(grid[int(np.argmin(self.cv_errors_.mean(axis=1)))])
        return self._fit(inputs, targets, self.weight_, seed)


@dataclass(frozen=True, eq=False)
class _Standardisation:
    """Mean and standard deviation of the columns of X, shape (d,), and of y, shape (m,); scale 1 where constant."""

    x_shift: Float
    x_scale: Float
    y_shift: Float
    y_scale: Float

    @classmethod
    def of(cls, X: Float, y: Float) -> Self:
        """Raises InvalidInputError where the squares of the deviations overflow."""
        with np.errstate(over="ignore", invalid="ignore"):  # told by the scale below
            x, target = StandardScaler().fit(X), StandardScaler().fit(y.reshape(len(y), -1))
        for name, scaler in (("X", x), ("y", target)):
            bad = ~np.isfinite(scaler.scale_)
            if bad.any():
                raise InvalidInputError(
                    f"column {int(np.argmax(bad))} of {name} is too large to standardise (its variance overflows): "
                    "measure it in larger units"
                )
        return cls(x.mean_, x.scale_, target.mean_, target.scale_)

    def data(self, X: Float, y: Float) -> tuple[Float, Float]:
        return (X - self.x_shift) / self.x_scale, (y - self.y_shift) / self.y_scale

    def inward(self, network: ShallowNetwork) -> ShallowNetwork:
        """The raw network as a map from standardised inputs to standardised outputs."""
        return network.rescaled(
            x_shift=-self.x_shift / self.x_scale,
            x_scale=1.0 / self.x_scale,
            y_shift=-self.y_shift / self.y_scale,
            y_scale=1.0 / self.y_scale,
            units="standardised",
        )

    def outward(self, network: ShallowNetwork, units: str) -> ShallowNetwork:
        return network.rescaled(
            x_shift=self.x_shift, x_scale=self.x_scale, y_shift=self.y_shift, y_scale=self.y_scale, units=units
        )


def _read(model: Any) -> ShallowNetwork:
    """The network of a fitted model, in the units of the data that the model takes and gives."""
    if isinstance(model, ShallowNetwork | FeedForward):
        return _shallow(model)
    if isinstance(model, BaseEstimator):
        try:
            check_is_fitted(model)
        except NotFittedError as error:
            raise UnsupportedModelError(
                f"the prefit {type(model).__name__} is not fitted: fit it first; clones, as GridSearchCV makes them, "
                "are unfitted unless the model is wrapped: FrozenEstimator(model)"
            ) from error
        return _shallow(from_sklearn(model, units="raw"))
    if any(base.__module__.partition(".")[0] == "torch" for base in type(model).__mro__):
        return _shallow(from_torch(model, units="raw"))
    raise UnsupportedModelError(
        f"the prefit estimator is {_kind(model)}: certnet takes a fitted scikit-learn model, a ShallowNetwork or a "
        "torch module"
    )


def _shallow(network: ShallowNetwork | FeedForward) -> ShallowNetwork:
    """The network as one that can be refined."""
    return network.shallow() if isinstance(network, FeedForward) else network


def _kind(found: Any) -> str:
    return "None" if found is None else f"of type {type(found).__name__}"


def _rounding(network: ShallowNetwork, X: Float) -> Float:
    r"""Bound ``γ (|V| (|W| |x| + |b|) + |c|)`` on the rounding of ``forward``, whatever its order; shape (N, m).

    γ counts d + h + 2 operations at twice the unit roundoff: the spare half covers the rounding of the bound itself;
    ``tiny`` covers underflow (N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.5).
    """
    tiny = np.finfo(np.float64).tiny
    hidden = np.abs(X) @ np.abs(network.W).T + np.abs(network.b) + tiny
    size = hidden @ np.abs(network.V).T + np.abs(network.c) + tiny
    gamma = (network.n_inputs + network.n_hidden + 2) * np.finfo(np.float64).eps
    return np.asarray(gamma * size, dtype=np.float64)
