"""A model of what data look like: the energy that a lifted network is left with."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted, validate_data

from certnet.core.validation import Float
from certnet.io.sklearn_bases import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from certnet.lifted.bounds import LiftedCertificate
from certnet.lifted.estimators.files import load_fitted, save_fitted
from certnet.lifted.estimators.fitted import DTYPES, fitted_attributes, inferred, is_fitted, once
from certnet.lifted.estimators.plans import held_back, plan_of, scaling_of, training_of
from certnet.lifted.learn.arguments import betas, hidden_sizes, layer_units, seed_of
from certnet.lifted.learn.objective import Objective
from certnet.lifted.learn.plan import Learned, Plan
from certnet.lifted.learn.scaling import Scaling
from certnet.lifted.learn.state import State
from certnet.lifted.network import LiftedNetwork

__all__ = ["LiftedDensity"]


class LiftedDensity(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""Energies learned without targets: ``(1/N) Σ_i min_z E(z; x_i)`` is made small (Høier and Zach 2020, (18)).

    One linear layer without biases spans the leading eigenvectors of the scatter matrix (H, 4.1). The energy is an
    unnormalised score: it is small near the training data, and a convex function of the input.

    Parameters
    ----------
    layer_sizes : tuple of int
        All layers of activations; H uses (32, 32).
    units : str, pair, or sequence of L of them
        One name, or one pair of numbers, serves all layers.
    beta : float or sequence of L floats
        One number serves all layers; where β is 0 in all of them there is nothing to learn.
    learning_rate : float
        0.005 in H.
    biases : bool
        False leaves all biases at zero.
    max_epochs : int

    Attributes
    ----------
    network_ : LiftedNetwork
    loss_curve_ : list of float
        Mean energy of every epoch.
    n_features_in_ : int

    Notes
    -----
    The other parameters are those of :class:`LiftedClassifier`; early stopping goes by the mean energy.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, _ = load_iris(return_X_y=True)
    >>> model = LiftedDensity((3, 2), standardise=True, max_epochs=20, random_state=0).fit(X)
    >>> bool(model.score_samples(X).mean() > model.score_samples(X + 10.0).mean())
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
        layer_sizes: Any = (32, 32),
        *,
        units: Any = "relu",
        beta: Any = 1.0,
        gamma: float = 0.125,
        optimizer: str = "sgd",
        learning_rate: float = 0.005,
        schedule: str = "constant",
        momentum: float = 0.0,
        batch_size: int = 10,
        max_epochs: int = 100,
        biases: bool = True,
        tol: float | None = None,
        passes: int | None = None,
        warm_activations: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        standardise: bool = False,
        warm_start: bool = False,
        checkpoint: Any = None,
        n_threads: int = 1,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.layer_sizes = layer_sizes
        self.units = units
        self.beta = beta
        self.gamma = gamma
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.momentum = momentum
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.biases = biases
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

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Train on X (N, d); y is not looked at.

        Raises
        ------
        ValueError, TypeError
            scikit-learn's own, for X.
        InvalidInputError
            Impossible parameters, fewer samples than a batch, a checkpoint of another training.
        """
        inputs = validate_data(self, X, dtype=DTYPES)
        plan = self._plan(seed_of(self.random_state, self.checkpoint))
        held = None
        if self.early_stopping:
            (inputs, _, _), held = held_back(inputs, np.zeros(len(inputs)), self.validation_fraction, plan.seed)
        scaling = scaling_of(inputs, standardise=self.standardise)
        score = None if held is None else self._likeness_on(scaling.inputs(held[0]))
        previous = self.network_ if self.warm_start and is_fitted(self) else None
        start = self._start(plan, self._widths(inputs), previous)
        return self._keep(plan.run(start, scaling.inputs(inputs), None, score), scaling)

    def partial_fit(self, X: ArrayLike, y: Any = None) -> Self:
        """One epoch over X, from where the last call ended; the scaling is that of the first call."""
        first = not is_fitted(self)
        inputs = validate_data(self, X, dtype=DTYPES, reset=first)
        scaling = scaling_of(inputs, standardise=self.standardise) if first else self._scaling
        widths = self._widths(inputs)
        draw = partial(seed_of, self.random_state, None)
        net = self._start(self._plan(draw()), widths, None) if first else self.network_
        state = None if first else self._state
        return self._keep(self._plan(0).epoch(net, state, scaling.inputs(inputs), None, draw), scaling)

    def _plan(self, seed: int) -> Plan:
        # H (18) has no weight decay
        objective, rate = Objective("unsupervised"), self.learning_rate
        how = training_of(self, objective, learning_rate=rate, biases=self.biases, weight_decay=0.0)
        return plan_of(self, how, seed)

    def _widths(self, X: Float) -> tuple[int, ...]:
        return (X.shape[1], *hidden_sizes(self.layer_sizes))

    def _start(self, plan: Plan, widths: tuple[int, ...], previous: LiftedNetwork | None) -> LiftedNetwork:
        L = len(widths) - 1
        beta, units = betas(self.beta, L, output=False), layer_units(self.units, L)
        return plan.start(widths, previous, gamma=self.gamma, beta=beta, units=units)

    def _keep(self, learned: Learned, scaling: Scaling) -> Self:
        self.__dict__.update(fitted_attributes(learned, scaling))
        return self

    def _likeness_on(self, X: Float) -> Callable[[LiftedNetwork], float]:
        """The validation score of a network: minus the mean energy of scaled inputs."""
        return lambda net: -float(inferred(net, X, tol=self.tol, threads=self.n_threads).energy.mean())

    def _inputs(self, X: ArrayLike) -> Float:
        """X as the network takes it."""
        check_is_fitted(self, "network_")
        return self._scaling.inputs(validate_data(self, X, dtype=DTYPES, reset=False))

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

    def score_samples(self, X: ArrayLike) -> Float:
        """``−min_z E(z; x)`` of every row of X, shape (N,): higher is more like the training data."""
        return -self.energies(X)

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Mean of :meth:`score_samples`."""
        return float(self.score_samples(X).mean())

    def transform(self, X: ArrayLike) -> Float:
        """The activations ``(z_1, …, z_L)`` of every row of X, shape (N, n)."""
        inputs = self._inputs(X)
        return inferred(self.network_, inputs, tol=self.tol, threads=self.n_threads).stacked

    @property
    def _n_features_out(self) -> int:
        check_is_fitted(self, "network_")
        return self.network_.n_units

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the fitted estimator to an ``.npz`` file, without pickles; the optimiser's memory is not kept.

        Raises
        ------
        InvalidInputError
            A parameter that a file cannot hold.
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
