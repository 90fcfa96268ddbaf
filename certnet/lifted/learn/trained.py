"""What a training returns."""

from __future__ import annotations

from dataclasses import dataclass

from certnet.core.outcome import Status
from certnet.lifted.learn.state import State
from certnet.lifted.network import LiftedNetwork

__all__ = ["Trained"]


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network, and how it came about.

    Attributes
    ----------
    network : LiftedNetwork
        After the last epoch; the best one where training stopped early or diverged.
    loss_curve : tuple of float
        Mean objective of each epoch over its batches, each before its step, without the weight decay.
    score_curve : tuple of float
        Validation score after each epoch; empty without validation.
    status : Status
        OPTIMAL: all epochs, or stopped early. INTERRUPTED: after the epochs that are finished. SOLVER_FAILED: diverged.
    best_epoch : int
        Counted from 1.
    seconds : float
        Of this call.
    passes_per_sample : float
        Passes of coordinate descent, both phases together, of this call.
    state : State
        To go on from.
    """

    network: LiftedNetwork
    loss_curve: tuple[float, ...]
    score_curve: tuple[float, ...]
    status: Status
    best_epoch: int
    seconds: float
    passes_per_sample: float
    state: State
