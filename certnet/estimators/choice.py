"""How a start is trained where nobody says it: weight decay and stopping are chosen on rows that are held out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.utils.validation import has_fit_parameter

from certnet.core.validation import Float

__all__ = ["TAKES_WEIGHTS", "StartChoice", "Tried", "choose_start"]

TAKES_WEIGHTS: Final[bool] = has_fit_parameter(MLPRegressor, "sample_weight")
"""Can scikit-learn's perceptrons be trained with sample weights? Since its version 1.7."""

_HELD_OUT: Final = 0.2
_LEAST_HELD_OUT: Final = 10
_LEAST_ROWS: Final = 2 * _LEAST_HELD_OUT  # fewer leave nothing to choose by
_FULL_BATCH: Final = 5000  # rows up to which L-BFGS on all of them is faster than Adam
_ROUNDS: Final = 8
_PATIENCE: Final = 2  # rounds without a lower error after which a weight decay is left


@dataclass(frozen=True)
class _Schedule:
    """What is tried: every weight decay, for ``_ROUNDS`` rounds of ``per_round`` iterations or epochs each."""

    solver: str
    alphas: tuple[float, ...]
    per_round: int

    @classmethod
    def of(cls, n_rows: int) -> _Schedule:
        """For so many rows; both take a few seconds at most on thousands of rows, then time linear in them."""
        if n_rows <= _FULL_BATCH:
            return cls("lbfgs", (100.0, 30.0, 10.0, 3.0, 1.0, 0.1), 25)
        return cls("adam", (1.0, 1e-4), math.ceil(100_000 / n_rows))


@dataclass(frozen=True)
class Tried:
    """A weight decay and a number of iterations, and the mean squared error on the rows that were held out."""

    alpha: float
    iterations: int
    error: float


@dataclass(frozen=True)
class StartChoice:
    """What a start is trained with, and what that choice rests on.

    Attributes
    ----------
    solver : {"lbfgs", "adam"}
        scikit-learn's; L-BFGS up to 5 000 rows.
    alpha : float
        Weight decay, as scikit-learn means it.
    iterations : int
        Of L-BFGS, or epochs of Adam.
    hidden_layer_sizes : tuple of int
    held_out : int
        Rows that the choice was made on: a fifth of all, at least 10. 0 where there are fewer than 20 rows; then
        ``alpha`` is 1 and nothing is tried.
    tried : tuple of Tried
        In the units of the training.
    """

    solver: str
    alpha: float
    iterations: int
    hidden_layer_sizes: tuple[int, ...]
    held_out: int = 0
    tried: tuple[Tried, ...] = field(default=(), repr=False)

    @property
    def error(self) -> float:
        """The least error on the rows that were held out; NaN where there are none."""
        return min((tried.error for tried in self.tried), default=math.nan)

    def perceptron(self, seed: int) -> MLPRegressor:
        """What is to be trained; a clone of it, fitted to the same rows, is the same network."""
        return MLPRegressor(
            hidden_layer_sizes=self.hidden_layer_sizes,
            solver=self.solver,
            alpha=self.alpha,
            max_iter=self.iterations,
            n_iter_no_change=self.iterations + 1,  # where to stop is chosen
            random_state=seed,
        )


def choose_start(
    X: Float, y: Float, sample_weight: Float | None, hidden_layer_sizes: Sequence[int], seed: int
) -> StartChoice:
    """The weight decay and the number of iterations of least (weighted) mean squared error on held-out rows.

    The rows are drawn by the seed alone: nothing is known of groups or times, which would need other ones.

    Parameters
    ----------
    X : ndarray, shape (N, d)
    y : ndarray, shape (N,) or (N, m)
    sample_weight : ndarray of shape (N,) or None
    hidden_layer_sizes : sequence of int
    seed : int
    """
    sizes = tuple(hidden_layer_sizes)
    schedule = _Schedule.of(len(X))
    if len(X) < _LEAST_ROWS:
        return StartChoice(schedule.solver, 1.0, _ROUNDS * schedule.per_round, sizes)
    order = np.random.default_rng(seed).permutation(len(X))
    held_out = max(_LEAST_HELD_OUT, round(_HELD_OUT * len(X)))
    parts = [
        (X[rows], y[rows], None if sample_weight is None else sample_weight[rows])
        for rows in (order[held_out:], order[:held_out])
    ]
    tried: list[Tried] = []
    for alpha in schedule.alphas:
        tried += _patient(_errors(schedule, alpha, sizes, parts, seed))
    best = min(tried, key=lambda one: one.error)  # of equal ones the stronger decay, which comes first
    return StartChoice(schedule.solver, best.alpha, best.iterations, sizes, held_out, tuple(tried))


def _patient(errors: Iterator[Tried]) -> Iterator[Tried]:
    """What is tried, up to the round from which on nothing was gained for a while."""
    least, waited = math.inf, 0
    for tried in errors:
        yield tried
        least, waited = (tried.error, 0) if tried.error < least else (least, waited + 1)
        if waited == _PATIENCE:
            return


def _errors(
    schedule: _Schedule, alpha: float, sizes: tuple[int, ...], parts: Sequence[tuple[Any, Any, Any]], seed: int
) -> Iterator[Tried]:
    """Held-out errors of one network, trained round by round."""
    (X, y, weight), (X_out, y_out, weight_out) = parts
    full_batch = schedule.solver == "lbfgs"
    model = MLPRegressor(
        hidden_layer_sizes=sizes,
        solver=schedule.solver,
        alpha=alpha,
        max_iter=schedule.per_round,
        warm_start=full_batch,
        random_state=np.random.RandomState(seed),  # partial_fit would shuffle every epoch alike with a number
    )
    options = {} if weight is None or not TAKES_WEIGHTS else {"sample_weight": weight}
    for number in range(1, _ROUNDS + 1):
        if full_batch:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # rounds are short on purpose
                model.fit(X, y, **options)
        else:
            for _ in range(schedule.per_round):
                model.partial_fit(X, y, **options)
        residual = (model.predict(X_out) - y_out).reshape(len(X_out), -1)
        error = float(np.average(np.sum(residual**2, axis=1), weights=weight_out))
        yield Tried(alpha, number * schedule.per_round, error if error == error else math.inf)
        if full_batch and model.n_iter_ < schedule.per_round:  # converged
            return
