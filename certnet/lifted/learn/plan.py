"""A fit: a network to start from, pre-training, training, each with its own checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from certnet.core.errors import InvalidInputError
from certnet.core.files import path_of
from certnet.core.outcome import Status
from certnet.core.validation import Float, whole_number
from certnet.lifted.learn.initial import initial_network
from certnet.lifted.learn.loop import train
from certnet.lifted.learn.objective import Objective
from certnet.lifted.learn.settings import Training
from certnet.lifted.learn.state import State
from certnet.lifted.learn.trained import Trained
from certnet.lifted.network import LiftedNetwork

__all__ = ["Learned", "Plan", "pretraining_path"]


def pretraining_path(checkpoint: str | os.PathLike[str]) -> Path:
    """The checkpoint of the pre-training, beside the other."""
    path = path_of(checkpoint)
    return path.with_name(f"{path.stem}.pretrain{path.suffix or '.npz'}")


@dataclass(frozen=True, eq=False)
class Learned:
    """What a fit ends with.

    Attributes
    ----------
    training : Trained
        The last training that was run: the pre-training, where that was interrupted.
    pretraining : Trained or None
    """

    training: Trained
    pretraining: Trained | None = None


@dataclass(frozen=True)
class Plan:
    """A fit: the settings of its parts, and what they run with.

    Attributes
    ----------
    how : Training
    seed : int
    patience : int or None
        Epochs without a better validation score before the training stops.
    checkpoint : path or None
    threads : int
    verbose : bool
    pretrain_epochs : int
        Of the unsupervised objective, before the training.
    pretrain_learning_rate : float
    """

    how: Training
    seed: int
    patience: int | None
    checkpoint: str | os.PathLike[str] | None
    threads: int
    verbose: bool
    pretrain_epochs: int = 0
    pretrain_learning_rate: float = 0.005

    def __post_init__(self) -> None:
        whole_number(self.pretrain_epochs, "pretrain_epochs")
        if self.checkpoint is not None and not isinstance(self.checkpoint, str | os.PathLike):
            raise InvalidInputError(f"checkpoint is {self.checkpoint!r}: a path, or None, is needed")

    def start(self, widths: Sequence[int], previous: LiftedNetwork | None, **shape: Any) -> LiftedNetwork:
        """The network of an earlier fit, or new weights.

        Raises
        ------
        InvalidInputError
            The earlier network has other layers, or γ is too small for the objective.
        """
        fresh = initial_network(widths, random_state=np.random.default_rng((self.seed, 1)), **shape)
        self.how.require_scale(fresh)  # before a pre-training, which could be solved
        if previous is None:
            return fresh
        if previous.widths != fresh.widths:
            raise InvalidInputError(
                f"warm_start: the network that is there has layers {previous.widths}, the data and parameters ask for "
                f"{fresh.widths}: set warm_start=False to start anew"
            )
        return fresh.with_parameters(previous.weights, previous.biases, previous.reconstruction_biases)

    def run(
        self,
        start: LiftedNetwork,
        X: Float,
        y: Float | None,
        score: Callable[[LiftedNetwork], float] | None,
        weights: Float | None = None,
    ) -> Learned:
        """``start`` after the pre-training, where one is asked for, and after the training; ``score`` validates."""
        before = self._pretrained(start, X, weights) if self.pretrain_epochs else None
        if before is not None and before.status is Status.INTERRUPTED:
            return Learned(before, before)
        done = train(
            start if before is None else before.network,
            X,
            y,
            self.how,
            sample_weight=weights,
            random_state=self.seed,
            score=score,
            patience=self.patience,
            checkpoint=self.checkpoint,
            threads=self.threads,
            verbose=self.verbose,
        )
        return Learned(done, before)

    def _pretrained(self, net: LiftedNetwork, X: Float, weights: Float | None) -> Trained:
        """``net`` after ``pretrain_epochs`` of the unsupervised objective."""
        how = replace(
            self.how,
            objective=Objective("unsupervised"),
            learning_rate=self.pretrain_learning_rate,
            max_epochs=self.pretrain_epochs,
            schedule="constant",
            warmup_epochs=0,
            weight_decay=0.0,
        )
        path = None if self.checkpoint is None else pretraining_path(self.checkpoint)
        options = {"checkpoint": path, "threads": self.threads, "verbose": self.verbose}
        return train(net, X, None, how, sample_weight=weights, random_state=self.seed, **options)  # type: ignore[arg-type]

    def epoch(
        self,
        net: LiftedNetwork,
        state: State | None,
        X: Float,
        y: Float | None,
        draw: Callable[[], int],
        weights: Float | None = None,
    ) -> Learned:
        """``net`` after one epoch that goes on from ``state``; where that does not fit, ``draw`` seeds a fresh one."""
        how = replace(self.how, max_epochs=1, schedule="constant", warm_activations=False)
        how = replace(how, batch_size=min(how.batch_size, len(X)))
        if state is None or state.optimiser.kind != how.optimizer or state.activations is not None:
            state = State.fresh(net, how, draw(), len(X))
        options = {"threads": self.threads, "verbose": self.verbose}
        return Learned(train(net, X, y, how, sample_weight=weights, state=state, **options))  # type: ignore[arg-type]
