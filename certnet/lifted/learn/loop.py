"""The loop over epochs and batches: the only place that counts, times, judges and keeps."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from certnet.core.errors import CertnetWarning, InvalidInputError, NotConvergedWarning
from certnet.core.outcome import Status
from certnet.core.validation import Float, as_weights, whole_number
from certnet.lifted.learn.checkpoint import Checkpoint
from certnet.lifted.learn.data import samples_of
from certnet.lifted.learn.judge import Diverged, Judge
from certnet.lifted.learn.mixture import Mixture
from certnet.lifted.learn.optimisers import rate_factor
from certnet.lifted.learn.parameters import Parameters
from certnet.lifted.learn.phases import Phases
from certnet.lifted.learn.settings import Training
from certnet.lifted.learn.signal import FAINT, lowest_signal
from certnet.lifted.learn.state import State
from certnet.lifted.learn.trained import Trained
from certnet.lifted.network import LiftedNetwork

__all__ = ["train"]

_log = logging.getLogger("certnet")

_LOOK = 3
"""Epoch after which the signal of the lowest layer is looked at: before, a network may still wake up."""

_LOOK_AT = 100
"""So many samples with targets say whether it is there."""


def train(
    net: LiftedNetwork,
    X: ArrayLike,
    y: ArrayLike | None = None,
    how: Training | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    random_state: int | None = None,
    score: Callable[[LiftedNetwork], float] | None = None,
    patience: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    state: State | None = None,
    threads: int = 1,
    verbose: bool = False,
) -> Trained:
    """Minimise an objective over the parameters of ``net`` by stochastic gradients.

    Parameters
    ----------
    net : LiftedNetwork
        Where to start; it is not changed.
    X : array_like, shape (N, d)
        float64 or float32 arrays are not copied.
    y : array_like, shape (N, n_L), or (N,) for one output
        Targets, inside of the output's box where they clamp it; None for the unsupervised objective. For the
        semi-supervised one, rows of NaN are samples without a target.
    how : Training, optional
    sample_weight : array_like, shape (N,), optional
        Weights ``w_i ≥ 0`` of the samples: the objective is ``Σ w_i · objective_i / Σ w_i``, in steps of that size.
    random_state : int, optional
        Seed of the order of the samples. The result depends on nothing else but this, data, start and settings.
    score : callable, optional
        ``score(network) -> float``, higher is better; called after every epoch.
    patience : int, optional
        Stop when so many epochs have not raised the score (without ``score``: not lowered the loss), and return the
        best network.
    checkpoint : path, optional
        Written after every epoch. Where the file exists, training goes on from it, to the same result as without the
        break.
    state : State, optional
        Go on from here, in place, with new data: ``max_epochs`` more epochs.
    threads : int
        That share the samples of a batch; batches of 50 and more gain by two. The result does not depend on it.
    verbose : bool
        A line for every epoch to standard error.

    Raises
    ------
    InvalidInputError
        Data that do not fit the network, fewer samples than a batch, a checkpoint of another training or of more
        epochs.
    SolverError
        A clearly negative contrastive loss: the free phase is not solved.

    Warns
    -----
    CertnetWarning
        The inputs look unscaled: pixels from 0 to 255, or a mean square far from one.
    NotConvergedWarning
        Training diverged (the best network is returned), was interrupted, many phases missed their tolerance, or no
        signal reaches the lowest layer after three epochs.
    """
    how = how or Training()
    if not isinstance(net, LiftedNetwork) or not isinstance(how, Training):
        kinds = f"{type(net).__name__} and {type(how).__name__}"
        raise InvalidInputError(f"net and how are of types {kinds}: a LiftedNetwork and a Training are needed")
    inputs, targets = samples_of(net, X, y, how)
    seed = np.random.SeedSequence().entropy if random_state is None else whole_number(random_state, "random_state")
    shared = whole_number(threads, "n_threads", least=1)
    run = _Run(net, inputs, targets, how, int(seed), state, shared)  # type: ignore[arg-type]
    if sample_weight is not None:
        run.weights = as_weights(sample_weight, len(inputs)) * len(inputs)
    if how.objective.mixes and targets is not None:
        run.mixture = Mixture.of(targets, how, run.weights)
    run.score = score
    run.patience = None if patience is None else whole_number(patience, "n_iter_no_change", least=1)
    run.verbose = verbose
    if checkpoint is not None:
        rule = [run.patience, score is not None]
        data = inputs, targets, run.weights
        run.keep(Checkpoint.at(checkpoint, net, how, data, int(seed), rule))  # type: ignore[arg-type]
    # what overflows while a training diverges is judged by its loss
    with threadpool_limits(limits=1), np.errstate(all="ignore"):
        return run.all()


class _Run:
    """One call of :func:`train`."""

    score: Callable[[LiftedNetwork], float] | None = None
    patience: int | None = None
    verbose: bool = False
    weights: Float | None = None
    mixture: Mixture | None = None

    def __init__(
        self,
        net: LiftedNetwork,
        X: Float,
        y: Float | None,
        how: Training,
        seed: int,
        state: State | None,
        threads: int,
    ) -> None:
        if len(X) < how.batch_size:
            raise InvalidInputError(
                f"batch_size is {how.batch_size} and there are {len(X)} samples: take smaller batches, or more samples"
            )
        self._net, self._X, self._y, self._how = net, X, y, how
        self._state = State.fresh(net, how, seed, len(X)) if state is None else state
        self._last = self._state.epoch + how.max_epochs if state is not None else how.max_epochs
        params = self._state.params
        self._gradient = Parameters.over(np.empty_like(params.flat), net.widths)
        self._phases = Phases(
            net,
            params,
            how.objective,
            tol=how.tolerance(net),
            passes=how.passes,
            max_passes=how.max_passes,
            follow=self._state.activations is None,
            biases=how.biases,
            threads=threads,
        )
        # a step of plain descent can move the first layer while its gradient is formed
        decays_first = how.weight_decay > 0.0 and net.depth == 1
        self._fused = self._state.optimiser.is_plain and not decays_first
        self._spanned = self._phases.batches_of_a_span(how.batch_size) if self._fused else 1
        self._zero = net.project(np.zeros((1, net.n_units)))
        self._checkpoint: Checkpoint | None = None
        self._begin = time.perf_counter()
        self._first = self._state.epoch
        self._judge = Judge.of(net, X, y, how)

    def keep(self, checkpoint: Checkpoint) -> None:
        """Write to this file, and go on from it where it exists."""
        self._checkpoint = checkpoint
        if checkpoint.restore(self._state):
            self._first = self._state.epoch
            if self._first > self._last:
                raise InvalidInputError(
                    f"{checkpoint.path} is the checkpoint after epoch {self._first}, and max_epochs is {self._last}: "
                    "raise it, or name another file to train for less"
                )
            _log.info("training goes on from epoch %d of %s", self._first, checkpoint.path)

    # ---------------------------------------------------------------------------------------------------------- epochs

    def all(self) -> Trained:
        """Epochs until the last, or until there is a reason to stop."""
        state = self._state
        status = Status.OPTIMAL
        if self._judge.scale and state.epoch == 0:
            warnings.warn(f"{self._judge.scale}. Rates are stated for such inputs", CertnetWarning, stacklevel=4)
        while state.epoch < self._last and not self._patience_is_over():
            before = state.params.flat.copy()
            try:
                loss = self._epoch()
                score = None if self.score is None else float(self.score(state.params.network(self._net)))
            except (ArithmeticError, np.linalg.LinAlgError) as error:  # Diverged, or a scale that has become zero
                status = Status.SOLVER_FAILED
                self._warn_of_divergence(error)
                break
            except KeyboardInterrupt:
                state.params.flat[:] = before
                status = self._interrupted()
                break
            except BaseException:
                state.params.flat[:] = before  # whoever goes on from this state goes on from a whole epoch
                raise
            try:
                state.record(loss, score)
                if self._checkpoint is not None:
                    self._checkpoint.save(state)
                self._tell(loss, score)
            except KeyboardInterrupt:  # the epoch is complete
                status = self._interrupted()
                break
        return self._result(status)

    def _interrupted(self) -> Status:
        warnings.warn(
            f"training was interrupted: the network after epoch {self._state.epoch} is returned",
            NotConvergedWarning,
            stacklevel=5,
        )
        return Status.INTERRUPTED

    def _patience_is_over(self) -> bool:
        state = self._state
        return self.patience is not None and state.epoch - state.best_epoch >= self.patience and state.epoch > 0

    def _rate(self) -> float:
        how, epoch = self._how, self._state.epoch
        progress = epoch / max(1, self._last)
        warmth = min(1.0, (epoch + 1) / (how.warmup_epochs + 1))
        return how.rate(self._net) * warmth * rate_factor(how.schedule, progress)

    def _epoch(self) -> float:
        """One pass over the samples in a new order; the mean objective."""
        state, rate = self._state, self._rate()
        if self.mixture is None or self._y is None:
            mean = self._batches(rate)
        else:
            mean = self._mixed_batches(self.mixture, self._y, rate)
        if not np.isfinite(state.params.flat).all():
            raise Diverged("parameters are not finite")
        self._heed_missed()
        if state.epoch + 1 == min(_LOOK, self._last):
            self._heed_signal()
        return mean

    def _batches(self, rate: float) -> float:
        """A step for every batch of the samples in a new order; the mean objective."""
        size, order = self._how.batch_size, self._state.generator.permutation(len(self._X))
        total = 0.0
        for X, rows in self._with_inputs((order[first : first + size],) for first in range(0, len(order), size)):
            total += self._batch(X, rows, rate)
        return total / len(order)

    def _mixed_batches(self, mixture: Mixture, targets: Float, rate: float) -> float:
        """The same of batches that hold samples with and without targets."""
        total, n = 0.0, mixture.n
        for X, rows, contrast, energy in self._with_inputs(mixture.epoch(self._state.generator)):
            free, target = self._started(rows)
            target = target[:n]
            fused = rate if self._fused else None
            y = targets[rows[:n]]
            differing, energies = self._phases.run_mixed(
                X, y, self._gradient, free, target, contrast=contrast, energy=energy, rate=fused
            )
            self._judge.heed(float(differing.mean()))
            total += float(contrast @ differing + energy @ energies)
            kept = self._state.activations
            if kept is not None:
                kept[0][rows], kept[1][rows[:n]] = free, target
            self._step(rate)
        return total / mixture.batches

    def _with_inputs(self, batches: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Batches, rows and what else there is of each, after their inputs; the first layer moves span by span."""
        todo = iter(batches)
        while group := list(islice(todo, self._spanned)):
            X = self._X[np.concatenate([rows for rows, *_ in group])]
            first = 0
            with self._phases.spanning(X) if self._spanned > 1 else nullcontext():
                for batch in group:
                    yield X[first : first + len(batch[0])], *batch
                    first += len(batch[0])

    def _started(self, rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> tuple[Float, Float]:
        """Activations that both phases start from."""
        kept = self._state.activations
        if kept is not None:
            return kept[0][rows], kept[1][rows]
        free = np.repeat(self._zero, len(rows), axis=0)
        return free, free.copy()

    def _batch(self, X: Float, rows: np.ndarray[tuple[int], np.dtype[np.intp]], rate: float) -> float:
        """A step; the sum of the objective over the batch, before it."""
        gradient, kept = self._gradient, self._state.activations
        y = None if self._y is None else self._y[rows]
        free, target = self._started(rows)
        fused = rate if self._fused else None
        weights = None if self.weights is None else self.weights[rows]
        values = self._phases.run(X, y, gradient, free, target, rate=fused, weights=weights)
        self._judge.heed(float(values.sum()) / len(rows))
        total = float(values.sum() if weights is None else weights @ values)
        if kept is not None:
            kept[0][rows], kept[1][rows] = free, target
        self._step(rate)
        return total

    def _step(self, rate: float) -> None:
        """Move the parameters by the gradient, and those of the last layer by their decay."""
        state, gradient = self._state, self._gradient
        params = state.params
        if self._how.weight_decay:
            last = gradient.weights[-1]
            last += self._how.weight_decay * params.weights[-1]
        if not self._how.biases:
            gradient.all_biases.fill(0.0)
        moved = params.weights[0].size if self._fused else 0
        state.optimiser.step(params.flat[moved:], gradient.flat[moved:], rate)

    # ---------------------------------------------------------------------------------------------------- what is said

    def _warn_of_divergence(self, error: Exception) -> None:
        state = self._state
        kept = f"the network after epoch {state.best_epoch}" if state.epoch else "the network at the start"
        scale = self._judge.scale
        otherwise = "Lower the learning rate, or scale the inputs to about [0, 1] (standardise=True)"
        advice = f"Most likely {scale}" if scale else otherwise
        warnings.warn(
            f"training diverged in epoch {state.epoch + 1} ({error}): {kept} is returned. {advice}",
            NotConvergedWarning,
            stacklevel=5,
        )
        state.params.flat[:] = state.best

    def _heed_missed(self) -> None:
        work, phases = self._phases.work, 2 if self._how.objective.contrasts else 1
        batches = -(-len(self._X) // self._how.batch_size) if self.mixture is None else self.mixture.batches
        share = work.missed / (phases * batches)
        work.missed = 0
        if share > 0.01:
            warnings.warn(
                f"{share:.0%} of the phases of epoch {self._state.epoch + 1} missed the tolerance within "
                f"{self._how.max_passes} passes: raise max_passes, or lower the learning rate",
                NotConvergedWarning,
                stacklevel=6,
            )

    def _heed_signal(self) -> None:
        """Say so where the targets do not reach the lowest layer: the network would stay at its best constant."""
        if self._y is None or not self._how.objective.contrasts:
            return
        X, y = self._X, self._y
        if self.mixture is not None:
            known = self.mixture.labelled[:_LOOK_AT]
            X, y = X[known], y[known]
        before = dataclasses.replace(self._phases.work)
        signal = lowest_signal(self._net, self._phases, self._state.params, X, y)
        self._phases.work = before  # what is counted is the training
        if signal < FAINT:
            deep = (
                f"take gamma=0.5 (it is {self._net.gamma:g}), a higher learning rate, orthogonal first weights "
                "(estimators take all three where gamma and learning_rate are 'auto'), or fewer layers"
            )
            dead = "its units are at their limits: centre the inputs (standardise=True), or lower the learning rate"
            warnings.warn(
                f"the targets hardly reach the lowest of {self._net.depth} layers after epoch {self._state.epoch + 1}: "
                f"what moves it is {signal:.1e} of the outputs' error, and the network stays near a constant; "
                f"{deep if signal else dead}",
                NotConvergedWarning,
                stacklevel=6,
            )

    def _tell(self, loss: float, score: float | None) -> None:
        done = self._state.epoch
        each = (time.perf_counter() - self._begin) / (done - self._first)
        left = each * (self._last - done)
        shown = "" if score is None else f"  score {score:.4f}"
        line = f"epoch {done}/{self._last}  loss {loss:.4g}{shown}  {each:.2g} s each, {_clock(left)} left"
        _log.info("%s", line)
        if self.verbose:
            sys.stderr.write(line + "\n")

    def _result(self, status: Status) -> Trained:
        state, work = self._state, self._phases.work
        best = status is Status.SOLVER_FAILED or self.patience is not None
        return Trained(
            state.params.network(self._net, state.best if best else None),
            tuple(state.losses),
            tuple(state.scores),
            status,
            state.best_epoch,
            time.perf_counter() - self._begin,
            work.passes / max(1, work.samples),
            state,
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
