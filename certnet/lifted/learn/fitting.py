"""What the estimators share: a network to start from, pre-training, training, each with its own checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from certnet.core.errors import InvalidInputError
from certnet.core.files import path_of
from certnet.core.validation import Float, positive_number, whole_number
from certnet.lifted.learn.checkpoint import stored_seed
from certnet.lifted.learn.initial import initial_network
from certnet.lifted.learn.loop import train
from certnet.lifted.learn.objective import Objective
from certnet.lifted.learn.settings import Training
from certnet.lifted.learn.trained import Trained
from certnet.lifted.network import LiftedNetwork
from certnet.networks.energy import is_interval

__all__ = ["Plan", "betas", "hidden_sizes", "layer_units", "seed_of"]


def hidden_sizes(sizes: Any) -> tuple[int, ...]:
    """``hidden_layer_sizes`` as a tuple; one number is one layer, and none is a network of the output alone."""
    try:
        given = (sizes,) if np.isscalar(sizes) else tuple(sizes)
    except TypeError as error:
        raise InvalidInputError(f"hidden_layer_sizes is {sizes!r}: a number, or several, is needed") from error
    return tuple(whole_number(n, f"hidden_layer_sizes[{k}]", least=1) for k, n in enumerate(given))


def betas(beta: float | Sequence[float], depth: int, *, output: bool) -> float | Sequence[float]:
    """One number serves the hidden layers, and the output's is 0 then where ``output`` asks for a regression."""
    if not (np.isscalar(beta) and output):
        return beta
    return [positive_number(beta, "beta", zero=True)] * (depth - 1) + [0.0]  # type: ignore[arg-type]


def layer_units(units: Any, n: int) -> list[Any]:
    """One name or pair of numbers serves all n layers; a sequence is taken as it is."""
    if isinstance(units, str) or is_interval(units):
        return [units] * n
    if not isinstance(units, Sequence):
        raise InvalidInputError(f"units is {units!r}: a name, a pair of numbers, or one of them per layer is needed")
    return list(units)


def seed_of(random_state: Any, checkpoint: str | os.PathLike[str] | None) -> int:
    """The seed of a fit; without a random state that of the checkpoint that is there."""
    if random_state is None and isinstance(checkpoint, str | os.PathLike):
        for path in (path_of(checkpoint), _before(checkpoint)):
            seed = stored_seed(path)
            if seed is not None:
                return seed
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError as error:
        raise InvalidInputError(f"random_state is {random_state!r}: a whole number, a generator or None") from error


def _before(checkpoint: str | os.PathLike[str]) -> Path:
    """The checkpoint of the pre-training, beside the other."""
    path = path_of(checkpoint)
    return path.with_name(f"{path.stem}.pretrain{path.suffix or '.npz'}")


@dataclass(frozen=True)
class Plan:
    """A fit: the settings of its parts, and what they run with.

    Attributes
    ----------
    how : Training
    pretrain_epochs : int
    pretrain_learning_rate : float
    seed : int
    patience : int or None
    checkpoint : path or None
    threads : int
    verbose : bool
    """

    how: Training
    pretrain_epochs: int
    pretrain_learning_rate: float
    seed: int
    patience: int | None
    checkpoint: str | os.PathLike[str] | None
    threads: int
    verbose: bool

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

    def pretrained(self, net: LiftedNetwork, X: Float) -> Trained | None:
        """``net`` after ``pretrain_epochs`` of the unsupervised objective, where there are any."""
        if not self.pretrain_epochs:
            return None
        how = replace(
            self.how,
            objective=Objective("unsupervised"),
            learning_rate=self.pretrain_learning_rate,
            max_epochs=self.pretrain_epochs,
            schedule="constant",
            warmup_epochs=0,
            weight_decay=0.0,
        )
        path = None if self.checkpoint is None else _before(self.checkpoint)
        return train(
            net, X, None, how, random_state=self.seed, checkpoint=path, threads=self.threads, verbose=self.verbose
        )

    def trained(
        self, net: LiftedNetwork, X: Float, y: Float | None, score: Callable[[LiftedNetwork], float] | None
    ) -> Trained:
        """``net`` after the training."""
        return train(
            net,
            X,
            y,
            self.how,
            random_state=self.seed,
            score=score,
            patience=self.patience,
            checkpoint=self.checkpoint,
            threads=self.threads,
            verbose=self.verbose,
        )
