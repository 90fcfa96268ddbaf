"""The fit that an estimator's parameters ask for, and the data as the network takes them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split

from certnet.core.errors import InvalidInputError, SolverError
from certnet.core.outcome import Status
from certnet.core.validation import Float
from certnet.lifted.learn.objective import Objective
from certnet.lifted.learn.plan import Learned, Plan
from certnet.lifted.learn.scaling import Scaling
from certnet.lifted.learn.settings import Training

__all__ = ["best_of", "held_back", "plan_of", "scaling_of", "training_of"]

_TRAINING: Final = (
    "optimizer",
    "schedule",
    "momentum",
    "batch_size",
    "max_epochs",
    "tol",
    "passes",
    "warm_activations",
)
"""Parameters of every estimator that :class:`Training` takes under the same names."""


def training_of(estimator: BaseEstimator, objective: Objective, **own: Any) -> Training:
    """The settings of a training: parameters that all estimators have, and its ``own``, the rate among them."""
    given = estimator.get_params(deep=False)
    return Training(objective=objective, **{name: given[name] for name in _TRAINING}, **own)


def plan_of(
    estimator: BaseEstimator, how: Training, seed: int, *, stops: bool | None = None, **pretraining: Any
) -> Plan:
    """The plan of a fit: a training, after a pre-training where the estimator has one.

    Whether it ``stops`` early is what the estimator's parameter says, where nothing else is said.
    """
    given = estimator.get_params(deep=False)
    patience = given["n_iter_no_change"] if (given["early_stopping"] if stops is None else stops) else None
    return Plan(how, seed, patience, given["checkpoint"], given["n_threads"], bool(given["verbose"]), **pretraining)


def scaling_of(X: Float, y: Float | None = None, *, standardise: bool) -> Scaling:
    """The scaling of inputs X (N, d) and, where they are given, of targets y (N, m)."""
    return Scaling.of(X, y) if standardise else Scaling.none(X.shape[1], 0 if y is None else y.shape[1])


def best_of(plans: Iterable[Plan], run: Callable[[Plan], Learned]) -> Learned:
    """What the plan with the highest validation score has learned; only what that one warned of is said.

    Raises
    ------
    SolverError
        Of the last plan, where none could be run.
    """
    best: Learned | None = None
    said: list[warnings.WarningMessage] = []
    failed: SolverError | None = None
    for plan in plans:
        try:
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                learned = run(plan)
        except SolverError as error:
            failed = error
            continue
        if best is None or _score(learned) > _score(best) or learned.training.status is Status.INTERRUPTED:
            best, said = learned, heard
        if learned.training.status is Status.INTERRUPTED:
            break
    if best is None:
        raise failed or SolverError("there is no plan to learn by")
    for warning in said:
        warnings.warn(warning.message, stacklevel=4)
    return best


def _score(learned: Learned) -> float:
    return max(learned.training.score_curve, default=-np.inf)


def held_back(
    X: Any, y: Any, fraction: float, seed: int, *, stratify: Any = None, weights: Float | None = None
) -> tuple[tuple[Any, Any, Float | None], tuple[Any, Any, Float | None]]:
    """X, y and weights without a share of the samples, and that share, which early stopping is decided on.

    Raises
    ------
    InvalidInputError
        A share that is not between 0 and 1, too few samples to split, or a part whose samples weigh nothing.
    """
    if not 0.0 < fraction < 1.0:
        raise InvalidInputError(f"validation_fraction is {fraction!r}: between 0 and 1 is needed")
    try:
        kept, held = train_test_split(np.arange(len(X)), test_size=fraction, random_state=seed, stratify=stratify)
    except ValueError as error:
        raise InvalidInputError(f"the data cannot be split for early stopping: {error}") from error
    if weights is not None and not (weights[kept].any() and weights[held].any()):
        raise InvalidInputError("sample_weight is zero for all samples of one part of the split for early stopping")
    parts = ((X[rows], y[rows], None if weights is None else weights[rows]) for rows in (kept, held))
    first, second = parts
    return first, second
