"""A model of what data look like: the energy that a lifted network is left with."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from certnet.core.validation import Float
from certnet.lifted.estimators.base import DTYPES, LiftedEstimator
from certnet.lifted.learn.fitting import betas, hidden_sizes, layer_units, seed_of
from certnet.lifted.learn.objective import Objective
from certnet.lifted.network import LiftedNetwork

__all__ = ["LiftedDensity"]


class LiftedDensity(ClassNamePrefixFeaturesOutMixin, TransformerMixin, LiftedEstimator):
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
        seed = seed_of(self.random_state, self.checkpoint)
        plan, held = self._plan(seed), None
        if self.early_stopping:
            inputs, rest, _, _ = self._split(inputs, np.zeros(len(inputs)), seed)
            held = (rest, None)
        scaling = self._scaling_of(inputs)
        if held is not None:
            held = (scaling.inputs(held[0]), None)
        widths = self._widths(inputs)
        self._fit_network(scaling.inputs(inputs), None, widths, self._shape(widths), held, plan)
        self._scaling = scaling
        return self

    def partial_fit(self, X: ArrayLike, y: Any = None) -> Self:
        """One epoch over X, from where the last call ended; the scaling is that of the first call."""
        first = not hasattr(self, "_scaling")
        inputs = validate_data(self, X, dtype=DTYPES, reset=first)
        scaling = self._scaling_of(inputs) if first else self._scaling
        widths = self._widths(inputs)
        self._continue(
            scaling.inputs(inputs),
            None,
            lambda: self._plan(seed_of(self.random_state, None)).start(
                widths, None, gamma=self.gamma, **self._shape(widths)
            ),
        )
        self._scaling = scaling
        return self

    def _objective(self) -> Objective:
        return Objective("unsupervised")

    def _widths(self, X: Float) -> tuple[int, ...]:
        return (X.shape[1], *hidden_sizes(self.layer_sizes))

    def _shape(self, widths: tuple[int, ...]) -> dict[str, Any]:
        L = len(widths) - 1
        return {"beta": betas(self.beta, L, output=False), "units": layer_units(self.units, L)}

    def _score_of(self, net: LiftedNetwork, X: Float, y: Any) -> float:
        return -float(self._infer(net, X).energy.mean())

    def score_samples(self, X: ArrayLike) -> Float:
        """``−min_z E(z; x)`` of every row of X, shape (N,): higher is more like the training data."""
        return -self.energies(X)

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Mean of :meth:`score_samples`."""
        return float(self.score_samples(X).mean())

    def transform(self, X: ArrayLike) -> Float:
        """The activations ``(z_1, …, z_L)`` of every row of X, shape (N, n)."""
        inputs = self._inputs(X)
        return self._infer(self.network_, inputs).stacked

    @property
    def _n_features_out(self) -> int:
        check_is_fitted(self, "network_")
        return self.network_.n_units

    def _extra(self) -> dict[str, Any]:
        return {}
