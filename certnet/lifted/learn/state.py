"""Where a training stands between two epochs: all that is needed to go on as if it had not stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from certnet.core.validation import Float
from certnet.lifted.learn.optimisers import Optimiser
from certnet.lifted.learn.parameters import Parameters
from certnet.lifted.learn.settings import Training
from certnet.lifted.network import LiftedNetwork

__all__ = ["State"]


@dataclass
class State:
    """Parameters, optimiser, generator, curves, and the best parameters so far.

    Attributes
    ----------
    params : Parameters
    optimiser : Optimiser
    generator : numpy.random.Generator
        Of the order of the samples.
    activations : tuple of two ndarrays (N, n), or None
        Of both phases, where they are kept between epochs.
    epoch : int
        Epochs that are finished.
    losses, scores : list of float
        One per epoch; scores only with validation.
    best : ndarray
        Parameters of the epoch with the highest score (without validation: with the least loss).
    best_epoch : int
    best_value : float
        That score, or minus that loss.
    """

    params: Parameters
    optimiser: Optimiser
    generator: np.random.Generator
    activations: tuple[Float, Float] | None
    best: Float
    epoch: int = 0
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float = -np.inf

    @classmethod
    def fresh(cls, net: LiftedNetwork, how: Training, seed: int, n_samples: int) -> Self:
        """Before the first epoch."""
        params = Parameters.of(net)
        kept = None
        if how.warm_activations:
            start = net.project(np.zeros((1, net.n_units)))
            kept = (np.repeat(start, n_samples, axis=0), np.repeat(start, n_samples, axis=0))
        optimiser = Optimiser.fresh(how.optimizer, how.momentum, params.flat.size)
        return cls(params, optimiser, np.random.default_rng(seed), kept, params.flat.copy())

    def record(self, loss: float, score: float | None) -> None:
        """An epoch is finished."""
        self.epoch += 1
        self.losses.append(loss)
        if score is not None:
            self.scores.append(score)
        value = -loss if score is None else score
        if value > self.best_value:
            self.best_value, self.best_epoch = value, self.epoch
            self.best[:] = self.params.flat

    def arrays(self) -> dict[str, Any]:
        """The state by name, as ``.npz`` takes it."""
        kept = {} if self.activations is None else {"free": self.activations[0], "target": self.activations[1]}
        return {
            "flat": self.params.flat,
            "best": self.best,
            "best_epoch": np.array(self.best_epoch),
            "best_value": np.array(self.best_value),
            "losses": np.array(self.losses),
            "scores": np.array(self.scores),
            "generator": np.array(json.dumps(self.generator.bit_generator.state)),
            **self.optimiser.arrays(),
            **kept,
        }

    def restored(self, file: Mapping[str, Any]) -> None:
        """Take the state that :meth:`arrays` gave, of the same settings, data and shape."""
        self.params.flat[:], self.best[:] = file["flat"], file["best"]
        self.losses, self.scores = file["losses"].tolist(), file["scores"].tolist()
        self.epoch = len(self.losses)
        self.best_epoch, self.best_value = int(file["best_epoch"]), float(file["best_value"])
        self.generator.bit_generator.state = json.loads(str(file["generator"]))
        self.optimiser.restored(file)
        if self.activations is not None:
            self.activations[0][:], self.activations[1][:] = file["free"], file["target"]
