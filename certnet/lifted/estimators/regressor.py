"""A regressor by the outputs of a lifted network."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, as_weights, finite_array
from certnet.io.sklearn_bases import BaseEstimator, RegressorMixin
from certnet.lifted.bounds import LiftedCertificate
from certnet.lifted.estimators.defaults import AUTO, feedback, is_deep, rate, rates_to_try, stops_early
from certnet.lifted.estimators.files import load_fitted, save_fitted
from certnet.lifted.estimators.fitted import DTYPES, fitted_attributes, inferred, is_fitted, once
from certnet.lifted.estimators.plans import best_of, held_back, plan_of, scaling_of, training_of
from certnet.lifted.learn.arguments import betas, hidden_sizes, layer_units, seed_of
from certnet.lifted.learn.objective import Objective
from certnet.lifted.learn.plan import Learned, Plan
from certnet.lifted.learn.scaling import Scaling
from certnet.lifted.learn.state import State
from certnet.lifted.network import LiftedNetwork

__all__ = ["LiftedRegressor"]

_REGRESSING: Final = ("contrastive", "lifted")


class LiftedRegressor(RegressorMixin, BaseEstimator):
    r"""A regressor ``x ↦ z_L*(x)`` with one or several outputs, trained like :class:`LiftedClassifier`.

    Parameters
    ----------
    units : str, pair of numbers, or sequence of them
        Of the hidden layers: one for all, or one for each. The output's limits are ``output_box``.
    output_box : pair, optional
        (lower, upper) of the outputs, in the units of y: numbers, or one per output.
    objective : {"contrastive", "lifted"}
    learning_rate : float or "auto"
        "auto" is the better of two by the R² of the samples that are held back, 0.1 and 0.03 of back-propagation (0.15
        and 0.05 from three hidden layers on): the fit takes the time of both. Without such samples, in a fit with a
        checkpoint, and in ``partial_fit``, it is that of :class:`LiftedClassifier`.
    early_stopping : bool or "auto"
        "auto" holds ``validation_fraction`` back where there are sixty samples or more.
    standardise : bool
        As in :class:`LiftedClassifier`, and each target by its own mean and standard deviation.

    Notes
    -----
    The other parameters, and the attributes, are those of :class:`LiftedClassifier`; early stopping goes by R².
    ``certificate()`` speaks of ``network_``, between scaled inputs and scaled targets; :meth:`lipschitz_bracket`,
    ``lipschitz_lower_`` and ``lipschitz_upper_`` speak of :meth:`predict`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = LiftedRegressor((16,), max_epochs=20, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.3
    True
    """

    network_: LiftedNetwork
    loss_curve_: list[float]
    validation_scores_: list[float]
    n_iter_: int
    _scaling: Scaling
    _state: State | None
    _certificates: dict[Hashable, Any]

    def __init__(
        self,
        hidden_layer_sizes: Any = (64, 64),
        *,
        units: Any = "relu",
        output_box: Any = None,
        beta: Any = 1.0,
        gamma: float | str = "auto",
        objective: str = "contrastive",
        loss: Any = "clamp",
        loss_weight: float = 1.0,
        optimizer: str = "sgd",
        learning_rate: float | str = "auto",
        rate_scale: str = "backpropagation",
        schedule: str = "constant",
        momentum: float = 0.0,
        batch_size: int = 10,
        max_epochs: int = 200,
        weight_decay: float = 1e-5,
        pretrain_epochs: int = 0,
        pretrain_learning_rate: float = 0.005,
        tol: float | None = None,
        passes: int | None = None,
        warm_activations: bool = False,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.15,
        n_iter_no_change: int = 15,
        standardise: bool = True,
        warm_start: bool = False,
        checkpoint: Any = None,
        n_threads: int = 1,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.units = units
        self.output_box = output_box
        self.beta = beta
        self.gamma = gamma
        self.objective = objective
        self.loss = loss
        self.loss_weight = loss_weight
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.rate_scale = rate_scale
        self.schedule = schedule
        self.momentum = momentum
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.weight_decay = weight_decay
        self.pretrain_epochs = pretrain_epochs
        self.pretrain_learning_rate = pretrain_learning_rate
        self.tol = tol
        self.passes = passes
        self.warm_activations = warm_activations
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.standardise = standardise
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.n_threads = n_threads
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on X (N, d) and real targets y (N,) or (N, m); what every sample weighs, (N,), is as in ``train``.

        Raises
        ------
        ValueError, TypeError
            scikit-learn's own, for X and y.
        InvalidInputError
            Impossible parameters, targets outside of the output box, fewer samples than a batch, a checkpoint of
            another training.
        SolverError
            A negative contrastive loss, see :func:`certnet.lifted.learn.train`.
        """
        inputs, targets = self._data(X, y, reset=True)
        weights = None if sample_weight is None else as_weights(sample_weight, len(inputs))
        stops = stops_early(self.early_stopping, len(inputs))
        plan = self._plan(seed_of(self.random_state, self.checkpoint), stops=stops)
        held = None
        if stops:
            fraction = self.validation_fraction
            (inputs, targets, weights), held = held_back(inputs, targets, fraction, plan.seed, weights=weights)
        scaling = scaling_of(inputs, targets, standardise=self.standardise)
        score = None if held is None else self._r2_on(scaling.inputs(held[0]), scaling.targets(held[1]), held[2])
        previous = self.network_ if self.warm_start and is_fitted(self) else None
        start = self._start(plan, self._widths(inputs, targets), scaling, previous)
        X, y = scaling.inputs(inputs), scaling.targets(targets)
        plans = self._plans(plan, searching=stops and self.checkpoint is None)
        return self._keep(best_of(plans, lambda chosen: chosen.run(start, X, y, score, weights)), scaling)

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """One epoch over X and y, from where the last call ended; the scaling is that of the first call."""
        first = not is_fitted(self)
        inputs, targets = self._data(X, y, reset=first)
        weights = None if sample_weight is None else as_weights(sample_weight, len(inputs))
        if not first and targets.shape[1] != self.network_.n_outputs:
            raise InvalidInputError(
                f"y has {targets.shape[1]} columns, that of the first call had {self.network_.n_outputs}"
            )
        scaling = scaling_of(inputs, targets, standardise=self.standardise) if first else self._scaling
        widths = self._widths(inputs, targets)
        draw = partial(seed_of, self.random_state, None)
        net = self._start(self._plan(draw()), widths, scaling, None) if first else self.network_
        state = None if first else self._state
        learned = self._plan(0).epoch(net, state, scaling.inputs(inputs), scaling.targets(targets), draw, weights)
        return self._keep(learned, scaling)

    def _data(self, X: ArrayLike, y: ArrayLike, *, reset: bool) -> tuple[Float, Float]:
        inputs, y = validate_data(self, X, y, dtype=DTYPES, multi_output=True, y_numeric=True, reset=reset)
        targets = finite_array(y, "y", ndim=(1, 2))
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = column_or_1d(targets, warn=True)  # as scikit-learn's own MLPRegressor does
        targets = targets[:, None] if targets.ndim == 1 else targets
        self._require_inside(targets)
        return inputs, targets

    def _objective(self) -> Objective:
        if self.objective not in _REGRESSING:
            raise InvalidInputError(f"objective is {self.objective!r}: one of {', '.join(_REGRESSING)}")
        return Objective(self.objective, self.loss, self.loss_weight)

    def _widths(self, X: Float, y: Float) -> tuple[int, ...]:
        return (X.shape[1], *hidden_sizes(self.hidden_layer_sizes), y.shape[1])

    def _hidden(self) -> int:
        return len(hidden_sizes(self.hidden_layer_sizes))

    def _gamma(self) -> float:
        return feedback(self.gamma, self._hidden())

    def _in_energy(self) -> bool:
        """Is a rate one of the contrastive gradient as it is?"""
        return self.objective == "contrastive" and self.rate_scale == "energy"

    def _plans(self, plan: Plan, *, searching: bool) -> list[Plan]:
        """The plan, with each of the rates that are to be tried."""
        if not (searching and self.learning_rate == AUTO and self.optimizer == "sgd"):
            return [plan]
        rates = rates_to_try(self._hidden(), self._gamma(), in_energy=self._in_energy())
        return [replace(plan, how=replace(plan.how, learning_rate=rate)) for rate in rates]

    def _plan(self, seed: int, *, stops: bool = False) -> Plan:
        objective = self._objective()
        in_energy = self._in_energy()
        sizes = self._hidden(), self._gamma()
        how = training_of(
            self,
            objective,
            learning_rate=rate(self.learning_rate, *sizes, optimizer=self.optimizer, in_energy=in_energy),
            rate_scale=self.rate_scale,
            weight_decay=self.weight_decay,
        )
        early: dict[str, Any] = {
            "pretrain_epochs": self.pretrain_epochs,
            "pretrain_learning_rate": self.pretrain_learning_rate,
        }
        return plan_of(self, how, seed, stops=stops, **early)

    def _start(
        self, plan: Plan, widths: tuple[int, ...], scaling: Scaling, previous: LiftedNetwork | None
    ) -> LiftedNetwork:
        units = [*self._hidden_units(len(widths) - 2), self._output_unit(scaling)]
        beta = betas(self.beta, len(widths) - 1, output=True)
        deep = is_deep(self._hidden())
        return plan.start(widths, previous, gamma=self._gamma(), orthogonal=deep, beta=beta, units=units)

    def _keep(self, learned: Learned, scaling: Scaling) -> Self:
        self.__dict__.update(fitted_attributes(learned, scaling))
        return self

    def _r2_on(self, X: Float, y: Float, weights: Float | None) -> Callable[[LiftedNetwork], float]:
        """The validation score of a network: R² on scaled inputs and targets."""

        def score(net: LiftedNetwork) -> float:
            found = inferred(net, X, tol=self.tol, threads=self.n_threads).output
            return float(r2_score(y, found, sample_weight=weights))

        return score

    def _hidden_units(self, hidden: int) -> list[Any]:
        units = layer_units(self.units, hidden)
        if len(units) == hidden + 1 and units[-1] == "linear":
            units.pop()
        if len(units) != hidden:
            raise InvalidInputError(
                f"units has {len(units)} entries: one for each of the {hidden} hidden layers, and perhaps 'linear' for "
                "the output, is needed; limits of the output are output_box, in the units of y"
            )
        return units

    def _output_unit(self, scaling: Scaling) -> Any:
        """Linear, or the output box in scaled units."""
        if self.output_box is None:
            return "linear"
        low, high = self._output_limits()
        return scaling.targets(low), scaling.targets(high)

    def _output_limits(self) -> tuple[Float, Float]:
        try:
            low, high = (np.asarray(side, dtype=np.float64) for side in self.output_box)
        except (TypeError, ValueError) as error:
            raise InvalidInputError("output_box is no pair (lower, upper) of numbers") from error
        return low, high

    def _require_inside(self, y: Float) -> None:
        """Refuse targets outside of the output box, in their own units."""
        if self.output_box is None or self.loss != "clamp":
            return
        low, high = self._output_limits()
        if any(side.shape not in ((), (1,), y.shape[1:]) for side in (low, high)):
            return  # refused where the network is made
        outside = (y < low) | (y > high)
        if outside.any():
            i, j = np.argwhere(outside)[0].tolist()
            raise InvalidInputError(f"y[{i}, {j}] is {y[i, j]:g}, which lies outside of the output_box")

    def _inputs(self, X: ArrayLike) -> Float:
        """X as the network takes it."""
        check_is_fitted(self, "network_")
        return self._scaling.inputs(validate_data(self, X, dtype=DTYPES, reset=False))

    def predict(self, X: ArrayLike) -> Float:
        """``z_L*(x)`` in the units of y: shape (N,) for one output, else (N, m)."""
        inputs = self._inputs(X)
        outputs = self._scaling.outputs(inferred(self.network_, inputs, tol=self.tol, threads=self.n_threads).output)
        return outputs[:, 0] if self.network_.n_outputs == 1 else outputs

    def certificate(self, method: str = "sdp") -> LiftedCertificate:
        """The proved Lipschitz bracket of ``network_``, in the network's own units, kept after the first call.

        ``method`` is "sdp", "layerwise" or "theorem": :func:`certnet.lifted.bounds.lipschitz_bound`.
        """
        check_is_fitted(self, "network_")
        return once(self._certificates, method, lambda: self.network_.lipschitz_bound(method))

    def energies(self, X: ArrayLike) -> Float:
        """``min_z E(z; x)`` of every row of X, in scaled units, shape (N,): larger is less like the training data."""
        inputs = self._inputs(X)
        return inferred(self.network_, inputs, tol=self.tol, threads=self.n_threads).energy

    def lipschitz_bracket(self, method: str = "sdp") -> tuple[float, float]:
        """``(lower, upper)`` of the Lipschitz constant of :meth:`predict`, in units of y per unit of X (l2 norms).

        The bracket of ``certificate(method)`` times ``s_y / s_x``, what ``standardise`` divides targets and inputs by,
        rounded outward. Where several outputs have different s_y, the largest is taken for the upper side and the least
        for the lower.
        """
        claim = self.certificate(method)
        return self._scaling.raw_bracket(claim.lower, claim.upper)

    @property
    def lipschitz_lower_(self) -> float:
        """The lower side of :meth:`lipschitz_bracket`."""
        return self.lipschitz_bracket()[0]

    @property
    def lipschitz_upper_(self) -> float:
        """The upper side of :meth:`lipschitz_bracket`."""
        return self.lipschitz_bracket()[1]

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the fitted estimator to an ``.npz`` file, without pickles; the optimiser's memory is not kept.

        Raises
        ------
        InvalidInputError
            A loss of your own.
        OutputError
            The file exists and ``force`` is false, or cannot be written.
        """
        check_is_fitted(self, "network_")
        return save_fitted(self, path, self.network_, self._scaling, force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileFormatError
            The file is missing, truncated, or of another estimator.
        """
        return load_fitted(cls, path)
