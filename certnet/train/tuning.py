"""Settings chosen on validation data, within a budget that is fixed beforehand and with every trial recorded."""

from __future__ import annotations

import inspect
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError, SolverError
from certnet.core.validation import Float, positive_number, whole_number
from certnet.train.result import TrainResult
from certnet.train.task import training_samples, validation_samples

__all__ = ["LEARNING_RATES", "Trial", "TuneResult", "tune"]

LEARNING_RATES: Final[Mapping[str, Sequence[Any]]] = MappingProxyType(
    {"learning_rate": (0.1, 0.03, 0.01, 0.003, 0.001)}
)
"""The default grid."""


@dataclass(frozen=True)
class Trial:
    """One setting and how it did.

    Attributes
    ----------
    settings : mapping
        The values tried, with ``epochs`` where those are chosen too.
    score : float
        Loss on the validation data; infinite where the training failed.
    seconds : float
        Of the run, which several numbers of epochs share.
    error : str
        Why it failed, or "".
    """

    settings: Mapping[str, Any]
    score: float
    seconds: float
    error: str


@dataclass(frozen=True, eq=False)
class TuneResult:
    """The settings chosen, every trial in the order of the grid, and the network trained with the choice.

    Attributes
    ----------
    settings : mapping
    score : float
        Validation loss of the chosen trial: the least of many, hence an optimistic estimate.
    trials : tuple of Trial
    result : TrainResult
    n_runs : int
        Trainings in all, the last one included.
    seed : int
    seconds : float
    """

    settings: Mapping[str, Any]
    score: float
    trials: tuple[Trial, ...]
    result: TrainResult
    n_runs: int
    seed: int
    seconds: float


def tune(
    train: Callable[..., TrainResult],
    X: ArrayLike,
    y: ArrayLike,
    grid: Mapping[str, Sequence[Any]] = LEARNING_RATES,
    *,
    epochs: Sequence[int] | None = None,
    validation: float = 0.2,
    X_val: ArrayLike | None = None,
    y_val: ArrayLike | None = None,
    random_state: int = 0,
    **fixed: Any,
) -> TuneResult:
    """Train once per point of the grid, choose by the loss on validation data, and train with the choice on all of X.

    The score is the trainer's own ``validation_curve``: mean squared error, for ``train_pgd`` under its attack. One
    run serves all numbers of epochs, since the learning rate is constant. The grid's size is the budget: the product of
    its lengths, and one more run.

    Parameters
    ----------
    train : callable
        ``train_sgd``, ``train_pgd``, ``train_regularized`` or ``train_admm``.
    X, y : array_like, shapes (N, d) and (N,) or (N, m)
    grid : mapping of str to sequence
        Values of the trainer's arguments; by default :data:`LEARNING_RATES`.
    epochs : sequence of int, optional
        Numbers of epochs to choose from; the runs have the largest.
    validation : float
        Share of the samples, drawn at random, that the trials do not train on; unused if X_val and y_val are given.
    X_val, y_val : array_like, optional
        Validation data of one's own; the last run then trains on X alone too.
    random_state : int
        Seed of the split and of every training.
    **fixed
        Further arguments of the trainer, the same in all runs.

    Returns
    -------
    TuneResult

    Raises
    ------
    InvalidInputError
        Names that the trainer does not take, an empty grid, a share outside (0, 1), and what the trainer refuses.
    SolverError
        No trial gave a finite score.
    """
    start = time.perf_counter()
    seed = whole_number(random_state, "random_state")
    inputs, targets = training_samples(X, y)
    own = validation_samples(X_val, y_val, inputs.shape[1], targets.shape[1])
    checkpoints = _checkpoints(epochs)
    _check_names(train, grid, checkpoints, fixed)
    inner, held_out = ((inputs, targets), own) if own is not None else _split(inputs, targets, validation, seed)
    run = _Trainer(train, inner, held_out, seed, fixed)
    trials = tuple(trial for point in _points(grid) for trial in run.trials(point, checkpoints))
    best = min(trials, key=lambda trial: trial.score)
    if not np.isfinite(best.score):
        raise SolverError(f"all {len(trials)} trials failed, the first with: {trials[0].error}")
    shown = {} if own is None else {"X_val": own[0], "y_val": own[1]}
    result = train(inputs, targets, random_state=seed, **fixed, **best.settings, **shown)
    n_runs = len(list(_points(grid))) + 1
    return TuneResult(best.settings, best.score, trials, result, n_runs, seed, time.perf_counter() - start)


@dataclass(frozen=True, eq=False)
class _Trainer:
    train: Callable[..., TrainResult]
    inner: tuple[Float, Float]
    held_out: tuple[Float, Float]
    seed: int
    fixed: Mapping[str, Any]

    def trials(self, point: Mapping[str, Any], checkpoints: Sequence[int]) -> Iterator[Trial]:
        """One run, read at every checkpoint."""
        longest = {"epochs": max(checkpoints)} if checkpoints else {}
        rows = [{**point, "epochs": n} for n in checkpoints] or [dict(point)]
        start = time.perf_counter()
        try:
            done = self.train(
                *self.inner,
                random_state=self.seed,
                X_val=self.held_out[0],
                y_val=self.held_out[1],
                **self.fixed,
                **point,
                **longest,
            )
        except SolverError as error:
            seconds = time.perf_counter() - start
            yield from (Trial(row, float("inf"), seconds, str(error)) for row in rows)
            return
        for row in rows:
            score = done.validation_curve[row["epochs"] if checkpoints else _returned(done)]
            yield Trial(row, score if np.isfinite(score) else float("inf"), done.seconds, "")


def _returned(done: TrainResult) -> int:
    """Where on the curves the returned network is: at the best point of ADMM, else at the end."""
    return int(np.argmin(done.loss_curve)) if done.settings.get("method") == "admm" else -1


def _checkpoints(epochs: Sequence[int] | None) -> tuple[int, ...]:
    if epochs is None:
        return ()
    if not isinstance(epochs, Sequence) or not epochs:
        raise InvalidInputError(f"epochs must be numbers of epochs to choose from, such as (50, 100), got {epochs!r}")
    return tuple(sorted({whole_number(n, "epochs", least=1) for n in epochs}))


def _check_names(
    train: Callable[..., TrainResult],
    grid: Mapping[str, Sequence[Any]],
    checkpoints: Sequence[int],
    fixed: Mapping[str, Any],
) -> None:
    taken = set(inspect.signature(train).parameters) - {"X", "y", "X_val", "y_val", "random_state"}
    named = [*grid, *fixed, *(("epochs",) if checkpoints else ())]
    unknown = sorted(set(named) - taken)
    if unknown:
        name = getattr(train, "__name__", "the trainer")
        raise InvalidInputError(f"{name} has no argument {unknown[0]!r} to tune: it takes {', '.join(sorted(taken))}")
    if len(set(named)) < len(named):
        twice = sorted(name for name in set(named) if named.count(name) > 1)
        raise InvalidInputError(f"{twice[0]!r} is given twice: in the grid, among the fixed arguments or as epochs")
    if not grid or not all(len(values) for values in grid.values()):
        raise InvalidInputError("the grid is empty: give at least one argument, and one value for each")


def _points(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values))


def _split(X: Float, y: Float, share: float, seed: int) -> tuple[tuple[Float, Float], tuple[Float, Float]]:
    if positive_number(share, "validation") >= 1.0:
        raise InvalidInputError(f"validation must be a share between 0 and 1, got {share!r}")
    if len(X) < 2:
        raise InvalidInputError("X has one sample: two are needed to hold one out, or give X_val and y_val")
    n = min(max(1, round(share * len(X))), len(X) - 1)
    order = np.random.default_rng(seed).permutation(len(X))
    return (X[order[n:]], y[order[n:]]), (X[order[:n]], y[order[:n]])
